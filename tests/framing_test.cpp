// Reading frames. framing_write_test.cpp has the other direction.

#include <plait/framing.hpp>
#include <plait/io_context.hpp>
#include <plait/tcp.hpp>
#include <plait/time.hpp>
#include <plait/when.hpp>

#include "support/allocations.hpp"
#include "support/framing_cases.hpp"
#include "support/scale.hpp"
#include "support/streams.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <random>
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
using support::with_memory_pair;
using support::with_own_pair;
using support::with_tcp_pair;

namespace {

/// What a reader gave: a frame, or an error.
struct outcome {
    std::string frame;
    std::error_code error;

    friend bool operator==(const outcome&, const outcome&) = default;
};

outcome of(const plait::io_result<std::span<const std::byte>>& result) {
    if (!result) return {"", result.error()};
    return {std::string(as_text(*result)), {}};
}

bool is_final(std::error_code error) {
    return error == errc::end_of_stream || error == errc::truncated_frame;
}

/// Sends the pieces one by one, with time in between for the other side to read them one by one.
template <class S>
task<> feed(S& stream, const std::vector<support::bytes>& pieces, bool eof, bool& fed) {
    for (const auto& piece : pieces) {
        if (piece.empty()) continue;
        static_cast<void>(co_await stream.send_all(piece));
        co_await support::turns(pieces.size() < 50 ? 3 : 1);
    }
    if (eof) static_cast<void>(co_await stream.shutdown_send());
    fed = true;
}

/// Everything that the reader gives: up to a final error, or, where the stream stays open, until it would wait.
template <class R>
task<> collect(R& reader, bool eof, bool& fed, std::vector<outcome>& outcomes, std::size_t expected) {
    while (outcomes.size() < expected) {
        auto next = co_await reader.next();
        outcomes.push_back(of(next));
        if (is_final(outcomes.back().error)) break;
    }
    co_await support::until([&] { return fed; });
    if (eof) co_return;
    // Either it repeats a fatal error, or it waits.
    auto more = co_await plait::with_timeout(reader.next(), 1ms);
    if (more.error() != errc::timed_out) outcomes.push_back(of(more));
}

template <class S, class C>
task<std::vector<outcome>> read(S& from, S& to, C codec, const std::vector<support::bytes>& pieces, bool eof,
                                std::size_t expected) {
    std::vector<outcome> outcomes;
    bool fed = false;
    plait::frame_reader reader{to, codec};
    co_await plait::when_all(feed(from, pieces, eof, fed), collect(reader, eof, fed, outcomes, expected));
    co_return outcomes;
}

template <class C>
task<std::vector<outcome>> read_in_memory(C codec, const std::vector<support::bytes>& pieces, bool eof,
                                          std::size_t expected) {
    auto [from, to] = plait::memory_stream_pair();
    auto outcomes = co_await read(from, to, codec, pieces, eof, expected);
    co_return outcomes;
}

template <class C>
task<std::vector<outcome>> read_over_tcp(C codec, const std::vector<support::bytes>& pieces, bool eof,
                                         std::size_t expected) {
    tcp_pair pair = co_await support::connected();
    auto outcomes = co_await read(pair.left, pair.right, codec, pieces, eof, expected);
    co_return outcomes;
}

template <class C>
task<std::vector<outcome>> read_own_stream(C codec, const std::vector<support::bytes>& pieces, bool eof,
                                           std::size_t expected) {
    auto [to, from] = support::own_stream_pair();
    std::vector<outcome> outcomes;
    bool fed = false;
    plait::frame_reader reader{to, codec};
    co_await plait::when_all(feed(from, pieces, eof, fed), collect(reader, eof, fed, outcomes, expected));
    co_return outcomes;
}

bool fits(const outcome& got, const support::expectation& expected) {
    using kind = support::expectation::kind;
    switch (expected.what) {
    case kind::frame: return !got.error && got.frame == as_text(expected.data);
    case kind::eof: return got.error == errc::end_of_stream;
    case kind::error:
        for (errc e : expected.errors)
            if (got.error == e) return true;
        return false;
    default: return false;
    }
}

std::string describe(const std::vector<outcome>& outcomes) {
    std::string text;
    for (const outcome& each : outcomes)
        text += each.error ? "[" + each.error.message() + "] " : '"' + each.frame + "\" ";
    return text;
}

/// All of what was expected, in order; behind it nothing but a fatal error repeated.
bool fits(const std::vector<outcome>& got, const framing_case& test) {
    if (got.size() < test.expect.size()) return false;
    for (std::size_t i = 0; i < test.expect.size(); ++i)
        if (!fits(got[i], test.expect[i])) return false;
    if (got.size() == test.expect.size()) return true;
    return got.size() == test.expect.size() + 1 && got.back() == got[got.size() - 2] && got.back().error;
}

/// The three ways to cut: as in the case, not at all, at every byte.
std::vector<std::vector<support::bytes>> cuts_of(const framing_case& test) {
    const support::bytes all = test.input();
    std::vector<support::bytes> single;
    for (std::byte each : all) single.push_back({each});
    std::vector<std::vector<support::bytes>> ways;
    ways.push_back(test.chunks);
    ways.push_back({all});
    ways.push_back(single);
    return ways;
}

std::string length_framed(std::string_view payload) {
    std::string text(4, '\0');
    for (std::size_t i = 0; i < 4; ++i) text[i] = static_cast<char>(payload.size() >> (24 - 8 * i));
    return text.append(payload);
}

/// Calls f(codec, "how a frame with this payload looks") with one codec of each kind.
template <class F>
void with_each_codec(F f) {
    f(plait::length_prefix{}, [](std::string_view payload) { return length_framed(payload); });
    f(plait::varint_prefix{}, [](std::string_view payload) {
        return std::string(1, static_cast<char>(payload.size())).append(payload);
    });
    f(plait::lines{}, [](std::string_view payload) { return std::string(payload).append("\r\n"); });
    f(plait::delimited{"<>"}, [](std::string_view payload) { return std::string(payload).append("<>"); });
}

} // namespace

