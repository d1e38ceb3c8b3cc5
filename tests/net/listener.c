/* The listener: accepts on every kind of address, and closes once, after everything else. */
#include "support/check.h"
#include "support/greeter.h"
#include "support/system.h"

#include <iocp.h>

#include <string.h>

static struct iocp_address with_port_of(const char *text, const struct iocp_address *other)
{
    struct iocp_address address = net_address(text);
    CHECK_OK(iocp_address_set_port(&address, iocp_address_port(other)));
    return address;
}

/* ---- Addresses ---- */

static void check_accepts_on(const struct iocp_address *address)
{
    struct greeter greeter;
    struct iocp_listener_stats stats;
    greeter_open(&greeter, address);
    CHECK(iocp_address_family(&greeter.address) == IOCP_FAMILY_UNIX ||
          iocp_address_port(&greeter.address) != 0);
    greeter_serve(&greeter, &greeter.address, 20);
    greeter_serve(&greeter, &greeter.address, 1);
    iocp_listener_stats(greeter.listener, &stats);
    CHECK_EQ(stats.accepted, 21);
    CHECK_EQ(stats.failures, 0);
    CHECK_EQ(stats.retries, 0);
    greeter_end(&greeter);
}

TEST(accepts_ipv4)
{
    struct iocp_address address = net_loopback();
    check_accepts_on(&address);
}

TEST(accepts_ipv6)
{
    struct iocp_address address = net_address("[::1]:0");
    if (!net_have_ipv6())
        SKIP("no IPv6 here");
    check_accepts_on(&address);
}

TEST(any_accepts_both_families)
{
    struct greeter greeter;
    struct iocp_address any = net_address("*:0");
    struct iocp_address ipv4;
    struct iocp_address ipv6;
    if (!net_have_ipv6())
        SKIP("no IPv6 here");
    greeter_open(&greeter, &any);
    ipv4 = with_port_of("127.0.0.1:0", &greeter.address);
    ipv6 = with_port_of("[::1]:0", &greeter.address);
    greeter_serve(&greeter, &ipv4, 5);
    greeter_serve(&greeter, &ipv6, 5);
    greeter_end(&greeter);
}

TEST(ipv6_only_refuses_ipv4)
{
    struct greeter greeter;
    struct iocp_address any = net_address("*:0");
    struct iocp_address ipv4;
    struct iocp_address ipv6;
    if (!net_have_ipv6())
        SKIP("no IPv6 here");
    greeter_init(&greeter, &any);
    greeter.config.ipv6_only = 1;
    greeter_listen(&greeter);
    ipv4 = with_port_of("127.0.0.1:0", &greeter.address);
    ipv6 = with_port_of("[::1]:0", &greeter.address);
    CHECK_EQ(net_try_connect(&ipv4), IOCP_ECONNREFUSED);
    greeter_serve(&greeter, &ipv6, 5);
    greeter_end(&greeter);
}

TEST(any_without_ipv6_is_ipv4)
{
    struct iocp_address address = net_address("*:0");
    struct greeter greeter;
    system_deny_ipv6();
    check_accepts_on(&address);
    /* Those who name an IPv6 address get what they asked for, or an error. */
    address = net_address("[::1]:0");
    greeter_init(&greeter, &address);
    CHECK_EQ(iocp_listener_create(greeter.port, &greeter.config, &greeter.listener), IOCP_ENOTSUP);
    greeter.config.address = net_address("*:0");
    greeter.config.ipv6_only = 1;
    CHECK_EQ(iocp_listener_create(greeter.port, &greeter.config, &greeter.listener), IOCP_ENOTSUP);
    greeter_free(&greeter);
}

TEST(accepts_unix_path)
{
    struct iocp_address address = net_unix_path();
    check_accepts_on(&address);
    net_unix_remove(&address);
}

TEST(accepts_unix_abstract)
{
    struct iocp_address address = net_unix_abstract();
    check_accepts_on(&address);
}

