/* The port scenario: connected objects without sessions, on which several threads submit, cancel
 * and close what they like; timers and posts beside them. Each op is answered once, with something
 * that may happen; what was sent arrives in order; at the end nothing is left, whether the port
 * was at rest or was closed with all of it pending. */
#include "sim.h"

#include <string.h>

#define SENDS_MAX 4
#define SEND_SIZE_MAX 200
#define OPS_MAX 4096

/* An op and what is known of it. */
struct known {
    struct iocp_op op;
    /* An op is its user's to prepare, and who cancels has to know that it is not being prepared:
     * what a program does with a lock of its own. Not held in a submit. */
    struct iocp__lock lock;
    struct pair *pair;
    int pending;
    int canceled;
    uint64_t offset; /* of a send, in its stream */
    uint32_t size;
    unsigned char data[SEND_SIZE_MAX];
};

/* An object, half of a connection. */
struct pair {
    struct iocp_object object;
    struct stream *out;
    struct stream *in;
    struct known recv;
    struct known sends[SENDS_MAX];
    struct known timer;
    struct known post;
    struct known disconnect;
    int busy; /* in a handler; serial ones */
    int serial;
    int closing;
    int ended;
    int refs;
};

static struct {
    struct iocp_port *port;
    struct pair *pairs[16];
    uint32_t pair_count;
    uint32_t pending;
    uint32_t alive; /* objects not destroyed */
    int closed;     /* the port */
    int over;
    int threads;
} world;

static struct known *known_of(const struct iocp_packet *packet)
{
    return (struct known *)packet->op->context;
}

/* ---- Submitting. */

static int known_begin(struct known *known)
{
    iocp__lock_acquire(&known->lock);
    if (known->pending) {
        iocp__lock_release(&known->lock);
        return 0;
    }
    /* It is the library's word that orders what comes now behind what the last handler did. */
    SIM_CHECK(!iocp_op_pending(&known->op), "op %u was answered, and is still pending",
              known->op.kind);
    known->pending = 1;
    known->canceled = 0;
    world.pending++;
    tally.ops++;
    return 1;
}

/* Misuse is answered at once: nothing of it is to come. */
static void known_started(struct known *known, int result)
{
    if (result == 0)
        return;
    SIM_CHECK(result == IOCP_ECLOSED && world.closed, "a submit gives %d", result);
    known->pending = 0;
    world.pending--;
}

static void known_submit(struct known *known, struct pair *pair)
{
    iocp__lock_release(&known->lock);
    known_started(known, iocp_port_submit(world.port, &pair->object, &known->op));
}

static void pair_recv(struct pair *pair)
{
    struct known *known = &pair->recv;
    if (pair->ended || !known_begin(known))
        return;
    /* The last answer of a stream may overtake others where the object is not serial. */
    if (pair->serial && sim_once_in(2))
        iocp_op_recv_stream(&known->op);
    else
        iocp_op_recv(&known->op, known->data, sim_below(SEND_SIZE_MAX + 1));
    known_submit(known, pair);
}

/* The bytes of a stream are given out in the order of the submits: nobody may come in between. */
static void pair_send(struct pair *pair)
{
    struct known *known = &pair->sends[sim_below(SENDS_MAX)];
    if (pair->out->in_send || pair->disconnect.pending)
        return;
    pair->out->in_send = 1;
    if (!known_begin(known)) {
        pair->out->in_send = 0;
        return;
    }
    known->size = sim_below(SEND_SIZE_MAX + 1);
    known->offset = pair->out->accepted;
    stream_raw(pair->out, known->offset, known->size, known->data);
    pair->out->accepted += known->size;
    iocp_op_send(&known->op, known->data, known->size);
    known_submit(known, pair);
    pair->out->in_send = 0;
}

static void pair_disconnect(struct pair *pair)
{
    struct known *known = &pair->disconnect;
    if (pair->out->in_send || !sim_once_in(4) || !known_begin(known))
        return;
    iocp_op_disconnect(&known->op);
    known_submit(known, pair);
}

