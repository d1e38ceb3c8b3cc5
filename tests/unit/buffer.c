/* Pooled buffers: their bounds, their lives, and who is told when one comes back. */
#include "backend/buffer.h"
#include "base/atomic.h"
#include "support/check.h"
#include "support/system.h"

#include <iocp/error.h>
#include <iocp/memory.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static struct iocp_pool *make_pool(size_t capacity, size_t count_max)
{
    struct iocp_pool *pool = NULL;
    CHECK_EQ(iocp_pool_create(capacity, count_max, &pool), 0);
    return pool;
}

static struct iocp_buffer *take(struct iocp_pool *pool)
{
    struct iocp_buffer *buffer = NULL;
    CHECK_EQ(iocp_buffer_take(pool, &buffer), 0);
    return buffer;
}

/* ---- Buffers of their own. */

TEST(own_buffer_has_the_capacity_asked_for)
{
    static const size_t capacities[] = {1, 15, 16, 17, 4096, 100000};
    for (size_t i = 0; i < sizeof(capacities) / sizeof(capacities[0]); i++) {
        struct iocp_buffer *buffer;
        CHECK_EQ(iocp_buffer_create(capacities[i], &buffer), 0);
        CHECK_EQ(iocp_buffer_capacity(buffer), capacities[i]);
        CHECK_EQ(iocp_buffer_size(buffer), 0);
        CHECK_EQ((uintptr_t)iocp_buffer_data(buffer) % 16, 0);
        memset(iocp_buffer_data(buffer), 0xee, capacities[i]);
        iocp_buffer_set_size(buffer, capacities[i]);
        CHECK_EQ(iocp_buffer_size(buffer), capacities[i]);
        CHECK(iocp_buffer_unref(buffer) == NULL);
    }
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(copy_holds_the_bytes)
{
    struct iocp_buffer *buffer;
    char text[] = "what was said";
    CHECK_EQ(iocp_buffer_copy(text, sizeof(text), &buffer), 0);
    memset(text, 0, sizeof(text));
    CHECK_EQ(iocp_buffer_size(buffer), sizeof(text));
    CHECK_STR(iocp_buffer_data(buffer), "what was said");
    iocp_buffer_unref(buffer);
}

TEST(reference_keeps_an_own_buffer)
{
    struct iocp_buffer *buffer;
    CHECK_EQ(iocp_buffer_copy("x", 2, &buffer), 0);
    CHECK(iocp_buffer_ref(buffer) == buffer);
    iocp_buffer_unref(buffer);
    CHECK_STR(iocp_buffer_data(buffer), "x");
    CHECK_EQ(iocp_memory_count(), 1);
    iocp_buffer_unref(buffer);
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(misuse_is_refused_and_writes_nothing)
{
    struct iocp_pool *pool = NULL;
    struct iocp_buffer *buffer = NULL;
    size_t too_much = ((size_t)1 << 31) + 1;
    CHECK_EQ(iocp_pool_create(0, 1, &pool), IOCP_EINVAL);
    CHECK_EQ(iocp_pool_create(too_much, 1, &pool), IOCP_EINVAL);
    CHECK_EQ(iocp_pool_create(1, 1, NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_buffer_create(0, &buffer), IOCP_EINVAL);
    CHECK_EQ(iocp_buffer_create(too_much, &buffer), IOCP_EINVAL);
    CHECK_EQ(iocp_buffer_create(SIZE_MAX, &buffer), IOCP_EINVAL);
    CHECK_EQ(iocp_buffer_create(1, NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_buffer_copy(NULL, 1, &buffer), IOCP_EINVAL);
    CHECK_EQ(iocp_buffer_copy("", 0, &buffer), IOCP_EINVAL);
    CHECK_EQ(iocp_buffer_copy("", 1, NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_buffer_take(NULL, &buffer), IOCP_EINVAL);
    CHECK(pool == NULL && buffer == NULL);
    CHECK(iocp_pool_unref(NULL) == NULL);
    CHECK(iocp_buffer_unref(NULL) == NULL);

    pool = make_pool(8, 0);
    CHECK_EQ(iocp_buffer_take(pool, NULL), IOCP_EINVAL);
    iocp_pool_unref(pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

CHILD(size_above_the_capacity)
{
    struct iocp_buffer *buffer;
    CHECK_EQ(iocp_buffer_create(8, &buffer), 0);
    iocp_buffer_set_size(buffer, 9);
}

CHILD(reference_given_back_twice)
{
    struct iocp_buffer *buffer = take(make_pool(8, 0));
    iocp_buffer_unref(buffer);
    iocp_buffer_unref(buffer);
}

CHILD(reference_taken_on_a_free_buffer)
{
    struct iocp_buffer *buffer = take(make_pool(8, 0));
    iocp_buffer_unref(buffer);
    iocp_buffer_ref(buffer);
}

TEST(assertions_stop_what_would_corrupt)
{
    CHECK_EQ(test_child("size_above_the_capacity"), TEST_ABORTED);
    CHECK_EQ(test_child("reference_given_back_twice"), TEST_ABORTED);
    CHECK_EQ(test_child("reference_taken_on_a_free_buffer"), TEST_ABORTED);
}

/* ---- Pools. */

TEST(pool_gives_up_to_its_bound)
{
    struct iocp_pool *pool = make_pool(64, 3);
    struct iocp_buffer *buffers[3];
    struct iocp_buffer *none = NULL;
    for (int i = 0; i < 3; i++) {
        buffers[i] = take(pool);
        CHECK_EQ(iocp_buffer_capacity(buffers[i]), 64);
        memset(iocp_buffer_data(buffers[i]), i, 64);
    }
    CHECK_EQ(iocp_buffer_take(pool, &none), IOCP_EFULL);
    CHECK(none == NULL);
    iocp_buffer_unref(buffers[1]);
    buffers[1] = take(pool);
    CHECK_EQ(iocp_buffer_take(pool, &none), IOCP_EFULL);
    for (int i = 0; i < 3; i++)
        iocp_buffer_unref(buffers[i]);
    iocp_pool_unref(pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(pool_without_a_bound_goes_on)
{
    enum { COUNT = 500 };
    struct iocp_pool *pool = make_pool(8, 0);
    struct iocp_buffer *buffers[COUNT];
    for (int i = 0; i < COUNT; i++)
        buffers[i] = take(pool);
    for (int i = 0; i < COUNT; i++)
        iocp_buffer_unref(buffers[i]);
    iocp_pool_unref(pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(last_buffer_back_is_the_first_out_and_is_as_new)
{
    struct iocp_pool *pool = make_pool(64, 0);
    struct iocp_buffer *a = take(pool);
    struct iocp_buffer *b = take(pool);
    iocp_buffer_set_size(b, 64);
    iocp_buffer_ref(b);
    iocp_buffer_unref(b);
    iocp_buffer_unref(a);
    iocp_buffer_unref(b);
    CHECK(take(pool) == b);
    CHECK_EQ(iocp_buffer_size(b), 0);
    CHECK(take(pool) == a);
    iocp_buffer_unref(a);
    iocp_buffer_unref(b);
    iocp_pool_unref(pool);
}

TEST(steady_state_allocates_nothing)
{
    struct iocp_pool *pool = make_pool(64, 0);
    struct iocp_buffer *warm[4];
    CHECK_EQ(iocp__pool_take_many(pool, warm, 4), 4);
    for (int i = 0; i < 4; i++)
        iocp_buffer_unref(warm[i]);
    iocp_memory_fail(1, 1);
    for (int i = 0; i < 100; i++) {
        struct iocp_buffer *buffer = take(pool);
        struct iocp_buffer *other = take(pool);
        iocp_buffer_unref(buffer);
        iocp_buffer_unref(other);
    }
    iocp_memory_fail(0, 0);
    iocp_pool_unref(pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(pool_outlives_its_references_by_its_buffers)
{
    struct iocp_pool *pool = make_pool(64, 0);
    struct iocp_buffer *a = take(pool);
    struct iocp_buffer *b = take(pool);
    CHECK(iocp_pool_ref(pool) == pool);
    CHECK(iocp_pool_unref(pool) == NULL);
    CHECK(iocp_pool_unref(pool) == NULL);
    memset(iocp_buffer_data(a), 1, 64);
    iocp_buffer_unref(a);
    CHECK_EQ(iocp_memory_count(), 3);
    iocp_buffer_ref(b);
    iocp_buffer_unref(b);
    memset(iocp_buffer_data(b), 2, 64);
    iocp_buffer_unref(b);
    CHECK_EQ(iocp_memory_count(), 0);
    CHECK_EQ(iocp_memory_size(), 0);
}

TEST(take_many_gives_what_there_is)
{
    struct iocp_pool *pool = make_pool(32, 5);
    struct iocp_buffer *buffers[8];
    struct iocp_buffer *first = take(pool);
    CHECK_EQ(iocp__pool_take_many(pool, buffers, 0), 0);
    CHECK_EQ(iocp__pool_take_many(pool, buffers, 2), 2);
    CHECK_EQ(iocp__pool_take_many(pool, buffers + 2, 8), 2);
    CHECK_EQ(iocp__pool_take_many(pool, buffers + 4, 8), 0);
    for (int i = 0; i < 4; i++) {
        CHECK(buffers[i] != first);
        for (int j = 0; j < i; j++)
            CHECK(buffers[i] != buffers[j]);
        iocp_buffer_unref(buffers[i]);
    }
    CHECK_EQ(iocp__pool_take_many(pool, buffers, 8), 4);
    for (int i = 0; i < 4; i++)
        iocp_buffer_unref(buffers[i]);
    iocp_buffer_unref(first);
    iocp_pool_unref(pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

/* The n-th allocation fails, for every n until none does: nothing leaks, the pool can give all
 * afterwards. Returns not 0 when none failed. */
static int one_life_with_a_failure(uint64_t nth)
{
    struct iocp_pool *pool;
    struct iocp_buffer *buffers[4];
    uint32_t count;
    int result;
    iocp_memory_fail(nth, 0);
    result = iocp_pool_create(16, 4, &pool);
    if (result < 0) {
        CHECK_EQ(result, IOCP_ENOMEM);
        return 0;
    }
    count = iocp__pool_take_many(pool, buffers, 3);
    if (count == 3) {
        result = iocp_buffer_take(pool, &buffers[3]);
        CHECK(result == 0 || result == IOCP_ENOMEM);
        count += result == 0;
    }
    iocp_memory_fail(0, 0);
    CHECK_EQ(iocp__pool_take_many(pool, buffers + count, 4), 4 - count);
    for (int i = 0; i < 4; i++)
        iocp_buffer_unref(buffers[i]);
    iocp_pool_unref(pool);
    return count == 4;
}

TEST(nth_allocation_fails_without_harm)
{
    uint64_t nth = 1;
    while (!one_life_with_a_failure(nth)) {
        CHECK_EQ(iocp_memory_count(), 0);
        nth++;
    }
    CHECK_EQ(nth, 6); /* the pool and its four buffers failed once each */
    CHECK_EQ(iocp_memory_count(), 0);
}

/* ---- Who is told. */

struct call {
    struct iocp_pool *pool;
    struct iocp_buffer *taken;
    unsigned count;
};

/* Takes from the pool: under its lock this would hang. */
static void ready_takes(void *context)
{
    struct call *call = context;
    call->count++;
    CHECK_EQ(iocp_buffer_take(call->pool, &call->taken), 0);
}

static void ready_counts(void *context)
{
    ++*(unsigned *)context;
}

TEST(arm_asks_only_a_pool_that_cannot_give)
{
    struct iocp_pool *pool = make_pool(8, 2);
    struct call call = {.pool = pool};
    struct iocp_buffer *a = take(pool);
    struct iocp_buffer *b;
    CHECK_EQ(iocp__pool_arm(pool, ready_takes, &call), 0);
    b = take(pool);
    CHECK_EQ(iocp__pool_arm(pool, ready_takes, &call), 1);
    CHECK_EQ(call.count, 0);
    iocp_buffer_unref(a);
    CHECK_EQ(call.count, 1);
    CHECK(call.taken == a);
    /* One call for one asking. */
    iocp_buffer_unref(call.taken);
    iocp_buffer_unref(b);
    CHECK_EQ(call.count, 1);
    CHECK_EQ(iocp__pool_arm(pool, ready_takes, &call), 0);
    iocp_pool_unref(pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(arm_again_replaces_and_null_withdraws)
{
    struct iocp_pool *pool = make_pool(8, 1);
    unsigned first = 0, second = 0;
    struct iocp_buffer *buffer = take(pool);
    CHECK_EQ(iocp__pool_arm(pool, ready_counts, &first), 1);
    CHECK_EQ(iocp__pool_arm(pool, ready_counts, &second), 1);
    iocp_buffer_unref(buffer);
    CHECK_EQ(first, 0);
    CHECK_EQ(second, 1);

    buffer = take(pool);
    CHECK_EQ(iocp__pool_arm(pool, ready_counts, &first), 1);
    CHECK_EQ(iocp__pool_arm(pool, NULL, NULL), 0);
    iocp_buffer_unref(buffer);
    CHECK_EQ(first, 0);
    iocp_pool_unref(pool);
}

TEST(arm_asks_when_memory_alone_is_short)
{
    struct iocp_pool *pool = make_pool(8, 0);
    unsigned calls = 0;
    struct iocp_buffer *buffer = take(pool);
    struct iocp_buffer *none = NULL;
    iocp_memory_fail(1, 1);
    CHECK_EQ(iocp_buffer_take(pool, &none), IOCP_ENOMEM);
    CHECK_EQ(iocp__pool_arm(pool, ready_counts, &calls), 1);
    iocp_buffer_unref(buffer);
    CHECK_EQ(calls, 1);
    /* What arm answers with 0 holds: there is one to take without memory. */
    CHECK_EQ(iocp__pool_arm(pool, ready_counts, &calls), 0);
    buffer = take(pool);
    iocp_memory_fail(0, 0);
    CHECK_EQ(iocp__pool_arm(pool, ready_counts, &calls), 0);
    iocp_memory_fail(1, 1);
    iocp_buffer_unref(take(pool));
    iocp_buffer_unref(buffer);
    iocp_memory_fail(0, 0);
    iocp_pool_unref(pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

static void ready_drops_the_pool(void *context)
{
    struct iocp_pool *pool = context;
    CHECK_EQ(iocp__pool_arm(pool, NULL, NULL), 0); /* from inside: it must not wait for itself */
    iocp_pool_unref(pool);
}

TEST(pool_may_end_inside_the_call)
{
    struct iocp_pool *pool = make_pool(8, 1);
    struct iocp_buffer *buffer = take(pool);
    CHECK_EQ(iocp__pool_arm(pool, ready_drops_the_pool, pool), 1);
    iocp_buffer_unref(buffer);
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(pool_without_references_calls_nobody)
{
    struct iocp_pool *pool = make_pool(8, 1);
    unsigned calls = 0;
    struct iocp_buffer *buffer = take(pool);
    CHECK_EQ(iocp__pool_arm(pool, ready_counts, &calls), 1);
    iocp_pool_unref(pool);
    iocp_buffer_unref(buffer);
    CHECK_EQ(calls, 0);
    CHECK_EQ(iocp_memory_count(), 0);
}

static struct {
    struct iocp_pool *pool;
    struct iocp_buffer *buffer;
    struct iocp__parker inside; /* released by the call when it has begun */
    struct iocp__parker leave;  /* released by the test to let the call end */
    struct iocp__parker known;  /* released by the withdrawing thread when `thread` is there */
    uint32_t thread;
    int left; /* a plain int: TSan tells when the withdrawal does not wait */
} slow;

static void ready_slowly(void *context)
{
    (void)context;
    iocp__parker_release(&slow.inside);
    CHECK_EQ(iocp__parker_wait(&slow.leave, UINT64_MAX), 0);
    slow.left = 1;
}

static void give_back(void *context)
{
    (void)context;
    iocp_buffer_unref(slow.buffer);
}

static void withdraw(void *context)
{
    (void)context;
    slow.thread = system_thread();
    iocp__parker_release(&slow.known);
    CHECK_EQ(iocp__pool_arm(slow.pool, NULL, NULL), 0);
    CHECK_EQ(slow.left, 1);
}

TEST(withdrawing_waits_for_the_running_call)
{
    struct iocp__thread giver, withdrawer;
    slow.pool = make_pool(8, 1);
    slow.buffer = take(slow.pool);
    CHECK_EQ(iocp__pool_arm(slow.pool, ready_slowly, NULL), 1);
    CHECK_OK(iocp__thread_start(&giver, "giver", give_back, NULL));
    CHECK_EQ(iocp__parker_wait(&slow.inside, UINT64_MAX), 0);
    CHECK_OK(iocp__thread_start(&withdrawer, "withdrawer", withdraw, NULL));
    CHECK_EQ(iocp__parker_wait(&slow.known, UINT64_MAX), 0);
    while (system_thread_sleeps(slow.thread) < 0)
        system_yield();
    iocp__parker_release(&slow.leave);
    iocp__thread_join(&withdrawer);
    iocp__thread_join(&giver);
    iocp_pool_unref(slow.pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

/* ---- Races. */

#define THREADS 4

static void run_threads(void *(*run)(void *argument))
{
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, run, (void *)i), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static struct iocp_pool *shared_pool;
static struct iocp_buffer *shared_buffer;

static void *ref_and_unref(void *argument)
{
    (void)argument;
    for (int i = 0; i < 20000; i++) {
        iocp_buffer_ref(shared_buffer);
        iocp_buffer_unref(shared_buffer);
    }
    iocp_buffer_unref(shared_buffer);
    return NULL;
}

TEST(references_of_many_threads_add_up)
{
    shared_pool = make_pool(8, 1);
    shared_buffer = take(shared_pool);
    for (int i = 1; i < THREADS; i++)
        iocp_buffer_ref(shared_buffer);
    run_threads(ref_and_unref);
    CHECK(take(shared_pool) == shared_buffer);
    iocp_buffer_unref(shared_buffer);
    iocp_pool_unref(shared_pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

/* Nobody else may have a buffer that this thread took: its bytes are plain memory. */
static void *take_and_return(void *argument)
{
    unsigned char mark = (unsigned char)(1 + (size_t)argument);
    for (int i = 0; i < 3000; i++) {
        struct iocp_buffer *buffer;
        unsigned char *data;
        int result = iocp_buffer_take(shared_pool, &buffer);
        if (result == IOCP_EFULL) {
            system_yield();
            continue;
        }
        CHECK_EQ(result, 0);
        data = iocp_buffer_data(buffer);
        memset(data, mark, 64);
        for (int j = 0; j < 64; j++)
            CHECK_EQ(data[j], mark);
        iocp_buffer_unref(buffer);
    }
    return NULL;
}

TEST(no_two_threads_get_one_buffer)
{
    shared_pool = make_pool(64, THREADS - 1);
    run_threads(take_and_return);
    iocp_pool_unref(shared_pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

/* Each thread writes its byte and gives its reference back; whoever is last returns the buffer, and
 * its next owner writes all bytes. Ordering errors are TSan's to find. */
static pthread_barrier_t barrier;

static void *write_and_drop(void *argument)
{
    size_t index = (size_t)argument;
    for (int i = 0; i < 500; i++) {
        if (index == 0) {
            shared_buffer = take(shared_pool);
            memset(iocp_buffer_data(shared_buffer), 0, THREADS);
            for (int j = 1; j < THREADS; j++)
                iocp_buffer_ref(shared_buffer);
        }
        pthread_barrier_wait(&barrier);
        struct iocp_buffer *mine = shared_buffer;
        ((unsigned char *)iocp_buffer_data(mine))[index]++;
        if (index == 0) {
            /* The taker of the next round sees the bytes of all without the barrier's help. */
            struct iocp_buffer *next = NULL;
            iocp_buffer_unref(mine);
            while (iocp_buffer_take(shared_pool, &next) == IOCP_EFULL)
                system_yield();
            for (int j = 0; j < THREADS; j++)
                CHECK_EQ(((unsigned char *)iocp_buffer_data(next))[j], 1);
            iocp_buffer_unref(next);
        } else {
            iocp_buffer_unref(mine);
        }
    }
    return NULL;
}

TEST(last_reference_sees_the_writes_of_all)
{
    shared_pool = make_pool(THREADS, 1);
    CHECK_EQ(pthread_barrier_init(&barrier, NULL, THREADS), 0);
    run_threads(write_and_drop);
    iocp_pool_unref(shared_pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

/* The pool ends while its buffers come back from other threads: one of them frees it. */
static struct iocp_buffer *scattered[THREADS];

static void *return_one(void *argument)
{
    pthread_barrier_wait(&barrier);
    iocp_buffer_unref(scattered[(size_t)argument]);
    if ((size_t)argument == 0)
        iocp_pool_unref(shared_pool);
    return NULL;
}

TEST(pool_ends_once_whoever_is_last)
{
    CHECK_EQ(pthread_barrier_init(&barrier, NULL, THREADS), 0);
    for (int i = 0; i < 100; i++) {
        shared_pool = make_pool(8, 0);
        CHECK_EQ(iocp__pool_take_many(shared_pool, scattered, THREADS), THREADS);
        run_threads(return_one);
        CHECK_EQ(iocp_memory_count(), 0);
    }
}

/* Waits by arm alone: a call that gets lost makes it hang. */
static struct iocp__parker bell;

static void ready_rings(void *context)
{
    iocp__parker_release(context);
}

static void *take_when_told(void *argument)
{
    if ((size_t)argument != 0)
        return take_and_return(argument);
    for (int i = 0; i < 3000; i++) {
        struct iocp_buffer *buffer;
        while (iocp_buffer_take(shared_pool, &buffer) == IOCP_EFULL) {
            if (iocp__pool_arm(shared_pool, ready_rings, &bell))
                CHECK_EQ(iocp__parker_wait(&bell, UINT64_MAX), 0);
        }
        memset(iocp_buffer_data(buffer), 0, 64);
        iocp_buffer_unref(buffer);
    }
    CHECK_EQ(iocp__pool_arm(shared_pool, NULL, NULL), 0);
    return NULL;
}

TEST(armed_asker_is_never_forgotten)
{
    shared_pool = make_pool(64, 1);
    run_threads(take_when_told);
    iocp_pool_unref(shared_pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

/* ---- Lent ones. */

TEST(a_lent_buffer_does_not_count)
{
    struct iocp_pool *pool = make_pool(64, 2);
    struct iocp_buffer *a = take(pool);
    struct iocp_buffer *b = take(pool);
    struct iocp_buffer *c;
    struct iocp_buffer *none = NULL;
    CHECK_EQ(iocp_buffer_take(pool, &none), IOCP_EFULL);
    CHECK(iocp__buffer_lend(a, 32));
    CHECK(iocp__buffer_lend(a, 32)); /* once more is the same */
    c = take(pool);
    CHECK_EQ(iocp_buffer_take(pool, &none), IOCP_EFULL);
    /* What was lent is back and free, and still only two may be out. */
    iocp_buffer_unref(a);
    CHECK_EQ(iocp_buffer_take(pool, &none), IOCP_EFULL);
    iocp_buffer_unref(b);
    CHECK(take(pool) == b);
    CHECK_EQ(iocp_buffer_take(pool, &none), IOCP_EFULL);
    iocp_buffer_unref(b);
    iocp_buffer_unref(c);
    iocp_pool_unref(pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(small_parts_are_lent_up_to_a_quarter)
{
    enum { COUNT = 8 };
    struct iocp_pool *pool = make_pool(64, COUNT);
    struct iocp_buffer *buffers[COUNT];
    CHECK_EQ(iocp__pool_take_many(pool, buffers, COUNT), COUNT);
    CHECK(iocp__buffer_lend(buffers[0], 1));
    CHECK(iocp__buffer_lend(buffers[1], 31));
    CHECK(!iocp__buffer_lend(buffers[2], 31));
    CHECK(!iocp__buffer_lend(buffers[0], 1)); /* another holder would keep it longer */
    CHECK(iocp__buffer_lend(buffers[2], 32));
    iocp_buffer_unref(buffers[1]);
    CHECK(!iocp__buffer_lend(buffers[3], 31));
    iocp_buffer_unref(buffers[2]);
    CHECK(iocp__buffer_lend(buffers[3], 31));
    iocp_buffer_unref(buffers[0]);
    for (int i = 3; i < COUNT; i++)
        iocp_buffer_unref(buffers[i]);
    iocp_pool_unref(pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(without_a_bound_small_parts_are_not_lent)
{
    struct iocp_pool *pool = make_pool(64, 0);
    struct iocp_buffer *buffer = take(pool);
    CHECK(!iocp__buffer_lend(buffer, 31));
    CHECK(iocp__buffer_lend(buffer, 32));
    iocp_buffer_unref(buffer);
    iocp_pool_unref(pool);
    CHECK_EQ(iocp_buffer_copy("text", 5, &buffer), 0);
    CHECK(iocp__buffer_lend(buffer, 1)); /* it is in no pool */
    iocp_buffer_unref(buffer);
    CHECK_EQ(iocp_memory_count(), 0);
}

/* Who waits for a buffer need not wait for the one that was lent. */
TEST(lending_calls_who_waits)
{
    struct iocp_pool *pool = make_pool(64, 1);
    struct call call = {.pool = pool};
    struct iocp_buffer *buffer = take(pool);
    CHECK_EQ(iocp__pool_arm(pool, ready_takes, &call), 1);
    CHECK(iocp__buffer_lend(buffer, 64));
    CHECK_EQ(call.count, 1);
    CHECK(call.taken != NULL && call.taken != buffer);
    iocp_buffer_unref(buffer);
    iocp_buffer_unref(call.taken);
    iocp_pool_unref(pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

/* A return of what was lent lets nobody take more than the bound: it calls nobody. */
TEST(return_of_a_lent_buffer_calls_nobody)
{
    struct iocp_pool *pool = make_pool(64, 1);
    unsigned calls = 0;
    struct iocp_buffer *lent = take(pool);
    struct iocp_buffer *other;
    CHECK(iocp__buffer_lend(lent, 64));
    other = take(pool);
    CHECK_EQ(iocp__pool_arm(pool, ready_counts, &calls), 1);
    iocp_buffer_unref(lent);
    CHECK_EQ(calls, 0);
    iocp_buffer_unref(other);
    CHECK_EQ(calls, 1);
    iocp_pool_unref(pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

/* What happens while another thread's buffer is made, which then fails. */
struct meanwhile {
    struct iocp_pool *pool;
    struct iocp_buffer *lent;
    unsigned calls;
    int due;
};

static void *allocate_and_fail(void *context, size_t size)
{
    struct meanwhile *meanwhile = context;
    if (!meanwhile->due)
        return malloc(size);
    meanwhile->due = 0;
    CHECK_EQ(iocp__pool_arm(meanwhile->pool, ready_counts, &meanwhile->calls), 1);
    iocp_buffer_unref(meanwhile->lent);
    CHECK_EQ(meanwhile->calls, 0); /* the one being made counts */
    return NULL;
}

static void release_as_usual(void *context, void *memory, size_t size)
{
    (void)context;
    (void)size;
    free(memory);
}

TEST(failed_allocation_calls_who_waits)
{
    struct meanwhile meanwhile = {0};
    struct iocp_allocator allocator = {allocate_and_fail, release_as_usual, &meanwhile};
    struct iocp_buffer *buffer;
    CHECK_EQ(iocp_allocator_set(&allocator), 0);
    meanwhile.pool = make_pool(64, 1);
    meanwhile.lent = take(meanwhile.pool);
    CHECK(iocp__buffer_lend(meanwhile.lent, 64));
    meanwhile.due = 1;
    CHECK_EQ(iocp_buffer_take(meanwhile.pool, &buffer), IOCP_ENOMEM);
    CHECK_EQ(meanwhile.calls, 1);
    buffer = take(meanwhile.pool);
    CHECK(buffer == meanwhile.lent);
    iocp_buffer_unref(buffer);
    iocp_pool_unref(meanwhile.pool);
    CHECK_EQ(iocp_memory_count(), 0);
    CHECK_EQ(iocp_allocator_set(NULL), 0);
}

TEST(what_lending_added_is_not_kept)
{
    enum { BOUND = 2, LENT = 50 };
    struct iocp_pool *pool = make_pool(64, BOUND);
    struct iocp_buffer *lent[LENT];
    for (int i = 0; i < LENT; i++) {
        lent[i] = take(pool);
        CHECK(iocp__buffer_lend(lent[i], 64));
    }
    CHECK_EQ(iocp_memory_count(), 1 + LENT);
    for (int i = 0; i < LENT; i++)
        iocp_buffer_unref(lent[i]);
    CHECK_EQ(iocp_memory_count(), 1 + BOUND);
    iocp_pool_unref(pool);
    CHECK_EQ(iocp_memory_count(), 0);
}