/* ---- Addresses that are taken ---- */

TEST(unix_mode_is_set)
{
    struct greeter greeter;
    struct iocp_address address = net_unix_path();
    greeter_init(&greeter, &address);
    greeter.config.unix_mode = 0602;
    greeter_listen(&greeter);
    CHECK_EQ(system_path_mode(net_unix_file(&address)), 0602);
    greeter_end(&greeter);
    net_unix_remove(&address);
}

TEST(stale_unix_path_is_replaced)
{
    struct greeter greeter;
    struct iocp_address address = net_unix_path();
    int before = net_listen(&address, NULL);
    net_close(before); /* the file stays, as after a crash */
    CHECK(system_path_exists(net_unix_file(&address)));
    greeter_open(&greeter, &address);
    greeter_serve(&greeter, &address, 3);
    greeter_end(&greeter);
    /* What a listener leaves behind is stale too. */
    greeter_open(&greeter, &address);
    greeter_serve(&greeter, &address, 3);
    greeter_end(&greeter);
    net_unix_remove(&address);
}

TEST(live_unix_path_is_kept)
{
    struct greeter greeter;
    struct greeter second;
    struct iocp_address address = net_unix_path();
    greeter_open(&greeter, &address);
    greeter_init(&second, &address);
    CHECK_EQ(iocp_listener_create(second.port, &second.config, &second.listener), IOCP_EADDRINUSE);
    iocp_port_unref(second.port);
    /* The look at the path was a connection. */
    pump_until_latch(greeter.port, &greeter.accepted, 1);
    greeter_serve(&greeter, &address, 3);
    greeter_end(&greeter);
    net_unix_remove(&address);
}

/* Connecting to an ordinary file is refused as to a dead socket, but it is somebody's. */
TEST(ordinary_file_is_kept)
{
    struct greeter greeter;
    struct iocp_address address = net_unix_path();
    system_path_make(net_unix_file(&address));
    greeter_init(&greeter, &address);
    CHECK_EQ(iocp_listener_create(greeter.port, &greeter.config, &greeter.listener),
             IOCP_EADDRINUSE);
    CHECK(system_path_exists(net_unix_file(&address)));
    greeter_free(&greeter);
    net_unix_remove(&address);
}

static void note_opened(iocp_handle handle, void *context)
{
    struct greeter *greeter = context;
    CHECK_NE(handle, IOCP_HANDLE_INVALID);
    CHECK(!greeter->listener);
    greeter->inside += 10;
}

/* The socket is the user's for a moment before it is bound, once. */
TEST(opened_has_the_socket)
{
    struct greeter greeter;
    struct iocp_address address = net_loopback();
    greeter_init(&greeter, &address);
    greeter.config.opened = note_opened;
    greeter_listen(&greeter);
    CHECK_EQ(greeter.inside, 10);
    greeter.inside = 0;
    greeter_serve(&greeter, &greeter.address, 1);
    CHECK_EQ(greeter.inside, 0);
    greeter_end(&greeter);
}

TEST(port_in_use)
{
    struct greeter greeter;
    struct greeter second;
    struct iocp_address address = net_loopback();
    greeter_open(&greeter, &address);
    greeter_init(&second, &greeter.address);
    CHECK_EQ(iocp_listener_create(second.port, &second.config, &second.listener), IOCP_EADDRINUSE);
    iocp_port_unref(second.port);
    greeter_serve(&greeter, &greeter.address, 3);
    greeter_end(&greeter);
}

