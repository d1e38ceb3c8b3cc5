/* Closing objects, and how long they live: all ops answered, then the handle closed, then
 * destroyed, once (Q15, S2, S7, S9). */
#include "support/port.h"

#include <iocp/error.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGE (4u << 20)

/* Everything that an object can have pending ends, answered once; then its handle is closed, for
 * real. */
TEST(close_cancels_all)
{
    static char large[LARGE];
    enum { RECEIVES = 3, ALL = RECEIVES + 4 };
    int pair[2];
    char data[RECEIVES][4];
    struct thing thing;
    struct call calls[ALL];
    struct iocp_port *port = port_open(0);
    make_connected_pair(pair);
    thing_open(&thing, port, pair[0], 0);
    for (int i = 0; i < ALL; i++)
        call_init(&calls[i]);
    for (int i = 0; i < RECEIVES; i++)
        iocp_op_recv(&calls[i].op, data[i], 4);
    iocp_op_send(&calls[RECEIVES].op, large, LARGE);
    iocp_op_send(&calls[RECEIVES + 1].op, "x", 1);
    iocp_op_disconnect(&calls[RECEIVES + 2].op);
    iocp_op_poll(&calls[RECEIVES + 3].op, IOCP_POLL_READ);
    for (int i = 0; i < ALL; i++)
        call_submit(&calls[i], port, &thing.object);
    port_dispatch_for(port, MILLISECOND);
    CHECK(system_is_open(pair[0]));
    iocp_object_close(&thing.object);
    for (int i = 0; i < ALL; i++)
        CHECK_EQ(call_wait(&calls[i], port), IOCP_ECANCELED);
    CHECK_EQ(thing_destroyed(&thing), 0);
    iocp_object_unref(&thing.object);
    thing_wait_gone(&thing, port);
    CHECK(!system_is_open(pair[0]));
    expect_gone(pair[1]);
    net_close(pair[1]);
    port_end(port);
}

/* An object closed at once after its registration, before anybody dispatches. */
TEST(close_at_once)
{
    int pair[2];
    char byte;
    struct thing thing;
    struct call call;
    struct iocp_port *port = port_open(0);
    make_local_pair(pair);
    thing_open(&thing, port, pair[0], 0);
    call_init(&call);
    iocp_op_recv(&call.op, &byte, 1);
    call_submit(&call, port, &thing.object);
    thing_end(&thing, port);
    CHECK_EQ(call_finals(&call), 1);
    CHECK(call.packet.result == IOCP_ECANCELED || call.packet.result == IOCP_ECLOSED);
    CHECK(!system_is_open(pair[0]));
    expect_eof(pair[1]);
    net_close(pair[1]);
    port_end(port);
}

/* The port holds its reference until the object is closed, the test none at all: the object lives.
 */
TEST(registered_objects_live)
{
    int pair[2];
    char byte = 0;
    struct thing thing;
    struct call call;
    struct iocp_port *port = port_open(0);
    make_local_pair(pair);
    thing_open(&thing, port, pair[0], 0);
    iocp_object_unref(&thing.object);
    port_dispatch_for(port, MILLISECOND);
    CHECK_EQ(thing_destroyed(&thing), 0);
    call_init(&call);
    iocp_op_recv(&call.op, &byte, 1);
    send_all(pair[1], "x", 1);
    CHECK_EQ(call_run(&call, port, &thing.object), 1);
    iocp_object_close(&thing.object);
    thing_wait_gone(&thing, port);
    expect_eof(pair[1]);
    net_close(pair[1]);
    port_end(port);
}

static void *close_run(void *argument)
{
    iocp_object_close(argument);
    return NULL;
}

