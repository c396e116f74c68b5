#pragma once
/// What the Windows driver needs of Winsock: sockets, their options, errors, and the functions that are looked up.

#include "platform/driver.hpp"
#include "platform/socket_address.hpp"

// After winsock2.h, which platform/socket_address.hpp includes.
#include <mswsock.h>
#include <windows.h>

#include <span>

namespace plait::inline v1 {
namespace detail {

inline SOCKET socket_of(native_socket handle) noexcept { return static_cast<SOCKET>(handle); }
inline HANDLE handle_of(native_socket handle) noexcept { return reinterpret_cast<HANDLE>(handle); }

/// WSAGetLastError() of the last failed call, as a portable code.
status last_error() noexcept;

/// Winsock's start-up, once for the process; what it answered.
status winsock() noexcept;

/// Extension functions of TCP sockets. They are the provider's, and looked up once.
struct extensions {
    LPFN_ACCEPTEX accept = nullptr;
    LPFN_CONNECTEX connect = nullptr;
};
status find_extensions(extensions& out) noexcept;

/// An overlapped socket that child processes do not inherit: a stream, or with SOCK_DGRAM for UDP.
status make_socket(int family, SOCKET& out, int type = SOCK_STREAM) noexcept;

/// Whether a connected UDP socket hears that nobody listens at its peer. One that is not connected must not: any dead
/// peer would end its receives.
void report_refusals(SOCKET socket, bool on) noexcept;

/// At most this many bytes are handed over at once: the system locks them in memory while they leave.
inline constexpr std::size_t longest_send = 256 * 1024;

/// What a send has left, as far as `out` and longest_send go; how many pieces that is.
std::size_t gather(const operation& op, std::span<WSABUF> out) noexcept;

class winsock_driver : public driver {
  public:
    using driver::close;

    status open_listener(const endpoint& local, const listen_options& options, native_socket& out) override;
    status inspect(native_socket handle, socket_kind kind, bool of_unix) noexcept override;
    status open_stream(const endpoint& peer, native_socket& out) override;
    status open_datagram(const endpoint& local, const udp_options& options, native_socket& out) override;
    status open_unix(socket_kind kind, const unix_path& local, int backlog, native_socket& out,
                     socket_file& file) override;
    status connect_unix(native_socket handle, const unix_path& peer) override;
    status unix_name(native_socket handle, bool remote, unix_path& out) const noexcept override;
    status connect_datagram(native_socket handle, const endpoint& peer) override;
    status set_membership(native_socket handle, const ip_address& group, std::uint32_t index,
                          bool join) override;
    void close(native_socket handle) noexcept override;
    status local_endpoint(native_socket handle, endpoint& out) const noexcept override;
    status remote_endpoint(native_socket handle, endpoint& out) const noexcept override;
    status set_option(native_socket handle, socket_option option, int value) noexcept override;
    status get_option(native_socket handle, socket_option option, int& value) const noexcept override;
    status set_option(native_socket handle, int level, int name,
                      std::span<const std::byte> value) noexcept override;
};

} // namespace detail
} // namespace plait::inline v1
