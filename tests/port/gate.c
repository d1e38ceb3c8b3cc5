/* The gate: no more handlers at a time than the concurrency value, and never fewer because one
 * of them is stuck.
 *
 * A town is 100 echo sessions on one port. Handlers of some of them get stuck; the others have
 * to be served meanwhile: they are asked and must answer before the stuck ones are let go, so a
 * port that waits for these never ends its test. How long the others wait is printed, and not
 * judged. */
#include "support/port.h"

#include <iocp/error.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SESSIONS 100
#define ROUNDS 3

enum stuck { STUCK_SLEEP, STUCK_MUTEX, STUCK_PIPE, STUCK_COMPUTE };

static const char *const stuck_names[] = {"sleep", "mutex", "pipe", "compute"};

struct town;

struct session {
    struct thing thing; /* first, serial */
    struct town *town;
    struct iocp_op stream;
    int peer;
};

struct town {
    struct iocp_port *port;
    struct crew crew;
    enum stuck how;
    int declared;
    struct latch inside;
    struct latch outside;
    pthread_mutex_t mutex;
    iocp_handle pipe[2];
    uint32_t released; /* atomic */
    uint64_t worst_ns;
    struct session sessions[SESSIONS];
};

struct reply {
    struct iocp_op op; /* first */
    char byte;
};

/* ---- Handlers. */

static void town_stay(struct town *town)
{
    char byte;
    /* Relaxed: the flag orders nothing. */
    switch (town->how) {
    case STUCK_SLEEP:
        do
            system_nap(100 * MILLISECOND);
        while (!__atomic_load_n(&town->released, __ATOMIC_RELAXED));
        break;
    case STUCK_MUTEX:
        pthread_mutex_lock(&town->mutex);
        pthread_mutex_unlock(&town->mutex);
        break;
    case STUCK_PIPE:
        system_pipe_read(town->pipe[0], &byte);
        break;
    case STUCK_COMPUTE:
        while (!__atomic_load_n(&town->released, __ATOMIC_RELAXED))
            system_compute();
        break;
    }
}

static void town_get_stuck(struct town *town)
{
    latch_add(&town->inside, 1);
    if (town->declared) {
        iocp_blocking_begin();
        iocp_blocking_begin();
        iocp_blocking_end();
    }
    town_stay(town);
    if (town->declared)
        iocp_blocking_end();
    latch_add(&town->outside, 1);
}

static void reply_sent(const struct iocp_packet *packet)
{
    CHECK_EQ(packet->result, 1);
    free(packet->op);
}

static void session_received(const struct iocp_packet *packet)
{
    struct session *session = (struct session *)packet->object;
    if (!(packet->flags & IOCP_PACKET_MORE))
        return;
    CHECK_EQ(packet->result, 1);
    struct reply *reply = malloc(sizeof(*reply));
    CHECK(reply);
    reply->byte = *(const char *)packet->data;
    if (reply->byte == 'B')
        town_get_stuck(session->town);
    iocp_op_init(&reply->op, reply_sent);
    iocp_op_send(&reply->op, &reply->byte, 1);
    CHECK_EQ(iocp_port_submit(session->town->port, packet->object, &reply->op), 0);
}

/* ---- The town, seen from outside. */

static void town_open(struct town *town, uint32_t concurrency, uint32_t workers, uint32_t watch_ns)
{
    struct iocp_port_config config;
    port_config(&config, concurrency);
    config.watch_ns = watch_ns;
    town->port = port_open_config(&config);
    latch_init(&town->inside);
    latch_init(&town->outside);
    CHECK_EQ(pthread_mutex_init(&town->mutex, NULL), 0);
    system_pipe(town->pipe);
    crew_start(&town->crew, town->port, workers);
    for (int i = 0; i < SESSIONS; i++) {
        struct session *session = &town->sessions[i];
        int pair[2];
        make_local_pair(pair);
        thing_init_serial(&session->thing);
        session->town = town;
        session->peer = pair[1];
        CHECK_EQ(iocp_port_register(town->port, &session->thing.object, pair[0], 0), 0);
        iocp_op_init(&session->stream, session_received);
        iocp_op_recv_stream(&session->stream);
        CHECK_EQ(iocp_port_submit(town->port, &session->thing.object, &session->stream), 0);
    }
}

