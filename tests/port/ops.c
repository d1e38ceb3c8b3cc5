/* Operations on streams: receive, send, disconnect, poll. What each of them answers, and in which
 * order.
 *
 * Requirements Q4, Q9, Q33 and S1, and the design's orders: several receives are filled in the
 * order of their posting, several sends never mix. Each test runs on TCP; those that could differ,
 * on Unix sockets too. */
#include "support/port.h"

#include <iocp/error.h>

#include <stdlib.h>
#include <string.h>

struct link {
    struct iocp_port *port;
    struct thing thing; /* pair[0] */
    int peer;           /* pair[1] */
};

enum link_kind { LINK_TCP, LINK_UNIX, LINK_KINDS };

/* How many of them there are here. */
static enum link_kind link_kinds(void)
{
    if (net_have_unix())
        return LINK_KINDS;
    test_wine_differs("there are Unix sockets");
    return LINK_UNIX;
}

static void link_open(struct link *link, enum link_kind kind)
{
    int pair[2];
    if (kind == LINK_TCP)
        make_connected_pair(pair);
    else
        make_local_pair(pair);
    link->port = port_open(0);
    thing_open(&link->thing, link->port, pair[0], 1);
    link->peer = pair[1];
}

static void link_end(struct link *link)
{
    thing_end(&link->thing, link->port);
    if (link->peer >= 0)
        net_close(link->peer);
    port_end(link->port);
}

static int64_t link_run(struct link *link, struct call *call)
{
    return call_run(call, link->port, &link->thing.object);
}

static void link_submit(struct link *link, struct call *call)
{
    call_submit(call, link->port, &link->thing.object);
}

/* A receive gives what is there, up to its size; waits when nothing is; and ends with the stream.
 */
TEST(receive)
{
    for (enum link_kind kind = 0; kind < link_kinds(); kind++) {
        struct link link;
        struct call call;
        char data[16] = {0};
        link_open(&link, kind);
        call_init(&call);
        send_all(link.peer, "hello, world", 12);
        iocp_op_recv(&call.op, data, 5);
        CHECK_EQ(link_run(&link, &call), 5);
        CHECK_MEM(data, "hello", 5);
        iocp_op_recv(&call.op, data, sizeof(data));
        CHECK_EQ(link_run(&link, &call), 7);
        CHECK_MEM(data, ", world", 7);

        iocp_op_recv(&call.op, data, sizeof(data));
        link_submit(&link, &call);
        port_dispatch_for(link.port, MILLISECOND);
        CHECK_EQ(call_answers(&call), 0);
        send_all(link.peer, "more", 4);
        CHECK_EQ(call_wait(&call, link.port), 4);
        CHECK_MEM(data, "more", 4);
        CHECK_EQ(call.packet.os_error, 0);
        CHECK_EQ(call.packet.flags, 0);
        CHECK_EQ(call.packet.key, 1);
        CHECK(!call.packet.buffer);

        iocp_op_recv(&call.op, data, sizeof(data));
        link_submit(&link, &call);
        net_shutdown_send(link.peer);
        CHECK_EQ(call_wait(&call, link.port), IOCP_EEOF);
        CHECK_EQ(call.packet.os_error, 0);
        iocp_op_recv(&call.op, data, sizeof(data));
        CHECK_EQ(link_run(&link, &call), IOCP_EEOF);
        link_end(&link);
    }
}

/* A receive of no bytes tells that there is something to receive, and takes none of it; the end of
 * the stream is something too. */
