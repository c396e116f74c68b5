/* The same echo server on libuv: one shared receive buffer, a write tried at once, the rest queued. */
#include "common.h"

#include <uv.h>

static char input[RECEIVE_BUFFER_SIZE];

struct queued_write {
    uv_write_t request;
    char bytes[];
};

static void lend_input(uv_handle_t* handle, size_t suggested, uv_buf_t* buffer) {
    (void)handle;
    (void)suggested;
    *buffer = uv_buf_init(input, sizeof input);
}

static void release(uv_handle_t* handle) { free(handle); }

static void on_read(uv_stream_t* stream, ssize_t size, const uv_buf_t* buffer);

static void on_written(uv_write_t* request, int status) {
    uv_stream_t* stream = request->handle;
    free(request->data);
    if (uv_is_closing((uv_handle_t*)stream)) return;
    if (status < 0)
        uv_close((uv_handle_t*)stream, release);
    else
        uv_read_start(stream, lend_input, on_read);
}

static void on_read(uv_stream_t* stream, ssize_t size, const uv_buf_t* buffer) {
    if (size == 0) return;
    if (size < 0) {
        uv_close((uv_handle_t*)stream, release);
        return;
    }
    uv_buf_t answer = uv_buf_init(buffer->base, (unsigned)size);
    int sent = uv_try_write(stream, &answer, 1);
    if (sent == UV_EAGAIN) sent = 0;
    if (sent < 0) {
        uv_close((uv_handle_t*)stream, release);
    } else if (sent < size) {
        /* The input buffer is shared, so the rest is copied; no further input before it is sent. */
        struct queued_write* rest = malloc(sizeof *rest + (size_t)(size - sent));
        memcpy(rest->bytes, buffer->base + sent, (size_t)(size - sent));
        rest->request.data = rest;
        answer = uv_buf_init(rest->bytes, (unsigned)(size - sent));
        uv_read_stop(stream);
        uv_write(&rest->request, stream, &answer, 1, on_written);
    }
}

static void on_connection(uv_stream_t* listener, int status) {
    if (status < 0) return;
    uv_tcp_t* client = malloc(sizeof *client);
    uv_tcp_init(listener->loop, client);
    if (uv_accept(listener, (uv_stream_t*)client) != 0) {
        uv_close((uv_handle_t*)client, release);
        return;
    }
    uv_tcp_nodelay(client, 1);
    uv_read_start((uv_stream_t*)client, lend_input, on_read);
}

int main(int argument_count, char** arguments) {
    struct server_options options = parse_options(argument_count, arguments);
    if (options.framed) {
        fprintf(stderr, "this peer has no framed mode\n");
        return 2;
    }
    uv_loop_t* loop = uv_default_loop();
    uv_tcp_t listener;
    uv_tcp_init(loop, &listener);
    struct sockaddr_in address;
    uv_ip4_addr("127.0.0.1", options.port, &address);
    if (uv_tcp_bind(&listener, (const struct sockaddr*)&address, 0) != 0 ||
        uv_listen((uv_stream_t*)&listener, 4096, on_connection) != 0)
        fail("listen");
    int size = sizeof address;
    uv_tcp_getsockname(&listener, (struct sockaddr*)&address, &size);
    announce(ntohs(address.sin_port), "libuv");
    return uv_run(loop, UV_RUN_DEFAULT);
}
