/* Datagrams: where they come from and go to, their borders, and what is too long. */
#include "support/port.h"

#include <iocp/error.h>

#include <stdlib.h>
#include <string.h>

struct spot {
    struct iocp_port *port;
    struct thing thing;          /* a UDP socket of the port's */
    struct iocp_address address; /* where it is */
    struct iocp_address other;
    int peer; /* a socket of the test's */
};

static void spot_open(struct spot *spot)
{
    spot->port = port_open(0);
    thing_open(&spot->thing, spot->port, net_udp(&spot->address), 0);
    spot->peer = net_udp(&spot->other);
}

static void spot_end(struct spot *spot)
{
    thing_end(&spot->thing, spot->port);
    net_close(spot->peer);
    port_end(spot->port);
}

static void peer_send(struct spot *spot, const void *data, size_t size)
{
    CHECK_EQ(net_send_to(spot->peer, data, size, &spot->address), size);
}

/* A datagram comes with the address of its sender; one to that address gets back there. */
TEST(from_and_to)
{
    struct spot spot;
    struct call call;
    struct iocp_address from;
    char data[64] = {0};
    spot_open(&spot);
    call_init(&call);
    memset(&from, 0xab, sizeof(from));
    iocp_op_recv_from(&call.op, data, sizeof(data), &from);
    call_submit(&call, spot.port, &spot.thing.object);
    port_dispatch_for(spot.port, MILLISECOND);
    CHECK_EQ(call_answers(&call), 0);
    peer_send(&spot, "question", 8);
    CHECK_EQ(call_wait(&call, spot.port), 8);
    CHECK_MEM(data, "question", 8);
    CHECK_EQ(call.packet.flags, 0);
    CHECK(iocp_address_equal(&from, &spot.other));
    CHECK_EQ(iocp_address_port(&from), iocp_address_port(&spot.other));

    iocp_op_send_to(&call.op, "answer", 6, &from);
    CHECK_EQ(call_run(&call, spot.port, &spot.thing.object), 6);
    CHECK_EQ(net_recv_some(spot.peer, data, sizeof(data)), 6);
    CHECK_MEM(data, "answer", 6);
    spot_end(&spot);
}

/* Nobody has to ask for the address. */
TEST(from_anybody)
{
    struct spot spot;
    struct call call;
    char data[8];
    spot_open(&spot);
    call_init(&call);
    peer_send(&spot, "abc", 3);
    iocp_op_recv_from(&call.op, data, sizeof(data), NULL);
    CHECK_EQ(call_run(&call, spot.port, &spot.thing.object), 3);
    peer_send(&spot, "defg", 4);
    iocp_op_recv(&call.op, data, sizeof(data));
    CHECK_EQ(call_run(&call, spot.port, &spot.thing.object), 4);
    CHECK_MEM(data, "defg", 4);
    spot_end(&spot);
}

/* What does not fit is cut off, and that is said; the next datagram is whole. */
TEST(truncated)
{
    struct spot spot;
    struct call call;
    struct iocp_address from;
    char data[4];
    spot_open(&spot);
    call_init(&call);
    peer_send(&spot, "longer than that", 16);
    peer_send(&spot, "fits", 4);
    iocp_op_recv_from(&call.op, data, sizeof(data), &from);
    CHECK_EQ(call_run(&call, spot.port, &spot.thing.object), 4);
    CHECK_EQ(call.packet.flags, IOCP_PACKET_TRUNCATED);
    CHECK_MEM(data, "long", 4);
    CHECK(iocp_address_equal(&from, &spot.other));
    iocp_op_recv_from(&call.op, data, sizeof(data), &from);
    CHECK_EQ(call_run(&call, spot.port, &spot.thing.object), 4);
    CHECK_EQ(call.packet.flags, 0);
    CHECK_MEM(data, "fits", 4);
    spot_end(&spot);
}

