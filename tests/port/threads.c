/* Threads that come and go: what one submitted, took or waited for does not go with it.
 *
 * io_uring cancels requests with the thread that submitted them; nobody who uses the port sees
 * that. */
#include "support/port.h"

#include <iocp/error.h>

#include <string.h>

#define LARGE (4u << 20)

/* ---- A thread that submits all kinds and exits. */

struct estate {
    struct iocp_port *port;
    int dispatches; /* so that the ops are in the kernel, by this thread */
    struct thing receiver;
    struct thing streamer;
    struct thing listener;
    struct thing poller;
    struct thing sender;
    int peers[4]; /* of all but the listener */
    struct iocp_address address;
    struct call receive;
    struct call stream;
    struct call accepts;
    struct call poll;
    struct call send;
    struct call timer;
    char byte;
    pthread_t thread;
};

static char large[LARGE];

static void *estate_run(void *argument)
{
    struct estate *estate = argument;
    struct iocp_port *port = estate->port;
    iocp_op_recv(&estate->receive.op, &estate->byte, 1);
    call_submit(&estate->receive, port, &estate->receiver.object);
    iocp_op_recv_stream(&estate->stream.op);
    call_submit(&estate->stream, port, &estate->streamer.object);
    iocp_op_accept_stream(&estate->accepts.op);
    call_submit(&estate->accepts, port, &estate->listener.object);
    iocp_op_poll(&estate->poll.op, IOCP_POLL_READ);
    call_submit(&estate->poll, port, &estate->poller.object);
    iocp_op_send(&estate->send.op, large, LARGE);
    call_submit(&estate->send, port, &estate->sender.object);
    iocp_op_timer(&estate->timer.op, 30 * MILLISECOND, 0);
    call_submit(&estate->timer, port, &estate->receiver.object);
    /* The timer may be over before the thread is. */
    for (int i = 0; i < estate->dispatches; i++) {
        int ran = iocp_port_dispatch(port, MILLISECOND);
        CHECK(ran == IOCP_ETIMEDOUT || ran == 1);
    }
    return NULL;
}

static void estate_thing(struct estate *estate, struct thing *thing, int *out_peer)
{
    int pair[2];
    make_connected_pair(pair);
    thing_open(thing, estate->port, pair[0], 0);
    *out_peer = pair[1];
}

static void estate_open(struct estate *estate)
{
    struct iocp_address address = net_loopback();
    struct call *calls[] = {&estate->receive, &estate->stream, &estate->accepts,
                            &estate->poll,    &estate->send,   &estate->timer};
    estate->port = port_open(2);
    estate_thing(estate, &estate->receiver, &estate->peers[0]);
    estate_thing(estate, &estate->streamer, &estate->peers[1]);
    estate_thing(estate, &estate->poller, &estate->peers[2]);
    estate_thing(estate, &estate->sender, &estate->peers[3]);
    thing_open(&estate->listener, estate->port, net_listen(&address, &estate->address), 0);
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
        call_init(calls[i]);
}

static void estate_end(struct estate *estate)
{
    thing_end(&estate->receiver, estate->port);
    thing_end(&estate->streamer, estate->port);
    thing_end(&estate->listener, estate->port);
    thing_end(&estate->poller, estate->port);
    thing_end(&estate->sender, estate->port);
    for (int i = 0; i < 4; i++)
        net_close(estate->peers[i]);
    port_end(estate->port);
}

struct drain {
    int fd;
    pthread_t thread;
};

static void *drain_run(void *argument)
{
    static char data[LARGE];
    struct drain *drain = argument;
    recv_exact(drain->fd, data, LARGE);
    return NULL;
}