/* Four threads close at the same time, twice: once is what happens. */
TEST(close_from_many_threads)
{
    for (int round = 0; round < 50; round++) {
        int pair[2];
        struct thing thing;
        struct call call;
        pthread_t threads[4];
        struct iocp_port *port = port_open(0);
        make_local_pair(pair);
        thing_open(&thing, port, pair[0], 0);
        call_init(&call);
        iocp_op_recv_stream(&call.op);
        call_submit(&call, port, &thing.object);
        for (int i = 0; i < 4; i++)
            CHECK_EQ(pthread_create(&threads[i], NULL, close_run, &thing.object), 0);
        CHECK_EQ(call_wait(&call, port), IOCP_ECANCELED);
        for (int i = 0; i < 4; i++)
            CHECK_EQ(pthread_join(threads[i], NULL), 0);
        iocp_object_close(&thing.object);
        thing_end(&thing, port);
        CHECK_EQ(call_answers(&call), 1);
        expect_eof(pair[1]);
        net_close(pair[1]);
        port_end(port);
    }
}

/* ---- The value of a handle, used again. */

#define VALUES 1000

/* A connection with a receive of either kind. */
struct tenant {
    struct iocp_object object; /* first */
    struct call call;
    struct latch answered;
    struct latch gone;
    int peer;
    char byte;
};

/* Its handle is closed by now. */
static void tenant_destroy(struct iocp_object *object)
{
    latch_add(&((struct tenant *)object)->gone, 1);
}

/* Serial, so that the last answer of a stream is the last. */
static const struct iocp_object_class tenant_class = {
    .name = "tenant", .complete = NULL, .destroy = tenant_destroy, .serial = 1};

struct house {
    struct iocp_port *port;
    struct iocp_address address;
    int listening;
};

/* Returns the value of its handle: that of the one that was closed last, as a rule. */
static int tenant_move_in(struct tenant *tenant, struct house *house, int stream)
{
    int value = net_connect(&house->address);
    tenant->peer = net_accept(house->listening);
    latch_init(&tenant->answered);
    latch_init(&tenant->gone);
    call_init(&tenant->call);
    tenant->call.latch = &tenant->answered;
    iocp_object_init(&tenant->object, &tenant_class);
    CHECK_EQ(iocp_port_register(house->port, &tenant->object, value, 0), 0);
    if (stream)
        iocp_op_recv_stream(&tenant->call.op);
    else
        iocp_op_recv(&tenant->call.op, &tenant->byte, 1);
    call_submit(&tenant->call, house->port, &tenant->object);
    return value;
}

static void tenant_move_out(struct tenant *tenant)
{
    iocp_object_close(&tenant->object);
    iocp_object_unref(&tenant->object);
    latch_wait_for(&tenant->gone, 1);
    CHECK_EQ(call_finals(&tenant->call), 1);
}

/* A handle goes with its receive pending, or with a byte on the way, and the next one has its value
 * at once: it never sees an answer that was the old one's. */
TEST(a_value_used_again_sees_no_old_answer)
{
    static struct tenant old;
    static struct tenant new;
    struct house house = {.port = port_open(2), .address = net_loopback()};
    struct crew crew;
    int again = 0;
    house.listening = net_listen(&house.address, &house.address);
    crew_start(&crew, house.port, 2);
    for (int i = 0; i < VALUES; i++) {
        int value = tenant_move_in(&old, &house, i & 1);
        if (i % 3 == 0)
            send_all(old.peer, "o", 1);
        tenant_move_out(&old);
        again += tenant_move_in(&new, &house, 0) == value;
        if (i % 3 != 0)
            CHECK(old.call.packet.result == IOCP_ECANCELED ||
                  old.call.packet.result == IOCP_ECLOSED);
        send_all(new.peer, "n", 1);
        latch_wait_for(&new.answered, 1);
        CHECK_EQ(new.call.packet.result, 1);
        CHECK_EQ(new.byte, 'n');
        CHECK_EQ(call_answers(&new.call), 1);
        net_close(old.peer);
        tenant_move_out(&new);
        net_close(new.peer);
    }
    printf("%d of %d had the value of the one before\n", again, VALUES);
    CHECK_GT(again, 0);
    crew_stop(&crew);
    net_close(house.listening);
    port_end(house.port);
}

/* ---- Objects on the heap, which a sanitizer sees freed. */

