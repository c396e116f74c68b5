#pragma once
/// The cases of tests/data/framing_vectors.json, as codecs, chunks and expectations; and a reader without I/O
/// that plays what frame_reader does with a codec.
///
///     for (const auto& test : support::framing_cases())
///         support::with_codec(test, [&](auto codec) { … test.chunks … test.expect … });

#include <plait/codec.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#ifndef PLAIT_TEST_DATA_DIR
#    error "define PLAIT_TEST_DATA_DIR as the path of tests/data, in quotes"
#endif

namespace support {

using bytes = std::vector<std::byte>;

// ---------------------------------------------------------------------------------------------------------
// The reader without I/O

/// One thing that a reader tells the application. Positions count from the first byte of the stream.
struct event {
    enum class kind : unsigned char { frame, error, end, broken_contract };

    kind what = kind::end;
    plait::errc error{};      ///< of an error
    std::size_t position = 0; ///< of a frame's payload
    std::size_t size = 0;     ///< of a frame's payload

    static event frame(std::size_t position, std::size_t size) {
        return {kind::frame, plait::errc{}, position, size};
    }
    static event failure(plait::errc e) { return {kind::error, e, 0, 0}; }
    static event clean_end() { return {kind::end, plait::errc{}, 0, 0}; }

    friend bool operator==(const event&, const event&) = default;
};

/// An error of a codec in a word or two.
inline std::string_view name(plait::errc e) {
    switch (e) {
    case plait::errc::frame_too_large: return "too large";
    case plait::errc::malformed_frame: return "malformed";
    case plait::errc::truncated_frame: return "truncated";
    default: return "another error";
    }
}

/// Events as one line of text: frames in quotes, errors by name.
inline std::string describe(const std::vector<event>& events, std::span<const std::byte> input) {
    std::string text;
    for (const event& e : events) {
        if (!text.empty()) text += ", ";
        switch (e.what) {
        case event::kind::frame:
            text += '"';
            text += plait::as_text(input.subspan(e.position, e.size));
            text += '"';
            break;
        case event::kind::error: text += name(e.error); break;
        case event::kind::end: text += "end"; break;
        case event::kind::broken_contract: text += "BROKEN CONTRACT"; break;
        }
    }
    return text;
}

/// When the reader asks the codec again after a `need`.
enum class asking {
    eagerly,   ///< after every chunk
    patiently, ///< when as many bytes have come as the codec said it needs
};

/// Feeds `input` to the codec, cut at `cuts` (ascending positions), and what lies behind the last cut as the
/// last chunk; then ends the stream if `eof`. Appends to `events` what the application would see. A fatal
/// error is the last.
///
/// This loop is the definition of how a reader treats a codec's answers:
/// - bytes that a skip or a discard still owes are dropped as they come, before the codec is asked again;
/// - if the stream ends while some are owed, it has ended inside a frame: truncated_frame;
/// - otherwise `finish` is asked, until it says end or failed.
/// `window` is scratch memory. In it, bytes that have not come yet and bytes that were consumed hold wrong
/// values, so a codec that looks at either is found out.
template <plait::codec C>
void read_all(C& codec, std::span<const std::byte> input, std::span<const std::size_t> cuts, bool eof,
              asking mode, std::vector<event>& events, bytes& window) {
    constexpr std::byte not_yet{'\n'};
    constexpr std::byte gone{'\r'};
    window.assign(input.size(), not_yet);
    std::size_t begin = 0, end = 0, asked_at = 0;
    std::uint64_t owed = 0;

    const auto consume = [&](std::size_t size) {
        const std::size_t now = std::min(size, end - begin);
        std::fill_n(window.begin() + static_cast<std::ptrdiff_t>(begin), now, gone);
        begin += now;
        asked_at = begin;
        return size - now;
    };
    const auto broken = [&] { events.push_back({event::kind::broken_contract, plait::errc{}, begin, end}); };
    // Carries out an answer; false when the stream is over.
    const auto obey = [&](const plait::decoded& answer) {
        switch (answer.kind()) {
        case plait::decoded_kind::frame:
            if (answer.size() == 0 || answer.size() > end - begin ||
                answer.payload_offset() > answer.size() ||
                answer.payload_size() > answer.size() - answer.payload_offset()) {
                broken();
                return false;
            }
            events.push_back(event::frame(begin + answer.payload_offset(), answer.payload_size()));
            consume(answer.size());
            return true;
        case plait::decoded_kind::discard: events.push_back(event::failure(answer.error())); [[fallthrough]];
        case plait::decoded_kind::skip:
            if (answer.size() == 0) {
                broken();
                return false;
            }
            owed = consume(answer.size());
            return true;
        case plait::decoded_kind::failed: events.push_back(event::failure(answer.error())); return false;
        case plait::decoded_kind::end:
            if (begin < end)
                broken();
            else
                events.push_back(event::clean_end());
            return false;
        case plait::decoded_kind::need: break;
        }
        broken();
        return false;
    };

    for (std::size_t i = 0; i <= cuts.size(); ++i) {
        const std::size_t until = i < cuts.size() ? cuts[i] : input.size();
        std::copy(input.begin() + static_cast<std::ptrdiff_t>(end),
                  input.begin() + static_cast<std::ptrdiff_t>(until),
                  window.begin() + static_cast<std::ptrdiff_t>(end));
        end = until;
        for (;;) {
            if (owed > 0) {
                const std::uint64_t now = std::min<std::uint64_t>(owed, end - begin);
                consume(static_cast<std::size_t>(now));
                owed -= now;
            }
            if (begin == end || (mode == asking::patiently && end < asked_at)) break;
            const plait::decoded answer = codec.decode(std::span(window).subspan(begin, end - begin));
            if (answer.kind() == plait::decoded_kind::need) {
                if (answer.more() == 0) return broken();
                const std::size_t room = std::numeric_limits<std::size_t>::max() - end;
                asked_at = end + std::min(answer.more(), room);
                break;
            }
            if (answer.kind() == plait::decoded_kind::end) return broken();
            if (!obey(answer)) return;
        }
    }
    if (!eof) return;
    for (;;) {
        if (owed > 0) {
            events.push_back(event::failure(plait::errc::truncated_frame));
            return;
        }
        if (!obey(codec.finish(std::span(window).subspan(begin, end - begin)))) return;
    }
}

// ---------------------------------------------------------------------------------------------------------
// The cases

struct expectation {
    enum class kind { frame, error, eof, header, value, need_more };

