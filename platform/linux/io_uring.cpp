/// The io_uring driver: one system call a turn submits everything and collects everything.

#include "platform/linux/buffer_ring.hpp"
#include "platform/linux/socket.hpp"
#include "platform/private_buffer.hpp"

#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <vector>

namespace plait::inline v1 {
namespace detail {
namespace {

/// Who a completion is for; in the low bits of its user data, the rest being an address.
enum class target : std::uint64_t { operation, receive, accept, wake, nobody, room };
constexpr std::uint64_t target_mask = 7;

std::uint64_t tagged(const void* address, target who) noexcept {
    return reinterpret_cast<std::uintptr_t>(address) | static_cast<std::uint64_t>(who);
}

/// Received, or accepted, before anybody asked.
struct unclaimed {
    unclaimed* next = nullptr;
    std::byte* data = nullptr;
    std::size_t size = 0;
    union {
        buffer_block* block;
        native_socket accepted;
    };
};

/// What this driver keeps in a socket's state block: its multishot receive or accept, and what that brought.
struct uring_socket {
    union {
        unclaimed* first = nullptr;
        message_frame* frame; ///< of a datagram socket: what the receive in the kernel fills
    };
    std::uint8_t count = 0;
    bool armed = false;           ///< the multishot is in the kernel
    bool ending = false;          ///< and its cancellation was asked for
    bool waiting = false;         ///< socket.receive waits for what the multishot brings
    bool private_receive = false; ///< the receive in flight fills a private buffer, the pool being exhausted
    status failure;               ///< what the multishot ended with, until somebody is told
};
static_assert(sizeof(uring_socket) % 8 == 0 && alignof(uring_socket) <= 8);

uring_socket& mine(socket_state& socket) noexcept { return *static_cast<uring_socket*>(socket.extra()); }

/// Pieces that may wait unclaimed before a stream's multishot is cancelled, to let the peer feel it.
constexpr unsigned most_unclaimed = 4;
/// The kernel's own limit is near; and an entry's length has 32 bits, in which 4 GiB look like an empty buffer.
constexpr std::size_t longest_transfer = std::size_t{1} << 30;

class uring_driver final : public linux_driver {
  public:
    uring_driver() = default;
    ~uring_driver() override;

    /// 0, or the negative errno of the set-up.
    int set_up(const context_options& options);
    /// After set_up. Without them each receive that waits would hold memory.
    bool has_buffer_rings() const noexcept;

    plait::backend backend() const noexcept override { return plait::backend::io_uring; }
    void enter_thread() override;
    void wait(steady_time deadline) override;
    bool start(operation& op) override;
    void cancel(operation& op) noexcept override;
    std::size_t socket_bytes() const noexcept override { return sizeof(uring_socket); }
    void attach(socket_state& socket) noexcept override { ::new (socket.extra()) uring_socket; }
    bool close(socket_state& socket) noexcept override;
    using linux_driver::close;
    status quiesce(socket_state& socket) noexcept override;
    void forget(socket_state& socket) noexcept override;
    void pause_accept(socket_state& socket) noexcept override { end_multishot(socket); }

  private:
    /// What a submission entry refers to; the kernel has copied it when the submission returns.
    struct message : message_frame {
        std::array<iovec, 16> pieces;
    };

    io_uring_sqe& entry();
    message& next_message();
    void submit();
    void take_completions();
    const io_uring_cqe* first_completion() const noexcept;
    void on_completion(std::uint64_t user_data, int result, unsigned flags);
    void on_operation(operation& op, int result, unsigned flags);
    void on_room(operation& op, int result);
    void on_multishot(socket_state& socket, int result, unsigned flags);
    void multishot_ended(socket_state& socket, int result);
    void arm(socket_state& socket);
    void end_multishot(socket_state& socket) noexcept;
    void arm_wake();
    void ask_the_kernel();

    bool start_receive(operation& op);
    bool start_accept(operation& op);
    void start_send(operation& op);
    void start_receive_from(operation& op);
    void start_send_to(operation& op);
    void await_room(operation& op);
    void receive_once(operation& op);
    void receive_privately(operation& op);
    bool receive_now(operation& op);
    bool accept_now(operation& op);
    bool claim(operation& op) noexcept;
    static void deliver(socket_state& socket, operation& op, std::byte* data, std::size_t size,
                        buffer_block* block);
    static unclaimed& keep(uring_socket& own, std::byte* data, std::size_t size,
                           buffer_block* block) noexcept;

