/* Threads of tests in the simulation. See threads_sim.h. */
#include "support/threads_sim.h"

#include "base/assert.h"
#include "os/sim.h"

#include <errno.h>

void iocp__sim_point(void);

/* ---- Threads. */

struct sim_start {
    void *(*run)(void *argument);
    void *argument;
};

static void thread_run(void *context)
{
    struct sim_start start = *(struct sim_start *)context;
    iocp__sim_release(context);
    start.run(start.argument);
}

int sim_thread_create(pthread_t *out_thread, void *(*run)(void *argument), void *argument)
{
    struct iocp__thread thread;
    struct sim_start *start = iocp__sim_allocate(sizeof(*start));
    *start = (struct sim_start){run, argument};
    if (iocp__thread_start(&thread, "test", thread_run, start) < 0) {
        iocp__sim_release(start);
        return EAGAIN;
    }
    *out_thread = (pthread_t)thread.id;
    return 0;
}

int sim_thread_join(pthread_t thread)
{
    struct iocp__thread joined = {(uintptr_t)thread};
    iocp__thread_join(&joined);
    return 0;
}

/* ---- Waiting. */

static uint64_t mutex_wake_ns(void *context)
{
    return ((struct sim_mutex *)context)->held ? UINT64_MAX : 0;
}

int sim_mutex_init(struct sim_mutex *mutex)
{
    mutex->held = 0;
    return 0;
}

int sim_mutex_lock(struct sim_mutex *mutex)
{
    iocp__sim_point();
    while (mutex->held)
        iocp__sim_block(mutex_wake_ns, mutex, UINT64_MAX);
    mutex->held = 1;
    return 0;
}

int sim_mutex_unlock(struct sim_mutex *mutex)
{
    iocp__assert(mutex->held);
    mutex->held = 0;
    iocp__sim_point();
    return 0;
}

int sim_condition_init(struct sim_condition *condition)
{
    condition->signals = 0;
    return 0;
}

/* A count that others change, as it was when somebody began to wait for that. */
struct sim_change {
    const uint32_t *count;
    uint32_t before;
};

static uint64_t change_wake_ns(void *context)
{
    const struct sim_change *change = context;
    return *change->count != change->before ? 0 : UINT64_MAX;
}

int sim_condition_wait(struct sim_condition *condition, struct sim_mutex *mutex,
                       uint64_t deadline_ns)
{
    struct sim_change change = {&condition->signals, condition->signals};
    mutex->held = 0;
    iocp__sim_block(change_wake_ns, &change, deadline_ns);
    int signaled = change_wake_ns(&change) == 0;
    sim_mutex_lock(mutex);
    return signaled;
}

int sim_condition_signal(struct sim_condition *condition)
{
    condition->signals++;
    iocp__sim_point();
    return 0;
}

int sim_barrier_init(struct sim_barrier *barrier, uint32_t count)
{
    *barrier = (struct sim_barrier){count, 0, 0};
    return 0;
}

int sim_barrier_destroy(struct sim_barrier *barrier)
{
    iocp__assert(!barrier->waiting);
    return 0;
}

int sim_barrier_wait(struct sim_barrier *barrier)
{
    struct sim_change change = {&barrier->rounds, barrier->rounds};
    if (++barrier->waiting < barrier->count) {
        iocp__sim_block(change_wake_ns, &change, UINT64_MAX);
        return 0;
    }
    barrier->waiting = 0;
    barrier->rounds++;
    iocp__sim_yield();
    return 0;
}
