/* What holds of a port whenever no thread can go on until some time: then nobody is on his way to
 * anything, and what is still to be done was forgotten. */
#include "core/types.h"
#include "sim.h"

#define PORTS_MAX 8

static struct iocp_port *ports[PORTS_MAX];
static uint32_t port_count;

void (*sim_quiet_also)(void);

void sim_port_add(struct iocp_port *port)
{
    SIM_CHECK(port_count < PORTS_MAX, "too many ports");
    ports[port_count++] = port;
}

void sim_port_remove(struct iocp_port *port)
{
    for (uint32_t i = 0; i < port_count; i++) {
        if (ports[i] == port)
            ports[i--] = ports[--port_count];
    }
}

int sim_ports_busy(void)
{
    for (uint32_t i = 0; i < port_count; i++) {
        for (struct iocp__worker *worker = ports[i]->workers; worker; worker = worker->next) {
            if (worker->phase == IOCP__PHASE_BUSY || worker->phase == IOCP__PHASE_SEIZED)
                return 1;
        }
    }
    return 0;
}

static uint32_t sim_queue_count(const struct iocp__queue *queue)
{
    uint32_t count = 0;
    for (const struct iocp_event *event = queue->first; event; event = event->next) {
        count++;
        SIM_CHECK(event->next || event == queue->last, "a queue whose last is not its end");
    }
    return count;
}

/* lane.c, 3 and 5. */
static void sim_check_lane(const struct iocp__lane *lane)
{
    SIM_CHECK(!lane->lock.word, "lane %u: its lock is held by a thread that sleeps", lane->index);
    SIM_CHECK(lane->ready.count == sim_queue_count(&lane->ready), "lane %u: ready.count",
              lane->index);
    SIM_CHECK(lane->ready_count == lane->ready.count, "lane %u: ready_count", lane->index);
    SIM_CHECK(!lane->sleeping || (!lane->inbox.first && !lane->cancels && !lane->changes),
              "lane %u sleeps with orders", lane->index);
}

/* gate.c, 1 and 2; gate_kernel.c, 1 and 2. */
static void sim_check_stack(const struct iocp_port *port)
{
    const struct iocp__gate *gate = &port->gate;
    uint32_t waiting = 0;
    uint32_t tickets = 0;
    uint32_t stale = 0;
    for (const struct iocp__worker *worker = port->workers; worker; worker = worker->next) {
        waiting += worker->waiting;
        tickets += worker->ticket + worker->granted;
        stale += worker->stale;
    }
    uint32_t on_stack = 0;
    for (const struct iocp__worker *worker = gate->top; worker; worker = worker->below)
        on_stack++;
    SIM_CHECK(on_stack == waiting && on_stack == gate->sleepers,
              "%u workers wait, %u are on the stack, %u are counted", waiting, on_stack,
              gate->sleepers);
    if (port->shared)
        SIM_CHECK(stale == gate->stale, "%u workers are stale, %u are counted", stale, gate->stale);
    else
        SIM_CHECK(tickets == gate->running && gate->running <= gate->limit,
                  "%u tickets are out, %u are counted, of %u", tickets, gate->running, gate->limit);
}

static int sim_lane_has_orders(const struct iocp__lane *lane)
{
    return lane->inbox.first || lane->cancels || lane->changes;
}

/* Rules W, D, L; H and E. Some worker waits, and none is out. */
static void sim_check_undone(struct iocp_port *port, uint64_t until_ns)
{
    SIM_CHECK(!port->closed, "a worker waits at a closed port");
    for (uint32_t i = 0; i < port->lane_count; i++) {
        const struct iocp__lane *lane = port->lanes[i];
        SIM_CHECK(!lane->ready_count, "lane %u: %u packets, and nobody comes", i,
                  lane->ready_count);
        SIM_CHECK(!sim_lane_has_orders(lane), "lane %u has orders, and nobody comes", i);
        SIM_CHECK(!lane->owed, "lane %u: a bell is owed, and nobody rings", i);
        SIM_CHECK(!lane->released, "lane %u: closed objects are not given back", i);
        SIM_CHECK(port->shared || lane->holder || lane->watcher || !lane->objects,
                  "lane %u has objects, and nobody looks after it", i);
        SIM_CHECK(!port->shared || !lane->due, "lane %u is due, and nobody comes", i);
    }
    uint64_t first = port->timers.first_ns;
    SIM_CHECK(until_ns <= first, "a timer is %llu ns late", (unsigned long long)(until_ns - first));
    SIM_CHECK(!port->gate.stale, "workers are to return, and sleep");
}

/* Rule H: where the kernel is the gate, a worker that sleeps in its handler leaves nothing behind
 * that others could take. */
static void sim_check_left(const struct iocp_port *port)
{
    uint32_t out = 0;
    for (const struct iocp__worker *worker = port->workers; worker; worker = worker->next)
        out += worker->phase == IOCP__PHASE_BUSY && iocp__thread_asleep(&worker->view) == 0;
    for (uint32_t i = 0; i < port->lane_count && out < port->gate.limit; i++)
        SIM_CHECK(!port->lanes[i]->ready_count,
                  "lane %u: %u packets, their workers sleep, and nobody else comes", i,
                  port->lanes[i]->ready_count);
}

static int sim_is_busy(const struct iocp_port *port)
{
    for (struct iocp__worker *worker = port->workers; worker; worker = worker->next) {
        if (worker->phase == IOCP__PHASE_BUSY || worker->phase == IOCP__PHASE_SEIZED)
            return 1;
    }
    return 0;
}

/* All of the above, and the invariant of watch.c. */
void sim_quiet(uint64_t until_ns)
{
    for (uint32_t i = 0; i < port_count; i++) {
        struct iocp_port *port = ports[i];
        SIM_CHECK(!port->gate.lock.word, "the gate's lock is held by a thread that sleeps");
        for (uint32_t lane = 0; lane < port->lane_count; lane++)
            sim_check_lane(port->lanes[lane]);
        sim_check_stack(port);
        SIM_CHECK(!port->watch.started || !port->gate.running || port->watch.armed,
                  "%u workers are out, and the watch sleeps", port->gate.running);
        if (port->gate.top && !sim_is_busy(port))
            sim_check_undone(port, until_ns);
        else if (port->gate.top && port->shared)
            sim_check_left(port);
    }
    if (sim_quiet_also)
        sim_quiet_also();
}
