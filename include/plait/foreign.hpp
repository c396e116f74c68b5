#pragma once
/// Between plait's coroutines and others: `on(context, a)` awaits one of plait's awaitables in a coroutine of any
/// kind, `resume_here(a)` awaits any awaitable in a task.
///
///     my_coroutine f(plait::io_context& context) { co_await plait::on(context, plait::sleep_for(1s)); }
///     plait::task<int> g() { co_return co_await plait::resume_here(other_library_call()); }

#include <plait/io_context.hpp>
#include <plait/task.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace plait::inline v1 {
namespace detail {

/// A result that crosses from one coroutine to another.
template <class T>
struct crossing {
    slot<T> value;
    std::exception_ptr exception;

    T take() {
        if (exception) std::rethrow_exception(std::exchange(exception, nullptr));
        return value.take();
    }
};

/// A coroutine on the loop that a foreign one waits for.
class visitor {
  public:
    struct promise_type;

    explicit visitor(std::coroutine_handle<promise_type> frame) noexcept : handle_(frame) {}
    visitor(visitor&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    visitor& operator=(visitor&&) = delete;
    ~visitor() { destroy_frame(handle_); }

    /// Has the loop start it; `continuation` is resumed on the loop when it is done. From any thread.
    PLAIT_API void start(loop& on, std::coroutine_handle<> continuation);

  private:
    std::coroutine_handle<promise_type> handle_;
};

extern PLAIT_API const pending_type visitor_start;

struct visitor::promise_type : promise_base, pending {
    std::coroutine_handle<> continuation;

    promise_type() noexcept : pending(visitor_start) {}

    visitor get_return_object() noexcept {
        return visitor(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    struct final_awaiter {
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<promise_type> handle) const noexcept {
            promise_type& promise = handle.promise();
            core_of(*promise.plait_environment().context).next = promise.continuation;
        }
        void await_resume() const noexcept {}
    };
    final_awaiter final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() const noexcept { std::terminate(); } // visit() catches
};

template <class A, class T>
visitor visit(A& awaitable, crossing<T>& out) {
#if PLAIT_HAS_EXCEPTIONS
    try {
#endif
        if constexpr (std::is_void_v<T>)
            co_await std::move(awaitable);
        else
            out.value.emplace(co_await std::move(awaitable));
#if PLAIT_HAS_EXCEPTIONS
    } catch (...) {
        out.exception = std::current_exception();
    }
#endif
}

template <class A>
class [[nodiscard]] on_awaitable {
    using result = await_result_t<A>;

  public:
    on_awaitable(io_context& context, A awaitable) : context_(context), awaitable_(std::move(awaitable)) {}

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) {
        visitor_.emplace(visit(awaitable_, out_));
        visitor_->start(loop_of(context_), waiter);
    }
    result await_resume() { return out_.take(); }

  private:
    io_context& context_;
    A awaitable_;
    crossing<result> out_;
    std::optional<visitor> visitor_;
};

/// A wait for something that happens outside of the loop, perhaps on another thread.
class PLAIT_API outside_wait {
  public:
    using plait_awaitable_tag = void;

    outside_wait() noexcept;
    explicit outside_wait(const pending_type& kind) noexcept;
    outside_wait(const outside_wait&) = delete;
    outside_wait& operator=(const outside_wait&) = delete;
    ~outside_wait();

    /// Called once, from any thread: the wait is over.
    class done {
      public:
        void operator()() const;

      private:
        friend class outside_wait;
        struct shared;
        std::shared_ptr<shared> shared_;
    };

  protected:
    done begin(std::coroutine_handle<> waiter, environment& env);

  private:
    pending wait_;
    std::shared_ptr<done::shared> shared_;
};

/// A coroutine that starts at once and frees itself.
struct shuttle {
    struct promise_type : recycled_frame {
        shuttle get_return_object() const noexcept { return {}; }
        std::suspend_never initial_suspend() const noexcept { return {}; }
        std::suspend_never final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        void unhandled_exception() const noexcept { std::terminate(); } // fetch() catches
    };
};

template <class A>
decltype(auto) foreign_awaiter(A&& awaitable) {
    if constexpr (requires { static_cast<A&&>(awaitable).operator co_await(); })
        return static_cast<A&&>(awaitable).operator co_await();
    else if constexpr (requires { operator co_await(static_cast<A&&>(awaitable)); })
        return operator co_await(static_cast<A&&>(awaitable));
    else
        return static_cast<A&&>(awaitable);
}

/// What it gives; an object where that is a reference to a temporary one.
template <class R>
using foreign_value = std::conditional_t<std::is_rvalue_reference_v<R>, std::remove_reference_t<R>, R>;
template <class A>
using foreign_result = foreign_value<decltype(foreign_awaiter(std::declval<A>()).await_resume())>;

template <class A, class T>
shuttle fetch(A awaitable, std::shared_ptr<crossing<T>> out, outside_wait::done done) {
#if PLAIT_HAS_EXCEPTIONS
    try {
#endif
        if constexpr (std::is_void_v<T>)
            co_await std::move(awaitable);
        else
            out->value.emplace(co_await std::move(awaitable));
#if PLAIT_HAS_EXCEPTIONS
    } catch (...) {
        out->exception = std::current_exception();
    }
#endif
    done();
}

template <class A>
class [[nodiscard]] resume_here_awaitable : outside_wait {
    using result = foreign_result<A>;

  public:
    using outside_wait::plait_awaitable_tag;

    explicit resume_here_awaitable(A awaitable) : awaitable_(std::move(awaitable)) {}
    resume_here_awaitable(resume_here_awaitable&& other)
        : outside_wait(), awaitable_(std::move(other.awaitable_)) {}

    bool await_ready() const noexcept { return false; }
    template <environment_promise P>
    void await_suspend(std::coroutine_handle<P> waiter) {
        out_ = std::make_shared<crossing<result>>();
        fetch(std::move(awaitable_), out_, begin(waiter, waiter.promise().plait_environment()));
    }
    result await_resume() { return out_->take(); }

  private:
    A awaitable_;
    std::shared_ptr<crossing<result>> out_;
};

} // namespace detail

/// Awaits one of plait's awaitables in a coroutine of any type: it runs on `context`, in the context's own scope,
/// and the coroutine goes on there, on the context's thread. The context must be running, or be run later.
template <class A>
requires detail::plait_awaitable<A>
auto on(io_context& context, A awaitable) { return detail::on_awaitable<A>(context, std::move(awaitable)); }

/// Awaits any awaitable in a task, and comes back to the task's event loop from whatever thread it completes on.
/// It cannot be cancelled. If the task is destroyed meanwhile, the awaitable goes on alone.
template <class A>
auto resume_here(A awaitable) {
    return detail::resume_here_awaitable<A>(std::move(awaitable));
}

} // namespace plait::inline v1
