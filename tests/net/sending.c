/* Sending: what leaves together, what is refused, dropped or ends the session, and that memory
 * stays bounded with peers that do not read. */
#include "support/check.h"
#include "support/host.h"
#include "support/system.h"

#include <iocp.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Coalescing. */

static size_t send_100(struct host *host, struct iocp_session *session, const void *data,
                       size_t size)
{
    (void)host, (void)data;
    for (int i = 0; i < 100; i++) {
        char text[32];
        snprintf(text, sizeof(text), "message %02d", i);
        CHECK_OK(iocp_session_send(session, text, 10));
    }
    return size;
}

static int sent_all(void *context)
{
    struct iocp_session *session = context;
    return iocp_session_queued(session) == 0;
}

/* What is sent while a packet is handled leaves in one kernel send. */
TEST(many_small_sends_leave_as_one)
{
    struct host host;
    struct iocp_port_stats before;
    struct iocp_port_stats after;
    char data[1000];
    host_init(&host);
    host.received_hook = send_100;
    host_start(&host);
    int fd = host_connect(&host);
    send_all(fd, "x", 1);
    recv_exact(fd, data, sizeof(data));
    struct iocp_session *session = host_last(&host);
    wait_until(sent_all, session);
    iocp_port_stats(iocp_service_port(host.service), &before);
    send_all(fd, "x", 1);
    recv_exact(fd, data, sizeof(data));
    wait_until(sent_all, session);
    iocp_port_stats(iocp_service_port(host.service), &after);
    CHECK_EQ(after.submits - before.submits, 1);
    CHECK_MEM(data, "message 00", 10);
    CHECK_MEM(data + 990, "message 99", 10);
    CHECK_EQ(host_stats(&host).messages_sent, 200);
    CHECK_EQ(host_stats(&host).messages_received, 2);
    iocp_session_unref(session);
    net_close(fd);
    host_end(&host);
}

struct landing {
    struct iocp_port *port;
    uint64_t count;
};

static int has_landed(void *context)
{
    const struct landing *landing = context;
    struct iocp_port_stats stats;
    iocp_port_stats(landing->port, &stats);
    return stats.landed >= landing->count;
}

/* The answer of a send that nobody waits for is no packet: there is one for each receive. */
TEST(a_send_that_landed_has_no_packet)
{
    struct host host;
    struct iocp_port_stats before;
    struct iocp_port_stats after;
    char data[1000];
    host_init(&host);
    host.received_hook = send_100;
    host_start(&host);
    int fd = host_connect(&host);
    struct landing landing = {iocp_service_port(host.service), 1};
    send_all(fd, "x", 1);
    recv_exact(fd, data, sizeof(data));
    wait_until(has_landed, &landing);
    iocp_port_stats(landing.port, &before);
    for (int i = 0; i < 10; i++) {
        send_all(fd, "x", 1);
        recv_exact(fd, data, sizeof(data));
        /* One that finds the last one still on its way takes a packet. */
        landing.count = before.landed + (uint64_t)i + 1;
        wait_until(has_landed, &landing);
    }
    iocp_port_stats(landing.port, &after);
    CHECK_EQ(after.packets - before.packets, 10);
    CHECK_EQ(after.landed - before.landed, 10);
    net_close(fd);
    host_end(&host);
}

static size_t publish_100(struct host *host, struct iocp_session *session, const void *data,
                          size_t size)
{
    (void)host, (void)data;
    for (uint32_t i = 0; i < 100; i++) {
        /* Sizes on both sides of what is copied, sent by turns. */
        uint32_t sizes[] = {1, 64, 250, 256, 257, 1000};
        uint32_t length = sizes[i % 6];
        char text[1000];
        struct iocp_buffer *buffer;
        memset(text, 'a' + (int)(i % 26), length);
        CHECK_OK(iocp_buffer_copy(text, length, &buffer));
        CHECK_OK(iocp_session_send_buffer(session, buffer));
        iocp_buffer_unref(buffer);
        CHECK_OK(iocp_session_send(session, text, length < 64 ? length : 64));
    }
    return size;
}

