/* The buffers that the streams of an io_uring lane receive into, and the streams that found none.
 *
 * The kernel takes a buffer only when there are bytes for it, so an idle stream pins none.
 *
 * 1. table[id] is NULL exactly when id is in `holes`: hole_count of `entries`.
 * 2. All other buffers are the kernel's: in the ring, or named by a completion not yet taken. Each
 * holds the one reference that it left the pool with.
 * 3. The ring is filled up to `target`, not to its size, because the kernel goes round it: memory
 * that is not needed is not touched and stays out of the caches. The target doubles when more than
 * half of it went at once, and halves when for a while never more than an eighth did.
 * 4. A stream is starved when it found the ring empty. It is in `starved`, has nothing in the
 * kernel, and is started again when there are buffers; at most one per buffer at a time, since a
 * stream that finds none again would only have cost the time.
 * 5. The pool is asked for a call (the bell) only when streams are starved and the ring is empty:
 * then all buffers are with others, and one comes back some day.
 *
 * A stream: in the kernel → starved [starve] → in the kernel [feed], or answered [feed, when
 * canceled] */
#include "backend/buffer.h"
#include "backend/uring.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"

#include <errno.h>
#include <sys/mman.h>

#define BUFFERS_ENTRIES_MAX 32768         /* the kernel's limit */
#define BUFFERS_LEAST_BYTES (256u * 1024) /* of the buffers that the ring always has */
#define BUFFERS_LEAST_MIN 4
#define BUFFERS_LEAST_MAX 16
#define BUFFERS_CALM 64 /* fills in a row that took little, before the target halves */
#define BUFFERS_BATCH 32

static int buffers_is_valid(const struct iocp__uring_buffers *buffers)
{
    uint32_t holes = 0;
    uint32_t i;

    for (i = 0; i < buffers->entries; i++)
        holes += buffers->table[i] == NULL;
    return holes == buffers->hole_count && buffers->target <= buffers->entries;
}

static int buffers_register(struct iocp__uring *uring)
{
    struct iocp__uring_buffers *buffers = &uring->buffers;
    struct io_uring_buf_reg argument = {0};

    argument.ring_addr = (uintptr_t)buffers->ring;
    argument.ring_entries = buffers->entries;
    return iocp__ring_register(&uring->ring, IORING_REGISTER_PBUF_RING, &argument, 1);
}

/* Few large ones or more small ones: idle lanes need little memory. */
static uint32_t buffers_least(const struct iocp_pool *pool, uint32_t entries)
{
    size_t least = BUFFERS_LEAST_BYTES / iocp__pool_capacity(pool);

    least = least < BUFFERS_LEAST_MIN ? BUFFERS_LEAST_MIN : least;
    least = least > BUFFERS_LEAST_MAX ? BUFFERS_LEAST_MAX : least;
    return least < entries ? (uint32_t)least : entries;
}

