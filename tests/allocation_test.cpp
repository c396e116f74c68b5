// A promise: no heap allocation per message and per accepted connection once everything is warm, counted at malloc
// and mmap on the server's thread. The other side is a plain client on a thread of its own.

#include <plait/framing.hpp>
#include <plait/io_context.hpp>
#include <plait/serve.hpp>
#include <plait/stream.hpp>
#include <plait/tcp.hpp>

#include "support/allocations.hpp"
#include "support/plain_client.hpp"
#include "support/scale.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <cstdlib>
#include <string>
#include <thread>

using plait::task;
using plait::tcp_listener;
using plait::tcp_stream;
using support::plain_client;
using support::scaled;

namespace {

constexpr const char* why_not = "malloc cannot be counted in this build";

/// Counts on the server's thread, between the messages that start and end the measured part.
struct meter {
    std::size_t warm_up;
    std::size_t measured;
    std::size_t seen = 0;
    std::uint64_t at_start = 0;
    std::uint64_t count = 0;
    std::uint64_t bytes = 0;
    bool complete = false;

    void tick() {
        if (++seen == warm_up) {
            at_start = support::allocations();
            bytes = support::allocated_bytes();
        } else if (seen == warm_up + measured) {
            count = support::allocations() - at_start;
            bytes = support::allocated_bytes() - bytes;
            complete = true;
        }
    }
};

/// Serves with `session(stream, meter)` while `client(port)` runs on another thread.
template <class Session, class Client>
meter measure(std::size_t warm_up, std::size_t measured, Session session, Client client) {
    meter counts{warm_up, measured};
    plait::io_context context;
    auto body = [&]() -> task<> {
        auto listener = co_await tcp_listener::bind({"127.0.0.1", 0});
        const auto port = listener.value().local_endpoint().value().port();
        std::thread other([&] {
            client(port);
            context.request_drain();
        });
        auto bound = [&](tcp_stream stream) { return session(std::move(stream), counts); };
        auto result = co_await plait::serve(std::move(listener).value(), bound);
        other.join();
        CHECK(result);
    };
    context.run(body());
    return counts;
}

/// Sends `message`, `in_flight` of them at a time, and takes as many back.
auto round_trips(std::string message, std::size_t count, std::size_t in_flight = 1) {
    return [=](std::uint16_t port) {
        plain_client client(port);
        std::string batch;
        for (std::size_t i = 0; i < in_flight; ++i) batch += message;
        for (std::size_t i = 0; i < count; i += in_flight) {
            if (!client.send(batch)) std::abort();
            if (client.receive(batch.size()) != batch) std::abort();
        }
    };
}

/// What happens seldom may still be cold after the warm-up, and is warm in the next attempt: recycled memory stays
/// with the thread. What allocates steadily does so in every attempt.
template <class Session, class Client>
void check(std::size_t warm_up, std::size_t measured, Session session, Client client) {
    meter counts = measure(warm_up, measured, session, client);
    for (int again = 0; again < 3 && counts.count > 0; ++again)
        counts = measure(warm_up, measured, session, client);
    CHECK(counts.complete);
    INFO(counts.count << " allocations of " << counts.bytes << " bytes in " << counts.measured << " rounds");
    CHECK(counts.count == 0);
}

constexpr std::size_t warm_up = 1000;
std::size_t rounds() { return scaled(5000); }

std::string framed_text(std::size_t size) {
    std::string text(4, '\0');
    for (std::size_t i = 0; i < 4; ++i) text[i] = static_cast<char>(size >> (24 - 8 * i));
    return text.append(size, 'x');
}

task<> echo_leases(tcp_stream stream, meter& counts) {
    while (auto received = co_await stream.recv()) {
        counts.tick();
        if (!co_await stream.send_all(received->bytes())) break;
    }
}

task<> echo_buffer(tcp_stream stream, meter& counts) {
    std::array<std::byte, 1024> buffer;
    while (auto received = co_await stream.recv(buffer)) {
        counts.tick();
        if (!co_await stream.send_all(std::span(buffer).first(*received))) break;
    }
}

task<> echo_exactly(tcp_stream stream, meter& counts) {
    std::array<std::byte, 100> buffer;
    while (co_await stream.recv_exactly(buffer)) {
        counts.tick();
        if (!co_await stream.send_all(buffer)) break;
    }
}

task<> echo_frames(tcp_stream stream, meter& counts) {
    plait::framed messages{std::move(stream), plait::length_prefix{}};
    while (auto message = co_await messages.next()) {
        counts.tick();
        if (!co_await messages.write(*message)) break;
    }
}

task<> echo_by_halves(tcp_stream stream, meter& counts) {
    plait::frame_reader reader{stream, plait::length_prefix{}};
    plait::frame_writer writer{stream, plait::length_prefix{}};
    while (auto message = co_await reader.next()) {
        counts.tick();
        if (!co_await writer.write(*message)) break;
        if (!co_await writer.flush()) break;
    }
}

} // namespace