// --- the cases -------------------------------------------------------------------------------------------------

TEST_CASE("every decoding case gives its items through a reader, however the bytes are cut", "[framing]") {
    plait::io_context context;
    for (const framing_case& test : support::framing_cases()) {
        if (test.way != framing_case::direction::decode || test.kind == framing_case::codec_kind::exact)
            continue;
        support::with_codec(test, [&](auto codec) {
            int way = 0;
            for (const auto& pieces : cuts_of(test)) {
                INFO(test.id << ", cut " << way++);
                const auto in_memory =
                    context.run(read_in_memory(codec, pieces, test.eof, test.expect.size()));
                INFO("in memory: " << describe(in_memory));
                CHECK(fits(in_memory, test));
                const auto over_tcp = context.run(read_over_tcp(codec, pieces, test.eof, test.expect.size()));
                INFO("over TCP: " << describe(over_tcp));
                CHECK(fits(over_tcp, test));
                const auto own = context.run(read_own_stream(codec, pieces, test.eof, test.expect.size()));
                INFO("a stream type of one's own: " << describe(own));
                CHECK(fits(own, test));
            }
        });
    }
}

TEST_CASE("every exact case gives its items through recv_exactly", "[framing]") {
    auto play = [](auto& from, auto& to, const framing_case& test,
                   const std::vector<support::bytes>& pieces) -> task<> {
        bool fed = false;
        auto reading = [&]() -> task<> {
            for (std::size_t i = 0; i < test.reads.size(); ++i) {
                support::bytes buffer(test.reads[i]);
                auto received = co_await to.recv_exactly(buffer);
                const auto& expected = test.expect.at(i);
                if (received) {
                    CHECK(expected.what == support::expectation::kind::frame);
                    CHECK(buffer == expected.data);
                } else {
                    CHECK(fits({"", received.error()}, expected));
                    if (expected.partial) {
                        buffer.resize(received.bytes());
                        CHECK(buffer == *expected.partial);
                    }
                }
            }
        };
        co_await plait::when_all(feed(from, pieces, test.eof, fed), reading());
    };
    for (const framing_case& test : support::framing_cases()) {
        if (test.kind != framing_case::codec_kind::exact) continue;
        for (const auto& pieces : cuts_of(test)) {
            INFO(test.id);
            auto in_memory = [&]() -> task<> {
                auto [from, to] = plait::memory_stream_pair();
                co_await play(from, to, test, pieces);
            };
            auto over_tcp = [&]() -> task<> {
                tcp_pair pair = co_await support::connected();
                co_await play(pair.left, pair.right, test, pieces);
            };
            plait::run(in_memory());
            plait::run(over_tcp());
        }
    }
}

