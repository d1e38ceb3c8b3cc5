/* Workload i, the driver. With `count` timers, a million:
 *
 *   start: all of them, to end in 10 to 70 minutes, in random order of their deadlines;
 *   start and cancel: with all of them pending, the oldest is canceled and started anew, as a
 *     server does with the time limits of its sessions;
 *   cancel: all of them, in random order;
 *   expire: all of them, of which each is due within the next second, when that second is over.
 *
 * Checked: none ends that was canceled, each other one once, in the order of the deadlines as far
 * as the driver knows them: give or take the time that it took to start all, and the grain of the
 * peer's clock. */
#include "timers.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MINUTE_MS 60000
#define SECOND_MS 1000
#define CLOCK_MS 12 /* peers look at a clock that moves with the tick, of 10 ms at most */
#define TURN 100    /* timers that a turn of a server cancels; divides the counts */

static struct {
    const char *impl;
    uint32_t count;
    uint32_t ended;
    uint32_t last_ms;
    uint32_t spread_ms; /* the first timer was started so long before the last */
    int ordered;
    uint32_t *timeouts_ms;
    uint8_t *pending;
} world;

static void driver_ended(uint32_t index)
{
    micro_check(index < world.count && world.pending[index], world.impl, "a timer ends once");
    world.pending[index] = 0;
    uint32_t timeout_ms = world.timeouts_ms[index];
    if (timeout_ms + world.spread_ms < world.last_ms)
        world.ordered = 0;
    if (timeout_ms > world.last_ms)
        world.last_ms = timeout_ms;
    world.ended++;
}

static void driver_draw(uint32_t first_ms, uint32_t range_ms)
{
    uint64_t state = 7;
    for (uint32_t i = 0; i < world.count; i++)
        world.timeouts_ms[i] = first_ms + micro_random(&state) % range_ms;
}

static uint64_t driver_start_all(const struct timers_peer *peer)
{
    memset(world.pending, 1, world.count);
    uint64_t first_ns = micro_now_ns();
    uint64_t begin_ns = micro_cpu_ns();
    peer->update();
    for (uint32_t i = 0; i < world.count; i++)
        peer->start(i, world.timeouts_ms[i]);
    uint64_t time_ns = micro_cpu_ns() - begin_ns;
    world.spread_ms = (uint32_t)((micro_now_ns() - first_ns) / 1000000) + CLOCK_MS;
    return time_ns;
}

static void driver_settle(const struct timers_peer *peer, uint64_t canceled)
{
    if (peer->settle)
        peer->settle(canceled);
}

/* The oldest again and again. */
static uint64_t driver_churn(const struct timers_peer *peer)
{
    uint64_t begin_ns = micro_cpu_ns();
    for (uint32_t i = 0; i < world.count;) {
        uint32_t end = i + TURN;
        uint32_t first = i;
        for (; i < end; i++)
            peer->cancel(i);
        driver_settle(peer, TURN);
        peer->update();
        for (i = first; i < end; i++)
            peer->start(i, world.timeouts_ms[world.count - 1 - i]);
    }
    return micro_cpu_ns() - begin_ns;
}

static uint64_t driver_cancel_all(const struct timers_peer *peer, const uint32_t *order)
{
    memset(world.pending, 0, world.count);
    uint64_t begin_ns = micro_cpu_ns();
    for (uint32_t i = 0; i < world.count;) {
        for (uint32_t end = i + TURN; i < end; i++)
            peer->cancel(order[i]);
        driver_settle(peer, TURN);
    }
    return micro_cpu_ns() - begin_ns;
}

static uint64_t driver_expire_all(const struct timers_peer *peer)
{
    struct timespec pause = {.tv_sec = 1, .tv_nsec = 100 * 1000 * 1000};
    nanosleep(&pause, NULL); /* the deadlines pass; no thread runs the timers meanwhile */
    uint64_t begin_ns = micro_cpu_ns();
    while (world.ended < world.count)
        peer->run();
    return micro_cpu_ns() - begin_ns;
}

static void driver_report(const char *name, uint64_t time_ns)
{
    micro_report("i", name, world.impl, "CPU ns/timer", (double)time_ns / (double)world.count);
}

static void run_peer(const struct timers_peer *peer, uint32_t count)
{
    uint32_t *order = micro_allocate(count * sizeof(*order));
    memset(&world, 0, sizeof(world));
    world.impl = peer->impl;
    world.count = count;
    world.ordered = 1;
    world.timeouts_ms = micro_allocate(count * sizeof(*world.timeouts_ms));
    world.pending = micro_allocate(count);
    micro_shuffled(order, count);
    peer->open(count, driver_ended);
    driver_draw(10 * MINUTE_MS, 60 * MINUTE_MS);
    driver_report("start", driver_start_all(peer));
    driver_report("start and cancel", driver_churn(peer));
    driver_report("cancel", driver_cancel_all(peer, order));
    peer->run();
    micro_check(world.ended == 0, peer->impl, "no canceled timer ends");
    driver_draw(1, SECOND_MS);
    driver_start_all(peer);
    driver_report("expire", driver_expire_all(peer));
    peer->run();
    micro_check(world.ended == count, peer->impl, "each timer ends once");
    micro_check(world.ordered, peer->impl, "timers end in the order of their deadlines");
    peer->close();
    free(order);
    free(world.timeouts_ms);
    free(world.pending);
}

int main(int argc, char **argv)
{
    struct micro_options options;
    micro_begin(argc, argv, &options);
    for (uint32_t i = 0; timers_peers[i]; i++) {
        if (micro_wanted(&options, timers_peers[i]->impl))
            run_peer(timers_peers[i], options.quick ? 100000 : 1000000);
    }
    return 0;
}
