/* Cancel: every op can be asked to end, in whatever state it is, and is answered once, with what
 * happened first. Nothing that had arrived is lost by it. Closing objects is in close.c, timers in
 * timers.c. */
#include "support/port.h"

#include <iocp/error.h>

#include <string.h>

#define LARGE (4u << 20)

/* Something that is pending for ever, until it is canceled. */
struct scene {
    struct iocp_port *port;
    struct thing thing;
    int peer; /* -1: none */
    struct call call;
    char data[16];
    struct iocp_slice slices[2];
    struct iocp_address address;
};

static void scene_open(struct scene *scene, int fd, int peer)
{
    thing_open(&scene->thing, scene->port, fd, 0);
    scene->peer = peer;
    call_init(&scene->call);
}

static void scene_pair(struct scene *scene)
{
    int pair[2];
    make_connected_pair(pair);
    scene_open(scene, pair[0], pair[1]);
}

static void scene_listen(struct scene *scene)
{
    struct iocp_address address = net_loopback();
    scene_open(scene, net_listen(&address, NULL), -1);
}

static void scene_recv(struct scene *scene)
{
    scene_pair(scene);
    iocp_op_recv(&scene->call.op, scene->data, sizeof(scene->data));
}

static void scene_recv_nothing(struct scene *scene)
{
    scene_pair(scene);
    iocp_op_recv(&scene->call.op, scene->data, 0);
}

static void scene_recv_slices(struct scene *scene)
{
    scene_pair(scene);
    for (int i = 0; i < 2; i++) {
        scene->slices[i].data = scene->data + 8 * i;
        scene->slices[i].size = 8;
    }
    iocp_op_recv_slices(&scene->call.op, scene->slices, 2);
}

static void scene_recv_stream(struct scene *scene)
{
    scene_pair(scene);
    iocp_op_recv_stream(&scene->call.op);
}

static void scene_send(struct scene *scene)
{
    static char data[LARGE];
    scene_pair(scene);
    iocp_op_send(&scene->call.op, data, sizeof(data));
}

static void scene_accept(struct scene *scene)
{
    scene_listen(scene);
    iocp_op_accept(&scene->call.op);
}

static void scene_accept_stream(struct scene *scene)
{
    scene_listen(scene);
    iocp_op_accept_stream(&scene->call.op);
}

static void scene_recv_from(struct scene *scene)
{
    scene_open(scene, net_udp(NULL), -1);
    iocp_op_recv_from(&scene->call.op, scene->data, sizeof(scene->data), &scene->address);
}

static void scene_poll(struct scene *scene)
{
    scene_pair(scene);
    iocp_op_poll(&scene->call.op, IOCP_POLL_READ);
}

static void scene_timer(struct scene *scene)
{
    scene_pair(scene);
    iocp_op_timer(&scene->call.op, 3600 * 1000 * MILLISECOND, 0);
}

static void (*const scenes[])(struct scene *) = {
    scene_recv,   scene_recv_nothing,  scene_recv_slices, scene_recv_stream, scene_send,
    scene_accept, scene_accept_stream, scene_recv_from,   scene_poll,        scene_timer};

#define SCENES (sizeof(scenes) / sizeof(scenes[0]))

static void scene_end(struct scene *scene)
{
    pump_drain(scene->port);
    CHECK_EQ(call_answers(&scene->call), 1);
    thing_end(&scene->thing, scene->port);
    CHECK_EQ(call_answers(&scene->call), 1);
    if (scene->peer >= 0)
        net_close(scene->peer);
    port_end(scene->port);
}

/* Each kind, when it is in the kernel, and when it has just been submitted. A second cancel does no
 * harm, and after the answer there is nothing to cancel. */
TEST(every_kind)
{
    for (size_t i = 0; i < 2 * SCENES; i++) {
        static struct scene scene;
        memset(&scene, 0, sizeof(scene));
        scene.port = port_open(0);
        scenes[i / 2](&scene);
        call_submit(&scene.call, scene.port, &scene.thing.object);
        if (i & 1)
            port_dispatch_for(scene.port, MILLISECOND);
        CHECK_EQ(call_answers(&scene.call), 0);
        CHECK_EQ(iocp_port_cancel(scene.port, &scene.call.op), 0);
        int again = iocp_port_cancel(scene.port, &scene.call.op);
        CHECK(again == 0 || again == IOCP_ENOTFOUND);
        CHECK_EQ(call_wait(&scene.call, scene.port), IOCP_ECANCELED);
        CHECK_EQ(scene.call.packet.flags, 0);
        CHECK(scene.call.packet.object == &scene.thing.object);
        CHECK_EQ(iocp_port_cancel(scene.port, &scene.call.op), IOCP_ENOTFOUND);
        scene_end(&scene);
    }
}

