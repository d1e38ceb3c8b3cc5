/* Time limits: each ends its session, none early, and idle sessions cost nothing. */
#include "support/check.h"
#include "support/host.h"
#include "support/system.h"

#include <iocp.h>

#include <string.h>

#define LIMIT (60 * MS)
#define LONG_LIMIT (300 * MS) /* where a test has to keep a session alive for longer than that */

static void limit_init(struct host *host)
{
    host_init(host);
    host->config.tick_ns = 2 * MS;
}

static void check_over(struct host *host, enum iocp_close_reason reason, uint64_t since_ns,
                       uint64_t limit_ns)
{
    latch_wait_for(&host->closed, 1);
    CHECK_GE(iocp_now_ns() - since_ns, limit_ns);
    CHECK_EQ(host_reason(host, reason), 1);
    CHECK_EQ(host->error, 0);
}

/* The peer sends on for longer than the limit, then stops. */
TEST(read_idle)
{
    struct host host;
    uint64_t last = 0;
    limit_init(&host);
    host.session_class.read_idle_ns = LONG_LIMIT;
    host_start(&host);
    int fd = host_connect(&host);
    for (int i = 0; i < 8; i++) {
        last = iocp_now_ns();
        host_ping(fd, "alive");
        system_nap(LONG_LIMIT / 6);
    }
    expect_eof(fd);
    net_close(fd);
    check_over(&host, IOCP_CLOSE_READ_IDLE, last, LONG_LIMIT);
    host_end(&host);
}

TEST(read_idle_without_a_byte)
{
    struct host host;
    limit_init(&host);
    host.session_class.read_idle_ns = LIMIT;
    host_start(&host);
    uint64_t began = iocp_now_ns();
    int fd = host_connect(&host);
    expect_eof(fd);
    net_close(fd);
    check_over(&host, IOCP_CLOSE_READ_IDLE, began, LIMIT);
    host_end(&host);
}

/* A session that its own side has paused is not idle. */
TEST(paused_is_not_idle)
{
    struct host host;
    limit_init(&host);
    host.session_class.read_idle_ns = LIMIT;
    host_start(&host);
    int fd = host_connect(&host);
    host_ping(fd, "x");
    struct iocp_session *session = host_last(&host);
    iocp_session_pause(session);
    CHECK(!latch_reached(&host.closed, 1, 3 * LIMIT / MS));
    uint64_t resumed = iocp_now_ns();
    iocp_session_resume(session);
    iocp_session_unref(session);
    expect_eof(fd);
    net_close(fd);
    check_over(&host, IOCP_CLOSE_READ_IDLE, resumed, LIMIT);
    host_end(&host);
}

static size_t take(struct host *host, struct iocp_session *session, const void *data, size_t size)
{
    (void)host, (void)session, (void)data;
    return size;
}

/* What is received does not count. */
TEST(write_idle)
{
    struct host host;
    uint64_t last = 0;
    limit_init(&host);
    host.session_class.write_idle_ns = LONG_LIMIT;
    host.received_hook = take;
    host_start(&host);
    int fd = host_connect(&host);
    latch_wait_for(&host.opened, 1);
    for (int i = 0; i < 8; i++) {
        struct iocp_session *session = host_last(&host);
        last = iocp_now_ns();
        CHECK_OK(iocp_session_send(session, "tick", 4));
        iocp_session_unref(session);
        expect_bytes(fd, "tick", 4);
        system_nap(LONG_LIMIT / 6);
    }
    for (int i = 0; i < 3; i++) {
        send_all(fd, "x", 1);
        system_nap(LONG_LIMIT / 6);
    }
    expect_eof(fd);
    net_close(fd);
    check_over(&host, IOCP_CLOSE_WRITE_IDLE, last, LONG_LIMIT);
    host_end(&host);
}

TEST(handshake)
{
    struct host host;
    limit_init(&host);
    host.session_class.handshake_ns = LIMIT;
    host_start(&host);
    int good = host_connect(&host);
    host_ping(good, "it is me");
    struct iocp_session *session = host_last(&host);
    iocp_session_confirm(session);
    iocp_session_unref(session);
    uint64_t began = iocp_now_ns();
    int bad = host_connect(&host);
    host_ping(bad, "guess");
    expect_eof(bad);
    net_close(bad);
    check_over(&host, IOCP_CLOSE_HANDSHAKE, began, LIMIT);
    host_ping(good, "still here");
    net_close(good);
    host_end(&host);
}

TEST(lifetime)
{
    struct host host;
    limit_init(&host);
    host.session_class.lifetime_ns = LIMIT;
    host_start(&host);
    uint64_t began = iocp_now_ns();
    int fd = host_connect(&host);
    host_ping(fd, "x");
    expect_eof(fd);
    net_close(fd);
    check_over(&host, IOCP_CLOSE_LIFETIME, began, LIMIT);
    host_end(&host);
}

