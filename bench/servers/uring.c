/* Reference: the floor. A ring of io_uring per thread, each with a listener of its own: multishot
 * accept and receive, direct descriptors, buffers that the kernel fills piece by piece
 * (IOU_PBUF_RING_INC, Linux 6.12), sends out of the buffer that was received into, and one system
 * call per turn of the loop. Echo only.
 *
 * A buffer goes back to the kernel when the kernel has filled it and all that came in it is sent.
 * One send of a connection is with the kernel at a time; what comes meanwhile waits as pieces. */
#include "server.h"

#include <liburing.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Not in liburing 2.3. */
#define PBUF_RING_INC 2
#define CQE_F_BUF_MORE (1u << 4)

#define RING_ENTRIES 4096
#define FILES_MAX 20000
#define BUFFERS 32
#define BUFFER_SIZE (64 * 1024)

enum request { REQUEST_ACCEPT, REQUEST_RECEIVE, REQUEST_SEND, REQUEST_CLOSE };

struct piece {
    struct piece *next;
    char *data;
    uint32_t size;
    uint32_t buffer;
};

struct connection {
    struct piece *first; /* with the kernel, when there is one */
    struct piece **last; /* where the next one is linked */
    bool ended;          /* nothing more is received; closes when all is sent */
    bool starved;        /* found no buffer */
};

struct buffer {
    uint32_t filled; /* by the kernel so far */
    uint32_t pieces; /* not sent yet */
    bool whole;      /* the kernel has filled it */
};

struct loop {
    struct io_uring ring;
    struct io_uring_buf_ring *buffer_ring;
    int listener;
    char *memory;
    struct piece *free_pieces;
    uint32_t starved;
    uint32_t given; /* buffers with the kernel */
    struct buffer buffers[BUFFERS];
    struct connection list[FILES_MAX]; /* by direct descriptor */
};

static struct io_uring_sqe *loop_request(struct loop *loop)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);
    if (!sqe) {
        io_uring_submit(&loop->ring);
        sqe = io_uring_get_sqe(&loop->ring);
    }
    return sqe;
}

static void request_mark(struct io_uring_sqe *sqe, enum request request, uint32_t index)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)request << 32 | index);
}

static void loop_accept(struct loop *loop)
{
    struct io_uring_sqe *sqe = loop_request(loop);
    io_uring_prep_multishot_accept_direct(sqe, loop->listener, NULL, NULL, 0);
    request_mark(sqe, REQUEST_ACCEPT, 0);
}

static void loop_receive(struct loop *loop, uint32_t index)
{
    struct io_uring_sqe *sqe = loop_request(loop);
    io_uring_prep_recv_multishot(sqe, (int)index, NULL, 0, 0);
    io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT);
    request_mark(sqe, REQUEST_RECEIVE, index);
}

static void loop_send(struct loop *loop, uint32_t index)
{
    struct piece *piece = loop->list[index].first;
    struct io_uring_sqe *sqe = loop_request(loop);
    io_uring_prep_send(sqe, (int)index, piece->data, piece->size, MSG_WAITALL);
    io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    request_mark(sqe, REQUEST_SEND, index);
}

static void loop_close(struct loop *loop, uint32_t index)
{
    struct io_uring_sqe *sqe = loop_request(loop);
    io_uring_prep_close_direct(sqe, index);
    request_mark(sqe, REQUEST_CLOSE, index);
}

static struct piece *piece_take(struct loop *loop)
{
    struct piece *piece = loop->free_pieces;
    if (piece)
        loop->free_pieces = piece->next;
    else if (!(piece = malloc(sizeof *piece)))
        server_refuse("no memory");
    return piece;
}

static void buffer_give(struct loop *loop, uint32_t id)
{
    loop->buffers[id] = (struct buffer){0};
    loop->given++;
    io_uring_buf_ring_add(loop->buffer_ring, loop->memory + (size_t)id * BUFFER_SIZE, BUFFER_SIZE,
                          (uint16_t)id, io_uring_buf_ring_mask(BUFFERS), 0);
    io_uring_buf_ring_advance(loop->buffer_ring, 1);
}

/* There is a buffer again: those that found none go on. */
static void loop_feed(struct loop *loop)
{
    for (uint32_t i = 0; loop->starved && i < FILES_MAX; i++) {
        if (!loop->list[i].starved)
            continue;
        loop->list[i].starved = false;
        loop->starved--;
        loop_receive(loop, i);
    }
}

static void buffer_check(struct loop *loop, uint32_t id)
{
    struct buffer *buffer = &loop->buffers[id];
    if (!buffer->whole || buffer->pieces)
        return;
    buffer_give(loop, id);
    loop_feed(loop);
}

static void on_accept(struct loop *loop, const struct io_uring_cqe *cqe)
{
    if (cqe->res >= 0) {
        struct connection *c = &loop->list[cqe->res];
        *c = (struct connection){.last = &c->first};
        loop_receive(loop, (uint32_t)cqe->res);
    }
    if (!(cqe->flags & IORING_CQE_F_MORE))
        loop_accept(loop);
}

