/* Packets: how they go into a port and come out, and every answer that a wait has.
 *
 * Requirements Q2, Q3, Q5, Q8, Q12 and S1; misuse is in misuse.c. */
#include "support/port.h"

#include <iocp/error.h>

#include <stdlib.h>
#include <string.h>

/* A thread of the test that waits once. */
struct waiter {
    struct iocp_port *port;
    uint64_t timeout_ns;
    int dispatch; /* not 0: with dispatch instead of wait */
    pthread_t thread;
    struct latch begun;
    struct latch done;
    uint32_t id;
    uint64_t before_ns;
    uint64_t after_ns;
    int result;
    struct iocp_packet packet;
};

static void *waiter_run(void *argument)
{
    struct waiter *waiter = argument;
    waiter->id = system_thread();
    waiter->before_ns = iocp_now_ns();
    latch_add(&waiter->begun, 1);
    if (waiter->dispatch)
        waiter->result = iocp_port_dispatch(waiter->port, waiter->timeout_ns);
    else
        waiter->result = iocp_port_wait(waiter->port, &waiter->packet, 1, waiter->timeout_ns);
    waiter->after_ns = iocp_now_ns();
    latch_add(&waiter->done, 1);
    return NULL;
}

/* Starts the thread; it sleeps in the port when this returns. */
static void waiter_start(struct waiter *waiter, struct iocp_port *port, uint64_t timeout_ns,
                         int dispatch)
{
    memset(waiter, 0, sizeof(*waiter));
    waiter->port = port;
    waiter->timeout_ns = timeout_ns;
    waiter->dispatch = dispatch;
    latch_init(&waiter->begun);
    latch_init(&waiter->done);
    CHECK_EQ(pthread_create(&waiter->thread, NULL, waiter_run, waiter), 0);
    latch_wait_for(&waiter->begun, 1);
    if (timeout_ns == IOCP_WAIT_FOREVER)
        thread_wait_asleep(waiter->id);
}

static int waiter_join(struct waiter *waiter)
{
    latch_wait_for(&waiter->done, 1);
    CHECK_EQ(pthread_join(waiter->thread, NULL), 0);
    return waiter->result;
}

/* The defaults are what the header says, and a port lives until its last reference. */
TEST(create_and_unref)
{
    struct iocp_port_config config;
    memset(&config, 0xab, sizeof(config));
    iocp_port_config_init(&config);
    CHECK_EQ(config.concurrency, 0);
    CHECK_EQ(config.backend, IOCP_BACKEND_AUTO);
    CHECK_EQ(config.workers_max, 1024);
    CHECK_EQ(config.buffer_size, 66560);
    CHECK_EQ(config.buffer_count, 256);
    CHECK_EQ(config.watch_ns, 2 * MILLISECOND);

    struct iocp_port *port = NULL;
    CHECK_EQ(iocp_port_create(NULL, &port), 0);
    CHECK_GE(iocp_port_concurrency(port), 1);
    CHECK(iocp_port_ref(port) == port);
    CHECK(!iocp_port_unref(port));
    CHECK_EQ(iocp_port_wait(port, &(struct iocp_packet){0}, 1, 0), IOCP_ETIMEDOUT);
    port_end(port);
    CHECK(!iocp_port_unref(NULL));

    port = port_open(3);
    CHECK_EQ(iocp_port_concurrency(port), 3);
    port_end(port);
}

/* Keys and results are the user's: every value comes back as it went in (Q8). 4,294,967,192 is what
 * a reset connection once was reported as. */
TEST(keys_and_results_round_trip)
{
    int local = 0;
    const uintptr_t keys[] = {0, 1, UINTPTR_MAX, (uintptr_t)&local, (uintptr_t)1 << 31};
    const int64_t results[] = {0, -1, INT64_MIN, INT64_MAX, INT64_C(4294967192)};
    struct iocp_port *port = port_open(0);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        struct call call;
        struct iocp_packet packet;
        call_init(&call);
        call_post(&call, port, keys[i], results[i]);
        CHECK(iocp_op_pending(&call.op));
        memset(&packet, 0xab, sizeof(packet));
        CHECK_EQ(iocp_port_wait(port, &packet, 1, IOCP_WAIT_FOREVER), 1);
        CHECK(packet.op == &call.op);
        CHECK(!packet.object);
        CHECK(packet.key == keys[i]);
        CHECK_EQ(packet.result, results[i]);
        CHECK_EQ(packet.os_error, 0);
        CHECK_EQ(packet.flags, 0);
        CHECK(!packet.buffer);
        iocp_packet_release(&packet);
        CHECK(!iocp_op_pending(&call.op));
        CHECK_EQ(call_answers(&call), 0); /* wait runs no handler */
    }
    port_end(port);
}

