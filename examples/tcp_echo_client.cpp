// Sends text to a TCP server that answers as many bytes as it gets, and prints the answers.
//
//     tcp_echo_client localhost 8000 --send hello     one exchange
//     tcp_echo_client localhost 8000                  a line from the keyboard at a time, until its end (Ctrl-D)
//
// It ends with 0 if every message got its answer.

#include "arguments.hpp"
#include "program.hpp"

namespace {

// Sends `message` and prints the answer. TCP keeps no boundaries: the answer is known by its size.
plait::task<bool> ask(plait::tcp_stream& server, std::string_view message) {
    auto sent = co_await server.send_all(message);
    std::vector<std::byte> answer(message.size());
    auto received = co_await server.recv_exactly(answer);
    if (!sent || !received) {
        example::failed("no answer", sent ? received.error() : sent.error());
        co_return false;
    }
    example::print_line(plait::as_text(answer));
    co_return true;
}

plait::task<int> talk(example::arguments::peer_name where, std::optional<std::string> only) {
    auto server = co_await plait::tcp_stream::connect(where.host, where.service);
    if (!server) co_return example::failed("cannot connect to " + where.to_string(), server.error());
    bool answered = true;
    if (only) {
        answered = co_await ask(*server, *only);
    } else {
        // The keyboard blocks, so a helper thread waits for it.
        while (auto line = co_await plait::offload(example::read_line)) {
            answered = co_await ask(*server, *line);
            if (!answered) break;
        }
    }
    static_cast<void>(co_await server->close());
    co_return answered ? 0 : 1;
}

} // namespace

int main(int count, char** words) {
    example::arguments line(
        count, words, "tcp_echo_client HOST PORT [--send TEXT] [--backend automatic|io_uring|epoll|iocp]");
    std::optional<std::string> only;
    if (line.has("--send")) only = line.text("--send", "");
    const plait::backend backend = line.backend();
    const example::arguments::peer_name server = line.peer();
    line.end();
    return example::run(talk(server, only), backend);
}