TEST(reuse_port_shares)
{
    struct greeter greeter;
    struct iocp_listener *second = NULL;
    struct iocp_address address = net_loopback();
    greeter_init(&greeter, &address);
    greeter.config.reuse_port = 1;
    if (test_on_windows()) {
        /* Which has no such thing. */
        CHECK_EQ(iocp_listener_create(greeter.port, &greeter.config, &second), IOCP_ENOTSUP);
        greeter_free(&greeter);
        return;
    }
    greeter_listen(&greeter);
    greeter.config.address = greeter.address;
    CHECK_OK(iocp_listener_create(greeter.port, &greeter.config, &second));
    greeter_serve(&greeter, &greeter.address, 30); /* whichever of the two the system chose */
    iocp_listener_close(second);
    iocp_listener_close(greeter.listener);
    pump_until_latch(greeter.port, &greeter.closed, 2);
    iocp_listener_unref(second);
    greeter_free(&greeter);
}

TEST(address_of_another_machine)
{
    struct greeter greeter;
    struct iocp_address address = net_address("192.0.2.1:0");
    greeter_init(&greeter, &address);
    CHECK_EQ(iocp_listener_create(greeter.port, &greeter.config, &greeter.listener),
             IOCP_EADDRNOTAVAIL);
    greeter_free(&greeter);
}

TEST(misuse_is_refused)
{
    struct greeter greeter;
    struct iocp_address address = net_loopback();
    struct iocp_listener_config bad;
    greeter_init(&greeter, &address);
    CHECK_EQ(iocp_listener_create(NULL, &greeter.config, &greeter.listener), IOCP_EINVAL);
    CHECK_EQ(iocp_listener_create(greeter.port, NULL, &greeter.listener), IOCP_EINVAL);
    CHECK_EQ(iocp_listener_create(greeter.port, &greeter.config, NULL), IOCP_EINVAL);
    bad = greeter.config;
    bad.accepted = NULL;
    CHECK_EQ(iocp_listener_create(greeter.port, &bad, &greeter.listener), IOCP_EINVAL);
    bad = greeter.config;
    memset(&bad.address, 0, sizeof bad.address);
    CHECK_EQ(iocp_listener_create(greeter.port, &bad, &greeter.listener), IOCP_EINVAL);
    bad = greeter.config;
    bad.retry_min_ns = 2;
    bad.retry_max_ns = 1;
    CHECK_EQ(iocp_listener_create(greeter.port, &bad, &greeter.listener), IOCP_EINVAL);
    CHECK(greeter.listener == NULL);
    iocp_listener_close(NULL);
    CHECK(iocp_listener_unref(NULL) == NULL);
    greeter_free(&greeter);
}

/* ---- Closing ---- */

TEST(close_twice_says_closed_once)
{
    struct greeter greeter;
    struct iocp_address address = net_loopback();
    greeter_open(&greeter, &address);
    iocp_listener_close(greeter.listener);
    iocp_listener_close(greeter.listener);
    greeter_end(&greeter);
}

TEST(close_in_the_handler)
{
    struct greeter greeter;
    struct iocp_address address = net_loopback();
    int clients[10];
    uint32_t i;
    greeter_open(&greeter, &address);
    greeter.close_in_handler = 1;
    for (i = 0; i < 10; i++)
        clients[i] = net_connect(&greeter.address);
    pump_until_latch(greeter.port, &greeter.closed, 1);
    pump_drain(greeter.port);
    CHECK_EQ(latch_count(&greeter.accepted), 1);
    CHECK_EQ(latch_count(&greeter.closed), 1);
    expect_bytes(clients[0], "!", 1);
    /* The others were accepted and closed, or never accepted. */
    for (i = 1; i < 10; i++)
        expect_gone(clients[i]);
    for (i = 0; i < 10; i++)
        net_close(clients[i]);
    CHECK_EQ(net_try_connect(&greeter.address), IOCP_ECONNREFUSED);
    greeter_end(&greeter);
}

TEST(unref_does_not_close)
{
    struct greeter greeter;
    struct iocp_listener *listener;
    struct iocp_address address = net_loopback();
    greeter_open(&greeter, &address);
    listener = iocp_listener_ref(greeter.listener);
    iocp_listener_unref(listener);
    greeter_serve(&greeter, &greeter.address, 2);
    /* Nobody holds it but its own accept; the next connection closes it. */
    greeter.listener = iocp_listener_unref(greeter.listener);
    greeter.close_in_handler = 1;
    greeter_serve(&greeter, &greeter.address, 1);
    pump_until_latch(greeter.port, &greeter.closed, 1);
    greeter_free(&greeter);
}

