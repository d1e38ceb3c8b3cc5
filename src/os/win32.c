/* Windows: the clock, errors, processors, handles and paths of files. Locks and threads are in
 * win32_thread.c, sockets in win32_socket.c. */
#include "os/win32.h"

#include "base/atomic.h"

#include <bcrypt.h>

/* A name that the headers of MinGW-w64 10 lack. */
#ifndef ERROR_DISK_QUOTA_EXCEEDED
#define ERROR_DISK_QUOTA_EXCEEDED 1295
#endif

/* ---- Clock. */

uint64_t iocp__os_now_ns(void)
{
    static uint64_t frequency; /* 0: not asked for yet; it never changes */
    /* Relaxed: whoever finds 0 asks himself and gets the same. */
    uint64_t ticks_per_s = iocp__load_relaxed(&frequency);
    uint64_t ticks;
    LARGE_INTEGER value;

    if (!ticks_per_s) {
        QueryPerformanceFrequency(&value); /* neither can fail (Windows XP) */
        ticks_per_s = (uint64_t)value.QuadPart;
        iocp__store_relaxed(&frequency, ticks_per_s);
    }
    QueryPerformanceCounter(&value);
    ticks = (uint64_t)value.QuadPart;
    /* In two parts: ticks times 10^9 has no room in 64 bits after half an hour at 10 MHz. */
    return ticks / ticks_per_s * 1000000000u + ticks % ticks_per_s * 1000000000u / ticks_per_s;
}

/* ---- Errors. */

/* X(code, our error). Three kinds of numbers: those of Winsock (10004 and up, with the meaning of
 * the errno they are named after), those of GetLastError, and among the latter what the status of a
 * finished operation becomes. One cause may come as either; then both give the same error. Where
 * Linux has the cause too, it is the error that it gives there. */
#define OS_ERRORS_WINSOCK(X)                                                                       \
    X(WSAEINTR, IOCP_ECANCELED) /* a call that was canceled: there are no signals */               \
    X(WSAEBADF, IOCP_EBADHANDLE)                                                                   \
    X(WSAEACCES, IOCP_EPERM)                                                                       \
    X(WSAEFAULT, IOCP_EFAULT)                                                                      \
    X(WSAEINVAL, IOCP_EINVAL)                                                                      \
    X(WSAEMFILE, IOCP_EMFILE)                                                                      \
    X(WSAEWOULDBLOCK, IOCP_EAGAIN)                                                                 \
    X(WSAEINPROGRESS, IOCP_EAGAIN)                                                                 \
    X(WSAEALREADY, IOCP_EBUSY)                                                                     \
    X(WSAENOTSOCK, IOCP_EBADHANDLE)                                                                \
    X(WSAEDESTADDRREQ, IOCP_EINVAL)                                                                \
    X(WSAEMSGSIZE, IOCP_EMSGSIZE)                                                                  \
    X(WSAEPROTOTYPE, IOCP_ENOTSUP)                                                                 \
    X(WSAENOPROTOOPT, IOCP_ENOTSUP)                                                                \
    X(WSAEPROTONOSUPPORT, IOCP_ENOTSUP)                                                            \
    X(WSAESOCKTNOSUPPORT, IOCP_ENOTSUP)                                                            \
    X(WSAEOPNOTSUPP, IOCP_ENOTSUP)                                                                 \
    X(WSAEPFNOSUPPORT, IOCP_ENOTSUP)                                                               \
    X(WSAEAFNOSUPPORT, IOCP_ENOTSUP)                                                               \
    X(WSAEADDRINUSE, IOCP_EADDRINUSE)                                                              \
    X(WSAEADDRNOTAVAIL, IOCP_EADDRNOTAVAIL)                                                        \
    X(WSAENETDOWN, IOCP_ENETUNREACH)                                                               \
    X(WSAENETUNREACH, IOCP_ENETUNREACH)                                                            \
    X(WSAENETRESET, IOCP_ECONNRESET)                                                               \
    X(WSAECONNABORTED, IOCP_ECONNABORTED)                                                          \
    X(WSAECONNRESET, IOCP_ECONNRESET)                                                              \
    X(WSAENOBUFS, IOCP_ENOBUFS)                                                                    \
    X(WSAEISCONN, IOCP_EISCONN)                                                                    \
    X(WSAENOTCONN, IOCP_ENOTCONN)                                                                  \
    X(WSAESHUTDOWN, IOCP_EPIPE)                                                                    \
    X(WSAETIMEDOUT, IOCP_ETIMEDOUT)                                                                \
    X(WSAECONNREFUSED, IOCP_ECONNREFUSED)                                                          \
    X(WSAENAMETOOLONG, IOCP_EINVAL)                                                                \
    X(WSAEHOSTDOWN, IOCP_EHOSTUNREACH)                                                             \
    X(WSAEHOSTUNREACH, IOCP_EHOSTUNREACH)                                                          \
    X(WSAEPROCLIM, IOCP_EAGAIN)                                                                    \
    X(WSAEDQUOT, IOCP_EFULL)                                                                       \
    X(WSASYSNOTREADY, IOCP_ENETUNREACH)                                                            \
    X(WSAVERNOTSUPPORTED, IOCP_ENOTSUP)                                                            \
    X(WSAEDISCON, IOCP_EEOF)                                                                       \
    X(WSAECANCELLED, IOCP_ECANCELED)                                                               \
    X(WSA_E_CANCELLED, IOCP_ECANCELED)

