/* The stream of received bytes: integrity, buffers that the user keeps, pools that run dry, its
 * end. */
#include "support/port.h"

#include <iocp/error.h>

#include <stdlib.h>
#include <string.h>

/* The byte at a position of the test's endless text. */
static unsigned char text_at(uint64_t position)
{
    return (unsigned char)(position * 131 + (position >> 8) * 17 + (position >> 16));
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

#define KEEP_MAX 64

struct stream {
    struct call call; /* first */
    uint64_t received;
    struct iocp_buffer *kept[KEEP_MAX];
    unsigned char *kept_data[KEEP_MAX];
    uint64_t kept_at[KEEP_MAX];
    uint32_t kept_size[KEEP_MAX];
    uint32_t kept_count;
    uint32_t keep; /* as many as this */
};

static void stream_keep(struct stream *stream, const struct iocp_packet *packet)
{
    uint32_t i = stream->kept_count++;
    stream->kept[i] = iocp_buffer_ref(packet->buffer);
    stream->kept_data[i] = packet->data;
    stream->kept_at[i] = stream->received;
    stream->kept_size[i] = (uint32_t)packet->result;
}

static void expect_text(const unsigned char *data, uint64_t position, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++)
        if (data[i] != text_at(position + i))
            FAIL("byte %llu of the stream", (unsigned long long)(position + i));
}

static void stream_received(const struct iocp_packet *packet)
{
    struct stream *stream = (struct stream *)packet->op;
    if (packet->flags & IOCP_PACKET_MORE) {
        CHECK_GT(packet->result, 0);
        CHECK(packet->buffer);
        CHECK_LE(packet->result, iocp_buffer_capacity(packet->buffer));
        expect_text(packet->data, stream->received, (uint64_t)packet->result);
        if (stream->kept_count < stream->keep)
            stream_keep(stream, packet);
        stream->received += (uint64_t)packet->result;
    } else {
        CHECK_LT(packet->result, 0);
        CHECK(!packet->buffer);
    }
    call_answered(packet);
}

static void stream_start(struct stream *stream, struct iocp_port *port, struct thing *thing)
{
    iocp_op_init(&stream->call.op, stream_received);
    iocp_op_recv_stream(&stream->call.op);
    call_submit(&stream->call, port, &thing->object);
}

static void stream_release(struct stream *stream, uint32_t i)
{
    expect_text(stream->kept_data[i], stream->kept_at[i], stream->kept_size[i]);
    CHECK(!iocp_buffer_unref(stream->kept[i]));
}

struct stream_target {
    struct stream *stream;
    uint64_t size;
};

static int stream_has(void *context)
{
    struct stream_target *target = context;
    return target->stream->received >= target->size;
}

static void stream_wait(struct stream *stream, struct iocp_port *port, uint64_t size)
{
    struct stream_target target = {stream, size};
    pump_until(port, stream_has, &target);
    CHECK_EQ(stream->received, size);
}

struct writer {
    int fd;
    uint64_t from;
    uint64_t size;
    pthread_t thread;
};

static void *writer_run(void *argument)
{
    struct writer *writer = argument;
    unsigned char data[70000];
    uint32_t state = 3;
    uint64_t sent = 0;
    while (sent < writer->size) {
        uint64_t part = 1 + next_random(&state) % (next_random(&state) % 4 ? 500 : sizeof(data));
        if (part > writer->size - sent)
            part = writer->size - sent;
        for (uint64_t i = 0; i < part; i++)
            data[i] = text_at(writer->from + sent + i);
        send_all(writer->fd, data, part);
        sent += part;
    }
    return NULL;
}

static void writer_start(struct writer *writer, int fd, uint64_t from, uint64_t size)
{
    writer->fd = fd;
    writer->from = from;
    writer->size = size;
    CHECK_EQ(pthread_create(&writer->thread, NULL, writer_run, writer), 0);
}

#define STREAM_SIZE (UINT64_C(4) << 20)

