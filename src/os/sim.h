/* A simulated system for tests: threads of which exactly one runs at a time, virtual time, a
 * network of simulated connections, and faults. One seed decides everything that a system decides,
 * so that a run can be had again.
 *
 * It stands in the place of posix*.c: the functions of os/os.h are made of it (sim.c: threads,
 * parking, the clock; sim_socket.c: sockets; below it sim_net.c: connections, sim_datagram.c,
 * sim_file.c). The backend on it is backend/sim*.c. No part of the library, only of the tests.
 *
 * A thread gives way where it blocks, where it calls iocp__sim_yield, and, when `preempt` says so,
 * at locks and atomics (sim_atomic.h). Code of the simulation itself never gives way, so that it
 * needs no locks; it must not call what does while it changes something. */
#ifndef IOCP_OS_SIM_H
#define IOCP_OS_SIM_H

#include "os/os.h"

/* Independent sources of chance: what one of them gives does not depend on how often the others are
 * asked, so that a run changes little when a part of it is left out. */
enum iocp__sim_stream {
    IOCP__SIM_SCHEDULE,
    IOCP__SIM_NETWORK,
    IOCP__SIM_BACKEND,
    IOCP__SIM_LIBRARY, /* iocp__random */
    IOCP__SIM_MODEL,   /* the test's */
    IOCP__SIM_FAULT,   /* and one for each fault behind it */
};

enum iocp__sim_fault {
    IOCP__SIM_SHORT,    /* a receive or a send moves less than it could */
    IOCP__SIM_LATE,     /* an operation or its answer is delayed */
    IOCP__SIM_CANCEL,   /* a cancel comes late, or loses */
    IOCP__SIM_SPURIOUS, /* a wait ends with nothing, a fetch takes less than there is */
    IOCP__SIM_REFUSE,   /* an operation is refused: ENOMEM, ENOBUFS */
    IOCP__SIM_RESET,    /* a connection is reset */
    IOCP__SIM_ACCEPT,   /* an accept fails: EMFILE, ENOBUFS, ENOMEM, ECONNABORTED */
    IOCP__SIM_CONNECT,  /* a connect fails or is never answered */
    IOCP__SIM_MEMORY,   /* an allocation fails */
    IOCP__SIM_HANDLES,  /* a socket cannot be made: EMFILE */
    IOCP__SIM_THREADS,  /* a thread cannot be made: EAGAIN */
    IOCP__SIM_FAULTS
};

struct iocp__sim_config {
    uint64_t seed;
    /* While there are some, one of these decides each choice in place of the seed, as far as a byte
     * can: its upper eight bits. May be NULL. */
    const uint8_t *bytes;
    size_t byte_count;
    uint32_t preempt;                 /* locks and atomics between two preemptions, on average; 0:
                                         threads give way only where they block */
    uint32_t fault[IOCP__SIM_FAULTS]; /* each one's chance in 10,000 */
    uint32_t handles_max;             /* while faults are on */
    uint32_t latency_max_ns;
    uint32_t window_max; /* bytes that a connection holds in one direction, at most */
    /* Bytes that a socket has room for, until an option says another number: a connection holds
     * what one end has for sending and the other for receiving. 0: windows are of chance, up to
     * window_max, and options change nothing. */
    uint32_t send_size;
    uint32_t receive_size;
    int handles_again;       /* the lowest free handle is the next; else none is used twice */
    uint32_t idle_looks_max; /* how often a thread may look for something to do in vain, without
                                sleeping; 0: 1000 */
    uint64_t time_max_ns;
    uint64_t steps_max;
    int trace;
    /* Nothing can run before `until_ns`: what has to hold then. May be NULL. */
    void (*quiet)(uint64_t until_ns);
};

struct iocp__sim_counts {
    uint64_t steps; /* decisions which thread goes on */
    uint64_t switches;
    uint64_t time_ns;
    uint64_t faults[IOCP__SIM_FAULTS];
    uint64_t connections;
    uint64_t bytes; /* taken out of connections */
};

/* Runs `body` on a simulated thread until it returns; all threads that it started have to be gone
 * then, and all handles closed. */
void iocp__sim_run(const struct iocp__sim_config *config, void (*body)(void));
/* Of the run that goes on, or went on last. */
const struct iocp__sim_counts *iocp__sim_counts(void);

