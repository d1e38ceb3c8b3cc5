/* The simulated backend: the contract of backend.h on the network of os/sim.h, in two shapes.
 * `sim` has lanes of their own, as io_uring and epoll; with `sim-shared` (IOCP__CAP_SHARED) they
 * share one source, and the simulated kernel decides who goes on, as Windows does. Tests only.
 *
 * It promises what the contract says and no more, and asserts what the contract asks of the port.
 *
 * Invariants
 * 1. An op has one entry from `submit` until its answer left through `wait`.
 * 2. Answers of an entry leave in their order; while some are held back nothing is attempted.
 * 3. due_ns is UINT64_MAX while the entry waits for the network: a change sets it.
 *
 * entry: due → attempted → held → gone, or → due again [sim_attempt, sim_flush]
 *        due, attempted → held [sim_finish: canceled, refused] */
#include "os/sim.h"
#include "backend/backend.h"
#include "backend/buffer.h"

#include "base/assert.h"
#include "base/atomic.h"

#define SIM_LANES_MAX 64
#define SIM_ROUNDS 3 /* answers of a stream in one attempt, at most */
#define SIM_LATE_NS 3000000
#define SIM_IDLE_LOOKS_MAX 1000

struct sim_entry {
    struct sim_entry *next;
    struct sim_entry *back;
    struct iocp_op *op;
    iocp_handle handle;
    uint64_t due_ns;         /* of the next attempt */
    uint64_t cancel_ns;      /* when a cancel arrives */
    struct iocp__queue held; /* answers on their way */
    uint64_t held_ns;        /* when they are there */
    int finished;            /* the last answer is held */
    int starved;             /* no buffer: goes on when one comes back */
    int connecting;
    int fetched; /* shared: a fetch has told of it */
};

struct sim_waiter {
    struct sim_waiter *below;
    struct sim_source *source;
};

/* What lanes of a port share; the first of them owns it. */
struct sim_source {
    struct sim_lane *lanes[SIM_LANES_MAX];
    struct iocp__sim_gate gate;
    uint32_t concurrency;
    struct sim_waiter *top; /* began to wait last: goes on first */
};

struct sim_lane {
    struct iocp__kernel base;
    struct sim_source *source; /* NULL: a lane of its own */
    struct sim_entry *entries;
    struct sim_lane *watched[SIM_LANES_MAX];
    uint32_t watch_count;
    uint32_t index;
    uint32_t attached;
    int rung;
    int inside; /* a holder is in here */
};

/* By thread: waits in a row that neither slept nor had anything to do. */
static uint32_t sim_idle_looks[IOCP__SIM_THREADS_MAX];

static struct sim_lane *sim_lane(struct iocp__kernel *kernel)
{
    return (struct sim_lane *)kernel;
}

static uint32_t sim_below(uint32_t count)
{
    return iocp__sim_below(IOCP__SIM_BACKEND, count);
}

static uint64_t sim_soon_ns(void)
{
    if (!iocp__sim_chance(IOCP__SIM_LATE))
        return 0;
    return iocp__sim_now_ns() + sim_below(sim_below(4) ? SIM_LATE_NS / 50 : SIM_LATE_NS);
}

static void sim_enter(struct sim_lane *lane, const char *what)
{
    if (lane->inside)
        iocp__sim_fail("lane %u has two holders: %s", lane->index, what);
    lane->inside = 1;
}

static void sim_leave(struct sim_lane *lane)
{
    lane->inside = 0;
}

/* ---- Entries. */

static struct sim_entry *sim_entry_new(struct sim_lane *lane, struct iocp_op *op)
{
    struct sim_entry *entry = iocp__sim_allocate(sizeof(*entry));
    entry->op = op;
    entry->handle = op->owner->handle;
    entry->cancel_ns = UINT64_MAX;
    entry->due_ns = sim_soon_ns();
    iocp__queue_init(&entry->held);
    entry->next = lane->entries;
    if (lane->entries)
        lane->entries->back = entry;
    lane->entries = entry;
    return entry;
}

static void sim_entry_free(struct sim_lane *lane, struct sim_entry *entry)
{
    if (entry->back)
        entry->back->next = entry->next;
    else
        lane->entries = entry->next;
    if (entry->next)
        entry->next->back = entry->back;
    iocp__sim_release(entry);
}

