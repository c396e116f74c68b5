// A stranger's program: an echo server and its client in one process, with the public headers alone.

#include <plait/plait.hpp>

#include <cstddef>
#include <cstdio>
#include <span>
#include <string_view>
#include <utility>

namespace {

constexpr std::string_view greeting = "hello through the installed library";

plait::task<> echo_once(plait::tcp_listener& listener) {
    auto stream = co_await listener.accept();
    if (!stream) co_return;
    while (auto received = co_await stream->recv()) {
        auto sent = co_await stream->send_all(received->bytes());
        if (!sent) break;
    }
}

plait::task<bool> ask(plait::endpoint server) {
    auto stream = co_await plait::tcp_stream::connect(server);
    if (!stream) co_return false;
    auto sent = co_await stream->send_all(greeting);
    if (!sent) co_return false;
    std::byte answer[greeting.size()];
    auto received = co_await stream->recv_exactly(std::span<std::byte>(answer));
    if (!received) co_return false;
    auto ended = co_await stream->shutdown_send();
    if (!ended) co_return false;
    co_return plait::as_text(answer) == greeting;
}

plait::task<bool> echo() {
    plait::endpoint loopback{"127.0.0.1", 0};
    auto listener = co_await plait::tcp_listener::bind(loopback);
    if (!listener) co_return false;
    plait::task_group server;
    server.spawn(echo_once(*listener));
    auto address = listener->local_endpoint();
    bool right = false;
    if (address)
        right = co_await ask(*address);
    else
        server.request_stop();
    co_await server.join();
    co_return right;
}

} // namespace

int main() {
    const bool right = plait::run(echo());
    std::puts(right ? "the answer is right" : "the answer is wrong");
    return right ? 0 : 1;
}