/* All that the dead thread started is answered as if it lived. */
static void check_estate(struct estate *estate)
{
    struct iocp_port *port = estate->port;
    struct drain drain = {estate->peers[3], 0};
    CHECK_EQ(call_wait(&estate->timer, port), 0);
    CHECK_EQ(call_answers(&estate->receive), 0);
    CHECK_EQ(call_answers(&estate->stream), 0);
    CHECK_EQ(call_answers(&estate->accepts), 0);
    CHECK_EQ(call_answers(&estate->poll), 0);
    CHECK_EQ(call_answers(&estate->send), 0);
    for (int i = 0; i < 3; i++)
        send_all(estate->peers[i], "x", 1);
    CHECK_EQ(call_wait(&estate->receive, port), 1);
    CHECK_EQ(estate->byte, 'x');
    CHECK_EQ(call_wait(&estate->poll, port), IOCP_POLL_READ);
    CHECK_EQ(pthread_create(&drain.thread, NULL, drain_run, &drain), 0);
    CHECK_EQ(call_wait(&estate->send, port), LARGE);
    CHECK_EQ(pthread_join(drain.thread, NULL), 0);
    for (uint32_t i = 1; i <= 3; i++) {
        int client = net_connect(&estate->address);
        while (call_answers(&estate->accepts) < i)
            CHECK_GE(iocp_port_dispatch(port, 10000 * MILLISECOND), 1);
        CHECK_EQ(estate->accepts.packet.flags, IOCP_PACKET_MORE);
        net_close((int)estate->accepts.packet.result);
        net_close(client);
        while (call_answers(&estate->stream) < i)
            CHECK_GE(iocp_port_dispatch(port, 10000 * MILLISECOND), 1);
        CHECK_EQ(estate->stream.packet.flags, IOCP_PACKET_MORE);
        CHECK_EQ(estate->stream.packet.result, 1);
        send_all(estate->peers[1], "x", 1);
    }
}

static void check_exit(int dispatches)
{
    static struct estate estate;
    memset(&estate, 0, sizeof(estate));
    estate_open(&estate);
    estate.dispatches = dispatches;
    CHECK_EQ(pthread_create(&estate.thread, NULL, estate_run, &estate), 0);
    CHECK_EQ(pthread_join(estate.thread, NULL), 0);
    check_estate(&estate);
    estate_end(&estate);
}

/* The thread only submitted. */
TEST(submitter_exits)
{
    check_exit(0);
}

/* It was a worker, and its submits have gone to the kernel in its name. */
TEST(worker_with_ops_exits)
{
    check_exit(3);
}

/* The worker exits while another one sleeps in the port, which goes on with what it left. */
TEST(worker_with_ops_exits_among_sleepers)
{
    static struct estate estate;
    struct crew crew;
    struct latch received = LATCH_INIT;
    memset(&estate, 0, sizeof(estate));
    estate_open(&estate);
    estate.dispatches = 3;
    /* The timer would be the sleeper's to handle, or the thread's: it is not asked here who did. */
    CHECK_EQ(pthread_create(&estate.thread, NULL, estate_run, &estate), 0);
    CHECK_EQ(pthread_join(estate.thread, NULL), 0);
    CHECK_EQ(call_wait(&estate.timer, estate.port), 0);
    estate.receive.latch = &received;
    crew_start(&crew, estate.port, 2);
    send_all(estate.peers[0], "x", 1);
    latch_wait_for(&received, 1);
    CHECK_EQ(estate.receive.packet.result, 1);
    crew_stop(&crew);
    CHECK_EQ(call_finals(&estate.stream), 0);
    CHECK_EQ(call_finals(&estate.accepts), 0);
    CHECK_EQ(call_finals(&estate.poll), 0);
    CHECK_EQ(call_finals(&estate.send), 0);
    estate_end(&estate);
}

/* ---- Foreign threads. */

#define PAIRS 8

struct foreign {
    struct iocp_port *port;
    struct thing things[PAIRS];
    struct call calls[PAIRS];
    char bytes[PAIRS];
    int peers[PAIRS];
    struct latch answered;
    pthread_t thread;
};

static void *foreign_run(void *argument)
{
    struct foreign *foreign = argument;
    for (int i = 0; i < PAIRS; i++)
        call_submit(&foreign->calls[i], foreign->port, &foreign->things[i].object);
    return NULL;
}

/* All workers sleep; a thread that is none submits: sends go out, and receives of what is there
 * already are answered. */
