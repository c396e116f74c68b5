#pragma once
/// Sleeping, time-outs, and the other edges of a cancellation scope.
///
///     auto received = co_await plait::with_timeout(stream.recv(buffer), 5s);
///     if (received.error() == plait::errc::timed_out) …

#include <plait/detail/pending.hpp>
#include <plait/task.hpp>

#include <chrono>
#include <memory>
#include <stop_token>
#include <string>

namespace plait::inline v1 {

/// What a sleep ends with: an io_result<void> that may be dropped, by `co_await sleep_for(1s);`, without a warning. Who
/// goes on after a sleep that was cut short finds the next wait cancelled.
class sleep_result : public io_result<void> {
  public:
    using io_result::io_result;
};

namespace detail {
template <>
struct kept_result<sleep_result> {
    using type = io_result<void>;
};

/// The nearest duration of the loop's clock, rounded up; any duration has one.
template <class Rep, class Period>
steady_duration to_steady(std::chrono::duration<Rep, Period> span) noexcept {
    using widest = std::chrono::duration<double>;
    if (widest(span) >= widest(steady_duration::max())) return steady_duration::max();
    if (!(widest(span) > widest(steady_duration::min()))) return steady_duration::min(); // or not a number
    return std::chrono::ceil<steady_duration>(span);
}
template <class Duration>
steady_time to_steady(std::chrono::time_point<std::chrono::steady_clock, Duration> point) noexcept {
    return steady_time(to_steady(point.time_since_epoch()));
}

} // namespace detail

/// `sleep_for` and `sleep_until`.
class [[nodiscard]] sleep_awaitable {
  public:
    using plait_awaitable_tag = void;

    PLAIT_API explicit sleep_awaitable(steady_time until) noexcept;
    PLAIT_API explicit sleep_awaitable(steady_duration span) noexcept;

    bool await_ready() const noexcept { return false; }
    template <detail::environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        return start(waiter, waiter.promise().plait_environment());
    }
    PLAIT_API sleep_result await_resume() noexcept;

  private:
    struct wait : detail::pending, detail::timer {
        wait() noexcept;
        bool canceled = false;
    };
    PLAIT_API bool start(std::coroutine_handle<> waiter, detail::environment& env);
    static void fire(detail::timer& timer) noexcept;
    static void cancel(detail::pending& pending) noexcept;
    static std::string describe(const detail::pending& pending);
    static const detail::pending_type type;

    wait wait_;
    steady_duration span_{};
    steady_time until_{};
    bool relative_;
};

/// Completes when `span` has passed; not earlier. Fails with errc::canceled only.
template <class Rep, class Period>
sleep_awaitable sleep_for(std::chrono::duration<Rep, Period> span) noexcept {
    return sleep_awaitable(detail::to_steady(span));
}

/// Completes when steady_clock has reached `until`. Fails with errc::canceled only.
template <class Duration>
sleep_awaitable sleep_until(std::chrono::time_point<std::chrono::steady_clock, Duration> until) noexcept {
    return sleep_awaitable(detail::to_steady(until));
}

namespace detail {

/// A scope with a timer that cancels it, and the environment that is put under it for a while.
class PLAIT_API limited_scope {
  public:
    limited_scope(environment& env, steady_time deadline);
    limited_scope(const limited_scope&) = delete;
    limited_scope& operator=(const limited_scope&) = delete;
    ~limited_scope() { env_.cancel = outer_; }

    /// The timer has fired, before anything else had cancelled the scope.
    bool expired() const noexcept { return limit_.expired; }
    /// Something inside ended as cancelled.
    bool cut() const noexcept { return limit_.noticed; }

  private:
    struct limit : scope, timer {
        limit() noexcept;
        bool expired = false;
    };
    environment& env_;
    scope* outer_;
    limit limit_;
};

/// A scope that outlasts its parent's cancellation by `grace`.
class PLAIT_API shield_scope {
  public:
    shield_scope(environment& env, steady_duration grace);
    shield_scope(const shield_scope&) = delete;
    shield_scope& operator=(const shield_scope&) = delete;
    ~shield_scope() { env_.cancel = outer_; }

