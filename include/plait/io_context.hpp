#pragma once
/// `io_context`: one thread's event loop, over io_uring, epoll or IOCP.
///
///     int main() { plait::run(serve_echo()); }                  // a context of its own
///
///     plait::io_context context{plait::context_options().backend(plait::backend::io_uring)};
///     int status = context.run(main_task());

#include <plait/task.hpp>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <memory_resource>
#include <stop_token>
#include <string_view>

namespace plait::inline v1 {
namespace detail {
class simulation;
} // namespace detail

/// The system's interface for input and output.
enum class backend : std::uint8_t { automatic, io_uring, epoll, iocp, simulated };

/// "io_uring", "epoll", "iocp", "simulated", "automatic".
PLAIT_API std::string_view to_string(backend b) noexcept;

/// Something worth knowing that is nobody's error; for logs.
struct event_info {
    /// What has happened.
    enum class kind : std::uint8_t {
        fallback,       ///< io_uring was asked for or preferred, and another backend is used
        rearmed,        ///< the system ended a multishot operation by itself; it was started again
        dropped,        ///< output, or an accepted connection, was given up
        accept_backoff, ///< descriptors or memory ran out; accepting pauses
        slow_turn,      ///< a turn of the loop took longer than context_options::slow_turn
    };
    kind what;               ///< of which kind
    std::error_code error;   ///< the cause, where there is one
    std::string_view detail; ///< one sentence; valid during the call
};

/// Counters since the context was made.
struct metrics {
    std::uint64_t accepts = 0;  ///< operations that have ended, also by failing or by being cancelled
    std::uint64_t connects = 0; ///< as before
    std::uint64_t receives =
        0; ///< as before; a recv_exactly is one, next() is one for each piece that arrived
    std::uint64_t sends =
        0; ///< as before; a send_all is one, and so is what framed writes of a turn collected
    std::uint64_t completions = 0;    ///< taken from the system
    std::uint64_t turns = 0;          ///< of the loop; each looks at the system once, and may sleep there
    std::uint64_t system_calls = 0;   ///< made by the driver
    std::uint64_t bytes_received = 0; ///< by sockets
    std::uint64_t bytes_sent = 0;     ///< by sockets
    std::uint64_t connections = 0;    ///< stream sockets that live now, those that connect or close included
    /// Blocks for coroutine frames, sockets and collected output that run() took from the heap, because none of that
    /// size lay ready for reuse. The pool that receives draw on is not in it.
    std::uint64_t allocations = 0;
    /// The longest time from one look at the system to the next: how long a task kept all others waiting.
    std::chrono::nanoseconds longest_turn{0};
};

/// How a context is made. Setters chain and may all be left out.
class context_options {
  public:
    /// Which system interface to use. automatic, the default, takes the one that the environment variable PLAIT_BACKEND
    /// names ("io_uring", "epoll", "iocp", "simulated"), without it the best that the machine allows.
    context_options& backend(plait::backend b) noexcept {
        backend_ = b;
        return *this;
    }
    /// Where buffers of the context come from. It must outlive the context, and every lease that does: the last lease
    /// on a buffer gives that back.
    context_options& memory_resource(std::pmr::memory_resource* r) noexcept {
        memory_ = r;
        return *this;
    }
    /// Stopping this token is request_stop().
    context_options& stop(std::stop_token token) noexcept {
        stop_ = std::move(token);
        return *this;
    }
    /// Called on the loop's thread; the library itself never prints.
    context_options& on_event(std::function<void(const event_info&)> f) {
        on_event_ = std::move(f);
        return *this;
    }
    /// Polls this long before it sleeps: shorter round trips for a core's whole attention. Default: 0.
    context_options& poll_before_sleep(std::chrono::nanoseconds d) noexcept {
        poll_ = d;
        return *this;
    }
    /// Tells on_event of each turn of the loop that took at least this long: some task did not co_await for all that
    /// time, or a system call blocked. Default: never.
    context_options& slow_turn(std::chrono::nanoseconds d) noexcept {
        slow_turn_ = d;
        return *this;
    }
    /// Entries of the submission and completion queue, for tests of full queues. 0: the driver's own choice.
    context_options& queue_sizes(unsigned submission, unsigned completion) noexcept {
        submission_ = submission;
        completion_ = completion;
        return *this;
    }
    /// Buffers of the pool that leases draw on: how many at first and at most, and bytes of each. 0: the
    /// driver's own choice.
    context_options& buffer_pool(unsigned initial, unsigned most, std::size_t bytes) noexcept {
        pool_initial_ = initial;
        pool_most_ = most;
        pool_bytes_ = bytes;
        return *this;
    }

    // For simulated_network.hpp: the network that takes the system's place.
    context_options& simulation(std::shared_ptr<detail::simulation> network) noexcept {
        simulation_ = std::move(network);
        return *this;
    }
    const std::shared_ptr<detail::simulation>& simulation() const noexcept { return simulation_; }