TEST_CASE("recv_exactly tells a cut from an end, and 0 bytes succeed at once", "[framing]") {
    auto body = [](auto& from, auto& to) -> task<> {
        std::array<std::byte, 4> buffer;
        auto nothing = co_await to.recv_exactly(std::span<std::byte>());
        CHECK(nothing.value() == 0);
        static_cast<void>(co_await from.send_all("abcdef"));
        static_cast<void>(co_await from.shutdown_send());
        auto whole = co_await to.recv_exactly(buffer);
        CHECK(whole.value() == 4);
        auto cut = co_await to.recv_exactly(buffer);
        CHECK(cut.error() == errc::truncated_frame);
        CHECK(cut.bytes() == 2);
        auto end = co_await to.recv_exactly(buffer);
        CHECK(end.error() == errc::end_of_stream);
        CHECK(end.bytes() == 0);
        auto still_nothing = co_await to.recv_exactly(std::span<std::byte>());
        CHECK(still_nothing.value() == 0);
    };
    plait::run(with_memory_pair(body));
    plait::run(with_tcp_pair(body));
}

TEST_CASE("a reader agrees with its codec over random bytes and random cuts", "[framing]") {
    std::mt19937 random(20240611);
    auto below = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
    plait::io_context context;
    auto compare = [&](auto codec, std::string_view alphabet) {
        support::bytes input(below(60));
        for (auto& each : input) each = static_cast<std::byte>(alphabet[below(alphabet.size())]);
        const bool eof = below(2) == 0;
        std::vector<support::bytes> pieces;
        for (std::size_t at = 0; at < input.size();) {
            const std::size_t size = std::min(input.size() - at, 1 + below(12));
            const auto from = input.begin() + static_cast<std::ptrdiff_t>(at);
            pieces.emplace_back(from, from + static_cast<std::ptrdiff_t>(size));
            at += size;
        }
        std::vector<support::event> events;
        support::bytes window;
        auto bare = codec;
        support::read_all(bare, input, {}, eof, support::asking::eagerly, events, window);
        std::vector<outcome> expected;
        for (const auto& each : events) {
            if (each.what == support::event::kind::frame)
                expected.push_back(
                    {std::string(as_text(std::span(input).subspan(each.position, each.size))), {}});
            else
                expected.push_back(
                    {"", each.what == support::event::kind::end ? errc::end_of_stream : each.error});
        }
        const auto cut = [&](std::vector<outcome> got) {
            if (got.size() == expected.size() + 1 && !expected.empty() && got.back() == expected.back())
                got.pop_back(); // a fatal error, repeated
            return got;
        };
        const auto in_memory = cut(context.run(read_in_memory(codec, pieces, eof, expected.size())));
        const auto over_tcp = cut(context.run(read_over_tcp(codec, pieces, eof, expected.size())));
        const auto own = cut(context.run(read_own_stream(codec, pieces, eof, expected.size())));
        INFO("input " << support::describe(events, input));
        INFO("in memory " << describe(in_memory) << " over TCP " << describe(over_tcp) << " own "
                          << describe(own));
        CHECK(in_memory == expected);
        CHECK(over_tcp == expected);
        CHECK(own == expected);
    };
    using namespace std::string_view_literals;
    constexpr auto discard = plait::oversize::discard;
    for (std::size_t round = 0; round < scaled(60); ++round) {
        compare(plait::length_prefix{}.width(1).max_frame(6).on_oversize(discard), "\0\1\2\5\6\7\x09x"sv);
        compare(plait::length_prefix{}.width(2).little_endian().signed_length().max_frame(300),
                "\0\0\1\3x\x80"sv);
        compare(plait::length_prefix{}.width(2).offset(1).adjustment(-2).strip(0), "\0\0\1\3\4\7"sv);
        compare(plait::varint_prefix{}.max_bytes(2).max_frame(5).on_oversize(discard),
                "\0\1\3\5\6\x80\x81"sv);
        compare(plait::lines{}.max_frame(4).on_oversize(discard).at_end(plait::remainder::emit),
                "ab\r\n\n"sv);
        compare(plait::lines{}.max_frame(9).lf_only().keep_terminator().at_end(plait::remainder::drop),
                "ab\r\n"sv);
        compare(plait::delimited{"ab"}.add("b").add("aab").max_frame(5).on_oversize(discard), "aaabbc"sv);
        compare(plait::delimited{"--"}.at_end(plait::remainder::emit), "--x"sv);
    }
}

