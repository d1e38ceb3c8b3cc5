/* The simulated network: connections, and what travels on them.
 *
 * What is written into a pipe becomes visible to the reader later and in pieces, the end of the
 * stream behind it; a reset overtakes both. A close with unread bytes is a reset, as on Linux, and
 * so is what arrives at a closed end.
 *
 * Invariants of a pipe: read <= visible <= written <= read + window, unless the window was made
 * smaller; fin_visible implies fin_sent and visible = written. */
#include "os/sim_net.h"

#include "base/assert.h"

#include <string.h>

#define NET_BACKLOG_MAX 4096
#define NET_WINDOW_MIN 256

static struct {
    struct iocp__sim_connection *connections;
    uint32_t latency_max_ns;
    uint32_t window_max;
    uint32_t send_size; /* 0: windows of chance */
    uint32_t receive_size;
} net;

/* ---- Small things. */

uint32_t iocp__sim_net_below(uint32_t count)
{
    return iocp__sim_below(IOCP__SIM_NETWORK, count);
}

uint64_t iocp__sim_net_later_ns(void)
{
    uint32_t most = iocp__sim_net_below(8) ? net.latency_max_ns / 16 : net.latency_max_ns;
    return iocp__sim_now_ns() + iocp__sim_net_below(most + 1);
}

static void net_changed_end(struct iocp__sim_connection *connection, int end)
{
    if (connection->handles[end] != IOCP_HANDLE_INVALID && !connection->closed[end])
        iocp__sim_socket_changed(iocp__sim_socket_find(connection->handles[end]));
}

void iocp__sim_net_begin(const struct iocp__sim_config *config)
{
    memset(&net, 0, sizeof(net));
    net.latency_max_ns = config->latency_max_ns;
    net.window_max = config->window_max;
    net.send_size = config->send_size;
    net.receive_size = config->receive_size;
    iocp__sim_sockets_begin(config);
}

void iocp__sim_net_end(void)
{
    iocp__sim_sockets_end();
}

void iocp__sim_net_free(void)
{
    while (net.connections) {
        struct iocp__sim_connection *connection = net.connections;
        net.connections = connection->next;
        iocp__sim_release(connection->pipes[0].ring);
        iocp__sim_release(connection->pipes[1].ring);
        iocp__sim_release(connection);
    }
}

/* ---- Connections. */

static struct iocp__sim_connection *net_connection_new(void)
{
    struct iocp__sim_connection *connection = iocp__sim_allocate(sizeof(*connection));
    for (int i = 0; i < 2; i++) {
        struct iocp__sim_pipe *pipe = &connection->pipes[i];
        if (net.send_size)
            pipe->window = net.send_size + net.receive_size;
        else
            pipe->window =
                1 + iocp__sim_net_below(iocp__sim_net_below(2) ? net.window_max
                                                               : net.window_max / 64 + 1);
        connection->handles[i] = IOCP_HANDLE_INVALID;
    }
    connection->next = net.connections;
    net.connections = connection;
    iocp__sim_count_connection();
    return connection;
}

/* The end of a connection, or who stands for it. */
static const struct iocp__sim_socket *net_end(const struct iocp__sim_connection *connection,
                                              int end)
{
    return connection->closed[end] ? NULL : iocp__sim_socket_find(connection->handles[end]);
}

void iocp__sim_connection_fit(struct iocp__sim_connection *connection)
{
    if (!net.send_size)
        return;
    for (int i = 0; i < 2; i++) {
        const struct iocp__sim_socket *from = net_end(connection, i);
        const struct iocp__sim_socket *to = net_end(connection, 1 - i);
        uint64_t window = from && from->send_size ? from->send_size : net.send_size;
        window += to && to->receive_size ? to->receive_size : net.receive_size;
        if (window < NET_WINDOW_MIN)
            window = NET_WINDOW_MIN;
        connection->pipes[i].window = (uint32_t)(window < INT32_MAX ? window : INT32_MAX);
    }
}

