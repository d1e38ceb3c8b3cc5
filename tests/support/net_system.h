/* The sockets of the system, as net.c needs them: net_posix.c, net_windows.c. The tests see net.h.
 * Sockets are blocking and not inherited; what fails is an iocp_error below 0. */
#ifndef TESTS_SUPPORT_NET_SYSTEM_H
#define TESTS_SUPPORT_NET_SYSTEM_H

#include "support/net.h"

int net_system_open(enum iocp_family family, int datagram);
int net_system_bind(int fd, const struct iocp_address *address);
/* `small`: the smallest backlog instead of the largest. May be called again. */
int net_system_listen(int fd, int small);
int net_system_accept(int fd);
int net_system_connect(int fd, const struct iocp_address *address);
/* Where it is bound, or with `peer` connected to. */
int net_system_name(int fd, int peer, struct iocp_address *out_address);
/* Whether calls on it wait. */
void net_system_set_nonblocking(int fd, int nonblocking);
/* IOCP_ENOTSUP where a pair has to be made by connecting. */
int net_system_unix_pair(int pair[2]);
/* Has nothing that listens there answer connects, if the system can do that. Before it listens. */
void net_system_set_deaf(int fd);

/* Waits until the condition is signaled, or for ever shorter than until `deadline_ns` of
 * iocp_now_ns, so that a change of the time of day does not end it. 0 when the time is over. */
int net_system_wait(pthread_cond_t *changed, pthread_mutex_t *lock, uint64_t deadline_ns);

#endif
