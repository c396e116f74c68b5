#pragma once
/// Signals, awaited.
///
///     auto which = co_await plait::wait_for_signal({SIGINT, SIGTERM});

#include <plait/detail/pending.hpp>
#include <plait/task.hpp>

#include <array>
#include <cstdint>
#include <memory>
#include <span>

namespace plait::inline v1 {

/// One to four signal numbers. (A class, because g++ 12 takes no initializer_list inside a co_await expression.)
class signal_list {
  public:
    /// None, or these.
    constexpr signal_list() noexcept = default;
    constexpr signal_list(int a) noexcept : numbers_{a}, size_(1) {}
    constexpr signal_list(int a, int b) noexcept : numbers_{a, b}, size_(2) {}
    constexpr signal_list(int a, int b, int c) noexcept : numbers_{a, b, c}, size_(3) {}
    constexpr signal_list(int a, int b, int c, int d) noexcept : numbers_{a, b, c, d}, size_(4) {}

    /// What was listed.
    constexpr std::span<const int> numbers() const noexcept { return {numbers_.data(), size_}; }
    /// Whether there are none.
    constexpr bool empty() const noexcept { return size_ == 0; }

  private:
    std::array<int, 4> numbers_{};
    std::size_t size_ = 0;
};

namespace detail {

/// Something that the loop calls.
struct loop_hook : list_node {
    void (*call)(loop_hook&) noexcept = nullptr;

    loop_hook() noexcept = default;
    explicit loop_hook(void (*action)(loop_hook&) noexcept) noexcept : call(action) {}
    loop_hook(loop_hook&& other) noexcept : list_node(), call(other.call) {} // only before it is linked
};

/// Takes the signals of a list from their default action while it is active, and tells which have arrived.
class PLAIT_API signal_watch : public loop_hook {
  public:
    signal_watch(signal_list signals, void (*action)(loop_hook&) noexcept) noexcept
        : loop_hook(action), signals_(signals) {}
    signal_watch(signal_watch&&) noexcept = default;
    ~signal_watch() { stop(); }

    status start(loop& loop) noexcept;
    void stop() noexcept;
    /// A signal that has arrived since it was last asked, or 0.
    int arrived() noexcept;

  private:
    signal_list signals_;
    std::array<std::uint64_t, 4> seen_{};
    loop* loop_ = nullptr;
};

} // namespace detail

/// What wait_for_signal gives.
class [[nodiscard]] signal_awaitable {
  public:
    using plait_awaitable_tag = void;

    PLAIT_API explicit signal_awaitable(signal_list signals) noexcept;

    bool await_ready() const noexcept { return false; }
    template <detail::environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        return start(waiter, waiter.promise().plait_environment());
    }
    PLAIT_API io_result<int> await_resume() noexcept;

  private:
    struct wait : detail::pending, detail::signal_watch {
        explicit wait(signal_list signals) noexcept;
        int signal = 0;
        detail::status failure;
    };
    PLAIT_API bool start(std::coroutine_handle<> waiter, detail::environment& env);
    static void cancel(detail::pending& pending) noexcept;
    static const detail::pending_type type;

    wait wait_;
};

/// Completes when one of the signals arrives, with its number; from the first await on, and until the last has ended,
/// they do not have their default action. An empty list waits for a cancellation. On Windows SIGINT is Ctrl-C, SIGTERM
/// closing and shutdown, and SIGBREAK Ctrl-Break. Fails with errc::canceled, or invalid_argument for what is no signal.
/// sigaction(2).
inline signal_awaitable wait_for_signal(signal_list signals) noexcept { return signal_awaitable(signals); }

/// `wait_for_dump_request()`.
class [[nodiscard]] dump_request_awaitable {
  public:
    using plait_awaitable_tag = void;

    PLAIT_API dump_request_awaitable() noexcept;

    bool await_ready() const noexcept { return false; }
    template <detail::environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        return start(waiter, waiter.promise().plait_environment());
    }
    io_result<void> await_resume() const noexcept { return {wait_.failure, 0}; }

  private:
    struct wait : detail::pending, detail::loop_hook {
        wait() noexcept;
        std::uint64_t seen = 0;
        detail::status failure;
    };
    PLAIT_API bool start(std::coroutine_handle<> waiter, detail::environment& env);
    static void cancel(detail::pending& pending) noexcept;
    static const detail::pending_type type;

    wait wait_;
};

/// Completes when somebody asks this process what it waits for: SIGUSR1; on Windows Ctrl-Break. Whoever awaits it in a
/// loop, and answers with io_context::dump(), misses none: a request that comes between two waits ends the second, and
/// several are one. Each context that waits is told of each request. From the first wait on and until the context is
/// destroyed, a request does not end the process. Fails with errc::canceled, or what the system says. sigaction(2).
inline dump_request_awaitable wait_for_dump_request() noexcept { return {}; }

} // namespace plait::inline v1
