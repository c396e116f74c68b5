#pragma once
/// What serve() and serve_per_core() are made of: sessions, signals, deadlines.

#include <plait/detail/serve_options.hpp>
#include <plait/detail/socket_state.hpp>
#include <plait/endpoint.hpp>
#include <plait/task_group.hpp>
#include <plait/time.hpp>

namespace plait::inline v1 {

namespace detail {

class core_server;

/// One serve() call: its sessions, its signals, its deadline.
class PLAIT_API server {
  public:
    server(environment& env, const serve_options& options);
    server(const server&) = delete;
    server& operator=(const server&) = delete;
    ~server();

    /// Refuses options that serve nobody; watches the signals.
    status begin() noexcept;
    void listen_at(socket_state& listener) noexcept;
    /// Tells on_listening where that is.
    void announce() const;

    /// True: this error of accept ends the server. False: it was that connection's own, or is waited out.
    task<bool> accept_failed(std::error_code error);
    /// Waits while as many sessions run as may.
    task<> wait_for_slot();
    /// Ends what is left, after accepting has ended with `error`.
    task<io_result<void>> finish(std::error_code error);

    bool cancelled() const noexcept { return scope_.cancelled; }
    /// Resumes who waits for a slot, or for a connection.
    void wake() noexcept;
    void accepting_works() noexcept { backoff_ = {}; }
    void accepted(socket_state& stream) noexcept;
    /// A session threw and nobody wants to hear of it: serve() ends with that exception.
    void stop_accepting() noexcept { scope_.cancel(); }
    void report(std::error_code error, const endpoint& peer) const;
    bool reports() const noexcept { return static_cast<bool>(options_.on_error()); }

    task_group sessions;

  private:
    friend class session_base;
    friend class core_server;
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
    struct wake_up;

    void drain_began() noexcept;
    void session_ended() noexcept;
    void stop_now() noexcept;

    environment& env_;
    loop& loop_;
    scope* outer_;
    socket_state* listener_ = nullptr;
    core_server* shared_ = nullptr; ///< one context's part of serve_per_core()
    const serve_options& options_;
    scope scope_;
    drain_hook on_drain_;
    deadline_timer deadline_;
    signal_hook signals_;
    wake_up* waiting_ = nullptr; ///< for a slot, or for a connection that another context accepts
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

} // namespace plait::inline v1
