// A user's program in C++: one packet through a port, with the installed library.
#include <iocp.h>

#include <cstring>
#include <iostream>

static int handled;

static void handle(const iocp_packet *packet)
{
    handled += packet->key == 7 && packet->result == 42;
}

int main()
{
    iocp_port *port;
    iocp_op op;

    if (std::strcmp(iocp_version(), IOCP_VERSION) != 0)
        return 1;
    if (iocp_port_create(nullptr, &port) < 0)
        return 1;
    iocp_op_init(&op, handle);
    iocp_op_post(&op, 7, 42);
    iocp_port_post(port, nullptr, &op);
    int count = iocp_port_dispatch(port, IOCP_WAIT_FOREVER);
    iocp_port_unref(port);
    if (count != 1 || handled != 1)
        return 1;
    std::cout << "iocp " << iocp_version() << ": " << count << " packet\n";
    return 0;
}
