/* Services: start, stop, join and again; the cap; ids; broadcast; what an idle session costs. */
#include "support/check.h"
#include "support/host.h"
#include "support/system.h"

#include <iocp.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- Stop. */

static size_t stop_in_handler(struct host *host, struct iocp_session *session, const void *data,
                              size_t size)
{
    CHECK_OK(iocp_session_send(session, data, size));
    iocp_service_stop(host->service);
    iocp_service_stop(host->service);
    CHECK_EQ(iocp_service_join(host->service), IOCP_EBUSY);
    return size;
}

TEST(stops_from_a_handler)
{
    struct host host;
    host_init(&host);
    host.received_hook = stop_in_handler;
    host_start(&host);
    int fd = host_connect(&host);
    int other = host_connect(&host);
    latch_wait_for(&host.opened, 2);
    host_ping(fd, "stop, please");
    expect_eof(fd);
    expect_eof(other);
    net_close(fd);
    net_close(other);
    CHECK_OK(iocp_service_join(host.service));
    CHECK_OK(iocp_service_join(host.service));
    CHECK_EQ(latch_count(&host.stopped), 1);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_SHUTDOWN), 2);
    CHECK_LT(net_try_connect(&host.address), 0);
    host_free(&host);
}

TEST(starts_again)
{
    struct host host;
    host_open(&host);
    CHECK_EQ(iocp_service_start(host.service), IOCP_EBUSY);
    for (uint64_t round = 1; round <= 4; round++) {
        int fd = host_connect(&host);
        host_ping(fd, "round");
        iocp_service_stop(host.service);
        CHECK_EQ(iocp_service_listen(host.service, &host.address, &host.session_class, NULL, NULL),
                 IOCP_ECLOSED);
        expect_eof(fd);
        net_close(fd);
        CHECK_OK(iocp_service_join(host.service));
        CHECK_EQ(latch_count(&host.stopped), round);
        CHECK_EQ(latch_count(&host.closed), round);
        CHECK_OK(iocp_service_listen(host.service, &host.address, &host.session_class, NULL, NULL));
        CHECK_OK(iocp_service_start(host.service));
    }
    host_end(&host);
}

TEST(stop_and_join_before_start)
{
    struct host host;
    struct iocp_address any = net_loopback();
    host_init(&host);
    host_make(&host);
    iocp_service_stop(host.service);
    iocp_service_stop(host.service);
    CHECK_OK(iocp_service_join(host.service));
    CHECK_EQ(latch_count(&host.stopped), 0);
    CHECK_OK(iocp_service_listen(host.service, &any, &host.session_class, NULL, &host.address));
    CHECK_OK(iocp_service_start(host.service));
    int fd = host_connect(&host);
    host_ping(fd, "after all");
    net_close(fd);
    host_end(&host);
}

/* Never started, with a listener and a connection in its backlog: freed without a trace. */
TEST(unref_without_start)
{
    struct host host;
    host_init(&host);
    host_make(&host);
    int fd = host_connect(&host);
    host_free(&host);
    net_close(fd);
}

TEST(unref_stops_and_joins)
{
    struct host host;
    host_open(&host);
    int fd = host_connect(&host);
    host_ping(fd, "x");
    CHECK(iocp_service_ref(host.service) == host.service);
    CHECK(iocp_service_unref(host.service) == NULL);
    host_ping(fd, "y");
    net_close(fd);
    iocp_service_unref(host.service);
    CHECK_EQ(latch_count(&host.stopped), 1);
    CHECK_EQ(latch_count(&host.closed), 1);
    CHECK_EQ(iocp_memory_count(), host.memory_before);
    CHECK(iocp_service_unref(NULL) == NULL);
}

static void *join_run(void *context)
{
    struct host *host = context;
    CHECK_OK(iocp_service_join(host->service));
    latch_add(&host->event, 1);
    return NULL;
}

TEST(several_threads_join)
{
    struct host host;
    pthread_t threads[4];
    host_open(&host);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, join_run, &host), 0);
    CHECK(!latch_reached(&host.event, 1, 20));
    iocp_service_stop(host.service);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    host_free(&host);
}

/* ---- Drain. */

