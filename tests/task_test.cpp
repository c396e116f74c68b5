#include <plait/io_context.hpp>
#include <plait/stream.hpp>
#include <plait/task.hpp>
#include <plait/task_group.hpp>
#include <plait/time.hpp>

#include "support/allocations.hpp"
#include "support/foreign.hpp"
#include "support/scale.hpp"
#include "support/small_stack.hpp"
#include "support/tracked.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <cstdint>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

using namespace std::chrono_literals;
using plait::io_result;
using plait::task;
using support::at_exit;
using support::foreign;
using support::scaled;
using support::tally;
using support::tracked;

namespace {

static_assert(!std::is_copy_constructible_v<task<int>> && !std::is_copy_assignable_v<task<int>>);
static_assert(std::is_nothrow_move_constructible_v<task<int>> &&
              std::is_nothrow_move_assignable_v<task<int>>);
static_assert(std::is_same_v<task<>, task<void>>);

// What a task refuses to await, by a static_assert with advice.
static_assert(!plait::detail::plait_awaitable<std::suspend_always> &&
              !plait::detail::plait_awaitable<std::suspend_never> &&
              !plait::detail::plait_awaitable<std::future<int>> && !plait::detail::plait_awaitable<int>);
static_assert(plait::detail::plait_awaitable<task<int>> && plait::detail::plait_awaitable<task<int>&> &&
              plait::detail::plait_awaitable<plait::yield> &&
              plait::detail::plait_awaitable<plait::sleep_awaitable>);

task<int> number(int n) { co_return n; }

/// Neither copyable nor default-constructible.
struct ticket {
    explicit ticket(int n) : number(std::make_unique<int>(n)) {}
    std::unique_ptr<int> number;
};

task<ticket> make_ticket(int n) { co_return ticket(n); }

task<> mark(bool& ran, tracked) {
    ran = true;
    co_return;
}

task<int> sum_below(int depth) {
    if (depth == 0) {
        co_await plait::yield();
        co_return 0;
    }
    co_return depth + co_await sum_below(depth - 1);
}

} // namespace

// --- lazy, owned, awaited once ---------------------------------------------------------------------------------

TEST_CASE("a task does nothing until it is awaited", "[task]") {
    tally counts;
    bool ran = false;
    auto body = [&]() -> task<> {
        auto work = mark(ran, tracked(counts));
        co_await plait::yield();
        CHECK_FALSE(ran);
        co_await work;
        CHECK(ran);
    };
    plait::run(body());
    CHECK(counts.live == 0);
}

TEST_CASE("destroying a task that was never awaited destroys its arguments and runs nothing", "[task]") {
    tally counts;
    bool ran = false;
    {
        auto work = mark(ran, tracked(counts));
        CHECK(work);
        CHECK(counts.live == 1);
    }
    CHECK(counts.live == 0);
    CHECK_FALSE(ran);
}

TEST_CASE("a task that was moved from is false, and the new owner runs it", "[task]") {
    task<int> first = number(3);
    task<int> second = std::move(first);
    CHECK_FALSE(first);
    REQUIRE(second);
    CHECK(plait::run(std::move(second)) == 3);
    CHECK_FALSE(second);
    CHECK_FALSE(task<>());
}

TEST_CASE("assigning to a task destroys the one that it held", "[task]") {
    tally counts;
    bool ran = false;
    auto work = mark(ran, tracked(counts));
    auto& same = work;
    work = std::move(same);
    CHECK(work);
    CHECK(counts.live == 1);
    work = task<>();
    CHECK(counts.live == 0);
    CHECK_FALSE(work);
}

TEST_CASE("a task gives what its coroutine returned", "[task]") {
    auto text = []() -> task<std::string> { co_return "text"; };
    auto body = [&]() -> task<> {
        const int n = co_await number(7);
        CHECK(n == 7);
        const std::string words = co_await text();
        CHECK(words == "text");
        auto named = number(8);
        const int from_name = co_await named;
        CHECK(from_name == 8);
        auto moved = number(9);
        const int from_moved = co_await std::move(moved);
        CHECK(from_moved == 9);
    };
    plait::run(body());
}

TEST_CASE("a result may be movable only, and not default-constructible", "[task]") {
    auto through = [](int n) -> task<ticket> { co_return co_await make_ticket(n); };
    auto body = [&]() -> task<ticket> {
        ticket inner = co_await through(5);
        CHECK(*inner.number == 5);
        co_return ticket(*inner.number + 1);
    };
    CHECK(*plait::run(body()).number == 6);
}

