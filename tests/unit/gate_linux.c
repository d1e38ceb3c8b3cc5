/* The gate from inside: who is woken when a handler blocks, who finds that it does, and what is
 * learned from it. What follows for users of a port is in tests/port/gate.c. Windows' kernel is the
 * gate there, and does these things itself. */
#include "base/atomic.h"
#include "core/gate.h"
#include "core/worker.h"
#include "support/port.h"

#include <iocp/error.h>

#define WATCH (16 * 1000 * 1000)

struct stay {
    struct call call; /* first */
    struct iocp_port *port;
    int declared;
    struct iocp__worker *heir; /* who has the lane right after the declaration */
    struct latch inside;
    struct latch release;
    struct latch answered;
};

static void stay_run(const struct iocp_packet *packet)
{
    struct stay *stay = (struct stay *)packet->op;
    if (stay->declared)
        iocp_blocking_begin();
    stay->heir = iocp__load_relaxed(&stay->port->lanes[0]->holder);
    latch_add(&stay->inside, 1);
    latch_wait_for(&stay->release, 1);
    if (stay->declared)
        iocp_blocking_end();
    call_answered(packet);
}

static void stay_init(struct stay *stay, struct iocp_port *port, int declared)
{
    stay->port = port;
    call_init(&stay->call);
    iocp_op_init(&stay->call.op, stay_run);
    stay->declared = declared;
    latch_init(&stay->inside);
    latch_init(&stay->release);
    latch_init(&stay->answered);
    stay->call.latch = &stay->answered;
}

static struct iocp_port *gate_port(uint32_t concurrency, uint32_t watch_ns)
{
    struct iocp_port_config config;
    port_config(&config, concurrency);
    config.lanes = 1;
    config.watch_ns = watch_ns;
    return port_open_config(&config);
}

static uint64_t gate_wakes(struct iocp_port *port)
{
    struct iocp_port_stats stats;
    iocp_port_stats(port, &stats);
    return stats.wakes;
}

/* Four workers, the first asleep in the lane. Its handler blocks: one of the others is woken, and
 * no more than one, and the lane is its own before it runs. */
TEST(one_wake_hands_a_lane_over)
{
    struct crew crew;
    struct stay stay;
    struct thing thing;
    char byte;
    int pair[2];
    struct iocp_port *port = gate_port(1, 0);
    crew_start(&crew, port, 4);
    make_local_pair(pair);
    thing_init(&thing);
    CHECK_EQ(iocp_port_register(port, &thing.object, pair[0], 0), 0);
    stay_init(&stay, port, 1);
    iocp_op_recv(&stay.call.op, &byte, 1);
    call_submit(&stay.call, port, &thing.object);
    crew_wait_asleep(&crew);
    struct iocp__worker *first = iocp__load_relaxed(&port->lanes[0]->holder);
    uint64_t before = gate_wakes(port);
    send_all(pair[1], "x", 1);
    latch_wait_for(&stay.inside, 1);
    CHECK(stay.heir && stay.heir != first);
    CHECK_EQ(gate_wakes(port) - before, 1);
    latch_add(&stay.release, 1);
    latch_wait_for(&stay.answered, 1);
    crew_stop(&crew);
    iocp_object_close(&thing.object);
    iocp_object_unref(&thing.object);
    thing_wait_gone(&thing, port);
    net_close(pair[1]);
    port_end(port);
}

/* Nobody ticks: a worker that goes from packet to packet finds the one that blocks. */
TEST(a_busy_worker_finds_a_blocked_one)
{
    struct crew crew;
    struct stay stay;
    struct call next;
    struct iocp_port_stats stats;
    struct iocp_port *port = gate_port(2, WATCH);
    port->watch.started = 1; /* so it is not started */
    crew_start(&crew, port, 1);
    stay_init(&stay, port, 0);
    call_init(&next);
    call_post(&stay.call, port, 0, 0);
    latch_wait_for(&stay.inside, 1);
    do {
        call_post(&next, port, 0, 0);
        call_wait(&next, port);
        iocp_port_stats(port, &stats);
    } while (stats.detected == 0);
    CHECK_EQ(stats.detected, 1);
    CHECK_EQ(stats.running_max, 2);
    latch_add(&stay.release, 1);
    latch_wait_for(&stay.answered, 1);
    crew_stop(&crew);
    port->watch.started = 0;
    port_end(port);
}

/* A handler that blocked says nothing of how long packets take: or else the next ones would be
 * thought worth a wake each. */
TEST(blocking_is_no_work)
{
    struct crew crew;
    struct stay stay;
    struct iocp_port *port = gate_port(1, 0);
    crew_start(&crew, port, 2);
    stay_init(&stay, port, 1);
    call_post(&stay.call, port, 0, 0);
    latch_wait_for(&stay.inside, 1);
    latch_add(&stay.release, 1);
    latch_wait_for(&stay.answered, 1);
    crew_wait_asleep(&crew);
    for (struct iocp__worker *worker = port->workers; worker; worker = worker->next)
        CHECK_EQ(worker->handler_ns, 0);
    crew_stop(&crew);
    port_end(port);
}

/* The only ticket is with a worker without a lane, and packets wait in the lane of one that sleeps:
 * that one gets it, before it is woken by each further arrival for nothing. */
TEST(a_ticket_goes_to_the_lane)
{
    struct crew crew;
    struct call call;
    struct latch answered = LATCH_INIT;
    struct iocp__worker *worker;
    struct iocp_port *port = gate_port(1, 0);
    crew_start(&crew, port, 1);
    CHECK_EQ(iocp__worker_get(port, &worker), 0);
    iocp__gate_enter(port, worker);
    CHECK(iocp__gate_ticket(port, worker));
    iocp__gate_make_way(port, worker);
    CHECK(worker->ticket); /* no packets, nobody to make way for */
    call_init(&call);
    call.latch = &answered;
    call_post(&call, port, 0, 0);
    iocp__gate_make_way(port, worker);
    CHECK(!worker->ticket);
    latch_wait_for(&answered, 1);
    iocp__gate_leave(port, worker);
    crew_stop(&crew);
    port_end(port);
}
