#include <plait/io_context.hpp>
#include <plait/stream.hpp>
#include <plait/task_group.hpp>
#include <plait/tcp.hpp>
#include <plait/time.hpp>
#include <plait/when.hpp>

#include "support/foreign.hpp"
#include "support/scale.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

using namespace std::chrono_literals;
using plait::errc;
using plait::task;
using support::scaled;

namespace {

/// Gives one byte for each receive and takes one for each send; counts both.
class dribble {
  public:
    explicit dribble(plait::memory_stream inner) : inner_(std::move(inner)) {}

    auto recv(std::span<std::byte> buffer) {
        ++receives;
        return inner_.recv(buffer.first(std::min<std::size_t>(buffer.size(), 1)));
    }
    auto send(std::span<const std::byte> bytes) {
        ++sends;
        return inner_.send(bytes.first(std::min<std::size_t>(bytes.size(), 1)));
    }

    int receives = 0;
    int sends = 0;

  private:
    plait::memory_stream inner_;
};

struct not_a_stream {
    int recv(std::span<std::byte>) { return 0; }
};

static_assert(plait::stream<plait::memory_stream> && plait::stream<plait::tcp_stream> &&
              plait::stream<dribble>);
static_assert(!plait::readable_stream<not_a_stream> && !plait::stream<int> &&
              !plait::writable_stream<plait::tcp_listener>);
static_assert(!std::is_copy_constructible_v<plait::memory_stream> &&
              std::is_move_constructible_v<plait::memory_stream>);

/// FNV-1a, over as many calls as one likes.
struct checksum {
    std::uint64_t value = 14695981039346656037u;
    std::size_t size = 0;
    void add(std::span<const std::byte> bytes) {
        for (std::byte each : bytes) value = (value ^ static_cast<std::uint64_t>(each)) * 1099511628211u;
        size += bytes.size();
    }
};

} // namespace

// --- sending and receiving -------------------------------------------------------------------------------------------

TEST_CASE("what one end of a memory stream sends the other receives", "[stream]") {
    auto body = [&]() -> task<> {
        auto [left, right] = plait::memory_stream_pair();
        std::array<std::byte, 16> buffer;
        auto sent = co_await left.send("hello");
        CHECK(sent.bytes() == 5);
        auto received = co_await right.recv(buffer);
        CHECK(plait::as_text(std::span(buffer).first(received.bytes())) == "hello");
        auto answered = co_await right.send_all("hi");
        CHECK(answered.bytes() == 2);
        auto back = co_await left.recv(buffer);
        CHECK(plait::as_text(std::span(buffer).first(back.bytes())) == "hi");
    };
    plait::run(body());
}

TEST_CASE("a receive waits for a send, and gives what is there", "[stream]") {
    auto body = [&]() -> task<> {
        auto ends = plait::memory_stream_pair();
        std::string heard;
        auto reader = [&]() -> task<> {
            std::array<std::byte, 4> buffer;
            while (auto received = co_await ends.second.recv(buffer))
                heard += std::string(plait::as_text(std::span(buffer).first(*received))) + '|';
        };
        plait::task_group group;
        group.spawn(reader);
        co_await plait::yield();
        CHECK(heard.empty());
        static_cast<void>(co_await ends.first.send("abcdef"));
        for (int i = 0; i < 5; ++i) co_await plait::yield();
        CHECK(heard == "abcd|ef|");
        static_cast<void>(co_await ends.first.close());
        co_await group.join();
    };
    plait::run(body());
}

TEST_CASE("a receive into nothing and a send of nothing succeed at once with 0", "[stream]") {
    auto body = [&]() -> task<> {
        auto ends = plait::memory_stream_pair();
        auto received = co_await ends.first.recv(std::span<std::byte>());
        CHECK(received);
        CHECK(received.bytes() == 0);
        auto exactly = co_await ends.first.recv_exactly(std::span<std::byte>());
        CHECK(exactly);
        auto sent = co_await ends.first.send(std::span<const std::byte>());
        CHECK(sent);
        CHECK(sent.bytes() == 0);
        auto all = co_await ends.first.send_all("");
        CHECK(all);
        auto none = co_await ends.first.send_all(std::span<const std::span<const std::byte>>());
        CHECK(none);
        CHECK(none.bytes() == 0);
    };
    plait::run(body());
}