    kind what = kind::eof;
    bytes data;                      ///< of a frame or a header
    std::vector<plait::errc> errors; ///< any of these is right
    std::uint64_t value = 0;         ///< of a varint
    std::size_t consumed = 0;        ///< by a varint
    std::optional<bytes> partial;    ///< beside an error: what had come
    std::optional<std::size_t> expected;
};

struct framing_case {
    enum class codec_kind { length, varint, line, delimiter, exact };
    enum class direction { decode, encode, value };

    std::string id;
    codec_kind kind = codec_kind::length;
    direction way = direction::decode;
    std::vector<bytes> chunks; ///< decode: as they arrive
    bool eof = false;          ///< decode: the stream ends behind the chunks
    bytes payload;             ///< encode: the payload; value: the bytes
    std::vector<expectation> expect;

    // What the codec is made from.
    std::size_t width = 4;
    std::size_t offset = 0;
    std::int64_t adjustment = 0;
    std::optional<std::size_t> strip;
    bool little = false;
    bool is_signed = false;
    std::size_t max_frame = std::numeric_limits<std::size_t>::max();
    std::size_t max_varint_bytes = 10;
    bool crlf = true;
    bool keep = false;
    plait::oversize on_oversize = plait::oversize::fatal;
    plait::remainder at_end = plait::remainder::truncated;
    std::vector<std::string> delimiters;
    std::vector<std::size_t> reads; ///< exact: the sizes given to recv_exactly

