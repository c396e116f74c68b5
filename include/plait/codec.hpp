#pragma once
/// Codecs: where a message ends in a stream of bytes. A codec does no I/O and allocates nothing.
///
///     plait::framed messages{std::move(stream), plait::length_prefix{}.width(4).little_endian()};
///     plait::framed lines_of{std::move(stream), plait::lines{}.max_frame(1024)};
///
/// `length_prefix`, `varint_prefix`, `lines` and `delimited` are below. A codec of your own is any class with
/// the three members that the concept `codec` names. One for records of 16 bytes:
///
///     struct records {
///         plait::decoded decode(std::span<const std::byte> bytes) {
///             if (bytes.size() < 16) return plait::decoded::need(16 - bytes.size());
///             return plait::decoded::frame(16, 0, 16);
///         }
///         plait::decoded finish(std::span<const std::byte> bytes) {
///             if (bytes.size() >= 16) return decode(bytes);
///             if (bytes.empty()) return plait::decoded::end();
///             return plait::decoded::failed(plait::errc::truncated_frame);
///         }
///         plait::io_result<void> encode(std::span<const std::byte> payload, plait::frame_edges& edges) {
///             if (payload.size() != 16) return plait::errc::malformed_frame;
///             edges = {};
///             return {};
///         }
///     };

#include <plait/bytes.hpp>
#include <plait/detail/byte_search.hpp>
#include <plait/detail/config.hpp>
#include <plait/result.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace plait::inline v1 {

/// The answers of a codec, by the names of the functions of `decoded` that make them.
enum class decoded_kind : unsigned char { frame, need, skip, discard, failed, end };

/// What a codec says about the bytes so far.
class decoded {
  public:
    /// A frame of `size` >= 1 bytes stands at the front, all of it present. The application gets its payload,
    /// `bytes[payload_offset, payload_offset + payload_size)`.
    static constexpr decoded frame(std::size_t size, std::size_t payload_offset,
                                   std::size_t payload_size) noexcept {
        return {decoded_kind::frame, errc{}, size, payload_offset, payload_size};
    }

    /// At least `more` >= 1 further bytes must come before there is anything else to say. A hint: what a peer
    /// claims is no reason to reserve memory, and asking again with fewer is allowed.
    static constexpr decoded need(std::size_t more) noexcept {
        return {decoded_kind::need, errc{}, more, 0, 0};
    }

    /// Drop `size` >= 1 bytes and tell nobody. It may be more than are present: the reader drops the rest as
    /// it arrives, without storing it, and does not ask the codec before that is done.
    static constexpr decoded skip(std::size_t size) noexcept {
        return {decoded_kind::skip, errc{}, size, 0, 0};
    }

    /// Report `error` once, then drop `size` >= 1 bytes as `skip` does, and go on.
    static constexpr decoded discard(errc error, std::size_t size) noexcept {
        return {decoded_kind::discard, error, size, 0, 0};
    }

    /// The stream cannot be understood any further. The reader repeats `error` from now on.
    static constexpr decoded failed(errc error) noexcept { return {decoded_kind::failed, error, 0, 0, 0}; }

    /// A clean end. Only `finish` says so.
    static constexpr decoded end() noexcept { return {decoded_kind::end, errc{}, 0, 0, 0}; }

    /// Which answer it is.
    constexpr decoded_kind kind() const noexcept { return kind_; }

    /// Bytes to take from the front: of a frame, a skip or a discard; otherwise 0.
    constexpr std::size_t size() const noexcept { return kind_ == decoded_kind::need ? 0 : size_; }

    /// Bytes that are missing at least; 0 unless this is a need.
    constexpr std::size_t more() const noexcept { return kind_ == decoded_kind::need ? size_ : 0; }

    /// The error of a discard or a failed; otherwise no value of `errc`.
    constexpr errc error() const noexcept { return error_; }

    /// Where the payload of a frame lies in it, bytes.
    constexpr std::size_t payload_offset() const noexcept { return payload_offset_; }
    constexpr std::size_t payload_size() const noexcept { return payload_size_; }

    /// The payload of this frame within the bytes that were given to `decode`.
    constexpr std::span<const std::byte> payload(std::span<const std::byte> bytes) const noexcept {
        return bytes.subspan(payload_offset_, payload_size_);
    }

    friend constexpr bool operator==(const decoded&, const decoded&) noexcept = default;

  private:
    constexpr decoded(decoded_kind kind, errc error, std::size_t size, std::size_t payload_offset,
                      std::size_t payload_size) noexcept
        : kind_(kind), error_(error), size_(size), payload_offset_(payload_offset),
          payload_size_(payload_size) {}

    decoded_kind kind_;
    errc error_;
    std::size_t size_;
    std::size_t payload_offset_;
    std::size_t payload_size_;
};