/* The key of a registration comes with each packet of its handle, the key of a post with the post,
 * also when the post has an owner with a key of its own. */
TEST(keys_of_objects)
{
    int pair[2];
    char byte;
    struct thing thing;
    struct call receive;
    struct call post;
    struct iocp_port *port = port_open(0);
    make_local_pair(pair);
    thing_open(&thing, port, pair[0], (uintptr_t)&thing);
    call_init(&receive);
    iocp_op_recv(&receive.op, &byte, 1);
    send_all(pair[1], "x", 1);
    CHECK_EQ(call_run(&receive, port, &thing.object), 1);
    CHECK(receive.packet.key == (uintptr_t)&thing);
    CHECK(receive.packet.object == &thing.object);

    call_init(&post);
    iocp_op_post(&post.op, 77, 5);
    CHECK_EQ(iocp_port_post(port, &thing.object, &post.op), 0);
    CHECK_EQ(call_wait(&post, port), 5);
    CHECK_EQ(post.packet.key, 77);
    CHECK(post.packet.object == &thing.object);
    thing_end(&thing, port);
    net_close(pair[1]);
    port_end(port);
}

#define FIFO_COUNT 3000

/* First in, first out, whatever the room of the waits; no wait gives more than its room. */
TEST(first_in_first_out_in_batches)
{
    static struct call calls[FIFO_COUNT];
    static struct iocp_packet packets[1024];
    const uint32_t rooms[] = {1, 7, 256, 1024, 2};
    int next = 0;
    struct iocp_port *port = port_open(0);
    for (int i = 0; i < FIFO_COUNT; i++) {
        call_init(&calls[i]);
        call_post(&calls[i], port, 0, i);
    }
    for (size_t turn = 0; next < FIFO_COUNT; turn++) {
        uint32_t room = rooms[turn % (sizeof(rooms) / sizeof(rooms[0]))];
        int count = iocp_port_wait(port, packets, room, 0);
        CHECK_GE(count, 1);
        CHECK_LE(count, room);
        for (int i = 0; i < count; i++) {
            CHECK_EQ(packets[i].result, next++);
            iocp_packet_release(&packets[i]);
        }
    }
    CHECK_EQ(iocp_port_wait(port, packets, 1, 0), IOCP_ETIMEDOUT);
    port_end(port);
}

static int dispatch_order;

static void check_order(const struct iocp_packet *packet)
{
    CHECK_EQ(packet->result, dispatch_order);
    dispatch_order++;
}

/* Dispatch keeps the order too, runs at most 256 handlers a call and says how many. */
TEST(dispatch_runs_in_order)
{
    static struct iocp_op ops[FIFO_COUNT];
    int sum = 0;
    struct iocp_port *port = port_open(0);
    for (int i = 0; i < FIFO_COUNT; i++) {
        iocp_op_init(&ops[i], check_order);
        iocp_op_post(&ops[i], 0, i);
        CHECK_EQ(iocp_port_post(port, NULL, &ops[i]), 0);
    }
    while (sum < FIFO_COUNT) {
        int ran = iocp_port_dispatch(port, 0);
        CHECK_GE(ran, 1);
        CHECK_LE(ran, 256);
        sum += ran;
        CHECK_EQ(dispatch_order, sum);
    }
    CHECK_EQ(iocp_port_dispatch(port, 0), IOCP_ETIMEDOUT);
    port_end(port);
}

static void complete(struct iocp_object *object, const struct iocp_packet *packet)
{
    struct thing *thing = (struct thing *)object;
    CHECK(packet->object == object);
    *(int64_t *)thing->context = packet->result;
}

static const struct iocp_object_class complete_class = {
    .name = "complete", .complete = complete, .destroy = NULL, .serial = 0};

