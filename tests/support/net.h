/* What the port and net suites share: plain blocking sockets as the other side of a connection, a
 * latch to wait for events with, and helpers that dispatch a port until something holds.
 *
 * Every helper that waits is bounded. When its time is over, or the system refuses a call, the test
 * fails: the place of the call is printed and the process ends with 1. No helper returns an error
 * but those that say so.
 * All traffic stays on the loopback and Unix sockets. */
#ifndef IOCP_TESTS_SUPPORT_NET_H
#define IOCP_TESTS_SUPPORT_NET_H

#include "support/check.h"

#include <iocp/address.h>
#include <iocp/error.h>
#include <iocp/port.h>

#include <pthread.h>

#define NET_SOCKET_LIMIT_S 10 /* one receive or send of a client socket */
#define NET_WAIT_LIMIT_S 30   /* one wait for a latch or a condition */

/* Fails the test with the place of the caller, as FAIL of check.h does with its own. */
CHECK_PRINTF(3, 4)
__attribute__((noreturn, cold)) void net_fail(const char *file, int line, const char *format, ...);

/* ---- Addresses ---- */

/* Parses; a text that is none fails the test. */
struct iocp_address net_address(const char *text);
/* Port 0 of an address 127.x.y.z that no other process of the tests binds: a port of it that was
 * closed is taken by nobody else, and no stranger connects to it. Who connects from an unbound
 * socket does so from 127.0.0.1. */
struct iocp_address net_loopback(void);
/* Not 0 when ::1 can be bound here. */
int net_have_ipv6(void);
/* Not 0 when Unix streams can be made here, and when they can have abstract names. */
int net_have_unix(void);
int net_have_unix_abstract(void);
/* A Unix address that nothing else uses: a path in the directory of temporary files, not created,
 * or an abstract name. They skip the test where there are none. */
struct iocp_address net_unix_path(void);
struct iocp_address net_unix_abstract(void);
/* The path of a Unix address that has one, else NULL. It lives as long as the address. */
const char *net_unix_file(const struct iocp_address *address);
/* Removes the file of a Unix address; nothing for the others. */
void net_unix_remove(const struct iocp_address *address);
/* An address for connections within the machine: an abstract name, or net_loopback where there
 * are none. */
struct iocp_address net_local_any(void);

/* ---- Sockets: blocking, with a limit of NET_SOCKET_LIMIT_S for each call. A socket is an int on
 * every system, IOCP_HANDLE_INVALID none, and an error below 0 an iocp_error. */

void net_close(int fd);

/* A stream that is connected to `address`, of any family; "*" connects to the loopback. */
#define net_connect(address) net_connect_at((address), __FILE__, __LINE__)
/* The same, but a refusal is returned: the socket, or an error. */
int net_try_connect(const struct iocp_address *address);
/* The same in two steps, for tests that have no descriptor to spare when they connect: a socket
 * that is not connected, and connecting it (0 or an error). */
int net_stream(enum iocp_family family);
int net_connect_socket(int fd, const struct iocp_address *address);
/* A stream socket that is bound; it does not listen. `*out_address` (may be NULL) gets the port
 * that the system chose. */
#define net_bound(address, out_address) net_bound_at((address), (out_address), __FILE__, __LINE__)
/* The same, listening. */
#define net_listen(address, out_address) net_listen_at((address), (out_address), __FILE__, __LINE__)
/* Accepts one from it. */
#define net_accept(listening) net_accept_at((listening), __FILE__, __LINE__)
/* A UDP socket on 127.0.0.1; `*out_address` (may be NULL) gets where it is bound. */
#define net_udp(out_address) net_udp_at((out_address), __FILE__, __LINE__)
/* Another descriptor of the same socket. */
int net_copy(int fd);

/* Two ends of one connection over TCP loopback, of one Unix stream (which skips the test where
 * there are none), of one or the other, whatever the system has, or two UDP sockets
 * that are connected to each other. pair[0] is the one that connected. */
#define make_connected_pair(pair) make_connected_pair_at((pair), __FILE__, __LINE__)
#define make_unix_pair(pair) make_unix_pair_at((pair), __FILE__, __LINE__)
#define make_local_pair(pair) make_local_pair_at((pair), __FILE__, __LINE__)
#define make_udp_pair(pair) make_udp_pair_at((pair), __FILE__, __LINE__)

/* A listener that accepts nothing and whose backlog is full: a connect to it gets no answer for
 * seconds; over a Unix socket it is refused at once. */
#define NET_FILLERS 8

struct net_deaf {
    struct iocp_address address;
    int listening;
    int fillers[NET_FILLERS];
};

void net_deaf_open(struct net_deaf *deaf, const struct iocp_address *address);
void net_deaf_close(struct net_deaf *deaf);

/* Where a socket is bound, and where it is connected to. */
#define net_local(socket) net_local_at((socket), __FILE__, __LINE__)
#define net_peer(socket) net_peer_at((socket), __FILE__, __LINE__)

/* Sends all of it. */
#define send_all(socket, data, size) send_all_at((socket), (data), (size), __FILE__, __LINE__)
/* Receives exactly `size` bytes; an end or an error before that fails the test. */
#define recv_exact(socket, data, size) recv_exact_at((socket), (data), (size), __FILE__, __LINE__)
/* Receives exactly the bytes of `data`, compared. */
#define expect_bytes(socket, data, size)                                                           \
    expect_bytes_at((socket), (data), (size), __FILE__, __LINE__)
