/* The worker pool (Q7, Q10): launch, names, stop, join, again. */
#include "support/port.h"

#include <iocp/error.h>
#include <iocp/workers.h>

#include <stdio.h>
#include <string.h>

struct staff {
    struct latch started;
    struct latch stopped;
    uint32_t starts[8]; /* atomic */
    uint32_t stops[8];
};

static void staff_started(void *context, uint32_t index)
{
    struct staff *staff = context;
    CHECK_LT(index, 8);
    CHECK_EQ(__atomic_fetch_add(&staff->starts[index], 1, __ATOMIC_RELAXED), 0);
    latch_add(&staff->started, 1);
}

static void staff_stopped(void *context, uint32_t index)
{
    struct staff *staff = context;
    CHECK_LT(index, 8);
    CHECK_EQ(__atomic_load_n(&staff->starts[index], __ATOMIC_RELAXED), 1);
    CHECK_EQ(__atomic_fetch_add(&staff->stops[index], 1, __ATOMIC_RELAXED), 0);
    latch_add(&staff->stopped, 1);
}

static struct iocp_workers *staff_launch(struct staff *staff, struct iocp_port *port,
                                         uint32_t count, const char *name)
{
    struct iocp_workers *workers = NULL;
    struct iocp_workers_config config = {.count = count,
                                         .name = name,
                                         .started = staff_started,
                                         .stopped = staff_stopped,
                                         .context = staff};
    memset(staff, 0, sizeof(*staff));
    latch_init(&staff->started);
    latch_init(&staff->stopped);
    CHECK_EQ(iocp_workers_launch(port, &config, &workers), 0);
    CHECK(workers);
    return workers;
}

static void check_post(struct iocp_port *port)
{
    struct call call;
    struct latch answered = LATCH_INIT;
    call_init(&call);
    call.latch = &answered;
    call_post(&call, port, 0, 6);
    latch_wait_for(&answered, 1);
    CHECK_EQ(call.packet.result, 6);
}

/* N threads with names that people can see; they handle packets; after stop and join they are
 * gone. */
TEST(launch_and_join)
{
    struct staff staff;
    struct iocp_port *port = port_open(2);
    struct iocp_workers *workers = staff_launch(&staff, port, 5, "tester");
    CHECK_EQ(iocp_workers_count(workers), 5);
    latch_wait_for(&staff.started, 5);
    for (int i = 0; i < 5; i++) {
        char name[24];
        snprintf(name, sizeof(name), "tester-%d", i);
        CHECK(system_thread_named(name));
    }
    CHECK(!system_thread_named("tester-5"));
    check_post(port);
    CHECK_EQ(latch_count(&staff.stopped), 0);
    iocp_workers_stop(workers);
    CHECK_EQ(iocp_workers_join(workers), 0);
    CHECK_EQ(latch_count(&staff.stopped), 5);
    /* Linux lets the join go a moment before it forgets the thread. */
    while (system_thread_named("tester-0"))
        system_yield();
    port_end(port);
}

/* The defaults: as many as the concurrency, called iocp. */
TEST(defaults)
{
    struct iocp_workers *workers = NULL;
    struct iocp_port *port = port_open(3);
    CHECK_EQ(iocp_workers_launch(port, NULL, &workers), 0);
    CHECK_EQ(iocp_workers_count(workers), 3);
    check_post(port);
    iocp_workers_stop(workers);
    CHECK_EQ(iocp_workers_join(workers), 0);
    CHECK_EQ(iocp_workers_join(NULL), 0);
    port_end(port);
}

/* Misuse. */
TEST(misuse)
{
    struct iocp_workers *workers = NULL;
    struct iocp_port *port = port_open(0);
    CHECK_EQ(iocp_workers_launch(NULL, NULL, &workers), IOCP_EINVAL);
    CHECK_EQ(iocp_workers_launch(port, NULL, NULL), IOCP_EINVAL);
    CHECK(!workers);
    port_end(port);
}

/* The pool holds a reference on the port: it may be forgotten before the join. */
TEST(the_pool_keeps_the_port)
{
    struct staff staff;
    struct iocp_port *port = port_open(2);
    struct iocp_workers *workers = staff_launch(&staff, port, 2, NULL);
    latch_wait_for(&staff.started, 2);
    CHECK(system_thread_named("iocp-0"));
    iocp_port_ref(port);
    CHECK(!iocp_port_unref(port));
    CHECK(!iocp_port_unref(port));
    check_post(port);
    iocp_workers_stop(workers);
    CHECK_EQ(iocp_workers_join(workers), 0);
    CHECK_EQ(iocp_memory_count(), 0);
}

struct mutiny {
    struct call call; /* first */
    struct iocp_workers *workers;
};

