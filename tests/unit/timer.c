/* The heap and the wheel of a port's timers, against an array that knows the truth: none early,
 * none late, in the order of their deadlines, whatever the distances. The clock is the test's. */
#include "core/timer.h"
#include "base/list.h"
#include "core/lane.h"
#include "core/op.h"
#include "support/check.h"

#include <string.h>

#define COUNT 3000
#define SECOND_NS ((uint64_t)1000 * 1000 * 1000)

static struct {
    struct iocp__timers timers;
    struct iocp__lane lane; /* only its queue of packets is used */
    struct iocp_op ops[COUNT];
    uint64_t deadlines_ns[COUNT]; /* UINT64_MAX: not pending */
    uint32_t pending;
    uint64_t now_ns;
    uint64_t random;
} world;

static uint64_t draw(void)
{
    world.random = world.random * 6364136223846793005u + 1442695040888963407u;
    return world.random >> 20;
}

static void world_begin(uint64_t now_ns)
{
    memset(&world, 0, sizeof(world));
    world.now_ns = now_ns;
    iocp__timers_init(&world.timers, now_ns);
    for (uint32_t i = 0; i < COUNT; i++) {
        iocp_op_init(&world.ops[i], NULL);
        world.deadlines_ns[i] = UINT64_MAX;
    }
}

static uint64_t world_first(void)
{
    uint64_t first = UINT64_MAX;
    for (uint32_t i = 0; i < COUNT; i++)
        first = world.deadlines_ns[i] < first ? world.deadlines_ns[i] : first;
    return first;
}

/* A timer is not pending, and now it is. */
static void world_add(uint32_t index, uint64_t deadline_ns)
{
    struct iocp_op *op = &world.ops[index];
    uint64_t first = iocp__timers_first(&world.timers);
    iocp_op_timer(op, 0, 0);
    op->u.timer.deadline_ns = deadline_ns;
    world.deadlines_ns[index] = deadline_ns;
    world.pending++;
    CHECK_EQ(iocp__timers_add(&world.timers, op), deadline_ns < first);
    CHECK_EQ(op->state, IOCP__OP_QUEUED);
    CHECK(iocp__timers_first(&world.timers) <= deadline_ns);
}

static void world_remove(uint32_t index)
{
    int pending = world.deadlines_ns[index] != UINT64_MAX;
    int error = iocp__timers_remove(&world.timers, &world.ops[index]);
    CHECK_EQ(error, pending ? 0 : IOCP_ENOTFOUND);
    if (!pending)
        return;
    CHECK_EQ(world.ops[index].state, IOCP__OP_READY);
    world.deadlines_ns[index] = UINT64_MAX;
    world.pending--;
}

/* The packets that `expire` made: in order, none early. Returns their number. */
static uint32_t world_collect(uint64_t *last_ns)
{
    uint32_t count = 0;
    struct iocp_event *event;
    while ((event = iocp__lane_take(&world.lane, 0))) {
        uint32_t index = (uint32_t)(event->op - world.ops);
        uint64_t deadline = world.deadlines_ns[index];
        CHECK(deadline <= world.now_ns);
        CHECK(deadline >= *last_ns);
        CHECK_EQ(event->result, 0);
        CHECK_EQ(event->op->state, IOCP__OP_READY);
        *last_ns = deadline;
        world.deadlines_ns[index] = UINT64_MAX;
        world.pending--;
        count++;
    }
    return count;
}

/* Time passes. `disturb` runs between two goes. */
static void world_advance(uint64_t now_ns, void (*disturb)(void))
{
    uint64_t last = 0;
    world.now_ns = now_ns;
    for (;;) {
        uint32_t count = iocp__timers_expire(&world.timers, now_ns, &world.lane);
        CHECK_EQ(world_collect(&last), count);
        if (iocp__timers_first(&world.timers) > now_ns)
            break;
        CHECK(count > 0);
        if (disturb)
            disturb();
    }
    CHECK(world_first() > now_ns);
    CHECK(iocp__timers_first(&world.timers) <= world_first());
    CHECK_EQ(iocp__timers_first(&world.timers) == UINT64_MAX, world.pending == 0);
}

/* From now to as far away as there is: each distance is as likely as its double. */
static uint64_t draw_deadline(uint64_t now_ns)
{
    uint64_t distance = draw() << 20 >> draw() % 64;
    uint64_t most = UINT64_MAX - 1 - now_ns;
    return now_ns + (distance < most ? distance : most);
}

/* A step of the clock, from 1 ns to two years. */
static uint64_t draw_step(void)
{
    return (draw() & (((uint64_t)1 << draw() % 57) - 1)) + 1;
}

static void world_check_all_end(void)
{
    world_advance(UINT64_MAX - 1, NULL);
    CHECK_EQ(world.pending, 0);
}

