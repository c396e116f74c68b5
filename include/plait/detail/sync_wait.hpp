#pragma once
/// A coroutine's wait in the queue of an event, a mutex or a channel: a part of the awaitable, so that nothing is
/// allocated.

#include <plait/detail/pending.hpp>

#include <cstdint>

namespace plait::inline v1 {
namespace detail {

struct in_queue : list_node {};

/// While it waits it is in its scope's list and in a queue. Once its outcome is known it is in the loop's list of those
/// who are ready, and a cancellation reaches it no more.
struct PLAIT_API sync_wait : pending, in_queue {
    explicit sync_wait(const pending_type& kind) noexcept : pending(kind) {}
    sync_wait(sync_wait&& other) noexcept : pending(std::move(other)), in_queue() {}

    /// False when the scope is cancelled: the wait has failed. `owner` is the context of those who use the object that
    /// is waited on; an unused object may change it.
    bool begin(std::coroutine_handle<> handle, environment& env, loop*& owner, bool unused);
    /// After begin(), and after the object has had its chance to serve it at once: whether the coroutine suspends.
    bool suspends() noexcept;

    /// Gives it what it waits for, to be taken when the coroutine is resumed. If that is destroyed before, its
    /// awaitable has to give it back.
    void serve() noexcept;
    /// It has succeeded, and there is nothing to give back. It is in no queue.
    void complete() noexcept;
    /// Ends it without what it waited for.
    void fail(status why) noexcept;

    bool served() const noexcept { return now_ == stage::served; }
    void leave_queue() noexcept { in_queue::unlink(); }

    /// The outcome; what was served is the coroutine's now.
    io_result<void> take() noexcept {
        now_ = stage::over;
        return {failure_, 0};
    }

  private:
    enum class stage : std::uint8_t { idle, waiting, served, over };

    void wake() noexcept;

    stage now_ = stage::idle;
    status failure_;
};

using sync_queue = list<sync_wait, in_queue>;

/// Ends every wait in `waits` without success.
PLAIT_API void fail_all(sync_queue& waits, errc why) noexcept;

extern PLAIT_API const pending_type event_wait;
extern PLAIT_API const pending_type mutex_wait;
extern PLAIT_API const pending_type send_wait;
extern PLAIT_API const pending_type receive_wait;

} // namespace detail
} // namespace plait::inline v1
