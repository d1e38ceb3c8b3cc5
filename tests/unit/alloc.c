/* The allocator: what is counted, the user's own, and failures on demand. */
#include "base/alloc.h"
#include "base/atomic.h"
#include "support/check.h"

#include <iocp/error.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

TEST(counts_what_is_out)
{
    size_t size = iocp_memory_size();
    size_t count = iocp_memory_count();
    void *a = iocp__allocate(100);
    void *b = iocp__allocate(28);
    CHECK(a && b);
    CHECK_EQ(iocp_memory_size() - size, 128);
    CHECK_EQ(iocp_memory_count() - count, 2);
    iocp__release(a, 100);
    CHECK_EQ(iocp_memory_size() - size, 28);
    CHECK_EQ(iocp_memory_count() - count, 1);
    iocp__release(b, 28);
    iocp__release(NULL, 28);
    CHECK_EQ(iocp_memory_size(), size);
    CHECK_EQ(iocp_memory_count(), count);
}

TEST(memory_is_aligned_and_zeroed_on_request)
{
    static const unsigned char zeroes[1000];
    for (size_t size = 1; size < sizeof(zeroes); size += 37) {
        void *dirty = iocp__allocate(size);
        void *memory;
        CHECK_EQ((uintptr_t)dirty % _Alignof(max_align_t), 0);
        memset(dirty, 0xff, size);
        iocp__release(dirty, size);
        memory = iocp__allocate_zero(size);
        CHECK_EQ((uintptr_t)memory % _Alignof(max_align_t), 0);
        CHECK_MEM(memory, zeroes, size);
        iocp__release(memory, size);
    }
}

struct arena {
    unsigned allocations;
    unsigned releases;
    size_t last_size;
    int empty;
};

static void *arena_allocate(void *context, size_t size)
{
    struct arena *arena = context;
    if (arena->empty)
        return NULL;
    arena->allocations++;
    arena->last_size = size;
    return malloc(size);
}

static void arena_release(void *context, void *memory, size_t size)
{
    struct arena *arena = context;
    arena->releases++;
    arena->last_size = size;
    free(memory);
}

/* Q16. */
TEST(users_allocator_gets_every_call)
{
    struct arena arena = {0};
    struct iocp_allocator allocator = {arena_allocate, arena_release, &arena};
    void *memory;
    CHECK_EQ(iocp_allocator_set(&allocator), 0);
    memset(&allocator, 0, sizeof(allocator)); /* the library has a copy */

    memory = iocp__allocate(77);
    CHECK(memory);
    CHECK_EQ(arena.allocations, 1);
    CHECK_EQ(arena.last_size, 77);
    iocp__release(memory, 77);
    CHECK_EQ(arena.releases, 1);
    CHECK_EQ(arena.last_size, 77);

    memory = iocp__allocate_zero(5);
    iocp__release(memory, 5);
    iocp__release(NULL, 5);
    CHECK_EQ(arena.allocations, 2);
    CHECK_EQ(arena.releases, 2);

    CHECK_EQ(iocp_allocator_set(NULL), 0);
    iocp__release(iocp__allocate(1), 1);
    CHECK_EQ(arena.allocations, 2);
    CHECK_EQ(arena.releases, 2);
}

TEST(failure_of_the_users_allocator_is_not_counted)
{
    struct arena arena = {.empty = 1};
    struct iocp_allocator allocator = {arena_allocate, arena_release, &arena};
    CHECK_EQ(iocp_allocator_set(&allocator), 0);
    CHECK(iocp__allocate(10) == NULL);
    CHECK(iocp__allocate_zero(10) == NULL);
    CHECK_EQ(iocp_memory_size(), 0);
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(allocator_stays_while_memory_is_out)
{
    struct arena arena = {0};
    struct iocp_allocator allocator = {arena_allocate, arena_release, &arena};
    void *memory = iocp__allocate(10);
    CHECK_EQ(iocp_allocator_set(&allocator), IOCP_EBUSY);
    CHECK_EQ(iocp_allocator_set(NULL), IOCP_EBUSY);
    iocp__release(memory, 10);
    CHECK_EQ(arena.releases, 0);
    CHECK_EQ(iocp_allocator_set(&allocator), 0);
}

TEST(allocator_without_a_function_is_refused)
{
    struct iocp_allocator no_allocate = {NULL, arena_release, NULL};
    struct iocp_allocator no_release = {arena_allocate, NULL, NULL};
    CHECK_EQ(iocp_allocator_set(&no_allocate), IOCP_EINVAL);
    CHECK_EQ(iocp_allocator_set(&no_release), IOCP_EINVAL);
    iocp__release(iocp__allocate(1), 1);
}

/* Allocates `count` times; bit i of the answer tells that number i failed. */
static unsigned failures(int count)
{
    unsigned bits = 0;
    for (int i = 0; i < count; i++) {
        void *memory = iocp__allocate(8);
        if (!memory)
            bits |= 1u << i;
        iocp__release(memory, 8);
    }
    return bits;
}

TEST(nth_allocation_fails_and_no_other)
{
    for (unsigned nth = 1; nth <= 6; nth++) {
        iocp_memory_fail(nth, 0);
        CHECK_EQ(failures(8), 1u << (nth - 1));
        CHECK_EQ(failures(8), 0);
    }
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(all_from_the_nth_on_fail_until_ended)
{
    iocp_memory_fail(3, 1);
    CHECK_EQ(failures(8), 0xfcu);
    CHECK_EQ(failures(8), 0xffu);
    iocp_memory_fail(0, 1);
    CHECK_EQ(failures(8), 0);
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(failure_can_be_called_off_and_put_off)
{
    iocp_memory_fail(2, 0);
    iocp_memory_fail(0, 0);
    CHECK_EQ(failures(8), 0);
    iocp_memory_fail(2, 0);
    CHECK_EQ(failures(1), 0);
    iocp_memory_fail(3, 0);
    CHECK_EQ(failures(8), 1u << 2);
}

#define THREADS 4
#define ROUNDS 5000

static unsigned failed_total;

static void *allocate_much(void *argument)
{
    size_t size = 1 + (size_t)argument;
    for (int i = 0; i < ROUNDS; i++) {
        void *memory = iocp__allocate(size);
        if (!memory)
            iocp__add_relaxed(&failed_total, 1);
        iocp__release(memory, size);
    }
    return NULL;
}

TEST(counters_and_failures_are_exact_with_many_threads)
{
    pthread_t threads[THREADS];
    void *kept = iocp__allocate(1000);
    iocp_memory_fail(THREADS * ROUNDS / 2, 0);
    for (size_t i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, allocate_much, (void *)i), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(failed_total, 1);
    CHECK_EQ(iocp_memory_size(), 1000);
    CHECK_EQ(iocp_memory_count(), 1);
    iocp__release(kept, 1000);
}