TEST(receive_nothing)
{
    for (enum link_kind kind = 0; kind < link_kinds(); kind++) {
        struct link link;
        struct call call;
        char byte = 0;
        link_open(&link, kind);
        call_init(&call);
        iocp_op_recv(&call.op, &byte, 0);
        link_submit(&link, &call);
        port_dispatch_for(link.port, 5 * MILLISECOND);
        CHECK_EQ(call_answers(&call), 0);
        send_all(link.peer, "x", 1);
        CHECK_EQ(call_wait(&call, link.port), 0);
        iocp_op_recv(&call.op, NULL, 0);
        CHECK_EQ(link_run(&link, &call), 0);
        iocp_op_recv(&call.op, &byte, 1);
        CHECK_EQ(link_run(&link, &call), 1);
        CHECK_EQ(byte, 'x');
        iocp_op_recv(&call.op, &byte, 0);
        link_submit(&link, &call);
        port_dispatch_for(link.port, MILLISECOND);
        CHECK_EQ(call_answers(&call), 0);
        net_shutdown_send(link.peer);
        CHECK_EQ(call_wait(&call, link.port), 0);
        iocp_op_recv(&call.op, &byte, 1);
        CHECK_EQ(link_run(&link, &call), IOCP_EEOF);
        link_end(&link);
    }
}

/* A receive into several pieces fills them from the first on. */
TEST(receive_slices)
{
    struct link link;
    struct call call;
    char a[3] = {0};
    char b[1] = {0};
    char c[16] = {0};
    struct iocp_slice slices[4] = {{.data = a, .size = sizeof(a)},
                                   {.data = NULL, .size = 0},
                                   {.data = b, .size = sizeof(b)},
                                   {.data = c, .size = sizeof(c)}};
    link_open(&link, LINK_TCP);
    call_init(&call);
    iocp_op_recv_slices(&call.op, slices, 4);
    link_submit(&link, &call);
    send_all(link.peer, "abcdefgh", 8);
    CHECK_EQ(call_wait(&call, link.port), 8);
    CHECK_MEM(a, "abc", 3);
    CHECK_MEM(b, "d", 1);
    CHECK_MEM(c, "efgh", 4);
    link_end(&link);
}

#define MANY 16

/* Several receives that wait are filled in the order of their posting: the kernel alone would fill
 * the last one first. */
TEST(receives_fill_in_order)
{
    for (enum link_kind kind = 0; kind < link_kinds(); kind++) {
        struct link link;
        struct call calls[MANY];
        char data[MANY][4];
        char all[MANY * 4];
        link_open(&link, kind);
        for (int i = 0; i < MANY; i++) {
            call_init(&calls[i]);
            iocp_op_recv(&calls[i].op, data[i], 4);
            link_submit(&link, &calls[i]);
            port_dispatch_for(link.port, i % 4 == 0 ? MILLISECOND / 2 : 0);
        }
        for (int i = 0; i < MANY * 4; i++)
            all[i] = (char)i;
        send_all(link.peer, all, sizeof(all));
        for (int i = 0; i < MANY; i++)
            CHECK_EQ(call_wait(&calls[i], link.port), 4);
        CHECK_MEM(data, all, sizeof(all));
        link_end(&link);
    }
}

/* A send is whole; one of pieces leaves in the order of the pieces; one of nothing is legal. */
TEST(sends)
{
    for (enum link_kind kind = 0; kind < link_kinds(); kind++) {
        struct link link;
        struct call call;
        char text[] = "one two three four";
        struct iocp_slice slices[5] = {{.data = text, .size = 4},
                                       {.data = text + 4, .size = 4},
                                       {.data = text, .size = 0},
                                       {.data = text + 8, .size = 6},
                                       {.data = text + 14, .size = 4}};
        link_open(&link, kind);
        call_init(&call);
        iocp_op_send(&call.op, "hello", 5);
        CHECK_EQ(link_run(&link, &call), 5);
        iocp_op_send_slices(&call.op, slices, 5);
        CHECK_EQ(link_run(&link, &call), 18);
        CHECK_EQ(call.packet.os_error, 0);
        iocp_op_send(&call.op, "", 0);
        CHECK_EQ(link_run(&link, &call), 0);
        expect_bytes(link.peer, "helloone two three four", 23);
        link_end(&link);
    }
}

