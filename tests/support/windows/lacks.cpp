#include "support/lacks.hpp"

#include "support/windows/console.hpp"
#include "support/windows/winsock.hpp"

#include <afunix.h>

#include <cstring>
#include <utility>

namespace support {

namespace {

class plain_socket {
  public:
    plain_socket(int family, int type)
        : socket_(
              ::WSASocketW(family, type, 0, nullptr, 0, WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT)) {}
    plain_socket(const plain_socket&) = delete;
    plain_socket& operator=(const plain_socket&) = delete;
    ~plain_socket() { close(); }

    SOCKET get() const { return socket_; }
    void close() {
        if (socket_ != INVALID_SOCKET) ::closesocket(std::exchange(socket_, INVALID_SOCKET));
    }

    /// Whether the call was a success.
    bool set(int level, int name, const auto& value) const {
        return ::setsockopt(socket_, level, name, reinterpret_cast<const char*>(&value), sizeof value) == 0;
    }
    bool bind(const auto& address) const {
        return ::bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    }
    bool send_to(const auto& address, const char* text) const {
        const int size = static_cast<int>(std::strlen(text));
        return ::sendto(socket_, text, size, 0, reinterpret_cast<const sockaddr*>(&address),
                        sizeof address) == size;
    }
    /// The next datagram; "" where none comes in two seconds.
    std::string receive() const {
        set(SOL_SOCKET, SO_RCVTIMEO, DWORD{2000});
        char text[64];
        const int size = ::recv(socket_, text, sizeof text, 0);
        return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : "";
    }
    /// In network order.
    u_short port() const {
        sockaddr_storage address{};
        int size = sizeof address;
        must(::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0, "getsockname");
        return reinterpret_cast<const sockaddr_in&>(address).sin_port; // where IPv6 has it, too
    }