/* Ends the program: the run broke a rule. */
#ifdef _WIN32
#define IOCP__SIM_PRINTF format(gnu_printf, 1, 2) /* the build takes no other */
#else
#define IOCP__SIM_PRINTF format(printf, 1, 2)
#endif

__attribute__((noreturn, IOCP__SIM_PRINTF)) void iocp__sim_fail(const char *format, ...);
/* A line of the trace, when there is one. */
__attribute__((IOCP__SIM_PRINTF)) void iocp__sim_trace(const char *format, ...);

/* ---- Chance. */

uint64_t iocp__sim_random(uint32_t stream);
/* 0 to count - 1; 0 for count 0. */
uint32_t iocp__sim_below(uint32_t stream, uint32_t count);
/* Whether this fault happens here; counted. Not while faults are off. */
int iocp__sim_chance(enum iocp__sim_fault fault);
void iocp__sim_faults_on(int on);
int iocp__sim_faults_are_on(void);

/* ---- Memory of the simulation and of its test: not counted, zeroed, never NULL, and hidden from
 * TSan. */
void *iocp__sim_allocate(size_t size);
void iocp__sim_release(void *memory);

/* ---- Time and threads. */

uint64_t iocp__sim_now_ns(void);
/* Not 0 on a thread of a run. */
int iocp__sim_inside(void);
/* Lets another thread go on, or not. */
void iocp__sim_yield(void);
/* The calling thread sleeps in the system, or computes, while time passes and others run. */
void iocp__sim_sleep(uint64_t ns);
void iocp__sim_compute(uint64_t ns);
/* Blocks until `wake_ns(context)`, asked again after each step, or `deadline_ns` is not after now.
 */
void iocp__sim_block(uint64_t (*wake_ns)(void *context), void *context, uint64_t deadline_ns);
/* 0 for the first thread of the run. */
uint32_t iocp__sim_thread_index(void);
/* The thread looked for something to do, in vain or not. Fails when it did so in vain too often,
 * since it last found something or computed. */
void iocp__sim_looked(int idle);
/* Since when the thread sleeps; -1 when it does not. */
int64_t iocp__sim_thread_since(uint32_t index);
/* The index of a thread that has not ended and has this name; UINT32_MAX when none has. */
uint32_t iocp__sim_thread_named(const char *name);

/* Runs `fire(context, value)` at a time, between the steps of threads. */
void iocp__sim_at(uint64_t time_ns, void (*fire)(void *context, uint64_t value), void *context,
                  uint64_t value);

/* What a kernel that lets N threads run counts: those that it let go and that do not block. */
struct iocp__sim_gate {
    uint32_t running;
};
/* The calling thread was let go by the gate, or comes back to it. */
void iocp__sim_gate_enter(struct iocp__sim_gate *gate);
void iocp__sim_gate_leave(void);
void iocp__sim_gate_forget(struct iocp__sim_gate *gate);

/* ---- Connections. What fails gives an iocp_error; IOCP_EAGAIN: not now. */

struct iocp__sim_pipe {
    unsigned char *ring;
    uint32_t room; /* of the ring: it grows up to the window */
    uint32_t window;
    uint64_t written;
    uint64_t visible; /* of these, there for the reader */
    uint64_t read;
    int fin_sent;
    int fin_visible;
    int reset; /* the reader is told so */
};

struct iocp__sim_connection {
    struct iocp__sim_pipe pipes[2]; /* [i] is written by end i */
    iocp_handle handles[2];         /* [0] connected, [1] was accepted; INVALID: not yet */
    int closed[2];
    int aborted[2];                            /* this end was closed with a reset */
    int reset;                                 /* bytes may have been lost: some end was reset */
    struct iocp_address names[2];              /* where each end is; no address: it has no name */
    struct iocp__sim_connection *backlog_next; /* those that wait with it to be accepted */
    struct iocp__sim_connection *next;
};

/* The connection of a handle and which end it is; NULL. */
struct iocp__sim_connection *iocp__sim_connection(iocp_handle handle, int *out_end);
/* All of the run, the newest first. */
struct iocp__sim_connection *iocp__sim_connections(void);
/* Connections that wait to be accepted; -1: no listener has this port. */
int iocp__sim_backlog(uint16_t port);

/* `changed(watcher, handle)` is called when an operation may get further. NULL ends that. */
void iocp__sim_watch(iocp_handle handle, void (*changed)(void *watcher, iocp_handle handle),
                     void *watcher);