static void net_attach(struct iocp__sim_socket *socket, struct iocp__sim_connection *connection,
                       int end)
{
    socket->connection = connection;
    socket->end = end;
    socket->state = IOCP__SIM_CONNECTED;
    connection->handles[end] = socket->handle;
    iocp__sim_socket_note(socket->handle, connection);
    iocp__sim_connection_fit(connection);
}

struct iocp__sim_connection *iocp__sim_connection(iocp_handle handle, int *out_end)
{
    struct iocp__sim_connection *connection = iocp__sim_socket_noted(handle);
    if (connection)
        *out_end = connection->handles[1] == handle;
    return connection;
}

struct iocp__sim_connection *iocp__sim_connections(void)
{
    return net.connections;
}

/* ---- What travels. Events name a connection, and 2 * number + the end that it leaves from. */

static void net_reset_arrives(void *context, uint64_t value)
{
    struct iocp__sim_connection *connection = context;
    int from = (int)(value & 1);
    struct iocp__sim_pipe *pipe = &connection->pipes[from];
    if (connection->closed[1 - from] || pipe->reset)
        return;
    pipe->reset = 1;
    /* Linux lets the reader have what was there, Windows does not. */
    if (iocp__sim_net_below(2))
        pipe->read = pipe->visible;
    net_changed_end(connection, 1 - from);
}

static void net_send_reset(struct iocp__sim_connection *connection, int from)
{
    connection->reset = 1;
    iocp__sim_at(iocp__sim_net_later_ns(), net_reset_arrives, connection, (uint64_t)from);
}

static void net_bytes_arrive(void *context, uint64_t value)
{
    struct iocp__sim_connection *connection = context;
    int from = (int)(value & 1);
    struct iocp__sim_pipe *pipe = &connection->pipes[from];
    uint64_t upto = value >> 1;
    /* What was delivered behind the end of the stream comes too late to be news. */
    if (connection->closed[1 - from] && !connection->closed[from] && upto > pipe->visible)
        net_send_reset(connection, 1 - from);
    if (connection->closed[1 - from] || pipe->reset)
        return;
    if (upto > pipe->visible)
        pipe->visible = upto;
    net_changed_end(connection, 1 - from);
}

static void net_end_arrives(void *context, uint64_t value)
{
    struct iocp__sim_connection *connection = context;
    int from = (int)(value & 1);
    struct iocp__sim_pipe *pipe = &connection->pipes[from];
    if (connection->closed[1 - from] || pipe->reset)
        return;
    pipe->visible = pipe->written;
    pipe->fin_visible = 1;
    net_changed_end(connection, 1 - from);
}

static void net_send_end(struct iocp__sim_connection *connection, int from)
{
    if (connection->pipes[from].fin_sent)
        return;
    connection->pipes[from].fin_sent = 1;
    iocp__sim_at(iocp__sim_net_later_ns(), net_end_arrives, connection, (uint64_t)from);
}

/* ---- Connecting and accepting. */

int iocp__sim_backlog(uint16_t port)
{
    for (struct iocp__sim_socket *socket = iocp__sim_socket_next(NULL); socket;
         socket = iocp__sim_socket_next(socket)) {
        if (socket->state == IOCP__SIM_LISTENING && iocp_address_port(&socket->name) == port)
            return (int)socket->backlog_count;
    }
    return -1;
}

static void net_connect_fails(struct iocp__sim_socket *socket, int error)
{
    socket->state = IOCP__SIM_FAILED;
    socket->error = error;
    iocp__sim_socket_changed(socket);
}

static void net_backlog_add(struct iocp__sim_socket *listener,
                            struct iocp__sim_connection *connection)
{
    struct iocp__sim_connection **last = &listener->backlog;
    while (*last)
        last = &(*last)->backlog_next;
    *last = connection;
    listener->backlog_count++;
}

