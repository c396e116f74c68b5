// The framed echo server as a user of plait would write it: no buffer and no batching of its own.
#include "plait_server.hpp"

#include <plait/plait.hpp>

#include <cstdint>
#include <utility>

namespace {

plait::task<> session(plait::tcp_stream stream) {
    plait::framed messages{std::move(stream), plait::length_prefix{}.width(4).little_endian()};
    while (auto message = co_await messages.next())
        if (!co_await messages.write(*message)) break;
}

plait::task<> serve_all(std::uint16_t port) {
    auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", port});
    announce(listener.value().local_endpoint().value().port(), co_await plait::this_context());
    auto served = co_await plait::serve(std::move(listener).value(), session);
    served.value();
}

} // namespace

int main(int argument_count, char** arguments) {
    const server_options options = parse_options(argument_count, arguments);
    plait::run(serve_all(options.port), options.context);
}
