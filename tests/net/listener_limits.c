/* The listener when things get tight: no descriptors left, many threads, closing under load. */
#include "support/check.h"
#include "support/greeter.h"
#include "support/port.h"
#include "support/system.h"

#include <iocp.h>

#define HOUR_NS (3600ull * 1000000000ull)

/* ---- No descriptors left ---- */

/* Sockets that can connect without a further descriptor. */
static void clients_make(int *clients, uint32_t count)
{
    uint32_t i;
    for (i = 0; i < count; i++)
        clients[i] = net_stream(IOCP_FAMILY_IPV4);
}

static void clients_connect(const int *clients, uint32_t count, const struct iocp_address *address)
{
    uint32_t i;
    for (i = 0; i < count; i++)
        CHECK_EQ(net_connect_socket(clients[i], address), 0);
}

static void clients_finish(const int *clients, uint32_t count)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        expect_bytes(clients[i], "!", 1);
        net_close(clients[i]);
    }
}

struct shortage {
    struct greeter *greeter;
    uint64_t failures;
};

/* Holds when so many accepts have failed. The listener is armed all the time. */
static int shortage_failed(void *context)
{
    struct shortage *wanted = context;
    struct iocp_listener_stats stats;
    CHECK(iocp_listener_armed(wanted->greeter->listener));
    iocp_listener_stats(wanted->greeter->listener, &stats);
    CHECK_LE(stats.retries, stats.failures);
    return stats.failures >= wanted->failures;
}

static void shortage_wait(struct greeter *greeter, uint64_t failures)
{
    struct shortage wanted = {greeter, failures};
    pump_until(greeter->port, shortage_failed, &wanted);
}

/* S6: the course's listener re-arms by recursion until its stack ends, or stops accepting. */
TEST(out_of_descriptors)
{
    struct greeter greeter;
    struct system_hoard fillers;
    struct iocp_listener_stats stats;
    struct iocp_address address = net_loopback();
    int clients[20];
    system_lower_limit(240);
    greeter_init(&greeter, &address);
    greeter.config.retry_min_ns = 1000000;
    greeter.config.retry_max_ns = 4000000;
    greeter_listen(&greeter);
    greeter_serve(&greeter, &greeter.address, 1);
    clients_make(clients, 20);
    system_hoard_take(&fillers);
    clients_connect(clients, 20, &greeter.address);
    /* So many only because the pause does not double any more. */
    shortage_wait(&greeter, 20);
    CHECK_EQ(latch_count(&greeter.accepted), 1);
    system_hoard_give(&fillers, UINT32_MAX);
    pump_until_latch(greeter.port, &greeter.accepted, 21);
    CHECK(iocp_listener_armed(greeter.listener));
    clients_finish(clients, 20);
    iocp_listener_stats(greeter.listener, &stats);
    CHECK_EQ(stats.accepted, 21);
    CHECK_GE(stats.failures, 20);
    CHECK_EQ(stats.retries, stats.failures);
    /* And again: it is as good as new. */
    greeter_serve(&greeter, &greeter.address, 10);
    greeter_end(&greeter);
}

/* A few descriptors come back at a time: every connection is served in the end, none is lost. */
TEST(descriptors_come_back_one_by_one)
{
    struct greeter greeter;
    struct system_hoard fillers;
    struct iocp_address address = net_loopback();
    int clients[20];
    uint32_t i;
    system_lower_limit(240);
    greeter_init(&greeter, &address);
    greeter.config.retry_min_ns = 1000000;
    greeter.config.retry_max_ns = 2000000;
    greeter_listen(&greeter);
    pump_drain(greeter.port);
    clients_make(clients, 20);
    system_hoard_take(&fillers);
    clients_connect(clients, 20, &greeter.address);
    for (i = 1; i <= 20; i++) {
        struct iocp_listener_stats stats;
        iocp_listener_stats(greeter.listener, &stats);
        shortage_wait(&greeter, stats.failures + 1);
        CHECK_EQ(latch_count(&greeter.accepted), i - 1);
        system_hoard_give(&fillers, 1);
        pump_until_latch(greeter.port, &greeter.accepted, i);
    }
    system_hoard_give(&fillers, UINT32_MAX);
    clients_finish(clients, 20);
    greeter_end(&greeter);
}

/* After a connection the next failures are as close together as the first ones were. Without that
 * the second want of descriptors would be looked at for half a minute and more. */
