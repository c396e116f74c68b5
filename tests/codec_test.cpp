#include <plait/codec.hpp>

#include "support/codec_comparison.hpp"
#include "support/framing_cases.hpp"
#include "support/reference_decoder.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

using namespace std::string_view_literals;
using plait::decoded;
using plait::decoded_kind;
using plait::errc;
using plait::oversize;
using plait::remainder;
using support::describe;
using support::event;
using support::random_numbers;
using support::random_run;
using support::runs;
using support::seen;
using support::unlimited;
namespace reference = support::reference;

namespace {

template <std::size_t N>
constexpr auto constant_bytes(const char (&text)[N]) {
    std::array<std::byte, N - 1> array{};
    for (std::size_t i = 0; i + 1 < N; ++i) array[i] = static_cast<std::byte>(text[i]);
    return array;
}

support::bytes to_bytes(std::string_view text) {
    const auto view = plait::as_bytes(text);
    return {view.begin(), view.end()};
}

/// What a reader with this codec tells about `input`, followed by the end of the stream.
template <plait::codec C>
std::string reading(C codec, std::string_view input, const std::vector<std::size_t>& cuts = {},
                    bool eof = true) {
    std::vector<event> events;
    support::bytes window;
    support::read_all(codec, plait::as_bytes(input), cuts, eof, support::asking::eagerly, events, window);
    return describe(events, plait::as_bytes(input));
}

/// The bytes that a writer with this codec sends for `payload`; or the error, in angle brackets.
template <plait::codec C>
std::string writing(C codec, std::string_view payload) {
    plait::frame_edges edges;
    const auto result = codec.encode(plait::as_bytes(payload), edges);
    if (!result) {
        for (errc e : {errc::frame_too_large, errc::malformed_frame})
            if (result.error() == e) return "<" + std::string(support::name(e)) + ">";
        return "<another error>";
    }
    std::string sent(plait::as_text(std::span(edges.header).first(edges.header_size)));
    sent += payload;
    sent += plait::as_text(edges.trailer);
    return sent;
}

std::vector<std::size_t> bytewise(std::size_t size) {
    std::vector<std::size_t> cuts;
    for (std::size_t i = 1; i < size; ++i) cuts.push_back(i);
    return cuts;
}

bool matches(const support::expectation& expected, const event& actual, std::span<const std::byte> input) {
    using kind = support::expectation::kind;
    switch (expected.what) {
    case kind::frame: {
        if (actual.what != event::kind::frame) return false;
        const auto payload = input.subspan(actual.position, actual.size);
        return std::equal(payload.begin(), payload.end(), expected.data.begin(), expected.data.end());
    }
    case kind::error:
        return actual.what == event::kind::error && std::find(expected.errors.begin(), expected.errors.end(),
                                                              actual.error) != expected.errors.end();
    case kind::eof: return actual.what == event::kind::end;
    default: return false;
    }
}

} // namespace

// ---------------------------------------------------------------------------------------------------------
// The cases of tests/data/framing_vectors.json

TEST_CASE("every decoding case comes out the same for its own chunks, at once, and byte by byte", "[codec]") {
    std::size_t checked = 0;
    for (const auto& test : support::framing_cases()) {
        if (test.way != support::framing_case::direction::decode) continue;
        support::with_codec(test, [&](const auto& codec) {
            const support::bytes input = test.input();
            for (const auto& cuts : {test.cuts(), std::vector<std::size_t>{}, bytewise(input.size())})
                for (auto mode : {support::asking::eagerly, support::asking::patiently}) {
                    auto fresh = codec;
                    std::vector<event> events;
                    support::bytes window;
                    support::read_all(fresh, input, cuts, test.eof, mode, events, window);

                    bool same = events.size() == test.expect.size();
                    for (std::size_t i = 0; same && i < events.size(); ++i)
                        same = matches(test.expect[i], events[i], input);
                    INFO(test.id << " in " << cuts.size() + 1 << " chunks gave " << describe(events, input));
                    CHECK(same);
                }
            ++checked;
        });
    }
    CHECK(checked >= 100);
}

TEST_CASE("every encoding case gives its header or its error", "[codec]") {
    std::size_t checked = 0;
    for (const auto& test : support::framing_cases()) {
        if (test.way != support::framing_case::direction::encode) continue;
        support::with_codec(test, [&](auto codec) {
            INFO(test.id);
            plait::frame_edges edges;
            const auto result = codec.encode(test.payload, edges);
            REQUIRE(test.expect.size() == 1);
            const auto& expected = test.expect.front();
            if (expected.what == support::expectation::kind::header) {
                REQUIRE(result);
                CHECK(support::bytes(edges.header.data(), edges.header.data() + edges.header_size) ==
                      expected.data);
                CHECK(edges.trailer.empty());
            } else {
                REQUIRE(expected.what == support::expectation::kind::error);
                CHECK(result.error() == expected.errors.front());
            }
            ++checked;
        });
    }
    CHECK(checked >= 10);
}

