/* One source of completions and the queues around it.
 *
 * Invariants
 * 1. The backend holds at most one op per object and direction: object->active[d]; the others
 *    wait in object->queue[d] in the order of their submission. Both are the holder's.
 * 2. object->pending counts the ops of the handle from the moment the holder takes them out of
 *    the inbox until they are in `done`; a handle is closed only at pending 0.
 * 3. sleeping is 1 only while inbox, cancels and changes are empty. (Where the kernel is the gate
 *    the lane has no holder for most of the time: then it is 1 exactly while they are, or 0 and
 *    the bell is rung, or owed, or the holder on its way to them.)
 * 4. An op in `cancels` is SENT, QUEUED or HELD.
 * 5. ready_count = ready.count.
 *
 * An op: SENT [lane_submit] → QUEUED [lane_start] → HELD [lane_begin] → READY [lane_publish]
 *        SENT → HELD [lane_start]     QUEUED → READY [canceled]     HELD → IDLE [lane_land]
 * An object: REGISTERED [port] → attached [lane_sort_changes] → CLOSING [lane_close]
 *            → CLOSED [lane_forget] */
#include "core/lane.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"
#include "core/object.h"
#include "core/op.h"

#include <string.h>

/* Release: a cancel from another thread that sees the op pending, in whatever state, goes on to its
 * owner without a lock. All else that must be seen is ordered by the lane's lock. */
static void lane_set_state(struct iocp_op *op, enum iocp__op_state state)
{
    iocp__store_release(&op->state, (uint8_t)state);
}

int iocp__lane_create(struct iocp_port *port, uint32_t index, struct iocp__lane **out_lane)
{
    const struct iocp_port_config *config = &port->config;
    struct iocp__lane *lane = iocp__allocate_zero(sizeof(*lane));
    if (!lane)
        return IOCP_ENOMEM;
    int error = iocp_pool_create(config->buffer_size, config->buffer_count, &lane->pool);
    if (error < 0)
        goto fail;
    struct iocp__kernel_config kernel_config = {
        .pool = lane->pool,
        .buffer_count = config->buffer_count,
        .concurrency = port->gate.limit,
        .index = index,
        .first = port->lanes[0] ? port->lanes[0]->kernel : NULL,
    };
    error = port->backend->create(&kernel_config, &lane->kernel);
    if (error < 0)
        goto fail;
    /* Nobody looks into the inbox by himself. */
    lane->sleeping = port->shared;
    lane->kernel->resubmits = &port->resubmits;
    lane->kernel->starved = &port->starved;
    lane->port = port;
    lane->index = index;
    *out_lane = lane;
    return 0;
fail:
    iocp_pool_unref(lane->pool);
    iocp__release(lane, sizeof(*lane));
    return error;
}

void iocp__lane_destroy(struct iocp__lane *lane)
{
    if (!lane)
        return;
    iocp__assert(!lane->first_object && !lane->inbox.first && !lane->ready.first);
    lane->kernel->backend->destroy(lane->kernel);
    iocp_pool_unref(lane->pool);
    iocp__release(lane, sizeof(*lane));
}

/* ---- The holder: operations on their way in. */

static void lane_begin(struct iocp__lane *lane, struct iocp_op *op, struct iocp__queue *done)
{
    lane_set_state(op, IOCP__OP_HELD);
    if (op->kind == IOCP_OP_DISCONNECT) {
        int32_t os_error = 0;
        int error = iocp__socket_shutdown_send(op->owner->handle, &os_error);
        iocp__op_done(done, op, error < 0 ? error : 0, os_error);
        return;
    }
    /* Relaxed: cancel adds its flag meanwhile; LATE is set before the submit. */
    if (iocp__load_relaxed(&op->flags) & IOCP__OP_LATE)
        op->u.late.gather(op);
    lane->kernel->backend->submit(lane->kernel, op);
}

static void lane_enqueue(struct iocp_op **ring, struct iocp_op *op)
{
    struct iocp_op *last = *ring;
    if (last) {
        op->event.next = last->event.next;
        last->event.next = &op->event;
    } else {
        op->event.next = &op->event;
    }
    *ring = op;
}

static struct iocp_op *lane_dequeue(struct iocp_op **ring)
{
    struct iocp_op *last = *ring;
    if (!last)
        return NULL;
    struct iocp_op *first = last->event.next->op;
    if (first == last)
        *ring = NULL;
    else
        last->event.next = first->event.next;
    return first;
}

