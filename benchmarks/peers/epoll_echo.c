/* A plain epoll server, edge triggered, that calls read and write directly: what careful C without io_uring
 * costs. */
#define _GNU_SOURCE
#include "common.h"
#include "frames.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

struct connection {
    int descriptor;
    uint32_t unsent_size;  /* answers that the socket did not take yet */
    uint32_t partial_size; /* the beginning of a frame whose rest has not arrived */
    unsigned char* unsent;
    unsigned char* partial;
};

static unsigned char input[RECEIVE_BUFFER_SIZE];
static unsigned char output[RECEIVE_BUFFER_SIZE];
static int poller;

static void drop(struct connection* c) {
    close(c->descriptor);
    free(c->unsent);
    free(c->partial);
    free(c);
}

static void watch(struct connection* c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->descriptor, &event) != 0) fail("epoll_ctl");
}

/* False when the connection is broken. What the socket refuses is kept until it is writable. */
static bool answer(struct connection* c, const unsigned char* bytes, size_t size) {
    size_t sent = 0;
    while (sent < size) {
        const ssize_t n = write(c->descriptor, bytes + sent, size - sent);
        if (n >= 0) {
            sent += (size_t)n;
        } else if (errno == EAGAIN) {
            c->unsent_size = (uint32_t)(size - sent);
            c->unsent = malloc(c->unsent_size);
            memcpy(c->unsent, bytes + sent, c->unsent_size);
            watch(c, EPOLL_CTL_MOD, EPOLLOUT); /* and no further input before this is sent */
            return true;
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

static bool answer_whole_frames(struct connection* c, size_t size) {
    const struct answered result = answer_frames(input, size, output);
    if (result.malformed) return false;
    free(c->partial);
    c->partial = NULL;
    c->partial_size = (uint32_t)(size - result.consumed);
    if (c->partial_size > 0) {
        c->partial = malloc(c->partial_size);
        memcpy(c->partial, input + result.consumed, c->partial_size);
    }
    return result.produced == 0 || answer(c, output, result.produced);
}

/* Reads until nothing is waiting. A read that filled less than it was given emptied the socket: only an
   announced end of the stream (hung_up) makes another one necessary. */
static bool serve_input(struct connection* c, bool framed, bool hung_up) {
    while (c->unsent == NULL) {
        const size_t kept = c->partial_size;
        const size_t room = sizeof input - kept;
        const ssize_t n = read(c->descriptor, input + kept, room);
        if (n == 0) return false;
        if (n < 0) {
            if (errno == EINTR) continue;
            return errno == EAGAIN;
        }
        if (kept > 0) memcpy(input, c->partial, kept);
        if (!(framed ? answer_whole_frames(c, kept + (size_t)n) : answer(c, input, (size_t)n))) return false;
        if ((size_t)n < room && !hung_up) return true;
    }
    return true;
}

static bool serve_output(struct connection* c) {
    unsigned char* bytes = c->unsent;
    const size_t size = c->unsent_size;
    c->unsent = NULL;
    const bool healthy = answer(c, bytes, size);
    free(bytes);
    if (healthy && c->unsent == NULL) watch(c, EPOLL_CTL_MOD, EPOLLIN);
    return healthy;
}

static void accept_all(int listener) {
    for (;;) {
        const int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor < 0) return;
        struct connection* c = calloc(1, sizeof *c);
        c->descriptor = descriptor;
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
    }
}

int main(int argument_count, char** arguments) {
    struct server_options options = parse_options(argument_count, arguments);
    const int listener = make_listener(&options.port, SOCK_NONBLOCK);
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event listening = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &listening);
    announce(options.port, "epoll");

    struct epoll_event events[256];
    for (;;) {
        const int count = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < count; ++i) {
            struct connection* c = events[i].data.ptr;
            if (c == NULL) {
                accept_all(listener);
                continue;
            }
            bool healthy = true;
            if (c->unsent != NULL)
                healthy = (events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) == 0 || serve_output(c);
            else
                healthy = serve_input(c, options.framed, (events[i].events & (EPOLLRDHUP | EPOLLHUP)) != 0);
            if (!healthy) drop(c);
        }
    }
}
