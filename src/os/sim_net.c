/* The simulated network: sockets, listeners and the connections between them.
 *
 * What is written into a pipe becomes visible to the reader later and in pieces, the end of the
 * stream behind it; a reset overtakes both. A close with unread bytes is a reset, as on Linux, and
 * so is what arrives at a closed end.
 *
 * Invariants of a pipe: read <= visible <= written <= read + window; fin_visible implies fin_sent
 * and visible = written. */
#include "os/sim.h"

#include "base/assert.h"

#include <stdio.h>
#include <string.h>

#define NET_SOCKETS_MAX 4096
#define NET_FIRST 16 /* the first handle: smaller ones are nobody's */
#define NET_BACKLOG 64

enum net_state { NET_FRESH = 1, NET_CONNECTING, NET_CONNECTED, NET_FAILED, NET_LISTENING };

struct net_socket {
    iocp_handle handle;
    uint32_t state;
    uint16_t port;
    int bound; /* to a port of completions */
    int reset_on_close;
    int error;
    struct iocp__sim_connection *connection;
    int end;
    struct iocp__sim_connection *backlog[NET_BACKLOG];
    uint32_t backlog_count;
    void (*changed)(void *watcher, iocp_handle handle);
    void *watcher;
};

static struct {
    struct net_socket *sockets[NET_SOCKETS_MAX];         /* by handle - NET_FIRST; NULL: closed */
    struct iocp__sim_connection *ended[NET_SOCKETS_MAX]; /* what a closed handle was an end of */
    uint32_t socket_count;
    uint32_t open_count;
    struct iocp__sim_connection *connections;
    uint32_t handles_max;
    uint32_t latency_max_ns;
    uint32_t window_max;
    uint16_t port_last;
} net;

/* ---- Small things. */

static uint32_t net_below(uint32_t count)
{
    return iocp__sim_below(IOCP__SIM_NETWORK, count);
}

/* Mostly short, now and then long. */
static uint64_t net_later_ns(void)
{
    uint32_t most = net_below(8) ? net.latency_max_ns / 16 : net.latency_max_ns;
    return iocp__sim_now_ns() + net_below(most + 1);
}

static struct net_socket *net_socket(iocp_handle handle)
{
    if (handle < NET_FIRST || handle >= NET_FIRST + (iocp_handle)net.socket_count)
        return NULL;
    return net.sockets[handle - NET_FIRST];
}

static struct net_socket *net_get(iocp_handle handle)
{
    struct net_socket *socket = net_socket(handle);
    if (!socket)
        iocp__sim_fail("handle %d is not open", (int)handle);
    return socket;
}

static void net_changed(struct net_socket *socket)
{
    if (socket && socket->changed)
        socket->changed(socket->watcher, socket->handle);
}

static void net_changed_end(struct iocp__sim_connection *connection, int end)
{
    if (connection->handles[end] != IOCP_HANDLE_INVALID && !connection->closed[end])
        net_changed(net_socket(connection->handles[end]));
}

static struct net_socket *net_new(void)
{
    iocp__assert(net.socket_count < NET_SOCKETS_MAX);
    struct net_socket *socket = iocp__sim_allocate(sizeof(*socket));
    socket->handle = NET_FIRST + (iocp_handle)net.socket_count;
    socket->state = NET_FRESH;
    net.sockets[net.socket_count++] = socket;
    net.open_count++;
    return socket;
}

static int net_is_full(void)
{
    return net.open_count >= net.handles_max && iocp__sim_faults_are_on();
}

void iocp__sim_net_begin(const struct iocp__sim_config *config)
{
    memset(&net, 0, sizeof(net));
    net.handles_max = config->handles_max;
    net.latency_max_ns = config->latency_max_ns;
    net.window_max = config->window_max;
    net.port_last = 1024;
}

void iocp__sim_net_end(void)
{
    for (uint32_t i = 0; i < net.socket_count; i++) {
        if (net.sockets[i])
            iocp__sim_fail("handle %d is open at the end", (int)(NET_FIRST + i));
    }
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
        pipe->window = 1 + net_below(net_below(2) ? net.window_max : net.window_max / 64 + 1);
        pipe->ring = iocp__sim_allocate(pipe->window);
        connection->handles[i] = IOCP_HANDLE_INVALID;
    }
    connection->next = net.connections;
    net.connections = connection;
    iocp__sim_count_connection();
    return connection;
}

