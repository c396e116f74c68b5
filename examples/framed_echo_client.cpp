// Sends messages, each with its length in front, to a server that answers each with another one; prints the answers.
//
//     framed_echo_client localhost 8000 --send hello     one message
//     framed_echo_client localhost 8000                  a line from the keyboard at a time, until its end (Ctrl-D)
//
// --width, --endian and --max-frame are those of framed_echo_server. It ends with 0 if every message got its answer.

#include "arguments.hpp"
#include "framing_arguments.hpp"
#include "program.hpp"

namespace {

using framed_stream = plait::framed<plait::tcp_stream, plait::length_prefix>;

// Sends `message` and prints the answer, of whatever size it is.
plait::task<bool> ask(framed_stream& server, std::string_view message) {
    auto written = co_await server.write(message);
    if (!written) {
        example::failed("not sent", written.error());
        co_return false;
    }
    auto answer = co_await server.next();
    if (!answer) {
        example::failed("no answer", answer.error());
        co_return false;
    }
    example::print_line(plait::as_text(*answer));
    co_return true;
}

plait::task<int> talk(example::arguments::peer_name where, plait::length_prefix codec,
                      std::optional<std::string> only) {
    auto stream = co_await plait::tcp_stream::connect(where.host, where.service);
    if (!stream) co_return example::failed("cannot connect to " + where.to_string(), stream.error());
    framed_stream server(std::move(*stream), codec);
    bool answered = true;
    if (only) {
        answered = co_await ask(server, *only);
    } else {
        // The keyboard blocks, so a helper thread waits for it.
        while (auto line = co_await plait::offload(example::read_line)) {
            answered = co_await ask(server, *line);
            if (!answered) break;
        }
    }
    static_cast<void>(co_await server.close());
    co_return answered ? 0 : 1;
}

} // namespace

int main(int count, char** words) {
    example::arguments line(
        count, words,
        "framed_echo_client HOST PORT [--send TEXT] [--width 1|2|3|4|8] [--endian big|little]\n"
        "                          [--max-frame BYTES] [--backend automatic|io_uring|epoll|iocp]");
    std::optional<std::string> only;
    if (line.has("--send")) only = line.text("--send", "");
    const plait::backend backend = line.backend();
    const plait::length_prefix codec = example::length_codec(line);
    const example::arguments::peer_name server = line.peer();
    line.end();
    return example::run(talk(server, codec, only), backend);
}