// --- the rules of a reader ---------------------------------------------------------------------------------------

TEST_CASE("a view stays as it is until the following next", "[framing]") {
    auto body = [](auto& from, auto& to) -> task<> {
        plait::frame_reader reader{to, plait::length_prefix{}};
        for (int round = 0; round < 20; ++round) {
            const std::string first(static_cast<std::size_t>(1 + round * 37), 'a'), second(500, 'b');
            const std::string both = length_framed(first) + length_framed(second);
            static_cast<void>(co_await from.send_all(both));
            auto one = co_await reader.next();
            static_cast<void>(co_await from.send_all(length_framed("third")));
            co_await support::turns(5);
            CHECK(as_text(*one) == first);
            auto two = co_await reader.next();
            co_await support::turns(5);
            CHECK(as_text(*two) == second);
            auto three = co_await reader.next();
            CHECK(as_text(*three) == "third");
        }
    };
    plait::run(with_memory_pair(body));
    plait::run(with_tcp_pair(body));
}

TEST_CASE("next does not suspend and makes no system call when a whole frame is there", "[framing]") {
    auto body = [&]() -> task<> {
        tcp_pair pair = co_await support::connected();
        std::string frames;
        for (int i = 0; i < 100; ++i) frames += length_framed("message");
        static_cast<void>(co_await pair.left.send_all(frames));
        plait::frame_reader reader{pair.right, plait::length_prefix{}};
        plait::io_context& context = co_await plait::this_context();
        auto first = co_await reader.next();
        CHECK(as_text(*first) == "message");
        const auto before = context.metrics();
        int ready = 0;
        while (reader.next().await_ready()) ++ready; // each takes a frame
        CHECK(ready == 99);
        CHECK(context.metrics().system_calls == before.system_calls);
        CHECK(context.metrics().turns == before.turns);
    };
    plait::run(body());
}

TEST_CASE("cancelling next at every byte loses none", "[framing]") {
    plait::io_context context;
    with_each_codec([&](auto codec, auto encoded) {
        auto body = [&](auto& from, auto& to) -> task<> {
            plait::frame_reader reader{to, codec};
            for (std::string_view payload : {"hello, reader", "", "x", "and again"}) {
                const std::string frame = encoded(payload);
                for (std::size_t i = 0; i < frame.size(); ++i) {
                    for (int attempt = 0; attempt < 3; ++attempt) {
                        auto early = co_await plait::with_timeout(reader.next(), 0ms);
                        CHECK(early.error() == errc::timed_out);
                    }
                    static_cast<void>(co_await from.send_all(frame.substr(i, 1)));
                }
                for (;;) {
                    auto message = co_await plait::with_timeout(reader.next(), 0ms);
                    if (message.error() == errc::timed_out) continue;
                    REQUIRE(message);
                    CHECK(as_text(*message) == payload);
                    break;
                }
            }
        };
        context.run(with_memory_pair(body));
        context.run(with_own_pair(body));
        context.run(with_tcp_pair(body));
    });
}

