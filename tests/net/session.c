/* Sessions: the order of their handlers, what they receive, and every way in which they end.
 * Sending is in sending.c. */
#include "support/check.h"
#include "support/host.h"
#include "support/system.h"

#include <iocp.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- Bytes. */

struct flood {
    int fd;
    const char *data;
    size_t size;
};

static void *flood_run(void *context)
{
    struct flood *flood = context;
    send_all(flood->fd, flood->data, flood->size);
    return NULL;
}

/* Sends and receives at once, so that no size fills both directions. */
static void exchange(int fd, size_t size)
{
    char *data = malloc(size);
    pthread_t thread;
    struct flood flood = {fd, data, size};
    for (size_t i = 0; i < size; i++)
        data[i] = (char)(i * 31 + (i >> 8) + size);
    CHECK_EQ(pthread_create(&thread, NULL, flood_run, &flood), 0);
    expect_bytes(fd, data, size);
    pthread_join(thread, NULL);
    free(data);
}

TEST(echoes_every_size)
{
    static const size_t sizes[] = {1,    2,    63,   64,    655,   656,   657,    4095,
                                   4096, 4097, 9999, 16383, 16384, 16385, 262144, 3000000};
    struct host host;
    host_open(&host);
    int fd = host_connect(&host);
    uint64_t total = 0;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        exchange(fd, sizes[i]);
        total += sizes[i];
    }
    struct iocp_service_stats stats = host_stats(&host);
    CHECK_EQ(stats.bytes_received, total);
    CHECK_EQ(stats.sends_refused, 0);
    /* The last handler may still be at it: another worker may have sent its answer. */
    latch_wait_for(&host.bytes, total);
    CHECK_EQ(latch_count(&host.bytes), total);
    net_close(fd);
    latch_wait_for(&host.closed, 1);
    CHECK_EQ(host_stats(&host).bytes_sent, total);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_PEER), 1);
    host_end(&host);
}

static void look_opened(struct host *host, struct iocp_session *session)
{
    struct iocp_address address;
    iocp_session_local(session, &address);
    CHECK(iocp_address_equal(&address, &host->address));
    iocp_session_peer(session, &address);
    CHECK_EQ(iocp_address_family(&address), IOCP_FAMILY_IPV4);
    CHECK_NE(iocp_session_id(session), 0);
    CHECK(iocp_session_service(session) == host->service);
    CHECK(!iocp_session_is_client(session));
    CHECK_EQ(guest_of(session)->number, 0);
    __atomic_store_n(&guest_of(session)->number, iocp_address_port(&address), __ATOMIC_RELAXED);
}

static void look_closed(struct host *host, struct iocp_session *session,
                        enum iocp_close_reason reason)
{
    struct iocp_address address;
    (void)host;
    CHECK_STR(iocp_close_reason_text(reason), "peer");
    iocp_session_peer(session, &address);
    CHECK_EQ(iocp_address_port(&address), guest_of(session)->number);
    iocp_session_local(session, &address);
    CHECK_EQ(iocp_address_family(&address), IOCP_FAMILY_NONE);
}

TEST(knows_its_addresses)
{
    struct host host;
    host_init(&host);
    host.opened_hook = look_opened;
    host.closed_hook = look_closed;
    host_start(&host);
    int fd = host_connect(&host);
    host_ping(fd, "x");
    struct iocp_session *session = host_last(&host);
    struct iocp_address mine = net_local(fd);
    CHECK_EQ(__atomic_load_n(&guest_of(session)->number, __ATOMIC_RELAXED),
             iocp_address_port(&mine));
    net_close(fd);
    latch_wait_for(&host.closed, 1);
    /* A reference keeps the session's area, not its place. */
    CHECK_EQ(guest_of(session)->closed, 1);
    CHECK_EQ(iocp_session_send(session, "x", 1), IOCP_ECLOSED);
    CHECK(iocp_service_find(host.service, iocp_session_id(session)) == NULL);
    iocp_session_unref(session);
    host_end(&host);
}

TEST(unix_peers_have_no_name)
{
    struct host host;
    struct iocp_address path = net_unix_path();
    struct iocp_address peer;
    host_init(&host);
    host_start(&host);
    CHECK_OK(iocp_service_listen(host.service, &path, &host.session_class, NULL, NULL));
    int fd = net_connect(&path);
    host_ping(fd, "over a path");
    struct iocp_session *session = host_last(&host);
    iocp_session_peer(session, &peer);
    CHECK_EQ(iocp_address_family(&peer), IOCP_FAMILY_NONE);
    iocp_session_unref(session);
    net_close(fd);
    host_end(&host);
    net_unix_remove(&path);
}