/* ---- Large sends. */

struct reader {
    int fd;
    size_t size;
    char *data;
    pthread_t thread;
};

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void *reader_run(void *argument)
{
    struct reader *reader = argument;
    uint32_t state = 1;
    size_t received = 0;
    while (received < reader->size) {
        size_t part = 1 + next_random(&state) % 65536;
        if (part > reader->size - received)
            part = reader->size - received;
        recv_exact(reader->fd, reader->data + received, part);
        received += part;
        /* A slow one: the sender's buffer fills again and again. */
        if (next_random(&state) % 8 == 0)
            system_nap(MILLISECOND / 4);
    }
    return NULL;
}

static void reader_start(struct reader *reader, int fd, size_t size)
{
    reader->fd = fd;
    reader->size = size;
    reader->data = malloc(size);
    CHECK(reader->data);
    CHECK_EQ(pthread_create(&reader->thread, NULL, reader_run, reader), 0);
}

static char *make_pattern(size_t size)
{
    char *data = malloc(size);
    uint32_t state = 7;
    CHECK(data);
    for (size_t i = 0; i < size; i++)
        data[i] = (char)next_random(&state);
    return data;
}

#define LARGE (8u << 20)

/* 8 MiB through small buffers to a slow reader: partial writes go on until all is out, in order,
 * and there is one answer with the whole size. */
TEST(a_large_send_is_whole)
{
    for (enum link_kind kind = 0; kind < link_kinds(); kind++) {
        struct link link;
        struct reader reader;
        struct call call;
        char *pattern = make_pattern(LARGE);
        struct iocp_slice slices[3] = {{.data = pattern, .size = 1000001},
                                       {.data = pattern + 1000001, .size = 3},
                                       {.data = pattern + 1000004, .size = LARGE - 1000004}};
        link_open(&link, kind);
        reader_start(&reader, link.peer, LARGE);
        call_init(&call);
        iocp_op_send_slices(&call.op, slices, 3);
        CHECK_EQ(link_run(&link, &call), LARGE);
        CHECK_EQ(pthread_join(reader.thread, NULL), 0);
        CHECK(memcmp(reader.data, pattern, LARGE) == 0);
        pump_drain(link.port);
        CHECK_EQ(call_answers(&call), 1);
        free(reader.data);
        free(pattern);
        link_end(&link);
    }
}

#define BLOCK (512u << 10)

/* Large sends that wait at the same time go out one after the other, in the order of their posting,
 * and never into each other. */
TEST(sends_never_mix)
{
    for (enum link_kind kind = 0; kind < link_kinds(); kind++) {
        struct link link;
        struct reader reader;
        struct call calls[5];
        char *data = malloc(5 * BLOCK);
        CHECK(data);
        link_open(&link, kind);
        net_small_buffers((int)iocp_object_handle(&link.thing.object));
        for (int i = 0; i < 5; i++) {
            memset(data + (size_t)i * BLOCK, 'a' + i, BLOCK);
            call_init(&calls[i]);
            iocp_op_send(&calls[i].op, data + (size_t)i * BLOCK, i == 3 ? 1 : BLOCK);
            link_submit(&link, &calls[i]);
        }
        reader_start(&reader, link.peer, 4 * BLOCK + 1);
        for (int i = 0; i < 5; i++)
            CHECK_EQ(call_wait(&calls[i], link.port), i == 3 ? 1 : BLOCK);
        CHECK_EQ(pthread_join(reader.thread, NULL), 0);
        CHECK(memcmp(reader.data, data, 3 * BLOCK + 1) == 0);
        CHECK(memcmp(reader.data + 3 * BLOCK + 1, data + 4 * BLOCK, BLOCK) == 0);
        free(reader.data);
        free(data);
        link_end(&link);
    }
}

#define SENDERS 4
#define SENDS_EACH 20
#define SEND_SIZE 20000u

