/* Workload i: libuv, as its documentation has it. Its loop keeps the time; a program that starts
 * timers outside of callbacks updates it first. */
#include "timers.h"

#include <stdlib.h>
#include <uv.h>

static uv_loop_t loop;
static uv_timer_t *timers;
static uint32_t timer_count;
static void (*ended_callback)(uint32_t index);

static void timer_ended(uv_timer_t *timer)
{
    ended_callback((uint32_t)(timer - timers));
}

static void loop_open(uint32_t count, void (*ended)(uint32_t index))
{
    ended_callback = ended;
    timer_count = count;
    timers = micro_allocate(count * sizeof(*timers));
    micro_check(uv_loop_init(&loop) == 0, "libuv", "a loop");
    for (uint32_t i = 0; i < count; i++)
        uv_timer_init(&loop, &timers[i]);
}

static void loop_update(void)
{
    uv_update_time(&loop);
}

static void loop_start(uint32_t index, uint64_t timeout_ms)
{
    uv_timer_start(&timers[index], timer_ended, timeout_ms, 0);
}

static void loop_cancel(uint32_t index)
{
    uv_timer_stop(&timers[index]);
}

static void loop_run(void)
{
    uv_run(&loop, UV_RUN_NOWAIT);
}

static void loop_close(void)
{
    for (uint32_t i = 0; i < timer_count; i++)
        uv_close((uv_handle_t *)&timers[i], NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    free(timers);
}

static const struct timers_peer peer = {"libuv",     loop_open, loop_update, loop_start,
                                        loop_cancel, NULL,      loop_run,    loop_close};

const struct timers_peer *const timers_peers[] = {&peer, NULL};
