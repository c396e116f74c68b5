#include <plait/task_group.hpp>

#include "src/loop.hpp"

namespace plait::inline v1 {
namespace detail {
namespace {

// A join ends when the children have; its scope reaches them, so that nothing is left to do here.
void cancel_nothing(pending&) noexcept {}
constexpr pending_type join_type{"join", cancel_nothing};

} // namespace

const pending_type child_start{"start", cancel_nothing};

} // namespace detail

task_group::task_group() noexcept
    : join_(detail::join_type), exceptions_at_start_(std::uncaught_exceptions()) {}

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
    children_.push_back(child);
    ++size_;
    loop->make_ready(child);
}

bool task_group::begin_join(std::coroutine_handle<> handle, detail::environment& env) {
    PLAIT_ASSERT(!join_.waiter, "a task_group is joined by one task at a time");
    if (size_ == 0) return false;
    scope_.enter(*env.context, env.cancel);
    join_.waiter = handle;
    join_.waiting = &env;
    return true;
}

void task_group::forget_join() noexcept {
    join_.unlink();
    join_.waiter = nullptr;
    scope_.leave();
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
    if (--size_ == 0 && join_.waiter) scope_.context->make_ready(join_);
}

} // namespace plait::inline v1
