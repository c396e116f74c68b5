#pragma once
/// What tests of sockets share: connected pairs, full and emptied ones, and bytes that can be told apart.
///
///     auto pair = co_await support::connected_pair();
///     co_await pair.near.send_all("hello");

#include <plait/bytes.hpp>
#include <plait/io_context.hpp>
#include <plait/task_group.hpp>
#include <plait/tcp.hpp>
#include <plait/time.hpp>

#include "support/must.hpp"
#include "support/system.hpp"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace support {

/// Lets the loop turn that often.
inline plait::task<> turns(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) co_await plait::yield();
}

struct stream_pair {
    stream_pair(plait::tcp_stream a, plait::tcp_stream b) : near(std::move(a)), far(std::move(b)) {}
    plait::tcp_stream near;
    plait::tcp_stream far;
};

inline plait::task<stream_pair> connected_pair(plait::tcp_listener& listener, plait::endpoint where) {
    auto near = co_await plait::tcp_stream::connect(where);
    must(near.has_value(), "connect");
    auto far = co_await listener.accept();
    must(far.has_value(), "accept");
    co_return stream_pair(std::move(*near), std::move(*far));
}
inline plait::task<stream_pair> connected_pair(plait::tcp_listener& listener) {
    return connected_pair(listener, listener.local_endpoint().value());
}

inline plait::task<plait::tcp_listener> loopback_listener(plait::listen_options options = {}) {
    auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0}, options);
    must(listener.has_value(), "bind");
    co_return std::move(*listener);
}

inline plait::task<stream_pair> connected_pair() {
    auto listener = co_await loopback_listener();
    auto pair = co_await connected_pair(listener);
    static_cast<void>(co_await listener.close());
    co_return std::move(pair);
}

/// The peer sees a reset, not an end.
inline void reset_by(plait::tcp_stream& stream) {
    static_cast<void>(stream.set_linger(std::chrono::seconds(0)));
    stream = plait::tcp_stream();
}

/// Sends until the peer's window and our buffer are full; answers how many bytes that took.
inline plait::task<std::size_t> fill(plait::tcp_stream& stream, std::byte with) {
    const std::vector<std::byte> piece(64 * 1024, with);
    std::size_t total = 0;
    constexpr int long_enough = 50; // a segment that the peer had no room for is not acknowledged for long
    const plait::native_socket handle = stream.native_handle();
    const bool real = is_open_socket(handle); // and not a simulated network's
    for (int full = 0; full < long_enough;) {
        // Asked first: what an acknowledgement makes free is too little to wake a send that waits already.
        const bool due = real && acknowledgements_are_due(handle);
        auto sent = co_await plait::with_timeout(stream.send(piece), std::chrono::milliseconds(20));
        total += sent.bytes();
        full = sent ? 0 : full + 1;
        if (full >= 3 && !due) break;
    }
    co_return total;
}

/// Receives and drops that many bytes; answers how many there were before the stream ended.
inline plait::task<std::size_t> drain(plait::tcp_stream& stream, std::size_t most) {
    std::vector<std::byte> room(64 * 1024);
    std::size_t total = 0;
    while (total < most) {
        auto got = co_await stream.recv(std::span(room).first(std::min(room.size(), most - total)));
        total += got.bytes();
        if (!got) break;
    }
    co_return total;
}

/// A 64-bit hash of a byte stream that does not depend on how the stream was cut (FNV-1a).
class stream_hash {
  public:
    void add(std::span<const std::byte> bytes) noexcept {
        for (const std::byte each : bytes)
            value_ = (value_ ^ static_cast<std::uint64_t>(each)) * 1099511628211U;
        count_ += bytes.size();
    }
    std::uint64_t value() const noexcept { return value_; }
    std::size_t count() const noexcept { return count_; }

  private:
    std::uint64_t value_ = 14695981039346656037U;
    std::size_t count_ = 0;
};

/// Bytes that a seed determines; no two places look alike.
class byte_source {
  public:
    explicit byte_source(std::uint64_t seed) noexcept : state_(seed * 2 + 1) {}
    void fill(std::span<std::byte> bytes) noexcept {
        for (std::byte& each : bytes) {
            state_ = state_ * 6364136223846793005U + 1442695040888963407U;
            each = static_cast<std::byte>(state_ >> 56);
        }
    }

  private:
    std::uint64_t state_;
};

} // namespace support
