/// Unix sockets and their files. Windows 10 has streams, neither datagrams nor abstract names.

#include "platform/windows/socket.hpp"

#include <string>

namespace plait::inline v1 {
namespace detail {
namespace {

constexpr DWORD socket_tag = 0x80000023; // IO_REPARSE_TAG_AF_UNIX

/// Whether a file stands there, and which.
bool identify(const std::string& path, file_identity& out) noexcept {
    const HANDLE file =
        ::CreateFileA(path.c_str(), 0, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, nullptr,
                      OPEN_EXISTING, FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS, nullptr);
    if (file == INVALID_HANDLE_VALUE) return false;
    BY_HANDLE_FILE_INFORMATION found{};
    const bool known = ::GetFileInformationByHandle(file, &found) != 0;
    ::CloseHandle(file);
    out.device = found.dwVolumeSerialNumber;
    out.number = (std::uint64_t{found.nFileIndexHigh} << 32) | found.nFileIndexLow;
    return known;
}

/// Whether a socket stands there that nobody listens at. (Somebody who does sees a connection that ends at once: there
/// are no datagrams that could ask.)
bool is_stale(const std::string& path, const socket_address& address) noexcept {
    WIN32_FIND_DATAA found{};
    const HANDLE search = ::FindFirstFileA(path.c_str(), &found);
    if (search == INVALID_HANDLE_VALUE) return false;
    ::FindClose(search);
    if (!(found.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) || found.dwReserved0 != socket_tag)
        return false;
    SOCKET probe = INVALID_SOCKET;
    if (!make_socket(AF_UNIX, probe).ok()) return false;
    const bool refused =
        ::connect(probe, address.get(), address.size) != 0 && WSAGetLastError() == WSAECONNREFUSED;
    ::closesocket(probe);
    return refused;
}

status bind_and_listen(SOCKET made, const unix_path& local, int backlog, socket_file& file) {
    const std::string path(local.name());
    const socket_address address(local);
    int outcome = ::bind(made, address.get(), address.size);
    if (outcome != 0 && WSAGetLastError() == WSAEADDRINUSE) {
        if (!is_stale(path, address)) return native_error(WSAEADDRINUSE);
        ::DeleteFileA(path.c_str());
        outcome = ::bind(made, address.get(), address.size);
    }
    if (outcome != 0) return last_error();
    if (file_identity ours; identify(path, ours)) file = socket_file(local, ours);
    return ::listen(made, backlog) == 0 ? status() : last_error();
}

} // namespace

void remove_socket_file(const unix_path& path, const file_identity& identity) noexcept {
    const std::string name(path.name());
    if (file_identity found; identify(name, found) && found == identity) ::DeleteFileA(name.c_str());
}

status winsock_driver::open_unix(socket_kind kind, const unix_path& local, int backlog, native_socket& out,
                                 socket_file& file) {
    metrics_.system_calls += 2;
    if (kind == socket_kind::datagram) return native_error(WSAEAFNOSUPPORT);
    SOCKET made = INVALID_SOCKET;
    if (const status failure = make_socket(AF_UNIX, made); !failure.ok()) return failure;
    status failure;
    if (local.is_abstract())
        failure = native_error(WSAEOPNOTSUPP);
    else if (kind == socket_kind::listener)
        failure = bind_and_listen(made, local, backlog, file);
    if (!failure.ok()) {
        ::closesocket(made);
        return failure;
    }
    out = static_cast<native_socket>(made);
    return {};
}

status winsock_driver::connect_unix(native_socket handle, const unix_path& peer) {
    ++metrics_.system_calls;
    if (peer.is_abstract()) return native_error(WSAEOPNOTSUPP);
    const socket_address address(peer);
    if (::connect(socket_of(handle), address.get(), address.size) == 0) return {};
    switch (const int error = WSAGetLastError()) {
    case WSAEISCONN: return {}; // since the last try
    case WSAEALREADY:
    case WSAEWOULDBLOCK: return native_error(WSAEWOULDBLOCK);
    default: return native_error(error);
    }
}

status winsock_driver::unix_name(native_socket handle, bool remote, unix_path& out) const noexcept {
    socket_address address;
    if ((remote ? ::getpeername(socket_of(handle), address.get(), &address.size)
                : ::getsockname(socket_of(handle), address.get(), &address.size)) != 0)
        return last_error();
    out = address.to_path();
    return {};
}

} // namespace detail
} // namespace plait::inline v1
