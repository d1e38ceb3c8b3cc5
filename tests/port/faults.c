/* Faults: memory and descriptors that are not there, and the end of a port in the middle of
 * everything. */
#include "support/port.h"

#include <iocp/error.h>
#include <iocp/workers.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Memory: the n-th allocation fails, for each n, until none does. */

static uint64_t allocations; /* atomic */

static void *count_allocate(void *context, size_t size)
{
    (void)context;
    /* Relaxed: a count. */
    __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
    return malloc(size);
}

static void count_release(void *context, void *memory, size_t size)
{
    (void)context;
    (void)size;
    free(memory);
}

/* One of each, with what it needs. */
struct cycle {
    struct iocp_port *port;
    struct thing thing;
    struct thing listener;
    struct iocp_address address;
    int peer;
    int client;
    struct call stream;
    struct call send;
    struct call accepts;
    struct call timer;
    struct call post;
};

/* Dispatches, where a record of the thread may be what there is no memory for. */
static void cycle_dispatch(struct cycle *cycle, uint64_t timeout_ns)
{
    int ran = iocp_port_dispatch(cycle->port, timeout_ns);
    if (ran != IOCP_ETIMEDOUT && ran != IOCP_ENOMEM && ran != IOCP_EWOKEN)
        CHECK_OK(ran);
}

static void cycle_until(struct cycle *cycle, const struct call *call)
{
    uint64_t deadline_ns = iocp_now_ns() + NET_WAIT_LIMIT_S * 1000 * MILLISECOND;
    while (call_finals(call) == 0) {
        cycle_dispatch(cycle, 10 * MILLISECOND);
        CHECK_LT(iocp_now_ns(), deadline_ns);
    }
}

static void cycle_submit(struct cycle *cycle)
{
    struct call *calls[] = {&cycle->stream, &cycle->send, &cycle->accepts, &cycle->timer,
                            &cycle->post};
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
        call_init(calls[i]);
    iocp_op_recv_stream(&cycle->stream.op);
    call_submit(&cycle->stream, cycle->port, &cycle->thing.object);
    iocp_op_send(&cycle->send.op, "hello", 5);
    call_submit(&cycle->send, cycle->port, &cycle->thing.object);
    iocp_op_accept_stream(&cycle->accepts.op);
    call_submit(&cycle->accepts, cycle->port, &cycle->listener.object);
    iocp_op_timer(&cycle->timer.op, 0, 0);
    call_submit(&cycle->timer, cycle->port, NULL);
    call_post(&cycle->post, cycle->port, 0, 0);
}

static void cycle_handles(struct cycle *cycle)
{
    int pair[2];
    struct iocp_address address = net_loopback();
    make_local_pair(pair);
    cycle->peer = pair[1];
    thing_init(&cycle->thing);
    thing_init(&cycle->listener);
    CHECK_EQ(iocp_port_register(cycle->port, &cycle->thing.object, pair[0], 0), 0);
    CHECK_EQ(iocp_port_register(cycle->port, &cycle->listener.object,
                                net_listen(&address, &cycle->address), 0),
             0);
}

/* Answers of a stream may be refused for want of memory, or connections closed: what is asked
 * here is that every op is answered once, and that all ends. */
static void cycle_run(struct cycle *cycle)
{
    cycle_handles(cycle);
    cycle_submit(cycle);
    send_all(cycle->peer, "world", 5);
    cycle->client = net_connect(&cycle->address);
    cycle_until(cycle, &cycle->timer);
    cycle_until(cycle, &cycle->post);
    cycle_until(cycle, &cycle->send);
    for (int i = 0; i < 3; i++)
        cycle_dispatch(cycle, MILLISECOND / 2);
    if (cycle->accepts.packet.result >= 0 && call_answers(&cycle->accepts))
        net_close((int)cycle->accepts.packet.result);
    iocp_object_close(&cycle->thing.object);
    iocp_object_close(&cycle->listener.object);
    iocp_object_unref(&cycle->thing.object);
    iocp_object_unref(&cycle->listener.object);
    cycle_until(cycle, &cycle->stream);
    cycle_until(cycle, &cycle->accepts);
    net_close(cycle->client);
    net_close(cycle->peer);
}

