/* The gate: which workers are out with packets, who holds which lane, and who is woken next.
 *
 * A ticket is the right to be out with packets; there are `concurrency` of them. A lane is a place
 * to sleep in the kernel; there are at most as many, each held by one worker. A worker without a
 * lane parks. All waiting workers, asleep in a lane or parked, are on one stack: the last to wait
 * is the first to be woken. All functions take the gate's lock themselves, and wake others after
 * they let go of it.
 *
 * Where the kernel is the gate (port->shared) it has the tickets and chooses who wakes, lanes are
 * held for moments only, and gate_kernel.h has what is different. */
#ifndef IOCP_CORE_GATE_H
#define IOCP_CORE_GATE_H

#include "core/types.h"

void iocp__gate_init(struct iocp__gate *gate, uint32_t limit);

/* The worker comes back from the user. It keeps ticket and lane if nobody took them meanwhile. */
void iocp__gate_enter(struct iocp_port *port, struct iocp__worker *worker);

/* It goes out with packets, for which it has a ticket. */
void iocp__gate_exit(struct iocp_port *port, struct iocp__worker *worker);

/* It leaves the port without packets, or for good: ticket and lane go on to others. */
void iocp__gate_leave(struct iocp_port *port, struct iocp__worker *worker);

/* A ticket for the worker, if it has none and one is left. Returns whether it has one. */
int iocp__gate_ticket(struct iocp_port *port, struct iocp__worker *worker);

/* For a worker that has a ticket and no lane: gives the ticket to one that has a lane with packets
 * and waits for a ticket. Each arrival would wake that one for nothing. */
void iocp__gate_make_way(struct iocp_port *port, struct iocp__worker *worker);

/* A lane for the worker, if it has none: its last one, a free one, or a new one. Returns whether it
 * has one. */
int iocp__gate_lane(struct iocp_port *port, struct iocp__worker *worker);

/* Serves lanes that nobody holds, without waiting. Returns whether packets are there. */
int iocp__gate_visit(struct iocp_port *port, struct iocp__worker *worker);

/* Has the worker's lane watch the lanes that nobody holds or watches, until iocp__gate_awake. */
void iocp__gate_watch(struct iocp_port *port, struct iocp__worker *worker);

/* Whether a free lane needs the worker: orders wait in one that it watches, or nobody watches one.
 * Looked at after joining the stack (rule W). */
int iocp__gate_is_needed(struct iocp_port *port, struct iocp__worker *worker);

/* Joins the stack, without a ticket from now on, and returns how long to sleep: until `deadline_ns`
 * or the next timer. In the kernel's wait of its lane, or parked when it has none. Afterwards look
 * again for packets (rule W) before sleeping. */
uint64_t iocp__gate_sleep(struct iocp_port *port, struct iocp__worker *worker,
                          uint64_t deadline_ns);

/* Leaves the stack; it has a ticket, and a lane, if its waker gave it one. */
void iocp__gate_awake(struct iocp_port *port, struct iocp__worker *worker);

/* There is a packet for anybody: wakes the worker that began to wait last, if a ticket is left. */
void iocp__gate_work(struct iocp_port *port);

/* Orders wait in a lane that may have no holder: wakes somebody for it. */
void iocp__gate_orders(struct iocp_port *port, struct iocp__lane *lane);

/* A timer was added that ends first, at `deadline_ns`. */
void iocp__gate_timer(struct iocp_port *port, uint64_t deadline_ns);

/* Wakes everybody that waits. */
void iocp__gate_all(struct iocp_port *port);

/* The worker's handler blocks, by its own word: ticket and lane go on. Returns 0 when it is not
 * out. */
int iocp__gate_block(struct iocp_port *port, struct iocp__worker *worker);

/* For the watch: takes the lane of a worker that is still out with the same packet; and the ticket,
 * with `blocked`. Returns 0 when the worker has moved on since. */
int iocp__gate_seize(struct iocp_port *port, struct iocp__worker *worker, uint64_t sequence,
                     int blocked);

/* For the watch: what else is due while workers are stuck: timers, lanes nobody looks after. */
void iocp__gate_tick(struct iocp_port *port);

/* Rings the bells that the worker put off. */
void iocp__gate_settle_owed(struct iocp_port *port);

/* The stack of those that wait; under the gate's lock. Who leaves it has the duty no more. */
void iocp__gate_push(struct iocp__gate *gate, struct iocp__worker *worker);
void iocp__gate_remove(struct iocp__gate *gate, struct iocp__worker *worker);

#endif
