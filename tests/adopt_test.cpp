// Sockets that were made elsewhere, and sockets that are given away.

#include <plait/framing.hpp>
#include <plait/io_context.hpp>
#include <plait/tcp.hpp>
#include <plait/udp.hpp>
#include <plait/unix.hpp>

#include "platform/driver.hpp"
#include "support/lacks.hpp"
#include "support/plain_client.hpp"
#include "support/sockets.hpp"
#include "support/streams.hpp"
#include "support/system.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <optional>
#include <string>
#include <thread>

using namespace std::chrono_literals;
using plait::as_text;
using plait::errc;
using plait::io_context;
using plait::native_socket;
using plait::task;
using plait::tcp_listener;
using plait::tcp_stream;
using plait::udp_socket;
using plait::unix_listener;
using plait::unix_path;
using plait::unix_stream;
using namespace support;

namespace {

task<std::string> receive_some(tcp_stream& stream) {
    auto received = co_await stream.recv();
    co_return received ? std::string(as_text(received->bytes())) : received.error().message();
}

/// A socket of plait's, given away.
template <class S>
task<native_socket> released(S socket) {
    auto handle = co_await socket.release();
    must(handle.has_value(), "release");
    CHECK_FALSE(socket.is_open());
    co_return *handle;
}

/// A handle that this test closes.
class owned {
  public:
    explicit owned(native_socket handle) : handle_(handle) {}
    owned(const owned&) = delete;
    owned& operator=(const owned&) = delete;
    ~owned() {
        if (handle_ != plait::detail::no_socket) plait::detail::close_handle(handle_);
    }
    native_socket get() const { return handle_; }

  private:
    native_socket handle_;
};

} // namespace

// --- adopting ----------------------------------------------------------------------------------------------------------

TEST_CASE("a connected socket that somebody else made is a stream like any other", "[adopt]") {
    auto body = []() -> task<> {
        auto listener = co_await loopback_listener();
        plain_client client(listener.local_endpoint()->port());
        auto accepted = co_await listener.accept();
        must(accepted.has_value(), "accept");
        auto adopted = co_await tcp_stream::from_native_handle(client.native_handle());
        CHECK(adopted.error() == std::error_code());
        must(adopted.has_value(), "from_native_handle");
        client.leave();
        CHECK_FALSE(is_inherited(adopted->native_handle()));
        for (int i = 0; i < 3; ++i) {
            static_cast<void>(co_await adopted->send_all("ping"));
            const std::string ping = co_await receive_some(*accepted);
            CHECK(ping == "ping");
            static_cast<void>(co_await accepted->send_all("pong"));
            const std::string pong = co_await receive_some(*adopted);
            CHECK(pong == "pong");
        }
        auto closed = co_await adopted->close();
        CHECK(closed);
        const std::string end = co_await receive_some(*accepted);
        CHECK(end == make_error_code(errc::end_of_stream).message());
    };
    plait::run(body());
}

TEST_CASE("what is not the right kind of socket stays the caller's, and is told", "[adopt]") {
    auto body = []() -> task<> {
        auto pair = co_await connected_pair();
        auto listener = co_await loopback_listener();
        auto datagrams = co_await udp_socket::bind({"127.0.0.1", 0});
        const native_socket stream = pair.near.native_handle();
        const native_socket listening = listener.native_handle();

        auto no_stream = co_await tcp_stream::from_native_handle(listening);
        CHECK(no_stream.error() == std::errc::invalid_argument);
        auto no_listener = co_await tcp_listener::from_native_handle(stream);
        CHECK(no_listener.error() == std::errc::invalid_argument);
        auto datagram = co_await tcp_stream::from_native_handle(datagrams->native_handle());
        CHECK(datagram.error() == std::errc::wrong_protocol_type);
        auto no_datagram = co_await udp_socket::from_native_handle(stream);
        CHECK(no_datagram.error() == std::errc::wrong_protocol_type);
        auto no_unix = co_await unix_stream::from_native_handle(stream);
        CHECK(no_unix.error() == std::errc::address_family_not_supported);
        auto no_path = co_await unix_listener::from_native_handle(listening);
        CHECK(no_path.error() == std::errc::address_family_not_supported);
        CHECK(is_open_socket(stream));
        CHECK(is_open_socket(listening));

        static_cast<void>(co_await pair.near.send_all("still here"));
        const std::string text = co_await receive_some(pair.far);
        CHECK(text == "still here");
    };
    plait::run(body());
}