static size_t answer_much_and_stop(struct host *host, struct iocp_session *session,
                                   const void *data, size_t size)
{
    static char much[900000];
    (void)data;
    CHECK_OK(iocp_session_send(session, much, sizeof(much)));
    iocp_service_stop(host->service);
    return size;
}

TEST(drain_delivers_what_was_queued)
{
    struct host host;
    static char zeroes[900000];
    host_init(&host);
    host.received_hook = answer_much_and_stop;
    host_start(&host);
    int fd = host_connect(&host);
    send_all(fd, "x", 1);
    expect_bytes(fd, zeroes, sizeof(zeroes));
    expect_eof(fd);
    net_close(fd);
    CHECK_OK(iocp_service_join(host.service));
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_SHUTDOWN), 1);
    host_free(&host);
}

/* Peers that do not read, do not end, or are waited for in a close with a long linger hold the stop
 * up until the drain is over, no longer. */
TEST(drain_has_an_end)
{
    struct host host;
    static char much[900000];
    host_init(&host);
    host.config.drain_ns = 50 * MS;
    /* The wheel of time limits comes round by itself after 512 ticks: not within the test. */
    host.config.tick_ns = 150 * MS;
    host.session_class.linger_ns = 3600 * 1000 * MS;
    host.session_class.send_buffer = 8192;
    host_start(&host);
    int fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = host_connect(&host);
        host_ping(fds[i], "x");
        struct iocp_session *session = host_last(&host);
        if (i == 0)
            CHECK_OK(iocp_session_send(session, much, sizeof(much)));
        if (i == 1)
            iocp_session_close(session);
        iocp_session_unref(session);
    }
    uint64_t began = iocp_now_ns();
    iocp_service_stop(host.service);
    CHECK_OK(iocp_service_join(host.service));
    CHECK_GE(iocp_now_ns() - began, 50 * MS);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_SHUTDOWN), 2);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_LOCAL), 1);
    expect_reset(fds[0]);
    for (int i = 0; i < 3; i++)
        net_close(fds[i]);
    host_free(&host);
}

/* ---- Threads of the user's. */

TEST(without_workers)
{
    struct host host;
    struct pump pump;
    host_init(&host);
    host.config.workers = IOCP_WORKERS_NONE;
    host_start(&host);
    pump_start(&pump, iocp_service_port(host.service), 2);
    int fd = host_connect(&host);
    host_ping(fd, "whose threads?");
    net_close(fd);
    latch_wait_for(&host.closed, 1);
    iocp_service_stop(host.service);
    CHECK_OK(iocp_service_join(host.service));
    CHECK_EQ(latch_count(&host.stopped), 1);
    pump_stop(&pump);
    host_free(&host);
}

/* A join on a thread that runs the service's handlers would wait for itself. */
TEST(stops_from_a_handler_of_a_user_thread)
{
    struct host host;
    struct pump pump;
    host_init(&host);
    host.config.workers = IOCP_WORKERS_NONE;
    host.received_hook = stop_in_handler;
    host_start(&host);
    pump_start(&pump, iocp_service_port(host.service), 1);
    int fd = host_connect(&host);
    host_ping(fd, "stop, please");
    expect_eof(fd);
    net_close(fd);
    CHECK_OK(iocp_service_join(host.service));
    pump_stop(&pump);
    host_free(&host);
}

TEST(two_services_on_one_port)
{
    struct iocp_port_config config;
    struct iocp_port *port;
    struct host hosts[2];
    size_t before = iocp_memory_count();
    iocp_port_config_init(&config);
    config.backend = test_backend();
    CHECK_OK(iocp_port_create(&config, &port));
    for (int i = 0; i < 2; i++) {
        host_init(&hosts[i]);
        hosts[i].config.port = port;
        hosts[i].config.workers = i == 0 ? 2 : IOCP_WORKERS_NONE;
        host_start(&hosts[i]);
        CHECK(iocp_service_port(hosts[i].service) == port);
    }
    for (int i = 0; i < 2; i++) {
        int fd = host_connect(&hosts[i]);
        host_ping(fd, "both");
        net_close(fd);
    }
    /* The one without workers first: the other's run it to its end. */
    for (int i = 1; i >= 0; i--) {
        iocp_service_stop(hosts[i].service);
        CHECK_OK(iocp_service_join(hosts[i].service));
    }
    for (int i = 0; i < 2; i++)
        iocp_service_unref(hosts[i].service);
    iocp_port_unref(port);
    CHECK_EQ(iocp_memory_count(), before);
}