/* The connect has come to the other end. */
static void net_connect_lands(struct iocp__sim_socket *socket)
{
    int error = IOCP_ECONNREFUSED;
    struct iocp__sim_socket *listener = iocp__sim_socket_listener(&socket->target, &error);
    if (listener && listener->deaf)
        return;
    if (!listener || listener->backlog_count == NET_BACKLOG_MAX) {
        net_connect_fails(socket, error);
        return;
    }
    struct iocp__sim_connection *connection = net_connection_new();
    iocp__sim_socket_name(socket);
    connection->names[0] = socket->name;
    connection->names[1] = socket->target;
    /* What is accepted has the options of the listener; until then it takes its place. */
    connection->handles[1] = listener->handle;
    net_attach(socket, connection, 0);
    connection->handles[1] = IOCP_HANDLE_INVALID;
    net_backlog_add(listener, connection);
    iocp__sim_socket_changed(listener);
    iocp__sim_socket_changed(socket);
}

/* Whose connect an event is about; NULL: it was closed meanwhile. */
static struct iocp__sim_socket *net_connecting(uint64_t value)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_find((iocp_handle)(value >> 32));
    int same = socket && socket->serial == (uint32_t)value;
    return same && socket->state == IOCP__SIM_CONNECTING ? socket : NULL;
}

static void net_connect_arrives(void *context, uint64_t value)
{
    struct iocp__sim_socket *socket = net_connecting(value);
    (void)context;
    if (socket)
        net_connect_lands(socket);
}

void iocp__sim_connect_now(struct iocp__sim_socket *socket, const struct iocp_address *address)
{
    socket->target = *address;
    net_connect_lands(socket);
}

static void net_connect_lost(void *context, uint64_t value)
{
    struct iocp__sim_socket *socket = net_connecting(value);
    (void)context;
    if (socket)
        net_connect_fails(socket, iocp__sim_net_below(2) ? IOCP_ETIMEDOUT : IOCP_EHOSTUNREACH);
}

int iocp__sim_connect(iocp_handle handle, const struct iocp_address *address)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    if (socket->state == IOCP__SIM_DATAGRAM) {
        iocp__sim_socket_name(socket);
        socket->target = *address;
        return 0;
    }
    if (socket->state != IOCP__SIM_FRESH)
        return IOCP_EISCONN;
    socket->state = IOCP__SIM_CONNECTING;
    socket->target = *address;
    uint64_t value = (uint64_t)handle << 32 | socket->serial;
    if (iocp__sim_chance(IOCP__SIM_CONNECT))
        iocp__sim_at(iocp__sim_now_ns() + iocp__sim_net_below(4) * UINT64_C(500000000),
                     net_connect_lost, NULL, value);
    else
        iocp__sim_at(iocp__sim_net_later_ns(), net_connect_arrives, NULL, value);
    return 0;
}

int iocp__sim_connected(iocp_handle handle)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    if (socket->state == IOCP__SIM_CONNECTED || socket->state == IOCP__SIM_DATAGRAM)
        return 0;
    return socket->state == IOCP__SIM_FAILED ? socket->error : IOCP_EAGAIN;
}

int iocp__sim_accept(iocp_handle handle, iocp_handle *out_handle)
{
    static const int errors[] = {IOCP_EMFILE, IOCP_ENOBUFS, IOCP_ENOMEM};
    struct iocp__sim_socket *listener = iocp__sim_socket_get(handle);
    if (listener->state != IOCP__SIM_LISTENING)
        return IOCP_EINVAL;
    if (!listener->backlog_count)
        return IOCP_EAGAIN;
    if (iocp__sim_chance(IOCP__SIM_ACCEPT))
        return errors[iocp__sim_net_below(3)];
    if (iocp__sim_socket_is_full())
        return IOCP_EMFILE;
    struct iocp__sim_connection *connection = listener->backlog;
    listener->backlog = connection->backlog_next;
    listener->backlog_count--;
    connection->backlog_next = NULL;
    struct iocp__sim_socket *socket = iocp__sim_socket_new(listener->family);
    if (iocp__accepted_has_options(listener->family)) {
        socket->send_size = listener->send_size;
        socket->receive_size = listener->receive_size;
    }
    net_attach(socket, connection, 1);
    *out_handle = socket->handle;
    return 0;
}

