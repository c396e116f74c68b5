#include "platform/windows/socket.hpp"

#include <plait/tcp.hpp>
#include <plait/udp.hpp>

#include <algorithm>
#include <array>
#include <string>

namespace plait::inline v1 {
namespace detail {
namespace {

// mingw's headers are older than these options of Windows 10.
constexpr int tcp_keep_idle = 3;                // TCP_KEEPIDLE, seconds
constexpr int tcp_keep_count = 16;              // TCP_KEEPCNT
constexpr int tcp_keep_interval = 17;           // TCP_KEEPINTVL, seconds
constexpr int tcp_max_rt_ms = 14;               // TCP_MAXRTMS, milliseconds
constexpr int handles_closed = 676;             // ERROR_HANDLES_CLOSED
constexpr DWORD sio_udp_connreset = 0x9800000C; // SIO_UDP_CONNRESET
constexpr DWORD sio_udp_netreset = 0x9800000F;  // SIO_UDP_NETRESET

struct option_name {
    int level;
    int name;
};

/// {-1, -1} for what Winsock does not have.
option_name native_name(socket_option option, bool v6) noexcept {
    switch (option) {
    case socket_option::no_delay: return {IPPROTO_TCP, TCP_NODELAY};
    case socket_option::keep_alive: return {SOL_SOCKET, SO_KEEPALIVE};
    case socket_option::keep_alive_idle: return {IPPROTO_TCP, tcp_keep_idle};
    case socket_option::keep_alive_interval: return {IPPROTO_TCP, tcp_keep_interval};
    case socket_option::keep_alive_count: return {IPPROTO_TCP, tcp_keep_count};
    case socket_option::linger: return {SOL_SOCKET, SO_LINGER};
    case socket_option::receive_buffer: return {SOL_SOCKET, SO_RCVBUF};
    case socket_option::send_buffer: return {SOL_SOCKET, SO_SNDBUF};
    case socket_option::user_timeout: return {IPPROTO_TCP, tcp_max_rt_ms};
    case socket_option::v6_only: return {IPPROTO_IPV6, IPV6_V6ONLY};
    case socket_option::reuse_address: return {SOL_SOCKET, SO_REUSEADDR};
    case socket_option::reuse_port: break;
    case socket_option::broadcast: return {SOL_SOCKET, SO_BROADCAST};
    case socket_option::multicast_ttl:
        return v6 ? option_name{IPPROTO_IPV6, IPV6_MULTICAST_HOPS}
                  : option_name{IPPROTO_IP, IP_MULTICAST_TTL};
    case socket_option::multicast_loop:
        return v6 ? option_name{IPPROTO_IPV6, IPV6_MULTICAST_LOOP}
                  : option_name{IPPROTO_IP, IP_MULTICAST_LOOP};
    case socket_option::multicast_interface:
        return v6 ? option_name{IPPROTO_IPV6, IPV6_MULTICAST_IF} : option_name{IPPROTO_IP, IP_MULTICAST_IF};
    }
    return {-1, -1};
}

/// Whether multicast has to be spoken of in the options of IPv6.
bool is_v6(native_socket handle) noexcept {
    socket_address address;
    return ::getsockname(socket_of(handle), address.get(), &address.size) == 0 &&
           address.storage.ss_family == AF_INET6;
}

bool is_multicast(socket_option option) noexcept {
    return option == socket_option::multicast_ttl || option == socket_option::multicast_loop ||
           option == socket_option::multicast_interface;
}

struct error_row {
    int native;
    std::errc portable;
    const char* text;
};

/// Winsock's codes, and those of the system that its overlapped operations end with.
constexpr error_row error_table[] = {
    {WSAEINTR, std::errc::interrupted, "interrupted"},
    {WSAEBADF, std::errc::bad_file_descriptor, "not an open handle"},
    {WSAEACCES, std::errc::permission_denied, "permission denied"},
    {WSAEFAULT, std::errc::bad_address, "bad address"},
    {WSAEINVAL, std::errc::invalid_argument, "invalid argument"},
    {WSAEMFILE, std::errc::too_many_files_open, "too many open sockets"},
    {WSAEWOULDBLOCK, std::errc::operation_would_block, "the operation would block"},
    {WSAEINPROGRESS, std::errc::operation_in_progress, "an operation is in progress"},
    {WSAEALREADY, std::errc::connection_already_in_progress, "a connection is being made already"},
    {WSAENOTSOCK, std::errc::not_a_socket, "not a socket"},
    {WSAEDESTADDRREQ, std::errc::destination_address_required, "a destination address is required"},
    {WSAEMSGSIZE, std::errc::message_size, "the message is too long"},
    {WSAEPROTOTYPE, std::errc::wrong_protocol_type, "wrong protocol type for this socket"},
    {WSAENOPROTOOPT, std::errc::no_protocol_option, "no such option of the protocol"},
    {WSAEPROTONOSUPPORT, std::errc::protocol_not_supported, "protocol not supported"},
    {WSAEOPNOTSUPP, std::errc::operation_not_supported, "operation not supported"},
    {WSAEAFNOSUPPORT, std::errc::address_family_not_supported, "address family not supported"},
    {WSAEADDRINUSE, std::errc::address_in_use, "address already in use"},
    {WSAEADDRNOTAVAIL, std::errc::address_not_available, "address not available here"},
    {WSAENETDOWN, std::errc::network_down, "the network is down"},
    {WSAENETUNREACH, std::errc::network_unreachable, "network unreachable"},
    {WSAENETRESET, std::errc::network_reset, "the network dropped the connection"},
    {WSAECONNABORTED, std::errc::connection_aborted, "connection aborted"},
    {WSAECONNRESET, std::errc::connection_reset, "connection reset by the peer"},
    {WSAENOBUFS, std::errc::no_buffer_space, "no buffer space"},
    {WSAEISCONN, std::errc::already_connected, "already connected"},
    {WSAENOTCONN, std::errc::not_connected, "not connected"},
    {WSAESHUTDOWN, std::errc::broken_pipe, "the sending side was shut down"},
    {WSAETIMEDOUT, std::errc::timed_out, "timed out"},
    {WSAECONNREFUSED, std::errc::connection_refused, "connection refused"},
    {WSAENAMETOOLONG, std::errc::filename_too_long, "name too long"},
    {WSAEHOSTDOWN, std::errc::host_unreachable, "host unreachable"},
    {WSAEHOSTUNREACH, std::errc::host_unreachable, "host unreachable"},
    {WSA_NOT_ENOUGH_MEMORY, std::errc::not_enough_memory, "not enough memory"},
    {WSA_INVALID_HANDLE, std::errc::bad_file_descriptor, "not an open handle"},
    {WSA_INVALID_PARAMETER, std::errc::invalid_argument, "invalid argument"},
    {ERROR_NETNAME_DELETED, std::errc::connection_reset, "connection reset by the peer"},
    {ERROR_PORT_UNREACHABLE, std::errc::connection_refused, "connection refused"},
    {ERROR_CONNECTION_REFUSED, std::errc::connection_refused, "connection refused"},
    {ERROR_CONNECTION_ABORTED, std::errc::connection_aborted, "connection aborted"},
    {ERROR_NETWORK_UNREACHABLE, std::errc::network_unreachable, "network unreachable"},
    {ERROR_HOST_UNREACHABLE, std::errc::host_unreachable, "host unreachable"},
    {ERROR_SEM_TIMEOUT, std::errc::timed_out, "timed out"},
    {ERROR_TOO_MANY_OPEN_FILES, std::errc::too_many_files_open, "too many open sockets"},
    {ERROR_NO_SYSTEM_RESOURCES, std::errc::no_buffer_space, "no buffer space"},
    {ERROR_ACCESS_DENIED, std::errc::permission_denied, "permission denied"},
    {ERROR_NOT_SUPPORTED, std::errc::operation_not_supported, "operation not supported"},
};

/// Keeps the native code, and compares equal to the std::errc that the table names. (The texts of the generic category
/// are the C library's; mingw's has none for sockets, and neither has Wine's FormatMessage.)
class winsock_category final : public std::error_category {
  public:
    const char* name() const noexcept override { return "winsock"; }