/// What the writer puts around a payload: `header[0, header_size)` before it, `trailer` behind it.
struct frame_edges {
    std::array<std::byte, 32> header;   ///< what stands before it
    std::size_t header_size = 0;        ///< bytes of that
    std::span<const std::byte> trailer; ///< refers into the codec, or to what the codec was made from
};

/// Finds frames in received bytes, and says what surrounds a payload that is sent.
///
/// `decode(bytes)`: `bytes` is everything that was received and not consumed yet. After `need` it is called
/// again with the same bytes and more behind them, so a codec may remember how far it has looked; it forgets
/// that itself when its answer consumes bytes. What it answers must not depend on how the bytes were cut into
/// calls.
///
/// `finish(bytes)`: the stream has ended behind `bytes`, which may be empty. As `decode`, but never `need`:
/// `end` when nothing is left, `failed(errc::truncated_frame)` when the end cuts a frame. It is called until
/// it answers one of these, with what the answer before left over. A stream that ends while bytes of a skip
/// or a discard are still missing has ended inside a frame: the reader says so, and does not ask.
///
/// `encode(payload, edges)`: sets every part of `edges`, or tells why this payload cannot be sent.
template <class C>
concept codec = requires(C c, std::span<const std::byte> bytes, frame_edges& edges) {
    { c.decode(bytes) } -> std::same_as<decoded>;
    { c.finish(bytes) } -> std::same_as<decoded>;
    { c.encode(bytes, edges) } -> std::same_as<io_result<void>>;
};

/// What happens to a frame longer than `max_frame`.
enum class oversize : std::uint8_t {
    fatal,   ///< `frame_too_large`, now and at every later call
    discard, ///< `frame_too_large` once; exactly this frame is dropped and the next one is read
};

/// What happens to the bytes behind the last terminator when the stream ends.
enum class remainder {
    truncated, ///< `truncated_frame`
    emit,      ///< they are a last frame
    drop,      ///< nothing; the stream ends cleanly
};

/// The limit of a codec that was given none, in bytes: 8 MiB.
inline constexpr std::size_t default_max_frame = std::size_t{8} << 20;

// ---------------------------------------------------------------------------------------------------------
// varints

/// Whether a varint stands there: all of it, a part, or something that is none.
enum class varint_status : unsigned char { complete, incomplete, malformed };

/// What `decode_varint` found.
struct varint {
    varint_status status = varint_status::incomplete; ///< whether there is one
    std::size_t size = 0;                             ///< bytes that it takes; 0 unless complete
    std::uint64_t value = 0;                          ///< 0 unless complete
};

/// The LEB128 number at the head of `bytes`: seven bits a byte, the lowest first, the high bit set on all but
/// the last. Forms longer than necessary are legal. Malformed: more than `max_bytes` (1 to 10) bytes, or a
/// value of 2^64 or more.
constexpr varint decode_varint(std::span<const std::byte> bytes, std::size_t max_bytes = 10) noexcept {
    PLAIT_ASSERT(max_bytes >= 1 && max_bytes <= 10,
                 "a varint has 1 to 10 bytes: 5 carry 32 bits, 10 carry 64");
    std::uint64_t value = 0;
    const std::size_t present = std::min(bytes.size(), max_bytes);
    for (std::size_t i = 0; i < present; ++i) {
        const auto byte = std::to_integer<std::uint64_t>(bytes[i]);
        if (i == 9 && byte > 1) return {varint_status::malformed, 0, 0};
        value |= (byte & 0x7f) << (7 * i);
        if (byte < 0x80) return {varint_status::complete, i + 1, value};
    }
    return {present == max_bytes ? varint_status::malformed : varint_status::incomplete, 0, 0};
}

namespace detail {

class frame_buffer;
template <class S>
class frame_sink;

/// A frame that is too long, and how to get past it. Its size may exceed what a std::size_t holds (32 bits):
/// then it is skipped in several steps, and what is left is remembered here.
class oversized {
  public:
    constexpr decoded refuse(oversize mode, std::uint64_t size) noexcept {
        if (mode == oversize::fatal) return decoded::failed(errc::frame_too_large);
        left_ = size;
        return decoded::discard(errc::frame_too_large, step());
    }

    constexpr bool pending() const noexcept {
        if constexpr (sizeof(std::size_t) < sizeof(std::uint64_t))
            return left_ != 0;
        else
            return false;
    }

    constexpr decoded go_on() noexcept { return decoded::skip(step()); }

  private:
    constexpr std::size_t step() noexcept {
        constexpr std::uint64_t most = std::numeric_limits<std::size_t>::max();
        const std::uint64_t now = std::min(left_, most);
        left_ -= now;
        return static_cast<std::size_t>(now);
    }

