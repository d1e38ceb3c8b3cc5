/* Ports of tests in the simulation, for the invariants of tests/sim/invariants.c, which are looked
 * at whenever nobody can go on. The linker puts these functions around those of the library. */
#include "sim/sim.h"

int __real_iocp_port_create(const struct iocp_port_config *config, struct iocp_port **out_port);
int __wrap_iocp_port_create(const struct iocp_port_config *config, struct iocp_port **out_port);
void __real_iocp__watch_stop(struct iocp_port *port);
void __wrap_iocp__watch_stop(struct iocp_port *port);

int __wrap_iocp_port_create(const struct iocp_port_config *config, struct iocp_port **out_port)
{
    int error = __real_iocp_port_create(config, out_port);
    if (error == 0)
        sim_port_add(*out_port);
    return error;
}

/* The beginning of a port's end: nobody waits there any more. */
void __wrap_iocp__watch_stop(struct iocp_port *port)
{
    sim_port_remove(port);
    __real_iocp__watch_stop(port);
}
