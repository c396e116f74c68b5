// Writing frames: what is collected, when it leaves, and what happens when it cannot.

#include <plait/framing.hpp>
#include <plait/io_context.hpp>
#include <plait/task_group.hpp>
#include <plait/tcp.hpp>
#include <plait/time.hpp>
#include <plait/when.hpp>

#include "support/allocations.hpp"
#include "support/foreign.hpp"
#include "support/framing_cases.hpp"
#include "support/scale.hpp"
#include "support/streams.hpp"
#include "support/system.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using plait::as_bytes;
using plait::as_text;
using plait::errc;
using plait::task;
using support::framing_case;
using support::own_stream;
using support::scaled;
using support::tcp_pair;
using support::use_small_buffers;

namespace {

std::string length_framed(std::string_view payload) {
    std::string text(4, '\0');
    for (std::size_t i = 0; i < 4; ++i) text[i] = static_cast<char>(payload.size() >> (24 - 8 * i));
    return text.append(payload);
}

/// Runs `body(writing stream, reading stream)` on each kind of stream.
template <class F>
void on_each_stream(F body) {
    {
        INFO("in memory");
        plait::run(support::with_memory_pair(body));
    }
    {
        INFO("a stream type of one's own");
        plait::run(support::with_own_writer(body));
    }
    {
        INFO("over TCP");
        plait::run(support::with_tcp_pair(body));
    }
}

/// Writes frames of `size` until the peer, which does not read, is felt for a while. How many were written.
template <class M>
task<std::size_t> fill(M& messages, std::size_t size) {
    std::size_t count = 0;
    for (int refused = 0; refused < 5;) {
        const std::string payload(size, static_cast<char>('a' + count % 26));
        auto written = co_await plait::with_timeout(messages.write(payload), 10ms);
        if (written) {
            ++count;
            refused = 0;
        } else {
            CHECK(written.error() == errc::timed_out);
            ++refused;
        }
    }
    co_return count;
}

std::string filled(std::size_t count, std::size_t size) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i)
        text += length_framed(std::string(size, static_cast<char>('a' + i % 26)));
    return text;
}

std::size_t open_sockets(plait::io_context& context) {
    return static_cast<std::size_t>(context.metrics().connections);
}

} // namespace

// --- the cases -------------------------------------------------------------------------------------------------

TEST_CASE("every encoding case gives its header, or its error before a byte is sent", "[framing]") {
    for (const framing_case& test : support::framing_cases()) {
        if (test.way != framing_case::direction::encode) continue;
        support::with_codec(test, [&](auto codec) {
            auto body = [&](auto& left, auto& right) -> task<> {
                INFO(test.id);
                plait::frame_writer writer{left, codec};
                const support::expectation& expected = test.expect.at(0);
                std::string header;
                auto writing = [&]() -> task<> {
                    auto written = co_await writer.write(test.payload);
                    auto flushed = co_await writer.flush();
                    CHECK(flushed);
                    if (expected.what == support::expectation::kind::header) {
                        CHECK(written);
                    } else {
                        bool right_error = false;
                        for (errc e : expected.errors) right_error = right_error || written.error() == e;
                        CHECK(right_error);
                    }
                    static_cast<void>(co_await left.shutdown_send());
                };
                auto reading = [&]() -> task<> {
                    const std::string all = co_await support::receive_all(right);
                    if (expected.what == support::expectation::kind::header) {
                        const bool same =
                            all == std::string(as_text(expected.data)).append(as_text(test.payload));
                        CHECK(same);
                    } else {
                        CHECK(all.empty());
                    }
                };
                co_await plait::when_all(writing(), reading());
            };
            on_each_stream(body);
        });
    }
}

