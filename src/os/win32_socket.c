/* Sockets on Windows: starting Winsock, making sockets, their addresses and options. What moves
 * bytes is the backend's. */
#include "os/win32.h"

#include "base/assert.h"

#include <limits.h>
#include <mstcpip.h>
#include <stddef.h>
#include <string.h>

/* Names that the headers of MinGW-w64 10 lack. */
#ifndef TCP_KEEPIDLE
#define TCP_KEEPIDLE 3
#endif
#ifndef SOMAXCONN_HINT
#define SOMAXCONN_HINT(backlog) (-(backlog))
#endif

/* ---- Winsock itself. */

static BOOL CALLBACK winsock_start(INIT_ONCE *once, void *argument, void **context)
{
    WSADATA data;

    (void)once;
    (void)context;
    *(int32_t *)argument = WSAStartup(MAKEWORD(2, 2), &data);
    return *(int32_t *)argument == 0;
}

int iocp__winsock_start(int32_t *out_os_error)
{
    static INIT_ONCE once = INIT_ONCE_STATIC_INIT;
    int32_t os_error = 0;

    /* After a failure the next call tries again. */
    if (InitOnceExecuteOnce(&once, winsock_start, &os_error, NULL))
        return 0;
    if (out_os_error)
        *out_os_error = os_error;
    return iocp_error_from_os(os_error);
}

/* Ends a call: maps the last error when `result` says that it failed. */
static int socket_result(int result, int32_t *out_os_error)
{
    int os_error;

    if (result == 0)
        return 0;
    os_error = WSAGetLastError();
    if (out_os_error)
        *out_os_error = os_error;
    return iocp_error_from_os(os_error);
}

/* For misuse that never reaches the system. */
static int socket_misuse(int32_t *out_os_error)
{
    if (out_os_error)
        *out_os_error = WSAEINVAL;
    return IOCP_EINVAL;
}

static int socket_domain(enum iocp_family family)
{
    switch (family) {
    case IOCP_FAMILY_IPV4:
        return AF_INET;
    case IOCP_FAMILY_IPV6:
        return AF_INET6;
    case IOCP_FAMILY_UNIX:
        return AF_UNIX;
    default:
        return AF_UNSPEC;
    }
}

/* ---- From open to listen. */

static int socket_set_up(SOCKET handle, int domain)
{
    u_long on = 1;
    DWORD off = 0;

    if (ioctlsocket(handle, (long)FIONBIO, &on) != 0)
        return SOCKET_ERROR;
    /* The default is the opposite of what Linux has. */
    if (domain == AF_INET6)
        return setsockopt(handle, IPPROTO_IPV6, IPV6_V6ONLY, (const char *)&off, sizeof(off));
    return 0;
}

