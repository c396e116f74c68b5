#pragma once
/// What the contexts of one run_per_core() share.

#include <plait/detail/core_server.hpp>

#include "src/loop.hpp"

#include <atomic>
#include <condition_variable>
#include <mutex>

namespace plait::inline v1 {
namespace detail {

class core_team {
  public:
    explicit core_team(std::size_t size) : size_(size) {}

    /// The contexts call serve_per_core() equally often for each place: the group to join is the first one of that
    /// place that this context has not joined yet.
    std::shared_ptr<serving_group> group_for(const serving_place& place, std::size_t core,
                                             const serve_options& options);

    // Any thread.
    void request_drain() noexcept;
    void request_stop() noexcept;

    /// The tasks of that many contexts have ended, or will never begin.
    void ended(std::size_t contexts) noexcept;
    void wait_until_all_ended() noexcept;

    std::mutex mutex;
    std::vector<std::shared_ptr<mailbox>> boxes; ///< not changed once the contexts run

  private:
    const std::size_t size_;
    std::size_t ended_ = 0; ///< behind the mutex, as all that follows
    std::condition_variable all_ended_;
    std::vector<std::shared_ptr<serving_group>> groups_;
};

/// Waits until server::wake().
struct server::wake_up : pending {
    static const pending_type for_slot, for_connection;

    wake_up(server& server, const pending_type& kind) noexcept : pending(kind), owner(server) {}
    ~wake_up() { owner.waiting_ = nullptr; }

    using plait_awaitable_tag = void;
    bool await_ready() const noexcept { return false; }
    template <environment_promise P>
    bool await_suspend(std::coroutine_handle<P> handle) {
        if (!begin_wait(*this, handle, handle.promise().plait_environment())) return false;
        owner.waiting_ = this;
        return true;
    }
    void await_resume() const noexcept {}

    static void cancel(pending& self) noexcept {
        static_cast<wake_up&>(self).owner.waiting_ = nullptr;
        make_ready(self);
    }

    server& owner;
};

} // namespace detail
} // namespace plait::inline v1