static void check_stream(int pair[2])
{
    struct thing thing;
    struct writer writer;
    static struct stream stream;
    memset(&stream, 0, sizeof(stream));
    struct iocp_port *port = port_open(0);
    thing_open(&thing, port, pair[0], 0);
    stream_start(&stream, port, &thing);
    writer_start(&writer, pair[1], 0, STREAM_SIZE);
    stream_wait(&stream, port, STREAM_SIZE);
    CHECK_EQ(pthread_join(writer.thread, NULL), 0);
    CHECK_EQ(call_finals(&stream.call), 0);
    CHECK(iocp_op_pending(&stream.call.op));
    net_shutdown_send(pair[1]);
    CHECK_EQ(call_wait(&stream.call, port), IOCP_EEOF);
    CHECK_EQ(stream.call.packet.os_error, 0);
    CHECK(!iocp_op_pending(&stream.call.op));
    thing_end(&thing, port);
    net_close(pair[1]);
    port_end(port);
}

/* 4 MiB in pieces of random sizes: all of it arrives, in order, and then the end, once. */
TEST(receives_all_over_tcp)
{
    int pair[2];
    make_connected_pair(pair);
    check_stream(pair);
}

TEST(receives_all_over_unix)
{
    int pair[2];
    make_unix_pair(pair);
    check_stream(pair);
}

/* A buffer that the user takes a reference of is the user's for as long as he likes: the bytes
 * stay, though the stream goes on; also when the port is gone. */
TEST(buffers_are_kept)
{
    int pair[2];
    struct thing thing;
    struct writer writer;
    static struct stream stream;
    struct iocp_port *port = port_open(0);
    make_connected_pair(pair);
    thing_open(&thing, port, pair[0], 0);
    stream.keep = KEEP_MAX;
    stream_start(&stream, port, &thing);
    writer_start(&writer, pair[1], 0, STREAM_SIZE / 4);
    stream_wait(&stream, port, STREAM_SIZE / 4);
    CHECK_EQ(pthread_join(writer.thread, NULL), 0);
    CHECK_GT(stream.kept_count, 0);
    net_close(pair[1]);
    CHECK_EQ(call_wait(&stream.call, port), IOCP_EEOF);
    thing_end(&thing, port);
    CHECK(!iocp_port_unref(port));
    CHECK_GT(iocp_memory_count(), 0);
    for (uint32_t i = 0; i < stream.kept_count; i++)
        stream_release(&stream, i);
    CHECK_EQ(iocp_memory_count(), 0);
}

/* All buffers are with the user: the stream waits, without an error, and goes on when one comes
 * back. */
TEST(an_empty_pool_is_waited_for)
{
    int pair[2];
    struct thing thing;
    struct writer writer;
    static struct stream stream;
    struct iocp_port_config config;
    struct iocp_port_stats stats;
    port_config(&config, 1);
    config.buffer_size = 512;
    config.buffer_count = 4;
    struct iocp_port *port = port_open_config(&config);
    make_local_pair(pair);
    thing_open(&thing, port, pair[0], 0);
    stream.keep = 4;
    stream_start(&stream, port, &thing);
    writer_start(&writer, pair[1], 0, 16384);
    uint64_t before = 0;
    while (stream.kept_count < 4)
        CHECK_GE(iocp_port_dispatch(port, 1000 * MILLISECOND), 1);
    port_dispatch_for(port, 10 * MILLISECOND);
    before = stream.received;
    CHECK_LE(before, 4 * 512);
    CHECK_EQ(call_finals(&stream.call), 0);
    stream_release(&stream, 2);
    stream_wait(&stream, port, 16384);
    CHECK_EQ(pthread_join(writer.thread, NULL), 0);
    iocp_port_stats(port, &stats);
    CHECK_GE(stats.starved, 1);
    CHECK_EQ(stats.buffers, 4 * stats.lanes);
    stream_release(&stream, 0);
    stream_release(&stream, 1);
    stream_release(&stream, 3);
    iocp_port_stats(port, &stats);
    CHECK_EQ(stats.buffers, 4 * stats.lanes); /* kept */
    CHECK_EQ(iocp_port_cancel(port, &stream.call.op), 0);
    CHECK_EQ(call_wait(&stream.call, port), IOCP_ECANCELED);
    thing_end(&thing, port);
    net_close(pair[1]);
    port_end(port);
}