static int lane_unqueue(struct iocp_op **ring, struct iocp_op *op)
{
    struct iocp_op *before = *ring;
    if (!before)
        return 0;
    while (before->event.next->op != op) {
        before = before->event.next->op;
        if (before == *ring)
            return 0;
    }
    if (before == op) {
        *ring = NULL;
        return 1;
    }
    before->event.next = op->event.next;
    if (*ring == op)
        *ring = before;
    return 1;
}

static void lane_start(struct iocp__lane *lane, struct iocp_op *op, struct iocp__queue *done)
{
    struct iocp_object *object = op->owner;
    enum iocp__direction direction = iocp__op_direction(op);
    object->pending++;
    if (direction == IOCP__UNDIRECTED) {
        lane_set_state(op, IOCP__OP_HELD);
        lane->kernel->backend->submit(lane->kernel, op);
    } else if (object->active[direction]) {
        lane_set_state(op, IOCP__OP_QUEUED);
        lane_enqueue(&object->queue[direction], op);
    } else {
        object->active[direction] = op;
        lane_begin(lane, op, done);
    }
}

static void lane_end(struct iocp__lane *lane, struct iocp_op *op)
{
    struct iocp_object *object = op->owner;
    enum iocp__direction direction = iocp__op_direction(op);
    int held = direction == IOCP__UNDIRECTED ||
               (object->active[direction] == op && op->kind != IOCP_OP_DISCONNECT);
    if (held)
        lane->kernel->backend->cancel(lane->kernel, op);
}

static void lane_cancel(struct iocp__lane *lane, struct iocp_op *op, struct iocp__queue *done)
{
    enum iocp__direction direction = iocp__op_direction(op);
    if (direction != IOCP__UNDIRECTED && lane_unqueue(&op->owner->queue[direction], op))
        iocp__op_done(done, op, IOCP_ECANCELED, 0);
    else
        lane_end(lane, op);
}

/* ---- The holder: objects that come and go. */

static void lane_link(struct iocp__lane *lane, struct iocp_object *object)
{
    object->lane_back = NULL;
    object->lane_next = lane->first_object;
    if (lane->first_object)
        lane->first_object->lane_back = object;
    lane->first_object = object;
}

static void lane_unlink(struct iocp__lane *lane, struct iocp_object *object)
{
    if (object->lane_back)
        object->lane_back->lane_next = object->lane_next;
    else
        lane->first_object = object->lane_next;
    if (object->lane_next)
        object->lane_next->lane_back = object->lane_back;
}

static void lane_forget(struct iocp__lane *lane, struct iocp_object *object)
{
    iocp__debug(object->pending == 0 && object->attached);
    lane->kernel->backend->detach(lane->kernel, object);
    lane_unlink(lane, object);
    object->attached = 0;
    iocp_handle handle = object->handle;
    iocp__lock_acquire(&lane->lock);
    object->handle = IOCP_HANDLE_INVALID;
    /* Relaxed: under the lock; atomic for readers without it. */
    iocp__store_relaxed(&object->state, object->state | IOCP__OBJECT_CLOSED);
    iocp__lock_release(&lane->lock);
    iocp__handle_close(handle);
    /* Relaxed: a count for choosing lanes. */
    iocp__sub_relaxed(&lane->objects, 1);
    object->change_next = lane->released;
    lane->released = object;
}

static void lane_close_object(struct iocp__lane *lane, struct iocp_object *object,
                              struct iocp__queue *done)
{
    for (int direction = 0; direction < IOCP__UNDIRECTED; direction++) {
        struct iocp_op *op;
        while ((op = lane_dequeue(&object->queue[direction])))
            iocp__op_done(done, op, IOCP_ECANCELED, 0);
        op = object->active[direction];
        if (op)
            lane_end(lane, op);
    }
    if (object->pending == 0)
        lane_forget(lane, object);
}

/* ---- The holder: one round. */

struct lane_orders {
    struct iocp__queue inbox;
    struct iocp_op *cancels;
    struct iocp_object *closes; /* by change_next */
    uint32_t fresh;             /* objects that were put in front of the lane's list */
};

/* Sorts the changes into new objects and closes. Under the lock, together with the inbox: a close
 * comes after all ops that were submitted before it. */
