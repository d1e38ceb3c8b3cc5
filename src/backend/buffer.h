/* Inside of pooled buffers (public face: iocp/buffer.h): what backends and the port need beside it.
 */
#ifndef IOCP_BACKEND_BUFFER_H
#define IOCP_BACKEND_BUFFER_H

#include "base/list.h"
#include "os/os.h"

#include <iocp/buffer.h>

struct iocp_buffer {
    struct iocp_event event; /* the answer of a recv-stream that this buffer carries */
    struct iocp_pool *pool;  /* NULL: a buffer of its own */
    struct iocp_buffer *next_free;
    uint32_t refs;
    uint32_t size;
    uint32_t capacity;
    uint32_t lent; /* iocp__buffer_lend; written by one holder, read by the last */
    /* the bytes follow */
};

/* Asks for one call of `ready(context)` when a buffer comes back to the pool: from the thread that
 * gives it back, under no lock. Returns 0 without asking when the pool can give one now; 1 when
 * asked. One asker per pool; asking again replaces it; `ready` NULL withdraws (when this returns,
 * no call runs any more, unless the caller is inside it). */
int iocp__pool_arm(struct iocp_pool *pool, void (*ready)(void *context), void *context);

/* For a holder who may keep the buffer for long, because of `size` bytes of it: from now to its
 * return the buffer does not count against the bound of its pool, so that those who take from it do
 * not wait for this holder. Returns 0, and nothing has changed, when the bytes are better copied,
 * lest a few of them keep much memory: they are less than half of the buffer, and a quarter of the
 * bound is lent already. One thread at a time for one buffer. */
int iocp__buffer_lend(struct iocp_buffer *buffer, size_t size);

/* Of each buffer of the pool. */
size_t iocp__pool_capacity(const struct iocp_pool *pool);
/* Buffers that there are, free or out. */
size_t iocp__pool_count(struct iocp_pool *pool);

/* Takes up to `count` buffers at once under one lock; returns how many. */
uint32_t iocp__pool_take_many(struct iocp_pool *pool, struct iocp_buffer **buffers, uint32_t count);

#endif