/* Somebody closes the port under the service: join comes back all the same. */
TEST(port_closed_by_someone)
{
    struct host host;
    host_open(&host);
    int fd = host_connect(&host);
    host_ping(fd, "x");
    iocp_port_close(iocp_service_port(host.service));
    CHECK_OK(iocp_service_join(host.service));
    struct iocp_address any = net_loopback();
    CHECK_EQ(iocp_service_listen(host.service, &any, &host.session_class, NULL, NULL),
             IOCP_ECLOSED);
    iocp_service_unref(host.service);
    CHECK_EQ(iocp_memory_count(), host.memory_before);
    expect_gone(fd);
    net_close(fd);
}

/* ---- The cap. */

static int has_room(void *context)
{
    return host_stats(context).sessions < 5;
}

TEST(sessions_max_is_a_cap)
{
    enum { MAX = 5, EXTRA = 20 };
    struct host host;
    int fds[MAX];
    host_init(&host);
    host.config.sessions_max = MAX;
    host_start(&host);
    for (int i = 0; i < MAX; i++) {
        fds[i] = host_connect(&host);
        host_ping(fds[i], "in");
    }
    for (int i = 0; i < EXTRA; i++) {
        int fd = host_connect(&host);
        expect_gone(fd);
        net_close(fd);
    }
    struct iocp_service_stats stats = host_stats(&host);
    CHECK_EQ(stats.sessions, MAX);
    CHECK_EQ(stats.sessions_peak, MAX);
    CHECK_EQ(stats.accepted, MAX);
    CHECK_EQ(stats.refused, EXTRA);
    net_close(fds[0]);
    wait_until(has_room, &host);
    fds[0] = host_connect(&host);
    for (int i = 0; i < MAX; i++) {
        host_ping(fds[i], "still in");
        net_close(fds[i]);
    }
    host_end(&host);
}

/* ---- Ids. */

TEST(ids_are_never_used_again)
{
    enum { COUNT = 300 };
    struct host host;
    uint64_t ids[COUNT];
    host_init(&host);
    host.config.sessions_max = 3;
    host_start(&host);
    CHECK(iocp_service_find(host.service, 0) == NULL);
    for (int i = 0; i < COUNT; i++) {
        int fd = host_connect(&host);
        host_ping(fd, "x");
        struct iocp_session *session = host_last(&host);
        ids[i] = iocp_session_id(session);
        CHECK_NE(ids[i], 0);
        CHECK(iocp_service_find(host.service, ids[i]) == session);
        for (int k = 0; k < i; k++) {
            CHECK_NE(ids[k], ids[i]);
            CHECK(iocp_service_find(host.service, ids[k]) == NULL);
        }
        iocp_session_unref(session);
        iocp_session_unref(session);
        net_close(fd);
        latch_wait_for(&host.closed, (uint64_t)i + 1);
        CHECK(iocp_service_find(host.service, ids[i]) == NULL);
    }
    CHECK(iocp_service_find(host.service, UINT64_MAX) == NULL);
    host_end(&host);
}

/* ---- All of them. */

static int count_visits(struct iocp_session *session, void *context)
{
    uint32_t *left = context;
    CHECK_EQ(guest_of(session)->opened, 1);
    return --*left == 0;
}

TEST(broadcast_reaches_everybody)
{
    enum { COUNT = 100 };
    struct host host;
    int fds[COUNT];
    struct iocp_buffer *buffer;
    host_open(&host);
    for (int i = 0; i < COUNT; i++)
        fds[i] = host_connect(&host);
    latch_wait_for(&host.opened, COUNT);
    CHECK_OK(iocp_buffer_copy("to all", 6, &buffer));
    CHECK_EQ(iocp_service_broadcast(host.service, buffer), COUNT);
    CHECK_EQ(iocp_service_broadcast(host.service, buffer), COUNT);
    iocp_buffer_unref(buffer);
    for (int i = 0; i < COUNT; i++)
        expect_bytes(fds[i], "to allto all", 12);
    uint32_t left = COUNT + 1;
    iocp_service_each(host.service, count_visits, &left);
    CHECK_EQ(left, 1);
    left = 30;
    iocp_service_each(host.service, count_visits, &left);
    CHECK_EQ(left, 0);
    CHECK_EQ(host_stats(&host).messages_sent, 2 * COUNT);
    for (int i = 0; i < COUNT; i++)
        net_close(fds[i]);
    latch_wait_for(&host.closed, COUNT);
    left = 1;
    iocp_service_each(host.service, count_visits, &left);
    CHECK_EQ(left, 1);
    host_end(&host);
}