    io_uring ring_{};
    bool made_ = false;
    bool enabled_ = false;
    bool multishot_receive_ = false;
    bool multishot_accept_ = false;
    int whole_flag_ = 0; ///< MSG_WAITALL, where its cancellation tells how far it came
    bool wake_armed_ = false;
    context_options options_;
    buffer_ring* pool_ = nullptr;
    std::uint64_t wake_count_ = 0;
    std::array<message, 32> messages_;
    std::size_t messages_used_ = 0;
    std::vector<io_uring_cqe> backlog_; ///< taken while a full submission queue had to be emptied
};

/// A new ring may lie where another thread's ring lay before. The kernel orders the two; ThreadSanitizer does not
/// see liburing's system calls, and is told by this.
constinit std::atomic<unsigned> rings_gone{0};

// --- set-up ------------------------------------------------------------------------------------------------

int uring_driver::set_up(const context_options& options) {
    options_ = options;
    // One step down when the kernel does not know a flag: 6.1, then 5.19.
    constexpr unsigned common =
        IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED;
    constexpr std::array<unsigned, 2> ladder = {
        common | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
        common | IORING_SETUP_COOP_TASKRUN,
    };
    const unsigned submissions = options.submission_queue() ? options.submission_queue() : 256;
    int outcome = -EINVAL;
    for (std::size_t step = 0; step < ladder.size() && outcome == -EINVAL; ++step) {
        io_uring_params parameters{};
        parameters.flags = ladder[step];
        parameters.cq_entries = options.completion_queue() ? options.completion_queue() : 4096;
        outcome = io_uring_queue_init_params(submissions, &ring_, &parameters);
    }
    static_cast<void>(rings_gone.load(std::memory_order_acquire));
    made_ = outcome == 0;
    return outcome;
}

/// A kernel that knows the request looks for its argument first.
bool uring_driver::has_buffer_rings() const noexcept {
    return ::syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_PBUF_RING, 1L, 1) == -1 &&
           errno == EFAULT;
}

uring_driver::~uring_driver() {
    rings_gone.fetch_add(1, std::memory_order_release);
    if (made_) io_uring_queue_exit(&ring_);
    if (pool_) pool_->detach();
}

void uring_driver::enter_thread() {
    if (enabled_) return;
    // Made disabled: the thread that enables a single-issuer ring is the one that may use it.
    // (By its system call: liburing 2.3 declares io_uring_enable_rings and does not export it.)
    if (::syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) < 0)
        throw_error(last_error().code());
    io_uring_register_ring_fd(&ring_); // spares each call a descriptor look-up; older kernels go without
    pool_ = buffer_ring::make(ring_, options_);
    ask_the_kernel();
    enabled_ = true;
}

/// Flags cannot be asked for, but the operations that came with the same kernel can. (An EINVAL that some socket
/// answers says nothing: shutdown() of a listener makes one, too.)
void uring_driver::ask_the_kernel() {
    io_uring_probe* probe = io_uring_get_probe_ring(&ring_);
    if (!probe) return;
    multishot_accept_ = io_uring_opcode_supported(probe, IORING_OP_SOCKET) != 0;   // 5.19
    multishot_receive_ = io_uring_opcode_supported(probe, IORING_OP_SEND_ZC) != 0; // 6.0
    // Before, a cancelled one drops the bytes that it has moved (seen with 5.10). The loop starts the rest by itself.
    if (io_uring_opcode_supported(probe, IORING_OP_SENDMSG_ZC)) whole_flag_ = MSG_WAITALL; // 6.1
    io_uring_free_probe(probe);
}

// --- submitting --------------------------------------------------------------------------------------------

io_uring_sqe& uring_driver::entry() {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    while (!sqe) { // the queue is full: hand it over, and try again
        submit();
        sqe = io_uring_get_sqe(&ring_);
    }
    return *sqe;
}

/// Empties the submission queue without handling completions, because the caller is in the middle of something.
void uring_driver::submit() {
    ++metrics_.system_calls;
    const int outcome = io_uring_submit(&ring_);
    if (io_uring_sq_ready(&ring_) == 0) messages_used_ = 0;
    if (outcome >= 0 || outcome == -EINTR) return;
    // EBUSY, EAGAIN: the kernel wants its completions taken first.
    PLAIT_ASSERT(outcome == -EBUSY || outcome == -EAGAIN,
                 "io_uring_submit failed in a way that has no remedy");
    io_uring_get_events(&ring_);
    io_uring_cqe* cqe = nullptr;
    while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
        backlog_.push_back(*cqe);
        io_uring_cqe_seen(&ring_, cqe);
    }
}