/* An op without a handler is its owner's class's to handle (Q20). A class may have no destroy. */
TEST(class_completes_ops_without_handler)
{
    struct thing thing;
    struct iocp_op op;
    int64_t result = 0;
    struct iocp_port *port = port_open(0);
    thing_init(&thing);
    iocp_object_init(&thing.object, &complete_class);
    thing.context = &result;
    iocp_op_init(&op, NULL);
    iocp_op_post(&op, 0, 42);
    CHECK_EQ(iocp_port_post(port, &thing.object, &op), 0);
    CHECK_EQ(iocp_port_dispatch(port, IOCP_WAIT_FOREVER), 1);
    CHECK_EQ(result, 42);
    CHECK(!iocp_object_unref(&thing.object));
    port_end(port);
}

/* A wait with nothing to give ends with IOCP_ETIMEDOUT, and never early. */
TEST(timeouts_are_never_early)
{
    const uint64_t timeouts_ns[] = {0, 1, 1000, 3 * MILLISECOND, 30 * MILLISECOND};
    struct iocp_packet packet;
    struct iocp_port *port = port_open(0);
    for (size_t i = 0; i < sizeof(timeouts_ns) / sizeof(timeouts_ns[0]); i++) {
        uint64_t begin_ns = iocp_now_ns();
        CHECK_EQ(iocp_port_wait(port, &packet, 1, timeouts_ns[i]), IOCP_ETIMEDOUT);
        CHECK_GE(iocp_now_ns(), begin_ns + timeouts_ns[i]);
        begin_ns = iocp_now_ns();
        CHECK_EQ(iocp_port_dispatch(port, timeouts_ns[i]), IOCP_ETIMEDOUT);
        CHECK_GE(iocp_now_ns(), begin_ns + timeouts_ns[i]);
    }
    port_end(port);
}

/* Q12: the timeout is each waiter's own. One waits for ever, one 200 ms; that one comes back, not
 * early, while the other waits on, whoever of them came first. */
TEST(timeouts_among_waiters)
{
    for (int forever_first = 0; forever_first < 2; forever_first++) {
        struct waiter forever;
        struct waiter bounded;
        struct call call;
        struct iocp_port *port = port_open(2);
        if (forever_first)
            waiter_start(&forever, port, IOCP_WAIT_FOREVER, 0);
        waiter_start(&bounded, port, 200 * MILLISECOND, 0);
        if (!forever_first)
            waiter_start(&forever, port, IOCP_WAIT_FOREVER, 0);
        CHECK_EQ(waiter_join(&bounded), IOCP_ETIMEDOUT);
        CHECK_GE(bounded.after_ns, bounded.before_ns + 200 * MILLISECOND);
        CHECK_EQ(latch_count(&forever.done), 0);

        call_init(&call);
        call_post(&call, port, 0, 9);
        CHECK_EQ(waiter_join(&forever), 1);
        CHECK_EQ(forever.packet.result, 9);
        iocp_packet_release(&forever.packet);
        port_end(port);
    }
}

/* Eight waiters with timeouts of their own, none of them early, and none of them left behind. */
TEST(timeouts_of_many_waiters)
{
    struct waiter waiters[8];
    struct iocp_port *port = port_open(2);
    for (uint32_t i = 0; i < 8; i++)
        waiter_start(&waiters[i], port, (1 + i * 37 % 8) * 10 * MILLISECOND, i & 1);
    for (uint32_t i = 0; i < 8; i++) {
        CHECK_EQ(waiter_join(&waiters[i]), IOCP_ETIMEDOUT);
        CHECK_GE(waiters[i].after_ns, waiters[i].before_ns + waiters[i].timeout_ns);
    }
    port_end(port);
}

/* The end of the port: all that sleep come back with IOCP_ECLOSED, and every wait from now on does,
 * also when packets are left. These are dropped at the last unref, and their references given back.
 */
