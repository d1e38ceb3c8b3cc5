/* Sockets, latches and pumps for the port and net suites. See net.h. */
#include "support/net.h"
#include "support/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define NANOSECONDS 1000000000ull
#define PUMP_SLICE_NS 50000000ull

void net_fail(const char *file, int line, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    check_failed(file, line, "%s", text);
}

static void net_fail_errno(const char *file, int line, const char *what)
{
    net_fail(file, line, "%s: %s", what, strerror(errno));
}

static uint64_t net_deadline_ns(uint64_t limit_ns)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NANOSECONDS + (uint64_t)now.tv_nsec + limit_ns;
}

/* ---- Addresses ---- */

struct iocp_address net_address(const char *text)
{
    struct iocp_address address;
    memset(&address, 0, sizeof address);
    if (iocp_address_parse(text, &address) != 0)
        net_fail(__FILE__, __LINE__, "not an address: %s", text);
    return address;
}

int net_have_ipv6(void)
{
    struct iocp_address address = net_address("[::1]:0");
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int bound;
    if (fd < 0)
        return 0;
    bound = bind(fd, (const void *)address.storage.bytes, (socklen_t)address.size) == 0;
    close(fd);
    return bound;
}

static struct iocp_address net_unix_name(const char *prefix)
{
    static unsigned int made;
    char text[IOCP_ADDRESS_TEXT_SIZE];
    unsigned int number = __atomic_add_fetch(&made, 1, __ATOMIC_RELAXED);
    snprintf(text, sizeof text, "unix:%s-%ld-%u", prefix, (long)getpid(), number);
    return net_address(text);
}

struct iocp_address net_unix_path(void)
{
    struct iocp_address address = net_unix_name("/tmp/iocp-test");
    net_unix_remove(&address);
    return address;
}

struct iocp_address net_unix_abstract(void)
{
    return net_unix_name("@iocp-test");
}

void net_unix_remove(const struct iocp_address *address)
{
    const struct sockaddr_un *name = (const void *)address->storage.bytes;
    if (iocp_address_family(address) == IOCP_FAMILY_UNIX && name->sun_path[0] != 0)
        unlink(name->sun_path);
}

/* Where to connect to reach a socket that is bound to `address`. */
static struct iocp_address net_reachable(const struct iocp_address *address)
{
    struct iocp_address reachable = *address;
    struct sockaddr_in *ipv4 = (void *)reachable.storage.bytes;
    struct sockaddr_in6 *ipv6 = (void *)reachable.storage.bytes;
    enum iocp_family family = iocp_address_family(address);
    if (family == IOCP_FAMILY_IPV4 && ipv4->sin_addr.s_addr == htonl(INADDR_ANY))
        ipv4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (family == IOCP_FAMILY_IPV6 && IN6_IS_ADDR_UNSPECIFIED(&ipv6->sin6_addr))
        ipv6->sin6_addr = in6addr_loopback;
    return reachable;
}

/* ---- Sockets ---- */

static int net_domain(const struct iocp_address *address)
{
    return ((const struct sockaddr *)(const void *)address->storage.bytes)->sa_family;
}