struct sender {
    struct link *link;
    struct latch *answered;
    pthread_t thread;
    char data[SEND_SIZE];
    struct call calls[SENDS_EACH];
};

static void *sender_run(void *argument)
{
    struct sender *sender = argument;
    for (int i = 0; i < SENDS_EACH; i++) {
        call_init(&sender->calls[i]);
        sender->calls[i].latch = sender->answered;
        iocp_op_send(&sender->calls[i].op, sender->data, SEND_SIZE);
        link_submit(sender->link, &sender->calls[i]);
    }
    return NULL;
}

/* Q33: sends come from any thread. Each of them is one piece at the other end. */
TEST(sends_of_many_threads_never_mix)
{
    static struct sender senders[SENDERS];
    struct link link;
    struct reader reader;
    struct latch answered = LATCH_INIT;
    link_open(&link, LINK_TCP);
    for (int i = 0; i < SENDERS; i++) {
        senders[i].link = &link;
        senders[i].answered = &answered;
        memset(senders[i].data, 'a' + i, SEND_SIZE);
        CHECK_EQ(pthread_create(&senders[i].thread, NULL, sender_run, &senders[i]), 0);
    }
    reader_start(&reader, link.peer, SENDERS * SENDS_EACH * SEND_SIZE);
    pump_until_latch(link.port, &answered, SENDERS * SENDS_EACH);
    CHECK_EQ(pthread_join(reader.thread, NULL), 0);
    for (int i = 0; i < SENDERS; i++)
        CHECK_EQ(pthread_join(senders[i].thread, NULL), 0);
    for (size_t at = 0; at < reader.size; at += SEND_SIZE) {
        struct sender *sender = &senders[reader.data[at] - 'a'];
        CHECK_LT(reader.data[at] - 'a', SENDERS);
        CHECK(memcmp(reader.data + at, sender->data, SEND_SIZE) == 0);
    }
    free(reader.data);
    link_end(&link);
}

/* A send that waits for the peer holds up no receive. */
TEST(both_directions_at_once)
{
    struct link link;
    struct reader reader;
    struct call send;
    struct call receive;
    char byte = 0;
    char *pattern = make_pattern(LARGE);
    link_open(&link, LINK_TCP);
    call_init(&send);
    call_init(&receive);
    iocp_op_send(&send.op, pattern, LARGE);
    link_submit(&link, &send);
    iocp_op_recv(&receive.op, &byte, 1);
    link_submit(&link, &receive);
    port_dispatch_for(link.port, MILLISECOND);
    send_all(link.peer, "y", 1);
    CHECK_EQ(call_wait(&receive, link.port), 1);
    CHECK_EQ(byte, 'y');
    CHECK_EQ(call_finals(&send), 0);
    reader_start(&reader, link.peer, LARGE);
    CHECK_EQ(call_wait(&send, link.port), LARGE);
    CHECK_EQ(pthread_join(reader.thread, NULL), 0);
    CHECK(memcmp(reader.data, pattern, LARGE) == 0);
    free(reader.data);
    free(pattern);
    link_end(&link);
}

/* Disconnect ends the sending side behind all sends, at once queued or not; receiving goes on. */
TEST(disconnect_after_sends)
{
    for (enum link_kind kind = 0; kind < link_kinds(); kind++) {
        struct link link;
        struct reader reader;
        struct call send;
        struct call end;
        struct call late;
        struct call receive;
        char byte = 0;
        char *pattern = make_pattern(1 << 20);
        link_open(&link, kind);
        call_init(&send);
        call_init(&end);
        call_init(&late);
        call_init(&receive);
        iocp_op_send(&send.op, pattern, 1 << 20);
        iocp_op_disconnect(&end.op);
        iocp_op_send(&late.op, "z", 1);
        link_submit(&link, &send);
        link_submit(&link, &end);
        link_submit(&link, &late);
        reader_start(&reader, link.peer, 1 << 20);
        CHECK_EQ(call_wait(&send, link.port), 1 << 20);
        CHECK_EQ(call_wait(&end, link.port), 0);
        CHECK_EQ(call_wait(&late, link.port), IOCP_EPIPE);
        CHECK_EQ(iocp_error_from_os(late.packet.os_error), IOCP_EPIPE);
        CHECK_EQ(pthread_join(reader.thread, NULL), 0);
        CHECK(memcmp(reader.data, pattern, 1 << 20) == 0);
        expect_eof(link.peer);
        send_all(link.peer, "q", 1);
        iocp_op_recv(&receive.op, &byte, 1);
        CHECK_EQ(link_run(&link, &receive), 1);
        free(reader.data);
        free(pattern);
        link_end(&link);
    }
}

