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
#include <string>
#include <thread>
#include <type_traits>

using namespace std::chrono_literals;
using plait::errc;
using plait::event;
using plait::task;
using support::cancellable;
using support::foreign;
using support::let_run;
using support::scaled;

namespace {

constexpr auto never = std::chrono::hours(24);

/// Notes how its wait ended: '+' done, 'x' cancelled, '?' otherwise.
foreign wait_and_note(event& on, std::string& trace, std::string name) {
    auto woken = co_await on.wait();
    trace += name;
    trace += woken ? '+' : woken.error() == errc::canceled ? 'x' : '?';
}

task<> wait_in_task(event& on, std::string& trace, char name) {
    auto woken = co_await on.wait();
    trace += name;
    trace += woken ? '+' : 'x';
}

} // namespace

static_assert(!std::is_copy_constructible_v<event> && !std::is_move_constructible_v<event>);

TEST_CASE("set() reaches everybody who waits, in the order in which they came", "[event]") {
    std::string trace;
    auto body = [&]() -> task<> {
        event ready;
        plait::task_group group;
        for (const char name : {'a', 'b', 'c'})
            group.spawn(wait_in_task, std::ref(ready), std::ref(trace), name);
        co_await let_run(3);
        CHECK(trace.empty());
        CHECK_FALSE(ready.is_set());
        ready.set();
        CHECK(ready.is_set());
        CHECK(trace.empty()); // the loop resumes them, not set()
        co_await group.join();
    };
    plait::run(body());
    CHECK(trace == "a+b+c+");
}

TEST_CASE("waiting for an event that is set completes without suspending", "[event]") {
    bool other_ran = false;
    auto body = [&]() -> task<> {
        event ready;
        ready.set();
        plait::task_group group;
        auto other = [&]() -> task<> {
            other_ran = true;
            co_return;
        };
        group.spawn(other);
        for (int i = 0; i < 3; ++i) {
            auto woken = co_await ready.wait();
            CHECK(woken);
        }
        CHECK_FALSE(other_ran);
        co_await group.join();
    };
    plait::run(body());
    CHECK(other_ran);
}

TEST_CASE("an event stays set until reset(), and can be set again", "[event]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        event ready;
        ready.set();
        ready.set();
        cancellable first(wait_and_note(ready, trace, "a"), env);
        CHECK(trace == "a+");
        ready.reset();
        ready.reset();
        CHECK_FALSE(ready.is_set());
        cancellable second(wait_and_note(ready, trace, "b"), env);
        co_await let_run(2);
        CHECK(trace == "a+");
        ready.set();
        co_await let_run();
        CHECK(trace == "a+b+");
    };
    plait::run(body());
}

TEST_CASE("who was reached by set() is resumed although reset() follows at once", "[event]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        event ready;
        cancellable first(wait_and_note(ready, trace, "a"), env);
        ready.set();
        ready.reset();
        cancellable late(wait_and_note(ready, trace, "b"), env);
        co_await let_run(2);
        CHECK(trace == "a+");
        late.cancel();
        co_await let_run();
        CHECK(trace == "a+bx");
    };
    plait::run(body());
}

TEST_CASE("a cancelled wait for an event ends as canceled, and the others wait on", "[event]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        event ready;
        cancellable a(wait_and_note(ready, trace, "a"), env);
        cancellable b(wait_and_note(ready, trace, "b"), env);
        cancellable c(wait_and_note(ready, trace, "c"), env);
        b.cancel();
        CHECK(trace.empty()); // the loop resumes it, not the cancellation
        co_await let_run();
        CHECK(trace == "bx");
        ready.set();
        c.cancel(); // it was served before
        co_await let_run();
        CHECK(trace == "bxa+c+");
    };
    plait::run(body());
}

TEST_CASE("in a cancelled scope waiting for an event fails unstarted, even if it is set", "[event]") {
    std::string trace;
    auto body = [&]() -> task<> {
        event ready;
        ready.set();
        plait::task_group group;
        group.spawn(wait_in_task, std::ref(ready), std::ref(trace), 'a');
        group.request_stop();
        co_await group.join();
        auto shielded = [&]() -> task<> {
            auto goodbye = co_await plait::shielded(ready.wait(), never);
            trace += goodbye ? "s+" : "sx";
        };
        group.spawn(shielded);
        group.request_stop();
        co_await group.join();
    };
    plait::run(body());
    CHECK(trace == "axs+");
}

TEST_CASE("a coroutine that waits for an event may be destroyed, before and after it was reached",
          "[event]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        event ready;
        std::deque<cancellable> waits;
        for (const char* name : {"a", "b", "c", "d"})
            waits.emplace_back(wait_and_note(ready, trace, name), env);
        waits[0].destroy();
        ready.set();
        waits[2].destroy();
        co_await let_run();
        CHECK(trace == "b+d+");
    };
    plait::run(body());
}