/* A stream that waits for a buffer can be canceled, and its object closed. */
TEST(a_starved_stream_ends)
{
    for (int closing = 0; closing < 2; closing++) {
        int pair[2];
        struct thing thing;
        static struct stream stream;
        static unsigned char text[256];
        struct iocp_port_config config;
        memset(&stream, 0, sizeof(stream));
        port_config(&config, 1);
        config.buffer_size = 64;
        config.buffer_count = 2;
        struct iocp_port *port = port_open_config(&config);
        make_local_pair(pair);
        thing_open(&thing, port, pair[0], 0);
        for (uint64_t i = 0; i < sizeof(text); i++)
            text[i] = text_at(i);
        stream.keep = 2;
        stream_start(&stream, port, &thing);
        send_all(pair[1], text, sizeof(text));
        while (stream.kept_count < 2)
            CHECK_GE(iocp_port_dispatch(port, 1000 * MILLISECOND), 1);
        port_dispatch_for(port, 5 * MILLISECOND);
        if (closing)
            iocp_object_close(&thing.object);
        else
            CHECK_EQ(iocp_port_cancel(port, &stream.call.op), 0);
        CHECK_EQ(call_wait(&stream.call, port), IOCP_ECANCELED);
        stream_release(&stream, 0);
        thing_end(&thing, port);
        stream_release(&stream, 1);
        net_close(pair[1]);
        port_end(port);
    }
}

#define IDLE 64

/* An idle stream pins no buffer: 64 of them share four, and each is served. */
TEST(idle_streams_hold_no_buffer)
{
    static struct stream streams[IDLE];
    struct thing things[IDLE];
    int pairs[IDLE][2];
    struct iocp_port_config config;
    port_config(&config, 1);
    config.buffer_count = 4;
    struct iocp_port *port = port_open_config(&config);
    for (int i = 0; i < IDLE; i++) {
        make_local_pair(pairs[i]);
        thing_open(&things[i], port, pairs[i][0], 0);
        stream_start(&streams[i], port, &things[i]);
    }
    port_dispatch_for(port, MILLISECOND);
    for (uint64_t round = 0; round < 4; round++) {
        unsigned char byte = text_at(round);
        for (int i = 0; i < IDLE; i++)
            send_all(pairs[i][1], &byte, 1);
        for (int i = 0; i < IDLE; i++)
            stream_wait(&streams[i], port, round + 1);
    }
    for (int i = 0; i < IDLE; i++) {
        CHECK_EQ(call_finals(&streams[i].call), 0);
        thing_end(&things[i], port);
        CHECK_EQ(call_finals(&streams[i].call), 1);
        net_close(pairs[i][1]);
    }
    port_end(port);
}

/* Nor any memory of that size: what an idle stream costs is far below a buffer. */
TEST(idle_streams_cost_no_buffer)
{
    enum { SIZE = 65536 };
    static struct stream streams[IDLE];
    struct thing things[IDLE];
    int pairs[IDLE][2];
    size_t first = 0;
    struct iocp_port_config config;
    port_config(&config, 1);
    config.buffer_size = SIZE;
    struct iocp_port *port = port_open_config(&config);
    for (int i = 0; i < IDLE; i++) {
        make_connected_pair(pairs[i]);
        thing_open(&things[i], port, pairs[i][0], 0);
        stream_start(&streams[i], port, &things[i]);
        port_dispatch_for(port, MILLISECOND);
        if (i == 0)
            first = iocp_memory_size();
    }
    CHECK_LT(iocp_memory_size() - first, SIZE);
    for (int i = 0; i < IDLE; i++) {
        thing_end(&things[i], port);
        net_close(pairs[i][1]);
    }
    port_end(port);
}