/* Binds the handle to a port for ever; IOCP_EBUSY. */
int iocp__sim_bind(iocp_handle handle);

/* Starts a connect; `connected` says how it went: 0, IOCP_EAGAIN or an error. */
int iocp__sim_connect(iocp_handle handle, const struct iocp_address *address);
int iocp__sim_connected(iocp_handle handle);
int iocp__sim_accept(iocp_handle handle, iocp_handle *out_handle);
/* Connects to this listener are not answered from now on. */
void iocp__sim_deafen(iocp_handle handle);
/* Two connected handles without names or a listener: a pair of Unix streams, or a pipe. */
void iocp__sim_pair(iocp_handle out_handles[2]);
/* Not 0 when a receive, or an accept, would give something, the end or an error; and when a send
 * would. */
int iocp__sim_readable(iocp_handle handle);
int iocp__sim_writable(iocp_handle handle);
/* Not 0 when the connection is broken, or both its directions have ended. */
int iocp__sim_hung_up(iocp_handle handle);
/* Bytes, IOCP_EEOF, IOCP_EAGAIN, IOCP_ECONNRESET. */
int64_t iocp__sim_recv(iocp_handle handle, void *data, size_t size);
/* Bytes taken, IOCP_EAGAIN, IOCP_EPIPE, IOCP_ECONNRESET. */
int64_t iocp__sim_send(iocp_handle handle, const void *data, size_t size);
/* Both ends see a reset, now or soon. */
void iocp__sim_reset(iocp_handle handle);

/* ---- Datagrams: never lost, and in the order of sending. */

int iocp__sim_is_datagram(iocp_handle handle);
/* `address` NULL: to where the socket is connected. Bytes, IOCP_EMSGSIZE, IOCP_ENOTCONN. */
int64_t iocp__sim_send_to(iocp_handle handle, const void *data, size_t size,
                          const struct iocp_address *address);
/* The size of the datagram, of which `size` bytes are written; IOCP_EAGAIN. `out_address` may be
 * NULL. */
int64_t iocp__sim_recv_from(iocp_handle handle, void *data, size_t size,
                            struct iocp_address *out_address);

/* ---- Files in memory, without names; several handles may be of one. */

iocp_handle iocp__sim_file(void);
/* Another handle of the same file. */
iocp_handle iocp__sim_file_again(iocp_handle handle, int read_only);
/* A handle that is none of a file's, and that no port of completions takes: IOCP_EBADHANDLE. */
iocp_handle iocp__sim_no_file(void);
/* Bytes; IOCP_EEOF at the end, IOCP_EBADHANDLE where it is open for reading alone. */
int64_t iocp__sim_file_read(iocp_handle handle, void *data, size_t size, uint64_t offset);
int64_t iocp__sim_file_write(iocp_handle handle, const void *data, size_t size, uint64_t offset);

/* ---- The names of Unix sockets, and whatever else has such a name. */

int iocp__sim_path_exists(const char *path);
/* An ordinary file. IOCP_EEXIST. */
int iocp__sim_path_make(const char *path);
uint32_t iocp__sim_path_mode(const char *path);

/* ---- Handles. */

int iocp__sim_is_open(iocp_handle handle);
/* How calls of a test on the handle are to wait; what the library makes or prepares does not. */
struct iocp__sim_manner {
    int nonblocking;
    uint32_t limit_ms; /* 0: none */
};
struct iocp__sim_manner *iocp__sim_manner(iocp_handle handle);
/* Handles, and what else takes the place of one. */
uint32_t iocp__sim_handles_held(void);
/* A lane came (1) or went (-1), which takes the place of a handle. */
void iocp__sim_hold(int count);
/* No more than now and `spare`; UINT32_MAX: as many as there may be. */
void iocp__sim_limit_handles(uint32_t spare);
/* Not 0 when the limit is reached. */
int iocp__sim_handles_are_out(void);
/* From here on there is no IPv6. */
void iocp__sim_deny_ipv6(void);

/* Between sim.c and sim_net.c. */
void iocp__sim_net_begin(const struct iocp__sim_config *config);
void iocp__sim_net_end(void); /* fails when handles are open */
void iocp__sim_net_free(void);
void iocp__sim_count_connection(void);
void iocp__sim_count_bytes(uint64_t size);

/* The system's code of an error, in this system: what iocp_error_from_os turns back. */
static inline int32_t iocp__sim_os_error(int64_t error)
{
    return (int32_t)(1000 - error);
}

#endif