TEST_CASE("a next that loses in when_any loses no byte", "[framing]") {
    auto body = [&](auto& from, auto& to) -> task<> {
        const std::size_t count = scaled(300);
        auto sending = [&]() -> task<> {
            for (std::size_t i = 0; i < count; ++i) {
                const std::string frame = length_framed("message " + std::to_string(i));
                const std::size_t middle = i % frame.size();
                static_cast<void>(co_await from.send_all(frame.substr(0, middle)));
                co_await support::turns(static_cast<int>(i % 4));
                static_cast<void>(co_await from.send_all(frame.substr(middle)));
            }
        };
        auto receiving = [&]() -> task<> {
            plait::frame_reader reader{to, plait::length_prefix{}};
            for (std::size_t i = 0; i < count;) {
                auto first = co_await plait::when_any(reader.next(), support::turns(static_cast<int>(i % 3)));
                auto& message = std::get<0>(first.results);
                REQUIRE(message);
                if (message->error() == errc::canceled) continue;
                REQUIRE(*message);
                CHECK(as_text(**message) == "message " + std::to_string(i));
                ++i;
            }
        };
        co_await plait::when_all(sending(), receiving());
    };
    plait::run(with_memory_pair(body, 7));
    plait::run(with_own_pair(body, 7));
    plait::run(with_tcp_pair(body));
}

TEST_CASE("a fatal error repeats, whatever comes after it", "[framing]") {
    auto body = [&]() -> task<> {
        auto [from, to] = plait::memory_stream_pair();
        plait::frame_reader reader{to, plait::length_prefix{}.max_frame(10)};
        static_cast<void>(
            co_await from.send_all(length_framed("good") + length_framed(std::string(11, 'x'))));
        auto good = co_await reader.next();
        CHECK(as_text(*good) == "good");
        for (int i = 0; i < 3; ++i) {
            auto bad = co_await reader.next();
            CHECK(bad.error() == errc::frame_too_large);
            static_cast<void>(co_await from.send_all(length_framed("good")));
        }
        from = plait::memory_stream();
        auto bad = co_await reader.next();
        CHECK(bad.error() == errc::frame_too_large);
    };
    plait::run(body());
}

TEST_CASE("a negative length is malformed, and the end of the stream repeats", "[framing]") {
    auto body = [&]() -> task<> {
        auto [from, to] = plait::memory_stream_pair();
        auto [from2, to2] = plait::memory_stream_pair();
        static_cast<void>(co_await from.send_all(std::string_view("\xff\xff\xff\xff", 4)));
        plait::frame_reader reader{to, plait::length_prefix{}.little_endian().signed_length()};
        plait::frame_reader ended{to2, plait::lines{}};
        static_cast<void>(co_await from2.send_all("last\n"));
        static_cast<void>(co_await from2.shutdown_send());
        for (int i = 0; i < 3; ++i) {
            auto bad = co_await reader.next();
            CHECK(bad.error() == errc::malformed_frame);
        }
        auto last = co_await ended.next();
        CHECK(as_text(*last) == "last");
        for (int i = 0; i < 3; ++i) {
            auto end = co_await ended.next();
            CHECK(end.error() == errc::end_of_stream);
        }
    };
    plait::run(body());
}

