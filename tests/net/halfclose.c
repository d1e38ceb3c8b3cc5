/* Half-closed connections: the peer ends its stream and still gets answers, this side ends its own
 * with iocp_session_finish and still receives, and whatever may come after either. */
#include "support/check.h"
#include "support/host.h"
#include "support/system.h"

#include <iocp.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SOON_MS 20 /* so long is looked for what must not come */

static void see_end(struct host *host, struct iocp_session *session)
{
    (void)host;
    CHECK_EQ(guest_of(session)->ended, 1);
}

static size_t take_all(struct host *host, struct iocp_session *session, const void *data,
                       size_t size)
{
    (void)host, (void)session, (void)data;
    return size;
}

/* A raw echo server with `ended`. */
static void half_open(struct host *host)
{
    host_init(host);
    host->ended_hook = see_end;
    host_start(host);
}

/* A connection that has come so far that it was answered; the session with a reference. */
static struct iocp_session *guest_connect(struct host *host, int *out_fd)
{
    *out_fd = host_connect(host);
    host_ping(*out_fd, "here");
    return host_last(host);
}

/* One that has ended its side, and the session knows. */
static struct iocp_session *guest_half_closed(struct host *host, int *out_fd)
{
    uint64_t ended = latch_count(&host->ended);
    struct iocp_session *session = guest_connect(host, out_fd);
    net_shutdown_send(*out_fd);
    latch_wait_for(&host->ended, ended + 1);
    return session;
}

static void check_closed(struct host *host, struct iocp_session *session,
                         enum iocp_close_reason reason)
{
    latch_wait_for(&host->closed, 1);
    CHECK_EQ(host_reason(host, reason), 1);
    iocp_session_unref(session);
    host_end(host);
}

/* ---- The peer's end. */

TEST(answers_after_the_peers_end)
{
    struct host host;
    int fd;
    half_open(&host);
    struct iocp_session *session = guest_half_closed(&host, &fd);
    CHECK(!latch_reached(&host.closed, 1, SOON_MS));
    for (int i = 0; i < 3; i++) {
        CHECK_OK(iocp_session_send(session, "later", 5));
        expect_bytes(fd, "later", 5);
    }
    CHECK_OK(iocp_session_send(session, "bye", 3));
    iocp_session_close(session);
    expect_bytes(fd, "bye", 3);
    /* The peer's socket is open: nothing more of it is waited for. */
    expect_eof(fd);
    check_closed(&host, session, IOCP_CLOSE_LOCAL);
    net_close(fd);
}

TEST(close_after_the_peers_end_flushes)
{
    enum { SIZE = 900000 };
    static char data[SIZE];
    struct host host;
    int fd;
    half_open(&host);
    struct iocp_session *session = guest_half_closed(&host, &fd);
    memset(data, 'd', SIZE);
    CHECK_OK(iocp_session_send(session, data, SIZE));
    iocp_session_close(session);
    CHECK_EQ(iocp_session_finish(session), IOCP_ECLOSED);
    expect_bytes(fd, data, SIZE);
    expect_eof(fd);
    check_closed(&host, session, IOCP_CLOSE_LOCAL);
    net_close(fd);
}

static void pause_at_each(struct host *host, struct iocp_session *session, const void *data,
                          size_t size)
{
    (void)host, (void)data, (void)size;
    iocp_session_pause(session);
}

static void end_after_three(struct host *host, struct iocp_session *session)
{
    (void)host;
    CHECK_EQ(guest_of(session)->messages, 3);
}

TEST(ended_waits_for_what_is_kept)
{
    struct host host;
    host_init(&host);
    host.session_class.framing = iocp_framing_line(100);
    host.message_hook = pause_at_each;
    host.ended_hook = end_after_three;
    host_start(&host);
    int fd = host_connect(&host);
    send_all(fd, "1\n2\n3\nno end", 12);
    net_shutdown_send(fd);
    for (uint64_t i = 1; i <= 3; i++) {
        latch_wait_for(&host.messages, i);
        CHECK(!latch_reached(&host.ended, 1, SOON_MS));
        struct iocp_session *session = host_last(&host);
        iocp_session_resume(session);
        iocp_session_unref(session);
    }
    latch_wait_for(&host.ended, 1);
    struct iocp_session *session = host_last(&host);
    /* Neither brings back the rest, or a second end. */
    iocp_session_pause(session);
    iocp_session_resume(session);
    CHECK_OK(iocp_session_send(session, "end", 3));
    expect_bytes(fd, "end", 3);
    iocp_session_close(session);
    check_closed(&host, session, IOCP_CLOSE_LOCAL);
    CHECK_EQ(latch_count(&host.messages), 3);
    CHECK_EQ(latch_count(&host.ended), 1);
    net_close(fd);
}

