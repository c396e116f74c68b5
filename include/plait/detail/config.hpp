#pragma once
/// The few macros of the library: assertions with advice, and whether exceptions are on.

#include <plait/detail/export.hpp>

#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#    define PLAIT_HAS_EXCEPTIONS 1
#else
#    define PLAIT_HAS_EXCEPTIONS 0
#endif

/// A broken precondition of the caller's. Checked in every build, because what follows would be a
/// use-after-free; `advice` says what to do instead.
#define PLAIT_ASSERT(condition, advice)                                                                      \
    (static_cast<bool>(condition)                                                                            \
         ? static_cast<void>(0)                                                                              \
         : ::plait::detail::assertion_failed(#condition, advice, __FILE__, __LINE__))

namespace plait::inline v1 {
namespace detail {

/// Prints "plait: advice (condition, file:line)" to stderr and aborts.
[[noreturn]] PLAIT_API void assertion_failed(const char* condition, const char* advice, const char* file,
                                             int line) noexcept;

/// Where a co_await stands. clang 14 lacks std::source_location.
struct location {
    const char* file = "";
    unsigned line = 0;

    static constexpr location current(const char* file = __builtin_FILE(),
                                      unsigned line = __builtin_LINE()) noexcept {
        return {file, line};
    }
};

} // namespace detail
} // namespace plait::inline v1
