/* Serial objects: their handlers never overlap and keep the order of their packets, on any
 * number of workers. And what a handler may do: anything. */
#include "support/port.h"

#include <iocp/error.h>

#include <stdlib.h>
#include <string.h>

#define STREAM_SIZE 200000u
#define POSTS 5000
#define TIMERS 100

/* One object with everything at once. None of its members is atomic but `inside`: a sanitizer
 * would see two handlers that overlap, and two that are not ordered. */
struct monk {
    struct thing thing; /* first */
    uint32_t inside;    /* atomic */
    uint32_t received;
    int64_t posted;
    uint32_t timers;
    int ended;
    struct latch done;
    struct iocp_op stream;
    struct iocp_op posts[POSTS];
    struct iocp_op timer[TIMERS];
};

static void monk_enter(struct monk *monk)
{
    /* Relaxed: only the value counts, it must order nothing. */
    CHECK_EQ(__atomic_fetch_add(&monk->inside, 1, __ATOMIC_RELAXED), 0);
}

static void monk_leave(struct monk *monk)
{
    int done = monk->received == STREAM_SIZE && monk->posted == POSTS && monk->timers == TIMERS &&
               monk->ended;
    CHECK_EQ(__atomic_fetch_sub(&monk->inside, 1, __ATOMIC_RELAXED), 1);
    if (done)
        latch_add(&monk->done, 1);
}

static void monk_received(const struct iocp_packet *packet)
{
    struct monk *monk = (struct monk *)packet->object;
    const unsigned char *bytes = packet->data;
    monk_enter(monk);
    if (packet->flags & IOCP_PACKET_MORE) {
        for (int64_t i = 0; i < packet->result; i++)
            CHECK_EQ(bytes[i], (unsigned char)((monk->received + i) % 251));
        monk->received += (uint32_t)packet->result;
    } else {
        CHECK_EQ(packet->result, IOCP_EEOF);
        CHECK_EQ(monk->received, STREAM_SIZE);
        monk->ended = 1;
    }
    monk_leave(monk);
}

static void monk_posted(const struct iocp_packet *packet)
{
    struct monk *monk = (struct monk *)packet->object;
    monk_enter(monk);
    CHECK_EQ(packet->result, monk->posted);
    monk->posted++;
    monk_leave(monk);
}

static void monk_timed(const struct iocp_packet *packet)
{
    struct monk *monk = (struct monk *)packet->object;
    monk_enter(monk);
    CHECK_EQ(packet->result, 0);
    monk->timers++;
    monk_leave(monk);
}

static void *monk_write(void *argument)
{
    int fd = *(int *)argument;
    unsigned char data[1000];
    for (uint32_t at = 0; at < STREAM_SIZE; at += sizeof(data)) {
        for (uint32_t i = 0; i < sizeof(data); i++)
            data[i] = (unsigned char)((at + i) % 251);
        send_all(fd, data, sizeof(data));
    }
    net_shutdown_send(fd);
    return NULL;
}

/* A stream, posts and timers of one object on four workers. */
TEST(handlers_of_one_object_never_overlap)
{
    static struct monk monk;
    struct crew crew;
    int pair[2];
    pthread_t writer;
    struct iocp_port *port = port_open(4);
    crew_start(&crew, port, 4);
    make_local_pair(pair);
    latch_init(&monk.done);
    thing_init_serial(&monk.thing);
    CHECK_EQ(iocp_port_register(port, &monk.thing.object, pair[0], 0), 0);
    iocp_op_init(&monk.stream, monk_received);
    iocp_op_recv_stream(&monk.stream);
    CHECK_EQ(iocp_port_submit(port, &monk.thing.object, &monk.stream), 0);
    CHECK_EQ(pthread_create(&writer, NULL, monk_write, &pair[1]), 0);
    for (uint64_t i = 0; i < TIMERS; i++) {
        iocp_op_init(&monk.timer[i], monk_timed);
        iocp_op_timer(&monk.timer[i], i % 20 * MILLISECOND, 0);
        CHECK_EQ(iocp_port_submit(port, &monk.thing.object, &monk.timer[i]), 0);
    }
    for (int i = 0; i < POSTS; i++) {
        iocp_op_init(&monk.posts[i], monk_posted);
        iocp_op_post(&monk.posts[i], 0, i);
        CHECK_EQ(iocp_port_post(port, &monk.thing.object, &monk.posts[i]), 0);
    }
    latch_wait_for(&monk.done, 1);
    CHECK_EQ(pthread_join(writer, NULL), 0);
    crew_stop(&crew);
    CHECK_EQ(latch_count(&monk.done), 1);
    thing_end(&monk.thing, port);
    net_close(pair[1]);
    port_end(port);
}

