#include "platform/driver.hpp"
#include "platform/socket_address.hpp"

#include <netdb.h>

#include <cerrno>

namespace plait::inline v1 {
namespace detail {
namespace {

status lookup_error(int code, int system_error) noexcept {
    switch (code) {
    case 0: return {};
    case EAI_NONAME: return errc::host_not_found;
#ifdef EAI_NODATA // glibc's, beside those of POSIX
    case EAI_NODATA: return errc::host_not_found;
#endif
#ifdef EAI_ADDRFAMILY
    case EAI_ADDRFAMILY: return errc::host_not_found;
#endif
    case EAI_SERVICE: return errc::service_not_found;
    case EAI_AGAIN: return errc::lookup_unavailable;
    case EAI_FAIL: return errc::lookup_failed;
    case EAI_MEMORY: return native_error(ENOMEM);
    case EAI_FAMILY: return native_error(EAFNOSUPPORT);
    case EAI_SYSTEM: return native_error(system_error != 0 ? system_error : EIO);
    default: return native_error(EINVAL);
    }
}

struct list_deleter {
    void operator()(addrinfo* list) const noexcept { ::freeaddrinfo(list); }
};

int ask(const std::string& host, const std::string& service, int type, addrinfo*& list) noexcept {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = type; // otherwise each address comes once for each type
    return ::getaddrinfo(host.c_str(), service.c_str(), &hints, &list);
}

} // namespace

status look_up(const std::string& host, const std::string& service, std::vector<endpoint>& found) {
    addrinfo* list = nullptr;
    int code = ask(host, service, SOCK_STREAM, list);
    // Some services are UDP's alone.
    if (code == EAI_SERVICE) code = ask(host, service, SOCK_DGRAM, list);
    if (code != 0) return lookup_error(code, errno);
    const std::unique_ptr<addrinfo, list_deleter> owner(list);
    for (const addrinfo* each = list; each; each = each->ai_next) {
        const socket_address address(each->ai_addr, each->ai_addrlen);
        if (address.is_ip()) found.push_back(address.to_endpoint());
    }
    return {};
}

} // namespace detail
} // namespace plait::inline v1