/// A message that stays untouched until the entry that is made next is submitted.
uring_driver::message& uring_driver::next_message() {
    while (messages_used_ == messages_.size() || io_uring_sq_space_left(&ring_) == 0) submit();
    return messages_[messages_used_++];
}

void uring_driver::arm_wake() {
    io_uring_sqe& sqe = entry();
    io_uring_prep_read(&sqe, wake_->descriptor(), &wake_count_, sizeof wake_count_, 0);
    sqe.user_data = tagged(nullptr, target::wake);
    wake_armed_ = true;
}

// --- waiting -----------------------------------------------------------------------------------------------

void uring_driver::wait(steady_time deadline) {
    if (!enabled_) return;
    if (!wake_armed_) arm_wake();
    bool block = backlog_.empty() && deadline != steady_time::min();
    __kernel_timespec span{};
    if (block && deadline != steady_time::max()) {
        // Rounded up, so that a timer is never looked at too early.
        const auto left = std::chrono::ceil<std::chrono::microseconds>(deadline - now());
        block = left.count() > 0;
        span.tv_sec = left.count() / 1'000'000;
        span.tv_nsec = left.count() % 1'000'000 * 1000;
    }
    int outcome = 0;
    if (block) {
        ++metrics_.system_calls;
        io_uring_cqe* unused_cqe = nullptr;
        outcome = deadline == steady_time::max()
                      ? io_uring_submit_and_wait(&ring_, 1)
                      : io_uring_submit_and_wait_timeout(&ring_, &unused_cqe, 1, &span, nullptr);
    } else if (io_uring_sq_ready(&ring_) > 0 || io_uring_cq_has_overflow(&ring_) ||
               (*ring_.sq.kflags & IORING_SQ_TASKRUN)) {
        ++metrics_.system_calls;
        outcome = io_uring_submit_and_get_events(&ring_);
    }
    if (io_uring_sq_ready(&ring_) == 0) messages_used_ = 0;
    const bool retry_later =
        outcome >= 0 || outcome == -ETIME || outcome == -EINTR || outcome == -EBUSY || outcome == -EAGAIN;
    PLAIT_ASSERT(retry_later, "io_uring_enter failed in a way that has no remedy");
    take_completions();
}

/// The one to take next. (io_uring_peek_cqe would enter the kernel for more when there are none, while those that were
/// taken wait for their coroutines.)
const io_uring_cqe* uring_driver::first_completion() const noexcept {
    unsigned head = 0;
    const io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(&ring_, head, cqe) break;
    return cqe;
}

void uring_driver::take_completions() {
    for (;;) {
        // The backlog is older than what the ring holds, also what was added to it just now.
        if (!backlog_.empty()) {
            const std::vector<io_uring_cqe> batch = std::exchange(backlog_, {});
            for (const io_uring_cqe& cqe : batch) on_completion(cqe.user_data, cqe.res, cqe.flags);
            continue;
        }
        const io_uring_cqe* cqe = first_completion();
        if (!cqe) return;
        const std::uint64_t user_data = cqe->user_data;
        const int result = cqe->res;
        const unsigned flags = cqe->flags;
        io_uring_cq_advance(&ring_, 1); // first: handling it may need room in the queues
        on_completion(user_data, result, flags);
    }
}

void uring_driver::on_completion(std::uint64_t user_data, int result, unsigned flags) {
    ++metrics_.completions;
    void* address = reinterpret_cast<void*>(static_cast<std::uintptr_t>(user_data & ~target_mask));
    switch (static_cast<target>(user_data & target_mask)) {
    case target::operation: return on_operation(*static_cast<operation*>(address), result, flags);
    case target::receive:
    case target::accept: return on_multishot(*static_cast<socket_state*>(address), result, flags);
    case target::room: return on_room(*static_cast<operation*>(address), result);
    case target::wake: wake_armed_ = false; return;
    case target::nobody: return; // a cancellation: what it cancelled answers for itself
    }
}

