/* The worker pool: threads that dispatch one port until they are told to stop.
 *
 * Invariant: `stopping` is set before the port's wake epoch grows; a worker takes the epoch before
 * it looks at `stopping`. So either it sees the flag, or its wait ends at once. */
#include "core/port.h"
#include "core/worker.h"

#include "base/alloc.h"
#include "base/atomic.h"

#include <iocp/workers.h>

#include <stdio.h>
#include <string.h>

struct workers_member {
    struct iocp_workers *workers;
    struct iocp__thread thread;
    uint32_t index;
};

struct iocp_workers {
    struct iocp_port *port;
    struct iocp_workers_config config;
    char name[11];
    uint32_t stopping; /* atomic */
    uint32_t count;    /* members started */
    uint32_t capacity;
    struct workers_member members[];
};

static IOCP__THREAD_LOCAL struct iocp_workers *workers_mine;

/* No memory for the thread's record: the pool must not lose a worker for it. */
static void workers_pause(void)
{
    struct iocp__parker parker = {0};
    iocp__parker_wait(&parker, iocp__os_now_ns() + 10 * 1000 * 1000);
}

static void workers_run(void *context)
{
    struct workers_member *member = context;
    struct iocp_workers *workers = member->workers;
    const struct iocp_workers_config *config = &workers->config;
    workers_mine = workers;
    if (config->started)
        config->started(config->context, member->index);
    for (;;) {
        uint64_t epoch = iocp__port_epoch(workers->port);
        /* Acquire: what the stopper did before is seen by `stopped`. */
        if (iocp__load_acquire(&workers->stopping))
            break;
        int result = iocp__port_dispatch_since(workers->port, IOCP_WAIT_FOREVER, epoch);
        if (result == IOCP_ECLOSED || result == IOCP_EFULL)
            break;
        if (result == IOCP_ENOMEM)
            workers_pause();
    }
    iocp__worker_leave(workers->port);
    if (config->stopped)
        config->stopped(config->context, member->index);
}

static size_t workers_size(uint32_t capacity)
{
    return sizeof(struct iocp_workers) + capacity * sizeof(struct workers_member);
}

static int workers_start(struct iocp_workers *workers, uint32_t index)
{
    char name[24];
    struct workers_member *member = &workers->members[index];
    member->workers = workers;
    member->index = index;
    snprintf(name, sizeof(name), "%s-%u", workers->name, index);
    return iocp__thread_start(&member->thread, name, workers_run, member);
}

int iocp_workers_launch(struct iocp_port *port, const struct iocp_workers_config *config,
                        struct iocp_workers **out_workers)
{
    struct iocp_workers_config defaults = {0};
    if (!config)
        config = &defaults;
    if (!port || !out_workers || config->count > port->config.workers_max)
        return IOCP_EINVAL;
    uint32_t count = config->count ? config->count : iocp_port_concurrency(port);
    struct iocp_workers *workers = iocp__allocate_zero(workers_size(count));
    if (!workers)
        return IOCP_ENOMEM;
    workers->port = iocp_port_ref(port);
    workers->config = *config;
    workers->capacity = count;
    snprintf(workers->name, sizeof(workers->name), "%s", config->name ? config->name : "iocp");
    for (; workers->count < count; workers->count++) {
        int error = workers_start(workers, workers->count);
        if (error < 0) {
            iocp_workers_stop(workers);
            iocp_workers_join(workers);
            return error;
        }
    }
    *out_workers = workers;
    return 0;
}

void iocp_workers_stop(struct iocp_workers *workers)
{
    if (!workers)
        return;
    /* Release: pairs with the worker's load. */
    iocp__store_release(&workers->stopping, 1);
    iocp_port_wake(workers->port);
}

int iocp_workers_join(struct iocp_workers *workers)
{
    if (!workers)
        return 0;
    if (workers_mine == workers)
        return IOCP_EBUSY;
    for (uint32_t i = 0; i < workers->count; i++)
        iocp__thread_join(&workers->members[i].thread);
    iocp_port_unref(workers->port);
    iocp__release(workers, workers_size(workers->capacity));
    return 0;
}

uint32_t iocp_workers_count(const struct iocp_workers *workers)
{
    return workers->count;
}
