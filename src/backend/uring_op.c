/* Operations on io_uring: how each kind starts, and what its completion means.
 *
 * 1. An op has at most one request in the kernel, with the op's address as user_data. It leaves it
 * by a completion without IORING_CQE_F_MORE.
 * 2. `start` goes on from where the op is: op->progress and the slices say how much is done, the
 *    flags in op->backend what was begun. So it serves for the first time and for every later one.
 * 3. A request that ends with ECANCELED or EINTR without `cancel` lost its thread: the kernel (6.18
 * as well as 6.1) ends it when its thread has exited and something happens on the descriptor; no
 * data is lost. It is started again.
 * 4. After `cancel` nothing is started any more: an op that would have to go on is answered with
 *    IOCP_ECANCELED.
 * 5. The kernel (6.18.44) may miss what comes just when it begins to wait, if the socket had told
 *    it that nothing is left to read. A Unix socket's stream may so lose its last bytes or its end
 *    when many wakes come before the request's thread runs (they tell since 6.17); so its requests
 *    have one shot each. A TCP stream may lose a reset behind data when both come while it starts;
 *    so its start is followed by a look for the end.
 *
 * An op: started → in the kernel [start] → answered [complete, op_end, op_fail]
 *                                        → in the kernel again [complete: short, cut off, polled]
 *                                        → starved [complete; see uring_buffers.c] */
#include "backend/buffer.h"
#include "backend/try.h"
#include "backend/uring.h"

#include "base/assert.h"
#include "base/atomic.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>

#define OP_CHUNK_MAX (UINT32_C(1) << 30) /* the length of a request has 32 bits, its result 31 */

_Static_assert(sizeof(struct iocp_slice) == sizeof(struct iovec) &&
                   offsetof(struct iocp_slice, data) == offsetof(struct iovec, iov_base) &&
                   offsetof(struct iocp_slice, size) == offsetof(struct iovec, iov_len),
               "slices go to the kernel as they are");

enum op_object_flag { /* object->backend */
                      OP_OBJECT_KNOWN = 1,
                      OP_OBJECT_DATAGRAM = 2,
                      OP_OBJECT_FILE = 4,
                      OP_OBJECT_UNIX = 8 /* a Unix stream */
};

static int op_fd(const struct iocp_op *op)
{
    return (int)op->owner->handle;
}

/* What the handle is: asked for once, and only by the ops that must know. */
static uint32_t op_object(struct iocp_op *op)
{
    struct iocp_object *object = op->owner;
    enum iocp__nature nature;

    if (object->backend & OP_OBJECT_KNOWN)
        return object->backend;
    nature = iocp__try_nature(object->handle);
    object->backend |= OP_OBJECT_KNOWN;
    if (nature == IOCP__NATURE_DATAGRAM)
        object->backend |= OP_OBJECT_DATAGRAM;
    if (nature == IOCP__NATURE_UNIX)
        object->backend |= OP_OBJECT_UNIX;
    if (nature == IOCP__NATURE_NONE && iocp__handle_is_file(object->handle))
        object->backend |= OP_OBJECT_FILE;
    return object->backend;
}

/* ---- Ends. */

static void op_end(struct iocp__uring *uring, struct iocp_op *op, int64_t result)
{
    iocp__op_done(&uring->finished, op, result, 0);
}

static void op_fail(struct iocp__uring *uring, struct iocp_op *op, int os_error)
{
    iocp__op_failed(&uring->finished, op, os_error);
}

/* Rule 4. */
static void op_again(struct iocp__uring *uring, struct iocp_op *op)
{
    if (op->backend & IOCP__URING_OP_CANCELED)
        op_end(uring, op, IOCP_ECANCELED);
    else
        iocp__uring_start(uring, op);
}

static void op_count_resubmit(struct iocp__uring *uring)
{
    /* Relaxed: a counter that others only read. */
    iocp__add_relaxed(uring->kernel.resubmits, 1);
}

static int op_is_cut_off(int32_t result)
{
    return result == -ECANCELED || result == -EINTR;
}

/* Rule 3. */
static void op_cut_off(struct iocp__uring *uring, struct iocp_op *op)
{
    /* A second connect would be refused; what the first has begun goes on without the request. */
    if (op->kind == IOCP_OP_CONNECT)
        op->backend |= IOCP__URING_OP_BEGUN;
    if (!(op->backend & IOCP__URING_OP_CANCELED))
        op_count_resubmit(uring);
    op_again(uring, op);
}

/* ---- Requests. */

