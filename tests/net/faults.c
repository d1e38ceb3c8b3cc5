/* Faults under a service: memory that is not there, at each place in turn, buffers and descriptors
 * that run out, and what comes after. System calls that fail are in faults_linux.c. */
#include "support/exchange.h"
#include "support/host.h"
#include "support/port.h"
#include "support/system.h"

#include <iocp/memory.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Memory: an allocator that fails when it is told to. */

static struct {
    uint64_t made;   /* calls since `from_here`, atomic */
    uint64_t nth;    /* the first that fails; 0: none */
    uint64_t count;  /* how many fail from there on */
    uint64_t failed; /* atomic */
} memory;

static void *memory_allocate(void *context, size_t size)
{
    (void)context;
    /* Relaxed, here and below: counts, set while no other thread is there. */
    uint64_t number = __atomic_add_fetch(&memory.made, 1, __ATOMIC_RELAXED);
    if (memory.nth && number >= memory.nth && number - memory.nth < memory.count) {
        __atomic_add_fetch(&memory.failed, 1, __ATOMIC_RELAXED);
        return NULL;
    }
    return malloc(size);
}

static void memory_release(void *context, void *block, size_t size)
{
    (void)context;
    (void)size;
    free(block);
}

static void memory_use(void)
{
    struct iocp_allocator allocator = {memory_allocate, memory_release, NULL};
    CHECK_EQ(iocp_allocator_set(&allocator), 0);
}

/* `count` allocations fail, from the `nth` from now on. While no thread of the library is there. */
static void memory_fail(uint64_t nth, uint64_t count)
{
    __atomic_store_n(&memory.made, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&memory.failed, 0, __ATOMIC_RELAXED);
    memory.nth = nth;
    memory.count = count;
}

/* The life of a service, with `count` allocations failing from the n-th on, for each n until none
 * does. A call says IOCP_ENOMEM, or the exchange is made in the end: by another attempt. What is
 * over leaves nothing, and the next life is as good as the first. */
static void each_allocation_fails(uint64_t count)
{
    uint64_t refused = 0;
    uint64_t nth = 0;
    memory_use();
    CHECK_EQ(exchange_live(), 0);
    do {
        memory_fail(++nth, count);
        int error = exchange_live();
        CHECK(error == 0 || error == IOCP_ENOMEM);
        CHECK(error == 0 || memory.failed);
        refused += error < 0;
    } while (memory.failed);
    struct exchange_counts counts = exchange_counts();
    printf("%llu places: %llu calls refused, %llu attempts failed, %llu sessions\n",
           (unsigned long long)nth - 1, (unsigned long long)refused,
           (unsigned long long)counts.attempts_failed, (unsigned long long)counts.sessions_failed);
    CHECK_GE(refused, 3);
    CHECK_GE(counts.attempts_failed + counts.sessions_failed, 1);
    memory_fail(0, 0);
    CHECK_EQ(exchange_live(), 0);
}

TEST(each_allocation_fails_once)
{
    each_allocation_fails(1);
}

/* A shortage that lasts, and ends. */
TEST(memory_is_short_for_a_while)
{
    each_allocation_fails(10);
}

/* ---- Buffers: more streams have bytes than there are buffers to receive into. */

#define THIRSTY 16
#define THIRSTY_SIZE 20000 /* the system takes it while nobody reads */

/* Holds up whoever comes until everything has been sent. */
static size_t thirsty_received(struct host *host, struct iocp_session *session, const void *data,
                               size_t size)
{
    latch_wait_for(&host->event, 1);
    CHECK_EQ(iocp_session_send(session, data, size), 0);
    return size;
}

TEST(more_bytes_than_buffers)
{
    static char data[THIRSTY_SIZE];
    struct iocp_port_stats stats;
    struct host host;
    int clients[THIRSTY];
    host_init(&host);
    host.config.port_config.buffer_count = 2;
    host.config.port_config.buffer_size = 512;
    host.received_hook = thirsty_received;
    host_start(&host);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char)(i * 7 + i / 256);
    for (int i = 0; i < THIRSTY; i++)
        clients[i] = host_connect(&host);
    latch_wait_for(&host.opened, THIRSTY);
    for (int i = 0; i < THIRSTY; i++)
        send_all(clients[i], data, sizeof(data));
    latch_add(&host.event, 1);
    for (int i = 0; i < THIRSTY; i++) {
        expect_bytes(clients[i], data, sizeof(data));
        net_close(clients[i]);
    }
    iocp_port_stats(iocp_service_port(host.service), &stats);
    printf("%llu times a stream found no buffer\n", (unsigned long long)stats.starved);
    CHECK_GE(stats.starved, 1);
    latch_wait_for(&host.closed, THIRSTY);
    CHECK_EQ(host_reason(&host, IOCP_CLOSE_PEER), THIRSTY);
    host_end(&host);
}

/* ---- Descriptors: none is left to accept with. */

static int accepts_have_failed(void *context)
{
    struct host *host = context;
    return host_stats(host).accept_failures >= 3;
}

/* Who is there is served all the same, and who waits when some are free again. */
TEST(descriptors_run_out_under_a_service)
{
    struct system_hoard fillers;
    struct host host;
    int clients[10];
    system_lower_limit(240);
    host_open(&host);
    int early = host_connect(&host);
    host_ping(early, "early");
    port_wait_lanes(iocp_service_port(host.service), host.config.workers);
    for (int i = 0; i < 10; i++)
        clients[i] = net_stream(IOCP_FAMILY_IPV4);
    system_hoard_take(&fillers);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(net_connect_socket(clients[i], &host.address), 0);
    wait_until(accepts_have_failed, &host);
    host_ping(early, "still here");
    CHECK_EQ(latch_count(&host.opened), 1);
    system_hoard_give(&fillers, UINT32_MAX);
    for (int i = 0; i < 10; i++) {
        host_ping(clients[i], "late");
        net_close(clients[i]);
    }
    net_close(early);
    latch_wait_for(&host.closed, 11);
    CHECK_EQ(host_stats(&host).accepted, 11);
    host_end(&host);
}