TEST_CASE("recv without a buffer gives a lease on one", "[stream]") {
    auto body = [&]() -> task<> {
        auto ends = plait::memory_stream_pair();
        static_cast<void>(co_await ends.first.send("leased"));
        auto first = co_await ends.second.recv();
        CHECK(first);
        CHECK(first.bytes() == 6);
        plait::lease held = *std::move(first);
        CHECK(plait::as_text(held.bytes()) == "leased");
        static_cast<void>(co_await ends.first.close());
        auto second = co_await ends.second.recv();
        CHECK(second.error() == errc::end_of_stream);
        // A lease outlives its stream.
        ends.second = plait::memory_stream();
        CHECK(plait::as_text(held.bytes()) == "leased");
        plait::lease moved = std::move(held);
        CHECK(held.size() == 0);
        CHECK(moved.size() == 6);
        moved.reset();
        CHECK(moved.bytes().empty());
    };
    plait::run(body());
}

TEST_CASE("one task may receive while another sends on the same stream", "[stream]") {
    auto body = [&]() -> task<> {
        auto ends = plait::memory_stream_pair(8);
        const std::string long_text(1000, 'x');
        std::string echoed(1000, ' ');
        auto echo = [&]() -> task<> {
            std::array<std::byte, 16> piece;
            while (auto received = co_await ends.second.recv(piece))
                static_cast<void>(co_await ends.second.send_all(std::span(piece).first(*received)));
        };
        auto sends = [&]() -> task<> { static_cast<void>(co_await ends.first.send_all(long_text)); };
        auto receives = [&]() -> task<> {
            static_cast<void>(co_await ends.first.recv_exactly(
                std::as_writable_bytes(std::span(echoed.data(), echoed.size()))));
            static_cast<void>(co_await ends.first.close());
        };
        co_await plait::when_all(echo(), sends(), receives());
        CHECK(echoed == long_text);
    };
    plait::run(body());
}

TEST_CASE("bytes arrive whole and in order however they are cut", "[stream]") {
    std::mt19937_64 random(7);
    for (std::size_t capacity :
         {std::size_t{1}, std::size_t{3}, std::size_t{64}, std::size_t{1000}, std::size_t{65536}}) {
        const std::size_t total = scaled(capacity == 1 ? 50'000 : 400'000);
        checksum out, in;
        auto body = [&]() -> task<> {
            auto ends = plait::memory_stream_pair(capacity);
            auto writer = [&]() -> task<> {
                std::vector<std::byte> chunk;
                while (out.size < total) {
                    chunk.resize(std::min<std::size_t>(random() % 3000 + 1, total - out.size));
                    for (auto& each : chunk) each = static_cast<std::byte>(random());
                    plait::io_result<std::size_t> sent = errc::closed;
                    if (random() % 2)
                        sent = co_await ends.first.send_all(chunk);
                    else
                        sent = co_await ends.first.send(chunk);
                    out.add(std::span(chunk).first(sent.bytes()));
                    if (random() % 8 == 0) co_await plait::yield();
                }
                static_cast<void>(co_await ends.first.shutdown_send());
            };
            auto reader = [&]() -> task<> {
                std::vector<std::byte> chunk;
                for (;;) {
                    chunk.resize(random() % 3000 + 1);
                    plait::io_result<std::size_t> received = errc::closed;
                    if (random() % 2)
                        received = co_await ends.second.recv(chunk);
                    else
                        received = co_await ends.second.recv_exactly(chunk);
                    in.add(std::span(chunk).first(received.bytes()));
                    if (!received) break;
                    if (random() % 8 == 0) co_await plait::yield();
                }
            };
            co_await plait::when_all(writer(), reader());
        };
        plait::run(body());
        CHECK(out.size == total);
        CHECK(in.size == out.size);
        CHECK(in.value == out.value);
    }
}

