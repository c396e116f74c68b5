#pragma once
/// `task_group`: tasks that run side by side and are joined before their owner goes on.
///
///     plait::task_group group;
///     group.spawn(copy, std::ref(left), std::ref(right));    // keeps the callable and its arguments alive
///     group.spawn(copy, std::ref(right), std::ref(left));
///     co_await group.join();                                  // rethrows the first exception

#include <plait/task.hpp>

#include <functional>
#include <string>
#include <tuple>

namespace plait::inline v1 {

class task_group;

namespace detail {

struct sibling : list_node {};

/// A child of a task_group: a coroutine, `waiter`, that the loop starts, and something around it that the loop
/// destroys once that has ended.
struct child_base : pending, sibling {
    explicit child_base(const pending_type& kind) noexcept : pending(kind) {}

    /// The coroutine has ended.
    virtual void ended() noexcept {}
    /// Destroys the coroutine, ended or not, and this.
    virtual void destroy() noexcept = 0;

    task_group* group = nullptr;
    std::exception_ptr exception; ///< for the group, after ended()

  protected:
    ~child_base() = default;
};

/// The coroutine around a child: holds the callable and its arguments, and is destroyed by the loop when it ends.
class child {
  public:
    struct promise_type;
    explicit child(std::coroutine_handle<promise_type> frame) noexcept : handle(frame) {}
    std::coroutine_handle<promise_type> handle;
};

extern PLAIT_API const pending_type child_start;

struct child::promise_type final : promise_base, child_base {
    promise_type() noexcept : child_base(child_start) {}

    child get_return_object() noexcept {
        return child(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    struct final_awaiter {
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<promise_type> ended) const noexcept {
            promise_type& promise = ended.promise();
            core_of(*promise.plait_environment().context).finished_child = &promise;
        }
        void await_resume() const noexcept {}
    };
    final_awaiter final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() noexcept { exception = std::current_exception(); }
    void destroy() noexcept override {
        destroy_frame(std::coroutine_handle<promise_type>::from_promise(*this));
    }
};

template <class F, class... A>
child run_child(F function, A... arguments) {
    static_cast<void>(co_await std::invoke(std::move(function), std::move(arguments)...));
}

inline child run_child_task(task<> work) { co_await std::move(work); }

} // namespace detail

/// Children run on the context of the task that spawns them and in the scope of the task that awaits join().
///
/// A group is joined before it is destroyed; anything else aborts with a message. Only when an exception unwinds,
/// or the frame around is destroyed, are the children cancelled, drained and destroyed instead.
class PLAIT_API task_group {
  public:
    /// An empty group. `made` is for io_context::dump().
    task_group(detail::location made = detail::location::current()) noexcept;
    task_group(const task_group&) = delete;
    task_group& operator=(const task_group&) = delete;
    /// After join(); see above.
    ~task_group();

    /// Queues `f(args...)`, which gives a task; the result of a task<T> is dropped. `f` and the arguments live as
    /// long as the task; pass std::ref(x) for a reference.
    template <class F, class... A>
    requires(sizeof...(A) > 0 || std::invocable<std::decay_t<F>>) void spawn(F&& f, A&&... args) {
        using namespace detail;
        adopt(run_child<std::decay_t<F>, std::decay_t<A>...>(std::forward<F>(f), std::forward<A>(args)...));
    }

    /// Queues `work`.
    void spawn(task<> work) { adopt(detail::run_child_task(std::move(work))); }

    /// Completes when every child has ended and its frame and arguments are gone. Rethrows the first exception;
    /// that exception has stopped the siblings. Cancelling the scope of the awaiting task cancels the children.
    /// The group can be used again afterwards.
    class [[nodiscard]] join_awaitable {
      public:
        using plait_awaitable_tag = void;
        explicit join_awaitable(task_group& group) noexcept : group_(&group) {}
        join_awaitable(join_awaitable&& other) noexcept : group_(other.group_) {}
        ~join_awaitable() {
            if (waiting_) group_->forget_join();
        }

        bool await_ready() const noexcept { return false; }
        template <detail::environment_promise P>
        bool await_suspend(std::coroutine_handle<P> handle) {
            return waiting_ = group_->begin_join(handle, handle.promise().plait_environment());
        }
        void await_resume() {
            waiting_ = false;
            group_->end_join();
        }

      private:
        task_group* group_;
        bool waiting_ = false;
    };
    /// Completes when every child has ended; see join_awaitable.
    join_awaitable join() noexcept { return join_awaitable(*this); }

    // For the library's dumps: the coroutine that joins the group, or that it belongs to until then; nullptr if nobody
    // does yet.
    const detail::environment* owner() const noexcept { return join_.waiter ? join_.waiting : owner_; }
    void belongs_to(const detail::environment* owner) noexcept { owner_ = owner; }
    detail::location made() const noexcept { return made_; }

    // For the library: `child` belongs to the group from now on; the loop starts `coroutine`, which has `env`.
    void adopt(detail::child_base& child, std::coroutine_handle<> coroutine, detail::environment& env);

    /// Cancels the children. Those spawned later start cancelled, until join() has returned.
    void request_stop() noexcept { scope_.cancel(); }

    /// Children that have not ended.
    std::size_t size() const noexcept { return size_; }

  private:
    friend class detail::loop;

    void adopt(detail::child child) {
        detail::child::promise_type& promise = child.handle.promise();
        adopt(promise, child.handle, promise.plait_environment());
    }
    bool begin_join(std::coroutine_handle<> handle, detail::environment& env);
    void end_join();
    void forget_join() noexcept;
    void child_ended(detail::child_base& child) noexcept;

    struct joining : detail::pending {
        explicit joining(const task_group& of) noexcept;
        const task_group& group;
    };
    static std::string describe_join(const detail::pending& wait);
    static const detail::pending_type join_type;

    detail::scope scope_;
    joining join_;
    detail::list<detail::child_base, detail::sibling> children_;
    std::size_t size_ = 0;
    int exceptions_at_start_;
    std::exception_ptr exception_;
    const detail::environment* owner_ = nullptr;
    detail::location made_;
};

} // namespace plait::inline v1