/* A peer that resets is an error with the system's code, never a count of bytes: once upon a time
 * it was a success with 4,294,967,192 of them. */
TEST(reset_by_the_peer)
{
    for (int pending = 0; pending < 2; pending++) {
        struct link link;
        struct call receive;
        struct call send;
        char byte;
        if (!pending && test_wine_differs("RV-09: a receive after a reset fails"))
            continue;
        link_open(&link, LINK_TCP);
        call_init(&receive);
        call_init(&send);
        iocp_op_recv(&receive.op, &byte, 1);
        if (pending) {
            link_submit(&link, &receive);
            port_dispatch_for(link.port, MILLISECOND);
        }
        net_reset(link.peer);
        link.peer = -1;
        if (!pending)
            link_submit(&link, &receive);
        CHECK_EQ(call_wait(&receive, link.port), IOCP_ECONNRESET);
        CHECK_EQ(iocp_error_from_os(receive.packet.os_error), IOCP_ECONNRESET);
        CHECK_EQ(receive.packet.flags, 0);
        /* No SIGPIPE comes of it either. */
        iocp_op_send(&send.op, "x", 1);
        int64_t result = link_run(&link, &send);
        CHECK(result == IOCP_EPIPE || result == IOCP_ECONNRESET);
        CHECK_NE(send.packet.os_error, 0);
        link_end(&link);
    }
}

/* A send that waits for room ends when the peer resets. */
TEST(reset_ends_a_send)
{
    struct link link;
    struct call send;
    char *pattern = make_pattern(LARGE);
    link_open(&link, LINK_TCP);
    call_init(&send);
    iocp_op_send(&send.op, pattern, LARGE);
    link_submit(&link, &send);
    port_dispatch_for(link.port, MILLISECOND);
    CHECK_EQ(call_finals(&send), 0);
    net_reset(link.peer);
    link.peer = -1;
    int64_t result = call_wait(&send, link.port);
    CHECK(result == IOCP_EPIPE || result == IOCP_ECONNRESET);
    CHECK_NE(send.packet.os_error, 0);
    free(pattern);
    link_end(&link);
}

/* What the system refuses comes as a packet too, not from submit. */
TEST(refusals_are_answers)
{
    struct iocp_port *port = port_open(0);
    struct thing thing;
    struct call call;
    char byte;
    thing_open(&thing, port, net_stream(IOCP_FAMILY_IPV4), 0);
    call_init(&call);
    iocp_op_recv(&call.op, &byte, 1);
    CHECK_EQ(call_run(&call, port, &thing.object), IOCP_ENOTCONN);
    CHECK_EQ(iocp_error_from_os(call.packet.os_error), IOCP_ENOTCONN);
    iocp_op_send(&call.op, "x", 1);
    int64_t result = call_run(&call, port, &thing.object);
    CHECK_LT(result, 0);
    if (!test_wine_differs("a send without a connection fails with WSAENOTCONN"))
        CHECK(result == IOCP_EPIPE || result == IOCP_ENOTCONN);
    iocp_op_accept(&call.op);
    CHECK_LT(call_run(&call, port, &thing.object), 0);
    CHECK_EQ(iocp_error_from_os(call.packet.os_error), IOCP_EINVAL);
    thing_end(&thing, port);
    port_end(port);
}

