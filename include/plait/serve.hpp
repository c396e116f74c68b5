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

/// How serve() runs a server. Setters chain and may all be left out.
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

    /// What was set.
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
    friend class session_base;
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

/// What surrounds a session: whom it serves, and its idle timer if there is one.
class PLAIT_API session_base : public child_base, public recycled_frame {
  public:
    session_base(const session_base&) = delete;
    session_base& operator=(const session_base&) = delete;

  protected:
    session_base(server& owner, socket_state& stream);
    ~session_base();

    void begin(pending*& child, std::coroutine_handle<> coroutine, environment& env);
    /// What the exception that is being handled means to the server; one that ends it is kept.
    std::error_code thrown() noexcept;
    /// The task and its stream are gone.
    void finish(std::error_code error) noexcept;

  private:
    struct idle_watch;

    server& owner_;
    idle_watch* idle_ = nullptr;
    ip_address peer_; ///< known only if somebody wants to hear of errors: the stream is gone by then
    std::uint16_t port_ = 0;
};

/// A session, `T` being what its task gives: void, or an io_result<void>.
template <class T>
class session_child final : public session_base {
  public:
    /// Starts `session(stream)`.
    template <class F, class S>
    static void start(server& owner, F& session, S stream) {
        auto* made = new session_child(owner, *stream.collected_output());
#if PLAIT_HAS_EXCEPTIONS
        try {
#endif
            made->work_ = session(std::move(stream));
#if PLAIT_HAS_EXCEPTIONS
        } catch (...) {
            made->work_ = failed(std::current_exception());
        }
#endif
        auto coroutine = task_access::handle(made->work_);
        PLAIT_ASSERT(coroutine, "a session is a task that was not moved from");
        made->begin(coroutine.promise().child, coroutine, coroutine.promise().plait_environment());
    }

    void ended() noexcept override {
        std::error_code error;
#if PLAIT_HAS_EXCEPTIONS
        try {
#endif
            auto& promise = task_access::handle(work_).promise();
            if constexpr (std::is_void_v<T>)
                promise.take();
            else
                error = promise.take().error();
#if PLAIT_HAS_EXCEPTIONS
        } catch (...) {
            error = thrown();
        }
#endif
        work_ = {};
        finish(error);
    }
    void destroy() noexcept override { delete this; }

  private:
    using session_base::session_base;

#if PLAIT_HAS_EXCEPTIONS
    /// In place of a session that threw before it was one.
    static task<T> failed(std::exception_ptr exception) {
        std::rethrow_exception(std::move(exception));
        co_return T();
    }
#endif

    task<T> work_;
};

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
    using stream_type = std::remove_cvref_t<decltype(*listener.accept().await_resume())>;
    using session_child =
        detail::session_child<detail::await_result_t<std::invoke_result_t<F&, stream_type>>>;
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
            session_child::start(server, session, std::move(*stream));
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
