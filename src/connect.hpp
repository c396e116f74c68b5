#pragma once
/// Several endpoints of one host, and the connection that is there first. RFC 8305, "Happy Eyeballs".

#include <plait/tcp.hpp>

#include <functional>
#include <vector>

namespace plait::inline v1 {
namespace detail {

/// The connection attempt delay that RFC 8305, section 5, recommends.
inline constexpr std::chrono::milliseconds attempt_delay{250};

/// IPv6 and IPv4 in turns, beginning with the family of the first; each family in its order. RFC 8305, section 4, with
/// a "First Address Family Count" of 1.
PLAIT_API std::vector<endpoint> alternate_families(const std::vector<endpoint>& found);

/// One attempt: tcp_stream::connect, or what a test puts in its place.
using connect_attempt = std::function<task<io_result<tcp_stream>>(endpoint)>;

/// Tries `peers` (at least one) in their order, the next when `delay` has passed without an outcome or an attempt has
/// failed, and answers the first connection. Before it completes, all others are cancelled and their sockets closed.
PLAIT_API task<io_result<tcp_stream>> connect_first(std::vector<endpoint> peers, steady_duration delay,
                                                    connect_attempt attempt);

} // namespace detail
} // namespace plait::inline v1