/* Shared buffers and copies, small and large, keep their order. Twice: the second time the session
 * expects much. */
TEST(shared_and_copied_messages_keep_their_order)
{
    struct host host;
    char data[2000];
    host_init(&host);
    host.received_hook = publish_100;
    host_start(&host);
    int fd = host_connect(&host);
    for (int round = 0; round < 2; round++) {
        send_all(fd, "x", 1);
        for (uint32_t i = 0; i < 100; i++) {
            uint32_t sizes[] = {1, 64, 250, 256, 257, 1000};
            uint32_t length = sizes[i % 6] + (sizes[i % 6] < 64 ? sizes[i % 6] : 64);
            char expected[2000];
            memset(expected, 'a' + (int)(i % 26), length);
            recv_exact(fd, data, length);
            CHECK_MEM(data, expected, length);
        }
    }
    net_close(fd);
    host_end(&host);
}

/* Steady state: an exchange of messages allocates nothing. */
TEST(messages_allocate_nothing)
{
    struct host host;
    char data[12000];
    host_open(&host);
    int fd = host_connect(&host);
    memset(data, 'x', sizeof(data));
    for (int i = 0; i < 50; i++) {
        send_all(fd, data, sizeof(data));
        expect_bytes(fd, data, sizeof(data));
    }
    struct iocp_session *session = host_last(&host);
    wait_until(sent_all, session);
    /* Every allocation from here on fails. */
    iocp_memory_fail(1, 1);
    for (size_t size = 1; size < sizeof(data); size += 97) {
        send_all(fd, data, size);
        expect_bytes(fd, data, size);
    }
    iocp_memory_fail(0, 0);
    iocp_session_unref(session);
    net_close(fd);
    host_end(&host);
}

/* ---- Order and integrity: many sizes, copied and shared, from two threads. */

struct writer {
    struct iocp_session *session;
    char mark;
    uint32_t count;
};

/* "A0000017" and as many dots as the number says. */
static size_t write_message(char *text, char mark, uint32_t number)
{
    size_t dots = number * 37 % 5000;
    snprintf(text, 16, "%c%07u", mark, number);
    memset(text + 8, '.', dots);
    text[8 + dots] = '\n';
    return 9 + dots;
}

static void *writer_run(void *context)
{
    struct writer *writer = context;
    char text[6000];
    for (uint32_t i = 0; i < writer->count; i++) {
        size_t size = write_message(text, writer->mark, i);
        int error;
        do {
            if (i % 3) {
                error = iocp_session_send(writer->session, text, size);
            } else {
                struct iocp_buffer *buffer;
                CHECK_OK(iocp_buffer_copy(text, size, &buffer));
                error = iocp_session_send_buffer(writer->session, buffer);
                iocp_buffer_unref(buffer);
            }
            if (error == IOCP_EFULL)
                system_nap(100000);
        } while (error == IOCP_EFULL);
        CHECK_EQ(error, 0);
    }
    return NULL;
}

TEST(sends_keep_their_order_and_do_not_mix)
{
    enum { COUNT = 2000 };
    struct host host;
    uint32_t next[2] = {0, 0};
    pthread_t threads[2];
    char text[6000];
    char wanted[6000];
    host_init(&host);
    host.session_class.send_high = 100000;
    host_start(&host);
    int fd = host_connect(&host);
    host_ping(fd, "x");
    struct writer writers[2] = {{host_last(&host), 'A', COUNT}, {host_last(&host), 'B', COUNT}};
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, writer_run, &writers[i]), 0);
    for (int i = 0; i < 2 * COUNT; i++) {
        recv_exact(fd, text, 8);
        int who = text[0] - 'A';
        CHECK(who == 0 || who == 1);
        size_t size = write_message(wanted, text[0], next[who]++);
        recv_exact(fd, text + 8, size - 8);
        CHECK_MEM(text, wanted, size);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        iocp_session_unref(writers[i].session);
    }
    net_close(fd);
    host_end(&host);
}

