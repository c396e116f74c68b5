/// Servers and their clients on simulated networks, with every fault, for many seeds.
#include <plait/framing.hpp>
#include <plait/plait.hpp>
#include <plait/testing/simulated_network.hpp>

#include "support/scale.hpp"
#include "support/serving.hpp"
#include "support/simulations.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <vector>

using namespace std::chrono_literals;
using plait::endpoint;
using plait::errc;
using plait::task;
using plait::task_group;
using plait::tcp_listener;
using plait::tcp_stream;
using plait::testing::simulated_network;
using support::listen_at;
using support::numbered_text;
using support::scaled;
using support::server_address;
using support::stopwatch;

namespace {
const std::vector<std::errc> out_of_files{std::errc::too_many_files_open};
} // namespace

// --- the model: frames arrive whole, in order, once, or the connection has failed -------------------------------------------

namespace {

struct storm_result {
    std::size_t sent = 0;     ///< frames
    std::size_t answered = 0; ///< frames
    std::size_t whole = 0;    ///< connections on which every frame came back
    std::size_t failed = 0;
    plait::steady_duration took{};
    std::uint64_t trace = 0;

    friend bool operator==(const storm_result&, const storm_result&) = default;
};

/// A frame says whose it is and which, and has a size and bytes that follow from that.
std::string frame_of(std::size_t client, std::size_t index) {
    const std::size_t number = client * 1000 + index;
    const std::size_t size = number % 7 == 0 ? 0 : number * 7919 % (number % 5 == 0 ? 9000 : 300);
    return std::to_string(client) + ' ' + std::to_string(index) + ' ' + numbered_text(number, size);
}

task<> storm_session(tcp_stream stream, std::map<std::string, std::size_t>& next_of) {
    plait::framed messages{std::move(stream), plait::length_prefix{}};
    std::string client;
    while (auto message = co_await messages.next()) {
        const std::string_view text = plait::as_text(*message);
        const std::string name(text.substr(0, text.find(' ')));
        const bool first = client.empty();
        if (first) client = name;
        CHECK(name == client);
        std::size_t& index = next_of[client];
        CHECK(!(first && index > 0)); // of each client there is one connection
        CHECK(text == frame_of(std::stoul(name), index));
        ++index;
        if (!co_await messages.write(*message)) co_return;
    }
}

task<> storm_client(std::size_t client, std::size_t frames, storm_result& result) {
    auto stream = co_await tcp_stream::connect(server_address);
    if (!stream) {
        const std::error_code error = stream.error();
        CHECK((error == std::errc::connection_refused || error == std::errc::timed_out));
        ++result.failed;
        co_return;
    }
    plait::framed messages{std::move(*stream), plait::length_prefix{}};
    std::error_code write_error;
    auto writes = [&]() -> task<> {
        for (std::size_t i = 0; i < frames && !write_error; ++i) {
            auto written = co_await messages.write(frame_of(client, i));
            write_error = written.error();
            if (!write_error) ++result.sent;
            if (i % 3 == 0) co_await plait::sleep_for(std::chrono::milliseconds(client % 40));
        }
        if (!write_error) write_error = (co_await messages.stream().shutdown_send()).error();
    };
    task_group group;
    group.spawn(writes);
    std::size_t got = 0;
    std::error_code read_error;
    while (!read_error) {
        auto message = co_await messages.next();
        read_error = message.error();
        if (read_error) break;
        CHECK(plait::as_text(*message) == frame_of(client, got));
        ++got;
    }
    co_await group.join();
    result.answered += got;
    CHECK(got <= frames);
    if (read_error == errc::end_of_stream && !write_error) CHECK(got == frames);
    if (got == frames)
        ++result.whole;
    else
        ++result.failed;
}

/// A server and its clients; each fault, as `network` says.
storm_result storm(simulated_network& network, std::size_t clients, std::size_t frames) {
    storm_result result;
    const plait::steady_time begun = network.now();
    auto body = [&]() -> task<> {
        tcp_listener listener = co_await listen_at(server_address);
        std::map<std::string, std::size_t> next_of;
        auto session = [&](tcp_stream stream) { return storm_session(std::move(stream), next_of); };
        auto serves = [&]() -> task<> {
            auto served = co_await plait::serve(std::move(listener), session);
            CHECK(served.error() == std::error_code());
        };
        task_group serving, calling;
        serving.spawn(serves);
        for (std::size_t i = 1; i <= clients; ++i) calling.spawn(storm_client, i, frames, std::ref(result));
        co_await calling.join();
        (co_await plait::this_context()).request_drain();
        co_await serving.join();
    };
    plait::run(body(), network.options());
    result.took = network.now() - begun;
    result.trace = network.trace();
    return result;
}

} // namespace

