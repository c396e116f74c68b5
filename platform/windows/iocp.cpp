/// The IOCP driver. Receives wait with no buffer, and sends that find no room leave from a copy: so a cancellation
/// never races with bytes, and nothing of the caller's is ever with the system (docs/decisions/0010).

#include "platform/backend_choice.hpp"
#include "platform/lease_pool.hpp"
#include "platform/private_buffer.hpp"
#include "platform/windows/socket.hpp"

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>
#include <vector>

namespace plait::inline v1 {
namespace detail {
namespace {

/// Pending AcceptEx calls of a listener: as many connections are taken in before anybody asks.
constexpr std::size_t accepts_at_once = 8;
/// What leaves from a copy at once.
constexpr std::size_t longest_piece = 64 * 1024;
/// How long a closed socket may take to send a piece that counts as sent.
constexpr auto linger_time = std::chrono::seconds(2);

enum class packet_kind : std::uint8_t { receive, send, accept };

/// What the system holds while a call is pending, and gives back with its completion packet.
struct packet : OVERLAPPED {
    explicit packet(packet_kind what) noexcept : OVERLAPPED{}, kind(what) {}

    OVERLAPPED* fresh() noexcept {
        *static_cast<OVERLAPPED*>(this) = {};
        return this;
    }
    socket_state* socket = nullptr;
    packet_kind kind;
    bool in_flight = false; ///< its completion packet will come
};

struct accept_packet : packet {
    accept_packet() noexcept : packet(packet_kind::accept) {}

    static constexpr DWORD address_bytes = sizeof(sockaddr_un) + 16; // the longest; AcceptEx wants 16 more

    SOCKET accepted = INVALID_SOCKET;
    std::array<char, 2 * std::size_t{address_bytes}> addresses{};
};

/// A listener's pending accepts, and the connections that they brought before anybody asked.
struct acceptor {
    std::array<accept_packet, accepts_at_once> packets;
    std::vector<SOCKET> ready; ///< the oldest first
    unsigned in_flight = 0;
    int no_delay = 0; ///< of the listener: Windows does not hand it down
    bool ending = false;
};

/// What the system writes to, and reads from, while calls of a datagram socket are pending.
struct datagram_room {
    socket_address sender;
    DWORD flags = 0;
    socket_address to;
};

/// What this driver keeps in a socket's state block.
struct iocp_socket {
    packet receive{packet_kind::receive}; ///< a WSARecv of no bytes, or a WSARecvFrom
    packet send{packet_kind::send};       ///< a WSASend of `piece`, a ConnectEx, or a WSASendTo
    union {
        acceptor* accepts = nullptr; ///< of a listener
        datagram_room* room;         ///< of a datagram socket that has had to wait
    };
    private_buffer* piece = nullptr; ///< what leaves, copied
    ULONG piece_left = 0;            ///< bytes of it
    operation* sender = nullptr;     ///< waits for `send`
    status failure;                  ///< of receiving or accepting, until somebody is told
    status send_failure;             ///< of a piece whose sender was cancelled
    bool waiting = false;            ///< socket.receive waits for `receive`, or for a connection
    bool readable = true;            ///< worth a try: the last one did not empty the socket
    bool skips = false;              ///< a call that succeeds at once brings no packet
    bool sends_own = false;          ///< `piece` is what `sender` sends, not what was sent before
    bool shut_down_next = false;     ///< once `piece` has left
};
static_assert(sizeof(iocp_socket) % 8 == 0 && alignof(iocp_socket) <= 8);

void release_piece(iocp_socket& own) noexcept {
    if (private_buffer* const piece = std::exchange(own.piece, nullptr)) piece->release(*piece);
}

iocp_socket& mine(socket_state& socket) noexcept { return *static_cast<iocp_socket*>(socket.extra()); }

/// The completion port, shared with whoever may want to wake the loop.
class completion_port final : public waker {
  public:
    completion_port() : port_(::CreateIoCompletionPort(INVALID_HANDLE_VALUE, nullptr, 0, 1)) {}
    completion_port(const completion_port&) = delete;
    completion_port& operator=(const completion_port&) = delete;
    ~completion_port() override {
        if (port_) ::CloseHandle(port_);
    }
    void wake() noexcept override { ::PostQueuedCompletionStatus(port_, 0, 0, nullptr); }
    HANDLE get() const noexcept { return port_; }