static void closed_listens_again(struct iocp_listener *listener, void *context)
{
    struct greeter *greeter = context;
    struct iocp_listener_config config = greeter->config;
    config.closed = greeter_closed;
    iocp_listener_address(listener, &config.address);
    iocp_listener_unref(listener);
    CHECK_OK(iocp_listener_create(greeter->port, &config, &greeter->listener));
    latch_add(&greeter->accepted, 1);
}

/* The socket is closed when `closed` runs, whether an accept or the retry timer was armed. */
TEST(closed_may_listen_on_the_same_address)
{
    struct greeter greeter;
    struct iocp_address address = net_loopback();
    int i;
    greeter_init(&greeter, &address);
    for (i = 0; i < 20; i++) {
        greeter.config.closed = closed_listens_again;
        greeter_listen(&greeter);
        greeter.config.address = greeter.address;
        iocp_listener_close(greeter.listener);
        pump_until_latch(greeter.port, &greeter.accepted, 1);
        latch_init(&greeter.accepted);
        greeter_serve(&greeter, &greeter.address, 1);
        iocp_listener_close(greeter.listener);
        pump_until_latch(greeter.port, &greeter.closed, 1);
        greeter.listener = iocp_listener_unref(greeter.listener);
        latch_init(&greeter.accepted);
        latch_init(&greeter.closed);
    }
    greeter_free(&greeter);
}

/* The port may go first: no handler runs, nothing is left over. */
TEST(port_freed_with_an_open_listener)
{
    struct greeter greeter;
    struct iocp_address address = net_loopback();
    int descriptors = system_open_handles();
    int client;
    greeter_open(&greeter, &address);
    client = net_connect(&greeter.address);
    greeter.port = iocp_port_unref(greeter.port);
    CHECK_EQ(latch_count(&greeter.accepted), 0);
    CHECK_EQ(latch_count(&greeter.closed), 0);
    iocp_listener_close(greeter.listener);
    greeter_free(&greeter);
    expect_gone(client);
    net_close(client);
    CHECK_EQ(system_open_handles(), descriptors);
}

TEST(closed_port_is_refused)
{
    struct greeter greeter;
    struct iocp_address address = net_loopback();
    greeter_init(&greeter, &address);
    iocp_port_close(greeter.port);
    CHECK_EQ(iocp_listener_create(greeter.port, &greeter.config, &greeter.listener), IOCP_ECLOSED);
    CHECK(greeter.listener == NULL);
    greeter_free(&greeter);
}

/* Each allocation of `create` fails once: nothing is left, and the port works on. */
TEST(create_without_memory)
{
    struct greeter greeter;
    struct iocp_address address = net_loopback();
    int descriptors;
    uint64_t nth = 0;
    int result;
    greeter_init(&greeter, &address);
    greeter_listen(&greeter);
    pump_drain(greeter.port); /* the port has made whatever it makes once */
    descriptors = system_open_handles();
    do {
        struct iocp_listener *listener = NULL;
        iocp_memory_fail(++nth, 0);
        result = iocp_listener_create(greeter.port, &greeter.config, &listener);
        iocp_memory_fail(0, 0);
        if (result == 0) {
            iocp_listener_close(listener);
            iocp_listener_unref(listener);
            pump_until_latch(greeter.port, &greeter.closed, 1);
        } else {
            CHECK_EQ(result, IOCP_ENOMEM);
            pump_drain(greeter.port);
        }
        CHECK_EQ(system_open_handles(), descriptors);
    } while (result != 0);
    CHECK_GT(nth, 1);
    latch_init(&greeter.closed);
    greeter_serve(&greeter, &greeter.address, 2);
    greeter_end(&greeter);
}
