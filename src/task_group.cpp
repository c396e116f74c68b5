#include <plait/task_group.hpp>

#include "src/loop.hpp"

namespace plait::inline v1 {
namespace detail {
namespace {

// A join ends when the children have; its scope reaches them, so that nothing is left to do here.
void cancel_nothing(pending&) noexcept {}

} // namespace

const pending_type child_start{"start", cancel_nothing};

} // namespace detail

task_group::joining::joining(const task_group& of) noexcept : pending(join_type), group(of) {}

constexpr detail::pending_type task_group::join_type{"join", detail::cancel_nothing, describe_join};

std::string task_group::describe_join(const detail::pending& wait) {
    const std::size_t children = static_cast<const joining&>(wait).group.size();
    return "join of " + std::to_string(children) + (children == 1 ? " task" : " tasks");
}

task_group::task_group(detail::location made) noexcept
    : join_(*this), exceptions_at_start_(std::uncaught_exceptions()), made_(made) {
    scope_.group = this;
}

task_group::~task_group() {
    if (size_ == 0) return;
    PLAIT_ASSERT(
        detail::frames_being_destroyed() > 0 || std::uncaught_exceptions() > exceptions_at_start_,
        "a task_group is destroyed while children run; co_await group.join() before it goes out of scope");
    scope_.cancel();
    while (!children_.empty()) children_.pop_front().destroy();
}

void task_group::adopt(detail::child_base& child, std::coroutine_handle<> coroutine,
                       detail::environment& env) {
    detail::loop* loop = detail::loop::current();
    if (!loop) child.destroy();
    PLAIT_ASSERT(loop, "spawn() needs a running context; call it from a task");
    PLAIT_ASSERT(!scope_.context || scope_.context == loop, "a task_group belongs to one context");
    scope_.context = loop;
    child.group = this;
    child.waiter = coroutine;
    child.waiting = &env;
    env.context = loop;
    env.cancel = &scope_;
    if (!scope_.linked()) loop->loose.push_back(scope_);
    children_.push_back(child);
    if (size_++ == 0 && join_.waiter) { // join() was about to resume: it has one more to wait for
        join_.unlink();
        loop->unscoped.push_back(join_);
    }
    loop->make_ready(child);
}

bool task_group::begin_join(std::coroutine_handle<> handle, detail::environment& env) {
    PLAIT_ASSERT(!join_.waiter, "a task_group is joined by one task at a time");
    if (size_ == 0) return false;
    scope_.enter(*env.context, env.cancel);
    join_.waiter = handle;
    join_.waiting = &env;
    join_.since = env.context->stamp;
    env.context->unscoped.push_back(join_);
    return true;
}

void task_group::forget_join() noexcept {
    join_.unlink();
    join_.waiter = nullptr;
    scope_.leave();
    if (size_ > 0 && detail::current_loop() == scope_.context) scope_.context->loose.push_back(scope_);
}

void task_group::end_join() {
    forget_join();
    scope_.cancelled = false;
    if (exception_) std::rethrow_exception(std::exchange(exception_, nullptr));
}

void task_group::child_ended(detail::child_base& child) noexcept {
    child.ended();
    std::exception_ptr exception = std::move(child.exception);
    static_cast<detail::sibling&>(child).unlink();
    child.destroy();
    if (exception && !exception_) {
        exception_ = std::move(exception);
        scope_.cancel();
    }
    if (--size_ == 0 && join_.waiter) detail::make_ready(join_);
}

} // namespace plait::inline v1
