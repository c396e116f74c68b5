// The same echo server on asio with co_await, written as its documentation teaches; on epoll, or on io_uring
// when compiled with ASIO_HAS_IO_URING and ASIO_DISABLE_EPOLL.
#include "frames.h"

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

using asio::ip::tcp;

namespace {

constexpr std::size_t receive_buffer_size = 64 * 1024; // as every peer

#ifdef ASIO_HAS_IO_URING_AS_DEFAULT
constexpr const char* peer_name = "asio-uring";
#else
constexpr const char* peer_name = "asio";
#endif

using session_function = asio::awaitable<void> (*)(tcp::socket);

asio::awaitable<void> echo(tcp::socket socket) {
    const auto buffer = std::make_unique_for_overwrite<char[]>(receive_buffer_size);
    try {
        for (;;) {
            const std::size_t size = co_await socket.async_read_some(
                asio::buffer(buffer.get(), receive_buffer_size), asio::use_awaitable);
            co_await asio::async_write(socket, asio::buffer(buffer.get(), size), asio::use_awaitable);
        }
    } catch (const std::exception&) { // the end of the connection
    }
}

// Reads a header, reads a body, writes an answer: what asio's own examples do.
asio::awaitable<void> answer_each_frame(tcp::socket socket) {
    std::vector<unsigned char> frame(frame_header_size);
    try {
        for (;;) {
            co_await asio::async_read(socket, asio::buffer(frame.data(), frame_header_size),
                                      asio::use_awaitable);
            const std::uint32_t length = read_frame_length(frame.data());
            if (length > largest_frame) co_return;
            frame.resize(frame_header_size + length);
            co_await asio::async_read(socket, asio::buffer(frame.data() + frame_header_size, length),
                                      asio::use_awaitable);
            co_await asio::async_write(socket, asio::buffer(frame), asio::use_awaitable);
        }
    } catch (const std::exception&) {
    }
}

// Reads what is there, decodes all of it, writes once: the frame buffer that asio leaves to the application.
asio::awaitable<void> answer_all_frames(tcp::socket socket) {
    const auto input = std::make_unique_for_overwrite<unsigned char[]>(receive_buffer_size);
    const auto output = std::make_unique_for_overwrite<unsigned char[]>(receive_buffer_size);
    std::size_t kept = 0;
    try {
        for (;;) {
            kept += co_await socket.async_read_some(
                asio::buffer(input.get() + kept, receive_buffer_size - kept), asio::use_awaitable);
            const answered result = answer_frames(input.get(), kept, output.get());
            if (result.malformed != 0) co_return;
            kept -= result.consumed;
            std::memmove(input.get(), input.get() + result.consumed, kept);
            if (result.produced > 0)
                co_await asio::async_write(socket, asio::buffer(output.get(), result.produced),
                                           asio::use_awaitable);
        }
    } catch (const std::exception&) {
    }
}

asio::awaitable<void> serve(tcp::acceptor acceptor, session_function session) {
    for (;;) {
        tcp::socket socket = co_await acceptor.async_accept(asio::use_awaitable);
        socket.set_option(tcp::no_delay(true));
        asio::co_spawn(acceptor.get_executor(), session(std::move(socket)), asio::detached);
    }
}

} // namespace

int main(int argument_count, char** arguments) {
    unsigned short port = 0;
    session_function session = echo;
    for (int i = 1; i < argument_count; ++i) {
        const std::string_view argument = arguments[i];
        if (argument == "--port" && i + 1 < argument_count) {
            port = static_cast<unsigned short>(std::atoi(arguments[++i]));
        } else if (argument == "--framed") {
            session = answer_each_frame;
        } else if (argument == "--framed-buffered") {
            session = answer_all_frames;
        } else {
            std::fprintf(stderr, "usage: %s [--port PORT] [--framed | --framed-buffered]\n", arguments[0]);
            return 2;
        }
    }
    asio::io_context context(1); // one thread, so no locking
    tcp::acceptor acceptor(context, tcp::endpoint(asio::ip::address_v4::loopback(), port));
    acceptor.listen(4096);
    std::printf("listening on 127.0.0.1:%u (%s)\n", unsigned{acceptor.local_endpoint().port()}, peer_name);
    std::fflush(stdout);
    asio::co_spawn(context, serve(std::move(acceptor), session), asio::detached);
    context.run();
}
