/* Sockets on Linux: making them, their addresses and options. What moves bytes is the backends'. */
#include "os/os.h"

#include "base/assert.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Ends a call: maps errno when `result` says that it failed. */
static int socket_result(int result, int32_t *out_os_error)
{
    if (result >= 0)
        return 0;
    if (out_os_error)
        *out_os_error = errno;
    return iocp_error_from_os(errno);
}

/* For misuse that never reaches the system. */
static int socket_misuse(int32_t *out_os_error)
{
    if (out_os_error)
        *out_os_error = EINVAL;
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

int iocp__socket_open(enum iocp_family family, int type, iocp_handle *out_handle,
                      int32_t *out_os_error)
{
    int domain = socket_domain(family);
    int descriptor;

    if (domain == AF_UNSPEC || (type != IOCP__SOCKET_STREAM && type != IOCP__SOCKET_DATAGRAM))
        return socket_misuse(out_os_error);
    type = type == IOCP__SOCKET_STREAM ? SOCK_STREAM : SOCK_DGRAM;
    descriptor = socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return socket_result(-1, out_os_error);
    *out_handle = descriptor;
    return 0;
}

int iocp__socket_bind(iocp_handle handle, const struct iocp_address *address, int32_t *out_os_error)
{
    if (address->size > sizeof(address->storage))
        return socket_misuse(out_os_error);
    return socket_result(
        bind((int)handle, (const void *)address->storage.bytes, (socklen_t)address->size),
        out_os_error);
}

int iocp__socket_listen(iocp_handle handle, uint32_t backlog, int32_t *out_os_error)
{
    /* The kernel cuts it to net.core.somaxconn. */
    int most = backlog == 0 || backlog > INT_MAX ? INT_MAX : (int)backlog;
    return socket_result(listen((int)handle, most), out_os_error);
}

/* `get` is getsockname or getpeername. */
static int socket_address(int (*get)(int, struct sockaddr *, socklen_t *), iocp_handle handle,
                          struct iocp_address *out_address)
{
    struct iocp_address address;
    socklen_t size = sizeof(address.storage);

    memset(&address, 0, sizeof(address));
    if (get((int)handle, (void *)address.storage.bytes, &size))
        return iocp_error_from_os(errno);
    iocp__assert(size <= sizeof(address.storage));
    address.size = (uint32_t)size;
    /* The family alone: a Unix socket without a name, which is no address. */
    if (size <= sizeof(sa_family_t))
        memset(&address, 0, sizeof(address));
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
    return socket_result(shutdown((int)handle, SHUT_WR), out_os_error);
}

int32_t iocp__socket_pending_error(iocp_handle handle)
{
    int error = 0;
    socklen_t size = sizeof(error);

    if (getsockopt((int)handle, SOL_SOCKET, SO_ERROR, &error, &size))
        return errno;
    return error;
}

/* ---- Options. */

static int socket_set_int(iocp_handle handle, int level, int name, int value)
{
    if (setsockopt((int)handle, level, name, &value, sizeof(value)) == 0)
        return 0;
    /* How a family says that it lacks an option: TCP, UDP and IP the first way, Unix both ways. */
    if (errno == ENOPROTOOPT || errno == EOPNOTSUPP)
        return 0;
    return iocp_error_from_os(errno);
}

static int socket_set_keepalive(iocp_handle handle, int seconds)
{
    const int seconds_max = 32767; /* MAX_TCP_KEEPIDLE of the kernel: more is EINVAL */
    int result = socket_set_int(handle, SOL_SOCKET, SO_KEEPALIVE, seconds > 0);

    if (result < 0 || seconds == 0)
        return result;
    return socket_set_int(handle, IPPROTO_TCP, TCP_KEEPIDLE,
                          seconds < seconds_max ? seconds : seconds_max);
}

static int socket_set_reset(iocp_handle handle, int value)
{
    struct linger linger = {.l_onoff = value != 0, .l_linger = 0};

    return socket_result(setsockopt((int)handle, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)),
                         NULL);
}

int iocp__accepted_has_options(enum iocp_family family)
{
    return family == IOCP_FAMILY_IPV4 || family == IOCP_FAMILY_IPV6;
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
        return socket_set_int(handle, SOL_SOCKET, SO_REUSEADDR, value);
    case IOCP__OPTION_REUSE_PORT:
        return socket_set_int(handle, SOL_SOCKET, SO_REUSEPORT, value);
    case IOCP__OPTION_IPV6_ONLY:
        return socket_set_int(handle, IPPROTO_IPV6, IPV6_V6ONLY, value);
    case IOCP__OPTION_RESET_ON_CLOSE:
        return socket_set_reset(handle, value);
    }
    return IOCP_EINVAL;
}

/* ---- Unix sockets. */

/* Not 0 when `address` names a socket in the file system. The kernel refuses to connect to a file
 * of any other kind with the same ECONNREFUSED (net/unix/af_unix.c, unix_find_bsd): without this
 * look a listener would take a user's file for a dead socket, and remove it. */
static int unix_names_socket(const struct iocp_address *address)
{
    struct sockaddr_un name;
    char path[sizeof(name.sun_path) + 1];
    size_t size = address->size;
    struct stat status;

    if (size <= offsetof(struct sockaddr_un, sun_path) || size > sizeof(address->storage))
        return 0;
    if (size > sizeof(name))
        size = sizeof(name);
    memset(&name, 0, sizeof(name));
    memcpy(&name, address->storage.bytes, size);
    if (name.sun_family != AF_UNIX || name.sun_path[0] == 0)
        return 0; /* an abstract name ends with its socket */
    memcpy(path, name.sun_path, sizeof(name.sun_path));
    path[sizeof(name.sun_path)] = 0;
    return lstat(path, &status) == 0 && S_ISSOCK(status.st_mode);
}

int iocp__unix_is_stale(const struct iocp_address *address)
{
    iocp_handle handle = IOCP_HANDLE_INVALID;
    int refused;

    if (!unix_names_socket(address))
        return 0;
    if (iocp__socket_open(IOCP_FAMILY_UNIX, IOCP__SOCKET_STREAM, &handle, NULL) < 0)
        return 0;
    refused =
        connect((int)handle, (const void *)address->storage.bytes, (socklen_t)address->size) != 0 &&
        errno == ECONNREFUSED;
    iocp__handle_close(handle);
    return refused;
}
