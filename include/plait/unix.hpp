#pragma once
/// Unix sockets: streams and datagrams between the programs of one machine, by path.
///
///     auto listener = co_await plait::unix_listener::bind("/run/service.sock");
///     auto stream = co_await plait::unix_stream::connect("/run/service.sock");
///     co_await stream->send_all("hello");
///     auto datagrams = co_await plait::unix_datagram::bind("/run/log.sock");
///
/// Where the system has none (Windows before 10, Wine), and for datagrams on Windows, `bind` and `connect` fail with
/// std::errc::address_family_not_supported. unix(7).

#include <plait/detail/datagram_awaitables.hpp>
#include <plait/detail/socket_file.hpp>
#include <plait/detail/stream_socket.hpp>
#include <plait/endpoint.hpp>

#include <span>
#include <string_view>

namespace plait::inline v1 {

/// A connection to another program. The verbs (recv, send, recv_exactly, send_all, shutdown_send, close) are those of
/// every stream; detail/stream_socket.hpp tells what each promises. Instead of endpoints it has paths:
/// local_endpoint() and remote_endpoint() fail with address_family_not_supported.
class PLAIT_API unix_stream : public detail::stream_socket {
  public:
    using stream_socket::stream_socket;

    /// Connects to who listens at `peer`; waits while its backlog is full. Fails with no_such_file_or_directory,
    /// connection_refused (nobody listens there any more), permission_denied, errc::canceled; for an invalid path with
    /// what its error() tells. connect(2).
    static task<io_result<unix_stream>> connect(unix_path peer);

    /// Takes over a connected socket that was made elsewhere, inherited or accepted by somebody else: from now on it is
    /// closed here. Its options stay as they are, no-delay too; it will not be inherited by child processes, and gets
    /// the mode that the backend needs (blocking with io_uring, non-blocking otherwise), which descriptors that are
    /// copies of it share. On an error it stays the caller's: bad_file_descriptor, not_a_socket, wrong_protocol_type
    /// (no stream), address_family_not_supported (not a Unix socket), not_connected, invalid_argument (it listens); on
    /// Windows device_or_resource_busy, if it is bound to another completion port, or was not made for overlapped
    /// calls. Nothing else may receive from it meanwhile.
    static task<io_result<unix_stream>> from_native_handle(native_socket handle);

    /// The paths of the two ends. Who connected has none as a rule.
    io_result<unix_path> local_path() const noexcept;
    io_result<unix_path> remote_path() const noexcept;

    /// SO_RCVBUF and SO_SNDBUF, bytes; Linux doubles what is asked for.
    io_result<void> set_receive_buffer_size(int bytes) noexcept;
    io_result<int> receive_buffer_size() const noexcept;
    io_result<void> set_send_buffer_size(int bytes) noexcept;
    io_result<int> send_buffer_size() const noexcept;
};

/// Completes when a connection has arrived.
class [[nodiscard]] unix_accept_awaitable : public detail::accept_operation {
  public:
    using accept_operation::accept_operation;
    PLAIT_API io_result<unix_stream> await_resume() noexcept;
};

/// A listening Unix socket, and its file.
class PLAIT_API unix_listener : public detail::socket_handle {
  public:
    unix_listener() noexcept = default;

    /// Gives the socket away, and its file stays; see tcp_stream::release.
    task<io_result<native_socket>> release();

    /// Binds `local` and listens; up to `backlog` connections may wait to be accepted (net.core.somaxconn caps it). A
    /// file that a dead program left there is replaced: a socket that nobody listens at. Fails with address_in_use if
    /// somebody does, or if another kind of file stands there; with no_such_file_or_directory, permission_denied; for
    /// an invalid path with what its error() tells; without a name with invalid_argument. bind(2), listen(2).
    static task<io_result<unix_listener>> bind(unix_path local, int backlog = 4096);

    /// Takes over a listening socket that was made elsewhere; see unix_stream::from_native_handle. One that does not
    /// listen is an invalid_argument. Its file is left alone.
    static task<io_result<unix_listener>> from_native_handle(native_socket handle);

    /// Waits for a connection; see tcp_listener::accept.
    unix_accept_awaitable accept() noexcept {
        return unix_accept_awaitable(state_ ? &state_->receive : nullptr);
    }

    /// Where it listens.
    io_result<unix_path> local_path() const noexcept;