/* ---- Framing. */

static void length_server(struct host *host, uint32_t message_max)
{
    host_init(host);
    host->session_class.framing = iocp_framing_length(2, message_max);
    host_start(host);
}

/* A message of `size` bytes with its size in front. */
static void put_message(unsigned char *data, size_t size)
{
    for (size_t i = 2; i < size; i++)
        data[i] = (unsigned char)(i * 7 + size);
    data[0] = (unsigned char)size;
    data[1] = (unsigned char)(size >> 8);
}

TEST(messages_split_anywhere_arrive_whole)
{
    enum { COUNT = 40 };
    struct host host;
    unsigned char data[COUNT * 50];
    size_t size = 0;
    length_server(&host, 50);
    for (size_t i = 0; i < COUNT; i++) {
        put_message(data + size, 2 + i);
        size += 2 + i;
    }
    for (size_t piece = 1; piece < 60; piece += 7) {
        int fd = host_connect(&host);
        uint64_t before = latch_count(&host.messages);
        net_no_delay(fd);
        for (size_t at = 0; at < size; at += piece)
            send_all(fd, data + at, size - at < piece ? size - at : piece);
        expect_bytes(fd, data, size);
        latch_wait_for(&host.messages, before + COUNT);
        CHECK_EQ(latch_count(&host.messages), before + COUNT);
        net_close(fd);
    }
    host_end(&host);
}

TEST(large_messages_are_put_together)
{
    struct host host;
    unsigned char *data = malloc(60000);
    length_server(&host, 60000);
    int fd = host_connect(&host);
    for (size_t size = 59999; size > 6000; size -= 5003) {
        put_message(data, size);
        send_all(fd, data, size);
        expect_bytes(fd, data, size);
    }
    free(data);
    net_close(fd);
    host_end(&host);
}

/* Sends good messages and then a bad one: the good ones are answered, the session goes, others
 * stay. */
static void check_protocol_error(struct host *host, const void *bad, size_t bad_size)
{
    unsigned char good[10];
    int other = host_connect(host);
    int fd = host_connect(host);
    uint64_t closed = latch_count(&host->closed);
    uint64_t before = host_reason(host, IOCP_CLOSE_PROTOCOL);
    put_message(good, sizeof(good));
    send_all(fd, good, sizeof(good));
    send_all(fd, bad, bad_size);
    expect_bytes(fd, good, sizeof(good));
    expect_eof(fd);
    net_close(fd);
    latch_wait_for(&host->closed, closed + 1);
    CHECK_EQ(host_reason(host, IOCP_CLOSE_PROTOCOL), before + 1);
    send_all(other, good, sizeof(good));
    expect_bytes(other, good, sizeof(good));
    net_close(other);
    latch_wait_for(&host->closed, closed + 2);
}

TEST(size_0_ends_that_session_alone)
{
    struct host host;
    length_server(&host, 100);
    check_protocol_error(&host, "\0\0more", 6);
    host_end(&host);
}

TEST(size_beyond_the_maximum_ends_that_session_alone)
{
    struct host host;
    length_server(&host, 100);
    check_protocol_error(&host, "\x65\0", 2);
    host_end(&host);
}

static void answer_line(struct host *host, struct iocp_session *session, const void *data,
                        size_t size)
{
    char line[300];
    (void)host;
    CHECK_LT(size, 200);
    memcpy(line, "> ", 2);
    memcpy(line + 2, data, size);
    line[2 + size] = '\n';
    CHECK_OK(iocp_session_send(session, line, size + 3));
}

static void line_server(struct host *host)
{
    host_init(host);
    host->session_class.framing = iocp_framing_line(200);
    host->message_hook = answer_line;
    host_start(host);
}

TEST(lines_with_and_without_a_return)
{
    struct host host;
    line_server(&host);
    int fd = host_connect(&host);
    send_all(fd, "one\r\ntwo\n\nfo", 12);
    expect_bytes(fd, "> one\n> two\n> \n", 15);
    send_all(fd, "ur\n", 3);
    expect_bytes(fd, "> four\n", 7);
    net_close(fd);
    host_end(&host);
}

