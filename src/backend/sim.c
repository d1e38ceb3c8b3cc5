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
 * entry: due → attempted → held → gone, or → due again [iocp__sim_attempt, sim_flush]
 *        due, attempted → held [iocp__sim_finish: canceled, refused]
 *
 * What an attempt of each kind of op does is in sim_op.c. */
#include "backend/sim.h"

#include "backend/buffer.h"

#include "base/assert.h"
#include "base/atomic.h"

#define SIM_LANES_MAX IOCP__SIM_LANES_MAX

struct sim_waiter {
    struct sim_waiter *below;
    struct iocp__sim_source *source;
};

/* What lanes of a port share; the first of them owns it. */
struct iocp__sim_source {
    struct iocp__sim_lane *lanes[SIM_LANES_MAX];
    struct iocp__sim_gate gate;
    uint32_t concurrency;
    struct sim_waiter *top; /* began to wait last: goes on first */
};

static struct iocp__sim_lane *sim_lane(struct iocp__kernel *kernel)
{
    return (struct iocp__sim_lane *)kernel;
}

static void sim_enter(struct iocp__sim_lane *lane, const char *what)
{
    if (lane->inside)
        iocp__sim_fail("lane %u has two holders: %s", lane->index, what);
    lane->inside = 1;
}

static void sim_leave(struct iocp__sim_lane *lane)
{
    lane->inside = 0;
}

/* ---- Entries. */

static struct iocp__sim_entry *sim_entry_new(struct iocp__sim_lane *lane, struct iocp_op *op)
{
    struct iocp__sim_entry *entry = iocp__sim_allocate(sizeof(*entry));
    entry->op = op;
    entry->handle = op->owner->handle;
    entry->cancel_ns = UINT64_MAX;
    entry->due_ns = iocp__sim_soon_ns();
    iocp__queue_init(&entry->held);
    entry->next = lane->entries;
    if (lane->entries)
        lane->entries->back = entry;
    lane->entries = entry;
    return entry;
}

static void sim_entry_free(struct iocp__sim_lane *lane, struct iocp__sim_entry *entry)
{
    if (entry->back)
        entry->back->next = entry->next;
    else
        lane->entries = entry->next;
    if (entry->next)
        entry->next->back = entry->back;
    iocp__sim_release(entry);
}

static struct iocp__sim_entry *sim_entry_of(struct iocp__sim_lane *lane, const struct iocp_op *op)
{
    struct iocp__sim_entry *entry = lane->entries;
    while (entry && entry->op != op)
        entry = entry->next;
    return entry;
}

static uint64_t sim_entry_due(const struct iocp__sim_entry *entry)
{
    if (entry->held.first)
        return entry->held_ns;
    return entry->due_ns < entry->cancel_ns ? entry->due_ns : entry->cancel_ns;
}

/* When the lane has something, without its bell. */
static uint64_t sim_lane_due(const struct iocp__sim_lane *lane, int fetched)
{
    uint64_t due = UINT64_MAX;
    for (const struct iocp__sim_entry *entry = lane->entries; entry; entry = entry->next) {
        uint64_t at = entry->fetched && !fetched ? UINT64_MAX : sim_entry_due(entry);
        if (at < due)
            due = at;
    }
    return due;
}

static void sim_changed(void *watcher, iocp_handle handle)
{
    struct iocp__sim_lane *lane = watcher;
    for (struct iocp__sim_entry *entry = lane->entries; entry; entry = entry->next) {
        if (entry->handle == handle && !entry->starved && entry->due_ns == UINT64_MAX)
            entry->due_ns = iocp__sim_soon_ns();
    }
}

/* ---- Cancels. */

static void sim_cancel_now(struct iocp__sim_entry *entry)
{
    entry->starved = 0;
    /* A send that is on its way as a whole has had its end. */
    if (entry->op->progress && entry->op->progress == iocp__sim_size(entry->op))
        iocp__sim_finish(entry, (int64_t)entry->op->progress);
    else
        iocp__sim_finish(entry, IOCP_ECANCELED);
    entry->held_ns = iocp__sim_soon_ns();
}

