#include "support/plain_client.hpp"

#include "support/windows/winsock.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace support {

namespace {

int most(std::size_t size) { return static_cast<int>(std::min<std::size_t>(size, 1 << 30)); }

int errno_of(int code) {
    switch (code) {
    case WSAECONNRESET: return ECONNRESET;
    case WSAECONNABORTED: return ECONNABORTED;
    case WSAETIMEDOUT: return ETIMEDOUT;
    case WSAENOTSOCK: return EBADF;
    default: return EIO;
    }
}

SOCKET number_of(plait::native_socket socket) { return static_cast<SOCKET>(socket); }

} // namespace

plain_client::plain_client(std::uint16_t port) : socket_(plait::detail::no_socket) {
    use_winsock();
    sockaddr_in peer{};
    peer.sin_family = AF_INET;
    peer.sin_port = htons(port);
    peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const SOCKET made =
        ::WSASocketW(AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr, 0,
                     WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT); // as socket() makes it
    if (made == INVALID_SOCKET ||
        ::connect(made, reinterpret_cast<const sockaddr*>(&peer), sizeof peer) != 0) {
        std::fprintf(stderr, "plain_client: error %d\n", ::WSAGetLastError());
        std::abort();
    }
    socket_ = static_cast<plait::native_socket>(made);
    const BOOL on = TRUE;
    ::setsockopt(made, IPPROTO_TCP, TCP_NODELAY, reinterpret_cast<const char*>(&on), sizeof on);
}

bool plain_client::send(std::string_view text) {
    while (!text.empty()) {
        const int sent = ::send(number_of(socket_), text.data(), most(text.size()), 0);
        if (sent <= 0) return false;
        text.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
}

std::ptrdiff_t plain_client::receive(char* into, std::size_t size) {
    const int got = ::recv(number_of(socket_), into, most(size), 0);
    return got >= 0 ? got : -errno_of(::WSAGetLastError());
}

void plain_client::finish() { ::shutdown(number_of(socket_), SD_SEND); }

void plain_client::reset() {
    const linger at_once{1, 0};
    ::setsockopt(number_of(socket_), SOL_SOCKET, SO_LINGER, reinterpret_cast<const char*>(&at_once),
                 sizeof at_once);
    close();
}

void plain_client::close() {
    if (socket_ != plait::detail::no_socket)
        ::closesocket(number_of(std::exchange(socket_, plait::detail::no_socket)));
}

plain_listener::plain_listener(int backlog) : socket_(plait::detail::no_socket) {
    use_winsock();
    sockaddr_in local{};
    local.sin_family = AF_INET;
    local.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int size = sizeof local;
    const SOCKET made = ::WSASocketW(AF_INET, SOCK_STREAM, 0, nullptr, 0, WSA_FLAG_NO_HANDLE_INHERIT);
    must(::bind(made, reinterpret_cast<const sockaddr*>(&local), size) == 0 && ::listen(made, backlog) == 0 &&
             ::getsockname(made, reinterpret_cast<sockaddr*>(&local), &size) == 0,
         "a listener");
    socket_ = static_cast<plait::native_socket>(made);
    port_ = ntohs(local.sin_port);
}

plain_listener::~plain_listener() {
    if (socket_ != plait::detail::no_socket) ::closesocket(number_of(socket_));
}

} // namespace support
