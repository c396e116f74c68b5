#include <plait/detail/pending.hpp>

#include "src/loop.hpp"

namespace plait::inline v1 {
namespace detail {

void scope::enter(loop& owner, scope* outer) noexcept {
    context = &owner;
    parent = outer;
    if (!outer) return;
    unlink();
    outer->inner.push_back(*this);
    if (!outer->cancelled) return;
    if (parent_cancelled)
        parent_cancelled(*this);
    else
        cancel();
}

void scope::leave() noexcept {
    unlink();
    parent = nullptr;
}

void scope::cancel() noexcept {
    if (cancelled) return;
    cancelled = true;
    while (!waits.empty()) {
        pending& wait = waits.pop_front();
        wait.waiting->context->unscoped.push_back(wait); // until it has ended
        wait.type->cancel(wait);
    }
    inner.for_each([](scope& child) {
        if (child.parent_cancelled)
            child.parent_cancelled(child);
        else
            child.cancel();
    });
}

void scope::notice() noexcept {
    for (scope* s = this; s; s = s->parent) s->noticed = true;
}

bool begin_wait(pending& wait, std::coroutine_handle<> waiter, environment& env) noexcept {
    PLAIT_ASSERT(env.context, "this awaitable needs a context; use plait::run() or on(context, awaitable)");
    if (env.cancel->cancelled) {
        env.cancel->notice();
        return false;
    }
    wait.waiter = waiter;
    wait.waiting = &env;
    wait.since = env.context->stamp;
    env.cancel->waits.push_back(wait);
    return true;
}

void make_ready(pending& wait) noexcept {
    wait.unlink();
    wait.waiting->context->make_ready(wait);
}

void timer::arm(loop& loop, steady_time at) { loop.arm(*this, at); }

void timer::disarm() noexcept {
    if (position != unarmed) owner->disarm(*this);
}

steady_time time_now(loop& loop) noexcept { return loop.system->now(); }

loop_core& core_of(loop& loop) noexcept { return loop; }

int& frames_being_destroyed() noexcept {
    static constinit thread_local int depth = 0;
    return depth;
}

} // namespace detail

} // namespace plait::inline v1
