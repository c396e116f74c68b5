// How serve ends: draining, deadlines, signals, cancellation.

#include <plait/framing.hpp>
#include <plait/io_context.hpp>
#include <plait/serve.hpp>
#include <plait/task_group.hpp>
#include <plait/time.hpp>

#include "support/scale.hpp"
#include "support/serving.hpp"
#include "support/simulated.hpp"
#include "support/streams.hpp"
#include "support/system.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
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
using plait::tcp_stream;
using namespace support;

// --- draining ----------------------------------------------------------------------------------------------------

TEST_CASE("sessions that wait at a boundary end with draining", "[serve]") {
    std::vector<std::error_code> ends;
    auto by_frames = [&](tcp_stream stream) -> task<> {
        plait::framed messages{std::move(stream), plait::length_prefix{}};
        for (;;) {
            auto message = co_await messages.next();
            if (!message) {
                ends.push_back(message.error());
                co_return;
            }
            static_cast<void>(co_await messages.write(*message));
        }
    };
    auto by_reader = [&](tcp_stream stream) -> task<> {
        plait::frame_reader reader{stream, plait::length_prefix{}};
        for (;;) {
            auto message = co_await reader.next();
            if (!message) {
                ends.push_back(message.error());
                co_return;
            }
            static_cast<void>(co_await stream.send_all(length_framed(as_text(*message))));
        }
    };
    auto by_lease = [&](tcp_stream stream) -> task<> {
        for (;;) {
            auto received = co_await stream.recv();
            if (!received) {
                ends.push_back(received.error());
                co_return;
            }
            static_cast<void>(co_await stream.send_all(received->bytes()));
        }
    };
    auto by_buffer = [&](tcp_stream stream) -> task<> {
        std::array<std::byte, 100> buffer;
        for (;;) {
            auto received = co_await stream.recv(buffer);
            if (!received) {
                ends.push_back(received.error());
                co_return;
            }
            static_cast<void>(co_await stream.send_all(std::span(buffer).first(*received)));
        }
    };
    auto exactly = [&](tcp_stream stream) -> task<> {
        std::array<std::byte, 9> buffer;
        for (;;) {
            auto received = co_await stream.recv_exactly(buffer);
            if (!received) {
                CHECK(received.bytes() == 0);
                ends.push_back(received.error());
                co_return;
            }
            static_cast<void>(co_await stream.send_all(buffer));
        }
    };
    auto client = [&](endpoint where) -> task<> {
        auto first = co_await connect(where);
        auto second = co_await connect(where);
        co_await check_exchange(first, "hello");
        co_await check_exchange(second, "hello");
        co_await request_drain();
        const std::string rest = co_await support::receive_all(first);
        CHECK(rest.empty());
    };
    auto check = [&](const char* what, auto session) {
        INFO(what);
        ends.clear();
        const auto result = run_server(session, {}, client);
        CHECK(result);
        CHECK(ends == std::vector<std::error_code>(2, errc::draining));
    };
    check("framed", by_frames);
    check("frame_reader", by_reader);
    check("recv()", by_lease);
    check("recv(span)", by_buffer);
    check("recv_exactly", exactly);
}

TEST_CASE("a frame that was in the kernel before the drain is answered", "[serve]") {
    // The session looks for it only after the drain has begun.
    sessions_seen seen;
    bool open = false;
    auto busy = [&](tcp_stream stream) -> task<> {
        plait::framed messages{std::move(stream), plait::length_prefix{}};
        auto first = co_await messages.next();
        CHECK(as_text(*first) == "first");
        static_cast<void>(co_await messages.write(*first));
        co_await until([&] { return open; });
        for (int i = 0; i < 3; ++i) {
            auto message = co_await messages.next();
            REQUIRE(message);
            static_cast<void>(co_await messages.write(*message));
        }
        auto end = co_await messages.next();
        CHECK(end.error() == errc::draining);
    };
    auto client = [&](endpoint where) -> task<> {
        auto stream = co_await connect(where);
        co_await check_exchange(stream, "first");
        std::string frames;
        for (std::string_view each : {"second", "third", "fourth"}) frames += length_framed(each);
        static_cast<void>(co_await stream.send_all(frames));
        co_await request_drain();
        co_await turns(5);
        open = true;
        const std::string answers = co_await support::receive_all(stream);
        CHECK(answers == frames);
    };
    const auto result = run_server(busy, {}, client);
    CHECK(result);
}

