/* The contract of backends: connected sockets. See backend_contract.h. */
#include "support/backend_contract.h"

#include <iocp/memory.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* One lane and one connection; the peer's end is a blocking socket. */
struct stream {
    struct contract contract;
    struct iocp_object object;
    struct iocp_op op;
    int peer;
    char data[64];
};

static void stream_open_sized(struct stream *stream, const struct iocp__backend *backend,
                              size_t buffer_size, uint32_t buffer_count)
{
    int pair[2];

    contract_open_sized(&stream->contract, backend, buffer_size, buffer_count);
    make_connected_pair(pair);
    contract_attach(&stream->contract, &stream->object, pair[0]);
    stream->peer = pair[1];
}

static void stream_open(struct stream *stream, const struct iocp__backend *backend)
{
    stream_open_sized(stream, backend, 4096, 64);
}

static void stream_close(struct stream *stream)
{
    contract_detach(&stream->contract, &stream->object);
    if (stream->peer >= 0)
        net_close(stream->peer);
    contract_close(&stream->contract);
    CHECK_EQ(iocp_memory_count(), 0);
}

static void stream_submit(struct stream *stream)
{
    contract_submit(&stream->contract, &stream->object, &stream->op);
}

static int64_t stream_run(struct stream *stream)
{
    stream_submit(stream);
    return contract_answer(&stream->contract, &stream->op);
}

static int64_t stream_recv(struct stream *stream)
{
    iocp_op_recv(&stream->op, stream->data, sizeof(stream->data));
    return stream_run(stream);
}

/* ---- Receiving once. */

void contract_recv_takes_what_is_there(const struct iocp__backend *backend)
{
    struct stream stream;

    stream_open(&stream, backend);
    send_all(stream.peer, "hello", 5);
    CHECK_EQ(stream_recv(&stream), 5);
    CHECK_MEM(stream.data, "hello", 5);
    stream_close(&stream);
}

void contract_recv_waits(const struct iocp__backend *backend)
{
    struct stream stream;

    stream_open(&stream, backend);
    for (int i = 0; i < 3; i++) {
        iocp_op_recv(&stream.op, stream.data, sizeof(stream.data));
        stream_submit(&stream);
        contract_nothing(&stream.contract);
        send_all(stream.peer, "hello", 5);
        CHECK_EQ(contract_answer(&stream.contract, &stream.op), 5);
    }
    stream_close(&stream);
}

void contract_recv_in_a_row(const struct iocp__backend *backend)
{
    struct stream stream;

    stream_open(&stream, backend);
    send_all(stream.peer, "abcdefgh", 8);
    for (int i = 0; i < 4; i++) {
        iocp_op_recv(&stream.op, stream.data, 2);
        CHECK_EQ(stream_run(&stream), 2);
        CHECK_MEM(stream.data, &"abcdefgh"[i * 2], 2);
    }
    /* It was emptied by a receive that was full, then by one that was short. */
    send_all(stream.peer, "xyz", 3);
    CHECK_EQ(stream_recv(&stream), 3);
    send_all(stream.peer, "uv", 2);
    CHECK_EQ(stream_recv(&stream), 2);
    CHECK_MEM(stream.data, "uv", 2);
    stream_close(&stream);
}

void contract_recv_into_slices(const struct iocp__backend *backend)
{
    struct stream stream;
    struct iocp_slice slices[3];
    char a[3];
    char b[4];

    stream_open(&stream, backend);
    send_all(stream.peer, "abcdef", 6);
    slices[0] = (struct iocp_slice){.data = a, .size = 3};
    slices[1] = (struct iocp_slice){.data = NULL, .size = 0};
    slices[2] = (struct iocp_slice){.data = b, .size = 4};
    iocp_op_recv_slices(&stream.op, slices, 3);
    CHECK_EQ(stream_run(&stream), 6);
    CHECK_MEM(a, "abc", 3);
    CHECK_MEM(b, "def", 3);
    stream_close(&stream);
}

