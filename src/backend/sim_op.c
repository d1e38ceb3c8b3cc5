/* The simulated backend's ops: what one attempt of each kind does. See sim.c. */
#include "backend/sim.h"

#include "backend/buffer.h"

#include "base/atomic.h"

#define SIM_ROUNDS 3 /* answers of a stream in one attempt, at most */

uint32_t iocp__sim_backend_below(uint32_t count)
{
    return iocp__sim_below(IOCP__SIM_BACKEND, count);
}

uint64_t iocp__sim_soon_ns(void)
{
    if (!iocp__sim_chance(IOCP__SIM_LATE))
        return 0;
    return iocp__sim_now_ns() + iocp__sim_backend_below(iocp__sim_backend_below(4)
                                                            ? IOCP__SIM_LATE_NS / 50
                                                            : IOCP__SIM_LATE_NS);
}

/* ---- Answers. */

/* The last one. */
void iocp__sim_finish(struct iocp__sim_entry *entry, int64_t result)
{
    int system = result < 0 && result != IOCP_ECANCELED && result != IOCP_EEOF;
    iocp__sim_trace("op %u of handle %d: %lld", entry->op->kind, (int)entry->handle,
                    (long long)result);
    iocp__op_done(&entry->held, entry->op, result, system ? iocp__sim_os_error(result) : 0);
    entry->finished = 1;
    entry->due_ns = UINT64_MAX;
    entry->cancel_ns = UINT64_MAX;
}

/* Decides about an outcome: IOCP_EAGAIN waits for the network. Not 0 when the op is finished. */
static int sim_settle(struct iocp__sim_entry *entry, int64_t result)
{
    if (result != IOCP_EAGAIN)
        iocp__sim_finish(entry, result);
    return result != IOCP_EAGAIN;
}

/* ---- Attempts: one for each kind. */

/* Fills one piece after the other: how many bytes, or what the first one gave. */
static int64_t sim_recv_slices(struct iocp__sim_entry *entry)
{
    const struct iocp_op *op = entry->op;
    int64_t sum = 0;
    for (uint32_t i = 0; i < op->u.io.count; i++) {
        const struct iocp_slice *slice = &op->u.io.slices[i];
        if (!slice->size)
            continue;
        int64_t result = iocp__sim_recv(entry->handle, slice->data, slice->size);
        if (result < 0)
            return sum ? sum : result;
        sum += result;
        if ((uint64_t)result < slice->size)
            break;
    }
    return sum;
}

uint64_t iocp__sim_size(const struct iocp_op *op)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < op->u.io.count; i++)
        size += op->u.io.slices[i].size;
    return size;
}

static void sim_attempt_recv(struct iocp__sim_entry *entry)
{
    int64_t result;
    if (iocp__sim_size(entry->op))
        result = sim_recv_slices(entry);
    else
        result = iocp__sim_readable(entry->handle) ? 0 : IOCP_EAGAIN;
    (void)sim_settle(entry, result);
}

/* ---- Datagrams: what lies in several pieces goes through one. */

static void sim_attempt_recv_from(struct iocp__sim_entry *entry, struct iocp_address *address)
{
    const struct iocp_op *op = entry->op;
    uint64_t size = iocp__sim_size(op);
    unsigned char *bytes = iocp__sim_allocate((size_t)size + 1);
    int64_t result = iocp__sim_recv_from(entry->handle, bytes, (size_t)size, address);
    uint64_t count = result > 0 ? (uint64_t)result < size ? (uint64_t)result : size : 0;
    for (uint64_t i = 0, at = 0; i < op->u.io.count; at += op->u.io.slices[i++].size) {
        unsigned char *to = op->u.io.slices[i].data;
        for (uint64_t j = 0; j < op->u.io.slices[i].size && at + j < count; j++)
            to[j] = bytes[at + j];
    }
    iocp__sim_release(bytes);
    if (sim_settle(entry, result < 0 ? result : (int64_t)count) && result > (int64_t)count)
        entry->op->event.flags = IOCP_PACKET_TRUNCATED;
}