TEST_CASE("a result is moved, never copied, and destroyed", "[task]") {
    tally counts;
    auto make = [&]() -> task<tracked> { co_return tracked(counts, 4); };
    auto body = [&]() -> task<int> {
        auto result = co_await make();
        co_return result.value;
    };
    CHECK(plait::run(body()) == 4);
    CHECK(counts.copies == 0);
    CHECK(counts.live == 0);
}

TEST_CASE("a task's arguments live until the task is destroyed", "[task]") {
    tally counts;
    auto body = [&]() -> task<> {
        bool ran = false;
        {
            auto work = mark(ran, tracked(counts));
            co_await work;
            CHECK(counts.live == 1);
        }
        CHECK(counts.live == 0);
    };
    plait::run(body());
}

TEST_CASE("tasks await tasks that suspend, many levels deep", "[task]") {
    const int depth = static_cast<int>(std::min<std::size_t>(scaled(1000), 1000));
    CHECK(plait::run(sum_below(depth)) == depth * (depth + 1) / 2);
}

// --- exceptions --------------------------------------------------------------------------------------------------

#if PLAIT_HAS_EXCEPTIONS
namespace {

task<int> fail(int depth, std::vector<int>& unwound, bool suspend) {
    at_exit note([&unwound, depth] { unwound.push_back(depth); });
    if (suspend) co_await plait::yield();
    if (depth == 0) throw std::runtime_error("from below");
    co_return co_await fail(depth - 1, unwound, suspend) + 1;
}

} // namespace

TEST_CASE("an exception passes through every level and unwinds each, the innermost first", "[task]") {
    for (bool suspend : {false, true}) {
        std::vector<int> unwound;
        std::string message;
        auto body = [&]() -> task<> {
            try {
                static_cast<void>(co_await fail(4, unwound, suspend));
            } catch (const std::runtime_error& error) {
                message = error.what();
            }
        };
        plait::run(body());
        CHECK(message == "from below");
        CHECK(unwound == std::vector<int>{0, 1, 2, 3, 4});
    }
}

TEST_CASE("a caught exception lets the task go on awaiting", "[task]") {
    auto middle = []() -> task<int> {
        std::vector<int> unwound;
        bool caught = false;
        try {
            static_cast<void>(co_await fail(2, unwound, true));
        } catch (const std::runtime_error&) {
            caught = true;
        }
        if (!caught) co_return -1;
        co_return co_await number(11);
    };
    CHECK(plait::run(middle()) == 11);
}

TEST_CASE("an exception thrown before the first wait comes out of the await, not of the call", "[task]") {
    auto thrower = []() -> task<> {
        throw std::logic_error("at once");
        co_return;
    };
    auto body = [&]() -> task<bool> {
        auto work = thrower();
        try {
            co_await work;
        } catch (const std::logic_error&) {
            co_return true;
        }
        co_return false;
    };
    CHECK(plait::run(body()));
}
#endif

// --- the environment -----------------------------------------------------------------------------------------------

TEST_CASE("a task runs on the context of the task that awaits it", "[task]") {
    plait::io_context context;
    auto inner = []() -> task<plait::io_context*> {
        co_await plait::yield();
        plait::io_context& mine = co_await plait::this_context();
        co_return &mine;
    };
    auto outer = [&]() -> task<plait::io_context*> { co_return co_await inner(); };
    CHECK(context.run(outer()) == &context);
}

TEST_CASE("a task runs in the scope of the task that awaits it", "[task]") {
    auto inner = []() -> task<bool> {
        const bool before = co_await plait::stop_requested();
        plait::io_context& context = co_await plait::this_context();
        context.request_stop();
        auto slept = co_await plait::sleep_for(1h);
        const bool after = co_await plait::stop_requested();
        co_return !before && after && slept.error() == plait::errc::canceled;
    };
    auto outer = [&]() -> task<bool> {
        const bool below = co_await inner();
        const bool here = co_await plait::stop_requested();
        co_return below&& here;
    };
    CHECK(plait::run(outer()));
}

TEST_CASE("a task goes back to its own scope when the one that it awaited has ended", "[task]") {
    auto limited = []() -> task<> {
        auto slept = co_await plait::with_timeout(plait::sleep_for(1h), 1ms);
        CHECK(slept.error() == plait::errc::timed_out);
        const bool stopped = co_await plait::stop_requested();
        CHECK_FALSE(stopped);
        auto again = co_await plait::sleep_for(1ms);
        CHECK(again);
    };
    plait::run(limited());
}

TEST_CASE("yield lets everything else that is ready run first", "[task]") {
    std::string order;
    auto speaker = [&](char name) -> task<> {
        for (int i = 0; i < 3; ++i) {
            order += name;
            co_await plait::yield();
        }
    };
    auto body = [&]() -> task<> {
        plait::task_group group;
        for (char name : {'a', 'b', 'c'}) group.spawn(speaker, name);
        co_await group.join();
    };
    plait::run(body());
    CHECK(order == "abcabcabc");
}