    /// Stops listening and removes the file, if it is still this listener's; the destructor does that, too. An accept
    /// of another task ends as cancelled; connections not accepted yet are reset.
    task<io_result<void>> close();

    // For serve.hpp.
    detail::socket_state* listening_state() noexcept { return state_; }

  private:
    unix_listener(detail::socket_state* state, detail::socket_file file) noexcept
        : socket_handle(state), file_(std::move(file)) {}

    detail::socket_file
        file_; // removed first: whoever comes later may bind the name as soon as nobody listens
};

/// What unix_datagram::recv_from gives: how much of the buffer was filled, by whom, and whether there was more than it
/// could hold.
struct path_datagram {
    std::size_t bytes = 0;  ///< filled
    unix_path sender;       ///< unnamed if it was never bound
    bool truncated = false; ///< the rest of this datagram is lost
};

/// A Unix datagram socket, and its file. Datagrams are neither lost nor reordered on their way. One task may receive
/// while another sends; two receives, or two sends, at once are an assertion. Buffers must live until the operation
/// completes.
class PLAIT_API unix_datagram : public detail::socket_handle {
  public:
    unix_datagram() noexcept = default;

    /// Gives the socket away, and its file stays; see tcp_stream::release.
    task<io_result<native_socket>> release();

    /// Binds `local`; without a name, to a free one in the abstract namespace, so that others can answer. A file that a
    /// dead program left is replaced, as by unix_listener::bind. It fails like that, too.
    static task<io_result<unix_datagram>> bind(unix_path local = {});

    /// Takes over a datagram socket that was made elsewhere; see unix_stream::from_native_handle.
    static task<io_result<unix_datagram>> from_native_handle(native_socket handle);

    /// Receives one datagram, which may be empty: that is a success with 0 bytes. One that is longer than `buffer` is
    /// cut and told to be truncated. Cancelling it loses none. recvmsg(2).
    receive_from_awaitable<path_datagram> recv_from(std::span<std::byte> buffer) noexcept {
        return {receive_op(), buffer};
    }

    /// Sends one datagram, which may be empty; all of it or nothing. Waits while the receiver's queue is full. Fails
    /// with no_such_file_or_directory, connection_refused (nobody is there any more), message_size, errc::canceled; for
    /// an invalid path with what its error() tells. sendmsg(2).
    task<io_result<std::size_t>> send_to(std::span<const std::byte> bytes, unix_path to);
    task<io_result<std::size_t>> send_to(std::string_view text, unix_path to) {
        return send_to(std::as_bytes(std::span(text)), to);
    }

    /// Makes `peer` the one that send goes to, and that alone may send here; later calls choose another. Fails like
    /// send_to. connect(2).
    task<io_result<void>> connect(unix_path peer);

    /// Receives one datagram. One that is longer than `buffer` fails with std::errc::message_size, and bytes() tells
    /// what `buffer` holds of it.
    receive_datagram_awaitable recv(std::span<std::byte> buffer) noexcept { return {receive_op(), buffer}; }

    /// Sends one datagram to the connected peer; waits while its queue is full. Without a peer it fails with
    /// not_connected.
    send_datagram_awaitable send(std::span<const std::byte> bytes) noexcept { return {send_op(), bytes}; }
    send_datagram_awaitable send(std::string_view text) noexcept {
        return {send_op(), std::as_bytes(std::span(text))};
    }

    /// Where it is bound.
    io_result<unix_path> local_path() const noexcept;
    /// The connected peer; std::errc::not_connected without one.
    io_result<unix_path> remote_path() const noexcept;

    /// SO_RCVBUF and SO_SNDBUF, bytes; Linux doubles what is asked for.
    io_result<void> set_receive_buffer_size(int bytes) noexcept;
    io_result<int> receive_buffer_size() const noexcept;
    io_result<void> set_send_buffer_size(int bytes) noexcept;
    io_result<int> send_buffer_size() const noexcept;

    /// Closes and removes the file, if it is still this socket's; the destructor does that, too. What other tasks wait
    /// for on this socket ends as cancelled.
    task<io_result<void>> close();

  private:
    unix_datagram(detail::socket_state* state, detail::socket_file file) noexcept
        : socket_handle(state), file_(std::move(file)) {}
    detail::operation* receive_op() const noexcept { return state_ ? &state_->receive : nullptr; }
    detail::operation* send_op() const noexcept { return state_ ? &state_->send : nullptr; }

    detail::socket_file file_;
};

} // namespace plait::inline v1