TEST_CASE("a frame that arrives just before the drain is answered, by whatever verb", "[serve]") {
    auto by_frames = [](tcp_stream stream) -> task<> {
        plait::framed messages{std::move(stream), plait::length_prefix{}};
        for (;;) {
            auto message = co_await messages.next();
            if (!message) co_return;
            static_cast<void>(co_await messages.write(*message));
        }
    };
    auto by_lease = [](tcp_stream stream) -> task<> {
        while (auto received = co_await stream.recv())
            static_cast<void>(co_await stream.send_all(received->bytes()));
    };
    auto by_buffer = [](tcp_stream stream) -> task<> {
        std::array<std::byte, 100> buffer;
        while (auto received = co_await stream.recv(buffer))
            static_cast<void>(co_await stream.send_all(std::span(buffer).first(*received)));
    };
    auto exactly = [](tcp_stream stream) -> task<> {
        std::array<std::byte, 9> buffer;
        while (auto received = co_await stream.recv_exactly(buffer))
            static_cast<void>(co_await stream.send_all(std::span(buffer).first(*received)));
    };
    auto repeat = [&](const char* what, auto session) {
        for (std::size_t round = 0; round < scaled(40); ++round) {
            INFO(what << ", round " << round);
            const std::string frame = length_framed("again");
            auto client = [&](endpoint where) -> task<> {
                auto stream = co_await connect(where);
                co_await check_exchange(stream, "hello");
                co_await turns(static_cast<int>(round % 4));
                auto waiting = co_await connect(where); // in the listener's backlog, or accepted
                static_cast<void>(co_await waiting.send_all(frame));
                static_cast<void>(co_await stream.send_all(frame));
                co_await request_drain();
                const std::string answer = co_await support::receive_all(stream);
                CHECK(answer == frame);
                const std::string other = co_await support::receive_all(waiting);
                CHECK(other == frame);
            };
            const auto result = run_server(session, {}, client);
            CHECK(result);
        }
    };
    repeat("framed", by_frames);
    repeat("recv()", by_lease);
    repeat("recv(span)", by_buffer);
    repeat("recv_exactly", exactly);
}

TEST_CASE("a partial frame is finished although the drain has begun", "[serve]") {
    auto by_frames = [](tcp_stream stream) -> task<> {
        plait::framed messages{std::move(stream), plait::length_prefix{}};
        for (;;) {
            auto message = co_await messages.next();
            if (!message) {
                CHECK(message.error() == errc::draining);
                co_return;
            }
            static_cast<void>(co_await messages.write(*message));
        }
    };
    auto exactly = [](tcp_stream stream) -> task<> {
        std::array<std::byte, 9> buffer;
        for (;;) {
            auto received = co_await stream.recv_exactly(buffer);
            if (!received) {
                CHECK(received.error() == errc::draining);
                CHECK(received.bytes() == 0);
                co_return;
            }
            static_cast<void>(co_await stream.send_all(buffer));
        }
    };
    auto exactly_after_lease = [&](tcp_stream stream) -> task<> {
        auto first = co_await stream.recv();
        static_cast<void>(co_await stream.send_all(first->bytes()));
        first->reset();
        co_await exactly(std::move(stream));
    };
    auto repeat = [&](const char* what, auto session) {
        const std::string frame = length_framed("hello");
        for (std::size_t size = 1; size < frame.size(); ++size) {
            for (int wait : {0, 10}) {
                INFO(what << ", " << size << " bytes before the drain");
                auto client = [&](endpoint where) -> task<> {
                    auto stream = co_await connect(where);
                    co_await check_exchange(stream, "first");
                    static_cast<void>(co_await stream.send_all(frame.substr(0, size)));
                    co_await turns(wait);
                    co_await request_drain();
                    co_await turns(10);
                    for (std::size_t i = size; i < frame.size(); ++i) {
                        static_cast<void>(co_await stream.send_all(frame.substr(i, 1)));
                        co_await turns(2);
                    }
                    const std::string answer = co_await support::receive_all(stream);
                    CHECK(answer == frame);
                };
                const auto result = run_server(session, {}, client);
                CHECK(result);
            }
        }
    };
    repeat("framed", by_frames);
    repeat("recv_exactly", exactly);
    repeat("recv_exactly after recv()", exactly_after_lease);
}

