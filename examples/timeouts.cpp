// Time-outs and cancellation: how to stop waiting without losing anything. One process talks to itself over loopback.
//
//     timeouts
//
// Cancelling asks an operation to end, and waits until it has. So nothing uses a buffer behind one's back, and what
// had already arrived is there.

#include "arguments.hpp"
#include "program.hpp"

#include <array>
#include <chrono>

namespace {

using namespace std::chrono_literals;

void say(const char* what, const std::string& outcome) {
    std::printf("   %-20s %s\n", what, outcome.c_str());
}

// What a receive gave.
std::string told(const plait::io_result<std::size_t>& received, std::span<const std::byte> buffer) {
    if (!received) return received.error().message();
    return '"' + std::string(plait::as_text(buffer.first(*received))) + '"';
}

// Sleeps for an hour. Told to stop, it has a second to tidy up, which a stop alone would not give it.
plait::task<> worker(const char* name) {
    auto slept = co_await plait::sleep_for(1h);
    say(name, slept.error().message());
    auto tidied = co_await plait::shielded(plait::sleep_for(1ms), 1s);
    say(name, tidied ? "has tidied up" : tidied.error().message());
}

plait::task<int> show() {
    auto listener = (co_await plait::tcp_listener::bind({"127.0.0.1", 0})).value();
    auto sender = (co_await plait::tcp_stream::connect(listener.local_endpoint().value())).value();
    auto receiver = (co_await listener.accept()).value();
    std::array<std::byte, 1024> buffer{};

    std::puts("1. A time-out ends the waiting, not the connection");
    auto received = co_await plait::with_timeout(receiver.recv(buffer), 100ms);
    say("recv, 0.1 seconds", told(received, buffer));
    (co_await sender.send_all("late")).value();
    say("send_all", "\"late\"");
    received = co_await plait::with_timeout(receiver.recv(buffer), 1min);
    say("recv, a minute", told(received, buffer));

    std::puts("\n2. The first of several ends the others");
    auto first = co_await plait::when_any(receiver.recv(buffer), plait::sleep_for(100ms));
    say("first was", first.index == 0 ? "recv" : "sleep_for");
    say("recv says", told(*std::get<0>(first.results), buffer));

    std::puts("\n3. A group is told to stop, and waited for");
    plait::task_group workers;
    workers.spawn(worker, "worker 1");
    workers.spawn(worker, "worker 2");
    co_await plait::yield(); // now they have begun
    workers.request_stop();
    co_await workers.join();
    say("join", "both have ended");
    co_return 0;
}

} // namespace

int main(int count, char** words) {
    example::arguments line(count, words, "timeouts [--backend automatic|io_uring|epoll|iocp]");
    const plait::backend backend = line.backend();
    line.end();
    return example::run(show(), backend);
}