    /// All chunks, one behind the other.
    bytes input() const {
        bytes all;
        for (const bytes& chunk : chunks) all.insert(all.end(), chunk.begin(), chunk.end());
        return all;
    }
    /// Where the chunks meet.
    std::vector<std::size_t> cuts() const {
        std::vector<std::size_t> positions;
        std::size_t position = 0;
        for (const bytes& chunk : chunks) positions.push_back(position += chunk.size());
        return positions;
    }
};

namespace detail {

using json = nlohmann::json;

[[noreturn]] inline void bad_case(const std::string& id, const std::string& why) {
    std::fprintf(stderr, "framing case %s: %s\n", id.c_str(), why.c_str());
    std::abort();
}

inline bytes from_hex(const std::string& hex) {
    const auto digit = [](char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; };
    bytes data;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
        data.push_back(static_cast<std::byte>(digit(hex[i]) * 16 + digit(hex[i + 1])));
    return data;
}

inline plait::errc error_named(const std::string& id, const std::string& name) {
    if (name == "frame_too_large") return plait::errc::frame_too_large;
    if (name == "bad_length" || name == "bad_varint") return plait::errc::malformed_frame;
    if (name == "truncated") return plait::errc::truncated_frame;
    if (name == "end_of_stream") return plait::errc::end_of_stream;
    bad_case(id, "unknown error " + name);
}

inline expectation parse_expectation(const std::string& id, const json& item) {
    expectation e;
    if (item.is_string()) {
        if (item != "eof") bad_case(id, "unknown expectation " + item.dump());
        e.what = expectation::kind::eof;
    } else if (item.contains("frame_hex")) {
        e.what = expectation::kind::frame;
        e.data = from_hex(item["frame_hex"]);
    } else if (item.contains("header_hex")) {
        e.what = expectation::kind::header;
        e.data = from_hex(item["header_hex"]);
    } else if (item.contains("value")) {
        e.what = expectation::kind::value;
        e.value = item["value"];
        e.consumed = item["consumed"];
    } else if (item.contains("need_more")) {
        e.what = expectation::kind::need_more;
    } else if (item.contains("error")) {
        e.what = expectation::kind::error;
        e.errors.push_back(error_named(id, item["error"]));
        if (item.contains("also_accept"))
            for (const json& other : item["also_accept"]) e.errors.push_back(error_named(id, other));
        if (item.contains("partial_hex")) e.partial = from_hex(item["partial_hex"]);
        if (item.contains("expected")) e.expected = item["expected"].get<std::size_t>();
    } else {
        bad_case(id, "unknown expectation " + item.dump());
    }
    return e;
}

/// A number of bytes; nothing for null and for a key that is not there.
inline std::optional<std::int64_t> number(const json& config, const char* key) {
    if (!config.contains(key) || config[key].is_null()) return std::nullopt;
    return config[key].get<std::int64_t>();
}

inline void parse_config(framing_case& c, const json& config) {
    using codec_kind = framing_case::codec_kind;
    const auto limit = [&](std::optional<std::int64_t> n) {
        if (n) c.max_frame = static_cast<std::size_t>(std::max<std::int64_t>(*n, 0));
    };
    const auto counts = [&](const char* what) {
        if (config.value("max_counts", what) != what)
            bad_case(c.id, "max_counts is not " + std::string(what));
    };

    if (config.value("on_too_long", "fatal") == "discard") c.on_oversize = plait::oversize::discard;
    if (!config.value("fail_fast", true)) bad_case(c.id, "plait always tells at once");
    const std::string at_end = config.value("eof_remainder", "truncated");
    if (at_end == "emit") c.at_end = plait::remainder::emit;
    if (at_end == "drop") c.at_end = plait::remainder::drop;
    c.keep = !config.value("strip", true);

    switch (c.kind) {
    case codec_kind::length:
        c.width = config.value("length_field_length", std::size_t{4});
        c.offset = config.value("length_field_offset", std::size_t{0});
        c.adjustment = config.value("length_adjustment", std::int64_t{0});
        if (config.contains("field_minus_payload"))
            c.adjustment = -config["field_minus_payload"].get<std::int64_t>();
        if (auto strip = number(config, "header_bytes_to_strip")) c.strip = static_cast<std::size_t>(*strip);
        c.little = config.value("endian", "big") == "little";
        c.is_signed = config.value("signed", false);
        // max_frame counts what is handed out: the frame without what is stripped.
        if (auto body = number(config, "max_body_length")) {
            const std::size_t header = c.offset + c.width;
            limit(*body + static_cast<std::int64_t>(header) -
                  static_cast<std::int64_t>(c.strip.value_or(header)));
        }
        limit(number(config, "max_payload_length"));
        break;
    case codec_kind::varint:
        counts("payload");
        c.max_varint_bytes = config.value("max_varint_bytes", std::size_t{10});
        limit(number(config, "max_frame_length"));
        break;
    case codec_kind::line:
        counts("content");
        c.crlf = config.value("crlf_is_terminator", true);
        limit(number(config, "max_line_length"));
        break;
    case codec_kind::delimiter:
        counts("content");
        if (config.value("match", "earliest_end") != "earliest_end") bad_case(c.id, "unknown match");
        limit(number(config, "max_frame_length"));
        for (const json& hex : config["delimiters_hex"]) {
            const bytes delimiter = from_hex(hex);
            c.delimiters.emplace_back(plait::as_text(delimiter));
        }
        break;
    case codec_kind::exact: c.reads = config["reads"].get<std::vector<std::size_t>>(); break;
    }
}

inline framing_case parse_case(const json& item) {
    using codec_kind = framing_case::codec_kind;
    using direction = framing_case::direction;
    framing_case c;
    c.id = item["id"];
    const std::string kind = item["kind"];
    if (kind == "length")
        c.kind = codec_kind::length;
    else if (kind == "varint")
        c.kind = codec_kind::varint;
    else if (kind == "line")
        c.kind = codec_kind::line;
    else if (kind == "delimiter")
        c.kind = codec_kind::delimiter;
    else if (kind == "exact")
        c.kind = codec_kind::exact;
    else
        bad_case(c.id, "unknown kind " + kind);
    const std::string way = item["direction"];
    c.way = way == "encode" ? direction::encode : way == "value" ? direction::value : direction::decode;

    parse_config(c, item["config"]);
    if (item.contains("input_chunks_hex"))
        for (const json& chunk : item["input_chunks_hex"]) c.chunks.push_back(from_hex(chunk));
    c.eof = item.value("eof", false);
    if (item.contains("payload_hex")) c.payload = from_hex(item["payload_hex"]);
    if (item.contains("input_hex")) c.payload = from_hex(item["input_hex"]);
    if (item.contains("payload_repeat")) {
        const json& repeat = item["payload_repeat"];
        c.payload.assign(repeat["count"].get<std::size_t>(), from_hex(repeat["byte_hex"]).at(0));
    }
    for (const json& expected : item["expect"]) c.expect.push_back(parse_expectation(c.id, expected));
    return c;
}

} // namespace detail

/// All cases, in the order of the file; read once.
inline const std::vector<framing_case>& framing_cases() {
    static const std::vector<framing_case> cases = [] {
        const std::string path = std::string(PLAIT_TEST_DATA_DIR) + "/framing_vectors.json";
        std::ifstream file(path);
        if (!file) detail::bad_case(path, "cannot be opened; is PLAIT_TEST_DATA_DIR right?");
        std::vector<framing_case> all;
        for (const auto& item : nlohmann::json::parse(file)) all.push_back(detail::parse_case(item));
        return all;
    }();
    return cases;
}

/// Calls `f(codec)` with the codec that the case describes; not for kind exact, which has none. The codec
/// must not outlive the case.
template <class F>
void with_codec(const framing_case& c, F f) {
    switch (c.kind) {
    case framing_case::codec_kind::length: {
        plait::length_prefix codec;
        codec.width(c.width).offset(c.offset).adjustment(c.adjustment);
        codec.max_frame(c.max_frame).on_oversize(c.on_oversize);
        if (c.strip) codec.strip(*c.strip);
        if (c.little) codec.little_endian();
        if (c.is_signed) codec.signed_length();
        f(codec);
        break;
    }
    case framing_case::codec_kind::varint:
        f(plait::varint_prefix{}
              .max_bytes(c.max_varint_bytes)
              .max_frame(c.max_frame)
              .on_oversize(c.on_oversize));
        break;
    case framing_case::codec_kind::line: {
        plait::lines codec;
        codec.max_frame(c.max_frame).on_oversize(c.on_oversize).at_end(c.at_end);
        if (!c.crlf) codec.lf_only();
        if (c.keep) codec.keep_terminator();
        f(codec);
        break;
    }
    case framing_case::codec_kind::delimiter: {
        plait::delimited codec{c.delimiters.at(0)};
        for (std::size_t i = 1; i < c.delimiters.size(); ++i) codec.add(c.delimiters[i]);
        codec.max_frame(c.max_frame).on_oversize(c.on_oversize).at_end(c.at_end);
        if (c.keep) codec.keep_terminator();
        f(codec);
        break;
    }
    case framing_case::codec_kind::exact: break;
    }
}

} // namespace support
