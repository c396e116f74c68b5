#pragma once
/// The event loop behind io_context: who is ready, which timers run, which sockets live, and the turn that
/// drives them.

#include <plait/detail/collected_output.hpp>
#include <plait/detail/socket_state.hpp>
#include <plait/io_context.hpp>
#include <plait/signal.hpp>
#include <plait/task_group.hpp>

#include "platform/driver.hpp"

#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace plait::inline v1 {
namespace detail {

class core_team;

class mailbox {
  public:
    explicit mailbox(std::shared_ptr<waker> wake) noexcept : waker_(std::move(wake)) {}
    mailbox(const mailbox&) = delete;
    mailbox& operator=(const mailbox&) = delete;
    ~mailbox() { discard(head_.exchange(nullptr)); }

    // Any thread.
    /// False: closed, and `item` is still the caller's.
    bool push(std::unique_ptr<posted>&& item) noexcept;
    void request(std::atomic<bool>& what) noexcept;
    std::atomic<bool> drain_requested{false};
    std::atomic<bool> stop_requested{false};
    const std::shared_ptr<waker>& get_waker() const noexcept { return waker_; }

    // The loop's thread.
    void open() noexcept;
    /// Calls everything that was posted; afterwards, with `close`, push() answers false.
    void run_all(bool close) noexcept;
    /// Announces that the loop is about to sleep. False when something has arrived, so that it must not.
    bool prepare_sleep() noexcept;
    /// Something was posted or requested, and has not been looked at.
    bool has_news() const noexcept;
    void woke() noexcept { sleeping_.store(false, std::memory_order_relaxed); }

  private:
    static void discard(posted* items) noexcept;

    std::atomic<posted*> head_{nullptr};
    std::atomic<bool> sleeping_{false};
    std::shared_ptr<waker> waker_;
};

class loop final : public loop_core {
  public:
    loop(io_context& facade, context_options&& options);
    ~loop();

    static loop* current() noexcept;

    // --- running ---
    void run(task<> root);
    bool runs() const noexcept { return root_ != nullptr; }
    void turn();

    // --- waits ---
    void make_ready(pending& wait) noexcept { ready.push_back(wait); } ///< of a wait in no list
    void arm(timer& timer, steady_time at);
    void disarm(timer& timer) noexcept;

    // --- operations and sockets ---
    /// True: suspended. False: `op.result` is there already.
    bool start(operation& op, std::coroutine_handle<> waiter, environment& env);
    /// Suspends the waiter of an operation that is over, until the others have had their turn.
    bool pass(operation& op, std::coroutine_handle<> waiter, environment& env);
    void cancel(operation& op) noexcept;
    /// The await of `op` goes away without its result: waits for the system to let go of it.
    void abandon(operation& op) noexcept;
    /// The await of `op` has taken its result.
    void finished(operation& op) noexcept;

    socket_state* adopt(native_socket handle, socket_kind kind);
    /// Sends what was collected, half-closes and waits for the peer's end, with no one waiting for that.
    void close_politely(socket_state& socket) noexcept;
    /// Closes without further ceremony.
    void drop(socket_state& socket) noexcept;
    /// Gives the handle of a socket away on which the driver does nothing any more, and frees the block.
    native_socket give_away(socket_state& socket) noexcept;

    /// Room for that many bytes of output, which leave at the turn's end.
    std::byte* collect(socket_state& socket, std::size_t bytes);
    byte_buffer take_collected(socket_state& socket);
    void give_back_collected(socket_state& socket, byte_buffer bytes);
    void queue_flush(outbox& output) noexcept;

    void event(event_info::kind what, std::error_code error, std::string_view detail) const;

