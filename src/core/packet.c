/* How a worker gets its next packet, and what it does with it: wait, dispatch, wake.
 *
 * A worker looks in this order: packets that are there (of its lane, then of the shared one, then
 * of lanes that nobody looks after or whose packets take long); the kernel, without waiting, when
 * the last look was worth it; then it joins the gate's stack, looks again (rule W of gate.c), and
 * sleeps. */
#include "core/packet.h"

#include "base/assert.h"
#include "base/atomic.h"
#include "core/gate.h"
#include "core/gate_kernel.h"
#include "core/lane.h"
#include "core/object.h"
#include "core/op.h"
#include "core/port.h"
#include "core/timer.h"
#include "core/watch.h"
#include "core/worker.h"

/* Packets whose handlers take together longer than this are worth waking somebody for: a wake
 * across CPUs costs its caller 9 to 12 µs and arrives after 20 to 46 µs (Linux 6.18, measured). */
#define PACKET_HELP_NS 50000

/* Packets that a worker may take from the queues before it looks into the kernel again: posts that
 * beget posts must not starve I/O. */
#define PACKET_UNSERVED_MAX 64

/* Packets of a batch after which a worker looks after the others, and at the clock. */
#define PACKET_LOOK 8

/* A batch of dispatch ends after so long: what its handlers and others sent meanwhile on its lane
 * waits for the end, and 256 packets may be 16 MiB of somebody's lines. */
#define PACKET_BATCH_NS 500000

/* ---- One packet. */

void iocp__packet_make(struct iocp_event *event, struct iocp_packet *packet)
{
    struct iocp_op *op = event->op;
    packet->op = op;
    packet->object = op->owner;
    packet->key = op->owner ? op->owner->key : 0;
    if (op->kind == IOCP_OP_POST)
        packet->key = op->u.post.key;
    else if (op->kind == IOCP_OP_TIMER)
        packet->key = op->u.timer.key;
    packet->result = event->result;
    packet->os_error = event->os_error;
    packet->flags = event->flags;
    packet->buffer = event->buffer;
    packet->data = event->buffer ? iocp_buffer_data(event->buffer) : NULL;
    if (event != &op->event && !event->buffer)
        iocp__event_free(event);
    /* Release: who sees the op idle may use it again. */
    if (!(packet->flags & IOCP_PACKET_MORE))
        iocp__store_release(&op->state, IOCP__OP_IDLE);
}

void iocp_packet_release(struct iocp_packet *packet)
{
    if (!packet)
        return;
    packet->buffer = iocp_buffer_unref(packet->buffer);
    packet->object = iocp_object_unref(packet->object);
    packet->data = NULL;
}

static void packet_run(struct iocp_event *event)
{
    struct iocp_packet packet;
    iocp_handler *handler = event->op->handler;
    iocp__packet_make(event, &packet);
    struct iocp_object *object = packet.object;
    struct iocp_buffer *buffer = packet.buffer;
    if (handler)
        handler(&packet);
    else if (object && object->object_class->complete)
        object->object_class->complete(object, &packet);
    iocp_buffer_unref(buffer);
    iocp_object_unref(object);
}

/* Runs the handler of an event that the worker may handle, and of those that came for the same
 * serial object meanwhile. Returns how many ran. */
static int packet_handle(struct iocp__worker *worker, struct iocp_event *event)
{
    struct iocp_object *object = event->op->owner;
    if (!object || !object->object_class->serial) {
        packet_run(event);
        return 1;
    }
    /* The reference of the event may be the last one. */
    iocp_object_ref(object);
    int count = 0;
    do {
        while (event) {
            struct iocp_event *next = count ? event->next : NULL;
            packet_run(event);
            event = next;
            count++;
            /* Relaxed: tells the watch that this is not one long handler. */
            if (count < IOCP__DISPATCH_MAX)
                iocp__store_relaxed(&worker->sequence, worker->sequence + 1);
        }
        event = iocp__object_serial_next(object);
    } while (event);
    iocp_object_unref(object);
    return count;
}

