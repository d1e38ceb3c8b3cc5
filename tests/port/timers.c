/* Timers: never early, in the order of their deadlines, cancelable, and answered once. */
#include "support/port.h"

#include <iocp/error.h>

#include <stdlib.h>
#include <string.h>

#define HOUR (3600 * 1000 * MILLISECOND)

struct alarm {
    struct call call;     /* first */
    uint64_t earliest_ns; /* its deadline lies between the two */
    uint64_t latest_ns;
    struct alarm **last; /* the one that ended before; may be NULL */
};

static void alarm_ended(const struct iocp_packet *packet)
{
    struct alarm *alarm = (struct alarm *)packet->op;
    if (packet->result == 0)
        CHECK_GE(iocp_now_ns(), alarm->earliest_ns);
    else
        CHECK_EQ(packet->result, IOCP_ECANCELED);
    if (alarm->last) {
        if (*alarm->last)
            CHECK_GE(alarm->latest_ns, (*alarm->last)->earliest_ns);
        *alarm->last = alarm;
    }
    call_answered(packet);
}

static void alarm_start(struct alarm *alarm, struct iocp_port *port, uint64_t timeout_ns,
                        struct alarm **last, struct latch *latch)
{
    call_init(&alarm->call);
    iocp_op_init(&alarm->call.op, alarm_ended);
    alarm->call.latch = latch;
    alarm->last = last;
    alarm->earliest_ns = iocp_now_ns() + timeout_ns;
    iocp_op_timer(&alarm->call.op, timeout_ns, (uintptr_t)alarm);
    alarm->latest_ns = iocp_now_ns() + timeout_ns;
    call_submit(&alarm->call, port, NULL);
}

/* A timer ends with 0 and its key, at its deadline or later. */
TEST(never_early)
{
    const uint64_t timeouts_ns[] = {0, 1, 999, MILLISECOND, 7 * MILLISECOND, 33 * MILLISECOND};
    struct iocp_port *port = port_open(0);
    for (size_t i = 0; i < sizeof(timeouts_ns) / sizeof(timeouts_ns[0]); i++) {
        struct alarm alarm;
        alarm_start(&alarm, port, timeouts_ns[i], NULL, NULL);
        CHECK_EQ(call_wait(&alarm.call, port), 0);
        CHECK(alarm.call.packet.key == (uintptr_t)&alarm);
        CHECK(!alarm.call.packet.object);
        CHECK_EQ(alarm.call.packet.flags, 0);
        CHECK_EQ(call_answers(&alarm.call), 1);
    }
    port_end(port);
}

/* The same taken with wait, whose own timeout is later. */
TEST(taken_with_wait)
{
    struct call call;
    struct iocp_packet packet;
    struct iocp_port *port = port_open(0);
    uint64_t begin_ns = iocp_now_ns();
    call_init(&call);
    iocp_op_timer(&call.op, 300 * MILLISECOND, 21);
    call_submit(&call, port, NULL);
    CHECK_EQ(iocp_port_wait(port, &packet, 1, MILLISECOND), IOCP_ETIMEDOUT);
    CHECK_EQ(iocp_port_wait(port, &packet, 1, IOCP_WAIT_FOREVER), 1);
    CHECK_GE(iocp_now_ns(), begin_ns + 300 * MILLISECOND);
    CHECK_EQ(packet.result, 0);
    CHECK_EQ(packet.key, 21);
    iocp_packet_release(&packet);
    port_end(port);
}

/* Timers come out by deadline, whatever the order of their submits. */
TEST(order_of_deadlines)
{
    const uint64_t timeouts_ms[] = {30, 10, 20, 0, 25, 5, 15, 1};
    struct alarm alarms[8];
    struct alarm *last = NULL;
    struct iocp_port *port = port_open(0);
    for (int i = 0; i < 8; i++)
        alarm_start(&alarms[i], port, timeouts_ms[i] * MILLISECOND, &last, NULL);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(call_wait(&alarms[i].call, port), 0);
    CHECK(last == &alarms[0]);
    port_end(port);
}

#define MANY 10000

/* Ten thousand of them, within 50 ms: each ends once, none early, all in order. */
TEST(ten_thousand)
{
    static struct alarm alarms[MANY];
    struct alarm *last = NULL;
    struct latch ended = LATCH_INIT;
    uint32_t random = 1;
    struct iocp_port *port = port_open(0);
    for (int i = 0; i < MANY; i++) {
        random = random * 1664525u + 1013904223u;
        alarm_start(&alarms[i], port, (random >> 8) % 50000 * 1000, &last, &ended);
    }
    pump_until_latch(port, &ended, MANY);
    pump_drain(port);
    CHECK_EQ(latch_count(&ended), MANY);
    port_end(port);
}