/* Without removals the first time is exact, so that nobody wakes for nothing. */
TEST(first_is_exact)
{
    world_begin(77 * SECOND_NS);
    for (uint32_t i = 0; i < COUNT; i++) {
        world_add(i, draw_deadline(world.now_ns));
        CHECK(iocp__timers_first(&world.timers) == world_first());
        if (i % 8 == 7)
            world_advance(world.now_ns + draw_step(), NULL);
        CHECK(iocp__timers_first(&world.timers) == world_first());
    }
    world_check_all_end();
}

/* Whoever sleeps until the first one is not to wake up for it when it is gone. (When others are
 * left in its slot he may: here each has a slot of its own.) */
TEST(first_after_removals)
{
    world_begin(77 * SECOND_NS);
    world_add(0, world.now_ns);
    world_add(1, world.now_ns + 1);
    for (uint32_t i = 2; i < 10; i++)
        world_add(i, world.now_ns + (SECOND_NS << 2 * i));
    for (uint32_t i = 0; i < 10; i++) {
        CHECK(iocp__timers_first(&world.timers) == world_first());
        world_remove(i);
    }
    CHECK(iocp__timers_first(&world.timers) == UINT64_MAX);
}

/* Each by itself: the wheel is asked at the deadline and right before it. */
TEST(never_early_and_never_late)
{
    world_begin(0);
    for (uint32_t bits = 0; bits < 64; bits++) {
        for (int64_t off = -1; off <= 1; off++) {
            uint64_t deadline = world.now_ns + ((uint64_t)1 << bits) + (uint64_t)off;
            if (deadline <= world.now_ns || deadline == UINT64_MAX)
                continue;
            world_begin(world.now_ns);
            world_add(0, deadline);
            world_advance(deadline - 1, NULL);
            CHECK_EQ(world.pending, 1);
            world_advance(deadline, NULL);
            CHECK_EQ(world.pending, 0);
            world.now_ns = bits < 40 ? deadline : 0;
        }
    }
}

/* All of it mixed, with timers that come and go at all distances. */
TEST(mixed)
{
    for (uint32_t round = 0; round < 20; round++) {
        world_begin(draw_step());
        world.random += round;
        for (uint32_t step = 0; step < 4000; step++) {
            uint32_t index = (uint32_t)(draw() % 400);
            if (world.deadlines_ns[index] == UINT64_MAX)
                world_add(index, draw_deadline(world.now_ns));
            else if (draw() % 2)
                world_remove(index);
            if (draw() % 8 == 0)
                world_advance(world.now_ns + draw_step() / (1 + step), NULL);
        }
        world_check_all_end();
    }
}

/* Timers that are earlier and later than those of a slot that is being poured come, and some of the
 * slot go, one way or the other all of them. */
static void disturb_pouring(void)
{
    for (uint32_t i = 0; i < 100; i++) {
        uint32_t index = (uint32_t)(draw() % COUNT);
        if (world.deadlines_ns[index] != UINT64_MAX)
            world_remove(index);
        else
            world_add(index, world.now_ns + draw() % 3 * SECOND_NS);
    }
}

static void disturb_emptying(void)
{
    for (uint32_t i = 0; i < COUNT; i++)
        world_remove(i);
    CHECK(iocp__timers_first(&world.timers) == UINT64_MAX);
}

/* More timers in one slot than are poured in one go. Those of the heap end in the first go, with
 * which the pouring begins. */
static void crowd(uint64_t range_ns)
{
    world_begin(12345 * SECOND_NS);
    for (uint32_t i = 0; i < 10; i++)
        world_add(i, world.now_ns);
    for (uint32_t i = 10; i < COUNT; i++)
        world_add(i, world.now_ns + 3600 * SECOND_NS + draw() % range_ns);
}

TEST(crowded_slots)
{
    const uint64_t ranges_ns[] = {1, 1000, 100 * 1000, SECOND_NS, 600 * SECOND_NS};
    for (uint32_t i = 0; i < sizeof(ranges_ns) / sizeof(ranges_ns[0]); i++) {
        crowd(ranges_ns[i]);
        world_advance(world.now_ns + 3600 * SECOND_NS + ranges_ns[i] / 2, NULL);
        world_check_all_end();
    }
}

TEST(changes_while_a_slot_is_poured)
{
    crowd(SECOND_NS);
    world_advance(world.now_ns + 3602 * SECOND_NS, NULL);
    CHECK_EQ(world.pending, 0);
    for (uint32_t i = 0; i < 50; i++) {
        crowd(60 * SECOND_NS);
        world.random += i;
        world_advance(world.now_ns + 3630 * SECOND_NS, disturb_pouring);
        world_check_all_end();
    }
}

TEST(all_go_while_a_slot_is_poured)
{
    crowd(60 * SECOND_NS);
    world_advance(world.now_ns + 3630 * SECOND_NS, disturb_emptying);
    CHECK_EQ(world.pending, 0);
    CHECK(iocp__timers_first(&world.timers) == UINT64_MAX);
    world_add(0, world.now_ns + SECOND_NS);
    world_check_all_end();
}