struct guest {
    struct call call; /* first */
    struct latch *inside;
    uint64_t together;
};

static void guest_handle(const struct iocp_packet *packet)
{
    struct guest *guest = (struct guest *)packet->op;
    latch_add(guest->inside, 1);
    latch_wait_for(guest->inside, guest->together);
    call_answered(packet);
}

static void guests_post(struct guest *guests, int count, struct iocp_port *port,
                        struct iocp_object *object, struct latch *inside, struct latch *answered)
{
    for (int i = 0; i < count; i++) {
        call_init(&guests[i].call);
        iocp_op_init(&guests[i].call.op, guest_handle);
        guests[i].call.latch = answered;
        guests[i].inside = inside;
        guests[i].together = (uint64_t)count;
        iocp_op_post(&guests[i].call.op, 0, 0);
        CHECK_EQ(iocp_port_post(port, object, &guests[i].call.op), 0);
    }
}

/* Objects that are not serial may overlap: these handlers wait for each other. */
TEST(handlers_of_a_plain_object_overlap)
{
    struct guest guests[3];
    struct crew crew;
    struct thing thing;
    struct latch inside = LATCH_INIT;
    struct latch answered = LATCH_INIT;
    struct iocp_port *port = port_open(3);
    thing_init(&thing);
    crew_start(&crew, port, 3);
    guests_post(guests, 3, port, &thing.object, &inside, &answered);
    latch_wait_for(&answered, 3);
    crew_stop(&crew);
    iocp_object_unref(&thing.object);
    CHECK_EQ(thing_destroyed(&thing), 1);
    port_end(port);
}

static void wait_for_latch(const struct iocp_packet *packet)
{
    latch_wait_for(packet->op->context, 1);
    call_answered(packet);
}

/* A serial object that is stuck in a handler holds up itself alone: its packets wait, those of
 * others run. */
TEST(a_stuck_serial_object_holds_up_no_other)
{
    struct call stuck;
    struct call behind[3];
    struct call others[20];
    struct crew crew;
    struct thing thing;
    struct latch release = LATCH_INIT;
    struct latch answered = LATCH_INIT;
    struct iocp_port *port = port_open(2);
    thing_init_serial(&thing);
    crew_start(&crew, port, 4);
    call_init(&stuck);
    iocp_op_init(&stuck.op, wait_for_latch);
    stuck.op.context = &release;
    iocp_op_post(&stuck.op, 0, 0);
    CHECK_EQ(iocp_port_post(port, &thing.object, &stuck.op), 0);
    for (int i = 0; i < 3; i++) {
        call_init(&behind[i]);
        iocp_op_post(&behind[i].op, 0, i);
        CHECK_EQ(iocp_port_post(port, &thing.object, &behind[i].op), 0);
    }
    for (int i = 0; i < 20; i++) {
        call_init(&others[i]);
        others[i].latch = &answered;
        call_post(&others[i], port, 0, i);
    }
    latch_wait_for(&answered, 20);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(call_answers(&behind[i]), 0);
    behind[2].latch = &answered;
    latch_add(&release, 1);
    latch_wait_for(&answered, 21);
    CHECK_EQ(call_finals(&stuck), 1);
    CHECK_EQ(call_finals(&behind[0]), 1);
    CHECK_EQ(call_finals(&behind[1]), 1);
    crew_stop(&crew);
    iocp_object_unref(&thing.object);
    CHECK_EQ(thing_destroyed(&thing), 1);
    port_end(port);
}

/* ---- A handler calls everything. */

struct busybody {
    struct iocp_port *port;
    struct iocp_port *other;
    struct thing thing;
    struct thing more;
    struct call receive;
    struct call timer;
    struct call post;
    struct call foreign;
    struct latch done;
    int peer;
    char byte;
};

static void busybody_ports(struct busybody *busybody)
{
    struct iocp_port *port = port_open(1);
    struct iocp_port_stats stats;
    call_init(&busybody->foreign);
    call_post(&busybody->foreign, port, 0, 3);
    CHECK_EQ(call_wait(&busybody->foreign, port), 3);
    CHECK(!iocp_port_unref(port));
    CHECK_EQ(iocp_port_dispatch(busybody->other, 0), IOCP_ETIMEDOUT);
    iocp_port_stats(busybody->port, &stats);
    CHECK_GE(stats.running, 1);
    iocp_port_wake(busybody->port);
    CHECK_EQ(iocp_port_dispatch(busybody->port, 0), IOCP_EBUSY);
}

