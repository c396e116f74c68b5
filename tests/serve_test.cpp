// Serving, its limits and its errors. serve_drain_test.cpp has how it ends.

#include <plait/framing.hpp>
#include <plait/io_context.hpp>
#include <plait/serve.hpp>
#include <plait/task_group.hpp>
#include <plait/time.hpp>

#include "support/plain_client.hpp"
#include "support/scale.hpp"
#include "support/serving.hpp"
#include "support/simulated.hpp"
#include "support/streams.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using plait::as_text;
using plait::endpoint;
using plait::errc;
using plait::io_result;
using plait::serve_options;
using plait::task;
using plait::tcp_listener;
using plait::tcp_stream;
using namespace support;

// --- serving -----------------------------------------------------------------------------------------------------

TEST_CASE("serve runs a session for each connection, side by side", "[serve]") {
    sessions_seen seen;
    auto session = [&](tcp_stream stream) { return echo_frames(std::move(stream), seen); };
    auto client = [&](endpoint where) -> task<> {
        std::vector<tcp_stream> streams;
        for (int i = 0; i < 20; ++i) {
            auto stream = co_await connect(where);
            streams.push_back(std::move(stream));
        }
        for (int round = 0; round < 3; ++round)
            for (auto& each : streams) {
                co_await check_exchange(each, "hello");
            }
        CHECK(seen.live == 20);
        streams.clear();
        co_await until([&] { return seen.live == 0; });
        for (const auto& each : seen.ends) CHECK(each == errc::end_of_stream);
        co_await request_drain();
    };
    const auto result = run_server(session, {}, client);
    CHECK(result);
    CHECK(seen.started == 20);
}

TEST_CASE("serve of a listener that is not open is an error", "[serve]") {
    auto body = []() -> task<> {
        auto session = [](tcp_stream) -> task<> { co_return; };
        auto result = co_await plait::serve(tcp_listener(), session);
        CHECK(result.error() == std::errc::bad_file_descriptor);
    };
    plait::run(body());
}

TEST_CASE("serve with room for no connection is an error", "[serve]") {
    auto body = []() -> task<> {
        auto session = [](tcp_stream) -> task<> { co_return; };
        auto listener = co_await tcp_listener::bind({"127.0.0.1", 0});
        auto options = serve_options().max_connections(0);
        auto alone = co_await plait::serve(std::move(*listener), session, options);
        CHECK(alone.error() == std::errc::invalid_argument);
        auto together = co_await plait::serve_per_core({"127.0.0.1", 0}, session, options);
        CHECK(together.error() == std::errc::invalid_argument);
    };
    plait::run(body());
}

// --- limits ------------------------------------------------------------------------------------------------------

TEST_CASE("max_connections bounds the sessions, and the others are served as slots become free", "[serve]") {
    sessions_seen seen;
    auto session = [&](tcp_stream stream) { return echo_frames(std::move(stream), seen); };
    auto client = [&](endpoint where) -> task<> {
        std::vector<tcp_stream> streams;
        for (int i = 0; i < 12; ++i) {
            auto stream = co_await connect(where);
            static_cast<void>(co_await stream.send_all(length_framed("hello")));
            streams.push_back(std::move(stream));
        }
        for (auto& each : streams) {
            co_await check_received(each, length_framed("hello"));
            CHECK(seen.live <= 2);
            each = tcp_stream();
        }
        co_await until([&] { return seen.live == 0; });
        co_await request_drain();
    };
    const auto result = run_server(session, serve_options().max_connections(2), client);
    CHECK(result);
    CHECK(seen.started == 12);
    CHECK(seen.most == 2);
}

TEST_CASE("connections that wait for a slot are served although the drain has begun", "[serve]") {
    sessions_seen seen;
    auto session = [&](tcp_stream stream) { return echo_frames(std::move(stream), seen); };
    auto client = [&](endpoint where) -> task<> {
        std::vector<tcp_stream> clients;
        for (int i = 0; i < 6; ++i) {
            auto stream = co_await connect(where);
            static_cast<void>(co_await stream.send_all(length_framed("hello")));
            clients.push_back(std::move(stream));
        }
        co_await until([&] { return seen.started > 0; });
        co_await request_drain();
        for (auto& each : clients) {
            const std::string answer = co_await support::receive_all(each);
            CHECK(answer == length_framed("hello"));
        }
    };
    const auto result = run_server(session, serve_options().max_connections(1), client);
    CHECK(result);
    CHECK(seen.started == 6);
    CHECK(seen.most == 1);
}