void uring_driver::on_operation(operation& op, int result, unsigned) {
    bool privately = false;
    if (op.kind == op_kind::receive || op.kind == op_kind::lease) {
        uring_socket& own = mine(*op.socket);
        if (own.private_receive) {
            own.private_receive = false;
            privately = true;
            if (result > 0) {
                op.size = static_cast<std::size_t>(result);
                finish(op, op.size);
                return complete(op);
            }
            op.block->release(*op.block);
        }
    }
    if (result == -EINTR && !op.canceling) { // nothing has moved: once more
        // Not by the pool, which was exhausted: whoever is sent to and fro between the two may never arrive.
        if (privately) return receive_privately(op);
        if (start(op)) complete(op);
        return;
    }
    if (op.kind == op_kind::receive_from) mine(*op.socket).frame->deliver(*op.cover, result >= 0);
    if (op.kind == op_kind::send_to && result == -EAGAIN && !op.cover->path) {
        if (!op.canceling) return await_room(op);
        result = -ECANCELED;
    }
    if (result < 0) {
        // A cancellation that meets a running operation interrupts it.
        finish(op, result == -EINTR ? status(errc::canceled) : native_error(-result));
    } else if (op.kind == op_kind::receive || op.kind == op_kind::lease) {
        if (result == 0)
            finish(op, errc::end_of_stream);
        else
            advance(op, static_cast<std::size_t>(result));
    } else if (op.kind == op_kind::send) {
        advance(op, static_cast<std::size_t>(result));
    } else if (op.kind == op_kind::accept) {
        op.accepted = result;
        finish(op, 0);
    } else { // a connect brings 0; a datagram, its size
        finish(op, static_cast<std::size_t>(result));
    }
    complete(op);
}

// --- the multishots ----------------------------------------------------------------------------------------

void uring_driver::arm(socket_state& socket) {
    uring_socket& own = mine(socket);
    const int descriptor = static_cast<int>(socket.handle);
    if (socket.kind == socket_kind::listener) {
        io_uring_sqe& sqe = entry();
        // No address buffer: the next connection would overwrite it.
        if (multishot_accept_)
            io_uring_prep_multishot_accept(&sqe, descriptor, nullptr, nullptr, SOCK_CLOEXEC);
        else
            io_uring_prep_accept(&sqe, descriptor, nullptr, nullptr, SOCK_CLOEXEC);
        sqe.user_data = tagged(&socket, target::accept);
    } else {
        io_uring_sqe& sqe = entry();
        if (multishot_receive_)
            io_uring_prep_recv_multishot(&sqe, descriptor, nullptr, 0, 0);
        else
            io_uring_prep_recv(&sqe, descriptor, nullptr, 0, 0);
        sqe.flags |= IOSQE_BUFFER_SELECT;
        sqe.buf_group = buffer_ring::group;
        sqe.user_data = tagged(&socket, target::receive);
    }
    own.armed = true;
    own.ending = false;
}

void uring_driver::end_multishot(socket_state& socket) noexcept {
    uring_socket& own = mine(socket);
    if (!own.armed || own.ending) return;
    own.ending = true;
    const target who = socket.kind == socket_kind::listener ? target::accept : target::receive;
    io_uring_sqe& sqe = entry();
    io_uring_prep_cancel64(&sqe, tagged(&socket, who), 0);
    sqe.user_data = tagged(nullptr, target::nobody);
}

void uring_driver::on_multishot(socket_state& socket, int result, unsigned flags) {
    uring_socket& own = mine(socket);
    const bool ended = (flags & IORING_CQE_F_MORE) == 0;
    if (ended) own.armed = own.ending = false;

    if (socket.kind == socket_kind::listener) {
        if (result >= 0) {
            if (socket.close_started) {
                close(static_cast<native_socket>(result));
            } else if (own.waiting) {
                own.waiting = false;
                socket.receive.accepted = result;
                finish(socket.receive, 0);
                complete(socket.receive);
            } else {
                keep(own, nullptr, 0, nullptr).accepted = result;
                end_multishot(socket); // nobody is accepting: the rest waits in the backlog
            }
        }
    } else if (flags & IORING_CQE_F_BUFFER) {
        const std::size_t size = result > 0 ? static_cast<std::size_t>(result) : 0;
        const auto [data, block] = pool_->take(flags, size);
        if (block) {
            if (socket.close_started) {
                block->release(*block);
            } else if (own.waiting) {
                own.waiting = false;
                deliver(socket, socket.receive, data, size, block);
                complete(socket.receive);
            } else {
                keep(own, data, size, block);
                if (own.count >= most_unclaimed) end_multishot(socket);
            }
        }
    }
    if (ended) multishot_ended(socket, result);
}

