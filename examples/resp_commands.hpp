#pragma once
// RESP2, the protocol of Redis, as a server reads it: a codec of one's own. What such a class has to answer says
// plait/codec.hpp; the protocol is at https://redis.io/docs/latest/develop/reference/protocol-spec/

#include <plait/bytes.hpp>
#include <plait/codec.hpp>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace example {

/// A frame is one whole command of at most a mebibyte: "*2\r\n$3\r\nGET\r\n$4\r\nname\r\n", which is the number of
/// strings, and before each of them its size; or a line of words, as somebody types it.
class resp_commands {
  public:
    plait::decoded decode(std::span<const std::byte> bytes) {
        const std::string_view text = plait::as_text(bytes);
        if (!text.starts_with('*')) return decode_line(text);
        do {
            const std::string_view rest = text.substr(seen_);
            const bool first = seen_ == 0;
            const header head(rest, first ? '*' : '$');
            if (head.kind == header::partial) return plait::decoded::need(1);
            if (head.kind == header::broken) return plait::decoded::failed(plait::errc::malformed_frame);
            if (first && head.number <= 0) return plait::decoded::skip(head.size); // asks for nothing
            if (head.number < 0) return plait::decoded::failed(plait::errc::malformed_frame);
            if (static_cast<std::uint64_t>(head.number) > most)
                return plait::decoded::failed(plait::errc::frame_too_large);

            // How many strings follow this line and its own string, and where that ends.
            const auto number = static_cast<std::size_t>(head.number);
            const std::size_t left = first ? number : left_ - 1;
            const std::size_t end = first ? head.size : head.size + number + 2;
            if (seen_ + end + left * least_string > most)
                return plait::decoded::failed(plait::errc::frame_too_large);
            if (rest.size() < end) return plait::decoded::need(end - rest.size());
            if (rest.substr(end - 2, 2) != "\r\n")
                return plait::decoded::failed(plait::errc::malformed_frame);
            left_ = left;
            seen_ += end;
        } while (left_ > 0);
        const std::size_t size = std::exchange(seen_, 0);
        return plait::decoded::frame(size, 0, size);
    }

    plait::decoded finish(std::span<const std::byte> bytes) {
        if (bytes.empty()) return plait::decoded::end();
        const plait::decoded answer = decode(bytes);
        const bool cut = answer.kind() == plait::decoded_kind::need;
        return cut ? plait::decoded::failed(plait::errc::truncated_frame) : answer;
    }

    /// Puts nothing around an answer, which marks its own end.
    plait::io_result<void> encode(std::span<const std::byte>, plait::frame_edges& edges) {
        edges.header_size = 0;
        edges.trailer = {};
        return {};
    }

    /// The words of a frame. Those of a line stand between blanks; quotes mean nothing.
    static void split(std::string_view frame, std::vector<std::string_view>& words) {
        words.clear();
        if (frame.starts_with('*')) {
            frame.remove_prefix(header(frame, '*').size);
            while (!frame.empty()) {
                const header head(frame, '$');
                words.push_back(frame.substr(head.size, static_cast<std::size_t>(head.number)));
                frame.remove_prefix(head.size + words.back().size() + 2);
            }
            return;
        }
        constexpr std::string_view blanks = " \t\r";
        for (std::size_t at = 0; (at = frame.find_first_not_of(blanks, at)) != frame.npos;) {
            const std::size_t end = std::min(frame.find_first_of(blanks, at), frame.size());
            words.push_back(frame.substr(at, end - at));
            at = end;
        }
    }

  private:
    static constexpr std::size_t most = std::size_t{1} << 20;
    static constexpr std::size_t least_string = 6; // "$0\r\n\r\n"

    /// "*2\r\n" or "$3\r\n" at the front of `text`.
    struct header {
        header(std::string_view text, char mark) {
            constexpr std::size_t longest = 32; // so that looking for the end again costs little
            text = text.substr(0, longest);
            const std::size_t lf = text.find('\n');
            if (text.empty() || (text[0] == mark && lf == text.npos && text.size() < longest)) return;
            kind = broken;
            if (text[0] != mark || lf == text.npos || lf < 2 || text[lf - 1] != '\r') return;
            const char* const cr = text.data() + lf - 1;
            const auto [behind, error] = std::from_chars(text.data() + 1, cr, number);
            if (error != std::errc() || behind != cr) return;
            kind = whole;
            size = lf + 1;
        }

        enum { partial, broken, whole } kind = partial;
        std::int64_t number = 0;
        std::size_t size = 0; // of the header itself
    };

    plait::decoded decode_line(std::string_view text) {
        const std::size_t lf = text.find('\n', seen_);
        seen_ = std::min(lf, text.size());
        if (seen_ > most) return plait::decoded::failed(plait::errc::frame_too_large);
        if (lf == text.npos) return plait::decoded::need(1);
        seen_ = 0;
        return plait::decoded::frame(lf + 1, 0, lf);
    }

    std::size_t seen_ = 0; // bytes at the front that were understood
    std::size_t left_ = 0; // strings that belong behind them
};

static_assert(plait::codec<resp_commands>);

} // namespace example