/* The next thing to read is the end of the stream. */
#define expect_eof(socket) expect_eof_at((socket), __FILE__, __LINE__)
/* The connection was reset: reading gives ECONNRESET, bytes before it are thrown away. */
#define expect_reset(socket) expect_reset_at((socket), __FILE__, __LINE__)
/* The connection is gone: the end of the stream or a reset, bytes before it are thrown away. */
#define expect_gone(socket) expect_gone_at((socket), __FILE__, __LINE__)

/* One call of the system: the bytes that it took or gave, 0 at the end of a stream, or an error.
 * With `now` it does not wait, but is IOCP_EAGAIN. */
int64_t net_send_some(int fd, const void *data, size_t size);
int64_t net_recv_some(int fd, void *data, size_t size);
int64_t net_recv_now(int fd, void *data, size_t size);
/* One datagram. */
int64_t net_send_to(int fd, const void *data, size_t size, const struct iocp_address *address);
/* Sends zeroes until the socket takes no more, and returns how many. */
size_t net_fill(int fd);
/* Receives and throws away until the stream ends, in whatever way: 0, or the error. */
int net_recv_to_end(int fd);

/* Ends the sending side. */
void net_shutdown_send(int fd);
/* Closes with a reset (SO_LINGER with 0 seconds). */
void net_reset(int fd);
/* Makes the socket's buffers small, so that a sender fills them soon. Before connecting or at once
 * after. */
void net_small_buffers(int fd);
/* Bounds what has arrived and was not received. */
void net_receive_buffer(int fd, int size);
/* Sends each piece at once, however small (TCP). */
void net_no_delay(int fd);
/* Another limit for each call of the socket than NET_SOCKET_LIMIT_S. */
void net_limit(int fd, uint32_t limit_ms);
/* Not 0 when calls on the socket do not wait, as far as the system tells. */
int net_is_nonblocking(int fd);

/* The functions behind the macros. */
int net_connect_at(const struct iocp_address *address, const char *file, int line);
int net_bound_at(const struct iocp_address *address, struct iocp_address *out_address,
                 const char *file, int line);
int net_listen_at(const struct iocp_address *address, struct iocp_address *out_address,
                  const char *file, int line);
int net_accept_at(int listening, const char *file, int line);
int net_udp_at(struct iocp_address *out_address, const char *file, int line);
void make_connected_pair_at(int pair[2], const char *file, int line);
void make_unix_pair_at(int pair[2], const char *file, int line);
void make_local_pair_at(int pair[2], const char *file, int line);
void make_udp_pair_at(int pair[2], const char *file, int line);
struct iocp_address net_local_at(int fd, const char *file, int line);
struct iocp_address net_peer_at(int fd, const char *file, int line);
void send_all_at(int fd, const void *data, size_t size, const char *file, int line);
void recv_exact_at(int fd, void *data, size_t size, const char *file, int line);
void expect_bytes_at(int fd, const void *data, size_t size, const char *file, int line);
void expect_eof_at(int fd, const char *file, int line);
void expect_reset_at(int fd, const char *file, int line);
void expect_gone_at(int fd, const char *file, int line);

/* ---- Latch: a count that only grows, and threads that wait for it. What tests use where others
 * sleep. Handlers may add: it never blocks for long. */

struct latch {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t count;
};

#define LATCH_INIT                                                                                 \
    {                                                                                              \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0                                     \
    }

void latch_init(struct latch *latch);
void latch_add(struct latch *latch, uint64_t count);
uint64_t latch_count(struct latch *latch);
/* Waits until the count is `count` or more, for NET_WAIT_LIMIT_S at most: then the test fails. */
#define latch_wait_for(latch, count) latch_wait_at((latch), (count), __FILE__, __LINE__)
/* Waits `limit_ms` at most. Returns not 0 when the count was reached. For what must not happen. */
int latch_reached(struct latch *latch, uint64_t count, uint32_t limit_ms);
void latch_wait_at(struct latch *latch, uint64_t count, const char *file, int line);

/* ---- Pumps: the calling thread, or threads of the test, dispatch a port. */

/* Dispatches on the calling thread until `condition(context)` is not 0. It is asked before the
 * first dispatch and after each one, at least every 50 ms, for NET_WAIT_LIMIT_S at most. */
#define pump_until(port, condition, context)                                                       \
    pump_until_at((port), (condition), (context), __FILE__, __LINE__)
/* The same until the count of a latch is reached. */
#define pump_until_latch(port, latch, count)                                                       \
    pump_until_latch_at((port), (latch), (count), __FILE__, __LINE__)
/* Dispatches what is there now: until a dispatch without waiting finds nothing. */
#define pump_drain(port) pump_drain_at((port), __FILE__, __LINE__)

void pump_until_at(struct iocp_port *port, int (*condition)(void *context), void *context,
                   const char *file, int line);
void pump_until_latch_at(struct iocp_port *port, struct latch *latch, uint64_t count,
                         const char *file, int line);
void pump_drain_at(struct iocp_port *port, const char *file, int line);

#define PUMP_THREADS_MAX 16

struct pump {
    struct iocp_port *port;
    pthread_t threads[PUMP_THREADS_MAX];
    uint32_t count;
    int stopping;
    struct latch left;
};

/* Starts `count` threads that dispatch the port until `pump_stop` or the port's close. */
void pump_start(struct pump *pump, struct iocp_port *port, uint32_t count);
/* Makes them leave and joins them. The port stays open. */
void pump_stop(struct pump *pump);

#endif