static struct sim_entry *sim_entry_of(struct sim_lane *lane, const struct iocp_op *op)
{
    struct sim_entry *entry = lane->entries;
    while (entry && entry->op != op)
        entry = entry->next;
    return entry;
}

static uint64_t sim_entry_due(const struct sim_entry *entry)
{
    if (entry->held.first)
        return entry->held_ns;
    return entry->due_ns < entry->cancel_ns ? entry->due_ns : entry->cancel_ns;
}

/* When the lane has something, without its bell. */
static uint64_t sim_lane_due(const struct sim_lane *lane, int fetched)
{
    uint64_t due = UINT64_MAX;
    for (const struct sim_entry *entry = lane->entries; entry; entry = entry->next) {
        uint64_t at = entry->fetched && !fetched ? UINT64_MAX : sim_entry_due(entry);
        if (at < due)
            due = at;
    }
    return due;
}

static void sim_changed(void *watcher, iocp_handle handle)
{
    struct sim_lane *lane = watcher;
    for (struct sim_entry *entry = lane->entries; entry; entry = entry->next) {
        if (entry->handle == handle && !entry->starved && entry->due_ns == UINT64_MAX)
            entry->due_ns = sim_soon_ns();
    }
}

/* ---- Answers. */

/* The last one. */
static void sim_finish(struct sim_entry *entry, int64_t result)
{
    int system = result < 0 && result != IOCP_ECANCELED && result != IOCP_EEOF;
    iocp__sim_trace("op %u of handle %d: %lld", entry->op->kind, (int)entry->handle,
                    (long long)result);
    iocp__op_done(&entry->held, entry->op, result, system ? iocp__sim_os_error(result) : 0);
    entry->finished = 1;
    entry->due_ns = UINT64_MAX;
    entry->cancel_ns = UINT64_MAX;
}

/* Decides about an outcome: IOCP_EAGAIN waits for the network. Not 0 when the op is finished. */
static int sim_settle(struct sim_entry *entry, int64_t result)
{
    if (result != IOCP_EAGAIN)
        sim_finish(entry, result);
    return result != IOCP_EAGAIN;
}

/* ---- Attempts: one for each kind. */

static void sim_attempt_recv(struct sim_entry *entry)
{
    const struct iocp_op *op = entry->op;
    struct iocp_slice slice = {.data = NULL, .size = 0};
    int64_t result;
    for (uint32_t i = 0; i < op->u.io.count && !slice.size; i++)
        slice = op->u.io.slices[i];
    if (!slice.size)
        result = iocp__sim_readable(entry->handle) ? 0 : IOCP_EAGAIN;
    else
        result = iocp__sim_recv(entry->handle, slice.data, slice.size);
    (void)sim_settle(entry, result);
}

/* A buffer came back, on whatever thread. */
static void sim_refill(void *context)
{
    struct sim_lane *lane = context;
    for (struct sim_entry *entry = lane->entries; entry; entry = entry->next) {
        if (!entry->starved)
            continue;
        entry->starved = 0;
        entry->due_ns = 0;
    }
}

static void sim_starve(struct sim_lane *lane, struct sim_entry *entry)
{
    iocp__sim_trace("handle %d finds no buffer", (int)entry->handle);
    entry->starved = 1;
    /* Relaxed: a counter. */
    iocp__add_relaxed(lane->base.starved, 1);
    if (!iocp__pool_arm(lane->base.pool, sim_refill, lane))
        sim_refill(lane);
}

static void sim_attempt_recv_stream(struct sim_lane *lane, struct sim_entry *entry)
{
    for (int i = 0; i < SIM_ROUNDS && iocp__sim_readable(entry->handle); i++) {
        struct iocp_buffer *buffer;
        if (iocp_buffer_take(lane->base.pool, &buffer) < 0) {
            sim_starve(lane, entry);
            return;
        }
        int64_t result =
            iocp__sim_recv(entry->handle, iocp_buffer_data(buffer), iocp_buffer_capacity(buffer));
        if (result > 0) {
            iocp__sim_trace("handle %d receives %lld", (int)entry->handle, (long long)result);
            iocp__stream_received(&entry->held, entry->op, buffer, (uint32_t)result);
            continue;
        }
        iocp_buffer_unref(buffer);
        if (sim_settle(entry, result))
            return;
    }
    if (iocp__sim_readable(entry->handle))
        entry->due_ns = sim_soon_ns();
}

