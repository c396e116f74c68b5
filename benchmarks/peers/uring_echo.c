/* The limit: an echo server written directly on liburing, with all that Linux offers and nothing in between.

   One thread's ring with deferred task work, a registered ring descriptor, multishot accept into direct
   descriptors, multishot receive into one incremental ring of provided buffers, and sends that leave with the
   next enter. Bytes are sent from the very buffer they arrived in. It wants Linux 6.1; before 6.12 it runs
   without incremental buffers. */
#define _GNU_SOURCE
#include "common.h"
#include "frames.h"

#include <errno.h>
#include <liburing.h>

/* Newer than the headers of liburing 2.3. */
#ifndef IOU_PBUF_RING_INC
#    define IOU_PBUF_RING_INC 2
#endif
#ifndef IORING_CQE_F_BUF_MORE
#    define IORING_CQE_F_BUF_MORE (1u << 4)
#endif

enum {
    submission_entries = 4096,
    completion_entries = 16384,
    receive_buffer_count = 32,
    receive_group = 0,
    connection_limit = 16384,
    answer_block_size = 256 * 1024,
};

enum operation { operation_accept, operation_receive, operation_send, operation_close };

/* Memory that sends refer to: a provided receive buffer, or (framed) a block that answers are collected in.
 */
struct block {
    unsigned char* bytes;
    uint32_t used;       /* where the next receive, or the next answer, begins */
    uint32_t references; /* pieces that are being sent, or wait for that */
    bool complete;       /* nothing more is put in: reuse it at the last reference */
    int buffer;          /* its number in the ring of provided buffers, -1 for a block of answers */
    struct block* next;  /* free list */
};

/* Bytes to send, in order, on one connection. */
struct piece {
    struct block* block;
    unsigned char* bytes;
    uint32_t size;
    struct piece* next;
};

struct connection {
    bool sending;
    bool receiving; /* its multishot receive is armed */
    bool ended;
    bool starved; /* waits for a provided buffer */
    uint32_t partial_size;
    unsigned char* partial; /* the beginning of a frame whose rest has not arrived */
    struct piece* first;    /* the one being sent */
    struct piece* last;
};

static struct io_uring ring;
static struct io_uring_buf_ring* receive_ring;
static struct block receive_blocks[receive_buffer_count];
static struct block *free_answer_blocks, *answer_block;
static struct piece* free_pieces;
static struct connection* connections;
static unsigned starved_count;
static bool incremental = true;
static bool direct = true;
static bool framed;
static int listener;
static unsigned char joined[2 * RECEIVE_BUFFER_SIZE];

/* A free submission entry; what is queued goes to the kernel first when there is none. */
static struct io_uring_sqe* next_entry(void) {
    struct io_uring_sqe* entry = io_uring_get_sqe(&ring);
    while (entry == NULL) {
        io_uring_submit(&ring);
        entry = io_uring_get_sqe(&ring);
    }
    return entry;
}

static void label(struct io_uring_sqe* entry, enum operation operation, uint32_t index) {
    io_uring_sqe_set_data64(entry, (uint64_t)index << 8 | (uint64_t)operation);
}

static void arm_accept(void) {
    struct io_uring_sqe* entry = next_entry();
    if (direct)
        io_uring_prep_multishot_accept_direct(entry, listener, NULL, NULL, 0);
    else
        io_uring_prep_multishot_accept(entry, listener, NULL, NULL, SOCK_CLOEXEC);
    label(entry, operation_accept, 0);
}

static void arm_receive(uint32_t index) {
    struct io_uring_sqe* entry = next_entry();
    io_uring_prep_recv(entry, (int)index, NULL, 0, 0);
    entry->ioprio |= IORING_RECV_MULTISHOT;
    entry->flags |= IOSQE_BUFFER_SELECT | (direct ? IOSQE_FIXED_FILE : 0);
    entry->buf_group = receive_group;
    label(entry, operation_receive, index);
    connections[index].receiving = true;
}

static void start_send(uint32_t index) {
    struct connection* c = &connections[index];
    struct io_uring_sqe* entry = next_entry();
    io_uring_prep_send(entry, (int)index, c->first->bytes, c->first->size, MSG_NOSIGNAL | MSG_WAITALL);
    entry->flags |= direct ? IOSQE_FIXED_FILE : 0;
    label(entry, operation_send, index);
    c->sending = true;
}

static void close_connection(uint32_t index) {
    struct connection* c = &connections[index];
    free(c->partial);
    c->partial = NULL;
    c->partial_size = 0;
    if (c->starved) {
        c->starved = false;
        --starved_count;
    }
    struct io_uring_sqe* entry = next_entry();
    if (direct)
        io_uring_prep_close_direct(entry, index);
    else
        io_uring_prep_close(entry, (int)index);
    entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
    label(entry, operation_close, index);
}

