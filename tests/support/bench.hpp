#pragma once
/// Where a verb of a socket is tried: two connected streams, a listener, and an account of what went in and came out.
///
///     support::bench b;
///     co_await support::open(b);
///     co_await support::tell(b, "hello"); // b.near can receive it

#include <plait/framing.hpp>
#include <plait/task.hpp>
#include <plait/tcp.hpp>

#include "support/sockets.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace support {

inline constexpr std::string_view words = "hello world";
inline constexpr std::size_t payload_size = 20'000;
inline constexpr std::size_t collected_frames = 40; // of 1,000 bytes: a write waits above 64 KiB

inline constexpr std::size_t far_buffer = 64 * 1024;

inline const std::string& payload() {
    static const std::string bytes = [] {
        std::string made(payload_size, '\0');
        byte_source(7).fill(std::as_writable_bytes(std::span(made)));
        return made;
    }();
    return bytes;
}

/// What a verb works on, and an account of what went in and what came out.
struct bench {
    plait::tcp_listener listener;
    plait::tcp_stream near; ///< the stream that the verb is called on
    plait::tcp_stream far;  ///< its peer
    std::optional<plait::framed<plait::tcp_stream&, plait::length_prefix>> messages; ///< on `near`
    std::vector<plait::tcp_stream> others;
    std::size_t connected = 0;
    std::size_t accepted = 0;
    std::string told;  ///< sent by far
    std::string heard; ///< received by near
    std::string left;  ///< sent by near
    std::string came;  ///< received by far
    std::array<std::byte, 64> room{};
};

struct outcome {
    std::error_code error;
    std::size_t bytes = 0;
};

template <class T>
outcome outcome_of(const plait::io_result<T>& result) {
    return {result.error(), result.bytes()};
}

inline plait::task<> open(bench& b) {
    b.listener = co_await loopback_listener();
    auto pair = co_await connected_pair(b.listener);
    b.near = std::move(pair.near);
    b.far = std::move(pair.far);
    b.near.set_send_buffer_size(64 * 1024).value();
    b.far.set_receive_buffer_size(far_buffer).value();
}

inline plait::task<> tell(bench& b, std::string_view text) {
    b.told += text;
    auto sent = co_await b.far.send_all(text);
    CHECK(sent.error() == std::error_code());
}

/// Everything that near sent so far is taken off the wire; at the end of the stream it stops earlier.
inline plait::task<> collect(bench& b, std::size_t most) {
    static_cast<void>(b.far.set_receive_buffer_size(far_buffer)); // fill_near makes it small
    std::vector<std::byte> room(64 * 1024);
    while (b.came.size() < most) {
        auto got = co_await b.far.recv(std::span(room).first(std::min(room.size(), most - b.came.size())));
        if (!got) break;
        b.came += plait::as_text(std::span(room).first(*got));
    }
}

/// From here on near can send nothing until far receives.
inline plait::task<> fill_near(bench& b) {
    const std::size_t filled = co_await fill(b.near, std::byte{'f'});
    b.left.append(filled, 'f');
    // Or else its window would open again when it is probed, a fifth of a second later: Linux 6.1 takes enough then to
    // wake a sender.
    b.far.set_receive_buffer_size(4096).value();
}

/// Output that the loop sends at the turn's end, behind what fills the wire.
inline plait::task<> collect_output(bench& b) {
    if (!b.messages) b.messages.emplace(b.near, plait::length_prefix().width(2));
    for (std::size_t i = 0; i < collected_frames; ++i) {
        auto written = co_await b.messages->write(std::string_view(payload()).substr(0, 1000));
        CHECK(written.error() == std::error_code());
        b.left += std::string("\x03\xe8", 2) + payload().substr(0, 1000);
    }
}

} // namespace support
