#include <plait/framing.hpp>

#include "src/loop.hpp"

namespace plait::inline v1 {
namespace detail {

std::size_t collected_size(const socket_state& socket) noexcept {
    return socket.output ? socket.output->collecting.size() : 0;
}

std::byte* collect_output(socket_state& socket, std::size_t bytes) { return socket.context->collect(socket, bytes); }

byte_buffer take_collected(socket_state& socket) { return socket.context->take_collected(socket); }

void give_back_collected(socket_state& socket, byte_buffer bytes) {
    socket.context->give_back_collected(socket, std::move(bytes));
}

status output_failure(const socket_state& socket) noexcept {
    if (!socket.context || socket.closing) return not_open();
    return socket.send_failure;
}

void fail_output(socket_state& socket, status failure) noexcept { socket.send_failure = failure; }

} // namespace detail
} // namespace plait::inline v1
