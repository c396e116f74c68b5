// A server of messages: each has its length in front, as Python's struct.pack('i', n) writes it, so that none sticks to
// the next one, however the network cuts the stream.
//
//     framed_echo_server                                  four bytes, little-endian
//     framed_echo_server --width 2 --endian big           two bytes, network order
//     framed_echo_server --max-frame 1000                 longer messages end their connection
//     framed_echo_server --threads 4                      on so many cores; 0: on all of them
//
// It prints "listening on 127.0.0.1:8000 (io_uring)", and for each connection that ended with an error who and why:
// "127.0.0.1:51234: frame too large". Talk to it with: framed_echo_client 127.0.0.1 8000

#include "arguments.hpp"
#include "framing_arguments.hpp"
#include "program.hpp"

#include <csignal>

namespace {

using given_listener = std::optional<plait::activated_listener>; // by a supervisor

// One client. What it returns, other than the end of the stream, goes to on_error below.
plait::task<plait::io_result<void>> session(plait::framed<plait::tcp_stream, plait::length_prefix> messages) {
    for (;;) {
        auto message = co_await messages.next(); // valid until the following next()
        if (!message) co_return message.error();
        auto written = co_await messages.write(*message);
        if (!written) co_return written;
    }
}

// On each thread.
plait::task<plait::io_result<void>> serve_echo(plait::endpoint local, plait::length_prefix codec,
                                               plait::backend backend, const given_listener& given) {
    auto start = [codec](plait::tcp_stream stream) {
        return session(plait::framed{std::move(stream), codec});
    };
    plait::serve_options options;
    options.stop_on({SIGINT, SIGTERM}).on_error([](std::error_code error, const plait::endpoint& peer) {
        example::failed(peer.to_string(), error);
    });
    options.on_listening(example::announcement(co_await plait::this_context(), backend));
    if (given) co_return co_await plait::serve_per_core(*given, start, options);
    co_return co_await plait::serve_per_core(local, start, options);
}

} // namespace

int main(int count, char** words) {
    example::arguments line(
        count, words,
        "framed_echo_server [--host ADDRESS] [--port N] [--width 1|2|3|4|8] [--endian big|little]\n"
        "                          [--max-frame BYTES] [--threads N] [--backend "
        "automatic|io_uring|epoll|iocp]");
    const plait::backend backend = line.backend();
    const plait::endpoint local = line.local();
    const plait::length_prefix codec = example::length_codec(line);
    const std::size_t threads = line.threads();
    const given_listener given = example::given_listener();
    line.end();
    return example::run_per_core(threads, backend, local.to_string(),
                                 [=, &given] { return serve_echo(local, codec, backend, given); });
}
