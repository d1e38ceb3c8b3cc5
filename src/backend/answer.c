/* How a backend says that something is finished: the events that go from it to the port.
 *
 * All events of a queue are the lane holder's alone, so nothing here is atomic or locked. */
#include "backend/backend.h"
#include "backend/buffer.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "os/os.h"

static void answer_push(struct iocp__queue *done, struct iocp_event *event, struct iocp_op *op,
                        int64_t result, uint32_t flags)
{
    event->op = op;
    event->result = result;
    event->buffer = NULL;
    event->os_error = 0;
    event->flags = flags;
    iocp__queue_push(done, event);
}

void iocp__stream_received(struct iocp__queue *done, struct iocp_op *op, struct iocp_buffer *buffer,
                           uint32_t size)
{
    iocp__debug(op->kind == IOCP_OP_RECV_STREAM);
    iocp__debug(size > 0);
    iocp_buffer_set_size(buffer, size);
    answer_push(done, &buffer->event, op, size, IOCP_PACKET_MORE);
    buffer->event.buffer = buffer;
}

void iocp__stream_accepted(struct iocp__queue *done, struct iocp_op *op, iocp_handle handle)
{
    struct iocp_event *event = iocp__allocate(sizeof(*event));

    iocp__debug(op->kind == IOCP_OP_ACCEPT_STREAM);
    if (!event) {
        /* The peer sees its connection end; the stream goes on with the next. */
        iocp__handle_close(handle);
        return;
    }
    answer_push(done, event, op, handle, IOCP_PACKET_MORE);
}

void iocp__event_free(struct iocp_event *event)
{
    iocp__assert(event != &event->op->event && !event->buffer);
    iocp__release(event, sizeof(*event));
}

void iocp__op_done(struct iocp__queue *done, struct iocp_op *op, int64_t result, int32_t os_error)
{
    iocp__debug(result < 0 || os_error == 0);
    answer_push(done, &op->event, op, result, 0);
    op->event.os_error = os_error;
}

void iocp__op_failed(struct iocp__queue *done, struct iocp_op *op, int32_t os_error)
{
    iocp__assert(os_error != 0); /* it would be a success */
    iocp__op_done(done, op, iocp_error_from_os(os_error), os_error);
}

int iocp__op_advance(struct iocp_op *op, uint64_t sent)
{
    op->progress += sent;
    while (op->u.io.count && op->u.io.slices->size <= sent) {
        sent -= op->u.io.slices->size;
        op->u.io.slices++;
        op->u.io.count--;
    }
    if (!op->u.io.count) {
        iocp__assert(sent == 0); /* no more than there was */
        return 0;
    }
    op->u.io.slices->data = (char *)op->u.io.slices->data + sent;
    op->u.io.slices->size -= (iocp_slice_size)sent;
    return 1;
}

int iocp__probe_error(int os_error)
{
    int error = iocp_error_from_os(os_error);
    return error == IOCP_ENOMEM || error == IOCP_EMFILE ? error : IOCP_ENOTSUP;
}

enum iocp__direction iocp__op_direction(const struct iocp_op *op)
{
    switch (op->kind) {
    case IOCP_OP_RECV:
    case IOCP_OP_RECV_FROM:
    case IOCP_OP_RECV_STREAM:
    case IOCP_OP_ACCEPT:
    case IOCP_OP_ACCEPT_STREAM:
        return IOCP__READ;
    case IOCP_OP_SEND:
    case IOCP_OP_SEND_TO:
    case IOCP_OP_CONNECT:
    case IOCP_OP_DISCONNECT:
        return IOCP__WRITE;
    case IOCP_OP_POLL:
        return IOCP__POLL;
    default:
        return IOCP__UNDIRECTED;
    }
}