static struct io_uring_sqe *op_sqe(struct iocp__uring *uring, struct iocp_op *op, uint8_t opcode,
                                   union iocp__uring_scratch **out_scratch)
{
    return iocp__uring_sqe(uring, opcode, op_fd(op), (uintptr_t)op | IOCP__URING_TAG_OP,
                           out_scratch);
}

static void op_poll(struct iocp__uring *uring, struct iocp_op *op, uint32_t events)
{
    struct io_uring_sqe *sqe = op_sqe(uring, op, IORING_OP_POLL_ADD, NULL);

    sqe->poll32_events = iocp__uring_poll_word(events);
    op->backend |= IOCP__URING_OP_POLLING;
}

/* The kernel says "not now" to a request that should have waited: the file does not know how (a
 * file opened with O_NONBLOCK), or was polled in vain too often. */
static void op_must_wait(struct iocp__uring *uring, struct iocp_op *op)
{
    int writes = op->kind == IOCP_OP_SEND || op->kind == IOCP_OP_WRITE;

    if (op->backend & IOCP__URING_OP_CANCELED) {
        op_end(uring, op, IOCP_ECANCELED);
    } else if (op->kind == IOCP_OP_CONNECT || op->backend & IOCP__URING_OP_BLOCKING) {
        op_fail(uring, op, EAGAIN);
    } else if (op_object(op) & OP_OBJECT_FILE) {
        op->backend |= IOCP__URING_OP_BLOCKING;
        iocp__uring_start(uring, op);
    } else {
        op_poll(uring, op, writes ? POLLOUT : POLLIN);
    }
}

static uint32_t op_chunk(uint64_t size)
{
    return size < OP_CHUNK_MAX ? (uint32_t)size : OP_CHUNK_MAX;
}

/* One slice as such, several as a message. */
static void op_transfer(struct iocp__uring *uring, struct iocp_op *op, uint8_t single_opcode,
                        uint8_t message_opcode, uint32_t flags)
{
    int single = op->u.io.count == 1;
    union iocp__uring_scratch *scratch;
    struct io_uring_sqe *sqe = op_sqe(uring, op, single ? single_opcode : message_opcode, &scratch);
    struct iocp_slice *slices = op->u.io.slices;

    sqe->msg_flags = flags;
    if (single) {
        sqe->addr = (uintptr_t)slices->data;
        sqe->len = op_chunk(slices->size);
        return;
    }
    memset(&scratch->message, 0, sizeof(scratch->message));
    scratch->message.msg_iov = (struct iovec *)(void *)slices;
    scratch->message.msg_iovlen = op->u.io.count;
    /* A stream takes the rest later; a datagram is not to be cut, and is refused. */
    if (op->u.io.count > IOV_MAX && !(op_object(op) & OP_OBJECT_DATAGRAM))
        scratch->message.msg_iovlen = IOV_MAX;
    sqe->addr = (uintptr_t)&scratch->message;
    sqe->len = 1;
}

/* ---- recv */

static int op_wants_bytes(const struct iocp_op *op)
{
    uint32_t i;

    for (i = 0; i < op->u.io.count; i++) {
        if (op->u.io.slices[i].size)
            return 1;
    }
    return 0;
}

static void op_received(struct iocp__uring *uring, struct iocp_op *op, int32_t result)
{
    /* A datagram may be empty; a stream that gives nothing has ended. */
    if (result == 0 && op_wants_bytes(op) && !(op_object(op) & OP_OBJECT_DATAGRAM))
        op_end(uring, op, IOCP_EEOF);
    else
        op_end(uring, op, result);
}

static void op_start_recv(struct iocp__uring *uring, struct iocp_op *op)
{
    /* Nothing is to be taken, so it is a poll: a receive without memory would lose a datagram. */
    if (op_wants_bytes(op))
        op_transfer(uring, op, IORING_OP_RECV, IORING_OP_RECVMSG, 0);
    else
        op_poll(uring, op, POLLIN);
}

/* ---- recv-stream */

/* Rule 5: a poll that is answered at once when the end is there, and removed at once when it is
 * not: from then on the request sees the end by itself. */
static void op_look_for_end(struct iocp__uring *uring, struct iocp_op *op)
{
    uint64_t look = (uintptr_t)op | IOCP__URING_TAG_END;
    struct io_uring_sqe *sqe = iocp__uring_sqe(uring, IORING_OP_POLL_ADD, op_fd(op), look, NULL);

    sqe->poll32_events = iocp__uring_poll_word(POLLRDHUP);
    sqe = iocp__uring_sqe(uring, IORING_OP_POLL_REMOVE, -1, IOCP__URING_TAG_NONE, NULL);
    sqe->addr = look;
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
}