TEST(pause_begins_anew_with_a_connection)
{
    struct greeter greeter;
    struct system_hoard fillers;
    struct iocp_address address = net_loopback();
    int clients[2];
    system_lower_limit(240);
    greeter_init(&greeter, &address);
    greeter.config.retry_min_ns = 1000000;
    greeter.config.retry_max_ns = HOUR_NS;
    greeter_listen(&greeter);
    pump_drain(greeter.port);
    clients_make(clients, 2);
    for (uint64_t i = 0; i < 2; i++) {
        struct iocp_listener_stats stats;
        iocp_listener_stats(greeter.listener, &stats);
        system_hoard_take(&fillers);
        clients_connect(clients + i, 1, &greeter.address);
        shortage_wait(&greeter, stats.failures + (i == 0 ? 10 : 6));
        system_hoard_give(&fillers, UINT32_MAX);
        pump_until_latch(greeter.port, &greeter.accepted, i + 1);
    }
    clients_finish(clients, 2);
    greeter_end(&greeter);
}

/* Five failures lie at least 10 + 20 + 40 + 40 ms apart when the pause doubles up to its maximum; a
 * timer never ends early. */
TEST(pause_doubles_up_to_its_maximum)
{
    struct greeter greeter;
    struct system_hoard fillers;
    struct iocp_address address = net_loopback();
    uint64_t begin_ns;
    int client;
    system_lower_limit(240);
    greeter_init(&greeter, &address);
    greeter.config.retry_min_ns = 10000000;
    greeter.config.retry_max_ns = 40000000;
    greeter_listen(&greeter);
    pump_drain(greeter.port);
    clients_make(&client, 1);
    system_hoard_take(&fillers);
    begin_ns = iocp_now_ns();
    clients_connect(&client, 1, &greeter.address);
    shortage_wait(&greeter, 5);
    CHECK_GE(iocp_now_ns() - begin_ns, 110000000);
    system_hoard_give(&fillers, UINT32_MAX);
    pump_until_latch(greeter.port, &greeter.accepted, 1);
    clients_finish(&client, 1);
    greeter_end(&greeter);
}

/* Close during the pause cancels the timer: it would end in an hour. */
TEST(close_while_retrying)
{
    struct greeter greeter;
    struct system_hoard fillers;
    struct iocp_address address = net_loopback();
    struct iocp_listener *again = NULL;
    int client;
    system_lower_limit(240);
    greeter_init(&greeter, &address);
    greeter.config.retry_min_ns = HOUR_NS;
    greeter_listen(&greeter);
    pump_drain(greeter.port);
    clients_make(&client, 1);
    system_hoard_take(&fillers);
    clients_connect(&client, 1, &greeter.address);
    shortage_wait(&greeter, 1);
    system_hoard_give(&fillers, UINT32_MAX);
    iocp_listener_close(greeter.listener);
    pump_until_latch(greeter.port, &greeter.closed, 1);
    expect_gone(client);
    net_close(client);
    /* Its socket is closed: the address is free. */
    greeter.config.address = greeter.address;
    CHECK_OK(iocp_listener_create(greeter.port, &greeter.config, &again));
    iocp_listener_close(again);
    iocp_listener_unref(again);
    pump_until_latch(greeter.port, &greeter.closed, 2);
    CHECK_EQ(latch_count(&greeter.accepted), 0);
    greeter_free(&greeter);
}

TEST(port_freed_while_retrying)
{
    struct greeter greeter;
    struct system_hoard fillers;
    struct iocp_address address = net_loopback();
    int client;
    system_lower_limit(240);
    greeter_init(&greeter, &address);
    greeter.config.retry_min_ns = HOUR_NS;
    greeter_listen(&greeter);
    pump_drain(greeter.port);
    clients_make(&client, 1);
    system_hoard_take(&fillers);
    clients_connect(&client, 1, &greeter.address);
    shortage_wait(&greeter, 1);
    system_hoard_give(&fillers, UINT32_MAX);
    greeter.port = iocp_port_unref(greeter.port);
    iocp_listener_close(greeter.listener);
    CHECK_EQ(latch_count(&greeter.closed), 0);
    greeter_free(&greeter);
    net_close(client);
}

/* ---- Many threads ---- */

#define CROWD_THREADS 4
#define CROWD_EACH 50

static void *crowd_connect(void *argument)
{
    struct greeter *greeter = argument;
    int i;
    for (i = 0; i < CROWD_EACH; i++) {
        int client = net_connect(&greeter->address);
        expect_bytes(client, "!", 1);
        net_close(client);
    }
    return NULL;
}