static size_t take_nothing(struct host *host, struct iocp_session *session, const void *data,
                           size_t size)
{
    (void)host, (void)session, (void)data, (void)size;
    return 0;
}

TEST(bytes_not_consumed_go_with_the_end)
{
    struct host host;
    host_init(&host);
    host.received_hook = take_nothing;
    host.ended_hook = see_end;
    host_start(&host);
    int fd = host_connect(&host);
    send_all(fd, "left", 4);
    latch_wait_for(&host.messages, 1);
    net_shutdown_send(fd);
    latch_wait_for(&host.ended, 1);
    struct iocp_session *session = host_last(&host);
    iocp_session_pause(session);
    iocp_session_resume(session);
    CHECK(!latch_reached(&host.closed, 1, SOON_MS));
    iocp_session_abort(session);
    check_closed(&host, session, IOCP_CLOSE_LOCAL);
    net_close(fd);
}

TEST(reset_after_the_peers_end)
{
    struct host host;
    int fd;
    half_open(&host);
    struct iocp_session *session = guest_half_closed(&host, &fd);
    net_reset(fd);
    /* The first may be on its way while the reset is. */
    do
        iocp_session_send(session, "anybody?", 8);
    while (!latch_reached(&host.closed, 1, 1));
    check_closed(&host, session, IOCP_CLOSE_ERROR);
}

TEST(stop_after_the_peers_end)
{
    struct host host;
    int fd;
    half_open(&host);
    iocp_session_unref(guest_half_closed(&host, &fd));
    host_end(&host);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_SHUTDOWN), 1);
    net_close(fd);
}

/* The read limit is the shorter one. */
TEST(no_read_limit_after_the_peers_end)
{
    struct host host;
    int fd;
    host_init(&host);
    host.ended_hook = see_end;
    host.config.tick_ns = 2 * MS;
    host.session_class.read_idle_ns = 200 * MS;
    host.session_class.write_idle_ns = 400 * MS;
    host_start(&host);
    struct iocp_session *session = guest_half_closed(&host, &fd);
    check_closed(&host, session, IOCP_CLOSE_WRITE_IDLE);
    net_close(fd);
}

/* ---- Our end. */

static void finish_then_receive(int with_ended)
{
    enum { SIZE = 1 << 20 };
    static char data[SIZE];
    struct host host;
    struct iocp_buffer *buffer;
    host_init(&host);
    host.received_hook = take_all;
    host.ended_hook = with_ended ? see_end : NULL;
    host_start(&host);
    int fd = host_connect(&host);
    send_all(fd, "x", 1);
    latch_wait_for(&host.bytes, 1);
    struct iocp_session *session = host_last(&host);
    CHECK_EQ(iocp_session_finish(session), 0);
    CHECK_EQ(iocp_session_finish(session), 0);
    expect_eof(fd);
    CHECK_EQ(iocp_session_send(session, "more", 4), IOCP_ECLOSED);
    CHECK_EQ(iocp_session_send(session, data, SIZE), IOCP_ECLOSED);
    CHECK_EQ(iocp_session_send(session, NULL, 0), IOCP_ECLOSED);
    CHECK_OK(iocp_buffer_create(10, &buffer));
    iocp_buffer_set_size(buffer, 10);
    CHECK_EQ(iocp_session_send_buffer(session, buffer), IOCP_ECLOSED);
    iocp_buffer_unref(buffer);
    send_all(fd, data, SIZE);
    latch_wait_for(&host.bytes, SIZE + 1);
    CHECK(!latch_reached(&host.closed, 1, SOON_MS));
    net_shutdown_send(fd);
    latch_wait_for(&host.closed, 1);
    CHECK_EQ(latch_count(&host.bytes), SIZE + 1);
    CHECK_EQ(latch_count(&host.ended), with_ended);
    CHECK_EQ(iocp_session_finish(session), IOCP_ECLOSED);
    check_closed(&host, session, IOCP_CLOSE_PEER);
    net_close(fd);
}

TEST(finish_goes_on_receiving)
{
    finish_then_receive(0);
}

TEST(finish_goes_on_receiving_to_the_end)
{
    finish_then_receive(1);
}