static void net_attach(struct net_socket *socket, struct iocp__sim_connection *connection, int end)
{
    socket->connection = connection;
    socket->end = end;
    socket->state = NET_CONNECTED;
    connection->handles[end] = socket->handle;
    net.ended[socket->handle - NET_FIRST] = connection;
}

struct iocp__sim_connection *iocp__sim_connection(iocp_handle handle, int *out_end)
{
    if (handle < NET_FIRST || handle >= NET_FIRST + (iocp_handle)net.socket_count)
        return NULL;
    struct iocp__sim_connection *connection = net.ended[handle - NET_FIRST];
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
    if (net_below(2))
        pipe->read = pipe->visible;
    net_changed_end(connection, 1 - from);
}

static void net_send_reset(struct iocp__sim_connection *connection, int from)
{
    connection->reset = 1;
    iocp__sim_at(net_later_ns(), net_reset_arrives, connection, (uint64_t)from);
}

static void net_bytes_arrive(void *context, uint64_t value)
{
    struct iocp__sim_connection *connection = context;
    int from = (int)(value & 1);
    struct iocp__sim_pipe *pipe = &connection->pipes[from];
    uint64_t upto = value >> 1;
    if (connection->closed[1 - from] && !connection->closed[from])
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
    iocp__sim_at(net_later_ns(), net_end_arrives, connection, (uint64_t)from);
}

/* ---- Connecting and accepting. */

static struct net_socket *net_listener(uint16_t port)
{
    for (uint32_t i = 0; i < net.socket_count; i++) {
        struct net_socket *socket = net.sockets[i];
        if (socket && socket->state == NET_LISTENING && socket->port == port)
            return socket;
    }
    return NULL;
}

int iocp__sim_backlog(uint16_t port)
{
    struct net_socket *listener = net_listener(port);
    return listener ? (int)listener->backlog_count : -1;
}

static void net_connect_fails(struct net_socket *socket, int error)
{
    socket->state = NET_FAILED;
    socket->error = error;
    net_changed(socket);
}

static void net_connect_arrives(void *context, uint64_t value)
{
    struct net_socket *socket = net_socket((iocp_handle)value);
    uint16_t port = (uint16_t)(uintptr_t)context;
    struct net_socket *listener = net_listener(port);
    if (!socket || socket->state != NET_CONNECTING)
        return;
    if (!listener || listener->backlog_count == NET_BACKLOG) {
        net_connect_fails(socket, IOCP_ECONNREFUSED);
        return;
    }
    struct iocp__sim_connection *connection = net_connection_new();
    net_attach(socket, connection, 0);
    listener->backlog[listener->backlog_count++] = connection;
    net_changed(listener);
    net_changed(socket);
}

static void net_connect_lost(void *context, uint64_t value)
{
    struct net_socket *socket = net_socket((iocp_handle)value);
    (void)context;
    if (socket && socket->state == NET_CONNECTING)
        net_connect_fails(socket, net_below(2) ? IOCP_ETIMEDOUT : IOCP_EHOSTUNREACH);
}

int iocp__sim_connect(iocp_handle handle, uint16_t port)
{
    struct net_socket *socket = net_get(handle);
    if (socket->state != NET_FRESH)
        return IOCP_EISCONN;
    socket->state = NET_CONNECTING;
    if (iocp__sim_chance(IOCP__SIM_CONNECT))
        iocp__sim_at(iocp__sim_now_ns() + net_below(4) * UINT64_C(500000000), net_connect_lost,
                     NULL, (uint64_t)handle);
    else
        iocp__sim_at(net_later_ns(), net_connect_arrives, (void *)(uintptr_t)port,
                     (uint64_t)handle);
    return 0;
}

int iocp__sim_connected(iocp_handle handle)
{
    struct net_socket *socket = net_get(handle);
    if (socket->state == NET_CONNECTED)
        return 0;
    return socket->state == NET_FAILED ? socket->error : IOCP_EAGAIN;
}

