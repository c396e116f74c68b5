#pragma once
/// Threads for calls that block.

#include <plait/io_context.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>

namespace plait::inline v1 {
namespace detail {

/// Starts threads on demand, at most that many, which end when they were idle for a while. Any thread may call it.
///
/// A pool is process-wide and never destroyed, and its threads are detached: one may be blocked in the system when
/// main() returns, and must not hold up the end of the process. So a job owns all that it refers to.
class helper_pool {
  public:
    static constexpr std::size_t unlimited = static_cast<std::size_t>(-1);

    explicit helper_pool(std::size_t most) noexcept : most_(most) {}
    helper_pool(const helper_pool&) = delete;
    helper_pool& operator=(const helper_pool&) = delete;
    ~helper_pool() = delete;

    /// Numbers a job; addresses would not do, because a new job may get that of one that is gone. 0 is none.
    using ticket = std::uint64_t;

    /// Takes `job` over: an idle thread calls it, or a new one, or, at the limit, the next that has time. 0 when the
    /// system refuses a thread; then the job is gone.
    ticket run(std::unique_ptr<posted> job);

    /// Destroys that job if no thread has begun with it.
    void forget(ticket job) noexcept;

  private:
    struct queued {
        ticket number;
        std::unique_ptr<posted> job;
    };
    void work();

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<queued> jobs_;
    ticket last_ = 0;
    const std::size_t most_;
    std::size_t threads_ = 0;
    std::size_t idle_ = 0;
};

} // namespace detail
} // namespace plait::inline v1
