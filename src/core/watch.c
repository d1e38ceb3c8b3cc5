/* A thread that ticks while workers are out, and sleeps without a deadline while none is.
 *
 * Why a thread, when one of the waiting workers could look: a worker that sleeps in the kernel
 * can't be given a deadline without being woken, which costs 9 to 12 µs of the waker's time at each
 * step from idle to busy; the watch is woken at most once per WATCH_LINGER ticks, and a step costs
 * one load.
 *
 * At each tick it compares every worker with the tick before. Out with the same packet: the lane
 * goes to whoever is idle. Asleep in the kernel as well, its processor time standing still: the
 * ticket too. So a stuck worker loses its lane after one to two ticks, and a blocked one its ticket
 * with it. What a computing worker submitted may not be finished until it is interrupted; the watch
 * does that as well.
 *
 * Invariant: running > 0 implies armed, or a worker is on its way to arm it. A worker raises
 * `running` and then reads `armed`; the watch clears `armed` and then reads `running`; both
 * sequentially consistent. */
#include "core/watch.h"

#include "base/atomic.h"
#include "core/gate.h"

#define WATCH_LINGER 4
#define WATCH_UNSEEN 8 /* ticks of standing still that stand for sleep where it cannot be seen */

/* Whether a worker sleeps in the kernel. Its state may be unreadable, for want of a descriptor when
 * all are in use: just then handlers that block must not hold up the others. One that stands still
 * for long is taken to sleep then. When it was merely kept from running, by other processes, one
 * more than N runs for a moment. */
static int watch_asleep(struct iocp__worker *worker, const struct iocp__thread_view *view,
                        int still)
{
    int asleep = still ? iocp__thread_asleep(view) : 0;
    worker->watch_unseen = asleep < 0 ? worker->watch_unseen + 1 : 0;
    return asleep == 1 || worker->watch_unseen >= WATCH_UNSEEN;
}

/* One worker, seen at a tick. Returns whether it is stuck. */
static int watch_worker(struct iocp_port *port, struct iocp__worker *worker)
{
    /* Acquire: what the worker did before is seen; seize decides anew. */
    uint32_t phase = iocp__load_acquire(&worker->phase);
    if (phase != IOCP__PHASE_BUSY && phase != IOCP__PHASE_SEIZED)
        return 0;
    /* Relaxed: compared with itself; seize looks again. */
    uint64_t sequence = iocp__load_relaxed(&worker->sequence);
    iocp__lock_acquire(&port->gate.lock);
    struct iocp__thread_view view = worker->view;
    iocp__lock_release(&port->gate.lock);
    uint64_t cpu_ns = iocp__thread_cpu_ns(&view);
    int same = sequence == worker->watch_sequence;
    int still = same && cpu_ns - worker->watch_cpu_ns < port->config.watch_ns / 4;
    worker->watch_sequence = sequence;
    worker->watch_cpu_ns = cpu_ns;
    int asleep = watch_asleep(worker, &view, still);
    return same && iocp__gate_seize(port, worker, sequence, asleep);
}

static void watch_tick(struct iocp_port *port)
{
    iocp__lock_acquire(&port->gate.lock);
    struct iocp__worker *worker = port->workers;
    iocp__lock_release(&port->gate.lock);
    /* Records are only added, at the front, and live as long as the port. */
    int stuck = 0;
    /* A kernel that is the gate sees for itself who blocks, and takes nothing from a worker. */
    for (; worker && !port->shared; worker = worker->next)
        stuck |= watch_worker(port, worker);
    iocp__gate_tick(port);
    if (stuck && (port->backend->caps & IOCP__CAP_COOPERATIVE))
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
            calm++;
            deadline = iocp__os_now_ns() + port->config.watch_ns;
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
    else
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