/* `accepted` of one listener never overlaps (checked in it), and nobody waits for ever. */
TEST(many_workers_many_clients)
{
    struct greeter greeter;
    struct pump pump;
    pthread_t threads[CROWD_THREADS];
    struct iocp_address address = net_loopback();
    int i;
    greeter_open(&greeter, &address);
    pump_start(&pump, greeter.port, 4);
    for (i = 0; i < CROWD_THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, crowd_connect, &greeter), 0);
    for (i = 0; i < CROWD_THREADS; i++)
        pthread_join(threads[i], NULL);
    latch_wait_for(&greeter.accepted, CROWD_THREADS * CROWD_EACH);
    iocp_listener_close(greeter.listener);
    latch_wait_for(&greeter.closed, 1);
    pump_stop(&pump);
    CHECK_EQ(latch_count(&greeter.closed), 1);
    CHECK_EQ(latch_count(&greeter.accepted), CROWD_THREADS * CROWD_EACH);
    greeter_free(&greeter);
}

#define GREETER_WARM 8

/* Has the workers make what they make once, threads and lanes, while there are descriptors. */
static void greeter_warm_up(struct greeter *greeter, uint32_t workers)
{
    int i;
    for (i = 0; i < GREETER_WARM; i++) {
        int client = net_connect(&greeter->address);
        expect_bytes(client, "!", 1);
        net_close(client);
    }
    port_wait_lanes(greeter->port, workers);
}

/* The stream of accepts ends and is armed again all the time, while its packets are on their way to
 * four workers. */
TEST(out_of_descriptors_with_many_workers)
{
    struct greeter greeter;
    struct pump pump;
    struct system_hoard fillers;
    struct iocp_address address = net_loopback();
    int clients[80];
    uint32_t i;
    system_lower_limit(240);
    greeter_init(&greeter, &address);
    greeter.config.retry_min_ns = 100000;
    greeter.config.retry_max_ns = 200000;
    greeter_listen(&greeter);
    clients_make(clients, 80);
    pump_start(&pump, greeter.port, 4);
    greeter_warm_up(&greeter, 4);
    system_hoard_take(&fillers);
    clients_connect(clients, 80, &greeter.address);
    for (i = 4; i <= 80; i += 4) {
        system_hoard_give(&fillers, 4);
        latch_wait_for(&greeter.accepted, GREETER_WARM + i);
        CHECK(iocp_listener_armed(greeter.listener));
    }
    system_hoard_give(&fillers, UINT32_MAX);
    clients_finish(clients, 80);
    iocp_listener_close(greeter.listener);
    latch_wait_for(&greeter.closed, 1);
    pump_stop(&pump);
    CHECK_EQ(latch_count(&greeter.accepted), GREETER_WARM + 80);
    greeter_free(&greeter);
}

/* Connects until it is refused; not for ever, so that the greeter can keep them all. */
static void *crowd_knock(void *argument)
{
    struct greeter *greeter = argument;
    int i;
    for (i = 0; i < GREETER_HANDLES_MAX; i++) {
        int client = net_try_connect(&greeter->address);
        CHECK(client >= 0 || client == IOCP_ECONNREFUSED || client == IOCP_ECONNRESET);
        if (client < 0)
            break;
        net_close(client);
    }
    return NULL;
}

/* Closed from outside while connections come in: `closed` is the last call, once, and every handle
 * that was accepted is either delivered or closed. */
TEST(close_under_load)
{
    struct iocp_address address = net_loopback();
    int round;
    int descriptors = system_open_handles();
    for (round = 0; round < 10; round++) {
        struct greeter greeter;
        struct pump pump;
        pthread_t knocker;
        greeter_open(&greeter, &address);
        pump_start(&pump, greeter.port, 3);
        CHECK_EQ(pthread_create(&knocker, NULL, crowd_knock, &greeter), 0);
        latch_wait_for(&greeter.accepted, (uint64_t)round);
        iocp_listener_close(greeter.listener);
        latch_wait_for(&greeter.closed, 1);
        pthread_join(knocker, NULL);
        pump_stop(&pump);
        CHECK_EQ(latch_count(&greeter.closed), 1);
        CHECK_EQ(latch_count(&greeter.accepted), greeter.handle_count);
        greeter_free(&greeter);
        CHECK_EQ(system_open_handles(), descriptors);
    }
}