int iocp__uring_buffers_init(struct iocp__uring *uring, uint32_t buffer_count)
{
    struct iocp__uring_buffers *buffers = &uring->buffers;
    uint32_t entries = 1;
    uint32_t i;
    void *ring;
    int error;

    while (entries * 2 <= buffer_count && entries < BUFFERS_ENTRIES_MAX)
        entries *= 2;
    buffers->entries = entries;
    buffers->target_least = buffers_least(uring->kernel.pool, entries);
    buffers->target = buffers->target_least;
    buffers->table = iocp__allocate_zero(entries * sizeof(*buffers->table));
    buffers->holes = iocp__allocate(entries * sizeof(*buffers->holes));
    /* The kernel wants whole pages. */
    ring = mmap(NULL, entries * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    buffers->ring = ring == MAP_FAILED ? NULL : ring;
    if (!buffers->table || !buffers->holes || !buffers->ring)
        return IOCP_ENOMEM;
    /* The lowest ids on top. */
    for (i = 0; i < entries; i++)
        buffers->holes[i] = (uint16_t)(entries - 1 - i);
    buffers->hole_count = entries;
    error = buffers_register(uring);
    if (error < 0)
        return error == -ENOMEM ? IOCP_ENOMEM : IOCP_ENOTSUP;
    return 0;
}

void iocp__uring_buffers_fini(struct iocp__uring *uring)
{
    struct iocp__uring_buffers *buffers = &uring->buffers;
    uint32_t i;

    if (buffers->armed)
        iocp__pool_arm(uring->kernel.pool, NULL, NULL);
    for (i = 0; buffers->table && i < buffers->entries; i++)
        iocp_buffer_unref(buffers->table[i]);
    iocp__release(buffers->table, buffers->entries * sizeof(*buffers->table));
    iocp__release(buffers->holes, buffers->entries * sizeof(*buffers->holes));
    if (buffers->ring)
        munmap(buffers->ring, buffers->entries * sizeof(struct io_uring_buf));
}

static uint32_t buffers_filled(const struct iocp__uring_buffers *buffers)
{
    return buffers->entries - buffers->hole_count;
}

/* Puts the buffer of an id behind the others; `publish` shows it to the kernel. */
static void buffers_add(struct iocp__uring_buffers *buffers, uint32_t id)
{
    struct io_uring_buf *entry = &buffers->ring->bufs[buffers->tail & (buffers->entries - 1)];

    /* Member by member: the tail of the ring lies over the last member of the first entry. */
    entry->addr = (uintptr_t)iocp_buffer_data(buffers->table[id]);
    entry->len = (uint32_t)iocp_buffer_capacity(buffers->table[id]);
    entry->bid = (uint16_t)id;
    buffers->tail++;
}

static void buffers_publish(struct iocp__uring_buffers *buffers)
{
    /* Release: the entries are written before the kernel may look at them. */
    iocp__store_release(&buffers->ring->tail, buffers->tail);
}

/* Adapts the target to what went since the last fill. */
static void buffers_adapt(struct iocp__uring_buffers *buffers)
{
    uint32_t went = buffers->target - buffers_filled(buffers);
    int calm = !buffers->wanted && went <= buffers->target / 8;
    int first = buffers_filled(buffers) == 0 && !buffers->tail; /* it says nothing of the need */

    buffers->calm = calm ? buffers->calm + 1 : 0;
    if (first)
        return;
    if ((buffers->wanted || went > buffers->target / 2) && buffers->target < buffers->entries)
        buffers->target *= 2;
    if (buffers->calm == BUFFERS_CALM && buffers->target > buffers->target_least) {
        buffers->target /= 2;
        buffers->calm = 0;
    }
    buffers->wanted = 0;
}

void iocp__uring_buffers_fill(struct iocp__uring *uring)
{
    struct iocp__uring_buffers *buffers = &uring->buffers;
    struct iocp_buffer *batch[BUFFERS_BATCH];
    uint32_t asked = 0;
    uint32_t got = 0;
    uint32_t i;

    if (!buffers->used || buffers_filled(buffers) >= buffers->target)
        return;
    buffers_adapt(buffers);
    while (got == asked && buffers_filled(buffers) < buffers->target) {
        asked = buffers->target - buffers_filled(buffers);
        asked = asked < BUFFERS_BATCH ? asked : BUFFERS_BATCH;
        got = iocp__pool_take_many(uring->kernel.pool, batch, asked);
        for (i = 0; i < got; i++) {
            uint32_t id = buffers->holes[--buffers->hole_count];
            buffers->table[id] = batch[i];
            buffers_add(buffers, id);
        }
    }
    buffers_publish(buffers);
    iocp__check(buffers_is_valid(buffers));
}

struct iocp_buffer *iocp__uring_buffers_take(struct iocp__uring *uring, uint32_t id)
{
    struct iocp__uring_buffers *buffers = &uring->buffers;
    struct iocp_buffer *buffer;

    iocp__assert(id < buffers->entries && buffers->table[id]);
    buffer = buffers->table[id];
    buffers->table[id] = NULL;
    buffers->holes[buffers->hole_count++] = (uint16_t)id;
    return buffer;
}

void iocp__uring_buffers_keep(struct iocp__uring *uring, uint32_t id)
{
    struct iocp__uring_buffers *buffers = &uring->buffers;

    iocp__assert(id < buffers->entries && buffers->table[id]);
    buffers_add(buffers, id);
    buffers_publish(buffers);
}

/* ---- Starved streams. */

void iocp__uring_starve(struct iocp__uring *uring, struct iocp_op *op)
{
    op->backend |= IOCP__URING_OP_STARVED;
    uring->buffers.wanted = 1;
    uring->hungry = 1;
    iocp__queue_push(&uring->starved, &op->event);
    /* Relaxed: a counter that others only read. */
    iocp__add_relaxed(uring->kernel.starved, 1);
}

static struct iocp_op *starved_pop(struct iocp__uring *uring)
{
    struct iocp_event *event = iocp__queue_pop(&uring->starved);
    struct iocp_op *op = iocp__container(event, struct iocp_op, event);

    op->backend &= (uint8_t)~IOCP__URING_OP_STARVED;
    return op;
}

/* Answers those that were canceled. */
static void starved_sweep(struct iocp__uring *uring)
{
    uint32_t count = uring->starved.count;

    for (; count; count--) {
        struct iocp_op *op = starved_pop(uring);
        if (op->backend & IOCP__URING_OP_CANCELED) {
            iocp__op_done(&uring->finished, op, IOCP_ECANCELED, 0);
            continue;
        }
        op->backend |= IOCP__URING_OP_STARVED;
        iocp__queue_push(&uring->starved, &op->event);
    }
    uring->starved_canceled = 0;
}

static void starved_ready(void *context)
{
    struct iocp__uring *uring = context;

    iocp__uring_bell(&uring->kernel);
}

void iocp__uring_feed(struct iocp__uring *uring)
{
    struct iocp__uring_buffers *buffers = &uring->buffers;
    uint32_t count;

    iocp__uring_buffers_fill(uring);
    if (uring->starved_canceled)
        starved_sweep(uring);
    count = buffers_filled(buffers);
    while (count && uring->starved.count) {
        iocp__uring_start(uring, starved_pop(uring));
        count--;
    }
    uring->hungry = uring->starved.count != 0;
    if (!uring->hungry || buffers_filled(buffers))
        return;
    buffers->armed = 1;
    if (iocp__pool_arm(uring->kernel.pool, starved_ready, uring))
        uring->hungry = 0;
}
