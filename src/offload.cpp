#include <plait/offload.hpp>

#include "src/loop.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace plait::inline v1 {
namespace detail {
namespace {

/// Process-wide and never destroyed: a thread may be blocked in read(2) when main() returns.
class helper_pool {
  public:
    void run(std::unique_ptr<posted> job) {
        std::lock_guard lock(mutex_);
        jobs_.push_back(std::move(job));
        if (idle_ >= jobs_.size()) return changed_.notify_one();
        // Each blocked call has a thread of its own: one that waits for the keyboard must not hold up a file.
        std::thread(&helper_pool::work, this).detach();
    }

  private:
    void work() {
        std::unique_lock lock(mutex_);
        for (;;) {
            ++idle_;
            const bool found = changed_.wait_for(lock, std::chrono::seconds(10), [this] { return !jobs_.empty(); });
            --idle_;
            if (!found) return;
            std::unique_ptr<posted> job = std::move(jobs_.front());
            jobs_.pop_front();
            lock.unlock();
            job->call();
            job.reset();
            lock.lock();
        }
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::unique_ptr<posted>> jobs_;
    std::size_t idle_ = 0;
};

void cancel_nothing(pending&) noexcept {}
constexpr pending_type offload_type{"offload", cancel_nothing};

} // namespace

void run_on_helper(std::unique_ptr<posted> job) {
    static helper_pool& pool = *new helper_pool;
    pool.run(std::move(job));
}

/// Only the loop's thread looks at `target`, which is gone once the coroutine is.
struct offload_wait::shared {
    pending* target;
};

offload_wait::offload_wait(std::unique_ptr<posted> job) noexcept : wait_(offload_type), job_(std::move(job)) {}

offload_wait::~offload_wait() {
    if (shared_) shared_->target = nullptr;
}

void offload_wait::start(std::coroutine_handle<> waiter, environment& env) {
    shared_ = std::make_shared<shared>();
    shared_->target = &wait_;
    wait_.waiter = waiter;
    wait_.waiting = &env;
    auto work = [job = std::shared_ptr<posted>(std::move(job_)), state = shared_, box = env.context->box]() mutable {
        job->call();
        job.reset();
        auto resume = [state = std::move(state)] {
            if (state->target) make_ready(*state->target);
        };
        deliver(*box, std::make_unique<posted_function<decltype(resume)>>(std::move(resume)));
    };
    run_on_helper(std::make_unique<posted_function<decltype(work)>>(std::move(work)));
}

} // namespace detail
} // namespace plait::inline v1
