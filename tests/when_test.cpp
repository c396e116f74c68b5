#include <plait/io_context.hpp>
#include <plait/stream.hpp>
#include <plait/time.hpp>
#include <plait/when.hpp>

#include "support/foreign.hpp"
#include "support/scale.hpp"
#include "support/tracked.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

using namespace std::chrono_literals;
using plait::errc;
using plait::io_result;
using plait::task;
using support::scaled;
using support::tally;
using support::tracked;

namespace {

task<int> number(int n, int yields = 0) {
    for (int i = 0; i < yields; ++i) co_await plait::yield();
    co_return n;
}

task<> nothing(int yields = 0) {
    for (int i = 0; i < yields; ++i) co_await plait::yield();
}

task<std::unique_ptr<int>> boxed(int n) {
    co_await plait::yield();
    co_return std::make_unique<int>(n);
}

/// Waits to be cancelled, takes a while to end then, and notes when it has.
task<std::string> slow_loser(bool& ended) {
    auto slept = co_await plait::sleep_for(1h);
    for (int i = 0; i < 5; ++i) co_await plait::yield();
    ended = true;
    co_return slept ? "slept" : "canceled";
}

task<> sleep_long(tracked) { static_cast<void>(co_await plait::sleep_for(1h)); }

} // namespace

// --- when_all ------------------------------------------------------------------------------------------------------

TEST_CASE("when_all gives every result, in the order of its arguments", "[when]") {
    auto body = [&]() -> task<> {
        auto results = co_await plait::when_all(number(1, 3), nothing(1), boxed(2));
        static_assert(
            std::is_same_v<decltype(results), std::tuple<int, std::monostate, std::unique_ptr<int>>>);
        CHECK(std::get<0>(results) == 1);
        CHECK(*std::get<2>(results) == 2);
        auto [left, right] = co_await plait::when_all(number(3), number(4));
        CHECK(left == 3);
        CHECK(right == 4);
    };
    plait::run(body());
}

TEST_CASE("when_all runs its awaitables side by side", "[when]") {
    std::string order;
    auto speaker = [&](char name) -> task<> {
        for (int i = 0; i < 3; ++i) {
            order += name;
            co_await plait::yield();
        }
    };
    auto body = [&]() -> task<> { co_await plait::when_all(speaker('a'), speaker('b')); };
    plait::run(body());
    CHECK(order == "ababab");
}

TEST_CASE("when_all takes every awaitable, not only tasks", "[when]") {
    auto body = [&]() -> task<> {
        auto ends = plait::memory_stream_pair();
        std::array<std::byte, 4> buffer;
        auto results = co_await plait::when_all(ends.first.recv(buffer), ends.second.send("ping"),
                                                plait::sleep_for(1ms), plait::yield());
        CHECK(std::get<0>(results).bytes() == 4);
        CHECK(std::get<1>(results).bytes() == 4);
        CHECK(std::get<2>(results));
        CHECK(plait::as_text(buffer) == "ping");
    };
    plait::run(body());
}

TEST_CASE("when_all of a range gives a vector in the range's order", "[when]") {
    const int count = static_cast<int>(scaled(1000));
    auto body = [&]() -> task<> {
        std::vector<task<int>> tasks;
        for (int i = 0; i < count; ++i) tasks.push_back(number(i, (count - i) % 7));
        const std::vector<int> results = co_await plait::when_all(tasks);
        CHECK(results.size() == static_cast<std::size_t>(count));
        bool in_order = true;
        for (int i = 0; i < count; ++i) in_order = in_order && results[static_cast<std::size_t>(i)] == i;
        CHECK(in_order);

        std::vector<task<std::unique_ptr<int>>> movable;
        movable.push_back(boxed(5));
        auto boxes = co_await plait::when_all(std::move(movable));
        CHECK(*boxes.at(0) == 5);

        std::vector<task<>> voids;
        for (int i = 0; i < 10; ++i) voids.push_back(nothing(i));
        co_await plait::when_all(voids);

        std::vector<task<int>> none;
        const auto empty = co_await plait::when_all(none);
        CHECK(empty.empty());
    };
    plait::run(body());
}

TEST_CASE("cancelling the scope around when_all cancels every one", "[when]") {
    auto body = [&]() -> task<> {
        bool first = false, second = false;
        auto both = [&]() -> task<std::size_t> {
            auto results = co_await plait::when_all(slow_loser(first), slow_loser(second));
            co_return std::get<0>(results).size() + std::get<1>(results).size();
        };
        auto ended = co_await plait::with_timeout(both(), 5ms);
        CHECK(ended); // it gave a value after all
        CHECK(ended.value_or(0u) == 2 * std::string("canceled").size());
        CHECK(first);
        CHECK(second);
    };
    plait::run(body());
}