static void sim_attempt_accept(struct sim_entry *entry)
{
    for (int i = 0; i < SIM_ROUNDS; i++) {
        iocp_handle handle = IOCP_HANDLE_INVALID;
        int error = iocp__sim_accept(entry->handle, &handle);
        if (error < 0) {
            (void)sim_settle(entry, error);
            return;
        }
        iocp__sim_trace("handle %d accepts %d", (int)entry->handle, (int)handle);
        if (entry->op->kind == IOCP_OP_ACCEPT) {
            sim_finish(entry, handle);
            return;
        }
        iocp__stream_accepted(&entry->held, entry->op, handle);
    }
    entry->due_ns = sim_soon_ns();
}

static void sim_attempt_send(struct sim_entry *entry)
{
    struct iocp_op *op = entry->op;
    uint64_t skip = op->progress;
    uint32_t i = 0;
    while (i < op->u.io.count && skip >= op->u.io.slices[i].size)
        skip -= op->u.io.slices[i++].size;
    if (i == op->u.io.count) {
        sim_finish(entry, (int64_t)op->progress);
        return;
    }
    const struct iocp_slice *slice = &op->u.io.slices[i];
    int64_t result =
        iocp__sim_send(entry->handle, (const char *)slice->data + skip, slice->size - (size_t)skip);
    if (result >= 0) {
        op->progress += (uint64_t)result;
        entry->due_ns = sim_soon_ns();
    } else {
        (void)sim_settle(entry, result);
    }
}

static void sim_attempt_connect(struct sim_entry *entry)
{
    int result = IOCP_EAGAIN;
    if (entry->connecting)
        result = iocp__sim_connected(entry->handle);
    else
        result = iocp__sim_connect(entry->handle, iocp_address_port(entry->op->u.io.address));
    if (!entry->connecting && result == 0)
        result = IOCP_EAGAIN;
    entry->connecting = 1;
    (void)sim_settle(entry, result);
}

static void sim_attempt_kind(struct sim_lane *lane, struct sim_entry *entry)
{
    switch (entry->op->kind) {
    case IOCP_OP_RECV:
        sim_attempt_recv(entry);
        return;
    case IOCP_OP_RECV_STREAM:
        sim_attempt_recv_stream(lane, entry);
        return;
    case IOCP_OP_SEND:
        sim_attempt_send(entry);
        return;
    case IOCP_OP_ACCEPT:
    case IOCP_OP_ACCEPT_STREAM:
        sim_attempt_accept(entry);
        return;
    case IOCP_OP_CONNECT:
        sim_attempt_connect(entry);
        return;
    default:
        sim_finish(entry, IOCP_ENOTSUP);
    }
}

static int sim_moves_bytes(const struct iocp_op *op)
{
    return op->kind == IOCP_OP_RECV || op->kind == IOCP_OP_RECV_STREAM || op->kind == IOCP_OP_SEND;
}

static void sim_attempt(struct sim_lane *lane, struct sim_entry *entry)
{
    entry->due_ns = UINT64_MAX;
    sim_idle_looks[iocp__sim_thread_index()] = 0;
    if (sim_moves_bytes(entry->op) && iocp__sim_chance(IOCP__SIM_RESET))
        iocp__sim_reset(entry->handle);
    if (!entry->op->progress && !entry->connecting && iocp__sim_chance(IOCP__SIM_REFUSE))
        sim_finish(entry, sim_below(2) ? IOCP_ENOMEM : IOCP_ENOBUFS);
    else
        sim_attempt_kind(lane, entry);
    if (entry->held.first)
        entry->held_ns = sim_soon_ns();
}

/* ---- Cancels. */

static void sim_cancel_now(struct sim_entry *entry)
{
    entry->starved = 0;
    sim_finish(entry, IOCP_ECANCELED);
    entry->held_ns = sim_soon_ns();
}