static void net_limit(int fd)
{
    struct timeval limit = {NET_SOCKET_LIMIT_S, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

static int net_open(const struct iocp_address *address, int type)
{
    int fd = socket(net_domain(address), type | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        net_limit(fd);
    return fd;
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

int net_connect_socket(int fd, const struct iocp_address *address)
{
    struct iocp_address to = net_reachable(address);
    if (connect(fd, (const void *)to.storage.bytes, (socklen_t)to.size) == 0)
        return 0;
    /* A thread that has requests on a ring sees EINTR without any signal (Linux 6.18). */
    return errno == EINTR ? -net_connect_finish(fd) : -errno;
}

int net_stream(enum iocp_family family)
{
    struct iocp_address address = net_address(family == IOCP_FAMILY_IPV6   ? "[::1]:0"
                                              : family == IOCP_FAMILY_UNIX ? "unix:@x"
                                                                           : "127.0.0.1:0");
    int fd = net_open(&address, SOCK_STREAM);
    if (fd < 0)
        net_fail_errno(__FILE__, __LINE__, "socket");
    return fd;
}

int net_try_connect(const struct iocp_address *address)
{
    int fd = net_stream(iocp_address_family(address));
    int error = net_connect_socket(fd, address);
    if (error == 0)
        return fd;
    close(fd);
    return error;
}

int net_connect_at(const struct iocp_address *address, const char *file, int line)
{
    int fd = net_try_connect(address);
    if (fd < 0) {
        errno = -fd;
        net_fail_errno(file, line, "connect");
    }
    return fd;
}

struct iocp_address net_local_at(int fd, const char *file, int line)
{
    struct iocp_address address;
    socklen_t size = sizeof address.storage;
    memset(&address, 0, sizeof address);
    if (getsockname(fd, (void *)address.storage.bytes, &size) < 0)
        net_fail_errno(file, line, "getsockname");
    address.size = (uint32_t)size;
    return address;
}

struct iocp_address net_peer_at(int fd, const char *file, int line)
{
    struct iocp_address address;
    socklen_t size = sizeof address.storage;
    memset(&address, 0, sizeof address);
    if (getpeername(fd, (void *)address.storage.bytes, &size) < 0)
        net_fail_errno(file, line, "getpeername");
    address.size = (uint32_t)size;
    return address;
}

int net_listen_at(const struct iocp_address *address, struct iocp_address *out_address,
                  const char *file, int line)
{
    int fd = net_open(address, SOCK_STREAM);
    int on = 1;
    if (fd < 0)
        net_fail_errno(file, line, "socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (const void *)address->storage.bytes, (socklen_t)address->size) < 0)
        net_fail_errno(file, line, "bind");
    if (listen(fd, SOMAXCONN) < 0)
        net_fail_errno(file, line, "listen");
    if (out_address)
        *out_address = net_local_at(fd, file, line);
    return fd;
}

int net_accept_at(int listening, const char *file, int line)
{
    int fd;
    do
        fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        net_fail_errno(file, line, "accept");
    net_limit(fd);
    return fd;
}

int net_udp_at(struct iocp_address *out_address, const char *file, int line)
{
    struct iocp_address address = net_address("127.0.0.1:0");
    int fd = net_open(&address, SOCK_DGRAM);
    if (fd < 0)
        net_fail_errno(file, line, "socket");
    if (bind(fd, (const void *)address.storage.bytes, (socklen_t)address.size) < 0)
        net_fail_errno(file, line, "bind");
    if (out_address)
        *out_address = net_local_at(fd, file, line);
    return fd;
}

void make_connected_pair_at(int pair[2], const char *file, int line)
{
    struct iocp_address address = net_address("127.0.0.1:0");
    int listening = net_listen_at(&address, &address, file, line);
    pair[0] = net_connect_at(&address, file, line);
    pair[1] = net_accept_at(listening, file, line);
    close(listening);
}

void make_unix_pair_at(int pair[2], const char *file, int line)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        net_fail_errno(file, line, "socketpair");
    net_limit(pair[0]);
    net_limit(pair[1]);
}

void make_udp_pair_at(int pair[2], const char *file, int line)
{
    struct iocp_address addresses[2];
    int i;
    for (i = 0; i < 2; i++)
        pair[i] = net_udp_at(&addresses[i], file, line);
    for (i = 0; i < 2; i++) {
        const struct iocp_address *to = &addresses[1 - i];
        if (connect(pair[i], (const void *)to->storage.bytes, (socklen_t)to->size) < 0)
            net_fail_errno(file, line, "connect");
    }
}

void send_all_at(int fd, const void *data, size_t size, const char *file, int line)
{
    const char *bytes = data;
    size_t sent = 0;
    while (sent < size) {
        ssize_t count = send(fd, bytes + sent, size - sent, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            net_fail_errno(file, line, "send");
        sent += (size_t)count;
    }
}

/* One receive, -1 with errno on failure, restarted when a signal ends it. */
static ssize_t net_recv(int fd, void *data, size_t size)
{
    ssize_t count;
    do
        count = recv(fd, data, size, 0);
    while (count < 0 && errno == EINTR);
    return count;
}

void recv_exact_at(int fd, void *data, size_t size, const char *file, int line)
{
    char *bytes = data;
    size_t received = 0;
    while (received < size) {
        ssize_t count = net_recv(fd, bytes + received, size - received);
        if (count < 0)
            net_fail_errno(file, line, "recv");
        if (count == 0)
            net_fail(file, line, "end of stream after %zu of %zu bytes", received, size);
        received += (size_t)count;
    }
}

void expect_bytes_at(int fd, const void *data, size_t size, const char *file, int line)
{
    const unsigned char *expected = data;
    unsigned char bytes[4096];
    size_t compared = 0;
    while (compared < size) {
        size_t part = size - compared < sizeof bytes ? size - compared : sizeof bytes;
        size_t i;
        recv_exact_at(fd, bytes, part, file, line);
        for (i = 0; i < part; i++) {
            if (bytes[i] != expected[compared + i])
                net_fail(file, line, "byte %zu is 0x%02x, expected 0x%02x", compared + i, bytes[i],
                         expected[compared + i]);
        }
        compared += part;
    }
}

void expect_eof_at(int fd, const char *file, int line)
{
    char byte;
    ssize_t count = net_recv(fd, &byte, 1);
    if (count < 0)
        net_fail_errno(file, line, "recv, where the end of the stream is expected");
    if (count > 0)
        net_fail(file, line, "a byte 0x%02x, where the end of the stream is expected",
                 (unsigned char)byte);
}

/* Throws bytes away until the connection ends: 0 for the end of the stream, or errno. */
static int net_recv_to_end(int fd)
{
    char bytes[4096];
    ssize_t count;
    do
        count = net_recv(fd, bytes, sizeof bytes);
    while (count > 0);
    return count < 0 ? errno : 0;
}

void expect_reset_at(int fd, const char *file, int line)
{
    int error = net_recv_to_end(fd);
    if (error != ECONNRESET)
        net_fail(file, line, "%s, where a reset is expected",
                 error ? strerror(error) : "end of stream");
}

void expect_gone_at(int fd, const char *file, int line)
{
    int error = net_recv_to_end(fd);
    if (error != 0 && error != ECONNRESET && error != EPIPE)
        net_fail(file, line, "%s, where the end of the connection is expected", strerror(error));
}

void net_shutdown_send(int fd)
{
    shutdown(fd, SHUT_WR);
}

void net_reset(int fd)
{
    struct linger linger = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

void net_small_buffers(int fd)
{
    int size = 4096;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

/* ---- Latch ---- */

void latch_init(struct latch *latch)
{
    pthread_mutex_init(&latch->lock, NULL);
    pthread_cond_init(&latch->changed, NULL);
    latch->count = 0;
}

void latch_add(struct latch *latch, uint64_t count)
{
    pthread_mutex_lock(&latch->lock);
    latch->count += count;
    pthread_cond_broadcast(&latch->changed);
    pthread_mutex_unlock(&latch->lock);
}

uint64_t latch_count(struct latch *latch)
{
    uint64_t count;
    pthread_mutex_lock(&latch->lock);
    count = latch->count;
    pthread_mutex_unlock(&latch->lock);
    return count;
}

int latch_reached(struct latch *latch, uint64_t count, uint32_t limit_ms)
{
    uint64_t deadline_ns = net_deadline_ns((uint64_t)limit_ms * 1000000u);
    struct timespec deadline;
    int reached;
    deadline.tv_sec = (time_t)(deadline_ns / NANOSECONDS);
    deadline.tv_nsec = (long)(deadline_ns % NANOSECONDS);
    pthread_mutex_lock(&latch->lock);
    while (latch->count < count) {
        /* The monotonic clock, so that a change of the time of day does not end the wait. */
        if (pthread_cond_clockwait(&latch->changed, &latch->lock, CLOCK_MONOTONIC, &deadline) ==
            ETIMEDOUT)
            break;
    }
    reached = latch->count >= count;
    pthread_mutex_unlock(&latch->lock);
    return reached;
}

void latch_wait_at(struct latch *latch, uint64_t count, const char *file, int line)
{
    if (!latch_reached(latch, count, NET_WAIT_LIMIT_S * 1000))
        net_fail(file, line, "the latch stands at %llu after %d s, expected %llu",
                 (unsigned long long)latch_count(latch), NET_WAIT_LIMIT_S,
                 (unsigned long long)count);
}

/* ---- Pumps ---- */

/* One dispatch; not 0 when it ran handlers. */
static int pump_once(struct iocp_port *port, uint64_t timeout_ns, const char *file, int line)
{
    int ran = iocp_port_dispatch(port, timeout_ns);
    if (ran < 0 && ran != IOCP_ETIMEDOUT && ran != IOCP_EWOKEN)
        net_fail(file, line, "iocp_port_dispatch: %s", iocp_error_name(ran));
    return ran > 0;
}

void pump_until_at(struct iocp_port *port, int (*condition)(void *context), void *context,
                   const char *file, int line)
{
    uint64_t deadline_ns = net_deadline_ns(NET_WAIT_LIMIT_S * NANOSECONDS);
    while (!condition(context)) {
        if (net_deadline_ns(0) > deadline_ns)
            net_fail(file, line, "the condition does not hold after %d s", NET_WAIT_LIMIT_S);
        pump_once(port, PUMP_SLICE_NS, file, line);
    }
}

struct pump_latch {
    struct latch *latch;
    uint64_t count;
};

static int pump_latch_reached(void *context)
{
    struct pump_latch *wanted = context;
    return latch_count(wanted->latch) >= wanted->count;
}

void pump_until_latch_at(struct iocp_port *port, struct latch *latch, uint64_t count,
                         const char *file, int line)
{
    struct pump_latch wanted = {latch, count};
    pump_until_at(port, pump_latch_reached, &wanted, file, line);
}

void pump_drain_at(struct iocp_port *port, const char *file, int line)
{
    uint64_t deadline_ns = net_deadline_ns(NET_WAIT_LIMIT_S * NANOSECONDS);
    while (pump_once(port, 0, file, line)) {
        if (net_deadline_ns(0) > deadline_ns)
            net_fail(file, line, "packets go on coming after %d s", NET_WAIT_LIMIT_S);
    }
}

static void *pump_run(void *argument)
{
    struct pump *pump = argument;
    /* Relaxed: the flag orders nothing; the join does. */
    while (!__atomic_load_n(&pump->stopping, __ATOMIC_RELAXED)) {
        int ran = iocp_port_dispatch(pump->port, IOCP_WAIT_FOREVER);
        if (ran == IOCP_ECLOSED)
            break;
        if (ran < 0 && ran != IOCP_EWOKEN)
            net_fail(__FILE__, __LINE__, "iocp_port_dispatch: %s", iocp_error_name(ran));
    }
    latch_add(&pump->left, 1);
    return NULL;
}

void pump_start(struct pump *pump, struct iocp_port *port, uint32_t count)
{
    if (count > PUMP_THREADS_MAX)
        net_fail(__FILE__, __LINE__, "at most %d threads", PUMP_THREADS_MAX);
    memset(pump, 0, sizeof *pump);
    pump->port = port;
    latch_init(&pump->left);
    for (pump->count = 0; pump->count < count; pump->count++) {
        if (pthread_create(&pump->threads[pump->count], NULL, pump_run, pump) != 0)
            net_fail(__FILE__, __LINE__, "pthread_create failed");
    }
}

void pump_stop(struct pump *pump)
{
    uint64_t deadline_ns = net_deadline_ns(NET_WAIT_LIMIT_S * NANOSECONDS);
    uint32_t i;
    /* Relaxed: see pump_run. A wake reaches those that wait now, so it is repeated for one that
     * read the flag before and waits only after. */
    __atomic_store_n(&pump->stopping, 1, __ATOMIC_RELAXED);
    do {
        iocp_port_wake(pump->port);
        if (net_deadline_ns(0) > deadline_ns)
            net_fail(__FILE__, __LINE__, "the pump's threads do not leave");
    } while (!latch_reached(&pump->left, pump->count, 1));
    for (i = 0; i < pump->count; i++)
        pthread_join(pump->threads[i], NULL);
}
