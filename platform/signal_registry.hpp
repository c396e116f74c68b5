#pragma once
/// Who watches which signal: the part of signals that every system shares. A system's own part takes a signal from its
/// default action, and calls signal_arrived() when there is one.

#include "platform/driver.hpp"

namespace plait::inline v1 {
namespace detail {

/// Counts an arrival and wakes every loop that watches signals. Lock-free; for signal handlers, and for any thread.
void signal_arrived(int signal) noexcept;

// --- what the system defines ---------------------------------------------------------------------------------

/// Signals that can be watched have numbers below this.
inline constexpr int signal_limit = 65;

/// Installs a handler that calls signal_arrived(); called for the first watcher of `signal`, under a lock.
status take_signal(int signal) noexcept;
/// Puts back what was there before take_signal(); called after the last watcher has gone, under the same lock.
void give_signal_back(int signal) noexcept;

} // namespace detail
} // namespace plait::inline v1
