#include <plait/framing.hpp>

#include "src/loop.hpp"

namespace plait::inline v1 {
namespace detail {

std::byte* try_collect(socket_state& socket, std::size_t bytes, std::size_t most) {
    if (socket.output && socket.output->collecting.size() >= most) return nullptr;
    return socket.context->collect(socket, bytes);
}

std::byte* collect_output(socket_state& socket, std::size_t bytes) {
    return socket.context->collect(socket, bytes);
}

byte_buffer take_collected(socket_state& socket) { return socket.context->take_collected(socket); }

void give_back_collected(socket_state& socket, byte_buffer bytes) {
    socket.context->give_back_collected(socket, std::move(bytes));
}

} // namespace detail
} // namespace plait::inline v1
