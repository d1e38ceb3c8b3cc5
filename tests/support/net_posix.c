/* The sockets of Linux for the tests. See net.h and net_system.h. */
#include "support/net_system.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int net_error(void)
{
    return iocp_error_from_os(errno);
}

int net_system_open(enum iocp_family family, int datagram)
{
    int domain = family == IOCP_FAMILY_IPV4   ? AF_INET
                 : family == IOCP_FAMILY_IPV6 ? AF_INET6
                                              : AF_UNIX;
    int fd = socket(domain, (datagram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    return fd < 0 ? net_error() : fd;
}

int net_system_bind(int fd, const struct iocp_address *address)
{
    int on = 1;
    int type = 0;
    socklen_t size = sizeof type;
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    /* Datagram sockets that have it share their port, also one that the system has chosen. */
    if (type == SOCK_STREAM)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    return bind(fd, (const void *)address->storage.bytes, address->size) < 0 ? net_error() : 0;
}

int net_system_listen(int fd, int small)
{
    return listen(fd, small ? 0 : SOMAXCONN) < 0 ? net_error() : 0;
}

int net_system_accept(int fd)
{
    int accepted;
    do
        accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    while (accepted < 0 && errno == EINTR);
    return accepted < 0 ? net_error() : accepted;
}

/* Waits for the outcome of a connect that a signal has ended: 0 or errno. */
static int net_connect_finish(int fd)
{
    struct pollfd wanted = {fd, POLLOUT, 0};
    socklen_t size = sizeof(int);
    int error = ETIMEDOUT;
    int ready;
    do
        ready = poll(&wanted, 1, NET_SOCKET_LIMIT_S * 1000);
    while (ready < 0 && errno == EINTR);
    if (ready > 0)
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    return error;
}

int net_system_connect(int fd, const struct iocp_address *address)
{
    if (connect(fd, (const void *)address->storage.bytes, address->size) == 0)
        return 0;
    /* A thread that has requests on a ring sees EINTR without any signal (Linux 6.18). */
    return iocp_error_from_os(errno == EINTR ? net_connect_finish(fd) : errno);
}

int net_system_name(int fd, int peer, struct iocp_address *out_address)
{
    socklen_t size = sizeof out_address->storage;
    void *name = out_address->storage.bytes;
    memset(out_address, 0, sizeof *out_address);
    if ((peer ? getpeername(fd, name, &size) : getsockname(fd, name, &size)) < 0)
        return net_error();
    out_address->size = (uint32_t)size;
    return 0;
}

void net_system_set_nonblocking(int fd, int nonblocking)
{
    CHECK_EQ(fcntl(fd, F_SETFL, nonblocking ? O_NONBLOCK : 0), 0);
}

int net_is_nonblocking(int fd)
{
    return (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
}

int net_system_unix_pair(int pair[2])
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ? net_error() : 0;
}

void net_system_set_deaf(int fd)
{
    /* A full backlog does it. */
    (void)fd;
}

int net_copy(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    CHECK_GE(copy, 0);
    return copy;
}

void net_close(int fd)
{
    CHECK_EQ(close(fd), 0);
}

int64_t net_send_some(int fd, const void *data, size_t size)
{
    ssize_t count;
    do
        count = send(fd, data, size, MSG_NOSIGNAL);
    while (count < 0 && errno == EINTR);
    return count < 0 ? net_error() : count;
}

static int64_t net_recv_flags(int fd, void *data, size_t size, int flags)
{
    ssize_t count;
    do
        count = recv(fd, data, size, flags);
    while (count < 0 && errno == EINTR);
    return count < 0 ? net_error() : count;
}

int64_t net_recv_some(int fd, void *data, size_t size)
{
    return net_recv_flags(fd, data, size, 0);
}

int64_t net_recv_now(int fd, void *data, size_t size)
{
    return net_recv_flags(fd, data, size, MSG_DONTWAIT);
}

int64_t net_send_to(int fd, const void *data, size_t size, const struct iocp_address *address)
{
    ssize_t count = sendto(fd, data, size, 0, (const void *)address->storage.bytes, address->size);
    return count < 0 ? net_error() : count;
}

void net_shutdown_send(int fd)
{
    shutdown(fd, SHUT_WR);
}

void net_reset(int fd)
{
    struct linger linger = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    net_close(fd);
}

void net_small_buffers(int fd)
{
    int size = 4096;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    net_receive_buffer(fd, size);
}

void net_receive_buffer(int fd, int size)
{
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
}

void net_no_delay(int fd)
{
    int on = 1;
    CHECK_EQ(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
}

void net_limit(int fd, uint32_t limit_ms)
{
    struct timeval limit = {limit_ms / 1000, limit_ms % 1000 * 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

int net_system_wait(pthread_cond_t *changed, pthread_mutex_t *lock, uint64_t deadline_ns)
{
    struct timespec deadline;
    deadline.tv_sec = (time_t)(deadline_ns / 1000000000);
    deadline.tv_nsec = (long)(deadline_ns % 1000000000);
    return pthread_cond_clockwait(changed, lock, CLOCK_MONOTONIC, &deadline) != ETIMEDOUT;
}