static void sim_cancel(struct iocp__kernel *kernel, struct iocp_op *op)
{
    struct sim_lane *lane = sim_lane(kernel);
    sim_enter(lane, "cancel");
    struct sim_entry *entry = sim_entry_of(lane, op);
    if (!entry)
        iocp__sim_fail("a cancel of an op that the lane does not have");
    if (entry->finished) {
        iocp__sim_trace("cancel of op %u of handle %d comes after", op->kind, (int)entry->handle);
    } else if (iocp__sim_chance(IOCP__SIM_CANCEL)) {
        /* Loses when the op gets its answer before. */
        iocp__sim_trace("cancel of op %u of handle %d is on its way", op->kind, (int)entry->handle);
        entry->cancel_ns = iocp__sim_now_ns() + sim_below(SIM_LATE_NS);
        if (sim_below(2) && !entry->starved)
            entry->due_ns = 0;
    } else {
        sim_cancel_now(entry);
    }
    sim_leave(lane);
}

/* ---- Waiting. */

/* Hands held answers out that have arrived. */
static void sim_flush(struct sim_lane *lane, struct sim_entry *entry, struct iocp__queue *done)
{
    if (entry->held.first && entry->held_ns <= iocp__sim_now_ns())
        iocp__queue_join(done, &entry->held);
    if (entry->finished && !entry->held.first)
        sim_entry_free(lane, entry);
}

static void sim_serve(struct sim_lane *lane, struct sim_entry *entry, struct iocp__queue *done)
{
    if (!entry->held.first && !entry->finished) {
        uint64_t now = iocp__sim_now_ns();
        if (entry->cancel_ns <= now && entry->cancel_ns <= entry->due_ns)
            sim_cancel_now(entry);
        else if (entry->due_ns <= now)
            sim_attempt(lane, entry);
    }
    sim_flush(lane, entry, done);
}

/* All that is due, in an order of chance. */
static void sim_collect(struct sim_lane *lane, struct iocp__queue *done)
{
    struct sim_entry *due[1024];
    uint32_t count = 0;
    uint64_t now = iocp__sim_now_ns();
    for (struct sim_entry *entry = lane->entries; entry && count < 1024; entry = entry->next) {
        if (sim_entry_due(entry) <= now && (!lane->source || entry->fetched))
            due[count++] = entry;
        entry->fetched = 0;
    }
    while (count) {
        uint32_t i = sim_below(count);
        sim_serve(lane, due[i], done);
        due[i] = due[--count];
    }
}

static void sim_fetch_entries(struct sim_lane *lane)
{
    for (struct sim_entry *entry = lane->entries; entry; entry = entry->next)
        entry->fetched |= sim_entry_due(entry) <= iocp__sim_now_ns();
}

static uint64_t sim_wait_wake_ns(void *context)
{
    struct sim_lane *lane = context;
    uint64_t due = lane->rung ? 0 : sim_lane_due(lane, 1);
    for (uint32_t i = 0; i < lane->watch_count; i++) {
        uint64_t other = lane->watched[i]->rung ? 0 : sim_lane_due(lane->watched[i], 1);
        if (other < due)
            due = other;
    }
    return due;
}

/* A watch that fired is over. */
static int sim_watch_fired(struct sim_lane *lane)
{
    uint32_t kept = 0;
    uint32_t before = lane->watch_count;
    for (uint32_t i = 0; i < before; i++) {
        struct sim_lane *other = lane->watched[i];
        if (!other->rung && sim_lane_due(other, 1) > iocp__sim_now_ns())
            lane->watched[kept++] = other;
    }
    lane->watch_count = kept;
    return kept < before;
}

static void sim_count_look(int idle)
{
    uint32_t *looks = &sim_idle_looks[iocp__sim_thread_index()];
    *looks = idle ? *looks + 1 : 0;
    if (*looks > SIM_IDLE_LOOKS_MAX)
        iocp__sim_fail("a thread looks again and again, finds nothing and does not sleep");
}

static void sim_wait(struct iocp__kernel *kernel, uint64_t deadline_ns, struct iocp__queue *done)
{
    struct sim_lane *lane = sim_lane(kernel);
    int over = deadline_ns == 0;
    int slept = 0;
    sim_enter(lane, "wait");
    iocp__sim_yield();
    for (;;) {
        if (lane->source && !over)
            sim_fetch_entries(lane);
        sim_collect(lane, done);
        over |= sim_watch_fired(lane);
        if (over || done->first || lane->rung || deadline_ns <= iocp__sim_now_ns() ||
            iocp__sim_chance(IOCP__SIM_SPURIOUS))
            break;
        iocp__sim_block(sim_wait_wake_ns, lane, deadline_ns);
        slept = 1;
    }
    sim_count_look(!slept && !done->first && !lane->rung);
    if (!lane->source)
        lane->rung = 0;
    sim_leave(lane);
}