struct person {
    struct iocp_object object; /* first */
    struct iocp_op receive;
    struct iocp_op send;
    struct iocp_op timer;
    struct latch *destroyed;
    uint32_t touched; /* atomic */
    char byte;
};

static void person_destroy(struct iocp_object *object)
{
    struct person *person = (struct person *)object;
    CHECK(!iocp_op_pending(&person->receive));
    CHECK(!iocp_op_pending(&person->send));
    CHECK(!iocp_op_pending(&person->timer));
    latch_add(person->destroyed, 1);
    memset(person, 0xdd, sizeof(*person));
    free(person);
}

static const struct iocp_object_class person_class = {
    .name = "person", .complete = NULL, .destroy = person_destroy, .serial = 0};
static const struct iocp_object_class person_serial_class = {
    .name = "person", .complete = NULL, .destroy = person_destroy, .serial = 1};

static void person_timed(const struct iocp_packet *packet)
{
    (void)packet;
}

/* Closes from its own handler and gives the only reference back there: it is still there until the
 * handler has returned. */
static void person_received(const struct iocp_packet *packet)
{
    struct person *person = (struct person *)packet->object;
    if (packet->flags & IOCP_PACKET_MORE && packet->result < 1)
        FAIL("an answer of a stream without a byte");
    iocp_object_close(&person->object);
    if (!(packet->flags & IOCP_PACKET_MORE))
        iocp_object_unref(&person->object);
    /* Relaxed: only that the memory is there counts. */
    __atomic_store_n(&person->touched, 1, __ATOMIC_RELAXED);
}

static void person_sent(const struct iocp_packet *packet)
{
    struct person *person = (struct person *)packet->object;
    if (packet->result < 0)
        CHECK_EQ(packet->result == IOCP_ECLOSED ? IOCP_ECANCELED : packet->result, IOCP_ECANCELED);
    __atomic_store_n(&person->touched, 1, __ATOMIC_RELAXED);
}

static struct person *person_create(struct iocp_port *port, int fd, struct latch *destroyed,
                                    int serial)
{
    struct person *person = calloc(1, sizeof(*person));
    CHECK(person);
    iocp_object_init(&person->object, serial ? &person_serial_class : &person_class);
    person->destroyed = destroyed;
    iocp_op_init(&person->receive, person_received);
    iocp_op_init(&person->send, person_sent);
    iocp_op_init(&person->timer, person_timed);
    CHECK_EQ(iocp_port_register(port, &person->object, fd, 0), 0);
    return person;
}

/* The object is closed and forgotten in its own handler. */
TEST(close_in_its_own_handler)
{
    int pair[2];
    struct latch destroyed = LATCH_INIT;
    struct iocp_port *port = port_open(0);
    make_local_pair(pair);
    struct person *person = person_create(port, pair[0], &destroyed, 0);
    iocp_op_recv(&person->receive, &person->byte, 1);
    CHECK_EQ(iocp_port_submit(port, &person->object, &person->receive), 0);
    send_all(pair[1], "x", 1);
    pump_until_latch(port, &destroyed, 1);
    CHECK_EQ(latch_count(&destroyed), 1);
    expect_eof(pair[1]);
    net_close(pair[1]);
    port_end(port);
}

/* The same with a stream that goes on, a send and a timer; four workers; many times. Sessions die
 * of their own handler, of the peer, and of a thread that closes them from outside. */