    std::uint64_t left_ = 0;
};

/// What `lines` and `delimited` have in common: the limit, the end of the stream, and where the search
/// stands.
struct terminated {
    std::size_t max_frame = default_max_frame;
    std::size_t scanned = 0; ///< no terminator ends within this many bytes at the front
    oversize too_long = oversize::fatal;
    remainder at_end = remainder::truncated;
    bool keep = false;
    bool discarding = false; ///< in a frame that was reported as too large

    /// A terminator stands behind `content` bytes and ends at `end`.
    constexpr decoded found(std::size_t content, std::size_t end) noexcept {
        scanned = 0;
        if (discarding) {
            discarding = false;
            return decoded::skip(end);
        }
        if (content <= max_frame) return decoded::frame(end, 0, keep ? end : content);
        if (too_long == oversize::fatal) return decoded::failed(errc::frame_too_large);
        return decoded::discard(errc::frame_too_large, end);
    }

    /// No terminator yet, and the content is too long already. Of `present` bytes, `drop` >= 1 can no longer
    /// be part of a terminator.
    constexpr decoded exceeded(std::size_t drop, std::size_t present) noexcept {
        if (too_long == oversize::fatal) return decoded::failed(errc::frame_too_large);
        discarding = true;
        scanned = present - drop;
        return decoded::discard(errc::frame_too_large, drop);
    }

    /// Still inside a discarded frame.
    constexpr decoded pass(std::size_t drop, std::size_t present) noexcept {
        scanned = present - drop;
        return drop > 0 ? decoded::skip(drop) : decoded::need(1);
    }

    /// The stream ends behind `present` bytes without a terminator, of which `content` would be handed out.
    constexpr decoded ended(std::size_t content, std::size_t present) noexcept {
        scanned = 0;
        if (at_end == remainder::truncated && (present > 0 || discarding))
            return decoded::failed(errc::truncated_frame);
        if (present == 0) return decoded::end();
        if (at_end == remainder::drop || discarding) return decoded::skip(present);
        if (content > max_frame) return exceeded(present, present);
        if (keep) return decoded::frame(present, 0, present);
        return content > 0 ? decoded::frame(present, 0, content) : decoded::skip(present);
    }
};

} // namespace detail

// ---------------------------------------------------------------------------------------------------------
// length_prefix

/// A frame that begins with a header that contains the number of bytes that follow. Without any setter: four
/// bytes, big-endian, unsigned, and nothing else in the header.
///
///     length_prefix{}.width(4).little_endian().signed_length()    // Python's struct.pack('<i', n)
///     length_prefix{}.offset(2).width(2).adjustment(-4).strip(0)  // TPKT, RFC 1006: counts its header too
///     length_prefix{}.offset(3).width(2).strip(0)                 // TLS records, RFC 8446, with their header
///
///     | offset bytes | field: width bytes | field's value + adjustment bytes |
///     |--- strip bytes ---|------ payload, handed out: at most max_frame ----|
///
/// Decoding fails with `malformed_frame` (always fatal) when a signed length is below zero, when fewer than
/// zero bytes would follow the field, or when the frame is shorter than what is to be stripped; with
/// `frame_too_large` when the payload would exceed `max_frame` or the size of the frame 2^64, both on the
/// header alone.
///
/// Encoding mirrors decoding with the whole header stripped: zeros up to the field, then the payload's size
/// minus the adjustment. Below zero that is `malformed_frame`; more than the field can hold, or a payload
/// above `max_frame`, is `frame_too_large`.
class length_prefix {
  public:
    constexpr length_prefix() noexcept { measure(); }

    /// Bytes of the length field: 1, 2, 3, 4 or 8. Default 4.
    constexpr length_prefix& width(std::size_t bytes) noexcept {
        PLAIT_ASSERT(bytes == 1 || bytes == 2 || bytes == 3 || bytes == 4 || bytes == 8,
                     "a length field has 1, 2, 3, 4 or 8 bytes; for any number of them use varint_prefix");
        width_ = static_cast<std::uint8_t>(bytes);
        return measure();
    }

    /// Byte order of the field. Default: big-endian, the network's.
    constexpr length_prefix& big_endian() noexcept {
        little_ = false;
        return *this;
    }
    constexpr length_prefix& little_endian() noexcept {
        little_ = true;
        return *this;
    }

    /// Whether the field is two's complement, where a length below zero is malformed. Default: unsigned.
    constexpr length_prefix& signed_length() noexcept {
        signed_ = true;
        return measure();
    }
    constexpr length_prefix& unsigned_length() noexcept {
        signed_ = false;
        return measure();
    }

