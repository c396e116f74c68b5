#include "src/helper_pool.hpp"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <thread>

namespace plait::inline v1 {
namespace detail {

helper_pool::ticket helper_pool::run(std::unique_ptr<posted> job) {
    std::unique_ptr<posted> refused; // destroyed without the lock
    std::lock_guard lock(mutex_);
    jobs_.push_back({++last_, std::move(job)});
    if (idle_ >= jobs_.size()) {
        changed_.notify_one();
        return last_;
    }
    if (threads_ == most_) return last_;
#if PLAIT_HAS_EXCEPTIONS
    try {
#endif
        std::thread(&helper_pool::work, this).detach();
        ++threads_;
        return last_;
#if PLAIT_HAS_EXCEPTIONS
    } catch (const std::system_error&) {
        refused = std::move(jobs_.back().job);
        jobs_.pop_back();
        return 0;
    }
#endif
}

void helper_pool::forget(ticket job) noexcept {
    std::unique_ptr<posted> forgotten; // destroyed without the lock
    std::lock_guard lock(mutex_);
    const auto found =
        std::find_if(jobs_.begin(), jobs_.end(), [job](const queued& each) { return each.number == job; });
    if (found == jobs_.end()) return;
    forgotten = std::move(found->job);
    jobs_.erase(found);
}

void helper_pool::work() {
    std::unique_lock lock(mutex_);
    for (;;) {
        ++idle_;
        const bool found =
            changed_.wait_for(lock, std::chrono::seconds(10), [this] { return !jobs_.empty(); });
        --idle_;
        if (!found) break;
        std::unique_ptr<posted> job = std::move(jobs_.front().job);
        jobs_.pop_front();
        lock.unlock();
        job->call();
        job.reset();
        lock.lock();
    }
    --threads_;
}

} // namespace detail
} // namespace plait::inline v1