// --- back-pressure -----------------------------------------------------------------------------------------------------

TEST_CASE("a full memory stream takes no more until something was received", "[stream]") {
    auto body = [&]() -> task<> {
        auto ends = plait::memory_stream_pair(4);
        auto first = co_await ends.first.send("abcdef");
        CHECK(first.bytes() == 4);
        auto full = co_await plait::with_timeout(ends.first.send("ef"), 1ms);
        CHECK(full.error() == errc::timed_out);
        CHECK(full.bytes() == 0);

        std::size_t sent = 0;
        auto writer = [&]() -> task<> {
            auto rest = co_await ends.first.send_all("efghij");
            sent = rest.bytes();
        };
        plait::task_group group;
        group.spawn(writer);
        co_await plait::yield();
        CHECK(sent == 0);
        std::array<std::byte, 10> buffer;
        auto received = co_await ends.second.recv_exactly(buffer);
        co_await group.join();
        CHECK(received);
        CHECK(sent == 6);
        CHECK(plait::as_text(buffer) == "abcdefghij");
    };
    plait::run(body());
}

TEST_CASE("send_all that is cut short tells how much had left", "[stream]") {
    auto body = [&]() -> task<> {
        auto ends = plait::memory_stream_pair(8);
        const std::string text(100, 'y');
        auto cut = co_await plait::with_timeout(ends.first.send_all(text), 1ms);
        CHECK(cut.error() == errc::timed_out);
        CHECK(cut.bytes() == 8);
        const std::array<std::span<const std::byte>, 2> pieces{plait::as_bytes("z"), plait::as_bytes("z")};
        auto gathered = co_await plait::with_timeout(ends.first.send_all(pieces), 1ms);
        CHECK(gathered.error() == errc::timed_out);
        CHECK(gathered.bytes() == 0);
    };
    plait::run(body());
}

// --- ending ------------------------------------------------------------------------------------------------------------

TEST_CASE("after shutdown_send the other end reads what was sent, then the end, again and again",
          "[stream]") {
    auto body = [&]() -> task<> {
        auto ends = plait::memory_stream_pair();
        static_cast<void>(co_await ends.first.send("last"));
        auto shut = co_await ends.first.shutdown_send();
        CHECK(shut);
        std::array<std::byte, 16> buffer;
        auto last = co_await ends.second.recv(buffer);
        CHECK(last.bytes() == 4);
        for (int i = 0; i < 3; ++i) {
            auto end = co_await ends.second.recv(buffer);
            CHECK(end.error() == errc::end_of_stream);
        }
        auto late = co_await ends.first.send("late");
        CHECK(late.error() == std::errc::broken_pipe);
        // The other direction goes on.
        static_cast<void>(co_await ends.second.send("still"));
        auto still = co_await ends.first.recv(buffer);
        CHECK(still.bytes() == 5);
    };
    plait::run(body());
}

TEST_CASE("closing or destroying one end ends the other's waits", "[stream]") {
    for (int how = 0; how < 3; ++how) {
        auto body = [&]() -> task<> {
            auto ends = plait::memory_stream_pair(4);
            std::error_code received_error, sent_error;
            auto receives = [&]() -> task<> {
                std::array<std::byte, 4> buffer;
                auto received = co_await ends.first.recv(buffer);
                received_error = received.error();
            };
            auto sends = [&]() -> task<> {
                auto sent = co_await ends.first.send_all("too much for it");
                sent_error = sent.error();
                CHECK(sent.bytes() == 4);
            };
            plait::task_group group;
            group.spawn(receives);
            group.spawn(sends);
            co_await plait::yield();
            if (how == 0) static_cast<void>(co_await ends.second.close());
            if (how == 1) ends.second = plait::memory_stream();
            if (how == 2) plait::memory_stream gone = std::move(ends.second);
            co_await group.join();
            CHECK(received_error == errc::end_of_stream);
            CHECK(sent_error == std::errc::broken_pipe);
        };
        plait::run(body());
    }
}