static int handle_is_closed(void *context)
{
    return !system_is_open(*(iocp_handle *)context);
}

/* An op on a closed object is accepted and answered with IOCP_ECLOSED. */
TEST(closed_object)
{
    struct link link;
    struct call call;
    struct call post;
    char byte;
    link_open(&link, LINK_UNIX);
    iocp_handle handle = iocp_object_handle(&link.thing.object);
    call_init(&call);
    call_init(&post);
    iocp_object_close(&link.thing.object);
    iocp_object_close(&link.thing.object);
    iocp_op_recv(&call.op, &byte, 1);
    CHECK_EQ(link_run(&link, &call), IOCP_ECLOSED);
    pump_until(link.port, handle_is_closed, &handle);
    expect_eof(link.peer);
    iocp_op_send(&call.op, "x", 1);
    CHECK_EQ(link_run(&link, &call), IOCP_ECLOSED);
    /* Posts and timers are not the handle's. */
    iocp_op_post(&post.op, 3, 4);
    CHECK_EQ(iocp_port_post(link.port, &link.thing.object, &post.op), 0);
    CHECK_EQ(call_wait(&post, link.port), 4);
    iocp_op_timer(&call.op, 0, 0);
    CHECK_EQ(link_run(&link, &call), 0);
    link_end(&link);
}

/* ---- Poll: for handles that other code reads. */

TEST(poll_for_reading_and_writing)
{
    struct link link;
    struct call read;
    struct call write;
    char byte;
    int fd;
    link_open(&link, LINK_UNIX);
    fd = (int)iocp_object_handle(&link.thing.object);
    call_init(&read);
    call_init(&write);
    iocp_op_poll(&write.op, IOCP_POLL_WRITE);
    CHECK_EQ(link_run(&link, &write), IOCP_POLL_WRITE);
    iocp_op_poll(&read.op, IOCP_POLL_READ);
    link_submit(&link, &read);
    port_dispatch_for(link.port, MILLISECOND);
    CHECK_EQ(call_answers(&read), 0);
    send_all(link.peer, "x", 1);
    CHECK_EQ(call_wait(&read, link.port), IOCP_POLL_READ);
    iocp_op_poll(&read.op, IOCP_POLL_READ | IOCP_POLL_WRITE);
    CHECK_EQ(link_run(&link, &read), IOCP_POLL_READ | IOCP_POLL_WRITE);
    CHECK_EQ(net_recv_some(fd, &byte, 1), 1);
    iocp_op_poll(&read.op, IOCP_POLL_READ);
    link_submit(&link, &read);
    port_dispatch_for(link.port, MILLISECOND);
    CHECK_EQ(call_answers(&read), 0);
    net_close(link.peer);
    link.peer = -1;
    int64_t events = call_wait(&read, link.port);
    CHECK_GT(events, 0);
    CHECK(events & (IOCP_POLL_READ | IOCP_POLL_ERROR));
    link_end(&link);
}

/* A pipe is no socket, and can be polled for, but by Windows. */
TEST(poll_a_pipe)
{
    iocp_handle ends[2];
    struct thing thing;
    struct call call;
    struct iocp_port *port = port_open(0);
    system_pipe(ends);
    thing_open(&thing, port, ends[0], 0);
    call_init(&call);
    iocp_op_poll(&call.op, IOCP_POLL_READ);
    call_submit(&call, port, &thing.object);
    if (!test_on_windows()) {
        port_dispatch_for(port, MILLISECOND);
        CHECK_EQ(call_answers(&call), 0);
    }
    system_pipe_write(ends[1], 'x');
    CHECK_EQ(call_wait(&call, port), test_on_windows() ? IOCP_ENOTSUP : IOCP_POLL_READ);
    thing_end(&thing, port);
    system_close(ends[1]);
    port_end(port);
}