/// The multishot left the kernel, with a last result or with the reason.
void uring_driver::multishot_ended(socket_state& socket, int result) {
    uring_socket& own = mine(socket);
    if (socket.close_started) {
        close(socket.handle);
        return closed(socket);
    }
    operation& op = socket.receive;
    const bool listener = socket.kind == socket_kind::listener;
    const bool brought_something = listener ? result >= 0 : result > 0;
    const bool no_buffers =
        !listener && result == -ENOBUFS; // our pool is empty; possibly nothing is to be received
    if (brought_something || result == -ECANCELED || result == -EINTR || no_buffers) {
        if (!own.waiting) return;
        if (op.dont_wait) {
            own.waiting = false;
            listener ? accept_now(op) : receive_now(op);
            complete(op);
        } else if (!no_buffers || pool_->grow()) {
            arm(socket);
        } else {
            own.waiting = false;
            op.kind == op_kind::lease ? receive_privately(op) : receive_once(op);
        }
        return;
    }
    const status failure = result == 0 ? status(errc::end_of_stream) : native_error(-result);
    if (own.waiting) {
        own.waiting = false;
        finish(op, failure);
        complete(op);
    } else {
        own.failure = failure;
    }
}

unclaimed& uring_driver::keep(uring_socket& own, std::byte* data, std::size_t size,
                              buffer_block* block) noexcept {
    auto* item = ::new (allocate(sizeof(unclaimed))) unclaimed;
    item->data = data;
    item->size = size;
    item->block = block;
    unclaimed** end = &own.first; // they are few
    while (*end) end = &(*end)->next;
    *end = item;
    ++own.count;
    return *item;
}

/// Gives `op` what came before it was asked for. False when there is nothing.
bool uring_driver::claim(operation& op) noexcept {
    uring_socket& own = mine(*op.socket);
    if (unclaimed* item = own.first) {
        if (op.kind == op_kind::accept) {
            op.accepted = item->accepted;
            finish(op, 0);
        } else if (op.kind == op_kind::receive && op.size < item->size) {
            std::memcpy(op.data, item->data, op.size);
            item->data += op.size;
            item->size -= op.size;
            advance(op, op.size);
            return true;
        } else {
            deliver(*op.socket, op, item->data, item->size, item->block);
        }
        own.first = item->next;
        --own.count;
        item->~unclaimed();
        deallocate(item, sizeof(unclaimed));
        return true;
    }
    if (!own.failure.ok()) {
        finish(op, std::exchange(own.failure, status()));
        return true;
    }
    return false;
}

void uring_driver::deliver(socket_state& socket, operation& op, std::byte* data, std::size_t size,
                           buffer_block* block) {
    if (op.kind == op_kind::lease) {
        op.data = data;
        op.size = size;
        op.block = block;
        return finish(op, size);
    }
    const std::size_t taken = std::min(op.size, size);
    std::memcpy(op.data, data, taken);
    advance(op, taken);
    if (taken == size) return block->release(*block);
    // Only with an empty queue is a receive given its bytes directly: what is left is the next to be claimed.
    keep(mine(socket), data + taken, size - taken, block);
}

// --- operations --------------------------------------------------------------------------------------------

bool uring_driver::start(operation& op) {
    switch (op.kind) {
    case op_kind::receive:
    case op_kind::lease: return start_receive(op);
    case op_kind::accept: return start_accept(op);
    case op_kind::send: start_send(op); return false;
    case op_kind::receive_from: start_receive_from(op); return false;
    case op_kind::send_to: start_send_to(op); return false;
    case op_kind::connect: {
        message& name = next_message();
        name.address = socket_address(*op.peer);
        io_uring_sqe& sqe = entry();
        io_uring_prep_connect(&sqe, static_cast<int>(op.socket->handle), name.address.get(),
                              name.address.size);
        sqe.user_data = tagged(&op, target::operation);
        return false;
    }
    }
    return false;
}

bool uring_driver::start_receive(operation& op) {
    uring_socket& own = mine(*op.socket);
    if (claim(op)) return true;
    if (own.armed) { // also for a buffer of the caller's: what the multishot brings comes first
        own.waiting = true;
        if (op.dont_wait) end_multishot(*op.socket);
        return false;
    }
    if (op.dont_wait) return receive_now(op);
    if (op.kind == op_kind::lease) {
        if (!pool_) {
            receive_privately(op);
        } else {
            own.waiting = true;
            arm(*op.socket);
        }
        return false;
    }
    receive_once(op);
    return false;
}

