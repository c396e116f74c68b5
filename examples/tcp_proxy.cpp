// A TCP proxy: connects each client to another server, and carries bytes in both directions until both have ended.
//
//     tcp_proxy localhost 9000                     for the server at localhost:9000, until Ctrl-C
//     tcp_proxy --host :: --port 80 ::1 9000       for clients from anywhere
//
// A side that has nothing more to say may still listen: its half-close is passed on. It prints "listening on
// 127.0.0.1:8000 (io_uring)", and for each connection that ended with an error who and why.

#include "arguments.hpp"
#include "program.hpp"

#include <csignal>

namespace {

using peer_name = example::arguments::peer_name;

// One direction. An error ends the other direction, too; an end does not.
plait::task<> carry(plait::tcp_stream& from, plait::tcp_stream& to, plait::task_group& both,
                    std::error_code& failure) {
    std::error_code ended;
    while (!ended) {
        auto piece = co_await from.recv(); // a lease on a pooled buffer, sent from where it is
        ended = piece.error();
        if (ended) break;
        auto sent = co_await to.send_all(piece->bytes());
        ended = sent.error();
    }
    // To drain is to read no more from clients that say nothing; what the server still has to say reaches them.
    if (ended == plait::errc::end_of_stream || ended == plait::errc::draining) {
        auto passed_on = co_await to.shutdown_send();
        ended = passed_on.error();
    }
    if (!ended) co_return;
    if (!failure && ended != plait::errc::canceled) failure = ended;
    both.request_stop();
}

plait::task<plait::io_result<void>> session(plait::tcp_stream client, const peer_name& target) {
    auto server = co_await plait::tcp_stream::connect(target.host, target.service);
    if (!server) co_return server.error();
    std::error_code failure;
    plait::task_group both;
    both.spawn(carry, std::ref(client), std::ref(*server), std::ref(both), std::ref(failure));
    both.spawn(carry, std::ref(*server), std::ref(client), std::ref(both), std::ref(failure));
    co_await both.join();
    if (failure) co_return failure;
    co_return co_await server->close();
}

plait::task<int> serve_proxy(plait::endpoint local, peer_name target, plait::backend backend) {
    auto listener = co_await plait::tcp_listener::bind(local);
    if (!listener) co_return example::failed("cannot listen on " + local.to_string(), listener.error());
    example::announce(*listener, co_await plait::this_context(), backend);

    auto start = [&target](plait::tcp_stream client) { return session(std::move(client), target); };
    plait::serve_options options;
    options.stop_on({SIGINT, SIGTERM}).on_error([](std::error_code error, const plait::endpoint& peer) {
        example::failed(peer.to_string(), error);
    });
    auto served = co_await plait::serve(std::move(*listener), start, options);
    co_return example::exit_code(served);
}

} // namespace

int main(int count, char** words) {
    example::arguments line(
        count, words,
        "tcp_proxy [--host ADDRESS] [--port N] [--backend automatic|io_uring|epoll|iocp]\n"
        "                 HOST PORT");
    const plait::backend backend = line.backend();
    const plait::endpoint local = line.local();
    const peer_name target = line.peer();
    line.end();
    return example::run(serve_proxy(local, target, backend), backend);
}