TEST_CASE("a session on whose stream nothing moves is cancelled, a busy one is not", "[serve]") {
    constexpr auto limit = 200ms;
    std::vector<std::pair<std::string, std::error_code>> ends;
    auto session = [&](tcp_stream stream) -> task<> {
        std::string name;
        for (;;) {
            auto received = co_await stream.recv();
            if (!received) {
                ends.emplace_back(name, received.error());
                co_return;
            }
            if (name.empty()) name = as_text(received->bytes());
        }
    };
    auto client = [&](endpoint where) -> task<> {
        auto idle = co_await connect(where);
        auto busy = co_await connect(where);
        static_cast<void>(co_await idle.send_all("idle"));
        static_cast<void>(co_await busy.send_all("busy"));
        auto last = std::chrono::steady_clock::now();
        auto longest_gap = last - last;
        while (ends.empty() || last < std::chrono::steady_clock::now() - limit) {
            static_cast<void>(co_await plait::sleep_for(5ms));
            static_cast<void>(co_await busy.send("."));
            const auto now = std::chrono::steady_clock::now();
            longest_gap = std::max(longest_gap, now - last);
            last = now;
        }
        const std::string rest = co_await support::receive_all(idle);
        CHECK(rest.empty());
        if (longest_gap < limit / 2) { // otherwise this machine was the idle one
            CHECK(ends.size() == 1);
            CHECK(ends[0].first == "idle");
        }
        CHECK(ends[0].second == errc::canceled);
        busy = tcp_stream();
        co_await request_drain();
    };
    const auto result = run_server(session, serve_options().idle_timeout(limit), client);
    CHECK(result);
}

TEST_CASE("an idle time-out ends a session that waits for its own output", "[serve]") {
    std::error_code end;
    auto session = [&](tcp_stream stream) -> task<> {
        const std::string much(64 << 20, 'x');
        auto sent = co_await stream.send_all(much);
        end = sent.error();
    };
    auto client = [&](endpoint where) -> task<> {
        auto stream = co_await connect(where);
        co_await until([&] { return static_cast<bool>(end); });
        co_await request_drain();
    };
    const auto result = run_server(session, serve_options().idle_timeout(20ms), client);
    CHECK(result);
    CHECK(end == errc::canceled);
}

// --- errors ------------------------------------------------------------------------------------------------------

TEST_CASE("on_error hears of what a session returns, with the peer's address, in either order", "[serve]") {
    const std::error_code told = errc::malformed_frame;
    auto check = [&](auto set_handler) {
        std::vector<std::pair<std::error_code, endpoint>> reports;
        auto session = [&](tcp_stream stream) -> task<io_result<void>> {
            auto received = co_await stream.recv();
            if (!received) co_return received.error();
            co_return told;
        };
        endpoint expected;
        auto client = [&](endpoint where) -> task<> {
            {
                auto ends = co_await connect(where); // the end of the stream is not worth a report
            }
            auto stream = co_await connect(where);
            expected = stream.local_endpoint().value();
            static_cast<void>(co_await stream.send_all("x"));
            static_cast<void>(co_await support::receive_all(stream));
            co_await request_drain();
        };
        serve_options options;
        set_handler(options, reports);
        const auto result = run_server(session, options, client);
        CHECK(result);
        REQUIRE(reports.size() == 1);
        CHECK(reports[0].first == told);
        CHECK(reports[0].second == expected);
    };
    check([](serve_options& options, auto& reports) {
        options.on_error(
            [&](std::error_code error, const endpoint& peer) { reports.emplace_back(error, peer); });
    });
    check([](serve_options& options, auto& reports) {
        options.on_error(
            [&](const endpoint& peer, std::error_code error) { reports.emplace_back(error, peer); });
    });
    check([](serve_options& options, auto& reports) {
        options.on_error(
            [&](endpoint peer, const std::error_code& error) { reports.emplace_back(error, peer); });
    });
}

TEST_CASE("draining and cancellations of sessions are not reported", "[serve]") {
    int reports = 0;
    auto session = [](tcp_stream stream) -> task<io_result<void>> {
        auto received = co_await stream.recv();
        if (!received) co_return received.error();
        auto slept = co_await plait::sleep_for(1h);
        co_return slept;
    };
    auto client = [&](endpoint where) -> task<> {
        auto drained = co_await connect(where);
        auto cancelled = co_await connect(where);
        static_cast<void>(co_await cancelled.send_all("x"));
        co_await turns(10);
        co_await request_drain();
        static_cast<void>(co_await support::receive_all(drained));
        static_cast<void>(co_await support::receive_all(cancelled));
    };
    auto count = [&](std::error_code, const endpoint&) { ++reports; };
    const auto result = run_server(session, serve_options().drain_timeout(1ms).on_error(count), client);
    CHECK(result.error() == errc::timed_out);
    CHECK(reports == 0);
}

#if PLAIT_HAS_EXCEPTIONS
TEST_CASE("with on_error an exception ends its session alone", "[serve]") {
    std::vector<std::error_code> reports;
    auto session = [](tcp_stream stream) -> task<> {
        auto received = co_await stream.recv();
        const std::string text(as_text(received.value().bytes()));
        if (text == "system") throw std::system_error(std::make_error_code(std::errc::no_space_on_device));
        if (text == "other") throw std::runtime_error("other");
        static_cast<void>(co_await stream.send_all(text));
    };
    auto client = [&](endpoint where) -> task<> {
        for (std::string_view text : {"system", "other", "fine"}) {
            auto stream = co_await connect(where);
            static_cast<void>(co_await stream.send_all(text));
            const std::string answer = co_await support::receive_all(stream);
            if (text == "fine")
                CHECK(answer == "fine");
            else
                CHECK(answer.empty());
        }
        co_await request_drain();
    };
    auto note = [&](std::error_code error, const endpoint&) { reports.push_back(error); };
    const auto result = run_server(session, serve_options().on_error(note), client);
    CHECK(result);
    REQUIRE(reports.size() == 2);
    CHECK(reports[0] == std::errc::no_space_on_device);
    CHECK(reports[1] == std::errc::state_not_recoverable);
}