TEST(submits_reach_sleepers)
{
    static struct foreign foreign;
    struct crew crew;
    struct iocp_port *port = port_open(2);
    foreign.port = port;
    latch_init(&foreign.answered);
    crew_start(&crew, port, 2);
    for (int i = 0; i < PAIRS; i++) {
        int pair[2];
        make_local_pair(pair);
        thing_open(&foreign.things[i], port, pair[0], 0);
        foreign.peers[i] = pair[1];
        call_init(&foreign.calls[i]);
        foreign.calls[i].latch = &foreign.answered;
        if (i & 1)
            iocp_op_send(&foreign.calls[i].op, "y", 1);
        else
            iocp_op_recv(&foreign.calls[i].op, &foreign.bytes[i], 1);
    }
    crew_wait_asleep(&crew);
    CHECK_EQ(pthread_create(&foreign.thread, NULL, foreign_run, &foreign), 0);
    CHECK_EQ(pthread_join(foreign.thread, NULL), 0);
    for (int i = 0; i < PAIRS; i++) {
        if (i & 1)
            expect_bytes(foreign.peers[i], "y", 1);
        else
            send_all(foreign.peers[i], "x", 1);
    }
    latch_wait_for(&foreign.answered, PAIRS);
    for (int i = 0; i < PAIRS; i++)
        CHECK_EQ(foreign.calls[i].packet.result, 1);
    crew_stop(&crew);
    for (int i = 0; i < PAIRS; i++) {
        thing_end(&foreign.things[i], port);
        net_close(foreign.peers[i]);
    }
    port_end(port);
}

static void foreign_posted(const struct iocp_packet *packet)
{
    foreign_run((void *)packet->key);
}

/* The same from a handler, whose bells for other lanes wait for the end of its batch, with nobody
 * who would ring them later: the watch is off. */
TEST(submits_of_a_handler_reach_the_other_lane)
{
    static struct foreign foreign;
    struct crew crew;
    struct iocp_op post;
    struct iocp_port_stats stats;
    struct iocp_port_config config;
    port_config(&config, 2);
    config.watch_ns = 0;
    foreign.port = port_open_config(&config);
    latch_init(&foreign.answered);
    crew_start(&crew, foreign.port, 2);
    for (int i = 0; i < PAIRS; i++) {
        int pair[2];
        make_local_pair(pair);
        thing_open(&foreign.things[i], foreign.port, pair[0], 0);
        foreign.peers[i] = pair[1];
        call_init(&foreign.calls[i]);
        foreign.calls[i].latch = &foreign.answered;
        iocp_op_send(&foreign.calls[i].op, "y", 1);
    }
    crew_wait_asleep(&crew);
    iocp_port_stats(foreign.port, &stats);
    CHECK_EQ(stats.lanes, 2);
    iocp_op_init(&post, foreign_posted);
    iocp_op_post(&post, (uintptr_t)&foreign, 0);
    CHECK_EQ(iocp_port_post(foreign.port, NULL, &post), 0);
    for (int i = 0; i < PAIRS; i++)
        expect_bytes(foreign.peers[i], "y", 1);
    latch_wait_for(&foreign.answered, PAIRS);
    crew_stop(&crew);
    for (int i = 0; i < PAIRS; i++) {
        thing_end(&foreign.things[i], foreign.port);
        net_close(foreign.peers[i]);
    }
    port_end(foreign.port);
}

static void *take_one_run(void *argument)
{
    struct iocp_packet packet;
    CHECK_EQ(iocp_port_wait(argument, &packet, 1, IOCP_WAIT_FOREVER), 1);
    CHECK_EQ(packet.result, 1);
    iocp_packet_release(&packet);
    return NULL;
}