/// Straight into the caller's buffer.
void uring_driver::receive_once(operation& op) {
    const int descriptor = static_cast<int>(op.socket->handle);
    const std::size_t size = std::min(op.size, longest_transfer);
    io_uring_sqe& sqe = entry();
    io_uring_prep_recv(&sqe, descriptor, op.data, size, op.whole ? whole_flag_ : 0);
    sqe.user_data = tagged(&op, target::operation);
}

bool uring_driver::receive_now(operation& op) {
    private_buffer* buffer = nullptr;
    if (op.kind == op_kind::lease) {
        buffer = private_buffer::make(private_buffer::usual_size);
        op.data = buffer->data();
        op.size = private_buffer::usual_size;
        op.block = buffer;
    }
    ++metrics_.system_calls;
    const auto count = ::recv(static_cast<int>(op.socket->handle), op.data, op.size, MSG_DONTWAIT);
    if (count > 0) {
        if (buffer) {
            op.size = static_cast<std::size_t>(count);
            finish(op, op.size);
        } else {
            advance(op, static_cast<std::size_t>(count));
        }
        return true;
    }
    finish(op, count == 0 ? status(errc::end_of_stream) : last_error());
    if (buffer) buffer->release(*buffer);
    return true;
}

void uring_driver::receive_privately(operation& op) {
    private_buffer* buffer = private_buffer::make(private_buffer::usual_size);
    op.data = buffer->data();
    op.size = private_buffer::usual_size;
    op.block = buffer;
    mine(*op.socket).private_receive = true;
    io_uring_sqe& sqe = entry();
    io_uring_prep_recv(&sqe, static_cast<int>(op.socket->handle), op.data, op.size, 0);
    sqe.user_data = tagged(&op, target::operation);
}

bool uring_driver::start_accept(operation& op) {
    if (claim(op)) return true;
    uring_socket& own = mine(*op.socket);
    if (op.dont_wait && !own.armed) return accept_now(op);
    own.waiting = true;
    if (op.dont_wait)
        end_multishot(*op.socket);
    else if (!own.armed)
        arm(*op.socket);
    return false;
}

bool uring_driver::accept_now(operation& op) {
    const int listener = static_cast<int>(op.socket->handle);
    metrics_.system_calls += 2;
    ::fcntl(listener, F_SETFL, ::fcntl(listener, F_GETFL) | O_NONBLOCK);
    const int accepted = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    finish_accept(op, accepted);
    return true;
}

void uring_driver::start_send(operation& op) {
    const int descriptor = static_cast<int>(op.socket->handle);
    const int flags = MSG_NOSIGNAL | (op.whole ? whole_flag_ : 0);
    if (op.piece_count == 0) {
        io_uring_sqe& sqe = entry();
        io_uring_prep_send(&sqe, descriptor, op.data, std::min(op.size, longest_transfer), flags);
        sqe.user_data = tagged(&op, target::operation);
        return;
    }
    message& gathered = next_message();
    gathered.header = {};
    gathered.header.msg_iov = gathered.pieces.data();
    gathered.header.msg_iovlen = gather(op, gathered.pieces);
    io_uring_sqe& sqe = entry();
    io_uring_prep_sendmsg(&sqe, descriptor, &gathered.header, static_cast<unsigned>(flags));
    sqe.user_data = tagged(&op, target::operation);
}

/// The kernel writes the sender and the flags when it completes: until then the frame is its own.
void uring_driver::start_receive_from(operation& op) {
    uring_socket& own = mine(*op.socket);
    if (!own.frame) own.frame = ::new (allocate(sizeof(message_frame))) message_frame;
    own.frame->receive_into(op.data, std::min(op.size, longest_transfer));
    io_uring_sqe& sqe = entry();
    io_uring_prep_recvmsg(&sqe, static_cast<int>(op.socket->handle), &own.frame->header, 0);
    sqe.user_data = tagged(&op, target::operation);
}

void uring_driver::start_send_to(operation& op) {
    message_frame& frame = next_message();
    frame.send_from(op.data, std::min(op.size, longest_transfer), *op.cover);
    io_uring_sqe& sqe = entry();
    io_uring_prep_sendmsg(&sqe, static_cast<int>(op.socket->handle), &frame.header,
                          MSG_NOSIGNAL | MSG_DONTWAIT);
    sqe.user_data = tagged(&op, target::operation);
}