static void pair_timer(struct pair *pair)
{
    struct known *known = &pair->timer;
    if (!known_begin(known))
        return;
    iocp_op_timer(&known->op, sim_below(sim_once_in(2) ? 1000000 : 100000000), 7);
    known_submit(known, pair);
}

static void pair_post(struct pair *pair)
{
    struct known *known = &pair->post;
    if (!known_begin(known))
        return;
    iocp_op_post(&known->op, 9, 11);
    iocp__lock_release(&known->lock);
    known_started(known, iocp_port_post(world.port, &pair->object, &known->op));
}

static void known_cancel(struct known *known)
{
    int result = IOCP_ENOTFOUND;
    iocp__lock_acquire(&known->lock);
    if (known->pending) {
        known->canceled = 1;
        result = iocp_port_cancel(world.port, &known->op);
    }
    iocp__lock_release(&known->lock);
    SIM_CHECK(result == 0 || result == IOCP_ENOTFOUND, "a cancel gives %d", result);
}

static void pair_cancel(struct pair *pair)
{
    switch (sim_below(4)) {
    case 0:
        known_cancel(&pair->recv);
        break;
    case 1:
        known_cancel(&pair->timer);
        break;
    case 2:
        known_cancel(&pair->disconnect);
        break;
    default:
        /* What follows a send that was not whole cannot be told. */
        pair->out->broken = 1;
        known_cancel(&pair->sends[sim_below(SENDS_MAX)]);
    }
}

static void pair_close(struct pair *pair)
{
    if (!sim_once_in(8))
        return;
    pair->closing = 1;
    iocp_object_close(&pair->object);
}

static void pair_act(struct pair *pair)
{
    switch (sim_below(12)) {
    case 0:
    case 1:
    case 2:
        pair_recv(pair);
        break;
    case 3:
    case 4:
    case 5:
        pair_send(pair);
        break;
    case 6:
        pair_cancel(pair);
        break;
    case 7:
        pair_timer(pair);
        break;
    case 8:
        pair_post(pair);
        break;
    case 9:
        pair_disconnect(pair);
        break;
    case 10:
        pair_close(pair);
        break;
    default:
        iocp_port_wake(world.port);
    }
}

static void world_act(void)
{
    struct pair *pair = world.pairs[sim_below(world.pair_count)];
    iocp_object_ref(&pair->object);
    pair_act(pair);
    iocp_object_unref(&pair->object);
}

/* ---- Answers. */

static void check_error(const struct known *known, const struct iocp_packet *packet)
{
    int64_t error = packet->result;
    uint32_t kind = packet->op->kind;
    if (error == IOCP_ECANCELED)
        SIM_CHECK(known->canceled || known->pair->closing || world.closed,
                  "op %u is canceled, and nobody asked for it", kind);
    else if (error == IOCP_ECLOSED)
        SIM_CHECK(known->pair->closing || world.closed, "op %u finds its object closed", kind);
    else if (error == IOCP_EEOF)
        SIM_CHECK(known == &known->pair->recv, "op %u finds the end of a stream", kind);
    else
        SIM_CHECK(error == IOCP_ENOMEM || error == IOCP_ENOBUFS || error == IOCP_ECONNRESET ||
                      error == IOCP_EPIPE || error == IOCP_ENOTCONN,
                  "op %u ends with %lld", kind, (long long)error);
}

static void answer_recv(struct pair *pair, const struct iocp_packet *packet)
{
    const void *data = packet->buffer ? packet->data : pair->recv.data;
    if (packet->result == IOCP_EEOF)
        pair->ended = 1;
    if (packet->result <= 0 || !pair->serial || pair->in->broken)
        return;
    stream_check_raw(pair->in, data, (size_t)packet->result);
    pair->in->consumed += (uint64_t)packet->result;
}

