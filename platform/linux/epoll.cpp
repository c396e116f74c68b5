/// The epoll driver: completions over readiness. An operation is tried when its socket may be ready, and waits for
/// the next edge when it is not.

#include "platform/lease_pool.hpp"
#include "platform/linux/socket.hpp"

#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>

namespace plait::inline v1 {
namespace detail {
namespace {

/// What this driver keeps in a socket's state block.
struct epoll_socket {
    operation* receiving = nullptr; ///< waits for the next edge: also an accept
    operation* sending = nullptr;   ///< also a connect
    bool registered = false;
    bool readable = true; ///< worth a try: nothing has said otherwise since the last edge
    bool writable = true;
    bool asks_on =
        false; ///< only EAGAIN says that nothing is left: a short read may have stopped before the end
};
static_assert(sizeof(epoll_socket) % 8 == 0 && alignof(epoll_socket) <= 8);

epoll_socket& mine(socket_state& socket) noexcept { return *static_cast<epoll_socket*>(socket.extra()); }

class epoll_driver final : public linux_driver {
  public:
    explicit epoll_driver(const context_options& options) : pool_(lease_pool::make(options)) {
        extra_socket_flags_ = SOCK_NONBLOCK;
    }
    ~epoll_driver() override {
        if (poll_ >= 0) ::close(poll_);
        pool_->detach();
    }

    /// 0, or errno.
    int set_up();

    plait::backend backend() const noexcept override { return plait::backend::epoll; }
    void enter_thread() override {}
    void wait(steady_time deadline) override;
    bool start(operation& op) override;
    void cancel(operation& op) noexcept override;
    std::size_t socket_bytes() const noexcept override { return sizeof(epoll_socket); }
    void attach(socket_state& socket) noexcept override { ::new (socket.extra()) epoll_socket; }
    using linux_driver::close;
    status quiesce(socket_state&) noexcept override { return {}; } // nothing is received unasked
    void forget(socket_state& socket) noexcept override {
        forget_events_of(socket);
        // The set lets go of a descriptor by itself only when nobody else has it: a copy of it, a child process between
        // its fork and its exec, would let events come for a block that is gone.
        if (mine(socket).registered) {
            ++metrics_.system_calls;
            ::epoll_ctl(poll_, EPOLL_CTL_DEL, static_cast<int>(socket.handle), nullptr);
        }
    }
    bool close(socket_state& socket) noexcept override {
        forget(socket);
        close(socket.handle);
        return true;
    }
    void pause_accept(socket_state&) noexcept override {} // nothing is accepted unasked

  private:
    bool attempt(operation& op);
    bool attempt_receive(operation& op);
    bool attempt_accept(operation& op);
    bool attempt_send(operation& op);
    bool attempt_receive_from(operation& op);
    bool attempt_send_to(operation& op);
    bool begin_connect(operation& op);
    void on_event(socket_state& socket, std::uint32_t events);
    void poll(steady_time deadline);
    void forget_events_of(const socket_state& socket) noexcept;
    status watch(socket_state& socket) noexcept;

