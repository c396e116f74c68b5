#pragma once
/// `serve`: a server's whole life in one call: accept, run sessions, drain on a signal, close.
///
///     co_await plait::serve(std::move(*listener), session,
///                           plait::serve_options().stop_on({SIGINT, SIGTERM}).max_connections(1000));

#include <plait/detail/socket_state.hpp>
#include <plait/endpoint.hpp>
#include <plait/signal.hpp>
#include <plait/task_group.hpp>
#include <plait/tcp.hpp>
#include <plait/time.hpp>

#include <chrono>
#include <functional>
#include <limits>

namespace plait::inline v1 {

/// Setters chain and may all be left out.
class serve_options {
  public:
    /// The first of these signals drains, a second one stops at once. Default: none.
    serve_options& stop_on(signal_list signals) noexcept {
        stop_on_ = signals;
        return *this;
    }
    /// How long sessions may go on once draining has begun; then they are cancelled. Default 5 s.
    serve_options& drain_timeout(steady_duration d) noexcept {
        drain_timeout_ = d;
        return *this;
    }
    /// Sessions at a time; further connections wait unaccepted. Default: no limit.
    serve_options& max_connections(std::size_t n) noexcept {
        max_connections_ = n;
        return *this;
    }
    /// A session on whose stream nothing moved for this long is cancelled. Default: never.
    serve_options& idle_timeout(steady_duration d) noexcept {
        idle_timeout_ = d;
        return *this;
    }
    /// Called with `(std::error_code, const endpoint& peer)` when a session returns an error other than the end of
    /// the stream, draining or a cancellation; and when it throws: with the code of a std::system_error, or
    /// std::errc::state_not_recoverable. Without it, an exception stops the server and comes out of serve().
    template <class F>
    requires std::invocable<F&, std::error_code, const endpoint&> serve_options& on_error(F f) {
        on_error_ = std::move(f);
        return *this;
    }
    /// The same with the arguments in the other order.
    template <class F>
    requires(std::invocable<F&, const endpoint&, std::error_code> &&
             !std::invocable<F&, std::error_code, const endpoint&>) serve_options& on_error(F f) {
        on_error_ = [f = std::move(f)](std::error_code error, const endpoint& peer) mutable {
            f(peer, error);
        };
        return *this;
    }

    const signal_list& stop_on() const noexcept { return stop_on_; }
    steady_duration drain_timeout() const noexcept { return drain_timeout_; }
    std::size_t max_connections() const noexcept { return max_connections_; }
    steady_duration idle_timeout() const noexcept { return idle_timeout_; }
    const std::function<void(std::error_code, const endpoint&)>& on_error() const noexcept {
        return on_error_;
    }

  private:
    signal_list stop_on_;
    steady_duration drain_timeout_ = std::chrono::seconds(5);
    std::size_t max_connections_ = std::numeric_limits<std::size_t>::max();
    steady_duration idle_timeout_ = steady_duration::max();
    std::function<void(std::error_code, const endpoint&)> on_error_;
};

namespace detail {

/// One serve() call: its sessions, its signals, its deadline.
class PLAIT_API server {
  public:
    server(environment& env, socket_state* listener, const serve_options& options);
    server(const server&) = delete;
    server& operator=(const server&) = delete;
    ~server();

    status watch_signals() noexcept { return signals_.start(loop_); }

    /// True: this error of accept ends the server. False: it was that connection's own, or is waited out.
    task<bool> accept_failed(std::error_code error);
    /// Waits while as many sessions run as may.
    task<> wait_for_slot();
    /// Ends what is left, after accepting has ended with `error`.
    task<io_result<void>> finish(std::error_code error);

    void accepted(socket_state& stream) noexcept;
    /// A session threw and nobody wants to hear of it: serve() ends with that exception.
    void stop_accepting() noexcept { scope_.cancel(); }
    void report(std::error_code error, const endpoint& peer) const;
    bool reports() const noexcept { return static_cast<bool>(options_.on_error()); }

    task_group sessions;

