/* Preparing operations: writes into the op and nothing else. */
#include "core/op.h"

#include "base/atomic.h"
#include "os/os.h"

#include <string.h>

static void op_prepare(struct iocp_op *op, enum iocp_op_kind kind)
{
    memset(&op->u, 0, sizeof(op->u));
    op->event.os_error = 0;
    op->event.flags = 0;
    op->event.buffer = NULL;
    op->event.result = 0;
    op->progress = 0;
    op->backend = 0;
    op->backend_data = 0;
    op->flags = 0;
    op->kind = (uint8_t)kind;
    /* Relaxed: the op is the caller's alone until submit. */
    iocp__store_relaxed(&op->state, IOCP__OP_PREPARED);
}

/* Where the system's slices have 32 bits, a longer one is no operation: submit refuses it. */
static void op_check_size(struct iocp_op *op, int fits)
{
    if (!fits)
        iocp__store_relaxed(&op->state, IOCP__OP_IDLE);
}

static void op_prepare_one(struct iocp_op *op, enum iocp_op_kind kind, const void *data,
                           size_t size)
{
    op_prepare(op, kind);
    op->u.io.one.data = (void *)(uintptr_t)data;
    op->u.io.one.size = (iocp_slice_size)size;
    op->u.io.slices = &op->u.io.one;
    op->u.io.count = 1;
    op_check_size(op, op->u.io.one.size == size);
}

void iocp_op_init(struct iocp_op *op, iocp_handler *handler)
{
    memset(op, 0, sizeof(*op));
    op->event.op = op;
    op->handler = handler;
}

void iocp_op_recv(struct iocp_op *op, void *data, size_t size)
{
    op_prepare_one(op, IOCP_OP_RECV, data, size);
}

void iocp_op_recv_slices(struct iocp_op *op, struct iocp_slice *slices, uint32_t count)
{
    op_prepare(op, IOCP_OP_RECV);
    op->u.io.slices = slices;
    op->u.io.count = count;
}

void iocp_op_recv_stream(struct iocp_op *op)
{
    op_prepare(op, IOCP_OP_RECV_STREAM);
}

void iocp_op_send(struct iocp_op *op, const void *data, size_t size)
{
    op_prepare_one(op, IOCP_OP_SEND, data, size);
}

void iocp_op_send_slices(struct iocp_op *op, struct iocp_slice *slices, uint32_t count)
{
    op_prepare(op, IOCP_OP_SEND);
    op->u.io.slices = slices;
    op->u.io.count = count;
}

void iocp__op_send_late(struct iocp_op *op, void (*gather)(struct iocp_op *op),
                        int (*landed)(struct iocp_op *op))
{
    op_prepare(op, IOCP_OP_SEND);
    op->flags = IOCP__OP_LATE;
    op->u.late.gather = gather;
    op->u.late.landed = landed;
}

void iocp_op_accept(struct iocp_op *op)
{
    op_prepare(op, IOCP_OP_ACCEPT);
}

void iocp_op_accept_stream(struct iocp_op *op)
{
    op_prepare(op, IOCP_OP_ACCEPT_STREAM);
}

void iocp_op_connect(struct iocp_op *op, struct iocp_address *address)
{
    op_prepare(op, IOCP_OP_CONNECT);
    op->u.io.address = address;
}

void iocp_op_disconnect(struct iocp_op *op)
{
    op_prepare(op, IOCP_OP_DISCONNECT);
}

void iocp_op_recv_from(struct iocp_op *op, void *data, size_t size, struct iocp_address *address)
{
    op_prepare_one(op, IOCP_OP_RECV_FROM, data, size);
    op->u.io.address = address;
}

void iocp_op_send_to(struct iocp_op *op, const void *data, size_t size,
                     struct iocp_address *address)
{
    op_prepare_one(op, IOCP_OP_SEND_TO, data, size);
    op->u.io.address = address;
}

static void op_prepare_file(struct iocp_op *op, enum iocp_op_kind kind, const void *data,
                            size_t size, uint64_t offset)
{
    op_prepare(op, kind);
    op->u.file.one.data = (void *)(uintptr_t)data;
    op->u.file.one.size = (iocp_slice_size)size;
    op->u.file.offset = offset;
    op_check_size(op, op->u.file.one.size == size);
}

void iocp_op_read(struct iocp_op *op, void *data, size_t size, uint64_t offset)
{
    op_prepare_file(op, IOCP_OP_READ, data, size, offset);
}

void iocp_op_write(struct iocp_op *op, const void *data, size_t size, uint64_t offset)
{
    op_prepare_file(op, IOCP_OP_WRITE, data, size, offset);
}

void iocp_op_poll(struct iocp_op *op, uint32_t events)
{
    op_prepare(op, IOCP_OP_POLL);
    op->u.poll_events = events;
}

void iocp_op_timer(struct iocp_op *op, uint64_t timeout_ns, uintptr_t key)
{
    uint64_t now = iocp__os_now_ns();
    op_prepare(op, IOCP_OP_TIMER);
    op->u.timer.key = key;
    op->u.timer.deadline_ns = timeout_ns < UINT64_MAX - now ? now + timeout_ns : UINT64_MAX - 1;
}

void iocp_op_post(struct iocp_op *op, uintptr_t key, int64_t result)
{
    op_prepare(op, IOCP_OP_POST);
    op->u.post.key = key;
    op->event.result = result;
}

int iocp_op_pending(const struct iocp_op *op)
{
    /* Acquire: who sees the op idle sees what its last answer wrote. */
    return iocp__load_acquire(&op->state) >= IOCP__OP_SENT;
}