TEST(close_ends_every_wait)
{
    struct waiter waiters[3];
    struct iocp_packet packet;
    struct call left;
    struct call late;
    struct thing owner;
    struct iocp_port *port = port_open(2);
    waiter_start(&waiters[0], port, IOCP_WAIT_FOREVER, 0);
    waiter_start(&waiters[1], port, IOCP_WAIT_FOREVER, 1);
    waiter_start(&waiters[2], port, IOCP_WAIT_FOREVER, 0);
    iocp_port_close(port);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(waiter_join(&waiters[i]), IOCP_ECLOSED);
    CHECK_EQ(iocp_port_wait(port, &packet, 1, 0), IOCP_ECLOSED);
    CHECK_EQ(iocp_port_wait(port, &packet, 1, IOCP_WAIT_FOREVER), IOCP_ECLOSED);
    CHECK_EQ(iocp_port_dispatch(port, IOCP_WAIT_FOREVER), IOCP_ECLOSED);
    iocp_port_close(port);
    call_init(&late);
    iocp_op_post(&late.op, 0, 0);
    CHECK_EQ(iocp_port_post(port, NULL, &late.op), IOCP_ECLOSED);
    port_end(port);

    port = port_open(2);
    thing_init(&owner);
    call_init(&left);
    iocp_op_post(&left.op, 0, 0);
    CHECK_EQ(iocp_port_post(port, &owner.object, &left.op), 0);
    iocp_object_unref(&owner.object);
    CHECK_EQ(thing_destroyed(&owner), 0);
    iocp_port_close(port);
    CHECK_EQ(iocp_port_wait(port, &packet, 1, 0), IOCP_ECLOSED);
    CHECK_EQ(iocp_port_dispatch(port, 0), IOCP_ECLOSED);
    port_end(port);
    CHECK_EQ(call_answers(&left), 0);
    CHECK_EQ(thing_destroyed(&owner), 1);
}

/* A wake reaches all that wait now, and is not kept for those that come later. */
TEST(wake_ends_the_waits_of_now)
{
    struct waiter waiters[3];
    struct iocp_packet packet;
    struct iocp_port *port = port_open(1);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 3; i++)
            waiter_start(&waiters[i], port, IOCP_WAIT_FOREVER, i & 1);
        iocp_port_wake(port);
        for (int i = 0; i < 3; i++)
            CHECK_EQ(waiter_join(&waiters[i]), IOCP_EWOKEN);
        CHECK_EQ(iocp_port_wait(port, &packet, 1, 0), IOCP_ETIMEDOUT);
        iocp_port_wake(port);
        CHECK_EQ(iocp_port_wait(port, &packet, 1, MILLISECOND), IOCP_ETIMEDOUT);
    }
    port_end(port);
}

/* S1: nothing yet, the end of the stream, a failure, a legal 0 and the end of the port are five
 * different answers. */
TEST(five_answers)
{
    int reset[2];
    int ended[2];
    char byte;
    struct thing things[2];
    struct call call;
    struct iocp_packet packet;
    struct iocp_port *port = port_open(0);
    make_connected_pair(reset);
    make_connected_pair(ended);
    thing_open(&things[0], port, reset[0], 0);
    thing_open(&things[1], port, ended[0], 0);
    call_init(&call);

    CHECK_EQ(iocp_port_wait(port, &packet, 1, MILLISECOND), IOCP_ETIMEDOUT);

    net_shutdown_send(ended[1]);
    iocp_op_recv(&call.op, &byte, 0);
    CHECK_EQ(call_run(&call, port, &things[1].object), 0);
    CHECK_EQ(call.packet.os_error, 0);
    iocp_op_recv(&call.op, &byte, 1);
    CHECK_EQ(call_run(&call, port, &things[1].object), IOCP_EEOF);
    CHECK_EQ(call.packet.os_error, 0);

    iocp_op_recv(&call.op, &byte, 1);
    call_submit(&call, port, &things[0].object);
    port_dispatch_for(port, MILLISECOND);
    net_reset(reset[1]);
    CHECK_EQ(call_wait(&call, port), IOCP_ECONNRESET);
    CHECK_EQ(iocp_error_from_os(call.packet.os_error), IOCP_ECONNRESET);

    thing_end(&things[0], port);
    thing_end(&things[1], port);
    net_close(ended[1]);
    iocp_port_close(port);
    CHECK_EQ(iocp_port_wait(port, &packet, 1, MILLISECOND), IOCP_ECLOSED);
    port_end(port);
}

/* Who finds a packet takes it at once, also when others have waited for longer. Of two packets the
 * sleeper takes one at most: the other one is there for whoever asks. */