static void on_bytes(struct loop *loop, uint32_t index, const struct io_uring_cqe *cqe)
{
    uint32_t id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    struct buffer *buffer = &loop->buffers[id];
    struct connection *c = &loop->list[index];
    struct piece *piece = piece_take(loop);

    *piece = (struct piece){
        .data = loop->memory + (size_t)id * BUFFER_SIZE + buffer->filled,
        .size = (uint32_t)cqe->res,
        .buffer = id,
    };
    buffer->filled += piece->size;
    buffer->whole = !(cqe->flags & CQE_F_BUF_MORE);
    loop->given -= buffer->whole;
    buffer->pieces++;
    bool idle = !c->first;
    *c->last = piece;
    c->last = &piece->next;
    if (idle)
        loop_send(loop, index);
}

static void on_receive(struct loop *loop, uint32_t index, const struct io_uring_cqe *cqe)
{
    struct connection *c = &loop->list[index];
    if (cqe->res > 0) {
        on_bytes(loop, index, cqe);
        if (!(cqe->flags & IORING_CQE_F_MORE))
            loop_receive(loop, index);
    } else if (cqe->res == -ENOBUFS && loop->given) {
        loop_receive(loop, index);
    } else if (cqe->res == -ENOBUFS) {
        c->starved = true;
        loop->starved++;
    } else {
        c->ended = true;
        if (!c->first)
            loop_close(loop, index);
    }
}

static void on_send(struct loop *loop, uint32_t index, const struct io_uring_cqe *cqe)
{
    struct connection *c = &loop->list[index];
    struct piece *piece = c->first;
    if (cqe->res > 0 && (uint32_t)cqe->res < piece->size) {
        piece->data += cqe->res;
        piece->size -= (uint32_t)cqe->res;
        loop_send(loop, index);
        return;
    }
    /* After an error the rest is dropped piece by piece; the receive tells of the end. */
    c->first = piece->next;
    if (!c->first)
        c->last = &c->first;
    loop->buffers[piece->buffer].pieces--;
    buffer_check(loop, piece->buffer);
    piece->next = loop->free_pieces;
    loop->free_pieces = piece;
    if (c->first)
        loop_send(loop, index);
    else if (c->ended)
        loop_close(loop, index);
}

static void loop_completion(struct loop *loop, const struct io_uring_cqe *cqe)
{
    uint32_t index = (uint32_t)cqe->user_data;
    switch ((enum request)(cqe->user_data >> 32)) {
    case REQUEST_ACCEPT:
        on_accept(loop, cqe);
        break;
    case REQUEST_RECEIVE:
        on_receive(loop, index, cqe);
        break;
    case REQUEST_SEND:
        on_send(loop, index, cqe);
        break;
    case REQUEST_CLOSE:
        break;
    }
}

static void loop_init_buffers(struct loop *loop)
{
    struct io_uring_buf_reg registration = {.ring_entries = BUFFERS, .pad = PBUF_RING_INC};
    loop->memory = aligned_alloc(4096, BUFFERS * BUFFER_SIZE);
    loop->buffer_ring = aligned_alloc(4096, 4096);
    if (!loop->memory || !loop->buffer_ring)
        server_refuse("no memory");
    memset(loop->buffer_ring, 0, 4096);
    registration.ring_addr = (uintptr_t)loop->buffer_ring;
    if (io_uring_register_buf_ring(&loop->ring, &registration, 0) < 0)
        server_refuse("no ring of buffers");
    for (uint32_t i = 0; i < BUFFERS; i++)
        buffer_give(loop, i);
}

static void loop_init(struct loop *loop, const struct server_options *options)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
        .cq_entries = 4 * RING_ENTRIES,
    };
    loop->listener = server_listen(options);
    if (io_uring_queue_init_params(RING_ENTRIES, &loop->ring, &params) < 0 ||
        io_uring_register_ring_fd(&loop->ring) < 0 ||
        io_uring_register_files_sparse(&loop->ring, FILES_MAX) < 0)
        server_refuse("no ring");
    loop_init_buffers(loop);
}

static void loop_run(const struct server_options *options)
{
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        server_refuse("no memory");
    loop_init(loop, options);
    loop_accept(loop);
    server_ready(options->threads);
    for (;;) {
        struct io_uring_cqe *cqe;
        unsigned head, count = 0;
        io_uring_submit_and_wait(&loop->ring, 1);
        io_uring_for_each_cqe(&loop->ring, head, cqe)
        {
            loop_completion(loop, cqe);
            count++;
        }
        io_uring_cq_advance(&loop->ring, count);
    }
}

int main(int argc, char **argv)
{
    static struct server_options options;
    server_options_parse(&options, argc, argv);
    if (server_is_framed(&options))
        server_refuse("this reference is for echo");
    server_run(&options, loop_run);
}