/* Closes once nothing is in flight any more; an ended connection with a receive still armed is shut down
 * first. */
static void close_if_done(uint32_t index) {
    struct connection* c = &connections[index];
    if (!c->ended || c->sending) return;
    if (c->receiving) {
        struct io_uring_sqe* entry = next_entry();
        io_uring_prep_shutdown(entry, (int)index, SHUT_RDWR);
        entry->flags |= IOSQE_CQE_SKIP_SUCCESS | (direct ? IOSQE_FIXED_FILE : 0);
        label(entry, operation_close, index);
        return; /* the receive ends, and with it this function is called again */
    }
    close_connection(index);
}

static void provide(struct block* block) {
    block->used = 0;
    block->complete = false;
    io_uring_buf_ring_add(receive_ring, block->bytes, RECEIVE_BUFFER_SIZE, (unsigned short)block->buffer,
                          io_uring_buf_ring_mask(receive_buffer_count), 0);
    io_uring_buf_ring_advance(receive_ring, 1);
    for (uint32_t index = 0; starved_count > 0 && index < connection_limit; ++index) {
        if (connections[index].starved) {
            connections[index].starved = false;
            --starved_count;
            arm_receive(index);
        }
    }
}

static bool any_buffer_provided(void) {
    for (int i = 0; i < receive_buffer_count; ++i)
        if (!receive_blocks[i].complete) return true;
    return false;
}

static void reuse_if_done(struct block* block) {
    if (block->references > 0 || !block->complete) return;
    if (block->buffer >= 0) {
        provide(block);
    } else {
        block->next = free_answer_blocks;
        free_answer_blocks = block;
    }
}

/* Room for an answer of this size, in the block that answers are collected in. */
static struct block* answer_room(uint32_t size) {
    if (answer_block != NULL && answer_block_size - answer_block->used >= size) return answer_block;
    if (answer_block != NULL) {
        answer_block->complete = true;
        reuse_if_done(answer_block);
    }
    answer_block = free_answer_blocks;
    if (answer_block != NULL) {
        free_answer_blocks = answer_block->next;
    } else {
        answer_block = calloc(1, sizeof *answer_block);
        answer_block->bytes = malloc(answer_block_size);
        answer_block->buffer = -1;
    }
    answer_block->used = 0;
    answer_block->complete = false;
    return answer_block;
}

/* Sends in order: one send of a connection is in flight, the others wait for it. */
static void send_piece(uint32_t index, struct block* block, unsigned char* bytes, uint32_t size) {
    struct connection* c = &connections[index];
    ++block->references;
    struct piece* piece = free_pieces;
    if (piece != NULL)
        free_pieces = piece->next;
    else
        piece = malloc(sizeof *piece);
    *piece = (struct piece){block, bytes, size, NULL};
    if (c->first == NULL)
        c->first = piece;
    else
        c->last->next = piece;
    c->last = piece;
    if (!c->sending) start_send(index);
}

static void drop_first_piece(struct connection* c) {
    struct piece* piece = c->first;
    c->first = piece->next;
    --piece->block->references;
    reuse_if_done(piece->block);
    piece->next = free_pieces;
    free_pieces = piece;
}

static void answer_whole_frames(uint32_t index, const unsigned char* bytes, uint32_t size) {
    struct connection* c = &connections[index];
    if (c->partial_size > 0) { /* rare: a frame was cut by the end of a buffer or by TCP */
        memcpy(joined, c->partial, c->partial_size);
        memcpy(joined + c->partial_size, bytes, size);
        bytes = joined;
        size += c->partial_size;
        free(c->partial);
        c->partial = NULL;
        c->partial_size = 0;
    }
    struct block* block = answer_room(size);
    unsigned char* answer = block->bytes + block->used;
    const struct answered result = answer_frames(bytes, size, answer);
    block->used += (uint32_t)result.produced;
    if (result.malformed) {
        c->ended = true;
        return;
    }
    if (result.consumed < size) {
        c->partial_size = size - (uint32_t)result.consumed;
        c->partial = malloc(c->partial_size);
        memcpy(c->partial, bytes + result.consumed, c->partial_size);
    }
    if (result.produced > 0) send_piece(index, block, answer, (uint32_t)result.produced);
}

static void on_accept(const struct io_uring_cqe* cqe) {
    if (cqe->res >= 0 && cqe->res < connection_limit) {
        memset(&connections[cqe->res], 0, sizeof connections[cqe->res]);
        arm_receive((uint32_t)cqe->res);
    }
    if ((cqe->flags & IORING_CQE_F_MORE) == 0) arm_accept();
}