void contract_recv_of_nothing_waits_for_data(const struct iocp__backend *backend)
{
    struct stream stream;

    stream_open(&stream, backend);
    for (int i = 0; i < 3; i++) {
        iocp_op_recv(&stream.op, NULL, 0);
        stream_submit(&stream);
        contract_nothing(&stream.contract);
        send_all(stream.peer, "hello", 5);
        CHECK_EQ(contract_answer(&stream.contract, &stream.op), 0);
        /* Again, with the data there, and nothing was taken. */
        iocp_op_recv(&stream.op, NULL, 0);
        CHECK_EQ(stream_run(&stream), 0);
        CHECK_EQ(stream_recv(&stream), 5);
    }
    stream_close(&stream);
}

void contract_recv_of_nothing_sees_the_end(const struct iocp__backend *backend)
{
    struct stream stream;

    stream_open(&stream, backend);
    iocp_op_recv(&stream.op, NULL, 0);
    stream_submit(&stream);
    net_shutdown_send(stream.peer);
    CHECK_EQ(contract_answer(&stream.contract, &stream.op), 0);
    CHECK_EQ(stream_recv(&stream), IOCP_EEOF);
    stream_close(&stream);
}

void contract_recv_at_the_end_is_eof(const struct iocp__backend *backend)
{
    struct stream stream;

    stream_open(&stream, backend);
    send_all(stream.peer, "last", 4);
    net_shutdown_send(stream.peer);
    CHECK_EQ(stream_recv(&stream), 4);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(stream_recv(&stream), IOCP_EEOF);
        CHECK_EQ(stream.op.event.os_error, 0);
    }
    /* The other direction is open. */
    iocp_op_send(&stream.op, "reply", 5);
    CHECK_EQ(stream_run(&stream), 5);
    expect_bytes(stream.peer, "reply", 5);
    stream_close(&stream);
}

void contract_recv_of_a_reset_connection(const struct iocp__backend *backend)
{
    struct stream stream;

    /* While it waits, and before it begins. */
    for (int before = 0; before < 2; before++) {
        if (before && test_wine_differs("RV-09: a receive after a reset fails"))
            break;
        stream_open(&stream, backend);
        iocp_op_recv(&stream.op, stream.data, sizeof(stream.data));
        if (!before)
            stream_submit(&stream);
        net_reset(stream.peer);
        stream.peer = -1;
        if (before)
            stream_submit(&stream);
        CHECK_EQ(contract_answer(&stream.contract, &stream.op), IOCP_ECONNRESET);
        CHECK_EQ(iocp_error_from_os(stream.op.event.os_error), IOCP_ECONNRESET);
        stream_close(&stream);
    }
}

void contract_recv_canceled(const struct iocp__backend *backend)
{
    struct stream stream;

    stream_open(&stream, backend);
    for (int i = 0; i < 3; i++) {
        iocp_op_recv(&stream.op, stream.data, sizeof(stream.data));
        stream_submit(&stream);
        if (i)
            contract_nothing(&stream.contract);
        contract_cancel(&stream.contract, &stream.op);
        CHECK_EQ(contract_answer(&stream.contract, &stream.op), IOCP_ECANCELED);
        contract_nothing(&stream.contract);
    }
    send_all(stream.peer, "x", 1);
    CHECK_EQ(stream_recv(&stream), 1);
    stream_close(&stream);
}

void contract_recv_not_connected(const struct iocp__backend *backend)
{
    struct contract contract;
    struct iocp_object object;
    struct iocp_op op;
    char data[4];

    contract_open(&contract, backend);
    contract_attach(&contract, &object, net_stream(IOCP_FAMILY_IPV4));
    iocp_op_recv(&op, data, sizeof(data));
    contract_submit(&contract, &object, &op);
    CHECK_EQ(contract_answer(&contract, &op), IOCP_ENOTCONN);
    contract_detach(&contract, &object);
    contract_close(&contract);
}

/* ---- Sending. */

void contract_send_goes_out(const struct iocp__backend *backend)
{
    struct stream stream;

    stream_open(&stream, backend);
    for (int i = 0; i < 10; i++) {
        iocp_op_send(&stream.op, "hello", 5);
        CHECK_EQ(stream_run(&stream), 5);
    }
    for (int i = 0; i < 10; i++)
        expect_bytes(stream.peer, "hello", 5);
    stream_close(&stream);
}

void contract_send_of_nothing(const struct iocp__backend *backend)
{
    struct stream stream;

    stream_open(&stream, backend);
    iocp_op_send(&stream.op, "", 0);
    CHECK_EQ(stream_run(&stream), 0);
    iocp_op_send_slices(&stream.op, NULL, 0);
    CHECK_EQ(stream_run(&stream), 0);
    stream_close(&stream);
}

