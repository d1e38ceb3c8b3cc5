/* The completion port: creating, operations on their way in, and its end. Packets on their way out
 * are packet.c.
 *
 * Invariants
 * 1. An op that was accepted (submit or post returned 0) holds a reference on its owner and is
 *    answered once: by its lane, by the timers, or by a packet of the port's own in the shared
 *    lane.
 * 2. lanes[0 .. lane_count) exist from their creation to the end of the port.
 * 3. After `closed` nothing is accepted; what was accepted is answered by the kernel and
 *    dropped at the last unref.
 *
 * open → closed [iocp_port_close] → drained [port_drain] → freed [port_free] */
#include "core/port.h"

#include "backend/buffer.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"
#include "core/choose.h"
#include "core/gate.h"
#include "core/lane.h"
#include "core/op.h"
#include "core/packet.h"
#include "core/timer.h"
#include "core/watch.h"
#include "core/worker.h"

#include <string.h>

/* ---- Beginning. */

void iocp_port_config_init(struct iocp_port_config *config)
{
    memset(config, 0, sizeof(*config));
    config->workers_max = 1024;
    /* A little more than the 64 KiB of many messages: a receive that fills its buffer has to be
     * followed by another one, to see that there is nothing more. */
    config->buffer_size = 65 * 1024;
    config->buffer_count = 256;
    config->watch_ns = 2 * 1000 * 1000;
}

static int port_check_config(const struct iocp_port_config *config)
{
    int power = config->buffer_count && !(config->buffer_count & (config->buffer_count - 1));
    if (config->backend > IOCP_BACKEND_WINDOWS || !config->workers_max || !power)
        return IOCP_EINVAL;
    if (config->buffer_size < 64 || config->buffer_size > 1u << 30 || config->buffer_count > 32768)
        return IOCP_EINVAL;
    if (config->watch_ns && config->watch_ns < 100 * 1000)
        return IOCP_EINVAL;
    return 0;
}

static int port_create_lanes(struct iocp_port *port, uint32_t count)
{
    for (; port->lane_count < count; port->lane_count++) {
        int error = iocp__lane_create(port, port->lane_count, &port->lanes[port->lane_count]);
        if (error < 0)
            return error;
    }
    port->lanes_reserved = count;
    return 0;
}

/* The first one last: others may share what is its. */
static void port_destroy_lanes(struct iocp_port *port)
{
    while (port->lane_count)
        iocp__lane_destroy(port->lanes[--port->lane_count]);
}

int iocp_port_create(const struct iocp_port_config *config, struct iocp_port **out_port)
{
    struct iocp_port_config defaults;
    iocp_port_config_init(&defaults);
    if (!config)
        config = &defaults;
    if (!out_port || port_check_config(config) < 0)
        return IOCP_EINVAL;
    struct iocp_port *port = iocp__allocate_zero(sizeof(*port));
    if (!port)
        return IOCP_ENOMEM;
    port->refs = 1;
    port->config = *config;
    uint32_t limit = config->concurrency ? config->concurrency : iocp__cpu_count();
    iocp__gate_init(&port->gate, limit);
    iocp__timers_init(&port->timers, iocp__os_now_ns());
    int error =
        iocp__choose_backend(config->backend, &port->backend, port->reason, sizeof(port->reason));
    if (error < 0)
        goto fail;
    port->shared = (port->backend->caps & IOCP__CAP_SHARED) != 0;
    port->lanes_max = config->lanes && config->lanes < limit ? config->lanes : limit;
    if (port->lanes_max > IOCP__LANES_MAX)
        port->lanes_max = IOCP__LANES_MAX;
    /* Lanes of the kernel's gate are there from the start: nobody holds one to sleep in it. */
    error = port_create_lanes(port, port->shared ? port->lanes_max : 1);
    if (error < 0)
        goto fail;
    if (port->backend->caps & IOCP__CAP_COOPERATIVE)
        iocp__threads_interrupt_prepare();
    port->free_lanes = !port->shared;
    *out_port = port;
    return 0;
fail:
    port_destroy_lanes(port);
    iocp__release(port, sizeof(*port));
    return error;
}

struct iocp_port *iocp_port_ref(struct iocp_port *port)
{
    /* Relaxed: whoever takes a reference has one. */
    uint32_t before = iocp__add_relaxed(&port->refs, 1);
    iocp__assert(before > 0);
    return port;
}

/* ---- End. */

