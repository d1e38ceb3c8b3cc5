/* The client role: attempts, reconnecting, limits, and two services that talk to each other. */
#include "support/check.h"
#include "support/host.h"
#include "support/system.h"

#include <iocp.h>

#include <string.h>

/* A client for the tests: a host without listener, and a connector. */
struct client {
    struct host host;
    struct iocp_connect_config config;
    uint64_t connector;
    struct latch failures;
    int errors[64];
    int again[64];
};

static void client_failed(struct iocp_service *service, int error, int again, void *context)
{
    struct client *client = context;
    CHECK(service == client->host.service);
    uint64_t index = latch_count(&client->failures);
    if (index < 64) {
        client->errors[index] = error;
        client->again[index] = again;
    }
    latch_add(&client->failures, 1);
}

static void client_init(struct client *client, const struct iocp_address *address)
{
    memset(client, 0, sizeof(*client));
    host_init(&client->host);
    latch_init(&client->failures);
    client->host.no_listener = 1;
    client->host.config.role = IOCP_ROLE_CLIENT;
    client->host.config.tick_ns = 2 * MS;
    client->config.address = *address;
    client->config.session_class = &client->host.session_class;
    client->config.failed = client_failed;
    client->config.context = client;
}

static void client_start(struct client *client)
{
    host_start(&client->host);
    CHECK_OK(iocp_service_connect(client->host.service, &client->config, &client->connector));
    CHECK_NE(client->connector, 0);
}

/* An address where nobody listens. */
static struct iocp_address nobody(void)
{
    struct iocp_address address;
    struct iocp_address any = net_loopback();
    net_close(net_listen(&any, &address));
    return address;
}

static void hello_opened(struct host *host, struct iocp_session *session)
{
    struct iocp_address peer;
    struct client *client = host->context;
    iocp_session_peer(session, &peer);
    CHECK(iocp_address_equal(&peer, &client->config.address));
    CHECK(iocp_session_is_client(session));
    CHECK_EQ(guest_of(session)->number, 4711);
    CHECK_OK(iocp_session_send(session, "hello", 5));
}

TEST(connects)
{
    struct client client;
    struct iocp_address address;
    struct iocp_address any = net_loopback();
    struct guest guest = {.number = 4711};
    int listening = net_listen(&any, &address);
    client_init(&client, &address);
    client.host.context = &client;
    client.host.opened_hook = hello_opened;
    client.config.user = &guest;
    client_start(&client);
    guest.number = 0; /* it was copied */
    int fd = net_accept(listening);
    expect_bytes(fd, "hello", 5);
    host_ping(fd, "echo");
    net_close(fd);
    latch_wait_for(&client.host.closed, 1);
    CHECK_EQ(host_reason(&client.host, IOCP_CLOSE_PEER), 1);
    CHECK_EQ(host_stats(&client.host).connected, 1);
    CHECK_EQ(host_stats(&client.host).accepted, 0);
    host_end(&client.host);
    net_close(listening);
}

static void check_connects_to(struct iocp_address address)
{
    struct client client;
    int listening = net_listen(&address, NULL);
    client_init(&client, &address);
    client_start(&client);
    int fd = net_accept(listening);
    host_ping(fd, "local");
    net_close(fd);
    host_end(&client.host);
    net_close(listening);
    net_unix_remove(&address);
}

TEST(connects_to_unix_paths)
{
    check_connects_to(net_unix_path());
}

TEST(connects_to_unix_abstract_names)
{
    check_connects_to(net_unix_abstract());
}

/* The course's clients report a refused connect as connected. */
TEST(refused_is_a_failure)
{
    struct client client;
    struct iocp_address address = nobody();
    client_init(&client, &address);
    client_start(&client);
    latch_wait_for(&client.failures, 1);
    CHECK_EQ(client.errors[0], IOCP_ECONNREFUSED);
    CHECK_EQ(client.again[0], 0);
    CHECK_EQ(latch_count(&client.host.opened), 0);
    struct iocp_service_stats stats = host_stats(&client.host);
    CHECK_EQ(stats.connect_failures, 1);
    CHECK_EQ(stats.connected, 0);
    CHECK_EQ(stats.refused, 0);
    host_end(&client.host);
    CHECK_EQ(latch_count(&client.failures), 1);
}

TEST(gives_up_after_attempts_max)
{
    struct client client;
    struct iocp_address address = nobody();
    client_init(&client, &address);
    client.config.reconnect_min_ns = 1 * MS;
    client.config.reconnect_max_ns = 4 * MS;
    client.config.attempts_max = 5;
    uint64_t began = iocp_now_ns();
    client_start(&client);
    latch_wait_for(&client.failures, 5);
    /* Pauses of 1, 2, 4 and 4 ms at least. */
    CHECK_GE(iocp_now_ns() - began, 11 * MS);
    CHECK(!latch_reached(&client.failures, 6, 30));
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(client.errors[i], IOCP_ECONNREFUSED);
        CHECK_EQ(client.again[i], i < 4);
    }
    CHECK_EQ(iocp_service_disconnect(client.host.service, client.connector), IOCP_ENOTFOUND);
    CHECK_EQ(host_stats(&client.host).sessions, 0);
    host_end(&client.host);
}