static void town_end(struct town *town)
{
    crew_stop(&town->crew);
    /* All at once: io_uring answers for threads that are gone only every few milliseconds. */
    for (int i = 0; i < SESSIONS; i++) {
        iocp_object_close(&town->sessions[i].thing.object);
        iocp_object_unref(&town->sessions[i].thing.object);
    }
    for (int i = 0; i < SESSIONS; i++) {
        thing_wait_gone(&town->sessions[i].thing, town->port);
        net_close(town->sessions[i].peer);
    }
    system_close(town->pipe[0]);
    system_close(town->pipe[1]);
    port_end(town->port);
}

/* Asks all sessions from `first` on, and waits for their answers. */
static void town_ping(struct town *town, int first)
{
    uint64_t sent_ns[SESSIONS];
    for (int i = first; i < SESSIONS; i++) {
        sent_ns[i] = iocp_now_ns();
        send_all(town->sessions[i].peer, "P", 1);
    }
    for (int i = first; i < SESSIONS; i++) {
        expect_bytes(town->sessions[i].peer, "P", 1);
        uint64_t waited_ns = iocp_now_ns() - sent_ns[i];
        if (waited_ns > town->worst_ns)
            town->worst_ns = waited_ns;
    }
}

static void town_release(struct town *town, int count)
{
    __atomic_store_n(&town->released, 1, __ATOMIC_RELAXED);
    if (town->how == STUCK_MUTEX)
        pthread_mutex_unlock(&town->mutex);
    for (int i = 0; i < count && town->how == STUCK_PIPE; i++)
        system_pipe_write(town->pipe[1], 'x');
}

/* A timer and a post have to be served too. */
static void town_check_others(struct town *town)
{
    struct call calls[2];
    struct latch answered = LATCH_INIT;
    for (int i = 0; i < 2; i++) {
        call_init(&calls[i]);
        calls[i].latch = &answered;
    }
    iocp_op_timer(&calls[0].op, MILLISECOND, 0);
    call_submit(&calls[0], town->port, NULL);
    call_post(&calls[1], town->port, 0, 0);
    latch_wait_for(&answered, 2);
}

struct trial {
    uint32_t concurrency;
    uint32_t workers;
    uint32_t watch_ns;
    int stuck; /* handlers */
    enum stuck how;
    int declared;
};

static void check_stuck(const struct trial *trial)
{
    static struct town town;
    struct iocp_port_stats stats;
    memset(&town, 0, sizeof(town));
    town.how = trial->how;
    town.declared = trial->declared;
    town_open(&town, trial->concurrency, trial->workers, trial->watch_ns);
    town_ping(&town, 0);
    town.worst_ns = 0;
    pthread_mutex_lock(&town.mutex);
    for (int i = 0; i < trial->stuck; i++)
        send_all(town.sessions[i].peer, "B", 1);
    latch_wait_for(&town.inside, (uint64_t)trial->stuck);
    for (int round = 0; round < ROUNDS; round++)
        town_ping(&town, trial->stuck);
    town_check_others(&town);
    CHECK_EQ(latch_count(&town.outside), 0);
    iocp_port_stats(town.port, &stats);
    printf("%s, %d of %u workers, concurrency %u%s: others waited %.2f ms at most\n",
           stuck_names[trial->how], trial->stuck, trial->workers, trial->concurrency,
           trial->declared ? ", declared" : "", (double)town.worst_ns / 1e6);
    CHECK_EQ(stats.declared, trial->declared ? trial->stuck : 0);
    if (!trial->watch_ns || port_kernel_is_gate(town.port))
        CHECK_EQ(stats.detected, 0);
    else if (trial->how != STUCK_COMPUTE && !trial->declared)
        CHECK_GE(stats.detected, 1);
    if (!port_kernel_is_gate(town.port)) /* which counts those that are stuck, too */
        CHECK_LE(stats.running_max, trial->concurrency);
    if (trial->how != STUCK_MUTEX)
        pthread_mutex_unlock(&town.mutex);
    town_release(&town, trial->stuck);
    for (int i = 0; i < trial->stuck; i++)
        expect_bytes(town.sessions[i].peer, "B", 1);
    CHECK_EQ(latch_count(&town.outside), trial->stuck);
    town_ping(&town, 0);
    town_end(&town);
}

