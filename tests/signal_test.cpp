#include <plait/io_context.hpp>
#include <plait/signal.hpp>
#include <plait/task_group.hpp>
#include <plait/time.hpp>
#include <plait/when.hpp>

#include "support/scale.hpp"
#include "support/streams.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using plait::errc;
using plait::signal_list;
using plait::task;
using plait::wait_for_signal;
using support::scaled;
using support::turns;

namespace {

/// Waits, and sends itself the signal once it does.
task<int> hear(signal_list signals, int sent) {
    int heard = 0;
    auto waiting = [&]() -> task<> { heard = (co_await wait_for_signal(signals)).value_or(-1); };
    auto sending = [&]() -> task<> {
        co_await turns(3);
        static_cast<void>(::raise(sent));
    };
    plait::task_group group;
    group.spawn(waiting);
    group.spawn(sending);
    co_await group.join();
    co_return heard;
}

/// Runs `f` in a child process; its wait status. A child that returns from `f` exits with 0.
template <class F>
int status_of_child(F f) {
    const pid_t child = ::fork();
    if (child == 0) {
        f();
        ::_exit(0);
    }
    int status = -1;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

struct sigaction action_of(int signal) {
    struct sigaction action {};
    ::sigaction(signal, nullptr, &action);
    return action;
}

extern "C" void ignore_signal(int) {}

} // namespace

TEST_CASE("wait_for_signal gives the number of the signal that came", "[signal]") {
    CHECK(plait::run(hear(SIGTERM, SIGTERM)) == SIGTERM);
    CHECK(plait::run(hear({SIGINT, SIGTERM}, SIGINT)) == SIGINT);
    CHECK(plait::run(hear({SIGINT, SIGTERM}, SIGTERM)) == SIGTERM);
    CHECK(plait::run(hear({SIGINT, SIGTERM, SIGHUP}, SIGHUP)) == SIGHUP);
    CHECK(plait::run(hear({SIGINT, SIGTERM, SIGHUP, SIGUSR1}, SIGUSR1)) == SIGUSR1);
    CHECK(plait::run(hear({SIGTERM, SIGTERM}, SIGTERM)) == SIGTERM);
}

TEST_CASE("a signal from another thread wakes a loop that sleeps", "[signal]") {
    for (std::size_t i = 0; i < scaled(100); ++i) {
        std::thread sender;
        auto body = [&]() -> task<int> {
            auto waiting = wait_for_signal({SIGUSR1, SIGUSR2});
            plait::task_group group;
            auto send = [&]() -> task<> {
                co_await turns(static_cast<int>(i % 3));
                sender = std::thread([&] { ::kill(::getpid(), i % 2 == 0 ? SIGUSR1 : SIGUSR2); });
            };
            group.spawn(send);
            auto which = co_await waiting;
            co_await group.join();
            co_return which.value();
        };
        CHECK(plait::run(body()) == (i % 2 == 0 ? SIGUSR1 : SIGUSR2));
        sender.join();
    }
}

TEST_CASE("every waiter hears the same signal, and only those that wait for it", "[signal]") {
    auto body = []() -> task<> {
        std::vector<int> heard;
        std::error_code other_end;
        auto waiting = [&](signal_list signals) -> task<> {
            auto which = co_await wait_for_signal(signals);
            heard.push_back(which.value_or(-1));
        };
        auto other = [&]() -> task<> { other_end = (co_await wait_for_signal(SIGUSR2)).error(); };
        plait::task_group group, others;
        for (int i = 0; i < 5; ++i) group.spawn(waiting, signal_list(SIGUSR1));
        for (int i = 0; i < 5; ++i) group.spawn(waiting, signal_list(SIGUSR1, SIGUSR2));
        others.spawn(other);
        co_await turns(3);
        static_cast<void>(::raise(SIGUSR1));
        co_await group.join();
        CHECK(heard == std::vector<int>(10, SIGUSR1));
        others.request_stop();
        co_await others.join();
        CHECK(other_end == errc::canceled);
    };
    plait::run(body());
}

TEST_CASE("a signal is heard once, and the next wait hears the next one", "[signal]") {
    auto body = []() -> task<> {
        for (int i = 0; i < 20; ++i) {
            const int heard = co_await hear(SIGUSR1, SIGUSR1);
            CHECK(heard == SIGUSR1);
            auto none = co_await plait::with_timeout(wait_for_signal(SIGUSR1), 0ms);
            CHECK(none.error() == errc::timed_out);
        }
    };
    plait::run(body());
}

TEST_CASE("a wait for a signal can be cancelled and timed out", "[signal]") {
    auto body = []() -> task<> {
        auto timed = co_await plait::with_timeout(wait_for_signal(SIGUSR2), 1ms);
        CHECK(timed.error() == errc::timed_out);
        auto first = co_await plait::when_any(wait_for_signal(SIGUSR2), turns(3));
        CHECK(first.index == 1);
        CHECK(std::get<0>(first.results)->error() == errc::canceled);
        auto cancelled = []() -> task<> {
            static_cast<void>(co_await plait::sleep_for(1h));
            auto unstarted = co_await wait_for_signal(SIGUSR2);
            CHECK(unstarted.error() == errc::canceled);
        };
        auto ended = co_await plait::with_timeout(cancelled(), 0ms);
        CHECK(ended.error() == errc::timed_out);
    };
    plait::run(body());
    CHECK(action_of(SIGUSR2).sa_handler == SIG_DFL);
}

TEST_CASE("a wait for a signal that is destroyed lets go of it", "[signal]") {
    for (int i = 0; i < 20; ++i) {
        auto body = []() -> task<> {
            auto waiting = []() -> task<> { static_cast<void>(co_await wait_for_signal(SIGUSR1)); };
            plait::task_group group;
            group.spawn(waiting);
            co_await turns(2);
            CHECK(action_of(SIGUSR1).sa_handler != SIG_DFL);
            group.request_stop();
            co_await group.join();
        };
        plait::run(body());
        CHECK(action_of(SIGUSR1).sa_handler == SIG_DFL);
    }
}

TEST_CASE("what is no signal, or cannot be caught, is invalid, and the others of the list are let go",
          "[signal]") {
    auto body = []() -> task<> {
        for (int number : {0, -1, 65, 100'000, SIGKILL, SIGSTOP}) {
            auto alone = co_await wait_for_signal(number);
            CHECK(alone.error() == std::errc::invalid_argument);
            auto in_a_list = co_await wait_for_signal({SIGUSR1, number});
            CHECK(in_a_list.error() == std::errc::invalid_argument);
            CHECK(action_of(SIGUSR1).sa_handler == SIG_DFL);
            auto in_front = co_await wait_for_signal({number, SIGUSR1});
            CHECK(in_front.error() == std::errc::invalid_argument);
            CHECK(action_of(SIGUSR1).sa_handler == SIG_DFL);
        }
        const int heard = co_await hear(SIGUSR1, SIGUSR1);
        CHECK(heard == SIGUSR1);
    };
    plait::run(body());
}

TEST_CASE("the default action is back when the last wait has ended", "[signal]") {
    const int status = status_of_child([] {
        ::signal(SIGTERM, SIG_DFL); // Catch2 has a handler of its own
        auto body = []() -> task<> {
            const int heard = co_await hear({SIGTERM, SIGINT}, SIGTERM);
            if (heard != SIGTERM) ::_exit(1);
            auto timed = co_await plait::with_timeout(wait_for_signal(SIGTERM), 0ms);
            if (timed.error() != errc::timed_out) ::_exit(2);
        };
        plait::run(body());
        static_cast<void>(::raise(SIGTERM));
        ::_exit(3);
    });
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGTERM);
}

TEST_CASE("a signal keeps its handling as long as one of its waiters is left", "[signal]") {
    const int status = status_of_child([] {
        auto body = []() -> task<> {
            int heard = 0;
            auto longer = [&]() -> task<> { heard = (co_await wait_for_signal(SIGTERM)).value_or(-1); };
            plait::task_group group;
            group.spawn(longer);
            co_await turns(2);
            for (int i = 0; i < 3; ++i) {
                auto shorter = co_await plait::with_timeout(wait_for_signal({SIGTERM, SIGINT}), 0ms);
                if (shorter.error() != errc::timed_out) ::_exit(1);
            }
            static_cast<void>(::raise(SIGTERM));
            co_await group.join();
            if (heard != SIGTERM) ::_exit(2);
        };
        plait::run(body());
    });
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("a program's own handler is put back", "[signal]") {
    struct sigaction mine {};
    mine.sa_handler = ignore_signal;
    struct sigaction before {};
    ::sigaction(SIGUSR1, &mine, &before);
    CHECK(plait::run(hear(SIGUSR1, SIGUSR1)) == SIGUSR1);
    CHECK(action_of(SIGUSR1).sa_handler == ignore_signal);
    ::sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("two contexts on two threads both hear a signal", "[signal]") {
    std::atomic<int> ready{0}, heard{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i)
        threads.emplace_back([&] {
            auto body = [&]() -> task<> {
                auto waiting = [&]() -> task<> {
                    auto which = co_await wait_for_signal(SIGUSR1);
                    if (which.value_or(0) == SIGUSR1) ++heard;
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
    ::kill(::getpid(), SIGUSR1);
    for (auto& each : threads) each.join();
    CHECK(heard == 2);
    CHECK(action_of(SIGUSR1).sa_handler == SIG_DFL);
}

TEST_CASE("contexts come and go while signals rain", "[signal]") {
    struct sigaction mine {};
    mine.sa_handler = ignore_signal; // for the moments without a waiter
    struct sigaction before {};
    ::sigaction(SIGUSR1, &mine, &before);
    std::atomic<bool> over{false};
    std::thread rain([&] {
        while (!over) {
            ::kill(::getpid(), SIGUSR1);
            std::this_thread::yield();
        }
    });
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i)
        threads.emplace_back([] {
            auto body = []() -> task<> { static_cast<void>(co_await wait_for_signal(SIGUSR1)); };
            for (std::size_t round = 0; round < scaled(100); ++round) plait::run(body());
        });
    for (auto& each : threads) each.join();
    over = true;
    rain.join();
    ::sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("a handler leaves errno as it was", "[signal]") {
    auto body = []() -> task<> {
        auto waiting = []() -> task<> { static_cast<void>(co_await wait_for_signal(SIGUSR1)); };
        plait::task_group group;
        group.spawn(waiting);
        co_await turns(3);
        errno = 4711;
        static_cast<void>(::raise(SIGUSR1));
        const int left = errno;
        CHECK(left == 4711);
        co_await group.join();
    };
    plait::run(body());
}

TEST_CASE("a list knows its numbers", "[signal]") {
    constexpr signal_list none, one(SIGINT), four(SIGINT, SIGTERM, SIGHUP, SIGUSR1);
    STATIC_CHECK(none.empty());
    STATIC_CHECK_FALSE(one.empty());
    STATIC_CHECK(four.numbers().size() == 4);
    STATIC_CHECK(four.numbers()[3] == SIGUSR1);
}