static void sim_attempt_send_to(struct iocp__sim_entry *entry, const struct iocp_address *address)
{
    const struct iocp_op *op = entry->op;
    uint64_t size = iocp__sim_size(op);
    unsigned char *bytes = iocp__sim_allocate((size_t)size + 1);
    for (uint64_t i = 0, at = 0; i < op->u.io.count; at += op->u.io.slices[i++].size) {
        const unsigned char *from = op->u.io.slices[i].data;
        for (uint64_t j = 0; j < op->u.io.slices[i].size; j++)
            bytes[at + j] = from[j];
    }
    iocp__sim_finish(entry, iocp__sim_send_to(entry->handle, bytes, (size_t)size, address));
    iocp__sim_release(bytes);
}

/* ---- Files and polls. */

static void sim_attempt_file(struct iocp__sim_entry *entry)
{
    const struct iocp_op *op = entry->op;
    const struct iocp_slice *slice = &op->u.file.one;
    int64_t result;
    if (op->kind == IOCP_OP_READ)
        result = iocp__sim_file_read(entry->handle, slice->data, slice->size, op->u.file.offset);
    else
        result = iocp__sim_file_write(entry->handle, slice->data, slice->size, op->u.file.offset);
    iocp__sim_finish(entry, result);
}

static void sim_attempt_poll(struct iocp__sim_entry *entry)
{
    uint32_t wanted = entry->op->u.poll_events;
    int64_t events = 0;
    if ((wanted & IOCP_POLL_READ) && iocp__sim_readable(entry->handle))
        events |= IOCP_POLL_READ;
    if ((wanted & IOCP_POLL_WRITE) && iocp__sim_writable(entry->handle))
        events |= IOCP_POLL_WRITE;
    if (iocp__sim_hung_up(entry->handle))
        events |= IOCP_POLL_ERROR;
    (void)sim_settle(entry, events ? events : IOCP_EAGAIN);
}

/* ---- Streams that are answered many times. */

/* A buffer came back, on whatever thread. */
static void sim_refill(void *context)
{
    struct iocp__sim_lane *lane = context;
    for (struct iocp__sim_entry *entry = lane->entries; entry; entry = entry->next) {
        if (!entry->starved)
            continue;
        entry->starved = 0;
        entry->due_ns = 0;
    }
}

static void sim_starve(struct iocp__sim_lane *lane, struct iocp__sim_entry *entry)
{
    iocp__sim_trace("handle %d finds no buffer", (int)entry->handle);
    entry->starved = 1;
    /* Relaxed: a counter. */
    iocp__add_relaxed(lane->base.starved, 1);
    if (!iocp__pool_arm(lane->base.pool, sim_refill, lane))
        sim_refill(lane);
}

static void sim_attempt_recv_stream(struct iocp__sim_lane *lane, struct iocp__sim_entry *entry)
{
    for (int i = 0; i < SIM_ROUNDS && iocp__sim_readable(entry->handle); i++) {
        struct iocp_buffer *buffer;
        if (iocp_buffer_take(lane->base.pool, &buffer) < 0) {
            sim_starve(lane, entry);
            return;
        }
        int64_t result =
            iocp__sim_recv(entry->handle, iocp_buffer_data(buffer), iocp_buffer_capacity(buffer));
        if (result > 0) {
            iocp__sim_trace("handle %d receives %lld", (int)entry->handle, (long long)result);
            iocp__stream_received(&entry->held, entry->op, buffer, (uint32_t)result);
            continue;
        }
        iocp_buffer_unref(buffer);
        if (sim_settle(entry, result))
            return;
    }
    if (iocp__sim_readable(entry->handle))
        entry->due_ns = iocp__sim_soon_ns();
}

static void sim_attempt_accept(struct iocp__sim_entry *entry)
{
    for (int i = 0; i < SIM_ROUNDS; i++) {
        iocp_handle handle = IOCP_HANDLE_INVALID;
        int error = iocp__sim_accept(entry->handle, &handle);
        if (error < 0) {
            (void)sim_settle(entry, error);
            return;
        }
        iocp__sim_trace("handle %d accepts %d", (int)entry->handle, (int)handle);
        if (entry->op->kind == IOCP_OP_ACCEPT) {
            iocp__sim_finish(entry, handle);
            return;
        }
        iocp__stream_accepted(&entry->held, entry->op, handle);
    }
    entry->due_ns = iocp__sim_soon_ns();
}

