/* The simulated sockets for the tests: calls that wait, on those of os/sim.h. See net.h and
 * net_system.h. */
#include "support/threads_sim.h"

#include "support/net_system.h"

#include "os/sim.h"

#define SMALL_SIZE 4096

/* ---- Waiting. */

struct net_wish {
    int (*holds)(iocp_handle handle);
    int fd;
};

static uint64_t net_wish_ns(void *context)
{
    const struct net_wish *wish = context;
    return wish->holds(wish->fd) ? 0 : UINT64_MAX;
}

/* Waits until something can be done. 0 when it will not be: the time is over, or nobody waits. */
static int net_wait(int fd, int (*holds)(iocp_handle handle))
{
    const struct iocp__sim_manner *manner = iocp__sim_manner(fd);
    struct net_wish wish = {holds, fd};
    uint64_t deadline_ns =
        manner->limit_ms ? iocp__sim_now_ns() + manner->limit_ms * UINT64_C(1000000) : UINT64_MAX;
    if (manner->nonblocking)
        return 0;
    iocp__sim_block(net_wish_ns, &wish, deadline_ns);
    return holds(fd);
}

static int net_is_decided(iocp_handle handle)
{
    return iocp__sim_connected(handle) != IOCP_EAGAIN;
}

/* ---- Sockets. */

/* A new socket of the tests: calls on it wait. */
static int net_waiting(iocp_handle handle)
{
    iocp__sim_manner(handle)->nonblocking = 0;
    return (int)handle;
}

int net_system_open(enum iocp_family family, int datagram)
{
    iocp_handle handle;
    int error = iocp__socket_open(family, datagram ? IOCP__SOCKET_DATAGRAM : IOCP__SOCKET_STREAM,
                                  &handle, NULL);
    return error < 0 ? error : net_waiting(handle);
}

int net_system_bind(int fd, const struct iocp_address *address)
{
    iocp__socket_set(fd, IOCP__OPTION_REUSE_ADDRESS, 1);
    return iocp__socket_bind(fd, address, NULL);
}

int net_system_listen(int fd, int small)
{
    return iocp__socket_listen(fd, small ? 1 : 0, NULL);
}

int net_system_accept(int fd)
{
    iocp_handle handle;
    int error;
    while ((error = iocp__sim_accept(fd, &handle)) == IOCP_EAGAIN) {
        if (!net_wait(fd, iocp__sim_readable))
            return IOCP_EAGAIN;
    }
    return error < 0 ? error : net_waiting(handle);
}

int net_system_connect(int fd, const struct iocp_address *address)
{
    int error = iocp__sim_connect(fd, address);
    if (error == 0 && !net_is_decided(fd))
        (void)net_wait(fd, net_is_decided);
    return error < 0 ? error : iocp__sim_connected(fd);
}

int net_system_name(int fd, int peer, struct iocp_address *out_address)
{
    return peer ? iocp__socket_peer(fd, out_address) : iocp__socket_local(fd, out_address);
}

void net_system_set_nonblocking(int fd, int nonblocking)
{
    iocp__sim_manner(fd)->nonblocking = nonblocking;
}

int net_is_nonblocking(int fd)
{
    return iocp__sim_manner(fd)->nonblocking;
}

int net_system_unix_pair(int pair[2])
{
    iocp_handle handles[2];
    iocp__sim_pair(handles);
    pair[0] = net_waiting(handles[0]);
    pair[1] = net_waiting(handles[1]);
    return 0;
}

void net_system_set_deaf(int fd)
{
    iocp__sim_deafen(fd);
}

int net_copy(int fd)
{
    (void)fd;
    SKIP("a simulated socket has one handle");
}

void net_close(int fd)
{
    iocp__handle_close(fd);
}

/* ---- Bytes. */

int64_t net_send_some(int fd, const void *data, size_t size)
{
    int64_t result;
    if (iocp__sim_is_datagram(fd))
        return iocp__sim_send_to(fd, data, size, NULL);
    while ((result = iocp__sim_send(fd, data, size)) == IOCP_EAGAIN) {
        if (!net_wait(fd, iocp__sim_writable))
            break;
    }
    return result;
}

int64_t net_recv_now(int fd, void *data, size_t size)
{
    int64_t result;
    if (!iocp__sim_is_datagram(fd))
        result = iocp__sim_recv(fd, data, size);
    else
        result = iocp__sim_recv_from(fd, data, size, NULL);
    return result == IOCP_EEOF ? 0 : result > (int64_t)size ? (int64_t)size : result;
}

int64_t net_recv_some(int fd, void *data, size_t size)
{
    int64_t result;
    while ((result = net_recv_now(fd, data, size)) == IOCP_EAGAIN) {
        if (!net_wait(fd, iocp__sim_readable))
            break;
    }
    return result;
}

int64_t net_send_to(int fd, const void *data, size_t size, const struct iocp_address *address)
{
    return iocp__sim_send_to(fd, data, size, address);
}

void net_shutdown_send(int fd)
{
    iocp__socket_shutdown_send(fd, NULL);
}

void net_reset(int fd)
{
    iocp__socket_set(fd, IOCP__OPTION_RESET_ON_CLOSE, 1);
    net_close(fd);
}

/* ---- Options. */

void net_small_buffers(int fd)
{
    iocp__socket_set(fd, IOCP__OPTION_SEND_BUFFER, SMALL_SIZE);
    net_receive_buffer(fd, SMALL_SIZE);
}

void net_receive_buffer(int fd, int size)
{
    CHECK_EQ(iocp__socket_set(fd, IOCP__OPTION_RECEIVE_BUFFER, size), 0);
}

void net_no_delay(int fd)
{
    CHECK_EQ(iocp__socket_set(fd, IOCP__OPTION_NODELAY, 1), 0);
}

void net_limit(int fd, uint32_t limit_ms)
{
    iocp__sim_manner(fd)->limit_ms = limit_ms;
}

int net_system_wait(pthread_cond_t *changed, pthread_mutex_t *lock, uint64_t deadline_ns)
{
    return sim_condition_wait(changed, lock, deadline_ns);
}
