/* What the library needs of a system besides its completion interface: locks, parking, threads, the
 * clock, sockets. One header, three files per system (posix*.c and win32*.c), chosen by the build.
 *
 * Functions that fail return a negative iocp_error and, where one is asked for, the system's code.
 * None of them logs or exits. */
#ifndef IOCP_OS_H
#define IOCP_OS_H

#include <iocp/abi.h>
#include <iocp/address.h>
#include <iocp/error.h>

/* ---- Locks: zeroed memory is an unlocked lock; no destroy; never held across a system call of
 * ours or a handler. A futex word on Linux, an SRWLOCK on Windows. Fair enough: a waiter sleeps
 * after a short spin. TSan is told. The memory may go when every release has returned: an SRWLOCK
 * looks at it once more after it let others in. */
struct iocp__lock {
#ifdef _WIN32
    uintptr_t word;
#else
    uint32_t word;
#endif
};

void iocp__lock_acquire(struct iocp__lock *lock);
/* Not 0 when it was free and is the caller's now. */
int iocp__lock_try(struct iocp__lock *lock);
void iocp__lock_release(struct iocp__lock *lock);

/* ---- Parking: one thread waits, any other lets it go. Zeroed memory is ready to use. A release
 * that comes before the wait is kept (one of them). The memory may go when the wait has returned.
 */
struct iocp__parker {
    uint32_t word;
};

/* Waits for a release until `deadline_ns` (UINT64_MAX: for ever). 0 = released, IOCP_ETIMEDOUT. */
int iocp__parker_wait(struct iocp__parker *parker, uint64_t deadline_ns);
void iocp__parker_release(struct iocp__parker *parker);

/* ---- Clock: monotonic nanoseconds. */
uint64_t iocp__os_now_ns(void);

/* ---- Threads. */
struct iocp__thread {
    uintptr_t id; /* pthread_t or HANDLE */
};

/* Starts a thread with all signals blocked that `run`s. `name`, UTF-8 and copied, is cut to what
 * the system shows. Errors: IOCP_EAGAIN, IOCP_ENOMEM. */
int iocp__thread_start(struct iocp__thread *thread, const char *name, void (*run)(void *context),
                       void *context);
void iocp__thread_join(struct iocp__thread *thread);

/* A thread as seen by another: what the watch asks about. Filled in by the thread itself; valid
 * until it exits. */
struct iocp__thread_view {
    int32_t system_id; /* gettid, GetCurrentThreadId */
    int32_t cpu_clock; /* clockid_t of its processor time; 0 on Windows */
};

void iocp__thread_view_self(struct iocp__thread_view *view);
/* Processor time that the thread has used, in nanoseconds; 0 when it is gone. On Windows it grows
 * in steps of the scheduler's tick, 15.6 ms as a rule. */
uint64_t iocp__thread_cpu_ns(const struct iocp__thread_view *view);
/* 1: it sleeps in the kernel (states S and D); 0: it runs or could run; -1: cannot be told, which
 * is the only answer on Windows. */
int iocp__thread_asleep(const struct iocp__thread_view *view);

/* Runs `at_exit(value)` on the calling thread when it exits, if value is not NULL then, but not at
 * the end of the process. One slot per thread, shared by the whole library: core/worker.c owns it.
 * 0, or IOCP_ENOMEM when the system has no slot (never when one was set before on this thread). */
int iocp__thread_local_set(void *value, void (*at_exit)(void *value));

/* Interrupts every thread of the process that runs in user mode, so that it enters the kernel for a
 * moment; costs 9 µs while one other thread computes (Linux 6.18, 2 CPUs, median). `prepare`, once
 * before, may take milliseconds. Where the system has no such thing both do nothing. */
void iocp__threads_interrupt_prepare(void);
void iocp__threads_interrupt(void);

/* CPUs that this process may use (affinity respected), at least 1. */
uint32_t iocp__cpu_count(void);

/* A random 64-bit value: for seeds and jitter, not for secrets. */
uint64_t iocp__random(void);

/* ---- Sockets and files. Sockets are made non-blocking, close-on-exec (on Windows: not inherited,
 * and overlapped) and deaf to SIGPIPE by how they are used. An IPv6 socket speaks to IPv4 as well
 * until IOCP__OPTION_IPV6_ONLY is set, unless the administrator of a Linux has decided otherwise.
 * `out_os_error` may be NULL. */
#define IOCP__SOCKET_STREAM 1
#define IOCP__SOCKET_DATAGRAM 2

int iocp__socket_open(enum iocp_family family, int type, iocp_handle *out_handle,
                      int32_t *out_os_error);
/* Closes a socket or file. */
void iocp__handle_close(iocp_handle handle);
/* Non-blocking and close-on-exec. IOCP_EBADHANDLE when it is none. */
int iocp__handle_prepare(iocp_handle handle);
/* Not 0 for a regular file or block device: its reads cannot be polled for. */
int iocp__handle_is_file(iocp_handle handle);

int iocp__socket_bind(iocp_handle handle, const struct iocp_address *address,
                      int32_t *out_os_error);
/* backlog 0: the system's maximum. */
int iocp__socket_listen(iocp_handle handle, uint32_t backlog, int32_t *out_os_error);
int iocp__socket_local(iocp_handle handle, struct iocp_address *out_address);
int iocp__socket_peer(iocp_handle handle, struct iocp_address *out_address);
/* Ends the sending side. */
int iocp__socket_shutdown_send(iocp_handle handle, int32_t *out_os_error);
/* The pending error of the socket (SO_ERROR) as the system's code, 0 for none; it is cleared. */
int32_t iocp__socket_pending_error(iocp_handle handle);

enum iocp__socket_option {
    IOCP__OPTION_NODELAY,
    IOCP__OPTION_KEEPALIVE_S, /* 0 off, else idle seconds */
    IOCP__OPTION_SEND_BUFFER,
    IOCP__OPTION_RECEIVE_BUFFER,
    IOCP__OPTION_REUSE_ADDRESS, /* Windows: SO_EXCLUSIVEADDRUSE instead */
    IOCP__OPTION_REUSE_PORT,    /* Windows has none: IOCP_ENOTSUP for all but 0 */
    IOCP__OPTION_IPV6_ONLY,
    IOCP__OPTION_RESET_ON_CLOSE /* SO_LINGER with 0 seconds */
};

/* Options that the family lacks succeed without effect. */
int iocp__socket_set(iocp_handle handle, enum iocp__socket_option option, int value);
/* Not 0 where a connection begins with the options of the socket that accepted it (TCP on Linux:
 * they are copied with the socket, NODELAY, keepalive and the sizes of buffers among them). */
int iocp__accepted_has_options(enum iocp_family family);

/* Unix sockets: sets the permissions of a bound path (Windows: IOCP_ENOTSUP); removes a path. Paths
 * are UTF-8 on Windows. */
int iocp__path_set_mode(const char *path, uint32_t mode);
void iocp__path_remove(const char *path);
/* Not 0 when connecting to that Unix address is refused: nobody listens there any more. Blocks no
 * longer than a non-blocking connect (Windows: than 100 ms, should the answer not come at once). */
int iocp__unix_is_stale(const struct iocp_address *address);

#endif