static void busybody_handle(const struct iocp_packet *packet)
{
    struct busybody *busybody = packet->op->context;
    struct iocp_port *port = busybody->port;
    int pair[2];
    busybody_ports(busybody);
    make_local_pair(pair);
    thing_open(&busybody->more, port, pair[0], 0);
    busybody->peer = pair[1];
    call_init(&busybody->receive);
    iocp_op_recv(&busybody->receive.op, &busybody->byte, 1);
    call_submit(&busybody->receive, port, &busybody->more.object);
    call_init(&busybody->timer);
    iocp_op_timer(&busybody->timer.op, 3600 * 1000 * MILLISECOND, 0);
    call_submit(&busybody->timer, port, packet->object);
    CHECK_EQ(iocp_port_cancel(port, &busybody->timer.op), 0);
    call_init(&busybody->post);
    call_post(&busybody->post, port, 0, 1);
    iocp_object_close(&busybody->more.object);
    CHECK(!iocp_object_unref(&busybody->more.object));
    iocp_object_unref(iocp_object_ref(packet->object));
    iocp_port_unref(iocp_port_ref(port));
    iocp_blocking_begin();
    iocp_blocking_end();
    iocp_object_close(packet->object);
    iocp_object_unref(packet->object);
    latch_add(&busybody->done, 1);
}

/* Nothing of the library is locked while a handler runs: it may call everything, of its own port
 * and of others, and all of it has its effect. */
static void check_busybody(int serial)
{
    static struct busybody busybody;
    struct iocp_op op;
    struct crew crew;
    int pair[2];
    memset(&busybody, 0, sizeof(busybody));
    busybody.port = port_open(2);
    busybody.other = port_open(2);
    latch_init(&busybody.done);
    crew_start(&crew, busybody.port, 2);
    make_local_pair(pair);
    if (serial)
        thing_init_serial(&busybody.thing);
    else
        thing_init(&busybody.thing);
    CHECK_EQ(iocp_port_register(busybody.port, &busybody.thing.object, pair[0], 0), 0);
    iocp_op_init(&op, busybody_handle);
    op.context = &busybody;
    iocp_op_post(&op, 0, 0);
    CHECK_EQ(iocp_port_post(busybody.port, &busybody.thing.object, &op), 0);
    latch_wait_for(&busybody.done, 1);
    crew_stop(&crew);
    thing_wait_gone(&busybody.thing, busybody.port);
    thing_wait_gone(&busybody.more, busybody.port);
    CHECK_EQ(call_wait(&busybody.post, busybody.port), 1);
    CHECK_EQ(call_wait(&busybody.timer, busybody.port), IOCP_ECANCELED);
    CHECK_EQ(call_finals(&busybody.receive), 1);
    CHECK_LT(busybody.receive.packet.result, 0);
    expect_eof(busybody.peer);
    net_close(busybody.peer);
    net_close(pair[1]);
    CHECK(!iocp_port_unref(busybody.other));
    port_end(busybody.port);
}

TEST(a_handler_may_call_everything)
{
    check_busybody(0);
}

TEST(a_serial_handler_may_call_everything)
{
    check_busybody(1);
}

static void destroy_calls(struct iocp_object *object)
{
    struct call *call = ((struct thing *)object)->context;
    call_post(call, call->op.context, 0, 12);
}

static const struct iocp_object_class destroy_class = {
    .name = "destroy", .complete = NULL, .destroy = destroy_calls, .serial = 0};

/* A destructor may call the port too. */
TEST(a_destructor_may_call_everything)
{
    int pair[2];
    struct thing thing;
    struct call call;
    struct iocp_port *port = port_open(0);
    memset(&thing, 0, sizeof(thing));
    iocp_object_init(&thing.object, &destroy_class);
    call_init(&call);
    call.op.context = port;
    thing.context = &call;
    make_local_pair(pair);
    CHECK_EQ(iocp_port_register(port, &thing.object, pair[0], 0), 0);
    iocp_object_close(&thing.object);
    iocp_object_unref(&thing.object);
    CHECK_EQ(call_wait(&call, port), 12);
    net_close(pair[1]);
    port_end(port);
}

static void close_port(const struct iocp_packet *packet)
{
    iocp_port_close(packet->op->context);
    iocp_port_close(packet->op->context);
}

/* The port can be closed by one of its handlers, while others sleep: all of them leave. */
TEST(a_handler_may_close_the_port)
{
    struct iocp_op op;
    struct crew crew;
    struct iocp_port *port = port_open(2);
    crew_start(&crew, port, 4);
    iocp_op_init(&op, close_port);
    op.context = port;
    iocp_op_post(&op, 0, 0);
    CHECK_EQ(iocp_port_post(port, NULL, &op), 0);
    latch_wait_for(&crew.left, 4);
    crew_stop(&crew);
    port_end(port);
}