TEST_CASE("connections that wait to be accepted when the drain begins are served", "[serve]") {
    for (const bool drain_first : {false, true}) {
        sessions_seen seen;
        auto session = [&](tcp_stream stream) { return echo_frames(std::move(stream), seen); };
        auto body = [&]() -> task<> {
            auto listener = co_await listen();
            const endpoint where = listener.local_endpoint().value();
            std::vector<tcp_stream> clients;
            for (int i = 0; i < 20; ++i) {
                auto stream = co_await connect(where);
                static_cast<void>(co_await stream.send_all(length_framed("hello")));
                clients.push_back(std::move(stream));
            }
            if (drain_first) {
                co_await request_drain();
                co_await turns(3);
            }
            plait::task_group group;
            auto draining = [&]() -> task<> { co_await request_drain(); };
            group.spawn(draining);
            auto result = co_await plait::serve(std::move(listener), session, serve_options());
            CHECK(result);
            co_await group.join();
            for (auto& each : clients) {
                const std::string answer = co_await support::receive_all(each);
                CHECK(answer == length_framed("hello"));
            }
            // And the listener is closed.
            auto refused = co_await tcp_stream::connect(where);
            CHECK(refused.error() == std::errc::connection_refused);
        };
        plait::run(body());
        CHECK(seen.started == 20);
        for (const auto& each : seen.ends) CHECK(each == errc::draining);
    }
}

TEST_CASE("only the streams of serve are drained", "[serve]") {
    auto body = []() -> task<> {
        support::tcp_pair pair = co_await support::connected();
        co_await request_drain();
        co_await turns(3);
        std::array<std::byte, 2> buffer;
        auto late = [&]() -> task<> {
            co_await turns(5);
            static_cast<void>(co_await pair.left.send_all("ok"));
        };
        plait::task_group group;
        group.spawn(late);
        auto received = co_await pair.right.recv_exactly(buffer);
        CHECK(received.value() == 2);
        co_await group.join();
    };
    plait::run(body());
}

TEST_CASE("the drain's deadline cancels what is left, and serve ends as timed out", "[serve]") {
    std::vector<std::error_code> ends;
    auto stubborn = [&](tcp_stream stream) -> task<> {
        static_cast<void>(co_await stream.send_all("up"));
        auto slept = co_await plait::sleep_for(1h);
        ends.push_back(slept.error());
        auto refused = co_await plait::sleep_for(1h);
        ends.push_back(refused.error());
    };
    auto client = [&](endpoint where) -> task<> {
        auto stream = co_await connect(where);
        co_await check_received(stream, "up");
        co_await request_drain();
        const std::string rest = co_await support::receive_all(stream);
        CHECK(rest.empty());
    };
    const auto result = run_server(stubborn, serve_options().drain_timeout(5ms), client);
    CHECK(result.error() == errc::timed_out);
    CHECK(ends == std::vector<std::error_code>(2, errc::canceled));
}

TEST_CASE("the first signal drains and the second stops at once", "[serve]") {
    for (const bool other_thread : {false, true}) {
        // The simulated hours below pass before such a signal comes.
        if (other_thread && !support::lacks_real_time().empty()) continue;
        std::vector<std::error_code> ends;
        auto send_signal = [&] {
            if (other_thread)
                std::thread([] { support::send_signal_to_process(first_signal()); }).join();
            else
                support::send_signal(first_signal());
        };
        auto stubborn = [&](tcp_stream stream) -> task<> {
            std::array<std::byte, 1> buffer;
            static_cast<void>(co_await stream.send_all("up"));
            auto received = co_await stream.recv(buffer);
            ends.push_back(received.error());
            send_signal();
            auto slept = co_await plait::sleep_for(1h);
            ends.push_back(slept.error());
        };
        auto client = [&](endpoint where) -> task<> {
            auto stream = co_await connect(where);
            co_await check_received(stream, "up");
            send_signal();
            auto rest = co_await plait::sleep_for(1h);
            CHECK(rest.error() == errc::canceled);
        };
        const auto result = run_server(
            stubborn, serve_options().stop_on({second_signal(), first_signal()}).drain_timeout(1h), client);
        CHECK(result.error() == errc::canceled);
        CHECK(ends == std::vector<std::error_code>{errc::draining, errc::canceled});
    }
}

