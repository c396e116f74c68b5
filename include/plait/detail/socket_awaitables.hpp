#pragma once
/// The awaitables of stream sockets and listeners. Each is a few words that refer to the socket's state block;
/// nothing starts before co_await.

#include <plait/detail/socket_state.hpp>
#include <plait/lease.hpp>
#include <plait/task.hpp>

#include <span>

namespace plait::inline v1 {
namespace detail {

/// Starts `op`. True: it suspends; false: the result is there.
PLAIT_API bool start_operation(operation& op, std::coroutine_handle<> waiter, environment& env);
/// The await ends without taking a result, because its frame is destroyed.
PLAIT_API void abandon_operation(operation& op) noexcept;
/// For an await whose outcome is there, but that has had its share of this turn: suspends it once. False: the scope
/// is cancelled, go on.
PLAIT_API bool pass_turn(operation& op, std::coroutine_handle<> waiter, environment& env);

PLAIT_API io_result<std::size_t> take_receive(operation& op) noexcept;
PLAIT_API io_result<lease> take_lease(operation& op) noexcept;
/// The end of a lease operation whose pieces went to a taker.
PLAIT_API status take_pieces(operation& op) noexcept;
PLAIT_API io_result<std::size_t> take_send(operation& op) noexcept;
PLAIT_API io_result<void> take_connect(operation& op) noexcept;

/// The socket was closed, or moved from.
inline status not_open() noexcept { return std::make_error_code(std::errc::bad_file_descriptor); }

/// What the awaitables share: which operation, and whether it is under way for this await.
class operation_awaitable {
  public:
    using plait_awaitable_tag = void;

    explicit operation_awaitable(operation* op) noexcept : op_(op) {}
    operation_awaitable(operation_awaitable&& other) noexcept : op_(other.op_) {}
    ~operation_awaitable() {
        if (started_) abandon_operation(*op_);
    }

  protected:
    template <class P>
    bool start(std::coroutine_handle<P> waiter) {
        started_ = true;
        return start_operation(*op_, waiter, waiter.promise().plait_environment());
    }
    operation& ended() noexcept {
        started_ = false;
        return *op_;
    }

    operation* op_; ///< nullptr: the socket is not open
    bool started_ = false;
    // For next(), and here, where they cost nothing:
    bool here_ = false;  ///< the outcome was there at once
    bool threw_ = false; ///< the codec, or memory
};

/// `accept()` of every kind of listener; await_resume() of each makes its kind of stream.
class accept_operation : protected operation_awaitable {
  public:
    using operation_awaitable::plait_awaitable_tag;

    explicit accept_operation(operation* op) noexcept : operation_awaitable(op) {}

    bool await_ready() const noexcept { return !op_; }
    template <environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        op_->kind = op_kind::accept;
        op_->whole = false;
        op_->boundary = true;
        op_->piece_count = 0;
        return start(waiter);
    }

  protected:
    /// The state block of the accepted stream.
    PLAIT_API io_result<socket_state*> take() noexcept;
    /// The accepted socket itself; the caller's now, and no driver's yet.
    PLAIT_API io_result<native_socket> take_handle() noexcept;
};

} // namespace detail

/// `recv(span)` and `recv_exactly(span)`.
class [[nodiscard]] receive_awaitable : detail::operation_awaitable {
  public:
    using detail::operation_awaitable::plait_awaitable_tag;

    receive_awaitable(detail::operation* op, std::span<std::byte> buffer, bool whole) noexcept
        : operation_awaitable(op), whole_(whole), buffer_(buffer) {}

    bool await_ready() const noexcept { return !op_ || buffer_.empty(); }
    template <detail::environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        op_->kind = detail::op_kind::receive;
        op_->whole = whole_;
        op_->boundary = true;
        op_->piece_count = 0;
        op_->data = buffer_.data();
        op_->size = buffer_.size();
        return start(waiter);
    }
    io_result<std::size_t> await_resume() noexcept {
        if (!op_) return {detail::not_open(), 0};
        if (!started_) return std::size_t{0};
        return detail::take_receive(ended());
    }

  private:
    bool whole_;
    std::span<std::byte> buffer_;
};

/// `recv()`.
class [[nodiscard]] lease_awaitable : detail::operation_awaitable {
  public:
    using detail::operation_awaitable::plait_awaitable_tag;

    explicit lease_awaitable(detail::operation* op, bool boundary = true) noexcept
        : operation_awaitable(op), boundary_(boundary) {}

    bool await_ready() const noexcept { return !op_; }
    template <detail::environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        op_->kind = detail::op_kind::lease;
        op_->whole = false;
        op_->boundary = boundary_;
        op_->piece_count = 0;
        return start(waiter);
    }
    io_result<lease> await_resume() noexcept {
        if (!op_) return {detail::not_open(), 0};
        return detail::take_lease(ended());
    }

  private:
    bool boundary_;
};

/// `send(bytes)`, `send_all(bytes)` and `send_all(pieces)`.
class [[nodiscard]] send_awaitable : detail::operation_awaitable {
  public:
    using detail::operation_awaitable::plait_awaitable_tag;

    send_awaitable(detail::operation* op, std::span<const std::byte> bytes, bool whole) noexcept
        : operation_awaitable(op), whole_(whole), first_(bytes.data()), count_(bytes.size()) {}
    send_awaitable(detail::operation* op, std::span<const std::span<const std::byte>> pieces) noexcept
        : operation_awaitable(op), whole_(true), gathered_(true), first_(pieces.data()),
          count_(pieces.size()) {}

    bool await_ready() const noexcept { return !op_; }
    template <detail::environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        op_->kind = detail::op_kind::send;
        op_->whole = whole_;
        op_->boundary = false;
        set_buffers();
        return start(waiter);
    }
    io_result<std::size_t> await_resume() noexcept {
        if (!op_) return {detail::not_open(), 0};
        return detail::take_send(ended());
    }

  private:
    PLAIT_API void set_buffers() noexcept;

    bool whole_;
    bool gathered_ = false;
    const void* first_;
    std::size_t count_;
};

} // namespace plait::inline v1
