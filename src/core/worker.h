/* A thread as a port sees it: the record, found by thread, and what happens when the thread exits.
 */
#ifndef IOCP_CORE_WORKER_H
#define IOCP_CORE_WORKER_H

#include "core/types.h"

/* The calling thread's record for the port; made at the first call. IOCP_ENOMEM, IOCP_EFULL. */
int iocp__worker_get(struct iocp_port *port, struct iocp__worker **out_worker);

/* The same, or NULL when the thread never waited here. */
struct iocp__worker *iocp__worker_find(struct iocp_port *port);

/* The port goes: its records leave their threads. Nobody is in wait or dispatch (asserted). */
void iocp__worker_forget_port(struct iocp_port *port);

/* The calling thread gives up what it holds of the port, without exiting. */
void iocp__worker_leave(struct iocp_port *port);

#endif