TEST_CASE("a second signal stops although other tasks wait for signals of their own", "[serve]") {
    int stopped = 0;
    auto stubborn = [](tcp_stream stream) -> task<> {
        std::array<std::byte, 1> buffer;
        static_cast<void>(co_await stream.recv(buffer));
        support::send_signal(first_signal());
        static_cast<void>(co_await plait::sleep_for(1h));
    };
    auto client = [&](endpoint where) -> task<> {
        auto stream = co_await connect(where);
        plait::task_group group;
        auto waiting = [&]() -> task<> {
            auto which = co_await plait::wait_for_signal({second_signal(), other_signal()});
            if (which.error() == errc::canceled) ++stopped;
        };
        for (int i = 0; i < 3; ++i) group.spawn(waiting);
        co_await turns(5);
        support::send_signal(first_signal());
        co_await group.join();
    };
    const auto result =
        run_server(stubborn, serve_options().stop_on(first_signal()).drain_timeout(1h), client);
    CHECK(result.error() == errc::canceled);
    CHECK(stopped == 3);
}

TEST_CASE("serve with an impossible signal is an error, and the listener is closed", "[serve]") {
    auto body = []() -> task<> {
        auto listener = co_await listen();
        const endpoint where = listener.local_endpoint().value();
        auto session = [](tcp_stream) -> task<> { co_return; };
        auto result = co_await plait::serve(std::move(listener), session, serve_options().stop_on(4000));
        CHECK(result.error() == std::errc::invalid_argument);
        co_await turns(5);
        auto refused = co_await tcp_stream::connect(where);
        CHECK(refused.error() == std::errc::connection_refused);
    };
    plait::run(body());
}

// --- cancelled ---------------------------------------------------------------------------------------------------

TEST_CASE("cancelling serve from outside cancels its sessions and ends as canceled", "[serve]") {
    sessions_seen seen;
    auto session = [&](tcp_stream stream) { return echo_frames(std::move(stream), seen); };
    auto body = [&]() -> task<> {
        auto listener = co_await listen();
        const endpoint where = listener.local_endpoint().value();
        auto stream = co_await connect(where);
        std::stop_source stop;
        plait::task_group group;
        auto client = [&]() -> task<> {
            co_await check_exchange(stream, "hello");
            stop.request_stop();
        };
        group.spawn(client);
        auto serving = plait::serve(std::move(listener), session);
        auto result = co_await plait::with_stop(std::move(serving), stop.get_token());
        CHECK(result.error() == errc::canceled);
        CHECK(seen.ends == std::vector<std::error_code>{errc::canceled});
        co_await group.join();
        auto again = co_await listen();
        auto serving_again = plait::serve(std::move(again), session);
        auto timed = co_await plait::with_timeout(std::move(serving_again), 1ms);
        CHECK(timed.error() == errc::timed_out);
    };
    plait::run(body());
}

TEST_CASE("request_stop from another thread ends serve as canceled", "[serve]") {
    sessions_seen seen;
    auto session = [&](tcp_stream stream) { return echo_frames(std::move(stream), seen); };
    tcp_stream stream; // stays open, so that the session ends for no other reason
    auto client = [&](endpoint where) -> task<> {
        stream = co_await connect(where);
        co_await check_exchange(stream, "hello");
        plait::io_context& context = co_await plait::this_context();
        std::thread([&] { context.request_stop(); }).join();
        static_cast<void>(co_await plait::sleep_for(1h));
    };
    const auto result = run_server(session, {}, client);
    CHECK(result.error() == errc::canceled);
    CHECK(seen.ends == std::vector<std::error_code>{errc::canceled});
}

TEST_CASE("two servers run in one context, and one signal drains both", "[serve]") {
    sessions_seen seen;
    auto session = [&](tcp_stream stream) { return echo_frames(std::move(stream), seen); };
    auto body = [&]() -> task<> {
        std::array<io_result<void>, 2> results{errc::closed, errc::closed};
        auto first = co_await listen();
        auto second = co_await listen();
        auto one = co_await connect(first.local_endpoint().value());
        auto other = co_await connect(second.local_endpoint().value());
        auto serve_one = [&]() -> task<> {
            results[0] =
                co_await plait::serve(std::move(first), session, serve_options().stop_on(first_signal()));
        };
        auto serve_other = [&]() -> task<> {
            results[1] =
                co_await plait::serve(std::move(second), session, serve_options().stop_on(first_signal()));
        };
        auto client = [&]() -> task<> {
            co_await check_exchange(one, "to one");
            co_await check_exchange(other, "to the other");
            support::send_signal(first_signal());
        };
        plait::task_group group;
        group.spawn(serve_one);
        group.spawn(serve_other);
        group.spawn(client);
        co_await group.join();
        CHECK(results[0]);
        CHECK(results[1]);
        for (const auto& each : seen.ends) CHECK(each == errc::draining);
    };
    plait::run(body());
}
