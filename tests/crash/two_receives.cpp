// expect: plait: two operations of one direction on a socket at once
#include <plait/io_context.hpp>
#include <plait/task_group.hpp>
#include <plait/tcp.hpp>

#include <array>
#include <functional>

namespace {

plait::task<> receive(plait::tcp_stream& from) {
    std::array<std::byte, 8> buffer;
    static_cast<void>(co_await from.recv(buffer));
}

plait::task<> receive_twice() {
    auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0});
    auto client = co_await plait::tcp_stream::connect(listener->local_endpoint().value());
    plait::task_group group;
    group.spawn(receive, std::ref(*client));
    group.spawn(receive, std::ref(*client));
    co_await group.join();
}

} // namespace

int main() { plait::run(receive_twice()); }