TEST(a_line_without_end_is_a_protocol_error)
{
    struct host host;
    char dots[201];
    line_server(&host);
    memset(dots, '.', sizeof(dots));
    int fd = host_connect(&host);
    send_all(fd, "ok\n", 3);
    expect_bytes(fd, "> ok\n", 5);
    send_all(fd, dots, sizeof(dots));
    expect_eof(fd);
    net_close(fd);
    latch_wait_for(&host.closed, 1);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_PROTOCOL), 1);
    host_end(&host);
}

/* `printf x | nc`: a client that ends its side at once still gets every answer. */
TEST(half_close_gets_its_answers)
{
    struct host host;
    line_server(&host);
    int fd = host_connect(&host);
    for (int i = 0; i < 1000; i++)
        send_all(fd, "question\n", 9);
    net_shutdown_send(fd);
    for (int i = 0; i < 1000; i++)
        expect_bytes(fd, "> question\n", 11);
    expect_eof(fd);
    net_close(fd);
    latch_wait_for(&host.closed, 1);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_PEER), 1);
    CHECK_EQ(latch_count(&host.messages), 1000);
    host_end(&host);
}

/* ---- Raw bytes that are not consumed. */

/* Consumes tens; more than there is counts as all. */
static size_t take_tens(struct host *host, struct iocp_session *session, const void *data,
                        size_t size)
{
    (void)host, (void)data;
    size_t used = size / 10 * 10;
    if (used)
        CHECK_OK(iocp_session_send(session, data, used));
    return used == size ? size + 5 : used;
}

TEST(raw_rest_comes_again_with_more)
{
    struct host host;
    host_init(&host);
    host.received_hook = take_tens;
    host_start(&host);
    int fd = host_connect(&host);
    send_all(fd, "01234", 5);
    latch_wait_for(&host.messages, 1);
    CHECK_EQ(latch_count(&host.bytes), 0);
    send_all(fd, "56789abc", 8);
    expect_bytes(fd, "0123456789", 10);
    send_all(fd, "defghij", 7);
    expect_bytes(fd, "abcdefghij", 10);
    CHECK_EQ(latch_reached(&host.bytes, 20, 10000), 1);
    net_close(fd);
    host_end(&host);
}

static size_t take_on_demand(struct host *host, struct iocp_session *session, const void *data,
                             size_t size)
{
    (void)session, (void)data;
    return *(uint32_t *)host->context ? size : 0;
}

/* With receive_max kept, receiving pauses; resume offers the bytes again. */
TEST(raw_rest_is_bounded)
{
    struct host host;
    uint32_t take = 0;
    static char data[400000];
    host_init(&host);
    host.session_class.receive_max = 20000;
    /* What is on its way when receiving pauses is a few buffers: less than `data`, as that is all
     * that there are. */
    host.config.port_config.buffer_size = 16384;
    host.config.port_config.buffer_count = 8;
    host.on_local = 1;
    host.received_hook = take_on_demand;
    host.context = &take;
    host_start(&host);
    int fd = host_connect(&host);
    net_small_buffers(fd);
    struct flood flood = {fd, data, sizeof(data)};
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, flood_run, &flood), 0);
    latch_wait_for(&host.messages, 2);
    /* Whatever was on its way has arrived; the rest stays with the sender. */
    CHECK(!latch_reached(&host.messages, 200, 200));
    CHECK_LT(host_stats(&host).bytes_received, sizeof(data));
    __atomic_store_n(&take, 1, __ATOMIC_SEQ_CST);
    struct iocp_session *session = host_last(&host);
    iocp_session_resume(session);
    iocp_session_unref(session);
    latch_wait_for(&host.bytes, sizeof(data));
    CHECK_EQ(latch_count(&host.bytes), sizeof(data));
    pthread_join(thread, NULL);
    net_close(fd);
    host_end(&host);
}

/* Nothing at first; then whole hundreds, so that the pieces that it is offered have rests. */
static size_t take_hundreds_on_demand(struct host *host, struct iocp_session *session,
                                      const void *data, size_t size)
{
    (void)session, (void)data;
    return *(uint32_t *)host->context ? size / 100 * 100 : 0;
}

/* A resume counts once the session has paused, which nobody tells of. */
static int resume_until_offered(void *context)
{
    struct host *host = context;
    if (latch_count(&host->messages) > 1)
        return 1;
    struct iocp_session *session = host_last(host);
    iocp_session_resume(session);
    iocp_session_unref(session);
    return 0;
}

/* More is kept than is offered at a time, and the handler leaves a part of each piece: it is
 * offered the rest with what is behind it, though nothing comes any more. */
