#pragma once
/// Several awaitables at once: all of them, or the first.
///
///     auto [left, right] = co_await plait::when_all(read(a), read(b));
///     auto first = co_await plait::when_any(stream.recv(buffer), plait::sleep_for(1s));
///     if (first.index == 0) … *std::get<0>(first.results) …

#include <plait/task_group.hpp>

#include <cstddef>
#include <optional>
#include <ranges>
#include <tuple>
#include <utility>
#include <vector>

namespace plait::inline v1 {
namespace detail {

template <class A, class R>
task<> store_result(A& awaitable, std::optional<R>& slot) {
    if constexpr (std::is_void_v<await_result_t<A>>) {
        co_await std::move(awaitable);
        slot.emplace();
    } else {
        slot.emplace(co_await std::move(awaitable));
    }
}

template <class A, class R>
task<> store_first(A& awaitable, std::optional<R>& slot, std::size_t index, std::size_t& winner,
                   task_group& group) {
    co_await store_result(awaitable, slot);
    if (winner != static_cast<std::size_t>(-1)) co_return;
    winner = index;
    group.request_stop();
}

template <class... A>
task<std::tuple<regular<await_result_t<A>>...>> all_of(A... awaitables) {
    std::tuple<std::optional<regular<await_result_t<A>>>...> slots;
    task_group group;
    [&]<std::size_t... I>(std::index_sequence<I...>) {
        (group.spawn(store_result(awaitables, std::get<I>(slots))), ...);
    }
    (std::index_sequence_for<A...>());
    co_await group.join();
    co_return std::apply(
        [](auto&... slot) { return std::tuple<regular<await_result_t<A>>...>(std::move(*slot)...); }, slots);
}

template <class T>
task<std::vector<regular<T>>> all_of_range(std::vector<task<T>> tasks) {
    std::vector<std::optional<regular<T>>> slots(tasks.size());
    task_group group;
    for (std::size_t i = 0; i < tasks.size(); ++i) group.spawn(store_result(tasks[i], slots[i]));
    co_await group.join();
    std::vector<regular<T>> results;
    results.reserve(slots.size());
    for (auto& slot : slots) results.push_back(std::move(*slot));
    co_return results;
}

inline task<> all_of_range(std::vector<task<>> tasks) {
    task_group group;
    for (auto& each : tasks) group.spawn(std::move(each));
    co_await group.join();
}

} // namespace detail

/// What when_any gives: who was first, and what everybody gave. A loser's result is there, too: it may hold bytes
/// that were received just as it was cancelled.
template <class... R>
struct any_result {
    std::size_t index;                       ///< who was first, counted from 0
    std::tuple<std::optional<R>...> results; ///< of each; a monostate for void
};

namespace detail {

template <class... A>
task<any_result<regular<await_result_t<A>>...>> any_of(A... awaitables) {
    any_result<regular<await_result_t<A>>...> outcome{static_cast<std::size_t>(-1), {}};
    task_group group;
    [&]<std::size_t... I>(std::index_sequence<I...>) {
        (group.spawn(store_first(awaitables, std::get<I>(outcome.results), I, outcome.index, group)), ...);
    }
    (std::index_sequence_for<A...>());
    co_await group.join();
    co_return std::move(outcome);
}

} // namespace detail

/// Runs all at once; completes when every one has. An exception cancels the others, which are awaited before it
/// comes out. Gives a tuple, with std::monostate for void and std::reference_wrapper<T> for a T&.
template <class... A>
requires(sizeof...(A) > 0 && (detail::plait_awaitable<A> && ...)) auto when_all(A... awaitables) {
    return detail::all_of<A...>(std::move(awaitables)...);
}

/// The same for a range of tasks (moved from); gives a vector in the order of the range, nothing for task<void>.
template <class Range>
requires requires(Range& range) { typename std::ranges::range_value_t<Range>::promise_type; }
auto when_all(Range&& range) {
    using work = std::ranges::range_value_t<Range>;
    std::vector<work> tasks;
    for (auto& each : range) tasks.push_back(std::move(each));
    return detail::all_of_range(std::move(tasks));
}

/// Runs all at once; when the first has completed, cancels the others and completes when they have, too. An exception
/// of any of them, a loser's included, comes out once all have ended, and the results are gone: who receives something
/// that must not get lost reports errors as results.
template <class... A>
requires(sizeof...(A) > 0 && (detail::plait_awaitable<A> && ...)) auto when_any(A... awaitables) {
    return detail::any_of<A...>(std::move(awaitables)...);
}

} // namespace plait::inline v1