// --- when_any ------------------------------------------------------------------------------------------------------

TEST_CASE("when_any tells who was first, and gives what that one gave", "[when]") {
    auto body = [&]() -> task<> {
        bool ended = false;
        auto first = co_await plait::when_any(slow_loser(ended), number(7, 2), plait::sleep_for(1h));
        CHECK(first.index == 1);
        CHECK(std::get<1>(first.results).value() == 7);
        auto other = co_await plait::when_any(plait::sleep_for(1ms), plait::sleep_for(1h));
        CHECK(other.index == 0);
        CHECK(std::get<0>(other.results).value());
        CHECK(std::get<1>(other.results)->error() == errc::canceled);
    };
    plait::run(body());
}

TEST_CASE("when_any returns only after the losers have ended, and keeps their results", "[when]") {
    auto body = [&]() -> task<> {
        bool first = false, second = false;
        auto result = co_await plait::when_any(slow_loser(first), number(1, 1), slow_loser(second));
        CHECK(result.index == 1);
        CHECK(first);
        CHECK(second);
        CHECK(std::get<0>(result.results).value() == "canceled");
        CHECK(std::get<2>(result.results).value() == "canceled");
    };
    plait::run(body());
}

TEST_CASE("when_any takes void", "[when]") {
    auto body = [&]() -> task<> {
        auto result = co_await plait::when_any(nothing(1), plait::sleep_for(1h));
        CHECK(result.index == 0);
        CHECK(std::get<0>(result.results).has_value());
        static_assert(
            std::is_same_v<decltype(result.results),
                           std::tuple<std::optional<std::monostate>, std::optional<io_result<void>>>>);
    };
    plait::run(body());
}

TEST_CASE("what a loser received just as it was cancelled is handed out", "[when]") {
    // Both ends complete in the same turn; one of them is the first.
    auto body = [&]() -> task<> {
        auto one = plait::memory_stream_pair();
        auto two = plait::memory_stream_pair();
        std::size_t received = 0;
        const std::size_t rounds = scaled(1000);
        auto writer = [&]() -> task<> {
            for (std::size_t i = 0; i < rounds; ++i) {
                static_cast<void>(co_await one.second.send("x"));
                static_cast<void>(co_await two.second.send("y"));
                if (i % 3 == 0) co_await plait::yield();
            }
            one.second = plait::memory_stream();
            two.second = plait::memory_stream();
        };
        auto reader = [&]() -> task<> {
            std::array<std::byte, 3> a, b;
            int open = 2;
            while (open > 0) {
                auto any = co_await plait::when_any(one.first.recv(a), two.first.recv(b));
                CHECK(std::get<0>(any.results).has_value());
                CHECK(std::get<1>(any.results).has_value());
                received += std::get<0>(any.results)->bytes() + std::get<1>(any.results)->bytes();
                open = (std::get<0>(any.results)->error() != errc::end_of_stream) +
                       (std::get<1>(any.results)->error() != errc::end_of_stream);
                if (open == 1) break;
            }
            // One has ended, and by now wins every race; what the other holds is read to its end.
            for (auto* left : {&one.first, &two.first})
                while (auto rest = co_await left->recv(a)) received += *rest;
        };
        co_await plait::when_all(writer(), reader());
        CHECK(received == 2 * rounds);
    };
    plait::run(body());
}

TEST_CASE("if one completes at once, the others are not started", "[when]") {
    auto body = [&]() -> task<> {
        auto ends = plait::memory_stream_pair();
        static_cast<void>(co_await ends.second.send("kept"));
        std::array<std::byte, 4> buffer{};
        auto result = co_await plait::when_any(number(1), ends.first.recv(buffer));
        CHECK(result.index == 0);
        CHECK(std::get<1>(result.results)->error() == errc::canceled);
        auto later = co_await ends.first.recv(buffer);
        CHECK(later.bytes() == 4);
    };
    plait::run(body());
}

TEST_CASE("cancelling the scope around when_any cancels every one", "[when]") {
    auto body = [&]() -> task<> {
        auto race = []() -> task<bool> {
            auto result = co_await plait::when_any(plait::sleep_for(1h), plait::sleep_for(2h));
            co_return std::get<0>(result.results)->error() ==
                errc::canceled&& std::get<1>(result.results)->error() == errc::canceled;
        };
        auto ended = co_await plait::with_timeout(race(), 5ms);
        CHECK(ended.value_or(false));
        // And nothing of that cancellation is left.
        auto slept = co_await plait::sleep_for(1ms);
        CHECK(slept);
    };
    plait::run(body());
}

