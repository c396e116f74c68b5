#pragma once
/// A blocking client over plain system calls, for tests whose other side must not be plait's.
///
///     support::plain_client client(port);
///     client.send("ping");
///     CHECK(client.receive(4) == "pong");

#include <plait/detail/socket_state.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace support {

class plain_client {
  public:
    /// Connects to 127.0.0.1; a failure ends the program.
    explicit plain_client(std::uint16_t port);
    plain_client(plain_client&& other) noexcept
        : socket_(std::exchange(other.socket_, plait::detail::no_socket)) {}
    plain_client& operator=(plain_client&&) = delete;
    ~plain_client() { close(); }

    /// False when the peer has ended the connection.
    bool send(std::string_view text);

    /// Some bytes: 0 at the end, or the negative errno.
    std::ptrdiff_t receive(char* into, std::size_t size);

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
    void finish();

    /// Closes with a reset.
    void reset();

    void close();

    plait::native_socket native_handle() const noexcept { return socket_; }
    /// Somebody else closes it.
    void leave() noexcept { socket_ = plait::detail::no_socket; }

  private:
    plait::native_socket socket_;
};

/// A listener at a free port of 127.0.0.1 that accepts nobody; its backlog fills up.
class plain_listener {
  public:
    explicit plain_listener(int backlog);
    plain_listener(plain_listener&& other) noexcept
        : socket_(std::exchange(other.socket_, plait::detail::no_socket)), port_(other.port_) {}
    plain_listener& operator=(plain_listener&&) = delete;
    ~plain_listener();

    std::uint16_t port() const noexcept { return port_; }

  private:
    plait::native_socket socket_;
    std::uint16_t port_ = 0;
};

} // namespace support