TEST(finish_flushes_a_full_queue)
{
    struct host host;
    char data[1000];
    int count = 0;
    int fd;
    host_init(&host);
    host.session_class.send_high = 64 * 1024;
    host.session_class.send_pause = 32 * 1024;
    host.session_class.send_low = 1000;
    host.session_class.send_buffer = 8192;
    host.on_local = 1;
    host_start(&host);
    struct iocp_session *session = guest_connect(&host, &fd);
    net_small_buffers(fd);
    memset(data, 'q', sizeof(data));
    do {
        while (iocp_session_send(session, data, sizeof(data)) == 0)
            count++;
    } while (iocp_session_queued(session) < 64 * 1024 - 1000);
    CHECK_EQ(iocp_session_finish(session), 0);
    CHECK_EQ(iocp_session_send(session, "y", 1), IOCP_ECLOSED);
    for (int i = 0; i < count; i++)
        expect_bytes(fd, data, sizeof(data));
    expect_eof(fd);
    CHECK(!latch_reached(&host.closed, 1, SOON_MS));
    net_close(fd);
    check_closed(&host, session, IOCP_CLOSE_PEER);
}

TEST(finish_after_the_peers_end_closes)
{
    struct host host;
    int fd;
    half_open(&host);
    struct iocp_session *session = guest_half_closed(&host, &fd);
    CHECK_OK(iocp_session_send(session, "last", 4));
    CHECK_EQ(iocp_session_finish(session), 0);
    expect_bytes(fd, "last", 4);
    expect_eof(fd);
    check_closed(&host, session, IOCP_CLOSE_LOCAL);
    net_close(fd);
}

TEST(finish_then_close)
{
    struct host host;
    int fd;
    half_open(&host);
    struct iocp_session *session = guest_connect(&host, &fd);
    CHECK_EQ(iocp_session_finish(session), 0);
    expect_eof(fd);
    iocp_session_close(session);
    CHECK_EQ(iocp_session_finish(session), IOCP_ECLOSED);
    send_all(fd, "not delivered", 13);
    CHECK(!latch_reached(&host.closed, 1, SOON_MS));
    net_close(fd);
    latch_wait_for(&host.closed, 1);
    CHECK_EQ(latch_count(&host.bytes), 4);
    CHECK_EQ(latch_count(&host.ended), 0);
    check_closed(&host, session, IOCP_CLOSE_LOCAL);
}

/* At once, so that the disconnect may still be on its way. */
TEST(finish_then_close_at_once)
{
    struct host host;
    half_open(&host);
    for (uint64_t i = 1; i <= 50; i++) {
        int fd;
        struct iocp_session *session = guest_connect(&host, &fd);
        CHECK_OK(iocp_session_send(session, "bye", i % 2 ? 3 : 0));
        CHECK_EQ(iocp_session_finish(session), 0);
        iocp_session_close(session);
        if (i % 2)
            expect_bytes(fd, "bye", 3);
        expect_eof(fd);
        net_close(fd);
        latch_wait_for(&host.closed, i);
        iocp_session_unref(session);
    }
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_LOCAL), 50);
    host_end(&host);
}

TEST(a_peer_that_never_ends_is_lingered_for)
{
    struct host host;
    int fd;
    host_init(&host);
    host.config.tick_ns = 2 * MS;
    host.session_class.linger_ns = 50 * MS;
    host_start(&host);
    struct iocp_session *session = guest_connect(&host, &fd);
    CHECK_EQ(iocp_session_finish(session), 0);
    expect_eof(fd);
    iocp_session_close(session);
    check_closed(&host, session, IOCP_CLOSE_LOCAL);
    net_close(fd);
}

TEST(finish_then_abort)
{
    struct host host;
    int fd;
    half_open(&host);
    struct iocp_session *session = guest_connect(&host, &fd);
    CHECK_EQ(iocp_session_finish(session), 0);
    iocp_session_abort(session);
    CHECK_EQ(iocp_session_finish(session), IOCP_ECLOSED);
    latch_wait_for(&host.closed, 1);
    expect_gone(fd);
    CHECK_EQ(latch_count(&host.ended), 0);
    check_closed(&host, session, IOCP_CLOSE_LOCAL);
    net_close(fd);
}

TEST(finish_then_stop)
{
    struct host host;
    int fd;
    half_open(&host);
    struct iocp_session *session = guest_connect(&host, &fd);
    CHECK_EQ(iocp_session_finish(session), 0);
    expect_eof(fd);
    iocp_service_stop(host.service);
    net_close(fd);
    check_closed(&host, session, IOCP_CLOSE_SHUTDOWN);
}