TEST(lives_of_many_objects)
{
    enum { PEOPLE = 200 };
    struct crew crew;
    struct latch destroyed = LATCH_INIT;
    struct iocp_port *port = port_open(4);
    int peers[PEOPLE];
    crew_start(&crew, port, 4);
    for (int i = 0; i < PEOPLE; i++) {
        int pair[2];
        make_local_pair(pair);
        struct person *person = person_create(port, pair[0], &destroyed, i & 1);
        struct iocp_object *object = iocp_object_ref(&person->object);
        peers[i] = pair[1];
        iocp_op_recv_stream(&person->receive);
        CHECK_EQ(iocp_port_submit(port, object, &person->receive), 0);
        iocp_op_send(&person->send, "hello", 5);
        CHECK_EQ(iocp_port_submit(port, object, &person->send), 0);
        iocp_op_timer(&person->timer, (uint64_t)(i % 5) * MILLISECOND, 0);
        CHECK_EQ(iocp_port_submit(port, object, &person->timer), 0);
        if (i % 3 == 0)
            send_all(peers[i], "x", 1);
        else if (i % 3 == 1)
            net_shutdown_send(peers[i]);
        else
            iocp_object_close(object);
        iocp_object_unref(object);
    }
    latch_wait_for(&destroyed, PEOPLE);
    CHECK_EQ(latch_count(&destroyed), PEOPLE);
    for (int i = 0; i < PEOPLE; i++) {
        expect_gone(peers[i]);
        net_close(peers[i]);
    }
    crew_stop(&crew);
    port_end(port);
}

static void *flood_run(void *argument)
{
    int fd = *(int *)argument;
    char data[4096] = {0};
    while (net_send_some(fd, data, sizeof(data)) > 0)
        ;
    return NULL;
}

/* A stream in the middle of a flood: after the close one last answer, and none after it; the peer's
 * sending fails. */
TEST(close_under_flood)
{
    for (int round = 0; round < 10; round++) {
        int pair[2];
        struct thing thing;
        struct call call;
        pthread_t thread;
        struct iocp_port *port = port_open(0);
        make_local_pair(pair);
        thing_open(&thing, port, pair[0], 0);
        call_init(&call);
        iocp_op_recv_stream(&call.op);
        call_submit(&call, port, &thing.object);
        CHECK_EQ(pthread_create(&thread, NULL, flood_run, &pair[1]), 0);
        while (call_answers(&call) < 5)
            CHECK_GE(iocp_port_dispatch(port, 10000 * MILLISECOND), 1);
        iocp_object_close(&thing.object);
        CHECK_EQ(call_wait(&call, port), IOCP_ECANCELED);
        thing_end(&thing, port);
        CHECK_EQ(call_finals(&call), 1);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        net_close(pair[1]);
        port_end(port);
    }
}

/* A listening socket that is closed refuses from then on, though an accept-stream was pending. */
TEST(close_a_listening_socket)
{
    struct thing thing;
    struct call call;
    struct iocp_address address = net_loopback();
    struct iocp_port *port = port_open(0);
    thing_open(&thing, port, net_listen(&address, &address), 0);
    call_init(&call);
    iocp_op_accept_stream(&call.op);
    call_submit(&call, port, &thing.object);
    port_dispatch_for(port, MILLISECOND);
    iocp_object_close(&thing.object);
    CHECK_EQ(call_wait(&call, port), IOCP_ECANCELED);
    thing_end(&thing, port);
    CHECK_EQ(net_try_connect(&address), IOCP_ECONNREFUSED);
    port_end(port);
}

/* Posts and timers that an object owns go on after its close, and keep it alive (Q15). */
TEST(posts_and_timers_outlive_the_handle)
{
    int pair[2];
    struct thing thing;
    struct call timer;
    struct call post;
    struct iocp_port *port = port_open(0);
    make_local_pair(pair);
    thing_open(&thing, port, pair[0], 0);
    call_init(&timer);
    call_init(&post);
    iocp_op_timer(&timer.op, 20 * MILLISECOND, 3);
    call_submit(&timer, port, &thing.object);
    iocp_object_close(&thing.object);
    iocp_op_post(&post.op, 4, 5);
    CHECK_EQ(iocp_port_post(port, &thing.object, &post.op), 0);
    iocp_object_unref(&thing.object);
    CHECK_EQ(call_wait(&post, port), 5);
    CHECK_EQ(thing_destroyed(&thing), 0);
    CHECK_EQ(call_wait(&timer, port), 0);
    CHECK_EQ(timer.packet.key, 3);
    thing_wait_gone(&thing, port);
    net_close(pair[1]);
    port_end(port);
}
