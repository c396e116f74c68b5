#include <plait/bytes.hpp>
#include <plait/framing.hpp>
#include <plait/io_context.hpp>
#include <plait/sync.hpp>
#include <plait/task_group.hpp>
#include <plait/tcp.hpp>
#include <plait/time.hpp>

#include "support/allocations.hpp"
#include "support/scale.hpp"
#include "support/sockets.hpp"
#include "support/tracked.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using plait::io_context;
using plait::task;
using support::scaled;
using support::tally;
using support::tracked;

namespace {

task<int> number(int n) {
    co_await plait::yield();
    co_return n;
}

/// Waits for the end of the context.
task<std::error_code> wait_for_stop() {
    auto slept = co_await plait::sleep_for(1h);
    co_return slept.error();
}

/// One message there and back over loopback.
task<bool> echo_once() {
    auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0});
    if (!listener) co_return false;
    auto client = co_await plait::tcp_stream::connect(listener->local_endpoint().value());
    auto server = co_await listener->accept();
    if (!client || !server) co_return false;
    std::array<std::byte, 5> buffer;
    auto asked = co_await client->send_all("hello");
    auto heard = co_await server->recv_exactly(buffer);
    auto answered = co_await server->send_all(buffer);
    auto received = co_await client->recv_exactly(buffer);
    co_return asked&& heard&& answered&& received&& plait::as_text(buffer) == "hello";
}

} // namespace

// --- running -------------------------------------------------------------------------------------------------------

TEST_CASE("run gives the task's result", "[io_context]") {
    CHECK(plait::run(number(4)) == 4);
    auto text = []() -> task<std::string> { co_return "text"; };
    CHECK(plait::run(text()) == "text");
    auto movable = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(3); };
    CHECK(*plait::run(movable()) == 3);
    bool ran = false;
    auto nothing = [&]() -> task<> {
        ran = true;
        co_return;
    };
    plait::run(nothing());
    CHECK(ran);
}

TEST_CASE("a context runs one task after another", "[io_context]") {
    io_context context;
    for (int i = 0; i < 100; ++i) CHECK(context.run(number(i)) == i);
    CHECK(context.run(echo_once()));
    CHECK(context.run(echo_once()));
}

TEST_CASE("a context that never runs is destroyed like any other", "[io_context]") {
    for (int i = 0; i < 50; ++i) io_context context;
}

TEST_CASE("a context may run on another thread than the one that made it", "[io_context]") {
    io_context context;
    bool echoed = false;
    std::thread([&] { echoed = context.run(echo_once()); }).join();
    CHECK(echoed);
}

TEST_CASE("contexts on several threads run at the same time, each with its own tasks", "[io_context]") {
    constexpr std::size_t threads = 4;
    std::array<int, threads> right{};
    std::vector<std::thread> all;
    for (std::size_t i = 0; i < threads; ++i)
        all.emplace_back([&right, i] {
            io_context context;
            auto body = [&]() -> task<> {
                for (int round = 0; round < 10; ++round) {
                    io_context& here = co_await plait::this_context();
                    const bool echoed = co_await echo_once();
                    if (echoed && &here == &context) ++right[i];
                }
            };
            context.run(body());
        });
    for (auto& each : all) each.join();
    for (int each : right) CHECK(each == 10);
}

TEST_CASE("a context may be made, and run on a thread of its own, while another runs", "[io_context]") {
    auto body = [&]() -> task<int> {
        int inner_result = 0;
        std::thread([&] { inner_result = plait::run(number(6)); }).join();
        co_await plait::yield();
        io_context unused;
        co_return inner_result;
    };
    CHECK(plait::run(body()) == 6);
}

TEST_CASE("this_context names the context that runs the task", "[io_context]") {
    io_context first, second;
    auto who = []() -> task<io_context*> {
        io_context& context = co_await plait::this_context();
        co_return &context;
    };
    CHECK(first.run(who()) == &first);
    CHECK(second.run(who()) == &second);
}

#if PLAIT_HAS_EXCEPTIONS
TEST_CASE("an exception of the task comes out of run, and the context can run again", "[io_context]") {
    io_context context;
    auto thrower = [](bool suspend) -> task<int> {
        if (suspend) co_await plait::yield();
        throw std::runtime_error("over");
        co_return 0;
    };
    for (bool suspend : {false, true}) {
        std::string message;
        try {
            static_cast<void>(context.run(thrower(suspend)));
        } catch (const std::runtime_error& error) {
            message = error.what();
        }
        CHECK(message == "over");
        CHECK(context.run(number(2)) == 2);
    }
}
#endif