/* The end was there. In case the request has missed it, it is cut off, and rule 3 starts it again.
 * The op is not touched: it may have been answered meanwhile, and be gone. Then the cancel finds
 * nothing, or what has its address now, which goes on by rule 3 as well. */
void iocp__uring_looked(struct iocp__uring *uring, struct iocp_op *op, int32_t events)
{
    struct io_uring_sqe *sqe;

    if (events <= 0)
        return;
    sqe = iocp__uring_sqe(uring, IORING_OP_ASYNC_CANCEL, -1, IOCP__URING_TAG_NONE, NULL);
    sqe->addr = (uintptr_t)op | IOCP__URING_TAG_OP;
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
}

static void op_start_stream(struct iocp__uring *uring, struct iocp_op *op)
{
    struct io_uring_sqe *sqe = op_sqe(uring, op, IORING_OP_RECV, NULL);

    sqe->flags = IOSQE_BUFFER_SELECT;
    uring->buffers.used = 1;
    if (op_object(op) & OP_OBJECT_UNIX)
        return;
    sqe->ioprio = IORING_RECV_MULTISHOT;
    op_look_for_end(uring, op);
}

/* An empty datagram, or the end. */
static void op_stream_empty(struct iocp__uring *uring, struct iocp_op *op)
{
    /* An empty datagram has no packet here, but it does not end the stream: anybody can send one.
     */
    if (op_object(op) & OP_OBJECT_DATAGRAM)
        op_again(uring, op);
    else
        op_end(uring, op, IOCP_EEOF);
}

static void op_stream_ended(struct iocp__uring *uring, struct iocp_op *op, int32_t result)
{
    /* The kernel ends a stream with data when the completion queue is full, for one. */
    if (result > 0)
        op_again(uring, op);
    else if (result == 0)
        op_stream_empty(uring, op);
    else if (result == -ENOBUFS && !(op->backend & IOCP__URING_OP_CANCELED))
        iocp__uring_starve(uring, op);
    else if (result == -ENOBUFS)
        op_end(uring, op, IOCP_ECANCELED);
    else if (op_is_cut_off(result))
        op_cut_off(uring, op);
    else if (result == -EAGAIN)
        op_must_wait(uring, op);
    else
        op_fail(uring, op, -result);
}

static void op_stream_complete(struct iocp__uring *uring, struct iocp_op *op,
                               const struct iocp__cqe *cqe)
{
    uint32_t id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;

    if (cqe->flags & IORING_CQE_F_BUFFER) {
        if (cqe->result > 0)
            iocp__stream_received(&uring->finished, op, iocp__uring_buffers_take(uring, id),
                                  (uint32_t)cqe->result);
        else
            iocp__uring_buffers_keep(uring, id);
    }
    if (!(cqe->flags & IORING_CQE_F_MORE))
        op_stream_ended(uring, op, cqe->result);
}

/* ---- send */

/* Not 0 when `sent` is less than the request asked for. */
static int op_is_short(const struct iocp_op *op, uint64_t sent)
{
    uint32_t count = op->u.io.count < IOV_MAX ? op->u.io.count : IOV_MAX;
    uint64_t asked = 0;
    uint32_t i;

    for (i = 0; i < count; i++)
        asked += op->u.io.slices[i].size;
    return sent < op_chunk(asked);
}

static void op_start_send(struct iocp__uring *uring, struct iocp_op *op)
{
    if (op->u.io.count)
        op_transfer(uring, op, IORING_OP_SEND, IORING_OP_SENDMSG, MSG_NOSIGNAL | MSG_WAITALL);
    else
        op_end(uring, op, 0);
}

static void op_sent(struct iocp__uring *uring, struct iocp_op *op, int32_t result)
{
    int is_short = op_is_short(op, (uint32_t)result);

    /* Sends are asked to be whole. One that stopped midway lost its thread, if what is left can be
     * sent; if not, this was the first sign of the error that follows. */
    if (op->backend & IOCP__URING_OP_CUT)
        op_count_resubmit(uring);
    op->backend &= (uint8_t)~IOCP__URING_OP_CUT;
    if (!iocp__op_advance(op, (uint32_t)result)) {
        op_end(uring, op, (int64_t)op->progress);
    } else if (result == 0) {
        op_fail(uring, op, EIO);
    } else {
        if (is_short)
            op->backend |= IOCP__URING_OP_CUT;
        op_again(uring, op);
    }
}

/* ---- accept */

