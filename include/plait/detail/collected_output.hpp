#pragma once
/// Output that is collected in a socket's state block and sent by the loop at the turn's end.

#include <plait/detail/byte_buffer.hpp>
#include <plait/detail/socket_awaitables.hpp>
#include <plait/detail/stream_socket.hpp>

namespace plait::inline v1 {
namespace detail {

/// Output that the turn sends: framed writes append to `collecting`, the loop moves it to `sending`.
struct outbox {
    explicit outbox(socket_state& socket) noexcept;

    /// `sending` is with the driver, or its completion has not been looked at yet. (The flush is in no scope, so
    /// that the driver's list of completions is the only one it can be in.)
    bool leaving() const noexcept { return flush.in_flight || flush.linked(); }

    byte_buffer collecting; ///< once there is something in it, the loop knows that it is to be sent
    byte_buffer sending;
    operation flush; ///< the loop's own send; nobody awaits it
    bool queued = false;
    outbox* next_queued = nullptr;
};

/// Room behind what was collected; the loop sends it when the running task has suspended.
PLAIT_API std::byte* collect_output(socket_state& socket, std::size_t bytes);
/// The same, or nullptr when `most` bytes, or more, are collected already.
PLAIT_API std::byte* try_collect(socket_state& socket, std::size_t bytes, std::size_t most);
/// The same where it takes a few instructions: behind what is collected already.
PLAIT_HOT inline std::byte* append_collected(socket_state& socket, std::size_t bytes, std::size_t most) {
    if (socket.output) [[likely]] {
        byte_buffer& collecting = socket.output->collecting;
        const std::size_t before = collecting.size();
        if (before - 1 < most - 1 && collecting.has_room(bytes))
            [[likely]] { // more than 0, and less than most
            std::byte* room = collecting.bytes().data() + before;
            collecting.commit(bytes);
            return room;
        }
    }
    return try_collect(socket, bytes, most);
}

/// Takes what was collected away, to send it together with something else; and back.
PLAIT_API byte_buffer take_collected(socket_state& socket);
PLAIT_API void give_back_collected(socket_state& socket, byte_buffer bytes);

/// What a send of collected output ended with; it stays.
inline status output_failure(const socket_state& socket) noexcept {
    return socket.closing ? not_open() : socket.send_failure;
}
/// Whether there is none so far, in short.
PLAIT_HOT inline bool can_collect(const socket_state* socket) noexcept {
    return socket && !socket->closing && socket->send_failure.ok();
}
inline void fail_output(socket_state& socket, status failure) noexcept { socket.send_failure = failure; }

/// Waits until collected output has left: all of it, or so much that there is room again.
class [[nodiscard]] output_awaitable : operation_awaitable {
  public:
    using operation_awaitable::plait_awaitable_tag;

    output_awaitable(socket_state& socket, bool room) noexcept
        : operation_awaitable(&socket.send), room_(room) {}

    bool await_ready() const noexcept { return false; }
    template <environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        op_->kind = op_kind::send;
        op_->whole = true;
        op_->boundary = room_;
        op_->piece_count = 0;
        op_->data = nullptr;
        op_->size = 0;
        return start(waiter);
    }
    io_result<void> await_resume() noexcept { return io_result<void>(take_send(ended()).raw_status(), 0); }

  private:
    bool room_;
};

} // namespace detail
} // namespace plait::inline v1
