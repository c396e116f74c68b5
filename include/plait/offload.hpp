#pragma once
/// `offload`: a blocking call on a helper thread, awaited.
///
///     std::string line;
///     bool more = co_await plait::offload([&] { return bool(std::getline(std::cin, line)); });

#include <plait/foreign.hpp>
#include <plait/io_context.hpp>
#include <plait/task.hpp>

#include <exception>
#include <functional>
#include <memory>
#include <tuple>
#include <utility>

namespace plait::inline v1 {
namespace detail {

/// Runs `job` on a helper thread: an idle one, or a new one. Threads end when they were idle for a while.
PLAIT_API void run_on_helper(std::unique_ptr<posted> job);

extern PLAIT_API const pending_type offload_type;

/// A coroutine's wait for a helper thread. It cannot be cancelled: the call is under way.
class offload_wait : outside_wait {
  public:
    using outside_wait::plait_awaitable_tag;

    explicit offload_wait(std::function<void()> job) noexcept
        : outside_wait(offload_type), job_(std::move(job)) {}

    bool await_ready() const noexcept { return false; }
    template <environment_promise P>
    void await_suspend(std::coroutine_handle<P> waiter) {
        auto work = [job = std::move(job_),
                     done = begin(waiter, waiter.promise().plait_environment())]() mutable {
            job();
            job = nullptr;
            done();
        };
        run_on_helper(std::make_unique<posted_function<decltype(work)>>(std::move(work)));
    }
    void await_resume() const noexcept {}

  private:
    std::function<void()> job_;
};

/// A call with its result; shared with the helper thread, which may outlive the coroutine.
template <class R, class F, class... A>
struct offloaded {
    offloaded(F f, A... a) : function(std::move(f)), arguments(std::move(a)...) {}

    void call() noexcept {
#if PLAIT_HAS_EXCEPTIONS
        try {
            invoke();
        } catch (...) {
            exception = std::current_exception();
        }
#else
        invoke();
#endif
    }
    void invoke() {
        if constexpr (std::is_void_v<R>)
            std::apply(std::move(function), std::move(arguments));
        else
            result.emplace(std::apply(std::move(function), std::move(arguments)));
    }

    F function;
    std::tuple<A...> arguments;
    slot<R> result;
    std::exception_ptr exception;
};

template <class R, class F, class... A>
task<R> offload_call(F function, A... arguments) {
    auto call = std::make_shared<offloaded<R, F, A...>>(std::move(function), std::move(arguments)...);
    offload_wait wait([call] { call->call(); });
    co_await wait;
    if (call->exception) std::rethrow_exception(call->exception);
    if constexpr (!std::is_void_v<R>) co_return call->result.take();
}

} // namespace detail

/// Calls `f(args...)` on a helper thread, for what blocks: files, the keyboard. Completes when the call has
/// returned, with its result or its exception; it cannot be cancelled. If the coroutine is destroyed meanwhile,
/// the call goes on alone and its result is dropped: then `f` must not refer to what is gone.
template <class F, class... A>
auto offload(F f, A... args) {
    using result = std::invoke_result_t<F, A...>;
    return detail::offload_call<result, F, A...>(std::move(f), std::move(args)...);
}

} // namespace plait::inline v1
