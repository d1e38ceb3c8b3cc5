/* The allocator that everything in the library uses.
 *
 * Threads: the functions of the allocator are called from any thread, never under a lock that a
 * handler could hold. */
#ifndef IOCP_MEMORY_H
#define IOCP_MEMORY_H

#include <iocp/abi.h>

IOCP_BEGIN

struct iocp_allocator {
    /* Gives `size` bytes aligned for any type, or NULL. `size` is never 0. */
    void *(*allocate)(void *context, size_t size);
    /* Takes back what `allocate` gave; `size` is what was asked for. `memory` is never NULL. */
    void (*release)(void *context, void *memory, size_t size);
    void *context;
};

/* Replaces the allocator (malloc and free until then). The struct is copied. NULL goes back to the
 * default. Call it before anything of the library exists: IOCP_EBUSY while memory is out. */
IOCP_API int iocp_allocator_set(const struct iocp_allocator *allocator);

/* Bytes and blocks that the library holds at this moment. For tests, leak checks and status lines;
 * the two are read one after the other, not at one instant. */
IOCP_API size_t iocp_memory_size(void);
IOCP_API size_t iocp_memory_count(void);

/* For tests: the allocation number `nth` from now (1 = the next) fails, and every later one with
 * `forever` not 0. 0 ends it. */
IOCP_API void iocp_memory_fail(uint64_t nth, int forever);

IOCP_END

#endif
