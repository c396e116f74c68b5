#pragma once
/// What a suspended coroutine waits for, the scope that can cancel it, and the environment that coroutines hand
/// down to those that they await.

#include <plait/detail/list.hpp>
#include <plait/result.hpp>

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <string>

namespace plait::inline v1 {

class task_group;

using steady_time = std::chrono::steady_clock::time_point;
using steady_duration = std::chrono::steady_clock::duration;

namespace detail {

class loop;
struct scope;
struct pending;

/// Carried by every task, and handed to what it awaits: whose loop, which scope, and who awaits whom from where.
struct environment {
    loop* context = nullptr;
    scope* cancel = nullptr;
    const environment* parent = nullptr; ///< of the coroutine that awaits this one
    location awaits;                     ///< the co_await that this coroutine stands at
};

/// What all waits of one kind share.
struct pending_type {
    const char* name; ///< what a dump calls it
    /// The scope was cancelled. Requests the end of the wait; never resumes anybody.
    void (*cancel)(pending&) noexcept;
    /// For a dump, where the name alone does not say it.
    std::string (*describe)(const pending&) = nullptr;
};

/// One coroutine's wait. Linked into its scope while it waits, into the loop's ready queue once it is over.
struct pending : list_node {
    const pending_type* type;
    std::coroutine_handle<> waiter;
    environment* waiting = nullptr;
    std::uint32_t since = 0; ///< loop::stamp, when it began

    explicit pending(const pending_type& kind) noexcept : type(&kind) {}
    /// Awaitables may be moved until they are awaited; a wait that has begun stays where it is.
    pending(pending&& other) noexcept : list_node(), type(other.type) {}
};

/// A cancellation scope. Scopes nest like the calls do: cancelling one cancels those inside.
struct PLAIT_API scope : list_node {
    loop* context = nullptr;
    scope* parent = nullptr;
    list<pending> waits;
    list<scope> inner;
    bool cancelled = false;
    bool noticed = false;        ///< a wait inside has ended as cancelled
    task_group* group = nullptr; ///< whose children run in this scope
    /// For shields: what to do, instead of cancel(), when the parent is cancelled.
    void (*parent_cancelled)(scope&) noexcept = nullptr;

    scope() noexcept = default;
    ~scope() {
        leave();
        inner.for_each([](scope& child) { child.leave(); });
    }

    void enter(loop& owner, scope* outer) noexcept;
    void leave() noexcept;
    /// Idempotent. Waits that are under way are asked to end, later ones fail unstarted.
    void cancel() noexcept;
    /// A wait inside ended as cancelled: this scope and those around it take note.
    void notice() noexcept;
};

/// Links `wait` into the scope of `env`. False when that scope is cancelled already: the wait must not start.
PLAIT_API bool begin_wait(pending& wait, std::coroutine_handle<> waiter, environment& env) noexcept;

/// The wait is over: the loop resumes its waiter, in the order of these calls.
PLAIT_API void make_ready(pending& wait) noexcept;

/// A timer of the loop's. It must not move while it is armed.
struct PLAIT_API timer {
    steady_time deadline{};
    std::size_t position = unarmed; ///< in the loop's heap
    void (*fire)(timer&) noexcept = nullptr;
    loop* owner = nullptr;

    static constexpr std::size_t unarmed = static_cast<std::size_t>(-1);

    timer() noexcept = default;
    explicit timer(void (*action)(timer&) noexcept) noexcept : fire(action) {}
    timer(timer&& other) noexcept : fire(other.fire) {} // only before it is armed
    ~timer() { disarm(); }

    void arm(loop& loop, steady_time at);
    void disarm() noexcept;
};

/// The loop's clock: real time, or the simulation's.
PLAIT_API steady_time time_now(loop& loop) noexcept;

/// Adds without passing the end of time.
constexpr steady_time saturated_add(steady_time from, steady_duration by) noexcept {
    return by > steady_time::max() - from ? steady_time::max() : from + by;
}

/// What inlined code touches of the loop: the coroutines that the running one leaves behind.
struct loop_core {
    std::coroutine_handle<> next;      ///< the parent of a task that has just finished
    pending* finished_child = nullptr; ///< a child of a task_group that has just finished
};
PLAIT_API loop_core& core_of(loop& loop) noexcept;

/// The loop that runs on this thread, or nullptr.
PLAIT_API loop* current_loop() noexcept;

/// More than 0 while coroutine frames are destroyed before their end.
PLAIT_API int& frames_being_destroyed() noexcept;

/// Destroys a frame that may be suspended anywhere.
inline void destroy_frame(std::coroutine_handle<> frame) noexcept {
    if (!frame) return;
    ++frames_being_destroyed();
    frame.destroy();
    --frames_being_destroyed();
}

} // namespace detail
} // namespace plait::inline v1