/* ---- The next packet. */

/* What a thread waits for. */
struct packet_wait {
    uint64_t deadline_ns;
    uint64_t epoch; /* a wake after this one ends the wait */
    int serial;     /* the packets are handled here, not handed out */
};

/* From a lane, or the shared one. Needs a ticket. `serial`: to be handled here, see lane.h. */
static struct iocp_event *packet_take(struct iocp_port *port, struct iocp__lane *lane, int serial)
{
    struct iocp_event *event = lane ? iocp__lane_take(lane, serial) : NULL;
    if (!event)
        event = iocp__lane_take(port->lanes[0], serial);
    return event;
}

/* Up to `count` of them, behind one that packet_take gave. */
static void packet_take_more(struct iocp_port *port, struct iocp__lane *lane, uint32_t count,
                             struct iocp__queue *events)
{
    if (lane)
        iocp__lane_take_some(lane, count, events);
    if (lane != port->lanes[0] && events->count < count)
        iocp__lane_take_some(port->lanes[0], count - events->count, events);
}

/* Where the kernel is the gate: lanes are nobody's, so each worker begins with another one. */
static struct iocp_event *packet_take_any(struct iocp_port *port, struct iocp__worker *worker,
                                          int serial)
{
    /* Relaxed: all lanes are there from the start. */
    uint32_t count = iocp__load_relaxed(&port->lane_count);
    for (uint32_t i = 0; i < count; i++) {
        struct iocp__lane *lane = port->lanes[worker->turn++ % count];
        struct iocp_event *event = iocp__lane_take(lane, serial);
        if (event) {
            worker->home = lane;
            return event;
        }
    }
    return NULL;
}

static struct iocp_event *packet_steal(struct iocp_port *port, int serial)
{
    /* Acquire: a lane's contents are seen with its number. */
    uint32_t count = iocp__load_acquire(&port->lane_count);
    struct iocp_event *event = NULL;
    for (uint32_t i = 1; i < count && !event; i++) {
        struct iocp__lane *lane = port->lanes[i];
        /* Relaxed: a packet may be taken by anybody; this only decides whether it should. */
        if (!iocp__load_relaxed(&lane->holder) || iocp__load_relaxed(&lane->hot))
            event = iocp__lane_take(lane, serial);
    }
    return event;
}

/* Whether the worker would find something. Sequentially consistent: rule W. */
static int packet_ready(struct iocp_port *port, struct iocp__worker *worker)
{
    uint32_t count = iocp__load_acquire(&port->lane_count);
    for (uint32_t i = 0; i < count; i++) {
        struct iocp__lane *lane = port->lanes[i];
        if (!iocp__load_seq(&lane->ready_count))
            continue;
        if (i == 0 || lane == worker->lane || port->shared || !iocp__load_seq(&lane->holder) ||
            iocp__load_seq(&lane->hot))
            return 1;
    }
    return 0;
}

static void packet_expire_timers(struct iocp_port *port)
{
    uint64_t first = iocp__timers_first(&port->timers);
    if (first == UINT64_MAX)
        return;
    uint64_t now = iocp__os_now_ns();
    if (first > now)
        return;
    if (iocp__timers_expire(&port->timers, now, port->lanes[0]) > 1)
        iocp__gate_work(port);
}

static struct iocp_event *packet_find(struct iocp_port *port, struct iocp__worker *worker,
                                      int serial)
{
    packet_expire_timers(port);
    if (!packet_ready(port, worker) || !iocp__gate_ticket(port, worker))
        return NULL;
    if (port->shared)
        return packet_take_any(port, worker, serial);
    struct iocp_event *event = packet_take(port, worker->lane, serial);
    return event ? event : packet_steal(port, serial);
}