/// Waiting is not left to the sendmsg: the kernel tries it again with what its first try has left of the buffer, and an
/// empty datagram leaves (seen with Linux 6.18 and Unix sockets).
void uring_driver::await_room(operation& op) {
    io_uring_sqe& sqe = entry();
    io_uring_prep_poll_add(&sqe, static_cast<int>(op.socket->handle), POLLOUT);
    sqe.user_data = tagged(&op, target::room);
}

void uring_driver::on_room(operation& op, int result) {
    if (result >= 0 && !op.canceling) return start_send_to(op);
    finish(op, result >= 0 ? status(errc::canceled) : native_error(-result));
    complete(op);
}

void uring_driver::cancel(operation& op) noexcept {
    uring_socket& own = mine(*op.socket);
    if (&op == &op.socket->receive && own.waiting) {
        // The multishot stays: what it brings is kept for the next receive, so that no byte is lost.
        own.waiting = false;
        finish(op, errc::canceled);
        return complete(op);
    }
    // A datagram may be on its way, or wait for room.
    for (const target stage : {target::operation, target::room}) {
        if (stage == target::room && op.kind != op_kind::send_to) break;
        io_uring_sqe& sqe = entry();
        io_uring_prep_cancel64(&sqe, tagged(&op, stage), 0);
        sqe.user_data = tagged(nullptr, target::nobody);
    }
}

status uring_driver::quiesce(socket_state& socket) noexcept {
    uring_socket& own = mine(socket);
    if (socket.kind == socket_kind::datagram) return {};
    if (own.armed) {
        end_multishot(socket);
        return std::make_error_code(std::errc::operation_would_block);
    }
    if (own.first) return std::make_error_code(std::errc::device_or_resource_busy);
    if (own.failure.is(errc::end_of_stream)) return {}; // whoever receives next is told, too
    return own.failure;
}

void uring_driver::forget(socket_state& socket) noexcept {
    uring_socket& own = mine(socket);
    if (socket.kind == socket_kind::datagram && own.frame)
        deallocate(std::exchange(own.frame, nullptr), sizeof(message_frame));
}

bool uring_driver::close(socket_state& socket) noexcept {
    uring_socket& own = mine(socket);
    if (socket.kind == socket_kind::datagram) {
        forget(socket);
        close(socket.handle);
        return true;
    }
    while (unclaimed* item = own.first) {
        own.first = item->next;
        if (socket.kind == socket_kind::listener)
            close(item->accepted);
        else
            item->block->release(*item->block);
        deallocate(item, sizeof(unclaimed));
    }
    if (!own.armed) {
        close(socket.handle);
        return true;
    }
    // close() alone would cancel nothing: the receive would stay and swallow later data.
    end_multishot(socket);
    return false;
}

} // namespace

std::unique_ptr<driver> make_io_uring_driver(const context_options& options, std::string& reason) {
    auto made = std::make_unique<uring_driver>();
    const int outcome = made->set_up(options);
    if (outcome == 0) {
        if (made->has_buffer_rings()) {
            reason = "io_uring is available";
            return made;
        }
        reason = "io_uring_register: IORING_REGISTER_PBUF_RING is not known; the kernel is older than 5.19";
        return nullptr;
    }
    reason = "io_uring_setup: " + std::generic_category().message(-outcome);
    switch (-outcome) {
    case EPERM:
        reason += "; forbidden by a seccomp filter (containers' default) or by the sysctl "
                  "kernel.io_uring_disabled: "
                  "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp "
                  "profile, or "
                  "set the sysctl to 0";
        break;
    case ENOSYS:
        reason += "; the kernel is older than 5.19, or a seccomp filter hides the system call";
        break;
    case ENOMEM: reason += "; the limit of locked memory is too small for the rings: raise ulimit -l"; break;
    case EINVAL:
        reason += "; IORING_SETUP_DEFER_TASKRUN and IORING_SETUP_COOP_TASKRUN are not known: the kernel is "
                  "older than 5.19";
        break;
    case EMFILE:
    case ENFILE: reason += "; out of descriptors: raise ulimit -n"; break;
    default: break;
    }
    return nullptr;
}

} // namespace detail
} // namespace plait::inline v1
