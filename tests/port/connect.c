/* Accept and connect, and the stream of accepted connections (Q25 to Q28, S5, S6). */
#include "support/port.h"

#include <iocp/error.h>

#include <string.h>

struct door {
    struct iocp_port *port;
    struct thing thing; /* the listening socket */
    struct iocp_address address;
};

static void door_open(struct door *door, const struct iocp_address *address)
{
    door->port = port_open(0);
    int fd = net_listen(address, &door->address);
    thing_open(&door->thing, door->port, fd, 5);
}

static void door_end(struct door *door)
{
    thing_end(&door->thing, door->port);
    net_unix_remove(&door->address);
    port_end(door->port);
}

/* An accept is answered with a handle that is the receiver's: it works, it is not inherited by
 * other programs, and nobody else closes it. */
static void check_accept(const struct iocp_address *address)
{
    struct door door;
    struct call call;
    door_open(&door, address);
    call_init(&call);
    iocp_op_accept(&call.op);
    call_submit(&call, door.port, &door.thing.object);
    port_dispatch_for(door.port, MILLISECOND);
    CHECK_EQ(call_answers(&call), 0);
    int client = net_connect(&door.address);
    int64_t result = call_wait(&call, door.port);
    CHECK_GE(result, 0);
    CHECK_EQ(call.packet.key, 5);
    CHECK_EQ(call.packet.flags, 0);
    int fd = (int)result;
    CHECK(!system_is_inherited(fd));

    struct thing thing;
    thing_open(&thing, door.port, fd, 0);
    iocp_op_send(&call.op, "welcome", 7);
    CHECK_EQ(call_run(&call, door.port, &thing.object), 7);
    expect_bytes(client, "welcome", 7);
    thing_end(&thing, door.port);
    expect_eof(client);
    net_close(client);
    door_end(&door);
}

TEST(accept_ipv4)
{
    struct iocp_address address = net_loopback();
    check_accept(&address);
}

TEST(accept_ipv6)
{
    if (!net_have_ipv6())
        SKIP("no ::1 here");
    struct iocp_address address = net_address("[::1]:0");
    check_accept(&address);
}

TEST(accept_unix_path)
{
    struct iocp_address path = net_unix_path();
    check_accept(&path);
}

TEST(accept_unix_abstract)
{
    struct iocp_address name = net_unix_abstract();
    check_accept(&name);
}

#define ACCEPTS 8

/* Several accepts outstanding (Q27): each connection answers one of them. */
TEST(several_accepts)
{
    struct door door;
    struct call calls[ACCEPTS];
    int clients[ACCEPTS];
    struct iocp_address address = net_loopback();
    door_open(&door, &address);
    for (int i = 0; i < ACCEPTS; i++) {
        call_init(&calls[i]);
        iocp_op_accept(&calls[i].op);
        call_submit(&calls[i], door.port, &door.thing.object);
    }
    for (int i = 0; i < ACCEPTS; i++)
        clients[i] = net_connect(&door.address);
    for (int i = 0; i < ACCEPTS; i++) {
        int fd = (int)call_wait(&calls[i], door.port);
        CHECK_GE(fd, 0);
        send_all(fd, "!", 1);
        net_close(fd);
    }
    for (int i = 0; i < ACCEPTS; i++) {
        expect_bytes(clients[i], "!", 1);
        expect_eof(clients[i]);
        net_close(clients[i]);
    }
    door_end(&door);
}

struct stream {
    struct call call; /* first */
    int handles[64];
    uint32_t count;
};

static void stream_accepted(const struct iocp_packet *packet)
{
    struct stream *stream = (struct stream *)packet->op;
    if (packet->result >= 0) {
        CHECK_EQ(packet->flags, IOCP_PACKET_MORE);
        CHECK_LT(stream->count, 64);
        stream->handles[stream->count++] = (int)packet->result;
    } else {
        CHECK_EQ(packet->flags, 0);
    }
    call_answered(packet);
}

static void stream_start(struct stream *stream, struct door *door)
{
    memset(stream, 0, sizeof(*stream));
    call_init(&stream->call);
    iocp_op_init(&stream->call.op, stream_accepted);
    iocp_op_accept_stream(&stream->call.op);
    call_submit(&stream->call, door->port, &door->thing.object);
}

struct stream_target {
    struct stream *stream;
    uint32_t count;
};

static int stream_has(void *context)
{
    struct stream_target *target = context;
    return target->stream->count >= target->count;
}

static void stream_wait(struct stream *stream, struct door *door, uint32_t count)
{
    struct stream_target target = {stream, count};
    pump_until(door->port, stream_has, &target);
}

static void stream_close(struct stream *stream)
{
    for (uint32_t i = 0; i < stream->count; i++)
        net_close(stream->handles[i]);
    stream->count = 0;
}

/* The stream accepts again and again, those before it and those after; it is pending all the time;
 * a cancel ends it, and then nothing more is accepted. */