TEST_CASE("without on_error an exception stops the server and comes out of serve", "[serve]") {
    sessions_seen seen;
    auto session = [&](tcp_stream stream) -> task<> {
        auto first = co_await stream.recv();
        if (as_text(first.value().bytes()) == "throw") throw std::runtime_error("from a session");
        seen.start();
        auto second = co_await stream.recv();
        seen.end(second.error());
    };
    auto body = [&]() -> task<> {
        auto listener = co_await listen();
        const endpoint where = listener.local_endpoint().value();
        auto sibling = co_await connect(where);
        auto thrower = co_await connect(where);
        static_cast<void>(co_await sibling.send_all("wait"));
        plait::task_group group;
        auto client = [&]() -> task<> {
            co_await until([&] { return seen.live == 1; });
            static_cast<void>(co_await thrower.send_all("throw"));
        };
        group.spawn(client);
        std::string message;
        try {
            static_cast<void>(co_await plait::serve(std::move(listener), session));
        } catch (const std::runtime_error& error) {
            message = error.what();
        }
        CHECK(message == "from a session");
        CHECK(seen.ends == std::vector<std::error_code>{errc::canceled});
        co_await group.join();
    };
    plait::run(body());
}
#endif

// --- closing -----------------------------------------------------------------------------------------------------

TEST_CASE("a client that is still sending gets the complete answer and the end, not a reset", "[serve]") {
    if (const std::string why = support::lacks_real_sockets(); !why.empty()) SKIP(why);
    const std::string answer(std::size_t{1} << 20, 'a');
    auto by_send = [&](tcp_stream stream) -> task<> {
        auto received = co_await stream.recv();
        CHECK(received);
        auto sent = co_await stream.send_all(answer);
        CHECK(sent);
    };
    auto by_frames = [&](tcp_stream stream) -> task<> {
        plait::framed messages{std::move(stream), plait::delimited{"."}};
        auto first = co_await messages.next();
        CHECK(first);
        for (int i = 0; i < 8; ++i) static_cast<void>(co_await messages.write(std::string(3999, 'b')));
    };
    auto check = [&](auto session, const std::string& expected) {
        auto body = [&]() -> task<> {
            auto listener = co_await listen();
            const endpoint where = listener.local_endpoint().value();
            plait::io_context& context = co_await plait::this_context();
            std::thread client([&context, where, &expected] {
                for (std::size_t i = 0; i < scaled(20); ++i) {
                    plain_client talker(where.port());
                    std::thread talk([&] {
                        const std::string talk_on(100'000, '.');
                        for (int n = 0; n < 20; ++n) talker.send(talk_on);
                        talker.finish();
                    });
                    int error = 0;
                    const std::string got = talker.receive_all(error);
                    if (error != 0 || got != expected)
                        std::abort(); // Catch2 takes no checks from other threads
                    talk.join();
                }
                context.request_drain();
            });
            auto result = co_await plait::serve(std::move(listener), session);
            CHECK(result);
            client.join();
        };
        plait::run(body());
    };
    check(by_send, answer);
    std::string frames;
    for (int i = 0; i < 8; ++i) frames += std::string(3999, 'b') + ".";
    check(by_frames, frames);
}

// --- bad clients and lack of descriptors -----------------------------------------------------------------------------

TEST_CASE("clients that reset before they are accepted do not stop the listener", "[serve]") {
    if (const std::string why = support::lacks_real_sockets(); !why.empty()) SKIP(why);
    sessions_seen seen;
    auto session = [&](tcp_stream stream) { return echo_frames(std::move(stream), seen); };
    auto body = [&]() -> task<> {
        auto listener = co_await listen();
        const endpoint where = listener.local_endpoint().value();
        for (int i = 0; i < 100; ++i) plain_client(where.port()).reset(); // before anybody accepts
        auto client = [&](endpoint) -> task<> {
            for (std::size_t round = 0; round < scaled(20); ++round) {
                for (int i = 0; i < 100; ++i) plain_client(where.port()).reset();
                auto honest = co_await connect(where);
                co_await check_exchange(honest, "hello");
            }
            co_await request_drain();
        };
        auto result = co_await serve_beside(std::move(listener), session, serve_options(), client);
        CHECK(result);
    };
    plait::run(body());
    CHECK(seen.live == 0);
}

TEST_CASE("the times of serve_options may be of any precision, and longer than the clock lasts", "[serve]") {
    plait::serve_options options;
    options.drain_timeout(0.5s).idle_timeout(std::chrono::hours::max());
    CHECK(options.drain_timeout() == 500ms);
    CHECK(options.idle_timeout() == plait::steady_duration::max());
}
