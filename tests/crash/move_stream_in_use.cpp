// expect: plait: a socket is moved while an operation on it is in flight
#include <plait/io_context.hpp>
#include <plait/task_group.hpp>
#include <plait/tcp.hpp>

#include <array>
#include <functional>
#include <utility>

namespace {

plait::task<> receive(plait::tcp_stream& from) {
    std::array<std::byte, 8> buffer;
    static_cast<void>(co_await from.recv(buffer));
}

plait::task<> move_it() {
    auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0});
    auto client = co_await plait::tcp_stream::connect(listener->local_endpoint().value());
    plait::task_group group;
    group.spawn(receive, std::ref(*client));
    co_await plait::yield();
    plait::tcp_stream moved = std::move(*client);
    co_await group.join();
}

} // namespace

int main() { plait::run(move_it()); }