    int poll_ = -1;
    bool nanoseconds_ = true;    ///< epoll_pwait2 is there (5.11)
    int ready_ = 0;              ///< events there are
    int handled_ = 0;            ///< of these
    bool received_much_ = false; ///< since wait() was called
    std::array<epoll_event, 256> events_;
    lease_pool* pool_;
};

/// A receive of so many bytes is looked at before more is received: they are still near the processor, and so is their
/// memory, which the next ones may use again. (Messages of 16 KiB take 7 % less time than with everything received
/// first; with small ones, going round for a few at a time costs more than it brings.)
constexpr std::size_t large_receive = 8 * 1024;

bool would_block(int error) noexcept { return error == EAGAIN || error == EWOULDBLOCK; }

int epoll_driver::set_up() {
    poll_ = ::epoll_create1(EPOLL_CLOEXEC);
    if (poll_ < 0) return errno;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = nullptr; // the waker
    return ::epoll_ctl(poll_, EPOLL_CTL_ADD, wake_->descriptor(), &event) == 0 ? 0 : errno;
}

/// Both directions, edge-triggered, once for the life of the socket.
status epoll_driver::watch(socket_state& socket) noexcept {
    epoll_socket& own = mine(socket);
    if (own.registered) return {};
    ++metrics_.system_calls;
    epoll_event event{};
    event.events = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.ptr = &socket;
    if (::epoll_ctl(poll_, EPOLL_CTL_ADD, static_cast<int>(socket.handle), &event) != 0) return last_error();
    own.registered = true;
    if (socket.kind != socket_kind::stream) return {};
    // A receive from a Unix socket stops behind bytes that descriptors came with.
    ++metrics_.system_calls;
    int family = 0;
    socklen_t size = sizeof family;
    ::getsockopt(static_cast<int>(socket.handle), SOL_SOCKET, SO_DOMAIN, &family, &size);
    own.asks_on = family == AF_UNIX;
    return {};
}

bool epoll_driver::start(operation& op) {
    epoll_socket& own = mine(*op.socket);
    const bool sends = &op != &op.socket->receive;
    if (op.kind == op_kind::connect) {
        if (begin_connect(op)) return true;
    } else if (sends ? own.writable : own.readable || op.dont_wait) {
        if (attempt(op)) return true;
    }
    if (op.dont_wait) {
        finish(op, native_error(EAGAIN));
        return true;
    }
    // Registering reports what is ready already, so that nothing is missed between the try and this.
    if (const status failure = watch(*op.socket); !failure.ok()) {
        finish(op, failure);
        return true;
    }
    operation*& slot = sends ? own.sending : own.receiving;
    PLAIT_ASSERT(!slot, "two operations of one direction on a socket at once");
    slot = &op;
    return false;
}

/// Cancellation is answered from the loop, like every completion.
void epoll_driver::cancel(operation& op) noexcept {
    epoll_socket& own = mine(*op.socket);
    if (own.receiving == &op) own.receiving = nullptr;
    if (own.sending == &op) own.sending = nullptr;
    finish(op, errc::canceled);
    complete(op);
}

/// True: `op` has its outcome. False: the socket was not ready.
bool epoll_driver::attempt(operation& op) {
    switch (op.kind) {
    case op_kind::receive:
    case op_kind::lease: return attempt_receive(op);
    case op_kind::accept: return attempt_accept(op);
    case op_kind::send: return attempt_send(op);
    case op_kind::receive_from: return attempt_receive_from(op);
    case op_kind::send_to: return attempt_send_to(op);
    case op_kind::connect: break;
    }
    int error = 0;
    socklen_t size = sizeof error;
    ++metrics_.system_calls;
    ::getsockopt(static_cast<int>(op.socket->handle), SOL_SOCKET, SO_ERROR, &error, &size);
    finish(op, native_error(error));
    return true;
}

bool epoll_driver::attempt_receive(operation& op) {
    epoll_socket& own = mine(*op.socket);
    std::span<std::byte> room(op.data, op.size);
    if (op.kind == op_kind::lease) room = pool_->prepare();
    ssize_t count = 0;
    do {
        ++metrics_.system_calls;
        count = ::recv(static_cast<int>(op.socket->handle), room.data(), room.size(), MSG_DONTWAIT);
    } while (count < 0 && errno == EINTR);
    if (count < 0 && would_block(errno)) {
        own.readable = false;
        return false;
    }
    if (count < 0) {
        finish(op, last_error());
    } else if (count == 0) {
        finish(op, errc::end_of_stream);
    } else {
        const auto received = static_cast<std::size_t>(count);
        if (received >= large_receive) received_much_ = true;
        // A short read has emptied the socket; what comes later brings an edge of its own.
        if (received < room.size() && !own.asks_on) own.readable = false;
        if (op.kind == op_kind::lease) {
            pool_->commit(op, received);
            finish(op, received);
        } else {
            advance(op, received);
        }
    }
    return true;
}

bool epoll_driver::attempt_accept(operation& op) {
    int accepted = 0;
    do {
        ++metrics_.system_calls;
        accepted =
            ::accept4(static_cast<int>(op.socket->handle), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (accepted < 0 && errno == EINTR);
    if (accepted < 0 && would_block(errno)) {
        mine(*op.socket).readable = false;
        return false;
    }
    finish_accept(op, accepted);
    return true;
}

bool epoll_driver::attempt_send(operation& op) {
    const int descriptor = static_cast<int>(op.socket->handle);
    ssize_t count = 0;
    do {
        ++metrics_.system_calls;
        if (op.piece_count == 0) {
            count = ::send(descriptor, op.data, op.size, MSG_NOSIGNAL | MSG_DONTWAIT);
        } else {
            std::array<iovec, 16> pieces;
            msghdr header{};
            header.msg_iov = pieces.data();
            header.msg_iovlen = gather(op, pieces);
            count = ::sendmsg(descriptor, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
    } while (count < 0 && errno == EINTR);
    if (count < 0 && would_block(errno)) {
        mine(*op.socket).writable = false;
        return false;
    }
    if (count < 0)
        finish(op, last_error());
    else
        advance(op, static_cast<std::size_t>(count));
    return true;
}

/// However short it is, a datagram says nothing about the next one: the socket is empty when there is none.
bool epoll_driver::attempt_receive_from(operation& op) {
    message_frame frame;
    ssize_t count = 0;
    do {
        ++metrics_.system_calls;
        frame.receive_into(op.data, op.size);
        count = ::recvmsg(static_cast<int>(op.socket->handle), &frame.header, MSG_DONTWAIT);
    } while (count < 0 && errno == EINTR);
    if (count < 0 && would_block(errno)) {
        mine(*op.socket).readable = false;
        return false;
    }
    if (count < 0)
        finish(op, last_error());
    else
        finish(op, static_cast<std::size_t>(count));
    frame.deliver(*op.cover, count >= 0);
    return true;
}

bool epoll_driver::attempt_send_to(operation& op) {
    message_frame frame;
    frame.send_from(op.data, op.size, *op.cover);
    ssize_t count = 0;
    do {
        ++metrics_.system_calls;
        count = ::sendmsg(static_cast<int>(op.socket->handle), &frame.header, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (count < 0 && errno == EINTR);
    if (count < 0 && would_block(errno) && !op.cover->path) {
        mine(*op.socket).writable = false;
        return false;
    }
    if (count < 0)
        finish(op, last_error());
    else
        finish(op, static_cast<std::size_t>(count));
    return true;
}

bool epoll_driver::begin_connect(operation& op) {
    const socket_address address(*op.peer);
    ++metrics_.system_calls;
    if (::connect(static_cast<int>(op.socket->handle), address.get(), address.size) == 0) {
        finish(op, 0);
        return true;
    }
    if (errno == EINPROGRESS || errno == EINTR) {
        mine(*op.socket).writable = false;
        return false;
    }
    finish(op, last_error());
    return true;
}

void epoll_driver::on_event(socket_state& socket, std::uint32_t events) {
    epoll_socket& own = mine(socket);
    constexpr std::uint32_t over = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
    if (events & (over | EPOLLPRI)) own.asks_on = true; // the end, or urgent data, where a receive stops, too
    if (events & (EPOLLIN | over)) {
        own.readable = true;
        if (own.receiving && attempt(*own.receiving)) complete(*std::exchange(own.receiving, nullptr));
    }
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
        own.writable = true;
        if (own.sending && attempt(*own.sending)) complete(*std::exchange(own.sending, nullptr));
    }
}

void epoll_driver::poll(steady_time deadline) {
    ++metrics_.system_calls;
    handled_ = 0;
    const int most = static_cast<int>(events_.size());
    const bool forever = deadline == steady_time::max();
    const bool at_once = deadline == steady_time::min();
    const steady_duration left = forever || at_once ? steady_duration::zero() : deadline - now();
    if (nanoseconds_) {
        timespec span{};
        if (left.count() > 0) {
            span.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(left).count();
            span.tv_nsec = (left % std::chrono::seconds(1)).count();
        }
        ready_ = ::epoll_pwait2(poll_, events_.data(), most, forever ? nullptr : &span, nullptr);
        if (ready_ >= 0 || (errno != ENOSYS && errno != EPERM)) return;
        nanoseconds_ = false;
    }
    // Rounded up, so that a timer is never looked at too early.
    const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(left).count();
    const int span = forever ? -1 : static_cast<int>(std::clamp<std::int64_t>(milliseconds, 0, INT_MAX));
    ready_ = ::epoll_wait(poll_, events_.data(), most, span);
}

/// A socket goes while an event of it waits to be handled.
void epoll_driver::forget_events_of(const socket_state& socket) noexcept {
    for (int i = handled_; i < ready_; ++i) {
        epoll_event& event = events_[static_cast<std::size_t>(i)];
        if (event.data.ptr != &socket) continue;
        event = events_[static_cast<std::size_t>(--ready_)];
        return; // there is one at most
    }
}

void epoll_driver::wait(steady_time deadline) {
    if (handled_ >= ready_) poll(deadline);
    PLAIT_ASSERT(ready_ >= 0 || errno == EINTR, "epoll_wait failed in a way that has no remedy");
    received_much_ = false;
    while (handled_ < ready_ && !received_much_) {
        ++metrics_.completions;
        const epoll_event event = events_[static_cast<std::size_t>(handled_++)];
        if (event.data.ptr) {
            on_event(*static_cast<socket_state*>(event.data.ptr), event.events);
        } else {
            std::uint64_t count = 0;
            [[maybe_unused]] const auto size = ::read(wake_->descriptor(), &count, sizeof count);
        }
    }
}

} // namespace

std::unique_ptr<driver> make_epoll_driver(const context_options& options, std::string& reason) {
    auto made = std::make_unique<epoll_driver>(options);
    const int error = made->set_up();
    if (error == 0) return made;
    reason = "epoll_create1: " + std::generic_category().message(error);
    return nullptr;
}

} // namespace detail
} // namespace plait::inline v1