static void op_start_accept(struct iocp__uring *uring, struct iocp_op *op)
{
    struct io_uring_sqe *sqe = op_sqe(uring, op, IORING_OP_ACCEPT, NULL);

    sqe->accept_flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
    if (op->kind == IOCP_OP_ACCEPT_STREAM)
        sqe->ioprio = IORING_ACCEPT_MULTISHOT;
}

/* Errors of one connection, which accept(2) of Linux passes on: the next may be better. */
static int op_accept_goes_on(int32_t result)
{
    switch (-result) {
    case ECONNABORTED:
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case ENONET:
    case EHOSTDOWN:
    case EHOSTUNREACH:
        return 1;
    default:
        return 0;
    }
}

static void op_accept_failed(struct iocp__uring *uring, struct iocp_op *op, int32_t result)
{
    if (op_is_cut_off(result))
        op_cut_off(uring, op);
    else if (op_accept_goes_on(result))
        op_again(uring, op);
    else if (result == -EAGAIN)
        op_must_wait(uring, op);
    else
        op_fail(uring, op, -result);
}

static void op_accept_complete(struct iocp__uring *uring, struct iocp_op *op,
                               const struct iocp__cqe *cqe)
{
    if (cqe->result < 0) {
        op_accept_failed(uring, op, cqe->result);
        return;
    }
    if (op->kind == IOCP_OP_ACCEPT) {
        op_end(uring, op, cqe->result);
        return;
    }
    iocp__stream_accepted(&uring->finished, op, cqe->result);
    if (!(cqe->flags & IORING_CQE_F_MORE))
        op_again(uring, op);
}

/* ---- connect */

static void op_start_connect(struct iocp__uring *uring, struct iocp_op *op)
{
    union iocp__uring_scratch *scratch;
    struct io_uring_sqe *sqe;

    if (op->backend & IOCP__URING_OP_BEGUN) {
        op_poll(uring, op, POLLOUT);
        return;
    }
    sqe = op_sqe(uring, op, IORING_OP_CONNECT, &scratch);
    scratch->address = *op->u.io.address;
    sqe->addr = (uintptr_t)scratch->address.storage.bytes;
    sqe->off = scratch->address.size;
}

/* The connection that lost its request can be written to: it is there or it failed. */
static void op_connect_settled(struct iocp__uring *uring, struct iocp_op *op)
{
    struct iocp__tried tried;

    /* `hung_up`: a connection that is under way cannot be written to. One that is neither there nor
     * failed was not even begun: a Unix listener whose backlog was full. */
    if (iocp__try_connected(op->owner->handle, 1, &tried) == IOCP__TRY_DONE)
        op_end(uring, op, 0);
    else
        op_fail(uring, op, tried.os_error);
}

/* ---- What is tried by this thread: datagrams with addresses, for which a request would need
 * memory until it ends, and receives without memory. A poll when that has to wait. */

static void op_start_tried(struct iocp__uring *uring, struct iocp_op *op)
{
    int sends = op->kind == IOCP_OP_SEND_TO;
    struct iocp_address *address = op->kind == IOCP_OP_RECV ? NULL : op->u.io.address;
    struct iocp__tried tried;
    enum iocp__try outcome = sends
                                 ? iocp__try_send(op, IOCP__NATURE_DATAGRAM, &tried)
                                 : iocp__try_recv(op->owner->handle, IOCP__NATURE_DATAGRAM,
                                                  op->u.io.slices, op->u.io.count, address, &tried);

    if (outcome == IOCP__TRY_FAILED) {
        op_fail(uring, op, tried.os_error);
    } else if (outcome != IOCP__TRY_BLOCKED) {
        op_end(uring, op, tried.result);
        op->event.flags |= tried.flags;
    } else if (op->backend & IOCP__URING_OP_CANCELED) {
        op_end(uring, op, IOCP_ECANCELED);
    } else {
        op_poll(uring, op, sends ? POLLOUT : POLLIN);
    }
}

/* ---- Files. */

static void op_start_file(struct iocp__uring *uring, struct iocp_op *op)
{
    int reads = op->kind == IOCP_OP_READ;
    struct io_uring_sqe *sqe = op_sqe(uring, op, reads ? IORING_OP_READ : IORING_OP_WRITE, NULL);

    sqe->addr = (uintptr_t)op->u.file.one.data + op->progress;
    sqe->len = op_chunk(op->u.file.one.size - op->progress);
    sqe->off = op->u.file.offset + op->progress;
    if (op->backend & IOCP__URING_OP_BLOCKING)
        sqe->flags = IOSQE_ASYNC;
}