TEST_CASE("every varint case gives its value", "[codec]") {
    for (const auto& test : support::framing_cases()) {
        if (test.way != support::framing_case::direction::value) continue;
        INFO(test.id);
        REQUIRE(test.expect.size() == 1);
        const auto& expected = test.expect.front();
        const plait::varint got = plait::decode_varint(test.payload, test.max_varint_bytes);
        switch (expected.what) {
        case support::expectation::kind::value:
            CHECK(got.status == plait::varint_status::complete);
            CHECK(got.value == expected.value);
            CHECK(got.size == expected.consumed);
            break;
        case support::expectation::kind::need_more:
            CHECK(got.status == plait::varint_status::incomplete);
            break;
        default: CHECK(got.status == plait::varint_status::malformed); break;
        }
    }
}

// ---------------------------------------------------------------------------------------------------------
// Against the reference decoder

namespace {

void check_seen(const random_run& run, std::size_t from, std::size_t to) {
    if (run.count[seen::a_frame] < 10'000) return; // a short run, which may well miss something
    for (std::size_t i = from; i < to; ++i) {
        INFO("outcome " << i << " in the list `seen`");
        CHECK(run.count[i] > 0);
    }
}

} // namespace

TEST_CASE("length_prefix agrees with the reference decoder", "[codec][random]") {
    random_run run;
    const std::uint64_t n = runs(350'000);
    for (std::uint64_t seed = 1; seed <= n; ++seed) {
        random_numbers& random = run.random = random_numbers(seed);
        run.choose_limit();

        constexpr int widths[] = {1, 2, 3, 4, 4, 8, 8};
        constexpr std::int64_t adjustments[] = {0,
                                                0,
                                                0,
                                                0,
                                                1,
                                                2,
                                                5,
                                                -1,
                                                -2,
                                                -4,
                                                -8,
                                                -11,
                                                1'000,
                                                -1'000,
                                                std::int64_t{1} << 40,
                                                -(std::int64_t{1} << 40),
                                                std::int64_t{1} << 62,
                                                -(std::int64_t{1} << 62)};
        reference::length_rules rules;
        rules.width = random.pick(widths);
        rules.little = random.one_in(2);
        rules.is_signed = random.one_in(2);
        rules.offset = random.one_in(2) ? 0 : random.below(4);
        rules.adjustment = random.pick(adjustments);
        const auto width = static_cast<std::size_t>(rules.width);
        const std::size_t header = rules.offset + width;
        rules.strip = random.one_in(2) ? header : random.below(header + 3);
        rules.limit = run.limit;
        rules.discard = run.discard;

        plait::length_prefix codec;
        // The order of the setters must not matter.
        if (random.one_in(2)) codec.max_frame(run.max_frame()).adjustment(rules.adjustment);
        if (rules.is_signed) codec.signed_length();
        if (rules.strip != header || random.one_in(2)) codec.strip(rules.strip);
        codec.width(width).offset(rules.offset);
        codec.max_frame(run.max_frame()).adjustment(rules.adjustment).on_oversize(run.on_oversize());
        if (rules.little) codec.little_endian();

        run.input.clear();
        for (std::size_t frames = random.below(5); frames > 0; --frames) {
            run.put(rules.offset, std::byte{0x7a});
            std::uint64_t field = 0;
            const std::uint64_t body = random.below(12); // mostly a length that the limit is near to
            switch (random.below(8)) {
            case 0: field = random.next() >> random.below(64); break;
            case 1: field = std::uint64_t{0} - body; break;
            case 2: field = (std::uint64_t{1} << (8 * width - 1)) - random.below(2); break;
            default: field = body - static_cast<std::uint64_t>(rules.adjustment); break;
            }
            for (std::size_t i = 0; i < width; ++i) {
                const std::size_t place = rules.little ? i : width - 1 - i;
                run.input.push_back(static_cast<std::byte>((field >> (8 * place)) & 0xff));
            }
            run.put(static_cast<std::size_t>(body), static_cast<std::byte>('a' + frames));
        }
        if (random.one_in(3)) run.input.resize(run.input.size() - random.below(run.input.size() + 1) / 2);
        run.choose_cuts();
        if (!run.agrees(codec, rules)) FAIL(run.report(seed, "length_prefix"));
    }
    check_seen(run, 0, sizeof(std::size_t) < 8 ? seen::a_wrap : seen::by_prefixes);
}

TEST_CASE("varint_prefix agrees with the reference decoder", "[codec][random]") {
    random_run run;
    const std::uint64_t n = runs(200'000);
    for (std::uint64_t seed = 1; seed <= n; ++seed) {
        random_numbers& random = run.random = random_numbers(seed);
        run.choose_limit();
        constexpr std::size_t max_bytes[] = {10, 10, 10, 5, 5, 3, 1};
        reference::varint_rules rules;
        rules.max_bytes = random.pick(max_bytes);
        rules.limit = run.limit;
        rules.discard = run.discard;

        run.input.clear();
        for (std::size_t frames = random.below(5); frames > 0; --frames) {
            const std::size_t body = random.below(12);
            std::uint64_t value = body;
            if (random.one_in(12)) value = random.next() >> random.below(64);
            if (random.one_in(12)) value = std::uint64_t{0} - random.below(12);
            std::size_t padding = random.one_in(3) ? random.below(11) : 0; // an overlong form
            for (; value >= 0x80 || padding > 0; value >>= 7) {
                run.input.push_back(static_cast<std::byte>((value & 0x7f) | 0x80));
                if (padding > 0) --padding;
            }
            run.input.push_back(static_cast<std::byte>(value));
            if (random.one_in(20)) run.input.back() = static_cast<std::byte>(random.below(256));
            run.put(body, static_cast<std::byte>('a' + frames));
        }
        if (random.one_in(3)) run.input.resize(run.input.size() - random.below(run.input.size() + 1) / 2);
        run.choose_cuts();
        plait::varint_prefix codec;
        codec.max_bytes(rules.max_bytes).max_frame(run.max_frame()).on_oversize(run.on_oversize());
        if (!run.agrees(codec, rules)) FAIL(run.report(seed, "varint_prefix"));
    }
    check_seen(run, 0, sizeof(std::size_t) < 8 ? seen::a_wrap : seen::by_prefixes);
}

namespace {

/// Chooses everything but the delimiters, and reads with both.
template <class MakeCodec>
void compare_terminated(random_run& run, std::uint64_t seed, reference::delimiter_rules& rules,
                        std::string_view alphabet, std::string_view what, MakeCodec make) {
    random_numbers& random = run.random;
    rules.limit = run.limit;
    rules.discard = run.discard;
    rules.keep = random.one_in(3);
    constexpr plait::remainder at_ends[] = {remainder::truncated, remainder::emit, remainder::drop};
    constexpr reference::rest rests[] = {reference::rest::truncated, reference::rest::emit,
                                         reference::rest::drop};
    const std::size_t at_end = random.below(3);
    rules.at_end = rests[at_end];

    run.input.clear();
    const std::size_t filler = random.below(4); // out of four bytes, how many are certainly ordinary
    for (std::size_t size = random.below(28); size > 0; --size) {
        if (random.below(4) < filler)
            run.input.push_back(std::byte{'x'});
        else if (random.one_in(6))
            for (char c : rules.delimiters[random.below(rules.delimiters.size())])
                run.input.push_back(static_cast<std::byte>(c));
        else
            run.input.push_back(static_cast<std::byte>(alphabet[random.below(alphabet.size())]));
    }
    run.choose_cuts();

    auto codec = make();
    codec.max_frame(run.max_frame()).on_oversize(run.on_oversize()).at_end(at_ends[at_end]);
    if (rules.keep) codec.keep_terminator();
    if (!run.agrees(codec, rules)) FAIL(run.report(seed, what));

    // What only these codecs can show.
    const std::string_view text = plait::as_text(run.input);
    const auto& events = run.events;
    for (std::size_t cut : run.cuts)
        for (const std::string& d : rules.delimiters)
            if (d.size() > 1 && cut > 0 && cut < text.size() &&
                text.substr(cut - 1, 2) == std::string_view(d).substr(0, 2))
                ++run.count[seen::a_terminator_cut_in_two];
    bool ends_with_one = false;
    for (const std::string& d : rules.delimiters) ends_with_one = ends_with_one || text.ends_with(d);
    if (run.eof && !text.empty() && !ends_with_one && !events.empty() &&
        events.back() == event::clean_end()) {
        const event* const last = events.size() > 1 ? &events[events.size() - 2] : nullptr;
        if (rules.at_end == reference::rest::drop) ++run.count[seen::a_rest_dropped];
        if (rules.at_end == reference::rest::emit && last) {
            if (last->what == event::kind::frame) ++run.count[seen::a_rest_emitted];
            if (last->what == event::kind::error) ++run.count[seen::a_rest_too_large];
        }
    }
    if (rules.keep && !events.empty() && events.front().what == event::kind::frame)
        ++run.count[seen::a_kept_terminator];
}

} // namespace

TEST_CASE("lines agree with the reference decoder", "[codec][random]") {
    random_run run;
    const std::uint64_t n = runs(200'000);
    for (std::uint64_t seed = 1; seed <= n; ++seed) {
        run.random = random_numbers(seed);
        run.choose_limit();
        const bool lf_only = run.random.one_in(3);
        reference::delimiter_rules rules;
        rules.delimiters = {"\n"};
        if (!lf_only) rules.delimiters.emplace_back("\r\n");
        rules.drop_cr_at_end = !lf_only;
        compare_terminated(run, seed, rules, "a\r\n", "lines", [&] {
            plait::lines codec;
            if (lf_only) codec.lf_only();
            return codec;
        });
    }
    check_seen(run, 0, seen::by_every_codec);
    check_seen(run, seen::by_prefixes, seen::all);
}

TEST_CASE("delimited agrees with the reference decoder", "[codec][random]") {
    constexpr std::string_view sets[][4] = {
        {"aa"},           {"aa", "a"},          {"ab", "ba"},    {"aab"},
        {"aaa"},          {"\r\n", "\n"},       {"--"},          {"a", "b", "\n"},
        {"abab", "bb"},   {"ab", "xab"},        {"abc", "b"},    {"ab", "aab", "b"},
        {"aba", "abb"},   {"xaby", "ab"},       {"a"},           {"abaab", "aba"},
        {"b\n", "a\r\n"}, {"aaaa", "ba", "xx"}, {"aab", "aaab"}, {"ab", "a", "xb"},
    };
    random_run run;
    const std::uint64_t n = runs(250'000);
    for (std::uint64_t seed = 1; seed <= n; ++seed) {
        run.random = random_numbers(seed);
        run.choose_limit();
        const auto& set = run.random.pick(sets);
        reference::delimiter_rules rules;
        for (std::string_view d : set)
            if (!d.empty()) rules.delimiters.emplace_back(d);
        compare_terminated(run, seed, rules, "ab\r\n-xy", "delimited", [&] {
            plait::delimited codec{rules.delimiters[0]};
            for (std::size_t i = 1; i < rules.delimiters.size(); ++i) codec.add(rules.delimiters[i]);
            return codec;
        });
    }
    check_seen(run, 0, seen::by_every_codec);
    check_seen(run, seen::by_prefixes, seen::all);
}

// ---------------------------------------------------------------------------------------------------------
// Writing

TEST_CASE("what a prefix codec writes, it reads back", "[codec][random]") {
    random_numbers random(7);
    constexpr std::size_t widths[] = {1, 2, 3, 4, 8};
    std::size_t written = 0;
    const std::uint64_t n = runs(20'000);
    for (std::uint64_t i = 0; i < n; ++i) {
        const std::string payload(random.one_in(4) ? random.below(70'000) : random.below(300), 'p');
        const std::string quoted = '"' + payload + "\", end";
        plait::length_prefix prefix;
        prefix.width(random.pick(widths)).offset(random.below(25));
        prefix.adjustment(static_cast<std::int64_t>(random.below(9)) - 4);
        if (random.one_in(2)) prefix.little_endian();
        if (random.one_in(2)) prefix.signed_length();
        const std::string sent = writing(prefix, payload);
        if (!sent.starts_with('<') || sent.size() > payload.size() + 20) {
            ++written;
            if (reading(prefix, sent) != quoted)
                FAIL("length_prefix, payload of " << payload.size() << " bytes");
        }
        if (reading(plait::varint_prefix{}, writing(plait::varint_prefix{}, payload)) != quoted)
            FAIL("varint_prefix, payload of " << payload.size() << " bytes");
    }
    CHECK(written >= n / 2);
}

TEST_CASE("a payload is written with a terminator exactly when it would be read back as one frame",
          "[codec][random]") {
    random_numbers random(11);
    constexpr std::string_view sets[][3] = {{"aa"},  {"ab", "b"},   {"b", "ab"},
                                            {"aba"}, {"aab", "ba"}, {"a", "aa"}};
    std::size_t written = 0, refused = 0;
    const std::uint64_t n = runs(50'000);
    for (std::uint64_t i = 0; i < n; ++i) {
        std::string payload;
        const bool as_lines = random.one_in(2);
        const std::string_view alphabet = as_lines ? "x\r\n"sv : "abx"sv;
        for (std::size_t size = random.below(7); size > 0; --size)
            payload += alphabet[random.below(alphabet.size())];
        const std::string quoted = '"' + payload + "\", end";

        std::string sent, wanted, what;
        if (as_lines) {
            plait::lines codec;
            const bool crlf = random.one_in(2);
            if (crlf)
                codec.crlf();
            else if (random.one_in(2))
                codec.lf_only();
            sent = writing(codec, payload);
            wanted = payload + (crlf ? "\r\n" : "\n");
            what = reading(codec, wanted);
        } else {
            const auto& set = random.pick(sets);
            plait::delimited codec{set[0]};
            for (std::size_t d = 1; d < 3; ++d)
                if (!set[d].empty()) codec.add(set[d]);
            sent = writing(codec, payload);
            wanted = payload + std::string(set[0]);
            what = reading(codec, wanted);
        }
        if (what != quoted) wanted = "<malformed>";
        if (sent != wanted)
            FAIL("payload " << payload << " was sent as " << sent << " instead of " << wanted);
        ++(what == quoted ? written : refused);
    }
    if (n > 1'000) CHECK((written > n / 10 && refused > n / 10));
}

TEST_CASE("length_prefix writes zeros up to the field and refuses what the field cannot say", "[codec]") {
    using plait::length_prefix;
    CHECK(writing(length_prefix{}, "hi") == "\0\0\0\2hi"sv);
    CHECK(writing(length_prefix{}.offset(2).width(2).adjustment(-4), "hi") == "\0\0\0\6hi"sv);
    CHECK(writing(length_prefix{}.width(3).little_endian(), "hi") == "\2\0\0hi"sv);
    CHECK(writing(length_prefix{}.offset(28), "").size() == 32);
    CHECK(writing(length_prefix{}.adjustment(3), "hi") == "<malformed>");
    CHECK(writing(length_prefix{}.adjustment(2), "hi") == "\0\0\0\0hi"sv);
    CHECK(writing(length_prefix{}.max_frame(1), "hi") == "<too large>");
    CHECK(writing(length_prefix{}.max_frame(2), "hi") == "\0\0\0\2hi"sv);
    CHECK(writing(length_prefix{}.width(1), std::string(256, 'x')) == "<too large>");
    CHECK(writing(length_prefix{}.width(1), std::string(255, 'x')).front() == '\xff');
    CHECK(writing(length_prefix{}.width(1).signed_length(), std::string(128, 'x')) == "<too large>");
    CHECK(writing(length_prefix{}.width(1).signed_length(), std::string(127, 'x')).front() == '\x7f');
    CHECK(writing(length_prefix{}.width(1).adjustment(-1), std::string(255, 'x')) == "<too large>");
    CHECK(writing(length_prefix{}.adjustment(-(std::int64_t{1} << 62)), "hi") == "<too large>");
    CHECK(writing(length_prefix{}.width(8).adjustment(-(std::int64_t{1} << 62)), "hi") ==
          "\x40\0\0\0\0\0\0\2hi"sv);
}

TEST_CASE("varint_prefix writes the shortest form", "[codec]") {
    using plait::varint_prefix;
    CHECK(writing(varint_prefix{}, "") == "\0"sv);
    CHECK(writing(varint_prefix{}, std::string(300, 'x')).substr(0, 3) == "\xac\x02x");
    CHECK(writing(varint_prefix{}.max_bytes(1), std::string(127, 'x')).size() == 128);
    CHECK(writing(varint_prefix{}.max_bytes(1), std::string(128, 'x')) == "<too large>");
    CHECK(writing(varint_prefix{}.max_frame(2), "abc") == "<too large>");
}

TEST_CASE("lines and delimited write one frame, or nothing", "[codec]") {
    using plait::delimited;
    using plait::lines;
    CHECK(writing(lines{}, "hi") == "hi\n");
    CHECK(writing(lines{}, "") == "\n");
    CHECK(writing(lines{}.crlf(), "hi") == "hi\r\n");
    CHECK(writing(lines{}, "h\ni") == "<malformed>");
    CHECK(writing(lines{}, "hi\n") == "<malformed>");
    CHECK(writing(lines{}, "hi\r") == "<malformed>");
    CHECK(writing(lines{}.lf_only(), "hi\r") == "hi\r\n");
    CHECK(writing(lines{}.crlf(), "hi\r") == "hi\r\r\n");
    CHECK(writing(lines{}.max_frame(1), "hi") == "<too large>");
    CHECK(writing(delimited{"\r\n"}.add("\n"), "hi") == "hi\r\n");
    CHECK(writing(delimited{"\r\n"}.add("\n"), "h\ni") == "<malformed>");
    CHECK(writing(delimited{"aa"}, "xa") == "<malformed>");
    CHECK(writing(delimited{"aa"}.max_frame(1), "xy") == "<too large>");
}

TEST_CASE("a frame that was handed out with its terminator can be written as it is", "[codec]") {
    using plait::delimited;
    using plait::lines;
    CHECK(writing(lines{}.keep_terminator().max_frame(2), "hi\n") == "hi\n");
    CHECK(writing(lines{}.keep_terminator().max_frame(2), "hi\r\n") == "hi\r\n");
    CHECK(writing(lines{}.keep_terminator(), "hi") == "hi\n");
    CHECK(writing(lines{}.keep_terminator(), "h\ni\n") == "<malformed>");
    CHECK(writing(lines{}.keep_terminator().max_frame(2), "hey\n") == "<too large>");
    CHECK(writing(delimited{";"}.add(",").keep_terminator().max_frame(2), "hi,") == "hi,");
    CHECK(writing(delimited{";"}.add(",").keep_terminator(), "hi") == "hi;");
    CHECK(writing(delimited{";"}.add(",").keep_terminator(), "h,i,") == "<malformed>");
}

// ---------------------------------------------------------------------------------------------------------
// Reading: single facts

TEST_CASE("length_prefix tells a malformed length from one that is too large", "[codec]") {
    using plait::length_prefix;
    const auto four = [](std::string_view tail) { return std::string(tail); };
    CHECK(reading(length_prefix{}, four("\xff\xff\xff\xff"sv)) == "too large");
    CHECK(reading(length_prefix{}.signed_length(), four("\xff\xff\xff\xff"sv)) == "malformed");
    CHECK(reading(length_prefix{}.width(3).signed_length(), "\x80\0\0"sv) == "malformed");
    CHECK(reading(length_prefix{}.width(3).signed_length(), "\x7f\0\0"sv) == "truncated");
    CHECK(reading(length_prefix{}.adjustment(-1), "\0\0\0\0"sv) == "malformed");
    CHECK(reading(length_prefix{}.strip(6), "\0\0\0\1x"sv) == "malformed");
    CHECK(reading(length_prefix{}.strip(6), "\0\0\0\2xy"sv) == "\"\", end");
    CHECK(reading(length_prefix{}.strip(unlimited), "\0\0\0\2xy"sv) == "malformed");
    // Malformed is fatal even where a frame that is too large is not.
    CHECK(reading(length_prefix{}.adjustment(-1).on_oversize(oversize::discard), "\0\0\0\0\0\0\0\1"sv) ==
          "malformed");
}

TEST_CASE("length_prefix counts max_frame as the application sees it", "[codec]") {
    using plait::length_prefix;
    CHECK(reading(length_prefix{}.max_frame(3), "\0\0\0\3abc"sv) == "\"abc\", end");
    CHECK(reading(length_prefix{}.max_frame(2), "\0\0\0\3abc"sv) == "too large");
    CHECK(reading(length_prefix{}.width(1).strip(0).max_frame(3), "\3abc"sv) == "too large");
    CHECK(reading(length_prefix{}.width(1).strip(0).max_frame(4), "\3abc"sv) == "\"\3abc\", end");
    CHECK(reading(length_prefix{}.width(1).strip(3).max_frame(1), "\3abc"sv) == "\"c\", end");
    // 8 MiB unless it is told otherwise, and told on the header alone.
    CHECK(reading(length_prefix{}, "\x00\x80\x00\x00"sv, {}, false) == "");
    CHECK(reading(length_prefix{}, "\x00\x80\x00\x01"sv, {}, false) == "too large");
    CHECK(reading(plait::varint_prefix{}, "\x80\x80\x80\x04"sv, {}, false) == "");
    CHECK(reading(plait::varint_prefix{}, "\x81\x80\x80\x04"sv, {}, false) == "too large");
}

TEST_CASE("a 64-bit length that wraps is too large, never small", "[codec]") {
    using plait::length_prefix;
    const auto codec = length_prefix{}.width(8).max_frame(unlimited);
    CHECK(reading(codec, "\xff\xff\xff\xff\xff\xff\xff\xff"sv) == "too large");
    CHECK(reading(length_prefix(codec).adjustment(9), "\xff\xff\xff\xff\xff\xff\xff\xf8xyz"sv) ==
          "too large");
    CHECK(reading(length_prefix(codec).on_oversize(oversize::discard),
                  "\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0"sv) == "too large, truncated");
}

TEST_CASE("a stream that ends inside a frame is truncated at every offset", "[codec]") {
    const std::string_view framed = "\0\0\0\3abc"sv;
    for (std::size_t size = 1; size < framed.size(); ++size)
        CHECK(reading(plait::length_prefix{}, framed.substr(0, size)) == "truncated");
    CHECK(reading(plait::varint_prefix{}, "\3ab"sv) == "truncated");
    CHECK(reading(plait::lines{}, "a\nb") == "\"a\", truncated");
    CHECK(reading(plait::lines{}, "a\n\r") == "\"a\", truncated");
    CHECK(reading(plait::delimited{"--"}, "a-") == "truncated");
    CHECK(reading(plait::length_prefix{}, "") == "end");
    CHECK(reading(plait::delimited{"--"}, "") == "end");
}

TEST_CASE("the end of the stream inside a discarded frame is an end inside a frame", "[codec]") {
    const auto prefix = plait::length_prefix{}.width(1).max_frame(1).on_oversize(oversize::discard);
    CHECK(reading(prefix, "\3abc\1x"sv) == "too large, \"x\", end");
    CHECK(reading(prefix, "\3abc"sv) == "too large, end");
    CHECK(reading(prefix, "\3ab"sv) == "too large, truncated");
    CHECK(reading(prefix, "\3"sv) == "too large, truncated");

    // Lines let the remainder rule decide; what was reported as too large is never handed out.
    const auto lines = plait::lines{}.max_frame(1).on_oversize(oversize::discard);
    CHECK(reading(lines, "abc\nd\n") == "too large, \"d\", end");
    CHECK(reading(lines, "abc") == "too large, truncated");
    CHECK(reading(plait::lines(lines).at_end(remainder::emit), "abc") == "too large, end");
    CHECK(reading(plait::lines(lines).at_end(remainder::drop), "abc", {1, 2}) == "too large, end");
    const auto dashes = plait::delimited{"--"}.max_frame(1).on_oversize(oversize::discard);
    CHECK(reading(dashes, "abc-", {2, 3}) == "too large, truncated");
    CHECK(reading(plait::delimited(dashes).at_end(remainder::emit), "abc-", {2, 3}) == "too large, end");
}

TEST_CASE("a CR is no content until the next byte says so", "[codec]") {
    using plait::lines;
    CHECK(reading(lines{}.max_frame(2), "ab\r\n", {3}) == "\"ab\", end");
    CHECK(reading(lines{}.max_frame(2), "ab\r", {}, false) == "");
    CHECK(reading(lines{}.max_frame(2), "ab\rc", {3}, false) == "too large");
    CHECK(reading(lines{}.max_frame(2), "ab\r\r\n", {3}) == "too large");
    CHECK(reading(lines{}.max_frame(2).lf_only(), "ab\r", {}, false) == "too large");
    CHECK(reading(lines{}, "a\rb\n") == "\"a\rb\", end");
    CHECK(reading(lines{}.lf_only(), "a\r\n") == "\"a\r\", end");
    CHECK(reading(lines{}.keep_terminator().max_frame(1), "a\r\nb\n") == "\"a\r\n\", \"b\n\", end");
    CHECK(reading(lines{}.at_end(remainder::emit), "a\n\r") == "\"a\", end");
    CHECK(reading(lines{}.at_end(remainder::emit), "a\r") == "\"a\", end");
    CHECK(reading(lines{}.at_end(remainder::emit), "\rk") == "\"\rk\", end");
    CHECK(reading(lines{}.at_end(remainder::emit).keep_terminator(), "a\r") == "\"a\r\", end");
    CHECK(reading(lines{}.at_end(remainder::drop), "a\nb") == "\"a\", end");
}

TEST_CASE("of delimiters that overlap, the one that ends first wins, then the longer", "[codec]") {
    using plait::delimited;
    CHECK(reading(delimited{"\r\n"}.add("\n"), "a\r\nb\n") == "\"a\", \"b\", end");
    CHECK(reading(delimited{"\n"}.add("\r\n"), "a\r\nb\n", {2}) == "\"a\", \"b\", end");
    CHECK(reading(delimited{"aa"}.add("a"), "xaay") == "\"x\", \"\", truncated");
    CHECK(reading(delimited{"aab"}, "xaaab", {1, 2, 3, 4}) == "\"xa\", end");
    CHECK(reading(delimited{"--"}.max_frame(3).at_end(remainder::emit), "abc-") == "too large");
    CHECK(reading(delimited{"\0"sv}, "a\0b\0"sv) == "\"a\", \"b\", end");
    CHECK(reading(delimited{"1"}.add("2").add("3").add("4").add("5").add("6").add("7").add("8"), "a8b1") ==
          "\"a\", \"b\", end");
}

TEST_CASE("decode_varint stops at 64 bits and at max_bytes", "[codec]") {
    using plait::decode_varint;
    using plait::varint_status;
    const auto status = [](std::string_view text, std::size_t max_bytes = 10) {
        return decode_varint(plait::as_bytes(text), max_bytes).status;
    };
    CHECK(status("") == varint_status::incomplete);
    CHECK(status("\xff\xff\xff\xff\xff\xff\xff\xff\xff") == varint_status::incomplete);
    CHECK(status("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02") == varint_status::malformed);
    CHECK(status("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x80") == varint_status::malformed);
    CHECK(status("\x80\x80\x80\x80", 5) == varint_status::incomplete);
    CHECK(status("\x80\x80\x80\x80\x80", 5) == varint_status::malformed);
    const auto most = decode_varint(plait::as_bytes("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
    CHECK(most.value == std::numeric_limits<std::uint64_t>::max());
    CHECK(most.size == 10);
}

TEST_CASE("a need names the bytes that are missing", "[codec]") {
    const support::bytes input = to_bytes("\0\0\0\5abcde"sv);
    plait::length_prefix prefix;
    for (std::size_t size = 0; size < 9; ++size)
        CHECK(prefix.decode(std::span(input).first(size)) == decoded::need(size < 4 ? 4 - size : 9 - size));
    const decoded whole = prefix.decode(input);
    REQUIRE(whole == decoded::frame(9, 4, 5));
    CHECK(plait::as_text(whole.payload(input)) == "abcde");
    CHECK(plait::lines{}.decode(input) == decoded::need(1));
}

// ---------------------------------------------------------------------------------------------------------
// Bytes that trickle in

TEST_CASE("bytes that were searched once are not looked at again", "[codec]") {
    // A megabyte comes byte by byte. What the codec has seen is overwritten with terminators, except for the
    // few bytes that may be the beginning of one: a codec that started over would find them.
    constexpr std::size_t size = 1 << 20;
    const auto trickle = [](auto codec, std::string_view terminator, std::size_t look_behind) {
        support::bytes buffer(size, std::byte{'x'});
        const auto end = to_bytes(terminator);
        std::copy(end.begin(), end.end(), buffer.end() - static_cast<std::ptrdiff_t>(end.size()));
        std::size_t wrong = 0;
        for (std::size_t n = 1; n < size; ++n) {
            if (codec.decode(std::span(buffer).first(n)) != decoded::need(1)) ++wrong;
            if (n > look_behind) buffer[n - 1 - look_behind] = end.back();
        }
        CHECK(wrong == 0);
        CHECK(codec.decode(buffer) == decoded::frame(size, 0, size - end.size()));
    };
    trickle(plait::lines{}, "\n", 1);
    trickle(plait::lines{}, "\r\n", 1);
    trickle(plait::lines{}.lf_only(), "\n", 0);
    trickle(plait::delimited{";"}, ";", 0);
    trickle(plait::delimited{";"}.add(","), ",", 0);
    trickle(plait::delimited{"abc"}, "abc", 2);
    trickle(plait::delimited{"ab"}.add("zzz"), "ab", 2);
}

TEST_CASE("a discarded frame is dropped as it comes, not collected", "[codec]") {
    constexpr std::size_t size = 1 << 20;
    const auto discard = [](auto codec, std::size_t kept) {
        const support::bytes noise(64, std::byte{'-'});
        std::size_t held = 0, most = 0, reported = 0;
        for (std::size_t n = 0; n < size; ++n) {
            ++held;
            for (;;) {
                const decoded answer = codec.decode(std::span(noise).first(held));
                if (answer.kind() == decoded_kind::need || answer.size() > held) break;
                if (answer.kind() == decoded_kind::discard) ++reported;
                held -= answer.size();
                if (held == 0) break;
            }
            most = std::max(most, held);
        }
        CHECK(reported == 1);
        CHECK(most == kept);
    };
    discard(plait::lines{}.max_frame(8).on_oversize(oversize::discard), 8);
    discard(plait::delimited{"-->"}.max_frame(8).on_oversize(oversize::discard), 8 + 2);
    discard(plait::delimited{"-->"}.add("\n").max_frame(0).on_oversize(oversize::discard), 2);
}

// ---------------------------------------------------------------------------------------------------------
// Constant evaluation, and codecs of the user's own

namespace {

constexpr auto two_messages = constant_bytes("\2\0\0\0hi\0\0\0\0");

static_assert([] {
    auto codec = plait::length_prefix{}
                     .width(4)
                     .little_endian()
                     .signed_length()
                     .offset(0)
                     .adjustment(0)
                     .strip(4)
                     .max_frame(1 << 20);
    return codec.decode(two_messages) == decoded::frame(6, 4, 2) &&
           codec.decode(std::span(two_messages).subspan(6)) == decoded::frame(4, 4, 0) &&
           codec.finish({}) == decoded::end() &&
           codec.finish(std::span(two_messages).first(5)).error() == errc::truncated_frame;
}());
static_assert([] {
    constexpr auto input = constant_bytes("\x82\x00hi");
    return plait::varint_prefix{}.max_bytes(5).max_frame(1 << 20).decode(input) == decoded::frame(4, 2, 2) &&
           plait::decode_varint(input).value == 2;
}());
static_assert([] {
    constexpr auto input = constant_bytes("hi\r\nthere");
    auto codec = plait::lines{}
                     .max_frame(1024)
                     .keep_terminator()
                     .at_end(remainder::emit)
                     .on_oversize(oversize::discard);
    return codec.decode(input) == decoded::frame(4, 0, 4) &&
           codec.finish(std::span(input).subspan(4)) == decoded::frame(5, 0, 5) &&
           codec.finish({}) == decoded::end();
}());
static_assert([] {
    constexpr auto input = constant_bytes("a--b\n");
    auto codec = plait::delimited{"--"}.add("\n").max_frame(1024);
    return codec.decode(input) == decoded::frame(3, 0, 1) &&
           codec.decode(std::span(input).subspan(3)) == decoded::frame(2, 0, 1);
}());
// A delimiter is not copied, so a temporary string is refused.
static_assert(!std::is_constructible_v<plait::delimited, std::string>);
static_assert(std::is_constructible_v<plait::delimited, const std::string&>);

/// The example of codec.hpp.
struct records {
    plait::decoded decode(std::span<const std::byte> bytes) {
        if (bytes.size() < 16) return plait::decoded::need(16 - bytes.size());
        return plait::decoded::frame(16, 0, 16);
    }
    plait::decoded finish(std::span<const std::byte> bytes) {
        if (bytes.size() >= 16) return decode(bytes);
        if (bytes.empty()) return plait::decoded::end();
        return plait::decoded::failed(plait::errc::truncated_frame);
    }
    plait::io_result<void> encode(std::span<const std::byte> payload, plait::frame_edges& edges) {
        if (payload.size() != 16) return plait::errc::malformed_frame;
        edges = {};
        return {};
    }
};

/// RESP's bulk strings, "$5\r\nhello\r\n": a length in decimal digits, and a terminator that is checked.
struct bulk_strings {
    decoded decode(std::span<const std::byte> bytes) const {
        const std::string_view text = plait::as_text(bytes);
        if (text.empty()) return decoded::need(1);
        if (text[0] != '$') return decoded::failed(errc::malformed_frame);
        std::size_t length = 0, at = 1;
        for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
            length = length * 10 + static_cast<std::size_t>(text[at] - '0');
            if (length > 512) return decoded::failed(errc::frame_too_large);
        }
        const std::size_t size = at + 2 + length + 2;
        if (text.size() > at && text.substr(at, 2) != "\r\n"sv.substr(0, text.size() - at))
            return decoded::failed(errc::malformed_frame);
        if (text.size() < at + 2) return decoded::need(1);
        if (text.size() < size) return decoded::need(size - text.size());
        if (text.substr(size - 2, 2) != "\r\n") return decoded::failed(errc::malformed_frame);
        return decoded::frame(size, at + 2, length);
    }
    decoded finish(std::span<const std::byte> bytes) const {
        if (bytes.empty()) return decoded::end();
        const decoded answer = decode(bytes);
        return answer.kind() == decoded_kind::need ? decoded::failed(errc::truncated_frame) : answer;
    }
    plait::io_result<void> encode(std::span<const std::byte> payload, plait::frame_edges& edges) const {
        if (payload.size() > 512) return errc::frame_too_large;
        const std::string head = '$' + std::to_string(payload.size()) + "\r\n";
        std::copy_n(plait::as_bytes(head).begin(), head.size(), edges.header.begin());
        edges.header_size = head.size();
        edges.trailer = plait::as_bytes("\r\n");
        return {};
    }
};

} // namespace

TEST_CASE("a codec of the user's own is a class with three members", "[codec]") {
    const std::string record = "0123456789abcdef";
    CHECK(reading(records{}, record + record, {5, 20}) == '"' + record + "\", \"" + record + "\", end");
    CHECK(reading(records{}, record + "x") == '"' + record + "\", truncated");
    CHECK(writing(records{}, "short") == "<malformed>");

    const std::string sent = writing(bulk_strings{}, "hello") + writing(bulk_strings{}, "");
    CHECK(sent == "$5\r\nhello\r\n$0\r\n\r\n");
    CHECK(reading(bulk_strings{}, sent) == "\"hello\", \"\", end");
    CHECK(reading(bulk_strings{}, sent, bytewise(sent.size())) == "\"hello\", \"\", end");
    CHECK(reading(bulk_strings{}, "$5\r\nhel", {4}) == "truncated");
    CHECK(reading(bulk_strings{}, "GET / HTTP/1.1\r\n") == "malformed");
}