    /// Bytes of the header before the field, at most 1 MiB; at most 32 - width to send frames. Default 0.
    constexpr length_prefix& offset(std::size_t bytes) noexcept {
        PLAIT_ASSERT(bytes <= (std::size_t{1} << 20),
                     "a header is at most 1 MiB long; check the offset's unit, bytes");
        offset_ = static_cast<std::uint32_t>(bytes);
        return measure();
    }

    /// Added to the field's value to get the number of bytes after the field: negative when the length counts
    /// the header too. Within +-2^62. Default 0.
    constexpr length_prefix& adjustment(std::int64_t bytes) noexcept {
        PLAIT_ASSERT(bytes >= -(std::int64_t{1} << 62) && bytes <= (std::int64_t{1} << 62),
                     "an adjustment is a few bytes, the size of a header or so");
        adjustment_ = bytes;
        return measure();
    }

    /// Bytes that are taken off the front of each frame before it is handed out: 0 keeps the header, more
    /// than the header takes off some of what follows it. Default: the header, offset + width.
    constexpr length_prefix& strip(std::size_t bytes) noexcept {
        strip_ = bytes;
        strip_header_ = false;
        return measure();
    }

    /// The longest payload, in bytes, counted as it is handed out. Default 8 MiB.
    constexpr length_prefix& max_frame(std::size_t bytes) noexcept {
        max_frame_ = bytes;
        return measure();
    }

    /// What follows a frame that is too long. Default: fatal.
    constexpr length_prefix& on_oversize(oversize mode) noexcept {
        on_oversize_ = mode;
        return *this;
    }

    constexpr decoded decode(std::span<const std::byte> bytes) noexcept {
        if (oversized_.pending()) return oversized_.go_on();
        if (bytes.size() < header()) return decoded::need(header() - bytes.size());
        return decode_field(bytes.size(), load(bytes.data() + offset_));
    }

    constexpr decoded finish(std::span<const std::byte> bytes) noexcept {
        if (oversized_.pending()) return decoded::failed(errc::truncated_frame);
        if (bytes.empty()) return decoded::end();
        const decoded answer = decode(bytes);
        return answer.kind() == decoded_kind::need ? decoded::failed(errc::truncated_frame) : answer;
    }

    io_result<void> encode(std::span<const std::byte> payload, frame_edges& edges) const noexcept {
        PLAIT_ASSERT(header() <= std::tuple_size_v<decltype(edges.header)>,
                     "frames are sent with a header of at most 32 bytes: put the rest into the payload");
        const std::uint64_t size = payload.size();
        if (size > max_frame_) return errc::frame_too_large;
        const std::uint64_t field = size - static_cast<std::uint64_t>(adjustment_);
        if (adjustment_ > 0 && field > size) return errc::malformed_frame;
        if ((adjustment_ < 0 && field < size) || field > largest()) return errc::frame_too_large;

        for (std::size_t i = 0; i < offset_; ++i) edges.header[i] = std::byte{0};
        for (std::size_t i = 0; i < width_; ++i) {
            const std::size_t place = little_ ? i : width_ - 1 - i; // 0 is the lowest byte
            edges.header[offset_ + i] = static_cast<std::byte>((field >> (8 * place)) & 0xff);
        }
        edges.header_size = header();
        edges.trailer = {};
        return {};
    }

  private:
    template <class S>
    friend class detail::frame_sink;
    friend detail::frame_buffer;

    /// A plain header is the payload's size in four bytes, enough for any that is allowed: no other rule can be broken.
    static constexpr std::size_t plain_header = 4;
    static constexpr std::size_t plain_largest = 0x7fff'ffff;
    static constexpr std::size_t not_plain = std::numeric_limits<std::size_t>::max();
    /// The size of the payload, if a whole frame with such a header stands at the front.
    PLAIT_HOT std::size_t plain_payload(std::span<const std::byte> bytes) const noexcept {
        if (!plain_ || oversized_.pending() || bytes.size() < plain_header) return not_plain;
        const std::size_t payload = load4(bytes.data(), little_);
        return payload <= max_frame_ && payload <= bytes.size() - plain_header ? payload : not_plain;
    }
    bool writes_plainly(std::size_t payload) const noexcept { return plain_ && payload <= max_frame_; }
    PLAIT_HOT void write_plain_header(std::byte* to, std::size_t payload) const noexcept {
        auto field = static_cast<std::uint32_t>(payload);
        if (little_ != (std::endian::native == std::endian::little))
            field = field >> 24 | (field >> 8 & 0xff00) | (field & 0xff00) << 8 | field << 24;
        std::memcpy(to, &field, sizeof field);
    }

