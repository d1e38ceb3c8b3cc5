/* The sockets of Windows for the tests. See net.h and net_system.h. */
#include "support/net_system.h"

#include <winsock2.h>
#include <ws2tcpip.h>

#include <afunix.h>

#include <limits.h>
#include <string.h>
#include <time.h>

static int net_error(void)
{
    return iocp_error_from_os(WSAGetLastError());
}

static SOCKET net_socket(int fd)
{
    return (SOCKET)(intptr_t)fd;
}

/* SOCKETs are small numbers, as all handles. */
static int net_descriptor(SOCKET handle)
{
    if (handle == INVALID_SOCKET)
        return net_error();
    CHECK_LE(handle, INT_MAX);
    return (int)handle;
}

static void net_start(void)
{
    WSADATA data;
    CHECK_EQ(WSAStartup(MAKEWORD(2, 2), &data), 0);
}

int net_system_open(enum iocp_family family, int datagram)
{
    int domain = family == IOCP_FAMILY_IPV4   ? AF_INET
                 : family == IOCP_FAMILY_IPV6 ? AF_INET6
                                              : AF_UNIX;
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, net_start);
    return net_descriptor(WSASocketW(domain, datagram ? SOCK_DGRAM : SOCK_STREAM, 0, NULL, 0,
                                     WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT));
}

int net_system_bind(int fd, const struct iocp_address *address)
{
    return bind(net_socket(fd), (const void *)address->storage.bytes, (int)address->size)
               ? net_error()
               : 0;
}

int net_system_listen(int fd, int small)
{
    return listen(net_socket(fd), small ? 1 : SOMAXCONN) ? net_error() : 0;
}

int net_system_accept(int fd)
{
    SOCKET accepted = accept(net_socket(fd), NULL, NULL);
    if (accepted != INVALID_SOCKET)
        SetHandleInformation((HANDLE)accepted, HANDLE_FLAG_INHERIT, 0);
    return net_descriptor(accepted);
}

int net_system_connect(int fd, const struct iocp_address *address)
{
    return connect(net_socket(fd), (const void *)address->storage.bytes, (int)address->size)
               ? net_error()
               : 0;
}

int net_system_name(int fd, int peer, struct iocp_address *out_address)
{
    int size = sizeof out_address->storage;
    void *name = out_address->storage.bytes;
    memset(out_address, 0, sizeof *out_address);
    if (peer ? getpeername(net_socket(fd), name, &size) : getsockname(net_socket(fd), name, &size))
        return net_error();
    out_address->size = (uint32_t)size;
    return 0;
}

void net_system_set_nonblocking(int fd, int nonblocking)
{
    u_long value = nonblocking != 0;
    CHECK_EQ(ioctlsocket(net_socket(fd), (long)FIONBIO, &value), 0);
}

int net_is_nonblocking(int fd)
{
    /* It can be set and not be asked for. */
    (void)fd;
    return 1;
}

int net_system_unix_pair(int pair[2])
{
    (void)pair;
    return IOCP_ENOTSUP;
}

void net_system_set_deaf(int fd)
{
    /* A full backlog refuses here. With this a connect waits until the program has looked at it;
     * Wine 8 has no such thing, and its backlog is that of Linux. */
    BOOL on = TRUE;
    setsockopt(net_socket(fd), SOL_SOCKET, SO_CONDITIONAL_ACCEPT, (const char *)&on, sizeof on);
}

int net_copy(int fd)
{
    WSAPROTOCOL_INFOW info;
    CHECK_EQ(WSADuplicateSocketW(net_socket(fd), GetCurrentProcessId(), &info), 0);
    int copy = net_descriptor(WSASocketW(FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO,
                                         &info, 0, WSA_FLAG_OVERLAPPED));
    CHECK_GE(copy, 0);
    return copy;
}

void net_close(int fd)
{
    CHECK_EQ(closesocket(net_socket(fd)), 0);
}

static int net_size(size_t size)
{
    return size < INT_MAX ? (int)size : INT_MAX;
}

int64_t net_send_some(int fd, const void *data, size_t size)
{
    int count = send(net_socket(fd), data, net_size(size), 0);
    return count < 0 ? net_error() : count;
}

int64_t net_recv_some(int fd, void *data, size_t size)
{
    int count = recv(net_socket(fd), data, net_size(size), 0);
    return count < 0 ? net_error() : count;
}

int64_t net_recv_now(int fd, void *data, size_t size)
{
    net_system_set_nonblocking(fd, 1);
    int64_t count = net_recv_some(fd, data, size);
    net_system_set_nonblocking(fd, 0);
    return count;
}

int64_t net_send_to(int fd, const void *data, size_t size, const struct iocp_address *address)
{
    int count = sendto(net_socket(fd), data, net_size(size), 0,
                       (const void *)address->storage.bytes, (int)address->size);
    return count < 0 ? net_error() : count;
}

void net_shutdown_send(int fd)
{
    shutdown(net_socket(fd), SD_SEND);
}

void net_reset(int fd)
{
    struct linger linger = {1, 0};
    setsockopt(net_socket(fd), SOL_SOCKET, SO_LINGER, (const char *)&linger, sizeof linger);
    net_close(fd);
}

void net_small_buffers(int fd)
{
    int size = 4096;
    setsockopt(net_socket(fd), SOL_SOCKET, SO_SNDBUF, (const char *)&size, sizeof size);
    net_receive_buffer(fd, size);
}

void net_receive_buffer(int fd, int size)
{
    /* Unix sockets have none. */
    setsockopt(net_socket(fd), SOL_SOCKET, SO_RCVBUF, (const char *)&size, sizeof size);
}

void net_no_delay(int fd)
{
    BOOL on = TRUE;
    CHECK_EQ(setsockopt(net_socket(fd), IPPROTO_TCP, TCP_NODELAY, (const char *)&on, sizeof on), 0);
}

void net_limit(int fd, uint32_t limit_ms)
{
    DWORD limit = limit_ms;
    setsockopt(net_socket(fd), SOL_SOCKET, SO_RCVTIMEO, (const char *)&limit, sizeof limit);
    setsockopt(net_socket(fd), SOL_SOCKET, SO_SNDTIMEO, (const char *)&limit, sizeof limit);
}

int net_have_unix(void)
{
    int fd = net_system_open(IOCP_FAMILY_UNIX, 0);
    if (fd < 0)
        return 0;
    net_close(fd);
    return 1;
}

int net_have_unix_abstract(void)
{
    return 0;
}

const char *net_unix_file(const struct iocp_address *address)
{
    const struct sockaddr_un *name = (const void *)address->storage.bytes;
    return iocp_address_family(address) == IOCP_FAMILY_UNIX ? name->sun_path : NULL;
}

int net_system_wait(pthread_cond_t *changed, pthread_mutex_t *lock, uint64_t deadline_ns)
{
    struct timespec left;
    uint64_t now_ns = iocp_now_ns();
    uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    left.tv_sec = (time_t)(left_ns / 1000000000);
    left.tv_nsec = (long)(left_ns % 1000000000);
    return pthread_cond_timedwait_relative_np(changed, lock, &left) != ETIMEDOUT;
}
