/* The n-th system call fails, for each call that the library makes, each n and each errno that says
 * something of its own, until a whole life of a service has fewer of them. See calls_linux.h for
 * how, and exchange.h for what a life is and what has to hold of it: nothing crashes, hangs or
 * leaks, what failed is said, and where another attempt can be made it is. */
#include "support/calls_linux.h"
#include "support/exchange.h"

#include <iocp/error.h>

#include <errno.h>
#include <stdio.h>

struct fault {
    enum calls_name name;
    const char *text;
    int os_errors[8]; /* up to the first 0 */
};

/* A call of the library's that could not be made says what the system said. There are two
 * exceptions: a backend that does not work, and a thread that could not be had. */
static void check_error(int error, int os_error)
{
    CHECK(error == iocp_error_from_os(os_error) || error == IOCP_ENOTSUP || error == IOCP_ENOMEM);
}

/* All n of one call and one errno. Returns how many calls a life makes. */
static uint64_t each_call_fails(enum calls_name name, int os_error, uint64_t *refused)
{
    uint64_t nth = 0;
    do {
        calls_fail(name, ++nth, os_error);
        int error = exchange_live();
        if (error < 0) {
            CHECK(calls_failed());
            check_error(error, os_error);
            ++*refused;
        }
    } while (calls_failed());
    calls_fail(CALLS_NONE, 0, 0);
    return nth - 1;
}

static void faults_run(const struct fault *fault)
{
    for (const int *os_error = fault->os_errors; *os_error; os_error++) {
        struct exchange_counts before = exchange_counts();
        uint64_t refused = 0;
        uint64_t calls = each_call_fails(fault->name, *os_error, &refused);
        struct exchange_counts after = exchange_counts();
        printf("%-18s %-10s %4llu times: %llu calls refused, %llu attempts, %llu sessions\n",
               fault->text, iocp_error_name(iocp_error_from_os(*os_error)),
               (unsigned long long)calls, (unsigned long long)refused,
               (unsigned long long)(after.attempts_failed - before.attempts_failed),
               (unsigned long long)(after.sessions_failed - before.sessions_failed));
        CHECK_GE(calls, 1);
        /* And without a fault. */
        CHECK_EQ(exchange_live(), 0);
    }
}

/* Each of them is made at least once in a life; on one backend, or on both. */
#define RUN(call, ...) faults_run(&(struct fault){CALLS_##call, #call, {__VA_ARGS__, 0}})

#define RUN_ON_URING(...) (calls_on_uring() ? RUN(__VA_ARGS__) : (void)0)
#define RUN_ON_EPOLL(...) (calls_on_uring() ? (void)0 : RUN(__VA_ARGS__))

TEST(calls_that_make_things)
{
    calls_watch();
    CHECK_EQ(exchange_live(), 0);
    RUN(SOCKET, EMFILE, ENFILE, ENOBUFS, ENOMEM, EACCES);
    RUN(EVENTFD2, EMFILE, ENFILE, ENOMEM);
    RUN(CLONE, EAGAIN);
    RUN_ON_EPOLL(EPOLL_CREATE1, EMFILE, ENFILE, ENOMEM);
    RUN_ON_URING(SOCKETPAIR, EMFILE, ENOMEM);
    RUN_ON_URING(URING_SETUP, EMFILE, ENFILE, ENOMEM, EPERM, ENOSYS);
    RUN_ON_URING(URING_REGISTER, ENOMEM, EINVAL);
    RUN_ON_URING(MMAP, ENOMEM, EAGAIN, EPERM);
    calls_pass();
}

TEST(calls_about_sockets)
{
    calls_watch();
    CHECK_EQ(exchange_live(), 0);
    RUN(BIND, EADDRINUSE, EACCES, ENOMEM);
    RUN(LISTEN, EADDRINUSE);
    RUN(SETSOCKOPT, ENOMEM, ENOBUFS);
    RUN(GETSOCKNAME, ENOBUFS);
    RUN(SHUTDOWN, ENOTCONN);
    calls_pass();
}

/* On io_uring these are made in the kernel, and are no system calls. */
TEST(calls_that_move_bytes)
{
    if (calls_on_uring())
        SKIP("io_uring moves bytes without these calls");
    calls_watch();
    CHECK_EQ(exchange_live(), 0);
    RUN(ACCEPT4, EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EINTR, EPERM);
    RUN(CONNECT, EADDRNOTAVAIL, ENETUNREACH, EPERM, ECONNREFUSED, ETIMEDOUT, EAGAIN);
    RUN(RECV, EINTR, ENOMEM, ENOBUFS, ECONNRESET, ETIMEDOUT);
    RUN(SEND, EINTR, ENOMEM, ENOBUFS, EPIPE, ECONNRESET);
    calls_pass();
}

/* One of the first calls belongs to the trial of the backend, which takes any error for a no. */
TEST(calls_that_wait)
{
    calls_watch();
    CHECK_EQ(exchange_live(), 0);
    RUN_ON_EPOLL(EPOLL_CTL, ENOMEM, ENOSPC);
    RUN_ON_EPOLL(EPOLL_WAIT, EINTR);
    RUN_ON_URING(URING_ENTER, EINTR, EAGAIN, EBUSY, EBADR);
    calls_pass();
}
