/* The watch: finds workers that are out for long, and lets others take over.
 *
 * It is a thread that ticks while workers are out, and sleeps without a deadline while none is. Why
 * a thread, when one of the waiting workers could look: a worker that sleeps in the kernel can't be
 * given a deadline without being woken, which costs 9 to 12 µs of the waker's time at each step
 * from idle to busy; the watch is woken at most once per WATCH_LINGER ticks, and a step costs one
 * load.
 *
 * Workers that are busy look as well, between two packets, at most once per WATCH_PARTS-th of a
 * tick: that costs no wake at all, and there is somebody whom the blocked one's place helps. When
 * all are blocked there is only the watch. A tick costs some 12 µs (Linux 6.18 in a virtual
 * machine), so that it ticks WATCH_KEEN times as often only for a while after somebody blocked.
 *
 * A look compares every worker with the look before. Out with the same packet for a tick: the lane
 * goes to whoever is idle. For a part of it, asleep in the kernel and the processor time standing
 * still: lane and ticket. What a computing worker submitted may not be finished until it is
 * interrupted; the watch does that as well.
 *
 * Invariants
 * 1. running > 0 implies armed, or a worker is on its way to arm it. A worker raises `running` and
 *    then reads `armed`; the watch clears `armed` and then reads `running`; both sequentially
 *    consistent.
 * 2. Who has set `looking` has the workers' watch_ fields. */
#include "core/watch.h"

#include "base/atomic.h"
#include "core/gate.h"

#define WATCH_LINGER 4
#define WATCH_PARTS 16
#define WATCH_KEEN 4
#define WATCH_KEEN_TICKS 32
#define WATCH_UNSEEN 8 /* ticks of standing still that stand for sleep where it cannot be seen */

enum watch_verdict { WATCH_WELL, WATCH_BLOCKED, WATCH_COMPUTES };

/* Whether the worker has anything that may be taken, and how to look at its thread. */
static int watch_view(struct iocp_port *port, struct iocp__worker *worker,
                      struct iocp__thread_view *out_view)
{
    iocp__lock_acquire(&port->gate.lock);
    int any = worker->lane || worker->ticket;
    *out_view = worker->view;
    iocp__lock_release(&port->gate.lock);
    return any;
}

static void watch_note(struct iocp__worker *worker, uint64_t sequence, uint64_t now_ns)
{
    if (sequence != worker->watch_sequence || !worker->watch_since_ns)
        worker->watch_since_ns = now_ns;
    worker->watch_sequence = sequence;
    worker->watch_look_ns = now_ns;
}

/* Whether a worker that stands still sleeps in the kernel. Its state may be unreadable, for want of
 * a descriptor when all are in use: just then handlers that block must not hold up the others. One
 * that stands still for long is taken to sleep then. When it was merely kept from running, by other
 * processes, one more than N runs for a moment. */
static int watch_asleep(struct iocp_port *port, struct iocp__worker *worker,
                        const struct iocp__thread_view *view, uint64_t now_ns)
{
    int asleep = iocp__thread_asleep(view);
    if (asleep >= 0)
        worker->watch_unseen_ns = 0;
    else if (!worker->watch_unseen_ns)
        worker->watch_unseen_ns = now_ns;
    return asleep == 1 ||
           (asleep < 0 && now_ns - worker->watch_unseen_ns >= WATCH_UNSEEN * port->config.watch_ns);
}

static enum watch_verdict watch_worker(struct iocp_port *port, struct iocp__worker *worker,
                                       uint64_t now_ns)
{
    struct iocp__thread_view view;
    /* Acquire: what the worker did before is seen; seize decides anew. */
    uint32_t phase = iocp__load_acquire(&worker->phase);
    if (phase != IOCP__PHASE_BUSY && phase != IOCP__PHASE_SEIZED)
        return WATCH_WELL;
    /* Relaxed: compared with itself; seize looks again. */
    uint64_t sequence = iocp__load_relaxed(&worker->sequence);
    int any = watch_view(port, worker, &view);
    uint64_t cpu_ns = iocp__thread_cpu_ns(&view);
    uint64_t idle_ns = now_ns - worker->watch_look_ns;
    int still = cpu_ns - worker->watch_cpu_ns < idle_ns / 4;
    int same = sequence == worker->watch_sequence;
    watch_note(worker, sequence, now_ns);
    worker->watch_cpu_ns = cpu_ns;
    if (!same || !still)
        worker->watch_unseen_ns = 0;
    if (!same)
        return WATCH_WELL;
    uint64_t part_ns = port->config.watch_ns / WATCH_PARTS;
    uint64_t out_ns = now_ns - worker->watch_since_ns;
    int asleep = any && still && out_ns >= part_ns && watch_asleep(port, worker, &view, now_ns);
    /* A tick may be late, and the one after it in time. */
    int late = out_ns >= port->config.watch_ns - part_ns;
    if (any && (asleep || late) && !iocp__gate_seize(port, worker, sequence, asleep))
        return WATCH_WELL;
    if (asleep)
        return WATCH_BLOCKED;
    return late && !still ? WATCH_COMPUTES : WATCH_WELL;
}

