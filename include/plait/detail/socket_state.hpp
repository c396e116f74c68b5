#pragma once
/// A socket's state block: its handle, one receiving and one sending operation, and what outlives one await.

#include <plait/detail/pending.hpp>
#include <plait/endpoint.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace plait::inline v1 {

/// What the system calls a socket: a file descriptor on Linux, a SOCKET on Windows.
using native_socket = std::intptr_t;

namespace detail {

class driver;
struct socket_state;
struct outbox;

inline constexpr native_socket no_socket = -1;

/// Memory that leases refer to; belongs to a driver's pool, or to one lease alone.
struct buffer_block {
    void (*release)(buffer_block& block) noexcept; ///< one lease on it has ended
};

enum class op_kind : std::uint8_t { accept, connect, receive, lease, send, receive_from, send_to };

/// What a datagram has besides its bytes. It lives where the operation is awaited, as the bytes do.
struct envelope {
    endpoint* address = nullptr; ///< send_to: where to; receive_from: where the sender's is stored
    unix_path* path = nullptr;   ///< the same for a Unix socket; without either, the socket's connected peer
    bool truncated = false;      ///< receive_from: the datagram was longer than the buffer
};

/// One asynchronous operation. It lives in a socket's state block and does not move.
struct operation : pending {
    explicit operation(const pending_type& what) noexcept : pending(what) {}

    std::uint32_t piece_count = 0; ///< gathered send: pieces that are left, counted from `pieces`
    socket_state* socket = nullptr;

    op_kind kind = op_kind::receive;
    bool in_flight = false;   ///< the driver has it; it will be completed exactly once
    bool whole = false;       ///< go on until the buffers are full or empty
    bool boundary = false;    ///< a receive that draining may end while it has no bytes
    bool dont_wait = false;   ///< complete with would_block when nothing is there
    bool canceling = false;   ///< driver::cancel was called for this start
    bool drain_ended = false; ///< canceled because the context drains
    bool deferred = false;    ///< a send that waits for collected output to leave first

    /// receive: where to and how much is left. send: the bytes that are left, or, gathered, data is null and
    /// `size` bytes of the first piece have left already. lease: the bytes received. receive_from, send_to: the buffer.
    std::byte* data = nullptr;
    std::size_t size = 0;
    union {
        const std::span<const std::byte>* pieces = nullptr; ///< send, gathered
        buffer_block* block;                                ///< lease: who owns `data`
        const endpoint* peer;                               ///< connect
        native_socket accepted;                             ///< accept
        envelope* cover;                                    ///< receive_from, send_to
    };
    std::size_t transferred = 0; ///< bytes moved since the await began, over all restarts
    status result;
};

/// Takes what a lease operation brought, from inside the loop. One who needs more, because a message is not
/// complete yet, gets it without a coroutine being resumed in between.
struct lease_taker {
    /// The lease, of op's data, size and block, is `self`'s now. True: the await is over. False: the operation goes
    /// on; op.boundary says whether draining may end it.
    bool (*take)(lease_taker& self, operation& op) noexcept;
};

/// For an idle time-out: when bytes last moved on a stream. `stream` becomes nullptr when its block is freed.
struct traffic_watch {
    socket_state* stream = nullptr;
    steady_time active{};
};

enum class socket_kind : std::uint8_t { stream, listener, datagram };

/// One recycled allocation for each socket, freed after the last completion.
struct socket_state : list_node {
    socket_state(loop& owner, socket_kind what, native_socket native, std::size_t extra) noexcept;
    ~socket_state() {
        if (watch) watch->stream = nullptr;
    }

    loop* context;
    native_socket handle;
    std::uint16_t extra_bytes; ///< behind this block
    socket_kind kind;
    bool drainable : 1 = false; ///< a listener, or accepted by serve: draining ends what waits at a boundary
    bool polite : 1 = false;    ///< accepted by serve: destroying the stream closes it politely
    bool ended : 1 = false;     ///< the end of the peer's stream was received
    bool owned : 1 = true;      ///< a stream or listener object refers to this block
    bool closing : 1 = false;   ///< nothing can be started any more
    bool close_started : 1 = false;
    bool sends_frame : 1 = false; ///< `send` carries a frame, and what was collected before it
    outbox* output = nullptr;     ///< collected output, while there is any
    status send_failure;          ///< sticky: what a send of collected output ended with
    traffic_watch* watch = nullptr;
    lease_taker* taker = nullptr; ///< of the lease operation that is awaited, if it has one
    bool* closed_flag = nullptr;  ///< set when the system has closed the socket

    operation receive;
    operation send;

    /// What the driver keeps for this socket: driver::socket_bytes() bytes, aligned to 8.
    void* extra() noexcept { return this + 1; }
};
static_assert(sizeof(socket_state) % 8 == 0);

} // namespace detail
} // namespace plait::inline v1