TEST_CASE("plait's awaitables work in a foreign coroutine that has an environment", "[task]") {
    std::string steps;
    auto other = [&]() -> foreign {
        const int n = co_await number(5);
        steps += std::to_string(n);
        co_await plait::yield();
        steps += 'y';
        auto slept = co_await plait::sleep_for(1ms);
        steps += slept ? 's' : '-';
    };
    auto body = [&]() -> task<> {
        auto& here = co_await plait::detail::this_environment();
        auto stranger = other();
        stranger.start(here);
        while (!stranger.done()) co_await plait::yield();
    };
    plait::run(body());
    CHECK(steps == "5ys");
}

// --- destruction -----------------------------------------------------------------------------------------------------

namespace {

task<> note_end(std::vector<int>& ended, int level, tally& counts, plait::memory_stream& quiet) {
    tracked local(counts);
    at_exit note([&ended, level] { ended.push_back(level); });
    if (level > 0) {
        co_await note_end(ended, level - 1, counts, quiet);
    } else {
        std::array<std::byte, 8> buffer;
        static_cast<void>(co_await quiet.recv(buffer));
    }
    ended.push_back(-1); // never reached
}

task<> sleeps() { static_cast<void>(co_await plait::sleep_for(1h)); }
task<> yields() { co_await plait::yield(); }
task<> times_out() { static_cast<void>(co_await plait::with_timeout(sleeps(), 1h)); }

} // namespace

TEST_CASE("destroying a suspended task destroys those that it awaits, the innermost last", "[task]") {
    std::vector<int> ended;
    tally counts;
    auto body = [&]() -> task<> {
        auto& here = co_await plait::detail::this_environment();
        auto ends = plait::memory_stream_pair();
        {
            auto owner = support::carry(note_end(ended, 3, counts, ends.first));
            owner.start(here);
            CHECK(counts.live == 4);
            CHECK(ended.empty());
        }
        CHECK(counts.live == 0);
        // What it would have received is not lost to it: it goes to the next one who asks.
        static_cast<void>(co_await ends.second.send("hi"));
        std::array<std::byte, 8> buffer;
        auto received = co_await ends.first.recv(buffer);
        CHECK(received);
        CHECK(received.bytes() == 2);
    };
    plait::run(body());
    CHECK(ended.size() == 4);
}

TEST_CASE("a task that sleeps, yields or waits under a time limit can be destroyed", "[task]") {
    auto body = [&]() -> task<> {
        auto& here = co_await plait::detail::this_environment();
        std::vector<foreign> all;
        for (int i = 0; i < 30; ++i) {
            all.push_back(support::carry(sleeps()));
            all.push_back(support::carry(yields()));
            all.push_back(support::carry(times_out()));
        }
        for (auto& each : all) each.start(here);
        // Not in the order in which they began.
        for (std::size_t i = 0; i < all.size(); i += 2) all[i].destroy();
        co_await plait::yield();
        all.clear();
        co_await plait::yield();
    };
    plait::run(body());
}

TEST_CASE("a task may be made before a context exists and destroyed after it", "[task]") {
    tally counts;
    bool ran_first = false, ran_second = false;
    auto first = mark(ran_first, tracked(counts));
    auto second = mark(ran_second, tracked(counts));
    auto body = [&]() -> task<> { co_await first; };
    plait::run(body());
    CHECK(ran_first);
    CHECK_FALSE(ran_second);
    CHECK(counts.live == 2);
    first = task<>();
    second = task<>();
    CHECK(counts.live == 0);
}

TEST_CASE("a task may be made on one thread, run on a second and destroyed on a third", "[task]") {
    tally counts;
    for (int i = 0; i < 20; ++i) {
        bool ran = false;
        auto work = mark(ran, tracked(counts));
        std::thread([&] {
            auto body = [&]() -> task<> { co_await work; };
            plait::run(body());
        }).join();
        CHECK(ran);
        std::thread([doomed = std::move(work)]() mutable { doomed = task<>(); }).join();
    }
    CHECK(counts.live == 0);
}

// --- awaits that complete at once need no stack ------------------------------------------------------------------------

TEST_CASE("any number of child tasks that complete at once need no more stack than one", "[task]") {
    const std::size_t count = scaled(10'000'000);
    std::uint64_t sum = 0;
    auto child = [](std::size_t n) -> task<std::size_t> { co_return n; };
    auto body = [&]() -> task<> {
        for (std::size_t i = 0; i < count; ++i) sum += co_await child(i);
    };
    support::run_on_small_stack([&] { plait::run(body()); });
    CHECK(sum == static_cast<std::uint64_t>(count) * (count - 1) / 2);
}

