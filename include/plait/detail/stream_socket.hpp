#pragma once
/// The verbs that every stream socket shares: TCP now, Unix sockets by the same code.

#include <plait/detail/socket_awaitables.hpp>
#include <plait/result.hpp>
#include <plait/task.hpp>

#include <chrono>
#include <optional>
#include <span>
#include <string_view>

namespace plait::inline v1 {

namespace detail {

/// Marks a receive that is not at a boundary between messages, so that draining lets it wait on.
struct inside_message {};

/// Owns a socket's state block. Moving it while an operation is in flight is an assertion.
class PLAIT_API socket_handle {
  public:
    /// One that is not open.
    socket_handle() noexcept = default;
    // For the library.
    explicit socket_handle(socket_state* state) noexcept : state_(state) {}

    socket_handle(socket_handle&& other) noexcept : state_(other.take()) {}
    socket_handle& operator=(socket_handle&& other) noexcept;
    ~socket_handle();

    /// False after close(), or when it was moved from.
    bool is_open() const noexcept { return state_ != nullptr; }
    explicit operator bool() const noexcept { return is_open(); }

    /// The descriptor or SOCKET, which stays owned here; -1 when it is not open.
    native_socket native_handle() const noexcept { return state_ ? state_->handle : no_socket; }

    /// Where it is bound; the port that port 0 became. getsockname(2).
    io_result<endpoint> local_endpoint() const noexcept;

    /// Gives the descriptor or SOCKET away: it stays open and is the caller's, and this object is not open any more.
    /// What was collected for sending leaves first. No operation may be in flight, which is an assertion. The socket is
    /// left in the mode that the backend had it in: blocking with io_uring, non-blocking with epoll and IOCP. On
    /// Windows it stays bound to this context's completion port, so that no other context can adopt it. The file of a
    /// Unix socket stays where it is.
    ///
    /// Nothing that had come gets lost: with std::errc::device_or_resource_busy the socket stays here, because bytes,
    /// or connections of a listener, were taken from the system that nobody has asked for yet. Receive (or accept)
    /// them, which does not wait, and release again. Fails, too, like a send.
    task<io_result<native_socket>> release();

    /// setsockopt(level, name, value), for what has no setter of its own.
    io_result<void> set_option(int level, int name, std::span<const std::byte> value) noexcept;

  protected:
    // For the library.
    socket_state* take() noexcept;
    socket_state* state_ = nullptr;
};

/// A connected byte stream. One task may receive while another sends; two receives, or two sends, at once are an
/// assertion. Buffers must live until the operation completes.
class PLAIT_API stream_socket : public socket_handle {
  public:
    using socket_handle::socket_handle;

    /// Receives some bytes into `buffer`: completes when at least one is there. An empty buffer succeeds with 0.
    /// Cancelling it loses nothing: bytes that have arrived are delivered. Fails with errc::end_of_stream,
    /// errc::draining (a stream of serve()), errc::canceled, or what the system says (connection_reset). recv(2).
    receive_awaitable recv(std::span<std::byte> buffer) noexcept { return {receive_op(), buffer, false}; }

    /// Receives some bytes, at least one, into a pooled buffer; while it waits it holds none. Otherwise like
    /// recv(buffer).
    lease_awaitable recv() noexcept { return lease_awaitable(receive_op()); }

    /// Receives until `buffer` is full. The stream's end is errc::end_of_stream at the first byte and
    /// errc::truncated_frame after it; bytes() tells how many came before any error.
    receive_awaitable recv_exactly(std::span<std::byte> buffer) noexcept {
        return {receive_op(), buffer, true};
    }

    /// Sends some of `bytes`: completes when the kernel took at least one. Fails with std::errc::broken_pipe,
    /// connection_reset, errc::canceled. Output collected by a `framed` on this stream leaves first. send(2).
    send_awaitable send(std::span<const std::byte> bytes) noexcept { return {send_op(), bytes, false}; }
    send_awaitable send(std::string_view text) noexcept {
        return {send_op(), std::as_bytes(std::span(text)), false};
    }

    /// Sends all of `bytes`. After an error, a cancellation included, bytes() tells how many had left. Otherwise like
    /// send().
    send_awaitable send_all(std::span<const std::byte> bytes) noexcept { return {send_op(), bytes, true}; }
    send_awaitable send_all(std::string_view text) noexcept {
        return {send_op(), std::as_bytes(std::span(text)), true};
    }
    /// Sends all pieces in order, gathered into as few system calls as possible. The list itself must live until
    /// completion, too. sendmsg(2).
    send_awaitable send_all(std::span<const std::span<const std::byte>> pieces) noexcept {
        return {send_op(), pieces};
    }

    /// Half-close: sends what was collected, then tells the peer that no more comes. Receiving goes on. Completes when
    /// the system has been told. Fails with errc::canceled, what a send fails with, or not_connected. After a write of
    /// a `framed` on this stream has failed or was cut off, it fails with that error and tells the peer nothing: a
    /// message that is not whole must not look like the end of what was to be said. shutdown(2).
    task<io_result<void>> shutdown_send();

    /// Polite close: sends what was collected, half-closes, discards input until the peer ends or two seconds have
    /// passed, then closes. Operations of other tasks on this stream end as cancelled. (A plain close with unread
    /// input makes the kernel reset the connection and cut answers that it had accepted already.) A destructor
    /// alone may reset.
    task<io_result<void>> close();

    /// The peer. getpeername(2).
    io_result<endpoint> remote_endpoint() const noexcept;

    // For framing.hpp: a receive that draining does not end, and output that the loop sends at the turn's end.
    lease_awaitable recv(detail::inside_message) noexcept { return lease_awaitable(receive_op(), false); }
    socket_state* collected_output() noexcept { return state_; }

  protected:
    // For the library.
    operation* receive_op() const noexcept { return state_ ? &state_->receive : nullptr; }
    operation* send_op() const noexcept { return state_ ? &state_->send : nullptr; }
};

} // namespace detail
} // namespace plait::inline v1