    /// Any header, also a plain one.
    constexpr decoded decode_field(std::size_t present, std::uint64_t field) noexcept {
        if (signed_ && field > largest()) return decoded::failed(errc::malformed_frame);

        // This 64-bit arithmetic may wrap; each wrap is looked for where it can happen.
        const std::uint64_t body = field + static_cast<std::uint64_t>(adjustment_);
        if (adjustment_ < 0 && body > field) return decoded::failed(errc::malformed_frame);
        const std::uint64_t total = header() + body;
        if ((adjustment_ > 0 && body < field) || total < body)
            // More bytes than 2^64 - 1 never arrive, so dropping that many is exact.
            return oversized_.refuse(on_oversize_, std::numeric_limits<std::uint64_t>::max());

        if (total < strip_) return decoded::failed(errc::malformed_frame);
        const std::uint64_t payload = total - strip_;
        if (payload > max_frame_ || total > std::numeric_limits<std::size_t>::max())
            return oversized_.refuse(on_oversize_, total);

        const auto size = static_cast<std::size_t>(total);
        if (present < size) return decoded::need(size - present);
        return decoded::frame(size, strip_, static_cast<std::size_t>(payload));
    }

    constexpr length_prefix& measure() noexcept {
        if (strip_header_) strip_ = header();
        plain_ = width_ == 4 && offset_ == 0 && adjustment_ == 0 && strip_ == plain_header &&
                 max_frame_ <= plain_largest;
        return *this;
    }

    constexpr std::size_t header() const noexcept { return std::size_t{offset_} + width_; }

    /// The largest length that the field can say.
    constexpr std::uint64_t largest() const noexcept {
        return std::numeric_limits<std::uint64_t>::max() >> (64 - 8 * width_ + (signed_ ? 1 : 0));
    }

    // Written out so that compilers make one load, and one byte swap, of each.
    static constexpr std::uint32_t load4(const std::byte* p, bool little) noexcept {
        const std::uint32_t a = std::to_integer<std::uint32_t>(p[0]),
                            b = std::to_integer<std::uint32_t>(p[1]),
                            c = std::to_integer<std::uint32_t>(p[2]),
                            d = std::to_integer<std::uint32_t>(p[3]);
        return little ? a | (b << 8) | (c << 16) | (d << 24) : (a << 24) | (b << 16) | (c << 8) | d;
    }
    constexpr std::uint64_t load(const std::byte* p) const noexcept {
        if (width_ == 4) return load4(p, little_);
        if (width_ == 8) {
            const std::uint64_t first = load4(p, little_), second = load4(p + 4, little_);
            return little_ ? first | (second << 32) : (first << 32) | second;
        }
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < width_; ++i) {
            const std::size_t place = little_ ? i : width_ - 1 - i;
            value |= std::to_integer<std::uint64_t>(p[i]) << (8 * place);
        }
        return value;
    }

    std::size_t strip_ = 0;
    std::size_t max_frame_ = default_max_frame;
    std::int64_t adjustment_ = 0;
    detail::oversized oversized_;
    // Each connection has a codec, or several: the rest is kept small.
    std::uint32_t offset_ = 0;
    std::uint8_t width_ = 4;
    oversize on_oversize_ = oversize::fatal;
    bool little_ = false;
    bool signed_ = false;
    bool strip_header_ = true;
    bool plain_ = true;
};

// ---------------------------------------------------------------------------------------------------------
// varint_prefix

/// A LEB128 number, then that many bytes: what protobuf calls delimited messages.
///
///     varint_prefix{}.max_bytes(5).max_frame(1 << 20)
///
/// Decoding fails with `malformed_frame` (always fatal) on a broken number, see `decode_varint`; with
/// `frame_too_large` when the payload would exceed `max_frame`, as soon as the number is complete. Encoding
/// writes the shortest form; a payload above `max_frame`, or one whose length needs more than `max_bytes`, is
/// `frame_too_large`.
class varint_prefix {
  public:
    constexpr varint_prefix() noexcept = default;

    /// The most bytes of a number, 1 to 10. Default 10, which carries 64 bits; protobuf's 32-bit decoders
    /// take 5.
    constexpr varint_prefix& max_bytes(std::size_t bytes) noexcept {
        PLAIT_ASSERT(bytes >= 1 && bytes <= 10, "a varint has 1 to 10 bytes: 5 carry 32 bits, 10 carry 64");
        max_bytes_ = bytes;
        return *this;
    }

    /// The longest payload, in bytes. Default 8 MiB.
    constexpr varint_prefix& max_frame(std::size_t bytes) noexcept {
        max_frame_ = bytes;
        return *this;
    }

    /// What follows a frame that is too long. Default: fatal.
    constexpr varint_prefix& on_oversize(oversize mode) noexcept {
        on_oversize_ = mode;
        return *this;
    }