/* Returns 0 when there was no memory for the port. */
static int cycle_begin(struct cycle *cycle)
{
    struct iocp_port_config config;
    memset(cycle, 0, sizeof(*cycle));
    port_config(&config, 2);
    int error = iocp_port_create(&config, &cycle->port);
    if (error == IOCP_ENOMEM) {
        CHECK(!cycle->port);
        CHECK_EQ(iocp_memory_count(), 0);
        return 0;
    }
    CHECK_EQ(error, 0);
    return 1;
}

static void cycle_all(void)
{
    static struct cycle cycle;
    if (!cycle_begin(&cycle))
        return;
    cycle_run(&cycle);
    CHECK(!iocp_port_unref(cycle.port));
    CHECK_EQ(thing_destroyed(&cycle.thing), 1);
    CHECK_EQ(thing_destroyed(&cycle.listener), 1);
}

static void use_counting_allocator(void)
{
    struct iocp_allocator allocator = {count_allocate, count_release, NULL};
    CHECK_EQ(iocp_allocator_set(&allocator), 0);
}

/* From the creation of a port to its end, through every kind of op: one allocation fails, and
 * everything that was made is given back. */
TEST(each_allocation_fails_once)
{
    use_counting_allocator();
    cycle_all();
    CHECK_EQ(iocp_memory_count(), 0);
    uint64_t count = allocations;
    CHECK_GT(count, 0);
    printf("%llu allocations\n", (unsigned long long)count);
    /* A few more: another order of events may need more. */
    for (uint64_t nth = 1; nth <= count + 3; nth++) {
        iocp_memory_fail(nth, 0);
        cycle_all();
        iocp_memory_fail(0, 0);
        CHECK_EQ(iocp_memory_count(), 0);
    }
}

/* From the n-th on all of them fail: the port still ends, whatever it got to. */
TEST(all_allocations_fail_from_one_on)
{
    use_counting_allocator();
    for (uint64_t nth = 1; nth <= 30; nth++) {
        static struct cycle cycle;
        iocp_memory_fail(nth, 1);
        if (cycle_begin(&cycle)) {
            cycle_handles(&cycle);
            cycle_submit(&cycle);
            send_all(cycle.peer, "world", 5);
            cycle.client = net_connect(&cycle.address);
            for (int i = 0; i < 5; i++)
                cycle_dispatch(&cycle, MILLISECOND / 5);
            if (cycle.accepts.packet.result >= 0 && call_answers(&cycle.accepts))
                net_close((int)cycle.accepts.packet.result);
            iocp_object_unref(&cycle.thing.object);
            iocp_object_unref(&cycle.listener.object);
            CHECK(!iocp_port_unref(cycle.port));
            CHECK_EQ(thing_destroyed(&cycle.thing), 1);
            CHECK_EQ(thing_destroyed(&cycle.listener), 1);
            expect_gone(cycle.peer);
            net_close(cycle.client);
            net_close(cycle.peer);
        }
        iocp_memory_fail(0, 0);
        CHECK_EQ(iocp_memory_count(), 0);
    }
}

/* A pool of workers is launched whole or not at all; one without memory for its records waits
 * for some. */
TEST(workers_without_memory)
{
    for (uint64_t nth = 1; nth <= 8; nth++) {
        struct iocp_workers *workers = NULL;
        struct iocp_workers_config config = {.count = 3};
        struct call call;
        struct latch answered = LATCH_INIT;
        struct iocp_port *port = port_open(2);
        iocp_memory_fail(nth, 0);
        int error = iocp_workers_launch(port, &config, &workers);
        if (error < 0) {
            CHECK_EQ(error, IOCP_ENOMEM);
            CHECK(!workers);
        } else {
            call_init(&call);
            call.latch = &answered;
            call_post(&call, port, 0, 0);
            latch_wait_for(&answered, 1);
            iocp_workers_stop(workers);
            CHECK_EQ(iocp_workers_join(workers), 0);
        }
        iocp_memory_fail(0, 0);
        port_end(port);
    }
}

