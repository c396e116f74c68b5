#pragma once
/// `serve`: a server's whole life in one call: accept, run sessions, drain on a signal, close.
///
///     co_await plait::serve(std::move(*listener), session,
///                           plait::serve_options().stop_on({SIGINT, SIGTERM}).max_connections(1000));
///
///     plait::run_per_core(0, [] { return plait::serve_per_core({"127.0.0.1", 8000}, session); });

#include <plait/activation.hpp>
#include <plait/detail/core_server.hpp>
#include <plait/detail/server.hpp>
#include <plait/per_core.hpp>
#include <plait/tcp.hpp>
#include <plait/unix.hpp>

namespace plait::inline v1 {

/// Accepts connections and runs `session(stream)` for each, a task<> or a task<io_result<void>>, side by side.
///
/// Draining begins at the first signal of stop_on, or at the context's request_drain(): connections that wait to be
/// accepted still are, then the listener closes; in the sessions a receive at a boundary between messages fails
/// with errc::draining once nothing is left to be read, so that every message that had arrived is answered. What
/// still runs at the drain's deadline, at a second signal or at request_stop() is cancelled. The sockets of ended
/// sessions are closed politely.
///
/// Completes when the last session has ended: with success after draining, errc::timed_out when the deadline cut
/// sessions off, errc::canceled, invalid_argument for options that serve nobody, or the error that made accepting
/// impossible. Running out of descriptors or memory is none: accepting backs off and comes back.
template <class L, class F>
task<io_result<void>> serve(L listener, F session, serve_options options = {}) {
    using stream_type = std::remove_cvref_t<decltype(*listener.accept().await_resume())>;
    using session_child =
        detail::session_child<detail::await_result_t<std::invoke_result_t<F&, stream_type>>>;
    detail::environment& env = co_await detail::this_environment();
    if (!listener.is_open()) co_return io_result<void>(detail::not_open(), 0);
    detail::server server(env, options);
    server.listen_at(*listener.listening_state());
    if (const detail::status failure = server.begin(); !failure.ok()) co_return io_result<void>(failure, 0);
    server.announce();
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

namespace detail {

template <class S, class F>
task<io_result<void>> serve_on_core(serving_place place, F session, serve_options options) {
    using session_child = session_child<await_result_t<std::invoke_result_t<F&, S>>>;
    core_server core(co_await this_environment(), options);
    if (const status failure = core.join(place); !failure.ok()) co_return io_result<void>(failure, 0);
    std::error_code error;
    while (!error) {
        auto accepted = co_await core.next();
        if (accepted)
            session_child::start(core.sessions, session, S(core.take_in(*accepted)));
        else
            error = accepted.error();
    }
    co_return co_await core.finish(error);
}

} // namespace detail

/// Serves one address on all contexts of run_per_core(), each of which calls this: like serve(), with a listener that
/// is opened here and sessions spread over the contexts. Each context calls it with the same arguments; several calls
/// with different addresses may run side by side.
///
///     plait::run_per_core(4, [] { return plait::serve_per_core({"0.0.0.0", 8000}, session); });
///
/// On Linux each context has a listener of its own, and the kernel spreads the connections over them. The first is
/// bound as if it were the only one: it fails with address_in_use if somebody listens there, and nobody else can listen
/// there afterwards, except programs of the same user that ask for SO_REUSEPORT. Windows spreads nothing: there the
/// first context accepts and hands the sockets out (serve_options::one_acceptor). With port 0 all have the same free
/// port, which on_listening tells.
///
/// What ends one ends all: a signal of stop_on, or request_drain() of any context, drains them all, each with
/// drain_timeout; a second signal stops them; an error that makes accepting impossible is the result of every context.
/// max_connections is their total. idle_timeout and on_error are as in serve(), on every thread. `session` is copied to
/// each context; what it refers to is shared by their threads. Outside of run_per_core() this context serves alone.
///
/// Completes like serve(), and with what opening the listener failed with: address_in_use, permission_denied,
/// invalid_argument.
template <class F>
task<io_result<void>> serve_per_core(endpoint local, F session, serve_options options = {},
                                     listen_options listening = {}) {
    return detail::serve_on_core<tcp_stream>(detail::serving_place(local, listening), std::move(session),
                                             std::move(options));
}

/// The same on a Unix socket, where always one context accepts for all.
template <class F>
task<io_result<void>> serve_per_core(unix_path local, F session, serve_options options = {}) {
    return detail::serve_on_core<unix_stream>(detail::serving_place(local), std::move(session),
                                              std::move(options));
}

/// The same at a listener that a supervisor has opened: for TCP if `session` takes a tcp_stream, otherwise a Unix
/// socket. One context accepts for all. It is closed at the end. Fails like from_native_handle(), too.
template <class F>
task<io_result<void>> serve_per_core(activated_listener listener, F session, serve_options options = {}) {
    constexpr bool tcp = std::is_invocable_v<F&, tcp_stream>;
    using stream_type = std::conditional_t<tcp, tcp_stream, unix_stream>;
    return detail::serve_on_core<stream_type>(detail::serving_place(listener.native_handle(), !tcp),
                                              std::move(session), std::move(options));
}

} // namespace plait::inline v1