/* The same on four workers, a third of them canceled before their time: each is answered once. */
TEST(ten_thousand_on_four_workers)
{
    static struct alarm alarms[MANY];
    struct crew crew;
    struct latch ended = LATCH_INIT;
    uint32_t random = 1;
    struct iocp_port *port = port_open(2);
    crew_start(&crew, port, 4);
    for (int i = 0; i < MANY; i++) {
        random = random * 1664525u + 1013904223u;
        uint64_t timeout_ns = i % 3 == 0 ? HOUR : (random >> 8) % 50000 * 1000;
        alarm_start(&alarms[i], port, timeout_ns, NULL, &ended);
    }
    for (int i = 0; i < MANY; i += 3)
        CHECK_EQ(iocp_port_cancel(port, &alarms[i].call.op), 0);
    latch_wait_for(&ended, MANY);
    crew_stop(&crew);
    CHECK_EQ(latch_count(&ended), MANY);
    for (int i = 0; i < MANY; i++) {
        CHECK_EQ(call_answers(&alarms[i].call), 1);
        CHECK_EQ(alarms[i].call.packet.result, i % 3 == 0 ? IOCP_ECANCELED : 0);
    }
    port_end(port);
}

/* An alarm that is looked at when all have ended. */
struct mark {
    struct call call; /* first */
    uint64_t earliest_ns;
    uint64_t latest_ns;
    uint64_t submitted_ns;
};

static struct mark marks[MANY];
static struct mark *marks_ended[MANY]; /* in the order of their handlers */
static uint32_t marks_count;

static void mark_ended(const struct iocp_packet *packet)
{
    /* Atomic for Wine, where several run. */
    uint32_t turn = __atomic_fetch_add(&marks_count, 1, __ATOMIC_ACQ_REL);
    marks_ended[turn] = (struct mark *)packet->op;
    call_answered(packet);
}

static void mark_start(struct mark *mark, struct iocp_port *port, uint64_t timeout_ns,
                       struct latch *latch)
{
    call_init(&mark->call);
    iocp_op_init(&mark->call.op, mark_ended);
    mark->call.latch = latch;
    mark->earliest_ns = iocp_now_ns() + timeout_ns;
    iocp_op_timer(&mark->call.op, timeout_ns, 0);
    mark->latest_ns = iocp_now_ns() + timeout_ns;
    call_submit(&mark->call, port, NULL);
    mark->submitted_ns = iocp_now_ns();
}

/* One that was submitted before the deadline of another, and ends earlier, is handled earlier. */
static void marks_check(void)
{
    const struct mark *latest = marks_ended[0];
    for (uint32_t i = 1; i < marks_count; i++) {
        const struct mark *mark = marks_ended[i];
        if (mark->submitted_ns < latest->earliest_ns)
            CHECK_GE(mark->latest_ns, latest->earliest_ns);
        if (mark->earliest_ns > latest->earliest_ns)
            latest = mark;
    }
}

/* Three workers of whom one runs at a time: the order is kept from one to the next. */
TEST(order_among_workers)
{
    struct iocp_port_config config;
    struct iocp_port *port;
    struct crew crew;
    struct latch ended = LATCH_INIT;
    uint32_t random = 3;
    port_config(&config, 1);
    config.watch_ns = 0; /* nobody takes a ticket away: the handlers share an array */
    CHECK_EQ(iocp_port_create(&config, &port), 0);
    crew_start(&crew, port, 3);
    for (int i = 0; i < MANY; i++) {
        random = random * 1664525u + 1013904223u;
        mark_start(&marks[i], port, (random >> 8) % 50000 * 1000, &ended);
    }
    latch_wait_for(&ended, MANY);
    crew_stop(&crew);
    CHECK_EQ(marks_count, MANY);
    if (!test_wine_differs("GQ-14: no more threads run at a time than the concurrency value"))
        marks_check();
    port_end(port);
}

/* A cancel answers at once, not at the deadline. The longest timeout is no overflow. */
TEST(cancel)
{
    const uint64_t timeouts_ns[] = {HOUR, UINT64_MAX, UINT64_MAX - 1};
    struct iocp_port *port = port_open(0);
    for (size_t i = 0; i < sizeof(timeouts_ns) / sizeof(timeouts_ns[0]); i++) {
        struct call call;
        call_init(&call);
        iocp_op_timer(&call.op, timeouts_ns[i], 4);
        call_submit(&call, port, NULL);
        port_dispatch_for(port, MILLISECOND);
        CHECK_EQ(call_answers(&call), 0);
        CHECK(iocp_op_pending(&call.op));
        CHECK_EQ(iocp_port_cancel(port, &call.op), 0);
        CHECK_EQ(call_wait(&call, port), IOCP_ECANCELED);
        CHECK_EQ(call.packet.key, 4);
        CHECK_EQ(iocp_port_cancel(port, &call.op), IOCP_ENOTFOUND);
        CHECK_EQ(call_answers(&call), 1);
    }
    port_end(port);
}