  private:
    HANDLE port_;
};

class iocp_driver final : public winsock_driver {
  public:
    explicit iocp_driver(const context_options& options) : pool_(lease_pool::make(options)) {}
    ~iocp_driver() override { pool_->detach(); }

    status set_up();

    plait::backend backend() const noexcept override { return plait::backend::iocp; }
    void enter_thread() override {}
    void wait(steady_time deadline) override;
    std::shared_ptr<waker> get_waker() override { return port_; }
    bool start(operation& op) override;
    void cancel(operation& op) noexcept override;
    std::size_t socket_bytes() const noexcept override { return sizeof(iocp_socket); }
    void attach(socket_state& socket) noexcept override;
    status inspect(native_socket handle, socket_kind kind, bool of_unix) noexcept override;
    status quiesce(socket_state& socket) noexcept override;
    void forget(socket_state& socket) noexcept override;
    using winsock_driver::close;
    bool close(socket_state& socket) noexcept override;
    status shutdown_send(socket_state& socket) noexcept override;
    void pause_accept(socket_state& socket) noexcept override { end_accepts(socket); }

  private:
    void on_packet(packet& what, std::size_t bytes);
    void on_receive(socket_state& socket, status outcome);
    void on_send(socket_state& socket, status outcome, std::size_t bytes);
    void on_accept(accept_packet& what, status outcome);
    void request_cancel(packet& what) noexcept;
    void close_if_quiet(socket_state& socket) noexcept;
    bool linger(socket_state& socket) noexcept;
    void give_up_lingering() noexcept;

    bool start_receive(operation& op);
    bool attempt_receive(operation& op);
    bool await_receive(operation& op);
    bool start_send(operation& op);
    bool attempt_send(operation& op);
    bool send_piece(operation& op);
    bool send_rest(socket_state& socket, status& outcome) noexcept;
    bool start_connect(operation& op);
    bool start_receive_from(operation& op);
    bool start_send_to(operation& op);
    static void received(operation& op, const socket_address& sender, int error, std::size_t bytes);
    void on_datagram(operation& op, int error, std::size_t bytes);
    void on_datagram_sent(operation& op, status outcome, std::size_t bytes);
    bool start_accept(operation& op);
    bool claim(operation& op) noexcept;
    bool accept_now(operation& op);
    status post_accepts(socket_state& socket);
    status post_accept(accept_packet& what);
    void end_accepts(socket_state& socket) noexcept;
    static status take_over(socket_state& listener, SOCKET accepted) noexcept;

