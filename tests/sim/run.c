/* One run of a scenario: what main.c (seeds) and the fuzz targets (bytes) start. */
#include "sim.h"

#include "os/sim_host.h"

#include <stdlib.h>

struct knobs knobs;
struct tally tally;

uint32_t sim_below(uint32_t count)
{
    return iocp__sim_below(IOCP__SIM_MODEL, count);
}

int sim_once_in(uint32_t count)
{
    return sim_below(count) == 0;
}

static void *allocate(void *context, size_t size)
{
    (void)context;
    if (iocp__sim_chance(IOCP__SIM_MEMORY))
        return NULL;
    void *memory = malloc(size);
    /* Nobody relies on what was never written. */
    for (size_t i = 0; memory && i < size; i++)
        ((volatile unsigned char *)memory)[i] = 0xa5;
    return memory;
}

static void release(void *context, void *memory, size_t size)
{
    (void)context;
    (void)size;
    free(memory);
}

void sim_prepare(void)
{
    static const struct iocp_allocator allocator = {allocate, release, NULL};
    int error = iocp_allocator_set(&allocator);
    SIM_CHECK(error == 0, "the allocator cannot be set: %d", error);
    iocp__sim_host_pin();
}

void sim_run(const struct sim_job *job)
{
    static const uint32_t preempts[] = {0, 300, 25};
    struct iocp__sim_config config = {
        .seed = job->seed,
        .bytes = job->bytes,
        .byte_count = job->byte_count,
        .preempt = preempts[knobs.preempt % 3],
        .fault =
            {
                [IOCP__SIM_SHORT] = knobs.sometimes_short,
                [IOCP__SIM_LATE] = knobs.sometimes_late,
                [IOCP__SIM_CANCEL] = knobs.sometimes_cancel,
                [IOCP__SIM_SPURIOUS] = knobs.sometimes_spurious,
                [IOCP__SIM_REFUSE] = knobs.sometimes_refuse,
                [IOCP__SIM_RESET] = knobs.sometimes_reset,
                [IOCP__SIM_ACCEPT] = knobs.sometimes_accept,
                [IOCP__SIM_CONNECT] = knobs.sometimes_connect,
                [IOCP__SIM_MEMORY] = knobs.sometimes_memory,
                [IOCP__SIM_HANDLES] = knobs.sometimes_handles,
                [IOCP__SIM_THREADS] = knobs.sometimes_threads,
            },
        .handles_max = knobs.handles,
        .latency_max_ns = knobs.latency * 1000,
        .window_max = knobs.window,
        .time_max_ns = UINT64_C(600) * 1000000000,
        .steps_max = 5000000,
        .trace = job->trace,
        .quiet = sim_quiet,
    };
    iocp__sim_run(&config, job->scenario);
    iocp__sim_net_free();
    SIM_CHECK(iocp_memory_count() == 0 && iocp_memory_size() == 0,
              "%zu blocks of %zu bytes are left", iocp_memory_count(), iocp_memory_size());
}
