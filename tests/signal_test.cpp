#include <plait/io_context.hpp>
#include <plait/signal.hpp>
#include <plait/task_group.hpp>
#include <plait/time.hpp>
#include <plait/when.hpp>

#include "support/foreign.hpp"
#include "support/hear.hpp"
#include "support/scale.hpp"
#include "support/streams.hpp"
#include "support/system.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <atomic>
#include <functional>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using plait::errc;
using plait::signal_list;
using plait::task;
using plait::wait_for_signal;
using support::hear;
using support::scaled;
using support::turns;

namespace {

// linux/signal_handling_test.cpp looks at the handlers themselves.
const int first = support::first_signal(), second = support::second_signal(), other = support::other_signal();

} // namespace

TEST_CASE("wait_for_signal gives the number of the signal that came", "[signal]") {
    CHECK(plait::run(hear(first, first)) == first);
    CHECK(plait::run(hear({first, second}, first)) == first);
    CHECK(plait::run(hear({first, second}, second)) == second);
    CHECK(plait::run(hear({other, first, second}, second)) == second);
    CHECK(plait::run(hear({second, second}, second)) == second);
}

TEST_CASE("a signal from another thread wakes a loop that sleeps", "[signal]") {
    for (std::size_t i = 0; i < scaled(100); ++i) {
        std::thread sender;
        auto body = [&]() -> task<int> {
            auto waiting = wait_for_signal({first, second});
            plait::task_group group;
            auto send = [&]() -> task<> {
                co_await turns(static_cast<int>(i % 3));
                sender = std::thread([&] { support::send_signal_to_process(i % 2 == 0 ? first : second); });
            };
            group.spawn(send);
            auto which = co_await waiting;
            co_await group.join();
            co_return which.value();
        };
        CHECK(plait::run(body()) == (i % 2 == 0 ? first : second));
        sender.join();
    }
}

TEST_CASE("a signal is heard by a loop that polls before it sleeps", "[signal]") {
    for (std::size_t i = 0; i < scaled(20); ++i) {
        std::thread sender;
        auto body = [&]() -> task<int> {
            auto waiting = wait_for_signal(first);
            auto send = [&]() -> task<> {
                sender = std::thread([] {
                    std::this_thread::sleep_for(1ms); // the loop polls by then, most of the time
                    support::send_signal_to_process(first);
                });
                co_return;
            };
            plait::task_group group;
            group.spawn(send);
            auto which = co_await waiting;
            co_await group.join();
            co_return which.value();
        };
        CHECK(plait::run(body(), plait::context_options().poll_before_sleep(1s)) == first);
        sender.join();
    }
}

TEST_CASE("a signal is heard although a frame that waited on a socket is destroyed right after it",
          "[signal]") {
    auto receive = [](plait::tcp_stream& from) -> task<> {
        std::array<std::byte, 8> room;
        static_cast<void>(co_await from.recv(room));
    };
    auto wait = [](int& heard) -> task<> {
        auto which = co_await wait_for_signal(first);
        heard = which.value_or(0);
    };
    auto body = [&]() -> task<int> {
        plait::detail::environment& env = co_await plait::detail::this_environment();
        auto pair = co_await support::connected();
        int heard = 0;
        plait::task_group group;
        group.spawn(wait, std::ref(heard));
        support::foreign receiver = support::carry(receive(pair.left));
        receiver.start(env);
        co_await turns(3);
        support::send_signal(first);
        receiver.destroy(); // waits for the system, which wakes it for the signal, too
        co_await group.join();
        co_return heard;
    };
    CHECK(plait::run(body()) == first);
}

TEST_CASE("every waiter hears the same signal, and only those that wait for it", "[signal]") {
    auto body = []() -> task<> {
        std::vector<int> heard;
        std::error_code other_end;
        auto waiting = [&](signal_list signals) -> task<> {
            auto which = co_await wait_for_signal(signals);
            heard.push_back(which.value_or(-1));
        };
        auto other_waiter = [&]() -> task<> { other_end = (co_await wait_for_signal(second)).error(); };
        plait::task_group group, others;
        for (int i = 0; i < 5; ++i) group.spawn(waiting, signal_list(first));
        for (int i = 0; i < 5; ++i) group.spawn(waiting, signal_list(first, second));
        others.spawn(other_waiter);
        co_await turns(3);
        support::send_signal(first);
        co_await group.join();
        CHECK(heard == std::vector<int>(10, first));
        others.request_stop();
        co_await others.join();
        CHECK(other_end == errc::canceled);
    };
    plait::run(body());
}

TEST_CASE("a signal is heard once, and the next wait hears the next one", "[signal]") {
    auto body = []() -> task<> {
        for (int i = 0; i < 20; ++i) {
            const int heard = co_await hear(first, first);
            CHECK(heard == first);
            auto none = co_await plait::with_timeout(wait_for_signal(first), 0ms);
            CHECK(none.error() == errc::timed_out);
        }
    };
    plait::run(body());
}

