// A UDP server that sends each datagram back to whom it came from.
//
//     udp_echo_server             until Ctrl-C
//     udp_echo_server --upper     answers in upper case
//
// It prints "listening on 127.0.0.1:8000 (io_uring)". Talk to it with: udp_echo_client 127.0.0.1 8000

#include "arguments.hpp"
#include "program.hpp"

#include <csignal>

namespace {

struct settings {
    plait::endpoint local;
    bool upper;
    plait::backend backend;
};

// One socket serves everybody: there are no connections, and each datagram tells who sent it.
plait::task<std::error_code> answer(plait::udp_socket& socket, settings how) {
    example::announce(socket, co_await plait::this_context(), how.backend);
    std::vector<std::byte> buffer(65'536); // no datagram is longer
    for (;;) {
        auto received = co_await socket.recv_from(buffer);
        if (!received) co_return received.error();
        const auto text = std::span(buffer).first(received->bytes);
        if (how.upper) example::make_upper(text);
        auto sent = co_await socket.send_to(text, received->sender);
        // That one answer does not get through is no reason to give up the others.
        if (!sent) example::failed(received->sender.to_string(), sent.error());
    }
}

plait::task<int> serve_echo(settings how) {
    auto socket = co_await plait::udp_socket::bind(how.local);
    if (!socket) co_return example::failed("cannot listen on " + how.local.to_string(), socket.error());
    const plait::signal_list stop(SIGINT, SIGTERM);
    auto first = co_await plait::when_any(plait::wait_for_signal(stop), answer(*socket, how));
    if (first.index == 0) co_return 0;
    co_return example::failed("cannot go on receiving", *std::get<1>(first.results));
}

} // namespace

int main(int count, char** words) {
    example::arguments line(count, words,
                            "udp_echo_server [--host ADDRESS] [--port N] [--upper]\n"
                            "                       [--backend automatic|io_uring|epoll|iocp]");
    settings how{};
    how.backend = line.backend();
    how.local = line.local();
    how.upper = line.flag("--upper");
    line.one_thread("one socket receives for all, on one thread");
    line.end();
    return example::run(serve_echo(how), how.backend);
}