static void answer(const struct iocp_packet *packet)
{
    struct known *known = known_of(packet);
    struct pair *pair = known->pair;
    SIM_CHECK(known->pending, "op %u is answered, and is not pending", packet->op->kind);
    SIM_CHECK(packet->object == &pair->object, "op %u comes with another object", packet->op->kind);
    if (packet->result < 0)
        check_error(known, packet);
    if (known == &pair->recv)
        answer_recv(pair, packet);
    if (known >= pair->sends && known < pair->sends + SENDS_MAX)
        SIM_CHECK(packet->result < 0 || packet->result == known->size,
                  "a send of %u bytes is answered with %lld", known->size,
                  (long long)packet->result);
    if (known == &pair->timer)
        SIM_CHECK(packet->key == 7 && packet->result <= 0, "a timer with %lld",
                  (long long)packet->result);
    if (known == &pair->post)
        SIM_CHECK(packet->key == 9 && packet->result == 11, "a post with %lld",
                  (long long)packet->result);
    if (packet->flags & IOCP_PACKET_MORE)
        return;
    known->pending = 0;
    world.pending--;
}

static void on_complete(struct iocp_object *object, const struct iocp_packet *packet)
{
    struct pair *pair = (struct pair *)object;
    SIM_CHECK(!pair->serial || !pair->busy, "two handlers of a serial object");
    pair->busy = 1;
    iocp__sim_yield();
    answer(packet);
    if (sim_once_in(2))
        pair_act(pair);
    if (sim_once_in(50))
        iocp__sim_compute(sim_below(4000000));
    if (sim_once_in(50))
        iocp__sim_sleep(sim_below(6000000));
    pair->busy = 0;
}

static void on_destroy(struct iocp_object *object)
{
    struct pair *pair = (struct pair *)object;
    SIM_CHECK(!pair->refs++, "an object is destroyed twice");
    SIM_CHECK(world.closed || !pair->recv.pending, "an object goes with an op pending");
    world.alive--;
}

static const struct iocp_object_class pair_class = {"pair", on_complete, on_destroy, 1};
static const struct iocp_object_class loose_class = {"loose", on_complete, on_destroy, 0};

/* ---- Workers. */

static int stops(int result)
{
    SIM_CHECK(result > 0 || result == IOCP_ETIMEDOUT || result == IOCP_EWOKEN ||
                  result == IOCP_ENOMEM || (result == IOCP_ECLOSED && world.closed),
              "a worker gets %d", result);
    if (result == IOCP_ENOMEM)
        iocp__sim_sleep(1000);
    return result == IOCP_ECLOSED;
}

static void dispatcher_run(void *context)
{
    (void)context;
    while (!world.over && !stops(iocp_port_dispatch(world.port, sim_below(50000000))))
        ;
}

/* Takes packets and handles them itself: only where no object is serial does that keep their
 * rules. */
static void waiter_run(void *context)
{
    struct iocp_packet packets[5];
    (void)context;
    while (!world.over) {
        int count = iocp_port_wait(world.port, packets, 1 + sim_below(5), sim_below(50000000));
        if (stops(count))
            return;
        for (int i = 0; i < count; i++) {
            answer(&packets[i]);
            iocp_packet_release(&packets[i]);
        }
    }
}

static void actor_run(void *context)
{
    (void)context;
    for (uint32_t i = 0; i < knobs.steps * 16; i++) {
        world_act();
        if (sim_once_in(2))
            iocp__sim_yield();
        else
            iocp__sim_sleep(sim_below(500000));
    }
}

/* ---- The run. */

static void known_init(struct known *known, struct pair *pair)
{
    iocp_op_init(&known->op, NULL);
    known->op.context = known;
    known->pair = pair;
}

