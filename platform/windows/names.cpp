#include "platform/windows/socket.hpp"

#include <string>

namespace plait::inline v1 {
namespace detail {
namespace {

status lookup_error(int code) noexcept {
    switch (code) {
    case 0: return {};
    case WSAHOST_NOT_FOUND: return errc::host_not_found;    // EAI_NONAME
    case WSANO_DATA: return errc::host_not_found;           // EAI_NODATA
    case WSATYPE_NOT_FOUND: return errc::service_not_found; // EAI_SERVICE
    case WSATRY_AGAIN: return errc::lookup_unavailable;     // EAI_AGAIN
    case WSANO_RECOVERY: return errc::lookup_failed;        // EAI_FAIL
    default: return native_error(code); // EAI_MEMORY, EAI_FAMILY and EAI_BADFLAGS are codes of Winsock
    }
}

/// From UTF-8. The system's own 8-bit functions would take it for the user's code page.
std::wstring widened(const std::string& text) {
    const int size = static_cast<int>(text.size());
    const int length = ::MultiByteToWideChar(CP_UTF8, 0, text.data(), size, nullptr, 0);
    std::wstring wide(static_cast<std::size_t>(length), L'\0');
    ::MultiByteToWideChar(CP_UTF8, 0, text.data(), size, wide.data(), length);
    return wide;
}

struct list_deleter {
    void operator()(ADDRINFOW* list) const noexcept { ::FreeAddrInfoW(list); }
};

int ask(const std::wstring& host, const std::wstring& service, int type, ADDRINFOW*& list) noexcept {
    ADDRINFOW hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = type; // otherwise some systems name each address once for each type
    return ::GetAddrInfoW(host.c_str(), service.c_str(), &hints, &list);
}

} // namespace

status look_up(const std::string& host, const std::string& service, std::vector<endpoint>& found) {
    if (const status failure = winsock(); !failure.ok()) return failure;
    const std::wstring wide_host = widened(host), wide_service = widened(service);
    ADDRINFOW* list = nullptr;
    int code = ask(wide_host, wide_service, SOCK_STREAM, list);
    // Some services are UDP's alone.
    if (code == WSATYPE_NOT_FOUND) code = ask(wide_host, wide_service, SOCK_DGRAM, list);
    if (code != 0) return lookup_error(code);
    const std::unique_ptr<ADDRINFOW, list_deleter> owner(list);
    for (const ADDRINFOW* each = list; each; each = each->ai_next) {
        const socket_address address(each->ai_addr, each->ai_addrlen);
        if (address.is_ip()) found.push_back(address.to_endpoint());
    }
    return {};
}

} // namespace detail
} // namespace plait::inline v1