/* The same, and its object is closed at once: one answer for both. */
TEST(every_kind_canceled_and_closed)
{
    for (size_t i = 0; i < 2 * SCENES; i++) {
        static struct scene scene;
        memset(&scene, 0, sizeof(scene));
        scene.port = port_open(0);
        scenes[i / 2](&scene);
        call_submit(&scene.call, scene.port, &scene.thing.object);
        if (i & 1)
            port_dispatch_for(scene.port, MILLISECOND);
        CHECK_EQ(iocp_port_cancel(scene.port, &scene.call.op), 0);
        iocp_object_close(&scene.thing.object);
        CHECK_EQ(call_wait(&scene.call, scene.port), IOCP_ECANCELED);
        scene_end(&scene);
    }
}

/* The same by another thread than the one that submitted, while a worker sleeps in the kernel. */
struct canceler {
    struct iocp_port *port;
    struct iocp_op *op;
    pthread_t thread;
};

static void *canceler_run(void *argument)
{
    struct canceler *canceler = argument;
    CHECK_EQ(iocp_port_cancel(canceler->port, canceler->op), 0);
    return NULL;
}

TEST(every_kind_by_another_thread)
{
    for (size_t i = 0; i < SCENES; i++) {
        static struct scene scene;
        struct crew crew;
        struct latch answered = LATCH_INIT;
        memset(&scene, 0, sizeof(scene));
        scene.port = port_open(2);
        crew_start(&crew, scene.port, 1);
        scenes[i](&scene);
        scene.call.latch = &answered;
        call_submit(&scene.call, scene.port, &scene.thing.object);
        crew_wait_asleep(&crew);
        struct canceler canceler = {scene.port, &scene.call.op, 0};
        CHECK_EQ(pthread_create(&canceler.thread, NULL, canceler_run, &canceler), 0);
        CHECK_EQ(pthread_join(canceler.thread, NULL), 0);
        latch_wait_for(&answered, 1);
        CHECK_EQ(scene.call.packet.result, IOCP_ECANCELED);
        crew_stop(&crew);
        scene_end(&scene);
    }
}

/* Of several that wait behind each other one in the middle, the first and the last are taken out:
 * the others are filled in their order. */
TEST(ops_that_wait_for_their_turn)
{
    const int canceled[] = {1, 0, 4};
    int pair[2];
    struct thing thing;
    struct call calls[5];
    char data[5][2];
    struct iocp_port *port = port_open(0);
    make_local_pair(pair);
    thing_open(&thing, port, pair[0], 0);
    for (int i = 0; i < 5; i++) {
        call_init(&calls[i]);
        iocp_op_recv(&calls[i].op, data[i], 2);
        call_submit(&calls[i], port, &thing.object);
    }
    port_dispatch_for(port, MILLISECOND);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(iocp_port_cancel(port, &calls[canceled[i]].op), 0);
        CHECK_EQ(call_wait(&calls[canceled[i]], port), IOCP_ECANCELED);
    }
    send_all(pair[1], "aabb", 4);
    CHECK_EQ(call_wait(&calls[2], port), 2);
    CHECK_EQ(call_wait(&calls[3], port), 2);
    CHECK_MEM(data[2], "aa", 2);
    CHECK_MEM(data[3], "bb", 2);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(call_answers(&calls[i]), 1);
    thing_end(&thing, port);
    net_close(pair[1]);
    port_end(port);
}

