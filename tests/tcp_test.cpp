#include <plait/plait.hpp>
#include <plait/tcp.hpp>

#include "support/lacks.hpp"
#include "support/plain_client.hpp"
#include "support/scale.hpp"
#include "support/sockets.hpp"
#include "support/system.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using plait::endpoint;
using plait::errc;
using plait::listen_options;
using plait::task;
using plait::task_group;
using plait::tcp_listener;
using plait::tcp_stream;
using support::scaled;
using support::turns;

namespace {

template <class F>
void in_a_context(F body) {
    auto whole = [&]() -> task<> { co_await body(); };
    plait::run(whole());
}

task<std::error_code> bind_error(endpoint where, listen_options options = {}) {
    auto listener = co_await tcp_listener::bind(where, options);
    co_return listener.error();
}

task<std::error_code> connect_error(endpoint where) {
    auto stream = co_await tcp_stream::connect(where);
    co_return stream.error();
}

/// Binds `at`, connects to `to` with the port that it got, and echoes a word. The error of whatever failed.
task<std::error_code> echo_over(std::string_view at, std::string_view to, listen_options options = {}) {
    auto listener = co_await tcp_listener::bind({at, 0}, options);
    if (!listener) co_return listener.error();
    const endpoint where(to, listener->local_endpoint()->port());
    auto near = co_await tcp_stream::connect(where);
    if (!near) co_return near.error();
    auto far = co_await listener->accept();
    if (!far) co_return far.error();
    CHECK(near->remote_endpoint().value() == where);
    CHECK(near->local_endpoint()->port() == far->remote_endpoint()->port());
    auto sent = co_await near->send_all("word");
    auto heard = co_await far->recv();
    CHECK(heard.bytes() == 4);
    auto answered = co_await far->send_all(heard->bytes());
    std::array<std::byte, 4> room;
    auto echoed = co_await near->recv_exactly(room);
    CHECK(plait::as_text(room) == "word");
    co_return sent&& answered&& echoed ? std::error_code() : echoed.error();
}

/// Connects over IPv4 to the port of a listener that takes IPv6 alone. Its port is free for IPv4, so that another program
/// may have it: one is sought that nobody has.
task<std::error_code> connect_past_v6_only() {
    for (int attempts = 0; attempts < 20; ++attempts) {
        auto listener = co_await tcp_listener::bind({"::", 0}, listen_options().v6_only());
        if (!listener) co_return listener.error();
        const endpoint where("127.0.0.1", listener->local_endpoint()->port());
        if (co_await bind_error(where)) continue;
        co_return co_await connect_error(where);
    }
    co_return std::make_error_code(std::errc::address_in_use);
}

/// What close() does with a peer that goes on talking: nothing of our answer may be cut.
task<> answer_a_talker(std::size_t size) {
    auto pair = co_await support::connected_pair();
    const std::string answer(size, 'a');
    bool over = false;
    std::size_t came = 0;
    auto talks = [&]() -> task<> {
        const std::string chatter(20'000, 'c');
        while (!over)
            if (!co_await plait::with_timeout(pair.far.send(chatter), 1ms)) co_await plait::yield();
    };
    auto reads = [&]() -> task<> {
        std::vector<std::byte> room(64 * 1024);
        for (;;) {
            auto got = co_await pair.far.recv(room);
            came += got.bytes();
            if (got) continue;
            CHECK(got.error() == errc::end_of_stream);
            break;
        }
        over = true;
    };
    auto answers = [&]() -> task<> {
        auto sent = co_await pair.near.send_all(answer);
        CHECK(sent.bytes() == answer.size());
        auto closed = co_await pair.near.close();
        CHECK(closed.error() == std::error_code());
    };
    auto far_side = [&]() -> task<> {
        co_await plait::when_all(talks(), reads());
        static_cast<void>(co_await pair.far.close());
    };
    co_await plait::when_all(far_side(), answers());
    CHECK(came == answer.size());
}

} // namespace

// --- listening -----------------------------------------------------------------------------------------------------

TEST_CASE("bind tells why it failed", "[tcp]") {
    in_a_context([]() -> task<> {
        auto first = co_await tcp_listener::bind({"127.0.0.1", 0});
        CHECK(first.error() == std::error_code());
        const std::error_code taken = co_await bind_error(first->local_endpoint().value());
        CHECK(taken == std::errc::address_in_use);
        const std::error_code literal = co_await bind_error({"not an address", 80});
        CHECK(literal == std::errc::invalid_argument);
        const std::error_code elsewhere = co_await bind_error({"192.0.2.1", 0}); // TEST-NET-1, RFC 5737
        CHECK(elsewhere == std::errc::address_not_available);
    });
}

TEST_CASE("port 0 takes a free port, which local_endpoint tells", "[tcp]") {
    in_a_context([]() -> task<> {
        auto first = co_await tcp_listener::bind({"127.0.0.1", 0});
        auto second = co_await tcp_listener::bind({"127.0.0.1", 0});
        const endpoint one = first->local_endpoint().value();
        const endpoint two = second->local_endpoint().value();
        CHECK(one.address() == plait::ip_address::v4({127, 0, 0, 1}));
        CHECK(one.port() != 0);
        CHECK(one.port() != two.port());
    });
}

TEST_CASE("a closed listener's port can be bound again at once, although connections linger", "[tcp]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        const endpoint where = listener.local_endpoint().value();
        auto pair = co_await support::connected_pair(listener);
        pair.far = tcp_stream(); // this end goes first, so that its port lingers
        static_cast<void>(co_await listener.close());
        auto again = co_await tcp_listener::bind(where);
        CHECK(again.error() == std::error_code());
    });
}

