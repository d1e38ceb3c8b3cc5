/* Workload i: timers of a port, ended by handlers. A canceled timer is answered with a packet, and
 * the time for that belongs to the cancel. */
#include "timers.h"

#include <iocp/error.h>
#include <iocp/port.h>

#include <stdlib.h>

static struct iocp_port *port;
static struct iocp_op *ops;
static uint64_t canceled_count;
static void (*ended_callback)(uint32_t index);

static void timer_ended(const struct iocp_packet *packet)
{
    if (packet->result == 0)
        ended_callback((uint32_t)packet->key);
    else
        canceled_count++;
}

static void port_open(uint32_t count, void (*ended)(uint32_t index))
{
    ended_callback = ended;
    canceled_count = 0;
    ops = micro_allocate(count * sizeof(*ops));
    for (uint32_t i = 0; i < count; i++)
        iocp_op_init(&ops[i], timer_ended);
    micro_check(iocp_port_create(NULL, &port) == 0, "iocp", "a port");
}

static void port_update(void)
{
}

static void port_start(uint32_t index, uint64_t timeout_ms)
{
    iocp_op_timer(&ops[index], timeout_ms * 1000000, index);
    if (iocp_port_submit(port, NULL, &ops[index]) < 0)
        abort();
}

static void port_cancel(uint32_t index)
{
    if (iocp_port_cancel(port, &ops[index]) < 0)
        abort();
}

static void port_settle(uint64_t canceled)
{
    while (canceled_count < canceled)
        iocp_port_dispatch(port, IOCP_WAIT_FOREVER);
    micro_check(canceled_count == canceled, "iocp", "each cancel is answered once");
    canceled_count = 0;
}

static void port_run(void)
{
    iocp_port_dispatch(port, 0);
}

static void port_close(void)
{
    port = iocp_port_unref(port);
    free(ops);
}

static const struct timers_peer peer = {"iocp",      port_open,   port_update, port_start,
                                        port_cancel, port_settle, port_run,    port_close};

const struct timers_peer *const timers_peers[] = {&peer, NULL};