TEST_CASE("on a network without faults every frame of every client comes back", "[simulated]") {
    simulated_network network(1);
    const storm_result result = storm(network, 200, 20);
    CHECK(result.whole == 200);
    CHECK(result.answered == 200 * 20);
    CHECK(result.failed == 0);
}

TEST_CASE("under every fault frames come back whole, in order and once, or their connection has failed",
          "[simulated]") {
    std::size_t whole = 0, failed = 0;
    for (std::uint64_t seed = 1; seed <= scaled(30); ++seed) {
        INFO("seed " << seed); // replays it
        simulated_network network(seed);
        network.every_fault();
        const storm_result result = storm(network, 200, 10);
        whole += result.whole;
        failed += result.failed;
        CHECK(result.whole + result.failed == 200);
    }
    CHECK(whole > failed);
    CHECK(failed > 0);
}

TEST_CASE("one seed replays to the last event, another takes another way", "[simulated]") {
    std::vector<std::uint64_t> traces;
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        INFO("seed " << seed);
        auto once = [seed](std::vector<std::string>& lines) {
            simulated_network network(seed);
            network.every_fault().on_event([&](std::string_view line) { lines.emplace_back(line); });
            return storm(network, 40, 10);
        };
        std::vector<std::string> first_lines, second_lines;
        const storm_result first = once(first_lines);
        const storm_result second = once(second_lines);
        CHECK(first == second);
        CHECK(first_lines.size() > 1000);
        const bool same = first_lines == second_lines;
        CHECK(same);
        for (const std::uint64_t earlier : traces) CHECK(earlier != first.trace);
        traces.push_back(first.trace);
    }
}

TEST_CASE("the test's own chances follow from the seed and disturb nothing", "[simulated]") {
    simulated_network one(9), two(9), three(10);
    std::vector<std::uint64_t> a, b, c;
    for (int i = 0; i < 20; ++i) {
        a.push_back(one.random(1000));
        b.push_back(two.random(1000));
        c.push_back(three.random(1000));
        CHECK(a.back() < 1000);
    }
    CHECK(a == b);
    CHECK(a != c);
    one.latency(1ms, 9ms);
    two.latency(1ms, 9ms);
    static_cast<void>(one.random(5));
    CHECK(storm(one, 5, 5).trace == storm(two, 5, 5).trace);
    CHECK(one.random(0) == 0);
}

// --- serve -----------------------------------------------------------------------------------------------------------

TEST_CASE("a drain under traffic answers what had arrived, on every seed", "[simulated]") {
    for (std::uint64_t seed = 1; seed <= scaled(40); ++seed) {
        INFO("seed " << seed);
        simulated_network network(seed);
        network.latency(1ms, 20ms).cut_bytes().late_completions(0.2);
        std::size_t taken = 0, answered = 0;
        auto session = [&](tcp_stream stream) -> task<> {
            plait::framed messages{std::move(stream), plait::length_prefix{}};
            while (auto message = co_await messages.next()) {
                ++taken;
                if (!co_await messages.write(*message)) co_return;
            }
        };
        auto client = [&](endpoint where, std::size_t number) -> task<> {
            auto stream = co_await tcp_stream::connect(where);
            if (!stream) co_return; // it came too late
            plait::framed messages{std::move(*stream), plait::length_prefix{}};
            for (std::size_t i = 0;; ++i) {
                if (!co_await messages.write(numbered_text(number, i % 50))) break;
                auto answer = co_await messages.next();
                if (!answer) break;
                CHECK(plait::as_text(*answer) == numbered_text(number, i % 50));
                ++answered;
            }
        };
        auto clients = [&](endpoint where) -> task<> {
            task_group group;
            for (std::size_t i = 0; i < 20; ++i) group.spawn(client, where, i);
            co_await plait::sleep_for(std::chrono::milliseconds(100 + network.random(100)));
            co_await support::request_drain();
            co_await group.join();
        };
        const auto served = support::run_server(session, plait::serve_options().drain_timeout(10s), clients,
                                                network.options());
        CHECK(served.error() == std::error_code());
        CHECK(taken > 0);
        CHECK(answered == taken);
    }
}

