// A TCP server that sends back what it receives, to many clients at once.
//
//     tcp_echo_server                     until Ctrl-C; then the sessions may finish what has arrived
//     tcp_echo_server --upper             answers in upper case
//     tcp_echo_server --upper --once      one exchange with one client, then it ends
//     tcp_echo_server --threads 4         on so many cores; 0: on all of them
//
// It prints "listening on 127.0.0.1:8000 (io_uring)". Talk to it with: tcp_echo_client 127.0.0.1 8000

#include "arguments.hpp"
#include "program.hpp"

#include <csignal>

namespace {

struct settings {
    plait::endpoint local;
    int backlog;
    bool upper;
    bool once;
    std::size_t threads;
    plait::backend backend;
    std::optional<plait::activated_listener> given; // by a supervisor, in place of what we would open
};

using example::make_upper;

// One client, from its first message to its last.
plait::task<> session(plait::tcp_stream stream, bool upper) {
    while (auto received = co_await stream.recv()) { // a lease on a pooled buffer
        if (upper) make_upper(received->bytes());    // in place
        if (!co_await stream.send_all(received->bytes())) break;
    }
}

// One exchange with one client; then the server has done its work.
plait::task<> exchange(plait::tcp_stream stream, bool upper) {
    if (auto received = co_await stream.recv()) {
        if (upper) make_upper(received->bytes());
        static_cast<void>(co_await stream.send_all(received->bytes()));
    }
    static_cast<void>(co_await stream.close());
    plait::io_context& context = co_await plait::this_context();
    context.request_stop();
}

// On each thread.
plait::task<plait::io_result<void>> serve_echo(settings how) {
    plait::listen_options listening;
    listening.backlog(how.backlog);
    auto start = [how](plait::tcp_stream stream) {
        return how.once ? exchange(std::move(stream), how.upper) : session(std::move(stream), how.upper);
    };
    plait::serve_options options;
    options.stop_on({SIGINT, SIGTERM});
    options.on_listening(example::announcement(co_await plait::this_context(), how.backend));
    if (how.once) options.max_connections(1);
    if (how.given) co_return co_await plait::serve_per_core(*how.given, start, options);
    co_return co_await plait::serve_per_core(how.local, start, options, listening);
}

} // namespace

int main(int count, char** words) {
    example::arguments line(count, words,
                            "tcp_echo_server [--host ADDRESS] [--port N] [--backlog N] [--upper] [--once]\n"
                            "                       [--threads N] [--backend automatic|io_uring|epoll|iocp]");
    settings how{};
    how.backend = line.backend();
    how.local = line.local();
    how.backlog = static_cast<int>(line.number("--backlog", 128, 1, 65535));
    how.upper = line.flag("--upper");
    how.once = line.flag("--once");
    how.threads = line.threads();
    how.given = example::given_listener();
    line.end();
    return example::run_per_core(how.threads, how.backend, how.local.to_string(),
                                 [how] { return serve_echo(how); });
}