TEST(raw_rest_comes_again_with_what_is_kept)
{
    struct host host;
    uint32_t take = 0;
    static const char data[1500];
    host_init(&host);
    host.session_class.receive_max = 1050;
    host.received_hook = take_hundreds_on_demand;
    host.context = &take;
    host_start(&host);
    int fd = host_connect(&host);
    send_all(fd, data, sizeof(data));
    latch_wait_for(&host.messages, 1);
    __atomic_store_n(&take, 1, __ATOMIC_SEQ_CST);
    wait_until(resume_until_offered, &host);
    latch_wait_for(&host.bytes, sizeof(data));
    net_close(fd);
    host_end(&host);
}

/* ---- Pause. */

static void pause_after_each(struct host *host, struct iocp_session *session, const void *data,
                             size_t size)
{
    (void)host, (void)size;
    iocp_session_pause(session);
    guest_of(session)->number = (guest_of(session)->number * 10) + (*(const char *)data - '0');
}

TEST(pause_stops_inside_a_batch)
{
    struct host host;
    host_init(&host);
    host.session_class.framing = iocp_framing_line(100);
    host.message_hook = pause_after_each;
    host_start(&host);
    int fd = host_connect(&host);
    send_all(fd, "1\n2\n3\n4\n5", 9);
    for (uint64_t i = 1; i <= 4; i++) {
        latch_wait_for(&host.messages, i);
        CHECK(!latch_reached(&host.messages, i + 1, 20));
        struct iocp_session *session = host_last(&host);
        iocp_session_resume(session);
        iocp_session_unref(session);
    }
    send_all(fd, "\n6\n", 3);
    net_shutdown_send(fd);
    /* Half a message was kept, and now is whole; paused again, the end has to wait. */
    latch_wait_for(&host.messages, 5);
    CHECK(!latch_reached(&host.closed, 1, 20));
    struct iocp_session *session = host_last(&host);
    iocp_session_resume(session);
    latch_wait_for(&host.messages, 6);
    iocp_session_resume(session);
    latch_wait_for(&host.closed, 1);
    CHECK_EQ(guest_of(session)->number, 123456);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_PEER), 1);
    iocp_session_unref(session);
    net_close(fd);
    host_end(&host);
}

/* Pauses and resumes from another thread while bytes come in: none is lost or doubled. */
TEST(pause_and_resume_race)
{
    enum { SIZE = 2000000 };
    struct host host;
    static char data[SIZE];
    host_open(&host);
    int fd = host_connect(&host);
    host_ping(fd, "go");
    struct iocp_session *session = host_last(&host);
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (char)(i * 13 + (i >> 10));
    struct flood flood = {fd, data, SIZE};
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, flood_run, &flood), 0);
    for (size_t at = 0; at < SIZE; at += SIZE / 200) {
        iocp_session_pause(session);
        if (at % (SIZE / 50) == 0)
            system_nap(300000);
        iocp_session_resume(session);
        expect_bytes(fd, data + at, SIZE / 200);
    }
    pthread_join(thread, NULL);
    iocp_session_unref(session);
    net_close(fd);
    host_end(&host);
}

/* ---- Ends. */

static void close_at_second(struct host *host, struct iocp_session *session, const void *data,
                            size_t size)
{
    (void)host;
    iocp_session_send(session, data, size);
    if (guest_of(session)->messages == 1) {
        iocp_session_close(session);
        iocp_session_close(session);
    }
}

TEST(nothing_is_delivered_after_close)
{
    struct host host;
    host_init(&host);
    host.session_class.framing = iocp_framing_line(100);
    host.message_hook = close_at_second;
    host_start(&host);
    int fd = host_connect(&host);
    send_all(fd, "a\nb\nc\nd\n", 8);
    expect_bytes(fd, "ab", 2);
    expect_eof(fd);
    /* The end of the peer is waited for; what it still sends is thrown away. */
    send_all(fd, "e\nf\n", 4);
    CHECK(!latch_reached(&host.closed, 1, 50));
    net_close(fd);
    latch_wait_for(&host.closed, 1);
    CHECK_EQ(latch_count(&host.messages), 2);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_LOCAL), 1);
    CHECK_EQ(host.error, 0);
    host_end(&host);
}

static void abort_at_once(struct host *host, struct iocp_session *session, const void *data,
                          size_t size)
{
    (void)host;
    iocp_session_send(session, data, size);
    iocp_session_abort(session);
    CHECK_EQ(iocp_session_queued(session), 0);
    iocp_session_abort(session);
    iocp_session_close(session);
}

