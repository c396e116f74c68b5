#pragma once
/// Streams for tests: connected TCP streams, and a stream type of a user's own.
///
///     support::tcp_pair pair = co_await support::connected();

#include <plait/stream.hpp>
#include <plait/tcp.hpp>
#include <plait/time.hpp>

#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace support {

struct tcp_pair {
    plait::tcp_stream left, right;
};

/// Two ends of one connection over loopback.
inline plait::task<tcp_pair> connected() {
    auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0});
    auto left = co_await plait::tcp_stream::connect(listener.value().local_endpoint().value());
    auto right = co_await listener->accept();
    tcp_pair pair;
    pair.left = std::move(left).value();
    pair.right = std::move(right).value();
    co_return std::move(pair);
}

/// What somebody who wraps a transport writes: nothing but the two verbs, and a close.
class own_stream {
  public:
    explicit own_stream(plait::memory_stream inner) : inner_(std::move(inner)) {}

    auto recv(std::span<std::byte> buffer) { return inner_.recv(buffer); }
    auto send(std::span<const std::byte> data) { return inner_.send(data); }
    plait::task<plait::io_result<void>> close() { return inner_.close(); }
    plait::task<plait::io_result<void>> shutdown_send() { return inner_.shutdown_send(); }

  private:
    plait::memory_stream inner_;
};

inline std::pair<own_stream, plait::memory_stream> own_stream_pair(std::size_t capacity = 64 * 1024) {
    auto [left, right] = plait::memory_stream_pair(capacity);
    return {own_stream(std::move(left)), std::move(right)};
}

// `body(from, to)` on two connected ends, of each kind of stream that framing tells apart.

template <class B>
plait::task<> with_memory_pair(B& body, std::size_t capacity = 64 * 1024) {
    auto [from, to] = plait::memory_stream_pair(capacity);
    co_await body(from, to);
}

/// The reading end is the user's own.
template <class B>
plait::task<> with_own_pair(B& body, std::size_t capacity = 64 * 1024) {
    auto [to, from] = own_stream_pair(capacity);
    co_await body(from, to);
}

/// The writing end is.
template <class B>
plait::task<> with_own_writer(B& body, std::size_t capacity = 64 * 1024) {
    auto [from, to] = own_stream_pair(capacity);
    co_await body(from, to);
}

template <class B>
plait::task<> with_tcp_pair(B& body) {
    tcp_pair pair = co_await connected();
    co_await body(pair.left, pair.right);
}

/// Small buffers in the kernel, so that a peer that does not read is soon felt.
inline void use_small_buffers(tcp_pair& pair) {
    static_cast<void>(pair.left.set_send_buffer_size(16 * 1024));
    static_cast<void>(pair.right.set_receive_buffer_size(16 * 1024));
}

template <class B>
plait::task<> with_small_tcp_pair(B& body) {
    tcp_pair pair = co_await connected();
    use_small_buffers(pair);
    co_await body(pair.left, pair.right);
}

/// Lets everything else run for a while.
inline plait::task<> turns(int count) {
    for (int i = 0; i < count; ++i) co_await plait::yield();
}

/// Waits until `condition()` holds.
template <class F>
plait::task<> until(F condition) {
    while (!condition()) static_cast<void>(co_await plait::sleep_for(std::chrono::microseconds(200)));
}

/// Receives exactly that many bytes, or what there is up to the end.
template <class S>
plait::task<std::string> receive_text(S& stream, std::size_t size) {
    std::string text(size, '\0');
    auto received = co_await plait::recv_exactly(stream, std::as_writable_bytes(std::span(text)));
    text.resize(received.bytes());
    co_return text;
}

/// Receives up to the end.
template <class S>
plait::task<std::string> receive_all(S& stream) {
    std::string text;
    std::string piece(16384, '\0');
    for (;;) {
        auto received = co_await stream.recv(std::as_writable_bytes(std::span(piece)));
        if (!received) co_return text;
        text.append(piece, 0, *received);
    }
}

} // namespace support
