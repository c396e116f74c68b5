/* What the hand-written C servers share: command line, listening socket, the line that run.py waits for. */
#ifndef PLAIT_BENCHMARKS_PEERS_COMMON_H
#define PLAIT_BENCHMARKS_PEERS_COMMON_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Every server reads into buffers of this size, so that no peer wins by asking the kernel for more at once.
 */
#define RECEIVE_BUFFER_SIZE (64u * 1024u)

struct server_options {
    uint16_t port; /* 0: the system picks one */
    bool framed;   /* answer frames instead of echoing bytes */
};

static inline struct server_options parse_options(int argument_count, char** arguments) {
    struct server_options options = {0, false};
    for (int i = 1; i < argument_count; ++i) {
        if (strcmp(arguments[i], "--port") == 0 && i + 1 < argument_count) {
            options.port = (uint16_t)atoi(arguments[++i]);
        } else if (strcmp(arguments[i], "--framed") == 0) {
            options.framed = true;
        } else {
            fprintf(stderr, "usage: %s [--port PORT] [--framed]\n", arguments[0]);
            exit(2);
        }
    }
    return options;
}

static inline void fail(const char* what) {
    perror(what);
    exit(1);
}

static inline void announce(uint16_t port, const char* name) {
    printf("listening on 127.0.0.1:%u (%s)\n", (unsigned)port, name);
    fflush(stdout);
}

/* A listening socket on the loopback address; *port becomes the port it got. Accepted sockets inherit
 * TCP_NODELAY. */
static inline int make_listener(uint16_t* port, int type_flags) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | type_flags, 0);
    if (listener < 0) fail("socket");
    int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons(*port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr*)&address, sizeof address) != 0) fail("bind");
    if (listen(listener, 4096) != 0) fail("listen");
    socklen_t size = sizeof address;
    if (getsockname(listener, (struct sockaddr*)&address, &size) != 0) fail("getsockname");
    *port = ntohs(address.sin_port);
    return listener;
}

#endif
