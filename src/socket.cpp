#include <plait/detail/stream_socket.hpp>
#include <plait/time.hpp>

#include "src/loop.hpp"

namespace plait::inline v1 {
namespace detail {
namespace {

constexpr auto close_grace = std::chrono::seconds(2);

/// The await is over: its scope hears of a cancellation, the operation is free again.
status settle_await(operation& op) noexcept {
    const status result = op.result;
    if (op.waiter && result.is(errc::canceled)) op.waiting->cancel->notice();
    return result;
}

void free_operation(operation& op) noexcept {
    if (op.socket->context)
        op.socket->context->finished(op);
    else
        op.waiter = nullptr;
}

} // namespace

bool start_operation(operation& op, std::coroutine_handle<> waiter, environment& env) {
    PLAIT_ASSERT(env.context, "this awaitable needs a context; use plait::run() or on(context, awaitable)");
    return env.context->start(op, waiter, env);
}

bool pass_turn(operation& op, std::coroutine_handle<> waiter, environment& env) {
    return env.context && op.socket->context == env.context && env.context->pass(op, waiter, env);
}

void abandon_operation(operation& op) noexcept {
    if (op.socket->context) return op.socket->context->abandon(op);
    op.unlink();
    op.waiter = nullptr;
}

io_result<std::size_t> take_receive(operation& op) noexcept {
    status result = settle_await(op);
    const std::size_t bytes = op.transferred;
    if (result.is(errc::end_of_stream)) {
        op.socket->ended = true;
        if (bytes > 0) result = errc::truncated_frame;
    }
    if (loop* context = op.socket->context) {
        ++context->system->metrics().receives;
        context->system->metrics().bytes_received += bytes;
    }
    free_operation(op);
    if (!result.ok()) return {result, bytes};
    return bytes;
}

io_result<lease> take_lease(operation& op) noexcept {
    const status result = settle_await(op);
    if (result.is(errc::end_of_stream)) op.socket->ended = true;
    if (loop* context = op.socket->context) {
        ++context->system->metrics().receives;
        if (result.ok()) context->system->metrics().bytes_received += op.size;
    }
    if (!result.ok()) {
        free_operation(op);
        return {result, 0};
    }
    lease received(op.data, op.size, op.block);
    free_operation(op);
    const std::size_t bytes = received.size();
    return {std::move(received), bytes};
}

status take_pieces(operation& op) noexcept {
    const status result = settle_await(op);
    if (result.is(errc::end_of_stream)) op.socket->ended = true;
    if (loop* context = op.socket->context; context && !result.ok()) ++context->system->metrics().receives;
    free_operation(op);
    return result;
}

io_result<std::size_t> take_send(operation& op) noexcept {
    const status result = settle_await(op);
    const std::size_t bytes = op.transferred;
    if (loop* context = op.socket->context) {
        ++context->system->metrics().sends;
        context->system->metrics().bytes_sent += bytes;
    }
    free_operation(op);
    if (!result.ok()) return {result, bytes};
    return bytes;
}

io_result<socket_state*> accept_operation::take() noexcept {
    loop* const context = op_ ? op_->socket->context : nullptr;
    const auto accepted = take_handle();
    if (!accepted) return {accepted.raw_status(), 0};
    return context->adopt(*accepted, socket_kind::stream);
}

io_result<native_socket> accept_operation::take_handle() noexcept {
    if (!op_) return {not_open(), 0};
    operation& op = ended();
    const status result = settle_await(op);
    const native_socket accepted = result.ok() ? op.accepted : no_socket;
    if (loop* context = op.socket->context) ++context->system->metrics().accepts;
    free_operation(op);
    if (!result.ok()) return {result, 0};
    return accepted;
}

io_result<void> take_connect(operation& op) noexcept {
    const status result = settle_await(op);
    if (loop* context = op.socket->context) ++context->system->metrics().connects;
    free_operation(op);
    return {result, 0};
}

// --- handles -------------------------------------------------------------------------------------------------

socket_handle& socket_handle::operator=(socket_handle&& other) noexcept {
    if (this != &other) {
        socket_state* theirs = other.take();
        if (socket_state* old = std::exchange(state_, theirs)) release_socket(*old);
    }
    return *this;
}

socket_handle::~socket_handle() {
    if (state_) release_socket(*state_);
}

socket_state* socket_handle::take() noexcept {
    PLAIT_ASSERT(!state_ || (!state_->receive.waiter && !state_->send.waiter),
                 "a socket is moved while an operation on it is in flight; await the operation first");
    return std::exchange(state_, nullptr);
}

io_result<endpoint> socket_handle::local_endpoint() const noexcept {
    if (!state_ || !state_->context) return {not_open(), 0};
    endpoint where;
    const status result = state_->context->system->local_endpoint(state_->handle, where);
    if (!result.ok()) return {result, 0};
    return where;
}

task<io_result<native_socket>> socket_handle::release() { return release_handle(state_); }

io_result<void> socket_handle::set_option(int level, int name, std::span<const std::byte> value) noexcept {
    if (!state_ || !state_->context) return {not_open(), 0};
    return {state_->context->system->set_option(state_->handle, level, name, value), 0};
}

io_result<endpoint> stream_socket::remote_endpoint() const noexcept {
    if (!state_ || !state_->context) return {not_open(), 0};
    endpoint where;
    const status result = state_->context->system->remote_endpoint(state_->handle, where);
    if (!result.ok()) return {result, 0};
    return where;
}

// --- sending, half-closing, closing --------------------------------------------------------------------------

} // namespace detail

void send_awaitable::set_buffers() noexcept {
    if (!gathered_) {
        op_->piece_count = 0;
        op_->data = static_cast<std::byte*>(const_cast<void*>(first_));
        op_->size = count_;
        return;
    }
    const auto* pieces = static_cast<const std::span<const std::byte>*>(first_);
    while (count_ > 0 && pieces->empty()) {
        ++pieces;
        --count_;
    }
    op_->data = nullptr;
    op_->size = 0;
    op_->piece_count = static_cast<std::uint32_t>(count_);
    if (count_ > 0) op_->pieces = pieces;
}

namespace detail {

task<io_result<void>> stream_socket::shutdown_send() {
    if (!state_) co_return io_result<void>(not_open(), 0);
    auto flushed = co_await send_awaitable(send_op(), {}, true);
    if (!flushed) co_return flushed.error();
    if (!state_ || !state_->context) co_return io_result<void>(not_open(), 0);
    co_return io_result<void>(state_->context->system->shutdown_send(*state_), 0);
}

namespace {

/// Ends what other tasks wait for on this socket, and lets them hear of it.
task<> end_other_waits(socket_state& socket) {
    for (operation* op : {&socket.receive, &socket.send}) {
        if (!op->waiter) continue;
        socket.context->cancel(*op);
        while (op->waiter) co_await yield();
    }
}

/// The polite part: what was collected leaves, then the peer is given the time to end its side.
task<io_result<void>> say_goodbye(stream_socket& stream) {
    auto ended = co_await stream.shutdown_send();
    while (ended) {
        auto discarded = co_await stream.recv(inside_message());
        if (!discarded) break;
    }
    co_return ended;
}

} // namespace

task<io_result<void>> stream_socket::close() {
    stream_socket closing(std::exchange(state_, nullptr));
    if (!closing.state_ || !closing.state_->context) co_return io_result<void>();
    socket_state& socket = *closing.state_;
    socket.polite = false;
    co_await end_other_waits(socket);
    auto ended = co_await with_timeout(say_goodbye(closing), close_grace);
    if (ended.error() == errc::timed_out) {
        // The peer does not read, or does not end: what is left is given up.
        socket.send_failure = errc::timed_out;
        const bool unsent = socket.output != nullptr;
        if (!unsent) co_return io_result<void>();
        socket.context->event(event_info::kind::dropped, ended.error(),
                              "unsent output was given up at close");
    }
    const bool peer_left_first = ended.error() == std::errc::not_connected;
    if (peer_left_first) co_return io_result<void>();
    co_return ended;
}

namespace {

/// An exception would stop the other closes, and those to come: what ends this one without memory lets go of the
/// socket, and so begins it anew.
task<> close_in_background(socket_state* socket) {
    stream_socket stream(socket);
#if PLAIT_HAS_EXCEPTIONS
    try {
#endif
        static_cast<void>(co_await stream.close());
#if PLAIT_HAS_EXCEPTIONS
    } catch (...) {
    }
#endif
}

} // namespace

task<io_result<void>> close_at_once(socket_state*& owner) {
    socket_state* const socket = std::exchange(owner, nullptr);
    if (!socket) co_return io_result<void>();
    if (!socket->context) { // the context has closed it
        release_socket(*socket);
        co_return io_result<void>();
    }
    // The block lives until the flag is set; this frame may be destroyed before that.
    struct closed_flag {
        explicit closed_flag(socket_state& which) noexcept : socket(which) { socket.closed_flag = &set; }
        closed_flag(const closed_flag&) = delete;
        closed_flag& operator=(const closed_flag&) = delete;
        ~closed_flag() {
            if (!set) socket.closed_flag = nullptr;
        }
        socket_state& socket;
        bool set = false;
    };
    closed_flag closed(*socket);
    release_socket(*socket); // cancels what others wait for
    while (!closed.set) co_await yield();
    co_return io_result<void>();
}

task<io_result<socket_state*>> adopt_handle(native_socket handle, socket_kind kind, bool of_unix) {
    loop& context = *(co_await this_environment()).context;
    const status failure = context.system->inspect(handle, kind, of_unix);
    if (!failure.ok()) co_return io_result<socket_state*>(failure, 0);
    co_return context.adopt(handle, kind);
}

task<io_result<native_socket>> release_handle(socket_state*& owner) {
    if (!owner || !owner->context) co_return io_result<native_socket>(not_open(), 0);
    PLAIT_ASSERT(!owner->receive.waiter && !owner->send.waiter,
                 "a socket is released while an operation on it is in flight; await the operation first");
    if (owner->kind == socket_kind::stream) {
        auto flushed = co_await send_awaitable(&owner->send, {}, true);
        if (!flushed) co_return flushed.error();
    }
    loop& context = *owner->context;
    status result = context.system->quiesce(*owner);
    while (result.code() == std::errc::operation_would_block) {
        co_await yield();
        if (!owner) co_return io_result<native_socket>(not_open(), 0);
        result = context.system->quiesce(*owner);
    }
    if (!result.ok()) co_return io_result<native_socket>(result, 0);
    co_return context.give_away(*std::exchange(owner, nullptr));
}

void loop::close_politely(socket_state& socket) noexcept {
    socket.owned = true;
    socket.polite = false;
#if PLAIT_HAS_EXCEPTIONS
    try {
#endif
        closers->spawn(close_in_background(&socket));
#if PLAIT_HAS_EXCEPTIONS
    } catch (...) { // no memory for a coroutine
        socket.owned = false;
        if (socket.output)
            event(event_info::kind::dropped, std::make_error_code(std::errc::not_enough_memory),
                  "unsent output was given up: no memory to close politely");
        drop(socket);
    }
#endif
}

} // namespace detail
} // namespace plait::inline v1
