// Everything at once, for as long as one likes: echo, frames, short connections, cancellations, resets and slow
// peers, between two contexts on two threads. At the end every byte, descriptor, connection and allocation is
// accounted for.
//
//     soak 60              a minute on the driver that PLAIT_BACKEND names, or the best one
//
// Ends with 0 if nothing was lost, and says what it did.

#include <plait/framing.hpp>
#include <plait/plait.hpp>
#include <plait/serve.hpp>

#include "support/connections.hpp"

#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using plait::errc;
using plait::task;
using plait::tcp_listener;
using plait::tcp_stream;

namespace {

using bytes = std::span<const std::byte>;

struct counts {
    std::uint64_t echoes = 0, frames = 0, connections = 0, cancelled = 0, resets = 0, slow = 0;
    std::uint64_t bytes = 0;
    std::uint64_t wrong = 0;  ///< bytes that came differently from how they left, or not at all
    std::uint64_t failed = 0; ///< operations that should have succeeded
};

/// What every client shares.
struct shared {
    plait::endpoint plain;
    plait::endpoint framed;
    std::chrono::steady_clock::time_point until;
    counts done;
    std::mt19937_64 random{4711};

    /// On a busy machine the first connection may take longer than the time that was asked for.
    bool over() const { return done.connections > 0 && std::chrono::steady_clock::now() >= until; }
    std::size_t any(std::size_t below) { return static_cast<std::size_t>(random() % below); }
    void expect(bool good) { done.failed += !good; }
};

// --- the servers ---------------------------------------------------------------------------------------------------

task<> echo(tcp_stream stream) {
    while (auto received = co_await stream.recv())
        if (!co_await stream.send_all(received->bytes())) break;
}

task<> echo_frames(tcp_stream stream) {
    plait::framed messages{std::move(stream), plait::length_prefix{}};
    while (auto message = co_await messages.next())
        if (!co_await messages.write(*message)) break;
}

struct server {
    plait::io_context context;
    std::atomic<std::uint32_t> ports{0};
    std::uint64_t left_over = 0; ///< connections that still live after the drain
    bool served = false;

