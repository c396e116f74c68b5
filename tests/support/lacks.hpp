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

/// An error of plait's with its number, for a SKIP.
inline std::string with_number(std::error_code error) {
    return std::string(error.category().name()) + ' ' + std::to_string(error.value()) + ", " +
           error.message();
}

} // namespace support