TEST_CASE("a stream that was closed, moved from or never connected is not open", "[stream]") {
    auto body = [&]() -> task<> {
        std::array<std::byte, 4> buffer;
        auto ends = plait::memory_stream_pair();
        auto moved = std::move(ends.first);
        static_cast<void>(co_await moved.close());
        plait::memory_stream unconnected;
        for (auto* each : {&ends.first, &moved, &unconnected}) {
            auto received = co_await each->recv(buffer);
            CHECK(received.error() == std::errc::bad_file_descriptor);
            auto leased = co_await each->recv();
            CHECK(leased.error() == std::errc::bad_file_descriptor);
            auto sent = co_await each->send("x");
            CHECK(sent.error() == std::errc::bad_file_descriptor);
            auto shut = co_await each->shutdown_send();
            CHECK(shut.error() == std::errc::bad_file_descriptor);
            auto closed = co_await each->close();
            CHECK(closed);
        }
        CHECK(moved.local_endpoint().error() == std::errc::not_supported);
        CHECK(moved.remote_endpoint().error() == std::errc::not_supported);
    };
    plait::run(body());
}

TEST_CASE("closing a memory stream ends its own waiting receive", "[stream]") {
    auto body = [&]() -> task<> {
        auto ends = plait::memory_stream_pair();
        std::error_code error;
        auto receives = [&]() -> task<> {
            std::array<std::byte, 4> buffer;
            auto received = co_await ends.first.recv(buffer);
            error = received.error();
        };
        plait::task_group group;
        group.spawn(receives);
        co_await plait::yield();
        static_cast<void>(co_await ends.first.close());
        co_await group.join();
        CHECK(error == errc::canceled);
    };
    plait::run(body());
}

// --- cancelling ----------------------------------------------------------------------------------------------------------