  private:
    struct shield : scope, timer {
        shield() noexcept;
        steady_duration grace{};
    };
    environment& env_;
    scope* outer_;
    shield shield_;
};

/// A scope that a std::stop_token cancels, from any thread.
class PLAIT_API stoppable_scope {
  public:
    stoppable_scope(environment& env, std::stop_token token);
    stoppable_scope(const stoppable_scope&) = delete;
    stoppable_scope& operator=(const stoppable_scope&) = delete;
    ~stoppable_scope();

  private:
    struct ticket;
    environment& env_;
    scope* outer_;
    scope scope_;
    std::shared_ptr<ticket> ticket_;
};

template <class A>
task<as_io_result<await_result_t<A>>> limited(A awaitable, steady_duration span, steady_time deadline) {
    using result = await_result_t<A>;
    environment& env = co_await this_environment();
    if (span != steady_duration::max()) deadline = saturated_add(time_now(*env.context), span);
    limited_scope limit(env, deadline);
    if constexpr (is_io_result<result>) {
        result outcome = co_await std::move(awaitable);
        if (limit.expired() && outcome.raw_status().is(errc::canceled))
            co_return result(errc::timed_out, outcome.bytes());
        co_return outcome;
    } else if constexpr (std::is_void_v<result>) {
        co_await std::move(awaitable);
        // There is no value to lose: if something inside was cut off by the timer, it has timed out.
        if (limit.expired() && limit.cut()) co_return io_result<void>(errc::timed_out);
        co_return io_result<void>();
    } else {
        co_return io_result<regular<result>>(co_await std::move(awaitable));
    }
}

template <class A>
task<await_result_t<A>> shielded_from_stop(A awaitable, steady_duration grace) {
    environment& env = co_await this_environment();
    shield_scope shield(env, grace);
    co_return co_await std::move(awaitable);
}

template <class A>
task<await_result_t<A>> stopped_by(A awaitable, std::stop_token token) {
    environment& env = co_await this_environment();
    stoppable_scope scope(env, std::move(token));
    co_return co_await std::move(awaitable);
}

} // namespace detail

/// Runs `awaitable`, and cancels it when `span` has passed. Completes when it has completed, as itself or as
/// cancelled, never earlier. Gives errc::timed_out, with bytes(), only if this timer fired and the result was
/// errc::canceled; every other result, a value that won the race included, passes through.
template <class A, class Rep, class Period>
requires detail::plait_awaitable<A>
auto with_timeout(A awaitable, std::chrono::duration<Rep, Period> span) {
    return detail::limited<A>(std::move(awaitable), detail::to_steady(span), steady_time::max());
}

/// The same, with a point in time.
template <class A, class Duration>
requires detail::plait_awaitable<A>
auto with_deadline(A awaitable, std::chrono::time_point<std::chrono::steady_clock, Duration> deadline) {
    return detail::limited<A>(std::move(awaitable), steady_duration::max(), detail::to_steady(deadline));
}

/// Runs `awaitable`, and cancels it when `token` is stopped, from whatever thread.
template <class A>
requires detail::plait_awaitable<A>
auto with_stop(A awaitable, std::stop_token token) {
    return detail::stopped_by<A>(std::move(awaitable), std::move(token));
}

/// Runs `awaitable` although the scope around may be cancelled, for a goodbye or a flush. From that
/// cancellation on it has `grace`, then it is cancelled, too.
template <class A, class Rep, class Period>
requires detail::plait_awaitable<A>
auto shielded(A awaitable, std::chrono::duration<Rep, Period> grace) {
    return detail::shielded_from_stop<A>(std::move(awaitable), detail::to_steady(grace));
}

} // namespace plait::inline v1
