/* Tickets, lanes and the stack of waiting workers.
 *
 * Invariants
 * 1. running = workers that are out or were granted a ticket, less those whose ticket was
 *    taken; a ticket is given only while running < limit.
 * 2. A worker is on the stack exactly while waiting is 1.
 * 3. lane->holder is the worker whose `lane` or `granted_lane` it is, or one that visits it, or
 *    NULL.
 * 4. (rule D) While workers wait and none is out, one that waits has the duty: it sleeps no
 *    longer than to the next timer.
 * 5. (rule L) While workers wait and none is out, every free lane with objects is watched by
 *    one that waits.
 *
 * Rule W, no wake is lost: a worker first joins the stack, then looks for packets; a poster first
 * publishes the packet (ready_count), then looks at the stack (sleepers). Both pairs are
 * sequentially consistent, so at least one of them sees the other.
 *
 * While workers are out, rules D and L rest on their return, or, when they do not, on the watch.
 *
 * phase: OUT → INSIDE [enter] → BUSY [exit] → INSIDE [enter] → OUT [leave]
 *        BUSY → SEIZED [block, seize] → INSIDE [enter] */
#include "core/gate.h"

#include "base/assert.h"
#include "base/atomic.h"
#include "core/gate_kernel.h"
#include "core/lane.h"
#include "core/timer.h"

/* Workers to wake once the lock is gone. */
struct gate_wakes {
    struct {
        struct iocp__worker *worker;
        struct iocp__lane *lane;
    } list[4];
    uint32_t count;
};

void iocp__gate_init(struct iocp__gate *gate, uint32_t limit)
{
    gate->limit = limit;
}

static uint32_t gate_lanes(struct iocp_port *port)
{
    /* Acquire: a lane's contents are seen with its number. */
    return iocp__load_acquire(&port->lane_count);
}

/* ---- Under the lock. */

static void gate_count_running(struct iocp__gate *gate, int change)
{
    /* Sequentially consistent with watch->armed: see watch.c. */
    iocp__store_seq(&gate->running, gate->running + (uint32_t)change);
    iocp__assert(gate->running <= gate->limit);
    if (gate->running > gate->running_max)
        gate->running_max = gate->running;
}

void iocp__gate_push(struct iocp__gate *gate, struct iocp__worker *worker)
{
    worker->waiting = 1;
    worker->above = NULL;
    worker->below = gate->top;
    if (gate->top)
        gate->top->above = worker;
    gate->top = worker;
    /* Rule W. */
    iocp__store_seq(&gate->sleepers, gate->sleepers + 1);
}

void iocp__gate_remove(struct iocp__gate *gate, struct iocp__worker *worker)
{
    if (worker->above)
        worker->above->below = worker->below;
    else
        gate->top = worker->below;
    if (worker->below)
        worker->below->above = worker->above;
    worker->waiting = 0;
    iocp__store_seq(&gate->sleepers, gate->sleepers - 1);
    if (gate->duty == worker)
        gate->duty = NULL;
}

static void gate_wake(struct iocp__gate *gate, struct iocp__worker *worker, int grant,
                      struct gate_wakes *wakes)
{
    iocp__gate_remove(gate, worker);
    if (grant) {
        worker->granted = 1;
        gate_count_running(gate, 1);
    }
    gate->wakes++;
    if (worker->wait_lane)
        gate->bells++;
    wakes->list[wakes->count].worker = worker;
    wakes->list[wakes->count].lane = worker->wait_lane;
    wakes->count++;
}

static void gate_hold(struct iocp_port *port, struct iocp__lane *lane, struct iocp__worker *holder)
{
    /* Sequentially consistent: a submitter adds to the inbox, then looks here; who frees a lane
     * does it the other way round. */
    iocp__store_seq(&lane->holder, holder);
    /* Relaxed: a hint that there is something to visit. */
    if (holder)
        iocp__sub_relaxed(&port->free_lanes, 1);
    else
        iocp__add_relaxed(&port->free_lanes, 1);
}