TEST_CASE("a wait for a signal can be cancelled and timed out", "[signal]") {
    auto body = []() -> task<> {
        auto timed = co_await plait::with_timeout(wait_for_signal(second), 1ms);
        CHECK(timed.error() == errc::timed_out);
        auto won = co_await plait::when_any(wait_for_signal(second), turns(3));
        CHECK(won.index == 1);
        CHECK(std::get<0>(won.results)->error() == errc::canceled);
        auto cancelled = []() -> task<> {
            static_cast<void>(co_await plait::sleep_for(1h));
            auto unstarted = co_await wait_for_signal(second);
            CHECK(unstarted.error() == errc::canceled);
        };
        auto ended = co_await plait::with_timeout(cancelled(), 0ms);
        CHECK(ended.error() == errc::timed_out);
    };
    plait::run(body());
}

TEST_CASE("two contexts on two threads both hear a signal", "[signal]") {
    std::atomic<int> ready{0}, heard{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i)
        threads.emplace_back([&] {
            auto body = [&]() -> task<> {
                auto waiting = [&]() -> task<> {
                    auto which = co_await wait_for_signal(first);
                    if (which.value_or(0) == first) ++heard;
                };
                plait::task_group group;
                group.spawn(waiting);
                co_await turns(3);
                ++ready;
                co_await group.join();
            };
            plait::run(body());
        });
    while (ready < 2) std::this_thread::yield();
    support::send_signal_to_process(first);
    for (auto& each : threads) each.join();
    CHECK(heard == 2);
}

TEST_CASE("what is no signal is invalid, and the others of the list are let go", "[signal]") {
    auto body = []() -> task<> {
        for (int number : {0, -1, 65, 100'000}) {
            auto alone = co_await wait_for_signal(number);
            CHECK(alone.error() == std::errc::invalid_argument);
            auto in_a_list = co_await wait_for_signal({first, number});
            CHECK(in_a_list.error() == std::errc::invalid_argument);
            auto in_front = co_await wait_for_signal({number, first});
            CHECK(in_front.error() == std::errc::invalid_argument);
        }
        const int heard = co_await hear(first, first);
        CHECK(heard == first);
    };
    plait::run(body());
}

TEST_CASE("a list knows its numbers", "[signal]") {
    constexpr signal_list none, one(1), four(1, 2, 3, 4);
    STATIC_CHECK(none.empty());
    STATIC_CHECK_FALSE(one.empty());
    STATIC_CHECK(four.numbers().size() == 4);
    STATIC_CHECK(four.numbers()[3] == 4);
}

// --- requests for dumps --------------------------------------------------------------------------------------------

TEST_CASE("each request for a dump is told to each context that waits for one", "[signal]") {
    constexpr std::size_t contexts = 3;
    constexpr int requests = 5;
    std::array<std::atomic<int>, contexts> told{};
    std::atomic<std::size_t> ready{0};
    std::vector<std::thread> threads;
    for (std::atomic<int>& count : told)
        threads.emplace_back([&count, &ready] {
            auto answer = [&]() -> task<> {
                while (count < requests) {
                    auto asked = co_await plait::wait_for_dump_request();
                    if (!asked) break;
                    ++count;
                }
            };
            auto body = [&]() -> task<> {
                plait::task_group group;
                group.spawn(answer);
                co_await turns(3);
                ++ready;
                co_await group.join();
            };
            plait::run(body());
        });
    while (ready < contexts) std::this_thread::yield();
    for (int i = 1; i <= requests; ++i) {
        support::send_signal_to_process(support::dump_signal());
        for (const std::atomic<int>& count : told)
            while (count < i) std::this_thread::yield();
    }
    for (auto& each : threads) each.join();
    for (const std::atomic<int>& count : told) CHECK(count == requests);
}

TEST_CASE("requests that come while nobody waits end the next wait, and are one", "[signal]") {
    auto body = []() -> task<> {
        int told = 0;
        auto answer = [&]() -> task<> {
            while (co_await plait::wait_for_dump_request()) ++told;
        };
        {
            plait::task_group group;
            group.spawn(answer);
            co_await turns(3);
            support::send_signal(support::dump_signal());
            while (told < 1) co_await plait::yield();
            group.request_stop();
            co_await group.join();
        }
        support::send_signal(support::dump_signal()); // does not end the process
        support::send_signal(support::dump_signal());
        auto asked = co_await plait::wait_for_dump_request();
        CHECK(asked);
        plait::task_group group;
        group.spawn(answer);
        group.spawn(answer);
        co_await turns(5);
        CHECK(told == 1);
        support::send_signal(support::dump_signal());
        while (told < 3) co_await plait::yield();
        group.request_stop();
        co_await group.join();
        CHECK(told == 3);
    };
    plait::run(body());
}