    std::string message(int code) const override {
        if (const error_row* known = row_of(code)) return known->text;
        std::array<char, 512> text{};
        const DWORD from = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS;
        DWORD size = ::FormatMessageA(from, nullptr, static_cast<DWORD>(code), 0, text.data(),
                                      static_cast<DWORD>(text.size()), nullptr);
        while (size > 0 && (text[size - 1] <= ' ' || text[size - 1] == '.')) --size;
        return size > 0 ? std::string(text.data(), size) : "Winsock error " + std::to_string(code);
    }

    std::error_condition default_error_condition(int code) const noexcept override {
        if (const error_row* known = row_of(code)) return std::make_error_condition(known->portable);
        return std::error_condition(code, *this);
    }

  private:
    static const error_row* row_of(int code) noexcept {
        for (const error_row& each : error_table)
            if (each.native == code) return &each;
        return nullptr;
    }
};

const std::error_category& native_category() noexcept {
    static const winsock_category& category = *new winsock_category; // a detached thread may outlive main()
    return category;
}

} // namespace

status native_error(int code) noexcept {
    if (code == 0) return {};
    // What was asked for, or the end of the socket: both are what a cancellation looks like.
    if (code == WSA_OPERATION_ABORTED || code == handles_closed || code == WSAECANCELLED)
        return errc::canceled;
    return std::error_code(code, native_category());
}

status last_error() noexcept { return native_error(WSAGetLastError()); }

status winsock() noexcept {
    static const int outcome = [] {
        WSADATA unused{};
        return WSAStartup(MAKEWORD(2, 2), &unused);
    }();
    return native_error(outcome);
}

status find_extensions(extensions& out) noexcept {
    SOCKET any = INVALID_SOCKET;
    if (const status failure = make_socket(AF_INET, any); !failure.ok()) return failure;
    auto find = [any](GUID name, auto& function) {
        DWORD size = 0;
        return WSAIoctl(any, SIO_GET_EXTENSION_FUNCTION_POINTER, &name, sizeof name, &function,
                        sizeof function, &size, nullptr, nullptr) == 0;
    };
    const bool found = find(WSAID_ACCEPTEX, out.accept) && find(WSAID_CONNECTEX, out.connect);
    const status failure = found ? status() : last_error();
    ::closesocket(any);
    return failure;
}

status make_socket(int family, SOCKET& out, int type) noexcept {
    const int internet = type == SOCK_DGRAM ? IPPROTO_UDP : IPPROTO_TCP;
    const int protocol = family == AF_UNIX ? 0 : internet;
    out = ::WSASocketW(family, type, protocol, nullptr, 0, WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
    return out == INVALID_SOCKET ? last_error() : status();
}

void report_refusals(SOCKET socket, bool on) noexcept {
    BOOL wanted = on;
    DWORD unused_bytes = 0;
    for (const DWORD what : {sio_udp_connreset, sio_udp_netreset}) // older systems know the first alone
        ::WSAIoctl(socket, what, &wanted, sizeof wanted, nullptr, 0, &unused_bytes, nullptr, nullptr);
}

std::size_t gather(const operation& op, std::span<WSABUF> out) noexcept {
    std::size_t room = longest_send, count = 0;
    auto add = [&](const std::byte* data, std::size_t size) {
        size = std::min(size, room);
        out[count++] = {static_cast<ULONG>(size), reinterpret_cast<char*>(const_cast<std::byte*>(data))};
        room -= size;
    };
    if (op.piece_count == 0) {
        add(op.data, op.size);
        return count;
    }
    for (std::size_t i = 0; i < op.piece_count && count < out.size() && room > 0; ++i) {
        const std::span<const std::byte> piece = i == 0 ? op.pieces[0].subspan(op.size) : op.pieces[i];
        add(piece.data(), piece.size());
    }
    return count;
}

// --- sockets -----------------------------------------------------------------------------------------------

status winsock_driver::open_listener(const endpoint& local, const listen_options& options,
                                     native_socket& out) {
    metrics_.system_calls += 5;
    // Nothing here spreads connections over listeners: later ones would just take the port away.
    if (options.reuse_port()) return native_error(WSAEOPNOTSUPP);
    SOCKET listener = INVALID_SOCKET;
    if (const status failure = make_socket(family_of(local), listener); !failure.ok()) return failure;
    const auto handle = static_cast<native_socket>(listener);
    status failure;
    auto set = [&](int level, int name, int value) {
        if (failure.ok()) failure = set_option(handle, level, name, std::as_bytes(std::span(&value, 1)));
    };
    // SO_REUSEADDR would let any program share the port. Lingering connections do not hinder a bind here.
    set(SOL_SOCKET, SO_EXCLUSIVEADDRUSE, 1);
    set(IPPROTO_TCP, TCP_NODELAY, options.no_delay()); // each accepted socket is given the same
    if (local.address().is_v6()) set(IPPROTO_IPV6, IPV6_V6ONLY, options.v6_only());
    const socket_address address(local);
    if (failure.ok() && ::bind(listener, address.get(), address.size) != 0) failure = last_error();
    // A negative length is taken as it is; a positive one is cut to 200 (SOMAXCONN_HINT).
    if (failure.ok() && ::listen(listener, -std::clamp(options.backlog(), 1, 65535)) != 0)
        failure = last_error();
    if (!failure.ok()) {
        ::closesocket(listener);
        return failure;
    }
    out = handle;
    return {};
}

status winsock_driver::inspect(native_socket handle, socket_kind kind, bool of_unix) noexcept {
    metrics_.system_calls += 3;
    const SOCKET socket = socket_of(handle);
    auto ask = [socket](int option, auto& value) {
        int size = sizeof value;
        return ::getsockopt(socket, SOL_SOCKET, option, reinterpret_cast<char*>(&value), &size) == 0;
    };
    WSAPROTOCOL_INFOW protocol{};
    if (!ask(SO_PROTOCOL_INFOW, protocol)) return last_error();
    const int family = protocol.iAddressFamily;
    if (of_unix ? family != AF_UNIX : family != AF_INET && family != AF_INET6)
        return std::make_error_code(std::errc::address_family_not_supported);
    if (protocol.iSocketType != (kind == socket_kind::datagram ? SOCK_DGRAM : SOCK_STREAM))
        return std::make_error_code(std::errc::wrong_protocol_type);
    if (kind == socket_kind::datagram) return {};
    BOOL listens = FALSE;
    if (!ask(SO_ACCEPTCONN, listens)) return last_error();
    if ((listens != FALSE) != (kind == socket_kind::listener)) return native_error(WSAEINVAL);
    socket_address peer;
    const bool connected = ::getpeername(socket, peer.get(), &peer.size) == 0;
    return kind == socket_kind::listener || connected ? status() : last_error();
}

status winsock_driver::open_stream(const endpoint& peer, native_socket& out) {
    metrics_.system_calls += 3;
    SOCKET stream = INVALID_SOCKET;
    if (const status failure = make_socket(family_of(peer), stream); !failure.ok()) return failure;
    const auto handle = static_cast<native_socket>(stream);
    status failure = set_option(handle, socket_option::no_delay, 1);
    // ConnectEx wants a bound socket.
    const socket_address any(
        endpoint(peer.address().is_v6() ? ip_address::v6(std::array<std::uint8_t, 16>{}) : ip_address(), 0));
    if (failure.ok() && ::bind(stream, any.get(), any.size) != 0) failure = last_error();
    if (!failure.ok()) {
        ::closesocket(stream);
        return failure;
    }
    out = handle;
    return {};
}

status winsock_driver::open_datagram(const endpoint& local, const udp_options& options, native_socket& out) {
    metrics_.system_calls += 5;
    if (options.reuse_port()) return native_error(WSAEOPNOTSUPP);
    SOCKET made = INVALID_SOCKET;
    if (const status failure = make_socket(family_of(local), made, SOCK_DGRAM); !failure.ok()) return failure;
    const auto handle = static_cast<native_socket>(made);
    status failure;
    auto set = [&](int level, int name, int value) {
        if (failure.ok()) failure = set_option(handle, level, name, std::as_bytes(std::span(&value, 1)));
    };
    set(SOL_SOCKET, options.reuse_address() ? SO_REUSEADDR : SO_EXCLUSIVEADDRUSE, 1);
    if (local.address().is_v6()) set(IPPROTO_IPV6, IPV6_V6ONLY, options.v6_only());
    report_refusals(made, false);
    const socket_address address(local);
    if (failure.ok() && ::bind(made, address.get(), address.size) != 0) failure = last_error();
    if (!failure.ok()) {
        ::closesocket(made);
        return failure;
    }
    out = handle;
    return {};
}

status winsock_driver::connect_datagram(native_socket handle, const endpoint& peer) {
    metrics_.system_calls += 3;
    const socket_address address(peer);
    if (::connect(socket_of(handle), address.get(), address.size) != 0) return last_error();
    report_refusals(socket_of(handle), true);
    return {};
}

status winsock_driver::set_membership(native_socket handle, const ip_address& group, std::uint32_t index,
                                      bool join) {
    ++metrics_.system_calls;
    const socket_address address(endpoint(group, 0));
    if (group.is_v6()) {
        ipv6_mreq wanted{};
        wanted.ipv6mr_multiaddr = reinterpret_cast<const sockaddr_in6&>(address.storage).sin6_addr;
        wanted.ipv6mr_interface = index;
        return set_option(handle, IPPROTO_IPV6, join ? IPV6_ADD_MEMBERSHIP : IPV6_DROP_MEMBERSHIP,
                          std::as_bytes(std::span(&wanted, 1)));
    }
    ip_mreq wanted{};
    wanted.imr_multiaddr = reinterpret_cast<const sockaddr_in&>(address.storage).sin_addr;
    wanted.imr_interface.s_addr = htonl(index); // an address of the form 0.x.x.x is taken for an index
    return set_option(handle, IPPROTO_IP, join ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP,
                      std::as_bytes(std::span(&wanted, 1)));
}

void close_handle(native_socket handle) noexcept { ::closesocket(socket_of(handle)); }

void winsock_driver::close(native_socket handle) noexcept {
    ++metrics_.system_calls;
    ::closesocket(socket_of(handle));
}

status winsock_driver::local_endpoint(native_socket handle, endpoint& out) const noexcept {
    socket_address address;
    if (::getsockname(socket_of(handle), address.get(), &address.size) != 0) return last_error();
    if (!address.is_ip()) return native_error(WSAEAFNOSUPPORT);
    out = address.to_endpoint();
    return {};
}

status winsock_driver::remote_endpoint(native_socket handle, endpoint& out) const noexcept {
    socket_address address;
    if (::getpeername(socket_of(handle), address.get(), &address.size) != 0) return last_error();
    if (!address.is_ip()) return native_error(WSAEAFNOSUPPORT);
    out = address.to_endpoint();
    return {};
}

status winsock_driver::set_option(native_socket handle, socket_option option, int value) noexcept {
    const bool v6 = is_multicast(option) && is_v6(handle);
    const auto [level, name] = native_name(option, v6);
    if (level < 0) return native_error(WSAEOPNOTSUPP);
    // An address of the form 0.x.x.x is taken for an index.
    if (option == socket_option::multicast_interface && !v6)
        value = static_cast<int>(htonl(static_cast<u_long>(value)));
    if (option == socket_option::linger) {
        const struct linger setting {
            static_cast<u_short>(value >= 0), static_cast<u_short>(std::max(value, 0))
        };
        return set_option(handle, level, name, std::as_bytes(std::span(&setting, 1)));
    }
    return set_option(handle, level, name, std::as_bytes(std::span(&value, 1)));
}

status winsock_driver::get_option(native_socket handle, socket_option option, int& value) const noexcept {
    const auto [level, name] = native_name(option, is_multicast(option) && is_v6(handle));
    if (level < 0) return native_error(WSAEOPNOTSUPP);
    if (option == socket_option::linger) {
        struct linger setting {};
        int size = sizeof setting;
        if (::getsockopt(socket_of(handle), level, name, reinterpret_cast<char*>(&setting), &size) != 0)
            return last_error();
        value = setting.l_onoff ? setting.l_linger : -1;
        return {};
    }
    int size = sizeof value;
    value = 0; // some options fill a byte alone
    if (::getsockopt(socket_of(handle), level, name, reinterpret_cast<char*>(&value), &size) != 0)
        return last_error();
    return {};
}

status winsock_driver::set_option(native_socket handle, int level, int name,
                                  std::span<const std::byte> value) noexcept {
    const auto* bytes = reinterpret_cast<const char*>(value.data());
    return ::setsockopt(socket_of(handle), level, name, bytes, static_cast<int>(value.size())) == 0
               ? status()
               : last_error();
}

} // namespace detail
} // namespace plait::inline v1