#define RACES 2000

/* Cancel against the deadline: one of the two answers, never both, never none. */
TEST(cancel_against_expiry)
{
    static struct alarm alarms[RACES];
    struct crew crew;
    struct latch ended = LATCH_INIT;
    int found = 0;
    int canceled = 0;
    struct iocp_port *port = port_open(2);
    crew_start(&crew, port, 2);
    for (int i = 0; i < RACES; i++) {
        alarm_start(&alarms[i], port, (uint64_t)(i % 50) * 2000, NULL, &ended);
        if (i % 2)
            while (iocp_now_ns() < alarms[i].earliest_ns)
                ;
        int result = iocp_port_cancel(port, &alarms[i].call.op);
        CHECK(result == 0 || result == IOCP_ENOTFOUND);
        found += result == 0;
    }
    latch_wait_for(&ended, RACES);
    crew_stop(&crew);
    CHECK_EQ(latch_count(&ended), RACES);
    for (int i = 0; i < RACES; i++) {
        CHECK_EQ(call_answers(&alarms[i].call), 1);
        canceled += alarms[i].call.packet.result == IOCP_ECANCELED;
    }
    CHECK_LE(canceled, found);
    port_end(port);
}

/* A timer keeps its owner alive, registered or not; the packet has the owner, and the key of the
 * timer. */
TEST(owner)
{
    struct thing thing;
    struct call call;
    struct call canceled;
    struct iocp_port *port = port_open(0);
    thing_init(&thing);
    call_init(&call);
    call_init(&canceled);
    iocp_op_timer(&call.op, 5 * MILLISECOND, 8);
    iocp_op_timer(&canceled.op, HOUR, 9);
    call_submit(&call, port, &thing.object);
    call_submit(&canceled, port, &thing.object);
    iocp_object_unref(&thing.object);
    CHECK_EQ(thing_destroyed(&thing), 0);
    CHECK_EQ(call_wait(&call, port), 0);
    CHECK(call.packet.object == &thing.object);
    CHECK_EQ(call.packet.key, 8);
    CHECK_EQ(thing_destroyed(&thing), 0);
    CHECK_EQ(iocp_port_cancel(port, &canceled.op), 0);
    CHECK_EQ(call_wait(&canceled, port), IOCP_ECANCELED);
    CHECK_EQ(canceled.packet.key, 9);
    thing_wait_gone(&thing, port);
    port_end(port);
}

/* Workers sleep until a late timer; another thread adds an earlier one: it ends first, while the
 * late one waits on. With one worker, and with several of whom one only looks after timers. */
TEST(an_earlier_timer_wakes_sleepers)
{
    for (uint32_t workers = 1; workers <= 3; workers += 2) {
        struct crew crew;
        struct alarm late;
        struct alarm early;
        struct latch ended = LATCH_INIT;
        struct iocp_port *port = port_open(2);
        crew_start(&crew, port, workers);
        alarm_start(&late, port, HOUR, NULL, &ended);
        for (uint64_t i = 0; i < 10; i++) {
            crew_wait_asleep(&crew);
            alarm_start(&early, port, i * MILLISECOND / 2, NULL, &ended);
            latch_wait_for(&ended, i + 1);
            CHECK_EQ(early.call.packet.result, 0);
            CHECK_EQ(call_answers(&late.call), 0);
        }
        CHECK_EQ(iocp_port_cancel(port, &late.call.op), 0);
        latch_wait_for(&ended, 11);
        CHECK_EQ(late.call.packet.result, IOCP_ECANCELED);
        crew_stop(&crew);
        port_end(port);
    }
}

/* While a timer is pending, no worker is kept awake by it: crew_start waits until each of them
 * sleeps, and one has to end the timer in the end. */
TEST(sleepers_sleep_while_a_timer_is_pending)
{
    struct crew crew;
    struct alarm alarm;
    struct latch ended = LATCH_INIT;
    struct iocp_port *port = port_open(2);
    alarm_start(&alarm, port, HOUR, NULL, &ended);
    crew_start(&crew, port, 4);
    CHECK_EQ(iocp_port_cancel(port, &alarm.call.op), 0);
    latch_wait_for(&ended, 1);
    crew_wait_asleep(&crew);
    alarm_start(&alarm, port, 3 * MILLISECOND, NULL, &ended);
    latch_wait_for(&ended, 2);
    crew_stop(&crew);
    port_end(port);
}