static int gate_ready(struct iocp_port *port)
{
    uint32_t count = gate_lanes(port);
    for (uint32_t i = 0; i < count; i++) {
        struct iocp__lane *lane = port->lanes[i];
        /* Sequentially consistent: rule W. */
        if (iocp__load_seq(&lane->ready_count) &&
            (i == 0 || !iocp__load_seq(&lane->holder) || iocp__load_seq(&lane->hot)))
            return 1;
    }
    return 0;
}

/* A lane that has something to look after and nobody who does. */
static struct iocp__lane *gate_orphan(struct iocp_port *port)
{
    uint32_t count = gate_lanes(port);
    for (uint32_t i = 0; i < count; i++) {
        struct iocp__lane *lane = port->lanes[i];
        /* Relaxed: counted before the first order that concerns the object. */
        if (!lane->holder && !lane->watcher && iocp__load_relaxed(&lane->objects))
            return lane;
    }
    return NULL;
}

static struct iocp__worker *gate_parked(struct iocp__gate *gate)
{
    struct iocp__worker *worker = gate->top;
    while (worker && worker->wait_lane)
        worker = worker->below;
    return worker;
}

/* Restores rules W, D and L after a ticket or a lane was given up, with one wake if possible: a
 * parked worker gets the lane that nobody looks after and the ticket for its packets at once.
 * `stuck`: whoever is out will not come back soon. Who is woken here is not among them, and looks
 * for what else there is before it sleeps. */
static void gate_settle(struct iocp_port *port, int stuck, struct gate_wakes *wakes)
{
    struct iocp__gate *gate = &port->gate;
    if (!gate->top)
        return;
    int grant = gate->running < gate->limit && gate_ready(port);
    struct iocp__lane *orphan = gate_orphan(port);
    struct iocp__worker *heir = orphan ? gate_parked(gate) : NULL;
    if (heir) {
        gate_hold(port, orphan, heir);
        heir->granted_lane = orphan;
    }
    if (heir || grant)
        gate_wake(gate, heir ? heir : gate->top, grant, wakes);
    if (gate->top && orphan && !heir && (stuck || gate->running == 0))
        gate_wake(gate, gate->top, 0, wakes);
    if (gate->top && !gate->duty && !wakes->count && (stuck || gate->running == 0))
        gate_wake(gate, gate->top, 0, wakes);
}

static void gate_drop_ticket(struct iocp__gate *gate, struct iocp__worker *worker)
{
    if (worker->ticket) {
        worker->ticket = 0;
        gate_count_running(gate, -1);
    }
}

static void gate_drop_lane(struct iocp_port *port, struct iocp__worker *worker)
{
    if (worker->lane) {
        worker->lane->watcher = NULL;
        gate_hold(port, worker->lane, NULL);
        worker->lane = NULL;
    }
}

/* ---- After the lock. */

static void gate_deliver(const struct gate_wakes *wakes)
{
    for (uint32_t i = 0; i < wakes->count; i++) {
        struct iocp__lane *lane = wakes->list[i].lane;
        if (lane)
            lane->kernel->backend->bell(lane->kernel);
        else
            iocp__parker_release(&wakes->list[i].worker->parker);
    }
}

static void gate_set_phase(struct iocp__worker *worker, enum iocp__phase phase)
{
    /* Release: who seizes sees all that the worker did with its lane. */
    iocp__store_release(&worker->phase, phase);
}

/* ---- The worker's own steps. */

void iocp__gate_enter(struct iocp_port *port, struct iocp__worker *worker)
{
    if (port->shared) {
        iocp__gate_kernel_enter(port, worker);
        return;
    }
    uint32_t phase = IOCP__PHASE_BUSY;
    /* Relaxed: only this thread writes it; the watch compares. */
    iocp__store_relaxed(&worker->sequence, worker->sequence + 1);
    /* Acquire and release: a decision between this thread and one that wants to seize. */
    if (iocp__cas_acq_rel(&worker->phase, &phase, IOCP__PHASE_INSIDE))
        return;
    iocp__lock_acquire(&port->gate.lock);
    iocp__assert(phase == IOCP__PHASE_OUT || phase == IOCP__PHASE_SEIZED);
    gate_set_phase(worker, IOCP__PHASE_INSIDE);
    iocp__lock_release(&port->gate.lock);
}

