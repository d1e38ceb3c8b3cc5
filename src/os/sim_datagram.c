/* Datagrams of the simulated network: none is lost, each travels for a while, and those to one
 * socket arrive in the order of sending. See sim.h. */
#include "os/sim_net.h"

#define DATAGRAM_MAX 65507 /* as of UDP over IPv4 */

struct iocp__sim_datagram {
    struct iocp__sim_datagram *next;
    uint64_t time_ns; /* when it arrives */
    struct iocp_address from;
    size_t size;
    unsigned char bytes[];
};

int iocp__sim_is_datagram(iocp_handle handle)
{
    return iocp__sim_socket_get(handle)->state == IOCP__SIM_DATAGRAM;
}

int iocp__sim_datagram_is_there(const struct iocp__sim_socket *socket)
{
    return socket->datagrams && socket->datagrams->time_ns <= iocp__sim_now_ns();
}

/* One that is bound there, and connected to nobody else. */
static struct iocp__sim_socket *datagram_receiver(const struct iocp_address *to,
                                                  const struct iocp_address *from)
{
    for (struct iocp__sim_socket *socket = iocp__sim_socket_next(NULL); socket;
         socket = iocp__sim_socket_next(socket)) {
        if (socket->state == IOCP__SIM_DATAGRAM && iocp_address_equal(&socket->name, to) &&
            (!socket->target.size || iocp_address_equal(&socket->target, from)))
            return socket;
    }
    return NULL;
}

static void datagram_arrives(void *context, uint64_t value)
{
    (void)context;
    iocp__sim_socket_changed(iocp__sim_socket_find((iocp_handle)value));
}

static void datagram_queue(struct iocp__sim_socket *receiver, struct iocp__sim_datagram *datagram)
{
    struct iocp__sim_datagram **last = &receiver->datagrams;
    datagram->time_ns = iocp__sim_net_later_ns();
    for (; *last; last = &(*last)->next) {
        if (datagram->time_ns < (*last)->time_ns)
            datagram->time_ns = (*last)->time_ns; /* one behind the other */
    }
    *last = datagram;
    iocp__sim_at(datagram->time_ns, datagram_arrives, NULL, (uint64_t)receiver->handle);
}

int64_t iocp__sim_send_to(iocp_handle handle, const void *data, size_t size,
                          const struct iocp_address *address)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    const unsigned char *bytes = data;
    if (!address)
        address = &socket->target;
    if (!address->size)
        return IOCP_ENOTCONN;
    if (size > DATAGRAM_MAX)
        return IOCP_EMSGSIZE;
    iocp__sim_socket_name(socket);
    struct iocp__sim_socket *receiver = datagram_receiver(address, &socket->name);
    if (!receiver)
        return (int64_t)size;
    struct iocp__sim_datagram *datagram = iocp__sim_allocate(sizeof(*datagram) + size);
    datagram->from = socket->name;
    datagram->size = size;
    for (size_t i = 0; i < size; i++)
        datagram->bytes[i] = bytes[i];
    datagram_queue(receiver, datagram);
    return (int64_t)size;
}

int64_t iocp__sim_recv_from(iocp_handle handle, void *data, size_t size,
                            struct iocp_address *out_address)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    struct iocp__sim_datagram *datagram = socket->datagrams;
    unsigned char *to = data;
    if (!iocp__sim_datagram_is_there(socket))
        return IOCP_EAGAIN;
    int64_t whole = (int64_t)datagram->size;
    for (size_t i = 0; i < size && i < datagram->size; i++)
        to[i] = datagram->bytes[i];
    if (out_address)
        *out_address = datagram->from;
    socket->datagrams = datagram->next;
    iocp__sim_release(datagram);
    return whole;
}

void iocp__sim_datagrams_free(struct iocp__sim_socket *socket)
{
    while (socket->datagrams) {
        struct iocp__sim_datagram *datagram = socket->datagrams;
        socket->datagrams = datagram->next;
        iocp__sim_release(datagram);
    }
}
