// Contexts side by side: their results, their exceptions, and what options they have.

#include <plait/per_core.hpp>
#include <plait/time.hpp>

#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using plait::errc;
using plait::io_context;
using plait::io_result;
using plait::run_per_core;
using plait::task;

namespace {

/// What the contexts of one run leave behind.
class seen {
  public:
    void note(std::size_t index, const io_context& context) {
        std::lock_guard lock(mutex_);
        indices_.insert(index);
        threads_.insert(std::this_thread::get_id());
        contexts_.insert(&context);
    }
    std::multiset<std::size_t> indices() const { return indices_; }
    std::size_t threads() const { return threads_.size(); }
    std::size_t contexts() const { return contexts_.size(); }
    bool here() const { return threads_.count(std::this_thread::get_id()) == 1; }

  private:
    std::mutex mutex_;
    std::multiset<std::size_t> indices_;
    std::set<std::thread::id> threads_;
    std::set<const io_context*> contexts_;
};

} // namespace

TEST_CASE("each context has a thread and an index of its own, and the calling thread has one", "[per_core]") {
    seen all;
    std::atomic<int> running{0};
    run_per_core(3, [&](std::size_t index) -> task<> {
        all.note(index, co_await plait::this_context());
        ++running;
        while (running < 3) co_await plait::yield(); // all at once
    });
    CHECK(all.indices() == std::multiset<std::size_t>{0, 1, 2});
    CHECK(all.threads() == 3);
    CHECK(all.contexts() == 3);
    CHECK(all.here());
}

TEST_CASE("a function without a parameter will do", "[per_core]") {
    std::atomic<int> calls{0};
    run_per_core(2, [&]() -> task<> {
        ++calls;
        co_return;
    });
    CHECK(calls == 2);
}

TEST_CASE("as many contexts as cores for 0", "[per_core]") {
    std::atomic<unsigned> calls{0};
    run_per_core(0, [&]() -> task<> {
        ++calls;
        co_return;
    });
    CHECK(calls == std::max(1u, std::thread::hardware_concurrency()));
}

TEST_CASE("the results come in the order of the indices", "[per_core]") {
    const std::vector<std::string> words = run_per_core(3, [](std::size_t index) -> task<std::string> {
        if (index == 0) co_await plait::yield(); // the first one is the last to end, or not
        co_return std::to_string(index);
    });
    CHECK(words == std::vector<std::string>{"0", "1", "2"});

    const auto results = run_per_core(2, [](std::size_t index) -> task<io_result<void>> {
        if (index == 1) co_return errc::timed_out;
        co_return io_result<void>();
    });
    REQUIRE(results.size() == 2);
    CHECK(results[0]);
    CHECK(results[1].error() == errc::timed_out);

    const std::vector<bool> odd =
        run_per_core(2, [](std::size_t index) -> task<bool> { co_return index == 1; });
    CHECK(odd == std::vector<bool>{false, true});
}

TEST_CASE("the function may be a plain one that makes a task", "[per_core]") {
    std::atomic<std::size_t> sum{0};
    auto add = [&sum](std::size_t index) -> task<> {
        sum += index;
        co_return;
    };
    run_per_core(4, [add](std::size_t index) { return add(index); });
    CHECK(sum == 0 + 1 + 2 + 3);
}

TEST_CASE("every context is made with the options", "[per_core]") {
    std::stop_source stop;
    std::atomic<int> waiting{0};
    auto options = plait::context_options().stop(stop.get_token());
    const auto results = run_per_core(
        2,
        [&]() -> task<io_result<void>> {
            if (++waiting == 2) stop.request_stop();
            auto slept = co_await plait::sleep_for(1h);
            co_return slept;
        },
        options);
    for (const auto& each : results) CHECK(each.error() == errc::canceled);
}

TEST_CASE("a context posts to another one", "[per_core]") {
    std::atomic<io_context*> first{nullptr};
    std::thread::id thread_of_first, thread_of_post;
    run_per_core(2, [&](std::size_t index) -> task<> {
        if (index == 1) {
            while (!first) co_await plait::yield();
            io_context* const to = first;
            to->post([&, to] {
                thread_of_post = std::this_thread::get_id();
                to->request_stop();
            });
            co_return;
        }
        thread_of_first = std::this_thread::get_id();
        first = &co_await plait::this_context();
        static_cast<void>(co_await plait::sleep_for(1h));
    });
    CHECK(thread_of_first == std::this_thread::get_id());
    CHECK(thread_of_post == thread_of_first);
}

#if PLAIT_HAS_EXCEPTIONS
TEST_CASE("the first exception stops the other contexts and comes out", "[per_core]") {
    for (std::size_t thrower : {0u, 1u}) {
        std::atomic<int> waiting{0}, cancelled{0};
        std::string message;
        try {
            run_per_core(3, [&](std::size_t index) -> task<> {
                if (index == thrower) {
                    while (waiting < 2) co_await plait::yield();
                    throw std::runtime_error("from " + std::to_string(index));
                }
                ++waiting;
                auto slept = co_await plait::sleep_for(1h);
                if (slept.error() == errc::canceled) ++cancelled;
            });
        } catch (const std::runtime_error& error) {
            message = error.what();
        }
        CHECK(message == "from " + std::to_string(thrower));
        CHECK(cancelled == 2);
    }
}

TEST_CASE("an exception of a function that makes no task is one like any other", "[per_core]") {
    auto thrower = [](std::size_t index) -> task<> {
        if (index == 1) throw std::runtime_error("no task");
        auto wait = []() -> task<> { static_cast<void>(co_await plait::sleep_for(1h)); };
        return wait();
    };
    CHECK_THROWS_AS(run_per_core(2, thrower), std::runtime_error);
}

TEST_CASE("a backend that this machine lacks is an exception of run_per_core", "[per_core]") {
    const bool windows = io_context().backend() == plait::backend::iocp;
    const auto missing = windows ? plait::backend::epoll : plait::backend::iocp;
    int calls = 0;
    auto count = [&]() -> task<> {
        ++calls;
        co_return;
    };
    CHECK_THROWS_AS(run_per_core(2, count, plait::context_options().backend(missing)), std::system_error);
    CHECK(calls == 0);
}
#endif