/* Several packets came at once: marks the lane hot and wakes somebody, if they take long. */
static void packet_ask_help(struct iocp_port *port, struct iocp__worker *worker)
{
    struct iocp__lane *lane = worker->lane;
    /* Relaxed: an estimate. */
    uint64_t count = iocp__load_relaxed(&lane->ready_count);
    uint32_t hot = count > 1 && count * worker->handler_ns > PACKET_HELP_NS;
    if (hot != iocp__load_relaxed(&lane->hot))
        iocp__store_relaxed(&lane->hot, hot);
    if (hot)
        iocp__gate_work(port);
}

/* Looks into the kernel without waiting. */
static void packet_poll(struct iocp_port *port, struct iocp__worker *worker)
{
    worker->unserved = 0;
    iocp__lane_serve(worker->lane, 0);
    iocp__lane_release_closed(worker->lane);
    /* Relaxed: an estimate. */
    worker->eager = iocp__load_relaxed(&worker->lane->ready_count) > 0;
    packet_ask_help(port, worker);
}

/* What a waiter returns with when it returns without packets; 0: it goes on. */
static int packet_interrupted(struct iocp_port *port, uint64_t epoch)
{
    if (iocp__load_seq(&port->closed))
        return IOCP_ECLOSED;
    return iocp__load_seq(&port->wake_epoch) != epoch ? IOCP_EWOKEN : 0;
}

/* Joins the stack and sleeps, unless something has come up meanwhile. */
static void packet_sleep(struct iocp_port *port, struct iocp__worker *worker,
                         const struct packet_wait *wait)
{
    /* Relaxed: a hint; is_needed looks again. */
    if (worker->lane && iocp__load_relaxed(&port->free_lanes))
        iocp__gate_watch(port, worker);
    /* It had packets and got no ticket: whoever gives one back may take them. Sequentially
     * consistent, with gate.running: the one who gives a ticket back sees this, or this worker sees
     * the ticket. */
    if (worker->lane && iocp__load_relaxed(&worker->lane->ready_count))
        iocp__store_seq(&worker->lane->hot, 1);
    uint64_t until = iocp__gate_sleep(port, worker, wait->deadline_ns);
    /* Relaxed: gate.running is a hint here: without a ticket to be had, whoever gives one back
     * looks for packets and wakes. */
    int stay =
        packet_interrupted(port, wait->epoch) == 0 && !iocp__gate_is_needed(port, worker) &&
        !(worker->on_duty && iocp__timers_first(&port->timers) < until) &&
        !(packet_ready(port, worker) && iocp__load_seq(&port->gate.running) < port->gate.limit);
    if (!stay)
        until = 0;
    if (worker->lane) {
        struct iocp__lane *lane = worker->lane;
        worker->unserved = 0;
        iocp__lane_serve(lane, until);
        iocp__gate_awake(port, worker);
        iocp__lane_release_closed(lane);
        /* Relaxed: an estimate. */
        worker->eager = iocp__load_relaxed(&lane->ready_count) > 1;
        packet_ask_help(port, worker);
    } else {
        if (until)
            iocp__parker_wait(&worker->parker, until);
        iocp__gate_awake(port, worker);
    }
}

/* The same where the kernel is the gate: waits there, unless something has come up meanwhile. */
static void packet_fetch(struct iocp_port *port, struct iocp__worker *worker,
                         const struct packet_wait *wait)
{
    int joins = wait->deadline_ns != 0;
    uint64_t until = 0;
    if (joins && iocp__gate_kernel_pass(port, worker, wait->deadline_ns))
        return;
    if (joins)
        until = iocp__gate_kernel_join(port, worker, wait->deadline_ns, wait->epoch);
    if (packet_interrupted(port, wait->epoch) ||
        (joins && worker->on_duty && iocp__timers_first(&port->timers) < until))
        until = 0;
    else if (packet_ready(port, worker))
        iocp__gate_kernel_ask(port);
    iocp__gate_kernel_fetch(port, worker, until, joins);
}

