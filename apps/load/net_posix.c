/* Sockets on Linux. */
#include "net.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

/* The port is chosen when it connects: for that destination alone it has to be free. */
static int net_bind(int descriptor, uint32_t source)
{
    const int on = 1;
    struct sockaddr_in name = {.sin_family = AF_INET};
    name.sin_addr.s_addr = htonl(0x7f000000u + source);
    if (setsockopt(descriptor, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0 ||
        bind(descriptor, (const struct sockaddr *)&name, sizeof name) != 0) {
        return iocp_error_from_os(errno);
    }
    return 0;
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
    const int on = 1;
    int family = net_family(target);
    int descriptor = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) {
        return iocp_error_from_os(errno);
    }
    if (family != AF_UNIX) {
        (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    int error = source != 0 ? net_bind(descriptor, source) : 0;
    if (error < 0) {
        close(descriptor);
        return error;
    }
    *out_handle = descriptor;
    return 0;
}

void net_close(iocp_handle handle)
{
    close((int)handle);
}