static void sim_bell(struct iocp__kernel *kernel)
{
    sim_lane(kernel)->rung = 1;
}

static void sim_watch(struct iocp__kernel *kernel, struct iocp__kernel *other)
{
    struct sim_lane *lane = sim_lane(kernel);
    uint32_t i = 0;
    sim_enter(lane, "watch");
    while (i < lane->watch_count && lane->watched[i] != sim_lane(other))
        i++;
    iocp__assert(i < SIM_LANES_MAX);
    lane->watched[i] = sim_lane(other);
    lane->watch_count += i == lane->watch_count;
    sim_leave(lane);
}

/* ---- The shared source. */

static uint64_t sim_source_due(const struct sim_source *source)
{
    uint64_t due = UINT64_MAX;
    for (uint32_t i = 0; i < SIM_LANES_MAX; i++) {
        const struct sim_lane *lane = source->lanes[i];
        if (!lane)
            continue;
        uint64_t at = lane->rung ? 0 : sim_lane_due(lane, 0);
        if (at < due)
            due = at;
    }
    return due;
}

static uint64_t sim_fetch_wake_ns(void *context)
{
    struct sim_waiter *waiter = context;
    struct sim_source *source = waiter->source;
    if (source->gate.running >= source->concurrency || source->top != waiter)
        return UINT64_MAX;
    return sim_source_due(source);
}

/* Takes what is there, or some of it. */
static uint64_t sim_source_take(struct sim_source *source)
{
    uint64_t bits = 0;
    uint64_t now = iocp__sim_now_ns();
    for (uint32_t i = 0; i < SIM_LANES_MAX; i++) {
        struct sim_lane *lane = source->lanes[i];
        if (!lane || (!lane->rung && sim_lane_due(lane, 0) > now))
            continue;
        if (bits && iocp__sim_chance(IOCP__SIM_SPURIOUS))
            break;
        lane->rung = 0;
        sim_fetch_entries(lane);
        bits |= UINT64_C(1) << i;
    }
    return bits;
}

static uint64_t sim_fetch(struct iocp__kernel *kernel, uint64_t deadline_ns)
{
    struct sim_source *source = sim_lane(kernel)->source;
    struct sim_waiter self = {NULL, source};
    uint64_t bits = 0;
    iocp__sim_gate_leave();
    iocp__sim_yield();
    self.below = source->top;
    source->top = &self;
    int sleep = deadline_ns > iocp__sim_now_ns() && sim_fetch_wake_ns(&self) > iocp__sim_now_ns();
    if (sleep)
        iocp__sim_block(sim_fetch_wake_ns, &self, deadline_ns);
    sim_count_look(!sleep);
    if (sim_fetch_wake_ns(&self) <= iocp__sim_now_ns())
        bits = sim_source_take(source);
    struct sim_waiter **at = &source->top;
    while (*at != &self)
        at = &(*at)->below;
    *at = self.below;
    iocp__sim_gate_enter(&source->gate);
    return bits;
}

static int sim_associate(struct iocp__kernel *kernel, iocp_handle handle)
{
    (void)kernel;
    return iocp__sim_bind(handle);
}

/* ---- Ops and objects. */

static void sim_submit(struct iocp__kernel *kernel, struct iocp_op *op)
{
    struct sim_lane *lane = sim_lane(kernel);
    sim_enter(lane, "submit");
    if (!op->owner->attached || op->progress)
        iocp__sim_fail("op %u is submitted %s", op->kind,
                       op->progress ? "with progress" : "for an object that is not attached");
    for (const struct sim_entry *entry = lane->entries; entry; entry = entry->next) {
        if (entry->op == op || (entry->op->owner == op->owner &&
                                iocp__op_direction(entry->op) == iocp__op_direction(op)))
            iocp__sim_fail("op %u of handle %d: its direction is taken", op->kind,
                           (int)entry->handle);
    }
    (void)sim_entry_new(lane, op);
    sim_leave(lane);
}

