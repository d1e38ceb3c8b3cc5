/* The pending timers: adding and removing in constant time, however many there are.
 *
 * Timers of the present tick are in a pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986),
 * which has them in the order of their deadlines: each op has its first child, its next sibling,
 * and `back`, which is the op before it among the siblings or the parent. Later ones are in the
 * lists of a hierarchical wheel (Varghese, Lauck 1987), in no order. When the earliest of a slot is
 * due, the slot is poured: its timers go to slots of a lower level, from the lowest one into the
 * heap. So the heap stays small, each timer is touched once per level, and the order is exact all
 * the same.
 *
 * A tick is a deadline without its lowest TICK_BITS. The level of a timer is where its tick differs
 * from `base` first, in digits of DIGIT_BITS; its slot there is that digit of its tick.
 *
 * Invariants
 * 1. No op ends earlier than its parent in the heap.
 * 2. The heap has the ticks up to `base`, the wheel those after it. So all in a slot come before
 *    all in later slots of its level and in higher levels.
 * 3. While `pouring` is a slot, base is its first tick: what is left in it comes before all else
 *    in the wheel but what was poured out of it, and nothing is added to it. It has no bit in
 *    `filled`, unlike all others that are not empty.
 * 4. No op of a slot ends before the slot's earliest_ns. One that was removed may have been it.
 * 5. first_ns is the least of the root's deadline and the first slot's earliest_ns, UINT64_MAX
 *    exactly when there is no timer.
 * 6. An op is here exactly while its state is QUEUED; backend_data is 1 + the index of its slot, 0
 *    in the heap. */
#include "core/timer.h"

#include "base/assert.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "core/lane.h"
#include "core/op.h"

#include <string.h>

#define TICK_BITS 17 /* 131 µs */
#define DIGIT_BITS 6

/* How much is done in one go under the lock. */
#define TIMER_POURED_MAX 256
#define TIMER_ENDED_MAX 256

_Static_assert(TICK_BITS + DIGIT_BITS * IOCP__TIMER_LEVELS >= 64, "the wheel has all deadlines");
_Static_assert(1 << DIGIT_BITS == IOCP__TIMER_SLOTS, "a digit is a slot");

void iocp__timers_init(struct iocp__timers *timers, uint64_t now_ns)
{
    memset(timers, 0, sizeof(*timers));
    timers->base = now_ns >> TICK_BITS;
    timers->first_ns = UINT64_MAX;
}

/* ---- The heap. */

static struct iocp_op *timer_meld(struct iocp_op *a, struct iocp_op *b)
{
    if (!a)
        return b;
    if (!b)
        return a;
    if (b->u.timer.deadline_ns < a->u.timer.deadline_ns) {
        struct iocp_op *other = a;
        a = b;
        b = other;
    }
    b->u.timer.sibling = a->u.timer.child;
    if (b->u.timer.sibling)
        b->u.timer.sibling->u.timer.back = b;
    b->u.timer.back = a;
    a->u.timer.child = b;
    return a;
}

/* Melds a list of siblings into one: in pairs from the left, then from the right. */
static struct iocp_op *timer_meld_siblings(struct iocp_op *first)
{
    struct iocp_op *pairs = NULL;
    while (first) {
        struct iocp_op *second = first->u.timer.sibling;
        struct iocp_op *rest = second ? second->u.timer.sibling : NULL;
        first->u.timer.sibling = NULL;
        if (second)
            second->u.timer.sibling = NULL;
        struct iocp_op *pair = timer_meld(first, second);
        pair->u.timer.sibling = pairs;
        pairs = pair;
        first = rest;
    }
    struct iocp_op *root = NULL;
    while (pairs) {
        struct iocp_op *next = pairs->u.timer.sibling;
        pairs->u.timer.sibling = NULL;
        root = timer_meld(root, pairs);
        pairs = next;
    }
    if (root)
        root->u.timer.back = NULL;
    return root;
}

static void timer_heap_add(struct iocp__timers *timers, struct iocp_op *op)
{
    op->backend_data = 0;
    op->u.timer.child = NULL;
    op->u.timer.sibling = NULL;
    op->u.timer.back = NULL;
    timers->root = timer_meld(timers->root, op);
}

