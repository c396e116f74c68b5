#pragma once
/// An endpoint, or the name of a Unix socket, as the system takes it. Berkeley sockets and Winsock differ here in
/// nothing but the headers.

#include <plait/endpoint.hpp>

#ifdef _WIN32
#    include <winsock2.h>
// After winsock2.h, which they need.
#    include <ws2tcpip.h>
// After both.
#    include <afunix.h>
#else
#    include <netinet/in.h>
#    include <sys/socket.h>
#    include <sys/un.h>
#endif

namespace plait::inline v1 {
namespace detail {

struct socket_address {
    socket_address() noexcept = default;
    explicit socket_address(const endpoint& where) noexcept;
    explicit socket_address(const unix_path& name) noexcept;
    /// What the system wrote somewhere else; of a longer one its beginning.
    socket_address(const sockaddr* from, std::size_t length) noexcept;

    /// Whether it is an endpoint; otherwise it is the name of a Unix socket.
    bool is_ip() const noexcept { return storage.ss_family == AF_INET || storage.ss_family == AF_INET6; }
    endpoint to_endpoint() const noexcept;
    unix_path to_path() const noexcept;
    const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
    sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage); }

    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
};

/// AF_INET or AF_INET6.
int family_of(const endpoint& where) noexcept;

} // namespace detail
} // namespace plait::inline v1
