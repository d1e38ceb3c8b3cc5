/* Pending timers of a port: a pairing heap of ops, which allocates nothing. */
#ifndef IOCP_CORE_TIMER_H
#define IOCP_CORE_TIMER_H

#include "core/types.h"

void iocp__timers_init(struct iocp__timers *timers);

/* Adds a timer, its state becomes QUEUED. Returns 1 when it is the first to end now. */
int iocp__timers_add(struct iocp__timers *timers, struct iocp_op *op);

/* Takes a timer out before its time; its state becomes READY. 0, or IOCP_ENOTFOUND. */
int iocp__timers_remove(struct iocp__timers *timers, struct iocp_op *op);

/* Moves the timers that have ended at `now_ns` to `done`, earliest first, READY, with result 0. */
void iocp__timers_expire(struct iocp__timers *timers, uint64_t now_ns, struct iocp__queue *done);

/* The earliest deadline, UINT64_MAX for none; without the lock. */
uint64_t iocp__timers_first(const struct iocp__timers *timers);

#endif
