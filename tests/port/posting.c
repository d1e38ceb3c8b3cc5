/* Posting: packets of the user's own, from any thread, to workers that sleep or run.
 *
 * Requirements Q3, Q11 and the design's "one wake per post, last in, first out". */
#include "support/port.h"

#include <iocp/error.h>

#include <stdlib.h>
#include <string.h>

struct poster {
    struct iocp_port *port;
    pthread_t thread;
    struct call call;
};

static void *poster_run(void *argument)
{
    struct poster *poster = argument;
    call_post(&poster->call, poster->port, 0, 1);
    return NULL;
}

/* All workers sleep; threads that have nothing to do with the port post one packet each: all of
 * them are handled. */
TEST(a_post_reaches_sleepers)
{
    struct crew crew;
    struct poster posters[4];
    struct latch answered = LATCH_INIT;
    struct iocp_port *port = port_open(2);
    crew_start(&crew, port, 3);
    for (uint64_t i = 0; i < 4; i++) {
        posters[i].port = port;
        call_init(&posters[i].call);
        posters[i].call.latch = &answered;
        CHECK_EQ(pthread_create(&posters[i].thread, NULL, poster_run, &posters[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_join(posters[i].thread, NULL), 0);
    latch_wait_for(&answered, 4);
    crew_stop(&crew);
    port_end(port);
}

/* ---- Everything exactly once. */

#define PRODUCERS 4
#define CONSUMERS 4
#define POSTS_EACH 50000

struct mill;

struct consumer {
    struct mill *mill;
    pthread_t thread;
    uint64_t timeout_ns;
    int64_t last[PRODUCERS];
};

struct producer {
    struct mill *mill;
    pthread_t thread;
    uintptr_t index;
    struct iocp_op *ops;
};

struct mill {
    struct iocp_port *port;
    struct producer producers[PRODUCERS];
    struct consumer consumers[CONSUMERS];
    uint8_t *taken[PRODUCERS]; /* atomic */
    uint64_t count;            /* atomic */
};

static void *producer_run(void *argument)
{
    struct producer *producer = argument;
    for (int i = 0; i < POSTS_EACH; i++) {
        iocp_op_init(&producer->ops[i], NULL);
        iocp_op_post(&producer->ops[i], producer->index, i);
        CHECK_EQ(iocp_port_post(producer->mill->port, NULL, &producer->ops[i]), 0);
    }
    return NULL;
}

static void consumer_take(struct consumer *consumer, struct iocp_packet *packet)
{
    struct mill *mill = consumer->mill;
    CHECK_LT(packet->key, PRODUCERS);
    CHECK_GT(packet->result, consumer->last[packet->key]);
    consumer->last[packet->key] = packet->result;
    /* Relaxed: only the values count; the join orders them. */
    CHECK_EQ(__atomic_fetch_add(&mill->taken[packet->key][packet->result], 1, __ATOMIC_RELAXED), 0);
    iocp_packet_release(packet);
    if (__atomic_add_fetch(&mill->count, 1, __ATOMIC_RELAXED) == PRODUCERS * POSTS_EACH)
        iocp_port_close(mill->port);
}

static void *consumer_run(void *argument)
{
    struct consumer *consumer = argument;
    struct iocp_packet packets[16];
    int count;
    do {
        count = iocp_port_wait(consumer->mill->port, packets, 16, consumer->timeout_ns);
        for (int i = 0; i < count; i++)
            consumer_take(consumer, &packets[i]);
        if (count == IOCP_ETIMEDOUT)
            system_yield();
        else if (count != IOCP_ECLOSED)
            CHECK_GT(count, 0);
    } while (count != IOCP_ECLOSED);
    return NULL;
}

static void mill_start(struct mill *mill)
{
    for (uintptr_t i = 0; i < PRODUCERS; i++) {
        struct producer *producer = &mill->producers[i];
        mill->taken[i] = calloc(POSTS_EACH, 1);
        producer->mill = mill;
        producer->index = i;
        producer->ops = calloc(POSTS_EACH, sizeof(struct iocp_op));
        CHECK(mill->taken[i] && producer->ops);
    }
    for (int i = 0; i < CONSUMERS; i++) {
        struct consumer *consumer = &mill->consumers[i];
        CHECK_EQ(pthread_create(&consumer->thread, NULL, consumer_run, consumer), 0);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        struct producer *producer = &mill->producers[i];
        CHECK_EQ(pthread_create(&producer->thread, NULL, producer_run, producer), 0);
    }
}

static void mill_join(struct mill *mill)
{
    for (int i = 0; i < PRODUCERS; i++)
        CHECK_EQ(pthread_join(mill->producers[i].thread, NULL), 0);
    for (int i = 0; i < CONSUMERS; i++)
        CHECK_EQ(pthread_join(mill->consumers[i].thread, NULL), 0);
    CHECK_EQ(mill->count, PRODUCERS * POSTS_EACH);
    for (int i = 0; i < PRODUCERS; i++)
        for (int k = 0; k < POSTS_EACH; k++)
            CHECK_EQ(mill->taken[i][k], 1);
    for (int i = 0; i < PRODUCERS; i++) {
        free(mill->producers[i].ops);
        free(mill->taken[i]);
    }
}

/* Four threads post 50,000 packets each, four threads take them with waits of every length: each
 * packet comes out once, and what one thread takes of one producer is in the order of posting. */
TEST(each_exactly_once)
{
    static struct mill mill;
    const uint64_t timeouts_ns[CONSUMERS] = {0, 10 * MILLISECOND, IOCP_WAIT_FOREVER,
                                             IOCP_WAIT_FOREVER};
    mill.port = port_open(CONSUMERS);
    for (int i = 0; i < CONSUMERS; i++) {
        mill.consumers[i].mill = &mill;
        mill.consumers[i].timeout_ns = timeouts_ns[i];
        memset(mill.consumers[i].last, -1, sizeof(mill.consumers[i].last));
    }
    mill_start(&mill);
    mill_join(&mill);
    port_end(mill.port);
}

/* ---- From handlers. */

struct tree {
    struct iocp_port *port;
    struct latch handled;
};

static void tree_post(struct tree *tree, int64_t depth);

static void tree_grow(const struct iocp_packet *packet)
{
    struct tree *tree = packet->op->context;
    int64_t depth = packet->result;
    free(packet->op);
    for (int i = 0; i < 2 && depth > 0; i++)
        tree_post(tree, depth - 1);
    latch_add(&tree->handled, 1);
}

static void tree_post(struct tree *tree, int64_t depth)
{
    struct iocp_op *op = malloc(sizeof(*op));
    iocp_op_init(op, tree_grow);
    op->context = tree;
    iocp_op_post(op, 0, depth);
    CHECK_EQ(iocp_port_post(tree->port, NULL, op), 0);
}

/* Handlers post two packets each, which do the same, on four workers: 8,191 packets, none lost. */
TEST(handlers_post)
{
    struct crew crew;
    struct tree tree = {port_open(2), LATCH_INIT};
    crew_start(&crew, tree.port, 4);
    tree_post(&tree, 12);
    latch_wait_for(&tree.handled, (1 << 13) - 1);
    crew_stop(&crew);
    CHECK_EQ(latch_count(&tree.handled), (1 << 13) - 1);
    port_end(tree.port);
}

/* ---- Posts without an end. */

struct treadmill {
    struct iocp_op op; /* first */
    struct iocp_port *port;
    int stop;
};

static void treadmill_turn(const struct iocp_packet *packet)
{
    struct treadmill *treadmill = (struct treadmill *)packet->op;
    if (treadmill->stop)
        return;
    iocp_op_post(&treadmill->op, 0, 0);
    CHECK_EQ(iocp_port_post(treadmill->port, NULL, &treadmill->op), 0);
}

/* A handler that posts itself again and again, for ever, does not keep the port's one worker from
 * looking after a socket. */
TEST(posts_do_not_starve_sockets)
{
    struct treadmill treadmill = {.port = port_open(1)};
    struct thing thing;
    struct call recv;
    char byte = 0;
    int pair[2];
    make_connected_pair(pair);
    iocp_op_init(&treadmill.op, treadmill_turn);
    thing_open(&thing, treadmill.port, pair[0], 0);
    call_init(&recv);
    iocp_op_recv(&recv.op, &byte, 1);
    call_submit(&recv, treadmill.port, &thing.object);
    iocp_op_post(&treadmill.op, 0, 0);
    CHECK_EQ(iocp_port_post(treadmill.port, NULL, &treadmill.op), 0);
    CHECK_GT(iocp_port_dispatch(treadmill.port, 0), 0);
    send_all(pair[1], "x", 1);
    CHECK_EQ(call_wait(&recv, treadmill.port), 1);
    CHECK_EQ(byte, 'x');
    treadmill.stop = 1;
    thing_end(&thing, treadmill.port);
    net_close(pair[1]);
    port_end(treadmill.port);
}

/* ---- Who is woken. */

struct knock {
    struct call call; /* first */
    uint32_t worker;  /* whoever handled it */
};

static void knock_handle(const struct iocp_packet *packet)
{
    struct knock *knock = (struct knock *)packet->op;
    knock->worker = crew_index();
    call_answered(packet);
}

static uint64_t stats_wakes(struct iocp_port *port)
{
    struct iocp_port_stats stats;
    iocp_port_stats(port, &stats);
    return stats.wakes;
}

/* Posts one packet after the other, each when all workers sleep again, and counts. */
static void check_wakes(uint32_t concurrency, uint32_t workers)
{
    int last_in_first_out =
        !test_wine_differs("GQ-11: the thread that began waiting last is served first");
    struct crew crew;
    struct iocp_port_config config;
    port_config(&config, concurrency);
    config.watch_ns = 0; /* it would wake one more when the machine is busy */
    struct iocp_port *port = port_open_config(&config);
    crew_start(&crew, port, workers);
    for (int round = 0; round < 20; round++) {
        struct knock knock;
        struct latch answered = LATCH_INIT;
        uint64_t before = stats_wakes(port);
        call_init(&knock.call);
        iocp_op_init(&knock.call.op, knock_handle);
        knock.call.latch = &answered;
        call_post(&knock.call, port, 0, 0);
        latch_wait_for(&answered, 1);
        crew_wait_asleep(&crew);
        if (last_in_first_out)
            CHECK_EQ(knock.worker, workers - 1);
        CHECK_EQ(stats_wakes(port), before + 1);
    }
    crew_stop(&crew);
    port_end(port);
}

/* The worker that went to sleep last is the first to be woken, and one packet wakes one worker.
 * Each packet finds all of them asleep, and the one that took the packet before as the last to go
 * to sleep: so it takes all. It does when there are fewer workers than tickets, and when there are
 * more. */
TEST(last_asleep_is_first_awake)
{
    check_wakes(8, 4);
}

TEST(last_asleep_is_first_awake_of_many)
{
    check_wakes(2, 6);
}

TEST(last_asleep_is_first_awake_of_one_ticket)
{
    check_wakes(1, 3);
}

struct meet {
    struct call call; /* first */
    struct latch *inside;
};

static void meet_handle(const struct iocp_packet *packet)
{
    struct meet *meet = (struct meet *)packet->op;
    latch_add(meet->inside, 1);
    latch_wait_for(meet->inside, 2);
    call_answered(packet);
}

/* Two packets at once, two tickets, two sleepers: both handlers run at the same time, since each
 * waits for the other. That holds whoever took the packets, also when one worker could take both.
 */
TEST(two_packets_run_side_by_side)
{
    struct crew crew;
    struct iocp_port *port = port_open(2);
    crew_start(&crew, port, 2);
    for (int round = 0; round < 50; round++) {
        struct meet meets[2];
        struct latch inside = LATCH_INIT;
        struct latch answered = LATCH_INIT;
        for (int i = 0; i < 2; i++) {
            call_init(&meets[i].call);
            iocp_op_init(&meets[i].call.op, meet_handle);
            meets[i].call.latch = &answered;
            meets[i].inside = &inside;
        }
        for (int i = 0; i < 2; i++)
            call_post(&meets[i].call, port, 0, 0);
        latch_wait_for(&answered, 2);
    }
    crew_stop(&crew);
    port_end(port);
}
