#pragma once
/// What the setters and getters of every kind of socket share.

#include <plait/detail/socket_awaitables.hpp>

#include "src/loop.hpp"

namespace plait::inline v1 {
namespace detail {

inline io_result<void> set(socket_state* state, socket_option option, int value) noexcept {
    if (!state || !state->context) return {not_open(), 0};
    return {state->context->system->set_option(state->handle, option, value), 0};
}

inline io_result<int> get(const socket_state* state, socket_option option) noexcept {
    if (!state || !state->context) return {not_open(), 0};
    int value = 0;
    const status result = state->context->system->get_option(state->handle, option, value);
    if (!result.ok()) return {result, 0};
    return value;
}

/// The value as another type, or the same error.
template <class T, class F>
io_result<T> converted(const io_result<int>& value, F convert) {
    if (!value) return {value.raw_status(), 0};
    return convert(*value);
}

} // namespace detail
} // namespace plait::inline v1
