#include <plait/io_context.hpp>
#include <plait/sync.hpp>
#include <plait/task_group.hpp>
#include <plait/time.hpp>
#include <plait/when.hpp>

#include "support/cancellable.hpp"
#include "support/scale.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

using namespace std::chrono_literals;
using plait::errc;
using plait::io_result;
using plait::mutex;
using plait::task;
using support::cancellable;
using support::foreign;
using support::let_run;
using support::scaled;

namespace {

constexpr auto never = std::chrono::hours(24);

/// "a(" when it has the lock, "a)" when it gives it back, "ax" when it was cancelled.
foreign hold(mutex& lock, std::string& trace, std::string name, std::size_t turns = 0) {
    auto held = co_await lock.lock();
    if (!held) {
        trace += name + (held.error() == errc::canceled ? "x" : "?");
        co_return;
    }
    trace += name + "(";
    for (std::size_t i = 0; i < turns; ++i) co_await plait::yield();
    trace += name + ")";
}

task<> hold_in_task(mutex& lock, std::string& trace, std::string name) {
    auto held = co_await lock.lock();
    trace += name + (held ? "(" : "x");
    co_await plait::yield();
    if (held) trace += name + ")";
}

} // namespace

static_assert(!std::is_copy_constructible_v<mutex> && !std::is_move_constructible_v<mutex>);
static_assert(!std::is_copy_constructible_v<mutex::guard>);
static_assert(std::is_nothrow_move_constructible_v<mutex::guard>);
static_assert(std::is_nothrow_move_assignable_v<mutex::guard>);
static_assert(std::is_same_v<plait::detail::await_result_t<decltype(std::declval<mutex&>().lock())>,
                             io_result<mutex::guard>>);

TEST_CASE("a mutex lets one task in at a time, in the order in which they came", "[mutex]") {
    std::string trace;
    mutex lock;
    auto body = [&]() -> task<> {
        plait::task_group group;
        for (const char* name : {"a", "b", "c"})
            group.spawn(hold_in_task, std::ref(lock), std::ref(trace), std::string(name));
        co_await group.join();
    };
    plait::run(body());
    CHECK(trace == "a(a)b(b)c(c)");
    CHECK_FALSE(lock.is_locked());
}

TEST_CASE("locking a free mutex completes without suspending", "[mutex]") {
    std::string trace;
    auto body = [&]() -> task<> {
        mutex lock;
        plait::task_group group;
        group.spawn(hold_in_task, std::ref(lock), std::ref(trace), std::string("a"));
        for (int i = 0; i < 3; ++i) {
            auto held = co_await lock.lock();
            CHECK(held);
            CHECK(lock.is_locked());
        }
        CHECK_FALSE(lock.is_locked());
        CHECK(trace.empty());
        co_await group.join();
    };
    plait::run(body());
}

TEST_CASE("unlocking hands the lock over: nobody who comes later overtakes, and nobody is resumed inside",
          "[mutex]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        mutex lock;
        auto held = co_await lock.lock();
        cancellable a(hold(lock, trace, "a"), env);
        CHECK(trace.empty());
        held->unlock();
        CHECK(trace.empty());
        CHECK(lock.is_locked());
        cancellable late(hold(lock, trace, "b"), env); // the lock is a's, who has not run yet
        auto again = co_await lock.lock();
        CHECK(trace == "a(a)b(b)");
        CHECK(again);
    };
    plait::run(body());
}

TEST_CASE("a guard can be moved, unlocked early, and is empty then", "[mutex]") {
    auto body = [&]() -> task<> {
        mutex first, second;
        mutex::guard kept;
        CHECK_FALSE(kept);
        kept.unlock();
        {
            auto [error, held] = co_await first.lock();
            CHECK_FALSE(error);
            CHECK(held);
            kept = std::move(held);
            CHECK_FALSE(held);
        }
        CHECK(kept);
        CHECK(first.is_locked());
        auto other = co_await second.lock();
        kept = std::move(*other);
        CHECK_FALSE(first.is_locked());
        CHECK(second.is_locked());
        kept.unlock();
        CHECK_FALSE(kept);
        CHECK_FALSE(second.is_locked());
        kept.unlock();
        auto& same = kept;
        auto third = co_await first.lock();
        kept = std::move(*third);
        kept = std::move(same);
        CHECK(first.is_locked());
    };
    plait::run(body());
}

