#pragma once
/// A slow decoder that is obviously right, to compare the codecs with. It has the whole input at once and
/// takes it byte by byte, straight from the rules; it shares no code with plait.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace support::reference {

/// What comes out, positions counted from the first byte.
struct outcome {
    enum class kind { frame, too_large, malformed, truncated, end };

    kind what = kind::end;
    std::size_t position = 0; ///< of a frame's payload
    std::size_t size = 0;

    friend bool operator==(const outcome&, const outcome&) = default;
};

enum class rest { truncated, emit, drop };

/// Options; no limit: std::nullopt.
struct length_rules {
    int width = 4;
    bool little = false;
    bool is_signed = false;
    std::size_t offset = 0;
    std::int64_t adjustment = 0;
    std::size_t strip = 4;
    std::optional<std::uint64_t> limit; ///< of the payload
    bool discard = false;
};

struct varint_rules {
    std::size_t max_bytes = 10;
    std::optional<std::uint64_t> limit;
    bool discard = false;
};

/// lines are delimited by LF and, unless lf_only, by CR LF.
struct delimiter_rules {
    std::vector<std::string> delimiters;
    std::optional<std::uint64_t> limit; ///< of the content
    bool keep = false;
    bool discard = false;
    rest at_end = rest::truncated;
    bool drop_cr_at_end = false; ///< lines with CR LF: a last CR is no content
};

/// All that comes out of `input`, which is followed by the end of the stream if `eof`.
void decode(const length_rules&, std::span<const std::byte> input, bool eof, std::vector<outcome>& out);
void decode(const varint_rules&, std::span<const std::byte> input, bool eof, std::vector<outcome>& out);
void decode(const delimiter_rules&, std::span<const std::byte> input, bool eof, std::vector<outcome>& out);

} // namespace support::reference