TEST_CASE("any number of receives and sends that complete at once need no more stack than one", "[task]") {
    const std::size_t count = scaled(10'000'000);
    std::size_t received = 0;
    auto body = [&]() -> task<> {
        auto ends = plait::memory_stream_pair();
        const std::byte out{42};
        std::byte in{};
        for (std::size_t i = 0; i < count / 2; ++i) {
            auto sent = co_await ends.first.send(std::span(&out, 1));
            auto got = co_await ends.second.recv(std::span(&in, 1));
            received += got.bytes() + sent.bytes();
        }
    };
    support::run_on_small_stack([&] { plait::run(body()); });
    CHECK(received == count / 2 * 2);
}

TEST_CASE("any number of receives into nothing, under time limits, need no more stack than one", "[task]") {
    constexpr std::size_t awaits_a_round = 4; // recv_exactly; with_timeout, which awaits twice
    const std::size_t rounds = scaled(10'000'000 / awaits_a_round);
    std::size_t succeeded = 0;
    auto body = [&]() -> task<> {
        auto ends = plait::memory_stream_pair();
        for (std::size_t i = 0; i < rounds; ++i) {
            auto got = co_await ends.first.recv_exactly(std::span<std::byte>());
            auto limited = co_await plait::with_timeout(number(1), 1h);
            succeeded += std::size_t{got.has_value()} + std::size_t{limited.has_value()};
        }
    };
    support::run_on_small_stack([&] { plait::run(body()); });
    CHECK(succeeded == rounds * 2);
}

TEST_CASE("any number of yields and children that suspend once need no more stack than one", "[task]") {
    const std::size_t count = scaled(200'000);
    std::size_t resumed = 0;
    auto child = [&]() -> task<> {
        co_await plait::yield();
        ++resumed;
    };
    auto body = [&]() -> task<> {
        for (std::size_t i = 0; i < count; ++i) co_await child();
    };
    support::run_on_small_stack([&] { plait::run(body()); });
    CHECK(resumed == count);
}

// --- no allocation -------------------------------------------------------------------------------------------------------

TEST_CASE("child tasks allocate nothing once their frames are recycled", "[task]") {
    if (!support::counts_allocations()) SKIP("malloc cannot be counted in this build");
    const std::size_t count = scaled(10'000);
    std::uint64_t used = 1;
    auto inner = [](std::size_t n) -> task<std::size_t> {
        if (n % 16 == 0) co_await plait::yield();
        co_return n;
    };
    auto middle = [&](std::size_t n) -> task<std::size_t> { co_return co_await inner(n) + 1; };
    auto body = [&]() -> task<> {
        std::size_t sum = 0;
        for (std::size_t i = 0; i < 100; ++i) sum += co_await middle(i);
        const auto before = support::allocations();
        for (std::size_t i = 0; i < count; ++i) sum += co_await middle(i);
        used = support::allocations() - before;
        CHECK(sum > 0);
    };
    plait::run(body());
    CHECK(used == 0);
}

namespace {

task<io_result<void>> succeeds() { co_return {}; }
task<std::pair<int, std::string>> in_braces() { co_return {1, "one"}; }
task<std::string> from_literal() { co_return "text"; }

struct counter {
    int value = 0;
    task<int&> reference() {
        co_await plait::yield();
        co_return value;
    }
    task<const int&> read() { co_return co_await reference(); }
};

template <class T, class U>
concept returns = requires(plait::detail::task_promise<T> promise, U&& value) {
    promise.return_value(std::forward<U>(value));
};
static_assert(returns<const std::string&, std::string&> && !returns<const std::string&, const char*&>,
              "a reference to a temporary object would refer to nothing");

} // namespace

TEST_CASE("a task returns what stands in braces, and what converts", "[task]") {
    CHECK(plait::run(succeeds()).has_value());
    CHECK(plait::run(in_braces()) == std::pair(1, std::string("one")));
    CHECK(plait::run(from_literal()) == "text");
}

TEST_CASE("a task may return a reference", "[task]") {
    counter one;
    auto body = [&]() -> task<> {
        int& value = co_await one.reference();
        value = 5;
        const int& same = co_await one.read();
        CHECK(&same == &one.value);
    };
    plait::run(body());
    CHECK(one.value == 5);
    CHECK(&plait::run(one.reference()) == &one.value);
#if PLAIT_HAS_EXCEPTIONS
    auto throws = []() -> task<int&> {
        co_await plait::yield();
        throw std::runtime_error("no reference");
    };
    CHECK_THROWS_AS(plait::run(throws()), std::runtime_error);
#endif
}
