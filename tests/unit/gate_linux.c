/* The gate from inside: who finds that a handler blocks, and what is learned from it. What follows
 * for users of a port is in tests/port/gate.c. Windows' kernel is the gate there, and does these
 * things itself. */
#include "core/gate.h"
#include "support/port.h"

#include <iocp/error.h>

#define WATCH (16 * 1000 * 1000)

struct stay {
    struct call call; /* first */
    int declared;
    struct latch inside;
    struct latch release;
    struct latch answered;
};

static void stay_run(const struct iocp_packet *packet)
{
    struct stay *stay = (struct stay *)packet->op;
    if (stay->declared)
        iocp_blocking_begin();
    latch_add(&stay->inside, 1);
    latch_wait_for(&stay->release, 1);
    if (stay->declared)
        iocp_blocking_end();
    call_answered(packet);
}

static void stay_init(struct stay *stay, int declared)
{
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
    stay_init(&stay, 0);
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
    stay_init(&stay, 1);
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