/* The server goes and comes back, at the same address. */
TEST(reconnects_when_the_server_is_back)
{
    struct client client;
    struct iocp_address address;
    struct iocp_address any = net_loopback();
    int listening = net_listen(&any, &address);
    client_init(&client, &address);
    client.config.reconnect_min_ns = 1 * MS;
    /* The pauses double, but begin anew with each session: else they would become minutes. */
    client.config.reconnect_max_ns = 3600 * 1000 * MS;
    client_start(&client);
    for (uint64_t round = 1; round <= 3; round++) {
        int fd = net_accept(listening);
        host_ping(fd, "there you are");
        net_close(listening);
        if (round % 2)
            net_reset(fd);
        else
            net_close(fd);
        latch_wait_for(&client.host.closed, round);
        uint64_t failures = latch_count(&client.failures);
        latch_wait_for(&client.failures, failures + 6);
        listening = net_listen(&address, NULL);
    }
    int fd = net_accept(listening);
    host_ping(fd, "and again");
    CHECK_EQ(host_stats(&client.host).connected, 4);
    CHECK_EQ(host_reason(&client.host, IOCP_CLOSE_ERROR), 2);
    CHECK_EQ(host_reason(&client.host, IOCP_CLOSE_PEER), 1);
    /* A local close is no loss: nothing connects again. */
    struct iocp_session *session = host_last(&client.host);
    iocp_session_close(session);
    iocp_session_unref(session);
    expect_eof(fd);
    net_close(fd);
    latch_wait_for(&client.host.closed, 4);
    CHECK_EQ(host_reason(&client.host, IOCP_CLOSE_LOCAL), 1);
    host_end(&client.host);
    CHECK_EQ(latch_count(&client.host.opened), 4);
    net_close(listening);
}

static int is_gone(void *context)
{
    struct client *client = context;
    return iocp_service_disconnect(client->host.service, client->connector) == IOCP_ENOTFOUND;
}

TEST(disconnect_ends_a_session)
{
    struct client client;
    struct iocp_address address;
    struct iocp_address any = net_loopback();
    int listening = net_listen(&any, &address);
    client_init(&client, &address);
    client.config.reconnect_min_ns = 1 * MS;
    client_start(&client);
    int fd = net_accept(listening);
    host_ping(fd, "x");
    CHECK_OK(iocp_service_disconnect(client.host.service, client.connector));
    expect_eof(fd);
    net_close(fd);
    latch_wait_for(&client.host.closed, 1);
    CHECK_EQ(host_reason(&client.host, IOCP_CLOSE_LOCAL), 1);
    wait_until(is_gone, &client);
    host_end(&client.host);
    CHECK_EQ(latch_count(&client.host.opened), 1);
    net_close(listening);
}

TEST(disconnect_ends_a_pause)
{
    struct client client;
    struct iocp_address address = nobody();
    client_init(&client, &address);
    client.config.reconnect_min_ns = 3600 * 1000 * MS;
    client_start(&client);
    latch_wait_for(&client.failures, 1);
    CHECK_EQ(client.again[0], 1);
    CHECK_OK(iocp_service_disconnect(client.host.service, client.connector));
    wait_until(is_gone, &client);
    host_end(&client.host);
    CHECK_EQ(latch_count(&client.failures), 1);
}

TEST(stop_ends_a_pause)
{
    struct client client;
    struct iocp_address address = nobody();
    client_init(&client, &address);
    client.config.reconnect_min_ns = 3600 * 1000 * MS;
    client_start(&client);
    latch_wait_for(&client.failures, 1);
    host_end(&client.host);
}

TEST(connect_times_out)
{
    struct client client;
    struct net_deaf deaf;
    struct iocp_address any = net_loopback();
    net_deaf_open(&deaf, &any);
    client_init(&client, &deaf.address);
    client.config.timeout_ns = 50 * MS;
    uint64_t began = iocp_now_ns();
    client_start(&client);
    CHECK_EQ(host_stats(&client.host).sessions, 1);
    latch_wait_for(&client.failures, 1);
    CHECK_GE(iocp_now_ns() - began, 50 * MS);
    CHECK_EQ(client.errors[0], IOCP_ETIMEDOUT);
    CHECK_EQ(latch_count(&client.host.opened), 0);
    host_end(&client.host);
    net_deaf_close(&deaf);
}