/* A thread finds many packets, takes one, and exits: the others are there for whoever comes. */
TEST(a_leaving_worker_takes_nothing_with_it)
{
    struct thing things[PAIRS];
    struct call calls[PAIRS];
    char bytes[PAIRS];
    int peers[PAIRS];
    struct iocp_packet packet;
    pthread_t thread;
    struct iocp_port *port = port_open(1);
    for (int i = 0; i < PAIRS; i++) {
        int pair[2];
        make_local_pair(pair);
        thing_open(&things[i], port, pair[0], 0);
        peers[i] = pair[1];
        call_init(&calls[i]);
        iocp_op_recv(&calls[i].op, &bytes[i], 1);
        call_submit(&calls[i], port, &things[i].object);
        send_all(peers[i], "x", 1);
    }
    /* The last thread leaves with its packet given back, but without another wait. */
    for (int i = 0; i < PAIRS - 2; i++) {
        CHECK_EQ(pthread_create(&thread, NULL, take_one_run, port), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
    }
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(iocp_port_wait(port, &packet, 1, 10000 * MILLISECOND), 1);
        iocp_packet_release(&packet);
    }
    CHECK_EQ(iocp_port_wait(port, &packet, 1, 0), IOCP_ETIMEDOUT);
    for (int i = 0; i < PAIRS; i++) {
        thing_end(&things[i], port);
        net_close(peers[i]);
    }
    port_end(port);
}

/* ---- Many threads. */

#define THREADS 8
#define LIVES 40

struct visitor {
    struct iocp_port *port;
    struct latch *handled;
    pthread_t thread;
};

static void *visit_run(void *argument)
{
    struct visitor *visitor = argument;
    struct call call;
    call_init(&call);
    call.latch = visitor->handled;
    call_post(&call, visitor->port, 0, 1);
    /* Its own packet may be another thread's to handle: stays until it is done. */
    while (call_finals(&call) == 0) {
        int ran = iocp_port_dispatch(visitor->port, MILLISECOND);
        CHECK(ran > 0 || ran == IOCP_ETIMEDOUT);
    }
    return NULL;
}

/* Threads come, post, handle what they find, and go: 320 in all, never more than eight at a
 * time, so that room for sixteen is enough; nothing is lost, and nothing is left of them. */
TEST(threads_come_and_go)
{
    struct visitor visitors[THREADS];
    struct latch handled = LATCH_INIT;
    struct iocp_port_config config;
    struct iocp_port_stats stats;
    port_config(&config, 2);
    config.workers_max = 2 * THREADS;
    struct iocp_port *port = port_open_config(&config);
    for (uint64_t life = 0; life < LIVES; life++) {
        for (int i = 0; i < THREADS; i++) {
            visitors[i].port = port;
            visitors[i].handled = &handled;
            CHECK_EQ(pthread_create(&visitors[i].thread, NULL, visit_run, &visitors[i]), 0);
        }
        for (int i = 0; i < THREADS; i++)
            CHECK_EQ(pthread_join(visitors[i].thread, NULL), 0);
        CHECK_EQ(latch_count(&handled), (life + 1) * THREADS);
    }
    iocp_port_stats(port, &stats);
    CHECK_EQ(stats.workers, 0);
    CHECK_EQ(stats.running, 0);
    port_end(port);
}

struct survivor {
    struct latch begun;
    struct latch over;
    struct iocp_port *port;
    pthread_t thread;
};

static void *survive_run(void *argument)
{
    struct survivor *survivor = argument;
    CHECK_EQ(iocp_port_dispatch(survivor->port, 0), IOCP_ETIMEDOUT);
    latch_add(&survivor->begun, 1);
    latch_wait_for(&survivor->over, 1);
    /* Another port, perhaps at the same address. */
    CHECK_EQ(iocp_port_dispatch(survivor->port, 0), IOCP_ETIMEDOUT);
    latch_add(&survivor->begun, 1);
    return NULL;
}

/* A thread outlives a port that it has waited for, and uses the next one. */
TEST(a_thread_outlives_its_port)
{
    struct survivor survivor = {LATCH_INIT, LATCH_INIT, port_open(0), 0};
    CHECK_EQ(pthread_create(&survivor.thread, NULL, survive_run, &survivor), 0);
    latch_wait_for(&survivor.begun, 1);
    CHECK(!iocp_port_unref(survivor.port));
    survivor.port = port_open(0);
    latch_add(&survivor.over, 1);
    CHECK_EQ(pthread_join(survivor.thread, NULL), 0);
    port_end(survivor.port);
}

