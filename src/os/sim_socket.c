/* The handles of the simulated system: making and closing them, their names and options, and who
 * listens where. os/os.h's sockets and paths are here; what moves bytes is in sim_net.c and
 * sim_datagram.c.
 *
 * Addresses are those of one machine: 127.x.y.z, ::1, any of both, and names of Unix sockets. A
 * name that is a path stays when its socket is closed, as a file does. */
#include "os/sim_net.h"

#include "base/assert.h"

#include <stdio.h>
#include <string.h>

#define SOCKET_PATHS_MAX 256

struct socket_path {
    char name[IOCP_ADDRESS_TEXT_SIZE];
    iocp_handle handle; /* of the socket that made it; INVALID: an ordinary file */
    uint32_t mode;
};

static struct {
    struct iocp__sim_socket **sockets;   /* by number; NULL: closed */
    struct iocp__sim_connection **noted; /* by number */
    uint32_t count;
    uint32_t room;
    uint32_t open_count;
    uint32_t held; /* what else takes the place of a handle */
    uint32_t handles_max;
    uint32_t limit;
    uint32_t serial;
    uint32_t port_last;
    int handles_again;
    int no_ipv6;
    struct socket_path paths[SOCKET_PATHS_MAX];
    uint32_t path_count;
} world;

void iocp__sim_sockets_begin(const struct iocp__sim_config *config)
{
    memset(&world, 0, sizeof(world));
    world.handles_max = config->handles_max;
    world.handles_again = config->handles_again;
    world.limit = UINT32_MAX;
    world.port_last = 1024;
}

void iocp__sim_sockets_end(void)
{
    for (uint32_t i = 0; i < world.count; i++) {
        if (world.sockets[i])
            iocp__sim_fail("handle %d is open at the end", (int)(IOCP__SIM_HANDLE_FIRST + i));
    }
    iocp__sim_release(world.sockets);
    iocp__sim_release(world.noted);
    world.sockets = NULL;
    world.noted = NULL;
    world.count = 0;
}

/* ---- Handles. */

static uint32_t socket_number(iocp_handle handle)
{
    return handle < IOCP__SIM_HANDLE_FIRST ? UINT32_MAX
                                           : (uint32_t)(handle - IOCP__SIM_HANDLE_FIRST);
}

struct iocp__sim_socket *iocp__sim_socket_find(iocp_handle handle)
{
    uint32_t number = socket_number(handle);
    return number < world.count ? world.sockets[number] : NULL;
}

struct iocp__sim_socket *iocp__sim_socket_get(iocp_handle handle)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_find(handle);
    if (!socket)
        iocp__sim_fail("handle %d is not open", (int)handle);
    return socket;
}

struct iocp__sim_socket *iocp__sim_socket_next(const struct iocp__sim_socket *before)
{
    uint32_t number = before ? socket_number(before->handle) + 1 : 0;
    while (number < world.count && !world.sockets[number])
        number++;
    return number < world.count ? world.sockets[number] : NULL;
}

void iocp__sim_socket_changed(struct iocp__sim_socket *socket)
{
    if (socket && socket->changed)
        socket->changed(socket->watcher, socket->handle);
}

static void socket_make_room(void)
{
    struct iocp__sim_socket **sockets = world.sockets;
    struct iocp__sim_connection **noted = world.noted;
    world.room = world.room ? world.room * 2 : 256;
    world.sockets = iocp__sim_allocate(world.room * sizeof(*sockets));
    world.noted = iocp__sim_allocate(world.room * sizeof(*noted));
    for (uint32_t i = 0; i < world.count; i++) {
        world.sockets[i] = sockets[i];
        world.noted[i] = noted[i];
    }
    iocp__sim_release(sockets);
    iocp__sim_release(noted);
}

static uint32_t socket_free_number(void)
{
    uint32_t number = world.handles_again ? 0 : world.count;
    while (number < world.count && world.sockets[number])
        number++;
    if (number == world.room)
        socket_make_room();
    if (number == world.count)
        world.count++;
    return number;
}

