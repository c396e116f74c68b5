#include <plait/tcp.hpp>

#include "src/loop.hpp"
#include "src/socket_options.hpp"

namespace plait::inline v1 {
namespace {

using detail::converted;
using detail::get;
using detail::set;
using detail::socket_option;

/// Completes when the connection is established.
class connect_awaitable : detail::operation_awaitable {
  public:
    using detail::operation_awaitable::plait_awaitable_tag;

    connect_awaitable(detail::operation* op, const endpoint& peer) noexcept
        : operation_awaitable(op), peer_(&peer) {}

    bool await_ready() const noexcept { return false; }
    template <detail::environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        op_->kind = detail::op_kind::connect;
        op_->whole = op_->boundary = false;
        op_->piece_count = 0;
        op_->data = nullptr;
        op_->size = 0;
        op_->peer = peer_;
        return start(waiter);
    }
    io_result<void> await_resume() noexcept { return detail::take_connect(ended()); }

  private:
    const endpoint* peer_;
};

std::error_code invalid_argument() { return std::make_error_code(std::errc::invalid_argument); }

} // namespace

io_result<tcp_stream> accept_awaitable::await_resume() noexcept {
    auto accepted = take();
    if (!accepted) return {accepted.raw_status(), 0};
    return tcp_stream(*accepted);
}

task<io_result<tcp_stream>> tcp_stream::connect(endpoint peer) {
    detail::environment& env = co_await detail::this_environment();
    if (!peer.valid()) co_return invalid_argument();
    detail::loop& context = *env.context;
    native_socket handle = detail::no_socket;
    const detail::status opened = context.system->open_stream(peer, handle);
    if (!opened.ok()) co_return io_result<tcp_stream>(opened, 0);
    tcp_stream stream(context.adopt(handle, detail::socket_kind::stream));
    auto connected = co_await connect_awaitable(stream.send_op(), peer);
    if (!connected) co_return io_result<tcp_stream>(connected.raw_status(), 0);
    co_return std::move(stream);
}

task<io_result<tcp_stream>> tcp_stream::from_native_handle(native_socket handle) {
    auto adopted = co_await detail::adopt_handle(handle, detail::socket_kind::stream, false);
    if (!adopted) co_return io_result<tcp_stream>(adopted.raw_status(), 0);
    co_return tcp_stream(*adopted);
}

io_result<void> tcp_stream::set_no_delay(bool on) noexcept {
    return set(state_, socket_option::no_delay, on);
}

io_result<bool> tcp_stream::no_delay() const noexcept {
    return converted<bool>(get(state_, socket_option::no_delay), [](int value) { return value != 0; });
}

io_result<void> tcp_stream::set_keep_alive(std::optional<keep_alive> setting) noexcept {
    if (!setting) return set(state_, socket_option::keep_alive, 0);
    if (setting->idle.count() < 1 || setting->interval.count() < 1 || setting->count < 1)
        return invalid_argument();
    auto result = set(state_, socket_option::keep_alive_idle, static_cast<int>(setting->idle.count()));
    if (result)
        result = set(state_, socket_option::keep_alive_interval, static_cast<int>(setting->interval.count()));
    if (result) result = set(state_, socket_option::keep_alive_count, setting->count);
    if (result) result = set(state_, socket_option::keep_alive, 1);
    return result;
}

io_result<bool> tcp_stream::keep_alive_on() const noexcept {
    return converted<bool>(get(state_, socket_option::keep_alive), [](int value) { return value != 0; });
}

io_result<void> tcp_stream::set_linger(std::optional<std::chrono::seconds> timeout) noexcept {
    return set(state_, socket_option::linger, timeout ? static_cast<int>(timeout->count()) : -1);
}

io_result<std::optional<std::chrono::seconds>> tcp_stream::linger() const noexcept {
    using setting = std::optional<std::chrono::seconds>;
    return converted<setting>(get(state_, socket_option::linger), [](int value) {
        return value < 0 ? setting() : setting(std::chrono::seconds(value));
    });
}

io_result<void> tcp_stream::set_receive_buffer_size(int bytes) noexcept {
    return set(state_, socket_option::receive_buffer, bytes);
}
io_result<int> tcp_stream::receive_buffer_size() const noexcept {
    return get(state_, socket_option::receive_buffer);
}

io_result<void> tcp_stream::set_send_buffer_size(int bytes) noexcept {
    return set(state_, socket_option::send_buffer, bytes);
}
io_result<int> tcp_stream::send_buffer_size() const noexcept {
    return get(state_, socket_option::send_buffer);
}

io_result<void> tcp_stream::set_user_timeout(std::chrono::milliseconds timeout) noexcept {
    return set(state_, socket_option::user_timeout, static_cast<int>(timeout.count()));
}

io_result<std::chrono::milliseconds> tcp_stream::user_timeout() const noexcept {
    return converted<std::chrono::milliseconds>(get(state_, socket_option::user_timeout),
                                                [](int value) { return std::chrono::milliseconds(value); });
}

task<io_result<tcp_listener>> tcp_listener::from_native_handle(native_socket handle) {
    auto adopted = co_await detail::adopt_handle(handle, detail::socket_kind::listener, false);
    if (!adopted) co_return io_result<tcp_listener>(adopted.raw_status(), 0);
    co_return tcp_listener(*adopted);
}

task<io_result<tcp_listener>> tcp_listener::bind(endpoint local, listen_options options) {
    detail::environment& env = co_await detail::this_environment();
    if (!local.valid()) co_return invalid_argument();
    detail::loop& context = *env.context;
    native_socket handle = detail::no_socket;
    const detail::status opened = context.system->open_listener(local, options, handle);
    if (!opened.ok()) co_return io_result<tcp_listener>(opened, 0);
    co_return tcp_listener(context.adopt(handle, detail::socket_kind::listener));
}

task<io_result<void>> tcp_listener::close() { return detail::close_at_once(state_); }

} // namespace plait::inline v1