#define WATCH (2 * 1000 * 1000)

/* Two tickets, two handlers that block and do not say so: the other sessions go on. */
TEST(two_sleep)
{
    check_stuck(&(struct trial){2, 6, WATCH, 2, STUCK_SLEEP, 0});
}

TEST(two_wait_for_a_mutex)
{
    check_stuck(&(struct trial){2, 6, WATCH, 2, STUCK_MUTEX, 0});
}

TEST(two_read_a_pipe)
{
    check_stuck(&(struct trial){2, 6, WATCH, 2, STUCK_PIPE, 0});
}

/* All workers but one block. */
TEST(all_but_one_block)
{
    check_stuck(&(struct trial){2, 6, WATCH, 5, STUCK_MUTEX, 0});
}

/* One ticket, two workers, one of them blocked. */
TEST(one_of_two_blocks)
{
    check_stuck(&(struct trial){1, 2, WATCH, 1, STUCK_PIPE, 0});
}

TEST(one_of_two_sleeps)
{
    check_stuck(&(struct trial){1, 2, WATCH, 1, STUCK_SLEEP, 0});
}

/* The same declared, with the watch off: it is the declaration that counts. */
TEST(two_declare)
{
    check_stuck(&(struct trial){2, 6, 0, 2, STUCK_MUTEX, 1});
}

TEST(one_of_two_declares)
{
    check_stuck(&(struct trial){1, 2, 0, 1, STUCK_PIPE, 1});
}

/* Both: nothing is given away twice. */
TEST(declared_and_watched)
{
    check_stuck(&(struct trial){2, 4, WATCH, 2, STUCK_SLEEP, 1});
}

/* As many threads as tickets, and one of them computes: its sessions are the other one's to
 * serve, those that share its lane as well. */
TEST(one_of_two_computes)
{
    check_stuck(&(struct trial){2, 2, WATCH, 1, STUCK_COMPUTE, 0});
}

TEST(one_of_four_computes)
{
    check_stuck(&(struct trial){4, 4, WATCH, 1, STUCK_COMPUTE, 0});
}

/* ---- How many at a time. */

struct mill {
    uint32_t inside;  /* atomic */
    uint32_t highest; /* atomic */
    uint32_t done;    /* atomic */
};

struct grain {
    struct call call; /* first */
    struct mill *mill;
};

