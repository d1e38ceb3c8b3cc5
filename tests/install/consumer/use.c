/* A user's program in C: one packet through a port, with the installed library. */
#include <iocp.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
    struct iocp_port *port;
    struct iocp_packet packet;
    struct iocp_op op;

    if (strcmp(iocp_version(), IOCP_VERSION) != 0)
        return 1;
    if (iocp_port_create(NULL, &port) < 0)
        return 1;
    iocp_op_init(&op, NULL);
    iocp_op_post(&op, 7, 42);
    iocp_port_post(port, NULL, &op);
    int count = iocp_port_wait(port, &packet, 1, IOCP_WAIT_FOREVER);
    if (count != 1 || packet.key != 7 || packet.result != 42)
        return 1;
    iocp_packet_release(&packet);
    iocp_port_unref(port);
    printf("iocp %s: %d packet\n", iocp_version(), count);
    return 0;
}