void iocp__gate_exit(struct iocp_port *port, struct iocp__worker *worker)
{
    if (port->shared) {
        iocp__gate_kernel_exit(port, worker);
        return;
    }
    iocp__debug(worker->ticket && iocp__load_relaxed(&worker->phase) == IOCP__PHASE_INSIDE);
    gate_set_phase(worker, IOCP__PHASE_BUSY);
}

void iocp__gate_leave(struct iocp_port *port, struct iocp__worker *worker)
{
    if (port->shared) {
        iocp__gate_kernel_leave(port, worker);
        return;
    }
    struct gate_wakes wakes = {.count = 0};
    iocp__lock_acquire(&port->gate.lock);
    gate_set_phase(worker, IOCP__PHASE_OUT);
    gate_drop_ticket(&port->gate, worker);
    gate_drop_lane(port, worker);
    gate_settle(port, 0, &wakes);
    iocp__lock_release(&port->gate.lock);
    gate_deliver(&wakes);
}

int iocp__gate_ticket(struct iocp_port *port, struct iocp__worker *worker)
{
    struct iocp__gate *gate = &port->gate;
    if (worker->ticket || port->shared)
        return (int)worker->ticket;
    iocp__lock_acquire(&gate->lock);
    if (gate->running < gate->limit) {
        worker->ticket = 1;
        gate_count_running(gate, 1);
    }
    iocp__lock_release(&gate->lock);
    return (int)worker->ticket;
}

/* The worker asleep in a lane whose packets wait for a ticket of its own. The lock is held. */
static struct iocp__worker *gate_thirsty(struct iocp__gate *gate)
{
    struct iocp__worker *worker = gate->top;
    /* Relaxed: whose packets are taken meanwhile looks for nothing. */
    while (worker && !(worker->wait_lane && iocp__load_relaxed(&worker->wait_lane->ready_count)))
        worker = worker->below;
    return worker;
}

void iocp__gate_make_way(struct iocp_port *port, struct iocp__worker *worker)
{
    struct iocp__gate *gate = &port->gate;
    struct gate_wakes wakes = {.count = 0};
    /* Relaxed: hints. */
    if (!worker->ticket || port->shared || iocp__load_relaxed(&gate->running) < gate->limit ||
        !iocp__load_relaxed(&gate->sleepers))
        return;
    iocp__lock_acquire(&gate->lock);
    struct iocp__worker *thirsty = worker->ticket ? gate_thirsty(gate) : NULL;
    if (thirsty) {
        gate_drop_ticket(gate, worker);
        gate_wake(gate, thirsty, 1, &wakes);
    }
    iocp__lock_release(&gate->lock);
    gate_deliver(&wakes);
}

/* The lock is held. The worker's last lane, or the free lane with the most objects. */
static struct iocp__lane *gate_choose_lane(struct iocp_port *port, struct iocp__worker *worker)
{
    if (worker->home && !worker->home->holder)
        return worker->home;
    struct iocp__lane *best = NULL;
    uint32_t count = gate_lanes(port);
    for (uint32_t i = 0; i < count; i++) {
        struct iocp__lane *lane = port->lanes[i];
        /* Relaxed: any free lane will do. */
        if (!lane->holder &&
            (!best || iocp__load_relaxed(&lane->objects) > iocp__load_relaxed(&best->objects)))
            best = lane;
    }
    return best;
}

