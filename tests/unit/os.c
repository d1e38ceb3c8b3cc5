/* What the library takes from the system: the clock, processors, chance, errors. Locks and threads
 * are in os_thread.c, sockets in os_socket.c. */
#include "os/os.h"
#include "support/check.h"

#ifdef _WIN32
#include <winsock2.h>

#include <windows.h>
#else
#include <errno.h>
#include <sched.h>
#endif

/* ---- Clock, processors, chance. */

TEST(clock_never_goes_back)
{
    uint64_t last = iocp__os_now_ns();
    CHECK_GT(last, 0);
    for (int i = 0; i < 10000; i++) {
        uint64_t now = iocp__os_now_ns();
        CHECK_GE(now, last);
        last = now;
    }
}

/* Leaves this process the first of its processors. Returns how many it had. */
static uint32_t keep_one_cpu(void)
{
#ifdef _WIN32
    DWORD_PTR before, all;
    uint32_t count = 0;
    CHECK(GetProcessAffinityMask(GetCurrentProcess(), &before, &all));
    CHECK(SetProcessAffinityMask(GetCurrentProcess(), before & (~before + 1)));
    for (; before; before &= before - 1)
        count++;
    return count;
#else
    cpu_set_t before, one;
    int cpu = 0;
    CHECK_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
    while (!CPU_ISSET(cpu, &before))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    return (uint32_t)CPU_COUNT(&before);
#endif
}

TEST(cpu_count_respects_the_affinity)
{
    uint32_t before = iocp__cpu_count();
    CHECK_EQ(before, keep_one_cpu());
    CHECK_EQ(iocp__cpu_count(), 1);
}

TEST(random_values_differ)
{
    uint64_t seen[100];
    for (int i = 0; i < 100; i++) {
        seen[i] = iocp__random();
        for (int j = 0; j < i; j++)
            CHECK(seen[i] != seen[j]);
    }
}

/* ---- Errors. */

