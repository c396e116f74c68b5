// A server on a Unix socket that sends back what it receives, to many clients at once.
//
//     unix_echo_server /tmp/echo.sock             until Ctrl-C; then the sessions may finish what has arrived
//     unix_echo_server /tmp/echo.sock --upper     answers in upper case
//     unix_echo_server /tmp/echo.sock --threads 4     on so many cores; 0: on all of them
//
// It prints "listening on /tmp/echo.sock (io_uring)", and removes that file at the end. Talk to it with:
// unix_echo_client /tmp/echo.sock. On Linux a path that begins with '@' is an abstract name, without a file.

#include "arguments.hpp"
#include "program.hpp"

#include <csignal>

namespace {

struct settings {
    plait::unix_path path;
    bool upper;
    plait::backend backend;
    std::optional<plait::activated_listener> given; // by a supervisor, in place of what we would open
};

// One client, from its first message to its last.
plait::task<> session(plait::unix_stream stream, bool upper) {
    while (auto received = co_await stream.recv()) {
        if (upper) example::make_upper(received->bytes());
        if (!co_await stream.send_all(received->bytes())) break;
    }
}

// On each thread.
plait::task<plait::io_result<void>> serve_echo(settings how) {
    auto start = [how](plait::unix_stream stream) { return session(std::move(stream), how.upper); };
    plait::serve_options options;
    options.stop_on({SIGINT, SIGTERM});
    options.on_listening(example::announcement(co_await plait::this_context(), how.backend));
    if (how.given) co_return co_await plait::serve_per_core(*how.given, start, options);
    co_return co_await plait::serve_per_core(how.path, start, options);
}

} // namespace

int main(int count, char** words) {
    example::arguments line(
        count, words,
        "unix_echo_server PATH [--upper] [--threads N] [--backend automatic|io_uring|epoll|iocp]");
    settings how{};
    how.backend = line.backend();
    how.upper = line.flag("--upper");
    how.given = example::given_listener();
    if (!how.given) how.path = line.path();
    const std::size_t threads = line.threads();
    line.end();
    return example::run_per_core(threads, how.backend, how.path.to_string(),
                                 [how] { return serve_echo(how); });
}
