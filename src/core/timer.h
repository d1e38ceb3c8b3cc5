/* Pending timers of a port: a heap and a wheel of ops, which allocate nothing. */
#ifndef IOCP_CORE_TIMER_H
#define IOCP_CORE_TIMER_H

#include "core/types.h"

void iocp__timers_init(struct iocp__timers *timers, uint64_t now_ns);

/* Adds a timer, its state becomes QUEUED. Returns 1 when it is the first to end now. */
int iocp__timers_add(struct iocp__timers *timers, struct iocp_op *op);

/* Takes a timer out before its time; its state becomes READY. 0, or IOCP_ENOTFOUND. */
int iocp__timers_remove(struct iocp__timers *timers, struct iocp_op *op);

/* Makes packets in `lane` of timers that have ended at `now_ns`, earliest first, READY, with result
 * 0. Returns how many: all, or as many as keep the lock from being held for long; then the first
 * time stays in the past. */
uint32_t iocp__timers_expire(struct iocp__timers *timers, uint64_t now_ns, struct iocp__lane *lane);

/* No timer ends before this time, and at it there is something to be done; UINT64_MAX for no timer.
 * Without the lock. */
uint64_t iocp__timers_first(const struct iocp__timers *timers);

#endif
