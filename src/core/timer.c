/* The timer heap: add and look at the first in constant time, remove in logarithmic (amortized).
 *
 * A pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986): each op has its first child, its next
 * sibling, and `back`, which is the op before it among the siblings or the parent.
 *
 * Invariants
 * 1. No op ends earlier than its parent.
 * 2. first_ns is the root's deadline, UINT64_MAX without a root.
 * 3. An op is in the heap exactly while its state is QUEUED. */
#include "core/timer.h"

#include "base/assert.h"
#include "base/atomic.h"
#include "core/op.h"

#include <string.h>

void iocp__timers_init(struct iocp__timers *timers)
{
    memset(timers, 0, sizeof(*timers));
    timers->first_ns = UINT64_MAX;
}

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

static void timer_publish(struct iocp__timers *timers)
{
    uint64_t first = timers->root ? timers->root->u.timer.deadline_ns : UINT64_MAX;
    /* In one order with the gate's stack: a worker on its way to sleep sees this, or whoever added
     * the timer sees the worker. */
    iocp__store_seq(&timers->first_ns, first);
}

int iocp__timers_add(struct iocp__timers *timers, struct iocp_op *op)
{
    iocp__lock_acquire(&timers->lock);
    op->u.timer.child = NULL;
    op->u.timer.sibling = NULL;
    op->u.timer.back = NULL;
    timers->root = timer_meld(timers->root, op);
    int is_first = timers->root == op;
    timers->added++;
    /* Relaxed: the lock orders it; atomic because iocp_op_pending reads without it. */
    iocp__store_relaxed(&op->state, IOCP__OP_QUEUED);
    timer_publish(timers);
    iocp__lock_release(&timers->lock);
    return is_first;
}

/* The lock is held; `op` is in the heap. */
static void timer_cut(struct iocp__timers *timers, struct iocp_op *op)
{
    if (op == timers->root) {
        timers->root = timer_meld_siblings(op->u.timer.child);
    } else {
        struct iocp_op *back = op->u.timer.back;
        if (back->u.timer.child == op)
            back->u.timer.child = op->u.timer.sibling;
        else
            back->u.timer.sibling = op->u.timer.sibling;
        if (op->u.timer.sibling)
            op->u.timer.sibling->u.timer.back = back;
        timers->root = timer_meld(timers->root, timer_meld_siblings(op->u.timer.child));
    }
    /* Relaxed: as above. */
    iocp__store_relaxed(&op->state, IOCP__OP_READY);
    timer_publish(timers);
}

int iocp__timers_remove(struct iocp__timers *timers, struct iocp_op *op)
{
    iocp__lock_acquire(&timers->lock);
    int found = iocp__load_relaxed(&op->state) == IOCP__OP_QUEUED;
    if (found) {
        timer_cut(timers, op);
        timers->removed++;
    }
    iocp__lock_release(&timers->lock);
    return found ? 0 : IOCP_ENOTFOUND;
}

void iocp__timers_expire(struct iocp__timers *timers, uint64_t now_ns, struct iocp__queue *done)
{
    iocp__lock_acquire(&timers->lock);
    while (timers->root && timers->root->u.timer.deadline_ns <= now_ns) {
        struct iocp_op *op = timers->root;
        timer_cut(timers, op);
        op->event.result = 0;
        iocp__queue_push(done, &op->event);
    }
    iocp__lock_release(&timers->lock);
}

uint64_t iocp__timers_first(const struct iocp__timers *timers)
{
    return iocp__load_seq(&timers->first_ns);
}
