#include <plait/time.hpp>

#include "src/loop.hpp"
#include "src/stop_hook.hpp"

namespace plait::inline v1 {

// --- sleeping ------------------------------------------------------------------------------------------------

const detail::pending_type sleep_awaitable::type{"sleep", &sleep_awaitable::cancel,
                                                 &sleep_awaitable::describe};

std::string sleep_awaitable::describe(const detail::pending& pending) {
    const wait& self = static_cast<const wait&>(pending);
    if (self.position == detail::timer::unarmed) return "sleep";
    return "sleep, " + detail::print_span(self.deadline - detail::time_now(*self.owner)) + " left";
}

sleep_awaitable::wait::wait() noexcept : pending(sleep_awaitable::type), timer(&sleep_awaitable::fire) {}

sleep_awaitable::sleep_awaitable(steady_time until) noexcept : until_(until), relative_(false) {}
sleep_awaitable::sleep_awaitable(steady_duration span) noexcept : span_(span), relative_(true) {}

bool sleep_awaitable::start(std::coroutine_handle<> waiter, detail::environment& env) {
    wait_.canceled = !detail::begin_wait(wait_, waiter, env);
    if (wait_.canceled) return false;
    const steady_time now = env.context->system->now();
    wait_.arm(*env.context, relative_ ? detail::saturated_add(now, span_) : until_);
    return true;
}

void sleep_awaitable::fire(detail::timer& timer) noexcept { detail::make_ready(static_cast<wait&>(timer)); }

void sleep_awaitable::cancel(detail::pending& pending) noexcept {
    wait& self = static_cast<wait&>(pending);
    self.canceled = true;
    self.disarm();
    self.waiting->cancel->notice();
    detail::make_ready(self);
}

sleep_result sleep_awaitable::await_resume() noexcept {
    if (wait_.canceled) return errc::canceled;
    return {};
}

namespace detail {

// --- time-outs -----------------------------------------------------------------------------------------------

limited_scope::limit::limit() noexcept
    : timer([](timer& due) noexcept {
          auto& self = static_cast<limit&>(due);
          self.expired = !self.cancelled;
          self.cancel();
      }) {}

limited_scope::limited_scope(environment& env, steady_time deadline) : env_(env), outer_(env.cancel) {
    limit_.enter(*env.context, outer_);
    if (deadline != steady_time::max()) limit_.arm(*env.context, deadline);
    env_.cancel = &limit_;
}

// --- shields -------------------------------------------------------------------------------------------------

shield_scope::shield::shield() noexcept
    : timer([](timer& due) noexcept { static_cast<shield&>(due).cancel(); }) {
    parent_cancelled = [](scope& self) noexcept {
        auto& mine = static_cast<shield&>(self);
        if (mine.position != unarmed) return;
        mine.arm(*mine.context, saturated_add(mine.context->system->now(), mine.grace));
    };
}

shield_scope::shield_scope(environment& env, steady_duration grace) : env_(env), outer_(env.cancel) {
    shield_.grace = grace;
    shield_.enter(*env.context, outer_);
    env_.cancel = &shield_;
}

// --- stop tokens ---------------------------------------------------------------------------------------------

/// Shared with the callback, which may run on another thread when the scope is gone already. Only the loop's
/// thread looks at `target`.
struct stoppable_scope::ticket {
    scope* target;
    std::optional<stop_hook> hook;
};

stoppable_scope::stoppable_scope(environment& env, std::stop_token token) : env_(env), outer_(env.cancel) {
    scope_.enter(*env.context, outer_);
    env_.cancel = &scope_;
    if (!token.stop_possible()) return;
    if (token.stop_requested()) {
        scope_.cancel();
        return;
    }
    ticket_ = std::make_shared<ticket>();
    ticket_->target = &scope_;
    ticket_->hook.emplace(std::move(token), [box = env.context->box, weak = std::weak_ptr(ticket_)] {
        auto stop = [weak] {
            if (auto held = weak.lock(); held && held->target) held->target->cancel();
        };
        deliver(*box, std::make_unique<posted_function<decltype(stop)>>(std::move(stop)));
    });
}

stoppable_scope::~stoppable_scope() {
    env_.cancel = outer_;
    if (ticket_) {
        ticket_->hook.reset();
        ticket_->target = nullptr;
    }
}

} // namespace detail
} // namespace plait::inline v1
