#pragma once
/// `task<T>`: a coroutine that starts when it is awaited and is owned by whoever awaits it.
///
///     plait::task<std::size_t> copy_one(plait::tcp_stream& from, plait::tcp_stream& to) {
///         auto piece = co_await from.recv();
///         if (!piece) co_return 0;
///         co_return (co_await to.send_all(piece->bytes())).bytes();
///     }

#include <plait/detail/memory.hpp>
#include <plait/detail/pending.hpp>
#include <plait/detail/slot.hpp>

#include <concepts>
#include <coroutine>
#include <exception>
#include <type_traits>
#include <utility>

namespace plait::inline v1 {

class io_context;
template <class T>
class task;

namespace detail {

/// A promise through which plait's awaitables find their loop and their scope.
template <class P>
concept environment_promise = requires(P& promise) {
    { promise.plait_environment() } -> std::same_as<environment&>;
};

/// plait's own awaitables name themselves, so that a task can refuse the others.
template <class A>
concept plait_awaitable = requires {
    typename std::remove_cvref_t<A>::plait_awaitable_tag;
};

/// A result as others keep it: see sleep_result, which only differs where it is dropped.
template <class R>
struct kept_result {
    using type = R;
};

template <class A>
using awaited_by = typename kept_result<decltype(std::declval<A>().await_resume())>::type;

template <class A>
struct await_result {
    using type = awaited_by<A>;
};
template <class A>
requires requires(A&& a) { std::forward<A>(a).operator co_await(); }
struct await_result<A> {
    using type = awaited_by<decltype(std::declval<A>().operator co_await())>;
};

/// What `co_await a` gives.
template <class A>
using await_result_t = typename await_result<A&&>::type;

/// Answers the environment of the coroutine that awaits it, without suspending it.
struct this_environment {
    using plait_awaitable_tag = void;
    environment* env = nullptr;

    bool await_ready() const noexcept { return false; }
    template <environment_promise P>
    bool await_suspend(std::coroutine_handle<P> handle) noexcept {
        env = &handle.promise().plait_environment();
        return false;
    }
    environment& await_resume() const noexcept { return *env; }
};

/// Stands for an awaitable that stays where it is. (g++ 12 copies an awaitable that await_transform answers by
/// reference, and a wait that has begun must not move.)
template <class A>
class awaiter_reference {
  public:
    explicit awaiter_reference(A& awaitable) noexcept : awaitable_(awaitable) {}

    bool await_ready() { return awaitable_.await_ready(); }
    template <class P>
    auto await_suspend(std::coroutine_handle<P> handle) {
        return awaitable_.await_suspend(handle);
    }
    decltype(auto) await_resume() { return awaitable_.await_resume(); }

  private:
    A& awaitable_;
};

/// What every coroutine type of the library shares.
class promise_base : public recycled_frame {
  public:
    environment& plait_environment() noexcept { return environment_; }

    std::suspend_always initial_suspend() const noexcept { return {}; }

    /// (Not one argument of type location: g++ 12 would keep each in the frame.)
    template <class A>
    PLAIT_HOT auto await_transform(A&& awaitable, const char* file = __builtin_FILE(),
                                   const char* function = __builtin_FUNCTION(),
                                   unsigned line = __builtin_LINE()) noexcept {
        static_assert(
            plait_awaitable<A>,
            "a plait::task awaits plait's own awaitables; wrap any other in resume_here(awaitable), "
            "which comes back to this task's event loop");
        environment_.awaits.file = file;
        environment_.awaits.function = function;
        environment_.awaits.line = line;
        if constexpr (requires { static_cast<A&&>(awaitable).operator co_await(); })
            return static_cast<A&&>(awaitable).operator co_await();
        else
            return awaiter_reference<std::remove_reference_t<A>>(awaitable);
    }

  protected:
    environment environment_;
};

/// A result that may also be an exception.
template <class T>
class promise_result {
  public:
    /// (With a default, so that `co_return {};` finds a type.)
    template <class U = T>
    requires std::convertible_to<U, T>
    void return_value(U&& value) { value_.emplace(std::forward<U>(value)); }
    void unhandled_exception() noexcept { exception_ = std::current_exception(); }

    T take() {
        if (exception_) std::rethrow_exception(std::exchange(exception_, nullptr));
        return value_.take();
    }

  private:
    slot<T> value_;
    std::exception_ptr exception_;
};

/// A reference to what outlives the coroutine.
template <class T>
class promise_result<T&> {
  public:
    template <class U>
    requires std::convertible_to<U*, T*>
    void return_value(U& value) noexcept { value_.emplace(value); }
    void unhandled_exception() noexcept { exception_ = std::current_exception(); }

    T& take() {
        if (exception_) std::rethrow_exception(std::exchange(exception_, nullptr));
        return value_.take();
    }

  private:
    slot<T&> value_;
    std::exception_ptr exception_;
};

template <>
class promise_result<void> {
  public:
    void return_void() const noexcept {}
    void unhandled_exception() noexcept { exception_ = std::current_exception(); }

    void take() {
        if (exception_) std::rethrow_exception(std::exchange(exception_, nullptr));
    }

