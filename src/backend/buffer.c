/* Pooled, ref-counted buffers. It is no general allocator: all buffers of a pool have one capacity,
 * and memory goes back to the system only with the whole pool.
 *
 * Invariants of a pool, under its lock:
 * 1. count = buffers in the free list + out; what a thread is about to allocate is counted in `out`
 *    already; `lent` of those that are out do not count against the bound. 1 <= count, and
 *    out - lent <= count_max if that is not 0.
 * 2. One buffer is made together with the pool. So a pool that has none to give has at least one
 *    with somebody, who will give it back or lend it: who asked by iocp__pool_arm is called some
 *    day.
 * 3. The pool is freed by the thread that brings refs, out and calling to 0. One thread alone sees
 *    that, since each change is made under the lock; after it nobody may name the pool.
 * 4. While `ready` is set no free buffer may be taken: the first that may takes `ready` along and
 *    calls it, once for one asking.
 *
 * A buffer: free → out [iocp_buffer_take, iocp__pool_take_many] → lent [iocp__buffer_lend] → free
 * [iocp_buffer_unref of the last reference]. Its `refs` is 0 exactly while it is free. */
#include "backend/buffer.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"

#include <iocp/error.h>

#include <string.h>

#define BUFFER_CAPACITY_MAX (UINT32_C(1) << 31)
#define BUFFER_ALIGN 16
#define POOL_LENT_SHARE 4 /* of the bound: lent for a small part of a buffer */
/* The data begins here, aligned for any type: allocators give memory aligned for any type. */
#define BUFFER_HEADER                                                                              \
    ((sizeof(struct iocp_buffer) + BUFFER_ALIGN - 1) / BUFFER_ALIGN * BUFFER_ALIGN)

struct iocp_pool {
    struct iocp__lock lock;
    uint32_t capacity;
    struct iocp_buffer *free; /* last in, first out: the warmest first */
    size_t count;
    size_t count_max;
    size_t out;
    size_t lent;
    size_t refs;
    size_t calling; /* threads inside of a `ready` */
    void (*ready)(void *context);
    void *context;
    struct iocp__parker *withdrawer; /* waits until calling is 0 */
};

/* The pools whose `ready` this thread is inside of, innermost first: it may not wait for itself. */
struct pool_frame {
    const struct iocp_pool *pool;
    const struct pool_frame *outer;
};

static IOCP__THREAD_LOCAL const struct pool_frame *pool_frames;

/* ---- Single buffers. */

static struct iocp_buffer *buffer_allocate(struct iocp_pool *pool, uint32_t capacity)
{
    struct iocp_buffer *buffer = iocp__allocate(BUFFER_HEADER + capacity);

    if (!buffer)
        return NULL;
    memset(buffer, 0, sizeof(*buffer));
    buffer->pool = pool;
    buffer->capacity = capacity;
    return buffer;
}

static void buffer_free(struct iocp_buffer *buffer)
{
    iocp__release(buffer, BUFFER_HEADER + buffer->capacity);
}

/* From free to out. */
static void buffer_begin(struct iocp_buffer *buffer)
{
    iocp__debug(iocp__load_relaxed(&buffer->refs) == 0);
    buffer->size = 0;
    buffer->lent = 0;
    /* Relaxed: this thread alone knows it. */
    iocp__store_relaxed(&buffer->refs, 1);
}

int iocp_buffer_create(size_t capacity, struct iocp_buffer **out_buffer)
{
    struct iocp_buffer *buffer;

    if (capacity == 0 || capacity > BUFFER_CAPACITY_MAX || !out_buffer)
        return IOCP_EINVAL;
    buffer = buffer_allocate(NULL, (uint32_t)capacity);
    if (!buffer)
        return IOCP_ENOMEM;
    buffer_begin(buffer);
    *out_buffer = buffer;
    return 0;
}