/* S1: a datagram of no bytes is a datagram, not the end of anything. */
TEST(empty)
{
    struct spot spot;
    struct call call;
    struct iocp_address from;
    char data[4];
    spot_open(&spot);
    call_init(&call);
    iocp_op_recv_from(&call.op, data, sizeof(data), &from);
    call_submit(&call, spot.port, &spot.thing.object);
    port_dispatch_for(spot.port, MILLISECOND);
    peer_send(&spot, "", 0);
    CHECK_EQ(call_wait(&call, spot.port), 0);
    CHECK_EQ(call.packet.flags, 0);
    CHECK_EQ(call.packet.os_error, 0);
    CHECK(iocp_address_equal(&from, &spot.other));
    iocp_op_send_to(&call.op, "", 0, &from);
    CHECK_EQ(call_run(&call, spot.port, &spot.thing.object), 0);
    CHECK_EQ(net_recv_some(spot.peer, data, sizeof(data)), 0);
    spot_end(&spot);
}

#define SEVERAL 10

/* Several receives that wait: one datagram each, in the order of their posting. */
TEST(several_in_order)
{
    struct spot spot;
    struct call calls[SEVERAL];
    unsigned char data[SEVERAL][16];
    struct iocp_address from[SEVERAL];
    spot_open(&spot);
    for (int i = 0; i < SEVERAL; i++) {
        call_init(&calls[i]);
        iocp_op_recv_from(&calls[i].op, data[i], sizeof(data[i]), &from[i]);
        call_submit(&calls[i], spot.port, &spot.thing.object);
    }
    port_dispatch_for(spot.port, MILLISECOND);
    for (unsigned char i = 0; i < SEVERAL; i++) {
        unsigned char text[SEVERAL + 1];
        memset(text, i, sizeof(text));
        peer_send(&spot, text, (size_t)i + 1);
    }
    for (int i = 0; i < SEVERAL; i++) {
        CHECK_EQ(call_wait(&calls[i], spot.port), i + 1);
        CHECK_EQ(data[i][i], i);
        CHECK(iocp_address_equal(&from[i], &spot.other));
    }
    spot_end(&spot);
}

/* What no datagram can hold is refused, whole. */
TEST(too_long_to_send)
{
    struct spot spot;
    struct call call;
    size_t size = 70000;
    char *data = calloc(1, size);
    CHECK(data);
    spot_open(&spot);
    call_init(&call);
    iocp_op_send_to(&call.op, data, size, &spot.other);
    CHECK_EQ(call_run(&call, spot.port, &spot.thing.object), IOCP_EMSGSIZE);
    CHECK_EQ(iocp_error_from_os(call.packet.os_error), IOCP_EMSGSIZE);
    iocp_op_send_to(&call.op, data, 3, &spot.other);
    CHECK_EQ(call_run(&call, spot.port, &spot.thing.object), 3);
    free(data);
    spot_end(&spot);
}

/* Connected ones need no address, and keep the borders of datagrams too. */
TEST(connected)
{
    int pair[2];
    struct thing thing;
    struct call call;
    char data[64];
    struct iocp_slice slices[2] = {{.data = data, .size = 3}, {.data = data + 3, .size = 2}};
    struct iocp_port *port = port_open(0);
    make_udp_pair(pair);
    thing_open(&thing, port, pair[0], 0);
    call_init(&call);
    memcpy(data, "abcde", 5);
    iocp_op_send_slices(&call.op, slices, 2);
    CHECK_EQ(call_run(&call, port, &thing.object), 5);
    iocp_op_send(&call.op, "f", 1);
    CHECK_EQ(call_run(&call, port, &thing.object), 1);
    CHECK_EQ(net_recv_some(pair[1], data, sizeof(data)), 5);
    CHECK_MEM(data, "abcde", 5);
    CHECK_EQ(net_recv_some(pair[1], data, sizeof(data)), 1);
    thing_end(&thing, port);
    net_close(pair[1]);
    port_end(port);
}
