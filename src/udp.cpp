#include <plait/udp.hpp>

#include "src/loop.hpp"
#include "src/socket_options.hpp"

#include <string>

namespace plait::inline v1 {
namespace {

using detail::converted;
using detail::get;
using detail::set;
using detail::socket_option;

std::error_code invalid_argument() { return std::make_error_code(std::errc::invalid_argument); }

io_result<bool> as_bool(const io_result<int>& value) {
    return converted<bool>(value, [](int number) { return number != 0; });
}

io_result<void> set_membership(detail::socket_state* state, const ip_address& group, std::uint32_t index,
                               bool join) noexcept {
    if (!state || !state->context) return {detail::not_open(), 0};
    if (!group.is_multicast()) return invalid_argument();
    if (index == 0) index = group.scope();
    const detail::status answer = state->context->system->set_membership(state->handle, group, index, join);
    // So says an IPv4 socket of a group of IPv6.
    if (answer.code() == std::errc::no_protocol_option) return invalid_argument();
    return {answer, 0};
}

} // namespace

task<io_result<udp_socket>> udp_socket::bind(endpoint local, udp_options options) {
    detail::environment& env = co_await detail::this_environment();
    if (!local.valid()) co_return invalid_argument();
    detail::loop& context = *env.context;
    native_socket handle = detail::no_socket;
    const detail::status opened = context.system->open_datagram(local, options, handle);
    if (!opened.ok()) co_return io_result<udp_socket>(opened, 0);
    co_return udp_socket(context.adopt(handle, detail::socket_kind::datagram));
}

task<io_result<udp_socket>> udp_socket::from_native_handle(native_socket handle) {
    auto adopted = co_await detail::adopt_handle(handle, detail::socket_kind::datagram, false);
    if (!adopted) co_return io_result<udp_socket>(adopted.raw_status(), 0);
    co_return udp_socket(*adopted);
}

task<io_result<void>> udp_socket::connect(endpoint peer) {
    if (!state_ || !state_->context) co_return io_result<void>(detail::not_open(), 0);
    if (!peer.valid()) co_return invalid_argument();
    co_return io_result<void>(state_->context->system->connect_datagram(state_->handle, peer), 0);
}

io_result<endpoint> udp_socket::remote_endpoint() const noexcept {
    if (!state_ || !state_->context) return {detail::not_open(), 0};
    endpoint where;
    const detail::status result = state_->context->system->remote_endpoint(state_->handle, where);
    if (!result.ok()) return {result, 0};
    return where;
}

io_result<void> udp_socket::set_reuse_port(bool on) noexcept {
    return set(state_, socket_option::reuse_port, on);
}
io_result<bool> udp_socket::reuse_port() const noexcept {
    return as_bool(get(state_, socket_option::reuse_port));
}

io_result<void> udp_socket::set_broadcast(bool on) noexcept {
    return set(state_, socket_option::broadcast, on);
}
io_result<bool> udp_socket::broadcast() const noexcept {
    return as_bool(get(state_, socket_option::broadcast));
}

io_result<void> udp_socket::set_receive_buffer_size(int bytes) noexcept {
    return set(state_, socket_option::receive_buffer, bytes);
}
io_result<int> udp_socket::receive_buffer_size() const noexcept {
    return get(state_, socket_option::receive_buffer);
}
io_result<void> udp_socket::set_send_buffer_size(int bytes) noexcept {
    return set(state_, socket_option::send_buffer, bytes);
}
io_result<int> udp_socket::send_buffer_size() const noexcept {
    return get(state_, socket_option::send_buffer);
}

io_result<void> udp_socket::join_group(const ip_address& group, std::uint32_t interface_index) noexcept {
    return set_membership(state_, group, interface_index, true);
}
io_result<void> udp_socket::leave_group(const ip_address& group, std::uint32_t interface_index) noexcept {
    return set_membership(state_, group, interface_index, false);
}

io_result<void> udp_socket::set_multicast_ttl(int hops) noexcept {
    if (hops < 0 || hops > 255) return invalid_argument(); // -1 would be the system's default, on IPv6 alone
    return set(state_, socket_option::multicast_ttl, hops);
}
io_result<int> udp_socket::multicast_ttl() const noexcept {
    return get(state_, socket_option::multicast_ttl);
}

io_result<void> udp_socket::set_multicast_loop(bool on) noexcept {
    return set(state_, socket_option::multicast_loop, on);
}
io_result<bool> udp_socket::multicast_loop() const noexcept {
    return as_bool(get(state_, socket_option::multicast_loop));
}

io_result<void> udp_socket::set_multicast_interface(std::uint32_t interface_index) noexcept {
    return set(state_, socket_option::multicast_interface, static_cast<int>(interface_index));
}

task<io_result<void>> udp_socket::close() { return detail::close_at_once(state_); }

io_result<std::uint32_t> interface_index(std::string_view name) {
    const std::uint32_t index = detail::index_of_interface(std::string(name).c_str());
    if (index == 0) return std::make_error_code(std::errc::no_such_device);
    return index;
}

} // namespace plait::inline v1
