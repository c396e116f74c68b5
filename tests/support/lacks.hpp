#pragma once
/// What a system may lack, found out by trying, and without plait. Each answers the call that showed it and the error it
/// gave, for a SKIP; "" where nothing is missing. linux/ and windows/ answer.
///
///     if (const std::string why = support::lacks_user_timeout(); !why.empty()) SKIP(why);

#include <string>
#include <system_error>

namespace support {

/// The times and the count of keep-alive probes.
std::string lacks_keep_alive_times();

std::string lacks_user_timeout();

/// A connected datagram socket hears that its peer refuses.
std::string lacks_refusals();

/// A datagram socket cannot be bound to an address of another machine: this one.
std::string lacks_bind_errors();
inline constexpr const char* foreign_address = "203.0.113.1"; // TEST-NET-3, RFC 5737

/// Who leaves a group that was never joined is told so.
std::string lacks_leave_errors();

/// A socket hears no group that other sockets alone have joined.
std::string lacks_private_groups(bool v6);

std::string lacks_unix_streams();
std::string lacks_unix_datagrams();
/// For Unix sockets: names that are no files.
std::string lacks_unix_abstract_names();

/// A socket can go from one context to another.
std::string lacks_moves_between_contexts();

/// A program can send its console's Ctrl-Break to itself, or whatever this system has in its place.
std::string lacks_ctrl_break();

/// A test can tell a program that its console closes.
std::string lacks_close_event();

/// An error of plait's with its number, for a SKIP.
inline std::string with_number(std::error_code error) {
    return std::string(error.category().name()) + ' ' + std::to_string(error.value()) + ", " +
           error.message();
}

} // namespace support