TEST_CASE("a stream and a listener may outlive their context", "[io_context]") {
    plait::tcp_stream client, server;
    auto make = [&]() -> task<plait::tcp_listener> {
        auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0});
        auto connected = co_await plait::tcp_stream::connect(listener->local_endpoint().value());
        auto accepted = co_await listener->accept();
        client = std::move(connected).value();
        server = std::move(accepted).value();
        co_return std::move(listener).value();
    };
    auto listener = plait::run(make());
    CHECK_FALSE(client.remote_endpoint());
    CHECK_FALSE(listener.local_endpoint());
    auto use = [&]() -> task<> {
        std::array<std::byte, 1> buffer;
        auto received = co_await client.recv(buffer);
        CHECK(received.error() == std::errc::bad_file_descriptor);
        auto sent = co_await server.send("x");
        CHECK(sent.error() == std::errc::bad_file_descriptor);
        auto accepted = co_await listener.accept();
        CHECK(accepted.error() == std::errc::bad_file_descriptor);
        auto closed = co_await server.close();
        CHECK(closed);
    };
    plait::run(use());
}

TEST_CASE("a stream goes on in the next run of its context", "[io_context]") {
    io_context context;
    plait::tcp_stream client, server;
    auto connect = [&]() -> task<> {
        auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0});
        auto connected = co_await plait::tcp_stream::connect(listener->local_endpoint().value());
        auto accepted = co_await listener->accept();
        client = std::move(connected).value();
        server = std::move(accepted).value();
    };
    auto exchange = [&]() -> task<bool> {
        std::array<std::byte, 4> buffer;
        static_cast<void>(co_await client.send_all("ping"));
        auto received = co_await server.recv_exactly(buffer);
        co_return received&& plait::as_text(buffer) == "ping";
    };
    context.run(connect());
    CHECK(context.run(exchange()));
    CHECK(context.run(exchange()));
}

// --- post ------------------------------------------------------------------------------------------------------------