TEST_CASE("destroying an event ends the waits for it as canceled", "[event]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        auto ready = std::make_unique<event>();
        cancellable a(wait_and_note(*ready, trace, "a"), env);
        cancellable b(wait_and_note(*ready, trace, "b"), env);
        ready.reset();
        co_await let_run();
        CHECK(trace == "axbx");
        ready = std::make_unique<event>();
        cancellable c(wait_and_note(*ready, trace, "c"), env);
        ready->set();
        ready.reset(); // it was reached before
        co_await let_run();
        CHECK(trace == "axbxc+");
    };
    plait::run(body());
}

TEST_CASE("with_timeout and when_any limit the wait for an event, and leave nothing behind", "[event]") {
    auto body = [&]() -> task<> {
        event ready, other;
        auto late = co_await plait::with_timeout(ready.wait(), 1ms);
        CHECK(late.error() == errc::timed_out);
        auto first = co_await plait::when_any(ready.wait(), plait::sleep_for(1ms));
        CHECK(first.index == 1);
        auto cut = std::move(std::get<0>(first.results)).value();
        CHECK(cut.error() == errc::canceled);
        other.set();
        auto second = co_await plait::when_any(ready.wait(), other.wait());
        CHECK(second.index == 1);
        ready.set();
        auto both = co_await plait::when_all(ready.wait(), other.wait());
        CHECK(std::get<0>(both));
        CHECK(std::get<1>(both));
        auto in_time = co_await plait::with_timeout(ready.wait(), never);
        CHECK(in_time);
    };
    plait::run(body());
}

TEST_CASE("another thread sets an event by posting to its context", "[event]") {
    plait::io_context context;
    bool woken = false;
    std::thread other;
    auto body = [&]() -> task<> {
        event ready;
        other = std::thread([&] { CHECK(context.post([&] { ready.set(); })); });
        auto outcome = co_await ready.wait();
        woken = static_cast<bool>(outcome);
    };
    context.run(body());
    other.join();
    CHECK(woken);
}

TEST_CASE("an event that nobody waits for may be used by the next context", "[event]") {
    event ready;
    std::string trace;
    for (int i = 0; i < 3; ++i) {
        auto body = [&]() -> task<> {
            auto& env = co_await plait::detail::this_environment();
            cancellable a(wait_and_note(ready, trace, "a"), env);
            ready.set();
            co_await let_run();
            ready.reset();
        };
        plait::run(body());
    }
    CHECK(trace == "a+a+a+");
}

TEST_CASE("a stopped context ends a wait for an event that nobody will set", "[event]") {
    std::string trace;
    plait::io_context context;
    event ready;
    auto body = [&]() -> task<> {
        context.request_stop();
        co_await wait_in_task(ready, trace, 'a');
    };
    context.run(body());
    CHECK(trace == "ax");
}

TEST_CASE("waits for an event that are set, cancelled and destroyed at random end exactly once", "[event]") {
    struct wait_state {
        bool resumed = false;
        bool reached = false;
        bool cancelled = false;
        bool destroyed = false;
        std::optional<bool> outcome;
        std::optional<cancellable> coroutine;
    };
    struct local {
        static foreign wait(event& on, wait_state& mine, std::size_t& wrong) {
            auto woken = co_await on.wait();
            wrong += mine.resumed;
            mine.resumed = true;
            mine.outcome = static_cast<bool>(woken);
            wrong += !woken && woken.error() != errc::canceled;
        }
    };
    std::size_t wrong = 0, reached = 0, cancelled = 0, destroyed = 0;
    auto body = [&](std::uint64_t seed) -> task<> {
        std::mt19937_64 random(seed);
        auto& env = co_await plait::detail::this_environment();
        event ready;
        std::deque<wait_state> waits;
        std::deque<wait_state*> pending;
        for (int step = 0; step < 200; ++step) {
            wait_state* some = pending.empty() ? nullptr : pending[random() % pending.size()];
            switch (random() % 8) {
            case 0:
            case 1:
            case 2: {
                wait_state& added = waits.emplace_back();
                added.reached = ready.is_set();
                pending.push_back(&added);
                added.coroutine.emplace(local::wait(ready, added, wrong), env);
                break;
            }
            case 3:
                for (wait_state* each : pending) each->reached = each->reached || !each->cancelled;
                ready.set();
                break;
            case 4: ready.reset(); break;
            case 5:
                if (!some) break;
                some->cancelled = some->cancelled || !some->reached;
                some->coroutine->cancel();
                break;
            case 6:
                if (!some) break;
                some->destroyed = !some->resumed;
                some->coroutine->destroy();
                break;
            default:
                co_await let_run();
                for (const wait_state* each : pending) {
                    if (each->destroyed) {
                        wrong += each->resumed;
                        ++destroyed;
                    } else if (each->reached || each->cancelled) {
                        wrong += each->outcome != std::optional(each->reached);
                        ++(each->reached ? reached : cancelled);
                    } else {
                        wrong += each->resumed;
                    }
                }
                std::erase_if(pending, [](const wait_state* each) { return each->coroutine->done(); });
            }
        }
        ready.set();
        co_await let_run();
        for (const wait_state* each : pending) wrong += !each->coroutine->done();
    };
    for (std::size_t seed = 0; seed < scaled(300); ++seed) plait::run(body(seed));
    CHECK(wrong == 0);
    CHECK(reached > 0);
    CHECK(cancelled > 0);
    CHECK(destroyed > 0);
}
