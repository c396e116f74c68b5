#include "platform/linux/socket.hpp"

#include <plait/tcp.hpp>
#include <plait/udp.hpp>

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace plait::inline v1 {
namespace detail {
namespace {

int descriptor_of(native_socket handle) noexcept { return static_cast<int>(handle); }

struct option_name {
    int level;
    int name;
};

option_name native_name(socket_option option, bool v6) noexcept {
    switch (option) {
    case socket_option::no_delay: return {IPPROTO_TCP, TCP_NODELAY};
    case socket_option::keep_alive: return {SOL_SOCKET, SO_KEEPALIVE};
    case socket_option::keep_alive_idle: return {IPPROTO_TCP, TCP_KEEPIDLE};
    case socket_option::keep_alive_interval: return {IPPROTO_TCP, TCP_KEEPINTVL};
    case socket_option::keep_alive_count: return {IPPROTO_TCP, TCP_KEEPCNT};
    case socket_option::linger: return {SOL_SOCKET, SO_LINGER};
    case socket_option::receive_buffer: return {SOL_SOCKET, SO_RCVBUF};
    case socket_option::send_buffer: return {SOL_SOCKET, SO_SNDBUF};
    case socket_option::user_timeout: return {IPPROTO_TCP, TCP_USER_TIMEOUT};
    case socket_option::v6_only: return {IPPROTO_IPV6, IPV6_V6ONLY};
    case socket_option::reuse_address: return {SOL_SOCKET, SO_REUSEADDR};
    case socket_option::reuse_port: return {SOL_SOCKET, SO_REUSEPORT};
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
    int family = 0;
    socklen_t size = sizeof family;
    ::getsockopt(descriptor_of(handle), SOL_SOCKET, SO_DOMAIN, &family, &size);
    return family == AF_INET6;
}

bool is_multicast(socket_option option) noexcept {
    return option == socket_option::multicast_ttl || option == socket_option::multicast_loop ||
           option == socket_option::multicast_interface;
}

} // namespace

status native_error(int code) noexcept {
    // Linux reports errno values, and std::errc is made of them: one of each meaning is all there is to do.
    // What the generic category has no name for keeps its number in the system category.
    switch (code) {
    case 0: return {};
    case EAGAIN: return std::error_code(EWOULDBLOCK, std::generic_category());
    case ECANCELED: return errc::canceled;
    case ESHUTDOWN: return std::error_code(EPIPE, std::generic_category());
    case EHOSTDOWN: return std::error_code(EHOSTUNREACH, std::generic_category());
    default: break;
    }
    const std::error_code native(code, std::system_category());
    const std::error_condition portable = native.default_error_condition();
    if (portable.category() == std::generic_category())
        return std::error_code(portable.value(), portable.category());
    return native;
}

status last_error() noexcept { return native_error(errno); }

std::size_t gather(const operation& op, std::span<iovec> out) noexcept {
    const std::size_t count = std::min<std::size_t>(op.piece_count, out.size());
    for (std::size_t i = 0; i < count; ++i) {
        const std::span<const std::byte> piece = i == 0 ? op.pieces[0].subspan(op.size) : op.pieces[i];
        out[i] = {const_cast<std::byte*>(piece.data()), piece.size()};
    }
    return count;
}

// --- datagrams ---------------------------------------------------------------------------------------------

void message_frame::receive_into(std::byte* data, std::size_t size) noexcept {
    piece = {data, size};
    address.size = sizeof address.storage;
    header = {};
    header.msg_name = address.get();
    header.msg_namelen = address.size;
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
}

void message_frame::deliver(envelope& cover, bool succeeded) noexcept {
    cover.truncated = succeeded && (header.msg_flags & MSG_TRUNC) != 0;
    address.size = header.msg_namelen;
    if (succeeded && cover.address) *cover.address = address.to_endpoint();
    if (succeeded && cover.path) *cover.path = address.to_path();
}

void message_frame::send_from(const std::byte* data, std::size_t size, const envelope& cover) noexcept {
    piece = {const_cast<std::byte*>(data), size};
    header = {};
    if (cover.address || cover.path) {
        address = cover.address ? socket_address(*cover.address) : socket_address(*cover.path);
        header.msg_name = address.get();
        header.msg_namelen = address.size;
    }
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
}

// --- wake-ups ----------------------------------------------------------------------------------------------

event_descriptor::event_descriptor() : descriptor_(eventfd(0, EFD_CLOEXEC)) {
    if (descriptor_ < 0) throw_error(last_error().code());
}

event_descriptor::~event_descriptor() { ::close(descriptor_); }

void event_descriptor::wake() noexcept {
    const int before = errno; // a signal handler calls this
    const std::uint64_t one = 1;
    // It fails only when the counter is full, and then the reader is awake already.
    [[maybe_unused]] const auto written = ::write(descriptor_, &one, sizeof one);
    errno = before;
}

// --- sockets -----------------------------------------------------------------------------------------------

status linux_driver::open_listener(const endpoint& local, const listen_options& options, native_socket& out) {
    metrics_.system_calls += 5;
    const int type = SOCK_STREAM | SOCK_CLOEXEC | extra_socket_flags_;
    const int listener = ::socket(family_of(local), type, IPPROTO_TCP);
    if (listener < 0) return last_error();
    status failure;
    auto set = [&](socket_option option, int value) {
        if (failure.ok()) failure = set_option(listener, option, value);
    };
    // Accepted sockets inherit TCP_NODELAY, which saves them a system call each.
    set(socket_option::no_delay, options.no_delay());
    set(socket_option::reuse_address, options.reuse_address());
    if (options.reuse_port()) set(socket_option::reuse_port, 1);
    if (local.address().is_v6()) set(socket_option::v6_only, options.v6_only());
    const socket_address address(local);
    if (failure.ok() && ::bind(listener, address.get(), address.size) != 0) failure = last_error();
    if (failure.ok() && ::listen(listener, options.backlog()) != 0) failure = last_error();
    if (!failure.ok()) {
        ::close(listener);
        return failure;
    }
    out = listener;
    return {};
}

status linux_driver::prepare(native_socket handle) noexcept {
    metrics_.system_calls += 2;
    const int descriptor = descriptor_of(handle);
    const int flags = ::fcntl(descriptor, F_GETFL);
    const int wanted = (flags & ~O_NONBLOCK) | (extra_socket_flags_ & SOCK_NONBLOCK ? O_NONBLOCK : 0);
    return flags >= 0 && ::fcntl(descriptor, F_SETFL, wanted) == 0 ? status() : last_error();
}

status linux_driver::inspect(native_socket handle, socket_kind kind, bool of_unix) noexcept {
    metrics_.system_calls += 5;
    const int descriptor = descriptor_of(handle);
    auto ask = [descriptor](int option, int& value) {
        socklen_t size = sizeof value;
        return ::getsockopt(descriptor, SOL_SOCKET, option, &value, &size) == 0;
    };
    int family = 0, type = 0, listens = 0;
    if (!ask(SO_DOMAIN, family) || !ask(SO_TYPE, type)) return last_error(); // EBADF, ENOTSOCK
    if (of_unix ? family != AF_UNIX : family != AF_INET && family != AF_INET6)
        return std::make_error_code(std::errc::address_family_not_supported);
    if (type != (kind == socket_kind::datagram ? SOCK_DGRAM : SOCK_STREAM))
        return std::make_error_code(std::errc::wrong_protocol_type);
    if (kind != socket_kind::datagram) {
        if (!ask(SO_ACCEPTCONN, listens)) return last_error();
        if ((listens != 0) != (kind == socket_kind::listener)) return native_error(EINVAL);
        socket_address peer;
        if (kind == socket_kind::stream && ::getpeername(descriptor, peer.get(), &peer.size) != 0)
            return last_error(); // ENOTCONN
    }
    const int flags = ::fcntl(descriptor, F_GETFD);
    if (flags < 0 || ::fcntl(descriptor, F_SETFD, flags | FD_CLOEXEC) != 0) return last_error();
    return prepare(handle);
}

status linux_driver::open_stream(const endpoint& peer, native_socket& out) {
    metrics_.system_calls += 2;
    const int type = SOCK_STREAM | SOCK_CLOEXEC | extra_socket_flags_;
    const int stream = ::socket(family_of(peer), type, IPPROTO_TCP);
    if (stream < 0) return last_error();
    if (const status failure = set_option(stream, socket_option::no_delay, 1); !failure.ok()) {
        ::close(stream);
        return failure;
    }
    out = stream;
    return {};
}

status linux_driver::open_datagram(const endpoint& local, const udp_options& options, native_socket& out) {
    metrics_.system_calls += 2;
    const int type = SOCK_DGRAM | SOCK_CLOEXEC | extra_socket_flags_;
    const int made = ::socket(family_of(local), type, IPPROTO_UDP);
    if (made < 0) return last_error();
    status failure;
    auto set = [&](socket_option option, int value) {
        ++metrics_.system_calls;
        if (failure.ok()) failure = set_option(made, option, value);
    };
    if (options.reuse_address()) set(socket_option::reuse_address, 1);
    if (options.reuse_port()) set(socket_option::reuse_port, 1);
    if (local.address().is_v6()) set(socket_option::v6_only, options.v6_only());
    // Otherwise a socket on the wildcard address hears the groups that any other program on the machine has joined,
    // and goes on hearing one that it has left itself. A kernel that lacks the option for IPv6 (before 4.20) does so.
    ++metrics_.system_calls;
    const int no = 0;
    static_cast<void>(local.address().is_v6()
                          ? ::setsockopt(made, IPPROTO_IPV6, IPV6_MULTICAST_ALL, &no, sizeof no)
                          : ::setsockopt(made, IPPROTO_IP, IP_MULTICAST_ALL, &no, sizeof no));
    const socket_address address(local);
    if (failure.ok() && ::bind(made, address.get(), address.size) != 0) failure = last_error();
    if (!failure.ok()) {
        ::close(made);
        return failure;
    }
    out = made;
    return {};
}

status linux_driver::connect_datagram(native_socket handle, const endpoint& peer) {
    ++metrics_.system_calls;
    const socket_address address(peer);
    return ::connect(descriptor_of(handle), address.get(), address.size) == 0 ? status() : last_error();
}

status linux_driver::set_membership(native_socket handle, const ip_address& group, std::uint32_t index,
                                    bool join) {
    ++metrics_.system_calls;
    const socket_address address(endpoint(group, 0));
    if (group.is_v6()) {
        ipv6_mreq wanted{};
        wanted.ipv6mr_multiaddr = reinterpret_cast<const sockaddr_in6&>(address.storage).sin6_addr;
        wanted.ipv6mr_interface = index;
        return set_option(handle, IPPROTO_IPV6, join ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP,
                          std::as_bytes(std::span(&wanted, 1)));
    }
    ip_mreqn wanted{};
    wanted.imr_multiaddr = reinterpret_cast<const sockaddr_in&>(address.storage).sin_addr;
    wanted.imr_ifindex = static_cast<int>(index);
    return set_option(handle, IPPROTO_IP, join ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP,
                      std::as_bytes(std::span(&wanted, 1)));
}

void close_handle(native_socket handle) noexcept { ::close(descriptor_of(handle)); }

void linux_driver::close(native_socket handle) noexcept {
    ++metrics_.system_calls;
    ::close(descriptor_of(handle));
}

status linux_driver::shutdown_send(socket_state& socket) noexcept {
    ++metrics_.system_calls;
    return ::shutdown(descriptor_of(socket.handle), SHUT_WR) == 0 ? status() : last_error();
}

status linux_driver::local_endpoint(native_socket handle, endpoint& out) const noexcept {
    socket_address address;
    if (::getsockname(descriptor_of(handle), address.get(), &address.size) != 0) return last_error();
    if (!address.is_ip()) return native_error(EAFNOSUPPORT);
    out = address.to_endpoint();
    return {};
}

status linux_driver::remote_endpoint(native_socket handle, endpoint& out) const noexcept {
    socket_address address;
    if (::getpeername(descriptor_of(handle), address.get(), &address.size) != 0) return last_error();
    if (!address.is_ip()) return native_error(EAFNOSUPPORT);
    out = address.to_endpoint();
    return {};
}

status linux_driver::set_option(native_socket handle, socket_option option, int value) noexcept {
    const bool v6 = is_multicast(option) && is_v6(handle);
    const auto [level, name] = native_name(option, v6);
    if (option == socket_option::multicast_interface && !v6) {
        ip_mreqn wanted{};
        wanted.imr_ifindex = value;
        return set_option(handle, level, name, std::as_bytes(std::span(&wanted, 1)));
    }
    if (option == socket_option::linger) {
        const struct linger setting { value >= 0, value >= 0 ? value : 0 };
        return set_option(handle, level, name, std::as_bytes(std::span(&setting, 1)));
    }
    return set_option(handle, level, name, std::as_bytes(std::span(&value, 1)));
}

status linux_driver::get_option(native_socket handle, socket_option option, int& value) const noexcept {
    const auto [level, name] = native_name(option, is_multicast(option) && is_v6(handle));
    if (option == socket_option::linger) {
        struct linger setting {};
        socklen_t size = sizeof setting;
        if (::getsockopt(descriptor_of(handle), level, name, &setting, &size) != 0) return last_error();
        value = setting.l_onoff ? setting.l_linger : -1;
        return {};
    }
    socklen_t size = sizeof value;
    if (::getsockopt(descriptor_of(handle), level, name, &value, &size) != 0) return last_error();
    return {};
}

status linux_driver::set_option(native_socket handle, int level, int name,
                                std::span<const std::byte> value) noexcept {
    const auto size = static_cast<socklen_t>(value.size());
    return ::setsockopt(descriptor_of(handle), level, name, value.data(), size) == 0 ? status()
                                                                                     : last_error();
}

} // namespace detail
} // namespace plait::inline v1
