#pragma once
/// What tests of many connections share: how many there may be, many at once, and bytes whose place is known.

#include <plait/task.hpp>

#include "support/sockets.hpp"

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

namespace support {

/// As many connected pairs as the limit of descriptors allows, up to `wanted`.
inline std::size_t pairs_at_once(std::size_t wanted) {
    const std::size_t most = most_descriptors();
    const std::size_t room = most > 1000 ? most - 500 : 500;
    return std::min(wanted, room / 2);
}

inline plait::task<std::vector<stream_pair>> connected_pairs(std::size_t count) {
    auto listener = co_await loopback_listener();
    std::vector<stream_pair> pairs;
    pairs.reserve(count);
    for (std::size_t i = 0; i < count; ++i) pairs.push_back(co_await connected_pair(listener));
    static_cast<void>(co_await listener.close());
    co_return std::move(pairs);
}

/// A sequence in which every place can be told from its neighbours; both ends of a connection count along in it.
class sequence {
  public:
    static constexpr std::size_t period = 65'537;

    static std::span<const std::byte> at(std::size_t place, std::size_t most) {
        static const std::vector<std::byte> bytes = [] {
            std::vector<std::byte> made(period);
            byte_source(11).fill(made);
            return made;
        }();
        const std::size_t from = place % period;
        return std::span(bytes).subspan(from, std::min(most, period - from));
    }
    /// Whether `bytes` stand at `place`.
    static bool holds(std::size_t place, std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            const auto part = at(place, bytes.size());
            if (std::memcmp(part.data(), bytes.data(), part.size()) != 0) return false;
            place += part.size();
            bytes = bytes.subspan(part.size());
        }
        return true;
    }
};

} // namespace support