TEST_CASE("a cancelled lock ends as canceled and lets the next one through", "[mutex]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        mutex lock;
        auto held = co_await lock.lock();
        cancellable a(hold(lock, trace, "a"), env);
        cancellable b(hold(lock, trace, "b"), env);
        a.cancel();
        held->unlock(); // in the same turn
        co_await let_run();
        CHECK(trace == "axb(b)");
        CHECK_FALSE(lock.is_locked());
    };
    plait::run(body());
}

TEST_CASE("a lock that was handed over before the cancellation is delivered, and passed on after that",
          "[mutex]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        mutex lock;
        auto held = co_await lock.lock();
        cancellable a(hold(lock, trace, "a"), env);
        cancellable b(hold(lock, trace, "b"), env);
        held->unlock();
        a.cancel();
        co_await let_run(2);
        CHECK(trace == "a(a)b(b)");
        CHECK_FALSE(lock.is_locked());
    };
    plait::run(body());
}

TEST_CASE("a coroutine may be destroyed while it waits for a lock, was handed it, or holds it", "[mutex]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        mutex lock;
        auto held = co_await lock.lock();
        std::deque<cancellable> waits;
        for (const char* name : {"a", "b", "c", "d", "e"})
            waits.emplace_back(hold(lock, trace, name, 100), env);
        waits[0].destroy(); // it waits
        held->unlock();
        waits[1].destroy(); // it was handed the lock
        CHECK(lock.is_locked());
        co_await let_run();
        CHECK(trace == "c(");
        waits[2].destroy(); // it holds it
        co_await let_run();
        CHECK(trace == "c(d(");
        waits[4].destroy();
        waits[3].destroy();
        CHECK_FALSE(lock.is_locked());
    };
    plait::run(body());
}

TEST_CASE("in a cancelled scope a lock fails unstarted, even if it is free", "[mutex]") {
    std::string trace;
    mutex lock;
    auto body = [&]() -> task<> {
        plait::task_group group;
        group.spawn(hold_in_task, std::ref(lock), std::ref(trace), std::string("a"));
        group.request_stop();
        co_await group.join();
        CHECK_FALSE(lock.is_locked());
        auto shielded = [&]() -> task<> {
            auto held = co_await plait::shielded(lock.lock(), never);
            trace += held && lock.is_locked() ? "s+" : "sx";
        };
        group.spawn(shielded);
        group.request_stop();
        co_await group.join();
    };
    plait::run(body());
    CHECK(trace == "axs+");
    CHECK_FALSE(lock.is_locked());
}

TEST_CASE("destroying a mutex ends the waits for it as canceled and empties its guard", "[mutex]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        auto lock = std::make_unique<mutex>();
        auto held = co_await lock->lock();
        cancellable a(hold(*lock, trace, "a"), env);
        cancellable b(hold(*lock, trace, "b"), env);
        mutex::guard moved = std::move(*held);
        lock.reset();
        CHECK_FALSE(moved);
        co_await let_run();
        CHECK(trace == "axbx");

        lock = std::make_unique<mutex>();
        auto again = co_await lock->lock();
        cancellable c(hold(*lock, trace, "c"), env);
        cancellable d(hold(*lock, trace, "d"), env);
        again->unlock();
        lock.reset(); // it was handed to c
        co_await let_run();
        CHECK(trace == "axbxcxdx");
    };
    plait::run(body());
}

TEST_CASE("with_timeout and when_any limit a lock, and the mutex is free afterwards", "[mutex]") {
    auto body = [&]() -> task<> {
        mutex lock, other;
        auto held = co_await lock.lock();
        auto late = co_await plait::with_timeout(lock.lock(), 1ms);
        CHECK(late.error() == errc::timed_out);
        auto first = co_await plait::when_any(lock.lock(), other.lock());
        CHECK(first.index == 1);
        CHECK(other.is_locked()); // the result is in `first`
        auto mine = std::move(std::get<1>(first.results)).value();
        mine->unlock();
        held->unlock();
        CHECK_FALSE(lock.is_locked());
        auto both = co_await plait::when_all(lock.lock(), other.lock());
        CHECK(std::get<0>(both));
        CHECK(std::get<1>(both));
        CHECK(lock.is_locked());
        CHECK(other.is_locked());
    };
    plait::run(body());
}

