// The kinds of sockets: opens one of each, and prints where it is.
//
//     socket_kinds
//
// The family says what an address looks like: IPv4, IPv6, or a path. The type says what is carried: a stream of bytes
// between two, or datagrams. What this machine does not have says why not.

#include "arguments.hpp"
#include "program.hpp"

namespace {

template <class Socket>
void show(const char* kind, const plait::io_result<Socket>& opened) {
    std::string where = opened.error().message();
    if constexpr (requires { opened->local_path(); }) {
        if (opened) where = opened->local_path().value_or(plait::unix_path()).to_string();
    } else {
        if (opened) where = opened->local_endpoint().value_or(plait::endpoint()).to_string();
    }
    std::printf("%-32s %s\n", kind, where.c_str());
}

plait::task<int> open_all() {
    const plait::endpoint v4("127.0.0.1", 0); // port 0: any that is free
    const plait::endpoint v6("::1", 0);
    auto tcp = co_await plait::tcp_listener::bind(v4);
    show("AF_INET   SOCK_STREAM  TCP", tcp);
    auto tcp6 = co_await plait::tcp_listener::bind(v6);
    show("AF_INET6  SOCK_STREAM  TCP", tcp6);
    auto udp = co_await plait::udp_socket::bind(v4);
    show("AF_INET   SOCK_DGRAM   UDP", udp);
    auto udp6 = co_await plait::udp_socket::bind(v6);
    show("AF_INET6  SOCK_DGRAM   UDP", udp6);
    auto streams = co_await plait::unix_listener::bind("streams.sock");
    show("AF_UNIX   SOCK_STREAM", streams);
    auto datagrams = co_await plait::unix_datagram::bind("datagrams.sock");
    show("AF_UNIX   SOCK_DGRAM", datagrams);
    co_return 0; // their destructors close them, and remove the two files
}

} // namespace

int main(int count, char** words) {
    example::arguments line(count, words, "socket_kinds [--backend automatic|io_uring|epoll|iocp]");
    const plait::backend backend = line.backend();
    line.end();
    return example::run(open_all(), backend);
}