static void on_receive(uint32_t index, const struct io_uring_cqe* cqe) {
    struct connection* c = &connections[index];
    if ((cqe->flags & IORING_CQE_F_MORE) == 0) c->receiving = false;
    if (cqe->res > 0) {
        struct block* block = &receive_blocks[cqe->flags >> IORING_CQE_BUFFER_SHIFT];
        unsigned char* bytes = block->bytes + block->used;
        block->used += (uint32_t)cqe->res;
        block->complete = !incremental || (cqe->flags & IORING_CQE_F_BUF_MORE) == 0;
        if (!c->ended && framed)
            answer_whole_frames(index, bytes, (uint32_t)cqe->res);
        else if (!c->ended)
            send_piece(index, block, bytes, (uint32_t)cqe->res);
        reuse_if_done(block);
    } else if (cqe->res == -ENOBUFS && !c->ended && !any_buffer_provided()) {
        c->starved = true; /* armed again when a buffer comes back */
        ++starved_count;
        return;
    } else if (cqe->res != -ENOBUFS) {
        c->ended = true;
    }
    if (c->ended)
        close_if_done(index);
    else if (!c->receiving)
        arm_receive(index);
}

static void on_send(uint32_t index, const struct io_uring_cqe* cqe) {
    struct connection* c = &connections[index];
    c->sending = false;
    if (cqe->res < 0) {
        c->ended = true;
        while (c->first != NULL) drop_first_piece(c);
    } else if ((uint32_t)cqe->res < c->first->size) {
        c->first->bytes += cqe->res;
        c->first->size -= (uint32_t)cqe->res;
    } else {
        drop_first_piece(c);
    }
    if (c->first != NULL)
        start_send(index);
    else if (c->ended)
        close_if_done(index);
}

static void create_ring(void) {
    struct io_uring_params parameters;
    memset(&parameters, 0, sizeof parameters);
    parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                       IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
    parameters.cq_entries = completion_entries;
    const int error = io_uring_queue_init_params(submission_entries, &ring, &parameters);
    if (error < 0) {
        fprintf(stderr, "no io_uring with deferred task work here (Linux 6.1 and permission): %s\n",
                strerror(-error));
        exit(1);
    }
    io_uring_register_ring_fd(&ring);
    direct = io_uring_register_files_sparse(&ring, connection_limit) == 0;
}

static void create_receive_buffers(void) {
    const size_t ring_size = receive_buffer_count * sizeof(struct io_uring_buf);
    void* memory = NULL;
    if (posix_memalign(&memory, 4096, ring_size) != 0) fail("posix_memalign");
    memset(memory, 0, ring_size);
    struct io_uring_buf_reg registration;
    memset(&registration, 0, sizeof registration);
    registration.ring_addr = (uint64_t)(uintptr_t)memory;
    registration.ring_entries = receive_buffer_count;
    registration.bgid = receive_group;
    registration.pad = IOU_PBUF_RING_INC; /* the flags, in later headers */
    int error = io_uring_register_buf_ring(&ring, &registration, 0);
    if (error == -EINVAL) {
        incremental = false;
        registration.pad = 0;
        error = io_uring_register_buf_ring(&ring, &registration, 0);
    }
    if (error < 0) {
        fprintf(stderr, "no ring of provided buffers: %s\n", strerror(-error));
        exit(1);
    }
    receive_ring = memory;
    io_uring_buf_ring_init(receive_ring);
    for (int i = 0; i < receive_buffer_count; ++i) {
        receive_blocks[i].buffer = i;
        receive_blocks[i].bytes = malloc(RECEIVE_BUFFER_SIZE);
        provide(&receive_blocks[i]);
    }
}

int main(int argument_count, char** arguments) {
    struct server_options options = parse_options(argument_count, arguments);
    framed = options.framed;
    listener = make_listener(&options.port, 0);
    connections = calloc(connection_limit, sizeof *connections);
    create_ring();
    create_receive_buffers();
    arm_accept();
    announce(options.port, direct && incremental ? "limit"
                           : direct              ? "limit, whole buffers"
                                                 : "limit, plain descriptors");

    for (;;) {
        io_uring_submit_and_wait(&ring, 1);
        unsigned head, count = 0;
        struct io_uring_cqe* cqe;
        io_uring_for_each_cqe(&ring, head, cqe) {
            ++count;
            const uint32_t index = (uint32_t)(cqe->user_data >> 8);
            switch ((enum operation)(cqe->user_data & 0xff)) {
            case operation_accept: on_accept(cqe); break;
            case operation_receive: on_receive(index, cqe); break;
            case operation_send: on_send(index, cqe); break;
            case operation_close: break; /* only failures are reported, and nobody can mend them */
            }
        }
        io_uring_cq_advance(&ring, count);
    }
}