/* One thread serves two ports in turn; what it does in one does not show in the other. */
TEST(one_thread_two_ports)
{
    struct call calls[2];
    struct iocp_packet packets[2];
    struct iocp_port *ports[2] = {port_open(1), port_open(1)};
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 2; i++) {
            call_init(&calls[i]);
            call_post(&calls[i], ports[i], (uintptr_t)i, round);
        }
        for (int i = 0; i < 2; i++) {
            CHECK_EQ(iocp_port_wait(ports[i], &packets[i], 1, IOCP_WAIT_FOREVER), 1);
            CHECK_EQ(packets[i].key, i);
        }
        for (int i = 0; i < 2; i++) {
            CHECK_EQ(iocp_port_wait(ports[i], &packets[i], 1, 0), IOCP_ETIMEDOUT);
            iocp_packet_release(&packets[i]);
        }
    }
    CHECK(!iocp_port_unref(ports[0]));
    port_end(ports[1]);
}

/* ---- What a handler puts off while it is stuck. */

struct stuck {
    struct iocp_op post; /* first */
    struct call send;
    struct thing thing;
    struct iocp_port *port;
    struct latch released;
};

static void send_and_get_stuck(const struct iocp_packet *packet)
{
    struct stuck *stuck = (struct stuck *)packet->op;
    call_submit(&stuck->send, stuck->port, &stuck->thing.object);
    latch_wait_for(&stuck->released, 1);
}

/* It blocks and has not said so: what it submitted before goes out all the same, while it waits. */
TEST(a_stuck_handler_has_sent)
{
    struct stuck stuck;
    struct crew crew;
    int pair[2];
    make_connected_pair(pair);
    stuck.port = port_open(2);
    latch_init(&stuck.released);
    thing_open(&stuck.thing, stuck.port, pair[0], 0);
    call_init(&stuck.send);
    iocp_op_send(&stuck.send.op, "sent", 4);
    crew_start(&crew, stuck.port, 2);
    iocp_op_init(&stuck.post, send_and_get_stuck);
    iocp_op_post(&stuck.post, 0, 0);
    CHECK_OK(iocp_port_post(stuck.port, NULL, &stuck.post));
    expect_bytes(pair[1], "sent", 4);
    CHECK_EQ(latch_count(&stuck.released), 0);
    latch_add(&stuck.released, 1);
    crew_stop(&crew);
    thing_end(&stuck.thing, stuck.port);
    net_close(pair[1]);
    port_end(stuck.port);
}

/* ---- What is sent while a batch takes long. */

#define LONG_BATCH 200

struct long_batch {
    struct iocp_port *port;
    uint32_t handled;
    uint64_t waits[2]; /* looks into the kernel, seen by the first handler and by the last */
    struct iocp_op posts[LONG_BATCH];
};

/* Computes for 100 us of the clock. */
static void handle_slowly(const struct iocp_packet *packet)
{
    struct long_batch *batch = packet->op->context;
    struct iocp_port_stats stats;
    uint64_t end_ns = iocp_now_ns() + 100000;
    while (iocp_now_ns() < end_ns)
        system_compute();
    batch->handled++;
    iocp_port_stats(batch->port, &stats);
    if (batch->handled == 1 || batch->handled == LONG_BATCH)
        batch->waits[batch->handled > 1] = stats.waits;
}

/* Packets that are there one after the other do not keep a worker from its lane: what others and
 * its own handlers send there would wait for the last of them. */
TEST(a_long_batch_is_cut)
{
    static struct long_batch batch;
    batch.port = port_open(1);
    for (uint32_t i = 0; i < LONG_BATCH; i++) {
        iocp_op_init(&batch.posts[i], handle_slowly);
        batch.posts[i].context = &batch;
        iocp_op_post(&batch.posts[i], 0, 0);
        CHECK_OK(iocp_port_post(batch.port, NULL, &batch.posts[i]));
    }
    while (batch.handled < LONG_BATCH) {
        int count = iocp_port_dispatch(batch.port, IOCP_WAIT_FOREVER);
        CHECK_GT(count, 0);
        CHECK_LT(count, LONG_BATCH);
    }
    if (!port_kernel_is_gate(batch.port))
        CHECK_GT(batch.waits[1], batch.waits[0]);
    port_end(batch.port);
}
