#pragma once
/// Listeners that a supervisor has opened for this program: socket activation, as systemd does it.
///
///     auto listeners = plait::activated_listeners();              // in main, before there are threads
///     if (!listeners.empty())
///         plait::run_per_core(4, [&] { return plait::serve_per_core(listeners[0], session); });

#include <plait/detail/socket_state.hpp>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plait::inline v1 {

/// A listening socket that this process was started with. It names the socket and does not own it: the first
/// from_native_handle() or serve_per_core() does.
class activated_listener {
  public:
    /// For who gets listeners in another way.
    activated_listener(native_socket handle, std::string name) noexcept
        : handle_(handle), name_(std::move(name)) {}

    /// The descriptor.
    native_socket native_handle() const noexcept { return handle_; }
    /// What the supervisor calls it (FileDescriptorName=); "unknown", or nothing, if it has no name.
    std::string_view name() const noexcept { return name_; }

  private:
    native_socket handle_;
    std::string name_;
};

/// The sockets that were passed to this process: LISTEN_FDS of them from descriptor 3 on, if LISTEN_PID is this
/// process, with the names in LISTEN_FDNAMES. Child processes will not inherit them, and the variables are removed: a
/// second call finds nothing. It changes the environment, so call it while there is one thread. What they are shows
/// tcp_listener::from_native_handle. On Windows always empty. sd_listen_fds(3).
PLAIT_API std::vector<activated_listener> activated_listeners();

} // namespace plait::inline v1
