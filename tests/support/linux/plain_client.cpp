#include "support/plain_client.hpp"

#include "support/must.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace support {

namespace {
int number_of(plait::native_socket socket) { return static_cast<int>(socket); }
} // namespace

plain_client::plain_client(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in peer{};
    peer.sin_family = AF_INET;
    peer.sin_port = htons(port);
    peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (socket_ < 0 ||
        ::connect(number_of(socket_), reinterpret_cast<const sockaddr*>(&peer), sizeof peer) != 0) {
        std::perror("plain_client");
        std::abort();
    }
    const int on = 1;
    ::setsockopt(number_of(socket_), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

bool plain_client::send(std::string_view text) {
    while (!text.empty()) {
        const auto sent = ::send(number_of(socket_), text.data(), text.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return false;
        text.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
}

std::ptrdiff_t plain_client::receive(char* into, std::size_t size) {
    for (;;) {
        const auto got = ::recv(number_of(socket_), into, size, 0);
        if (got >= 0) return got;
        if (errno != EINTR) return -errno;
    }
}

void plain_client::finish() { ::shutdown(number_of(socket_), SHUT_WR); }

void plain_client::reset() {
    const linger at_once{1, 0};
    ::setsockopt(number_of(socket_), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close();
}

void plain_client::close() {
    if (socket_ >= 0) ::close(number_of(std::exchange(socket_, plait::detail::no_socket)));
}

plain_listener::plain_listener(int backlog) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in local{};
    local.sin_family = AF_INET;
    local.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof local;
    const int made = number_of(socket_);
    must(::bind(made, reinterpret_cast<const sockaddr*>(&local), size) == 0 && ::listen(made, backlog) == 0 &&
             ::getsockname(made, reinterpret_cast<sockaddr*>(&local), &size) == 0,
         "a listener");
    port_ = ntohs(local.sin_port);
}

plain_listener::~plain_listener() {
    if (socket_ >= 0) ::close(number_of(socket_));
}

} // namespace support