static void sim_cancel(struct iocp__kernel *kernel, struct iocp_op *op)
{
    struct iocp__sim_lane *lane = sim_lane(kernel);
    sim_enter(lane, "cancel");
    struct iocp__sim_entry *entry = sim_entry_of(lane, op);
    if (!entry)
        iocp__sim_fail("a cancel of an op that the lane does not have");
    if (entry->finished) {
        iocp__sim_trace("cancel of op %u of handle %d comes after", op->kind, (int)entry->handle);
    } else if (iocp__sim_chance(IOCP__SIM_CANCEL)) {
        /* Loses when the op gets its answer before. */
        iocp__sim_trace("cancel of op %u of handle %d is on its way", op->kind, (int)entry->handle);
        entry->cancel_ns = iocp__sim_now_ns() + iocp__sim_backend_below(IOCP__SIM_LATE_NS);
        if (iocp__sim_backend_below(2) && !entry->starved)
            entry->due_ns = 0;
    } else {
        sim_cancel_now(entry);
    }
    sim_leave(lane);
}

/* ---- Waiting. */

/* Hands held answers out that have arrived. */
static void sim_flush(struct iocp__sim_lane *lane, struct iocp__sim_entry *entry,
                      struct iocp__queue *done)
{
    if (entry->held.first && entry->held_ns <= iocp__sim_now_ns())
        iocp__queue_join(done, &entry->held);
    if (entry->finished && !entry->held.first)
        sim_entry_free(lane, entry);
}

static void sim_serve(struct iocp__sim_lane *lane, struct iocp__sim_entry *entry,
                      struct iocp__queue *done)
{
    if (!entry->held.first && !entry->finished) {
        uint64_t now = iocp__sim_now_ns();
        if (entry->cancel_ns <= now && entry->cancel_ns <= entry->due_ns)
            sim_cancel_now(entry);
        else if (entry->due_ns <= now)
            iocp__sim_attempt(lane, entry);
    }
    sim_flush(lane, entry, done);
}

/* All that is due, in an order of chance. */
static void sim_collect(struct iocp__sim_lane *lane, struct iocp__queue *done)
{
    struct iocp__sim_entry *due[1024];
    uint32_t count = 0;
    uint64_t now = iocp__sim_now_ns();
    for (struct iocp__sim_entry *entry = lane->entries; entry && count < 1024;
         entry = entry->next) {
        if (sim_entry_due(entry) <= now && (!lane->source || entry->fetched))
            due[count++] = entry;
        entry->fetched = 0;
    }
    while (count) {
        uint32_t i = iocp__sim_backend_below(count);
        sim_serve(lane, due[i], done);
        due[i] = due[--count];
    }
}

static void sim_fetch_entries(struct iocp__sim_lane *lane)
{
    for (struct iocp__sim_entry *entry = lane->entries; entry; entry = entry->next)
        entry->fetched |= sim_entry_due(entry) <= iocp__sim_now_ns();
}

static uint64_t sim_wait_wake_ns(void *context)
{
    struct iocp__sim_lane *lane = context;
    uint64_t due = lane->rung ? 0 : sim_lane_due(lane, 1);
    for (uint32_t i = 0; i < lane->watch_count; i++) {
        uint64_t other = lane->watched[i]->rung ? 0 : sim_lane_due(lane->watched[i], 1);
        if (other < due)
            due = other;
    }
    return due;
}

/* A watch that fired is over. */
static int sim_watch_fired(struct iocp__sim_lane *lane)
{
    uint32_t kept = 0;
    uint32_t before = lane->watch_count;
    for (uint32_t i = 0; i < before; i++) {
        struct iocp__sim_lane *other = lane->watched[i];
        if (!other->rung && sim_lane_due(other, 1) > iocp__sim_now_ns())
            lane->watched[kept++] = other;
    }
    lane->watch_count = kept;
    return kept < before;
}

