/* POSIX threads for tests in the simulation: included in front of each of their files, so that what
 * they call makes simulated threads, and waits as the simulation does. What they use of pthread.h
 * is here, and no more. */
#ifndef TESTS_SUPPORT_THREADS_SIM_H
#define TESTS_SUPPORT_THREADS_SIM_H

#include <iocp/abi.h>

#include <pthread.h>

/* Zeroed memory is ready to use. */
struct sim_mutex {
    uint32_t held;
};

struct sim_condition {
    uint32_t signals;
};

struct sim_barrier {
    uint32_t count;
    uint32_t waiting;
    uint32_t rounds;
};

/* 0, or EAGAIN. The thread's number is its index in the run. */
int sim_thread_create(pthread_t *out_thread, void *(*run)(void *argument), void *argument);
int sim_thread_join(pthread_t thread);

int sim_mutex_init(struct sim_mutex *mutex);
int sim_mutex_lock(struct sim_mutex *mutex);
int sim_mutex_unlock(struct sim_mutex *mutex);

int sim_condition_init(struct sim_condition *condition);
/* 0 when the time is over. A signal wakes all that wait. */
int sim_condition_wait(struct sim_condition *condition, struct sim_mutex *mutex,
                       uint64_t deadline_ns);
int sim_condition_signal(struct sim_condition *condition);

int sim_barrier_init(struct sim_barrier *barrier, uint32_t count);
int sim_barrier_destroy(struct sim_barrier *barrier);
int sim_barrier_wait(struct sim_barrier *barrier);

#define pthread_mutex_t struct sim_mutex
#define pthread_cond_t struct sim_condition
#define pthread_barrier_t struct sim_barrier
#undef PTHREAD_MUTEX_INITIALIZER
#undef PTHREAD_COND_INITIALIZER
#define PTHREAD_MUTEX_INITIALIZER                                                                  \
    {                                                                                              \
        0                                                                                          \
    }
#define PTHREAD_COND_INITIALIZER                                                                   \
    {                                                                                              \
        0                                                                                          \
    }

#define pthread_create(thread, attributes, run, argument) sim_thread_create(thread, run, argument)
#define pthread_join(thread, result) sim_thread_join(thread)
#define pthread_mutex_init(mutex, attributes) sim_mutex_init(mutex)
#define pthread_mutex_lock(mutex) sim_mutex_lock(mutex)
#define pthread_mutex_unlock(mutex) sim_mutex_unlock(mutex)
#define pthread_cond_init(condition, attributes) sim_condition_init(condition)
#define pthread_cond_broadcast(condition) sim_condition_signal(condition)
#define pthread_barrier_init(barrier, attributes, count) sim_barrier_init(barrier, count)
#define pthread_barrier_wait(barrier) sim_barrier_wait(barrier)
#define pthread_barrier_destroy(barrier) sim_barrier_destroy(barrier)

#endif
