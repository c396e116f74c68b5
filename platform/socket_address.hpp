#pragma once
/// An endpoint as the system takes it. Berkeley sockets and Winsock differ here in nothing but the headers.

#include <plait/endpoint.hpp>

#ifdef _WIN32
#    include <winsock2.h>
// After winsock2.h, which they need.
#    include <ws2tcpip.h>
#else
#    include <netinet/in.h>
#    include <sys/socket.h>
#endif

namespace plait::inline v1 {
namespace detail {

struct socket_address {
    socket_address() noexcept = default;
    explicit socket_address(const endpoint& where) noexcept;

    endpoint to_endpoint() const noexcept;
    const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
    sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage); }

    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
};

/// AF_INET or AF_INET6.
int family_of(const endpoint& where) noexcept;

} // namespace detail
} // namespace plait::inline v1
