/* The gate where the kernel is the gate: Windows' port lets N threads run, takes the one that began
 * to wait last, and lets another go when one of them blocks, wherever it blocks. What is left to do
 * is to see that the kernel always knows when there is work for one more thread: it does when its
 * own queue holds something, a completion or the bell.
 *
 * Invariants
 * 1. A worker is on the list of those that wait exactly while waiting is 1.
 * 2. gate.stale counts the workers on the list whose stale is set.
 * 3. (rule W of gate.c) No wake is lost: a worker joins the list, then looks for packets; a poster
 *    publishes the packet, then looks at the list, and rings.
 * 4. (rule H) Nobody goes out or leaves with packets left in the lanes and others waiting, unless
 *    the bell is rung. So when a handler blocks, the kernel lets another thread go for the rest.
 * 5. (rule N) A worker goes out only after a fetch that gave it something: then the kernel has
 *    counted it among the N that run. Packets in the lanes alone are no reason: it rings and asks.
 *    Who only looks, without waiting, may also go while fewer than N are out.
 * 6. (rule D of gate.c) While workers wait and none is out, one that waits has the duty: it waits
 *    no longer than to the next timer.
 * 7. (rule E) While stale is not 0, the bell is rung, or a worker that heard it is on its way to
 *    exit, leave or pass, where it rings again.
 *
 * Why pass: the one who heard the bell may be a thread that began to wait after the wake. The
 * kernel would give it its own bell again and again, being the one that waited last; so it parks,
 * which lets the kernel take the next, until those that are to return have done so.
 *
 * phase: OUT → INSIDE [enter] → BUSY [exit] → INSIDE [enter] → OUT [leave] */
#include "core/gate_kernel.h"

#include "base/assert.h"
#include "base/atomic.h"
#include "core/gate.h"
#include "core/lane.h"
#include "core/timer.h"

static void kernel_ring(struct iocp_port *port)
{
    struct iocp__kernel *kernel = port->lanes[0]->kernel;
    /* Relaxed: counters. */
    iocp__add_relaxed(&port->gate.wakes, 1);
    iocp__add_relaxed(&port->gate.bells, 1);
    kernel->backend->bell(kernel);
}

/* ---- Whether the kernel has to be told. */

static int kernel_ready(struct iocp_port *port)
{
    /* Relaxed: all lanes are there from the start. */
    uint32_t count = iocp__load_relaxed(&port->lane_count);
    for (uint32_t i = 0; i < count; i++) {
        /* Sequentially consistent: rule W. */
        if (iocp__load_seq(&port->lanes[i]->ready_count))
            return 1;
    }
    return 0;
}

/* Rules H and E. */
static int kernel_leaves_work(struct iocp_port *port)
{
    return iocp__load_seq(&port->gate.sleepers) &&
           (iocp__load_seq(&port->gate.stale) || kernel_ready(port));
}

static void kernel_set_phase(struct iocp__worker *worker, enum iocp__phase phase)
{
    /* Release: who reads the phase sees what the worker did before. */
    iocp__store_release(&worker->phase, phase);
}

/* ---- Out and back. */

static void kernel_count_in(struct iocp_port *port, struct iocp__worker *worker)
{
    /* Relaxed: the thread's own phase. */
    if (iocp__load_relaxed(&worker->phase) == IOCP__PHASE_BUSY)
        /* Sequentially consistent with watch->armed: see watch.c. */
        iocp__add_seq(&port->gate.running, UINT32_MAX);
}

static void kernel_count_out(struct iocp__gate *gate)
{
    /* As above. */
    uint32_t now = iocp__add_seq(&gate->running, 1) + 1;
    uint32_t most = iocp__load_relaxed(&gate->running_max);
    while (now > most && !iocp__cas_acq_rel(&gate->running_max, &most, now))
        ;
}

void iocp__gate_kernel_enter(struct iocp_port *port, struct iocp__worker *worker)
{
    /* Relaxed: only this thread writes it. */
    iocp__store_relaxed(&worker->sequence, worker->sequence + 1);
    kernel_count_in(port, worker);
    worker->ticket = 0;
    kernel_set_phase(worker, IOCP__PHASE_INSIDE);
}

void iocp__gate_kernel_exit(struct iocp_port *port, struct iocp__worker *worker)
{
    iocp__debug(worker->ticket);
    kernel_count_out(&port->gate);
    kernel_set_phase(worker, IOCP__PHASE_BUSY);
    if (kernel_leaves_work(port))
        kernel_ring(port);
}