int iocp__sim_accept(iocp_handle handle, iocp_handle *out_handle)
{
    static const int errors[] = {IOCP_EMFILE, IOCP_ENOBUFS, IOCP_ENOMEM};
    struct net_socket *listener = net_get(handle);
    if (!listener->backlog_count)
        return IOCP_EAGAIN;
    if (iocp__sim_chance(IOCP__SIM_ACCEPT))
        return errors[net_below(3)];
    if (net_is_full())
        return IOCP_EMFILE;
    struct iocp__sim_connection *connection = listener->backlog[0];
    listener->backlog_count--;
    for (uint32_t i = 0; i < listener->backlog_count; i++)
        listener->backlog[i] = listener->backlog[i + 1];
    struct net_socket *socket = net_new();
    socket->port = listener->port;
    net_attach(socket, connection, 1);
    *out_handle = socket->handle;
    return 0;
}

void iocp__sim_pair(iocp_handle out_handles[2])
{
    struct iocp__sim_connection *connection = net_connection_new();
    for (int i = 0; i < 2; i++) {
        struct net_socket *socket = net_new();
        net_attach(socket, connection, i);
        out_handles[i] = socket->handle;
    }
}

/* ---- Bytes. */

int iocp__sim_readable(iocp_handle handle)
{
    struct net_socket *socket = net_get(handle);
    if (!socket->connection)
        return 1;
    const struct iocp__sim_pipe *pipe = &socket->connection->pipes[1 - socket->end];
    return pipe->visible > pipe->read || pipe->fin_visible || pipe->reset;
}

static size_t net_part(size_t size)
{
    /* All, or any number of bytes: mostly few. */
    if (!iocp__sim_chance(IOCP__SIM_SHORT) || size < 2)
        return size;
    size_t most = net_below(2) && size > 8 ? 8 : size;
    return 1 + net_below((uint32_t)most);
}

int64_t iocp__sim_recv(iocp_handle handle, void *data, size_t size)
{
    struct net_socket *socket = net_get(handle);
    unsigned char *to = data;
    if (!socket->connection)
        return IOCP_ENOTCONN;
    struct iocp__sim_pipe *pipe = &socket->connection->pipes[1 - socket->end];
    uint64_t there = pipe->visible - pipe->read;
    if (!there)
        return pipe->reset ? IOCP_ECONNRESET : pipe->fin_visible ? IOCP_EEOF : IOCP_EAGAIN;
    size_t count = net_part(size < there ? size : (size_t)there);
    for (size_t i = 0; i < count; i++)
        to[i] = pipe->ring[(pipe->read + i) % pipe->window];
    pipe->read += count;
    iocp__sim_count_bytes(count);
    net_changed_end(socket->connection, 1 - socket->end); /* there is room again */
    return (int64_t)count;
}

int64_t iocp__sim_send(iocp_handle handle, const void *data, size_t size)
{
    struct net_socket *socket = net_get(handle);
    const unsigned char *from = data;
    if (!socket->connection)
        return IOCP_ENOTCONN;
    struct iocp__sim_connection *connection = socket->connection;
    struct iocp__sim_pipe *pipe = &connection->pipes[socket->end];
    if (connection->pipes[1 - socket->end].reset)
        return IOCP_ECONNRESET;
    if (pipe->fin_sent)
        return IOCP_EPIPE;
    uint64_t room = pipe->window - (pipe->written - pipe->read);
    if (!room)
        return IOCP_EAGAIN;
    size_t count = net_part(size < room ? size : (size_t)room);
    for (size_t i = 0; i < count; i++)
        pipe->ring[(pipe->written + i) % pipe->window] = from[i];
    pipe->written += count;
    iocp__sim_at(net_later_ns(), net_bytes_arrive, connection,
                 pipe->written << 1 | (uint64_t)socket->end);
    return (int64_t)count;
}

void iocp__sim_reset(iocp_handle handle)
{
    struct net_socket *socket = net_get(handle);
    if (!socket->connection)
        return;
    net_send_reset(socket->connection, 0);
    net_send_reset(socket->connection, 1);
}

/* ---- os.h: sockets. */

void iocp__sim_watch(iocp_handle handle, void (*changed)(void *watcher, iocp_handle handle),
                     void *watcher)
{
    struct net_socket *socket = net_get(handle);
    socket->changed = changed;
    socket->watcher = watcher;
}