static void lane_sort_changes(struct iocp__lane *lane, struct lane_orders *orders)
{
    while (lane->changes) {
        struct iocp_object *object = lane->changes;
        lane->changes = object->change_next;
        if (!object->attached) {
            object->attached = 1;
            lane_link(lane, object);
            orders->fresh++;
        }
        /* It cannot be listed again: it closes once. */
        if (object->state & IOCP__OBJECT_CLOSING) {
            object->change_next = orders->closes;
            orders->closes = object;
        }
        iocp__store_relaxed(&object->state, object->state & ~(uint32_t)IOCP__OBJECT_LISTED);
    }
}

/* The memory of the next op, if there is one, and of what a late send has behind it. */
static void lane_prefetch(const struct iocp_event *event)
{
    for (uintptr_t i = 0; i < 4; i++)
        iocp__prefetch((const void *)((uintptr_t)event + i * 64));
}

/* Takes what other threads left. Returns 0 when there is nothing; then, with `sleep`, the lane is
 * marked as one that has to be rung for. */
static int lane_orders(struct iocp__lane *lane, struct lane_orders *orders, int sleep)
{
    iocp__queue_init(&orders->inbox);
    orders->closes = NULL;
    orders->fresh = 0;
    iocp__lock_acquire(&lane->lock);
    iocp__queue_join(&orders->inbox, &lane->inbox);
    orders->cancels = lane->cancels;
    lane->cancels = NULL;
    lane_sort_changes(lane, orders);
    int any = orders->inbox.first || orders->cancels || orders->closes || orders->fresh;
    lane->sleeping = !any && sleep;
    iocp__lock_release(&lane->lock);
    return any;
}

static void lane_obey(struct iocp__lane *lane, struct lane_orders *orders, struct iocp__queue *done)
{
    struct iocp_object *object = lane->first_object;
    for (; orders->fresh; orders->fresh--, object = object->lane_next)
        lane->kernel->backend->attach(lane->kernel, object);
    struct iocp_event *event;
    while ((event = iocp__queue_pop(&orders->inbox))) {
        lane_prefetch(orders->inbox.first);
        lane_start(lane, event->op, done);
    }
    while (orders->cancels) {
        struct iocp_op *op = orders->cancels;
        orders->cancels = op->cancel_next;
        op->cancel_next = NULL;
        lane_cancel(lane, op, done);
    }
    while (orders->closes) {
        object = orders->closes;
        orders->closes = object->change_next;
        lane_close_object(lane, object, done);
    }
}

/* The answer of an op: its place goes to the next one. */
static void lane_finish(struct iocp__lane *lane, struct iocp_op *op, struct iocp__queue *done)
{
    struct iocp_object *object = op->owner;
    enum iocp__direction direction = iocp__op_direction(op);
    object->pending--;
    if (direction != IOCP__UNDIRECTED && object->active[direction] == op) {
        struct iocp_op *next = lane_dequeue(&object->queue[direction]);
        object->active[direction] = next;
        if (next)
            lane_begin(lane, next, done);
    }
    uint32_t state = iocp__load_relaxed(&object->state);
    if (object->pending == 0 && (state & IOCP__OBJECT_CLOSING) && object->attached &&
        !(state & IOCP__OBJECT_LISTED))
        lane_forget(lane, object);
}

static void lane_forget_cancel(struct iocp__lane *lane, struct iocp_op *op)
{
    struct iocp_op **at = &lane->cancels;
    while (*at && *at != op)
        at = &(*at)->cancel_next;
    if (*at)
        *at = op->cancel_next;
    op->cancel_next = NULL;
}

/* Makes packets of what finished. From here on other threads may have them. */
static void lane_publish(struct iocp__lane *lane, struct iocp__queue *finished)
{
    iocp__lock_acquire(&lane->lock);
    if (!lane->port->shared)
        lane->sleeping = 0;
    for (struct iocp_event *event = finished->first; event; event = event->next) {
        if (event->flags & IOCP_PACKET_MORE)
            continue;
        if (event->op->flags & IOCP__OP_CANCELED)
            lane_forget_cancel(lane, event->op);
        lane_set_state(event->op, IOCP__OP_READY);
    }
    iocp__queue_join(&lane->ready, finished);
    /* In one order with the gate's stack: see gate.c, rule W. */
    iocp__store_seq(&lane->ready_count, lane->ready.count);
    iocp__lock_release(&lane->lock);
}

/* A late send that was sent whole needs no packet when its owner says so. The object stays: the
 * port has a reference until the lane gives it back (lane->released). */