    constexpr decoded decode(std::span<const std::byte> bytes) noexcept {
        if (oversized_.pending()) return oversized_.go_on();
        const varint length = decode_varint(bytes, max_bytes_);
        if (length.status == varint_status::incomplete) return decoded::need(1);
        if (length.status == varint_status::malformed) return decoded::failed(errc::malformed_frame);

        constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
        const bool wraps = length.value > most - length.size;
        const std::uint64_t total = wraps ? most : length.size + length.value;
        if (wraps || length.value > max_frame_ || total > std::numeric_limits<std::size_t>::max())
            return oversized_.refuse(on_oversize_, total);

        const auto size = static_cast<std::size_t>(total);
        if (bytes.size() < size) return decoded::need(size - bytes.size());
        return decoded::frame(size, length.size, size - length.size);
    }

    constexpr decoded finish(std::span<const std::byte> bytes) noexcept {
        if (oversized_.pending()) return decoded::failed(errc::truncated_frame);
        if (bytes.empty()) return decoded::end();
        const decoded answer = decode(bytes);
        return answer.kind() == decoded_kind::need ? decoded::failed(errc::truncated_frame) : answer;
    }

    io_result<void> encode(std::span<const std::byte> payload, frame_edges& edges) const noexcept {
        std::uint64_t rest = payload.size();
        if (rest > max_frame_) return errc::frame_too_large;
        if (max_bytes_ < 10 && rest >> (7 * max_bytes_) != 0) return errc::frame_too_large;
        std::size_t size = 0;
        for (; rest >= 0x80; rest >>= 7) edges.header[size++] = static_cast<std::byte>((rest & 0x7f) | 0x80);
        edges.header[size++] = static_cast<std::byte>(rest);
        edges.header_size = size;
        edges.trailer = {};
        return {};
    }

  private:
    std::size_t max_bytes_ = 10;
    std::size_t max_frame_ = default_max_frame;
    detail::oversized oversized_;
    oversize on_oversize_ = oversize::fatal;
};

// ---------------------------------------------------------------------------------------------------------
// lines

/// Lines of text, each ended by LF or by CR LF.
///
///     lines{}.max_frame(1024).on_oversize(oversize::discard).at_end(remainder::emit)
///
/// A CR that nothing follows yet is no content until the next byte says so: neither for the limit nor at the
/// end of the stream, where `remainder::emit` hands out the rest without it. A CR elsewhere is content.
/// Decoding fails with `frame_too_large` as soon as the content exceeds `max_frame`, and with
/// `truncated_frame` at the end of the stream, as `at_end` says.
///
/// Encoding puts LF behind the payload, or CR LF after `crlf()`. A payload that the other side would not read
/// back as this one line, because it contains LF or because its last CR would be taken for the terminator's,
/// is `malformed_frame`; more content than `max_frame` is `frame_too_large`. With `keep_terminator` a payload
/// may end with its terminator, as `next` handed it out, and nothing is added to it.
class lines {
  public:
    constexpr lines() noexcept = default;

    /// The longest content, in bytes. The terminator never counts, kept or not. Default 8 MiB.
    constexpr lines& max_frame(std::size_t bytes) noexcept {
        state_.max_frame = bytes;
        return *this;
    }

    /// Only LF is the terminator: a CR before it is content. Default: one CR before LF belongs to the
    /// terminator.
    constexpr lines& lf_only() noexcept {
        lf_only_ = true;
        return *this;
    }

    /// Hands out each line with its terminator. Default: without.
    constexpr lines& keep_terminator() noexcept {
        state_.keep = true;
        return *this;
    }

    /// Sends CR LF behind each line. Default: LF.
    constexpr lines& crlf() noexcept {
        send_crlf_ = true;
        return *this;
    }

    /// What becomes of an unfinished line at the end of the stream. Default: truncated. What is left of a
    /// line that was reported as too large is never handed out.
    constexpr lines& at_end(remainder what) noexcept {
        state_.at_end = what;
        return *this;
    }

    /// What follows a line that is too long. Default: fatal.
    constexpr lines& on_oversize(oversize mode) noexcept {
        state_.too_long = mode;
        return *this;
    }

    constexpr decoded decode(std::span<const std::byte> bytes) noexcept {
        const std::size_t lf = detail::find_byte(bytes, state_.scanned, std::byte{'\n'});
        if (lf < bytes.size()) return state_.found(content_before(bytes, lf), lf + 1);
        if (state_.discarding) return state_.pass(bytes.size(), bytes.size());
        if (content_before(bytes, bytes.size()) > state_.max_frame)
            return state_.exceeded(bytes.size(), bytes.size());
        state_.scanned = bytes.size();
        return decoded::need(1);
    }

    constexpr decoded finish(std::span<const std::byte> bytes) noexcept {
        if (!bytes.empty()) {
            const decoded answer = decode(bytes);
            if (answer.kind() != decoded_kind::need) return answer;
        }
        return state_.ended(content_before(bytes, bytes.size()), bytes.size());
    }