#if PLAIT_HAS_EXCEPTIONS
TEST_CASE("an exception gives the lock back", "[mutex]") {
    std::string trace;
    mutex lock;
    auto body = [&]() -> task<> {
        auto throws = [&]() -> task<> {
            auto held = co_await lock.lock();
            co_await plait::yield();
            throw std::runtime_error("no");
        };
        plait::task_group group;
        group.spawn(throws);
        group.spawn(hold_in_task, std::ref(lock), std::ref(trace), std::string("a"));
        bool thrown = false;
        try {
            co_await group.join();
        } catch (const std::runtime_error&) {
            thrown = true;
        }
        CHECK(thrown);
    };
    plait::run(body());
    CHECK_FALSE(lock.is_locked());
}

TEST_CASE("an exception may unwind a mutex, its guard and the tasks that wait for it, in any order",
          "[mutex]") {
    std::string trace;
    auto body = [&]() -> task<> {
        plait::task_group outer; // goes last
        mutex lock;
        auto held = co_await lock.lock();
        outer.spawn(hold_in_task, std::ref(lock), std::ref(trace), std::string("a"));
        co_await let_run(2);
        throw std::runtime_error("no");
    };
    CHECK_THROWS_AS(plait::run(body()), std::runtime_error);
    CHECK(trace.find('(') == std::string::npos);
}
#endif

TEST_CASE("a free mutex may be used by the next context", "[mutex]") {
    mutex lock;
    std::string trace;
    for (int i = 0; i < 3; ++i) plait::run(hold_in_task(lock, trace, "a"));
    CHECK(trace == "a(a)a(a)a(a)");
}

TEST_CASE("locks that are taken, cancelled and destroyed at random keep one holder and the order",
          "[mutex]") {
    struct books {
        int holders = 0;
        std::size_t last = 0; ///< who got the lock last
        std::size_t taken = 0, cancelled = 0, destroyed = 0, wrong = 0;
    };
    struct local {
        static foreign hold(mutex& lock, books& notes, std::size_t number, std::size_t turns) {
            auto held = co_await lock.lock();
            if (!held) {
                ++notes.cancelled;
                notes.wrong += held.error() != errc::canceled;
                co_return;
            }
            struct inside {
                books& notes;
                explicit inside(books& b) : notes(b) { notes.wrong += ++notes.holders != 1; }
                ~inside() { --notes.holders; }
            } here(notes);
            ++notes.taken;
            notes.wrong += number <= notes.last;
            notes.last = number;
            for (std::size_t i = 0; i < turns; ++i) co_await plait::yield();
        }
    };
    books total;
    auto body = [&](std::uint64_t seed) -> task<> {
        std::mt19937_64 random(seed);
        auto& env = co_await plait::detail::this_environment();
        mutex lock;
        books notes;
        std::deque<std::unique_ptr<cancellable>> alive;
        std::size_t number = 0;
        for (int step = 0; step < 300; ++step) {
            const std::size_t chosen = alive.empty() ? 0 : random() % alive.size();
            switch (random() % 8) {
            case 0:
            case 1:
            case 2:
                ++number;
                alive.push_back(
                    std::make_unique<cancellable>(local::hold(lock, notes, number, random() % 3), env));
                break;
            case 3:
                if (!alive.empty()) alive[chosen]->cancel();
                break;
            case 4:
                if (alive.empty()) break;
                notes.destroyed += !alive[chosen]->done();
                alive[chosen]->destroy();
                break;
            default: co_await let_run();
            }
            std::erase_if(alive, [](const auto& each) { return each->done(); });
        }
        // Whatever was done to the others, those that are left all get it.
        for (std::size_t turns = 0; !alive.empty() && turns < 10'000; ++turns) {
            co_await let_run();
            std::erase_if(alive, [](const auto& each) { return each->done(); });
        }
        notes.wrong += !alive.empty();
        notes.wrong += lock.is_locked();
        notes.wrong += notes.taken + notes.cancelled > number;
        notes.wrong += notes.taken + notes.cancelled + notes.destroyed < number;
        total.taken += notes.taken;
        total.cancelled += notes.cancelled;
        total.destroyed += notes.destroyed;
        total.wrong += notes.wrong;
    };
    for (std::size_t seed = 0; seed < scaled(300); ++seed) plait::run(body(seed));
    CHECK(total.wrong == 0);
    CHECK(total.taken > 0);
    CHECK(total.cancelled > 0);
    CHECK(total.destroyed > 0);
}