TEST_CASE("a discarded frame is told once, and the good one behind it in the same read is delivered",
          "[framing]") {
    auto body = [&]() -> task<> {
        tcp_pair pair = co_await support::connected();
        plait::frame_reader reader{
            pair.right, plait::length_prefix{}.max_frame(10).on_oversize(plait::oversize::discard)};
        const std::string bad = length_framed(std::string(20'000, 'x'));
        for (int round = 0; round < 5; ++round) {
            static_cast<void>(
                co_await pair.left.send_all(bad + length_framed("good") + bad + length_framed("too")));
            auto first = co_await reader.next();
            CHECK(first.error() == errc::frame_too_large);
            auto second = co_await reader.next();
            CHECK(as_text(*second) == "good");
            auto third = co_await reader.next();
            CHECK(third.error() == errc::frame_too_large);
            auto fourth = co_await reader.next();
            CHECK(as_text(*fourth) == "too");
        }
        static_cast<void>(co_await pair.left.send_all(bad.substr(0, 5000)));
        static_cast<void>(co_await pair.left.shutdown_send());
        auto told = co_await reader.next();
        CHECK(told.error() == errc::frame_too_large);
        for (int i = 0; i < 2; ++i) {
            auto cut = co_await reader.next();
            CHECK(cut.error() == errc::truncated_frame);
        }
    };
    plait::run(body());
}

TEST_CASE("a stream that ends inside a frame is truncated at every offset", "[framing]") {
    plait::io_context context;
    with_each_codec([&](auto codec, auto encoded) {
        for (std::string_view payload : {"payload", ""}) {
            const std::string frame = encoded(payload);
            for (std::size_t size = 0; size <= frame.size(); ++size) {
                INFO("offset " << size << " of " << frame.size());
                auto body = [&](auto& from, auto& to) -> task<> {
                    plait::frame_reader reader{to, codec};
                    static_cast<void>(co_await from.send_all(frame.substr(0, size)));
                    static_cast<void>(co_await from.shutdown_send());
                    if (size == frame.size()) {
                        auto whole = co_await reader.next();
                        CHECK(as_text(whole.value()) == payload);
                    }
                    const errc expected =
                        size % frame.size() == 0 ? errc::end_of_stream : errc::truncated_frame;
                    for (int i = 0; i < 2; ++i) {
                        auto end = co_await reader.next();
                        CHECK(end.error() == expected);
                    }
                };
                context.run(with_memory_pair(body));
                context.run(with_own_pair(body));
                context.run(with_tcp_pair(body));
            }
        }
    });
}

TEST_CASE("a reset inside a frame is the system's error, never a frame and never a clean end", "[framing]") {
    plait::io_context context;
    with_each_codec([&](auto codec, auto encoded) {
        const std::string frame = encoded("payload");
        for (std::size_t size = 0; size < frame.size(); ++size) {
            auto body = [&]() -> task<> {
                tcp_pair pair = co_await support::connected();
                plait::frame_reader reader{pair.right, codec};
                static_cast<void>(co_await pair.left.send_all(frame.substr(0, size)));
                static_cast<void>(pair.left.set_linger(0s));
                pair.left = plait::tcp_stream();
                for (int i = 0; i < 2; ++i) {
                    auto end = co_await reader.next();
                    CHECK(end.error() == std::errc::connection_reset);
                }
            };
            context.run(body());
        }
    });
}

// --- memory ------------------------------------------------------------------------------------------------------

TEST_CASE("a header that claims gigabytes makes the reader reserve nothing", "[framing]") {
    if (!support::counts_allocations()) SKIP("malloc cannot be counted in this build");
    auto body = [&](auto& from, auto& to) -> task<> {
        constexpr std::size_t gigabytes = std::size_t{4} << 30;
        plait::frame_reader reader{to, plait::length_prefix{}.width(8).max_frame(gigabytes)};
        static_cast<void>(co_await from.send_all(std::string_view("\0\0\0\1\0\0\0\0", 8)));
        const auto before = support::allocated_bytes();
        for (int i = 0; i < 20; ++i) {
            auto message = co_await plait::with_timeout(reader.next(), 0ms);
            CHECK(message.error() == errc::timed_out);
            static_cast<void>(co_await from.send_all("x"));
        }
        CHECK(support::allocated_bytes() - before < 256 * 1024); // frames of coroutines among them
    };
    plait::run(with_memory_pair(body));
    plait::run(with_own_pair(body));
    plait::run(with_tcp_pair(body));
}

namespace {

/// Leases out of a memory stream, counted.
class counted_leases {
  public:
    explicit counted_leases(plait::memory_stream inner) : inner_(std::move(inner)) {}

    task<plait::io_result<plait::lease>> recv() {
        std::array<std::byte, 64> bytes;
        auto received = co_await inner_.recv(std::span<std::byte>(bytes));
        if (!received) co_return plait::io_result<plait::lease>(received.error(), 0);
        auto* fresh = new block;
        fresh->release = [](plait::detail::buffer_block& which) noexcept {
            --live;
            delete static_cast<block*>(&which);
        };
        fresh->bytes = bytes;
        ++live;
        plait::lease piece(fresh->bytes.data(), *received, fresh);
        co_return plait::io_result<plait::lease>(std::move(piece), *received);
    }
    auto recv(std::span<std::byte> buffer) { return inner_.recv(buffer); }

    inline static int live = 0;

  private:
    struct block : plait::detail::buffer_block {
        std::array<std::byte, 64> bytes;
    };
    plait::memory_stream inner_;
};

} // namespace

TEST_CASE("a waiting reader holds no lease, neither between frames nor inside one", "[framing]") {
    auto body = [&]() -> task<> {
        auto [from, to] = plait::memory_stream_pair();
        plait::frame_reader reader{counted_leases(std::move(to)), plait::length_prefix{}};
        const std::string frame = length_framed("twelve bytes");
        for (int round = 0; round < 3; ++round) {
            static_cast<void>(co_await from.send_all(frame));
            auto message = co_await reader.next();
            CHECK(as_text(*message) == "twelve bytes");
            CHECK(counted_leases::live == 1); // what the view refers to
            auto idle = co_await plait::with_timeout(reader.next(), 0ms);
            CHECK(idle.error() == errc::timed_out);
            CHECK(counted_leases::live == 0);
            static_cast<void>(co_await from.send_all(frame.substr(0, 7)));
            auto partial = co_await plait::with_timeout(reader.next(), 0ms);
            CHECK(partial.error() == errc::timed_out);
            CHECK(counted_leases::live == 0);
            static_cast<void>(co_await from.send_all(frame.substr(7)));
            auto whole = co_await reader.next();
            CHECK(as_text(*whole) == "twelve bytes");
            CHECK(counted_leases::live == 0); // in memory of the reader's own
        }
    };
    plait::run(body());
    CHECK(counted_leases::live == 0);
}

TEST_CASE("a large frame arrives whole", "[framing]") {
    const std::string payload = [] {
        std::string text;
        for (std::size_t i = 0; text.size() < 3'000'000; ++i) text += std::to_string(i * 7919);
        return text;
    }();
    auto body = [&](auto& from, auto& to) -> task<> {
        plait::frame_reader reader{to, plait::length_prefix{}};
        auto sending = [&]() -> task<> {
            static_cast<void>(co_await from.send_all(length_framed(payload) + length_framed("small")));
        };
        auto receiving = [&]() -> task<> {
            auto message = co_await reader.next();
            const bool same = as_text(*message) == payload;
            CHECK(same);
            auto small = co_await reader.next();
            CHECK(as_text(*small) == "small");
        };
        co_await plait::when_all(sending(), receiving());
    };
    plait::run(with_memory_pair(body));
    plait::run(with_tcp_pair(body));
}

// --- whose stream, whose codec -------------------------------------------------------------------------------------

TEST_CASE("an lvalue stream is held by reference, an rvalue is moved in", "[framing]") {
    auto body = [&]() -> task<> {
        auto [from, to] = plait::memory_stream_pair();
        {
            plait::frame_reader borrowed{to, plait::lines{}};
            STATIC_CHECK(
                std::same_as<decltype(borrowed), plait::frame_reader<plait::memory_stream&, plait::lines>>);
            CHECK(&borrowed.stream() == &to);
            static_cast<void>(co_await from.send_all("one\n"));
            auto line = co_await borrowed.next();
            CHECK(as_text(*line) == "one");
        }
        static_cast<void>(co_await from.send_all("two\n"));
        plait::frame_reader owned{std::move(to), plait::lines{}};
        STATIC_CHECK(std::same_as<decltype(owned), plait::frame_reader<plait::memory_stream, plait::lines>>);
        auto line = co_await owned.next();
        CHECK(as_text(*line) == "two");
    };
    plait::run(body());
}

TEST_CASE("a framed that is moved between awaits goes on with the bytes that it has", "[framing]") {
    auto body = [&](auto& from, auto& to) -> task<> {
        using stream_type = std::remove_reference_t<decltype(to)>;
        plait::framed first{std::move(to), plait::length_prefix{}};
        const std::string frame = length_framed("moved along");
        static_cast<void>(
            co_await from.send_all(length_framed("one") + length_framed("two") + frame.substr(0, 6)));
        auto one = co_await first.next();
        CHECK(as_text(*one) == "one");
        static_cast<void>(co_await first.write("answer"));
        plait::framed<stream_type, plait::length_prefix> second(std::move(first));
        auto two = co_await second.next();
        CHECK(as_text(*two) == "two");
        auto none = co_await plait::with_timeout(second.next(), 0ms);
        CHECK(none.error() == errc::timed_out);
        plait::framed<stream_type, plait::length_prefix> third(std::move(second));
        static_cast<void>(co_await from.send_all(frame.substr(6)));
        auto whole = co_await third.next();
        CHECK(as_text(*whole) == "moved along");
        auto flushed = co_await third.flush();
        CHECK(flushed);
        auto answer = co_await support::receive_text(from, 10);
        CHECK(answer == length_framed("answer"));
    };
    plait::run(with_memory_pair(body));
    plait::run(with_own_pair(body));
    plait::run(with_tcp_pair(body));
}

namespace {

/// Records of 16 bytes: a codec as a user writes it.
struct records {
    plait::decoded decode(std::span<const std::byte> bytes) {
        if (bytes.size() < 16) return plait::decoded::need(16 - bytes.size());
        return plait::decoded::frame(16, 0, 16);
    }
    plait::decoded finish(std::span<const std::byte> bytes) {
        if (bytes.size() >= 16) return decode(bytes);
        if (bytes.empty()) return plait::decoded::end();
        return plait::decoded::failed(errc::truncated_frame);
    }
    plait::io_result<void> encode(std::span<const std::byte> payload, plait::frame_edges& edges) {
        if (payload.size() != 16) return errc::malformed_frame;
        edges = {};
        return {};
    }
};

} // namespace

TEST_CASE("a codec of the user's own reads and writes like the others", "[framing]") {
    auto body = [&]() -> task<> {
        tcp_pair pair = co_await support::connected();
        plait::framed left{std::move(pair.left), records()};
        plait::framed right{std::move(pair.right), records()};
        auto refused = co_await left.write("too short");
        CHECK(refused.error() == errc::malformed_frame);
        static_cast<void>(co_await left.write("0123456789abcdef"));
        static_cast<void>(co_await left.write("fedcba9876543210"));
        auto first = co_await right.next();
        CHECK(as_text(*first) == "0123456789abcdef");
        auto second = co_await right.next();
        CHECK(as_text(*second) == "fedcba9876543210");
        static_cast<void>(co_await left.stream().send_all("half a re"));
        static_cast<void>(co_await left.stream().shutdown_send());
        auto cut = co_await right.next();
        CHECK(cut.error() == errc::truncated_frame);
    };
    plait::run(body());
}