/* A send that waits behind another one never began: nothing of it goes out. */
TEST(a_send_that_waits_for_its_turn)
{
    static char data[LARGE];
    static char drained[LARGE];
    int pair[2];
    struct thing thing;
    struct call first;
    struct call second;
    struct call third;
    struct iocp_port *port = port_open(2);
    struct crew crew;
    struct latch answered = LATCH_INIT;
    make_connected_pair(pair);
    thing_open(&thing, port, pair[0], 0);
    call_init(&first);
    call_init(&second);
    call_init(&third);
    first.latch = second.latch = third.latch = &answered;
    iocp_op_send(&first.op, data, LARGE);
    iocp_op_send(&second.op, "never", 5);
    iocp_op_send(&third.op, "end", 3);
    crew_start(&crew, port, 1);
    call_submit(&first, port, &thing.object);
    call_submit(&second, port, &thing.object);
    call_submit(&third, port, &thing.object);
    crew_wait_asleep(&crew);
    CHECK_EQ(iocp_port_cancel(port, &second.op), 0);
    latch_wait_for(&answered, 1);
    CHECK_EQ(second.packet.result, IOCP_ECANCELED);
    recv_exact(pair[1], drained, LARGE);
    expect_bytes(pair[1], "end", 3);
    latch_wait_for(&answered, 3);
    CHECK_EQ(first.packet.result, LARGE);
    CHECK_EQ(third.packet.result, 3);
    crew_stop(&crew);
    thing_end(&thing, port);
    net_close(pair[1]);
    port_end(port);
}

/* A post is answered as soon as it is there: a cancel does not change it. */
TEST(a_post)
{
    struct call call;
    struct iocp_port *port = port_open(0);
    call_init(&call);
    call_post(&call, port, 1, 44);
    iocp_port_cancel(port, &call.op);
    CHECK_EQ(call_wait(&call, port), 44);
    CHECK_EQ(call_answers(&call), 1);
    pump_drain(port);
    port_end(port);
}

/* ---- Races: data against cancel, thousands of times. */

#define ROUNDS 2000

struct race {
    int fd;
    uint32_t rounds;
    pthread_t thread;
};

static void *race_write(void *argument)
{
    struct race *race = argument;
    for (uint32_t i = 0; i < race->rounds; i++) {
        unsigned char byte = (unsigned char)i;
        send_all(race->fd, &byte, 1);
        if (i % 3 == 0)
            system_yield();
    }
    net_shutdown_send(race->fd);
    return NULL;
}

static void race_start(struct race *race, int fd, uint32_t rounds)
{
    race->fd = fd;
    race->rounds = rounds;
    CHECK_EQ(pthread_create(&race->thread, NULL, race_write, race), 0);
}

/* The bytes that came, which have to be the next ones. */
static void race_check(uint32_t *received, const unsigned char *data, int64_t size)
{
    for (int64_t i = 0; i < size; i++)
        CHECK_EQ(data[i], (unsigned char)(*received)++);
}

/* Each receive is canceled right after its submit, while bytes arrive: it gives bytes or
 * IOCP_ECANCELED, and all bytes are received in the end. */
TEST(receive_against_cancel)
{
    int pair[2];
    struct thing thing;
    struct crew crew;
    struct race race;
    struct call call;
    struct latch answered = LATCH_INIT;
    unsigned char data[3];
    uint32_t received = 0;
    uint64_t rounds = 0;
    struct iocp_port *port = port_open(2);
    make_local_pair(pair);
    crew_start(&crew, port, 2);
    thing_open(&thing, port, pair[0], 0);
    race_start(&race, pair[1], ROUNDS);
    do {
        call_init(&call);
        call.latch = &answered;
        iocp_op_recv(&call.op, data, sizeof(data));
        call_submit(&call, port, &thing.object);
        if (rounds % 4 == 0)
            system_yield();
        if (rounds < ROUNDS)
            iocp_port_cancel(port, &call.op);
        latch_wait_for(&answered, ++rounds);
        int64_t result = call.packet.result;
        CHECK(result > 0 || result == IOCP_ECANCELED || result == IOCP_EEOF);
        race_check(&received, data, result);
    } while (call.packet.result != IOCP_EEOF);
    CHECK_EQ(received, ROUNDS);
    CHECK_EQ(pthread_join(race.thread, NULL), 0);
    crew_stop(&crew);
    thing_end(&thing, port);
    net_close(pair[1]);
    port_end(port);
}

struct race_stream {
    struct call call; /* first */
    uint32_t received;
    struct latch *ended;
};

static void race_received(const struct iocp_packet *packet)
{
    struct race_stream *stream = (struct race_stream *)packet->op;
    struct latch *ended = packet->flags & IOCP_PACKET_MORE ? NULL : stream->ended;
    race_check(&stream->received, packet->data, packet->result);
    call_answered(packet);
    if (ended)
        latch_add(ended, 1);
}

