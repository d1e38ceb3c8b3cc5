/* System calls that fail, one at a time, in an unchanged program on an unchanged kernel.
 *
 * A seccomp filter hands chosen calls of the thread that asks for it, and of those it starts from
 * then on, to a supervisor: a thread of the test's own, started before. It counts them, lets them
 * go on, and answers one of them with an errno: that call was not made. Linux 5.5 or newer; where
 * filters cannot be set the test is skipped.
 *
 * A call may be answered only with what the kernel can say to it then, or the test is about a
 * system that does not exist: EAGAIN for a socket that epoll has just called readable is no fault
 * but a lie, and waiting for the next edge is right. So what cannot fail on a socket of one's own
 * is not in the list: fcntl, getsockopt, and getpeername when it is connected. */
#ifndef IOCP_TESTS_SUPPORT_CALLS_LINUX_H
#define IOCP_TESTS_SUPPORT_CALLS_LINUX_H

#include <stdint.h>

/* The calls that are watched. Of mmap: mappings of files, as a ring is, and memory of less than a
 * page, which no allocator asks for, and the buffers of a lane do when there are few. */
enum calls_name {
    CALLS_NONE = 0,
    CALLS_ACCEPT4,
    CALLS_BIND,
    CALLS_CLONE, /* clone and clone3: a thread */
    CALLS_CONNECT,
    CALLS_EPOLL_CREATE1,
    CALLS_EPOLL_CTL,
    CALLS_EPOLL_WAIT, /* epoll_wait, epoll_pwait and epoll_pwait2 */
    CALLS_EVENTFD2,
    CALLS_GETSOCKNAME,
    CALLS_LISTEN,
    CALLS_MEMBARRIER,
    CALLS_MMAP,
    CALLS_OPENAT,
    CALLS_POLL, /* poll and ppoll */
    CALLS_PREAD64,
    CALLS_PWRITE64,
    CALLS_RECV, /* recvfrom and recvmsg */
    CALLS_SEND, /* sendto and sendmsg */
    CALLS_SETSOCKOPT,
    CALLS_SHUTDOWN,
    CALLS_SOCKET,
    CALLS_SOCKETPAIR,
    CALLS_URING_ENTER,
    CALLS_URING_REGISTER,
    CALLS_URING_SETUP,
    CALLS_NAMES /* their number */
};

/* Starts the supervisor and sets the filter, for the rest of this process. Call it before the first
 * thread of the library. */
void calls_watch(void);
/* The `nth` call from now on (1: the next) fails once. 0: none does. */
void calls_fail(enum calls_name name, uint64_t nth, int os_error);
/* The same among the calls of other threads than this one: for what the test does as well. */
void calls_fail_elsewhere(enum calls_name name, uint64_t nth, int os_error);
/* Calls since then, and how many of these have failed: 0 or 1. */
uint64_t calls_made(void);
int calls_failed(void);
/* Not 0 when the backend of this run is io_uring: it makes other calls than epoll. */
int calls_on_uring(void);
/* Ends the test as passed, at once: LeakSanitizer stops all threads at the end of a process, the
 * supervisor as well, and would wait for its answer. */
__attribute__((noreturn)) void calls_pass(void);

#endif