TEST(accept_stream)
{
    struct door door;
    struct stream stream;
    int clients[41];
    struct iocp_address address = net_loopback();
    door_open(&door, &address);
    for (int i = 0; i < 20; i++)
        clients[i] = net_connect(&door.address);
    stream_start(&stream, &door);
    stream_wait(&stream, &door, 20);
    for (int i = 20; i < 40; i++) {
        clients[i] = net_connect(&door.address);
        stream_wait(&stream, &door, (uint32_t)i + 1);
        CHECK(iocp_op_pending(&stream.call.op));
    }
    CHECK_EQ(iocp_port_cancel(door.port, &stream.call.op), 0);
    CHECK_EQ(call_wait(&stream.call, door.port), IOCP_ECANCELED);
    CHECK_EQ(call_answers(&stream.call), 41);
    CHECK(!iocp_op_pending(&stream.call.op));
    clients[40] = net_connect(&door.address);
    port_dispatch_for(door.port, 5 * MILLISECOND);
    CHECK_EQ(stream.count, 40);
    stream_close(&stream);
    for (int i = 0; i < 40; i++)
        expect_eof(clients[i]);
    for (int i = 0; i < 41; i++)
        net_close(clients[i]);
    door_end(&door);
}

/* S6: without descriptors an accept and a stream of them end with IOCP_EMFILE; the connection
 * waits, and is there when the op is submitted again later. */
TEST(accept_without_descriptors)
{
    struct door door;
    struct stream stream;
    struct call call;
    struct system_hoard hoard;
    struct iocp_address address = net_loopback();
    door_open(&door, &address);
    system_lower_limit(12);
    call_init(&call);
    stream_start(&stream, &door);
    int client = net_connect(&door.address);
    stream_wait(&stream, &door, 1);
    stream_close(&stream);
    net_close(client);
    client = net_stream(IOCP_FAMILY_IPV4);

    system_hoard_take(&hoard);
    CHECK_EQ(net_connect_socket(client, &door.address), 0);
    CHECK_EQ(call_wait(&stream.call, door.port), IOCP_EMFILE);
    CHECK_EQ(iocp_error_from_os(stream.call.packet.os_error), IOCP_EMFILE);
    iocp_op_accept(&call.op);
    CHECK_EQ(call_run(&call, door.port, &door.thing.object), IOCP_EMFILE);
    CHECK_EQ(iocp_error_from_os(call.packet.os_error), IOCP_EMFILE);
    CHECK_EQ(stream.count, 0);
    system_hoard_give(&hoard, UINT32_MAX);

    stream_start(&stream, &door);
    stream_wait(&stream, &door, 1);
    send_all(stream.handles[0], "ok", 2);
    expect_bytes(client, "ok", 2);
    stream_close(&stream);
    net_close(client);
    CHECK_EQ(iocp_port_cancel(door.port, &stream.call.op), 0);
    CHECK_EQ(call_wait(&stream.call, door.port), IOCP_ECANCELED);
    door_end(&door);
}

/* A connect that failed is an error, never a connection. */
TEST(connect_refused)
{
    struct thing thing;
    struct call call;
    struct iocp_address address = net_loopback();
    struct iocp_port *port = port_open(0);
    /* Bound and not listening: nobody else can have the number meanwhile. */
    struct iocp_address nobody;
    int holder = net_bound(&address, &nobody);
    thing_open(&thing, port, net_stream(IOCP_FAMILY_IPV4), 0);
    call_init(&call);
    iocp_op_connect(&call.op, &nobody);
    CHECK_EQ(call_run(&call, port, &thing.object), IOCP_ECONNREFUSED);
    CHECK_EQ(iocp_error_from_os(call.packet.os_error), IOCP_ECONNREFUSED);
    thing_end(&thing, port);
    net_close(holder);
    port_end(port);
}

/* Nor one to a path that nobody made. */
TEST(connect_to_no_path)
{
    struct thing thing;
    struct call call;
    struct iocp_address path = net_unix_path();
    struct iocp_port *port = port_open(0);
    thing_open(&thing, port, net_stream(IOCP_FAMILY_UNIX), 0);
    call_init(&call);
    iocp_op_connect(&call.op, &path);
    CHECK_EQ(call_run(&call, port, &thing.object), IOCP_ENOENT);
    CHECK_EQ(iocp_error_from_os(call.packet.os_error), IOCP_ENOENT);
    thing_end(&thing, port);
    port_end(port);
}

/* A connection is connected once. */
TEST(connect_twice)
{
    int pair[2];
    struct thing thing;
    struct call call;
    struct iocp_port *port = port_open(0);
    make_connected_pair(pair);
    struct iocp_address peer = net_peer(pair[0]);
    thing_open(&thing, port, pair[0], 0);
    call_init(&call);
    iocp_op_connect(&call.op, &peer);
    CHECK_EQ(call_run(&call, port, &thing.object), IOCP_EISCONN);
    CHECK_EQ(iocp_error_from_os(call.packet.os_error), IOCP_EISCONN);
    thing_end(&thing, port);
    net_close(pair[1]);
    port_end(port);
}

/* A connect that nobody answers is pending until it is canceled. */
TEST(connect_canceled)
{
    struct thing thing;
    struct call call;
    struct iocp_address address = net_loopback();
    struct net_deaf deaf;
    struct iocp_port *port = port_open(0);
    net_deaf_open(&deaf, &address);
    thing_open(&thing, port, net_stream(IOCP_FAMILY_IPV4), 0);
    call_init(&call);
    iocp_op_connect(&call.op, &deaf.address);
    call_submit(&call, port, &thing.object);
    port_dispatch_for(port, 20 * MILLISECOND);
    CHECK_EQ(call_answers(&call), 0);
    CHECK_EQ(iocp_port_cancel(port, &call.op), 0);
    CHECK_EQ(call_wait(&call, port), IOCP_ECANCELED);
    thing_end(&thing, port);
    net_deaf_close(&deaf);
    port_end(port);
}