/* The same with a stream: what it had taken before the cancel comes before its end. */
TEST(stream_against_cancel)
{
    int pair[2];
    struct thing thing;
    struct crew crew;
    struct race race;
    struct latch ended = LATCH_INIT;
    struct race_stream stream;
    uint64_t rounds = 0;
    memset(&stream, 0, sizeof(stream));
    struct iocp_port *port = port_open(2);
    make_local_pair(pair);
    crew_start(&crew, port, 2);
    thing_init_serial(&thing);
    CHECK_EQ(iocp_port_register(port, &thing.object, pair[0], 0), 0);
    race_start(&race, pair[1], 5 * ROUNDS);
    stream.ended = &ended;
    do {
        iocp_op_init(&stream.call.op, race_received);
        iocp_op_recv_stream(&stream.call.op);
        call_submit(&stream.call, port, &thing.object);
        if (rounds % 4 == 0)
            system_yield();
        if (rounds < ROUNDS)
            iocp_port_cancel(port, &stream.call.op);
        latch_wait_for(&ended, ++rounds);
        int64_t result = stream.call.packet.result;
        CHECK(result == IOCP_ECANCELED || result == IOCP_EEOF);
    } while (stream.call.packet.result != IOCP_EEOF);
    CHECK_EQ(stream.received, 5 * ROUNDS);
    CHECK_EQ(pthread_join(race.thread, NULL), 0);
    crew_stop(&crew);
    thing_end(&thing, port);
    net_close(pair[1]);
    port_end(port);
}

#define CONNECTIONS 300

struct caller {
    struct iocp_address address;
    pthread_t thread;
    int handles[CONNECTIONS];
};

static void *caller_run(void *argument)
{
    struct caller *caller = argument;
    for (int i = 0; i < CONNECTIONS; i++)
        caller->handles[i] = net_connect(&caller->address);
    return NULL;
}

/* A connection that was accepted while its accept was canceled is given to the user, or stays in
 * the queue: none is lost. Each gets a byte in the end. */
TEST(accept_against_cancel)
{
    static struct caller caller;
    struct thing thing;
    struct crew crew;
    struct call call;
    struct latch answered = LATCH_INIT;
    struct iocp_address address = net_loopback();
    struct iocp_port *port = port_open(2);
    uint64_t rounds = 0;
    int accepted = 0;
    crew_start(&crew, port, 2);
    thing_open(&thing, port, net_listen(&address, &caller.address), 0);
    CHECK_EQ(pthread_create(&caller.thread, NULL, caller_run, &caller), 0);
    while (accepted < CONNECTIONS) {
        call_init(&call);
        call.latch = &answered;
        iocp_op_accept(&call.op);
        call_submit(&call, port, &thing.object);
        if (rounds % 4 == 0)
            system_yield();
        if (rounds < ROUNDS)
            iocp_port_cancel(port, &call.op);
        latch_wait_for(&answered, ++rounds);
        if (call.packet.result < 0) {
            CHECK_EQ(call.packet.result, IOCP_ECANCELED);
            continue;
        }
        send_all((int)call.packet.result, "!", 1);
        net_close((int)call.packet.result);
        accepted++;
    }
    CHECK_EQ(pthread_join(caller.thread, NULL), 0);
    for (int i = 0; i < CONNECTIONS; i++) {
        expect_bytes(caller.handles[i], "!", 1);
        net_close(caller.handles[i]);
    }
    crew_stop(&crew);
    thing_end(&thing, port);
    port_end(port);
}

/* Nobody looks after the lane while four cancels come for three ops, one of them twice: each of the
 * three is canceled. */
TEST(a_second_cancel_forgets_no_other)
{
    static const int order[] = {0, 1, 2, 1};
    struct iocp_port *port = port_open(1);
    struct scene three[3];
    for (int i = 0; i < 3; i++) {
        three[i].port = port;
        scene_recv(&three[i]);
        call_submit(&three[i].call, port, &three[i].thing.object);
    }
    CHECK_EQ(iocp_port_dispatch(port, 0), IOCP_ETIMEDOUT);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(iocp_port_cancel(port, &three[order[i]].call.op), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(call_wait(&three[i].call, port), IOCP_ECANCELED);
        thing_end(&three[i].thing, port);
        net_close(three[i].peer);
    }
    port_end(port);
}
