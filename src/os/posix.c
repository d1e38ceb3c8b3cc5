/* Linux: the clock, errors, processors and paths of files. Locks and threads are in posix_thread.c,
 * sockets in posix_socket.c. */
#include "os/os.h"

#include "base/atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

uint64_t iocp__os_now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- Errors. */

/* X(errno, our error): EAGAIN and EWOULDBLOCK, ENOTSUP and EOPNOTSUPP are the same numbers on
 * Linux. */
#define OS_ERRORS(X)                                                                               \
    X(ECANCELED, IOCP_ECANCELED)                                                                   \
    X(ETIMEDOUT, IOCP_ETIMEDOUT)                                                                   \
    X(ETIME, IOCP_ETIMEDOUT)                                                                       \
    X(EINVAL, IOCP_EINVAL)                                                                         \
    X(EDESTADDRREQ, IOCP_EINVAL)                                                                   \
    X(ENAMETOOLONG, IOCP_EINVAL)                                                                   \
    X(EOVERFLOW, IOCP_EINVAL)                                                                      \
    X(ENOMEM, IOCP_ENOMEM)                                                                         \
    X(EBUSY, IOCP_EBUSY)                                                                           \
    X(EALREADY, IOCP_EBUSY)                                                                        \
    X(EINPROGRESS, IOCP_EAGAIN)                                                                    \
    X(EAGAIN, IOCP_EAGAIN)                                                                         \
    X(EINTR, IOCP_EAGAIN)                                                                          \
    X(ENOSPC, IOCP_EFULL)                                                                          \
    X(EDQUOT, IOCP_EFULL)                                                                          \
    X(EFBIG, IOCP_EFULL)                                                                           \
    X(EPROTO, IOCP_EPROTOCOL)                                                                      \
    X(EOPNOTSUPP, IOCP_ENOTSUP)                                                                    \
    X(ENOSYS, IOCP_ENOTSUP)                                                                        \
    X(EPROTONOSUPPORT, IOCP_ENOTSUP)                                                               \
    X(EPROTOTYPE, IOCP_ENOTSUP)                                                                    \
    X(ENOPROTOOPT, IOCP_ENOTSUP)                                                                   \
    X(EAFNOSUPPORT, IOCP_ENOTSUP)                                                                  \
    X(EPFNOSUPPORT, IOCP_ENOTSUP)                                                                  \
    X(ESOCKTNOSUPPORT, IOCP_ENOTSUP)                                                               \
    X(EPERM, IOCP_EPERM)                                                                           \
    X(EACCES, IOCP_EPERM)                                                                          \
    X(EROFS, IOCP_EPERM)                                                                           \
    X(EMFILE, IOCP_EMFILE)                                                                         \
    X(ENFILE, IOCP_EMFILE)                                                                         \
    X(ENOBUFS, IOCP_ENOBUFS)                                                                       \
    X(ECONNRESET, IOCP_ECONNRESET)                                                                 \
    X(ENETRESET, IOCP_ECONNRESET)                                                                  \
    X(ECONNABORTED, IOCP_ECONNABORTED)                                                             \
    X(ECONNREFUSED, IOCP_ECONNREFUSED)                                                             \
    X(ENOTCONN, IOCP_ENOTCONN)                                                                     \
    X(EISCONN, IOCP_EISCONN)                                                                       \
    X(EPIPE, IOCP_EPIPE)                                                                           \
    X(ESHUTDOWN, IOCP_EPIPE)                                                                       \
    X(ENETUNREACH, IOCP_ENETUNREACH)                                                               \
    X(ENETDOWN, IOCP_ENETUNREACH)                                                                  \
    X(EHOSTUNREACH, IOCP_EHOSTUNREACH)                                                             \
    X(EHOSTDOWN, IOCP_EHOSTUNREACH)                                                                \
    X(EADDRINUSE, IOCP_EADDRINUSE)                                                                 \
    X(EADDRNOTAVAIL, IOCP_EADDRNOTAVAIL)                                                           \
    X(EMSGSIZE, IOCP_EMSGSIZE)                                                                     \
    X(EBADF, IOCP_EBADHANDLE)                                                                      \
    X(ENOTSOCK, IOCP_EBADHANDLE)                                                                   \
    X(ESPIPE, IOCP_EBADHANDLE)                                                                     \
    X(EISDIR, IOCP_EBADHANDLE)                                                                     \
    X(EFAULT, IOCP_EFAULT)                                                                         \
    X(EEXIST, IOCP_EEXIST)                                                                         \
    X(ENOENT, IOCP_ENOENT)                                                                         \
    X(ENOTDIR, IOCP_ENOENT)                                                                        \
    X(EIO, IOCP_EIO)

int iocp_error_from_os(int os_error)
{
    switch (os_error) {
    case 0:
        return IOCP_OK;
#define OS_ERROR_CASE(number, error)                                                               \
    case number:                                                                                   \
        return error;
        OS_ERRORS(OS_ERROR_CASE)
#undef OS_ERROR_CASE
    default:
        return IOCP_EUNKNOWN;
    }
}

/* ---- Processors and chance. */

uint32_t iocp__cpu_count(void)
{
    /* 8,192 processors, the most that Linux 6 can be built for; with a smaller mask than its own
     * the kernel refuses the call. */
    cpu_set_t set[8192 / CPU_SETSIZE];
    long online;

    if (sched_getaffinity(0, sizeof(set), set) == 0) {
        int count = CPU_COUNT_S(sizeof(set), set);
        return count > 0 ? (uint32_t)count : 1;
    }
    online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (uint32_t)online : 1;
}

uint64_t iocp__random(void)
{
    static uint64_t calls;
    uint64_t value;

    if (getrandom(&value, sizeof(value), GRND_NONBLOCK) == (ssize_t)sizeof(value))
        return value;
    /* Early at boot, or forbidden by a filter: clock and count, mixed as splitmix64 does. Relaxed:
     * the values shall differ, no more. */
    value = iocp__os_now_ns() + iocp__add_relaxed(&calls, 1) * UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

/* ---- Handles of any kind. */

void iocp__handle_close(iocp_handle handle)
{
    /* EINTR: Linux has closed the descriptor all the same; a second close could hit another's. */
    close((int)handle);
}

int iocp__handle_prepare(iocp_handle handle)
{
    int descriptor = (int)handle;
    int flags;

    if (handle < 0 || handle > INT_MAX)
        return IOCP_EBADHANDLE;
    flags = fcntl(descriptor, F_GETFL);
    if (flags < 0)
        return IOCP_EBADHANDLE;
    if (!(flags & O_NONBLOCK) && fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) < 0)
        return IOCP_EBADHANDLE;
    flags = fcntl(descriptor, F_GETFD);
    if (flags < 0)
        return IOCP_EBADHANDLE;
    if (!(flags & FD_CLOEXEC) && fcntl(descriptor, F_SETFD, flags | FD_CLOEXEC) < 0)
        return IOCP_EBADHANDLE;
    return 0;
}

int iocp__handle_is_file(iocp_handle handle)
{
    struct stat status;

    return fstat((int)handle, &status) == 0 && (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode));
}

/* ---- Paths. */

int iocp__path_set_mode(const char *path, uint32_t mode)
{
    return chmod(path, (mode_t)mode) ? iocp_error_from_os(errno) : 0;
}

void iocp__path_remove(const char *path)
{
    unlink(path);
}