/* A new lane, with the lock let go meanwhile. When the system refuses, the worker parks. */
static void gate_create_lane(struct iocp_port *port, struct iocp__worker *worker)
{
    struct iocp__lane *lane = NULL;
    int error = iocp__lane_create(port, 0, &lane);
    iocp__lock_acquire(&port->gate.lock);
    if (error < 0) {
        port->lanes_reserved--;
    } else {
        lane->index = port->lane_count;
        lane->holder = worker;
        worker->lane = lane;
        worker->home = lane;
        port->lanes[lane->index] = lane;
        /* Release: as read in gate_lanes. */
        iocp__store_release(&port->lane_count, port->lane_count + 1);
    }
    iocp__lock_release(&port->gate.lock);
}

int iocp__gate_lane(struct iocp_port *port, struct iocp__worker *worker)
{
    if (worker->lane)
        return 1;
    int create = 0;
    iocp__lock_acquire(&port->gate.lock);
    struct iocp__lane *lane = gate_choose_lane(port, worker);
    if (lane) {
        lane->watcher = NULL;
        gate_hold(port, lane, worker);
        worker->lane = lane;
        worker->home = lane;
    } else if (port->lanes_reserved < port->lanes_max) {
        port->lanes_reserved++;
        create = 1;
    }
    iocp__lock_release(&port->gate.lock);
    if (create)
        gate_create_lane(port, worker);
    return worker->lane != NULL;
}

/* Takes hold of a free lane for a visit. */
static int gate_claim(struct iocp_port *port, struct iocp__lane *lane, struct iocp__worker *worker)
{
    iocp__lock_acquire(&port->gate.lock);
    int claimed = !lane->holder;
    if (claimed) {
        /* Orders that come during the visit ring for nobody: it is the visitor who looks after the
         * lane from here on, before it sleeps, and not one that sleeps already. */
        lane->watcher = NULL;
        gate_hold(port, lane, worker);
    }
    iocp__lock_release(&port->gate.lock);
    return claimed;
}

static void gate_unclaim(struct iocp_port *port, struct iocp__lane *lane)
{
    iocp__lock_acquire(&port->gate.lock);
    gate_hold(port, lane, NULL);
    iocp__lock_release(&port->gate.lock);
}

int iocp__gate_visit(struct iocp_port *port, struct iocp__worker *worker)
{
    int found = 0;
    uint32_t count = gate_lanes(port);
    for (uint32_t i = 0; i < count; i++) {
        struct iocp__lane *lane = port->lanes[i];
        /* Relaxed: looked at again under the lock; a lane without objects has nothing to do. */
        if (!iocp__load_relaxed(&lane->objects) || iocp__load_relaxed(&lane->holder) ||
            !gate_claim(port, lane, worker))
            continue;
        iocp__lane_serve(lane, 0);
        iocp__lane_release_closed(lane);
        found |= iocp__load_relaxed(&lane->ready_count) != 0;
        gate_unclaim(port, lane);
    }
    return found;
}

void iocp__gate_watch(struct iocp_port *port, struct iocp__worker *worker)
{
    uint32_t count = gate_lanes(port);
    for (uint32_t i = 0; i < count; i++) {
        struct iocp__lane *lane = port->lanes[i];
        iocp__lock_acquire(&port->gate.lock);
        /* Relaxed: an object that comes later brings orders with it. */
        int watch = !lane->holder && !lane->watcher && iocp__load_relaxed(&lane->objects);
        if (watch)
            lane->watcher = worker;
        iocp__lock_release(&port->gate.lock);
        /* The lane may be another's by now; a watch too many ends a wait for nothing. */
        if (watch)
            worker->lane->kernel->backend->watch(worker->lane->kernel, lane->kernel);
    }
}

int iocp__gate_is_needed(struct iocp_port *port, struct iocp__worker *worker)
{
    /* Relaxed: the gate's lock was taken since; a lane freed before is counted, one freed later
     * finds the worker on the stack. */
    if (!iocp__load_relaxed(&port->free_lanes))
        return 0;
    uint32_t count = gate_lanes(port);
    iocp__lock_acquire(&port->gate.lock);
    int needed = gate_orphan(port) != NULL;
    for (uint32_t i = 0; i < count && !needed; i++)
        needed = port->lanes[i]->watcher == worker && iocp__lane_has_orders(port->lanes[i]);
    iocp__lock_release(&port->gate.lock);
    return needed;
}