TEST_CASE("a closed handle is no socket", "[adopt]") {
    auto body = []() -> task<> {
        auto pair = co_await connected_pair();
        const native_socket gone = pair.near.native_handle();
        pair.near = tcp_stream();
        co_await turns(5);
        auto stream = co_await tcp_stream::from_native_handle(gone);
        CHECK(
            (stream.error() == std::errc::bad_file_descriptor || stream.error() == std::errc::not_a_socket));
        auto none = co_await tcp_listener::from_native_handle(-1);
        CHECK((none.error() == std::errc::bad_file_descriptor || none.error() == std::errc::not_a_socket));
    };
    plait::run(body());
}

// --- giving away ---------------------------------------------------------------------------------------------------------

TEST_CASE("a stream is given from one context to another", "[adopt]") {
    if (const std::string why = lacks_moves_between_contexts(); !why.empty()) SKIP(why);
    native_socket handle = plait::detail::no_socket;
    std::optional<plain_client> client;
    auto first = [&]() -> task<> {
        auto listener = co_await loopback_listener();
        client.emplace(listener.local_endpoint()->port());
        auto stream = co_await listener.accept();
        client->send("one");
        const std::string one = co_await receive_some(*stream); // a multishot stays behind
        CHECK(one == "one");
        handle = co_await released(std::move(*stream));
    };
    plait::run(first());
    REQUIRE(is_open_socket(handle));
    client->send("two");
    auto second = [&]() -> task<> {
        auto stream = co_await tcp_stream::from_native_handle(handle);
        must(stream.has_value(), "from_native_handle");
        const std::string two = co_await receive_some(*stream);
        CHECK(two == "two");
        static_cast<void>(co_await stream->send_all("three"));
    };
    plait::run(second());
    CHECK(client->receive(5) == "three");
}

TEST_CASE("a socket that another context has bound to its completion port is busy", "[adopt]") {
    if (io_context().backend() != plait::backend::iocp) SKIP("about Windows: completion ports");
    auto give = []() -> task<native_socket> {
        auto pair = co_await connected_pair();
        const native_socket handle = co_await released(std::move(pair.near));
        co_return handle;
    };
    io_context first;
    const owned handle(first.run(give()));
    auto take = [&]() -> task<> {
        auto stream = co_await tcp_stream::from_native_handle(handle.get());
        CHECK(stream.error() == std::errc::device_or_resource_busy);
        CHECK(is_open_socket(handle.get()));
    };
    io_context().run(take());
}

TEST_CASE("collected output leaves before a stream is given away", "[adopt]") {
    auto body = []() -> task<> {
        auto pair = co_await connected_pair();
        plait::framed messages{std::move(pair.near), plait::lines{}};
        for (int i = 0; i < 3; ++i) static_cast<void>(co_await messages.write("line"));
        const owned handle(co_await released(std::move(messages.stream())));
        const std::string text = co_await receive_text(pair.far, 15);
        CHECK(text == "line\nline\nline\n");
    };
    plait::run(body());
}