TEST_CASE("listeners share a port with reuse_port, and only then", "[tcp]") {
    in_a_context([]() -> task<> {
        const listen_options shared = listen_options().reuse_port();
        if (!support::listeners_share_ports()) {
            const std::error_code refused = co_await bind_error({"127.0.0.1", 0}, shared);
            CHECK(refused == std::errc::operation_not_supported);
            co_return;
        }
        auto first = co_await support::loopback_listener(shared);
        const endpoint where = first.local_endpoint().value();
        auto second = co_await tcp_listener::bind(where, shared);
        CHECK(second.error() == std::error_code());
        const std::error_code stranger = co_await bind_error(where);
        CHECK(stranger == std::errc::address_in_use);
    });
}

TEST_CASE("connections wait in the backlog, and their bytes with them", "[tcp]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener(listen_options().backlog(64));
        const std::uint16_t port = listener.local_endpoint()->port();
        std::vector<support::plain_client> clients;
        for (int i = 0; i < 50; ++i) {
            clients.emplace_back(port);
            clients.back().send("first words");
        }
        for (int i = 0; i < 50; ++i) {
            auto stream = co_await listener.accept();
            CHECK(stream.error() == std::error_code());
            auto heard = co_await stream->recv();
            CHECK(heard.bytes() == 11);
        }
    });
}

TEST_CASE("accepted streams have TCP_NODELAY as the listener says", "[tcp]") {
    in_a_context([]() -> task<> {
        for (const bool on : {true, false}) {
            auto listener = co_await support::loopback_listener(listen_options().no_delay(on));
            auto pair = co_await support::connected_pair(listener);
            CHECK(pair.far.no_delay().value() == on);
            CHECK(pair.near.no_delay().value());
        }
    });
}

TEST_CASE("a listener's options can be set by their numbers", "[tcp]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        const auto [level, name] = support::listener_option();
        const int value = 1;
        auto set = listener.set_option(level, name, std::as_bytes(std::span(&value, 1)));
        CHECK(set.error() == std::error_code());
        CHECK(listener.native_handle() >= 0);
    });
}

// --- connecting ----------------------------------------------------------------------------------------------------