void iocp__sim_deafen(iocp_handle handle)
{
    iocp__sim_socket_get(handle)->deaf = 1;
}

void iocp__sim_pair(iocp_handle out_handles[2])
{
    struct iocp__sim_connection *connection = net_connection_new();
    for (int i = 0; i < 2; i++) {
        struct iocp__sim_socket *socket = iocp__sim_socket_new(IOCP_FAMILY_UNIX);
        net_attach(socket, connection, i);
        out_handles[i] = socket->handle;
    }
}

/* ---- Bytes. */

int iocp__sim_readable(iocp_handle handle)
{
    const struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    if (socket->state == IOCP__SIM_LISTENING)
        return socket->backlog_count != 0;
    if (socket->state == IOCP__SIM_DATAGRAM)
        return iocp__sim_datagram_is_there(socket);
    if (!socket->connection)
        return 1;
    const struct iocp__sim_pipe *pipe = &socket->connection->pipes[1 - socket->end];
    return pipe->visible > pipe->read || pipe->fin_visible || pipe->reset;
}

static uint64_t net_free(const struct iocp__sim_pipe *pipe)
{
    uint64_t used = pipe->written - pipe->read;
    return used < pipe->window ? pipe->window - used : 0;
}

int iocp__sim_writable(iocp_handle handle)
{
    const struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    if (!socket->connection)
        return 1;
    const struct iocp__sim_pipe *pipe = &socket->connection->pipes[socket->end];
    return net_free(pipe) > 0 || pipe->fin_sent || socket->connection->pipes[1 - socket->end].reset;
}

int iocp__sim_hung_up(iocp_handle handle)
{
    const struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    if (!socket->connection)
        return 0;
    const struct iocp__sim_pipe *in = &socket->connection->pipes[1 - socket->end];
    return in->reset || (in->fin_visible && socket->connection->pipes[socket->end].fin_sent);
}

static size_t net_part(size_t size)
{
    /* All, or any number of bytes: mostly few. */
    if (!iocp__sim_chance(IOCP__SIM_SHORT) || size < 2)
        return size;
    size_t most = iocp__sim_net_below(2) && size > 8 ? 8 : size;
    return 1 + iocp__sim_net_below((uint32_t)most);
}

/* The bytes of the ring from `at` on that lie in one piece. */
static size_t net_piece(const struct iocp__sim_pipe *pipe, uint64_t at, size_t size)
{
    size_t rest = pipe->room - (size_t)(at % pipe->room);
    return size < rest ? size : rest;
}

static void net_take(const struct iocp__sim_pipe *pipe, uint64_t at, unsigned char *to, size_t size)
{
    while (size) {
        size_t count = net_piece(pipe, at, size);
        const unsigned char *from = pipe->ring + at % pipe->room;
        for (size_t i = 0; i < count; i++)
            to[i] = from[i];
        at += count;
        to += count;
        size -= count;
    }
}

static void net_put(struct iocp__sim_pipe *pipe, uint64_t at, const unsigned char *from,
                    size_t size)
{
    while (size) {
        size_t count = net_piece(pipe, at, size);
        unsigned char *to = pipe->ring + at % pipe->room;
        for (size_t i = 0; i < count; i++)
            to[i] = from[i];
        at += count;
        from += count;
        size -= count;
    }
}