void iocp_port_close(struct iocp_port *port)
{
    if (!port || iocp__exchange_seq(&port->closed, 1))
        return;
    iocp__gate_all(port);
}

/* Drops packets that nobody will take. Destructors run here. */
static void port_drop_ready(struct iocp_port *port)
{
    struct iocp_event *event;
    for (uint32_t i = 0; i < port->lane_count; i++) {
        while ((event = iocp__lane_take(port->lanes[i], 0))) {
            struct iocp_packet packet;
            iocp__packet_make(event, &packet);
            uint8_t kind = packet.op->kind;
            if ((kind == IOCP_OP_ACCEPT || kind == IOCP_OP_ACCEPT_STREAM) && packet.result >= 0)
                iocp__handle_close((iocp_handle)packet.result);
            iocp_packet_release(&packet);
        }
    }
}

static int port_is_quiet(struct iocp_port *port)
{
    for (uint32_t i = 0; i < port->lane_count; i++) {
        /* Relaxed: only this thread is left. */
        if (iocp__load_relaxed(&port->lanes[i]->objects) ||
            iocp__load_relaxed(&port->lanes[i]->ready_count))
            return 0;
    }
    return 1;
}

/* Closes every object, waits for the kernel's last answers, and drops them. */
static void port_drain(struct iocp_port *port)
{
    while (iocp__timers_expire(&port->timers, UINT64_MAX - 1, port->lanes[0]))
        ;
    do {
        for (uint32_t i = 0; i < port->lane_count; i++) {
            struct iocp__lane *lane = port->lanes[i];
            iocp__lane_serve(lane, 0);
            iocp__lane_close_all(lane);
            int busy = iocp__load_relaxed(&lane->objects) != 0;
            iocp__lane_serve(lane, busy ? iocp__os_now_ns() + 1000 * 1000 : 0);
            iocp__lane_release_closed(lane);
        }
        port_drop_ready(port);
    } while (!port_is_quiet(port));
}

static void port_free(struct iocp_port *port)
{
    iocp__assert(!port->gate.top);
    iocp_port_close(port);
    iocp__watch_stop(port);
    iocp__worker_forget_port(port);
    port_drain(port);
    port_destroy_lanes(port);
    iocp__release(port, sizeof(*port));
}

struct iocp_port *iocp_port_unref(struct iocp_port *port)
{
    /* Acquire and release: who frees sees all that others did. */
    if (port && iocp__sub_acq_rel(&port->refs, 1) == 1)
        port_free(port);
    return NULL;
}

/* ---- Operations on their way in. */

/* Has the holder of a lane look at its inbox. A worker that is in a handler puts the bell off to
 * the end of its batch: one bell for many sends. */
static void port_ring(struct iocp_port *port, struct iocp__lane *lane, int ring)
{
    if (!ring) {
        iocp__gate_orders(port, lane);
        return;
    }
    struct iocp__worker *worker = iocp__worker_find(port);
    /* Relaxed: the thread's own phase; when it is seized meanwhile the watch rings what it owes. */
    if (worker && worker->dispatching && !worker->depth &&
        iocp__load_relaxed(&worker->phase) == IOCP__PHASE_BUSY) {
        iocp__store_release(&lane->owed, 1);
        worker->owes = 1;
        return;
    }
    lane->kernel->backend->bell(lane->kernel);
}

/* The lane that a new object goes to: the caller's own, unless it has many more than another. */
static struct iocp__lane *port_choose_lane(struct iocp_port *port)
{
    struct iocp__lane *least = port->lanes[0];
    /* Acquire: a lane's contents are seen with its number. */
    uint32_t count = iocp__load_acquire(&port->lane_count);
    /* Relaxed: the numbers are estimates. */
    for (uint32_t i = 1; i < count; i++) {
        if (iocp__load_relaxed(&port->lanes[i]->objects) < iocp__load_relaxed(&least->objects))
            least = port->lanes[i];
    }
    struct iocp__worker *worker = iocp__worker_find(port);
    struct iocp__lane *home = worker ? worker->home : NULL;
    uint32_t few = iocp__load_relaxed(&least->objects);
    if (home && iocp__load_relaxed(&home->objects) <= few + few / 8 + 4)
        return home;
    return least;
}

static int port_check_object(struct iocp_port *port, struct iocp_object *object)
{
    /* Relaxed: an object is registered by one thread, before others know it. */
    if (iocp__load_relaxed(&object->state) & IOCP__OBJECT_REGISTERED)
        return IOCP_EBUSY;
    return iocp__load_seq(&port->closed) ? IOCP_ECLOSED : 0;
}