/* Posting, submitting and canceling allocate nothing: they work when there is no memory at all. */
TEST(nothing_is_allocated_per_op)
{
    int pair[2];
    char byte;
    struct thing thing;
    struct call call;
    struct iocp_port *port = port_open(0);
    make_local_pair(pair);
    thing_open(&thing, port, pair[0], 0);
    call_init(&call);
    for (int round = 0; round < 20; round++) {
        /* Once with memory, so that what lives as long as the port is there. */
        if (round == 1)
            iocp_memory_fail(1, 1);
        call_post(&call, port, 0, round);
        CHECK_EQ(call_wait(&call, port), round);
        iocp_op_timer(&call.op, round & 1 ? 0 : 3600 * 1000 * MILLISECOND, 0);
        call_submit(&call, port, NULL);
        if (!(round & 1))
            CHECK_EQ(iocp_port_cancel(port, &call.op), 0);
        CHECK_EQ(call_wait(&call, port), round & 1 ? 0 : IOCP_ECANCELED);
        iocp_op_send(&call.op, "x", 1);
        CHECK_EQ(call_run(&call, port, &thing.object), 1);
        expect_bytes(pair[1], "x", 1);
        iocp_op_recv(&call.op, &byte, 1);
        call_submit(&call, port, &thing.object);
        send_all(pair[1], "y", 1);
        CHECK_EQ(call_wait(&call, port), 1);
        iocp_op_recv(&call.op, &byte, 1);
        call_submit(&call, port, &thing.object);
        CHECK_EQ(iocp_port_cancel(port, &call.op), 0);
        CHECK_EQ(call_wait(&call, port), IOCP_ECANCELED);
    }
    iocp_memory_fail(0, 0);
    thing_end(&thing, port);
    net_close(pair[1]);
    port_end(port);
}

/* ---- Descriptors. */

/* A port for which there are not enough descriptors says so, whichever of them is missing, and
 * leaves none open. */
TEST(create_without_descriptors)
{
    struct iocp_port_config config;
    int refused = 0;
    port_config(&config, 2);
    for (uint32_t spare = 0; spare < 16; spare++) {
        struct iocp_port *port = NULL;
        system_lower_limit(spare);
        int error = iocp_port_create(&config, &port);
        system_restore_limit();
        if (error < 0) {
            CHECK_EQ(error, IOCP_EMFILE);
            CHECK(!port);
            CHECK_EQ(iocp_memory_count(), 0);
            refused++;
        } else {
            port_end(port);
        }
    }
    CHECK_GE(refused, 1);
    CHECK_LT(refused, 16);
}

/* Workers for which there is no lane because there are no descriptors work all the same. */
TEST(work_without_descriptors)
{
    int pair[2];
    char byte = 0;
    struct thing thing;
    struct pump pump;
    struct call receive;
    struct call posts[20];
    struct latch answered = LATCH_INIT;
    struct iocp_port *port = port_open(4);
    make_local_pair(pair);
    thing_open(&thing, port, pair[0], 0);
    system_lower_limit(0);
    pump_start(&pump, port, 4);
    call_init(&receive);
    receive.latch = &answered;
    iocp_op_recv(&receive.op, &byte, 1);
    call_submit(&receive, port, &thing.object);
    send_all(pair[1], "x", 1);
    for (int i = 0; i < 20; i++) {
        call_init(&posts[i]);
        posts[i].latch = &answered;
        call_post(&posts[i], port, 0, i);
    }
    latch_wait_for(&answered, 21);
    CHECK_EQ(receive.packet.result, 1);
    pump_stop(&pump);
    system_restore_limit();
    thing_end(&thing, port);
    net_close(pair[1]);
    port_end(port);
}

struct rescue {
    struct call stuck;
    struct call helper;
    struct latch begun;
    struct latch helped;
    struct latch answered;
};

static void rescue_stuck(const struct iocp_packet *packet)
{
    struct rescue *rescue = packet->op->context;
    latch_add(&rescue->begun, 1);
    latch_wait_for(&rescue->helped, 1);
    call_answered(packet);
}

