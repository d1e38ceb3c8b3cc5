/* The library's one door to memory: counts, the user's allocator, injected failures. */
#ifndef IOCP_BASE_ALLOC_H
#define IOCP_BASE_ALLOC_H

#include <iocp/memory.h>

/* `size` bytes aligned for any type, contents undefined; NULL when there are none. */
void *iocp__allocate(size_t size);
/* The same, zeroed. */
void *iocp__allocate_zero(size_t size);
/* Takes back; `size` as asked for. NULL is fine. */
void iocp__release(void *memory, size_t size);

#endif
