// Sends text to a UDP server, a datagram for each, and prints the answers.
//
//     udp_echo_client localhost 8000 --send hello     one exchange
//     udp_echo_client localhost 8000                  a line from the keyboard at a time, until its end (Ctrl-D)
//
// Nobody promises that a datagram arrives: an answer that does not come within --wait seconds is given up. It ends with
// 0 if every message got its answer.

#include "arguments.hpp"
#include "program.hpp"

#include <chrono>

namespace {

plait::task<bool> ask(plait::udp_socket& socket, std::string_view message, std::chrono::seconds patience) {
    std::vector<std::byte> answer(65'536); // no datagram is longer
    auto sent = co_await socket.send(message);
    auto received = co_await plait::with_timeout(socket.recv(answer), patience);
    if (!sent || !received) {
        example::failed("no answer", sent ? received.error() : sent.error());
        co_return false;
    }
    example::print_line(plait::as_text(std::span(answer).first(*received)));
    co_return true;
}

plait::task<int> talk(example::arguments::peer_name where, std::optional<std::string> only,
                      std::chrono::seconds patience) {
    auto found = co_await plait::resolve(where.host, where.service);
    if (!found) co_return example::failed("cannot find " + where.to_string(), found.error());
    // Nothing tells whether a datagram can arrive there; the first is the system's choice.
    const plait::endpoint server = found->front();
    const plait::endpoint any(server.address().is_v6() ? "::" : "0.0.0.0", 0);
    auto socket = co_await plait::udp_socket::bind(any);
    if (!socket) co_return example::failed("cannot open a socket", socket.error());
    // From now on it hears that server alone, and also that nobody listens there.
    auto connected = co_await socket->connect(server);
    if (!connected) co_return example::failed("cannot reach " + server.to_string(), connected.error());
    if (only) co_return co_await ask(*socket, *only, patience) ? 0 : 1;
    // The keyboard blocks, so a helper thread waits for it.
    while (auto line = co_await plait::offload(example::read_line)) {
        const bool answered = co_await ask(*socket, *line, patience);
        if (!answered) co_return 1;
    }
    co_return 0;
}

} // namespace

int main(int count, char** words) {
    example::arguments line(count, words,
                            "udp_echo_client HOST PORT [--send TEXT] [--wait SECONDS]\n"
                            "                       [--backend automatic|io_uring|epoll|iocp]");
    std::optional<std::string> only;
    if (line.has("--send")) only = line.text("--send", "");
    const std::chrono::seconds patience(line.number("--wait", 5, 1, 3600));
    const plait::backend backend = line.backend();
    const example::arguments::peer_name server = line.peer();
    line.end();
    return example::run(talk(server, only, patience), backend);
}