struct iocp__sim_socket *iocp__sim_socket_new(enum iocp_family family)
{
    struct iocp__sim_socket *socket = iocp__sim_allocate(sizeof(*socket));
    uint32_t number = socket_free_number();
    socket->handle = IOCP__SIM_HANDLE_FIRST + (iocp_handle)number;
    socket->serial = ++world.serial;
    socket->state = IOCP__SIM_FRESH;
    socket->family = family;
    socket->manner.nonblocking = 1;
    world.sockets[number] = socket;
    world.noted[number] = NULL;
    world.open_count++;
    return socket;
}

void iocp__sim_socket_note(iocp_handle handle, struct iocp__sim_connection *connection)
{
    world.noted[socket_number(handle)] = connection;
}

struct iocp__sim_connection *iocp__sim_socket_noted(iocp_handle handle)
{
    uint32_t number = socket_number(handle);
    return number < world.count ? world.noted[number] : NULL;
}

int iocp__sim_is_open(iocp_handle handle)
{
    return iocp__sim_socket_find(handle) != NULL;
}

struct iocp__sim_manner *iocp__sim_manner(iocp_handle handle)
{
    return &iocp__sim_socket_get(handle)->manner;
}

uint32_t iocp__sim_handles_held(void)
{
    return world.open_count + world.held;
}

void iocp__sim_hold(int count)
{
    world.held += (uint32_t)count;
}

void iocp__sim_limit_handles(uint32_t spare)
{
    world.limit = spare == UINT32_MAX ? UINT32_MAX : iocp__sim_handles_held() + spare;
}

int iocp__sim_handles_are_out(void)
{
    return iocp__sim_handles_held() >= world.limit;
}

int iocp__sim_socket_is_full(void)
{
    return iocp__sim_handles_are_out() ||
           (world.open_count >= world.handles_max && iocp__sim_faults_are_on());
}

void iocp__sim_deny_ipv6(void)
{
    world.no_ipv6 = 1;
}

/* Ends a call of os.h. */
static int socket_result(int error, int32_t *out_os_error)
{
    if (error < 0 && out_os_error)
        *out_os_error = iocp__sim_os_error(error);
    return error;
}

static int socket_can_open(enum iocp_family family, int type)
{
    if (type != IOCP__SOCKET_STREAM && type != IOCP__SOCKET_DATAGRAM)
        return IOCP_EINVAL;
    if (family == IOCP_FAMILY_NONE || (family == IOCP_FAMILY_IPV6 && world.no_ipv6))
        return IOCP_ENOTSUP;
    if (iocp__sim_socket_is_full() || iocp__sim_chance(IOCP__SIM_HANDLES))
        return IOCP_EMFILE;
    return 0;
}

int iocp__socket_open(enum iocp_family family, int type, iocp_handle *out_handle,
                      int32_t *out_os_error)
{
    int error = socket_can_open(family, type);
    if (error < 0)
        return socket_result(error, out_os_error);
    struct iocp__sim_socket *socket = iocp__sim_socket_new(family);
    if (type == IOCP__SOCKET_DATAGRAM)
        socket->state = IOCP__SIM_DATAGRAM;
    *out_handle = socket->handle;
    return 0;
}

void iocp__handle_close(iocp_handle handle)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    iocp__sim_trace("handle %d is closed%s", (int)handle, socket->reset_on_close ? ": reset" : "");
    if (socket->changed)
        iocp__sim_fail("handle %d is closed while a lane has it", (int)handle);
    iocp__sim_connection_close(socket);
    iocp__sim_datagrams_free(socket);
    iocp__sim_file_close(socket);
    world.sockets[socket_number(handle)] = NULL;
    world.open_count--;
    iocp__sim_release(socket);
}

int iocp__handle_prepare(iocp_handle handle)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_find(handle);
    if (!socket)
        return IOCP_EBADHANDLE;
    socket->manner.nonblocking = 1;
    return 0;
}

int iocp__handle_is_file(iocp_handle handle)
{
    return iocp__sim_socket_get(handle)->state == IOCP__SIM_FILE;
}

