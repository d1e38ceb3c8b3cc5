/* Ports, objects, ops and workers for the suite of the port. See port.h. */
#include "support/port.h"

#include <iocp/error.h>

#include <string.h>

/* ---- Ports. */

void port_config(struct iocp_port_config *config, uint32_t concurrency)
{
    iocp_port_config_init(config);
    config->backend = (uint32_t)test_backend();
    config->concurrency = concurrency;
}

struct iocp_port *port_open_config(const struct iocp_port_config *config)
{
    struct iocp_port *port = NULL;
    CHECK_EQ(iocp_port_create(config, &port), 0);
    CHECK(port);
    return port;
}

int port_kernel_is_gate(const struct iocp_port *port)
{
    return strcmp(iocp_port_backend(port), "windows") == 0;
}

struct iocp_port *port_open(uint32_t concurrency)
{
    struct iocp_port_config config;
    port_config(&config, concurrency);
    return port_open_config(&config);
}

void port_wait_lanes(struct iocp_port *port, uint32_t workers)
{
    uint32_t concurrency = iocp_port_concurrency(port);
    uint32_t expected = workers < concurrency ? workers : concurrency;
    struct iocp_port_stats stats;
    for (;;) {
        iocp_port_stats(port, &stats);
        if (stats.lanes >= expected)
            return;
        system_yield(); /* the harness ends a test that waits in vain */
    }
}

void port_end(struct iocp_port *port)
{
    CHECK(!iocp_port_unref(port));
    CHECK_EQ(iocp_memory_count(), 0);
    CHECK_EQ(iocp_memory_size(), 0);
}

void port_dispatch_for(struct iocp_port *port, uint64_t time_ns)
{
    uint64_t deadline_ns = iocp_now_ns() + time_ns;
    uint64_t now_ns;
    while ((now_ns = iocp_now_ns()) < deadline_ns) {
        int ran = iocp_port_dispatch(port, deadline_ns - now_ns);
        if (ran != IOCP_ETIMEDOUT)
            CHECK_OK(ran);
    }
}

/* ---- Objects. */

static void thing_destroy(struct iocp_object *object)
{
    struct thing *thing = (struct thing *)object;
    /* Release: who sees the count sees all that was done to the object. */
    __atomic_fetch_add(&thing->destroyed, 1, __ATOMIC_RELEASE);
}

static const struct iocp_object_class thing_class = {
    .name = "thing", .complete = NULL, .destroy = thing_destroy, .serial = 0};
static const struct iocp_object_class thing_serial_class = {
    .name = "serial", .complete = NULL, .destroy = thing_destroy, .serial = 1};

void thing_init(struct thing *thing)
{
    memset(thing, 0, sizeof(*thing));
    iocp_object_init(&thing->object, &thing_class);
}

void thing_init_serial(struct thing *thing)
{
    memset(thing, 0, sizeof(*thing));
    iocp_object_init(&thing->object, &thing_serial_class);
}

void thing_open(struct thing *thing, struct iocp_port *port, iocp_handle handle, uintptr_t key)
{
    thing_init(thing);
    CHECK_EQ(iocp_port_register(port, &thing->object, handle, key), 0);
}

uint32_t thing_destroyed(const struct thing *thing)
{
    /* Acquire: see thing_destroy. */
    return __atomic_load_n(&thing->destroyed, __ATOMIC_ACQUIRE);
}

static int thing_is_gone(void *context)
{
    return thing_destroyed(context) != 0;
}

void thing_wait_gone(struct thing *thing, struct iocp_port *port)
{
    pump_until(port, thing_is_gone, thing);
    CHECK_EQ(thing_destroyed(thing), 1);
}

void thing_end(struct thing *thing, struct iocp_port *port)
{
    iocp_object_close(&thing->object);
    iocp_object_unref(&thing->object);
    thing_wait_gone(thing, port);
}

/* ---- Calls. */

void call_init(struct call *call)
{
    memset(call, 0, sizeof(*call));
    iocp_op_init(&call->op, call_answered);
}

void call_answered(const struct iocp_packet *packet)
{
    struct call *call = (struct call *)packet->op;
    struct latch *latch = call->latch;
    CHECK_EQ(call_finals(call), 0);
    call->packet = *packet;
    /* Release: who sees the counts sees the packet. The last one is the end of the call for whoever
     * waits for it, so nothing of it is touched after. */
    __atomic_fetch_add(&call->answers, 1, __ATOMIC_RELEASE);
    if (!(packet->flags & IOCP_PACKET_MORE))
        __atomic_fetch_add(&call->finals, 1, __ATOMIC_RELEASE);
    if (latch)
        latch_add(latch, 1);
}