  private:
    std::exception_ptr exception_;
};

struct task_access;

class task_promise_base : public promise_base {
  public:
    union {
        std::coroutine_handle<> continuation =
            nullptr;    ///< set once the awaiting coroutine has really suspended
        pending* child; ///< nobody awaits this task (environment_.parent is null): it is a task_group's
    };

    /// Names the parent as the loop's next to run instead of jumping to it: a symmetric transfer is a real call
    /// in g++ 12 below -O2 and under its sanitizers, and children that complete at once would then use up the stack.
    struct final_awaiter {
        bool await_ready() const noexcept { return false; }
        template <class P>
        void await_suspend(std::coroutine_handle<P> handle) const noexcept {
            task_promise_base& promise = handle.promise();
            loop_core& core = core_of(*promise.environment_.context);
            if (!promise.environment_.parent)
                core.finished_child = promise.child;
            else if (promise.continuation)
                core.next = promise.continuation;
        }
        void await_resume() const noexcept {}
    };
    final_awaiter final_suspend() const noexcept { return {}; }
};

template <class T>
class task_promise final : public task_promise_base, public promise_result<T> {
  public:
    task<T> get_return_object() noexcept;
};

} // namespace detail

/// A lazy coroutine: starts when it is awaited, is awaited once, and hands its context and its cancellation scope
/// to the tasks that it awaits. Destroying one that has not finished is safe: what the kernel still works on is
/// cancelled and waited for first.
template <class T = void>
class [[nodiscard]] task {
  public:
    using promise_type = detail::task_promise<T>;
    /// What it returns.
    using value_type = T;
    using plait_awaitable_tag = void;

    /// No coroutine.
    task() noexcept = default;
    task(task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    task& operator=(task&& other) noexcept {
        if (this != &other) {
            reset();
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    ~task() { reset(); }

    /// False for a task that was moved from.
    explicit operator bool() const noexcept { return static_cast<bool>(handle_); }

    /// Completes when the coroutine returns; gives what it returned, or rethrows what it threw.
    class awaiter {
      public:
        explicit awaiter(std::coroutine_handle<promise_type> child) noexcept : child_(child) {}

        bool await_ready() const noexcept {
            PLAIT_ASSERT(child_ && !child_.promise().plait_environment().parent, // set by the first await
                         "a task can be awaited once, and not after it was moved from");
            return false;
        }
        template <detail::environment_promise P>
        bool await_suspend(std::coroutine_handle<P> parent) {
            detail::environment& mine = child_.promise().plait_environment();
            detail::environment& theirs = parent.promise().plait_environment();
            mine.context = theirs.context;
            mine.cancel = theirs.cancel;
            mine.parent = &theirs;
            child_.resume();
            if (child_.done()) return false;
            child_.promise().continuation = parent;
            return true;
        }
        T await_resume() { return child_.promise().take(); }

      private:
        std::coroutine_handle<promise_type> child_;
    };

    awaiter operator co_await() && noexcept { return awaiter(handle_); }
    awaiter operator co_await() & noexcept { return awaiter(handle_); }

  private:
    friend promise_type;
    friend struct detail::task_access;
    explicit task(std::coroutine_handle<promise_type> handle) noexcept : handle_(handle) {}

    void reset() noexcept { detail::destroy_frame(std::exchange(handle_, nullptr)); }

    std::coroutine_handle<promise_type> handle_;
};

namespace detail {

/// For the library, which starts a task that nobody awaits.
struct task_access {
    template <class T>
    static std::coroutine_handle<task_promise<T>> handle(task<T>& work) noexcept {
        return work.handle_;
    }
};

template <class T>
task<T> task_promise<T>::get_return_object() noexcept {
    return task<T>(std::coroutine_handle<task_promise<T>>::from_promise(*this));
}

} // namespace detail

/// `io_context& context = co_await this_context();`
struct [[nodiscard]] this_context {
    using plait_awaitable_tag = void;

    bool await_ready() const noexcept { return false; }
    template <detail::environment_promise P>
    bool await_suspend(std::coroutine_handle<P> handle) noexcept {
        loop_ = handle.promise().plait_environment().context;
        return false;
    }
    PLAIT_API io_context& await_resume() const noexcept;

  private:
    detail::loop* loop_ = nullptr;
};

/// `if (co_await stop_requested()) …`: whether the scope that this coroutine runs in was cancelled.
struct [[nodiscard]] stop_requested {
    using plait_awaitable_tag = void;

    bool await_ready() const noexcept { return false; }
    template <detail::environment_promise P>
    bool await_suspend(std::coroutine_handle<P> handle) noexcept {
        stopped_ = handle.promise().plait_environment().cancel->cancelled;
        return false;
    }
    bool await_resume() const noexcept { return stopped_; }

  private:
    bool stopped_ = false;
};

/// Lets everything else that is ready run first.
class [[nodiscard]] yield {
  public:
    using plait_awaitable_tag = void;

    PLAIT_API yield() noexcept;

    bool await_ready() const noexcept { return false; }
    template <detail::environment_promise P>
    void await_suspend(std::coroutine_handle<P> handle) noexcept {
        wait_.waiter = handle;
        wait_.waiting = &handle.promise().plait_environment();
        detail::make_ready(wait_);
    }
    void await_resume() const noexcept {}

  private:
    detail::pending wait_;
};

} // namespace plait::inline v1