void iocp__sim_watch(iocp_handle handle, void (*changed)(void *watcher, iocp_handle handle),
                     void *watcher)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    socket->changed = changed;
    socket->watcher = watcher;
}

int iocp__sim_bind(iocp_handle handle)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_find(handle);
    if (!socket || (socket->state == IOCP__SIM_FILE && !socket->file))
        return IOCP_EBADHANDLE;
    if (socket->associated)
        return IOCP_EBUSY;
    socket->associated = 1;
    return 0;
}

/* ---- Addresses. */

static struct iocp_address address_with_port(const char *text, uint16_t port)
{
    struct iocp_address address;
    int error = iocp_address_parse(text, &address);
    iocp__assert(error == 0);
    iocp_address_set_port(&address, port);
    return address;
}

static int address_is(const struct iocp_address *address, const char *text)
{
    struct iocp_address other;
    if (iocp_address_family(address) == IOCP_FAMILY_UNIX)
        return 0;
    other = address_with_port(text, iocp_address_port(address));
    return iocp_address_family(address) == iocp_address_family(&other) &&
           iocp_address_equal(address, &other);
}

static int address_is_any(const struct iocp_address *address)
{
    return address_is(address, "0.0.0.0:0") || address_is(address, "[::]:0");
}

static int address_is_ours(const struct iocp_address *address)
{
    char text[IOCP_ADDRESS_TEXT_SIZE];
    if (iocp_address_family(address) == IOCP_FAMILY_UNIX || address_is_any(address) ||
        address_is(address, "[::1]:0"))
        return 1;
    return iocp_address_family(address) == IOCP_FAMILY_IPV4 &&
           iocp_address_format(address, text, sizeof(text)) > 0 && memcmp(text, "127.", 4) == 0;
}

struct iocp_address iocp__sim_address_for(enum iocp_family family,
                                          const struct iocp_address *address)
{
    char text[IOCP_ADDRESS_TEXT_SIZE];
    char mapped[IOCP_ADDRESS_TEXT_SIZE + 16];
    if (family != IOCP_FAMILY_IPV6 || iocp_address_family(address) != IOCP_FAMILY_IPV4)
        return *address;
    int size = iocp_address_format(address, text, sizeof(text));
    iocp__assert(size > 0);
    char *colon = strrchr(text, ':');
    *colon = 0;
    snprintf(mapped, sizeof(mapped), "[::ffff:%s]:%s", text, colon + 1);
    return address_with_port(mapped, iocp_address_port(address));
}

/* Not 0 when connections to `to` are this socket's: exactly, or by an address that means any. */
static int socket_hears(const struct iocp__sim_socket *socket, const struct iocp_address *to)
{
    if (iocp_address_equal(&socket->name, to))
        return 1;
    if (iocp_address_family(to) == IOCP_FAMILY_UNIX || !address_is_any(&socket->name) ||
        iocp_address_port(&socket->name) != iocp_address_port(to))
        return 0;
    return socket->family == iocp_address_family(to) ||
           (socket->family == IOCP_FAMILY_IPV6 && !socket->ipv6_only);
}

/* Not 0 when one address is in the way of the other. */
static int socket_meets(const struct iocp__sim_socket *socket, const struct iocp__sim_socket *other,
                        const struct iocp_address *name)
{
    struct iocp__sim_socket named = *socket;
    named.name = *name;
    return socket_hears(other, name) || socket_hears(&named, &other->name);
}

static int socket_may_share(const struct iocp__sim_socket *socket,
                            const struct iocp__sim_socket *other)
{
    if (socket->reuse_port && other->reuse_port)
        return 1;
    return socket->reuse_address && other->reuse_address && other->state != IOCP__SIM_LISTENING;
}

static int socket_is_taken(const struct iocp__sim_socket *socket, const struct iocp_address *name)
{
    for (struct iocp__sim_socket *other = iocp__sim_socket_next(NULL); other;
         other = iocp__sim_socket_next(other)) {
        int alike = (other->state == IOCP__SIM_DATAGRAM) == (socket->state == IOCP__SIM_DATAGRAM);
        if (other != socket && other->name.size && alike && socket_meets(socket, other, name) &&
            !socket_may_share(socket, other))
            return 1;
    }
    return 0;
}

