/* Inside of the port: what the worker pool needs beside the public face. */
#ifndef IOCP_CORE_PORT_H
#define IOCP_CORE_PORT_H

#include "core/types.h"

/* Where iocp_port_wake stands: taken before a decision to wait, so that a wake in between counts.
 */
uint64_t iocp__port_epoch(struct iocp_port *port);

/* As iocp_port_dispatch, but also woken by every iocp_port_wake after `epoch` was taken. */
int iocp__port_dispatch_since(struct iocp_port *port, uint64_t timeout_ns, uint64_t epoch);

/* As iocp_port_register, for a socket of the library's own making: not blocking, not inherited, no
 * file. The system is not asked whether it is. */
int iocp__port_register_socket(struct iocp_port *port, struct iocp_object *object,
                               iocp_handle handle, uintptr_t key);

#endif
