#include "support/linux/faults.hpp"

#include <dlfcn.h>
#include <liburing.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <unordered_map>
#include <utility>

#define SUPPORT_REPLACES extern "C" __attribute__((visibility("default")))

namespace support {
namespace {

constinit thread_local faults* armed_here = nullptr;

/// What stands in an epoll set, so that an edge can be made again.
struct registration {
    int poll = -1;
    epoll_event event{};
};
thread_local std::unordered_map<int, registration> registered;

/// The function that this program's own stands in front of.
template <class F>
F* original(F*, const char* name) noexcept {
    return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}
#define SUPPORT_ORIGINAL(name)                                                                               \
    static auto* const forward = support::original(static_cast<decltype(&::name)>(nullptr), #name)

bool interruptible(call which) noexcept {
    return which == call::connect || which == call::accept || which == call::receive || which == call::send ||
           which == call::wait;
}

/// Whether `which` has to fail; errno tells how.
bool fails(call which) noexcept {
    const int error = armed_here ? armed_here->next(which) : 0;
    if (error != 0) errno = error;
    return error != 0;
}

/// A call that did less than it could leaves the descriptor ready, which an edge-triggered set tells but once.
/// The kernel never does that to a caller, so the next edge is made here.
void edge(int descriptor) noexcept {
    const auto found = registered.find(descriptor);
    if (found == registered.end()) return;
    SUPPORT_ORIGINAL(epoll_ctl);
    const int before = errno;
    static_cast<void>(forward(found->second.poll, EPOLL_CTL_MOD, descriptor, &found->second.event));
    errno = before;
}

/// Leaves a gathered send its first bytes. The pieces are the driver's, made for this one call.
void shorten(msghdr& header) noexcept {
    for (std::size_t i = 0; i < header.msg_iovlen; ++i) {
        iovec& piece = header.msg_iov[i];
        if (piece.iov_len == 0) continue;
        piece.iov_len = armed_here->shortened(piece.iov_len);
        header.msg_iovlen = i + 1;
    }
}

constexpr std::uint32_t inject_result = 1; // IORING_NOP_INJECT_RESULT, younger than liburing 2.3

void make_failing(io_uring_sqe& entry, int error) noexcept {
    const auto user_data = entry.user_data;
    std::memset(&entry, 0, sizeof entry);
    entry.opcode = IORING_OP_NOP;
    entry.fd = -1;
    entry.user_data = user_data;
    entry.rw_flags = inject_result;
    entry.len = static_cast<std::uint32_t>(-error);
}

bool call_of(const io_uring_sqe& entry, call& which) noexcept {
    switch (entry.opcode) {
    case IORING_OP_ACCEPT: which = call::accept; return true;
    case IORING_OP_CONNECT: which = call::connect; return true;
    case IORING_OP_RECV: which = call::receive; return true;
    case IORING_OP_SEND:
    case IORING_OP_SENDMSG: which = call::send; return true;
    case IORING_OP_READ: which = call::wake_up; return true;
    default: return false; // a cancellation has no errors that would not lie about what it did
    }
}

/// The entries that the next submission hands over for the first time.
void look_at_entries(io_uring& ring) noexcept {
    if (!armed_here) return;
    if (io_uring_cq_has_overflow(&ring)) armed_here->overflowed();
    for (unsigned i = ring.sq.sqe_head; i != ring.sq.sqe_tail; ++i) {
        io_uring_sqe& entry = ring.sq.sqes[i & *ring.sq.kring_mask];
        call which{};
        if (!call_of(entry, which)) continue;
        if (const int error = armed_here->next(which)) {
            make_failing(entry, error);
        } else if (armed_here->cuts() && (which == call::send || which == call::receive) &&
                   !(entry.flags & IOSQE_BUFFER_SELECT)) {
            entry.msg_flags &= ~static_cast<std::uint32_t>(MSG_WAITALL);
            if (entry.opcode == IORING_OP_SENDMSG)
                shorten(*reinterpret_cast<msghdr*>(static_cast<std::uintptr_t>(entry.addr)));
            else
                entry.len = static_cast<std::uint32_t>(armed_here->shortened(entry.len));
        }
    }
}

/// True: io_uring_enter has to fail, with `outcome`.
bool enter_fails(io_uring& ring, int& outcome) noexcept {
    if (fails(call::wait)) {
        outcome = -errno;
        return true;
    }
    look_at_entries(ring);
    return false;
}

} // namespace

const char* name_of(call which) noexcept {
    constexpr std::array names = {"socket",
                                  "setsockopt",
                                  "bind",
                                  "listen",
                                  "connect",
                                  "accept",
                                  "recv",
                                  "send",
                                  "shutdown",
                                  "eventfd",
                                  "wait",
                                  "epoll_pwait2",
                                  "epoll_create1",
                                  "epoll_ctl",
                                  "io_uring_setup",
                                  "register_buf_ring",
                                  "read of the wake-up"};
    static_assert(names.size() == call_kinds);
    return names[static_cast<std::size_t>(which)];
}

faults::faults() noexcept { armed_here = this; }

faults::~faults() {
    armed_here = nullptr;
    registered.clear();
}

faults* faults::armed() noexcept { return armed_here; }

void faults::fail(call which, std::size_t n, int error) noexcept {
    which_ = which;
    at_ = calls(which) + n;
    error_ = error;
}

int faults::next(call which) noexcept {
    const std::size_t count = ++counts_[static_cast<std::size_t>(which)];
    int error = 0;
    if (which == which_ && count == at_) error = error_;
    if (interrupting_ && interruptible(which) && count % 2 == 1) error = EINTR;
    failed_ += error != 0;
    return error;
}

std::size_t faults::shortened(std::size_t size) noexcept {
    return most_ == 0 ? size : std::min(size, 1 + turn_++ % most_);
}

bool faults::can_fail_entries() noexcept {
    static const bool can = [] {
        faults* const before = std::exchange(armed_here, nullptr);
        io_uring ring{};
        bool works = false;
        if (io_uring_queue_init(4, &ring, 0) == 0) {
            make_failing(*io_uring_get_sqe(&ring), EIO);
            io_uring_cqe* completion = nullptr;
            works = io_uring_submit_and_wait(&ring, 1) == 1 && io_uring_peek_cqe(&ring, &completion) == 0 &&
                    completion->res == -EIO;
            io_uring_queue_exit(&ring);
        }
        armed_here = before;
        return works;
    }();
    return can;
}

} // namespace support

// --- libc's ------------------------------------------------------------------------------------------------

using support::call;
using support::fails;

SUPPORT_REPLACES int socket(int family, int type, int protocol) noexcept {
    SUPPORT_ORIGINAL(socket);
    return fails(call::socket) ? -1 : forward(family, type, protocol);
}

SUPPORT_REPLACES int setsockopt(int descriptor, int level, int name, const void* value,
                                socklen_t size) noexcept {
    SUPPORT_ORIGINAL(setsockopt);
    return fails(call::set_option) ? -1 : forward(descriptor, level, name, value, size);
}

SUPPORT_REPLACES int bind(int descriptor, const sockaddr* address, socklen_t size) noexcept {
    SUPPORT_ORIGINAL(bind);
    return fails(call::bind) ? -1 : forward(descriptor, address, size);
}

SUPPORT_REPLACES int listen(int descriptor, int backlog) noexcept {
    SUPPORT_ORIGINAL(listen);
    return fails(call::listen) ? -1 : forward(descriptor, backlog);
}

SUPPORT_REPLACES int shutdown(int descriptor, int how) noexcept {
    SUPPORT_ORIGINAL(shutdown);
    return fails(call::shutdown) ? -1 : forward(descriptor, how);
}

SUPPORT_REPLACES int eventfd(unsigned start, int flags) noexcept {
    SUPPORT_ORIGINAL(eventfd);
    return fails(call::event_descriptor) ? -1 : forward(start, flags);
}

SUPPORT_REPLACES int connect(int descriptor, const sockaddr* address, socklen_t size) {
    SUPPORT_ORIGINAL(connect);
    if (!fails(call::connect)) return forward(descriptor, address, size);
    if (errno == EINTR) { // interrupted, it goes on by itself
        static_cast<void>(forward(descriptor, address, size));
        errno = EINTR;
    }
    return -1;
}

SUPPORT_REPLACES int accept4(int descriptor, sockaddr* address, socklen_t* size, int flags) {
    SUPPORT_ORIGINAL(accept4);
    if (!fails(call::accept)) return forward(descriptor, address, size, flags);
    support::edge(descriptor);
    return -1;
}

SUPPORT_REPLACES ssize_t recv(int descriptor, void* data, std::size_t size, int flags) {
    SUPPORT_ORIGINAL(recv);
    if (fails(call::receive)) {
        support::edge(descriptor);
        return -1;
    }
    support::faults* const armed = support::faults::armed();
    if (!armed || !armed->cuts()) return forward(descriptor, data, size, flags);
    const ssize_t got = forward(descriptor, data, armed->shortened(size), flags);
    if (got > 0) support::edge(descriptor);
    return got;
}

SUPPORT_REPLACES ssize_t send(int descriptor, const void* data, std::size_t size, int flags) {
    SUPPORT_ORIGINAL(send);
    if (fails(call::send)) {
        support::edge(descriptor);
        return -1;
    }
    support::faults* const armed = support::faults::armed();
    return forward(descriptor, data, armed ? armed->shortened(size) : size, flags);
}

SUPPORT_REPLACES ssize_t sendmsg(int descriptor, const msghdr* header, int flags) {
    SUPPORT_ORIGINAL(sendmsg);
    if (fails(call::send)) {
        support::edge(descriptor);
        return -1;
    }
    support::faults* const armed = support::faults::armed();
    if (armed && armed->cuts()) support::shorten(const_cast<msghdr&>(*header));
    return forward(descriptor, header, flags);
}

SUPPORT_REPLACES int epoll_create1(int flags) noexcept {
    SUPPORT_ORIGINAL(epoll_create1);
    return fails(call::epoll_create) ? -1 : forward(flags);
}

SUPPORT_REPLACES int epoll_ctl(int poll, int what, int descriptor, epoll_event* event) noexcept {
    SUPPORT_ORIGINAL(epoll_ctl);
    if (fails(call::epoll_ctl)) return -1;
    if (what == EPOLL_CTL_ADD && support::faults::armed()) support::registered[descriptor] = {poll, *event};
    return forward(poll, what, descriptor, event);
}

SUPPORT_REPLACES int epoll_wait(int poll, epoll_event* events, int most, int timeout) {
    SUPPORT_ORIGINAL(epoll_wait);
    return fails(call::wait) ? -1 : forward(poll, events, most, timeout);
}

SUPPORT_REPLACES int epoll_pwait2(int poll, epoll_event* events, int most, const timespec* timeout,
                                  const sigset_t* mask) {
    SUPPORT_ORIGINAL(epoll_pwait2);
    if (fails(call::wait_precisely) || fails(call::wait)) return -1;
    return forward(poll, events, most, timeout, mask);
}

// --- liburing's --------------------------------------------------------------------------------------------

SUPPORT_REPLACES int io_uring_queue_init_params(unsigned entries, io_uring* ring,
                                                io_uring_params* parameters) {
    SUPPORT_ORIGINAL(io_uring_queue_init_params);
    return fails(call::ring) ? -errno : forward(entries, ring, parameters);
}

SUPPORT_REPLACES int io_uring_register_buf_ring(io_uring* ring, io_uring_buf_reg* request, unsigned flags) {
    SUPPORT_ORIGINAL(io_uring_register_buf_ring);
    return fails(call::buffer_ring) ? -errno : forward(ring, request, flags);
}

SUPPORT_REPLACES int io_uring_submit(io_uring* ring) {
    SUPPORT_ORIGINAL(io_uring_submit);
    int outcome = 0;
    return support::enter_fails(*ring, outcome) ? outcome : forward(ring);
}

SUPPORT_REPLACES int io_uring_submit_and_wait(io_uring* ring, unsigned count) {
    SUPPORT_ORIGINAL(io_uring_submit_and_wait);
    int outcome = 0;
    return support::enter_fails(*ring, outcome) ? outcome : forward(ring, count);
}

SUPPORT_REPLACES int io_uring_submit_and_wait_timeout(io_uring* ring, io_uring_cqe** completion,
                                                      unsigned count, __kernel_timespec* timeout,
                                                      sigset_t* mask) {
    SUPPORT_ORIGINAL(io_uring_submit_and_wait_timeout);
    int outcome = 0;
    return support::enter_fails(*ring, outcome) ? outcome : forward(ring, completion, count, timeout, mask);
}

SUPPORT_REPLACES int io_uring_submit_and_get_events(io_uring* ring) {
    SUPPORT_ORIGINAL(io_uring_submit_and_get_events);
    int outcome = 0;
    return support::enter_fails(*ring, outcome) ? outcome : forward(ring);
}