TEST_CASE("IPv4, IPv6 and dual-stack listeners serve who can reach them", "[tcp]") {
    in_a_context([]() -> task<> {
        const std::error_code v4 = co_await echo_over("127.0.0.1", "127.0.0.1");
        CHECK(v4 == std::error_code());
        const std::error_code v6 = co_await echo_over("::1", "::1");
        if (v6 == std::errc::address_not_available || v6 == std::errc::address_family_not_supported) {
            WARN("this machine has no IPv6");
            co_return;
        }
        CHECK(v6 == std::error_code());
        const std::error_code both = co_await echo_over("::", "127.0.0.1");
        CHECK(both == std::error_code());
        const std::error_code both_v6 = co_await echo_over("::", "::1");
        CHECK(both_v6 == std::error_code());
        const std::error_code only = co_await echo_over("::", "::1", listen_options().v6_only());
        CHECK(only == std::error_code());
        const std::error_code refused = co_await connect_past_v6_only();
        CHECK(refused == std::errc::connection_refused);
    });
}

TEST_CASE("connect tells why it failed", "[tcp]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        const endpoint where = listener.local_endpoint().value();
        static_cast<void>(co_await listener.close());
        const std::error_code nobody = co_await connect_error(where);
        CHECK(nobody == std::errc::connection_refused);
        const std::error_code literal = co_await connect_error({"localhost", 80});
        CHECK(literal == std::errc::invalid_argument);
    });
}

TEST_CASE("both ends of a connection name each other", "[tcp]") {
    in_a_context([]() -> task<> {
        auto pair = co_await support::connected_pair();
        CHECK(pair.near.local_endpoint().value() == pair.far.remote_endpoint().value());
        CHECK(pair.far.local_endpoint().value() == pair.near.remote_endpoint().value());
        CHECK(pair.near.native_handle() != pair.far.native_handle());
        CHECK_FALSE(support::is_inherited(pair.far.native_handle()));
        CHECK_FALSE(support::is_inherited(pair.near.native_handle()));
    });
}

// --- options -------------------------------------------------------------------------------------------------------