static void send_thrice(struct host *host, struct iocp_session *session)
{
    for (int i = 0; i < 3; i++)
        CHECK_EQ(iocp_session_send_buffer(session, host->context), 0);
}

/* One shared buffer, several times in one gather write. */
TEST(a_buffer_is_sent_several_times_in_a_row)
{
    static const char text[] = "again and again";
    struct host host;
    struct iocp_buffer *buffer = NULL;
    host_init(&host);
    CHECK_EQ(iocp_buffer_copy(text, sizeof(text), &buffer), 0);
    host.context = buffer;
    host.opened_hook = send_thrice;
    host_start(&host);
    int fd = host_connect(&host);
    for (int i = 0; i < 3; i++)
        expect_bytes(fd, text, sizeof(text));
    net_close(fd);
    latch_wait_for(&host.closed, 1);
    iocp_buffer_unref(buffer);
    host_end(&host);
}

/* ---- Watermarks. The peer does not read. */

static void slow_host(struct host *host, enum iocp_full_policy policy, int *out_fd)
{
    host_init(host);
    host->session_class.send_high = 64 * 1024;
    host->session_class.send_buffer = 8192;
    host->session_class.full_policy = policy;
    host->on_local = policy != IOCP_FULL_CLOSE; /* which needs a reset */
    host_start(host);
    *out_fd = host_connect(host);
    net_small_buffers(*out_fd);
    host_ping(*out_fd, "x");
}

/* A message of 1,000 bytes that begins with its number. */
static void numbered(char data[1000], uint32_t number)
{
    memset(data, (int)('a' + number % 26), 1000);
    memcpy(data, &number, sizeof(number));
}

TEST(full_queue_refuses)
{
    struct host host;
    char data[1000];
    char got[1000];
    uint32_t count = 0;
    int fd;
    slow_host(&host, IOCP_FULL_REFUSE, &fd);
    struct iocp_session *session = host_last(&host);
    int error;
    do {
        numbered(data, count);
        error = iocp_session_send(session, data, sizeof(data));
        CHECK_LE(iocp_session_queued(session), 64 * 1024);
        count += error == 0;
    } while (error == 0 || iocp_session_queued(session) < 64 * 1024 - 1000);
    CHECK_EQ(error, IOCP_EFULL);
    /* Exact: what fits to the last byte is taken, one more is not. */
    size_t room = 64 * 1024 - iocp_session_queued(session);
    CHECK_EQ(iocp_session_send(session, data, room + 1), IOCP_EFULL);
    memset(data, 'z', sizeof(data));
    CHECK_EQ(iocp_session_send(session, data, room), 0);
    CHECK_EQ(iocp_session_send(session, "y", 1), IOCP_EFULL);
    struct iocp_service_stats stats = host_stats(&host);
    CHECK_GE(stats.sends_refused, 3);
    CHECK_EQ(stats.messages_dropped, 0);
    for (uint32_t i = 0; i < count; i++) {
        numbered(data, i);
        recv_exact(fd, got, sizeof(got));
        CHECK_MEM(got, data, sizeof(got));
    }
    memset(data, 'z', sizeof(data));
    expect_bytes(fd, data, room);
    CHECK_EQ(host_stats(&host).messages_sent, count + 2);
    iocp_session_unref(session);
    net_close(fd);
    host_end(&host);
}