/* The peer takes nothing: the session is reset. While it takes, however slowly, it stays. */
TEST(send_stall)
{
    struct host host;
    static char data[400000];
    static char got[20000];
    limit_init(&host);
    host.on_local = 1;
    host.session_class.send_stall_ns = LONG_LIMIT;
    host.session_class.send_buffer = 8192;
    host_start(&host);
    int fd = host_connect(&host);
    host_ping(fd, "x");
    net_receive_buffer(fd, 32768); /* TCP might hold all that is left below */
    struct iocp_session *session = host_last(&host);
    CHECK_OK(iocp_session_send(session, data, sizeof(data)));
    for (int i = 0; i < 15; i++) {
        recv_exact(fd, got, sizeof(got));
        system_nap(LONG_LIMIT / 12);
    }
    /* Bytes went, so it is there for longer than the limit. */
    CHECK_EQ(latch_count(&host.closed), 0);
    latch_wait_for(&host.closed, 1);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_SEND_STALL), 1);
    iocp_session_unref(session);
    expect_gone(fd);
    net_close(fd);
    host_end(&host);
}

TEST(linger)
{
    struct host host;
    limit_init(&host);
    host.session_class.linger_ns = LIMIT;
    host_start(&host);
    int fd = host_connect(&host);
    host_ping(fd, "x");
    struct iocp_session *session = host_last(&host);
    uint64_t began = iocp_now_ns();
    iocp_session_close(session);
    iocp_session_unref(session);
    /* The peer reads our end, and keeps its own side open. */
    expect_eof(fd);
    check_over(&host, IOCP_CLOSE_LOCAL, began, LIMIT);
    net_close(fd);
    host_end(&host);
}

/* The queue of a closing session does not go out: after the linger the peer sees a reset. */
TEST(linger_with_a_queue)
{
    struct host host;
    static char much[900000];
    limit_init(&host);
    host.session_class.linger_ns = LIMIT;
    host.session_class.send_buffer = 8192;
    host_start(&host);
    int fd = host_connect(&host);
    host_ping(fd, "x");
    net_small_buffers(fd);
    struct iocp_session *session = host_last(&host);
    uint64_t began = iocp_now_ns();
    CHECK_OK(iocp_session_send(session, much, sizeof(much)));
    CHECK_OK(iocp_session_send(session, much, 100000));
    iocp_session_close(session);
    check_over(&host, IOCP_CLOSE_LOCAL, began, LIMIT);
    iocp_session_unref(session);
    net_close(fd);
    host_end(&host);
}

/* Far limits: sessions come round in the wheel, and no packet is made for any of them. */
TEST(idle_sessions_get_no_packets)
{
    enum { COUNT = 200 };
    struct host host;
    struct iocp_port_stats before;
    struct iocp_port_stats after;
    int fds[COUNT];
    host_init(&host);
    host.config.tick_ns = MS / 10;
    host.session_class.read_idle_ns = 3600 * 1000 * MS;
    host.session_class.lifetime_ns = UINT64_MAX;
    host_start(&host);
    for (int i = 0; i < COUNT; i++) {
        fds[i] = host_connect(&host);
        host_ping(fds[i], "x");
    }
    struct iocp_port *port = iocp_service_port(host.service);
    system_nap(10 * MS);
    iocp_port_stats(port, &before);
    uint64_t began = iocp_now_ns();
    system_nap(200 * MS);
    iocp_port_stats(port, &after);
    /* One timer for all: at most a packet for each tick. */
    CHECK_EQ(after.posts, before.posts);
    CHECK_LE(after.packets - before.packets, (iocp_now_ns() - began) / (MS / 10) + 2);
    CHECK_EQ(latch_count(&host.closed), 0);
    for (int i = 0; i < COUNT; i++)
        net_close(fds[i]);
    host_end(&host);
}

/* Without limits no timer runs. */
TEST(no_limits_no_timer)
{
    struct host host;
    struct iocp_port_stats before;
    struct iocp_port_stats after;
    host_init(&host);
    host.config.tick_ns = MS;
    host_start(&host);
    int fd = host_connect(&host);
    host_ping(fd, "x");
    system_nap(10 * MS);
    iocp_port_stats(iocp_service_port(host.service), &before);
    system_nap(50 * MS);
    iocp_port_stats(iocp_service_port(host.service), &after);
    CHECK_EQ(after.submits, before.submits);
    CHECK_EQ(after.packets, before.packets);
    net_close(fd);
    host_end(&host);
}