static void sim_attach(struct iocp__kernel *kernel, struct iocp_object *object)
{
    struct sim_lane *lane = sim_lane(kernel);
    sim_enter(lane, "attach");
    iocp__sim_watch(object->handle, sim_changed, lane);
    lane->attached++;
    sim_leave(lane);
}

static void sim_detach(struct iocp__kernel *kernel, struct iocp_object *object)
{
    struct sim_lane *lane = sim_lane(kernel);
    sim_enter(lane, "detach");
    for (const struct sim_entry *entry = lane->entries; entry; entry = entry->next) {
        if (entry->handle == object->handle)
            iocp__sim_fail("handle %d is detached with op %u pending", (int)object->handle,
                           entry->op->kind);
    }
    iocp__sim_watch(object->handle, NULL, NULL);
    lane->attached--;
    sim_leave(lane);
}

/* ---- Lanes. */

/* The choice of a backend for a port: the beginning of all. */
static int sim_probe(char *text, size_t size)
{
    (void)text;
    (void)size;
    for (uint32_t i = 0; i < IOCP__SIM_THREADS_MAX; i++)
        sim_idle_looks[i] = 0;
    return 0;
}

static struct sim_lane *sim_create_lane(const struct iocp__kernel_config *config,
                                        const struct iocp__backend *backend)
{
    if (iocp__sim_chance(IOCP__SIM_HANDLES))
        return NULL;
    struct sim_lane *lane = iocp__sim_allocate(sizeof(*lane));
    lane->base.backend = backend;
    lane->base.pool = config->pool;
    lane->index = config->index;
    return lane;
}

static int sim_create(const struct iocp__kernel_config *config, struct iocp__kernel **out_kernel)
{
    struct sim_lane *lane = sim_create_lane(config, iocp__backends[0]);
    if (!lane)
        return IOCP_EMFILE;
    *out_kernel = &lane->base;
    return 0;
}

static int sim_create_shared(const struct iocp__kernel_config *config,
                             struct iocp__kernel **out_kernel)
{
    struct sim_lane *lane = sim_create_lane(config, iocp__backends[1]);
    if (!lane)
        return IOCP_EMFILE;
    lane->source =
        config->first ? sim_lane(config->first)->source : iocp__sim_allocate(sizeof(*lane->source));
    lane->source->concurrency = config->concurrency;
    lane->source->lanes[lane->index] = lane;
    *out_kernel = &lane->base;
    return 0;
}

static void sim_destroy(struct iocp__kernel *kernel)
{
    struct sim_lane *lane = sim_lane(kernel);
    sim_enter(lane, "destroy");
    if (lane->entries || lane->attached)
        iocp__sim_fail("lane %u ends with ops or objects", lane->index);
    (void)iocp__pool_arm(lane->base.pool, NULL, NULL);
    if (lane->source)
        lane->source->lanes[lane->index] = NULL;
    if (lane->source && lane->index == 0) {
        iocp__sim_gate_forget(&lane->source->gate);
        iocp__sim_release(lane->source);
    }
    iocp__sim_release(lane);
}

/* The kinds are names only: those of a real backend of the same shape. */
static const struct iocp__backend sim_backend = {
    .name = "sim",
    .kind = IOCP_BACKEND_URING,
    .probe = sim_probe,
    .create = sim_create,
    .destroy = sim_destroy,
    .attach = sim_attach,
    .detach = sim_detach,
    .submit = sim_submit,
    .cancel = sim_cancel,
    .wait = sim_wait,
    .bell = sim_bell,
    .watch = sim_watch,
};

static const struct iocp__backend sim_backend_shared = {
    .name = "sim-shared",
    .kind = IOCP_BACKEND_WINDOWS,
    .caps = IOCP__CAP_SHARED,
    .probe = sim_probe,
    .create = sim_create_shared,
    .destroy = sim_destroy,
    .associate = sim_associate,
    .attach = sim_attach,
    .detach = sim_detach,
    .submit = sim_submit,
    .cancel = sim_cancel,
    .wait = sim_wait,
    .fetch = sim_fetch,
    .bell = sim_bell,
};

const struct iocp__backend *const iocp__backends[] = {
    &sim_backend,
    &sim_backend_shared,
    NULL,
};