int iocp__sim_bind(iocp_handle handle)
{
    struct net_socket *socket = net_get(handle);
    if (socket->bound)
        return IOCP_EBUSY;
    socket->bound = 1;
    return 0;
}

int iocp__socket_open(enum iocp_family family, int type, iocp_handle *out_handle,
                      int32_t *out_os_error)
{
    int error = family != IOCP_FAMILY_IPV4 || type != IOCP__SOCKET_STREAM ? IOCP_ENOTSUP : 0;
    if (!error && (net_is_full() || iocp__sim_chance(IOCP__SIM_HANDLES)))
        error = IOCP_EMFILE;
    if (error) {
        if (out_os_error)
            *out_os_error = iocp__sim_os_error(error);
        return error;
    }
    *out_handle = net_new()->handle;
    return 0;
}

static void net_close_connected(struct net_socket *socket)
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

void iocp__handle_close(iocp_handle handle)
{
    struct net_socket *socket = net_get(handle);
    iocp__sim_trace("handle %d is closed%s", (int)handle, socket->reset_on_close ? ": reset" : "");
    if (socket->changed)
        iocp__sim_fail("handle %d is closed while a lane has it", (int)handle);
    if (socket->connection)
        net_close_connected(socket);
    for (uint32_t i = 0; i < socket->backlog_count; i++) {
        struct iocp__sim_connection *connection = socket->backlog[i];
        connection->closed[1] = 1;
        net_send_reset(connection, 1);
    }
    net.sockets[handle - NET_FIRST] = NULL;
    net.open_count--;
    iocp__sim_release(socket);
}

int iocp__handle_prepare(iocp_handle handle)
{
    return net_socket(handle) ? 0 : IOCP_EBADHANDLE;
}

int iocp__handle_is_file(iocp_handle handle)
{
    (void)handle;
    return 0;
}

int iocp__socket_bind(iocp_handle handle, const struct iocp_address *address, int32_t *out_os_error)
{
    struct net_socket *socket = net_get(handle);
    uint16_t port = iocp_address_port(address);
    (void)out_os_error;
    if (port && net_listener(port))
        return IOCP_EADDRINUSE;
    socket->port = port ? port : ++net.port_last;
    return 0;
}

int iocp__socket_listen(iocp_handle handle, uint32_t backlog, int32_t *out_os_error)
{
    (void)backlog;
    (void)out_os_error;
    net_get(handle)->state = NET_LISTENING;
    return 0;
}

static int net_address(uint16_t port, struct iocp_address *out_address)
{
    struct iocp_address address;
    iocp_address_parse("127.0.0.1:0", &address);
    iocp_address_set_port(&address, port);
    *out_address = address;
    return 0;
}

int iocp__socket_local(iocp_handle handle, struct iocp_address *out_address)
{
    return net_address(net_get(handle)->port, out_address);
}

/* Each host has the number of its handle as a port. */
int iocp__socket_peer(iocp_handle handle, struct iocp_address *out_address)
{
    struct net_socket *socket = net_get(handle);
    if (!socket->connection)
        return IOCP_ENOTCONN;
    return net_address((uint16_t)(20000 + socket->connection->handles[1 - socket->end]),
                       out_address);
}

int iocp__socket_shutdown_send(iocp_handle handle, int32_t *out_os_error)
{
    struct net_socket *socket = net_get(handle);
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

int32_t iocp__socket_pending_error(iocp_handle handle)
{
    struct net_socket *socket = net_get(handle);
    return socket->state == NET_FAILED ? iocp__sim_os_error(socket->error) : 0;
}

int iocp__accepted_has_options(enum iocp_family family)
{
    (void)family;
    return 1;
}

int iocp__socket_set(iocp_handle handle, enum iocp__socket_option option, int value)
{
    struct net_socket *socket = net_get(handle);
    if (option == IOCP__OPTION_RESET_ON_CLOSE)
        socket->reset_on_close = value;
    return 0;
}

/* ---- os.h: paths, which this system has none of. */

int iocp__path_set_mode(const char *path, uint32_t mode)
{
    (void)path;
    (void)mode;
    return IOCP_ENOTSUP;
}

void iocp__path_remove(const char *path)
{
    (void)path;
}

int iocp__unix_is_stale(const struct iocp_address *address)
{
    (void)address;
    return 0;
}