static const struct {
    int code;
    int error;
} counterparts[] = {
    {0, IOCP_OK},
#ifdef _WIN32
    /* Winsock's, then those of GetLastError: one cause gives the same error in both. */
    {WSAEINTR, IOCP_ECANCELED},
    {WSAEBADF, IOCP_EBADHANDLE},
    {WSAEACCES, IOCP_EPERM},
    {WSAEFAULT, IOCP_EFAULT},
    {WSAEINVAL, IOCP_EINVAL},
    {WSAEMFILE, IOCP_EMFILE},
    {WSAEWOULDBLOCK, IOCP_EAGAIN},
    {WSAEALREADY, IOCP_EBUSY},
    {WSAENOTSOCK, IOCP_EBADHANDLE},
    {WSAEMSGSIZE, IOCP_EMSGSIZE},
    {WSAENOPROTOOPT, IOCP_ENOTSUP},
    {WSAEPROTONOSUPPORT, IOCP_ENOTSUP},
    {WSAEOPNOTSUPP, IOCP_ENOTSUP},
    {WSAEAFNOSUPPORT, IOCP_ENOTSUP},
    {WSAEADDRINUSE, IOCP_EADDRINUSE},
    {WSAEADDRNOTAVAIL, IOCP_EADDRNOTAVAIL},
    {WSAENETDOWN, IOCP_ENETUNREACH},
    {WSAENETUNREACH, IOCP_ENETUNREACH},
    {WSAENETRESET, IOCP_ECONNRESET},
    {WSAECONNABORTED, IOCP_ECONNABORTED},
    {WSAECONNRESET, IOCP_ECONNRESET},
    {WSAENOBUFS, IOCP_ENOBUFS},
    {WSAEISCONN, IOCP_EISCONN},
    {WSAENOTCONN, IOCP_ENOTCONN},
    {WSAESHUTDOWN, IOCP_EPIPE},
    {WSAETIMEDOUT, IOCP_ETIMEDOUT},
    {WSAECONNREFUSED, IOCP_ECONNREFUSED},
    {WSAEHOSTUNREACH, IOCP_EHOSTUNREACH},
    {WSAEDISCON, IOCP_EEOF},
    {ERROR_OPERATION_ABORTED, IOCP_ECANCELED},
    {ERROR_NETNAME_DELETED, IOCP_ECONNRESET},
    {ERROR_CONNECTION_ABORTED, IOCP_ECONNABORTED},
    {ERROR_CONNECTION_REFUSED, IOCP_ECONNREFUSED},
    {ERROR_SEM_TIMEOUT, IOCP_ETIMEDOUT},
    {ERROR_NETWORK_UNREACHABLE, IOCP_ENETUNREACH},
    {ERROR_HOST_UNREACHABLE, IOCP_EHOSTUNREACH},
    {ERROR_PORT_UNREACHABLE, IOCP_ECONNREFUSED},
    {ERROR_MORE_DATA, IOCP_EMSGSIZE},
    {ERROR_INSUFFICIENT_BUFFER, IOCP_EFAULT},
    {ERROR_PIPE_NOT_CONNECTED, IOCP_EPIPE},
    {ERROR_UNEXP_NET_ERR, IOCP_ENOTCONN},
    {ERROR_HANDLE_EOF, IOCP_EEOF},
    {ERROR_NOT_READY, IOCP_EAGAIN},
    {ERROR_INVALID_PARAMETER, IOCP_EINVAL},
    {ERROR_INVALID_HANDLE, IOCP_EBADHANDLE},
    {ERROR_NOACCESS, IOCP_EFAULT},
    {ERROR_NOT_SUPPORTED, IOCP_ENOTSUP},
    {ERROR_NO_SYSTEM_RESOURCES, IOCP_ENOBUFS},
    {ERROR_NOT_ENOUGH_MEMORY, IOCP_ENOMEM},
    {ERROR_CONNECTION_ACTIVE, IOCP_EISCONN},
    {ERROR_IO_PENDING, IOCP_EAGAIN},
    {ERROR_GRACEFUL_DISCONNECT, IOCP_EEOF},
    {ERROR_ABANDONED_WAIT_0, IOCP_ECLOSED},
    {WAIT_TIMEOUT, IOCP_ETIMEDOUT},
    {ERROR_NOT_FOUND, IOCP_ENOTFOUND},
    {ERROR_TOO_MANY_OPEN_FILES, IOCP_EMFILE},
    {ERROR_ACCESS_DENIED, IOCP_EPERM},
    {ERROR_FILE_NOT_FOUND, IOCP_ENOENT},
    {ERROR_PATH_NOT_FOUND, IOCP_ENOENT},
    {ERROR_FILE_EXISTS, IOCP_EEXIST},
    {ERROR_ALREADY_EXISTS, IOCP_EEXIST},
    {ERROR_DISK_FULL, IOCP_EFULL},
    {ERROR_BROKEN_PIPE, IOCP_EPIPE},
    {ERROR_NO_DATA, IOCP_EPIPE},
    {ERROR_IO_DEVICE, IOCP_EIO},
#else
    {EPIPE, IOCP_EPIPE},
    {ECONNRESET, IOCP_ECONNRESET},
    {ECONNREFUSED, IOCP_ECONNREFUSED},
    {ECONNABORTED, IOCP_ECONNABORTED},
    {EMFILE, IOCP_EMFILE},
    {ENFILE, IOCP_EMFILE},
    {EACCES, IOCP_EPERM},
    {EPERM, IOCP_EPERM},
    {EAGAIN, IOCP_EAGAIN},
    {EWOULDBLOCK, IOCP_EAGAIN},
    {ENOTSOCK, IOCP_EBADHANDLE},
    {EBADF, IOCP_EBADHANDLE},
    {ETIMEDOUT, IOCP_ETIMEDOUT},
    {ENOBUFS, IOCP_ENOBUFS},
    {ENOMEM, IOCP_ENOMEM},
    {ECANCELED, IOCP_ECANCELED},
    {ENOTCONN, IOCP_ENOTCONN},
    {EISCONN, IOCP_EISCONN},
    {ENETUNREACH, IOCP_ENETUNREACH},
    {EHOSTUNREACH, IOCP_EHOSTUNREACH},
    {EADDRINUSE, IOCP_EADDRINUSE},
    {EADDRNOTAVAIL, IOCP_EADDRNOTAVAIL},
    {EMSGSIZE, IOCP_EMSGSIZE},
    {EOPNOTSUPP, IOCP_ENOTSUP},
    {ENOTSUP, IOCP_ENOTSUP},
    {EINVAL, IOCP_EINVAL},
    {EFAULT, IOCP_EFAULT},
    {EEXIST, IOCP_EEXIST},
    {ENOENT, IOCP_ENOENT},
    {EIO, IOCP_EIO},
#endif
};

TEST(system_errors_have_their_counterpart)
{
    for (size_t i = 0; i < sizeof(counterparts) / sizeof(counterparts[0]); i++) {
        if (iocp_error_from_os(counterparts[i].code) != counterparts[i].error)
            FAIL("%d becomes %s and not %s", counterparts[i].code,
                 iocp_error_name(iocp_error_from_os(counterparts[i].code)),
                 iocp_error_name(counterparts[i].error));
    }
}

TEST(any_number_of_the_system_is_an_error)
{
    for (int number = -200; number < 1000; number++) {
        int error = iocp_error_from_os(number);
        CHECK((number == 0) == (error == 0));
        CHECK_LE(error, 0);
        CHECK_GE(error, IOCP_EUNKNOWN);
    }
    CHECK_EQ(iocp_error_from_os(4711), IOCP_EUNKNOWN);
}