static void sim_wait(struct iocp__kernel *kernel, uint64_t deadline_ns, struct iocp__queue *done)
{
    struct iocp__sim_lane *lane = sim_lane(kernel);
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
    iocp__sim_looked(!slept && !done->first && !lane->rung);
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
    struct iocp__sim_lane *lane = sim_lane(kernel);
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

static uint64_t sim_source_due(const struct iocp__sim_source *source)
{
    uint64_t due = UINT64_MAX;
    for (uint32_t i = 0; i < SIM_LANES_MAX; i++) {
        const struct iocp__sim_lane *lane = source->lanes[i];
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
    struct iocp__sim_source *source = waiter->source;
    if (source->gate.running >= source->concurrency || source->top != waiter)
        return UINT64_MAX;
    return sim_source_due(source);
}

/* Takes what is there, or some of it. */
static uint64_t sim_source_take(struct iocp__sim_source *source)
{
    uint64_t bits = 0;
    uint64_t now = iocp__sim_now_ns();
    for (uint32_t i = 0; i < SIM_LANES_MAX; i++) {
        struct iocp__sim_lane *lane = source->lanes[i];
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
    struct iocp__sim_source *source = sim_lane(kernel)->source;
    struct sim_waiter self = {NULL, source};
    uint64_t bits = 0;
    iocp__sim_gate_leave();
    iocp__sim_yield();
    self.below = source->top;
    source->top = &self;
    int sleep = deadline_ns > iocp__sim_now_ns() && sim_fetch_wake_ns(&self) > iocp__sim_now_ns();
    if (sleep)
        iocp__sim_block(sim_fetch_wake_ns, &self, deadline_ns);
    iocp__sim_looked(!sleep);
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
    struct iocp__sim_lane *lane = sim_lane(kernel);
    sim_enter(lane, "submit");
    if (!op->owner->attached || op->progress)
        iocp__sim_fail("op %u is submitted %s", op->kind,
                       op->progress ? "with progress" : "for an object that is not attached");
    /* Files have none, and may have thousands at a time. */
    enum iocp__direction direction = iocp__op_direction(op);
    for (const struct iocp__sim_entry *entry = direction == IOCP__UNDIRECTED ? NULL : lane->entries;
         entry; entry = entry->next) {
        if (entry->op == op ||
            (entry->op->owner == op->owner && iocp__op_direction(entry->op) == direction))
            iocp__sim_fail("op %u of handle %d: its direction is taken", op->kind,
                           (int)entry->handle);
    }
    (void)sim_entry_new(lane, op);
    sim_leave(lane);
}

static void sim_attach(struct iocp__kernel *kernel, struct iocp_object *object)
{
    struct iocp__sim_lane *lane = sim_lane(kernel);
    sim_enter(lane, "attach");
    iocp__sim_watch(object->handle, sim_changed, lane);
    lane->attached++;
    sim_leave(lane);
}

static void sim_detach(struct iocp__kernel *kernel, struct iocp_object *object)
{
    struct iocp__sim_lane *lane = sim_lane(kernel);
    sim_enter(lane, "detach");
    for (const struct iocp__sim_entry *entry = lane->entries; entry; entry = entry->next) {
        if (entry->handle == object->handle)
            iocp__sim_fail("handle %d is detached with op %u pending", (int)object->handle,
                           entry->op->kind);
    }
    iocp__sim_watch(object->handle, NULL, NULL);
    lane->attached--;
    sim_leave(lane);
}

/* ---- Lanes. */

static int sim_probe(char *text, size_t size)
{
    (void)text;
    (void)size;
    return 0;
}

static struct iocp__sim_lane *sim_create_lane(const struct iocp__kernel_config *config,
                                              const struct iocp__backend *backend)
{
    if (iocp__sim_handles_are_out() || iocp__sim_chance(IOCP__SIM_HANDLES))
        return NULL;
    struct iocp__sim_lane *lane = iocp__sim_allocate(sizeof(*lane));
    iocp__sim_hold(1);
    lane->base.backend = backend;
    lane->base.pool = config->pool;
    lane->index = config->index;
    return lane;
}

static int sim_create(const struct iocp__kernel_config *config, struct iocp__kernel **out_kernel)
{
    struct iocp__sim_lane *lane = sim_create_lane(config, iocp__backends[0]);
    if (!lane)
        return IOCP_EMFILE;
    *out_kernel = &lane->base;
    return 0;
}

static int sim_create_shared(const struct iocp__kernel_config *config,
                             struct iocp__kernel **out_kernel)
{
    struct iocp__sim_lane *lane = sim_create_lane(config, iocp__backends[1]);
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
    struct iocp__sim_lane *lane = sim_lane(kernel);
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
    iocp__sim_hold(-1);
}

/* Names and kinds are those of a real backend of the same shape. */
static const struct iocp__backend sim_backend = {
    .name = "uring",
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
    .name = "windows",
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