static void sim_attempt_send(struct iocp__sim_entry *entry)
{
    struct iocp_op *op = entry->op;
    uint64_t skip = op->progress;
    uint32_t i = 0;
    while (i < op->u.io.count && skip >= op->u.io.slices[i].size)
        skip -= op->u.io.slices[i++].size;
    if (i == op->u.io.count) {
        iocp__sim_finish(entry, (int64_t)op->progress);
        return;
    }
    const struct iocp_slice *slice = &op->u.io.slices[i];
    int64_t result =
        iocp__sim_send(entry->handle, (const char *)slice->data + skip, slice->size - (size_t)skip);
    if (result >= 0) {
        op->progress += (uint64_t)result;
        entry->due_ns = iocp__sim_soon_ns();
    } else {
        (void)sim_settle(entry, result);
    }
}

static void sim_attempt_connect(struct iocp__sim_entry *entry)
{
    int result = IOCP_EAGAIN;
    if (entry->connecting)
        result = iocp__sim_connected(entry->handle);
    else
        result = iocp__sim_connect(entry->handle, entry->op->u.io.address);
    if (!entry->connecting && result == 0)
        result = IOCP_EAGAIN;
    entry->connecting = 1;
    (void)sim_settle(entry, result);
}

static void sim_attempt_stream(struct iocp__sim_lane *lane, struct iocp__sim_entry *entry)
{
    switch (entry->op->kind) {
    case IOCP_OP_RECV:
        sim_attempt_recv(entry);
        return;
    case IOCP_OP_RECV_STREAM:
        sim_attempt_recv_stream(lane, entry);
        return;
    case IOCP_OP_SEND:
        sim_attempt_send(entry);
        return;
    case IOCP_OP_ACCEPT:
    case IOCP_OP_ACCEPT_STREAM:
        sim_attempt_accept(entry);
        return;
    case IOCP_OP_CONNECT:
        sim_attempt_connect(entry);
        return;
    case IOCP_OP_POLL:
        sim_attempt_poll(entry);
        return;
    case IOCP_OP_READ:
    case IOCP_OP_WRITE:
        sim_attempt_file(entry);
        return;
    default:
        iocp__sim_finish(entry, IOCP_ENOTSUP);
    }
}

static void sim_attempt_kind(struct iocp__sim_lane *lane, struct iocp__sim_entry *entry)
{
    if (!iocp__sim_is_datagram(entry->handle)) {
        sim_attempt_stream(lane, entry);
        return;
    }
    switch (entry->op->kind) {
    case IOCP_OP_RECV:
        sim_attempt_recv_from(entry, NULL);
        return;
    case IOCP_OP_RECV_FROM:
        sim_attempt_recv_from(entry, entry->op->u.io.address);
        return;
    case IOCP_OP_SEND:
        sim_attempt_send_to(entry, NULL);
        return;
    case IOCP_OP_SEND_TO:
        sim_attempt_send_to(entry, entry->op->u.io.address);
        return;
    default:
        sim_attempt_stream(lane, entry);
    }
}

static int sim_moves_bytes(const struct iocp_op *op)
{
    return op->kind == IOCP_OP_RECV || op->kind == IOCP_OP_RECV_STREAM || op->kind == IOCP_OP_SEND;
}

void iocp__sim_attempt(struct iocp__sim_lane *lane, struct iocp__sim_entry *entry)
{
    entry->due_ns = UINT64_MAX;
    iocp__sim_looked(0);
    if (sim_moves_bytes(entry->op) && iocp__sim_chance(IOCP__SIM_RESET))
        iocp__sim_reset(entry->handle);
    if (!entry->op->progress && !entry->connecting && iocp__sim_chance(IOCP__SIM_REFUSE))
        iocp__sim_finish(entry, iocp__sim_backend_below(2) ? IOCP_ENOMEM : IOCP_ENOBUFS);
    else
        sim_attempt_kind(lane, entry);
    if (entry->held.first)
        entry->held_ns = iocp__sim_soon_ns();
}