/* Waits in the way of the gate, or only looks. */
static void packet_wait_turn(struct iocp_port *port, struct iocp__worker *worker,
                             const struct packet_wait *wait)
{
    if (port->shared) {
        packet_fetch(port, worker, wait);
        return;
    }
    int has_lane = iocp__gate_lane(port, worker);
    /* Relaxed: a hint. */
    if (iocp__load_relaxed(&port->free_lanes) && iocp__gate_visit(port, worker) &&
        iocp__gate_ticket(port, worker))
        return;
    /* Without a ticket no packet that is found could be taken: it would be a busy wait for one. */
    if (has_lane && ((worker->eager && worker->ticket) || wait->deadline_ns == 0))
        packet_poll(port, worker);
    else if (wait->deadline_ns)
        packet_sleep(port, worker, wait);
}

/* The worker is back: sees to others before it looks for packets. When the queues have given many
 * in a row it looks into the kernel, too; one that has found packets ever since it came, or since
 * it lost its lane, has no lane for that yet. */
static void packet_begin(struct iocp_port *port, struct iocp__worker *worker)
{
    int many = worker->unserved >= PACKET_UNSERVED_MAX;
    iocp__gate_enter(port, worker);
    iocp__watch_help(port);
    if (port->shared)
        return;
    /* Relaxed, twice: a hint. */
    if (!worker->lane && (many || iocp__load_relaxed(&port->free_lanes)))
        iocp__gate_lane(port, worker);
    if (!worker->lane)
        iocp__gate_make_way(port, worker);
    else if (many)
        packet_poll(port, worker);
    if (!many)
        return;
    worker->unserved = 0;
    if (iocp__load_relaxed(&port->free_lanes))
        (void)iocp__gate_visit(port, worker);
}

/* 1 with the next packet, the worker being out with it; or an error, the worker having left. */
static int packet_next(struct iocp_port *port, struct iocp__worker *worker,
                       const struct packet_wait *wait, struct iocp_event **out_event)
{
    uint64_t deadline_ns = wait->deadline_ns;
    int looked = 0;
    int error = 0;
    packet_begin(port, worker);
    for (;;) {
        error = IOCP_ECLOSED;
        if (iocp__load_seq(&port->closed))
            break;
        struct iocp_event *event = packet_find(port, worker, wait->serial);
        if (event) {
            iocp__gate_exit(port, worker);
            iocp__watch_arm(port);
            *out_event = event;
            return 1;
        }
        error = packet_interrupted(port, wait->epoch);
        if (error < 0)
            break;
        error = IOCP_ETIMEDOUT;
        if (looked && deadline_ns != UINT64_MAX && deadline_ns <= iocp__os_now_ns())
            break;
        looked = 1;
        packet_wait_turn(port, worker, wait);
    }
    iocp__gate_leave(port, worker);
    return error;
}

static uint64_t packet_deadline(uint64_t timeout_ns)
{
    if (timeout_ns == 0)
        return 0;
    uint64_t now = iocp__os_now_ns();
    return timeout_ns < UINT64_MAX - now ? now + timeout_ns : UINT64_MAX;
}

/* ---- Public. */

int iocp_port_wait(struct iocp_port *port, struct iocp_packet *packets, uint32_t count,
                   uint64_t timeout_ns)
{
    struct iocp__worker *worker;
    struct iocp_event *event;
    if (!port || !packets || count == 0 || count > INT32_MAX)
        return IOCP_EINVAL;
    int error = iocp__worker_get(port, &worker);
    if (error < 0)
        return error;
    if (worker->dispatching)
        return IOCP_EBUSY;
    struct packet_wait wait = {packet_deadline(timeout_ns), iocp__port_epoch(port), 0};
    error = packet_next(port, worker, &wait, &event);
    if (error < 0)
        return error;
    uint32_t taken = 0;
    struct iocp__queue more;
    iocp__queue_init(&more);
    if (count > 1)
        packet_take_more(port, worker->home, count - 1, &more);
    do
        iocp__packet_make(event, &packets[taken++]);
    while ((event = iocp__queue_pop(&more)));
    worker->unserved += taken;
    return (int)taken;
}

