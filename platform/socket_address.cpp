#include "platform/socket_address.hpp"

#include "platform/driver.hpp"

#ifdef _WIN32
#    include <iphlpapi.h>
#else
#    include <arpa/inet.h>
#    include <net/if.h>
#endif

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstring>

namespace plait::inline v1 {
namespace detail {

int family_of(const endpoint& where) noexcept { return where.address().is_v6() ? AF_INET6 : AF_INET; }

socket_address::socket_address(const endpoint& where) noexcept {
    const ip_address& address = where.address();
    if (address.is_v6()) {
        auto& in6 = reinterpret_cast<sockaddr_in6&>(storage);
        in6.sin6_family = AF_INET6;
        in6.sin6_port = htons(where.port());
        in6.sin6_scope_id = address.scope();
        std::memcpy(&in6.sin6_addr, address.octets().data(), 16);
        size = sizeof in6;
    } else {
        auto& in4 = reinterpret_cast<sockaddr_in&>(storage);
        in4.sin_family = AF_INET;
        in4.sin_port = htons(where.port());
        std::memcpy(&in4.sin_addr, address.octets().data(), 4);
        size = sizeof in4;
    }
}

socket_address::socket_address(const sockaddr* from, std::size_t length) noexcept
    : size(static_cast<socklen_t>(std::min(length, sizeof storage))) {
    std::memcpy(&storage, from, static_cast<std::size_t>(size));
}

endpoint socket_address::to_endpoint() const noexcept {
    if (storage.ss_family == AF_INET6) {
        const auto& in6 = reinterpret_cast<const sockaddr_in6&>(storage);
        std::array<std::uint8_t, 16> octets;
        std::memcpy(octets.data(), &in6.sin6_addr, 16);
        return endpoint(ip_address::v6(octets, in6.sin6_scope_id), ntohs(in6.sin6_port));
    }
    const auto& in4 = reinterpret_cast<const sockaddr_in&>(storage);
    std::array<std::uint8_t, 4> octets;
    std::memcpy(octets.data(), &in4.sin_addr, 4);
    return endpoint(ip_address::v4(octets), ntohs(in4.sin_port));
}

socket_address::socket_address(const unix_path& name) noexcept {
    static_assert(sizeof(sockaddr_un) <= sizeof(sockaddr_storage));
    auto& un = reinterpret_cast<sockaddr_un&>(storage);
    un.sun_family = AF_UNIX;
    const std::string_view bytes = name.name();
    std::memcpy(un.sun_path + (name.is_abstract() ? 1 : 0), bytes.data(), bytes.size());
    // The zero byte in front of an abstract name, or behind a path.
    const std::size_t length = name.is_unnamed() ? 0 : bytes.size() + 1;
    size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
}

unix_path socket_address::to_path() const noexcept {
    constexpr std::size_t before = offsetof(sockaddr_un, sun_path);
    const auto length = static_cast<std::size_t>(size);
    if (length <= before) return {}; // a sender without a name leaves no address at all
    const auto& un = reinterpret_cast<const sockaddr_un&>(storage);
    const std::string_view bytes(un.sun_path, std::min(length, sizeof un) - before);
    if (bytes.front() != '\0') return unix_path(bytes.substr(0, bytes.find('\0')));
    if (bytes.find_first_not_of('\0') == std::string_view::npos && length == sizeof un)
        return {}; // Windows' way to say that there is no name
    return unix_path::abstract(bytes.substr(1));
}

std::optional<ip_address> parse_address(std::string_view text) noexcept {
    std::array<char, INET6_ADDRSTRLEN + IF_NAMESIZE + 1> copy{};
    if (text.size() >= copy.size() || text.find('\0') != std::string_view::npos) return std::nullopt;
    std::memcpy(copy.data(), text.data(), text.size());
    char* zone = std::strchr(copy.data(), '%');
    if (zone) *zone++ = '\0';
    std::array<std::uint8_t, 16> octets;
    if (inet_pton(AF_INET6, copy.data(), octets.data()) == 1) {
        std::uint32_t scope = 0;
        if (zone && (scope = if_nametoindex(zone)) == 0) {
            const char* const zone_end = zone + std::strlen(zone);
            const auto [end, failure] = std::from_chars(zone, zone_end, scope);
            if (failure != std::errc() || end != zone_end || scope == 0) return std::nullopt;
        }
        return ip_address::v6(octets, scope);
    }
    std::array<std::uint8_t, 4> four;
    if (!zone && inet_pton(AF_INET, copy.data(), four.data()) == 1) return ip_address::v4(four);
    return std::nullopt;
}

std::uint32_t index_of_interface(const char* name) noexcept { return if_nametoindex(name); }

std::string print_address(const ip_address& address) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    inet_ntop(address.is_v6() ? AF_INET6 : AF_INET, address.octets().data(), text.data(), text.size());
    std::string result = text.data();
    if (address.scope() != 0) {
        std::array<char, IF_NAMESIZE> name{};
        result += '%';
        result += if_indextoname(address.scope(), name.data()) ? std::string(name.data())
                                                               : std::to_string(address.scope());
    }
    return result;
}

} // namespace detail
} // namespace plait::inline v1
