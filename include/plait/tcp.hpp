#pragma once
/// TCP: listeners and streams.
///
///     auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 8000});
///     auto stream = co_await listener->accept();
///     auto received = co_await stream->recv();                    // a lease on a pooled buffer
///     co_await stream->send_all(received->bytes());
///
///     auto client = co_await plait::tcp_stream::connect("localhost", "8000");

#include <plait/detail/stream_socket.hpp>
#include <plait/endpoint.hpp>

#include <chrono>
#include <optional>
#include <string_view>

namespace plait::inline v1 {

/// How a listener is opened. Setters chain and may all be left out.
class listen_options {
  public:
    /// Connections that may wait to be accepted; the system may cap it (net.core.somaxconn). Default 4096.
    listen_options& backlog(int n) noexcept {
        backlog_ = n;
        return *this;
    }
    /// An IPv6 listener takes no IPv4 connections. Default: it takes both (dual stack, RFC 3493).
    listen_options& v6_only(bool on = true) noexcept {
        v6_only_ = on;
        return *this;
    }
    /// SO_REUSEADDR: bind although old connections linger. Default on. (On Windows a listener is exclusive.)
    listen_options& reuse_address(bool on = true) noexcept {
        reuse_address_ = on;
        return *this;
    }
    /// SO_REUSEPORT: several listeners share the port, and the kernel spreads connections over them. Default off.
    listen_options& reuse_port(bool on = true) noexcept {
        reuse_port_ = on;
        return *this;
    }
    /// TCP_NODELAY on accepted streams. Default on.
    listen_options& no_delay(bool on = true) noexcept {
        no_delay_ = on;
        return *this;
    }

    /// What was set.
    int backlog() const noexcept { return backlog_; }
    bool v6_only() const noexcept { return v6_only_; }
    bool reuse_address() const noexcept { return reuse_address_; }
    bool reuse_port() const noexcept { return reuse_port_; }
    bool no_delay() const noexcept { return no_delay_; }

  private:
    int backlog_ = 4096;
    bool v6_only_ = false;
    bool reuse_address_ = true;
    bool reuse_port_ = false;
    bool no_delay_ = true;
};

/// TCP keep-alive: after `idle` without traffic a probe each `interval`; `count` unanswered ones end the
/// connection. Whole seconds.
struct keep_alive {
    std::chrono::seconds idle{60};     ///< before the first probe; TCP_KEEPIDLE
    std::chrono::seconds interval{10}; ///< between two probes; TCP_KEEPINTVL
    int count = 6;                     ///< unanswered probes; TCP_KEEPCNT
};

/// A TCP connection. The verbs (recv, send, recv_exactly, send_all, shutdown_send, close) are those of every
/// stream; detail/stream_socket.hpp tells what each promises. TCP_NODELAY is on.
class PLAIT_API tcp_stream : public detail::stream_socket {
  public:
    using stream_socket::stream_socket;

    /// Connects to `peer`. Fails with connection_refused, timed_out, invalid_argument for an invalid endpoint,
    /// errc::canceled. connect(2).
    static task<io_result<tcp_stream>> connect(endpoint peer);

    /// Resolves `host` and `service` (see resolve.hpp; both are copied by the call itself) and connects to one of the
    /// endpoints, as RFC 8305 has it: IPv6 and IPv4 take turns, beginning with the system's first choice; the next
    /// attempt starts a quarter of a second after the one before, or at once when one has failed. The first connection
    /// wins; before this completes, the other attempts are cancelled and their sockets closed.
    ///
    /// Cancelling ends the lookup at once and the attempts as it does with one. Fails with what resolve() says, or,
    /// when every attempt has failed, with the error of the first that reached somebody (connection_refused rather than
    /// network_unreachable).
    static task<io_result<tcp_stream>> connect(std::string_view host, std::string_view service);

    /// Takes over a connected socket that was made elsewhere, inherited or accepted by somebody else: from now on it is
    /// closed here. Its options stay as they are, no-delay too; it will not be inherited by child processes, and gets
    /// the mode that the backend needs (blocking with io_uring, non-blocking otherwise), which descriptors that are
    /// copies of it share. On an error it stays the caller's: bad_file_descriptor, not_a_socket, wrong_protocol_type
    /// (no stream), address_family_not_supported (neither IPv4 nor IPv6), not_connected, invalid_argument (it listens);
    /// on Windows device_or_resource_busy, if it is bound to another completion port, or was not made for overlapped
    /// calls. Nothing else may receive from it meanwhile.
    static task<io_result<tcp_stream>> from_native_handle(native_socket handle);

    /// TCP_NODELAY: send small pieces at once.
    io_result<void> set_no_delay(bool on) noexcept;
    io_result<bool> no_delay() const noexcept;
    /// SO_KEEPALIVE with its times; nullopt turns it off.
    io_result<void> set_keep_alive(std::optional<keep_alive> setting) noexcept;
    io_result<bool> keep_alive_on() const noexcept;
    /// SO_LINGER: how long close may wait for unsent data; 0 resets the connection; nullopt is the default.
    io_result<void> set_linger(std::optional<std::chrono::seconds> timeout) noexcept;
    io_result<std::optional<std::chrono::seconds>> linger() const noexcept;
    /// SO_RCVBUF and SO_SNDBUF, bytes; Linux doubles what is asked for.
    io_result<void> set_receive_buffer_size(int bytes) noexcept;
    io_result<int> receive_buffer_size() const noexcept;
    io_result<void> set_send_buffer_size(int bytes) noexcept;
    io_result<int> send_buffer_size() const noexcept;
    /// TCP_USER_TIMEOUT: how long sent data may stay unacknowledged before the connection ends.
    io_result<void> set_user_timeout(std::chrono::milliseconds timeout) noexcept;
    io_result<std::chrono::milliseconds> user_timeout() const noexcept;
};

/// Completes when a connection has arrived.
class [[nodiscard]] accept_awaitable : public detail::accept_operation {
  public:
    using accept_operation::accept_operation;
    PLAIT_API io_result<tcp_stream> await_resume() noexcept;
};

/// A listening TCP socket.
class PLAIT_API tcp_listener : public detail::socket_handle {
  public:
    using socket_handle::socket_handle;

    /// Binds `local` and listens; port 0 takes a free one, which local_endpoint() tells. Fails with
    /// address_in_use, address_not_available, permission_denied, invalid_argument for an invalid endpoint.
    static task<io_result<tcp_listener>> bind(endpoint local, listen_options options = {});

    /// Takes over a listening socket that was made elsewhere; see tcp_stream::from_native_handle. One that does not
    /// listen is an invalid_argument.
    static task<io_result<tcp_listener>> from_native_handle(native_socket handle);

    /// Waits for a connection. Cancelling it loses none: one that has arrived is delivered, or kept for the next
    /// accept. Fails with errc::draining, errc::canceled, or what the system says (too_many_files_open).
    accept_awaitable accept() noexcept { return accept_awaitable(state_ ? &state_->receive : nullptr); }

    /// Stops listening. An accept of another task ends as cancelled; connections not accepted yet are reset.
    task<io_result<void>> close();

    // For serve.hpp.
    detail::socket_state* listening_state() noexcept { return state_; }
};

} // namespace plait::inline v1