int iocp_buffer_copy(const void *data, size_t size, struct iocp_buffer **out_buffer)
{
    struct iocp_buffer *buffer;
    int error;

    if (!data || !out_buffer)
        return IOCP_EINVAL;
    error = iocp_buffer_create(size, &buffer);
    if (error < 0)
        return error;
    memcpy(iocp_buffer_data(buffer), data, size);
    buffer->size = (uint32_t)size;
    *out_buffer = buffer;
    return 0;
}

void *iocp_buffer_data(struct iocp_buffer *buffer)
{
    return (char *)buffer + BUFFER_HEADER;
}

size_t iocp_buffer_capacity(const struct iocp_buffer *buffer)
{
    return buffer->capacity;
}

size_t iocp_buffer_size(const struct iocp_buffer *buffer)
{
    return buffer->size;
}

void iocp_buffer_set_size(struct iocp_buffer *buffer, size_t size)
{
    iocp__assert(size <= buffer->capacity);
    buffer->size = (uint32_t)size;
}

/* ---- Pools. */

/* How many more may be out without being lent. */
static size_t pool_left(const struct iocp_pool *pool)
{
    return pool->count_max ? pool->count_max - (pool->out - pool->lent) : SIZE_MAX;
}

static int pool_may_give(const struct iocp_pool *pool)
{
    return pool->free && pool_left(pool);
}

/* Holds between any two critical sections. */
static int pool_is_valid(const struct iocp_pool *pool)
{
    size_t free_count = 0;
    const struct iocp_buffer *buffer;

    for (buffer = pool->free; buffer; buffer = buffer->next_free)
        free_count++;
    return pool->count >= 1 && pool->count == free_count + pool->out && pool->lent <= pool->out &&
           (!pool->count_max || pool->out - pool->lent <= pool->count_max) &&
           !(pool->ready && pool_may_give(pool));
}

static void pool_push(struct iocp_pool *pool, struct iocp_buffer *buffer)
{
    buffer->next_free = pool->free;
    pool->free = buffer;
}

static void pool_lock(struct iocp_pool *pool)
{
    iocp__lock_acquire(&pool->lock);
    iocp__check(pool_is_valid(pool));
}

static void pool_destroy(struct iocp_pool *pool)
{
    struct iocp_buffer *buffer;

    while ((buffer = pool->free) != NULL) {
        pool->free = buffer->next_free;
        buffer_free(buffer);
    }
    iocp__release(pool, sizeof(*pool));
}

/* Gives the lock back, and ends the pool when this was the last that kept it. */
static void pool_unlock(struct iocp_pool *pool)
{
    int dead = !pool->refs && !pool->out && !pool->calling;

    iocp__lock_release(&pool->lock);
    if (dead)
        pool_destroy(pool);
}

int iocp_pool_create(size_t capacity, size_t count_max, struct iocp_pool **out_pool)
{
    struct iocp_pool *pool;

    if (capacity == 0 || capacity > BUFFER_CAPACITY_MAX || !out_pool)
        return IOCP_EINVAL;
    pool = iocp__allocate_zero(sizeof(*pool));
    if (!pool)
        return IOCP_ENOMEM;
    pool->capacity = (uint32_t)capacity;
    pool->count_max = count_max;
    pool->refs = 1;
    pool->free = buffer_allocate(pool, pool->capacity);
    if (!pool->free) {
        iocp__release(pool, sizeof(*pool));
        return IOCP_ENOMEM;
    }
    pool->count = 1;
    *out_pool = pool;
    return 0;
}

size_t iocp__pool_capacity(const struct iocp_pool *pool)
{
    return pool->capacity; /* fixed while it lives */
}

size_t iocp__pool_count(struct iocp_pool *pool)
{
    pool_lock(pool);
    size_t count = pool->count;
    iocp__lock_release(&pool->lock);
    return count;
}

struct iocp_pool *iocp_pool_ref(struct iocp_pool *pool)
{
    pool_lock(pool);
    iocp__assert(pool->refs > 0);
    pool->refs++;
    iocp__lock_release(&pool->lock);
    return pool;
}

