// The echo server as a user of plait would write it; the benchmarks measure it against its peers.
#include "plait_server.hpp"

#include <plait/plait.hpp>

#include <cstdint>
#include <utility>

namespace {

plait::task<> session(plait::tcp_stream stream) {
    while (auto received = co_await stream.recv())
        if (!co_await stream.send_all(received->bytes())) break;
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