/* Receives `size` bytes at the peer's end and checks them. */
struct stream_drain {
    int peer;
    size_t size;
    pthread_t thread;
};

static void *stream_drain_run(void *context)
{
    struct stream_drain *drain = context;
    char data[4096];

    for (size_t at = 0; at < drain->size;) {
        size_t left = drain->size - at;
        size_t size = left < sizeof(data) ? left : sizeof(data);
        recv_exact(drain->peer, data, size);
        contract_check(data, size, at);
        at += size;
    }
    return NULL;
}

static void stream_drain_start(struct stream_drain *drain, int peer, size_t size)
{
    drain->peer = peer;
    drain->size = size;
    CHECK_EQ(pthread_create(&drain->thread, NULL, stream_drain_run, drain), 0);
}

#define STREAM_LARGE ((size_t)8 << 20)

void contract_send_is_whole(const struct iocp__backend *backend)
{
    struct stream stream;
    struct stream_drain drain;
    char *data = malloc(STREAM_LARGE);

    contract_fill(data, STREAM_LARGE, 0);
    stream_open(&stream, backend);
    iocp_op_send(&stream.op, data, STREAM_LARGE);
    stream_submit(&stream);
    contract_nothing(&stream.contract);
    stream_drain_start(&drain, stream.peer, STREAM_LARGE);
    CHECK_EQ(contract_answer(&stream.contract, &stream.op), STREAM_LARGE);
    pthread_join(drain.thread, NULL);
    stream_close(&stream);
    free(data);
}

#define STREAM_SLICES 2500 /* more than the system takes at once */

void contract_send_of_many_slices_is_whole(const struct iocp__backend *backend)
{
    static struct iocp_slice slices[STREAM_SLICES];
    struct stream stream;
    struct stream_drain drain;
    char *data = malloc(STREAM_LARGE);
    size_t size = 0;

    contract_fill(data, STREAM_LARGE, 0);
    for (int i = 0; i < STREAM_SLICES; i++) {
        slices[i] = (struct iocp_slice){.data = data + size, .size = (size_t)(i * 37 % 1999)};
        size += slices[i].size;
    }
    stream_open(&stream, backend);
    net_small_buffers((int)stream.object.handle);
    iocp_op_send_slices(&stream.op, slices, STREAM_SLICES);
    stream_submit(&stream);
    stream_drain_start(&drain, stream.peer, size);
    CHECK_EQ(contract_answer(&stream.contract, &stream.op), size);
    pthread_join(drain.thread, NULL);
    stream_close(&stream);
    free(data);
}

void contract_send_canceled_halfway(const struct iocp__backend *backend)
{
    struct stream stream;
    char *data = malloc(STREAM_LARGE);

    contract_fill(data, STREAM_LARGE, 0);
    stream_open(&stream, backend);
    iocp_op_send(&stream.op, data, STREAM_LARGE);
    stream_submit(&stream);
    contract_nothing(&stream.contract);
    contract_cancel(&stream.contract, &stream.op);
    CHECK_EQ(contract_answer(&stream.contract, &stream.op), IOCP_ECANCELED);
    contract_nothing(&stream.contract);
    stream_close(&stream);
    free(data);
}

void contract_send_to_a_closed_peer(const struct iocp__backend *backend)
{
    struct stream stream;
    int64_t result;

    stream_open(&stream, backend);
    net_reset(stream.peer);
    stream.peer = -1;
    /* Linux tells of the reset once, whoever comes first, and from then on the pipe is broken;
     * Windows tells of it again and again. */
    iocp_op_send(&stream.op, "x", 1);
    result = stream_run(&stream);
    CHECK(result == IOCP_ECONNRESET || result == IOCP_EPIPE);
    iocp_op_send(&stream.op, "x", 1);
    CHECK_EQ(stream_run(&stream), test_on_windows() ? IOCP_ECONNRESET : IOCP_EPIPE);
    stream_close(&stream);
}