/* A message that alone is above the watermark is refused by every policy, and drops nothing. */
TEST(larger_than_the_watermark_is_refused)
{
    struct host host;
    static char data[64 * 1024 + 1];
    struct iocp_buffer *buffer;
    int fd;
    slow_host(&host, IOCP_FULL_DROP, &fd);
    CHECK_OK(iocp_buffer_copy(data, sizeof(data), &buffer));
    struct iocp_session *session = host_last(&host);
    CHECK_EQ(iocp_session_send(session, "kept", 4), 0);
    CHECK_EQ(iocp_session_send(session, data, sizeof(data)), IOCP_EFULL);
    CHECK_EQ(iocp_session_send_buffer(session, buffer), IOCP_EFULL);
    wait_until(sent_all, session);
    CHECK_EQ(iocp_session_send(session, data, sizeof(data) - 1), 0);
    CHECK_EQ(iocp_session_send(session, NULL, 3), IOCP_EINVAL);
    CHECK_EQ(iocp_session_send(session, NULL, 0), 0);
    expect_bytes(fd, "kept", 4);
    expect_bytes(fd, data, sizeof(data) - 1);
    iocp_buffer_unref(buffer);
    iocp_session_unref(session);
    net_close(fd);
    CHECK_EQ(host_stats(&host).messages_dropped, 0);
    host_end(&host);
}

/* The oldest go; what arrives is in order and whole, and the newest is there. */
TEST(full_queue_drops_the_oldest)
{
    enum { COUNT = 3000 };
    struct host host;
    char data[1000];
    char got[1000];
    int fd;
    slow_host(&host, IOCP_FULL_DROP, &fd);
    struct iocp_session *session = host_last(&host);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct iocp_buffer *buffer;
        numbered(data, i);
        CHECK_OK(iocp_buffer_copy(data, sizeof(data), &buffer));
        if (i % 2)
            CHECK_OK(iocp_session_send(session, data, sizeof(data)));
        else
            CHECK_OK(iocp_session_send_buffer(session, buffer));
        iocp_buffer_unref(buffer);
        CHECK_LE(iocp_session_queued(session), 64 * 1024);
    }
    iocp_session_close(session);
    uint64_t dropped = host_stats(&host).messages_dropped;
    CHECK_GT(dropped, 0);
    uint32_t last = 0;
    for (uint64_t i = 0; i < COUNT - dropped; i++) {
        uint32_t number;
        recv_exact(fd, got, sizeof(got));
        memcpy(&number, got, sizeof(number));
        CHECK(i == 0 || number > last);
        numbered(data, number);
        CHECK_MEM(got, data, sizeof(got));
        last = number;
    }
    CHECK_EQ(last, COUNT - 1);
    expect_eof(fd);
    iocp_session_unref(session);
    net_close(fd);
    host_end(&host);
}

TEST(full_queue_ends_the_session)
{
    struct host host;
    char data[1000] = {0};
    int fd;
    slow_host(&host, IOCP_FULL_CLOSE, &fd);
    struct iocp_session *session = host_last(&host);
    int error;
    while ((error = iocp_session_send(session, data, sizeof(data))) == 0)
        ;
    CHECK_EQ(error, IOCP_EFULL);
    CHECK_EQ(iocp_session_send(session, data, 1), IOCP_ECLOSED);
    latch_wait_for(&host.closed, 1);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_SLOW), 1);
    expect_reset(fd);
    iocp_session_unref(session);
    net_close(fd);
    host_end(&host);
}

/* ---- A peer that only asks and never reads: receiving pauses, memory stays bounded. */

struct asker {
    int fd;
    uint64_t count;
};

static void *asker_run(void *context)
{
    struct asker *asker = context;
    char data[1000];
    for (uint64_t i = 0; i < asker->count; i++) {
        numbered(data, (uint32_t)i);
        send_all(asker->fd, data, sizeof(data));
    }
    net_shutdown_send(asker->fd);
    return NULL;
}

static int is_stuck(void *context)
{
    struct host *host = context;
    uint64_t before = latch_count(&host->messages);
    system_nap(200000000);
    return before && before == latch_count(&host->messages);
}

