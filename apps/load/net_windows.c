/* Sockets on Windows. The port has started Winsock. */
#include "net.h"

#include <winsock2.h>
#include <ws2tcpip.h>

static int net_error(void)
{
    return iocp_error_from_os(WSAGetLastError());
}

static int net_bind(SOCKET handle, uint32_t source)
{
    struct sockaddr_in name = {.sin_family = AF_INET};
    name.sin_addr.s_addr = htonl(0x7f000000u + source);
    return bind(handle, (const struct sockaddr *)&name, sizeof name) == 0 ? 0 : net_error();
}

static int net_family(const struct iocp_address *target)
{
    switch (iocp_address_family(target)) {
    case IOCP_FAMILY_IPV6:
        return AF_INET6;
    case IOCP_FAMILY_UNIX:
        return AF_UNIX;
    default:
        return AF_INET;
    }
}

int net_open(const struct iocp_address *target, uint32_t source, iocp_handle *out_handle)
{
    const BOOL on = TRUE;
    int family = net_family(target);
    SOCKET handle = socket(family, SOCK_STREAM, 0); /* overlapped, as the port needs it */
    if (handle == INVALID_SOCKET) {
        return net_error();
    }
    if (family != AF_UNIX) {
        (void)setsockopt(handle, IPPROTO_TCP, TCP_NODELAY, (const char *)&on, sizeof on);
    }
    int error = source != 0 ? net_bind(handle, source) : 0;
    if (error < 0) {
        closesocket(handle);
        return error;
    }
    *out_handle = (iocp_handle)handle;
    return 0;
}

void net_close(iocp_handle handle)
{
    closesocket((SOCKET)handle);
}