struct iocp_pool *iocp_pool_unref(struct iocp_pool *pool)
{
    if (!pool)
        return NULL;
    pool_lock(pool);
    iocp__assert(pool->refs > 0);
    /* Nobody is left who could take what comes back, so nobody is to be called. */
    if (--pool->refs == 0)
        pool->ready = NULL;
    pool_unlock(pool);
    return NULL;
}

/* ---- Who waits for one. */

/* Runs the call that somebody asked for. `calling`, counted by the caller, keeps the pool alive. */
static void pool_call(struct iocp_pool *pool, void (*ready)(void *context), void *context)
{
    struct pool_frame frame = {pool, pool_frames};
    struct iocp__parker *withdrawer = NULL;

    pool_frames = &frame;
    ready(context);
    pool_frames = frame.outer;

    pool_lock(pool);
    if (--pool->calling == 0) {
        withdrawer = pool->withdrawer;
        pool->withdrawer = NULL;
    }
    pool_unlock(pool);
    if (withdrawer)
        iocp__parker_release(withdrawer);
}

/* Gives the lock back, and calls who waits when there is something for him now. */
static void pool_unlock_tell(struct iocp_pool *pool)
{
    void (*ready)(void *context) = pool_may_give(pool) ? pool->ready : NULL;
    void *context = pool->context;

    if (ready) {
        pool->ready = NULL;
        pool->calling++;
    }
    pool_unlock(pool);
    if (ready)
        pool_call(pool, ready, context);
}

/* ---- Taking. */

/* How many buffers may still be made, `wanted` at most; under the lock. They count as out. */
static size_t pool_reserve(struct iocp_pool *pool, size_t wanted)
{
    size_t left = pool_left(pool);

    if (left > wanted)
        left = wanted;
    pool->count += left;
    pool->out += left;
    return left;
}

/* Takes back what was reserved and could not be made: one that came back meanwhile may be taken. */
static void pool_unreserve(struct iocp_pool *pool, size_t count)
{
    pool_lock(pool);
    pool->count -= count;
    pool->out -= count;
    pool_unlock_tell(pool);
}

/* Fills `buffers` with up to `count`; *out_full says whether only the bound stood in the way. */
static uint32_t pool_take(struct iocp_pool *pool, struct iocp_buffer **buffers, uint32_t count,
                          int *out_full)
{
    uint32_t taken = 0;
    uint32_t i;
    size_t made;

    pool_lock(pool);
    while (taken < count && pool_may_give(pool)) {
        buffers[taken] = pool->free;
        pool->free = pool->free->next_free;
        pool->out++;
        taken++;
    }
    made = taken < count ? pool_reserve(pool, count - taken) : 0;
    iocp__lock_release(&pool->lock);

    *out_full = made == 0;
    /* The allocator is the user's code: not under the lock. */
    for (; made; made--) {
        buffers[taken] = buffer_allocate(pool, pool->capacity);
        if (!buffers[taken])
            break;
        taken++;
    }
    if (made)
        pool_unreserve(pool, made);
    for (i = 0; i < taken; i++)
        buffer_begin(buffers[i]);
    return taken;
}

int iocp_buffer_take(struct iocp_pool *pool, struct iocp_buffer **out_buffer)
{
    struct iocp_buffer *buffer;
    int full;

    if (!pool || !out_buffer)
        return IOCP_EINVAL;
    if (!pool_take(pool, &buffer, 1, &full))
        return full ? IOCP_EFULL : IOCP_ENOMEM;
    *out_buffer = buffer;
    return 0;
}

uint32_t iocp__pool_take_many(struct iocp_pool *pool, struct iocp_buffer **buffers, uint32_t count)
{
    int full;

    return pool_take(pool, buffers, count, &full);
}

/* ---- Giving back. */