/* ---- Paths. */

/* The path of a Unix address; "" when it has none. */
static void path_of(const struct iocp_address *address, char text[IOCP_ADDRESS_TEXT_SIZE])
{
    static const char prefix[] = "unix:";
    char whole[IOCP_ADDRESS_TEXT_SIZE];
    text[0] = 0;
    if (iocp_address_format(address, whole, sizeof(whole)) > (int)sizeof(prefix) - 1 &&
        strncmp(whole, prefix, sizeof(prefix) - 1) == 0 && whole[sizeof(prefix) - 1] == '/')
        strcpy(text, whole + sizeof(prefix) - 1);
}

static struct socket_path *path_find(const char *name)
{
    for (uint32_t i = 0; i < world.path_count; i++) {
        if (strcmp(world.paths[i].name, name) == 0)
            return &world.paths[i];
    }
    return NULL;
}

static int path_add(const char *name, iocp_handle handle)
{
    if (path_find(name))
        return IOCP_EEXIST;
    iocp__assert(world.path_count < SOCKET_PATHS_MAX);
    struct socket_path *path = &world.paths[world.path_count++];
    snprintf(path->name, sizeof(path->name), "%s", name);
    path->handle = handle;
    path->mode = 0755;
    return 0;
}

int iocp__sim_path_exists(const char *path)
{
    return path_find(path) != NULL;
}

int iocp__sim_path_make(const char *path)
{
    return path_add(path, IOCP_HANDLE_INVALID);
}

uint32_t iocp__sim_path_mode(const char *path)
{
    const struct socket_path *found = path_find(path);
    return found ? found->mode : 0;
}

int iocp__path_set_mode(const char *path, uint32_t mode)
{
    struct socket_path *found = path_find(path);
    if (!found)
        return IOCP_ENOENT;
    found->mode = mode;
    return 0;
}

void iocp__path_remove(const char *path)
{
    struct socket_path *found = path_find(path);
    if (found)
        *found = world.paths[--world.path_count];
}

/* ---- Names. */

static int socket_bind_unix(struct iocp__sim_socket *socket, const struct iocp_address *address)
{
    char path[IOCP_ADDRESS_TEXT_SIZE];
    path_of(address, path);
    if (path[0] ? path_add(path, socket->handle) < 0 : socket_is_taken(socket, address))
        return IOCP_EADDRINUSE;
    socket->name = *address;
    return 0;
}

static int socket_bind(struct iocp__sim_socket *socket, const struct iocp_address *address)
{
    if (iocp_address_family(address) != socket->family || socket->name.size)
        return IOCP_EINVAL;
    if (!address_is_ours(address))
        return IOCP_EADDRNOTAVAIL;
    if (socket->family == IOCP_FAMILY_UNIX)
        return socket_bind_unix(socket, address);
    struct iocp_address name = *address;
    if (!iocp_address_port(&name))
        iocp_address_set_port(&name, (uint16_t)++world.port_last);
    if (socket_is_taken(socket, &name))
        return IOCP_EADDRINUSE;
    socket->name = name;
    return 0;
}

int iocp__socket_bind(iocp_handle handle, const struct iocp_address *address, int32_t *out_os_error)
{
    return socket_result(socket_bind(iocp__sim_socket_get(handle), address), out_os_error);
}

void iocp__sim_socket_name(struct iocp__sim_socket *socket)
{
    /* The number of the handle as a port, so that each has one of its own. */
    uint16_t port = (uint16_t)(20000 + socket->handle);
    if (socket->name.size || socket->family == IOCP_FAMILY_UNIX)
        return;
    socket->name =
        address_with_port(socket->family == IOCP_FAMILY_IPV4 ? "127.0.0.1:0" : "[::1]:0", port);
}

int iocp__socket_listen(iocp_handle handle, uint32_t backlog, int32_t *out_os_error)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    (void)backlog;
    (void)out_os_error;
    socket->state = IOCP__SIM_LISTENING;
    return 0;
}

