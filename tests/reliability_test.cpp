/// The classes of faults that networking libraries have died of, each with as many repetitions as a debug build does
/// in seconds.
#include <plait/framing.hpp>
#include <plait/plait.hpp>
#include <plait/serve.hpp>

#include "support/connections.hpp"
#include "support/foreign.hpp"
#include "support/plain_client.hpp"
#include "support/scale.hpp"
#include "support/sockets.hpp"
#include "support/system.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

using namespace std::chrono_literals;
using plait::context_options;
using plait::errc;
using plait::task;
using plait::task_group;
using plait::tcp_listener;
using plait::tcp_stream;
using support::connected_pairs;
using support::pairs_at_once;
using support::scaled;
using support::sequence;
using support::turns;

// --- queues that are full ------------------------------------------------------------------------------------------

TEST_CASE("thousands of operations complete once each through a completion queue of 8", "[reliability]") {
    const std::size_t count = pairs_at_once(scaled(2'000));
    std::size_t completions = 0, wrong = 0;
    constexpr std::size_t rounds = 5;
    auto body = [&]() -> task<> {
        auto pairs = co_await connected_pairs(count);
        auto receives = [&](tcp_stream& from, std::size_t tag) -> task<> {
            std::uint64_t value = 0;
            const auto room = std::as_writable_bytes(std::span(&value, 1));
            if (tag % 2) {
                auto got = co_await from.recv_exactly(room);
                wrong += !got;
            } else {
                auto got = co_await from.recv();
                if (got && got->size() == sizeof value)
                    std::memcpy(&value, got->bytes().data(), sizeof value);
            }
            wrong += value != tag;
            ++completions;
        };
        auto sends = [&](tcp_stream& to, std::size_t tag) -> task<> {
            const std::uint64_t value = tag;
            auto sent = co_await to.send_all(std::as_bytes(std::span(&value, 1)));
            wrong += sent.bytes() != sizeof value;
        };
        for (std::size_t round = 0; round < rounds; ++round) {
            task_group group;
            for (std::size_t i = 0; i < count; ++i)
                group.spawn(receives, std::ref(pairs[i].near), round * count + i);
            co_await turns(2);
            for (std::size_t i = 0; i < count; ++i)
                group.spawn(sends, std::ref(pairs[i].far), round * count + i);
            co_await group.join();
        }
    };
    plait::run(body(), context_options().queue_sizes(4, 8));
    CHECK(completions == rounds * count);
    CHECK(wrong == 0);
}

TEST_CASE("a thousand submitters share a submission queue of 4", "[reliability]") {
    const std::size_t count = pairs_at_once(scaled(1'000));
    std::size_t answers = 0;
    constexpr std::size_t rounds = 10;
    auto body = [&]() -> task<> {
        auto pairs = co_await connected_pairs(count);
        auto echoes = [](tcp_stream& on) -> task<> {
            while (auto got = co_await on.recv())
                if (!co_await on.send_all(got->bytes())) break;
        };
        auto asks = [&](tcp_stream& on, std::size_t who) -> task<> {
            for (std::size_t i = 0; i < rounds; ++i) {
                const auto question = sequence::at(who * 31 + i * 7, 100);
                std::array<std::byte, 100> room;
                const auto answer = std::span(room).first(question.size());
                // Two pieces: a gathered send needs more than an entry.
                const std::array<std::span<const std::byte>, 2> pieces = {
                    question.first(question.size() / 2), question.subspan(question.size() / 2)};
                auto sent = co_await on.send_all(std::span<const std::span<const std::byte>>(pieces));
                auto got = co_await on.recv_exactly(answer);
                answers += sent && got && std::equal(answer.begin(), answer.end(), question.begin());
            }
            static_cast<void>(co_await on.shutdown_send());
        };
        task_group group;
        for (std::size_t i = 0; i < count; ++i) {
            group.spawn(echoes, std::ref(pairs[i].far));
            group.spawn(asks, std::ref(pairs[i].near), i);
        }
        co_await group.join();
    };
    plait::run(body(), context_options().queue_sizes(4, 4096));
    CHECK(answers == rounds * count);
}

// --- descriptors that are used again -------------------------------------------------------------------------------

TEST_CASE("no byte crosses over when a descriptor's number is used again", "[reliability]") {
    std::size_t reused = 0, wrong = 0;
    const std::size_t cycles = scaled(50'000); // 100,000 at PLAIT_TEST_SCALE=2
    auto body = [&]() -> task<> {
        tcp_listener listener = co_await support::loopback_listener();
        std::mt19937_64 random(9);
        plait::native_socket last = -1;
        std::optional<tcp_stream> old_far;
        auto receives = [](tcp_stream& from, bool pooled, std::vector<std::uint64_t>& tags) -> task<> {
            std::array<std::byte, 64> room;
            std::uint64_t tag = 0;
            for (;;) {
                if (pooled) {
                    auto got = co_await from.recv();
                    if (!got) break;
                    if (got->size() == sizeof tag) std::memcpy(&tag, got->bytes().data(), sizeof tag);
                } else {
                    auto got = co_await from.recv(room);
                    if (!got) break;
                    std::memcpy(&tag, room.data(), sizeof tag);
                }
                tags.push_back(tag);
            }
        };
        for (std::uint64_t i = 1; i <= cycles; ++i) {
            auto pair = co_await support::connected_pair(listener);
            reused += pair.near.native_handle() == last;
            last = pair.near.native_handle();
            task_group group;
            std::vector<std::uint64_t> tags;
            group.spawn(receives, std::ref(pair.near), random() % 2 == 0, std::ref(tags));
            co_await turns(random() % 3);
            if (old_far) { // speaks to a socket that is gone, whose number is another's now
                const std::uint64_t late = i - 1;
                static_cast<void>(co_await old_far->send(std::as_bytes(std::span(&late, 1))));
                support::reset_by(*old_far);
                old_far.reset();
            }
            auto sent = co_await pair.far.send(std::as_bytes(std::span(&i, 1)));
            wrong += !sent;
            if (random() % 2) co_await turns(random() % 3);
            pair.near = tcp_stream(); // with the receive pending
            co_await group.join();
            for (const std::uint64_t tag : tags) wrong += tag != i;
            old_far.emplace(std::move(pair.far));
        }
        if (old_far) support::reset_by(*old_far);
    };
    plait::run(body());
    CHECK(wrong == 0);
    CHECK(reused > cycles / 4);
}

// --- peers that are gone -------------------------------------------------------------------------------------------

TEST_CASE("writing to a closed peer is an error and never a signal", "[reliability]") {
    const support::deadly_broken_pipe no_mercy;
    std::size_t right = 0, writes = 0;
    auto body = [&]() -> task<> {
        auto listener = co_await support::loopback_listener();
        const std::string_view text = "to nobody";
        const std::array<std::span<const std::byte>, 2> pieces = {plait::as_bytes(text),
                                                                  plait::as_bytes(text)};
        const std::span<const std::span<const std::byte>> list(pieces);
        while (writes < scaled(10'000)) {
            auto pair = co_await support::connected_pair(listener);
            if (writes % 400 < 200)
                support::reset_by(pair.far);
            else
                pair.far = tcp_stream();
            // A peer that has closed answers the first bytes with a reset; until that is here they are taken.
            for (bool failed = false; !failed;) failed = !co_await pair.near.send(text);
            plait::framed<tcp_stream&, plait::length_prefix> messages(pair.near, plait::length_prefix());
            for (unsigned i = 0; i < 200; ++i) {
                std::error_code error;
                if (i % 4 == 0) error = (co_await pair.near.send(text)).error();
                if (i % 4 == 1) error = (co_await pair.near.send_all(text)).error();
                if (i % 4 == 2) error = (co_await pair.near.send_all(list)).error();
                if (i % 4 == 3) {
                    static_cast<void>(co_await messages.write(text));
                    error = (co_await messages.flush()).error();
                }
                ++writes;
                right += error == std::errc::broken_pipe || error == std::errc::connection_reset;
            }
        }
    };
    plait::run(body());
    CHECK(right == writes);
}

// --- short writes --------------------------------------------------------------------------------------------------

TEST_CASE("sends that small buffers cut anywhere arrive whole and in order", "[reliability]") {
    const std::size_t total = scaled(std::size_t{256} << 20); // 1 GiB at PLAIT_TEST_SCALE=4
    std::size_t received = 0, wrong = 0;
    auto body = [&]() -> task<> {
        auto pair = co_await support::connected_pair();
        static_cast<void>(pair.far.set_receive_buffer_size(128 * 1024));
        auto sends = [&]() -> task<> {
            std::mt19937_64 random(13);
            std::vector<std::span<const std::byte>> pieces;
            for (std::size_t done = 0; done < total;) {
                if (random() % 16 == 0)
                    static_cast<void>(
                        pair.near.set_send_buffer_size(static_cast<int>(30'000 + random() % 150'000)));
                if (random() % 2) {
                    const auto some =
                        sequence::at(done, std::min<std::size_t>(total - done, 1 + random() % 60'000));
                    auto sent =
                        random() % 4 ? co_await pair.near.send_all(some) : co_await pair.near.send(some);
                    if (!sent) break;
                    done += *sent;
                } else {
                    pieces.clear();
                    std::size_t size = 0;
                    for (auto count = 1 + random() % 40; count > 0 && done + size < total; --count) {
                        pieces.push_back(sequence::at(
                            done + size, std::min<std::size_t>(total - done - size, random() % 20'000)));
                        size += pieces.back().size();
                    }
                    auto sent =
                        co_await pair.near.send_all(std::span<const std::span<const std::byte>>(pieces));
                    wrong += sent.bytes() != size;
                    if (!sent) break;
                    done += size;
                }
            }
            static_cast<void>(co_await pair.near.shutdown_send());
        };
        auto receives = [&]() -> task<> {
            while (auto got = co_await pair.far.recv()) {
                wrong += !sequence::holds(received, got->bytes());
                received += got->size();
            }
        };
        co_await plait::when_all(sends(), receives());
    };
    plait::run(body());
    CHECK(received == total);
    CHECK(wrong == 0);
}

TEST_CASE("frames of many writers with small buffers never interleave", "[reliability]") {
    constexpr std::size_t writers = 8;
    const std::size_t frames = scaled(2'000);
    std::size_t right = 0, wrong = 0;
    auto body = [&]() -> task<> {
        auto pairs = co_await connected_pairs(writers);
        auto size_of = [](std::size_t who, std::size_t number) {
            std::mt19937_64 random(who * 1'000'003 + number);
            // Small ones are collected, large ones gathered; each kind must stay behind the other.
            return static_cast<std::size_t>(random() % 8 == 0 ? random() % 60'000 : random() % 200);
        };
        auto writes = [&](tcp_stream& to, std::size_t who) -> task<> {
            static_cast<void>(to.set_send_buffer_size(8192));
            plait::framed<tcp_stream&, plait::length_prefix> messages(to, plait::length_prefix());
            std::mt19937_64 random(who);
            for (std::size_t i = 0; i < frames; ++i) {
                auto written = co_await messages.write(sequence::at((who + i) % 5'000, size_of(who, i)));
                wrong += !written;
                if (random() % 16 == 0) co_await plait::yield();
                if (random() % 64 == 0) wrong += !co_await messages.flush();
            }
            wrong += !co_await messages.close();
        };
        auto reads = [&](tcp_stream& from, std::size_t who) -> task<> {
            plait::framed<tcp_stream&, plait::length_prefix> messages(from, plait::length_prefix());
            std::size_t i = 0;
            for (;; ++i) {
                auto message = co_await messages.next();
                if (!message) {
                    wrong += message.error() != errc::end_of_stream;
                    break;
                }
                const auto expected = sequence::at((who + i) % 5'000, size_of(who, i));
                right += std::equal(message->begin(), message->end(), expected.begin(), expected.end());
            }
            static_cast<void>(co_await from.close());
        };
        task_group group;
        for (std::size_t i = 0; i < writers; ++i) {
            group.spawn(writes, std::ref(pairs[i].near), i);
            group.spawn(reads, std::ref(pairs[i].far), i);
        }
        co_await group.join();
    };
    plait::run(body());
    CHECK(right == writers * frames);
    CHECK(wrong == 0);
}

// --- streams that are cut inside a frame ---------------------------------------------------------------------------

TEST_CASE("a stream cut at any byte gives whole frames and then the right error", "[reliability]") {
    std::string wire;
    std::vector<std::size_t> ends{0};
    std::vector<std::string> frames;
    for (const std::size_t size : {0U, 1U, 5U, 0U, 40U}) {
        frames.emplace_back(size, static_cast<char>('a' + size % 26));
        wire += std::string(3, '\0') + static_cast<char>(size) + frames.back();
        ends.push_back(wire.size());
    }
    struct cut {
        std::size_t place;
        bool reset;
        bool late; ///< the reader waits before the bytes come
        std::size_t came = 0;
        bool right = true;
        std::error_code error{};
    };
    auto one = [&](tcp_listener& listener, cut& at) -> task<> {
        auto pair = co_await support::connected_pair(listener);
        auto reads = [&]() -> task<> {
            plait::framed<tcp_stream&, plait::length_prefix> messages(pair.near, plait::length_prefix());
            for (;;) {
                auto message = co_await messages.next();
                at.error = message.error();
                if (!message) break;
                at.right = at.right && at.came < frames.size() && plait::as_text(*message) == frames[at.came];
                ++at.came;
            }
        };
        task_group group;
        if (at.late) {
            group.spawn(reads());
            co_await turns(2);
        }
        if (at.place > 0)
            static_cast<void>(co_await pair.far.send_all(std::string_view(wire).substr(0, at.place)));
        if (at.place % 2) co_await turns(2);
        if (at.reset)
            support::reset_by(pair.far);
        else
            static_cast<void>(co_await pair.far.shutdown_send());
        if (!at.late) group.spawn(reads());
        co_await group.join();
    };
    std::vector<cut> cuts;
    for (std::size_t place = 0; place <= wire.size(); ++place)
        for (const bool reset : {false, true})
            for (const bool late : {false, true}) cuts.push_back({place, reset, late});
    auto body = [&]() -> task<> {
        auto listener = co_await support::loopback_listener();
        for (cut& each : cuts) co_await one(listener, each);
    };
    plait::run(body());
    for (const cut& each : cuts) {
        INFO("cut at " << each.place << (each.reset ? " by a reset: " : ": ") << each.error.message());
        const auto boundary = std::find(ends.begin(), ends.end(), each.place);
        CHECK(each.right);
        if (each.reset) {
            CHECK(each.error == std::errc::connection_reset);
            continue; // a reset may overtake bytes
        }
        const auto whole = std::upper_bound(ends.begin(), ends.end(), each.place) - ends.begin() - 1;
        CHECK(each.came == static_cast<std::size_t>(whole));
        CHECK(each.error == (boundary == ends.end() ? errc::truncated_frame : errc::end_of_stream));
    }
}

TEST_CASE("draining waits for the rest of what recv_exactly has begun", "[reliability]") {
    for (const bool before : {false, true}) {
        plait::io_context context;
        std::string heard;
        std::error_code error;
        auto body = [&]() -> task<> {
            auto listener = co_await support::loopback_listener();
            support::plain_client client(listener.local_endpoint()->port());
            bool here = false;
            auto session = [&](tcp_stream stream) -> task<> {
                here = true;
                // Begun before the drain, or during it with a part there already.
                if (!before) co_await turns(20);
                std::array<std::byte, 8> room;
                auto got = co_await stream.recv_exactly(room);
                heard = plait::as_text(std::span(room).first(got.bytes()));
                error = got.error();
                auto next = co_await stream.recv_exactly(room);
                CHECK(next.error() == errc::draining);
                static_cast<void>(co_await stream.send_all("bye"));
            };
            task_group group;
            auto serves = [&]() -> task<> {
                auto served = co_await plait::serve(std::move(listener), session);
                CHECK(served.error() == std::error_code());
            };
            group.spawn(serves());
            client.send("abc");
            while (!here) co_await plait::yield();
            co_await turns(4);
            context.request_drain();
            co_await turns(30);
            client.send("defgh");
            while (heard.empty()) co_await plait::yield();
            client.finish();
            co_await group.join();
            CHECK(client.receive(3) == "bye");
        };
        context.run(body());
        CHECK(heard == "abcdefgh");
        CHECK(error == std::error_code());
    }
}

// --- one peer is busy, the others wait -----------------------------------------------------------------------------

namespace {

/// How much `progress` grows at most from one turn to the next, until it is `all`.
task<std::size_t> longest_run(const std::size_t& progress, std::size_t all) {
    std::size_t longest = 0;
    while (progress < all) {
        const std::size_t before = progress;
        co_await plait::yield();
        longest = std::max(longest, progress - before);
    }
    co_return longest;
}

std::string numbered_frames(std::size_t count) {
    std::string wire;
    for (std::size_t i = 0; i < count; ++i)
        wire += {0, 0, 0, 2, static_cast<char>(i >> 8), static_cast<char>(i & 255)};
    return wire;
}

} // namespace

TEST_CASE("a session with thousands of frames at hand lets the others have their turn", "[reliability]") {
    constexpr std::size_t frames = 5'000;
    const std::string wire = numbered_frames(frames);
    std::size_t answered = 0, longest = 0;
    auto body = [&]() -> task<> {
        auto pair = co_await support::connected_pair();
        static_cast<void>(co_await pair.far.send_all(wire));
        auto session = [&]() -> task<> {
            plait::framed<tcp_stream&, plait::length_prefix> messages(pair.near, plait::length_prefix());
            while (answered < frames) {
                auto message = co_await messages.next();
                if (!message || !co_await messages.write(*message)) break;
                ++answered;
            }
        };
        auto other = [&]() -> task<> { longest = co_await longest_run(answered, frames); };
        co_await plait::when_all(session(), other());
        std::string came(wire.size(), '\0');
        static_cast<void>(co_await pair.far.recv_exactly(std::as_writable_bytes(std::span(came))));
        CHECK(came == wire);
    };
    plait::run(body());
    CHECK(answered == frames);
    CHECK(longest <= 256 + 1); // a receive that has its bytes at once may bring one more
}

TEST_CASE("a session that always finds bytes lets the others have their turn", "[reliability]") {
    constexpr std::size_t bytes = 20'000;
    std::size_t received = 0, longest = 0;
    auto body = [&]() -> task<> {
        auto pair = co_await support::connected_pair();
        static_cast<void>(co_await pair.far.send_all(std::string(bytes, 'b')));
        auto session = [&]() -> task<> {
            std::byte one{};
            auto first = co_await pair.near.recv(); // by the pool: what is left over is at hand from now on
            received += first.bytes();
            while (received < bytes) {
                auto got = co_await pair.near.recv(std::span(&one, 1));
                if (!got) break;
                received += *got;
            }
        };
        auto other = [&]() -> task<> { longest = co_await longest_run(received, bytes); };
        static_cast<void>(co_await pair.far.send_all(std::string_view("b", 0)));
        co_await plait::when_all(session(), other());
    };
    plait::run(body(), context_options().buffer_pool(64, 64, 300)); // many pieces, each a receive
    CHECK(received == bytes);
    CHECK(longest <= 300 + 256);
}

TEST_CASE("a next that is destroyed while the others have their turn loses no frame", "[reliability]") {
    constexpr std::size_t frames = 300;
    const std::string wire = numbered_frames(frames);
    std::size_t right = 0;
    auto body = [&]() -> task<> {
        plait::detail::environment& env = co_await plait::detail::this_environment();
        auto pair = co_await support::connected_pair();
        plait::framed<tcp_stream&, plait::length_prefix> messages(pair.near, plait::length_prefix());
        auto reads = [&]() -> task<> {
            while (right < frames) {
                auto message = co_await messages.next();
                if (!message) break;
                const std::string_view expected = std::string_view(wire).substr(right * 6 + 4, 2);
                CHECK(plait::as_text(*message) == expected);
                ++right;
            }
        };
        support::foreign reader = support::carry(reads());
        reader.start(env);
        static_cast<void>(co_await pair.far.send_all(wire));
        while (right == 0) co_await plait::yield();
        CHECK(right == 255); // the next one is here, and waits for its turn
        reader.destroy();
        co_await reads();
    };
    plait::run(body());
    CHECK(right == frames);
}

// --- memory follows what was received ------------------------------------------------------------------------------

TEST_CASE("a header that claims the maximum costs little memory", "[reliability]") {
    if (!support::live_heap_bytes()) SKIP("this build's malloc does not tell how much it has given out");
    auto live = [] { return support::live_heap_bytes().value(); };
    const std::size_t batch =
        std::min<std::size_t>(pairs_at_once(scaled(10'000)), 4'000); // and again, up to 10,000
    std::size_t connections = 0;
    auto body = [&]() -> task<> {
        auto listener = co_await support::loopback_listener();
        const std::uint16_t port = listener.local_endpoint()->port();
        auto session = [](tcp_stream stream) -> task<> {
            plait::framed messages{std::move(stream), plait::length_prefix{}};
            auto message = co_await messages.next();
            CHECK(message.error() == errc::truncated_frame);
        };
        while (connections < scaled(10'000)) {
            std::vector<support::plain_client> clients;
            clients.reserve(batch);
            task_group group;
            const std::size_t before = live();
            for (std::size_t i = 0; i < batch; ++i) {
                clients.emplace_back(port);
                clients.back().send(std::string_view("\x00\x80\x00\x00", 4)); // 8 MiB
                auto stream = co_await listener.accept();
                if (stream) group.spawn(session, std::move(*stream));
                co_await plait::yield();
            }
            co_await turns(5);
            CHECK(group.size() == batch);
            const std::size_t each = (live() - before) / batch;
            CAPTURE(each);
            CHECK(each <= 4096);
            connections += batch;
            for (auto& client : clients) client.close();
            co_await group.join();
        }
    };
    plait::run(body());
}
