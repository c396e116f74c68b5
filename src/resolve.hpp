#pragma once
/// What stands behind resolve(): for tests, which must not ask a name server.

#include <plait/endpoint.hpp>
#include <plait/result.hpp>

#include <string>
#include <vector>

namespace plait::inline v1 {
namespace detail {

/// look_up() of platform/driver.hpp, or what a test puts in its place. It is called on a thread of the pool.
using lookup_function = status (*)(const std::string& host, const std::string& service,
                                   std::vector<endpoint>& found);

/// What lookups that start from now on call; answers what they called before. Any thread.
PLAIT_API lookup_function exchange_lookup(lookup_function replacement) noexcept;

/// Lookups that run at the same time, at most.
inline constexpr std::size_t most_lookups = 4;

} // namespace detail
} // namespace plait::inline v1
