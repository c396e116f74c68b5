// expect: plait: a context with open sockets is destroyed by another thread than the one that ran it
#include <plait/io_context.hpp>
#include <plait/tcp.hpp>

#include <optional>
#include <thread>

int main() {
    std::optional<plait::tcp_listener> kept;
    std::optional<plait::io_context> context(std::in_place);
    auto listen = [&]() -> plait::task<> {
        auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0});
        kept.emplace(std::move(listener).value());
    };
    context->run(listen());
    std::thread([&] { context.reset(); }).join();
}