TEST(abort_resets)
{
    struct host host;
    host_init(&host);
    host.session_class.framing = iocp_framing_line(100);
    host.message_hook = abort_at_once;
    host_start(&host);
    int fd = host_connect(&host);
    send_all(fd, "a\nb\nc\nd\n", 8);
    latch_wait_for(&host.closed, 1);
    expect_reset(fd);
    net_close(fd);
    CHECK_EQ(latch_count(&host.messages), 1);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_LOCAL), 1);
    host_end(&host);
}

TEST(close_from_outside)
{
    struct host host;
    host_open(&host);
    for (int paused = 0; paused < 2; paused++) {
        int fd = host_connect(&host);
        host_ping(fd, "here");
        struct iocp_session *session = host_last(&host);
        if (paused)
            iocp_session_pause(session);
        CHECK_OK(iocp_session_send(session, "bye", 3));
        iocp_session_close(session);
        CHECK_EQ(iocp_session_send(session, "more", 4), IOCP_ECLOSED);
        expect_bytes(fd, "bye", 3);
        expect_eof(fd);
        net_close(fd);
        latch_wait_for(&host.closed, (uint64_t)paused + 1);
        iocp_session_unref(session);
    }
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_LOCAL), 2);
    host_end(&host);
}

TEST(abort_from_outside)
{
    struct host host;
    host_open(&host);
    for (int paused = 0; paused < 2; paused++) {
        int fd = host_connect(&host);
        host_ping(fd, "here");
        struct iocp_session *session = host_last(&host);
        if (paused) {
            iocp_session_pause(session);
            system_nap(1000000);
        }
        iocp_session_abort(session);
        latch_wait_for(&host.closed, (uint64_t)paused + 1);
        expect_reset(fd);
        net_close(fd);
        iocp_session_unref(session);
    }
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_LOCAL), 2);
    host_end(&host);
}

TEST(reset_by_the_peer_is_an_error)
{
    struct host host;
    host_open(&host);
    int fd = host_connect(&host);
    host_ping(fd, "here");
    net_reset(fd);
    latch_wait_for(&host.closed, 1);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_ERROR), 1);
    CHECK_EQ(host.error, IOCP_ECONNRESET);
    host_end(&host);
}

/* The peer goes while a paused session, which sees nothing of that, goes on sending: the error of
 * the send ends it, and no signal does. */
TEST(send_to_a_peer_that_is_gone)
{
    struct host host;
    host_open(&host);
    int fd = host_connect(&host);
    host_ping(fd, "here");
    struct iocp_session *session = host_last(&host);
    iocp_session_pause(session);
    net_reset(fd);
    while (iocp_session_send(session, "anybody?", 8) == 0)
        system_nap(1000000);
    latch_wait_for(&host.closed, 1);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_ERROR), 1);
    CHECK(host.error == IOCP_ECONNRESET || host.error == IOCP_EPIPE);
    iocp_session_unref(session);
    host_end(&host);
}

static int refuse_even(struct iocp_session *session, void *context)
{
    struct host *host = context;
    struct iocp_address peer;
    CHECK_EQ(iocp_session_send(session, "x", 1), IOCP_ECLOSED);
    CHECK(iocp_service_find(host->service, iocp_session_id(session)) == NULL);
    iocp_session_peer(session, &peer);
    CHECK_NE(iocp_address_port(&peer), 0);
    uint64_t count = __atomic_add_fetch((uint64_t *)host->context, 1, __ATOMIC_RELAXED);
    return count % 2 ? 0 : IOCP_EPERM;
}

static int has_refused_five(void *context)
{
    return host_stats(context).refused == 5;
}

TEST(admit_refuses_without_opened)
{
    struct host host;
    uint64_t count = 0;
    host_init(&host);
    host.session_class.admit = refuse_even;
    host.context = &count;
    host_start(&host);
    for (int i = 0; i < 10; i++) {
        int fd = host_connect(&host);
        if (i % 2)
            expect_gone(fd);
        else
            host_ping(fd, "in");
        net_close(fd);
    }
    latch_wait_for(&host.closed, 5);
    wait_until(has_refused_five, &host); /* its end may be seen before it is counted */
    struct iocp_service_stats stats = host_stats(&host);
    CHECK_EQ(stats.accepted, 5);
    CHECK_EQ(stats.refused, 5);
    host_end(&host);
}