/* ---- What an idle session costs: at most 512 bytes, with what malloc adds (8 bytes, rounded up to
 * 16) and the slot of the table. */

#define IDLE_SIZE_MAX 512

static void open_many(struct host *host, int *fds, int count)
{
    for (int i = 0; i < count; i++) {
        fds[i] = host_connect(host);
        host_ping(fds[i], "hello");
    }
}

TEST(idle_sessions_are_small)
{
    enum { MAX = 2000 };
    struct host host;
    int fds[2 * MAX];
    int count = system_takes_its_time() ? 256 : MAX;
    uint32_t limit = system_raise_limit();
    if (limit < 4 * (uint32_t)count + 100)
        SKIP("only %u descriptors", limit);
    host_init(&host);
    host.on_local = 1;
    /* How many buffers there are says nothing of sessions, so they are small. */
    host.config.port_config.buffer_size = 1024;
    host_start(&host);
    /* The first half makes what sessions share: lanes, buffers, slots for both halves. */
    open_many(&host, fds, count);
    size_t size = iocp_memory_size();
    size_t pieces = iocp_memory_count();
    open_many(&host, fds + count, count);
    size = iocp_memory_size() - size + 16 * (iocp_memory_count() - pieces);
    CHECK_LE(size / (size_t)count + 16 - sizeof(struct guest), IDLE_SIZE_MAX);
    for (int i = 0; i < 2 * count; i++)
        net_close(fds[i]);
    host_end(&host);
}

/* ---- Misuse. */

TEST(misuse_is_refused)
{
    struct host host;
    struct iocp_service *service;
    struct iocp_service_config config;
    struct iocp_session_class wrong;
    struct iocp_address any = net_loopback();
    struct iocp_connect_config connect = {.address = any};
    host_init(&host);
    host_make(&host);
    CHECK_EQ(iocp_service_listen(host.service, &any, NULL, NULL, NULL), IOCP_EINVAL);
    iocp_session_class_init(&wrong);
    CHECK_EQ(iocp_service_listen(host.service, &any, &wrong, NULL, NULL), IOCP_EINVAL);
    wrong = host.session_class;
    wrong.framing = iocp_framing_length(3, 100);
    CHECK_EQ(iocp_service_listen(host.service, &any, &wrong, NULL, NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_service_connect(host.service, &connect, NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_service_listen(host.service, &host.address, &host.session_class, NULL, NULL),
             IOCP_EADDRINUSE);
    CHECK_EQ(iocp_service_disconnect(host.service, 17), IOCP_ENOTFOUND);
    iocp_service_config_init(&config);
    config.port_config.backend = test_backend();
    config.role = 7;
    CHECK_EQ(iocp_service_create(&config, &service), IOCP_EINVAL);
    config.role = IOCP_ROLE_CLIENT;
    CHECK_OK(iocp_service_create(&config, &service));
    CHECK_EQ(iocp_service_listen(service, &any, &host.session_class, NULL, NULL), IOCP_EINVAL);
    iocp_service_unref(service);
    host_free(&host);
}

TEST(create_without_memory)
{
    struct host host;
    int error;
    uint64_t nth = 0;
    host_init(&host);
    do {
        iocp_memory_fail(++nth, 0);
        error = iocp_service_create(&host.config, &host.service);
        iocp_memory_fail(0, 0);
        CHECK(error == 0 || error == IOCP_ENOMEM);
        if (error < 0)
            CHECK_EQ(iocp_memory_count(), host.memory_before);
    } while (error < 0);
    CHECK_GT(nth, 10);
    host_free(&host);
}