static int lane_land(struct iocp__lane *lane, const struct iocp_event *event)
{
    struct iocp_op *op = event->op;
    struct iocp_object *object = op->owner;
    /* Relaxed: LATE is set before the submit. */
    if (!(iocp__load_relaxed(&op->flags) & IOCP__OP_LATE) || event->result < 0)
        return 0;
    lane_set_state(op, IOCP__OP_IDLE);
    if (!op->u.late.landed(op))
        return 0;
    iocp_object_unref(object);
    /* Relaxed: a counter, which the holder alone adds to. */
    iocp__store_relaxed(&lane->landed, lane->landed + 1);
    return 1;
}

/* Moves what is done to `finished`; the places of these ops go to the next ones, which may be done
 * at once. */
static void lane_collect(struct iocp__lane *lane, struct iocp__queue *done,
                         struct iocp__queue *finished)
{
    struct iocp_event *event;
    while ((event = iocp__queue_pop(done))) {
        lane_prefetch(done->first);
        /* A stream's packet holds a reference of its own: its last one may be handled first. */
        if (event->flags & IOCP_PACKET_MORE) {
            iocp_object_ref(event->op->owner);
        } else {
            lane_finish(lane, event->op, done);
            if (lane_land(lane, event))
                continue;
        }
        iocp__queue_push(finished, event);
    }
}

void iocp__lane_serve(struct iocp__lane *lane, uint64_t deadline_ns)
{
    const struct iocp__backend *backend = lane->kernel->backend;
    int shared = (int)lane->port->shared;
    struct lane_orders orders;
    struct iocp__queue done;
    struct iocp__queue finished;
    iocp__queue_init(&done);
    iocp__queue_init(&finished);
    /* A lane of the kernel's gate is held for this round only: whoever comes later has to ring. */
    while (
        lane_orders(lane, &orders, shared || (deadline_ns != 0 && !done.first && !lane->released)))
        lane_obey(lane, &orders, &done);
    int look = deadline_ns == 0;
    if (done.first || lane->released)
        deadline_ns = 0;
    backend->wait(lane->kernel, deadline_ns, &done);
    /* Relaxed: a counter. */
    iocp__add_relaxed(&lane->waits, 1);
    /* On while something comes. Shared: nobody comes back by himself for ops that began just now
     * and were done at once; each was queued behind another, so there is an end to them. Asked for
     * a look: until there is a packet; so far sends have landed, each once. */
    while (done.first) {
        lane_collect(lane, &done, &finished);
        if (shared || (look && !finished.first))
            backend->wait(lane->kernel, 0, &done);
    }
    lane_publish(lane, &finished);
}

void iocp__lane_release_closed(struct iocp__lane *lane)
{
    struct iocp_object *object = lane->released;
    lane->released = NULL;
    while (object) {
        struct iocp_object *next = object->change_next;
        object->change_next = NULL;
        iocp_object_unref(object);
        object = next;
    }
}

/* ---- Any thread. */

static int lane_ring(struct iocp__lane *lane)
{
    int ring = (int)lane->sleeping;
    lane->sleeping = 0;
    return ring;
}

int iocp__lane_submit(struct iocp__lane *lane, struct iocp_object *object, struct iocp_op *op)
{
    iocp__lock_acquire(&lane->lock);
    lane->submits++;
    if (object->state & IOCP__OBJECT_CLOSING) {
        iocp__lock_release(&lane->lock);
        return IOCP_ECLOSED;
    }
    lane_set_state(op, IOCP__OP_SENT);
    iocp__queue_push(&lane->inbox, &op->event);
    int ring = lane_ring(lane);
    iocp__lock_release(&lane->lock);
    return ring;
}

int iocp__lane_cancel(struct iocp__lane *lane, struct iocp_op *op)
{
    iocp__lock_acquire(&lane->lock);
    uint8_t state = iocp__load_relaxed(&op->state);
    int pending = state == IOCP__OP_SENT || state == IOCP__OP_QUEUED || state == IOCP__OP_HELD;
    int ring = IOCP_ENOTFOUND;
    if (pending) {
        ring = 0;
        lane->cancel_count++;
        if (!(op->flags & IOCP__OP_CANCELED)) {
            iocp__store_relaxed(&op->flags, (uint8_t)(op->flags | IOCP__OP_CANCELED));
            op->cancel_next = lane->cancels;
            lane->cancels = op;
            ring = lane_ring(lane);
        }
    }
    iocp__lock_release(&lane->lock);
    return ring;
}

