#pragma once
/// Runs a function on a thread with little stack.

#include <pthread.h>

#include <cstddef>
#include <cstdlib>
#include <utility>

namespace support {

inline constexpr std::size_t small_stack = 256 * 1024; // bytes

/// Calls `f()` there, and waits for it. An assertion of Catch2 must not stand in `f`.
template <class F>
void run_on_small_stack(F f) {
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0 || pthread_attr_setstacksize(&attributes, small_stack) != 0)
        std::abort();
    auto call = [](void* function) -> void* {
        (*static_cast<F*>(function))();
        return nullptr;
    };
    pthread_t thread;
    if (pthread_create(&thread, &attributes, call, &f) != 0) std::abort();
    pthread_join(thread, nullptr);
    pthread_attr_destroy(&attributes);
}

} // namespace support