void contract_send_and_recv_at_once(const struct iocp__backend *backend)
{
    struct stream stream;
    struct stream_drain drain;
    struct iocp_op send;
    char *data = malloc(STREAM_LARGE);

    contract_fill(data, STREAM_LARGE, 0);
    stream_open(&stream, backend);
    iocp_op_send(&send, data, STREAM_LARGE);
    contract_submit(&stream.contract, &stream.object, &send);
    for (int i = 0; i < 5; i++) {
        iocp_op_recv(&stream.op, stream.data, sizeof(stream.data));
        stream_submit(&stream);
        send_all(stream.peer, "hello", 5);
        CHECK_EQ(contract_answer(&stream.contract, &stream.op), 5);
    }
    stream_drain_start(&drain, stream.peer, STREAM_LARGE);
    CHECK_EQ(contract_answer(&stream.contract, &send), STREAM_LARGE);
    pthread_join(drain.thread, NULL);
    stream_close(&stream);
    free(data);
}

/* ---- Receiving again and again. */

/* The next packet of the stream: checks its bytes and gives its buffer back. Returns its size, or
 * the last answer. */
static int64_t stream_packet(struct stream *stream, size_t position)
{
    struct iocp_event *event = contract_next(&stream->contract);
    int64_t result = event->result;

    CHECK(event->op == &stream->op);
    if (event->flags & IOCP_PACKET_MORE) {
        CHECK_GT(result, 0);
        CHECK_EQ(result, iocp_buffer_size(event->buffer));
        contract_check(iocp_buffer_data(event->buffer), (size_t)result, position);
    } else {
        CHECK(event == &stream->op.event);
        CHECK(event->buffer == NULL);
    }
    contract_release(event);
    return result;
}

static void stream_expect(struct stream *stream, size_t position, size_t size)
{
    for (size_t at = 0; at < size;) {
        int64_t result = stream_packet(stream, position + at);
        CHECK_GT(result, 0);
        at += (size_t)result;
        CHECK_LE(at, size);
    }
}

static void stream_feed(struct stream *stream, size_t position, size_t size)
{
    char *data = malloc(size);

    contract_fill(data, size, position);
    send_all(stream->peer, data, size);
    free(data);
}

void contract_recv_stream_brings_all_bytes(const struct iocp__backend *backend)
{
    static const size_t sizes[] = {1, 100, 4096, 4097, 8192, 50000, 3, 65536, 1};
    struct stream stream;
    size_t position = 0;

    stream_open(&stream, backend);
    iocp_op_recv_stream(&stream.op);
    stream_submit(&stream);
    contract_nothing(&stream.contract);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        stream_feed(&stream, position, sizes[i]);
        stream_expect(&stream, position, sizes[i]);
        position += sizes[i];
    }
    contract_nothing(&stream.contract);
    contract_cancel(&stream.contract, &stream.op);
    CHECK_EQ(stream_packet(&stream, position), IOCP_ECANCELED);
    CHECK_EQ(stream.contract.starved, 0);
    stream_close(&stream);
}

void contract_recv_stream_ends_with_eof(const struct iocp__backend *backend)
{
    struct stream stream;

    /* The end comes with the bytes, or while it waits. */
    for (int later = 0; later < 2; later++) {
        stream_open(&stream, backend);
        stream_feed(&stream, 0, 5000);
        if (!later)
            net_shutdown_send(stream.peer);
        iocp_op_recv_stream(&stream.op);
        stream_submit(&stream);
        stream_expect(&stream, 0, 5000);
        if (later) {
            contract_nothing(&stream.contract);
            net_shutdown_send(stream.peer);
        }
        CHECK_EQ(stream_packet(&stream, 5000), IOCP_EEOF);
        /* A new one ends in the same way. */
        iocp_op_recv_stream(&stream.op);
        stream_submit(&stream);
        CHECK_EQ(stream_packet(&stream, 5000), IOCP_EEOF);
        stream_close(&stream);
    }
}

void contract_recv_stream_ends_with_a_reset(const struct iocp__backend *backend)
{
    struct stream stream;

    stream_open(&stream, backend);
    iocp_op_recv_stream(&stream.op);
    stream_submit(&stream);
    stream_feed(&stream, 0, 100);
    stream_expect(&stream, 0, 100);
    net_reset(stream.peer);
    stream.peer = -1;
    CHECK_EQ(stream_packet(&stream, 100), IOCP_ECONNRESET);
    stream_close(&stream);
}

