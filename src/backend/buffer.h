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
    uint32_t reserved;
    /* the bytes follow */
};

/* Asks for one call of `ready(context)` when a buffer comes back to the pool: from the thread that
 * gives it back, under no lock. Returns 0 without asking when the pool can give one now; 1 when
 * asked. One asker per pool; asking again replaces it; `ready` NULL withdraws (when this returns,
 * no call runs any more, unless the caller is inside it). */
int iocp__pool_arm(struct iocp_pool *pool, void (*ready)(void *context), void *context);

/* Takes up to `count` buffers at once under one lock; returns how many. */
uint32_t iocp__pool_take_many(struct iocp_pool *pool, struct iocp_buffer **buffers, uint32_t count);

#endif
