/* Sockets, latches and pumps for the port and net suites: what is the same on all systems. See
 * net.h. */
#include "support/net_system.h"
#include "support/system.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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

/* `result` as it is, unless it is an error. */
static int net_check(int result, const char *file, int line, const char *what)
{
    if (result < 0)
        net_fail(file, line, "%s: %s", what, iocp_error_name(result));
    return result;
}

static uint64_t net_deadline_ns(uint64_t limit_ns)
{
    return iocp_now_ns() + limit_ns;
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
    int fd = net_system_open(IOCP_FAMILY_IPV6, 0);
    int bound;
    if (fd < 0)
        return 0;
    bound = net_system_bind(fd, &address) == 0;
    net_close(fd);
    return bound;
}

static struct iocp_address net_unix_name(const char *directory)
{
    static unsigned int made;
    char text[512];
    unsigned int number = __atomic_add_fetch(&made, 1, __ATOMIC_RELAXED);
    snprintf(text, sizeof text, "unix:%siocp-test-%u-%u", directory, system_process(), number);
    return net_address(text);
}

struct iocp_address net_unix_path(void)
{
    if (!net_have_unix()) {
        test_wine_differs("there are Unix sockets");
        SKIP("no Unix sockets here (Wine 8 has none)");
    }
    struct iocp_address address = net_unix_name(system_temporary());
    net_unix_remove(&address);
    return address;
}

struct iocp_address net_unix_abstract(void)
{
    if (!net_have_unix_abstract())
        SKIP("no Unix sockets with abstract names here (Windows and Wine 8 have none)");
    return net_unix_name("@");
}

void net_unix_remove(const struct iocp_address *address)
{
    const char *path = net_unix_file(address);
    if (path)
        system_path_remove(path);
}

struct iocp_address net_loopback(void)
{
    /* Linux numbers processes with 22 bits. */
    uint32_t process = system_process();
    char text[sizeof "127.255.255.255:0"];
    snprintf(text, sizeof text, "127.%u.%u.%u:0", 1 + (process >> 16 & 63), process >> 8 & 255,
             process & 255);
    return net_address(text);
}

struct iocp_address net_local_any(void)
{
    return net_have_unix_abstract() ? net_unix_abstract() : net_loopback();
}

/* Where to connect to reach a socket that is bound to `address`. */
static struct iocp_address net_reachable(const struct iocp_address *address)
{
    static const char *const any[2][2] = {{"0.0.0.0:0", "127.0.0.1:0"}, {"[::]:0", "[::1]:0"}};
    for (int i = 0; i < 2; i++) {
        struct iocp_address reachable = net_address(any[i][0]);
        iocp_address_set_port(&reachable, iocp_address_port(address));
        if (iocp_address_family(address) != iocp_address_family(&reachable) ||
            !iocp_address_equal(address, &reachable))
            continue;
        reachable = net_address(any[i][1]);
        iocp_address_set_port(&reachable, iocp_address_port(address));
        return reachable;
    }
    return *address;
}

/* ---- Sockets ---- */

/* With the limit. */
static int net_open(enum iocp_family family, int datagram)
{
    int fd = net_system_open(family, datagram);
    if (fd >= 0)
        net_limit(fd, NET_SOCKET_LIMIT_S * 1000);
    return fd;
}

int net_connect_socket(int fd, const struct iocp_address *address)
{
    struct iocp_address to = net_reachable(address);
    return net_system_connect(fd, &to);
}

int net_stream(enum iocp_family family)
{
    return net_check(net_open(family, 0), __FILE__, __LINE__, "socket");
}

int net_try_connect(const struct iocp_address *address)
{
    int fd = net_stream(iocp_address_family(address));
    int error = net_connect_socket(fd, address);
    if (error == 0)
        return fd;
    net_close(fd);
    return error;
}

int net_connect_at(const struct iocp_address *address, const char *file, int line)
{
    return net_check(net_try_connect(address), file, line, "connect");
}

struct iocp_address net_local_at(int fd, const char *file, int line)
{
    struct iocp_address address;
    net_check(net_system_name(fd, 0, &address), file, line, "getsockname");
    return address;
}

struct iocp_address net_peer_at(int fd, const char *file, int line)
{
    struct iocp_address address;
    net_check(net_system_name(fd, 1, &address), file, line, "getpeername");
    return address;
}

int net_bound_at(const struct iocp_address *address, struct iocp_address *out_address,
                 const char *file, int line)
{
    int fd = net_check(net_open(iocp_address_family(address), 0), file, line, "socket");
    net_check(net_system_bind(fd, address), file, line, "bind");
    if (out_address)
        *out_address = net_local_at(fd, file, line);
    return fd;
}

int net_listen_at(const struct iocp_address *address, struct iocp_address *out_address,
                  const char *file, int line)
{
    int fd = net_bound_at(address, out_address, file, line);
    net_check(net_system_listen(fd, 0), file, line, "listen");
    return fd;
}

int net_accept_at(int listening, const char *file, int line)
{
    int fd = net_check(net_system_accept(listening), file, line, "accept");
    net_limit(fd, NET_SOCKET_LIMIT_S * 1000);
    return fd;
}

