/* Pooled, ref-counted buffers: the memory that streams receive into and that one message to many
 * sessions is sent from.
 *
 * Threads: any thread may call anything here. The bytes of a buffer belong to whoever made it until
 * the first share; from then on they are read-only. */
#ifndef IOCP_BUFFER_H
#define IOCP_BUFFER_H

#include <iocp/abi.h>

IOCP_BEGIN

struct iocp_buffer;
struct iocp_pool;

/* Makes a pool of buffers of `capacity` bytes each, at most `count_max` of them at a time (0: no
 * bound). Gives one reference. The pool lives until its last reference and its last buffer are
 * gone. Errors: IOCP_EINVAL (capacity 0 or above 2 GiB), IOCP_ENOMEM. */
IOCP_API int iocp_pool_create(size_t capacity, size_t count_max, struct iocp_pool **out_pool);
IOCP_API struct iocp_pool *iocp_pool_ref(struct iocp_pool *pool);
/* Gives a reference back; NULL is fine. Returns NULL. */
IOCP_API struct iocp_pool *iocp_pool_unref(struct iocp_pool *pool);

/* Takes a buffer from the pool, with one reference and size 0.
 * Errors: IOCP_ENOMEM, IOCP_EFULL (count_max are out), IOCP_EINVAL. */
IOCP_API int iocp_buffer_take(struct iocp_pool *pool, struct iocp_buffer **out_buffer);

/* Makes a buffer of its own size, in no pool. Errors as above. */
IOCP_API int iocp_buffer_create(size_t capacity, struct iocp_buffer **out_buffer);

/* The same, filled with a copy of `data`. */
IOCP_API int iocp_buffer_copy(const void *data, size_t size, struct iocp_buffer **out_buffer);

IOCP_API struct iocp_buffer *iocp_buffer_ref(struct iocp_buffer *buffer);
/* Gives a reference back; the last one returns the buffer to its pool. NULL is fine. Returns NULL.
 */
IOCP_API struct iocp_buffer *iocp_buffer_unref(struct iocp_buffer *buffer);

IOCP_API void *iocp_buffer_data(struct iocp_buffer *buffer);
IOCP_API size_t iocp_buffer_capacity(const struct iocp_buffer *buffer);
/* How many of the bytes count; set by whoever fills it, never above the capacity (asserted). */
IOCP_API size_t iocp_buffer_size(const struct iocp_buffer *buffer);
IOCP_API void iocp_buffer_set_size(struct iocp_buffer *buffer, size_t size);

IOCP_END

#endif