/* Looks at all workers, unless somebody else does. Returns whether one computes for long. */
static int watch_look(struct iocp_port *port, uint64_t now_ns)
{
    struct iocp__watch *watch = &port->watch;
    int computes = 0;
    /* Acquire and release: the notes of whoever looked before are seen. */
    if (iocp__load_relaxed(&watch->looking) || iocp__exchange_acq_rel(&watch->looking, 1))
        return 0;
    iocp__lock_acquire(&port->gate.lock);
    struct iocp__worker *worker = port->workers;
    iocp__lock_release(&port->gate.lock);
    /* Records are only added, at the front, and live as long as the port. */
    for (; worker; worker = worker->next) {
        enum watch_verdict verdict = watch_worker(port, worker, now_ns);
        computes |= verdict == WATCH_COMPUTES;
        /* Relaxed: an estimate. */
        if (verdict == WATCH_BLOCKED)
            iocp__store_relaxed(&watch->keen_ns, now_ns + WATCH_KEEN_TICKS * port->config.watch_ns);
    }
    /* Release: as above. */
    iocp__store_release(&watch->looking, 0);
    return computes;
}

void iocp__watch_help(struct iocp_port *port)
{
    struct iocp__watch *watch = &port->watch;
    /* Relaxed: hints. Nobody else is out: nobody to look at. */
    if (iocp__load_relaxed(&port->gate.running) < 2 || port->shared || !port->config.watch_ns)
        return;
    uint64_t now_ns = iocp__os_now_ns();
    if (now_ns < iocp__load_relaxed(&watch->next_look_ns))
        return;
    iocp__store_relaxed(&watch->next_look_ns, now_ns + port->config.watch_ns / WATCH_PARTS);
    watch_look(port, now_ns);
}

static void watch_tick(struct iocp_port *port)
{
    /* A kernel that is the gate sees for itself who blocks, and takes nothing from a worker. */
    int computes = !port->shared && watch_look(port, iocp__os_now_ns());
    iocp__gate_tick(port);
    if (computes && (port->backend->caps & IOCP__CAP_COOPERATIVE))
        iocp__threads_interrupt();
}

static void watch_run(void *context)
{
    struct iocp_port *port = context;
    struct iocp__watch *watch = &port->watch;
    uint32_t calm = 0;
    /* Acquire: pairs with stop. */
    while (!iocp__load_acquire(&watch->stop)) {
        uint64_t deadline = UINT64_MAX;
        if (iocp__load_seq(&port->gate.running))
            calm = 0;
        if (calm < WATCH_LINGER) {
            uint64_t now_ns = iocp__os_now_ns();
            calm++;
            /* Relaxed: an estimate. */
            deadline = now_ns + (now_ns < iocp__load_relaxed(&watch->keen_ns)
                                     ? port->config.watch_ns / WATCH_KEEN
                                     : port->config.watch_ns);
        } else {
            iocp__store_seq(&watch->armed, 0);
            if (iocp__load_seq(&port->gate.running)) {
                iocp__store_seq(&watch->armed, 1);
                continue;
            }
        }
        if (iocp__parker_wait(&watch->parker, deadline) == 0)
            calm = 0;
        else
            watch_tick(port);
    }
}

/* Returns 0 when there is no thread for it: then who goes out next tries again. */
static int watch_try(struct iocp_port *port)
{
    struct iocp__watch *watch = &port->watch;
    iocp__lock_acquire(&port->gate.lock);
    int start = port->config.watch_ns && !watch->started;
    if (start)
        watch->started = 1;
    iocp__lock_release(&port->gate.lock);
    if (!start)
        return 1;
    iocp__store_seq(&watch->armed, 1);
    if (iocp__thread_start(&watch->thread, "iocp-watch", watch_run, port) == 0)
        return 1;
    iocp__lock_acquire(&port->gate.lock);
    watch->started = 0;
    iocp__lock_release(&port->gate.lock);
    /* Relaxed: in front of `armed`. */
    iocp__store_relaxed(&watch->missing, 1);
    iocp__store_seq(&watch->armed, 0);
    return 0;
}

void iocp__watch_start(struct iocp_port *port)
{
    /* Once more for those who went out meanwhile: to them it was armed. */
    if (!watch_try(port) && iocp__load_seq(&port->gate.running))
        watch_try(port);
}

/* There may be a thread for it by now. */
static void watch_start_again(struct iocp_port *port)
{
    /* Relaxed: who comes here has exchanged `armed`, alone. */
    iocp__store_relaxed(&port->watch.missing, 0);
    iocp__watch_start(port);
}

void iocp__watch_arm(struct iocp_port *port)
{
    struct iocp__watch *watch = &port->watch;
    /* Sequentially consistent: the invariant above. The exchange makes one worker of many the
     * waker. */
    if (!port->config.watch_ns || iocp__load_seq(&watch->armed) ||
        iocp__exchange_seq(&watch->armed, 1))
        return;
    if (iocp__load_relaxed(&watch->missing))
        watch_start_again(port);
    /* In any case: it may have been started the second time, right after it was missing. */
    iocp__parker_release(&watch->parker);
}

void iocp__watch_stop(struct iocp_port *port)
{
    struct iocp__watch *watch = &port->watch;
    if (!watch->started)
        return;
    /* Release: pairs with the thread's load. */
    iocp__store_release(&watch->stop, 1);
    iocp__parker_release(&watch->parker);
    iocp__thread_join(&watch->thread);
    watch->started = 0;
}
