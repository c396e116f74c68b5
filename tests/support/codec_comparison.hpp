#pragma once
/// One codec against the reference decoder: random choices, both runs, and a count of what happened in them.

#include "support/framing_cases.hpp"
#include "support/reference_decoder.hpp"

#include <plait/codec.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace support {

inline constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

/// splitmix64: the same numbers on every platform.
class random_numbers {
  public:
    explicit random_numbers(std::uint64_t seed) : state_(seed) {}

    std::uint64_t next() {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    std::size_t below(std::size_t n) { return static_cast<std::size_t>(next() % n); }
    bool one_in(std::size_t n) { return below(n) == 0; }
    template <class T, std::size_t N>
    const T& pick(const T (&from)[N]) {
        return from[below(N)];
    }

  private:
    std::uint64_t state_;
};

/// What must have happened in many random runs, so that these are known to test something.
struct seen {
    enum outcome : std::size_t {
        a_frame,
        an_empty_frame,
        a_frame_at_the_limit,
        two_frames,
        a_clean_end,
        a_truncated_frame,
        nothing_yet,
        too_large_for_good,
        a_frame_after_a_discarded_one,
        an_end_in_a_discarded_frame,
        two_discarded_frames,
        by_every_codec, // those above
        malformed = by_every_codec,
        a_wrap,
        by_prefixes, // those above
        a_rest_emitted = by_prefixes,
        a_rest_dropped,
        a_rest_too_large,
        a_terminator_cut_in_two,
        a_kept_terminator,
        all
    };
};

/// One configuration, one input and its cuts; reused, so that a million of them are cheap.
struct random_run {
    random_numbers random{1};
    bytes input;
    std::vector<std::size_t> cuts;
    bool eof = true;
    asking mode = asking::eagerly;
    std::optional<std::uint64_t> limit;
    bool discard = false;

    std::vector<event> events;
    std::vector<event> wanted;
    std::vector<reference::outcome> outcomes;
    bytes window;
    std::array<std::size_t, seen::all> count{};

    void choose_limit() {
        limit.reset();
        // Without a limit, a std::size_t of 32 bits refuses what the reference accepts.
        if (sizeof(std::size_t) < 8 || !random.one_in(4)) limit = random.below(9);
        discard = random.one_in(2);
        eof = !random.one_in(4);
        mode = random.one_in(2) ? asking::eagerly : asking::patiently;
    }
    std::size_t max_frame() const { return limit ? static_cast<std::size_t>(*limit) : unlimited; }
    plait::oversize on_oversize() const {
        return discard ? plait::oversize::discard : plait::oversize::fatal;
    }

    void choose_cuts() {
        cuts.clear();
        switch (random.below(4)) {
        case 0: break;
        case 1:
            for (std::size_t i = 1; i < input.size(); ++i) cuts.push_back(i);
            break;
        default:
            for (std::size_t at = random.below(8); at <= input.size(); at += random.below(8))
                cuts.push_back(at);
            break;
        }
    }

    void put(std::size_t n, std::byte value) { input.insert(input.end(), n, value); }

    template <class C, class Rules>
    bool agrees(C codec, const Rules& rules) {
        outcomes.clear();
        reference::decode(rules, input, eof, outcomes);
        wanted.clear();
        for (const auto& o : outcomes) {
            switch (o.what) {
            case reference::outcome::kind::frame: wanted.push_back(event::frame(o.position, o.size)); break;
            case reference::outcome::kind::too_large:
                wanted.push_back(event::failure(plait::errc::frame_too_large));
                break;
            case reference::outcome::kind::malformed:
                wanted.push_back(event::failure(plait::errc::malformed_frame));
                break;
            case reference::outcome::kind::truncated:
                wanted.push_back(event::failure(plait::errc::truncated_frame));
                break;
            case reference::outcome::kind::end: wanted.push_back(event::clean_end()); break;
            }
        }
        events.clear();
        read_all(codec, input, cuts, eof, mode, events, window);
        note();
        return events == wanted;
    }

    void note() {
        std::size_t frames = 0, large = 0;
        bool malformed_seen = false;
        for (std::size_t i = 0; i < events.size(); ++i) {
            const event& e = events[i];
            const bool after_large = i > 0 && events[i - 1] == event::failure(plait::errc::frame_too_large);
            if (e.what == event::kind::frame) {
                ++frames;
                ++count[seen::a_frame];
                if (e.size == 0) ++count[seen::an_empty_frame];
                if (limit && e.size == *limit && e.size > 0) ++count[seen::a_frame_at_the_limit];
                if (after_large) ++count[seen::a_frame_after_a_discarded_one];
            } else if (e.what == event::kind::end) {
                ++count[seen::a_clean_end];
            } else if (e.error == plait::errc::frame_too_large) {
                ++large;
                if (!discard) ++count[seen::too_large_for_good];
                if (!limit) ++count[seen::a_wrap];
            } else if (e.error == plait::errc::truncated_frame) {
                ++count[after_large ? seen::an_end_in_a_discarded_frame : seen::a_truncated_frame];
            } else {
                malformed_seen = true;
            }
        }
        if (frames > 1) ++count[seen::two_frames];
        if (large > 1) ++count[seen::two_discarded_frames];
        if (malformed_seen) ++count[seen::malformed];
        if (events.empty()) ++count[seen::nothing_yet];
    }

    /// All that is needed to understand a disagreement.
    std::string report(std::uint64_t seed, std::string_view codec) const {
        std::string text = std::string(codec) + ", seed " + std::to_string(seed) + ": ";
        for (std::byte b : input) {
            text += "0123456789abcdef"[std::to_integer<unsigned>(b) >> 4];
            text += "0123456789abcdef"[std::to_integer<unsigned>(b) & 15];
        }
        text += eof ? ", end, cut at" : ", cut at";
        for (std::size_t cut : cuts) text += ' ' + std::to_string(cut);
        text += ", limit " + (limit ? std::to_string(*limit) : "none") + (discard ? ", discard" : "");
        text += "\n  codec:     " + describe(events, input);
        text += "\n  reference: " + describe(wanted, input);
        return text;
    }
};

/// `full` repetitions, scaled by the environment's PLAIT_TEST_SCALE.
inline std::uint64_t runs(std::uint64_t full) {
    const char* const scale = std::getenv("PLAIT_TEST_SCALE");
    return static_cast<std::uint64_t>(static_cast<double>(full) *
                                      (scale ? std::strtod(scale, nullptr) : 1.0));
}

} // namespace support