uint64_t iocp__gate_sleep(struct iocp_port *port, struct iocp__worker *worker, uint64_t deadline_ns)
{
    struct iocp__gate *gate = &port->gate;
    iocp__lock_acquire(&gate->lock);
    gate_drop_ticket(gate, worker);
    worker->on_duty = !gate->duty;
    if (worker->on_duty) {
        gate->duty = worker;
        uint64_t first = iocp__timers_first(&port->timers);
        if (first < deadline_ns)
            deadline_ns = first;
    }
    worker->wait_lane = worker->lane;
    worker->wait_deadline_ns = deadline_ns;
    if (!worker->lane)
        gate->parks++;
    iocp__gate_push(gate, worker);
    iocp__lock_release(&gate->lock);
    return deadline_ns;
}

void iocp__gate_awake(struct iocp_port *port, struct iocp__worker *worker)
{
    struct iocp__gate *gate = &port->gate;
    iocp__lock_acquire(&gate->lock);
    if (worker->waiting)
        iocp__gate_remove(gate, worker);
    worker->ticket = worker->granted;
    worker->granted = 0;
    if (worker->granted_lane) {
        worker->lane = worker->granted_lane;
        worker->home = worker->granted_lane;
        worker->granted_lane = NULL;
    }
    /* Relaxed: a hint; a watch that stays behind ends one wait for nothing. */
    if (iocp__load_relaxed(&port->free_lanes)) {
        uint32_t count = gate_lanes(port);
        for (uint32_t i = 0; i < count; i++) {
            if (port->lanes[i]->watcher == worker)
                port->lanes[i]->watcher = NULL;
        }
    }
    iocp__lock_release(&gate->lock);
}

/* ---- From any thread. */

void iocp__gate_work(struct iocp_port *port)
{
    if (port->shared) {
        iocp__gate_kernel_work(port);
        return;
    }
    struct iocp__gate *gate = &port->gate;
    /* Rule W. */
    if (iocp__load_seq(&gate->sleepers) == 0)
        return;
    struct gate_wakes wakes = {.count = 0};
    iocp__lock_acquire(&gate->lock);
    if (gate->top && gate->running < gate->limit)
        gate_wake(gate, gate->top, 1, &wakes);
    iocp__lock_release(&gate->lock);
    gate_deliver(&wakes);
}

void iocp__gate_orders(struct iocp_port *port, struct iocp__lane *lane)
{
    /* Who did not have to ring (lane.c, invariant 3) has nobody to wake. */
    if (port->shared)
        return;
    struct iocp__gate *gate = &port->gate;
    struct gate_wakes wakes = {.count = 0};
    struct iocp__lane *ring = NULL;
    /* Sequentially consistent: see gate_hold. */
    if (iocp__load_seq(&lane->holder))
        return;
    iocp__lock_acquire(&gate->lock);
    if (!lane->holder && lane->watcher)
        ring = lane->watcher->lane;
    else if (!lane->holder)
        gate_settle(port, 0, &wakes);
    iocp__lock_release(&gate->lock);
    if (ring)
        ring->kernel->backend->bell(ring->kernel);
    gate_deliver(&wakes);
}

void iocp__gate_timer(struct iocp_port *port, uint64_t deadline_ns)
{
    if (port->shared) {
        iocp__gate_kernel_timer(port, deadline_ns);
        return;
    }
    struct iocp__gate *gate = &port->gate;
    struct gate_wakes wakes = {.count = 0};
    /* Rule W, with first_ns in the place of ready_count. */
    if (iocp__load_seq(&gate->sleepers) == 0)
        return;
    iocp__lock_acquire(&gate->lock);
    if (gate->duty && gate->duty->wait_deadline_ns > deadline_ns)
        gate_wake(gate, gate->duty, 0, &wakes);
    else if (!gate->duty)
        gate_settle(port, 0, &wakes);
    iocp__lock_release(&gate->lock);
    gate_deliver(&wakes);
}