uint32_t call_answers(const struct call *call)
{
    return __atomic_load_n(&call->answers, __ATOMIC_ACQUIRE);
}

uint32_t call_finals(const struct call *call)
{
    return __atomic_load_n(&call->finals, __ATOMIC_ACQUIRE);
}

void call_submit(struct call *call, struct iocp_port *port, struct iocp_object *object)
{
    call->answers = 0;
    call->finals = 0;
    CHECK_EQ(iocp_port_submit(port, object, &call->op), 0);
}

static int call_is_final(void *context)
{
    return call_finals(context) != 0;
}

int64_t call_wait(struct call *call, struct iocp_port *port)
{
    pump_until(port, call_is_final, call);
    CHECK_EQ(call_finals(call), 1);
    return call->packet.result;
}

int64_t call_run(struct call *call, struct iocp_port *port, struct iocp_object *object)
{
    call_submit(call, port, object);
    return call_wait(call, port);
}

void call_post(struct call *call, struct iocp_port *port, uintptr_t key, int64_t result)
{
    call->answers = 0;
    call->finals = 0;
    iocp_op_post(&call->op, key, result);
    CHECK_EQ(iocp_port_post(port, NULL, &call->op), 0);
}

/* ---- Sleep. */

void thread_wait_asleep(uint32_t thread)
{
    uint64_t deadline_ns = iocp_now_ns() + NET_WAIT_LIMIT_S * 1000 * MILLISECOND;
    int64_t last = -1;
    int same = 0;
    /* A thread that waits for a lock sleeps too, but not for three looks. */
    while (same < 3) {
        int64_t now = system_thread_sleeps(thread);
        same = now >= 0 && now == last ? same + 1 : 0;
        last = now;
        if (iocp_now_ns() > deadline_ns)
            FAIL("the thread %u does not go to sleep", thread);
        system_nap(MILLISECOND);
    }
}

/* ---- Crew. */

static __thread uint32_t crew_mine = CREW_MAX;

uint32_t crew_index(void)
{
    return crew_mine;
}

static void *crew_run(void *argument)
{
    struct crew_member *member = argument;
    struct crew *crew = member->crew;
    crew_mine = member->index;
    member->id = system_thread();
    latch_add(&crew->begun, 1);
    /* Relaxed: the flag orders nothing; the join does. */
    while (!__atomic_load_n(&crew->stopping, __ATOMIC_RELAXED)) {
        int ran = iocp_port_dispatch(crew->port, IOCP_WAIT_FOREVER);
        if (ran == IOCP_ECLOSED)
            break;
        /* 0: what came was for a serial object that another worker is busy with. */
        if (ran != IOCP_EWOKEN)
            CHECK_GE(ran, 0);
    }
    latch_add(&crew->left, 1);
    return NULL;
}

void crew_start(struct crew *crew, struct iocp_port *port, uint32_t count)
{
    CHECK_LE(count, CREW_MAX);
    memset(crew, 0, sizeof(*crew));
    crew->port = port;
    latch_init(&crew->begun);
    latch_init(&crew->left);
    for (; crew->count < count; crew->count++) {
        struct crew_member *member = &crew->members[crew->count];
        member->crew = crew;
        member->index = crew->count;
        CHECK_EQ(pthread_create(&member->thread, NULL, crew_run, member), 0);
        latch_wait_for(&crew->begun, crew->count + 1);
        thread_wait_asleep(member->id);
    }
}

void crew_wait_asleep(struct crew *crew)
{
    for (uint32_t i = 0; i < crew->count; i++)
        thread_wait_asleep(crew->members[i].id);
}

void crew_stop(struct crew *crew)
{
    uint64_t deadline_ns = iocp_now_ns() + NET_WAIT_LIMIT_S * 1000 * MILLISECOND;
    /* Relaxed: see crew_run. A wake reaches those that wait now, so it is repeated for one that
     * read the flag before and waits only after. */
    __atomic_store_n(&crew->stopping, 1, __ATOMIC_RELAXED);
    do {
        iocp_port_wake(crew->port);
        CHECK_LT(iocp_now_ns(), deadline_ns);
    } while (!latch_reached(&crew->left, crew->count, 1));
    for (uint32_t i = 0; i < crew->count; i++)
        CHECK_EQ(pthread_join(crew->members[i].thread, NULL), 0);
}
