#include "support/lacks.hpp"

#include "support/windows/winsock.hpp"

#include <utility>

namespace support {

namespace {

class plain_socket {
  public:
    explicit plain_socket(int type)
        : socket_(::WSASocketW(AF_INET, type, 0, nullptr, 0, WSA_FLAG_NO_HANDLE_INHERIT)) {
        must(socket_ != INVALID_SOCKET, "WSASocketW");
    }
    plain_socket(const plain_socket&) = delete;
    plain_socket& operator=(const plain_socket&) = delete;
    ~plain_socket() { close(); }

    SOCKET get() const { return socket_; }
    void close() {
        if (socket_ != INVALID_SOCKET) ::closesocket(std::exchange(socket_, INVALID_SOCKET));
    }

  private:
    SOCKET socket_;
};

std::string failed(const char* call, int error) {
    return std::string(call) + " fails with " + std::to_string(error) + " here";
}

/// With an option of TCP's that takes a DWORD.
std::string refuses(const char* call, int name, DWORD value) {
    use_winsock();
    const plain_socket socket(SOCK_STREAM);
    const auto* bytes = reinterpret_cast<const char*>(&value);
    return ::setsockopt(socket.get(), IPPROTO_TCP, name, bytes, sizeof value) == 0
               ? ""
               : failed(call, ::WSAGetLastError());
}

} // namespace

// Their numbers, because not every header has them.

std::string lacks_keep_alive_times() { return refuses("setsockopt(TCP_KEEPIDLE)", 3, 30); }

std::string lacks_user_timeout() { return refuses("setsockopt(TCP_MAXRTMS)", 14, 1000); }

std::string lacks_refusals() {
    use_winsock();
    plain_socket gone(SOCK_DGRAM);
    const plain_socket socket(SOCK_DGRAM);
    sockaddr_in peer{};
    peer.sin_family = AF_INET;
    peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int size = sizeof peer;
    must(::bind(gone.get(), reinterpret_cast<const sockaddr*>(&peer), size) == 0 &&
             ::getsockname(gone.get(), reinterpret_cast<sockaddr*>(&peer), &size) == 0,
         "a datagram socket");
    gone.close();
    must(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&peer), size) == 0 &&
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

} // namespace support