TEST_CASE("when_any and when_all nest", "[when]") {
    auto body = [&]() -> task<> {
        bool ended = false;
        auto result = co_await plait::when_any(
            plait::when_all(number(1, 2), number(2, 4)), slow_loser(ended),
            plait::when_any(plait::sleep_for(1h),
                            plait::when_all(plait::sleep_for(1h), plait::sleep_for(2h))));
        CHECK(result.index == 0);
        CHECK(ended);
        CHECK(std::get<0>(result.results).value() == std::tuple(1, 2));
        auto& innermost = std::get<1>(std::get<2>(result.results)->results).value();
        CHECK(std::get<1>(innermost).error() == errc::canceled);
    };
    plait::run(body());
}

// --- exceptions ------------------------------------------------------------------------------------------------------

#if PLAIT_HAS_EXCEPTIONS
namespace {

task<int> fail_after(int yields) {
    for (int i = 0; i < yields; ++i) co_await plait::yield();
    throw std::runtime_error("failed after " + std::to_string(yields));
}

/// The message of what `work` throws.
template <class W>
task<std::string> message_of(W work) {
    try {
        static_cast<void>(co_await std::move(work));
    } catch (const std::runtime_error& error) {
        co_return error.what();
    }
    co_return "nothing";
}

} // namespace

TEST_CASE("an exception in when_all cancels the others and comes out when they have ended", "[when]") {
    bool ended = false;
    auto body = [&]() -> task<> {
        const auto message =
            co_await message_of(plait::when_all(slow_loser(ended), fail_after(2), fail_after(4)));
        CHECK(message == "failed after 2");
        CHECK(ended);

        ended = false;
        std::vector<task<int>> range;
        range.push_back(number(1));
        range.push_back(fail_after(1));
        const auto of_range = co_await message_of(plait::when_all(range));
        CHECK(of_range == "failed after 1");
    };
    plait::run(body());
}

TEST_CASE("an exception in when_any cancels the others and comes out when they have ended", "[when]") {
    bool ended = false;
    auto body = [&]() -> task<> {
        const auto message = co_await message_of(plait::when_any(slow_loser(ended), fail_after(3)));
        CHECK(message == "failed after 3");
        CHECK(ended);
    };
    plait::run(body());
}
#endif

// --- destruction -----------------------------------------------------------------------------------------------------

TEST_CASE("when_all and when_any can be destroyed midway", "[when]") {
    tally counts;
    auto all = [&]() -> task<> {
        co_await plait::when_all(sleep_long(tracked(counts)), sleep_long(tracked(counts)));
    };
    auto any = [&]() -> task<> {
        static_cast<void>(co_await plait::when_any(sleep_long(tracked(counts)), all()));
    };
    auto range = [&]() -> task<> {
        std::vector<task<>> tasks;
        for (int i = 0; i < 5; ++i) tasks.push_back(any());
        co_await plait::when_all(tasks);
    };
    auto body = [&]() -> task<> {
        auto& here = co_await plait::detail::this_environment();
        for (int turns = 0; turns < 6; ++turns) {
            auto owner = support::carry(range());
            owner.start(here);
            for (int i = 0; i < turns; ++i) co_await plait::yield();
            owner.destroy();
            CHECK(counts.live == 0);
        }
    };
    plait::run(body());
}

TEST_CASE("when_all and when_any that were never awaited destroy what they hold", "[when]") {
    tally counts;
    {
        auto all = plait::when_all(sleep_long(tracked(counts)), sleep_long(tracked(counts)));
        auto any = plait::when_any(sleep_long(tracked(counts)), sleep_long(tracked(counts)));
        CHECK(counts.live == 4);
    }
    CHECK(counts.live == 0);
}

TEST_CASE("a task of a reference gives a reference among the others", "[when]") {
    int value = 1;
    auto refer = [&]() -> task<int&> {
        co_await plait::yield();
        co_return value;
    };
    auto body = [&]() -> task<> {
        auto all = co_await plait::when_all(refer(), number(2));
        int& one = std::get<0>(all);
        CHECK(&one == &value);
        std::vector<task<int&>> several;
        several.push_back(refer());
        several.push_back(refer());
        auto more = co_await plait::when_all(std::move(several));
        CHECK(&more[1].get() == &value);
        auto any = co_await plait::when_any(refer(), plait::sleep_for(24h));
        CHECK(&std::get<0>(any.results)->get() == &value);
    };
    plait::run(body());
}
