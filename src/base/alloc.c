/* The one door to memory: the user's allocator, what is out at this moment, and failures on demand.
 *
 * It is no pool: what is needed often is kept by its owner (pooled buffers, the memory of an op),
 * so that the counters here are touched seldom.
 *
 * Invariants:
 * 1. alloc_out covers exactly the blocks given out and not taken back.
 * 2. alloc_current changes only while alloc_out.count is 0. So every block goes back to the
 *    allocator that gave it. */
#include "base/alloc.h"

#include "base/assert.h"
#include "base/atomic.h"

#include <iocp/error.h>

#include <stdlib.h>
#include <string.h>

static void *alloc_default_allocate(void *context, size_t size)
{
    (void)context;
    return malloc(size);
}

static void alloc_default_release(void *context, void *memory, size_t size)
{
    (void)context;
    (void)size;
    free(memory);
}

static struct iocp_allocator alloc_current = {alloc_default_allocate, alloc_default_release, NULL};

/* Read at every allocation and written by tests only: not on the line of the counters. */
#define ALLOC_LINE 64
#define ALLOC_FAIL_FOREVER (UINT64_C(1) << 63)
static _Alignas(ALLOC_LINE) struct {
    /* How many allocations until one fails (1: the next; 0: none), with the bit FOREVER. One word,
     * so that both change at once. */
    uint64_t word;
} alloc_fail;

static _Alignas(ALLOC_LINE) struct {
    size_t size;
    size_t count;
} alloc_out;

/* Counts one allocation down. Not 0 when it is one that fails. */
static int alloc_fails(void)
{
    /* Relaxed: a number that guards no other memory. */
    uint64_t word = iocp__load_relaxed(&alloc_fail.word);
    for (;;) {
        uint64_t left = word & ~ALLOC_FAIL_FOREVER;
        if (!left)
            return 0;
        if (left == 1 && (word & ALLOC_FAIL_FOREVER))
            return 1;
        /* The exchange makes one thread alone the nth; its order is more than is needed. */
        if (iocp__cas_acq_rel(&alloc_fail.word, &word, left == 1 ? 0 : word - 1))
            return left == 1;
    }
}

void *iocp__allocate(size_t size)
{
    void *memory;

    iocp__assert(size > 0);
    if (alloc_fails())
        return NULL;
    memory = alloc_current.allocate(alloc_current.context, size);
    if (!memory)
        return NULL;
    /* Relaxed: only the sums matter; who reads them while others allocate gets a moment's value. */
    iocp__add_relaxed(&alloc_out.size, size);
    iocp__add_relaxed(&alloc_out.count, 1);
    return memory;
}

void *iocp__allocate_zero(size_t size)
{
    void *memory = iocp__allocate(size);
    if (memory)
        memset(memory, 0, size);
    return memory;
}

void iocp__release(void *memory, size_t size)
{
    size_t count;

    if (!memory)
        return;
    alloc_current.release(alloc_current.context, memory, size);
    /* Relaxed, as above. */
    iocp__sub_relaxed(&alloc_out.size, size);
    /* Release (of acq_rel): the use of alloc_current above comes before a change of it by
     * iocp_allocator_set, which acquires the count. */
    count = iocp__sub_acq_rel(&alloc_out.count, 1);
    iocp__assert(count > 0);
}

int iocp_allocator_set(const struct iocp_allocator *allocator)
{
    if (allocator && (!allocator->allocate || !allocator->release))
        return IOCP_EINVAL;
    /* Acquire: see iocp__release. */
    if (iocp__load_acquire(&alloc_out.count))
        return IOCP_EBUSY;
    if (allocator)
        alloc_current = *allocator;
    else
        alloc_current =
            (struct iocp_allocator){alloc_default_allocate, alloc_default_release, NULL};
    return 0;
}

size_t iocp_memory_size(void)
{
    return iocp__load_relaxed(&alloc_out.size); /* relaxed: a moment's value */
}

size_t iocp_memory_count(void)
{
    return iocp__load_relaxed(&alloc_out.count); /* relaxed: a moment's value */
}

void iocp_memory_fail(uint64_t nth, int forever)
{
    uint64_t word = nth & ~ALLOC_FAIL_FOREVER;

    if (word && forever)
        word |= ALLOC_FAIL_FOREVER;
    iocp__store_relaxed(&alloc_fail.word, word); /* relaxed: guards no other memory */
}