/* Canceled, the stream takes no more: what comes after is there for the next receive. */
TEST(canceled_stream_leaves_the_rest)
{
    int pair[2];
    char data[16];
    struct thing thing;
    struct call call;
    static struct stream stream;
    struct iocp_port *port = port_open(0);
    make_connected_pair(pair);
    thing_open(&thing, port, pair[0], 0);
    stream_start(&stream, port, &thing);
    send_all(pair[1], &(char){(char)text_at(0)}, 1);
    stream_wait(&stream, port, 1);
    CHECK_EQ(iocp_port_cancel(port, &stream.call.op), 0);
    CHECK_EQ(call_wait(&stream.call, port), IOCP_ECANCELED);
    CHECK_EQ(call_answers(&stream.call), 2);
    send_all(pair[1], "after", 5);
    call_init(&call);
    iocp_op_recv(&call.op, data, sizeof(data));
    CHECK_EQ(call_run(&call, port, &thing.object), 5);
    CHECK_MEM(data, "after", 5);
    /* And it can begin anew. */
    stream.received = 0;
    stream_start(&stream, port, &thing);
    send_all(pair[1], &(char){(char)text_at(0)}, 1);
    stream_wait(&stream, port, 1);
    thing_end(&thing, port);
    CHECK_EQ(call_finals(&stream.call), 1);
    CHECK_EQ(stream.call.packet.result, IOCP_ECANCELED);
    net_close(pair[1]);
    port_end(port);
}

/* A reset ends it with the error and the system's code. */
TEST(reset_ends_the_stream)
{
    int pair[2];
    struct thing thing;
    static struct stream stream;
    struct iocp_port *port = port_open(0);
    make_connected_pair(pair);
    thing_open(&thing, port, pair[0], 0);
    stream_start(&stream, port, &thing);
    send_all(pair[1], &(char){(char)text_at(0)}, 1);
    stream_wait(&stream, port, 1);
    net_reset(pair[1]);
    CHECK_EQ(call_wait(&stream.call, port), IOCP_ECONNRESET);
    CHECK_EQ(iocp_error_from_os(stream.call.packet.os_error), IOCP_ECONNRESET);
    thing_end(&thing, port);
    port_end(port);
}

/* ---- The end right behind the data: a kernel may tell of both at once. */

#define BREAKERS 16
#define BREAKER_ROUNDS 100
#define BREAKER_BYTES 1000

struct breaker {
    struct stream stream; /* first */
    struct iocp_port *port;
    void (*make_pair)(int pair[2]);
    void (*break_off)(int fd);
    struct latch ended;
    pthread_t thread;
};

static void breaker_received(const struct iocp_packet *packet)
{
    struct breaker *breaker = (struct breaker *)packet->op;
    int final = !(packet->flags & IOCP_PACKET_MORE);
    stream_received(packet);
    if (final)
        latch_add(&breaker->ended, 1);
}

/* Many small sends, so that there are many wakes before the stream is looked at. */
static void breaker_round(struct breaker *breaker, uint64_t round)
{
    int pair[2];
    struct thing thing;
    memset(&breaker->stream, 0, sizeof(breaker->stream));
    breaker->make_pair(pair);
    thing_init_serial(&thing);
    CHECK_EQ(iocp_port_register(breaker->port, &thing.object, pair[0], 0), 0);
    iocp_op_init(&breaker->stream.call.op, breaker_received);
    iocp_op_recv_stream(&breaker->stream.call.op);
    call_submit(&breaker->stream.call, breaker->port, &thing.object);
    for (uint64_t i = 0; i < BREAKER_BYTES; i++) {
        unsigned char byte = text_at(i);
        send_all(pair[1], &byte, 1);
    }
    breaker->break_off(pair[1]);
    latch_wait_for(&breaker->ended, round);
    CHECK_LE(breaker->stream.received, BREAKER_BYTES);
    iocp_object_close(&thing.object);
    iocp_object_unref(&thing.object);
    while (!thing_destroyed(&thing))
        system_yield(); /* it is the worker that dispatches */
}

