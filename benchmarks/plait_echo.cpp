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

plait::task<> serve_all(const server_options& how, std::size_t index) {
    run_on(how.cpus, index);
    plait::io_context& context = co_await plait::this_context();
    plait::serve_options options;
    options.on_listening([&context](const plait::endpoint& where) { announce(where.port(), context); });
    options.one_acceptor(); // so that each context has as many connections as the others
    const plait::endpoint local("127.0.0.1", how.port);
    auto served = co_await plait::serve_per_core(local, session, options);
    served.value();
}

} // namespace

int main(int argument_count, char** arguments) {
    const server_options options = parse_options(argument_count, arguments);
    plait::run_per_core(
        options.threads, [&options](std::size_t index) { return serve_all(options, index); },
        options.context);
}