TEST(reset_after_finish)
{
    struct host host;
    int fd;
    half_open(&host);
    struct iocp_session *session = guest_connect(&host, &fd);
    CHECK_EQ(iocp_session_finish(session), 0);
    expect_eof(fd);
    net_reset(fd);
    latch_wait_for(&host.closed, 1);
    CHECK_EQ(host.error, IOCP_ECONNRESET);
    CHECK_EQ(latch_count(&host.ended), 0);
    check_closed(&host, session, IOCP_CLOSE_ERROR);
}

/* The write limit is the shorter one: there is nothing to write any more. */
TEST(no_write_limit_after_finish)
{
    struct host host;
    int fd;
    host_init(&host);
    host.config.tick_ns = 2 * MS;
    host.session_class.write_idle_ns = 200 * MS;
    host.session_class.send_stall_ns = 200 * MS;
    host.session_class.read_idle_ns = 400 * MS;
    host_start(&host);
    struct iocp_session *session = guest_connect(&host, &fd);
    CHECK_EQ(iocp_session_finish(session), 0);
    expect_eof(fd);
    /* It ends by a close, which waits for the peer. */
    CHECK(!latch_reached(&host.closed, 1, 300));
    while (iocp_session_finish(session) == 0)
        system_nap(1000000);
    net_close(fd);
    check_closed(&host, session, IOCP_CLOSE_READ_IDLE);
}

/* More sessions than the pool has free blocks: some are refused, and finish later. */
TEST(finish_without_memory_changes_nothing)
{
    enum { COUNT = 100 };
    struct host host;
    struct iocp_session *sessions[COUNT];
    int fds[COUNT];
    int failed = 0;
    host_init(&host);
    host.received_hook = take_all;
    host_start(&host);
    for (int i = 0; i < COUNT; i++) {
        fds[i] = host_connect(&host);
        latch_wait_for(&host.opened, (uint64_t)i + 1);
        sessions[i] = host_last(&host);
    }
    iocp_memory_fail(1, 1);
    for (int i = 0; i < COUNT; i++) {
        int error = iocp_session_finish(sessions[i]);
        CHECK(error == 0 || error == IOCP_ENOMEM);
        failed += error != 0;
    }
    iocp_memory_fail(0, 0);
    CHECK_GT(failed, 0);
    for (int i = 0; i < COUNT; i++) {
        iocp_session_send(sessions[i], "x", 1);
        CHECK_EQ(iocp_session_finish(sessions[i]), 0);
        iocp_session_unref(sessions[i]);
        expect_gone(fds[i]);
        net_close(fds[i]);
    }
    latch_wait_for(&host.closed, COUNT);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_PEER), COUNT);
    host_end(&host);
}

/* ---- In handlers. */

static void finish_now(struct iocp_session *session)
{
    CHECK_EQ(iocp_session_finish(session), 0);
    CHECK_EQ(iocp_session_send(session, "no", 2), IOCP_ECLOSED);
}

static void finish_opened(struct host *host, struct iocp_session *session)
{
    (void)host;
    CHECK_OK(iocp_session_send(session, "hello", 5));
    finish_now(session);
}

static size_t finish_received(struct host *host, struct iocp_session *session, const void *data,
                              size_t size)
{
    (void)host;
    if (guest_of(session)->messages == 0) {
        CHECK_OK(iocp_session_send(session, data, size));
        finish_now(session);
    }
    return size;
}

static void finish_message(struct host *host, struct iocp_session *session, const void *data,
                           size_t size)
{
    finish_received(host, session, data, size);
}

static void finish_ended(struct host *host, struct iocp_session *session)
{
    (void)host;
    CHECK_OK(iocp_session_send(session, "end", 3));
    finish_now(session);
    /* It is closing. */
    CHECK_EQ(iocp_session_finish(session), IOCP_ECLOSED);
}

/* Its session finished after it has sent `text`; it still receives a line. */
static void check_finished(struct host *host, int fd, const char *text)
{
    uint64_t before = latch_count(&host->messages);
    expect_bytes(fd, text, strlen(text));
    expect_eof(fd);
    send_all(fd, "line\n", 5);
    latch_wait_for(&host->messages, before + 1);
    net_close(fd);
    check_closed(host, NULL, IOCP_CLOSE_PEER);
}

