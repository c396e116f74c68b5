// A UDP server that sends each datagram back to whom it came from.
//
//     udp_echo_server             until Ctrl-C
//     udp_echo_server --upper     answers in upper case
//     udp_echo_server --threads 4 on so many cores, where sockets can share a port; 0: on all of them
//
// It prints "listening on 127.0.0.1:8000 (io_uring)". Talk to it with: udp_echo_client 127.0.0.1 8000

#include "arguments.hpp"
#include "program.hpp"

#include <algorithm>
#include <csignal>
#include <future>
#include <stop_token>

namespace {

struct settings {
    plait::endpoint local;
    bool upper;
    std::size_t threads;
    plait::backend backend;
};

// What the threads share. Each has a socket of its own on one port, and the kernel spreads the senders over them.
struct team {
    std::promise<std::optional<plait::endpoint>>
        opened; // by the first thread; nothing: there is nothing to join
    std::shared_future<std::optional<plait::endpoint>> port{opened.get_future()};
    std::stop_source stop; // ends all contexts
};

// There are no connections, so one task hears everybody: each datagram tells who sent it.
plait::task<std::error_code> answer(plait::udp_socket& socket, settings how, bool first) {
    if (first) example::announce(socket, co_await plait::this_context(), how.backend);
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

// The port of a socket that was bound as if it were alone, so that a port in use is noticed; now others may join.
std::optional<plait::endpoint> open_port(plait::udp_socket& socket) {
    if (auto shared = socket.set_reuse_port(true); !shared) {
        example::failed("only one thread receives", shared.error());
        return std::nullopt;
    }
    return socket.local_endpoint().value();
}

plait::task<plait::io_result<plait::udp_socket>> open(settings how, team& all, bool first) {
    plait::udp_options options;
    if (!first) {
        how.local = *all.port.get();
        options.reuse_port();
    }
    auto socket = co_await plait::udp_socket::bind(how.local, options);
    if (first) all.opened.set_value(socket && how.threads != 1 ? open_port(*socket) : std::nullopt);
    co_return socket;
}

// On each thread.
plait::task<int> serve_echo(settings how, team& all, bool first) {
    // It blocks for a moment; but nothing else runs on this thread yet.
    if (!first && !all.port.get()) co_return 0;
    auto socket = co_await open(how, all, first);
    if (!socket) {
        all.stop.request_stop();
        co_return example::failed("cannot listen on " + how.local.to_string(), socket.error());
    }
    const plait::signal_list stop(SIGINT, SIGTERM);
    auto end = co_await plait::when_any(plait::wait_for_signal(stop), answer(*socket, how, first));
    all.stop.request_stop(); // it may have come before another thread waited for it
    if (end.index == 0) co_return 0;
    co_return example::failed("cannot go on receiving", *std::get<1>(end.results));
}

} // namespace

int main(int count, char** words) {
    example::arguments line(count, words,
                            "udp_echo_server [--host ADDRESS] [--port N] [--upper] [--threads N]\n"
                            "                       [--backend automatic|io_uring|epoll|iocp]");
    settings how{};
    how.backend = line.backend();
    how.local = line.local();
    how.upper = line.flag("--upper");
    how.threads = line.threads();
    line.end();
    team all;
    auto work = [&](std::size_t index) { return example::with_dumps(serve_echo(how, all, index == 0)); };
    const auto options = plait::context_options().backend(how.backend).stop(all.stop.get_token());
    return example::guarded([&] {
        const std::vector<int> codes = plait::run_per_core(how.threads, work, options);
        return *std::max_element(codes.begin(), codes.end());
    });
}
