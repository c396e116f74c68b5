#include <plait/foreign.hpp>

#include "src/loop.hpp"

namespace plait::inline v1 {
namespace detail {
namespace {

void cancel_nothing(pending&) noexcept {}
constexpr pending_type outside_type{"resume_here", cancel_nothing};

} // namespace

const pending_type visitor_start{"start", cancel_nothing};

loop& loop_of(io_context& context) noexcept { return *context.loop_; }

void visitor::start(loop& on, std::coroutine_handle<> continuation) {
    promise_type& promise = handle_.promise();
    promise.continuation = continuation;
    promise.waiter = handle_;
    environment& env = promise.plait_environment();
    env.context = &on;
    env.cancel = &on.root_scope;
    promise.waiting = &env;
    if (loop::current() == &on) return on.make_ready(promise);
    auto begin = [&on, &promise] { on.make_ready(promise); };
    const bool taken = deliver(*on.box, std::make_unique<posted_function<decltype(begin)>>(begin));
    PLAIT_ASSERT(taken, "on(context, awaitable) needs a context that runs, or has yet to be run");
}

/// Only the loop's thread looks at `target`, which is gone once the coroutine is.
struct outside_wait::done::shared {
    pending* target;
    std::shared_ptr<mailbox> box;
};

outside_wait::outside_wait() noexcept : outside_wait(outside_type) {}
outside_wait::outside_wait(const pending_type& kind) noexcept : wait_(kind) {}

outside_wait::~outside_wait() {
    if (shared_) shared_->target = nullptr;
}

outside_wait::done outside_wait::begin(std::coroutine_handle<> waiter, environment& env) {
    wait_.waiter = waiter;
    wait_.waiting = &env;
    wait_.since = env.context->stamp;
    env.context->elsewhere.push_back(wait_);
    shared_ = std::make_shared<done::shared>();
    shared_->target = &wait_;
    shared_->box = env.context->box;
    done callback;
    callback.shared_ = shared_;
    return callback;
}

void outside_wait::done::operator()() const {
    auto resume = [state = shared_] {
        if (state->target) make_ready(*state->target);
    };
    deliver(*shared_->box, std::make_unique<posted_function<decltype(resume)>>(std::move(resume)));
}

} // namespace detail
} // namespace plait::inline v1
