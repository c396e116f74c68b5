#pragma once
/// What tests of simulated networks share.
///
///     plait::testing::simulated_network network(seed);
///     support::on(network, [&]() -> plait::task<> { auto listener = co_await support::listen_at(support::server_address); … });

#include <plait/tcp.hpp>
#include <plait/testing/simulated_network.hpp>

#include "support/must.hpp"
#include "support/sockets.hpp"

#include <span>
#include <string>

namespace support {

inline const plait::endpoint server_address{"10.0.0.2", 8000};

/// Runs a lambda's coroutine on the network.
template <class F>
void on(plait::testing::simulated_network& network, F body) {
    plait::run(body(), network.options());
}

/// What a wait took on the clock of the simulation.
class stopwatch {
  public:
    explicit stopwatch(const plait::testing::simulated_network& network)
        : network_(network), begun_(network.now()) {}
    plait::steady_duration read() const { return network_.now() - begun_; }

  private:
    const plait::testing::simulated_network& network_;
    plait::steady_time begun_;
};

inline plait::task<plait::tcp_listener> listen_at(plait::endpoint where, plait::listen_options options = {}) {
    auto listener = co_await plait::tcp_listener::bind(where, options);
    must(listener.has_value(), "bind");
    co_return std::move(*listener);
}

/// near has connected, far was accepted.
inline plait::task<stream_pair> connected_at(plait::endpoint where) {
    plait::tcp_listener listener = co_await listen_at(where);
    co_return co_await connected_pair(listener, where);
}

/// Bytes that only this number has.
inline std::string numbered_text(std::size_t number, std::size_t size) {
    std::string text(size, '\0');
    byte_source(number).fill(std::as_writable_bytes(std::span(text)));
    return text;
}

} // namespace support