/* The lock is held. */
static int lane_list_change(struct iocp__lane *lane, struct iocp_object *object, uint32_t state)
{
    if (!(state & IOCP__OBJECT_LISTED)) {
        object->change_next = lane->changes;
        lane->changes = object;
    }
    iocp__store_relaxed(&object->state, state | IOCP__OBJECT_LISTED);
    return lane_ring(lane);
}

int iocp__lane_attach(struct iocp__lane *lane, struct iocp_object *object)
{
    iocp__lock_acquire(&lane->lock);
    int ring = lane_list_change(lane, object, object->state);
    iocp__lock_release(&lane->lock);
    return ring;
}

int iocp__lane_close(struct iocp__lane *lane, struct iocp_object *object)
{
    int ring = 0;
    iocp__lock_acquire(&lane->lock);
    if (!(object->state & IOCP__OBJECT_CLOSING))
        ring = lane_list_change(lane, object, object->state | IOCP__OBJECT_CLOSING);
    iocp__lock_release(&lane->lock);
    return ring;
}

void iocp__lane_close_all(struct iocp__lane *lane)
{
    for (struct iocp_object *object = lane->first_object; object; object = object->lane_next)
        iocp__lane_close(lane, object);
}

int iocp__lane_has_orders(struct iocp__lane *lane)
{
    iocp__lock_acquire(&lane->lock);
    int any = lane->inbox.first || lane->cancels || lane->changes;
    iocp__lock_release(&lane->lock);
    return any;
}

/* The lock is held; packets were added to `before` others. */
static void lane_show_ready(struct iocp__lane *lane, uint32_t before)
{
    /* As in lane_publish. That is needed where nothing became something: after it, whoever looks
     * sees something until all is taken, and whoever adds more has seen, by the lock, whom the
     * first one could see on the gate's stack. */
    if (before)
        iocp__store_relaxed(&lane->ready_count, lane->ready.count);
    else
        iocp__store_seq(&lane->ready_count, lane->ready.count);
}

void iocp__lane_push(struct iocp__lane *lane, struct iocp__queue *events)
{
    iocp__lock_acquire(&lane->lock);
    uint32_t before = lane->ready.count;
    iocp__queue_join(&lane->ready, events);
    lane_show_ready(lane, before);
    iocp__lock_release(&lane->lock);
}

void iocp__lane_post(struct iocp__lane *lane, struct iocp_event *event)
{
    iocp__lock_acquire(&lane->lock);
    uint32_t before = lane->ready.count;
    iocp__queue_push(&lane->ready, event);
    lane->posts += event->op->kind == IOCP_OP_POST;
    lane_show_ready(lane, before);
    iocp__lock_release(&lane->lock);
}

/* Not 0 when the packet is the caller's to handle. */
static int lane_enter_serial(struct iocp_event *event)
{
    struct iocp_object *object = event->op->owner;
    return !object || !object->object_class->serial || iocp__object_serial_enter(object, event);
}

struct iocp_event *iocp__lane_take(struct iocp__lane *lane, int serial)
{
    /* Relaxed: a look; who must not miss a packet looks again after joining the gate's stack. */
    if (iocp__load_relaxed(&lane->ready_count) == 0)
        return NULL;
    iocp__lock_acquire(&lane->lock);
    struct iocp_event *event;
    do {
        event = iocp__queue_pop(&lane->ready);
        lane->packets += event != NULL;
    } while (event && serial && !lane_enter_serial(event));
    /* Relaxed: fewer packets than shown cost a look. */
    iocp__store_relaxed(&lane->ready_count, lane->ready.count);
    iocp__lock_release(&lane->lock);
    return event;
}

void iocp__lane_take_some(struct iocp__lane *lane, uint32_t count, struct iocp__queue *events)
{
    /* Relaxed, here and below: as in take. */
    if (iocp__load_relaxed(&lane->ready_count) == 0)
        return;
    iocp__lock_acquire(&lane->lock);
    uint32_t before = events->count;
    if (lane->ready.count <= count)
        iocp__queue_join(events, &lane->ready);
    while (lane->ready.first && events->count - before < count)
        iocp__queue_push(events, iocp__queue_pop(&lane->ready));
    lane->packets += events->count - before;
    iocp__store_relaxed(&lane->ready_count, lane->ready.count);
    iocp__lock_release(&lane->lock);
}