void contract_recv_stream_canceled_leaves_the_rest(const struct iocp__backend *backend)
{
    struct stream stream;
    size_t position = 0;
    int64_t result;

    stream_open(&stream, backend);
    for (int i = 0; i < 5; i++) {
        iocp_op_recv_stream(&stream.op);
        stream_submit(&stream);
        if (i == 2)
            contract_nothing(&stream.contract);
        stream_feed(&stream, position, 10);
        contract_cancel(&stream.contract, &stream.op);
        /* What it took before its end is delivered, the rest is still there. */
        while ((result = stream_packet(&stream, position)) > 0)
            position += (size_t)result;
        CHECK_EQ(result, IOCP_ECANCELED);
        contract_nothing(&stream.contract);
        if (position < (size_t)(i + 1) * 10) {
            CHECK_EQ(stream_recv(&stream), 10);
            contract_check(stream.data, 10, position);
            position += 10;
        }
    }
    stream_close(&stream);
}

void contract_recv_stream_without_buffers_goes_on_later(const struct iocp__backend *backend)
{
    struct stream stream;
    struct iocp_event *held[8];
    size_t sizes[8];
    size_t position = 0;
    int count = 0;

    stream_open_sized(&stream, backend, 512, 4);
    iocp_op_recv_stream(&stream.op);
    stream_submit(&stream);
    stream_feed(&stream, 0, 20000);
    /* Held back until no more comes: at most as many as there are. */
    while (position < 20000) {
        uint64_t limit_ns = iocp__os_now_ns() + 20000000;
        while (!stream.contract.done.first && iocp__os_now_ns() < limit_ns)
            backend->wait(stream.contract.kernel, limit_ns, &stream.contract.done);
        if (!stream.contract.done.first)
            break;
        CHECK_LT(count, 4);
        held[count] = contract_next(&stream.contract);
        sizes[count] = (size_t)held[count]->result;
        contract_check(iocp_buffer_data(held[count]->buffer), sizes[count], position);
        position += sizes[count++];
    }
    CHECK_EQ(count, 4);
    CHECK_GT(stream.contract.starved, 0);
    for (int i = 0; i < count; i++)
        contract_release(held[i]);
    stream_expect(&stream, position, 20000 - position);
    contract_cancel(&stream.contract, &stream.op);
    CHECK_EQ(stream_packet(&stream, 20000), IOCP_ECANCELED);
    stream_close(&stream);
}

#define STREAM_SHARERS 12
#define STREAM_SHARE 30000

/* What each of several streams on one lane has brought. */
struct stream_sharer {
    struct iocp_object object;
    struct iocp_op op;
    int peer;
    size_t position;
};

void contract_recv_streams_share_few_buffers(const struct iocp__backend *backend)
{
    static struct stream_sharer sharers[STREAM_SHARERS];
    static char data[STREAM_SHARE];
    struct contract contract;
    int left = STREAM_SHARERS;

    contract_open_sized(&contract, backend, 512, 2);
    contract_fill(data, sizeof(data), 0);
    for (int i = 0; i < STREAM_SHARERS; i++) {
        int pair[2];
        make_connected_pair(pair);
        sharers[i].peer = pair[1];
        contract_attach(&contract, &sharers[i].object, pair[0]);
        iocp_op_recv_stream(&sharers[i].op);
        contract_submit(&contract, &sharers[i].object, &sharers[i].op);
        send_all(pair[1], data, sizeof(data));
        net_shutdown_send(pair[1]);
    }
    while (left > 0) {
        struct iocp_event *event = contract_next(&contract);
        struct stream_sharer *sharer = iocp__container(event->op, struct stream_sharer, op);

        if (event->flags & IOCP_PACKET_MORE) {
            contract_check(iocp_buffer_data(event->buffer), (size_t)event->result,
                           sharer->position);
            sharer->position += (size_t)event->result;
        } else {
            CHECK_EQ(event->result, IOCP_EEOF);
            CHECK_EQ(sharer->position, STREAM_SHARE);
            left--;
        }
        contract_release(event);
    }
    for (int i = 0; i < STREAM_SHARERS; i++) {
        contract_detach(&contract, &sharers[i].object);
        net_close(sharers[i].peer);
    }
    contract_close(&contract);
}