TEST_CASE("every function that any thread posts is called exactly once", "[io_context]") {
    constexpr std::size_t threads = 4;
    const std::size_t each = scaled(20'000);
    io_context context;
    std::size_t called = 0; // on the loop's thread only
    std::atomic<std::size_t> accepted{0};
    std::vector<std::thread> all;
    for (std::size_t i = 0; i < threads; ++i)
        all.emplace_back([&] {
            for (std::size_t n = 0; n < each; ++n)
                if (context.post([&] { ++called; })) ++accepted;
        });
    auto body = [&]() -> task<> {
        while (called < threads * each) static_cast<void>(co_await plait::sleep_for(1ms));
    };
    context.run(body());
    for (auto& thread : all) thread.join();
    CHECK(accepted == threads * each);
    CHECK(called == threads * each);
}

TEST_CASE("the functions of one thread are called in the order in which it posted them", "[io_context]") {
    const std::size_t count = scaled(20'000);
    io_context context;
    std::vector<std::size_t> order;
    std::thread poster;
    auto body = [&]() -> task<> {
        poster = std::thread([&] {
            for (std::size_t n = 0; n < count; ++n)
                static_cast<void>(context.post([&order, n] { order.push_back(n); }));
        });
        while (order.size() < count) static_cast<void>(co_await plait::sleep_for(1ms));
    };
    context.run(body());
    poster.join();
    bool in_order = true;
    for (std::size_t n = 0; n < count; ++n) in_order = in_order && order[n] == n;
    CHECK(in_order);
}

TEST_CASE("a posted function wakes a loop that sleeps", "[io_context]") {
    for (std::size_t i = 0; i < scaled(200); ++i) {
        io_context context;
        std::stop_source enough;
        std::thread poster([&] { static_cast<void>(context.post([&] { enough.request_stop(); })); });
        auto body = [&]() -> task<std::error_code> {
            auto slept = co_await plait::with_stop(plait::sleep_for(1h), enough.get_token());
            co_return slept.error();
        };
        CHECK(context.run(body()) == plait::errc::canceled);
        poster.join();
    }
}

TEST_CASE("functions posted before the first run are called by it", "[io_context]") {
    io_context context;
    int called = 0;
    for (int i = 0; i < 10; ++i) CHECK(context.post([&] { ++called; }));
    CHECK(called == 0);
    context.run(number(0));
    CHECK(called == 10);
}

TEST_CASE("post answers false once run has returned, and true again in the next run", "[io_context]") {
    io_context context;
    context.run(number(0));
    tally counts;
    bool called = false;
    CHECK_FALSE(context.post([&, held = tracked(counts)] { called = true; }));
    CHECK(counts.live == 0);
    auto body = [&]() -> task<bool> {
        bool second = false;
        const bool taken = context.post([&] { second = true; });
        co_await plait::yield();
        co_await plait::yield();
        co_return taken&& second;
    };
    CHECK(context.run(body()));
    CHECK_FALSE(called);
    CHECK_FALSE(context.post([&] { called = true; }));
    CHECK_FALSE(called);
}

TEST_CASE("a function posted while run returns is either refused or called", "[io_context]") {
    for (std::size_t i = 0; i < scaled(100); ++i) {
        io_context context;
        std::size_t accepted = 0, called = 0;
        std::atomic<bool> posting{false};
        std::thread poster([&] {
            while (!context.post([] {})) {
            }
            do {
                posting = true;
            } while (context.post([&] { ++called; }) && ++accepted);
        });
        auto body = [&]() -> task<> {
            while (!posting) co_await plait::yield();
        };
        context.run(body());
        poster.join();
        REQUIRE(called == accepted);
    }
}

TEST_CASE("a posted function may be movable only, and is destroyed once it was called", "[io_context]") {
    io_context context;
    tally counts;
    int value = 0;
    auto body = [&]() -> task<> {
        static_cast<void>(
            context.post([&, held = tracked(counts), owned = std::make_unique<int>(8)] { value = *owned; }));
        CHECK(counts.live == 1);
        co_await plait::yield();
        co_await plait::yield();
        CHECK(counts.live == 0);
    };
    context.run(body());
    CHECK(value == 8);
    CHECK(counts.copies == 0);
}

TEST_CASE("a posted function may post", "[io_context]") {
    io_context context;
    int steps = 0;
    auto body = [&]() -> task<> {
        static_cast<void>(context.post([&] {
            ++steps;
            static_cast<void>(context.post([&] { ++steps; }));
        }));
        while (steps < 2) co_await plait::yield();
    };
    context.run(body());
    CHECK(steps == 2);
}

TEST_CASE("functions posted to a context that never runs are destroyed with it", "[io_context]") {
    tally counts;
    {
        io_context context;
        static_cast<void>(context.post([held = tracked(counts)] {}));
        CHECK(counts.live == 1);
    }
    CHECK(counts.live == 0);
}

// --- stopping ----------------------------------------------------------------------------------------------------------

TEST_CASE("a stop requested before the run cancels it", "[io_context]") {
    io_context context;
    context.request_stop();
    context.request_stop();
    CHECK(context.run(wait_for_stop()) == plait::errc::canceled);
}

TEST_CASE("a stop requested by a task cancels what it awaits next", "[io_context]") {
    io_context context;
    auto body = [&]() -> task<std::error_code> {
        context.request_stop();
        co_return co_await wait_for_stop();
    };
    CHECK(context.run(body()) == plait::errc::canceled);
}

TEST_CASE("a stop requested by another thread wakes and cancels the run", "[io_context]") {
    for (std::size_t i = 0; i < scaled(200); ++i) {
        io_context context;
        std::thread stopper([&] { context.request_stop(); });
        CHECK(context.run(wait_for_stop()) == plait::errc::canceled);
        stopper.join();
    }
}

TEST_CASE("many threads may request the stop at once", "[io_context]") {
    io_context context;
    std::vector<std::thread> all;
    auto body = [&]() -> task<std::error_code> {
        for (int i = 0; i < 8; ++i)
            all.emplace_back([&] {
                for (int n = 0; n < 100; ++n) context.request_stop();
            });
        co_return co_await wait_for_stop();
    };
    CHECK(context.run(body()) == plait::errc::canceled);
    for (auto& each : all) each.join();
}

TEST_CASE("a stop reaches every task, those that start later, and the next run", "[io_context]") {
    io_context context;
    int canceled = 0;
    auto waiter = [&]() -> task<> {
        const auto error = co_await wait_for_stop();
        canceled += error == plait::errc::canceled;
    };
    auto body = [&]() -> task<bool> {
        plait::task_group group;
        for (int i = 0; i < 10; ++i) group.spawn(waiter);
        group.spawn([&]() -> task<> {
            co_await plait::yield();
            context.request_stop();
        });
        co_await group.join();
        group.spawn(waiter);
        co_await group.join();
        co_return co_await plait::stop_requested();
    };
    CHECK(context.run(body()));
    CHECK(canceled == 11);
    CHECK(context.run(wait_for_stop()) == plait::errc::canceled);
}

TEST_CASE("a stop cancels a waiting accept, connect, receive and send", "[io_context]") {
    io_context context;
    std::vector<std::error_code> errors;
    auto body = [&]() -> task<> {
        auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0});
        auto client = co_await plait::tcp_stream::connect(listener->local_endpoint().value());
        auto server = co_await listener->accept();
        std::vector<std::byte> much(16 * 1024 * 1024);
        std::array<std::byte, 8> little;
        auto accepts = [&]() -> task<> {
            auto accepted = co_await listener->accept();
            errors.push_back(accepted.error());
        };
        auto receives = [&]() -> task<> {
            auto received = co_await client->recv(little);
            errors.push_back(received.error());
        };
        auto sends = [&]() -> task<> {
            auto sent = co_await client->send_all(much); // nobody reads it
            errors.push_back(sent.error());
            CHECK(sent.bytes() < much.size());
        };
        plait::task_group group;
        group.spawn(accepts);
        group.spawn(receives);
        group.spawn(sends);
        group.spawn([&]() -> task<> {
            static_cast<void>(co_await plait::sleep_for(20ms));
            context.request_stop();
        });
        co_await group.join();
        auto late = co_await plait::tcp_stream::connect(listener->local_endpoint().value());
        errors.push_back(late.error());
    };
    context.run(body());
    CHECK(errors.size() == 4);
    for (const auto& each : errors) CHECK(each == plait::errc::canceled);
}