  private:
    SOCKET socket_;
};

sockaddr_in v4_address(u_long address, u_short port = 0) {
    sockaddr_in made{};
    made.sin_family = AF_INET;
    made.sin_port = port;
    made.sin_addr.s_addr = htonl(address);
    return made;
}

std::string failed(const char* call, int error) {
    return std::string(call) + " fails with " + std::to_string(error) + " here";
}

/// With an option of TCP's that takes a DWORD.
std::string refuses(const char* call, int name, DWORD value) {
    use_winsock();
    const plain_socket socket(AF_INET, SOCK_STREAM);
    return socket.set(IPPROTO_TCP, name, value) ? "" : failed(call, ::WSAGetLastError());
}

/// What try_groups() needs to know of a family.
struct v4_groups {
    using address = sockaddr_in;
    static constexpr int family = AF_INET, level = IPPROTO_IP, join = IP_ADD_MEMBERSHIP,
                         interface_option = IP_MULTICAST_IF;
    static address any() { return v4_address(INADDR_ANY); }
    static address loopback(u_short port) { return v4_address(INADDR_LOOPBACK, port); }
    static address group(u_short port) { return v4_address(0xEFFF'4D4F, port); } // 239.255.77.79
    static ip_mreq membership(u_long index) {
        ip_mreq wanted{};
        wanted.imr_multiaddr = group(0).sin_addr;
        wanted.imr_interface.s_addr = htonl(index); // 0.0.0.1 is the interface number 1
        return wanted;
    }
    static DWORD interface_value(u_long index) { return htonl(index); }
};
struct v6_groups {
    using address = sockaddr_in6;
    static constexpr int family = AF_INET6, level = IPPROTO_IPV6, join = IPV6_ADD_MEMBERSHIP,
                         interface_option = IPV6_MULTICAST_IF;
    static address parsed(const char* text, u_short port) {
        address made{};
        made.sin6_family = AF_INET6;
        made.sin6_port = port;
        must(::inet_pton(AF_INET6, text, &made.sin6_addr) == 1, "inet_pton");
        return made;
    }
    static address any() { return parsed("::", 0); }
    static address loopback(u_short port) { return parsed("::1", port); }
    static address group(u_short port) { return parsed("ff15::7779", port); }
    static ipv6_mreq membership(u_long index) {
        ipv6_mreq wanted{};
        wanted.ipv6mr_multiaddr = group(0).sin6_addr;
        wanted.ipv6mr_interface = index;
        return wanted;
    }
    static DWORD interface_value(u_long index) { return index; }
};

/// Whether a socket hears a group that another one has joined on that interface. False, too, where groups do not work.
template <class Family>
bool stranger_hears(u_long index) {
    const plain_socket member(Family::family, SOCK_DGRAM), stranger(Family::family, SOCK_DGRAM),
        sender(Family::family, SOCK_DGRAM);
    if (!member.bind(Family::any()) || !stranger.bind(Family::any()) || !sender.bind(Family::any()) ||
        !member.set(Family::level, Family::join, Family::membership(index)) ||
        !sender.set(Family::level, Family::interface_option, Family::interface_value(index)) ||
        !sender.send_to(Family::group(member.port()), "to members") || member.receive() != "to members")
        return false;
    return sender.send_to(Family::group(stranger.port()), "to others") &&
           sender.send_to(Family::loopback(stranger.port()), "mark") && stranger.receive() == "to others";
}

/// A Unix socket of that type, bound to a name that is its own.
std::string refuses_unix(int type, const char* kind, bool abstract) {
    use_winsock();
    const plain_socket socket(AF_UNIX, type);
    if (socket.get() == INVALID_SOCKET)
        return failed((std::string("socket(AF_UNIX, ") + kind + ')').c_str(), ::WSAGetLastError());
    char folder[MAX_PATH + 1];
    must(::GetTempPathA(sizeof folder, folder) > 0, "GetTempPath");
    const std::string name = std::string(abstract ? "" : folder) + "plait-probe-" +
                             std::to_string(::GetCurrentProcessId()) + ".sock";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    must(name.size() + 2 <= sizeof address.sun_path, "a short path");
    std::memcpy(address.sun_path + (abstract ? 1 : 0), name.data(), name.size());
    const bool bound = socket.bind(address);
    const int error = ::WSAGetLastError();
    if (!abstract) ::DeleteFileA(name.c_str());
    return bound ? "" : failed(abstract ? "bind() of an abstract name" : "bind() of a path", error);
}

} // namespace

// Their numbers, because not every header has them.

std::string lacks_keep_alive_times() { return refuses("setsockopt(TCP_KEEPIDLE)", 3, 30); }

std::string lacks_user_timeout() { return refuses("setsockopt(TCP_MAXRTMS)", 14, 1000); }

std::string lacks_refusals() {
    use_winsock();
    plain_socket gone(AF_INET, SOCK_DGRAM);
    const plain_socket socket(AF_INET, SOCK_DGRAM);
    must(gone.bind(v4_address(INADDR_LOOPBACK)), "a datagram socket");
    const sockaddr_in peer = v4_address(INADDR_LOOPBACK, gone.port());
    gone.close();
    must(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&peer), sizeof peer) == 0 &&
             ::send(socket.get(), "?", 1, 0) == 1,
         "a datagram to nobody");
    u_long on = 1;
    ::ioctlsocket(socket.get(), static_cast<long>(FIONBIO), &on);
    int error = WSAEWOULDBLOCK;
    for (int i = 0; i < 50 && error == WSAEWOULDBLOCK; ++i) { // where there is a refusal it comes at once
        char byte = 0;
        must(::recv(socket.get(), &byte, 1, 0) < 0, "an answer of nobody's");
        error = ::WSAGetLastError();
        ::Sleep(10);
    }
    return error == WSAECONNRESET || error == WSAECONNREFUSED
               ? ""
               : failed("recv() behind a refused datagram", error);
}

std::string lacks_bind_errors() {
    use_winsock();
    const plain_socket socket(AF_INET, SOCK_DGRAM);
    sockaddr_in address = v4_address(0);
    must(::inet_pton(AF_INET, foreign_address, &address.sin_addr) == 1, "inet_pton");
    if (socket.bind(address))
        return std::string("bind() to ") + foreign_address + " gives 0, a success, here";
    const int error = ::WSAGetLastError();
    return error == WSAEADDRNOTAVAIL ? "" : failed("bind() to an address of another machine", error);
}

std::string lacks_leave_errors() {
    use_winsock();
    const plain_socket socket(AF_INET, SOCK_DGRAM);
    must(socket.bind(v4_address(INADDR_LOOPBACK)), "a datagram socket");
    if (socket.set(IPPROTO_IP, IP_DROP_MEMBERSHIP, v4_groups::membership(0)))
        return "leaving a group that was never joined gives 0, a success, here";
    const int error = ::WSAGetLastError();
    return error == WSAEADDRNOTAVAIL ? "" : failed("leaving a group that was never joined", error);
}

std::string lacks_private_groups(bool v6) {
    use_winsock();
    for (const u_long index : {u_long{1}, u_long{0}}) // the loopback interface, and the default one
        if (v6 ? stranger_hears<v6_groups>(index) : stranger_hears<v4_groups>(index))
            return "recv() of a socket that joined nothing gives 9, the bytes that were sent to a group, "
                   "here";
    return "";
}

std::string lacks_unix_streams() { return refuses_unix(SOCK_STREAM, "SOCK_STREAM", false); }
std::string lacks_unix_datagrams() { return refuses_unix(SOCK_DGRAM, "SOCK_DGRAM", false); }
std::string lacks_unix_abstract_names() { return refuses_unix(SOCK_STREAM, "SOCK_STREAM", true); }

std::string lacks_moves_between_contexts() {
    use_winsock();
    const plain_socket socket(AF_INET, SOCK_STREAM);
    const auto handle = reinterpret_cast<HANDLE>(socket.get());
    const HANDLE first = ::CreateIoCompletionPort(handle, nullptr, 0, 1);
    must(first != nullptr, "CreateIoCompletionPort");
    const HANDLE second = ::CreateIoCompletionPort(INVALID_HANDLE_VALUE, nullptr, 0, 1);
    must(second != nullptr, "CreateIoCompletionPort");
    const bool moved = ::CreateIoCompletionPort(handle, second, 0, 0) != nullptr;
    const auto error = static_cast<int>(::GetLastError());
    ::CloseHandle(second);
    ::CloseHandle(first);
    return moved ? "" : failed("CreateIoCompletionPort() with a socket's second port", error);
}

std::string lacks_ctrl_break() {
    const DWORD error = try_ctrl_break();
    if (error == WAIT_TIMEOUT)
        return "GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT) gives 1, but no event in 2 s";
    return error == 0 ? "" : failed("GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT)", static_cast<int>(error));
}

std::string lacks_close_event() {
    if (console_routine() || ::GenerateConsoleCtrlEvent(CTRL_CLOSE_EVENT, 0)) return "";
    return failed("GenerateConsoleCtrlEvent(CTRL_CLOSE_EVENT)", static_cast<int>(::GetLastError()));
}

} // namespace support
