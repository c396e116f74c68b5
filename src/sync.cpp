#include <plait/sync.hpp>

#include "src/loop.hpp"

namespace plait::inline v1 {
namespace detail {
namespace {

void cancel_wait(pending& wait) noexcept {
    auto& self = static_cast<sync_wait&>(wait);
    self.leave_queue();
    self.fail(errc::canceled);
}

} // namespace

const pending_type event_wait{"event", cancel_wait};
const pending_type mutex_wait{"lock", cancel_wait};
const pending_type send_wait{"send to a channel", cancel_wait};
const pending_type receive_wait{"receive from a channel", cancel_wait};

bool sync_wait::begin(std::coroutine_handle<> handle, environment& env, loop*& owner, bool unused) {
    PLAIT_ASSERT(now_ == stage::idle || (now_ == stage::over && !failure_.ok()),
                 "a wait on an event, a mutex or a channel is awaited once, and again only after it failed");
    if (unused) owner = env.context;
    PLAIT_ASSERT(owner == env.context,
                 "an event, a mutex or a channel is used by the tasks of one context at a "
                 "time; post() to that context instead");
    failure_ = {};
    now_ = stage::waiting;
    if (begin_wait(*this, handle, env)) return true;
    failure_ = errc::canceled;
    now_ = stage::over;
    return false;
}

bool sync_wait::suspends() noexcept {
    if (now_ == stage::waiting) return true;
    pending::unlink(); // from those who are ready: it goes on at once
    return false;
}

void sync_wait::serve() noexcept {
    now_ = stage::served;
    wake();
}

void sync_wait::complete() noexcept {
    now_ = stage::over;
    wake();
}

void sync_wait::fail(status why) noexcept {
    const bool ready = now_ == stage::served; // what served it is gone
    now_ = stage::over;
    failure_ = why;
    if (why.is(errc::canceled)) waiting->cancel->notice();
    if (!ready) wake();
}

void sync_wait::wake() noexcept {
    PLAIT_ASSERT(
        loop::current() == waiting->context || !waiting->context->runs(),
        "an event, a mutex or a channel is used on the thread of the context whose tasks wait on it; "
        "post() to that context instead");
    make_ready(*this);
}

void fail_all(sync_queue& waits, errc why) noexcept {
    while (!waits.empty()) waits.pop_front().fail(why);
}

} // namespace detail

// --- event -------------------------------------------------------------------------------------------------------

event::~event() { detail::fail_all(waiting_, errc::canceled); }

bool event::start(detail::sync_wait& wait, std::coroutine_handle<> waiter, detail::environment& env) {
    if (!wait.begin(waiter, env, context_, waiting_.empty())) return false;
    if (set_)
        wait.complete();
    else
        waiting_.push_back(wait);
    return wait.suspends();
}

void event::set() noexcept {
    set_ = true;
    while (!waiting_.empty()) waiting_.pop_front().complete();
}

// --- mutex -------------------------------------------------------------------------------------------------------

mutex::~mutex() {
    if (holder_) holder_->mutex_ = nullptr;
    if (next_) next_->fail(errc::canceled);
    detail::fail_all(waiting_, errc::canceled);
}

bool mutex::start(detail::sync_wait& wait, std::coroutine_handle<> waiter, detail::environment& env) {
    if (!wait.begin(waiter, env, context_, !locked_)) return false;
    waiting_.push_back(wait);
    if (!locked_) pass_on();
    return wait.suspends();
}

void mutex::pass_on() noexcept {
    holder_ = nullptr;
    next_ = nullptr;
    locked_ = !waiting_.empty();
    if (!locked_) return;
    next_ = &waiting_.pop_front();
    next_->serve();
}

} // namespace plait::inline v1