void iocp__gate_kernel_leave(struct iocp_port *port, struct iocp__worker *worker)
{
    struct iocp__gate *gate = &port->gate;
    kernel_count_in(port, worker);
    kernel_set_phase(worker, IOCP__PHASE_OUT);
    iocp__lock_acquire(&gate->lock);
    iocp__debug(!worker->waiting);
    /* Rule D. */
    int ring = gate->top && !gate->duty && !iocp__load_seq(&gate->running);
    iocp__lock_release(&gate->lock);
    if (ring || kernel_leaves_work(port))
        kernel_ring(port);
}

/* ---- Waiting. */

uint64_t iocp__gate_kernel_join(struct iocp_port *port, struct iocp__worker *worker,
                                uint64_t deadline_ns, uint64_t epoch)
{
    struct iocp__gate *gate = &port->gate;
    iocp__lock_acquire(&gate->lock);
    worker->on_duty = !gate->duty;
    if (worker->on_duty) {
        gate->duty = worker;
        uint64_t first = iocp__timers_first(&port->timers);
        if (first < deadline_ns)
            deadline_ns = first;
    }
    worker->wait_epoch = epoch;
    worker->wait_deadline_ns = deadline_ns;
    iocp__gate_push(gate, worker);
    iocp__lock_release(&gate->lock);
    return deadline_ns;
}

/* Lets those go that passed, when the last stale one is gone. One at a time, since each may pass
 * again at once. */
static void kernel_release_passing(struct iocp__gate *gate)
{
    struct iocp__worker *worker;
    do {
        iocp__lock_acquire(&gate->lock);
        worker = gate->stale ? NULL : gate->passing;
        if (worker)
            gate->passing = worker->below;
        iocp__lock_release(&gate->lock);
        if (worker)
            iocp__parker_release(&worker->parker);
    } while (worker);
}

void iocp__gate_kernel_awake(struct iocp_port *port, struct iocp__worker *worker)
{
    struct iocp__gate *gate = &port->gate;
    iocp__lock_acquire(&gate->lock);
    iocp__gate_remove(gate, worker);
    if (worker->stale) {
        worker->stale = 0;
        iocp__store_seq(&gate->stale, gate->stale - 1);
    }
    int release = !gate->stale && gate->passing;
    iocp__lock_release(&gate->lock);
    if (release)
        kernel_release_passing(gate);
}

static void kernel_stop_passing(struct iocp__gate *gate, struct iocp__worker *worker)
{
    iocp__lock_acquire(&gate->lock);
    struct iocp__worker **at = &gate->passing;
    while (*at && *at != worker)
        at = &(*at)->below;
    if (*at)
        *at = worker->below;
    iocp__lock_release(&gate->lock);
}

int iocp__gate_kernel_pass(struct iocp_port *port, struct iocp__worker *worker,
                           uint64_t deadline_ns)
{
    struct iocp__gate *gate = &port->gate;
    if (!iocp__load_seq(&gate->stale))
        return 0;
    iocp__lock_acquire(&gate->lock);
    int pass = gate->stale != 0;
    if (pass) {
        worker->below = gate->passing;
        gate->passing = worker;
    }
    iocp__lock_release(&gate->lock);
    if (!pass)
        return 0;
    kernel_ring(port);
    iocp__parker_wait(&worker->parker, deadline_ns);
    kernel_stop_passing(gate, worker);
    return 1;
}

void iocp__gate_kernel_ask(struct iocp_port *port)
{
    kernel_ring(port);
}

/* ---- Serving lanes. */

/* Takes the lane for a moment and serves it. Who finds it taken leaves it to its holder, who looks
 * at `due` after letting it go: one of the two sees the other (sequentially consistent). */
static void kernel_serve(struct iocp__lane *lane, struct iocp__worker *worker)
{
    while (iocp__load_seq(&lane->due)) {
        struct iocp__worker *holder = iocp__load_seq(&lane->holder);
        /* Acquire and release: what the last holder did is seen. */
        if (holder || !iocp__cas_acq_rel(&lane->holder, &holder, worker))
            return;
        iocp__exchange_seq(&lane->due, 0);
        iocp__lane_serve(lane, 0);
        iocp__lane_release_closed(lane);
        iocp__store_seq(&lane->holder, NULL);
    }
}