static void rescue_helper(const struct iocp_packet *packet)
{
    struct rescue *rescue = packet->op->context;
    latch_add(&rescue->helped, 1);
    call_answered(packet);
}

/* A handler that blocks undeclared is noticed when no file can be opened to look at its thread. */
TEST(blocked_without_descriptors)
{
    static struct rescue rescue;
    struct pump pump;
    struct iocp_port *port = port_open(1);
    latch_init(&rescue.begun);
    latch_init(&rescue.helped);
    latch_init(&rescue.answered);
    call_init(&rescue.stuck);
    call_init(&rescue.helper);
    rescue.stuck.op.handler = rescue_stuck;
    rescue.helper.op.handler = rescue_helper;
    rescue.stuck.op.context = &rescue;
    rescue.helper.op.context = &rescue;
    rescue.stuck.latch = &rescue.answered;
    rescue.helper.latch = &rescue.answered;
    pump_start(&pump, port, 2);
    system_lower_limit(0);
    call_post(&rescue.stuck, port, 0, 0);
    latch_wait_for(&rescue.begun, 1);
    call_post(&rescue.helper, port, 0, 0);
    latch_wait_for(&rescue.answered, 2);
    system_restore_limit();
    pump_stop(&pump);
    port_end(port);
}

/* ---- Completions: more at once than a queue of the kernel has room for. */

#define BURST 10000

/* Reads of what is in memory are finished as they are given to the kernel. All are given before the
 * first is fetched, and a ring has room for 4,096: the kernel keeps the others. */
TEST(more_completions_than_a_ring_holds)
{
    static struct call calls[BURST];
    static char bytes[BURST];
    struct latch answered = LATCH_INIT;
    struct thing thing;
    struct iocp_port *port = port_open(1);
    thing_open(&thing, port, system_file_to_read("0123456789"), 0);
    for (int i = 0; i < BURST; i++) {
        call_init(&calls[i]);
        calls[i].latch = &answered;
        iocp_op_read(&calls[i].op, &bytes[i], 1, (uint64_t)(i % 10));
        call_submit(&calls[i], port, &thing.object);
    }
    pump_until_latch(port, &answered, BURST);
    for (int i = 0; i < BURST; i++) {
        CHECK_EQ(call_finals(&calls[i]), 1);
        CHECK_EQ(calls[i].packet.result, 1);
        CHECK_EQ(bytes[i], '0' + i % 10);
    }
    thing_end(&thing, port);
    port_end(port);
}

/* ---- The end of a port in the middle of everything. */

struct wreck {
    struct iocp_port *port;
    struct thing things[4];
    struct call calls[9];
    int peers[4];
    char data[16];
};

static void wreck_open(struct wreck *wreck)
{
    static char large[4u << 20];
    struct iocp_address address = net_loopback();
    memset(wreck, 0, sizeof(*wreck));
    wreck->port = port_open(2);
    for (int i = 0; i < 3; i++) {
        int pair[2];
        make_connected_pair(pair);
        thing_open(&wreck->things[i], wreck->port, pair[0], 0);
        wreck->peers[i] = pair[1];
    }
    thing_open(&wreck->things[3], wreck->port, net_listen(&address, &address), 0);
    wreck->peers[3] = net_connect(&address);
    for (int i = 0; i < 9; i++)
        call_init(&wreck->calls[i]);
    iocp_op_recv(&wreck->calls[0].op, wreck->data, 8);
    iocp_op_recv(&wreck->calls[1].op, wreck->data + 8, 8);
    iocp_op_send(&wreck->calls[2].op, large, sizeof(large));
    iocp_op_recv_stream(&wreck->calls[3].op);
    iocp_op_poll(&wreck->calls[4].op, IOCP_POLL_READ);
    iocp_op_accept_stream(&wreck->calls[5].op);
    iocp_op_timer(&wreck->calls[6].op, 3600 * 1000 * MILLISECOND, 0);
    iocp_op_timer(&wreck->calls[7].op, 0, 0);
    iocp_op_post(&wreck->calls[8].op, 0, 0);
    const int owners[] = {0, 0, 0, 1, 2, 3, 0, 1};
    for (int i = 0; i < 8; i++)
        call_submit(&wreck->calls[i], wreck->port, &wreck->things[owners[i]].object);
    CHECK_EQ(iocp_port_post(wreck->port, &wreck->things[2].object, &wreck->calls[8].op), 0);
    send_all(wreck->peers[1], "hello", 5);
}

