#pragma once
/// A blocking client over plain system calls, for tests whose other side must not be plait's.
///
///     support::plain_client client(port);
///     client.send("ping");
///     CHECK(client.receive(4) == "pong");

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

namespace support {

class plain_client {
  public:
    /// Connects to 127.0.0.1; a failure ends the program.
    explicit plain_client(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in peer{};
        peer.sin_family = AF_INET;
        peer.sin_port = htons(port);
        peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (socket_ < 0 || ::connect(socket_, reinterpret_cast<const sockaddr*>(&peer), sizeof peer) != 0) {
            std::perror("plain_client");
            std::abort();
        }
        const int on = 1;
        ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    plain_client(plain_client&& other) noexcept : socket_(std::exchange(other.socket_, -1)) {}
    plain_client& operator=(plain_client&&) = delete;
    ~plain_client() { close(); }

    /// False when the peer has ended the connection.
    bool send(std::string_view text) {
        while (!text.empty()) {
            const auto sent = ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
            if (sent < 0 && errno == EINTR) continue;
            if (sent <= 0) return false;
            text.remove_prefix(static_cast<std::size_t>(sent));
        }
        return true;
    }

    /// Some bytes: 0 at the end, or the negative errno.
    std::ptrdiff_t receive(char* into, std::size_t size) {
        for (;;) {
            const auto got = ::recv(socket_, into, size, 0);
            if (got >= 0) return got;
            if (errno != EINTR) return -errno;
        }
    }

    /// That many bytes; fewer where the connection ended before.
    std::string receive(std::size_t size) {
        std::string text(size, '\0');
        std::size_t done = 0;
        while (done < size) {
            const auto got = receive(text.data() + done, size - done);
            if (got <= 0) break;
            done += static_cast<std::size_t>(got);
        }
        text.resize(done);
        return text;
    }

    /// Everything up to the end; `error` is 0, or the errno that stood in its place.
    std::string receive_all(int& error) {
        std::string text;
        char piece[16384];
        for (;;) {
            const auto got = receive(piece, sizeof piece);
            error = got < 0 ? static_cast<int>(-got) : 0;
            if (got <= 0) return text;
            text.append(piece, static_cast<std::size_t>(got));
        }
    }

    /// Half-close.
    void finish() { ::shutdown(socket_, SHUT_WR); }

    /// Closes with a reset.
    void reset() {
        const linger at_once{1, 0};
        ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close();
    }

    void close() {
        if (socket_ >= 0) ::close(std::exchange(socket_, -1));
    }

    int descriptor() const noexcept { return socket_; }

  private:
    int socket_;
};

} // namespace support