TEST_CASE("the stop token of the options stops the context", "[io_context]") {
    std::stop_source source;
    const auto options = plait::context_options().stop(source.get_token());
    SECTION("stopped before") {
        source.request_stop();
        CHECK(plait::run(wait_for_stop(), options) == plait::errc::canceled);
    }
    SECTION("stopped by another thread meanwhile") {
        std::thread stopper;
        auto body = [&]() -> task<std::error_code> {
            stopper = std::thread([&] { source.request_stop(); });
            co_return co_await wait_for_stop();
        };
        CHECK(plait::run(body(), options) == plait::errc::canceled);
        stopper.join();
    }
    SECTION("stopped after the context is gone") {
        CHECK(plait::run(number(1), options) == 1);
        source.request_stop();
    }
}

TEST_CASE("requests to drain change nothing for tasks that do not serve", "[io_context]") {
    io_context context;
    context.request_drain();
    auto body = [&]() -> task<bool> {
        context.request_drain();
        const bool echoed = co_await echo_once();
        const bool stopped = co_await plait::stop_requested();
        co_return echoed && !stopped;
    };
    CHECK(context.run(body()));
}

// --- what it tells about itself ------------------------------------------------------------------------------------------

TEST_CASE("a context tells its backend and why it is this one", "[io_context]") {
    io_context context;
    CHECK(context.backend() != plait::backend::automatic);
    CHECK_FALSE(context.backend_reason().empty());
    if (const char* asked = std::getenv("PLAIT_BACKEND")) CHECK(plait::to_string(context.backend()) == asked);
    CHECK(plait::to_string(plait::backend::automatic) == "automatic");
    CHECK(plait::to_string(plait::backend::io_uring) == "io_uring");
    CHECK(plait::to_string(plait::backend::epoll) == "epoll");
    CHECK(plait::to_string(plait::backend::iocp) == "iocp");
    CHECK(plait::to_string(plait::backend::simulated) == "simulated");
}

TEST_CASE("a context's clock is steady_clock, unless it is a simulation's", "[io_context]") {
    io_context context;
    if (context.backend() == plait::backend::simulated) SKIP("this one is");
    const auto before = std::chrono::steady_clock::now();
    const auto here = context.now();
    CHECK(before <= here);
    CHECK(here <= std::chrono::steady_clock::now());
}

TEST_CASE("metrics count what the context does", "[io_context]") {
    io_context context;
    CHECK(context.metrics().turns == 0);
    CHECK(context.run(echo_once()));
    const auto after = context.metrics();
    CHECK(after.accepts == 1);
    CHECK(after.connects == 1);
    CHECK(after.receives == 2);
    CHECK(after.sends == 2);
    CHECK(after.bytes_received == 10);
    CHECK(after.bytes_sent == 10);
    CHECK(after.turns > 0);
    CHECK(after.system_calls > 0);
    CHECK(after.connections == 0);
    CHECK(context.run(echo_once()));
    CHECK(context.metrics().receives == 4);
    CHECK(context.metrics().turns > after.turns);
}

