/* The gate of systems whose kernel is the gate (IOCP__CAP_SHARED: Windows). gate.c hands over to it
 * where they differ; packet.c calls the rest. */
#ifndef IOCP_CORE_GATE_KERNEL_H
#define IOCP_CORE_GATE_KERNEL_H

#include "core/types.h"

/* What gate.h says of the functions without `kernel` in their names. */
void iocp__gate_kernel_enter(struct iocp_port *port, struct iocp__worker *worker);
void iocp__gate_kernel_exit(struct iocp_port *port, struct iocp__worker *worker);
void iocp__gate_kernel_leave(struct iocp_port *port, struct iocp__worker *worker);
void iocp__gate_kernel_awake(struct iocp_port *port, struct iocp__worker *worker);
void iocp__gate_kernel_work(struct iocp_port *port);
void iocp__gate_kernel_timer(struct iocp_port *port, uint64_t deadline_ns);
void iocp__gate_kernel_all(struct iocp_port *port);
int iocp__gate_kernel_block(struct iocp_port *port, struct iocp__worker *worker);
void iocp__gate_kernel_tick(struct iocp_port *port);

/* Joins those that wait, for a wait that a wake after `epoch` ends, and returns how long to wait:
 * until `deadline_ns` or the next timer. Afterwards look again (rule W). */
uint64_t iocp__gate_kernel_join(struct iocp_port *port, struct iocp__worker *worker,
                                uint64_t deadline_ns, uint64_t epoch);

/* While others are to return without packets: lets them go first, parked meanwhile, and returns 1.
 * Before joining. */
int iocp__gate_kernel_pass(struct iocp_port *port, struct iocp__worker *worker,
                           uint64_t deadline_ns);

/* Packets are there, in user memory: has the kernel let somebody go for them, this worker maybe. */
void iocp__gate_kernel_ask(struct iocp_port *port);

/* Waits in the kernel and serves the lanes that it names. Returns with what it found in the lanes'
 * queues and the worker's ticket, or with nothing: the ticket says that the kernel gave it
 * something, and by that lets it run. */
void iocp__gate_kernel_fetch(struct iocp_port *port, struct iocp__worker *worker,
                             uint64_t deadline_ns, int joined);

/* Serves the lanes whose bells the worker put off. */
void iocp__gate_kernel_serve_owed(struct iocp_port *port, struct iocp__worker *worker);

#endif