    io_result<void> encode(std::span<const std::byte> payload, frame_edges& edges) const noexcept {
        const std::size_t lf = detail::find_byte(payload, 0, std::byte{'\n'});
        const bool ended = state_.keep && lf + 1 == payload.size();
        const std::size_t content = ended ? content_before(payload, lf) : payload.size();
        if (content > state_.max_frame) return errc::frame_too_large;
        if (lf < payload.size() && !ended) return errc::malformed_frame;
        if (!ended && !send_crlf_ && content_before(payload, content) != content)
            return errc::malformed_frame;

        edges.header_size = 0;
        edges.trailer = {};
        if (!ended) edges.trailer = std::span(terminator).subspan(send_crlf_ ? 0 : 1);
        return {};
    }

  private:
    static constexpr std::array<std::byte, 2> terminator{std::byte{'\r'}, std::byte{'\n'}};

    /// Bytes before `position` without the CR that may belong to a terminator there.
    constexpr std::size_t content_before(std::span<const std::byte> bytes,
                                         std::size_t position) const noexcept {
        const bool cr = !lf_only_ && position > 0 && bytes[position - 1] == std::byte{'\r'};
        return cr ? position - 1 : position;
    }

    detail::terminated state_;
    bool lf_only_ = false;
    bool send_crlf_ = false;
};

// ---------------------------------------------------------------------------------------------------------
// delimited

/// Frames that end with one of up to eight delimiters.
///
///     delimited{"\r\n\r\n"}.max_frame(16384)              // the head of an HTTP/1.1 message, RFC 9112
///     delimited{std::string_view{"\0", 1}}.add("\n")
///
/// The delimiter that ends first wins; of two that end together, the longer. So one that contains another one
/// before its own end is never found. The characters of a delimiter are not copied: they must outlive the
/// codec, as a literal does.
///
/// Decoding fails with `frame_too_large` as soon as the content exceeds `max_frame`, not counting bytes that
/// may still turn out to be the beginning of a delimiter, and with `truncated_frame` at the end of the
/// stream, as `at_end` says.
///
/// Encoding puts the first delimiter behind the payload. A payload that would not be read back as this one
/// frame is `malformed_frame`; more content than `max_frame` is `frame_too_large`. With `keep_terminator` a
/// payload may end with a delimiter, as `next` handed it out, and nothing is added to it.
class delimited {
  public:
    /// How many it takes.
    static constexpr std::size_t max_delimiters = 8;

    /// `delimiter` is not empty; its characters must outlive the codec.
    constexpr explicit delimited(std::string_view delimiter) noexcept { add(delimiter); }

    /// A temporary std::string would not outlive the codec.
    template <std::same_as<std::string> Temporary>
    explicit delimited(Temporary&&) = delete; // NOLINT(bugprone-forwarding-reference-overload): strings alone

    /// One more delimiter, with equal rights; eight in all.
    constexpr delimited& add(std::string_view delimiter) noexcept {
        PLAIT_ASSERT(!delimiter.empty(), "an empty delimiter ends everywhere: name at least one character");
        PLAIT_ASSERT(count_ < max_delimiters, "delimited takes eight delimiters: write a codec for more");
        delimiters_[count_++] = delimiter;
        longest_ = std::max(longest_, delimiter.size());
        const auto last = static_cast<unsigned char>(delimiter.back());
        last_[last / 64] |= std::uint64_t{1} << (last % 64);
        one_last_ = one_last_ && delimiter.back() == delimiters_[0].back();
        return *this;
    }
    template <std::same_as<std::string> Temporary>
    delimited& add(Temporary&&) = delete;

    /// The longest content, in bytes. The delimiter never counts, kept or not. Default 8 MiB.
    constexpr delimited& max_frame(std::size_t bytes) noexcept {
        state_.max_frame = bytes;
        return *this;
    }

    /// Hands out each frame with its delimiter. Default: without.
    constexpr delimited& keep_terminator() noexcept {
        state_.keep = true;
        return *this;
    }

    /// What becomes of an unfinished frame at the end of the stream. Default: truncated. What is left of a
    /// frame that was reported as too large is never handed out.
    constexpr delimited& at_end(remainder what) noexcept {
        state_.at_end = what;
        return *this;
    }

    /// What follows a frame that is too long. Default: fatal.
    constexpr delimited& on_oversize(oversize mode) noexcept {
        state_.too_long = mode;
        return *this;
    }

