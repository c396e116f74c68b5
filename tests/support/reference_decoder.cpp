#include "reference_decoder.hpp"

namespace support::reference {
namespace {

/// An integer of 96 bits, so that nothing here can wrap: high * 2^32 + low, low in [0, 2^32).
struct wide {
    std::int64_t high = 0;
    std::int64_t low = 0;

    static wide of(std::int64_t high, std::int64_t low) {
        constexpr std::int64_t base = std::int64_t{1} << 32;
        while (low < 0) {
            low += base;
            --high;
        }
        return {high + low / base, low % base};
    }
    static wide from(std::uint64_t n) {
        return {static_cast<std::int64_t>(n >> 32), static_cast<std::int64_t>(n & 0xffffffff)};
    }
    static wide from_signed(std::int64_t n) {
        return n >= 0 ? from(static_cast<std::uint64_t>(n))
                      : wide{} - from(std::uint64_t{0} - static_cast<std::uint64_t>(n));
    }

    friend wide operator+(wide a, wide b) { return of(a.high + b.high, a.low + b.low); }
    friend wide operator-(wide a, wide b) { return of(a.high - b.high, a.low - b.low); }
    friend bool operator<(wide a, wide b) { return a.high != b.high ? a.high < b.high : a.low < b.low; }
};

std::uint64_t number(std::byte b) { return std::to_integer<std::uint64_t>(b); }

using kind = outcome::kind;

/// A frame of `total` bytes at `at`: is all of it there?
enum class presence { whole, cut };
presence look(std::size_t at, wide total, std::size_t input) {
    return wide::from(input) < wide::from(at) + total ? presence::cut : presence::whole;
}

} // namespace

void decode(const length_rules& rules, std::span<const std::byte> input, bool eof,
            std::vector<outcome>& out) {
    const wide two_to_64 = wide::from(~std::uint64_t{0}) + wide::from(1);
    std::size_t at = 0;
    while (at < input.size()) {
        const std::size_t header = rules.offset + static_cast<std::size_t>(rules.width);
        if (input.size() - at < header) {
            if (eof) out.push_back({kind::truncated});
            return;
        }
        // The field, from its highest byte down.
        std::uint64_t field = 0;
        for (int i = 0; i < rules.width; ++i) {
            const int index = rules.little ? rules.width - 1 - i : i;
            field = field * 256 + number(input[at + rules.offset + static_cast<std::size_t>(index)]);
        }
        const int highest = rules.little ? rules.width - 1 : 0;
        const bool sign = number(input[at + rules.offset + static_cast<std::size_t>(highest)]) >= 128;

        const wide body = wide::from(field) + wide::from_signed(rules.adjustment);
        const wide total = wide::from(header) + body;
        const wide payload = total - wide::from(rules.strip);
        const bool wraps = !(body < two_to_64) || !(total < two_to_64);
        if ((rules.is_signed && sign) || body < wide{} || (!wraps && payload < wide{})) {
            out.push_back({kind::malformed});
            return;
        }
        if (wraps || (rules.limit && wide::from(*rules.limit) < payload)) {
            out.push_back({kind::too_large});
            if (!rules.discard) return;
            if (look(at, total, input.size()) == presence::cut) {
                if (eof) out.push_back({kind::truncated});
                return;
            }
        } else if (look(at, total, input.size()) == presence::cut) {
            if (eof) out.push_back({kind::truncated});
            return;
        } else {
            out.push_back({kind::frame, at + rules.strip, static_cast<std::size_t>(payload.low)});
        }
        at += static_cast<std::size_t>(total.low);
    }
    if (eof) out.push_back({kind::end});
}

void decode(const varint_rules& rules, std::span<const std::byte> input, bool eof,
            std::vector<outcome>& out) {
    std::size_t at = 0;
    while (at < input.size()) {
        // Seven bits at a time into single bits, so that none gets lost.
        bool bits[80] = {};
        std::size_t used = 0;
        bool complete = false;
        while (!complete && used < rules.max_bytes && at + used < input.size()) {
            const std::uint64_t byte = number(input[at + used]);
            for (std::size_t b = 0; b < 7; ++b) bits[7 * used + b] = (byte >> b) % 2 == 1;
            complete = byte < 128;
            ++used;
        }
        bool beyond_64 = false;
        for (std::size_t b = 64; b < 80; ++b) beyond_64 = beyond_64 || bits[b];
        if (beyond_64 || (!complete && used == rules.max_bytes)) {
            out.push_back({kind::malformed});
            return;
        }
        if (!complete) {
            if (eof) out.push_back({kind::truncated});
            return;
        }
        std::uint64_t value = 0;
        for (std::size_t b = 0; b < 64; ++b)
            if (bits[b]) value += std::uint64_t{1} << b;

        const wide total = wide::from(used) + wide::from(value);
        const bool wraps = wide::from(~std::uint64_t{0}) < total;
        const bool too_large = wraps || (rules.limit && *rules.limit < value);
        if (too_large) out.push_back({kind::too_large});
        if (too_large && !rules.discard) return;
        if (look(at, total, input.size()) == presence::cut) {
            if (eof) out.push_back({kind::truncated});
            return;
        }
        if (!too_large) out.push_back({kind::frame, at + used, static_cast<std::size_t>(value)});
        at += used + static_cast<std::size_t>(value);
    }
    if (eof) out.push_back({kind::end});
}

void decode(const delimiter_rules& rules, std::span<const std::byte> input, bool eof,
            std::vector<outcome>& out) {
    std::string frame; // the bytes since the last delimiter
    bool told = false; // this frame was reported as too large
    const auto too_large = [&](std::size_t content) { return rules.limit && content > *rules.limit; };

    for (std::size_t i = 0; i < input.size(); ++i) {
        frame.push_back(static_cast<char>(input[i]));
        std::size_t delimiter = 0; // the longest that ends here
        std::size_t begun = 0;     // the longest beginning of one that stands here
        for (const std::string& d : rules.delimiters) {
            if (frame.ends_with(d) && d.size() > delimiter) delimiter = d.size();
            for (std::size_t n = 1; n < d.size(); ++n)
                if (n > begun && frame.size() >= n && frame.compare(frame.size() - n, n, d, 0, n) == 0)
                    begun = n;
        }
        const std::size_t content = frame.size() - (delimiter > 0 ? delimiter : begun);
        if (!told && too_large(content)) {
            out.push_back({kind::too_large});
            if (!rules.discard) return;
            told = true;
        }
        if (delimiter == 0) continue;
        if (!told) out.push_back({kind::frame, i + 1 - frame.size(), rules.keep ? frame.size() : content});
        told = false;
        frame.clear();
    }

    if (!eof) return;
    if (told || !frame.empty()) {
        if (rules.at_end == rest::truncated) {
            out.push_back({kind::truncated});
            return;
        }
        if (rules.at_end == rest::emit && !told) {
            std::size_t content = frame.size();
            if (rules.drop_cr_at_end && frame.back() == '\r') --content;
            if (too_large(content)) {
                out.push_back({kind::too_large});
                if (!rules.discard) return;
            } else if (rules.keep || content > 0) {
                out.push_back(
                    {kind::frame, input.size() - frame.size(), rules.keep ? frame.size() : content});
            }
        }
    }
    out.push_back({kind::end});
}

} // namespace support::reference