TEST_CASE("every option of a stream gives back what was set", "[tcp]") {
    in_a_context([]() -> task<> {
        auto pair = co_await support::connected_pair();
        tcp_stream& stream = pair.near;
        for (const bool on : {false, true}) {
            CHECK(stream.set_no_delay(on));
            CHECK(stream.no_delay().value() == on);
            CHECK(support::has_no_delay(stream.native_handle()) == on);
        }
        CHECK_FALSE(stream.linger().value().has_value());
        CHECK(stream.set_linger(3s));
        CHECK(stream.linger().value() == std::optional(3s));
        CHECK(stream.set_linger(0s));
        CHECK(stream.linger().value() == std::optional(0s));
        CHECK(stream.set_linger(std::nullopt));
        CHECK_FALSE(stream.linger().value().has_value());

        // The system may round up, and does so at least to what was asked for.
        CHECK(stream.set_receive_buffer_size(40'000));
        CHECK(stream.receive_buffer_size().value() >= 40'000);
        CHECK(stream.set_send_buffer_size(50'000));
        CHECK(stream.send_buffer_size().value() >= 50'000);
    });
}

TEST_CASE("keep-alive is off until it is set, and its times are as they were set", "[tcp]") {
    if (const std::string why = support::lacks_keep_alive_times(); !why.empty()) SKIP(why);
    in_a_context([]() -> task<> {
        auto pair = co_await support::connected_pair();
        tcp_stream& stream = pair.near;
        CHECK_FALSE(stream.keep_alive_on().value());
        plait::keep_alive probes;
        probes.idle = 30s;
        probes.interval = 7s;
        probes.count = 4;
        CHECK(stream.set_keep_alive(probes));
        CHECK(stream.keep_alive_on().value());
        const auto times = support::keep_alive_of(stream.native_handle());
        CHECK(times.idle == 30);
        CHECK(times.interval == 7);
        CHECK(times.count == 4);
        CHECK(stream.set_keep_alive(std::nullopt));
        CHECK_FALSE(stream.keep_alive_on().value());
        probes.count = 0;
        CHECK(stream.set_keep_alive(probes).error() == std::errc::invalid_argument);
    });
}

TEST_CASE("a stream's user time-out gives back what was set", "[tcp]") {
    if (const std::string why = support::lacks_user_timeout(); !why.empty()) SKIP(why);
    in_a_context([]() -> task<> {
        auto pair = co_await support::connected_pair();
        CHECK(pair.near.set_user_timeout(1234ms));
        CHECK(pair.near.user_timeout().value() == 1234ms);
    });
}

TEST_CASE("set_option reaches what has no setter, and reports what the system refuses", "[tcp]") {
    in_a_context([]() -> task<> {
        auto pair = co_await support::connected_pair();
        const auto value = std::as_bytes(std::span(&support::stream_option_value, 1));
        const auto option = support::stream_option();
        CHECK(pair.near.set_option(option.level, option.name, value));
        CHECK(support::option_of(pair.near.native_handle(), option) == support::stream_option_value);
        CHECK_FALSE(pair.near.set_option(option.level, option.name, value.first(1)));
        const auto unknown = support::unknown_option();
        CHECK(pair.near.set_option(unknown.level, unknown.name, value).error() ==
              std::errc::no_protocol_option);
    });
}

// --- both directions -----------------------------------------------------------------------------------------------

TEST_CASE("one task receives while another sends on the same stream", "[tcp]") {
    in_a_context([]() -> task<> {
        auto pair = co_await support::connected_pair();
        const std::size_t size = scaled(std::size_t{8} << 20);
        auto sends = [&](tcp_stream& to) -> task<> {
            const std::vector<std::byte> bytes(size, std::byte{'s'});
            auto sent = co_await to.send_all(bytes);
            CHECK(sent.bytes() == size);
        };
        auto receives = [&](tcp_stream& from) -> task<> {
            const std::size_t came = co_await support::drain(from, size);
            CHECK(came == size);
        };
        co_await plait::when_all(sends(pair.near), receives(pair.near), sends(pair.far), receives(pair.far));
    });
}

TEST_CASE("gathered pieces of any number and size arrive in order", "[tcp]") {
    in_a_context([]() -> task<> {
        auto pair = co_await support::connected_pair();
        std::string text(6'000, '\0');
        support::byte_source(3).fill(std::as_writable_bytes(std::span(text)));
        for (std::size_t count : {1U, 2U, 15U, 16U, 17U, 33U, 100U}) {
            std::vector<std::span<const std::byte>> pieces;
            std::string expected;
            for (std::size_t i = 0; i < count; ++i) {
                const std::size_t size = i % 5 == 1 ? 0 : (i * 37) % 400;
                pieces.push_back(plait::as_bytes(text).subspan(i * 50, size));
                expected += plait::as_text(pieces.back());
            }
            auto sent = co_await pair.near.send_all(std::span<const std::span<const std::byte>>(pieces));
            CHECK(sent.bytes() == expected.size());
            std::string came(expected.size(), '\0');
            auto heard = co_await pair.far.recv_exactly(std::as_writable_bytes(std::span(came)));
            CHECK(heard.bytes() == expected.size());
            CHECK(came == expected);
        }
    });
}

TEST_CASE("each half of a connection ends by itself", "[tcp]") {
    in_a_context([]() -> task<> {
        auto pair = co_await support::connected_pair();
        std::array<std::byte, 16> room;
        for (auto [one, other] : {std::pair(&pair.near, &pair.far), std::pair(&pair.far, &pair.near)}) {
            auto said = co_await one->send_all("last words");
            auto ended = co_await one->shutdown_send();
            CHECK(said.error() == std::error_code());
            CHECK(ended.error() == std::error_code());
            auto heard = co_await other->recv_exactly(std::span(room).first(10));
            CHECK(heard.bytes() == 10);
            auto end = co_await other->recv(room);
            CHECK(end.error() == errc::end_of_stream);
            auto late = co_await one->send_all("more");
            CHECK(late.error() == std::errc::broken_pipe);
        }
        auto closed = co_await pair.near.close();
        CHECK(closed.error() == std::error_code());
    });
}

// --- closing -------------------------------------------------------------------------------------------------------

TEST_CASE("a polite close delivers 8 MiB to a peer that keeps talking", "[tcp]") {
    in_a_context([]() -> task<> {
        // 1,000 at PLAIT_TEST_SCALE=5
        for (std::size_t i = 0; i < scaled(200); ++i) co_await answer_a_talker(std::size_t{8} << 20);
    });
}

TEST_CASE("a polite close delivers a short answer to a peer that keeps talking, a thousand times", "[tcp]") {
    in_a_context([]() -> task<> {
        for (std::size_t i = 0; i < scaled(1'000); ++i) co_await answer_a_talker(1'000);
    });
}

TEST_CASE("closing twice succeeds, and operations on what is closed or was never open fail", "[tcp]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        auto pair = co_await support::connected_pair(listener);
        static_cast<void>(co_await pair.far.shutdown_send());
        tcp_stream moved_from = std::move(pair.near);
        pair.near = std::move(moved_from);
        auto first = co_await pair.near.close();
        auto second = co_await pair.near.close();
        CHECK(first.error() == std::error_code());
        CHECK(second.error() == std::error_code());
        tcp_stream never;
        std::array<std::byte, 8> room;
        const std::span<const std::span<const std::byte>> pieces;
        for (tcp_stream* stream : {&pair.near, &never, &moved_from}) {
            CHECK_FALSE(stream->is_open());
            CHECK(stream->native_handle() == -1);
            std::vector<std::error_code> errors;
            errors.push_back((co_await stream->recv(room)).error());
            errors.push_back((co_await stream->recv()).error());
            errors.push_back((co_await stream->recv_exactly(room)).error());
            errors.push_back((co_await stream->send("x")).error());
            errors.push_back((co_await stream->send_all("x")).error());
            errors.push_back((co_await stream->send_all(pieces)).error());
            errors.push_back((co_await stream->shutdown_send()).error());
            errors.push_back(stream->local_endpoint().error());
            errors.push_back(stream->remote_endpoint().error());
            errors.push_back(stream->set_no_delay(true).error());
            errors.push_back(stream->no_delay().error());
            errors.push_back(stream->set_keep_alive(plait::keep_alive()).error());
            errors.push_back(stream->linger().error());
            errors.push_back(stream->set_option(1, 1, std::as_bytes(std::span(room))).error());
            for (const std::error_code& each : errors) CHECK(each == std::errc::bad_file_descriptor);
            auto closed = co_await stream->close();
            CHECK(closed.error() == std::error_code());
        }
        auto once = co_await listener.close();
        auto twice = co_await listener.close();
        CHECK(once.error() == std::error_code());
        CHECK(twice.error() == std::error_code());
        auto accepted = co_await listener.accept();
        CHECK(accepted.error() == std::errc::bad_file_descriptor);
        tcp_listener no_listener;
        auto neither = co_await no_listener.accept();
        CHECK(neither.error() == std::errc::bad_file_descriptor);
        CHECK(no_listener.local_endpoint().error() == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("a closed listener refuses, and resets who was not accepted", "[tcp]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        const endpoint where = listener.local_endpoint().value();
        // One connection is accepted by somebody, others come while nobody accepts.
        auto pair = co_await support::connected_pair(listener);
        std::vector<support::plain_client> clients;
        for (int i = 0; i < 5; ++i) clients.emplace_back(where.port());
        co_await turns(3);
        static_cast<void>(co_await listener.close());
        std::array<char, 4> room;
        for (auto& client : clients) CHECK(client.receive(room.data(), room.size()) <= 0);
        const std::error_code refused = co_await connect_error(where);
        CHECK(refused == std::errc::connection_refused);
        auto sent = co_await pair.near.send_all("still there");
        auto heard = co_await pair.far.recv();
        CHECK(sent.bytes() == heard.bytes());
    });
}

TEST_CASE("a stream may go while the news of its bytes waits behind another's", "[tcp]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        for (std::size_t round = 0; round < scaled(50); ++round) {
            std::vector<support::stream_pair> pairs;
            for (int i = 0; i < 3; ++i) pairs.push_back(co_await support::connected_pair(listener));
            for (auto& pair : pairs) { // the driver has seen them all
                static_cast<void>(co_await pair.far.send_all("x"));
                static_cast<void>(co_await pair.near.recv());
            }
            int came = 0;
            auto receives = [&](std::size_t mine) -> task<> {
                auto got = co_await pairs[mine].near.recv();
                if (!got) co_return;
                ++came;
                for (std::size_t i = 0; i < pairs.size(); ++i)
                    if (i != mine) pairs[i].near = tcp_stream();
            };
            const std::string much(40'000, 'y');
            auto sends = [&](std::size_t mine) -> task<> {
                static_cast<void>(co_await pairs[mine].far.send_all(much));
            };
            task_group group;
            for (std::size_t i = 0; i < pairs.size(); ++i) group.spawn(receives, i);
            co_await plait::yield();
            for (std::size_t i = 0; i < pairs.size(); ++i) group.spawn(sends, i);
            co_await group.join();
            CHECK(came >= 1);
        }
    });
}

TEST_CASE("streams and listeners outlive their context as closed ones", "[tcp]") {
    std::optional<support::stream_pair> pair;
    tcp_listener listener;
    auto body = [&]() -> task<> {
        listener = co_await support::loopback_listener();
        pair.emplace(co_await support::connected_pair(listener));
        static_cast<void>(co_await pair->far.send_all("unread"));
        auto got = co_await pair->near.recv();
        CHECK(got.bytes() == 6);
    };
    plait::run(body());
    CHECK(pair->near.local_endpoint().error() == std::errc::bad_file_descriptor);
    CHECK(pair->near.native_handle() == -1);
    CHECK(listener.local_endpoint().error() == std::errc::bad_file_descriptor);
    auto elsewhere = [&]() -> task<> {
        auto sent = co_await pair->near.send("x");
        CHECK(sent.error() == std::errc::bad_file_descriptor);
        auto received = co_await pair->far.recv();
        CHECK(received.error() == std::errc::bad_file_descriptor);
        auto accepted = co_await listener.accept();
        CHECK(accepted.error() == std::errc::bad_file_descriptor);
        auto closed = co_await pair->near.close();
        CHECK(closed.error() == std::error_code());
    };
    plait::run(elsewhere());
}

TEST_CASE("an accept loop of one's own ends when the context drains, and what it accepted goes on", "[tcp]") {
    std::size_t accepted = 0;
    auto body = [&]() -> task<> {
        auto listener = co_await support::loopback_listener();
        const plait::endpoint where = listener.local_endpoint().value();
        std::vector<tcp_stream> streams;
        std::error_code end;
        auto accepts = [&]() -> task<> {
            for (;;) {
                auto stream = co_await listener.accept();
                end = stream.error();
                if (!stream) co_return;
                ++accepted;
                streams.push_back(std::move(*stream));
            }
        };
        auto first = co_await tcp_stream::connect(where);
        auto second = co_await tcp_stream::connect(where);
        REQUIRE((first && second));
        plait::io_context& context = co_await plait::this_context();
        context.request_drain(); // with two connections that wait
        co_await accepts();
        CHECK(end == errc::draining);
        REQUIRE(streams.size() == 2);
        auto sent = co_await first->send_all("x");
        CHECK(sent);
        auto received = co_await streams[0].recv();
        CHECK(received.bytes() == 1);
        auto again = co_await listener.accept();
        CHECK(again.error() == errc::draining);
    };
    plait::run(body());
    CHECK(accepted == 2);

    auto waits = []() -> task<> {
        auto listener = co_await support::loopback_listener();
        plait::io_context& context = co_await plait::this_context();
        task_group group;
        auto drains = [&]() -> task<> {
            co_await support::turns(3);
            context.request_drain();
        };
        group.spawn(drains());
        auto stream = co_await listener.accept();
        CHECK(stream.error() == errc::draining);
        co_await group.join();
    };
    plait::run(waits());
}