TEST_CASE("bytes that came before anybody asked for them are not lost by a release", "[adopt]") {
    auto body = []() -> task<> {
        auto pair = co_await connected_pair();
        static_cast<void>(co_await pair.far.send_all("a"));
        std::string got = co_await receive_some(pair.near);
        static_cast<void>(
            co_await pair.far.send_all("bcdef")); // a multishot has taken them, or the kernel holds them
        for (int i = 0; i < 5; ++i) static_cast<void>(co_await plait::sleep_for(1ms));
        auto released = co_await pair.near.release();
        while (released.error() == std::errc::device_or_resource_busy) {
            const std::string more = co_await receive_some(pair.near);
            got += more;
            auto again = co_await pair.near.release();
            released = again;
        }
        must(released.has_value(), "release");
        const owned handle(*released);
        std::byte rest[16];
        while (got.size() < 6) {
            const auto count = receive_at_once(handle.get(), rest);
            must(count > 0, "the rest is in the kernel");
            got += as_text(std::span(rest).first(static_cast<std::size_t>(count)));
        }
        CHECK(got == "abcdef");
    };
    plait::run(body());
}

TEST_CASE("a listener is given away and adopted again", "[adopt]") {
    if (const std::string why = lacks_moves_between_contexts(); !why.empty()) SKIP(why);
    auto body = []() -> task<> {
        auto listener = co_await loopback_listener();
        const auto where = listener.local_endpoint().value();
        { auto pair = co_await connected_pair(listener); } // an accept stays behind
        const native_socket handle = co_await released(std::move(listener));
        auto adopted = co_await tcp_listener::from_native_handle(handle);
        must(adopted.has_value(), "from_native_handle");
        CHECK(adopted->local_endpoint().value() == where);
        auto pair = co_await connected_pair(*adopted);
        static_cast<void>(co_await pair.near.send_all("hello"));
        const std::string text = co_await receive_some(pair.far);
        CHECK(text == "hello");
    };
    plait::run(body());
}

TEST_CASE("a datagram socket is given away and adopted again", "[adopt]") {
    if (const std::string why = lacks_moves_between_contexts(); !why.empty()) SKIP(why);
    auto body = []() -> task<> {
        auto made = co_await udp_socket::bind({"127.0.0.1", 0});
        auto sender = co_await udp_socket::bind({"127.0.0.1", 0});
        const auto where = made->local_endpoint().value();
        const native_socket handle = co_await released(std::move(*made));
        auto adopted = co_await udp_socket::from_native_handle(handle);
        must(adopted.has_value(), "from_native_handle");
        static_cast<void>(co_await sender->send_to("hello", where));
        std::byte buffer[16];
        auto received = co_await adopted->recv_from(buffer);
        must(received.has_value(), "recv_from");
        CHECK(as_text(std::span(buffer).first(received->bytes)) == "hello");
    };
    plait::run(body());
}

TEST_CASE("a Unix listener that is given away leaves its name", "[adopt]") {
    if (const std::string why = lacks_unix_abstract_names(); !why.empty()) SKIP(why);
    auto body = []() -> task<> {
        const auto path = unix_path::abstract(
            "plait adopt test " + std::to_string(std::hash<std::thread::id>()(std::this_thread::get_id())));
        auto made = co_await unix_listener::bind(path);
        must(made.has_value(), "bind");
        const native_socket handle = co_await released(std::move(*made));
        auto adopted = co_await unix_listener::from_native_handle(handle);
        must(adopted.has_value(), "from_native_handle");
        CHECK(adopted->local_path().value() == path);
        auto near = co_await unix_stream::connect(path);
        auto far = co_await adopted->accept();
        must(near.has_value() && far.has_value(), "connect and accept");
        const native_socket stream = co_await released(std::move(*near));
        auto again = co_await unix_stream::from_native_handle(stream);
        must(again.has_value(), "from_native_handle");
        static_cast<void>(co_await again->send_all("hello"));
        auto received = co_await far->recv();
        CHECK(as_text(received->bytes()) == "hello");
    };
    plait::run(body());
}

TEST_CASE("a socket that is not open cannot be released", "[adopt]") {
    auto body = []() -> task<> {
        tcp_stream none;
        auto released = co_await none.release();
        CHECK(released.error() == std::errc::bad_file_descriptor);
    };
    plait::run(body());
}