    constexpr decoded decode(std::span<const std::byte> bytes) noexcept {
        const std::size_t size = bytes.size();
        const match hit = find(bytes, state_.scanned);
        if (hit.size > 0) return state_.found(hit.end - hit.size, hit.end);

        // Only the last longest_ - 1 bytes can still be the beginning of a delimiter.
        const std::size_t settled = size < longest_ ? 0 : size - (longest_ - 1);
        if (state_.discarding) return state_.pass(settled, size);
        if (size > state_.max_frame) {
            const std::size_t content = unstarted(bytes, settled, state_.max_frame);
            if (content > state_.max_frame) return state_.exceeded(content, size);
        }
        state_.scanned = size;
        return decoded::need(1);
    }

    constexpr decoded finish(std::span<const std::byte> bytes) noexcept {
        if (!bytes.empty()) {
            const decoded answer = decode(bytes);
            if (answer.kind() != decoded_kind::need) return answer;
        }
        return state_.ended(bytes.size(), bytes.size());
    }

    io_result<void> encode(std::span<const std::byte> payload, frame_edges& edges) const noexcept {
        const match inside = find(payload, 0);
        const bool ended = state_.keep && inside.size > 0 && inside.end == payload.size();
        const std::size_t content = ended ? inside.end - inside.size : payload.size();
        if (content > state_.max_frame) return errc::frame_too_large;
        if (!ended && (inside.size > 0 || !readable(payload))) return errc::malformed_frame;

        edges.header_size = 0;
        edges.trailer = {};
        if (!ended) edges.trailer = as_bytes(delimiters_[0]);
        return {};
    }

  private:
    struct match {
        std::size_t end = 0;
        std::size_t size = 0; ///< 0: no delimiter
    };

    static constexpr bool ends_at(std::span<const std::byte> bytes, std::size_t end,
                                  std::string_view text) noexcept {
        return text.size() <= end && detail::same_bytes(bytes.data() + (end - text.size()), text);
    }

    /// The delimiter that ends first behind `from`, the longest of those that end there.
    constexpr match find(std::span<const std::byte> bytes, std::size_t from) const noexcept {
        for (std::size_t i = candidate(bytes, from); i < bytes.size(); i = candidate(bytes, i + 1)) {
            std::size_t size = 0;
            for (std::size_t d = 0; d < count_; ++d)
                if (delimiters_[d].size() > size && ends_at(bytes, i + 1, delimiters_[d]))
                    size = delimiters_[d].size();
            if (size > 0) return {i + 1, size};
        }
        return {};
    }

    /// The next byte that is the last one of a delimiter, or the end.
    constexpr std::size_t candidate(std::span<const std::byte> bytes, std::size_t from) const noexcept {
        if (one_last_) return detail::find_byte(bytes, from, static_cast<std::byte>(delimiters_[0].back()));
        for (; from < bytes.size(); ++from) {
            const auto byte = std::to_integer<unsigned>(bytes[from]);
            if ((last_[byte / 64] >> (byte % 64) & 1) != 0) break;
        }
        return from;
    }

    /// The first place in [from, last] where all the bytes that follow are the beginning of a delimiter;
    /// otherwise the first place behind `last` and not before `from`.
    constexpr std::size_t unstarted(std::span<const std::byte> bytes, std::size_t from,
                                    std::size_t last) const noexcept {
        for (; from <= last; ++from) {
            const std::size_t rest = bytes.size() - from;
            for (std::size_t d = 0; d < count_; ++d)
                if (rest < delimiters_[d].size() &&
                    detail::same_bytes(bytes.data() + from, delimiters_[d].substr(0, rest)))
                    return from;
        }
        return from;
    }

    /// Whether the payload, which contains no delimiter, and the first delimiter read as exactly these two.
    constexpr bool readable(std::span<const std::byte> payload) const noexcept {
        const std::string_view trailer = delimiters_[0];
        for (std::size_t end = 1; end <= trailer.size(); ++end)
            for (std::size_t d = 0; d < count_; ++d) {
                const std::string_view other = delimiters_[d];
                if (end == trailer.size() && other.size() <= trailer.size())
                    continue;                                           // the trailer is the longer one
                const std::size_t behind = std::min(other.size(), end); // how much of it lies in the trailer
                const std::size_t before = other.size() - behind;       // and how much in the payload
                if (before <= payload.size() && ends_at(payload, payload.size(), other.substr(0, before)) &&
                    trailer.substr(end - behind, behind) == other.substr(before))
                    return false;
            }
        return true;
    }

    std::array<std::string_view, max_delimiters> delimiters_{};
    std::size_t count_ = 0;
    std::size_t longest_ = 0;
    std::array<std::uint64_t, 4> last_{}; ///< a bit for each byte with which a delimiter ends
    bool one_last_ = true;                ///< they all end with the same byte, which memchr finds
    detail::terminated state_;
};

static_assert(codec<length_prefix> && codec<varint_prefix> && codec<lines> && codec<delimited>);

} // namespace plait::inline v1