#define OS_ERRORS_NETWORK(X)                                                                       \
    X(ERROR_REM_NOT_LIST, IOCP_ECONNREFUSED)                                                       \
    X(ERROR_DUP_NAME, IOCP_EADDRINUSE)                                                             \
    X(ERROR_BAD_NETPATH, IOCP_ENETUNREACH)                                                         \
    X(ERROR_NETWORK_BUSY, IOCP_ENETUNREACH)                                                        \
    X(ERROR_BAD_NET_RESP, IOCP_ENETUNREACH)                                                        \
    X(ERROR_UNEXP_NET_ERR, IOCP_ENOTCONN) /* no connection yet, or none any more */                \
    X(ERROR_NETNAME_DELETED, IOCP_ECONNRESET)                                                      \
    X(ERROR_TOO_MANY_NAMES, IOCP_ENOBUFS) /* no port is left to choose */                          \
    X(ERROR_REQ_NOT_ACCEP, IOCP_EAGAIN)                                                            \
    X(ERROR_SEM_TIMEOUT, IOCP_ETIMEDOUT)                                                           \
    X(ERROR_INSUFFICIENT_BUFFER, IOCP_EFAULT)                                                      \
    X(ERROR_VC_DISCONNECTED, IOCP_ECONNRESET)                                                      \
    X(ERROR_MORE_DATA, IOCP_EMSGSIZE)                                                              \
    X(ERROR_ABANDONED_WAIT_0, IOCP_ECLOSED) /* the port was closed */                              \
    X(ERROR_INVALID_NETNAME, IOCP_EADDRNOTAVAIL)                                                   \
    X(ERROR_NO_NETWORK, IOCP_ENETUNREACH)                                                          \
    X(ERROR_CONNECTION_REFUSED, IOCP_ECONNREFUSED)                                                 \
    X(ERROR_GRACEFUL_DISCONNECT, IOCP_EEOF)                                                        \
    X(ERROR_ADDRESS_ALREADY_ASSOCIATED, IOCP_EADDRINUSE)                                           \
    X(ERROR_ADDRESS_NOT_ASSOCIATED, IOCP_EADDRNOTAVAIL)                                            \
    X(ERROR_CONNECTION_INVALID, IOCP_ENOTCONN)                                                     \
    X(ERROR_CONNECTION_ACTIVE, IOCP_EISCONN)                                                       \
    X(ERROR_NETWORK_UNREACHABLE, IOCP_ENETUNREACH)                                                 \
    X(ERROR_HOST_UNREACHABLE, IOCP_EHOSTUNREACH)                                                   \
    X(ERROR_PROTOCOL_UNREACHABLE, IOCP_ENETUNREACH)                                                \
    X(ERROR_PORT_UNREACHABLE, IOCP_ECONNREFUSED)                                                   \
    X(ERROR_REQUEST_ABORTED, IOCP_ECANCELED)                                                       \
    X(ERROR_CONNECTION_ABORTED, IOCP_ECONNABORTED)                                                 \
    X(ERROR_HOST_DOWN, IOCP_EHOSTUNREACH)                                                          \
    X(ERROR_INVALID_USER_BUFFER, IOCP_EMSGSIZE)                                                    \
    X(ERROR_NOT_CONNECTED, IOCP_ENOTCONN)