/* `kind`: REGISTERED, with FILE or without. */
static int port_register(struct iocp_port *port, struct iocp_object *object, iocp_handle handle,
                         uintptr_t key, uint32_t kind)
{
    struct iocp__lane *lane = port_choose_lane(port);
    if (port->backend->associate) {
        int error = port->backend->associate(lane->kernel, handle);
        if (error < 0)
            return error;
    }
    object->port = port;
    object->lane = lane;
    object->handle = handle;
    object->key = key;
    /* Relaxed: as in port_check_object. */
    iocp__store_relaxed(&object->state, kind);
    iocp_object_ref(object);
    iocp__add_relaxed(&lane->objects, 1);
    port_ring(port, lane, iocp__lane_attach(lane, object));
    return 0;
}

int iocp_port_register(struct iocp_port *port, struct iocp_object *object, iocp_handle handle,
                       uintptr_t key)
{
    if (!port || !object)
        return IOCP_EINVAL;
    int error = port_check_object(port, object);
    if (error == 0)
        error = iocp__handle_prepare(handle);
    if (error < 0)
        return error;
    uint32_t file = iocp__handle_is_file(handle) ? IOCP__OBJECT_FILE : 0;
    return port_register(port, object, handle, key, IOCP__OBJECT_REGISTERED | file);
}

int iocp__port_register_socket(struct iocp_port *port, struct iocp_object *object,
                               iocp_handle handle, uintptr_t key)
{
    int error = port_check_object(port, object);
    return error < 0 ? error : port_register(port, object, handle, key, IOCP__OBJECT_REGISTERED);
}

void iocp_object_close(struct iocp_object *object)
{
    uint32_t state = object ? iocp__load_relaxed(&object->state) : 0;
    /* Relaxed: a closed object has nothing more to do; the lane looks again under its lock. */
    if (!(state & IOCP__OBJECT_REGISTERED) || (state & IOCP__OBJECT_CLOSING))
        return;
    struct iocp_port *port = object->port;
    struct iocp__lane *lane = object->lane;
    iocp_object_ref(object);
    int ring = iocp__lane_close(lane, object);
    port_ring(port, lane, ring);
    iocp_object_unref(object);
}

/* Answers with a packet of the port's own: in the shared lane, for any worker. */
static void port_answer(struct iocp_port *port, struct iocp_op *op, int64_t result)
{
    op->event.result = result;
    /* Release: as lane_set_state. */
    iocp__store_release(&op->state, IOCP__OP_READY);
    iocp__lane_post(port->lanes[0], &op->event);
    iocp__gate_work(port);
}

/* The reference that is held until the op's last handler has returned. Another worker may still
 * read the owner of a stream's earlier packet, so that the same owner is not written again. */
static void port_set_owner(struct iocp_op *op, struct iocp_object *object)
{
    if (op->owner != object)
        op->owner = object;
    if (object)
        iocp_object_ref(object);
}

static int port_submit_timer(struct iocp_port *port, struct iocp_op *op)
{
    uint64_t deadline = op->u.timer.deadline_ns;
    if (iocp__timers_add(&port->timers, op))
        iocp__gate_timer(port, deadline);
    return 0;
}

/* What an op of this kind may be asked of: 0, or the error that answers it. */
static int port_check_kind(const struct iocp_object *object, const struct iocp_op *op)
{
    int is_file = (iocp__load_relaxed(&object->state) & IOCP__OBJECT_FILE) != 0;
    int wants_file = op->kind == IOCP_OP_READ || op->kind == IOCP_OP_WRITE;
    return is_file == wants_file ? 0 : IOCP_ENOTSUP;
}

static int port_check_op(struct iocp_port *port, struct iocp_op *op)
{
    uint8_t state = iocp__load_relaxed(&op->state);
    if (state >= IOCP__OP_SENT)
        return IOCP_EBUSY;
    if (state != IOCP__OP_PREPARED)
        return IOCP_EINVAL;
    return iocp__load_seq(&port->closed) ? IOCP_ECLOSED : 0;
}

