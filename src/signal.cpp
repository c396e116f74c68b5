#include <plait/signal.hpp>

#include "src/loop.hpp"

namespace plait::inline v1 {
namespace detail {

status signal_watch::start(loop& loop) noexcept {
    const auto& wake = loop.box->get_waker();
    for (std::size_t i = 0; i < signals_.numbers().size(); ++i) {
        const int number = signals_.numbers()[i];
        seen_[i] = signal_arrivals(number); // before it is watched, so that none in between is missed
        if (const status failure = watch_signal(number, wake); !failure.ok()) {
            while (i-- > 0) unwatch_signal(signals_.numbers()[i], wake);
            return failure;
        }
    }
    loop_ = &loop;
    loop.signal_hooks.push_back(*this);
    return {};
}

void signal_watch::stop() noexcept {
    unlink();
    loop* watched = std::exchange(loop_, nullptr);
    if (!watched) return;
    for (int number : signals_.numbers()) unwatch_signal(number, watched->box->get_waker());
}

int signal_watch::arrived() noexcept {
    for (std::size_t i = 0; i < signals_.numbers().size(); ++i) {
        const int number = signals_.numbers()[i];
        if (signal_arrivals(number) == seen_[i]) continue;
        ++seen_[i];
        return number;
    }
    return 0;
}

} // namespace detail

const detail::pending_type signal_awaitable::type{"wait_for_signal", &signal_awaitable::cancel};

signal_awaitable::wait::wait(signal_list signals) noexcept
    : pending(signal_awaitable::type), signal_watch(signals, [](detail::loop_hook& hook) noexcept {
          auto& self = static_cast<wait&>(static_cast<detail::signal_watch&>(hook));
          self.signal = self.arrived();
          if (self.signal == 0) return;
          static_cast<detail::loop_hook&>(self).unlink();
          detail::make_ready(self);
      }) {}

signal_awaitable::signal_awaitable(signal_list signals) noexcept : wait_(signals) {}

bool signal_awaitable::start(std::coroutine_handle<> waiter, detail::environment& env) {
    if (!detail::begin_wait(wait_, waiter, env)) {
        wait_.failure = errc::canceled;
        return false;
    }
    wait_.failure = wait_.signal_watch::start(*env.context);
    if (wait_.failure.ok()) return true;
    static_cast<detail::pending&>(wait_).unlink();
    return false;
}

void signal_awaitable::cancel(detail::pending& pending) noexcept {
    wait& self = static_cast<wait&>(pending);
    self.failure = errc::canceled;
    self.waiting->cancel->notice();
    static_cast<detail::loop_hook&>(self).unlink();
    detail::make_ready(self);
}

io_result<int> signal_awaitable::await_resume() noexcept {
    wait_.stop();
    if (!wait_.failure.ok()) return {wait_.failure, 0};
    return wait_.signal;
}

// --- requests for a dump ---------------------------------------------------------------------------------------

const detail::pending_type dump_request_awaitable::type{"wait_for_dump_request",
                                                        &dump_request_awaitable::cancel};

dump_request_awaitable::wait::wait() noexcept
    : pending(dump_request_awaitable::type), loop_hook([](detail::loop_hook& hook) noexcept {
          auto& self = static_cast<wait&>(hook);
          const std::uint64_t arrived = detail::signal_arrivals(detail::dump_signal);
          if (arrived == self.seen) return;
          self.waiting->context->dump_requests_seen = arrived;
          hook.unlink();
          detail::make_ready(self);
      }) {}

dump_request_awaitable::dump_request_awaitable() noexcept = default;

bool dump_request_awaitable::start(std::coroutine_handle<> waiter, detail::environment& env) {
    if (!detail::begin_wait(wait_, waiter, env)) {
        wait_.failure = errc::canceled;
        return false;
    }
    detail::loop& context = *env.context;
    wait_.failure = context.watch_dump_requests();
    wait_.seen = detail::signal_arrivals(detail::dump_signal);
    if (wait_.failure.ok() && wait_.seen == context.dump_requests_seen) {
        context.signal_hooks.push_back(wait_);
        return true;
    }
    context.dump_requests_seen = wait_.seen;
    static_cast<detail::pending&>(wait_).unlink();
    return false;
}

void dump_request_awaitable::cancel(detail::pending& pending) noexcept {
    wait& self = static_cast<wait&>(pending);
    self.failure = errc::canceled;
    static_cast<detail::loop_hook&>(self).unlink();
    self.waiting->cancel->notice();
    detail::make_ready(self);
}

namespace detail {

/// For the context's whole life: between two waits a request must not end the process.
status loop::watch_dump_requests() noexcept {
    if (dump_requests_watched_) return {};
    dump_requests_seen = signal_arrivals(dump_signal);
    const status failure = watch_signal(dump_signal, box->get_waker());
    dump_requests_watched_ = failure.ok();
    return failure;
}

} // namespace detail

} // namespace plait::inline v1