TEST_CASE("what a codec cannot carry is refused, and the next frame goes its way", "[framing]") {
    auto body = [](auto& left, auto& right) -> task<> {
        plait::framed messages{left, plait::length_prefix{}.width(1).max_frame(100)};
        auto too_large = co_await messages.write(std::string(101, 'x'));
        CHECK(too_large.error() == errc::frame_too_large);
        auto huge = co_await messages.write(std::string(100'000, 'x'));
        CHECK(huge.error() == errc::frame_too_large);
        auto fine = co_await messages.write("fine");
        CHECK(fine);
        auto flushed = co_await messages.flush();
        CHECK(flushed);
        const std::string got = co_await support::receive_text(right, 5);
        CHECK(got == "\4fine");

        plait::framed text{left, plait::lines{}};
        auto two_lines = co_await text.write("two\nlines");
        CHECK_FALSE(two_lines);
        static_cast<void>(co_await text.write("one line"));
        static_cast<void>(co_await text.flush());
        const std::string line = co_await support::receive_text(right, 9);
        CHECK(line == "one line\n");
    };
    on_each_stream(body);
}

// --- when output leaves ------------------------------------------------------------------------------------------

TEST_CASE("collected output leaves at the turn's end, whatever the tasks wait for", "[framing]") {
    auto body = [&]() -> task<> {
        tcp_pair one = co_await support::connected(), other = co_await support::connected();
        plait::framed messages{std::move(one.left), plait::length_prefix{}};
        plait::task_group group;
        auto sleeper = [&]() -> task<> {
            static_cast<void>(co_await messages.write("first"));
            static_cast<void>(co_await messages.write("second"));
            static_cast<void>(co_await plait::sleep_for(1h));
        };
        group.spawn(sleeper);
        auto both = co_await support::receive_text(one.right, 19);
        CHECK(both == length_framed("first") + length_framed("second"));
        group.request_stop();
        co_await group.join();

        auto elsewhere = [&]() -> task<> {
            static_cast<void>(co_await messages.write("third"));
            std::array<std::byte, 1> buffer;
            static_cast<void>(co_await other.left.recv(buffer));
        };
        group.spawn(elsewhere);
        auto third = co_await support::receive_text(one.right, 9);
        CHECK(third == length_framed("third"));
        group.request_stop();
        co_await group.join();

        auto returns = [&]() -> task<> { static_cast<void>(co_await messages.write("fourth")); };
        co_await returns();
        auto fourth = co_await support::receive_text(one.right, 10);
        CHECK(fourth == length_framed("fourth"));
    };
    plait::run(body());
}

TEST_CASE("frames collected in one turn leave in one send", "[framing]") {
    auto body = [&]() -> task<> {
        tcp_pair pair = co_await support::connected();
        plait::io_context& context = co_await plait::this_context();
        plait::framed messages{std::move(pair.left), plait::length_prefix{}};
        std::string expected;
        for (int i = 0; i < 100; ++i) {
            static_cast<void>(co_await messages.write("message " + std::to_string(i)));
            expected += length_framed("message " + std::to_string(i));
        }
        const auto before = context.metrics().system_calls;
        auto flushed = co_await messages.flush();
        CHECK(flushed);
        CHECK(context.metrics().system_calls - before <= 3);
        auto all = co_await support::receive_text(pair.right, expected.size());
        CHECK(all == expected);
    };
    plait::run(body());
}

TEST_CASE("collected frames, large frames and direct sends leave in the order of the calls", "[framing]") {
    auto body = [](auto& left, auto& right) -> task<> {
        using stream_type = std::remove_reference_t<decltype(left)>;
        std::string expected;
        auto writing = [&]() -> task<> {
            plait::framed messages{left, plait::length_prefix{}};
            for (std::size_t round = 0; round < scaled(30); ++round) {
                for (std::size_t size : {std::size_t{3}, std::size_t{0}, std::size_t{4095}, std::size_t{4096},
                                         std::size_t{10'000}, std::size_t{7}, 40'000 + round * 1001,
                                         std::size_t{200'000}, std::size_t{1}}) {
                    const std::string payload(size, static_cast<char>('a' + (size + round) % 26));
                    auto written = co_await messages.write(payload);
                    CHECK(written);
                    expected += length_framed(payload);
                }
                if constexpr (!std::same_as<stream_type, own_stream> &&
                              !std::same_as<stream_type, plait::memory_stream>) { // what the loop sends for
                    auto direct = co_await messages.stream().send_all("direct");
                    CHECK(direct.value() == 6);
                    expected += "direct";
                }
                static_cast<void>(co_await messages.write("last"));
                expected += length_framed("last");
            }
            static_cast<void>(co_await messages.flush());
            static_cast<void>(co_await messages.stream().shutdown_send());
        };
        std::string got;
        auto reading = [&]() -> task<> { got = co_await support::receive_all(right); };
        co_await plait::when_all(writing(), reading());
        const bool same = got == expected;
        CHECK(same);
    };
    on_each_stream(body);
}

TEST_CASE("no payload is referenced after write has returned", "[framing]") {
    auto body = [](auto& left, auto& right) -> task<> {
        std::string expected;
        auto writing = [&]() -> task<> {
            plait::framed messages{left, plait::length_prefix{}};
            for (std::size_t size :
                 {std::size_t{10}, std::size_t{4096}, std::size_t{50'000}, std::size_t{100}}) {
                std::string payload(size, 'x');
                static_cast<void>(co_await messages.write(payload));
                expected += length_framed(payload);
                payload.assign(size, '!');
            }
            static_cast<void>(co_await messages.flush());
            static_cast<void>(co_await left.shutdown_send());
        };
        std::string got;
        auto reading = [&]() -> task<> { got = co_await support::receive_all(right); };
        co_await plait::when_all(writing(), reading());
        const bool same = got == expected;
        CHECK(same);
    };
    on_each_stream(body);
}

TEST_CASE("flush of nothing returns at once, and shutdown_send and close send what was collected",
          "[framing]") {
    auto body = [&]() -> task<> {
        {
            tcp_pair pair = co_await support::connected();
            plait::framed messages{std::move(pair.left), plait::length_prefix{}};
            auto flushed = co_await messages.flush();
            CHECK(flushed);
            static_cast<void>(co_await messages.write("before the half-close"));
            auto shut = co_await messages.stream().shutdown_send();
            CHECK(shut);
            auto all = co_await support::receive_all(pair.right);
            CHECK(all == length_framed("before the half-close"));
        }
        {
            tcp_pair pair = co_await support::connected();
            plait::framed messages{std::move(pair.left), plait::length_prefix{}};
            static_cast<void>(co_await messages.write("before the close"));
            std::string all;
            auto closing = [&]() -> task<> {
                auto closed = co_await messages.close();
                CHECK(closed);
            };
            auto reading = [&]() -> task<> {
                all = co_await support::receive_all(pair.right);
                pair.right = plait::tcp_stream();
            };
            co_await plait::when_all(closing(), reading());
            CHECK(all == length_framed("before the close"));
            auto late = co_await messages.write("late");
            CHECK(late.error() == std::errc::bad_file_descriptor);
            auto late_flush = co_await messages.flush();
            CHECK(late_flush.error() == std::errc::bad_file_descriptor);
            auto next = co_await messages.next();
            CHECK(next.error() == std::errc::bad_file_descriptor);
        }
    };
    plait::run(body());
}

TEST_CASE("destroying the stream with collected output still delivers it", "[framing]") {
    auto body = [&]() -> task<> {
        for (std::size_t i = 0; i < scaled(50); ++i) {
            tcp_pair pair = co_await support::connected();
            std::string expected;
            {
                plait::framed messages{std::move(pair.left), plait::length_prefix{}};
                for (std::size_t n = 0; n <= i % 20; ++n) {
                    const std::string payload(n * 100, 'x');
                    static_cast<void>(co_await messages.write(payload));
                    expected += length_framed(payload);
                }
                if (i % 3 == 0) co_await plait::yield();
            }
            auto all = co_await support::receive_all(pair.right);
            CHECK(all == expected);
        }
    };
    plait::run(body());
}

TEST_CASE("collected output is delivered although the context's run ends right after", "[framing]") {
    plait::io_context context;
    tcp_pair pair;
    auto body = [&]() -> task<> {
        pair = co_await support::connected();
        plait::framed messages{std::move(pair.left), plait::length_prefix{}};
        static_cast<void>(co_await messages.write("goodbye"));
        auto peer = [](plait::tcp_stream& stream) -> task<> {
            auto all = co_await support::receive_all(stream);
            CHECK(all == length_framed("goodbye"));
            stream = plait::tcp_stream();
        };
        plait::task_group group;
        group.spawn(peer(pair.right));
        { plait::framed gone(std::move(messages)); }
        co_await group.join();
    };
    context.run(body());
    CHECK(open_sockets(context) == 0);
}

// --- a peer that does not read -------------------------------------------------------------------------------------

TEST_CASE("a peer that never reads blocks the writer, not memory, and gets every byte later", "[framing]") {
    auto body = [&](std::size_t size) -> task<> {
        tcp_pair pair = co_await support::connected();
        use_small_buffers(pair);
        plait::framed messages{std::move(pair.left), plait::length_prefix{}};
        const auto before = support::allocated_bytes();
        const std::size_t written = co_await fill(messages, size);
        if (support::counts_allocations()) CHECK(support::allocated_bytes() - before < 4 * 1024 * 1024);
        std::string got;
        const std::string expected = filled(written, size) + length_framed("behind it all");
        auto reading = [&]() -> task<> { got = co_await support::receive_text(pair.right, expected.size()); };
        auto writing = [&]() -> task<> {
            auto last = co_await messages.write("behind it all");
            CHECK(last);
            auto flushed = co_await messages.flush();
            CHECK(flushed);
        };
        co_await plait::when_all(writing(), reading());
        const bool same = got == expected;
        CHECK(same);
    };
    for (std::size_t size : {std::size_t{100}, std::size_t{1000}, std::size_t{4095}}) plait::run(body(size));
}

TEST_CASE("collected output of a writer that waits stays near 64 KiB", "[framing]") {
    auto body = [&]() -> task<> {
        auto [left, right] = support::own_stream_pair(4096);
        plait::framed messages{left, plait::length_prefix{}};
        const std::size_t written = co_await fill(messages, 1000);
        CHECK(written * 1004 >= 64 * 1024);
        CHECK(written * 1004 <= 80 * 1024);
        std::string got;
        auto reading = [&, &other = right]() -> task<> {
            got = co_await support::receive_text(other, written * 1004);
        };
        auto flushing = [&]() -> task<> {
            auto flushed = co_await messages.flush();
            CHECK(flushed);
        };
        co_await plait::when_all(flushing(), reading());
        CHECK(got == filled(written, 1000));
    };
    plait::run(body());
}

TEST_CASE("a cancelled flush goes on at its byte", "[framing]") {
    auto body = [](auto& left, auto& right) -> task<> {
        plait::framed messages{left, plait::length_prefix{}};
        const std::size_t written = co_await fill(messages, 1000);
        const std::string expected = filled(written, 1000);
        std::string got;
        while (got.size() < expected.size()) {
            auto flushed = co_await plait::with_timeout(messages.flush(), 0ms);
            if (!flushed) CHECK(flushed.error() == errc::timed_out);
            got += co_await support::receive_text(right,
                                                  std::min<std::size_t>(7777, expected.size() - got.size()));
        }
        auto flushed = co_await messages.flush();
        CHECK(flushed);
        const bool same = got == expected;
        CHECK(same);
    };
    auto own = [&]() -> task<> {
        auto [left, right] = support::own_stream_pair(3000);
        auto helper = [](auto& stream, std::string& to) -> task<> {
            for (;;) {
                std::array<std::byte, 999> piece;
                auto received = co_await stream.recv(std::span<std::byte>(piece));
                if (!received) co_return;
                to.append(as_text(std::span(piece).first(*received)));
            }
        };
        plait::framed messages{left, plait::length_prefix{}};
        const std::size_t written = co_await fill(messages, 1000);
        std::string got;
        plait::task_group group;
        group.spawn(helper(right, got));
        for (;;) {
            auto flushed = co_await plait::with_timeout(messages.flush(), 0ms);
            if (flushed) break;
            CHECK(flushed.error() == errc::timed_out);
        }
        co_await support::until([&] { return got.size() == written * 1004; });
        group.request_stop();
        co_await group.join();
        CHECK(got == filled(written, 1000));
    };
    plait::run(support::with_small_tcp_pair(body));
    plait::run(own());
}

TEST_CASE("a large write that is cancelled before it began is withdrawn, and what was collected stays",
          "[framing]") {
    auto body = [](auto& left, auto& right) -> task<> {
        plait::framed messages{left, plait::length_prefix{}};
        const std::size_t written = co_await fill(messages, 1000);
        for (std::size_t size : {std::size_t{4096}, std::size_t{300'000}}) {
            auto withdrawn = co_await plait::with_timeout(messages.write(std::string(size, '?')), 2ms);
            CHECK(withdrawn.error() == errc::timed_out);
        }
        const std::string large(100'000, '!');
        const std::string expected = filled(written, 1000) + length_framed(large) + length_framed("small");
        std::string got;
        auto reading = [&]() -> task<> { got = co_await support::receive_text(right, expected.size()); };
        auto writing = [&]() -> task<> {
            auto second = co_await messages.write(large);
            CHECK(second);
            auto small = co_await messages.write("small");
            CHECK(small);
            auto flushed = co_await messages.flush();
            CHECK(flushed);
        };
        co_await plait::when_all(writing(), reading());
        const bool same = got == expected;
        CHECK(same);
    };
    plait::run(support::with_small_tcp_pair(body));
    plait::run(support::with_own_writer(body, 3000));
}

TEST_CASE("closing beside a large write that has not begun sends what was collected before it", "[framing]") {
    auto body = [&](auto& left, auto& right) -> task<> {
        plait::framed messages{left, plait::length_prefix{}};
        const std::size_t written = co_await fill(messages, 1000); // the last of them are collected
        auto writing = [&]() -> task<> {
            auto large = co_await messages.write(std::string(8000, '!'));
            CHECK(large.error() == errc::canceled);
        };
        auto closing = [&]() -> task<> {
            co_await support::turns(3);
            auto closed = co_await left.close();
            CHECK(closed);
        };
        std::string got;
        auto reading = [&]() -> task<> {
            co_await support::turns(6);
            got = co_await support::receive_all(right);
        };
        co_await plait::when_all(writing(), closing(), reading());
        const std::string expected = filled(written, 1000);
        CHECK(got.size() == expected.size());
        const bool same = got == expected;
        CHECK(same);
    };
    plait::run(support::with_small_tcp_pair(body));
}

TEST_CASE("a large write that is destroyed while it leaves fails the writing side for good", "[framing]") {
    auto body = [](auto& left, auto& right) -> task<> {
        plait::detail::environment& env = co_await plait::detail::this_environment();
        plait::framed messages{left, plait::length_prefix{}};
        const std::string large(8 << 20, 'x');
        auto writes = [&]() -> task<> {
            static_cast<void>(co_await messages.write("collected before it"));
            static_cast<void>(co_await messages.write(large));
        };
        support::foreign writer = support::carry(writes());
        writer.start(env);
        co_await support::turns(3);
        CHECK(!writer.done());
        writer.destroy();
        for (int i = 0; i < 2; ++i) { // what follows would stand in the middle of the frame
            auto written = co_await messages.write("after it");
            CHECK(written.error() == errc::closed);
            auto flushed = co_await messages.flush();
            CHECK(flushed.error() == errc::closed);
            auto next = co_await messages.next();
            CHECK(next.error() == errc::closed);
        }
        static_cast<void>(co_await left.close());
        const std::string came = co_await support::receive_all(right);
        CHECK(came.find("after it") == std::string::npos);
    };
    plait::run(support::with_small_tcp_pair(body));
    plait::run(support::with_own_writer(body, 3000));
}

TEST_CASE("a large write in a cancelled scope is withdrawn, and what was collected still leaves",
          "[framing]") {
    auto body = [&]() -> task<> {
        tcp_pair pair = co_await support::connected();
        plait::framed messages{std::move(pair.left), plait::length_prefix{}};
        auto cancelled = [&]() -> task<> {
            static_cast<void>(co_await plait::sleep_for(1h));
            static_cast<void>(co_await messages.write("collected"));
            auto large = co_await messages.write(std::string(10'000, 'x'));
            CHECK(large.error() == errc::canceled);
        };
        auto ended = co_await plait::with_timeout(cancelled(), 0ms);
        CHECK(ended.error() == errc::timed_out);
        auto got = co_await support::receive_text(pair.right, 13);
        CHECK(got == length_framed("collected"));
        auto later = co_await messages.write("later");
        CHECK(later);
        auto after = co_await support::receive_text(pair.right, 9);
        CHECK(after == length_framed("later"));
    };
    plait::run(body());
}

TEST_CASE("a large write that is cancelled midway has failed the writing side for good", "[framing]") {
    auto body = [](auto& left, auto& right) -> task<> {
        plait::framed messages{left, plait::length_prefix{}.max_frame(64 << 20)};
        static_cast<void>(co_await messages.write("before"));
        auto cut = co_await plait::with_timeout(messages.write(std::string(32 << 20, 'x')), 20ms);
        CHECK(cut.error() == errc::timed_out);
        for (int i = 0; i < 2; ++i) {
            auto small = co_await messages.write("small");
            CHECK(small.error() == errc::closed);
            auto large = co_await messages.write(std::string(5000, 'x'));
            CHECK(large.error() == errc::closed);
            auto flushed = co_await messages.flush();
            CHECK(flushed.error() == errc::closed);
            auto next = co_await messages.next();
            CHECK(next.error() == errc::closed);
        }
        const std::string start = co_await support::receive_text(right, 1000);
        CHECK(start == (length_framed("before") + std::string("\2\0\0\0", 4) + std::string(986, 'x')));
    };
    on_each_stream(body);
}

TEST_CASE("a stream whose unsent output is given up is closed", "[framing]") {
    plait::io_context context;
    auto body = [&]() -> task<> {
        tcp_pair pair = co_await support::connected();
        use_small_buffers(pair);
        const plait::native_socket handle = pair.left.native_handle();
        {
            plait::framed messages{std::move(pair.left), plait::length_prefix{}};
            static_cast<void>(co_await fill(messages, 4000));
        }
        // Two seconds later nothing is left of it, although the peer has not read a byte.
        auto closed = [&] { return open_sockets(context) == 1 && !support::is_open_socket(handle); };
        co_await support::until(closed);
    };
    context.run(body());
}

// --- failures ------------------------------------------------------------------------------------------------------

TEST_CASE("a failed send stays: write, flush and next report it", "[framing]") {
    auto over_tcp = [&]() -> task<> {
        tcp_pair pair = co_await support::connected();
        plait::framed messages{std::move(pair.left), plait::length_prefix{}};
        static_cast<void>(pair.right.set_linger(0s));
        pair.right = plait::tcp_stream();
        std::error_code first;
        while (!first) {
            static_cast<void>(co_await messages.write("into the void"));
            auto flushed = co_await messages.flush();
            first = flushed.error();
        }
        CHECK((first == std::errc::connection_reset || first == std::errc::broken_pipe));
        for (int i = 0; i < 2; ++i) {
            auto small = co_await messages.write("small");
            CHECK(small.error() == first);
            auto large = co_await messages.write(std::string(10'000, 'x'));
            CHECK(large.error() == first);
            auto flushed = co_await messages.flush();
            CHECK(flushed.error() == first);
            auto next = co_await messages.next();
            CHECK(next.error() == first);
        }
    };
    auto own = [&]() -> task<> {
        auto [left, right] = support::own_stream_pair();
        plait::framed messages{left, plait::length_prefix{}};
        right = plait::memory_stream();
        static_cast<void>(co_await messages.write("into the void"));
        auto first = co_await messages.flush();
        CHECK(first.error() == std::errc::broken_pipe);
        for (int i = 0; i < 2; ++i) {
            auto small = co_await messages.write("small");
            CHECK(small.error() == std::errc::broken_pipe);
            auto flushed = co_await messages.flush();
            CHECK(flushed.error() == std::errc::broken_pipe);
            auto next = co_await messages.next();
            CHECK(next.error() == std::errc::broken_pipe);
        }
    };
    plait::run(over_tcp());
    plait::run(own());
}

TEST_CASE("a failed send wakes a writer that waits for room, and a flush", "[framing]") {
    auto body = [&]() -> task<> {
        tcp_pair pair = co_await support::connected();
        use_small_buffers(pair);
        plait::framed messages{std::move(pair.left), plait::length_prefix{}};
        static_cast<void>(co_await fill(messages, 4000));
        std::error_code error;
        auto writing = [&]() -> task<> {
            while (!error) error = (co_await messages.write(std::string(4000, 'x'))).error();
        };
        auto leaving = [&]() -> task<> {
            co_await support::turns(20);
            static_cast<void>(pair.right.set_linger(0s));
            pair.right = plait::tcp_stream();
        };
        co_await plait::when_all(writing(), leaving());
        CHECK((error == std::errc::connection_reset || error == std::errc::broken_pipe));
    };
    plait::run(body());
}

// --- one reader and one writer ---------------------------------------------------------------------------------------

namespace {

/// One task reads what another wrote; the peer sends everything back.
template <class L, class R>
task<> echo_with_two_tasks(L& left, R& right, std::size_t count) {
    plait::framed messages{left, plait::length_prefix{}};
    auto payload = [](std::size_t i) { return std::string(i * 37 % 6000, static_cast<char>('a' + i % 26)); };
    auto writing = [&]() -> task<> {
        for (std::size_t i = 0; i < count; ++i) {
            auto written = co_await messages.write(payload(i));
            REQUIRE(written);
            if (i % 5 == 0) co_await plait::yield();
        }
        auto flushed = co_await messages.flush();
        CHECK(flushed);
    };
    auto reading = [&]() -> task<> {
        for (std::size_t i = 0; i < count; ++i) {
            auto message = co_await messages.next();
            REQUIRE(message);
            const bool same = as_text(*message) == payload(i);
            REQUIRE(same);
        }
    };
    auto echoing = [&]() -> task<> {
        std::string piece(5000, '\0');
        for (;;) {
            auto received = co_await right.recv(std::as_writable_bytes(std::span(piece)));
            if (!received) co_return;
            auto sent = co_await right.send_all(std::string_view(piece).substr(0, *received));
            if (!sent) co_return;
        }
    };
    plait::task_group group;
    group.spawn(echoing);
    co_await plait::when_all(writing(), reading());
    group.request_stop();
    co_await group.join();
}

} // namespace

TEST_CASE("one task reads while another writes on one framed", "[framing]") {
    auto in_memory = [&]() -> task<> {
        auto [left, right] = plait::memory_stream_pair(20'000);
        co_await echo_with_two_tasks(left, right, scaled(2000));
    };
    auto own = [&]() -> task<> {
        auto [left, right] = support::own_stream_pair(20'000);
        co_await echo_with_two_tasks(left, right, scaled(2000));
    };
    auto over_tcp = [&]() -> task<> {
        tcp_pair pair = co_await support::connected();
        co_await echo_with_two_tasks(pair.left, pair.right, scaled(2000));
    };
    plait::run(over_tcp());
    plait::run(in_memory());
    plait::run(own());
}

TEST_CASE("on a stream type of one's own a write waits for a next that flushes, and goes on with its rest",
          "[framing]") {
    auto body = [&]() -> task<> {
        auto [left, right] = support::own_stream_pair(1000);
        plait::framed messages{left, plait::length_prefix{}};
        static_cast<void>(co_await messages.write(std::string(3000, 'a')));
        plait::task_group group;
        // Its flush stands in the middle of the first frame when it is cancelled.
        auto reading = [&]() -> task<> {
            auto next = co_await messages.next();
            CHECK(next.error() == errc::canceled);
        };
        group.spawn(reading);
        co_await support::turns(5);
        static_cast<void>(co_await messages.write(std::string(3000, 'b')));
        std::string got;
        const std::string expected = length_framed(std::string(3000, 'a')) +
                                     length_framed(std::string(3000, 'b')) +
                                     length_framed(std::string(9000, 'c')) + length_framed("d");
        auto writing = [&]() -> task<> {
            auto large = co_await messages.write(std::string(9000, 'c'));
            CHECK(large);
            static_cast<void>(co_await messages.write("d"));
            auto flushed = co_await messages.flush();
            CHECK(flushed);
        };
        auto peer = [&, &other = right]() -> task<> {
            co_await support::turns(5);
            group.request_stop();
            co_await support::turns(5);
            got = co_await support::receive_text(other, expected.size());
        };
        co_await plait::when_all(writing(), peer());
        co_await group.join();
        const bool same = got == expected;
        CHECK(same);
    };
    plait::run(body());
}

// --- a stream type of the user's own ---------------------------------------------------------------------------------

TEST_CASE("on a stream type of one's own collected output leaves in next, flush and close", "[framing]") {
    auto body = [&]() -> task<> {
        STATIC_CHECK(plait::stream<own_stream>);
        STATIC_CHECK_FALSE(plait::detail::collecting_stream<own_stream>);
        auto [left, right] = support::own_stream_pair();
        plait::framed messages{std::move(left), plait::length_prefix{}};
        std::array<std::byte, 64> buffer;

        static_cast<void>(co_await messages.write("one"));
        auto nothing = co_await plait::with_timeout(right.recv(std::span<std::byte>(buffer)), 1ms);
        CHECK(nothing.error() == errc::timed_out);
        auto flushed = co_await messages.flush();
        CHECK(flushed);
        auto one = co_await support::receive_text(right, 7);
        CHECK(one == length_framed("one"));

        static_cast<void>(co_await messages.write("two"));
        auto next = co_await plait::with_timeout(messages.next(), 0ms);
        CHECK(next.error() == errc::timed_out);
        auto two = co_await support::receive_text(right, 7);
        CHECK(two == length_framed("two"));

        // A frame that is there already needs no suspension, and so no flush.
        static_cast<void>(co_await right.send_all(length_framed("a") + length_framed("b")));
        auto a = co_await messages.next();
        CHECK(as_text(*a) == "a");
        static_cast<void>(co_await messages.write("three"));
        auto b = co_await messages.next();
        CHECK(as_text(*b) == "b");
        auto still_nothing = co_await plait::with_timeout(right.recv(std::span<std::byte>(buffer)), 1ms);
        CHECK(still_nothing.error() == errc::timed_out);
        auto closed = co_await messages.close();
        CHECK(closed);
        auto rest = co_await support::receive_all(right);
        CHECK(rest == length_framed("three"));
    };
    plait::run(body());
}

TEST_CASE("a stream that is not open answers write, flush and next with an error", "[framing]") {
    auto body = [&]() -> task<> {
        plait::framed closed{plait::tcp_stream(), plait::length_prefix{}};
        auto small = co_await closed.write("x");
        CHECK(small.error() == std::errc::bad_file_descriptor);
        auto large = co_await closed.write(std::string(5000, 'x'));
        CHECK(large.error() == std::errc::bad_file_descriptor);
        auto flushed = co_await closed.flush();
        CHECK(flushed.error() == std::errc::bad_file_descriptor);
        auto next = co_await closed.next();
        CHECK(next.error() == std::errc::bad_file_descriptor);
    };
    plait::run(body());
}