static void timer_heap_remove(struct iocp__timers *timers, struct iocp_op *op)
{
    if (op == timers->root) {
        timers->root = timer_meld_siblings(op->u.timer.child);
        return;
    }
    struct iocp_op *back = op->u.timer.back;
    if (back->u.timer.child == op)
        back->u.timer.child = op->u.timer.sibling;
    else
        back->u.timer.sibling = op->u.timer.sibling;
    if (op->u.timer.sibling)
        op->u.timer.sibling->u.timer.back = back;
    timers->root = timer_meld(timers->root, timer_meld_siblings(op->u.timer.child));
}

/* ---- The wheel. */

static uint64_t timer_slot_bit(uint32_t index)
{
    return (uint64_t)1 << index % IOCP__TIMER_SLOTS;
}

static void timer_slot_add(struct iocp__timers *timers, uint32_t index, struct iocp_op *op)
{
    struct iocp__timer_slot *slot = &timers->slots[index];
    struct iocp_op *next = slot->first;
    op->backend_data = index + 1;
    op->u.timer.sibling = next;
    op->u.timer.back = NULL;
    if (next)
        next->u.timer.back = op;
    else
        timers->filled[index / IOCP__TIMER_SLOTS] |= timer_slot_bit(index);
    if (!next || op->u.timer.deadline_ns < slot->earliest_ns)
        slot->earliest_ns = op->u.timer.deadline_ns;
    slot->first = op;
}

/* Returns 1 when the slot is empty now. */
static int timer_slot_remove(struct iocp__timers *timers, uint32_t index, struct iocp_op *op)
{
    struct iocp_op *next = op->u.timer.sibling;
    struct iocp_op *back = op->u.timer.back;
    if (next)
        next->u.timer.back = back;
    if (back) {
        back->u.timer.sibling = next;
        return 0;
    }
    timers->slots[index].first = next;
    if (next)
        return 0;
    timers->filled[index / IOCP__TIMER_SLOTS] &= ~timer_slot_bit(index);
    if (timers->pouring == index + 1)
        timers->pouring = 0;
    return 1;
}

/* 1 + the index of the slot whose timers come before all others of the wheel; 0: it is empty. */
static uint32_t timer_first_slot(const struct iocp__timers *timers)
{
    if (timers->pouring)
        return timers->pouring;
    for (uint32_t level = 0; level < IOCP__TIMER_LEVELS; level++) {
        if (timers->filled[level])
            return level * IOCP__TIMER_SLOTS + iocp__bit_lowest(timers->filled[level]) + 1;
    }
    return 0;
}

static uint64_t timer_wheel_first(const struct iocp__timers *timers)
{
    uint32_t slot = timer_first_slot(timers);
    return slot ? timers->slots[slot - 1].earliest_ns : UINT64_MAX;
}

/* Where a timer belongs. */
static void timer_place(struct iocp__timers *timers, struct iocp_op *op)
{
    uint64_t tick = op->u.timer.deadline_ns >> TICK_BITS;
    if (tick <= timers->base) {
        timer_heap_add(timers, op);
        return;
    }
    uint32_t level = iocp__bit_highest(tick ^ timers->base) / DIGIT_BITS;
    uint32_t digit = (tick >> level * DIGIT_BITS) % IOCP__TIMER_SLOTS;
    timer_slot_add(timers, level * IOCP__TIMER_SLOTS + digit, op);
}

/* base → the first tick of the slot. */
static void timer_pour_begin(struct iocp__timers *timers, uint32_t index)
{
    uint32_t bits = index / IOCP__TIMER_SLOTS * DIGIT_BITS;
    uint64_t above = timers->base >> bits >> DIGIT_BITS << DIGIT_BITS;
    uint64_t base = (above | index % IOCP__TIMER_SLOTS) << bits;
    iocp__debug(base > timers->base);
    timers->base = base;
    timers->filled[index / IOCP__TIMER_SLOTS] &= ~timer_slot_bit(index);
    timers->pouring = index + 1;
}

/* Moves timers of the first slot, not too many of them, to where they belong now. */
static void timer_pour(struct iocp__timers *timers)
{
    uint32_t index = timer_first_slot(timers) - 1;
    struct iocp__timer_slot *slot = &timers->slots[index];
    if (!timers->pouring)
        timer_pour_begin(timers, index);
    for (uint32_t i = 0; slot->first && i < TIMER_POURED_MAX; i++) {
        struct iocp_op *op = slot->first;
        slot->first = op->u.timer.sibling;
        if (slot->first)
            slot->first->u.timer.back = NULL;
        timer_place(timers, op);
    }
    if (!slot->first)
        timers->pouring = 0;
}