void iocp__gate_kernel_fetch(struct iocp_port *port, struct iocp__worker *worker,
                             uint64_t deadline_ns, int joined)
{
    struct iocp__kernel *kernel = port->lanes[0]->kernel;
    uint64_t lanes = kernel->backend->fetch(kernel, deadline_ns);
    worker->unserved = 0;
    worker->ticket = lanes != 0;
    /* The bell that it asked for may be in the hands of one that waited. It runs anyway, being here
     * only to look; so it takes what is there while fewer than N are out. */
    if (!joined && iocp__load_seq(&port->gate.running) < port->gate.limit)
        worker->ticket = 1;
    if (joined)
        iocp__gate_kernel_awake(port, worker);
    for (uint32_t i = 0; lanes; i++, lanes >>= 1) {
        if (lanes & 1) {
            iocp__store_seq(&port->lanes[i]->due, 1);
            kernel_serve(port->lanes[i], worker);
        }
    }
}

void iocp__gate_kernel_serve_owed(struct iocp_port *port, struct iocp__worker *worker)
{
    uint32_t count = iocp__load_relaxed(&port->lane_count);
    for (uint32_t i = 0; i < count; i++) {
        struct iocp__lane *lane = port->lanes[i];
        /* Relaxed, then acquire and release: whoever takes the debt pays it. */
        if (iocp__load_relaxed(&lane->owed) && iocp__exchange_acq_rel(&lane->owed, 0)) {
            iocp__store_seq(&lane->due, 1);
            kernel_serve(lane, worker);
        }
    }
    /* Rule H: the worker is out and may stay away. Mostly it comes right back for what it found,
     * so that where there is a watch, which rings at its next tick, nobody is woken for it. */
    if (!port->config.watch_ns && kernel_leaves_work(port))
        kernel_ring(port);
}

/* ---- From any thread. */

void iocp__gate_kernel_work(struct iocp_port *port)
{
    /* Rule W. */
    if (iocp__load_seq(&port->gate.sleepers))
        kernel_ring(port);
}

void iocp__gate_kernel_timer(struct iocp_port *port, uint64_t deadline_ns)
{
    struct iocp__gate *gate = &port->gate;
    /* Rule W, with first_ns in the place of ready_count. */
    if (iocp__load_seq(&gate->sleepers) == 0)
        return;
    iocp__lock_acquire(&gate->lock);
    int late = gate->top && (!gate->duty || gate->duty->wait_deadline_ns > deadline_ns);
    /* The kernel chooses who wakes: the duty is that one's. */
    if (late)
        gate->duty = NULL;
    iocp__lock_release(&gate->lock);
    if (late)
        kernel_ring(port);
}

void iocp__gate_kernel_all(struct iocp_port *port)
{
    struct iocp__gate *gate = &port->gate;
    uint64_t epoch = iocp__load_seq(&port->wake_epoch);
    int all = iocp__load_seq(&port->closed) != 0;
    uint32_t stale;
    iocp__lock_acquire(&gate->lock);
    stale = gate->stale;
    for (struct iocp__worker *worker = gate->top; worker; worker = worker->below) {
        if (!worker->stale && (all || worker->wait_epoch != epoch)) {
            worker->stale = 1;
            stale++;
        }
    }
    iocp__store_seq(&gate->stale, stale);
    iocp__lock_release(&gate->lock);
    if (stale)
        kernel_ring(port);
}

/* The kernel sees by itself that the handler blocks; this tells what has been put off. */
int iocp__gate_kernel_block(struct iocp_port *port, struct iocp__worker *worker)
{
    /* Relaxed: the thread's own phase. */
    if (iocp__load_relaxed(&worker->phase) != IOCP__PHASE_BUSY)
        return 0;
    iocp__lock_acquire(&port->gate.lock);
    port->gate.declared++;
    iocp__lock_release(&port->gate.lock);
    return 1;
}

void iocp__gate_kernel_tick(struct iocp_port *port)
{
    struct iocp__gate *gate = &port->gate;
    int due = iocp__timers_first(&port->timers) <= iocp__os_now_ns();
    iocp__lock_acquire(&gate->lock);
    int ring = due && gate->top && !gate->duty;
    iocp__lock_release(&gate->lock);
    if (ring || kernel_leaves_work(port))
        kernel_ring(port);
    iocp__gate_settle_owed(port);
}
