// expect: plait: a socket is used on the context that opened it
#include <plait/io_context.hpp>
#include <plait/tcp.hpp>

namespace {

plait::task<plait::tcp_listener> open() {
    auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0});
    co_return std::move(listener).value();
}

plait::task<> use(plait::tcp_listener& of_another_context) {
    auto accepted = co_await of_another_context.accept();
}

} // namespace

int main() {
    plait::io_context first, second;
    auto listener = first.run(open());
    second.run(use(listener));
}
