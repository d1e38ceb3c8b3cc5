/* The sockets of connections: what the port does not make itself. One file per system. */
#ifndef APPS_LOAD_NET_H
#define APPS_LOAD_NET_H

#include <iocp.h>

/* Opens a socket of the target's family that sends at once what it is given (TCP_NODELAY), bound to
 * 127.0.0.`source` unless that is 0. Returns 0 or an error of the library. */
int net_open(const struct iocp_address *target, uint32_t source, iocp_handle *out_handle);

/* For one that no port has taken. */
void net_close(iocp_handle handle);

#endif
