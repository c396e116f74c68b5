#include <plait/offload.hpp>

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
            const bool found =
                changed_.wait_for(lock, std::chrono::seconds(10), [this] { return !jobs_.empty(); });
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

} // namespace

void run_on_helper(std::unique_ptr<posted> job) {
    static helper_pool& pool = *new helper_pool;
    pool.run(std::move(job));
}

} // namespace detail
} // namespace plait::inline v1