  private:
    friend class session_watch;
    struct drain_hook : loop_hook {
        server* owner;
    };
    struct deadline_timer : timer {
        server* owner;
    };
    struct signal_hook : signal_watch {
        using signal_watch::signal_watch;
        server* owner;
    };
    struct slot_wait;

    void drain_began() noexcept;
    void session_ended() noexcept;
    void stop_now() noexcept;

    environment& env_;
    loop& loop_;
    scope* outer_;
    socket_state* listener_;
    const serve_options& options_;
    scope scope_;
    drain_hook on_drain_;
    deadline_timer deadline_;
    signal_hook signals_;
    slot_wait* waiting_for_slot_ = nullptr;
    steady_duration backoff_{};
    bool late_ = false;     ///< the drain's deadline has passed
    bool signaled_ = false; ///< the first signal has come
};

/// A session's idle timer and its scope. Lives in the frame around the session.
class PLAIT_API session_watch {
  public:
    session_watch(server& owner, environment& env, socket_state* stream);
    session_watch(const session_watch&) = delete;
    session_watch& operator=(const session_watch&) = delete;
    ~session_watch();

  private:
    struct idle_timer : timer {
        session_watch* owner;
    };
    void look() noexcept;

    server& server_;
    environment& env_;
    scope* outer_;
    socket_state* stream_ = nullptr; ///< watched for traffic, if there is an idle time-out
    scope scope_;
    idle_timer idle_;
};

template <class F, class S>
child run_session(server& owner, F& session, S stream) {
    environment& env = co_await this_environment();
    session_watch watch(owner, env, stream.collected_output());
    endpoint peer;
    if (owner.reports()) peer = stream.remote_endpoint().value_or(endpoint());
    std::error_code error;
    using result = await_result_t<std::invoke_result_t<F&, S>>;
#if PLAIT_HAS_EXCEPTIONS
    try {
#endif
        if constexpr (std::is_void_v<result>) {
            co_await session(std::move(stream));
        } else {
            const result outcome = co_await session(std::move(stream));
            error = outcome.error();
        }
#if PLAIT_HAS_EXCEPTIONS
    } catch (const std::system_error& thrown) {
        if (!owner.reports()) {
            owner.stop_accepting();
            throw;
        }
        error = thrown.code();
    } catch (...) {
        if (!owner.reports()) {
            owner.stop_accepting();
            throw;
        }
        error = std::make_error_code(std::errc::state_not_recoverable);
    }
#endif
    if (error) owner.report(error, peer);
}

} // namespace detail

/// Accepts connections and runs `session(stream)` for each, a task<> or a task<io_result<void>>, side by side.
///
/// Draining begins at the first signal of stop_on, or at the context's request_drain(): connections that wait to be
/// accepted still are, then the listener closes; in the sessions a receive at a boundary between messages fails
/// with errc::draining once nothing is left to be read, so that every message that had arrived is answered. What
/// still runs at the drain's deadline, at a second signal or at request_stop() is cancelled. The sockets of ended
/// sessions are closed politely.
///
/// Completes when the last session has ended: with success after draining, errc::timed_out when the deadline cut
/// sessions off, errc::canceled, or the error that made accepting impossible. Running out of descriptors or memory
/// is none: accepting backs off and comes back.
template <class L, class F>
task<io_result<void>> serve(L listener, F session, serve_options options = {}) {
    detail::environment& env = co_await detail::this_environment();
    if (!listener.is_open()) co_return io_result<void>(detail::not_open(), 0);
    detail::server server(env, listener.listening_state(), options);
    if (const detail::status failure = server.watch_signals(); !failure.ok())
        co_return io_result<void>(failure, 0);
    std::error_code error;
    for (;;) {
        auto stream = co_await listener.accept();
        if (stream) {
            server.accepted(*stream->collected_output());
            server.sessions.adopt(detail::run_session(server, session, std::move(*stream)));
            if (server.sessions.size() >= options.max_connections()) co_await server.wait_for_slot();
        } else {
            error = stream.error();
            if (co_await server.accept_failed(error)) break;
        }
    }
    static_cast<void>(co_await listener.close());
    co_return co_await server.finish(error);
}

} // namespace plait::inline v1