int iocp__socket_open(enum iocp_family family, int type, iocp_handle *out_handle,
                      int32_t *out_os_error)
{
    int domain = socket_domain(family);
    SOCKET handle;
    int result;

    if (domain == AF_UNSPEC || (type != IOCP__SOCKET_STREAM && type != IOCP__SOCKET_DATAGRAM))
        return socket_misuse(out_os_error);
    result = iocp__winsock_start(out_os_error);
    if (result < 0)
        return result;
    handle = WSASocketW(domain, type == IOCP__SOCKET_STREAM ? SOCK_STREAM : SOCK_DGRAM, 0, NULL, 0,
                        WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
    if (handle == INVALID_SOCKET)
        return socket_result(SOCKET_ERROR, out_os_error);
    result = socket_result(socket_set_up(handle, domain), out_os_error);
    if (result < 0) {
        closesocket(handle);
        return result;
    }
    *out_handle = (iocp_handle)handle;
    return 0;
}

int iocp__socket_bind(iocp_handle handle, const struct iocp_address *address, int32_t *out_os_error)
{
    if (address->size > sizeof(address->storage))
        return socket_misuse(out_os_error);
    return socket_result(
        bind((SOCKET)handle, (const void *)address->storage.bytes, (int)address->size),
        out_os_error);
}

int iocp__socket_listen(iocp_handle handle, uint32_t backlog, int32_t *out_os_error)
{
    /* A plain number above 200 is cut to that; as a hint it may go up to 65535 (Windows 8). */
    const uint32_t plain_max = 200;
    const uint32_t hint_max = 65535;
    int most = SOMAXCONN;

    if (backlog > 0 && backlog <= plain_max)
        most = (int)backlog;
    else if (backlog > plain_max && backlog <= hint_max)
        most = SOMAXCONN_HINT((int)backlog);
    return socket_result(listen((SOCKET)handle, most), out_os_error);
}

/* ---- Addresses. */

/* Not 0 for a Unix socket without a name: the family and nothing, or nothing but zeros. */
static int address_is_nameless(const struct iocp_address *address)
{
    struct sockaddr_un name;
    size_t size = address->size < sizeof(name) ? address->size : sizeof(name);
    size_t i;

    memset(&name, 0, sizeof(name));
    memcpy(&name, address->storage.bytes, size);
    if (name.sun_family != AF_UNIX)
        return size <= sizeof(name.sun_family);
    for (i = 0; i < sizeof(name.sun_path); i++) {
        if (name.sun_path[i])
            return 0;
    }
    return 1;
}

/* `get` is getsockname or getpeername. */
static int socket_address(int(WSAAPI *get)(SOCKET, struct sockaddr *, int *), iocp_handle handle,
                          struct iocp_address *out_address)
{
    struct iocp_address address;
    int size = sizeof(address.storage);

    memset(&address, 0, sizeof(address));
    if (get((SOCKET)handle, (void *)address.storage.bytes, &size) != 0)
        return iocp_error_from_os(WSAGetLastError());
    iocp__assert(size >= 0 && (size_t)size <= sizeof(address.storage));
    address.size = (uint32_t)size;
    if (address_is_nameless(&address))
        memset(&address, 0, sizeof(address)); /* which is no address */
    *out_address = address;
    return 0;
}

int iocp__socket_local(iocp_handle handle, struct iocp_address *out_address)
{
    return socket_address(getsockname, handle, out_address);
}

int iocp__socket_peer(iocp_handle handle, struct iocp_address *out_address)
{
    return socket_address(getpeername, handle, out_address);
}

int iocp__socket_shutdown_send(iocp_handle handle, int32_t *out_os_error)
{
    return socket_result(shutdown((SOCKET)handle, SD_SEND), out_os_error);
}

int32_t iocp__socket_pending_error(iocp_handle handle)
{
    int error = 0;
    int size = sizeof(error);

    if (getsockopt((SOCKET)handle, SOL_SOCKET, SO_ERROR, (char *)&error, &size) != 0)
        return WSAGetLastError();
    return error;
}

/* ---- Options. */

/* What setsockopt failed with, by the kind of the socket: 0 when that has no options of this level.
 * A stream of IPv4 or IPv6 has all of SOL_SOCKET that we know; the others lack some. */
static int socket_judge_refusal(SOCKET handle, int level, int os_error)
{
    WSAPROTOCOL_INFOW info;
    int size = sizeof(info);
    int lacks;

    memset(&info, 0, sizeof(info));
    if (getsockopt(handle, SOL_SOCKET, SO_PROTOCOL_INFOW, (char *)&info, &size) != 0)
        return iocp_error_from_os(WSAGetLastError());
    if (level == IPPROTO_IPV6)
        lacks = info.iAddressFamily != AF_INET6;
    else
        lacks = info.iSocketType != SOCK_STREAM || info.iAddressFamily == AF_UNIX;
    return lacks || os_error != WSAEINVAL ? 0 : IOCP_EINVAL;
}

/* Ends a setsockopt. How the system says that a kind of socket lacks an option depends on its
 * provider; WSAEINVAL may be about the value too. */
static int socket_set_result(int result, iocp_handle handle, int level)
{
    int os_error;

    if (result == 0)
        return 0;
    os_error = WSAGetLastError();
    if (os_error == WSAENOPROTOOPT || os_error == WSAEOPNOTSUPP || os_error == WSAEINVAL)
        return socket_judge_refusal((SOCKET)handle, level, os_error);
    return iocp_error_from_os(os_error);
}

static int socket_set_int(iocp_handle handle, int level, int name, int value)
{
    return socket_set_result(
        setsockopt((SOCKET)handle, level, name, (const char *)&value, sizeof(value)), handle,
        level);
}

/* Before Windows 10 version 1709 the idle time has no option of its own and comes with the pause
 * between probes, here the system's default. */
static int socket_set_keepalive_values(iocp_handle handle, int seconds)
{
    struct tcp_keepalive values = {1, (u_long)seconds * 1000, 1000};
    DWORD size = 0;

    return socket_set_result(WSAIoctl((SOCKET)handle, SIO_KEEPALIVE_VALS, &values, sizeof(values),
                                      NULL, 0, &size, NULL, NULL),
                             handle, IPPROTO_TCP);
}

static int socket_set_keepalive(iocp_handle handle, int seconds)
{
    const int seconds_max = 32767; /* as on Linux */
    int result = socket_set_int(handle, SOL_SOCKET, SO_KEEPALIVE, seconds > 0);
    int idle = seconds < seconds_max ? seconds : seconds_max;

    if (result < 0 || seconds == 0)
        return result;
    if (setsockopt((SOCKET)handle, IPPROTO_TCP, TCP_KEEPIDLE, (const char *)&idle, sizeof(idle)) ==
        0)
        return 0;
    return socket_set_keepalive_values(handle, idle);
}

static int socket_set_reset(iocp_handle handle, int value)
{
    struct linger linger;

    linger.l_onoff = value != 0;
    linger.l_linger = 0;
    return socket_set_result(
        setsockopt((SOCKET)handle, SOL_SOCKET, SO_LINGER, (const char *)&linger, sizeof(linger)),
        handle, SOL_SOCKET);
}

int iocp__accepted_has_options(enum iocp_family family)
{
    (void)family;
    return 0;
}

int iocp__socket_set(iocp_handle handle, enum iocp__socket_option option, int value)
{
    if (value < 0)
        return IOCP_EINVAL;
    switch (option) {
    case IOCP__OPTION_NODELAY:
        return socket_set_int(handle, IPPROTO_TCP, TCP_NODELAY, value);
    case IOCP__OPTION_KEEPALIVE_S:
        return socket_set_keepalive(handle, value);
    case IOCP__OPTION_SEND_BUFFER:
        return socket_set_int(handle, SOL_SOCKET, SO_SNDBUF, value);
    case IOCP__OPTION_RECEIVE_BUFFER:
        return socket_set_int(handle, SOL_SOCKET, SO_RCVBUF, value);
    case IOCP__OPTION_REUSE_ADDRESS:
        /* SO_REUSEADDR would let another program take a listening address over. The price, as
         * documented: the address cannot be bound again while a connection lives that the former
         * listener accepted. */
        return socket_set_int(handle, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, value);
    case IOCP__OPTION_REUSE_PORT:
        return value ? IOCP_ENOTSUP : 0;
    case IOCP__OPTION_IPV6_ONLY:
        return socket_set_int(handle, IPPROTO_IPV6, IPV6_V6ONLY, value);
    case IOCP__OPTION_RESET_ON_CLOSE:
        return socket_set_reset(handle, value);
    }
    return IOCP_EINVAL;
}

/* ---- Unix sockets. */

/* Not 0 when `address` names a socket in the file system, and not a file of any other kind. */
static int unix_names_socket(const struct iocp_address *address)
{
    struct sockaddr_un name;
    char path[sizeof(name.sun_path) + 1];
    WCHAR wide[IOCP__WIDE_MAX];
    size_t size = address->size;
    FILE_ATTRIBUTE_TAG_INFO info = {0, 0};
    HANDLE file;
    int is_socket;

    if (size <= offsetof(struct sockaddr_un, sun_path) || size > sizeof(address->storage))
        return 0;
    if (size > sizeof(name))
        size = sizeof(name);
    memset(&name, 0, sizeof(name));
    memcpy(&name, address->storage.bytes, size);
    if (name.sun_family != AF_UNIX || name.sun_path[0] == 0)
        return 0;
    memcpy(path, name.sun_path, sizeof(name.sun_path));
    path[sizeof(name.sun_path)] = 0;
    if (iocp__wide(path, wide) < 0)
        return 0;
    /* The thing itself and not what it may lead to. */
    file = CreateFileW(wide, FILE_READ_ATTRIBUTES,
                       FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING,
                       FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return 0;
    is_socket = GetFileInformationByHandleEx(file, FileAttributeTagInfo, &info, sizeof(info)) &&
                (info.FileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) &&
                info.ReparseTag == (DWORD)IO_REPARSE_TAG_AF_UNIX;
    CloseHandle(file);
    return is_socket;
}

/* The error of a non-blocking connect that has begun; 0: connected, or nothing is known in time. */
static int32_t unix_await_connect(SOCKET handle)
{
    struct timeval limit = {0, 100 * 1000};
    fd_set failed;
    fd_set connected;

    FD_ZERO(&failed);
    FD_ZERO(&connected);
    FD_SET(handle, &failed);
    FD_SET(handle, &connected);
    if (select(0, NULL, &connected, &failed, &limit) <= 0)
        return 0;
    return iocp__socket_pending_error((iocp_handle)handle);
}

int iocp__unix_is_stale(const struct iocp_address *address)
{
    iocp_handle handle = IOCP_HANDLE_INVALID;
    int32_t error = 0;

    if (!unix_names_socket(address))
        return 0;
    if (iocp__socket_open(IOCP_FAMILY_UNIX, IOCP__SOCKET_STREAM, &handle, NULL) < 0)
        return 0;
    if (connect((SOCKET)handle, (const void *)address->storage.bytes, (int)address->size) != 0)
        error = WSAGetLastError();
    if (error == WSAEWOULDBLOCK)
        error = unix_await_connect((SOCKET)handle);
    iocp__handle_close(handle);
    return error == WSAECONNREFUSED;
}