static void op_file_moved(struct iocp__uring *uring, struct iocp_op *op, int32_t result)
{
    int full = (uint32_t)result == op_chunk(op->u.file.one.size - op->progress);
    int reads = op->kind == IOCP_OP_READ;

    op->progress += (uint32_t)result;
    if (op->progress == op->u.file.one.size || (reads && !full && op->progress))
        op_end(uring, op, (int64_t)op->progress);
    else if (reads && !result)
        op_end(uring, op, IOCP_EEOF);
    else if (!result)
        op_fail(uring, op, EIO);
    else
        op_again(uring, op);
}

/* ---- poll */

static void op_start_poll(struct iocp__uring *uring, struct iocp_op *op)
{
    uint32_t events = 0;

    if (op_object(op) & OP_OBJECT_FILE) {
        op_end(uring, op, IOCP_ENOTSUP);
        return;
    }
    if (op->u.poll_events & IOCP_POLL_READ)
        events |= POLLIN;
    if (op->u.poll_events & IOCP_POLL_WRITE)
        events |= POLLOUT;
    op_poll(uring, op, events);
}

static void op_polled_for_user(struct iocp__uring *uring, struct iocp_op *op, int32_t events)
{
    int64_t result = 0;

    if (events & POLLIN)
        result |= IOCP_POLL_READ;
    if (events & POLLOUT)
        result |= IOCP_POLL_WRITE;
    if (events & (POLLERR | POLLHUP))
        result |= IOCP_POLL_ERROR;
    op_end(uring, op, result);
}

/* ---- All. */

void iocp__uring_start(struct iocp__uring *uring, struct iocp_op *op)
{
    switch (op->kind) {
    case IOCP_OP_RECV:
        op_start_recv(uring, op);
        break;
    case IOCP_OP_RECV_STREAM:
        op_start_stream(uring, op);
        break;
    case IOCP_OP_SEND:
        op_start_send(uring, op);
        break;
    case IOCP_OP_ACCEPT:
    case IOCP_OP_ACCEPT_STREAM:
        op_start_accept(uring, op);
        break;
    case IOCP_OP_CONNECT:
        op_start_connect(uring, op);
        break;
    case IOCP_OP_RECV_FROM:
    case IOCP_OP_SEND_TO:
        op_start_tried(uring, op);
        break;
    case IOCP_OP_READ:
    case IOCP_OP_WRITE:
        op_start_file(uring, op);
        break;
    case IOCP_OP_POLL:
        op_start_poll(uring, op);
        break;
    default:
        iocp__assert(!"an op that a backend does not take");
    }
}

/* A poll has come true. */
static void op_polled(struct iocp__uring *uring, struct iocp_op *op, int32_t events)
{
    if (op->kind == IOCP_OP_POLL)
        op_polled_for_user(uring, op, events);
    else if (op->kind == IOCP_OP_CONNECT)
        op_connect_settled(uring, op);
    else if (op->kind == IOCP_OP_RECV_FROM || op->kind == IOCP_OP_SEND_TO ||
             (op->kind == IOCP_OP_RECV && !op_wants_bytes(op)))
        op_start_tried(uring, op);
    else
        op_again(uring, op);
}

static void op_succeeded(struct iocp__uring *uring, struct iocp_op *op, int32_t result)
{
    switch (op->kind) {
    case IOCP_OP_RECV:
        op_received(uring, op, result);
        break;
    case IOCP_OP_SEND:
        op_sent(uring, op, result);
        break;
    case IOCP_OP_READ:
    case IOCP_OP_WRITE:
        op_file_moved(uring, op, result);
        break;
    default:
        op_end(uring, op, result);
    }
}

void iocp__uring_complete(struct iocp__uring *uring, struct iocp_op *op,
                          const struct iocp__cqe *cqe)
{
    int polling = op->backend & IOCP__URING_OP_POLLING;

    op->backend &= (uint8_t)~IOCP__URING_OP_POLLING;
    if (polling && cqe->result >= 0)
        op_polled(uring, op, cqe->result);
    else if (op->kind == IOCP_OP_RECV_STREAM)
        op_stream_complete(uring, op, cqe);
    else if (op_is_cut_off(cqe->result))
        op_cut_off(uring, op);
    else if (op->kind == IOCP_OP_ACCEPT || op->kind == IOCP_OP_ACCEPT_STREAM)
        op_accept_complete(uring, op, cqe);
    else if (cqe->result >= 0)
        op_succeeded(uring, op, cqe->result);
    else if (cqe->result == -EAGAIN)
        op_must_wait(uring, op);
    else
        op_fail(uring, op, -cqe->result);
}