    std::shared_ptr<completion_port> port_ = std::make_shared<completion_port>();
    std::array<OVERLAPPED_ENTRY, 128> entries_;
    extensions extensions_;
    lease_pool* pool_;
    native_socket bound_ = no_socket; ///< was made elsewhere, and is bound to the port before attach()
    /// Closed sockets that still send their last piece, and until when; the earliest first.
    struct lingering {
        socket_state* socket;
        steady_time until;
    };
    std::vector<lingering> lingering_;
};

status iocp_driver::set_up() {
    if (!port_->get()) return native_error(static_cast<int>(::GetLastError()));
    return find_extensions(extensions_);
}

// --- waiting -----------------------------------------------------------------------------------------------

void iocp_driver::wait(steady_time deadline) {
    if (!lingering_.empty()) {
        give_up_lingering();
        if (!lingering_.empty()) deadline = std::min(deadline, lingering_.front().until);
    }
    DWORD span = 0;
    if (deadline == steady_time::max()) {
        span = INFINITE;
    } else if (deadline != steady_time::min()) {
        // Rounded up, so that a timer is never looked at too early.
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now()).count();
        span = static_cast<DWORD>(std::clamp<std::int64_t>(left, 0, INT_MAX));
    }
    ++metrics_.system_calls;
    ULONG count = 0;
    if (!::GetQueuedCompletionStatusEx(port_->get(), entries_.data(), static_cast<ULONG>(entries_.size()),
                                       &count, span, FALSE)) {
        PLAIT_ASSERT(::GetLastError() == WAIT_TIMEOUT,
                     "GetQueuedCompletionStatusEx failed in a way that has no remedy");
        return;
    }
    for (ULONG i = 0; i < count; ++i) {
        ++metrics_.completions;
        if (OVERLAPPED* overlapped = entries_[i].lpOverlapped) // otherwise a wake-up
            on_packet(*static_cast<packet*>(overlapped), entries_[i].dwNumberOfBytesTransferred);
    }
}

void iocp_driver::on_packet(packet& what, std::size_t bytes) {
    what.in_flight = false;
    int error = 0;
    if (what.Internal != 0) { // an NTSTATUS, which this turns into an error of Winsock's
        DWORD unused_bytes = 0, unused_flags = 0;
        if (!::WSAGetOverlappedResult(socket_of(what.socket->handle), &what, &unused_bytes, FALSE,
                                      &unused_flags))
            error = WSAGetLastError();
    }
    const status outcome = native_error(error);
    if (what.socket->kind == socket_kind::datagram)
        return what.kind == packet_kind::receive ? on_datagram(what.socket->receive, error, bytes)
                                                 : on_datagram_sent(what.socket->send, outcome, bytes);
    switch (what.kind) {
    case packet_kind::receive: return on_receive(*what.socket, outcome);
    case packet_kind::send: return on_send(*what.socket, outcome, bytes);
    case packet_kind::accept: return on_accept(static_cast<accept_packet&>(what), outcome);
    }
}

/// The packet comes all the same; if the call has ended meanwhile, it is on its way.
void iocp_driver::request_cancel(packet& what) noexcept {
    if (!what.in_flight) return;
    ++metrics_.system_calls;
    ::CancelIoEx(handle_of(what.socket->handle), &what);
}

// --- operations --------------------------------------------------------------------------------------------

bool iocp_driver::start(operation& op) {
    switch (op.kind) {
    case op_kind::receive:
    case op_kind::lease: return start_receive(op);
    case op_kind::accept: return start_accept(op);
    case op_kind::send: return start_send(op);
    case op_kind::connect: return start_connect(op);
    case op_kind::receive_from: return start_receive_from(op);
    case op_kind::send_to: return start_send_to(op);
    }
    return false;
}

void iocp_driver::cancel(operation& op) noexcept {
    iocp_socket& own = mine(*op.socket);
    if (op.kind == op_kind::connect || op.kind == op_kind::send_to) return request_cancel(own.send);
    if (op.kind == op_kind::receive_from) return request_cancel(own.receive);
    if (&op == own.sender) {
        // What leaves belongs to the driver and leaves all the same: it counts as sent.
        own.sender = nullptr;
        if (own.sends_own) op.transferred += own.piece->size;
    } else {
        // The pending call stays, for the next receive or accept. It holds nothing that could be lost.
        own.waiting = false;
    }
    finish(op, errc::canceled);
    complete(op);
}

void iocp_driver::attach(socket_state& socket) noexcept {
    metrics_.system_calls += 2;
    iocp_socket& own = *::new (socket.extra()) iocp_socket;
    own.receive.socket = own.send.socket = &socket;
    u_long on = 1;
    if (::ioctlsocket(socket_of(socket.handle), static_cast<long>(FIONBIO), &on) != 0) {
        own.failure = own.send_failure = last_error();
    }
    // One that was made elsewhere may be such that a packet comes all the same.
    if (std::exchange(bound_, no_socket) == socket.handle) return;
    if (!::CreateIoCompletionPort(handle_of(socket.handle), port_->get(), 0, 0))
        own.failure = own.send_failure = native_error(static_cast<int>(::GetLastError()));
    if (socket.kind == socket_kind::stream)
        own.skips = ::SetFileCompletionNotificationModes(handle_of(socket.handle),
                                                         FILE_SKIP_COMPLETION_PORT_ON_SUCCESS) != 0;
}

/// Whether it can be bound to the port shows best by doing so: a socket has one port for life.
status iocp_driver::inspect(native_socket handle, socket_kind kind, bool of_unix) noexcept {
    if (const status failure = winsock_driver::inspect(handle, kind, of_unix); !failure.ok()) return failure;
    ++metrics_.system_calls;
    if (!::CreateIoCompletionPort(handle_of(handle), port_->get(), 0, 0))
        return std::make_error_code(std::errc::device_or_resource_busy);
    bound_ = handle;
    return {};
}

status iocp_driver::quiesce(socket_state& socket) noexcept {
    iocp_socket& own = mine(socket);
    request_cancel(own.receive);
    const bool accepts = socket.kind == socket_kind::listener && own.accepts;
    if (accepts) end_accepts(socket);
    if (own.receive.in_flight || own.send.in_flight || (accepts && own.accepts->in_flight > 0))
        return std::make_error_code(std::errc::operation_would_block);
    if (accepts && !own.accepts->ready.empty())
        return std::make_error_code(std::errc::device_or_resource_busy);
    return own.failure.ok() ? own.send_failure : own.failure;
}

void iocp_driver::forget(socket_state& socket) noexcept {
    iocp_socket& own = mine(socket);
    if (socket.kind == socket_kind::datagram)
        delete std::exchange(own.room, nullptr);
    else
        delete std::exchange(own.accepts, nullptr);
}

bool iocp_driver::close(socket_state& socket) noexcept {
    iocp_socket& own = mine(socket);
    request_cancel(own.receive);
    if (own.send.in_flight && !linger(socket)) request_cancel(own.send);
    if (socket.kind == socket_kind::datagram) {
        delete std::exchange(own.room, nullptr); // nothing is in flight
    } else if (own.accepts) {
        for (const SOCKET each : std::exchange(own.accepts->ready, {})) ::closesocket(each);
        end_accepts(socket);
        if (own.accepts->in_flight > 0) return false;
        delete std::exchange(own.accepts, nullptr);
    }
    if (own.receive.in_flight || own.send.in_flight) return false;
    close(socket.handle);
    return true;
}

/// closesocket() would cut a pending piece off. It belongs to a send that was told that these bytes have left, so it
/// is given some time. False: not on a socket that is to be reset.
bool iocp_driver::linger(socket_state& socket) noexcept {
    int seconds = -1;
    if (!mine(socket).piece) return false;
    if (get_option(socket.handle, socket_option::linger, seconds).ok() && seconds == 0) return false;
    static_cast<void>(shutdown_send(socket));
    lingering_.push_back({&socket, now() + linger_time});
    return true;
}

void iocp_driver::give_up_lingering() noexcept {
    const steady_time time = now();
    std::erase_if(lingering_, [&](const lingering& each) {
        if (each.until > time) return false;
        request_cancel(mine(*each.socket).send);
        return true;
    });
}

/// Called for each packet of a socket that is being closed.
void iocp_driver::close_if_quiet(socket_state& socket) noexcept {
    iocp_socket& own = mine(socket);
    if (own.receive.in_flight || own.send.in_flight) return;
    if (own.accepts && own.accepts->in_flight > 0) return;
    std::erase_if(lingering_, [&](const lingering& each) { return each.socket == &socket; });
    delete std::exchange(own.accepts, nullptr);
    close(socket.handle);
    closed(socket);
}

// --- receiving ---------------------------------------------------------------------------------------------

bool iocp_driver::start_receive(operation& op) {
    iocp_socket& own = mine(*op.socket);
    if (!own.failure.ok()) {
        finish(op, std::exchange(own.failure, status()));
        return true;
    }
    if (own.receive.in_flight) { // of a receive that was cancelled
        own.waiting = true;
        if (op.dont_wait) request_cancel(own.receive);
        return false;
    }
    if ((own.readable || op.dont_wait) && attempt_receive(op)) return true;
    if (op.dont_wait) {
        finish(op, native_error(WSAEWOULDBLOCK));
        return true;
    }
    return await_receive(op);
}

/// True: `op` has its outcome. False: there was nothing to receive.
bool iocp_driver::attempt_receive(operation& op) {
    std::span<std::byte> room(op.data, op.size);
    if (op.kind == op_kind::lease) room = pool_->prepare();
    ++metrics_.system_calls;
    const int most = static_cast<int>(std::min<std::size_t>(room.size(), INT_MAX));
    const int count = ::recv(socket_of(op.socket->handle), reinterpret_cast<char*>(room.data()), most, 0);
    iocp_socket& own = mine(*op.socket);
    if (count < 0 && WSAGetLastError() == WSAEWOULDBLOCK) {
        own.readable = false;
        return false;
    }
    if (count < 0) {
        finish(op, last_error());
    } else if (count == 0) {
        // Wine tells a reset as an end, but knows better when it is asked.
        WSAPOLLFD look{socket_of(op.socket->handle), POLLRDNORM, 0};
        const bool reset = ::WSAPoll(&look, 1, 0) == 1 && (look.revents & POLLERR) != 0;
        finish(op, reset ? native_error(WSAECONNRESET) : status(errc::end_of_stream));
    } else {
        const auto received = static_cast<std::size_t>(count);
        own.readable = received == room.size(); // a short one has emptied the socket
        if (op.kind == op_kind::lease) {
            pool_->commit(op, received);
            finish(op, received);
        } else {
            advance(op, received);
        }
    }
    return true;
}

/// Waits until there is something, with a receive of no bytes: it pins no buffer and takes nothing off the stream.
bool iocp_driver::await_receive(operation& op) {
    iocp_socket& own = mine(*op.socket);
    for (;;) {
        WSABUF nothing{};
        DWORD flags = 0;
        ++metrics_.system_calls;
        const int outcome = ::WSARecv(socket_of(op.socket->handle), &nothing, 1, nullptr, &flags,
                                      own.receive.fresh(), nullptr);
        if (outcome != 0 && WSAGetLastError() != WSA_IO_PENDING) {
            finish(op, last_error());
            return true;
        }
        if (outcome != 0 || !own.skips) {
            own.receive.in_flight = true;
            own.waiting = true;
            return false;
        }
        if (attempt_receive(op)) return true;
    }
}

void iocp_driver::on_receive(socket_state& socket, status outcome) {
    iocp_socket& own = mine(socket);
    if (socket.close_started) return close_if_quiet(socket);
    const bool canceled = outcome.is(errc::canceled); // for dont_wait; a failure of the call it is not
    own.readable = true;
    if (!own.waiting) {
        if (!outcome.ok() && !canceled) own.failure = outcome;
        return;
    }
    own.waiting = false;
    operation& op = socket.receive;
    if (!outcome.ok() && !canceled) {
        finish(op, outcome);
    } else if (!start_receive(op)) {
        return;
    }
    complete(op);
}

// --- sending -----------------------------------------------------------------------------------------------

bool iocp_driver::start_send(operation& op) {
    iocp_socket& own = mine(*op.socket);
    PLAIT_ASSERT(!own.sender, "two sends on a socket at once; each direction has one task at a time");
    if (!own.send_failure.ok()) {
        finish(op, std::exchange(own.send_failure, status()));
        return true;
    }
    if (own.send.in_flight) { // a piece of a send that was cancelled
        own.sender = &op;
        own.sends_own = false;
        return false;
    }
    return attempt_send(op) || send_piece(op);
}

/// Straight from the caller's memory, as much as there is room for. False: none.
bool iocp_driver::attempt_send(operation& op) {
    std::array<WSABUF, 16> buffers;
    const std::size_t count = gather(op, buffers);
    DWORD sent = 0;
    ++metrics_.system_calls;
    if (::WSASend(socket_of(op.socket->handle), buffers.data(), static_cast<DWORD>(count), &sent, 0, nullptr,
                  nullptr) == 0)
        advance(op, sent);
    else if (WSAGetLastError() == WSAEWOULDBLOCK)
        return false;
    else
        finish(op, last_error());
    return true;
}

/// From a copy, which the system takes when there is room.
bool iocp_driver::send_piece(operation& op) {
    iocp_socket& own = mine(*op.socket);
    std::array<WSABUF, 16> buffers;
    const std::size_t count = gather(op, buffers);
    std::size_t size = 0;
    for (std::size_t i = 0; i < count; ++i) size += buffers[i].len;
    size = std::min(size, longest_piece);
    own.piece = private_buffer::make(size);
    std::size_t copied = 0;
    for (std::size_t i = 0; i < count && copied < size; ++i) {
        const std::size_t part = std::min<std::size_t>(buffers[i].len, size - copied);
        std::memcpy(own.piece->data() + copied, buffers[i].buf, part);
        copied += part;
    }
    own.piece_left = static_cast<ULONG>(size);
    status outcome;
    if (!send_rest(*op.socket, outcome)) {
        own.sender = &op;
        own.sends_own = true;
        return false;
    }
    if (outcome.ok())
        advance(op, size);
    else
        finish(op, outcome);
    release_piece(own);
    return true;
}

/// Hands over what `piece` has left. True: that is over, with `outcome`. False: a packet will come.
bool iocp_driver::send_rest(socket_state& socket, status& outcome) noexcept {
    iocp_socket& own = mine(socket);
    WSABUF rest{own.piece_left,
                reinterpret_cast<char*>(own.piece->data() + own.piece->size - own.piece_left)};
    ++metrics_.system_calls;
    const int result = ::WSASend(socket_of(socket.handle), &rest, 1, nullptr, 0, own.send.fresh(), nullptr);
    const bool failed = result != 0 && WSAGetLastError() != WSA_IO_PENDING;
    outcome = failed ? last_error() : status();
    own.send.in_flight = !failed && (result != 0 || !own.skips);
    return !own.send.in_flight;
}

status iocp_driver::shutdown_send(socket_state& socket) noexcept {
    iocp_socket& own = mine(socket);
    if (own.piece) { // Wine would cut it off
        own.shut_down_next = true;
        return {};
    }
    ++metrics_.system_calls;
    return ::shutdown(socket_of(socket.handle), SD_SEND) == 0 ? status() : last_error();
}

bool iocp_driver::start_connect(operation& op) {
    iocp_socket& own = mine(*op.socket);
    if (!own.send_failure.ok()) {
        finish(op, std::exchange(own.send_failure, status()));
        return true;
    }
    const socket_address address(*op.peer);
    ++metrics_.system_calls;
    const bool done = extensions_.connect(socket_of(op.socket->handle), address.get(), address.size, nullptr,
                                          0, nullptr, own.send.fresh());
    if (!done && WSAGetLastError() != WSA_IO_PENDING) {
        finish(op, last_error());
        return true;
    }
    own.sender = &op;
    own.sends_own = false;
    own.send.in_flight = true;
    if (!done || !own.skips) return false;
    own.send.in_flight = false;
    own.sender = nullptr;
    finish(op, set_option(op.socket->handle, SOL_SOCKET, SO_UPDATE_CONNECT_CONTEXT, {}));
    return true;
}

void iocp_driver::on_send(socket_state& socket, status outcome, std::size_t bytes) {
    iocp_socket& own = mine(socket);
    if (own.piece && outcome.ok() && bytes < own.piece_left) {
        // Windows sends the whole or fails; Wine gives up when the peer ends its side, and calls it a success.
        own.piece_left -= static_cast<ULONG>(bytes);
        if (!send_rest(socket, outcome)) return;
    }
    const std::size_t sent = own.piece ? own.piece->size : 0;
    release_piece(own);
    if (std::exchange(own.shut_down_next, false)) static_cast<void>(shutdown_send(socket));
    if (socket.close_started) return close_if_quiet(socket);
    operation* const op = std::exchange(own.sender, nullptr);
    if (!op) {
        own.send_failure = outcome;
        return;
    }
    if (!outcome.ok()) {
        finish(*op, outcome);
    } else if (op->kind == op_kind::connect) {
        // Without this the socket has no peer address and cannot be shut down.
        finish(*op, set_option(socket.handle, SOL_SOCKET, SO_UPDATE_CONNECT_CONTEXT, {}));
    } else if (own.sends_own) {
        advance(*op, sent);
    } else if (!start_send(*op)) { // what was sent before has left
        return;
    }
    complete(*op);
}

// --- datagrams ---------------------------------------------------------------------------------------------
//
// A receive of no bytes would eat a datagram, so one waits with the caller's buffer, and a cancellation waits for its
// packet. A call that is not refused always brings one, also if it said WSAEMSGSIZE: these sockets skip none.

/// Stores what a WSARecvFrom ended with. A datagram that was cut is one all the same.
void iocp_driver::received(operation& op, const socket_address& sender, int error, std::size_t bytes) {
    const bool cut = error == WSAEMSGSIZE || error == ERROR_MORE_DATA;
    op.cover->truncated = cut;
    if (error != 0 && !cut) {
        // An earlier datagram found nobody. Winsock calls that a reset.
        finish(op, native_error(error == WSAECONNRESET ? WSAECONNREFUSED : error));
        return;
    }
    finish(op, cut ? op.size : bytes);
    if (op.cover->address) *op.cover->address = sender.to_endpoint();
}

bool iocp_driver::start_receive_from(operation& op) {
    iocp_socket& own = mine(*op.socket);
    if (!own.failure.ok()) {
        finish(op, std::exchange(own.failure, status()));
        return true;
    }
    const SOCKET socket = socket_of(op.socket->handle);
    WSABUF buffer{static_cast<ULONG>(std::min<std::size_t>(op.size, INT_MAX)),
                  reinterpret_cast<char*>(op.data)};
    ++metrics_.system_calls;
    socket_address sender;
    DWORD bytes = 0, flags = 0;
    int error = 0;
    if (::WSARecvFrom(socket, &buffer, 1, &bytes, &flags, sender.get(), &sender.size, nullptr, nullptr) != 0)
        error = WSAGetLastError();
    if (error != WSAEWOULDBLOCK) {
        received(op, sender, error, bytes);
        return true;
    }
    if (!own.room) own.room = new datagram_room;
    ++metrics_.system_calls;
    own.room->sender.size = sizeof own.room->sender.storage;
    own.room->flags = 0;
    if (::WSARecvFrom(socket, &buffer, 1, nullptr, &own.room->flags, own.room->sender.get(),
                      &own.room->sender.size, own.receive.fresh(), nullptr) != 0) {
        error = WSAGetLastError();
        if (error != WSA_IO_PENDING && error != WSAEMSGSIZE) {
            received(op, own.room->sender, error, 0);
            return true;
        }
    }
    own.receive.in_flight = true;
    return false;
}

void iocp_driver::on_datagram(operation& op, int error, std::size_t bytes) {
    received(op, mine(*op.socket).room->sender, error, bytes);
    complete(op);
}

bool iocp_driver::start_send_to(operation& op) {
    iocp_socket& own = mine(*op.socket);
    if (!own.send_failure.ok()) {
        finish(op, std::exchange(own.send_failure, status()));
        return true;
    }
    const SOCKET socket = socket_of(op.socket->handle);
    WSABUF buffer{static_cast<ULONG>(std::min<std::size_t>(op.size, INT_MAX)),
                  reinterpret_cast<char*>(op.data)};
    socket_address to;
    if (op.cover->address) to = socket_address(*op.cover->address);
    const bool named = op.cover->address != nullptr;
    DWORD sent = 0;
    ++metrics_.system_calls;
    if (::WSASendTo(socket, &buffer, 1, &sent, 0, named ? to.get() : nullptr, named ? to.size : 0, nullptr,
                    nullptr) == 0) {
        finish(op, sent);
        return true;
    }
    if (WSAGetLastError() == WSAEWOULDBLOCK) {
        if (!own.room) own.room = new datagram_room;
        own.room->to = to;
        ++metrics_.system_calls;
        if (::WSASendTo(socket, &buffer, 1, nullptr, 0, named ? own.room->to.get() : nullptr,
                        named ? to.size : 0, own.send.fresh(), nullptr) == 0 ||
            WSAGetLastError() == WSA_IO_PENDING) {
            own.send.in_flight = true;
            return false;
        }
    }
    int error = WSAGetLastError();
    if (error == WSAECONNRESET) error = WSAECONNREFUSED;        // an earlier one found nobody
    if (!named && (error == WSAENOTCONN || error == WSAEINVAL)) // Windows', Wine's; the same as on Linux
        error = WSAEDESTADDRREQ;
    finish(op, native_error(error));
    return true;
}

void iocp_driver::on_datagram_sent(operation& op, status outcome, std::size_t bytes) {
    if (outcome.ok())
        finish(op, bytes);
    else
        finish(op, outcome);
    complete(op);
}

// --- accepting ---------------------------------------------------------------------------------------------

bool iocp_driver::start_accept(operation& op) {
    socket_state& socket = *op.socket;
    iocp_socket& own = mine(socket);
    if (claim(op)) return true;
    if (!own.accepts) {
        own.accepts = new acceptor;
        int size = sizeof own.accepts->no_delay;
        ::getsockopt(socket_of(socket.handle), IPPROTO_TCP, TCP_NODELAY,
                     reinterpret_cast<char*>(&own.accepts->no_delay), &size);
        for (accept_packet& each : own.accepts->packets) each.socket = &socket;
    }
    if (op.dont_wait) {
        if (own.accepts->in_flight == 0) return accept_now(op);
        end_accepts(socket); // what they bring meanwhile counts; then the backlog is looked at
    } else if (!own.accepts->ending) {
        if (const status failure = post_accepts(socket); !failure.ok() && own.accepts->in_flight == 0) {
            finish(op, failure);
            return true;
        }
    }
    own.waiting = true;
    return false;
}

/// Gives `op` a connection that came before it was asked for. False when there is none.
bool iocp_driver::claim(operation& op) noexcept {
    iocp_socket& own = mine(*op.socket);
    if (own.accepts && !own.accepts->ready.empty()) {
        op.accepted = static_cast<native_socket>(own.accepts->ready.front());
        own.accepts->ready.erase(own.accepts->ready.begin());
        finish(op, 0);
        return true;
    }
    if (own.failure.ok()) return false;
    finish(op, std::exchange(own.failure, status()));
    return true;
}

bool iocp_driver::accept_now(operation& op) {
    ++metrics_.system_calls;
    const SOCKET accepted = ::accept(socket_of(op.socket->handle), nullptr, nullptr);
    if (accepted == INVALID_SOCKET) {
        finish(op, last_error());
        return true;
    }
    const int no_delay = mine(*op.socket).accepts->no_delay;
    op.accepted = static_cast<native_socket>(accepted);
    static_cast<void>(set_option(op.accepted, socket_option::no_delay, no_delay));
    finish(op, 0);
    return true;
}

/// Every call that is not pending is made again. The first failure, if there was one.
status iocp_driver::post_accepts(socket_state& socket) {
    for (accept_packet& each : mine(socket).accepts->packets) {
        if (each.in_flight) continue;
        if (const status failure = post_accept(each); !failure.ok()) return failure;
    }
    return {};
}

status iocp_driver::post_accept(accept_packet& what) {
    metrics_.system_calls += 2;
    socket_address local;
    if (::getsockname(socket_of(what.socket->handle), local.get(), &local.size) != 0) return last_error();
    if (const status failure = make_socket(local.storage.ss_family, what.accepted); !failure.ok())
        return failure;
    DWORD size = 0;
    const BOOL done =
        extensions_.accept(socket_of(what.socket->handle), what.accepted, what.addresses.data(), 0,
                           accept_packet::address_bytes, accept_packet::address_bytes, &size, what.fresh());
    if (!done && WSAGetLastError() != WSA_IO_PENDING) {
        const status failure = last_error();
        ::closesocket(std::exchange(what.accepted, INVALID_SOCKET));
        return failure;
    }
    what.in_flight = true; // listeners do not skip packets
    ++mine(*what.socket).accepts->in_flight;
    return {};
}

void iocp_driver::end_accepts(socket_state& socket) noexcept {
    acceptor* const accepts = mine(socket).accepts;
    if (!accepts || accepts->in_flight == 0) return;
    accepts->ending = true;
    for (accept_packet& each : accepts->packets) request_cancel(each);
}

/// An accepted socket becomes one like every other: with a peer address, and the options of its listener.
status iocp_driver::take_over(socket_state& listener, SOCKET accepted) noexcept {
    const SOCKET from = socket_of(listener.handle);
    if (::setsockopt(accepted, SOL_SOCKET, SO_UPDATE_ACCEPT_CONTEXT, reinterpret_cast<const char*>(&from),
                     sizeof from) != 0)
        return last_error();
    const int& no_delay = mine(listener).accepts->no_delay;
    ::setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, reinterpret_cast<const char*>(&no_delay),
                 sizeof no_delay);
    return {};
}

void iocp_driver::on_accept(accept_packet& what, status outcome) {
    socket_state& socket = *what.socket;
    iocp_socket& own = mine(socket);
    acceptor& accepts = *own.accepts;
    --accepts.in_flight;
    if (accepts.in_flight == 0) accepts.ending = false;
    const SOCKET accepted = std::exchange(what.accepted, INVALID_SOCKET);
    if (outcome.ok() && !socket.close_started) {
        metrics_.system_calls += 2;
        outcome = take_over(socket, accepted);
    }
    if (outcome.ok() && !socket.close_started) {
        accepts.ready.push_back(accepted);
    } else {
        ::closesocket(accepted);
        // A connection that its peer has ended in the backlog is no failure of the listener's.
        const std::error_code error = outcome.code();
        const bool its_own = error == std::errc::connection_reset || error == std::errc::connection_aborted ||
                             error == std::errc::not_connected;
        if (!outcome.ok() && !outcome.is(errc::canceled) && !its_own) own.failure = outcome;
    }
    if (socket.close_started) return close_if_quiet(socket);
    if (!own.waiting) return;
    operation& op = socket.receive;
    if (op.dont_wait && accepts.in_flight > 0 && accepts.ready.empty()) return; // not all have answered yet
    own.waiting = false;
    if (start_accept(op)) complete(op);
}

} // namespace

const std::string_view system_backends = "automatic, iocp";

std::unique_ptr<driver> make_system_driver(const backend_choice& choice, const context_options& options,
                                           std::string& reason) {
    if (choice.wanted != plait::backend::automatic && choice.wanted != plait::backend::iocp) {
        reason = std::string(to_string(choice.wanted)) + " is Linux' backend; this system has iocp";
        return nullptr;
    }
    status failure = winsock();
    auto made = std::make_unique<iocp_driver>(options);
    if (failure.ok()) failure = made->set_up();
    if (!failure.ok()) {
        reason = "Winsock: " + failure.code().message();
        return nullptr;
    }
    reason = choice.wanted == plait::backend::iocp ? choice.by : "iocp is what Windows has";
    return made;
}

} // namespace detail
} // namespace plait::inline v1
