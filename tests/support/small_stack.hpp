#pragma once
/// Runs a function on a thread with little stack.

#include <cstddef>

namespace support {

inline constexpr std::size_t small_stack = 256 * 1024; // bytes

namespace detail {
void call_on_small_stack(void (*call)(void*), void* argument);
}

/// Calls `f()` there, and waits for it. An assertion of Catch2 must not stand in `f`.
template <class F>
void run_on_small_stack(F f) {
    detail::call_on_small_stack([](void* function) { (*static_cast<F*>(function))(); }, &f);
}

} // namespace support