/* A buffer comes back while an answer lies ready: both come, with no further bell. */
void contract_starved_recv_stream_goes_on_beside_an_answer(const struct iocp__backend *backend)
{
    struct stream stream;
    struct iocp_object other;
    struct iocp_op send;
    struct iocp_event *held;
    int pair[2];
    int answered = 0;

    make_connected_pair(pair);
    stream_open_sized(&stream, backend, 512, 1);
    contract_attach(&stream.contract, &other, pair[0]);
    iocp_op_recv_stream(&stream.op);
    stream_submit(&stream);
    stream_feed(&stream, 0, 1024);
    held = contract_next(&stream.contract);
    CHECK_EQ(held->result, 512);
    contract_nothing(&stream.contract);
    CHECK_GT(stream.contract.starved, 0);
    iocp_op_send(&send, "x", 1);
    contract_submit(&stream.contract, &other, &send);
    contract_release(held);
    for (int i = 0; i < 2; i++) {
        struct iocp_event *event = contract_next(&stream.contract);
        answered += event == &send.event;
        CHECK(event == &send.event || event->result == 512);
        contract_release(event);
    }
    CHECK_EQ(answered, 1);
    contract_cancel(&stream.contract, &stream.op);
    CHECK_EQ(stream_packet(&stream, 1024), IOCP_ECANCELED);
    contract_detach(&stream.contract, &other);
    net_close(pair[1]);
    stream_close(&stream);
}

void contract_starved_recv_stream_canceled(const struct iocp__backend *backend)
{
    struct stream stream;
    struct iocp_event *held;

    stream_open_sized(&stream, backend, 512, 1);
    iocp_op_recv_stream(&stream.op);
    stream_submit(&stream);
    stream_feed(&stream, 0, 1024);
    held = contract_next(&stream.contract);
    CHECK_EQ(held->result, 512);
    contract_nothing(&stream.contract);
    CHECK_GT(stream.contract.starved, 0);
    contract_cancel(&stream.contract, &stream.op);
    CHECK_EQ(contract_answer(&stream.contract, &stream.op), IOCP_ECANCELED);
    contract_release(held);
    contract_nothing(&stream.contract);
    /* And another in its place goes on. */
    iocp_op_recv_stream(&stream.op);
    stream_submit(&stream);
    stream_expect(&stream, 512, 512);
    contract_cancel(&stream.contract, &stream.op);
    CHECK_EQ(stream_packet(&stream, 1024), IOCP_ECANCELED);
    stream_close(&stream);
}

void contract_recv_stream_of_a_unix_socket(const struct iocp__backend *backend)
{
    struct stream stream;
    size_t position = 0;
    int pair[2];

    contract_open(&stream.contract, backend);
    make_unix_pair(pair);
    contract_attach(&stream.contract, &stream.object, pair[0]);
    stream.peer = pair[1];
    iocp_op_recv_stream(&stream.op);
    stream_submit(&stream);
    for (int i = 0; i < 20; i++) {
        size_t size = (size_t)(1 + i * 997 % 9000);
        stream_feed(&stream, position, size);
        stream_expect(&stream, position, size);
        position += size;
    }
    net_close(stream.peer);
    stream.peer = -1;
    CHECK_EQ(stream_packet(&stream, position), IOCP_EEOF);
    stream_close(&stream);
}

static void contract_refuses(struct contract *contract, struct iocp_object *object,
                             struct iocp_op *op)
{
    int64_t result;

    contract_submit(contract, object, op);
    result = contract_answer(contract, op);
    CHECK_LT(result, 0);
    if (!test_wine_differs("a call for sockets says of another handle that it is none"))
        CHECK_EQ(result, IOCP_EBADHANDLE);
}

void contract_no_socket_is_refused(const struct iocp__backend *backend)
{
    struct contract contract;
    struct iocp_object object;
    struct iocp_op op;
    char byte;
    iocp_handle ends[2];

    contract_open(&contract, backend);
    system_pipe(ends);
    contract_attach(&contract, &object, ends[0]);
    iocp_op_recv(&op, &byte, 1);
    contract_refuses(&contract, &object, &op);
    iocp_op_recv_stream(&op);
    contract_refuses(&contract, &object, &op);
    iocp_op_send(&op, &byte, 1);
    contract_refuses(&contract, &object, &op);
    contract_detach(&contract, &object);
    system_close(ends[1]);
    contract_close(&contract);
}