/* Makes room for `size` bytes behind those that are in the ring. */
static void net_grow(struct iocp__sim_pipe *pipe, size_t size)
{
    struct iocp__sim_pipe before = *pipe;
    size_t used = (size_t)(pipe->written - pipe->read);
    if (used + size <= pipe->room)
        return;
    while (pipe->room < used + size)
        pipe->room = pipe->room ? pipe->room * 2 : 1024;
    pipe->ring = iocp__sim_allocate(pipe->room);
    for (uint64_t at = pipe->read; at < pipe->written;) {
        size_t count = net_piece(&before, at, (size_t)(pipe->written - at));
        net_put(pipe, at, before.ring + at % before.room, count);
        at += count;
    }
    iocp__sim_release(before.ring);
}

int64_t iocp__sim_recv(iocp_handle handle, void *data, size_t size)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    if (!socket->connection)
        return IOCP_ENOTCONN;
    struct iocp__sim_pipe *pipe = &socket->connection->pipes[1 - socket->end];
    uint64_t there = pipe->visible - pipe->read;
    if (!there)
        return pipe->reset ? IOCP_ECONNRESET : pipe->fin_visible ? IOCP_EEOF : IOCP_EAGAIN;
    size_t count = net_part(size < there ? size : (size_t)there);
    net_take(pipe, pipe->read, data, count);
    pipe->read += count;
    iocp__sim_count_bytes(count);
    net_changed_end(socket->connection, 1 - socket->end); /* there is room again */
    return (int64_t)count;
}

int64_t iocp__sim_send(iocp_handle handle, const void *data, size_t size)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    if (!socket->connection)
        return IOCP_ENOTCONN;
    struct iocp__sim_connection *connection = socket->connection;
    struct iocp__sim_pipe *pipe = &connection->pipes[socket->end];
    if (connection->pipes[1 - socket->end].reset)
        return IOCP_ECONNRESET;
    if (pipe->fin_sent)
        return IOCP_EPIPE;
    uint64_t room = net_free(pipe);
    if (!room)
        return IOCP_EAGAIN;
    size_t count = net_part(size < room ? size : (size_t)room);
    net_grow(pipe, count);
    net_put(pipe, pipe->written, data, count);
    pipe->written += count;
    iocp__sim_at(iocp__sim_net_later_ns(), net_bytes_arrive, connection,
                 pipe->written << 1 | (uint64_t)socket->end);
    return (int64_t)count;
}

void iocp__sim_reset(iocp_handle handle)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    if (!socket->connection)
        return;
    net_send_reset(socket->connection, 0);
    net_send_reset(socket->connection, 1);
}

/* ---- Ends. */

int iocp__socket_shutdown_send(iocp_handle handle, int32_t *out_os_error)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    struct iocp__sim_connection *connection = socket->connection;
    if (!connection || connection->pipes[1 - socket->end].reset) {
        if (out_os_error)
            *out_os_error = iocp__sim_os_error(IOCP_ENOTCONN);
        return IOCP_ENOTCONN;
    }
    iocp__sim_trace("handle %d ends its stream", (int)handle);
    net_send_end(connection, socket->end);
    return 0;
}

static void net_close_connected(struct iocp__sim_socket *socket)
{
    struct iocp__sim_connection *connection = socket->connection;
    int end = socket->end;
    struct iocp__sim_pipe *in = &connection->pipes[1 - end];
    int unread = in->visible > in->read;
    connection->closed[end] = 1;
    connection->aborted[end] = socket->reset_on_close;
    if (in->reset)
        return;
    if (socket->reset_on_close || unread)
        net_send_reset(connection, end);
    else
        net_send_end(connection, end);
}

void iocp__sim_connection_close(struct iocp__sim_socket *socket)
{
    if (socket->connection)
        net_close_connected(socket);
    for (struct iocp__sim_connection *connection = socket->backlog; connection;
         connection = connection->backlog_next) {
        connection->closed[1] = 1;
        net_send_reset(connection, 1);
    }
}