static void mutiny_handle(const struct iocp_packet *packet)
{
    struct mutiny *mutiny = (struct mutiny *)packet->op;
    CHECK_EQ(iocp_workers_join(mutiny->workers), IOCP_EBUSY);
    iocp_workers_stop(mutiny->workers);
    iocp_workers_stop(mutiny->workers);
    CHECK_EQ(iocp_workers_join(mutiny->workers), IOCP_EBUSY);
    call_answered(packet);
}

/* Stop from a handler, twice; join there is refused and frees nothing (S9). */
TEST(stop_from_a_handler)
{
    struct staff staff;
    struct mutiny mutiny;
    struct latch answered = LATCH_INIT;
    struct iocp_port *port = port_open(2);
    call_init(&mutiny.call);
    iocp_op_init(&mutiny.call.op, mutiny_handle);
    mutiny.call.latch = &answered;
    mutiny.workers = staff_launch(&staff, port, 4, NULL);
    call_post(&mutiny.call, port, 0, 0);
    latch_wait_for(&answered, 1);
    latch_wait_for(&staff.stopped, 4);
    iocp_workers_stop(mutiny.workers);
    CHECK_EQ(iocp_workers_join(mutiny.workers), 0);
    port_end(port);
}

/* Stopped at once, before any of them has begun to wait: none stays. */
TEST(stop_at_once)
{
    struct iocp_port *port = port_open(2);
    for (int round = 0; round < 50; round++) {
        struct staff staff;
        struct iocp_workers *workers = staff_launch(&staff, port, 4, NULL);
        iocp_workers_stop(workers);
        CHECK_EQ(iocp_workers_join(workers), 0);
        CHECK_EQ(latch_count(&staff.started), 4);
        CHECK_EQ(latch_count(&staff.stopped), 4);
    }
    port_end(port);
}

/* Stop is the pool's: the port stays open, its packets wait, and a new pool handles them. */
TEST(launch_again)
{
    struct iocp_port *port = port_open(2);
    for (int round = 0; round < 10; round++) {
        struct staff staff;
        struct call call;
        struct latch answered = LATCH_INIT;
        call_init(&call);
        call.latch = &answered;
        call_post(&call, port, 0, round);
        struct iocp_workers *workers = staff_launch(&staff, port, 3, NULL);
        latch_wait_for(&answered, 1);
        check_post(port);
        iocp_workers_stop(workers);
        CHECK_EQ(iocp_workers_join(workers), 0);
    }
    port_end(port);
}

/* Two pools on one port: stopping one leaves the other at work. */
TEST(two_pools)
{
    struct staff staffs[2];
    struct iocp_workers *pools[2];
    struct iocp_port *port = port_open(2);
    for (int i = 0; i < 2; i++)
        pools[i] = staff_launch(&staffs[i], port, 2, NULL);
    iocp_workers_stop(pools[0]);
    CHECK_EQ(iocp_workers_join(pools[0]), 0);
    CHECK_EQ(latch_count(&staffs[1].stopped), 0);
    check_post(port);
    iocp_workers_stop(pools[1]);
    CHECK_EQ(iocp_workers_join(pools[1]), 0);
    port_end(port);
}

/* The end of the port ends the pool. */
TEST(port_closes)
{
    struct staff staff;
    struct iocp_port *port = port_open(2);
    struct iocp_workers *workers = staff_launch(&staff, port, 4, NULL);
    check_post(port);
    iocp_port_close(port);
    CHECK_EQ(iocp_workers_join(workers), 0);
    CHECK_EQ(latch_count(&staff.stopped), 4);
    port_end(port);
}

static __thread int stopped_here;

static void hand_stopped(void *context, uint32_t index)
{
    (void)context;
    (void)index;
    stopped_here = 1;
}

static void hand_handle(const struct iocp_packet *packet)
{
    CHECK(!stopped_here);
    call_answered(packet);
}

/* No handler runs on a worker after its `stopped`. What the pool left is there for others. */
TEST(stopped_is_last)
{
    enum { HANDS = 500 };
    static struct call hands[HANDS];
    struct iocp_workers *workers = NULL;
    struct iocp_workers_config config = {.count = 3, .stopped = hand_stopped};
    struct iocp_port *port = port_open(2);
    CHECK_EQ(iocp_workers_launch(port, &config, &workers), 0);
    for (int i = 0; i < HANDS; i++) {
        call_init(&hands[i]);
        iocp_op_init(&hands[i].op, hand_handle);
        call_post(&hands[i], port, 0, 0);
        if (i == HANDS / 2)
            iocp_workers_stop(workers);
    }
    CHECK_EQ(iocp_workers_join(workers), 0);
    pump_drain(port);
    for (int i = 0; i < HANDS; i++)
        CHECK_EQ(call_finals(&hands[i]), 1);
    port_end(port);
}
