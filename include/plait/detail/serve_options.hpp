#pragma once
/// The options of serve() and serve_per_core().

#include <plait/endpoint.hpp>
#include <plait/signal.hpp>
#include <plait/time.hpp>

#include <chrono>
#include <concepts>
#include <functional>
#include <limits>
#include <system_error>
#include <utility>

namespace plait::inline v1 {

/// How serve() and serve_per_core() run a server. Setters chain and may all be left out.
class serve_options {
  public:
    /// The first of these signals drains, a second one stops at once. Default: none.
    serve_options& stop_on(signal_list signals) noexcept {
        stop_on_ = signals;
        return *this;
    }
    /// How long sessions may go on once draining has begun; then they are cancelled. Default 5 s.
    template <class Rep, class Period>
    serve_options& drain_timeout(std::chrono::duration<Rep, Period> d) noexcept {
        drain_timeout_ = detail::to_steady(d);
        return *this;
    }
    /// Sessions at a time, of all contexts of serve_per_core() together; further connections wait unaccepted (each
    /// context may have accepted one that waits for its session). With 0 nobody could be served: invalid_argument.
    /// Default: no limit.
    serve_options& max_connections(std::size_t n) noexcept {
        max_connections_ = n;
        return *this;
    }
    /// A session on whose stream nothing moved for this long is cancelled. Default: never.
    template <class Rep, class Period>
    serve_options& idle_timeout(std::chrono::duration<Rep, Period> d) noexcept {
        idle_timeout_ = detail::to_steady(d);
        return *this;
    }
    /// Called with `(std::error_code, const endpoint& peer)` when a session returns an error other than the end of
    /// the stream, draining or a cancellation; and when it throws: with the code of a std::system_error, or
    /// std::errc::state_not_recoverable. Without it, an exception stops the server and comes out of serve(). `peer` is
    /// 0.0.0.0:0 where it had reset the connection before that was accepted: the system has forgotten it then. With
    /// run_per_core() it is called on the threads of all contexts.
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

    /// Called once with the address, `(const endpoint&)` or for a Unix socket `(const unix_path&)`, when connections
    /// are taken and the signals of stop_on are watched: with port 0 this tells the port. For serve_per_core() that is
    /// when all contexts of run_per_core() have got so far; it is called on the thread of the last one.
    template <class F>
    requires(std::invocable<F&, const endpoint&> ||
             std::invocable<F&, const unix_path&>) serve_options& on_listening(F f) {
        if constexpr (std::invocable<F&, const endpoint&>) on_listening_ = f;
        if constexpr (std::invocable<F&, const unix_path&>) on_path_ = std::move(f);
        return *this;
    }
    /// Of serve_per_core(): one context accepts, and gives each connection to the context with the fewest sessions.
    /// Otherwise each context accepts for itself, which costs less, and the kernel spreads the connections evenly,
    /// whatever the sessions have to do. Default off; Windows and Unix sockets always have one acceptor.
    serve_options& one_acceptor(bool on = true) noexcept {
        one_acceptor_ = on;
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
    const std::function<void(const endpoint&)>& on_listening() const noexcept { return on_listening_; }
    const std::function<void(const unix_path&)>& on_listening_path() const noexcept { return on_path_; }
    bool one_acceptor() const noexcept { return one_acceptor_; }

  private:
    signal_list stop_on_;
    steady_duration drain_timeout_ = std::chrono::seconds(5);
    std::size_t max_connections_ = std::numeric_limits<std::size_t>::max();
    steady_duration idle_timeout_ = steady_duration::max();
    std::function<void(std::error_code, const endpoint&)> on_error_;
    std::function<void(const endpoint&)> on_listening_;
    std::function<void(const unix_path&)> on_path_;
    bool one_acceptor_ = false;
};

} // namespace plait::inline v1
