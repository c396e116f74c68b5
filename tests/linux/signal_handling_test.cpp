// What waiting for signals does to their handlers: sigaction(2).

#include <plait/io_context.hpp>
#include <plait/signal.hpp>
#include <plait/task_group.hpp>
#include <plait/time.hpp>

#include "support/hear.hpp"
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
using plait::task;
using plait::wait_for_signal;
using support::hear;
using support::turns;

namespace {

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

TEST_CASE("a wait that timed out has given the default action back", "[signal]") {
    auto body = []() -> task<> {
        auto timed = co_await plait::with_timeout(wait_for_signal(SIGUSR2), 1ms);
        CHECK(timed.error() == errc::timed_out);
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
            for (std::size_t round = 0; round < support::scaled(100); ++round) plait::run(body());
        });
    for (auto& each : threads) each.join();
    over = true;
    rain.join();
    ::sigaction(SIGUSR1, &before, nullptr);
}