TEST_CASE("cancelling a receive loses nothing", "[stream]") {
    std::mt19937 random(9);
    auto body = [&]() -> task<> {
        auto ends = plait::memory_stream_pair(16);
        const std::size_t total = scaled(20'000);
        checksum out, in;
        std::size_t canceled = 0;
        auto writer = [&]() -> task<> {
            while (out.size < total) {
                const std::byte each{static_cast<unsigned char>(random())};
                auto sent = co_await ends.first.send(std::span(&each, 1));
                out.add(std::span(&each, sent.bytes()));
                if (random() % 3 == 0) co_await plait::yield();
            }
            static_cast<void>(co_await ends.first.close());
        };
        auto reader = [&]() -> task<> {
            std::array<std::byte, 7> buffer;
            for (;;) {
                // Cancelled after a few turns, if it waits that long.
                plait::task_group group;
                plait::io_result<std::size_t> received = errc::closed;
                auto receives = [&]() -> task<> { received = co_await ends.second.recv(buffer); };
                group.spawn(receives);
                for (auto turns = random() % 3; turns > 0; --turns) co_await plait::yield();
                group.request_stop();
                co_await group.join();
                in.add(std::span(buffer).first(received.bytes()));
                canceled += received.error() == errc::canceled;
                if (received.error() == errc::end_of_stream) break;
            }
        };
        co_await plait::when_all(writer(), reader());
        CHECK(canceled > 0);
        CHECK(in.size == total);
        CHECK(in.value == out.value);
    };
    plait::run(body());
}

TEST_CASE("cancelling a send sends nothing of it", "[stream]") {
    auto body = [&]() -> task<> {
        auto ends = plait::memory_stream_pair(2);
        static_cast<void>(co_await ends.first.send("ab"));
        auto cut = co_await plait::with_timeout(ends.first.send("cd"), 1ms);
        CHECK(cut.error() == errc::timed_out);
        std::array<std::byte, 4> buffer;
        auto received = co_await ends.second.recv(buffer);
        CHECK(plait::as_text(std::span(buffer).first(received.bytes())) == "ab");
        static_cast<void>(co_await ends.first.send("ef"));
        auto next = co_await ends.second.recv(buffer);
        CHECK(plait::as_text(std::span(buffer).first(next.bytes())) == "ef");
    };
    plait::run(body());
}

TEST_CASE("a frame that waits on a memory stream can be destroyed, and the stream goes on", "[stream]") {
    auto body = [&]() -> task<> {
        auto& here = co_await plait::detail::this_environment();
        auto ends = plait::memory_stream_pair(2);
        std::array<std::byte, 4> lost, buffer;
        auto receives = [&]() -> task<> { static_cast<void>(co_await ends.second.recv(lost)); };
        auto sends = [&]() -> task<> { static_cast<void>(co_await ends.first.send_all("abcdef")); };
        {
            auto waiting = support::carry(receives());
            waiting.start(here);
        }
        static_cast<void>(co_await ends.first.send("1"));
        auto first = co_await ends.second.recv(buffer);
        CHECK(plait::as_text(std::span(buffer).first(first.bytes())) == "1");
        {
            auto waiting = support::carry(sends());
            waiting.start(here);
        }
        auto second = co_await ends.second.recv(buffer);
        CHECK(plait::as_text(std::span(buffer).first(second.bytes())) == "ab");
    };
    plait::run(body());
}

// --- the verbs for any stream ------------------------------------------------------------------------------------------

TEST_CASE("recv_exactly and send_all work on any stream, however little it moves at a time", "[stream]") {
    auto body = [&]() -> task<> {
        auto [left, right] = plait::memory_stream_pair();
        dribble slow_out(std::move(left)), slow_in(std::move(right));
        const std::array<std::span<const std::byte>, 4> pieces{
            plait::as_bytes("ab"), {}, plait::as_bytes("c"), plait::as_bytes("def")};
        auto whole = co_await plait::send_all(slow_out, plait::as_bytes("1234"));
        CHECK(whole.bytes() == 4);
        auto gathered =
            co_await plait::send_all(slow_out, std::span<const std::span<const std::byte>>(pieces));
        CHECK(gathered.bytes() == 6);
        CHECK(slow_out.sends == 10);
        std::array<std::byte, 10> buffer;
        auto received = co_await plait::recv_exactly(slow_in, buffer);
        CHECK(received.bytes() == 10);
        CHECK(slow_in.receives == 10);
        CHECK(plait::as_text(buffer) == "1234abcdef");
    };
    plait::run(body());
}

TEST_CASE("recv_exactly tells an end before the first byte from one after it", "[stream]") {
    auto body = [&]() -> task<> {
        auto [left, right] = plait::memory_stream_pair();
        static_cast<void>(co_await left.send("abc"));
        static_cast<void>(co_await left.close());
        std::array<std::byte, 4> buffer;
        auto cut = co_await right.recv_exactly(buffer);
        CHECK(cut.error() == errc::truncated_frame);
        CHECK(cut.bytes() == 3);
        auto end = co_await right.recv_exactly(buffer);
        CHECK(end.error() == errc::end_of_stream);
        CHECK(end.bytes() == 0);
    };
    plait::run(body());
}

TEST_CASE("send_all to an end that is gone tells how much had left", "[stream]") {
    auto body = [&]() -> task<> {
        auto [left, right] = plait::memory_stream_pair(4);
        std::size_t bytes = 0;
        std::error_code error;
        auto sends = [&sender = left, &bytes, &error]() -> task<> {
            auto sent = co_await sender.send_all("123456789");
            bytes = sent.bytes();
            error = sent.error();
        };
        auto takes_some = [&receiver = right]() -> task<> {
            std::array<std::byte, 3> buffer;
            static_cast<void>(co_await receiver.recv_exactly(buffer));
            for (int i = 0; i < 3; ++i) co_await plait::yield();
            static_cast<void>(co_await receiver.close());
        };
        co_await plait::when_all(sends(), takes_some());
        CHECK(error == std::errc::broken_pipe);
        CHECK(bytes == 7);
    };
    plait::run(body());
}