#define OS_ERRORS_SYSTEM(X)                                                                        \
    X(ERROR_INVALID_FUNCTION, IOCP_ENOTSUP)                                                        \
    X(ERROR_TOO_MANY_OPEN_FILES, IOCP_EMFILE)                                                      \
    X(ERROR_INVALID_HANDLE, IOCP_EBADHANDLE)                                                       \
    X(ERROR_NOT_ENOUGH_MEMORY, IOCP_ENOMEM)                                                        \
    X(ERROR_OUTOFMEMORY, IOCP_ENOMEM)                                                              \
    X(ERROR_NOT_READY, IOCP_EAGAIN)                                                                \
    X(ERROR_NOT_SUPPORTED, IOCP_ENOTSUP)                                                           \
    X(ERROR_INVALID_PARAMETER, IOCP_EINVAL)                                                        \
    X(ERROR_INVALID_TARGET_HANDLE, IOCP_EBADHANDLE)                                                \
    X(ERROR_CALL_NOT_IMPLEMENTED, IOCP_ENOTSUP)                                                    \
    X(ERROR_MAX_THRDS_REACHED, IOCP_EAGAIN)                                                        \
    X(ERROR_BUSY, IOCP_EBUSY)                                                                      \
    X(WAIT_TIMEOUT, IOCP_ETIMEDOUT)                                                                \
    X(ERROR_INVALID_ADDRESS, IOCP_EFAULT)                                                          \
    X(ERROR_OPERATION_ABORTED, IOCP_ECANCELED)                                                     \
    X(ERROR_IO_INCOMPLETE, IOCP_EAGAIN)                                                            \
    X(ERROR_IO_PENDING, IOCP_EAGAIN)                                                               \
    X(ERROR_NOACCESS, IOCP_EFAULT)                                                                 \
    X(ERROR_NOT_FOUND, IOCP_ENOTFOUND) /* nothing to cancel */                                     \
    X(ERROR_CANCELLED, IOCP_ECANCELED)                                                             \
    X(ERROR_RETRY, IOCP_EAGAIN)                                                                    \
    X(ERROR_PRIVILEGE_NOT_HELD, IOCP_EPERM)                                                        \
    X(ERROR_NO_SYSTEM_RESOURCES, IOCP_ENOBUFS)                                                     \
    X(ERROR_NONPAGED_SYSTEM_RESOURCES, IOCP_ENOBUFS)                                               \
    X(ERROR_PAGED_SYSTEM_RESOURCES, IOCP_ENOBUFS)                                                  \
    X(ERROR_WORKING_SET_QUOTA, IOCP_ENOBUFS)                                                       \
    X(ERROR_PAGEFILE_QUOTA, IOCP_ENOBUFS)                                                          \
    X(ERROR_COMMITMENT_LIMIT, IOCP_ENOMEM)                                                         \
    X(ERROR_TIMEOUT, IOCP_ETIMEDOUT)                                                               \
    X(ERROR_NOT_ENOUGH_QUOTA, IOCP_ENOBUFS)

#define OS_ERRORS_FILES(X)                                                                         \
    X(ERROR_FILE_NOT_FOUND, IOCP_ENOENT)                                                           \
    X(ERROR_PATH_NOT_FOUND, IOCP_ENOENT)                                                           \
    X(ERROR_ACCESS_DENIED, IOCP_EPERM)                                                             \
    X(ERROR_INVALID_DRIVE, IOCP_ENOENT)                                                            \
    X(ERROR_WRITE_PROTECT, IOCP_EPERM)                                                             \
    X(ERROR_CRC, IOCP_EIO)                                                                         \
    X(ERROR_WRITE_FAULT, IOCP_EIO)                                                                 \
    X(ERROR_READ_FAULT, IOCP_EIO)                                                                  \
    X(ERROR_GEN_FAILURE, IOCP_EIO)                                                                 \
    X(ERROR_SHARING_VIOLATION, IOCP_EBUSY)                                                         \
    X(ERROR_LOCK_VIOLATION, IOCP_EBUSY)                                                            \
    X(ERROR_HANDLE_EOF, IOCP_EEOF)                                                                 \
    X(ERROR_HANDLE_DISK_FULL, IOCP_EFULL)                                                          \
    X(ERROR_DEV_NOT_EXIST, IOCP_EIO)                                                               \
    X(ERROR_BAD_NET_NAME, IOCP_ENOENT)                                                             \
    X(ERROR_FILE_EXISTS, IOCP_EEXIST)                                                              \
    X(ERROR_BROKEN_PIPE, IOCP_EPIPE)                                                               \
    X(ERROR_DISK_FULL, IOCP_EFULL)                                                                 \
    X(ERROR_INVALID_NAME, IOCP_EINVAL)                                                             \
    X(ERROR_NEGATIVE_SEEK, IOCP_EINVAL)                                                            \
    X(ERROR_SEEK_ON_DEVICE, IOCP_EBADHANDLE)                                                       \
    X(ERROR_BAD_PATHNAME, IOCP_ENOENT)                                                             \
    X(ERROR_ALREADY_EXISTS, IOCP_EEXIST)                                                           \
    X(ERROR_FILENAME_EXCED_RANGE, IOCP_EINVAL)                                                     \
    X(ERROR_FILE_TOO_LARGE, IOCP_EFULL)                                                            \
    X(ERROR_BAD_PIPE, IOCP_EPIPE)                                                                  \
    X(ERROR_PIPE_BUSY, IOCP_EBUSY)                                                                 \
    X(ERROR_NO_DATA, IOCP_EPIPE)                                                                   \
    X(ERROR_PIPE_NOT_CONNECTED, IOCP_EPIPE)                                                        \
    X(ERROR_DIRECTORY, IOCP_ENOENT)                                                                \
    X(ERROR_IO_DEVICE, IOCP_EIO)                                                                   \
    X(ERROR_DEVICE_NOT_CONNECTED, IOCP_EIO)                                                        \
    X(ERROR_DISK_QUOTA_EXCEEDED, IOCP_EFULL)