int iocp_port_submit(struct iocp_port *port, struct iocp_object *object, struct iocp_op *op)
{
    if (!port || !op || op->kind == IOCP_OP_POST || (!object && op->kind != IOCP_OP_TIMER))
        return IOCP_EINVAL;
    int error = port_check_op(port, op);
    if (error < 0)
        return error;
    port_set_owner(op, object);
    if (op->kind == IOCP_OP_TIMER)
        return port_submit_timer(port, op);
    if (object->port != port) {
        iocp_object_unref(object);
        return IOCP_EINVAL;
    }
    /* The reference keeps the lane's view of the object; the op may be answered and gone as soon as
     * the lane has it. */
    struct iocp__lane *lane = object->lane;
    error = port_check_kind(object, op);
    int ring = error < 0 ? error : iocp__lane_submit(lane, object, op);
    if (ring < 0)
        port_answer(port, op, ring);
    else
        port_ring(port, lane, ring);
    return 0;
}

int iocp_port_cancel(struct iocp_port *port, struct iocp_op *op)
{
    if (!port || !op)
        return IOCP_EINVAL;
    if (op->kind == IOCP_OP_TIMER) {
        int error = iocp__timers_remove(&port->timers, op);
        if (error == 0)
            port_answer(port, op, IOCP_ECANCELED);
        return error;
    }
    /* Acquire: an op that is seen pending is seen with its owner. */
    if (!iocp_op_pending(op) || op->kind == IOCP_OP_POST)
        return IOCP_ENOTFOUND;
    struct iocp__lane *lane = op->owner->lane;
    int ring = iocp__lane_cancel(lane, op);
    if (ring < 0)
        return ring;
    port_ring(port, lane, ring);
    return 0;
}

int iocp_port_post(struct iocp_port *port, struct iocp_object *object, struct iocp_op *op)
{
    if (!port || !op || op->kind != IOCP_OP_POST)
        return IOCP_EINVAL;
    int error = port_check_op(port, op);
    if (error < 0)
        return error;
    port_set_owner(op, object);
    port_answer(port, op, op->event.result);
    return 0;
}

/* ---- Asking. */

const char *iocp_port_backend(const struct iocp_port *port)
{
    return port->backend->name;
}

const char *iocp_port_backend_reason(const struct iocp_port *port)
{
    return port->reason;
}

uint32_t iocp_port_concurrency(const struct iocp_port *port)
{
    return port->gate.limit;
}

uint64_t iocp_now_ns(void)
{
    return iocp__os_now_ns();
}

static void port_stats_lane(struct iocp__lane *lane, struct iocp_port_stats *stats)
{
    iocp__lock_acquire(&lane->lock);
    stats->submits += lane->submits;
    stats->packets += lane->packets;
    stats->posts += lane->posts;
    stats->cancels += lane->cancel_count;
    iocp__lock_release(&lane->lock);
    /* Relaxed: counters. */
    stats->waits += iocp__load_relaxed(&lane->waits);
    stats->landed += iocp__load_relaxed(&lane->landed);
    stats->objects += iocp__load_relaxed(&lane->objects);
    stats->buffers += iocp__pool_count(lane->pool);
}

void iocp_port_stats(struct iocp_port *port, struct iocp_port_stats *out_stats)
{
    struct iocp_port_stats stats = {0};
    struct iocp__gate *gate = &port->gate;
    iocp__lock_acquire(&gate->lock);
    /* Relaxed: counters, which change without the lock where the kernel is the gate. */
    stats.wakes = iocp__load_relaxed(&gate->wakes);
    stats.bells = iocp__load_relaxed(&gate->bells);
    stats.parks = gate->parks;
    stats.declared = gate->declared;
    stats.detected = gate->detected;
    stats.seized = gate->seized;
    stats.lanes = port->lane_count;
    stats.running = iocp__load_relaxed(&gate->running);
    stats.running_max = iocp__load_relaxed(&gate->running_max);
    for (struct iocp__worker *worker = port->workers; worker; worker = worker->next)
        stats.workers += !iocp__load_relaxed(&worker->thread_gone);
    iocp__lock_release(&gate->lock);
    for (uint32_t i = 0; i < stats.lanes; i++)
        port_stats_lane(port->lanes[i], &stats);
    stats.submits += stats.posts;
    iocp__lock_acquire(&port->timers.lock);
    stats.submits += port->timers.added;
    stats.cancels += port->timers.removed;
    iocp__lock_release(&port->timers.lock);
    /* Relaxed: counters. */
    stats.resubmits = iocp__load_relaxed(&port->resubmits);
    stats.starved = iocp__load_relaxed(&port->starved);
    *out_stats = stats;
}
