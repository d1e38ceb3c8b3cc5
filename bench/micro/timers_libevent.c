/* Workload i: libevent, as its documentation has it: an event per timer, in the user's memory,
 * without the locks that several threads would need. */
#include "timers.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>

static struct event_base *base;
static struct event *timers;
static uint32_t timer_count;
static void (*ended_callback)(uint32_t index);

static void timer_ended(evutil_socket_t none, short what, void *context)
{
    (void)none;
    (void)what;
    ended_callback((uint32_t)((struct event *)context - timers));
}

static void base_open(uint32_t count, void (*ended)(uint32_t index))
{
    ended_callback = ended;
    timer_count = count;
    base = event_base_new();
    micro_check(base != NULL, "libevent", "an event base");
    timers = micro_allocate(count * sizeof(*timers));
    for (uint32_t i = 0; i < count; i++)
        evtimer_assign(&timers[i], base, timer_ended, &timers[i]);
}

static void base_update(void)
{
    event_base_update_cache_time(base);
}

static void base_start(uint32_t index, uint64_t timeout_ms)
{
    struct timeval timeout = {(time_t)(timeout_ms / 1000), (suseconds_t)(timeout_ms % 1000 * 1000)};
    evtimer_add(&timers[index], &timeout);
}

static void base_cancel(uint32_t index)
{
    evtimer_del(&timers[index]);
}

static void base_run(void)
{
    event_base_loop(base, EVLOOP_NONBLOCK);
}

static void base_close(void)
{
    event_base_free(base);
    free(timers);
}

static const struct timers_peer peer = {"libevent",  base_open, base_update, base_start,
                                        base_cancel, NULL,      base_run,    base_close};

const struct timers_peer *const timers_peers[] = {&peer, NULL};