int iocp_error_from_os(int os_error)
{
    switch (os_error) {
    case 0:
        return IOCP_OK;
#define OS_ERROR_CASE(number, error)                                                               \
    case number:                                                                                   \
        return error;
        OS_ERRORS_WINSOCK(OS_ERROR_CASE)
        OS_ERRORS_NETWORK(OS_ERROR_CASE)
        OS_ERRORS_SYSTEM(OS_ERROR_CASE)
        OS_ERRORS_FILES(OS_ERROR_CASE)
#undef OS_ERROR_CASE
    default:
        return IOCP_EUNKNOWN;
    }
}

/* ---- Processors and chance. */

/* All processors of the groups that the process is in; 0 when that is one group. A group has up to
 * 64 processors; a process is in several from Windows 11 on, unless it was given an affinity. */
static uint32_t cpu_count_of_groups(void)
{
    USHORT groups[64];
    USHORT count = sizeof(groups) / sizeof(groups[0]);
    uint32_t cpus = 0;
    USHORT i;

    if (!GetProcessGroupAffinity(GetCurrentProcess(), &count, groups) || count < 2)
        return 0;
    for (i = 0; i < count; i++)
        cpus += GetActiveProcessorCount(groups[i]);
    return cpus;
}

uint32_t iocp__cpu_count(void)
{
    DWORD_PTR mine;
    DWORD_PTR all;
    uint32_t count = cpu_count_of_groups();

    if (count)
        return count;
    if (GetProcessAffinityMask(GetCurrentProcess(), &mine, &all)) {
        for (; mine; mine &= mine - 1)
            count++;
    }
    return count ? count : 1;
}

uint64_t iocp__random(void)
{
    static uint64_t calls;
    uint64_t value;

    if (BCryptGenRandom(NULL, (PUCHAR)&value, sizeof(value), BCRYPT_USE_SYSTEM_PREFERRED_RNG) == 0)
        return value;
    /* Without memory, say: clock and count, mixed as splitmix64 does. Relaxed: the values shall
     * differ, no more. */
    value = iocp__os_now_ns() + iocp__add_relaxed(&calls, 1) * UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

/* ---- Handles of any kind. */

void iocp__handle_close(iocp_handle handle)
{
    /* It leaves alone what is no socket. */
    if (closesocket((SOCKET)handle) != 0)
        CloseHandle((HANDLE)handle);
}

/* A file, pipe or device that is open. Handles of processes, events and the like are none. */
static int handle_is_open(HANDLE handle)
{
    if (!handle || handle == INVALID_HANDLE_VALUE) /* the latter is this process as well */
        return 0;
    SetLastError(NO_ERROR);
    return GetFileType(handle) != FILE_TYPE_UNKNOWN || GetLastError() == NO_ERROR;
}

int iocp__handle_prepare(iocp_handle handle)
{
    u_long on = 1;
    int32_t os_error;
    int error = iocp__winsock_start(&os_error);

    if (error < 0)
        return error;
    if (ioctlsocket((SOCKET)handle, (long)FIONBIO, &on) != 0) {
        os_error = WSAGetLastError();
        if (os_error != WSAENOTSOCK && os_error != WSAEOPNOTSUPP) /* the latter: Wine 8, files */
            return iocp_error_from_os(os_error);
        if (!handle_is_open((HANDLE)handle))
            return IOCP_EBADHANDLE;
    }
    return SetHandleInformation((HANDLE)handle, HANDLE_FLAG_INHERIT, 0) ? 0 : IOCP_EBADHANDLE;
}

int iocp__handle_is_file(iocp_handle handle)
{
    return GetFileType((HANDLE)handle) == FILE_TYPE_DISK;
}

/* ---- Paths. */

int iocp__wide(const char *text, WCHAR out_wide[IOCP__WIDE_MAX])
{
    return MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, out_wide, IOCP__WIDE_MAX)
               ? 0
               : IOCP_EINVAL;
}

/* Who may connect is up to the access list of the folder; there is no mode to set. */
int iocp__path_set_mode(const char *path, uint32_t mode)
{
    (void)path;
    (void)mode;
    return IOCP_ENOTSUP;
}

void iocp__path_remove(const char *path)
{
    WCHAR wide[IOCP__WIDE_MAX];

    if (iocp__wide(path, wide) == 0)
        DeleteFileW(wide);
}