void iocp__gate_all(struct iocp_port *port)
{
    if (port->shared) {
        iocp__gate_kernel_all(port);
        return;
    }
    struct iocp__gate *gate = &port->gate;
    int more;
    do {
        struct gate_wakes wakes = {.count = 0};
        iocp__lock_acquire(&gate->lock);
        while (gate->top && wakes.count < 4)
            gate_wake(gate, gate->top, 0, &wakes);
        more = gate->top != NULL;
        iocp__lock_release(&gate->lock);
        gate_deliver(&wakes);
    } while (more);
}

/* ---- Workers that do not come back. */

int iocp__gate_block(struct iocp_port *port, struct iocp__worker *worker)
{
    if (port->shared)
        return iocp__gate_kernel_block(port, worker);
    struct iocp__gate *gate = &port->gate;
    struct gate_wakes wakes = {.count = 0};
    uint32_t phase = IOCP__PHASE_BUSY;
    /* Acquire and release: as in enter. */
    int out = iocp__cas_acq_rel(&worker->phase, &phase, IOCP__PHASE_SEIZED) ||
              phase == IOCP__PHASE_SEIZED;
    if (!out)
        return 0;
    iocp__lock_acquire(&gate->lock);
    gate->declared++;
    gate_drop_ticket(gate, worker);
    gate_drop_lane(port, worker);
    gate_settle(port, gate->running == 0, &wakes);
    iocp__lock_release(&gate->lock);
    gate_deliver(&wakes);
    return 1;
}

int iocp__gate_seize(struct iocp_port *port, struct iocp__worker *worker, uint64_t sequence,
                     int blocked)
{
    struct iocp__gate *gate = &port->gate;
    struct gate_wakes wakes = {.count = 0};
    uint32_t phase = IOCP__PHASE_BUSY;
    /* Relaxed: a first look, so that a worker that moved on keeps its lane. */
    if (iocp__load_relaxed(&worker->sequence) != sequence)
        return 0;
    iocp__lock_acquire(&gate->lock);
    /* Acquire and release: as in enter. */
    int out = iocp__cas_acq_rel(&worker->phase, &phase, IOCP__PHASE_SEIZED) ||
              phase == IOCP__PHASE_SEIZED;
    /* It may have come back and gone out again just now: then it loses its lane for one round, and
     * its ticket only if it is out with the same packet. Acquire: pairs with the phase. */
    int same = out && iocp__load_acquire(&worker->sequence) == sequence;
    if (out && worker->lane) {
        gate->seized++;
        gate_drop_lane(port, worker);
    }
    if (same && blocked && worker->ticket) {
        gate->detected++;
        gate_drop_ticket(gate, worker);
    }
    if (out)
        gate_settle(port, 1, &wakes);
    iocp__lock_release(&gate->lock);
    gate_deliver(&wakes);
    return same;
}

void iocp__gate_tick(struct iocp_port *port)
{
    if (port->shared) {
        iocp__gate_kernel_tick(port);
        return;
    }
    struct iocp__gate *gate = &port->gate;
    struct gate_wakes wakes = {.count = 0};
    int due = iocp__timers_first(&port->timers) <= iocp__os_now_ns();
    iocp__lock_acquire(&gate->lock);
    int neglected = (due && !gate->duty) || gate_orphan(port) || gate_ready(port);
    if (gate->top && neglected)
        gate_settle(port, 1, &wakes);
    iocp__lock_release(&gate->lock);
    gate_deliver(&wakes);
    iocp__gate_settle_owed(port);
}

void iocp__gate_settle_owed(struct iocp_port *port)
{
    uint32_t count = gate_lanes(port);
    for (uint32_t i = 0; i < count; i++) {
        struct iocp__lane *lane = port->lanes[i];
        /* Relaxed, then acquire and release: whoever takes the debt rings. */
        if (iocp__load_relaxed(&lane->owed) && iocp__exchange_acq_rel(&lane->owed, 0))
            lane->kernel->backend->bell(lane->kernel);
    }
}