struct iocp__sim_socket *iocp__sim_socket_listener(const struct iocp_address *address,
                                                   int *out_error)
{
    struct iocp__sim_socket *found = NULL;
    char path[IOCP_ADDRESS_TEXT_SIZE];
    uint32_t count = 0;
    path_of(address, path);
    const struct socket_path *owner = path[0] ? path_find(path) : NULL;
    *out_error = path[0] && !owner ? IOCP_ENOENT : IOCP_ECONNREFUSED;
    for (struct iocp__sim_socket *socket = iocp__sim_socket_next(NULL); socket;
         socket = iocp__sim_socket_next(socket)) {
        if (socket->state != IOCP__SIM_LISTENING || !socket_hears(socket, address) ||
            (path[0] && (!owner || owner->handle != socket->handle)))
            continue;
        /* Several: each with the same chance. */
        if (++count == 1 || iocp__sim_net_below(count) == 0)
            found = socket;
    }
    return found;
}

int iocp__unix_is_stale(const struct iocp_address *address)
{
    char path[IOCP_ADDRESS_TEXT_SIZE];
    iocp_handle handle;
    int error;
    path_of(address, path);
    const struct socket_path *found = path[0] ? path_find(path) : NULL;
    if (!found || found->handle == IOCP_HANDLE_INVALID)
        return 0;
    if (!iocp__sim_socket_listener(address, &error))
        return 1;
    /* Who lives sees a connection that ends at once. */
    if (iocp__socket_open(IOCP_FAMILY_UNIX, IOCP__SOCKET_STREAM, &handle, NULL) == 0) {
        iocp__sim_connect_now(iocp__sim_socket_get(handle), address);
        iocp__handle_close(handle);
    }
    return 0;
}

static int socket_give_name(const struct iocp__sim_socket *socket, const struct iocp_address *name,
                            struct iocp_address *out_address)
{
    *out_address = iocp__sim_address_for(socket->family, name);
    return 0;
}

int iocp__socket_local(iocp_handle handle, struct iocp_address *out_address)
{
    const struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    if (socket->state == IOCP__SIM_FILE)
        return IOCP_EBADHANDLE;
    if (socket->connection)
        return socket_give_name(socket, &socket->connection->names[socket->end], out_address);
    return socket_give_name(socket, &socket->name, out_address);
}

int iocp__socket_peer(iocp_handle handle, struct iocp_address *out_address)
{
    const struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    if (socket->connection)
        return socket_give_name(socket, &socket->connection->names[1 - socket->end], out_address);
    if (socket->state != IOCP__SIM_DATAGRAM || !socket->target.size)
        return IOCP_ENOTCONN;
    return socket_give_name(socket, &socket->target, out_address);
}

/* ---- Options. */

int32_t iocp__socket_pending_error(iocp_handle handle)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    return socket->state == IOCP__SIM_FAILED ? iocp__sim_os_error(socket->error) : 0;
}

int iocp__accepted_has_options(enum iocp_family family)
{
    return family != IOCP_FAMILY_UNIX;
}

int iocp__socket_set(iocp_handle handle, enum iocp__socket_option option, int value)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    if (value < 0)
        return IOCP_EINVAL;
    if (option == IOCP__OPTION_RESET_ON_CLOSE)
        socket->reset_on_close = value;
    else if (option == IOCP__OPTION_REUSE_ADDRESS)
        socket->reuse_address = value;
    else if (option == IOCP__OPTION_REUSE_PORT)
        socket->reuse_port = value;
    else if (option == IOCP__OPTION_IPV6_ONLY)
        socket->ipv6_only = value;
    else if (option == IOCP__OPTION_SEND_BUFFER)
        socket->send_size = (uint32_t)value;
    else if (option == IOCP__OPTION_RECEIVE_BUFFER)
        socket->receive_size = (uint32_t)value;
    if (socket->connection)
        iocp__sim_connection_fit(socket->connection);
    return 0;
}