TEST_CASE("the counter counts", "[allocation]") {
    if (!support::counts_allocations()) SKIP(why_not);
    const auto before = support::allocations();
    const auto bytes = support::allocated_bytes();
    void* volatile block = std::malloc(100);
    std::free(block);
    CHECK(support::allocations() - before == 1);
    CHECK(support::allocated_bytes() - bytes == 100);
    support::map_a_page();
    CHECK(support::allocations() - before == 2);
    auto* volatile made = new int(3);
    delete made;
    CHECK(support::allocations() - before == 3);
    std::uint64_t elsewhere = 1;
    std::thread([&] {
        const auto start = support::allocations();
        void* volatile theirs = std::malloc(10);
        std::free(theirs);
        elsewhere = support::allocations() - start;
    }).join();
    CHECK(elsewhere == 1);
}

TEST_CASE("a plain message there and back allocates nothing", "[allocation]") {
    if (!support::counts_allocations()) SKIP(why_not);
    const std::string message(100, 'x');
    const auto client = round_trips(message, warm_up + rounds());
    SECTION("with recv()") { check(warm_up, rounds(), echo_leases, client); }
    SECTION("with recv(span)") { check(warm_up, rounds(), echo_buffer, client); }
    SECTION("with recv_exactly") { check(warm_up, rounds(), echo_exactly, client); }
}

TEST_CASE("a frame there and back allocates nothing", "[allocation]") {
    if (!support::counts_allocations()) SKIP(why_not);
    for (const std::size_t size : {std::size_t{0}, std::size_t{64}, std::size_t{3000}, std::size_t{20'000}}) {
        INFO("payload of " << size);
        const std::size_t count = size > 4096 ? rounds() / 5 : rounds();
        check(warm_up, count, echo_frames, round_trips(framed_text(size), warm_up + count));
        check(warm_up, count, echo_by_halves, round_trips(framed_text(size), warm_up + count));
    }
}

TEST_CASE("sixteen frames in flight allocate nothing", "[allocation]") {
    if (!support::counts_allocations()) SKIP(why_not);
    for (const std::size_t size : {std::size_t{64}, std::size_t{1000}}) {
        INFO("payload of " << size);
        const std::size_t count = rounds() / 16 * 16, before = warm_up / 16 * 16;
        check(before, count, echo_frames, round_trips(framed_text(size), before + count, 16));
    }
}

TEST_CASE("frames that arrive in pieces allocate nothing", "[allocation]") {
    if (!support::counts_allocations()) SKIP(why_not);
    const std::string message = framed_text(500);
    auto client = [&](std::uint16_t port) {
        plain_client peer(port);
        for (std::size_t i = 0; i < warm_up + rounds(); ++i) {
            const std::size_t middle = 1 + i % (message.size() - 1);
            if (!peer.send(std::string_view(message).substr(0, middle))) std::abort();
            if (!peer.send(std::string_view(message).substr(middle))) std::abort();
            if (peer.receive(message.size()) != message) std::abort();
        }
    };
    check(warm_up, rounds(), echo_frames, client);
}

TEST_CASE("a connection that is accepted, used and closed allocates nothing", "[allocation]") {
    if (!support::counts_allocations()) SKIP(why_not);
    const std::size_t before = scaled(300), count = scaled(1000);
    auto client = [&](std::string message) {
        return [message, before, count](std::uint16_t port) {
            for (std::size_t i = 0; i < before + count; ++i) {
                plain_client peer(port);
                if (!peer.send(message)) std::abort();
                if (peer.receive(message.size()) != message) std::abort();
            }
        };
    };
    SECTION("with recv()") { check(before, count, echo_leases, client("hello")); }
    SECTION("with recv(span)") { check(before, count, echo_buffer, client("hello")); }
    SECTION("with framed") { check(before, count, echo_frames, client(framed_text(5))); }
}

TEST_CASE("a connection that the server ends politely allocates nothing", "[allocation]") {
    if (!support::counts_allocations()) SKIP(why_not);
    const std::size_t before = scaled(300), count = scaled(1000);
    auto session = [](tcp_stream stream, meter& counts) -> task<> {
        counts.tick();
        plait::framed messages{std::move(stream), plait::lines{}};
        auto message = co_await messages.next();
        if (message) static_cast<void>(co_await messages.write(*message));
    };
    auto client = [&](std::uint16_t port) {
        for (std::size_t i = 0; i < before + count; ++i) {
            plain_client peer(port);
            if (!peer.send("hello\n")) std::abort();
            int error = 0;
            if (peer.receive_all(error) != "hello\n" || error != 0) std::abort();
        }
    };
    check(before, count, session, client);
}