/* ---- Any thread. */

static void timer_publish(struct iocp__timers *timers)
{
    uint64_t first = timer_wheel_first(timers);
    if (timers->root && timers->root->u.timer.deadline_ns < first)
        first = timers->root->u.timer.deadline_ns;
    /* Relaxed: only holders of the lock write it. */
    if (first == iocp__load_relaxed(&timers->first_ns))
        return;
    /* In one order with the gate's stack: a worker on its way to sleep sees this, or whoever added
     * the timer sees the worker. */
    iocp__store_seq(&timers->first_ns, first);
}

int iocp__timers_add(struct iocp__timers *timers, struct iocp_op *op)
{
    uint64_t deadline = op->u.timer.deadline_ns;
    iocp__lock_acquire(&timers->lock);
    timer_place(timers, op);
    timers->added++;
    /* Relaxed: the lock orders it; atomic because iocp_op_pending reads without it. */
    iocp__store_relaxed(&op->state, IOCP__OP_QUEUED);
    int is_first = deadline < iocp__load_relaxed(&timers->first_ns);
    if (is_first)
        iocp__store_seq(&timers->first_ns, deadline); /* as in timer_publish */
    iocp__lock_release(&timers->lock);
    return is_first;
}

int iocp__timers_remove(struct iocp__timers *timers, struct iocp_op *op)
{
    iocp__lock_acquire(&timers->lock);
    int found = iocp__load_relaxed(&op->state) == IOCP__OP_QUEUED;
    if (found) {
        int was_first = op->u.timer.deadline_ns == iocp__load_relaxed(&timers->first_ns);
        int empty = 0;
        if (op->backend_data)
            empty = timer_slot_remove(timers, op->backend_data - 1, op);
        else
            timer_heap_remove(timers, op);
        timers->removed++;
        /* Relaxed: as above. */
        iocp__store_relaxed(&op->state, IOCP__OP_READY);
        /* Of a slot that others are left in the time may be that of one that went before. */
        if (was_first || empty)
            timer_publish(timers);
    }
    iocp__lock_release(&timers->lock);
    return found ? 0 : IOCP_ENOTFOUND;
}

/* Takes those that have ended out of the heap, as far as nothing in the wheel may come before. */
static void timer_end(struct iocp__timers *timers, uint64_t until_ns, struct iocp__queue *done)
{
    while (timers->root && timers->root->u.timer.deadline_ns <= until_ns &&
           done->count < TIMER_ENDED_MAX) {
        struct iocp_op *op = timers->root;
        timer_heap_remove(timers, op);
        iocp__store_relaxed(&op->state, IOCP__OP_READY); /* relaxed: as above */
        op->event.result = 0;
        iocp__queue_push(done, &op->event);
    }
}

/* One go. Returns whether another one would find something. */
static int timer_advance(struct iocp__timers *timers, uint64_t now_ns, struct iocp__queue *done)
{
    uint64_t wheel = timer_wheel_first(timers);
    timer_end(timers, wheel < now_ns ? wheel : now_ns, done);
    if (wheel <= now_ns && done->count < TIMER_ENDED_MAX)
        timer_pour(timers);
    timer_publish(timers);
    return iocp__load_relaxed(&timers->first_ns) <= now_ns;
}

uint32_t iocp__timers_expire(struct iocp__timers *timers, uint64_t now_ns, struct iocp__lane *lane)
{
    struct iocp__queue done;
    uint32_t count;
    int more;
    iocp__queue_init(&done);
    do {
        iocp__lock_acquire(&timers->lock);
        more = timer_advance(timers, now_ns, &done);
        count = done.count;
        /* Under the lock: else another thread could put later ones in front of these. */
        if (count)
            iocp__lane_push(lane, &done);
        iocp__lock_release(&timers->lock);
    } while (more && !count);
    return count;
}

uint64_t iocp__timers_first(const struct iocp__timers *timers)
{
    return iocp__load_seq(&timers->first_ns);
}
