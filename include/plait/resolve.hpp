#pragma once
/// `resolve`: the endpoints behind a name.
///
///     auto found = co_await plait::resolve("localhost", "8000");
///     if (!found) report(found.error().message());                 // "no such host", for one
///     else for (const plait::endpoint& each : *found) …            // the system's order: the best first
///
/// To connect, `tcp_stream::connect(host, service)` tries them all.

#include <plait/endpoint.hpp>
#include <plait/result.hpp>
#include <plait/task.hpp>

#include <string_view>
#include <vector>

namespace plait::inline v1 {

/// The endpoints of `host`, a name or a literal address, with the port of `service`, a number or a name such as "http".
/// Both are copied by the call itself, not when the task is awaited. At least one endpoint, none twice, in the order in
/// which they should be tried (RFC 6724). getaddrinfo(3).
///
/// Completes when the system has answered: a literal address with a number at once, all else on one of the four threads
/// that a process has for this. Any number may overlap; what finds no thread waits for one. Cancelling completes it at
/// once; the system's answer is dropped when it comes. Fails with
/// - errc::host_not_found, errc::service_not_found,
/// - errc::invalid_name: the host is empty, longer than 253 bytes or holds a zero byte,
/// - errc::lookup_unavailable: no name server has answered; later one may,
/// - errc::lookup_failed: one has, and refuses,
/// - errc::canceled, or what the system says (not_enough_memory).
PLAIT_API task<io_result<std::vector<endpoint>>> resolve(std::string_view host, std::string_view service);

} // namespace plait::inline v1
