/* Sending on what was received: a handler's bytes stay in the buffer that they came in until they
 * are sent. They arrive as they were, however often the other buffers are used meanwhile, and who
 * receives never waits for a peer that does not read. */
#include "support/check.h"
#include "support/host.h"

#include <iocp.h>

#include <stdlib.h>
#include <string.h>

/* Bytes that differ from place to place and from mark to mark. */
static void fill(unsigned char *bytes, size_t size, uint32_t mark)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)((i * 7 + (i >> 8) * 13 + mark * 101) >> 1);
}

static unsigned char *make(size_t size, uint32_t mark)
{
    unsigned char *bytes = malloc(size);
    CHECK(bytes != NULL);
    fill(bytes, size, mark);
    return bytes;
}

/* A host whose sessions may queue all that the tests send, with few receive buffers. */
static void init_small(struct host *host, uint32_t buffer_size)
{
    host_init(host);
    host->config.port_config.buffer_size = buffer_size;
    host->config.port_config.buffer_count = 4;
    host->session_class.send_high = 64 * 1024 * 1024;
    host->session_class.send_pause = UINT32_MAX;
}

/* ---- Without a copy. */

static size_t echo_without_memory(struct host *host, struct iocp_session *session, const void *data,
                                  size_t size)
{
    /* A copy of so much would take memory of its own. */
    int large = size > 20000;
    if (large)
        iocp_memory_fail(1, 1);
    CHECK_OK(iocp_session_send(session, data, size));
    iocp_memory_fail(0, 0);
    if (large)
        latch_add(&host->event, 1);
    return size;
}

TEST(what_a_handler_sends_on_needs_no_memory)
{
    enum { SIZE = 60000 };
    struct host host;
    unsigned char *bytes = make(SIZE, 1);
    host_init(&host);
    host.config.port_config.buffer_size = SIZE;
    host.received_hook = echo_without_memory;
    host_start(&host);
    int fd = host_connect(&host);
    host_ping(fd, "the first send of a session makes the memory of its queue");
    /* How much comes at once is the system's to say. */
    while (latch_count(&host.event) < 3) {
        send_all(fd, bytes, SIZE);
        expect_bytes(fd, bytes, SIZE);
    }
    net_close(fd);
    host_end(&host);
    free(bytes);
}

/* ---- A peer that does not read. */

/* The queue of the one that reads late holds far more than there are receive buffers. */
static void late_reader(struct host *host, uint32_t buffer_size, int reads)
{
    enum { SIZE = 2 * 1024 * 1024, PIECE = 5000, ROUNDS = 300 };
    unsigned char *late_bytes = make(SIZE, 1);
    unsigned char piece[PIECE];
    init_small(host, buffer_size);
    /* So that the system does not hold it all. */
    host->on_local = 1;
    host->session_class.send_buffer = 8192;
    host_start(host);
    int late = host_connect(host);
    int other = host_connect(host);
    send_all(late, late_bytes, SIZE);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        fill(piece, PIECE, i + 2);
        send_all(other, piece, PIECE);
        expect_bytes(other, piece, PIECE);
    }
    latch_wait_for(&host->bytes, SIZE + PIECE * ROUNDS);
    if (reads)
        expect_bytes(late, late_bytes, SIZE);
    else
        net_reset(late);
    if (reads)
        net_close(late);
    net_close(other);
    free(late_bytes);
}

TEST(queued_bytes_stay_as_they_were)
{
    struct host host;
    late_reader(&host, 4096, 1);
    host_end(&host);
}

/* Small parts of large buffers: most of them are copied. */
TEST(queued_small_parts_stay_as_they_were)
{
    struct host host;
    late_reader(&host, 256 * 1024, 1);
    host_end(&host);
}

TEST(a_reset_gives_back_what_was_queued)
{
    struct host host;
    late_reader(&host, 4096, 0);
    latch_wait_for(&host.closed, 1);
    host_end(&host);
}

/* ---- To another session. */

static size_t forward(struct host *host, struct iocp_session *session, const void *data,
                      size_t size)
{
    struct iocp_session *to = host->context;
    if (to != session)
        CHECK_OK(iocp_session_send(to, data, size));
    return size;
}

TEST(another_session_gets_the_bytes)
{
    enum { SIZE = 300000 };
    struct host host;
    unsigned char *bytes = make(SIZE, 5);
    init_small(&host, 8192);
    host.received_hook = forward;
    host_start(&host);
    int to = host_connect(&host);
    latch_wait_for(&host.opened, 1);
    struct iocp_session *session = host_last(&host);
    host.context = session;
    int from = host_connect(&host);
    send_all(from, bytes, SIZE);
    /* The bytes outlive the session that they came in. */
    net_close(from);
    latch_wait_for(&host.closed, 1);
    expect_bytes(to, bytes, SIZE);
    iocp_session_unref(session);
    net_close(to);
    host_end(&host);
    free(bytes);
}

/* ---- Parts of what came. */

static size_t echo_thousands(struct host *host, struct iocp_session *session, const void *data,
                             size_t size)
{
    size_t used = size - size % 1000;
    (void)host;
    if (used)
        CHECK_OK(iocp_session_send(session, data, used));
    return used;
}

/* What is left over is moved when more comes, and what was sent is not. */
TEST(a_part_is_sent_and_the_rest_kept)
{
    enum { SIZE = 1000000 };
    struct host host;
    unsigned char *bytes = make(SIZE, 9);
    init_small(&host, 4096);
    host.received_hook = echo_thousands;
    host_start(&host);
    int fd = host_connect(&host);
    send_all(fd, bytes, SIZE);
    expect_bytes(fd, bytes, SIZE);
    net_close(fd);
    host_end(&host);
    free(bytes);
}

/* Messages of many sizes behind each other: several in a buffer, and some across two. */
static size_t make_messages(unsigned char *bytes, const struct iocp_framing *framing, size_t room)
{
    size_t size = 0;
    for (uint32_t i = 0; size + 7000 < room; i++) {
        size_t message = 100 + i * 611 % 6000;
        fill(bytes + size, message, i);
        CHECK_OK(iocp_framing_put_size(framing, bytes + size, message));
        size += message;
    }
    return size;
}

TEST(messages_are_sent_on_from_where_they_lie)
{
    enum { ROOM = 1000000 };
    struct host host;
    unsigned char *bytes = make(ROOM, 0);
    init_small(&host, 16384);
    host.session_class.framing = iocp_framing_length(4, 8192);
    size_t size = make_messages(bytes, &host.session_class.framing, ROOM);
    host_start(&host);
    int fd = host_connect(&host);
    send_all(fd, bytes, size);
    expect_bytes(fd, bytes, size);
    net_close(fd);
    host_end(&host);
    free(bytes);
}