/* The worker that would have ended it leaves: another one does. */
TEST(the_worker_that_watches_leaves)
{
    struct crew crew;
    struct alarm alarm;
    struct latch ended = LATCH_INIT;
    struct iocp_port *port = port_open(2);
    alarm_start(&alarm, port, 50 * MILLISECOND, NULL, &ended);
    CHECK_EQ(iocp_port_dispatch(port, MILLISECOND), IOCP_ETIMEDOUT);
    crew_start(&crew, port, 2);
    /* This thread sleeps last, so it is on top, and leaves before the deadline, if that is not
     * over yet. */
    int ran = iocp_port_dispatch(port, MILLISECOND);
    CHECK(ran == IOCP_ETIMEDOUT || ran == 1);
    latch_wait_for(&ended, 1);
    CHECK_EQ(alarm.call.packet.result, 0);
    crew_stop(&crew);
    port_end(port);
}

struct metronome {
    struct call call; /* first */
    struct iocp_port *port;
    uint32_t beats;
    struct latch done;
};

static void metronome_beat(const struct iocp_packet *packet)
{
    struct metronome *metronome = (struct metronome *)packet->op;
    CHECK_EQ(packet->result, 0);
    if (++metronome->beats == 100) {
        latch_add(&metronome->done, 1);
        return;
    }
    iocp_op_timer(&metronome->call.op, MILLISECOND / 5, 0);
    CHECK_EQ(iocp_port_submit(metronome->port, NULL, &metronome->call.op), 0);
}

/* A timer that starts itself again from its handler, among sleeping workers. */
TEST(again_and_again)
{
    struct crew crew;
    struct metronome metronome;
    memset(&metronome, 0, sizeof(metronome));
    latch_init(&metronome.done);
    metronome.port = port_open(2);
    crew_start(&crew, metronome.port, 2);
    iocp_op_init(&metronome.call.op, metronome_beat);
    iocp_op_timer(&metronome.call.op, 0, 0);
    call_submit(&metronome.call, metronome.port, NULL);
    latch_wait_for(&metronome.done, 1);
    crew_stop(&crew);
    CHECK_EQ(metronome.beats, 100);
    port_end(metronome.port);
}

/* Timers that are pending at the end of the port are dropped with it, and let their owners go. */
TEST(dropped_with_the_port)
{
    struct thing thing;
    struct call calls[3];
    struct iocp_port *port = port_open(0);
    thing_init(&thing);
    for (int i = 0; i < 3; i++) {
        call_init(&calls[i]);
        iocp_op_timer(&calls[i].op, i == 0 ? 0 : HOUR, 0);
        call_submit(&calls[i], port, &thing.object);
    }
    iocp_object_unref(&thing.object);
    port_end(port);
    CHECK_EQ(thing_destroyed(&thing), 1);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(call_answers(&calls[i]), 0);
}

struct sleeper {
    struct iocp_port *port;
    uint64_t timeout_ns;
    int result;
    uint32_t id; /* atomic */
    pthread_t thread;
};

static void *sleeper_run(void *argument)
{
    struct sleeper *sleeper = argument;
    struct iocp_packet packet;
    __atomic_store_n(&sleeper->id, system_thread(), __ATOMIC_RELEASE);
    sleeper->result = iocp_port_wait(sleeper->port, &packet, 1, sleeper->timeout_ns);
    if (sleeper->result == 1)
        iocp_packet_release(&packet);
    return NULL;
}

static void sleeper_start(struct sleeper *sleeper, struct iocp_port *port, uint64_t timeout_ns)
{
    sleeper->port = port;
    sleeper->timeout_ns = timeout_ns;
    sleeper->id = 0;
    CHECK_EQ(pthread_create(&sleeper->thread, NULL, sleeper_run, sleeper), 0);
    while (!__atomic_load_n(&sleeper->id, __ATOMIC_ACQUIRE))
        system_yield();
    thread_wait_asleep(sleeper->id);
}

/* The thread that went to sleep first is the one that would wake up for the timer. It gives up
 * before, and does not come back: the other one, which waits for ever, takes its place. */
TEST(a_sleeper_that_leaves_hands_the_timers_over)
{
    struct sleeper first;
    struct sleeper second;
    struct call call;
    struct iocp_port *port = port_open(2);
    sleeper_start(&first, port, 300 * MILLISECOND);
    sleeper_start(&second, port, IOCP_WAIT_FOREVER);
    call_init(&call);
    iocp_op_timer(&call.op, 500 * MILLISECOND, 7);
    call_submit(&call, port, NULL);
    CHECK_EQ(pthread_join(first.thread, NULL), 0);
    CHECK_EQ(first.result, IOCP_ETIMEDOUT);
    CHECK_EQ(pthread_join(second.thread, NULL), 0);
    CHECK_EQ(second.result, 1);
    port_end(port);
}