TEST(a_peer_that_does_not_read_is_paused)
{
    struct host host;
    struct asker asker = {0, 4000};
    pthread_t thread;
    char data[1000];
    char got[1000];
    host_init(&host);
    host.on_local = 1;
    host.session_class.send_buffer = 65536;
    host.session_class.send_high = 512 * 1024;
    host.session_class.send_pause = 64 * 1024;
    host.session_class.send_low = 16 * 1024;
    host_start(&host);
    asker.fd = host_connect(&host);
    CHECK_EQ(pthread_create(&thread, NULL, asker_run, &asker), 0);
    wait_until(is_stuck, &host);
    struct iocp_session *session = host_last(&host);
    /* It had more than send_pause, and has more than send_low. The answer that paused it was to all
     * that lay in a buffer. */
    CHECK_GT(iocp_session_queued(session), 16 * 1024);
    CHECK_LE(iocp_session_queued(session), 64 * 1024 + host.config.port_config.buffer_size);
    CHECK_LT(iocp_memory_size(), 64u << 20);
    iocp_session_unref(session);
    for (uint64_t i = 0; i < asker.count; i++) {
        numbered(data, (uint32_t)i);
        recv_exact(asker.fd, got, sizeof(got));
        CHECK_MEM(got, data, sizeof(got));
    }
    expect_eof(asker.fd);
    pthread_join(thread, NULL);
    net_close(asker.fd);
    latch_wait_for(&host.closed, 1);
    CHECK_GE(latch_count(&host.drained), 1);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_PEER), 1);
    CHECK_EQ(host_stats(&host).sends_refused, 0);
    host_end(&host);
}

/* ---- Flush. */

static size_t send_much_and_close(struct host *host, struct iocp_session *session, const void *data,
                                  size_t size)
{
    (void)data;
    for (uint32_t i = 0; i < 900; i++) {
        char message[1000];
        numbered(message, i);
        CHECK_OK(iocp_session_send(session, message, sizeof(message)));
    }
    iocp_session_close(session);
    latch_add(&host->event, 1);
    return size;
}

TEST(close_sends_what_is_queued)
{
    struct host host;
    char data[1000];
    char got[1000];
    host_init(&host);
    host.received_hook = send_much_and_close;
    host_start(&host);
    int fd = host_connect(&host);
    send_all(fd, "x", 1);
    latch_wait_for(&host.event, 1);
    for (uint32_t i = 0; i < 900; i++) {
        numbered(data, i);
        recv_exact(fd, got, sizeof(got));
        CHECK_MEM(got, data, sizeof(got));
    }
    expect_eof(fd);
    net_close(fd);
    latch_wait_for(&host.closed, 1);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_LOCAL), 1);
    host_end(&host);
}

/* ---- Allocations fail one after the other, from the first to the last that an exchange makes. */

struct failing {
    struct host host;
    int fd;
};

static void *failing_run(void *context)
{
    struct failing *failing = context;
    static const char data[20000];
    /* Errors are what is expected here. */
    for (size_t at = 0; at < sizeof(data);) {
        int64_t count = net_send_some(failing->fd, data + at, sizeof(data) - at);
        if (count <= 0)
            break;
        at += (size_t)count;
    }
    net_shutdown_send(failing->fd);
    net_recv_to_end(failing->fd);
    return NULL;
}

static int nobody_is_left(void *context)
{
    struct host *host = context;
    struct iocp_service_stats stats = host_stats(host);
    return stats.sessions == 0;
}

TEST(any_allocation_may_fail)
{
    for (uint64_t nth = 1; nth <= 40; nth++) {
        struct failing failing;
        host_init(&failing.host);
        failing.host.config.workers = 1;
        host_start(&failing.host);
        /* The worker is there, with all that it needs itself. */
        failing.fd = host_connect(&failing.host);
        host_ping(failing.fd, "ready");
        net_close(failing.fd);
        latch_wait_for(&failing.host.closed, 1);
        failing.fd = host_connect(&failing.host);
        iocp_memory_fail(nth, nth % 2);
        failing_run(&failing);
        iocp_memory_fail(0, 0);
        net_close(failing.fd);
        wait_until(nobody_is_left, &failing.host);
        /* The service serves on. */
        int fd = host_connect(&failing.host);
        host_ping(fd, "still there");
        net_close(fd);
        host_end(&failing.host);
    }
}