static void wreck_end(struct wreck *wreck)
{
    for (int i = 0; i < 4; i++) {
        iocp_object_unref(&wreck->things[i].object);
        CHECK_EQ(thing_destroyed(&wreck->things[i]), 0);
    }
    port_end(wreck->port);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(thing_destroyed(&wreck->things[i]), 1);
        if (i < 3)
            expect_gone(wreck->peers[i]);
        net_close(wreck->peers[i]);
    }
    for (int i = 0; i < 9; i++)
        CHECK(!iocp_op_pending(&wreck->calls[i].op));
}

/* The last unref drops all that is pending, queued or answered: no handler runs, every reference
 * is given back, every handle is closed. Nobody had dispatched yet. */
TEST(unref_before_any_dispatch)
{
    struct wreck wreck;
    wreck_open(&wreck);
    wreck_end(&wreck);
    for (int i = 0; i < 9; i++)
        CHECK_EQ(call_answers(&wreck.calls[i]), 0);
}

/* The same with everything in the kernel, and packets on their way. */
TEST(unref_with_ops_in_the_kernel)
{
    struct wreck wreck;
    struct iocp_packet packet;
    wreck_open(&wreck);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(iocp_port_wait(wreck.port, &packet, 1, 1000 * MILLISECOND), 1);
        if (packet.op == &wreck.calls[5].op)
            net_close((int)packet.result); /* accepted, and ours */
        iocp_packet_release(&packet);
    }
    /* Sockets that are closed with data unread are reset, and handles that nobody took are
     * closed. */
    send_all(wreck.peers[0], "more", 4);
    wreck_end(&wreck);
    for (int i = 0; i < 9; i++)
        CHECK_EQ(call_answers(&wreck.calls[i]), 0);
}

/* The same after workers have come and gone, who held lanes and left them. */
TEST(unref_after_workers)
{
    struct wreck wreck;
    struct crew crew;
    uint32_t answers[9];
    struct iocp_port *port;
    wreck_open(&wreck);
    port = wreck.port;
    /* Not through crew_start's sleep: there is work. */
    CHECK_GE(iocp_port_dispatch(port, 1000 * MILLISECOND), 1);
    pump_drain(port);
    crew_start(&crew, port, 3);
    crew_stop(&crew);
    for (int i = 0; i < 9; i++)
        answers[i] = call_answers(&wreck.calls[i]);
    if (answers[5])
        net_close((int)wreck.calls[5].packet.result);
    wreck_end(&wreck);
    for (int i = 0; i < 9; i++)
        CHECK_EQ(call_answers(&wreck.calls[i]), answers[i]);
}

/* Connections that were accepted and that nobody took are closed with the port. */
TEST(unref_closes_accepted_connections)
{
    int clients[5];
    struct thing thing;
    struct call call;
    struct iocp_packet packet;
    struct iocp_address address = net_loopback();
    struct iocp_port *port = port_open(1);
    thing_open(&thing, port, net_listen(&address, &address), 0);
    call_init(&call);
    iocp_op_accept_stream(&call.op);
    call_submit(&call, port, &thing.object);
    for (int i = 0; i < 5; i++)
        clients[i] = net_connect(&address);
    CHECK_EQ(iocp_port_wait(port, &packet, 1, 10000 * MILLISECOND), 1);
    CHECK_GE(packet.result, 0);
    net_close((int)packet.result);
    iocp_packet_release(&packet);
    iocp_object_unref(&thing.object);
    port_end(port);
    CHECK_EQ(thing_destroyed(&thing), 1);
    for (int i = 0; i < 5; i++) {
        expect_gone(clients[i]);
        net_close(clients[i]);
    }
}
