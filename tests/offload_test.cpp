#include <plait/io_context.hpp>
#include <plait/offload.hpp>
#include <plait/task_group.hpp>
#include <plait/time.hpp>

#include "support/foreign.hpp"
#include "support/scale.hpp"
#include "support/tracked.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using plait::task;
using support::scaled;
using support::tally;
using support::tracked;

namespace {

/// Holds up threads until it is opened. Shared with calls that may outlive the test's frame.
class gate {
  public:
    void open() {
        std::lock_guard lock(mutex_);
        open_ = true;
        changed_.notify_all();
    }
    void pass() {
        std::unique_lock lock(mutex_);
        ++arrived_;
        changed_.wait(lock, [this] { return open_; });
        ++passed_;
    }
    int arrived() {
        std::lock_guard lock(mutex_);
        return arrived_;
    }
    int passed() {
        std::lock_guard lock(mutex_);
        return passed_;
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool open_ = false;
    int arrived_ = 0;
    int passed_ = 0;
};

task<> until_arrived(gate& where, int count) {
    while (where.arrived() < count) static_cast<void>(co_await plait::sleep_for(1ms));
}

} // namespace

TEST_CASE("offload gives the call's result", "[offload]") {
    auto body = [&]() -> task<> {
        const int sum = co_await plait::offload([](int a, int b) { return a + b; }, 2, 3);
        CHECK(sum == 5);
        auto text = co_await plait::offload([] { return std::string("text"); });
        CHECK(text == "text");
        auto movable = co_await plait::offload([] { return std::make_unique<int>(7); });
        CHECK(*movable == 7);
        bool called = false;
        co_await plait::offload([&] { called = true; });
        CHECK(called);
    };
    plait::run(body());
}

TEST_CASE("offload calls on another thread and comes back to the task's", "[offload]") {
    auto body = [&]() -> task<> {
        const auto here = std::this_thread::get_id();
        const auto there = co_await plait::offload([] { return std::this_thread::get_id(); });
        CHECK(there != here);
        CHECK(std::this_thread::get_id() == here);
    };
    plait::run(body());
}

TEST_CASE("offload takes callables and arguments that can only be moved, and destroys them", "[offload]") {
    tally counts;
    auto body = [&]() -> task<> {
        auto add = [owned = std::make_unique<int>(4)](std::unique_ptr<int> given) { return *owned + *given; };
        const int n = co_await plait::offload(std::move(add), std::make_unique<int>(5));
        CHECK(n == 9);
        auto call = [](tracked held) { return held.value; };
        const int value = co_await plait::offload(call, tracked(counts, 6));
        CHECK(value == 6);
    };
    plait::run(body());
    CHECK(counts.copies == 0);
    CHECK(counts.live == 0);
}

TEST_CASE("offload does nothing until it is awaited", "[offload]") {
    std::atomic<bool> called{false};
    {
        auto unstarted = plait::offload([&] { called = true; });
    }
    auto body = [&]() -> task<> { static_cast<void>(co_await plait::sleep_for(1ms)); };
    plait::run(body());
    CHECK_FALSE(called);
}

#if PLAIT_HAS_EXCEPTIONS
TEST_CASE("offload rethrows what the call threw", "[offload]") {
    auto body = [&]() -> task<> {
        std::string message;
        try {
            static_cast<void>(
                co_await plait::offload([]() -> int { throw std::runtime_error("from the helper"); }));
        } catch (const std::runtime_error& error) {
            message = error.what();
        }
        CHECK(message == "from the helper");
    };
    plait::run(body());
}
#endif

TEST_CASE("calls that one task awaits in turn run in turn", "[offload]") {
    std::vector<int> order;
    auto body = [&]() -> task<> {
        for (int i = 0; i < 100; ++i) co_await plait::offload([&order, i] { order.push_back(i); });
    };
    plait::run(body());
    CHECK(order.size() == 100);
    CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("the loop goes on while calls block, and each blocked call has a thread of its own", "[offload]") {
    constexpr int calls = 16;
    auto shared = std::make_shared<gate>();
    int finished = 0;
    auto call = [shared] { shared->pass(); };
    auto caller = [&]() -> task<> {
        co_await plait::offload(call);
        ++finished;
    };
    auto body = [&]() -> task<> {
        plait::task_group group;
        for (int i = 0; i < calls; ++i) group.spawn(caller);
        co_await until_arrived(*shared, calls); // all at once: none waits for another
        CHECK(finished == 0);
        const int quick = co_await plait::offload([] { return 1; });
        CHECK(quick == 1);
        shared->open();
        co_await group.join();
        CHECK(finished == calls);
    };
    plait::run(body());
}

TEST_CASE("many calls complete, each once", "[offload]") {
    const std::size_t count = scaled(2000);
    std::atomic<std::size_t> called{0};
    std::size_t sum = 0;
    auto caller = [&](std::size_t n) -> task<> {
        sum += co_await plait::offload([&called, n] {
            ++called;
            return n;
        });
    };
    auto body = [&]() -> task<> {
        plait::task_group group;
        for (std::size_t i = 0; i < count; ++i) {
            group.spawn(caller, i);
            if (group.size() >= 32) co_await group.join(); // each may have a thread of its own
        }
        co_await group.join();
    };
    plait::run(body());
    CHECK(called == count);
    CHECK(sum == count * (count - 1) / 2);
}

TEST_CASE("contexts on several threads offload at the same time", "[offload]") {
    std::atomic<int> right{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&right, i] {
            auto body = [&]() -> task<> {
                for (int n = 0; n < 50; ++n) {
                    const int got = co_await plait::offload([i, n] { return i * 1000 + n; });
                    if (got == i * 1000 + n) ++right;
                }
            };
            plait::run(body());
        });
    for (auto& each : threads) each.join();
    CHECK(right == 200);
}

TEST_CASE("a call under way is not cancelled: its result is delivered", "[offload]") {
    auto shared = std::make_shared<gate>();
    auto call = [shared] {
        shared->pass();
        return 8;
    };
    auto body = [&]() -> task<> {
        int result = 0;
        auto caller = [&]() -> task<> { result = co_await plait::offload(call); };
        plait::task_group group;
        group.spawn(caller);
        co_await until_arrived(*shared, 1);
        group.request_stop();
        for (int i = 0; i < 5; ++i) co_await plait::yield();
        CHECK(group.size() == 1);
        shared->open();
        co_await group.join();
        CHECK(result == 8);
    };
    plait::run(body());
}

TEST_CASE("a task may be destroyed while its call runs; the call goes on and its result is dropped",
          "[offload]") {
    auto shared = std::make_shared<gate>();
    std::weak_ptr<gate> alive = shared;
    auto body = [&]() -> task<> {
        auto& here = co_await plait::detail::this_environment();
        auto call = [shared] {
            shared->pass();
            return std::string("nobody wants it");
        };
        auto caller = [&]() -> task<> { static_cast<void>(co_await plait::offload(call)); };
        auto owner = support::carry(caller());
        owner.start(here);
        co_await until_arrived(*shared, 1);
        owner.destroy();
        CHECK(shared->passed() == 0);
        shared->open();
        while (shared->passed() == 0) static_cast<void>(co_await plait::sleep_for(1ms));
    };
    plait::run(body());
    // The call's copy of the pointer goes with the call.
    shared.reset();
    while (!alive.expired()) std::this_thread::sleep_for(1ms);
    CHECK(alive.expired());
}

TEST_CASE("a call may outlast its context", "[offload]") {
    auto shared = std::make_shared<gate>();
    std::weak_ptr<gate> alive = shared;
    {
        plait::io_context context;
        auto body = [&]() -> task<> {
            auto& here = co_await plait::detail::this_environment();
            auto call = [shared] { shared->pass(); };
            auto caller = [&]() -> task<> { co_await plait::offload(call); };
            auto owner = support::carry(caller());
            owner.start(here);
            co_await until_arrived(*shared, 1);
        };
        context.run(body());
    }
    shared->open();
    shared.reset();
    while (!alive.expired()) std::this_thread::sleep_for(1ms);
    CHECK(alive.expired());
}

TEST_CASE("a call may return a reference", "[offload]") {
    int value = 1;
    auto body = [&]() -> task<> {
        auto refer = [](int& to) -> int& { return to; };
        int& same = co_await plait::offload(refer, std::ref(value));
        CHECK(&same == &value);
    };
    plait::run(body());
}