TEST(a_packet_is_taken_at_once)
{
    struct iocp_port *port = port_open(2);
    for (int round = 0; round < 50; round++) {
        struct waiter waiter;
        struct call calls[2];
        struct iocp_packet packet;
        waiter_start(&waiter, port, IOCP_WAIT_FOREVER, 0);
        for (int i = 0; i < 2; i++) {
            call_init(&calls[i]);
            call_post(&calls[i], port, 0, 1 + i);
        }
        CHECK_EQ(iocp_port_wait(port, &packet, 1, 0), 1);
        CHECK_EQ(waiter_join(&waiter), 1);
        CHECK_EQ(packet.result + waiter.packet.result, 3);
        iocp_packet_release(&packet);
        iocp_packet_release(&waiter.packet);
        CHECK_EQ(iocp_port_wait(port, &packet, 1, 0), IOCP_ETIMEDOUT);
    }
    port_end(port);
}

static void free_op(const struct iocp_packet *packet)
{
    free(packet->op);
}

static void post_again(const struct iocp_packet *packet)
{
    struct iocp_port *port = packet->op->context;
    if (packet->result == 0)
        return;
    iocp_op_post(packet->op, 0, packet->result - 1);
    CHECK_EQ(iocp_port_post(port, NULL, packet->op), 0);
}

/* In the handler of its last answer an op is its owner's again: it may be freed or used anew (Q9).
 */
TEST(an_op_is_free_in_its_last_handler)
{
    struct iocp_op op;
    struct iocp_port *port = port_open(0);
    for (int i = 0; i < 100; i++) {
        struct iocp_op *once = malloc(sizeof(*once));
        iocp_op_init(once, free_op);
        iocp_op_post(once, 0, i);
        CHECK_EQ(iocp_port_post(port, NULL, once), 0);
    }
    pump_drain(port);
    iocp_op_init(&op, post_again);
    op.context = port;
    iocp_op_post(&op, 0, 1000);
    CHECK_EQ(iocp_port_post(port, NULL, &op), 0);
    int sum = 0;
    while (sum < 1001) {
        int ran = iocp_port_dispatch(port, 0);
        CHECK_GE(ran, 1);
        sum += ran;
    }
    CHECK_EQ(iocp_port_dispatch(port, 0), IOCP_ETIMEDOUT);
    CHECK(!iocp_op_pending(&op));
    port_end(port);
}

/* The counters are exact. */
TEST(stats_are_exact)
{
    int pair[2];
    char byte;
    struct thing thing;
    struct call receive;
    struct call timer;
    struct call posts[5];
    struct iocp_port_stats stats;
    struct iocp_port *port = port_open(2);
    iocp_port_stats(port, &stats);
    CHECK_EQ(stats.packets + stats.submits + stats.posts + stats.cancels + stats.objects, 0);
    make_local_pair(pair);
    thing_open(&thing, port, pair[0], 0);
    for (int i = 0; i < 5; i++) {
        call_init(&posts[i]);
        call_post(&posts[i], port, 0, i);
    }
    call_init(&receive);
    iocp_op_recv(&receive.op, &byte, 1);
    call_submit(&receive, port, &thing.object);
    call_init(&timer);
    iocp_op_timer(&timer.op, 3600 * 1000 * MILLISECOND, 0);
    call_submit(&timer, port, NULL);
    CHECK_EQ(iocp_port_cancel(port, &timer.op), 0);
    CHECK_EQ(call_wait(&timer, port), IOCP_ECANCELED);
    CHECK_EQ(iocp_port_cancel(port, &timer.op), IOCP_ENOTFOUND);
    pump_drain(port);
    iocp_port_stats(port, &stats);
    CHECK_EQ(stats.posts, 5);
    CHECK_EQ(stats.submits, 7);
    CHECK_EQ(stats.cancels, 1);
    CHECK_EQ(stats.packets, 6);
    CHECK_EQ(stats.objects, 1);
    CHECK_EQ(stats.workers, 1);
    CHECK_GE(stats.lanes, 1);
    CHECK_LE(stats.running_max, 2);
    thing_end(&thing, port);
    iocp_port_stats(port, &stats);
    CHECK_EQ(stats.packets, 7);
    CHECK_EQ(stats.objects, 0);
    net_close(pair[1]);
    port_end(port);
}