static void pair_create(iocp_handle handle, int serial)
{
    struct pair *pair = iocp__sim_allocate(sizeof(*pair));
    int side = 0;
    struct iocp__sim_connection *connection = iocp__sim_connection(handle, &side);
    pair->serial = serial;
    pair->out = stream_new(connection, side);
    pair->out->broken = knobs.sometimes_refuse > 0;
    iocp_object_init(&pair->object, serial ? &pair_class : &loose_class);
    known_init(&pair->recv, pair);
    known_init(&pair->timer, pair);
    known_init(&pair->post, pair);
    known_init(&pair->disconnect, pair);
    for (int i = 0; i < SENDS_MAX; i++)
        known_init(&pair->sends[i], pair);
    world.pairs[world.pair_count++] = pair;
    world.alive++;
    int error = iocp_port_register(world.port, &pair->object, handle, 5);
    SIM_CHECK(error == 0, "register gives %d", error);
    if (world.pair_count % 2 == 0) {
        struct pair *other = world.pairs[world.pair_count - 2];
        pair->in = other->out;
        other->in = pair->out;
    }
}

static void world_create(int serial)
{
    struct iocp_port_config config;
    memset(&world, 0, sizeof(world));
    iocp_port_config_init(&config);
    config.backend = knobs.shared ? IOCP_BACKEND_WINDOWS : IOCP_BACKEND_URING;
    config.concurrency = knobs.concurrency;
    config.lanes = knobs.lanes;
    config.buffer_size = knobs.buffer_size;
    config.buffer_count = 1u << knobs.buffer_power;
    config.watch_ns = knobs.watch ? 500000 : 0;
    iocp__sim_faults_on(0);
    int error = iocp_port_create(&config, &world.port);
    SIM_CHECK(error == 0, "no port: %d", error);
    sim_port_add(world.port);
    for (uint32_t i = 0; i < knobs.objects; i++) {
        iocp_handle handles[2];
        iocp__sim_pair(handles);
        pair_create(handles[0], serial);
        pair_create(handles[1], serial);
    }
    iocp__sim_faults_on(1);
}

/* All that was submitted and not streams for ever comes back by itself once the objects close. */
static void world_rest(void)
{
    iocp__sim_faults_on(0);
    for (uint32_t i = 0; i < world.pair_count; i++) {
        world.pairs[i]->closing = 1;
        iocp_object_close(&world.pairs[i]->object);
    }
    iocp__sim_sleep(400000000);
    SIM_CHECK(world.pending == 0, "%u ops are not answered", world.pending);
    struct iocp_port_stats stats;
    iocp_port_stats(world.port, &stats);
    SIM_CHECK(stats.objects == 0, "%llu objects are left", (unsigned long long)stats.objects);
    SIM_CHECK(stats.packets + stats.landed >= stats.submits, "%llu packets for %llu operations",
              (unsigned long long)stats.packets, (unsigned long long)stats.submits);
}

static void world_free(void)
{
    for (uint32_t i = 0; i < world.pair_count; i++)
        iocp_object_unref(&world.pairs[i]->object);
    sim_port_remove(world.port);
    iocp_port_unref(world.port);
    SIM_CHECK(world.alive == 0, "%u objects are not destroyed", world.alive);
    for (uint32_t i = 0; i < world.pair_count; i++)
        iocp__sim_release(world.pairs[i]);
    streams_free();
}

void sim_port_scenario(void)
{
    struct iocp__thread threads[16];
    uint32_t started = 0;
    int serial = sim_once_in(2) || sim_once_in(2);
    world_create(serial);
    /* One worker for sure; and actors, who end by themselves. */
    iocp__sim_faults_on(0);
    for (uint32_t i = 0; i < knobs.workers; i++)
        (void)iocp__thread_start(&threads[started++], "worker",
                                 serial || i % 2 == 0 ? dispatcher_run : waiter_run, NULL);
    uint32_t workers = started;
    for (uint32_t i = 0; i <= knobs.meddlers; i++)
        (void)iocp__thread_start(&threads[started++], "actor", actor_run, NULL);
    iocp__sim_faults_on(1);
    while (started > workers)
        iocp__thread_join(&threads[--started]);
    if (sim_once_in(4)) {
        world.closed = 1;
        iocp_port_close(world.port);
    } else {
        world_rest();
    }
    world.over = 1;
    iocp_port_wake(world.port);
    while (started)
        iocp__thread_join(&threads[--started]);
    world.closed = 1;
    world_free();
}