static void grain_compute(const struct iocp_packet *packet)
{
    struct grain *grain = (struct grain *)packet->op;
    struct mill *mill = grain->mill;
    uint64_t end_ns = iocp_now_ns() + MILLISECOND / 2;
    /* Relaxed: counts. */
    uint32_t inside = __atomic_add_fetch(&mill->inside, 1, __ATOMIC_RELAXED);
    uint32_t highest = __atomic_load_n(&mill->highest, __ATOMIC_RELAXED);
    while (inside > highest && !__atomic_compare_exchange_n(&mill->highest, &highest, inside, 0,
                                                            __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
    while (iocp_now_ns() < end_ns)
        system_compute();
    __atomic_fetch_sub(&mill->inside, 1, __ATOMIC_RELAXED);
    call_answered(packet);
    /* Release: all of it is done. No latch: a handler that waited for its lock would block. */
    __atomic_fetch_add(&mill->done, 1, __ATOMIC_RELEASE);
}

#define GRAINS 300

/* Posts many handlers that compute, and returns how many ran at the same time. */
static uint32_t mill_run(struct iocp_port *port)
{
    static struct grain grains[GRAINS];
    uint64_t deadline_ns = iocp_now_ns() + NET_WAIT_LIMIT_S * 1000 * MILLISECOND;
    struct mill mill = {0, 0, 0};
    for (int i = 0; i < GRAINS; i++) {
        call_init(&grains[i].call);
        iocp_op_init(&grains[i].call.op, grain_compute);
        grains[i].mill = &mill;
        call_post(&grains[i].call, port, 0, 0);
    }
    while (__atomic_load_n(&mill.done, __ATOMIC_ACQUIRE) < GRAINS) {
        CHECK_LT(iocp_now_ns(), deadline_ns);
        system_nap(MILLISECOND);
    }
    return mill.highest;
}

/* The limit is Windows' on Windows. */
static int limit_is_kept(void)
{
    return !test_wine_differs("GQ-14: no more threads run at a time than the concurrency value");
}

/* Eight workers and handlers that compute: never more at a time than the concurrency value (Q6).
 * With the watch on too, as long as it takes none of them for blocked, which it may where
 * threads are stopped by others than themselves. */
static void check_limit(uint32_t concurrency, uint32_t watch_ns)
{
    struct crew crew;
    struct iocp_port_config config;
    struct iocp_port_stats stats;
    port_config(&config, concurrency);
    config.watch_ns = watch_ns;
    struct iocp_port *port = port_open_config(&config);
    crew_start(&crew, port, 8);
    uint32_t highest = mill_run(port);
    iocp_port_stats(port, &stats);
    CHECK_GE(highest, 1);
    if (limit_is_kept()) {
        if (stats.detected == 0)
            CHECK_LE(highest, concurrency);
        CHECK_LE(stats.running_max, concurrency);
    }
    if (!watch_ns || port_kernel_is_gate(port))
        CHECK_EQ(stats.detected, 0);
    crew_stop(&crew);
    port_end(port);
}

TEST(limit_of_two)
{
    check_limit(2, 0);
}

TEST(limit_of_one)
{
    check_limit(1, 0);
}

TEST(limit_of_two_watched)
{
    check_limit(2, WATCH);
}

static void block_declared(const struct iocp_packet *packet)
{
    iocp_blocking_begin();
    latch_wait_for(packet->op->context, 1);
    iocp_blocking_end();
    call_answered(packet);
}

/* Tickets that were given away for blocking come back: afterwards the limit is the limit again. */
TEST(limit_after_blocking)
{
    struct crew crew;
    struct call calls[4];
    struct latch release = LATCH_INIT;
    struct latch answered = LATCH_INIT;
    struct iocp_port_stats stats;
    struct iocp_port_config config;
    port_config(&config, 2);
    config.watch_ns = 0;
    struct iocp_port *port = port_open_config(&config);
    crew_start(&crew, port, 8);
    for (int i = 0; i < 4; i++) {
        call_init(&calls[i]);
        iocp_op_init(&calls[i].op, block_declared);
        calls[i].op.context = &release;
        calls[i].latch = &answered;
        call_post(&calls[i], port, 0, 0);
    }
    do
        iocp_port_stats(port, &stats);
    while (stats.declared < 4);
    latch_add(&release, 1);
    latch_wait_for(&answered, 4);
    crew_wait_asleep(&crew);
    uint32_t highest = mill_run(port);
    if (limit_is_kept())
        CHECK_LE(highest, 2);
    iocp_port_stats(port, &stats);
    if (!port_kernel_is_gate(port)) /* which counts those that blocked, too */
        CHECK_LE(stats.running_max, 2);
    crew_stop(&crew);
    iocp_port_stats(port, &stats);
    CHECK_EQ(stats.running, 0);
    port_end(port);
}

static void wait_for_context(const struct iocp_packet *packet)
{
    latch_wait_for(packet->op->context, 1);
    call_answered(packet);
}

/* With the watch off a handler that does not say that it blocks keeps its ticket: the next
 * packet is handled after it, not before. A kernel that is the gate needs no watch. */
TEST(no_watch_no_detection)
{
    struct crew crew;
    struct call stuck;
    struct call next;
    struct latch release = LATCH_INIT;
    struct latch answered = LATCH_INIT;
    struct iocp_port_stats stats;
    struct iocp_port_config config;
    port_config(&config, 1);
    config.watch_ns = 0;
    struct iocp_port *port = port_open_config(&config);
    crew_start(&crew, port, 2);
    call_init(&stuck);
    iocp_op_init(&stuck.op, wait_for_context);
    stuck.op.context = &release;
    call_init(&next);
    next.latch = &answered;
    call_post(&stuck, port, 0, 0);
    call_post(&next, port, 0, 0);
    if (port_kernel_is_gate(port))
        latch_wait_for(&answered, 1);
    else
        CHECK(!latch_reached(&answered, 1, 50));
    latch_add(&release, 1);
    latch_wait_for(&answered, 1);
    iocp_port_stats(port, &stats);
    CHECK_EQ(stats.detected, 0);
    CHECK_EQ(stats.declared, 0);
    crew_stop(&crew);
    CHECK_EQ(call_finals(&stuck), 1);
    port_end(port);
}

/* Who takes packets with wait counts as running until the next wait, and is watched as handlers
 * are: while it sleeps, its ticket is another one's. */
TEST(a_waiter_that_blocks)
{
    struct crew crew;
    struct call calls[2];
    struct latch answered = LATCH_INIT;
    struct iocp_packet packet;
    struct iocp_port *port = port_open(1);
    for (int i = 0; i < 2; i++) {
        call_init(&calls[i]);
        calls[i].latch = &answered;
    }
    crew_start(&crew, port, 1);
    crew_stop(&crew);
    call_post(&calls[0], port, 0, 1);
    CHECK_EQ(iocp_port_wait(port, &packet, 1, IOCP_WAIT_FOREVER), 1);
    iocp_packet_release(&packet);
    crew_start(&crew, port, 1);
    call_post(&calls[1], port, 0, 2);
    latch_wait_for(&answered, 1);
    CHECK_EQ(iocp_port_wait(port, &packet, 1, 0), IOCP_ETIMEDOUT);
    crew_stop(&crew);
    port_end(port);
}

/* The declaration does nothing outside of handlers: no ticket is lost or won by it. */
TEST(blocking_outside_of_handlers)
{
    struct call call;
    struct iocp_port_stats stats;
    iocp_blocking_begin();
    iocp_blocking_begin();
    iocp_blocking_end();
    iocp_blocking_end();
    struct iocp_port *port = port_open(1);
    iocp_blocking_begin();
    iocp_blocking_end();
    call_init(&call);
    for (int i = 0; i < 3; i++) {
        call_post(&call, port, 0, i);
        CHECK_EQ(call_wait(&call, port), i);
        CHECK_EQ(iocp_port_dispatch(port, 0), IOCP_ETIMEDOUT);
        iocp_blocking_begin();
        iocp_blocking_end();
    }
    iocp_port_stats(port, &stats);
    CHECK_EQ(stats.declared, 0);
    CHECK_LE(stats.running_max, 1);
    CHECK_EQ(stats.running, 0);
    port_end(port);
}

static void nest(const struct iocp_packet *packet)
{
    for (int i = 0; i < 5; i++)
        iocp_blocking_begin();
    for (int i = 0; i < 4; i++)
        iocp_blocking_end();
    /* Still blocked: the other worker has the only ticket. */
    latch_wait_for(packet->op->context, 1);
    iocp_blocking_end();
    call_answered(packet);
}

/* Declarations nest: only the last end counts. */
TEST(blocking_nests)
{
    struct crew crew;
    struct call nested;
    struct call other;
    struct latch other_answered = LATCH_INIT;
    struct latch nested_answered = LATCH_INIT;
    struct iocp_port_stats stats;
    struct iocp_port_config config;
    port_config(&config, 1);
    config.watch_ns = 0;
    struct iocp_port *port = port_open_config(&config);
    crew_start(&crew, port, 2);
    call_init(&nested);
    iocp_op_init(&nested.op, nest);
    nested.op.context = &other_answered;
    nested.latch = &nested_answered;
    call_init(&other);
    other.latch = &other_answered;
    call_post(&nested, port, 0, 0);
    call_post(&other, port, 0, 0);
    latch_wait_for(&nested_answered, 1);
    iocp_port_stats(port, &stats);
    CHECK_EQ(stats.declared, 1);
    crew_stop(&crew);
    port_end(port);
}
