#pragma once
/// The awaitables of datagram sockets. `Name` is what their peers are called: an endpoint, or a unix_path.

#include <plait/detail/socket_awaitables.hpp>
#include <plait/endpoint.hpp>

#include <span>

namespace plait::inline v1 {
namespace detail {

inline status name_error(const endpoint& name) noexcept {
    return name.valid() ? status() : status(std::make_error_code(std::errc::invalid_argument));
}
inline status name_error(const unix_path& name) noexcept { return name.error(); }

inline void set_name(envelope& cover, endpoint& name) noexcept { cover.address = &name; }
inline void set_name(envelope& cover, unix_path& name) noexcept { cover.path = &name; }

/// What they share: one datagram's bytes, and its envelope.
class datagram_awaitable : protected operation_awaitable {
  public:
    using operation_awaitable::plait_awaitable_tag;

    bool await_ready() const noexcept { return !op_; }

  protected:
    datagram_awaitable(operation* op, op_kind kind, const void* data, std::size_t size) noexcept
        : operation_awaitable(op), kind_(kind), data_(static_cast<std::byte*>(const_cast<void*>(data))),
          size_(size) {}

    template <class P>
    bool start_datagram(std::coroutine_handle<P> waiter) {
        op_->kind = kind_;
        op_->whole = op_->boundary = false;
        op_->piece_count = 0;
        op_->data = data_;
        op_->size = size_;
        op_->cover = &cover_;
        return start(waiter);
    }

    op_kind kind_;
    std::byte* data_;
    std::size_t size_;
    envelope cover_;
};

} // namespace detail

/// `recv_from(span)`. `D` has bytes, sender and truncated.
template <class D>
class [[nodiscard]] receive_from_awaitable : detail::datagram_awaitable {
  public:
    using detail::datagram_awaitable::await_ready;
    using detail::datagram_awaitable::plait_awaitable_tag;

    receive_from_awaitable(detail::operation* op, std::span<std::byte> buffer) noexcept
        : datagram_awaitable(op, detail::op_kind::receive_from, buffer.data(), buffer.size()) {}

    template <detail::environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        detail::set_name(cover_, sender_);
        return start_datagram(waiter);
    }
    io_result<D> await_resume() noexcept {
        if (!op_) return {detail::not_open(), 0};
        const io_result<std::size_t> received = detail::take_receive(ended());
        if (!received) return {received.raw_status(), received.bytes()};
        return {D{*received, sender_, cover_.truncated}, *received};
    }

  private:
    decltype(D::sender) sender_;
};

/// `recv(span)` of a connected datagram socket.
class [[nodiscard]] receive_datagram_awaitable : detail::datagram_awaitable {
  public:
    using detail::datagram_awaitable::await_ready;
    using detail::datagram_awaitable::plait_awaitable_tag;

    receive_datagram_awaitable(detail::operation* op, std::span<std::byte> buffer) noexcept
        : datagram_awaitable(op, detail::op_kind::receive_from, buffer.data(), buffer.size()) {}

    template <detail::environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        return start_datagram(waiter);
    }
    io_result<std::size_t> await_resume() noexcept {
        if (!op_) return {detail::not_open(), 0};
        io_result<std::size_t> received = detail::take_receive(ended());
        if (received && cover_.truncated)
            return {std::make_error_code(std::errc::message_size), *received}; // a size alone would not tell
        return received;
    }
};

/// `send_to(bytes, name)`.
template <class Name>
class [[nodiscard]] send_to_awaitable : detail::datagram_awaitable {
  public:
    using detail::datagram_awaitable::plait_awaitable_tag;

    send_to_awaitable(detail::operation* op, std::span<const std::byte> bytes, const Name& to) noexcept
        : datagram_awaitable(op, detail::op_kind::send_to, bytes.data(), bytes.size()), to_(to) {}

    bool await_ready() const noexcept { return !op_ || !to_.valid(); }
    template <detail::environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        detail::set_name(cover_, to_);
        return start_datagram(waiter);
    }
    io_result<std::size_t> await_resume() noexcept {
        if (!op_) return {detail::not_open(), 0};
        if (!to_.valid()) return {detail::name_error(to_), 0};
        return detail::take_send(ended());
    }

  private:
    Name to_;
};

/// `send(bytes)` of a connected datagram socket.
class [[nodiscard]] send_datagram_awaitable : detail::datagram_awaitable {
  public:
    using detail::datagram_awaitable::await_ready;
    using detail::datagram_awaitable::plait_awaitable_tag;

    send_datagram_awaitable(detail::operation* op, std::span<const std::byte> bytes) noexcept
        : datagram_awaitable(op, detail::op_kind::send_to, bytes.data(), bytes.size()) {}

    template <detail::environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        return start_datagram(waiter);
    }
    io_result<std::size_t> await_resume() noexcept {
        if (!op_) return {detail::not_open(), 0};
        return detail::take_send(ended());
    }
};

} // namespace plait::inline v1
