#pragma once
/// Tests on a simulated network: what they cannot do there, and its clock.
///
///     if (const std::string why = support::lacks_real_sockets(); !why.empty()) SKIP(why);

#include <plait/io_context.hpp>

#include <chrono>
#include <string>

namespace support {

/// "" where the default context's sockets are the system's, which plain calls of the system reach, too.
inline std::string lacks_real_sockets() {
    static const bool simulated = plait::io_context().backend() == plait::backend::simulated;
    return simulated ? "the sockets are a simulated network's, and no call of the system reaches them" : "";
}

/// "" where time passes by itself, for other threads too.
inline std::string lacks_real_time() {
    return lacks_real_sockets().empty() ? "" : "the clock is a simulation's, which no other thread goes by";
}

/// The clock of the context that runs here; without one the system's.
struct context_clock {
    using time_point = plait::steady_time;
    static plait::steady_time now() {
        plait::detail::loop* const running = plait::detail::current_loop();
        return running ? plait::detail::time_now(*running) : std::chrono::steady_clock::now();
    }
};

} // namespace support