    /// What was set.
    plait::backend backend() const noexcept { return backend_; }
    std::pmr::memory_resource* memory_resource() const noexcept { return memory_; }
    const std::stop_token& stop() const noexcept { return stop_; }
    const std::function<void(const event_info&)>& on_event() const noexcept { return on_event_; }
    std::chrono::nanoseconds poll_before_sleep() const noexcept { return poll_; }
    std::chrono::nanoseconds slow_turn() const noexcept { return slow_turn_; }
    unsigned submission_queue() const noexcept { return submission_; }
    unsigned completion_queue() const noexcept { return completion_; }
    unsigned pool_initial() const noexcept { return pool_initial_; }
    unsigned pool_most() const noexcept { return pool_most_; }
    std::size_t pool_bytes() const noexcept { return pool_bytes_; }

  private:
    plait::backend backend_ = plait::backend::automatic;
    std::pmr::memory_resource* memory_ = nullptr;
    std::stop_token stop_;
    std::function<void(const event_info&)> on_event_;
    std::chrono::nanoseconds poll_{0};
    std::chrono::nanoseconds slow_turn_ = std::chrono::nanoseconds::max();
    unsigned submission_ = 0;
    unsigned completion_ = 0;
    unsigned pool_initial_ = 0;
    unsigned pool_most_ = 0;
    std::size_t pool_bytes_ = 0;
    std::shared_ptr<detail::simulation> simulation_;
};

class io_context;

namespace detail {

/// A function that another thread left for the loop.
struct posted {
    posted* next = nullptr;
    virtual ~posted() = default;
    virtual void call() = 0;
};

template <class F>
struct posted_function final : posted {
    explicit posted_function(F f) : function(std::move(f)) {}
    void call() override { function(); }
    F function;
};

PLAIT_API loop& loop_of(io_context& context) noexcept;

/// Where other threads reach a loop. Shared, so that a late caller finds it closed rather than gone.
class mailbox;
PLAIT_API std::shared_ptr<mailbox> mailbox_of(loop& loop) noexcept;
/// Takes `item` over. False once the loop has ended.
PLAIT_API bool deliver(mailbox& box, std::unique_ptr<posted> item) noexcept;

/// A coroutine that is done when the task it runs is.
template <class T>
task<> run_into(task<T> work, slot<T>& result) {
    if constexpr (std::is_void_v<T>)
        co_await std::move(work);
    else
        result.emplace(co_await std::move(work));
}

} // namespace detail

/// One thread's event loop. It belongs to the thread that runs it, and so does all that is opened on it;
/// post(), request_drain() and request_stop() may be called from any thread.
class PLAIT_API io_context {
  public:
    /// Throws std::system_error when the system refuses every backend that `options` allow.
    explicit io_context(context_options options = {});
    io_context(const io_context&) = delete;
    io_context& operator=(const io_context&) = delete;
    /// Cancels, drains and joins what is left. While sockets of it are open only the thread that ran it may do this.
    ~io_context();

    /// Runs `work`, and everything that it starts, until it ends; gives its result, or throws what it threw. May be
    /// called again, on the same thread, which need not be the one that made the context. Inside of a task (of this
    /// context or of another one) it is an assertion, because it would keep all others waiting.
    template <class T>
    T run(task<T> work) {
        detail::slot<T> result;
        run_root(detail::run_into(std::move(work), result));
        return result.take();
    }

    /// Runs `f()` on the loop; any thread may call it. False, without calling it ever, once the context has
    /// ended: after run() returned and before it is called again.
    template <class F>
    bool post(F f) {
        return detail::deliver(*mailbox_, std::make_unique<detail::posted_function<F>>(std::move(f)));
    }

    /// Stops accepting: once no connection waits, accept() fails with errc::draining. Sessions of serve() end at the
    /// next boundary between messages; streams that you accepted or connected yourself go on. Idempotent, any thread.
    void request_drain() noexcept;

    /// Cancels everything that runs, and whatever will be started. Idempotent, any thread.
    void request_stop() noexcept;

    /// What it runs on; never automatic.
    plait::backend backend() const noexcept;
    /// Why it is this backend, and, where a better one was refused, what would help.
    std::string_view backend_reason() const noexcept;

    /// The clock that sleeps and time-outs follow: steady_clock, or that of a simulated network.
    steady_time now() const noexcept;

    /// The counters so far. While the context runs, on its thread only.
    struct metrics metrics() const noexcept;

    /// Writes what every suspended task waits for: the operation, the local and the remote endpoint of its socket, for
    /// how long (in steps of 10 ms, and from the beginning of the turn in which it began to wait), where its co_await
    /// stands, and the co_awaits of the tasks above it. docs/debugging.md shows how to read it. The task that calls
    /// this is not listed: it runs. While the context runs, on its thread only; from another one, post() it.
    void dump(std::FILE* out) const;

  private:
    friend struct this_context;
    friend detail::loop& detail::loop_of(io_context& context) noexcept;

    void run_root(task<> root);

    std::unique_ptr<detail::loop> loop_;
    std::shared_ptr<detail::mailbox> mailbox_;
};

/// Makes a context, runs `work` to its end and gives its result.
template <class T>
T run(task<T> work, context_options options = {}) {
    io_context context(std::move(options));
    return context.run(std::move(work));
}

} // namespace plait::inline v1