TEST_CASE("metrics count messages that framed collected as the bytes that left", "[io_context]") {
    io_context context;
    auto body = [&]() -> task<> {
        auto pair = co_await support::connected_pair();
        plait::framed near(std::move(pair.near), plait::length_prefix());
        plait::framed far(std::move(pair.far), plait::length_prefix());
        for (int i = 0; i < 3; ++i) static_cast<void>(co_await near.write("hello"));
        for (int i = 0; i < 3; ++i) {
            auto message = co_await far.next();
            CHECK(message);
        }
        const plait::metrics now = context.metrics();
        CHECK(now.bytes_sent == 3 * (4 + 5));
        CHECK(now.bytes_received == 3 * (4 + 5));
        CHECK(now.sends == 1); // they left together
        CHECK(now.connections == 2);
    };
    context.run(body());
    CHECK(context.metrics().connections == 0);
}

TEST_CASE("metrics count the blocks that came from the heap: none, once everything has been there before",
          "[io_context]") {
    io_context context;
    const auto frames = [](int depth, auto& self) -> task<> {
        co_await plait::yield();
        if (depth > 0) co_await self(depth - 1, self);
    };
    context.run(frames(20, frames));
    const std::uint64_t cold = context.metrics().allocations;
    context.run(frames(20, frames));
    const std::uint64_t warm = context.metrics().allocations - cold;
    CHECK(warm <= 25);                                   // 21 frames, and three of run()
    if (support::counts_allocations()) CHECK(warm == 0); // sanitizers see no block twice
}

TEST_CASE("a turn that took long is counted, and told to on_event", "[io_context]") {
    std::string told;
    io_context context(plait::context_options().slow_turn(20ms).on_event([&](const plait::event_info& event) {
        if (event.what == plait::event_info::kind::slow_turn) told = event.detail;
    }));
    auto body = []() -> task<> {
        co_await plait::yield();
        std::this_thread::sleep_for(30ms);
        co_await plait::yield();
    };
    context.run(body());
    CHECK(context.metrics().longest_turn >= 30ms);
    CHECK(told.starts_with("a turn of the loop took "));
    CHECK(told.find(" ms") != std::string::npos);
}

TEST_CASE("options answer what they were given", "[io_context]") {
    std::stop_source source;
    auto* const memory = std::pmr::new_delete_resource();
    const auto options = plait::context_options()
                             .backend(plait::backend::epoll)
                             .memory_resource(memory)
                             .stop(source.get_token())
                             .on_event([](const plait::event_info&) {})
                             .poll_before_sleep(50us)
                             .queue_sizes(4, 8)
                             .buffer_pool(1, 2, 3);
    CHECK(options.backend() == plait::backend::epoll);
    CHECK(options.memory_resource() == memory);
    CHECK(options.stop().stop_possible());
    CHECK(options.on_event());
    CHECK(options.poll_before_sleep() == 50us);
    CHECK(options.submission_queue() == 4);
    CHECK(options.completion_queue() == 8);
    CHECK(options.pool_initial() == 1);
    CHECK(options.pool_most() == 2);
    CHECK(options.pool_bytes() == 3);
}

TEST_CASE("a context with the smallest queues, or one that polls before it sleeps, does the same",
          "[io_context]") {
    CHECK(plait::run(echo_once(), plait::context_options().queue_sizes(1, 2)));
    CHECK(plait::run(echo_once(), plait::context_options().poll_before_sleep(100us)));
    auto sleeper = []() -> task<bool> {
        auto slept = co_await plait::sleep_for(2ms);
        co_return slept.has_value();
    };
    CHECK(plait::run(sleeper(), plait::context_options().poll_before_sleep(100us)));
}

TEST_CASE("a drain that was asked for twice lets the loop sleep", "[io_context]") {
    auto body = []() -> task<> {
        io_context& context = co_await plait::this_context();
        for (int i = 0; i < 2; ++i) {
            context.request_drain();
            for (int turns = 0; turns < 3; ++turns) co_await plait::yield();
        }
        const auto before = context.metrics().turns;
        static_cast<void>(co_await plait::sleep_for(50ms));
        CHECK(context.metrics().turns - before < 50); // one or two, and thousands if it does not sleep
    };
    plait::run(body());
}

TEST_CASE("a context that polls before it sleeps hears a timer and a post meanwhile", "[io_context]") {
    io_context context(plait::context_options().poll_before_sleep(1h)); // the test hangs when it is not heard
    plait::event posted;
    std::thread other;
    auto body = [&]() -> task<bool> {
        auto slept = co_await plait::sleep_for(2ms);
        other = std::thread([&] {
            std::this_thread::sleep_for(2ms); // the loop polls by then, most of the time
            context.post([&] { posted.set(); });
        });
        auto heard = co_await posted.wait();
        co_return slept&& heard;
    };
    CHECK(context.run(body()));
    other.join();
}