static void *breaker_run(void *argument)
{
    struct breaker *breaker = argument;
    /* A send takes 60 microseconds under Wine. */
    uint64_t rounds = test_on_windows() ? BREAKER_ROUNDS / 25 : BREAKER_ROUNDS;
    for (uint64_t round = 1; round <= rounds; round++)
        breaker_round(breaker, round);
    return NULL;
}

static void check_ends(void (*make_pair)(int pair[2]), void (*break_off)(int fd))
{
    static struct breaker breakers[BREAKERS];
    struct crew crew;
    struct iocp_port *port = port_open(0);
    crew_start(&crew, port, 2);
    for (int i = 0; i < BREAKERS; i++) {
        breakers[i].port = port;
        breakers[i].make_pair = make_pair;
        breakers[i].break_off = break_off;
        latch_init(&breakers[i].ended);
        CHECK_EQ(pthread_create(&breakers[i].thread, NULL, breaker_run, &breakers[i]), 0);
    }
    for (int i = 0; i < BREAKERS; i++)
        CHECK_EQ(pthread_join(breakers[i].thread, NULL), 0);
    crew_stop(&crew);
    port_end(port);
}

static void breaker_tcp(int pair[2])
{
    make_connected_pair(pair);
    net_no_delay(pair[1]);
}

static void breaker_unix(int pair[2])
{
    make_unix_pair(pair);
}

TEST(ends_right_behind_data_over_unix)
{
    check_ends(breaker_unix, net_close);
}

TEST(ends_right_behind_data_over_tcp)
{
    check_ends(breaker_tcp, net_close);
}

TEST(resets_right_behind_data)
{
    check_ends(breaker_tcp, net_reset);
}

/* Taken with wait, the packets of a stream are the caller's, with their buffers, until each is
 * given back. */
TEST(packets_of_a_stream_outlive_it)
{
    int pair[2];
    struct thing thing;
    struct call call;
    struct iocp_packet packets[3];
    int count = 0;
    struct iocp_port *port = port_open(0);
    make_local_pair(pair);
    thing_open(&thing, port, pair[0], 31);
    call_init(&call);
    iocp_op_recv_stream(&call.op);
    call_submit(&call, port, &thing.object);
    send_all(pair[1], "first", 5);
    CHECK_EQ(iocp_port_wait(port, &packets[count++], 1, IOCP_WAIT_FOREVER), 1);
    send_all(pair[1], "second", 6);
    CHECK_EQ(iocp_port_wait(port, &packets[count++], 1, IOCP_WAIT_FOREVER), 1);
    net_close(pair[1]);
    CHECK_EQ(iocp_port_wait(port, &packets[count++], 1, IOCP_WAIT_FOREVER), 1);
    iocp_object_close(&thing.object);
    iocp_object_unref(&thing.object);
    port_dispatch_for(port, MILLISECOND);
    CHECK_EQ(thing_destroyed(&thing), 0);
    CHECK_EQ(packets[0].result, 5);
    CHECK_MEM(packets[0].data, "first", 5);
    CHECK_EQ(packets[0].flags, IOCP_PACKET_MORE);
    CHECK_EQ(packets[1].result, 6);
    CHECK_MEM(packets[1].data, "second", 6);
    CHECK_EQ(packets[1].key, 31);
    CHECK(packets[1].object == &thing.object);
    CHECK_EQ(packets[2].result, IOCP_EEOF);
    CHECK_EQ(packets[2].flags, 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(thing_destroyed(&thing), 0);
        iocp_packet_release(&packets[i]);
    }
    CHECK_EQ(thing_destroyed(&thing), 1);
    port_end(port);
}