TEST(finish_in_opened)
{
    struct host host;
    host_init(&host);
    host.opened_hook = finish_opened;
    host.received_hook = take_all;
    host_start(&host);
    check_finished(&host, host_connect(&host), "hello");
}

TEST(finish_in_received)
{
    struct host host;
    host_init(&host);
    host.received_hook = finish_received;
    host.ended_hook = see_end;
    host_start(&host);
    int fd = host_connect(&host);
    send_all(fd, "one", 3);
    check_finished(&host, fd, "one");
}

TEST(finish_in_message)
{
    struct host host;
    host_init(&host);
    host.session_class.framing = iocp_framing_line(100);
    host.message_hook = finish_message;
    host_start(&host);
    int fd = host_connect(&host);
    send_all(fd, "one\ntwo\nthree\n", 14);
    latch_wait_for(&host.messages, 3);
    check_finished(&host, fd, "one");
}

TEST(finish_in_ended)
{
    struct host host;
    host_init(&host);
    host.ended_hook = finish_ended;
    host_start(&host);
    int fd = host_connect(&host);
    host_ping(fd, "here");
    net_shutdown_send(fd);
    expect_bytes(fd, "end", 3);
    expect_eof(fd);
    check_closed(&host, NULL, IOCP_CLOSE_LOCAL);
    net_close(fd);
}

/* ---- Both sides. */

static void send_and_finish(struct host *host, struct iocp_session *session)
{
    static const char data[100000];
    (void)host;
    CHECK_OK(iocp_session_send(session, data, sizeof(data)));
    finish_now(session);
}

/* Two sessions of one service that are connected to each other. */
TEST(both_finish)
{
    struct host host;
    struct iocp_connect_config config = {.session_class = &host.session_class};
    host_init(&host);
    host.opened_hook = send_and_finish;
    host.received_hook = take_all;
    host.ended_hook = see_end;
    host_start(&host);
    config.address = host.address;
    CHECK_OK(iocp_service_connect(host.service, &config, NULL));
    latch_wait_for(&host.closed, 2);
    CHECK_EQ(latch_count(&host.bytes), 200000);
    CHECK_EQ(latch_count(&host.ended), 2);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_PEER), 2);
    host_end(&host);
}

/* ---- Races. */

struct race {
    struct iocp_session *session;
    pthread_barrier_t *start;
    int times; /* of finish; 0: close */
};

static void *race_run(void *context)
{
    struct race *race = context;
    pthread_barrier_wait(race->start);
    if (!race->times)
        iocp_session_close(race->session);
    for (int i = 0; i < race->times; i++) {
        int error = iocp_session_finish(race->session);
        CHECK(error == 0 || error == IOCP_ECLOSED);
    }
    return NULL;
}

/* One round: `first` and `second` in threads of their own, the peer's end in this one. */
static void race_round(struct host *host, int first, int second)
{
    uint64_t closed = latch_count(&host->closed);
    pthread_barrier_t start;
    pthread_t threads[2];
    int fd;
    struct iocp_session *session = guest_connect(host, &fd);
    struct race races[2] = {{session, &start, first}, {session, &start, second}};
    CHECK_EQ(pthread_barrier_init(&start, NULL, 3), 0);
    CHECK_OK(iocp_session_send(session, "bye", 3));
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, race_run, &races[i]), 0);
    pthread_barrier_wait(&start);
    net_shutdown_send(fd);
    expect_bytes(fd, "bye", 3);
    expect_eof(fd);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    latch_wait_for(&host->closed, closed + 1);
    pthread_barrier_destroy(&start);
    iocp_session_unref(session);
    net_close(fd);
}

/* No round may need the linger, which is far beyond the limit of a wait. */
static void race_all(int with_ended, int first, int second)
{
    struct host host;
    host_init(&host);
    host.ended_hook = with_ended ? see_end : NULL;
    host.session_class.linger_ns = 1000000 * MS;
    host_start(&host);
    for (int i = 0; i < 200; i++)
        race_round(&host, first, second);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_PEER) + host_reason(&host, IOCP_CLOSE_LOCAL), 200);
    host_end(&host);
}

TEST(finish_and_close_and_the_peers_end)
{
    race_all(1, 1, 0);
}

TEST(finish_and_close_and_the_peers_end_untold)
{
    race_all(0, 1, 0);
}

TEST(finish_twice_and_the_peers_end)
{
    race_all(1, 2, 2);
}

TEST(finish_twice_and_the_peers_end_untold)
{
    race_all(0, 2, 2);
}
