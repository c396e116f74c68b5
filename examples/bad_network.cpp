// A server of frames and its clients in one process, on a simulated network where all goes wrong that can. What a seed
// has done it does again, to the last byte: a failure that was found once can be looked at as often as one likes.
//
//     bad_network                       seed 1
//     bad_network --seed 7              another run
//     bad_network --seed 7 --events     every event of it, in order
//
// It prints which connections failed and why, and that every answer was the right one. Minutes pass in no time.

#include "arguments.hpp"
#include "program.hpp"

#include <plait/testing/simulated_network.hpp>

#include <chrono>

namespace {

const plait::endpoint place{"10.0.0.1", 8000}; // any address will do
constexpr int frames = 50;

struct tally {
    int right = 0;
    int wrong = 0;
    int failed = 0;
};

// The server under test. It is the same that would run on a real network.
plait::task<> session(plait::tcp_stream stream) {
    plait::framed messages{std::move(stream), plait::length_prefix{}};
    while (auto message = co_await messages.next())
        if (!co_await messages.write(*message)) break;
}

// Sends numbered frames, each behind the answer to the one before.
plait::task<plait::io_result<void>> exchange(int number, tally& counts) {
    auto stream = co_await plait::tcp_stream::connect(place);
    if (!stream) co_return stream.error();
    plait::framed messages{std::move(*stream), plait::length_prefix{}};
    for (int i = 0; i < frames; ++i) {
        const std::string sent =
            std::to_string(number) + ':' + std::string(static_cast<std::size_t>(i) * 40, 'x');
        auto written = co_await messages.write(sent);
        if (!written) co_return written;
        auto answer = co_await messages.next();
        if (!answer) co_return answer.error();
        ++(plait::as_text(*answer) == sent ? counts.right : counts.wrong);
    }
    co_return co_await messages.close();
}

plait::task<> client(int number, tally& counts) {
    auto ended = co_await exchange(number, counts);
    if (ended) co_return;
    ++counts.failed;
    example::print_line("client " + std::to_string(number) + ": " + ended.error().message());
}

plait::task<> serve() {
    auto listener = co_await plait::tcp_listener::bind(place);
    static_cast<void>(co_await plait::serve(std::move(listener).value(), session));
}

plait::task<int> test(int clients, tally& counts) {
    plait::task_group serving, calling;
    serving.spawn(serve);
    co_await plait::yield(); // now it listens
    for (int i = 1; i <= clients; ++i) calling.spawn(client, i, std::ref(counts));
    co_await calling.join();
    (co_await plait::this_context()).request_drain();
    co_await serving.join();
    co_return counts.wrong > 0 ? 1 : 0;
}

} // namespace

int main(int count, char** words) {
    example::arguments line(count, words, "bad_network [--seed N] [--clients N] [--events]");
    plait::testing::simulated_network network(line.number("--seed", 1, 0, UINT64_MAX));
    const int clients = static_cast<int>(line.number("--clients", 20, 1, 10'000));
    network.every_fault();
    if (line.flag("--events")) network.on_event(example::print_line);
    line.end();

    tally counts;
    const auto begun = network.now();
    const int code = plait::run(test(clients, counts), network.options());
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(network.now() - begun).count();
    std::printf("%d answers were right and %d wrong; %d of %d connections failed\n", counts.right,
                counts.wrong, counts.failed, clients);
    std::printf("%lld seconds were simulated; seed %llu, trace %016llx\n", static_cast<long long>(seconds),
                static_cast<unsigned long long>(network.seed()),
                static_cast<unsigned long long>(network.trace()));
    return code;
}