int net_udp_at(struct iocp_address *out_address, const char *file, int line)
{
    /* Not net_loopback: under Wine 8 datagrams then come from another address, or never. */
    struct iocp_address address = net_address("127.0.0.1:0");
    int fd = net_check(net_open(IOCP_FAMILY_IPV4, 1), file, line, "socket");
    net_check(net_system_bind(fd, &address), file, line, "bind");
    if (out_address)
        *out_address = net_local_at(fd, file, line);
    return fd;
}

static void make_pair_at(const struct iocp_address *any, int pair[2], const char *file, int line)
{
    struct iocp_address address;
    int listening = net_listen_at(any, &address, file, line);
    pair[0] = net_connect_at(&address, file, line);
    pair[1] = net_accept_at(listening, file, line);
    net_close(listening);
}

void make_connected_pair_at(int pair[2], const char *file, int line)
{
    struct iocp_address any = net_loopback();
    make_pair_at(&any, pair, file, line);
}

void make_unix_pair_at(int pair[2], const char *file, int line)
{
    int error = net_system_unix_pair(pair);
    if (error == IOCP_ENOTSUP) {
        struct iocp_address path = net_unix_path();
        make_pair_at(&path, pair, file, line);
        net_unix_remove(&path);
        return;
    }
    net_check(error, file, line, "socketpair");
    net_limit(pair[0], NET_SOCKET_LIMIT_S * 1000);
    net_limit(pair[1], NET_SOCKET_LIMIT_S * 1000);
}

void make_local_pair_at(int pair[2], const char *file, int line)
{
    if (net_have_unix())
        make_unix_pair_at(pair, file, line);
    else
        make_connected_pair_at(pair, file, line);
}

void make_udp_pair_at(int pair[2], const char *file, int line)
{
    struct iocp_address addresses[2];
    int i;
    for (i = 0; i < 2; i++)
        pair[i] = net_udp_at(&addresses[i], file, line);
    for (i = 0; i < 2; i++)
        net_check(net_system_connect(pair[i], &addresses[1 - i]), file, line, "connect");
}

void net_deaf_open(struct net_deaf *deaf, const struct iocp_address *address)
{
    deaf->listening = net_bound(address, &deaf->address);
    net_system_set_deaf(deaf->listening);
    CHECK_EQ(net_system_listen(deaf->listening, 1), 0);
    for (int i = 0; i < NET_FILLERS; i++) {
        deaf->fillers[i] = net_stream(iocp_address_family(address));
        net_system_set_nonblocking(deaf->fillers[i], 1);
        net_system_connect(deaf->fillers[i], &deaf->address);
    }
}

void net_deaf_close(struct net_deaf *deaf)
{
    for (int i = 0; i < NET_FILLERS; i++)
        net_close(deaf->fillers[i]);
    net_close(deaf->listening);
}

size_t net_fill(int fd)
{
    static const char zeroes[65536];
    size_t size = 0;
    int64_t sent;
    int nonblocking = net_is_nonblocking(fd);
    net_system_set_nonblocking(fd, 1);
    while ((sent = net_send_some(fd, zeroes, sizeof zeroes)) > 0)
        size += (size_t)sent;
    CHECK_EQ(sent, IOCP_EAGAIN);
    net_system_set_nonblocking(fd, nonblocking);
    return size;
}

void send_all_at(int fd, const void *data, size_t size, const char *file, int line)
{
    const char *bytes = data;
    size_t sent = 0;
    while (sent < size) {
        int64_t count = net_send_some(fd, bytes + sent, size - sent);
        sent += (size_t)net_check((int)count, file, line, "send");
    }
}

void recv_exact_at(int fd, void *data, size_t size, const char *file, int line)
{
    char *bytes = data;
    size_t received = 0;
    while (received < size) {
        int64_t count = net_recv_some(fd, bytes + received, size - received);
        if (count == 0)
            net_fail(file, line, "end of stream after %zu of %zu bytes", received, size);
        received += (size_t)net_check((int)count, file, line, "recv");
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
    int64_t count = net_recv_some(fd, &byte, 1);
    net_check((int)count, file, line, "recv, where the end of the stream is expected");
    if (count > 0)
        net_fail(file, line, "a byte 0x%02x, where the end of the stream is expected",
                 (unsigned char)byte);
}

int net_recv_to_end(int fd)
{
    char bytes[4096];
    int64_t count;
    do
        count = net_recv_some(fd, bytes, sizeof bytes);
    while (count > 0);
    return (int)count;
}

void expect_reset_at(int fd, const char *file, int line)
{
    int error = net_recv_to_end(fd);
    /* There it is seen by a send alone, if the reset was there first. */
    if (error == 0 && test_wine_differs("RV-09: a receive after a reset fails"))
        error = (int)net_send_some(fd, "", 1);
    if (error != IOCP_ECONNRESET)
        net_fail(file, line, "%s, where a reset is expected",
                 error ? iocp_error_name(error) : "end of stream");
}

void expect_gone_at(int fd, const char *file, int line)
{
    int error = net_recv_to_end(fd);
    if (error != 0 && error != IOCP_ECONNRESET && error != IOCP_EPIPE)
        net_fail(file, line, "%s, where the end of the connection is expected",
                 iocp_error_name(error));
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
    int reached;
    pthread_mutex_lock(&latch->lock);
    while (latch->count < count) {
        if (!net_system_wait(&latch->changed, &latch->lock, deadline_ns))
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