/* After a batch: bells that were put off, and how long its packets took. */
static void packet_end_batch(struct iocp_port *port, struct iocp__worker *worker, uint64_t began_ns,
                             int count)
{
    /* Relaxed: the thread's own phase. What blocks tells nothing of how long packets take. */
    if (began_ns && count && iocp__load_relaxed(&worker->phase) == IOCP__PHASE_BUSY) {
        uint64_t each = (iocp__os_now_ns() - began_ns) / (uint64_t)count;
        uint64_t bounded = each < 100000000 ? each : 100000000;
        worker->handler_ns = (uint32_t)((worker->handler_ns * 3 + bounded) / 4);
    }
    if (worker->owes) {
        worker->owes = 0;
        if (port->shared)
            iocp__gate_kernel_serve_owed(port, worker);
        else
            iocp__gate_settle_owed(port);
    }
}

/* Whether a batch of `count` packets has taken long enough. The time begins at its first look, so
 * that small ones ask no clock. */
static int packet_batch_is_over(int count, int *next_look, uint64_t *since_ns)
{
    if (count < *next_look)
        return 0;
    *next_look = count + PACKET_LOOK;
    uint64_t now_ns = iocp__os_now_ns();
    if (!*since_ns)
        *since_ns = now_ns;
    return now_ns - *since_ns >= PACKET_BATCH_NS;
}

int iocp__port_dispatch_since(struct iocp_port *port, uint64_t timeout_ns, uint64_t epoch)
{
    struct iocp__worker *worker;
    struct iocp_event *event;
    if (!port)
        return IOCP_EINVAL;
    int error = iocp__worker_get(port, &worker);
    if (error < 0)
        return error;
    if (worker->dispatching)
        return IOCP_EBUSY;
    struct packet_wait wait = {packet_deadline(timeout_ns), epoch, 1};
    error = packet_next(port, worker, &wait, &event);
    if (error < 0)
        return error;
    worker->dispatching = 1;
    int count = 0;
    int over = 0;
    int next_look = PACKET_LOOK;
    uint64_t since_ns = 0;
    /* Relaxed: the clock is only asked when somebody waits who could help. */
    uint64_t began_ns = iocp__load_relaxed(&port->gate.sleepers) ? iocp__os_now_ns() : 0;
    do {
        count += packet_handle(worker, event);
        iocp__store_relaxed(&worker->sequence, worker->sequence + 1);
        if (count % PACKET_LOOK == 0)
            iocp__watch_help(port);
        /* Relaxed: SEIZED is acted upon in enter, under the gate's lock. */
    } while (count < IOCP__DISPATCH_MAX && iocp__load_relaxed(&worker->phase) == IOCP__PHASE_BUSY &&
             !(over = packet_batch_is_over(count, &next_look, &since_ns)) &&
             (event = packet_take(port, worker->home, 1)));
    worker->dispatching = 0;
    /* Over: the lane is looked after first. */
    worker->unserved += over ? PACKET_UNSERVED_MAX : (uint32_t)count;
    packet_end_batch(port, worker, began_ns, count);
    return count;
}

int iocp_port_dispatch(struct iocp_port *port, uint64_t timeout_ns)
{
    return iocp__port_dispatch_since(port, timeout_ns, port ? iocp__port_epoch(port) : 0);
}

uint64_t iocp__port_epoch(struct iocp_port *port)
{
    return iocp__load_seq(&port->wake_epoch);
}

void iocp_port_wake(struct iocp_port *port)
{
    if (!port)
        return;
    iocp__add_seq(&port->wake_epoch, 1);
    iocp__gate_all(port);
}