static void pool_give(struct iocp_pool *pool, struct iocp_buffer *buffer)
{
    int surplus;

    pool_lock(pool);
    iocp__debug(pool->out > 0);
    pool->out--;
    pool->lent -= buffer->lent;
    /* As many were lent some time; they are not kept for ever. But as many as may be out are, or
     * a pool whose buffers are lent and come back all the time would live in the allocator (8
     * echoed streams of 64 KiB, a bound of 32 or 64 buffers: four times the processor time). */
    surplus = pool->count_max && pool->count - pool->out > pool->count_max;
    if (surplus)
        pool->count--;
    else
        pool_push(pool, buffer);
    pool_unlock_tell(pool);
    if (surplus)
        buffer_free(buffer);
}

struct iocp_buffer *iocp_buffer_ref(struct iocp_buffer *buffer)
{
    /* Relaxed: the caller holds a reference, so the buffer cannot go meanwhile. */
    uint32_t was = iocp__add_relaxed(&buffer->refs, 1);

    iocp__assert(was > 0 && was < UINT32_MAX);
    return buffer;
}

struct iocp_buffer *iocp_buffer_unref(struct iocp_buffer *buffer)
{
    if (!buffer)
        return NULL;
    /* Acquire, and in the other branch acquire of acq_rel: the last holder sees what the others
     * did. The only holder needs no exchange, since nobody else can add or take; the lock of the
     * pool, or the allocator, carries what it did to the next life. */
    if (iocp__load_acquire(&buffer->refs) == 1) {
        iocp__store_relaxed(&buffer->refs, 0);
    } else {
        /* Release: what this thread did comes before what the last holder does. */
        uint32_t was = iocp__sub_acq_rel(&buffer->refs, 1);

        iocp__assert(was > 0);
        if (was > 1)
            return NULL;
    }
    if (buffer->pool)
        pool_give(buffer->pool, buffer);
    else
        buffer_free(buffer);
    return NULL;
}

static int pool_is_inside(const struct iocp_pool *pool)
{
    const struct pool_frame *frame = pool_frames;

    while (frame && frame->pool != pool)
        frame = frame->outer;
    return frame != NULL;
}

/* Waits until no thread is inside of a `ready`, unless the caller is. With the lock, which it gives
 * back. */
static void pool_withdraw(struct iocp_pool *pool)
{
    struct iocp__parker parker = {0};
    int wait = pool->calling > 0 && !pool_is_inside(pool);

    if (wait) {
        iocp__assert(!pool->withdrawer); /* one asker, so one who withdraws */
        pool->withdrawer = &parker;
    }
    iocp__lock_release(&pool->lock);
    if (wait)
        iocp__parker_wait(&parker, UINT64_MAX);
}

/* Makes one more buffer for the free list, if the bound and the memory allow it. Gives the lock
 * back for that and takes it again. */
static void pool_grow(struct iocp_pool *pool)
{
    struct iocp_buffer *buffer;

    if (!pool_reserve(pool, 1))
        return;
    iocp__lock_release(&pool->lock);
    buffer = buffer_allocate(pool, pool->capacity);
    pool_lock(pool);
    pool->out--;
    if (buffer)
        pool_push(pool, buffer);
    else
        pool->count--;
}

int iocp__buffer_lend(struct iocp_buffer *buffer, size_t size)
{
    struct iocp_pool *pool = buffer->pool;
    int refused;

    if (!pool)
        return 1;
    pool_lock(pool);
    refused = size < buffer->capacity / 2 && pool->lent >= pool->count_max / POOL_LENT_SHARE;
    if (!refused && !buffer->lent) {
        buffer->lent = 1;
        pool->lent++;
        if (pool->ready && !pool->free)
            pool_grow(pool);
    }
    pool_unlock_tell(pool);
    return !refused;
}

int iocp__pool_arm(struct iocp_pool *pool, void (*ready)(void *context), void *context)
{
    int asked;

    pool_lock(pool);
    pool->ready = NULL;
    if (!ready) {
        pool_withdraw(pool);
        return 0;
    }
    if (!pool->free)
        pool_grow(pool);
    asked = !pool_may_give(pool);
    if (asked) {
        pool->ready = ready;
        pool->context = context;
    }
    iocp__lock_release(&pool->lock);
    return asked;
}