    task<> run() {
        auto plain = co_await support::loopback_listener();
        auto framed = co_await support::loopback_listener();
        const std::uint32_t first = plain.local_endpoint()->port(), second = framed.local_endpoint()->port();
        ports = first << 16 | second;
        auto [one, two] = co_await plait::when_all(plait::serve(std::move(plain), echo),
                                                   plait::serve(std::move(framed), echo_frames));
        served = one.has_value() && two.has_value();
    }
};

// --- the clients ---------------------------------------------------------------------------------------------------

task<tcp_stream> connect(shared& all, plait::endpoint to) {
    auto stream = co_await tcp_stream::connect(to);
    all.expect(stream.has_value());
    ++all.done.connections;
    co_return stream ? std::move(*stream) : tcp_stream();
}

/// `size` bytes from `place` on; half of them are sent in one piece, the others are cut.
task<> tell(shared& all, tcp_stream& stream, std::size_t place, std::size_t size) {
    const bool cut = all.any(2) == 1;
    while (size > 0) {
        const auto piece = support::sequence::at(place, cut ? std::min(size, 1 + all.any(5000)) : size);
        auto sent = co_await stream.send_all(piece);
        all.expect(sent.has_value());
        if (!sent) break;
        place += piece.size();
        size -= piece.size();
    }
}

/// Receives until `size` bytes have come; a time-out now and then loses none.
task<> hear(shared& all, tcp_stream& stream, std::size_t place, std::size_t size, bool impatient) {
    std::vector<std::byte> room(8192);
    while (size > 0) {
        const auto part = std::span(room).first(std::min(size, 1 + all.any(room.size())));
        const bool hurries = impatient && all.any(4) == 0;
        auto receiving = stream.recv(part);
        auto got = hurries ? co_await plait::with_timeout(stream.recv(part),
                                                          std::chrono::microseconds(all.any(2000)))
                           : co_await receiving;
        if (!got && got.error() == errc::timed_out) {
            ++all.done.cancelled;
            continue;
        }
        all.expect(got.has_value());
        if (!got) break;
        all.done.wrong += !support::sequence::holds(place, bytes(part).first(*got));
        place += *got;
        size -= *got;
        all.done.bytes += *got;
    }
    all.done.wrong += size;
}

task<> echo_client(shared& all, bool impatient) {
    while (!all.over()) {
        tcp_stream stream = co_await connect(all, all.plain);
        std::size_t place = all.any(support::sequence::period);
        for (std::size_t rounds = 1 + all.any(30); rounds > 0; --rounds) {
            const std::size_t size = 1 + all.any(all.any(10) == 0 ? 200'000 : 2000);
            co_await plait::when_all(tell(all, stream, place, size),
                                     hear(all, stream, place, size, impatient));
            place += size;
            ++all.done.echoes;
        }
        auto closed = co_await stream.close();
        all.expect(closed.has_value());
    }
}

using framed_stream = plait::framed<tcp_stream, plait::length_prefix>;

task<> write_frames(shared& all, framed_stream& messages, const std::vector<std::size_t>& sizes) {
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        auto written = co_await messages.write(support::sequence::at(i * 100, sizes[i]));
        all.expect(written.has_value());
    }
}

task<> read_frames(shared& all, framed_stream& messages, const std::vector<std::size_t>& sizes) {
    for (std::size_t i = 0; i < sizes.size();) {
        // Waiting with a time-out takes the frame's place in no queue: the next wait goes on where this one stopped.
        auto got =
            all.any(4) == 0 ? co_await plait::with_timeout(messages.next(), 1ms) : co_await messages.next();
        if (!got && got.error() == errc::timed_out) {
            ++all.done.cancelled;
            continue;
        }
        all.expect(got.has_value());
        if (!got) break;
        const auto expected = support::sequence::at(i * 100, sizes[i]);
        all.done.wrong +=
            got->size() != expected.size() || !std::equal(got->begin(), got->end(), expected.begin());
        all.done.bytes += got->size();
        ++all.done.frames;
        ++i;
    }
}

task<> framed_client(shared& all) {
    while (!all.over()) {
        framed_stream messages{co_await connect(all, all.framed), plait::length_prefix{}};
        std::vector<std::size_t> sizes(1 + all.any(200));
        for (std::size_t& each : sizes) each = all.any(all.any(20) == 0 ? 50'000 : 300);
        co_await plait::when_all(write_frames(all, messages, sizes), read_frames(all, messages, sizes));
        auto closed = co_await messages.close();
        all.expect(closed.has_value());
    }
}

task<> churn_client(shared& all) {
    while (!all.over()) {
        tcp_stream stream = co_await connect(all, all.plain);
        co_await tell(all, stream, 0, 10);
        co_await hear(all, stream, 0, 10, false);
        ++all.done.echoes;
        if (all.any(2) == 0) static_cast<void>(co_await stream.close());
    }
}

/// Leaves with a reset: at once, inside a frame, or with answers unread.
task<> reset_client(shared& all) {
    while (!all.over()) {
        tcp_stream stream = co_await connect(all, all.any(2) == 0 ? all.plain : all.framed);
        const std::size_t size = all.any(20'000);
        const std::string start_of_frame = std::string("\0\0\x7f\xff", 4) + std::string(size, 'x');
        static_cast<void>(co_await stream.send(start_of_frame));
        static_cast<void>(stream.set_linger(0s));
        ++all.done.resets;
        co_await plait::yield();
    }
}

/// One byte at a time.
task<> slow_client(shared& all) {
    while (!all.over()) {
        tcp_stream stream = co_await connect(all, all.framed);
        const std::string frame = std::string("\0\0\0\5", 4) + "hello";
        for (const char& each : frame) {
            all.expect((co_await stream.send_all(std::string_view(&each, 1))).has_value());
            static_cast<void>(co_await plait::sleep_for(1ms));
        }
        std::string answer(frame.size(), '\0');
        for (char& each : answer)
            all.expect(
                (co_await stream.recv_exactly(std::as_writable_bytes(std::span(&each, 1)))).has_value());
        all.done.wrong += answer != frame;
        ++all.done.slow;
    }
}

task<> clients(shared& all) {
    plait::task_group group;
    for (int i = 0; i < 8; ++i) group.spawn(echo_client, std::ref(all), i % 2 == 1);
    for (int i = 0; i < 8; ++i) group.spawn(framed_client, std::ref(all));
    for (int i = 0; i < 4; ++i) group.spawn(churn_client, std::ref(all));
    for (int i = 0; i < 2; ++i) group.spawn(reset_client, std::ref(all));
    for (int i = 0; i < 50; ++i) group.spawn(slow_client, std::ref(all));
    co_await group.join();
}

/// One run of everything; what it says goes to `all`.
bool run(shared& all) {
    server serving;
    std::thread other([&] {
        serving.context.run(serving.run());
        serving.left_over = serving.context.metrics().connections;
    });
    while (serving.ports == 0) std::this_thread::yield();
    all.plain = plait::endpoint("127.0.0.1", static_cast<std::uint16_t>(serving.ports >> 16));
    all.framed = plait::endpoint("127.0.0.1", static_cast<std::uint16_t>(serving.ports & 0xffff));
    // On a thread of its own: with it goes the memory that it keeps for its next frames.
    std::thread here([&] {
        plait::io_context context;
        context.run(clients(all));
        all.done.failed += context.metrics().connections;
    });
    here.join();
    serving.context.request_drain();
    other.join();
    all.done.failed += serving.left_over;
    return serving.served;
}

} // namespace

int main(int count, char** words) {
    const long seconds = count == 2 ? std::strtol(words[1], nullptr, 10) : 0;
    if (seconds <= 0) {
        std::fputs("usage: soak SECONDS\n", stderr);
        return 2;
    }
    // The first second warms up whatever is allocated once.
    shared warm_up, all;
    warm_up.until = std::chrono::steady_clock::now() + std::min(1s, std::chrono::seconds(seconds));
    run(warm_up);
    const std::size_t descriptors = support::open_descriptors();
    const std::size_t heap = support::live_heap_bytes().value_or(0);

    all.until = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    const bool served = run(all);
    const auto more_heap =
        static_cast<std::int64_t>(support::live_heap_bytes().value_or(0)) - static_cast<std::int64_t>(heap);
    const std::size_t descriptors_after = support::open_descriptors();

    const counts& done = all.done;
    std::printf("%" PRIu64 " connections, %" PRIu64 " echoes, %" PRIu64 " frames, %" PRIu64
                " slow frames, %" PRIu64 " resets, %" PRIu64 " time-outs, %" PRIu64 " MB\n",
                done.connections, done.echoes, done.frames, done.slow, done.resets, done.cancelled,
                done.bytes / 1'000'000);
    std::printf("wrong or lost: %" PRIu64 ", failed: %" PRIu64
                ", descriptors: %zu before and %zu after, heap: %+" PRId64 " bytes\n",
                done.wrong, done.failed, descriptors, descriptors_after, more_heap);
    constexpr std::int64_t noise = 4096; // the C library's own
    const bool good = served && done.wrong == 0 && done.failed == 0 && descriptors == descriptors_after &&
                      more_heap <= noise && done.connections > 0;
    std::puts(good ? "nothing leaked, nothing lost" : "SOMETHING IS WRONG");
    return good ? 0 : 1;
}