TEST(stop_and_disconnect_while_connecting)
{
    struct client client;
    struct net_deaf deaf;
    struct iocp_address any = net_loopback();
    net_deaf_open(&deaf, &any);
    for (int stop = 0; stop < 2; stop++) {
        client_init(&client, &deaf.address);
        client.config.timeout_ns = stop ? IOCP_WAIT_FOREVER : 0;
        client.config.reconnect_min_ns = 1 * MS;
        client_start(&client);
        if (!stop) {
            CHECK_OK(iocp_service_disconnect(client.host.service, client.connector));
            wait_until(is_gone, &client);
        }
        host_end(&client.host);
        CHECK_EQ(latch_count(&client.host.opened), 0);
        CHECK_EQ(latch_count(&client.failures), 0);
    }
    net_deaf_close(&deaf);
}

/* A service that stops has no attempts any more, and so none that fails: also when it stops while
 * the first one begins. */
TEST(stop_is_no_failed_attempt)
{
    struct client client;
    struct net_deaf deaf;
    struct iocp_address any = net_loopback();
    net_deaf_open(&deaf, &any);
    for (int i = 0; i < 50; i++) {
        client_init(&client, &deaf.address);
        client.config.reconnect_min_ns = 1 * MS;
        client_start(&client);
        host_end(&client.host);
        CHECK_EQ(latch_count(&client.failures), 0);
    }
    net_deaf_close(&deaf);
}

/* Connecting sessions count: the cap holds at every moment. */
TEST(the_cap_counts_those_that_connect)
{
    struct client client;
    struct net_deaf deaf;
    struct iocp_address any = net_loopback();
    net_deaf_open(&deaf, &any);
    client_init(&client, &deaf.address);
    client.host.config.sessions_max = 3;
    client_start(&client);
    for (int i = 1; i < 3; i++)
        CHECK_OK(iocp_service_connect(client.host.service, &client.config, NULL));
    CHECK_EQ(iocp_service_connect(client.host.service, &client.config, NULL), IOCP_EFULL);
    CHECK_EQ(host_stats(&client.host).sessions, 3);
    CHECK_EQ(host_stats(&client.host).sessions_peak, 3);
    host_end(&client.host);
    net_deaf_close(&deaf);
}

TEST(connect_without_memory)
{
    struct client client;
    struct iocp_address address;
    struct iocp_address any = net_loopback();
    int listening = net_listen(&any, &address);
    client_init(&client, &address);
    host_start(&client.host);
    for (uint64_t nth = 1; nth <= 12; nth++) {
        uint64_t before = latch_count(&client.failures) + latch_count(&client.host.opened);
        iocp_memory_fail(nth, 0);
        int error = iocp_service_connect(client.host.service, &client.config, NULL);
        if (error < 0) {
            CHECK_EQ(error, IOCP_ENOMEM);
        } else {
            while (latch_count(&client.failures) + latch_count(&client.host.opened) == before)
                system_nap(1000000);
        }
        iocp_memory_fail(0, 0);
    }
    CHECK_GT(latch_count(&client.host.opened), 0);
    host_end(&client.host);
    net_close(listening);
}

/* ---- Peers: two services, each listens and connects. */

static size_t count_down(struct host *host, struct iocp_session *session, const void *data,
                         size_t size)
{
    (void)host;
    /* Each byte goes to and fro until it is 0. */
    for (size_t i = 0; i < size; i++) {
        unsigned char left = ((const unsigned char *)data)[i];
        if (left > 0) {
            left--;
            CHECK_OK(iocp_session_send(session, &left, 1));
        }
    }
    return size;
}

static void serve_200(struct host *host, struct iocp_session *session)
{
    (void)host;
    if (iocp_session_is_client(session))
        CHECK_OK(iocp_session_send(session, "\xc8", 1));
}

TEST(two_peers)
{
    struct host hosts[2];
    for (int i = 0; i < 2; i++) {
        host_init(&hosts[i]);
        hosts[i].received_hook = count_down;
        hosts[i].opened_hook = serve_200;
        host_start(&hosts[i]);
        hosts[i].memory_before = 0;
    }
    for (int i = 0; i < 2; i++) {
        struct iocp_connect_config config = {
            .address = hosts[!i].address,
            .session_class = &hosts[i].session_class,
        };
        CHECK_OK(iocp_service_connect(hosts[i].service, &config, NULL));
    }
    /* Each connection carries 201 bytes: 101 to the server, 100 to the client. */
    for (int i = 0; i < 2; i++)
        latch_wait_for(&hosts[i].bytes, 201);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(host_stats(&hosts[i]).accepted, 1);
        CHECK_EQ(host_stats(&hosts[i]).connected, 1);
    }
    for (int i = 0; i < 2; i++) {
        iocp_service_stop(hosts[i].service);
        CHECK_OK(iocp_service_join(hosts[i].service));
        CHECK_EQ(latch_count(&hosts[i].closed), 2);
    }
    for (int i = 0; i < 2; i++)
        iocp_service_unref(hosts[i].service);
    CHECK_EQ(iocp_memory_count(), 0);
}
