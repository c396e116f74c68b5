#pragma once
/// The few macros of the library: assertions with advice, whether exceptions are on, and what is worth inlining.

#include <plait/detail/export.hpp>

#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#    define PLAIT_HAS_EXCEPTIONS 1
#else
#    define PLAIT_HAS_EXCEPTIONS 0
#endif

/// A broken precondition of the caller's. Checked in every build, because what follows would be a
/// use-after-free; `advice` says what to do instead.
#define PLAIT_ASSERT(condition, advice)                                                                      \
    ((condition) ? static_cast<void>(0)                                                                      \
                 : ::plait::detail::assertion_failed(#condition, advice, __FILE__, __LINE__))

/// For what runs once for each frame or message: the compiler's own measure is the size of the caller, and a session
/// is a large one. And the opposite, for what such code does rarely.
#if __has_cpp_attribute(gnu::always_inline)
#    define PLAIT_HOT [[gnu::always_inline]]
#    define PLAIT_COLD [[gnu::noinline]]
#elif __has_cpp_attribute(msvc::forceinline)
#    define PLAIT_HOT [[msvc::forceinline]]
#    define PLAIT_COLD [[msvc::noinline]]
#else
#    define PLAIT_HOT
#    define PLAIT_COLD
#endif

namespace plait::inline v1 {
namespace detail {

/// Prints "plait: advice (condition, file:line)" to stderr and aborts.
[[noreturn]] PLAIT_API void assertion_failed(const char* condition, const char* advice, const char* file,
                                             int line) noexcept;

/// Where a co_await stands. clang 14 lacks std::source_location.
struct location {
    const char* file = "";
    const char* function = "";
    unsigned line = 0;

    static constexpr location current(const char* file = __builtin_FILE(),
                                      const char* function = __builtin_FUNCTION(),
                                      unsigned line = __builtin_LINE()) noexcept {
        return {file, function, line};
    }
};

} // namespace detail
} // namespace plait::inline v1