TEST_CASE("serve's pauses, idle time-outs and drain deadlines go by the simulated clock", "[simulated]") {
    simulated_network network(1);
    std::error_code ended;
    plait::steady_time at;
    auto session = [&](tcp_stream stream) -> task<> {
        std::array<std::byte, 16> room;
        auto got = co_await stream.recv(room);
        ended = got.error();
        at = network.now();
    };
    auto client = [&](endpoint where) -> task<> {
        network.fail_accepts(1, out_of_files);
        const stopwatch watch(network);
        auto heals = [&]() -> task<> {
            co_await plait::sleep_for(1min);
            network.fail_accepts(0);
        };
        task_group group;
        group.spawn(heals);
        auto stream = co_await tcp_stream::connect(where);
        REQUIRE(stream.has_value());
        std::array<std::byte, 16> room;
        auto end = co_await stream->recv(room); // first accepting pauses, then the session idles
        CHECK(!end.has_value());
        CHECK(ended == errc::canceled);
        CHECK(watch.read() >= 11min);
        CHECK(watch.read() < 11min + 5s);
        co_await group.join();
        co_await support::request_drain();
    };
    std::size_t pauses = 0;
    const auto served = support::run_server(session, plait::serve_options().idle_timeout(10min), client,
                                            network.options().on_event([&](const plait::event_info& event) {
                                                pauses +=
                                                    event.what == plait::event_info::kind::accept_backoff;
                                            }));
    CHECK(served.error() == std::error_code());
    CHECK(pauses > 100);
    CHECK(pauses < 140);
}

TEST_CASE("peers that send a byte a second are gone at their deadline, and hold up nobody", "[simulated]") {
    simulated_network network(1);
    network.latency(1ms, 20ms);
    plait::steady_duration longest_answer{}, shortest_life = 1h, longest_life{};
    auto session = [&](tcp_stream stream) -> task<> {
        plait::framed messages{std::move(stream), plait::length_prefix{}};
        for (;;) {
            auto message = co_await plait::with_timeout(messages.next(), 10s);
            if (!message || !co_await messages.write(*message)) co_return;
        }
    };
    auto slow_client = [&](endpoint where) -> task<> {
        auto stream = co_await tcp_stream::connect(where);
        REQUIRE(stream.has_value());
        const stopwatch watch(network);
        const std::string frame = support::length_framed("a frame that is never whole");
        std::error_code error;
        for (std::size_t i = 0; i < frame.size() && !error; ++i) {
            auto sent = co_await stream->send(frame.substr(i, 1));
            error = sent.error();
            std::array<std::byte, 1> room;
            auto got = co_await plait::with_timeout(stream->recv(room), 1s);
            if (got.error() != errc::timed_out) error = got.error();
        }
        CHECK(error == errc::end_of_stream);
        shortest_life = std::min(shortest_life, watch.read());
        longest_life = std::max(longest_life, watch.read());
    };
    auto honest_client = [&](endpoint where) -> task<> {
        auto stream = co_await tcp_stream::connect(where);
        REQUIRE(stream.has_value());
        for (int i = 0; i < 20; ++i) {
            const stopwatch watch(network);
            co_await support::check_exchange(*stream, "hello");
            longest_answer = std::max(longest_answer, watch.read());
            co_await plait::sleep_for(500ms);
        }
    };
    auto clients = [&](endpoint where) -> task<> {
        task_group group;
        const std::size_t peers = std::min<std::size_t>(scaled(2000), 20'000); // of 28,232 ports
        for (std::size_t i = 0; i < peers; ++i) group.spawn(slow_client, where);
        for (std::size_t i = 0; i < 10; ++i) group.spawn(honest_client, where);
        co_await group.join();
        co_await support::request_drain();
    };
    const auto served = support::run_server(session, plait::serve_options(), clients, network.options());
    CHECK(served.error() == std::error_code());
    CHECK(shortest_life > 9s);
    CHECK(longest_life < 11s);
    CHECK(longest_answer <= 2 * 20ms + 1ms);
}