    io_context& facade;
    context_options options;
    std::string reason;
    std::unique_ptr<driver> system;
    std::shared_ptr<mailbox> box;
    scope root_scope;
    list<pending> ready;
    // For a dump, which has to find every wait: what is in no scope that begins at root_scope.
    list<pending> resuming;  ///< was ready when this turn began
    list<pending> unscoped;  ///< joins, and what was cancelled and has not ended
    list<pending> elsewhere; ///< waits for calls on other threads
    list<scope> loose;       ///< of task_groups that nobody joins yet
    list<socket_state> sockets;
    bool draining = false;
    bool stopping = false;
    std::shared_ptr<core_team> team; ///< of run_per_core()
    std::size_t core = 0;            ///< which of its contexts this is
    list<loop_hook> drain_hooks;     ///< called once, when draining begins
    list<loop_hook> signal_hooks;    ///< called after a sleep in which signals came
    steady_time turn_time{};         ///< when the system was last asked
    std::uint32_t stamp = 0;         ///< turn_time, as waits take note of it
    /// In steps of 10 ms since the context was made; more than a year fits.
    std::uint32_t stamp_of(steady_time at) const noexcept {
        return static_cast<std::uint32_t>((at - made_) / std::chrono::milliseconds(10));
    }
    std::uint64_t dump_requests_seen = 0;
    status watch_dump_requests() noexcept;
    void begin_drain();
    void begin_stop();

    /// The group of the run() under way, or nullptr.
    const task_group* root_group() const noexcept { return root_; }
    struct metrics metrics() const noexcept;

    task_group* closers = nullptr; ///< polite closes that outlive their session
    /// A server has ended: while its sockets are still being closed politely, one of these signals cuts that short. (It
    /// would end the process otherwise, and a second Ctrl-C is no reason to end with an error.)
    void stop_closing_on(const signal_list& signals) noexcept;

  private:
    void run_ready();
    /// The loop goes on, at `now`.
    void resumed_at(steady_time now) noexcept;
    void turn_ended(steady_time now);
    void call_signal_hooks();
    void resume(std::coroutine_handle<> handle);
    void fire_timers();
    void flush_outputs();
    void settle_completions();
    void settle(operation& op);
    bool goes_on(operation& op) noexcept;
    /// Starts `op` again as often as it completes at once with work left. True: it is in flight.
    bool drive(operation& op);
    void output_left(outbox& output);
    void free_output(socket_state& socket) noexcept;
    void start_deferred(socket_state& socket);
    void free_if_unused(socket_state& socket) noexcept;
    void close_everything() noexcept;
    bool done() noexcept;
    bool idle() noexcept;
    steady_time next_deadline() const noexcept;

    struct heap_entry {
        steady_time deadline;
        timer* what;
    };
    void place(std::size_t position, heap_entry entry) noexcept;
    void sift_up(std::size_t position, heap_entry entry) noexcept;
    void sift_down(std::size_t position, heap_entry entry) noexcept;

    std::vector<heap_entry> timers_;
    struct closing_watch : signal_watch {
        using signal_watch::signal_watch;
        loop* owner = nullptr;
    };
    std::optional<closing_watch> closing_signals_;
    task_group* root_ = nullptr; ///< of the run() under way
    std::thread::id thread_;     ///< that ran it last
    steady_time made_;
    std::uint64_t signals_seen_ = 0;         ///< how many had arrived when the hooks were last called
    std::uint64_t heap_blocks_at_start_ = 0; ///< of this thread, when run() began
    outbox* queued_outputs_ = nullptr;
    bool dump_requests_watched_ = false;
    /// A wait outside of the turn may have taken the wake-up of a signal: the turn does not sleep before it has looked.
    bool look_again_ = false;
    int inline_budget_ = 0; ///< operations that may still complete at once in this turn
};

/// For a dump: what an operation does, on which socket.
std::string describe_operation(const pending& wait);
/// "12.3 s", "5 min 2 s", "3 h 10 min", "2 d 3 h".
std::string print_span(steady_duration span);

/// The owner of `socket` is gone. Its context may be, too.
void release_socket(socket_state& socket) noexcept;

/// Takes over a socket that was made elsewhere, if it is what it should be.
task<io_result<socket_state*>> adopt_handle(native_socket handle, socket_kind kind, bool of_unix);

/// Gives a socket's handle away; see socket_handle::release.
task<io_result<native_socket>> release_handle(socket_state*& owner);

/// Closes without further ceremony, and completes when the system has closed the socket. What other tasks wait for on
/// it ends as cancelled. Once started, `owner` has no socket any more.
task<io_result<void>> close_at_once(socket_state*& owner);

} // namespace detail
} // namespace plait::inline v1
