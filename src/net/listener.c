/* The listener: keeps an accept armed on a listening socket, and a timer when the system gives
 * none. It makes no sessions; that is the service's.
 *
 * Two objects share its memory. `socket` is registered with the port, holds the listening socket
 * and owns the accept and the retry timer, so their handlers never overlap. `object` counts the
 * references of users; `socket` holds one of them. When `socket` is destroyed, every op is
 * answered, every handler has returned and the system has closed the socket: then, and only then,
 * `closed` is posted. So the same address can be listened on again in `closed`.
 *
 * Invariants
 * 1. ARMED: the accept is submitted, or the handler of its last answer runs and arms the next
 * thing.
 * 2. RETRYING: the same of the retry timer. So an open listener is never left without either (Q28).
 * 3. At most one of the two is submitted at a time; arming is a step of a handler, never a
 * recursion (S6).
 * 4. From CLOSING on nothing is armed, and a connection that still arrives is closed unseen.
 * 5. A failed accept takes no connection: it stays in the backlog for the next accept.
 *
 * OPENING → ARMED [create]
 * ARMED → RETRYING [listener_retry_later] → ARMED [listener_retry]
 * ARMED, RETRYING → CLOSING [close; the port refuses an op]
 * ARMED, RETRYING, CLOSING → CLOSED [listener_socket_gone; the first two when the port is freed] */
#include <iocp/listener.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"
#include "base/list.h"
#include "os/os.h"

#include <string.h>

#define RETRY_MIN_NS 5000000u
#define RETRY_MAX_NS 1000000000u

enum listener_state {
    LISTENER_OPENING = 1,
    LISTENER_ARMED,
    LISTENER_RETRYING,
    LISTENER_CLOSING,
    LISTENER_CLOSED
};

struct iocp_listener {
    struct iocp_object object;
    struct iocp_object socket;
    struct iocp_op accept;
    struct iocp_op retry;
    struct iocp_op farewell; /* the post that runs `closed` */
    struct iocp_port *port;  /* borrowed: valid while `socket` lives */
    struct iocp_listener_config config;
    struct iocp_address address;
    struct iocp__lock lock; /* of state */
    uint32_t state;         /* enum listener_state; atomic to read */
    uint64_t pause_ns;      /* before the next retry; the handlers' */
    uint64_t accepted;      /* these three: written by the handlers, atomic to read */
    uint64_t failures;
    uint64_t retries;
};

/* ---- State ---- */

static int listener_step_is_legal(uint32_t from, uint32_t to)
{
    switch (to) {
    case LISTENER_ARMED:
        return from == LISTENER_OPENING || from == LISTENER_RETRYING;
    case LISTENER_RETRYING:
        return from == LISTENER_ARMED;
    case LISTENER_CLOSING:
        return from == LISTENER_ARMED || from == LISTENER_RETRYING;
    case LISTENER_CLOSED:
        return from != LISTENER_CLOSED;
    default:
        return 0;
    }
}

/* Returns the state before, or 0 when the listener was closed already: then nothing changes. */
static uint32_t listener_change(struct iocp_listener *listener, enum listener_state to)
{
    uint32_t from;
    iocp__lock_acquire(&listener->lock);
    from = listener->state;
    if (from >= LISTENER_CLOSING && to != LISTENER_CLOSED) {
        from = 0;
    } else {
        iocp__assert(listener_step_is_legal(from, to));
        /* Relaxed: the lock orders it; atomic for the readers without the lock. */
        iocp__store_relaxed(&listener->state, (uint32_t)to);
    }
    iocp__lock_release(&listener->lock);
    return from;
}

static int listener_is_open(const struct iocp_listener *listener)
{
    /* Relaxed: a look. Who acts on it asks listener_change, which takes the lock. */
    uint32_t state = iocp__load_relaxed(&listener->state);
    return state == LISTENER_ARMED || state == LISTENER_RETRYING;
}

/* ---- Handlers: of `socket`, so one at a time ---- */

static struct iocp_listener *listener_of(const struct iocp_packet *packet)
{
    return iocp__container(packet->object, struct iocp_listener, socket);
}

static int listener_submit_accept(struct iocp_listener *listener)
{
    iocp_op_accept_stream(&listener->accept);
    return iocp_port_submit(listener->port, &listener->socket, &listener->accept);
}

static void listener_arm(struct iocp_listener *listener)
{
    /* Refused when the port is closed: no handler will run any more that could arm anything. */
    if (listener_submit_accept(listener) < 0)
        iocp_listener_close(listener);
}

static void listener_retry_later(struct iocp_listener *listener)
{
    uint64_t pause_ns = listener->pause_ns;
    /* Relaxed, here and below: counters. */
    iocp__add_relaxed(&listener->failures, 1);
    listener->pause_ns =
        pause_ns < listener->config.retry_max_ns / 2 ? pause_ns * 2 : listener->config.retry_max_ns;
    iocp_op_timer(&listener->retry, pause_ns, 0);
    if (iocp_port_submit(listener->port, &listener->socket, &listener->retry) < 0) {
        iocp_listener_close(listener);
        return;
    }
    /* Submitted first and changed after: a close that comes in between looks for no timer, and a
     * later one finds it. */
    if (!listener_change(listener, LISTENER_RETRYING))
        iocp_port_cancel(listener->port, &listener->retry);
}

static void listener_deliver(struct iocp_listener *listener, iocp_handle handle)
{
    listener->pause_ns = listener->config.retry_min_ns;
    if (!listener_is_open(listener)) {
        iocp__handle_close(handle);
        return;
    }
    iocp__add_relaxed(&listener->accepted, 1);
    listener->config.accepted(listener, handle, listener->config.context);
}

/* A connection, the end of the stream, or both. */
static void listener_accepted(const struct iocp_packet *packet)
{
    struct iocp_listener *listener = listener_of(packet);
    if (packet->result >= 0)
        listener_deliver(listener, (iocp_handle)packet->result);
    if ((packet->flags & IOCP_PACKET_MORE) || !listener_is_open(listener))
        return;
    if (packet->result >= 0)
        listener_arm(listener);
    else
        listener_retry_later(listener);
}

static void listener_retry(const struct iocp_packet *packet)
{
    struct iocp_listener *listener = listener_of(packet);
    if (!listener_change(listener, LISTENER_ARMED))
        return;
    iocp__add_relaxed(&listener->retries, 1);
    listener_arm(listener);
}

/* ---- The end ---- */

static void listener_say_closed(const struct iocp_packet *packet)
{
    struct iocp_listener *listener = iocp__container(packet->object, struct iocp_listener, object);
    listener->config.closed(listener, listener->config.context);
}

static void listener_socket_gone(struct iocp_object *object)
{
    struct iocp_listener *listener = iocp__container(object, struct iocp_listener, socket);
    uint32_t before = listener_change(listener, LISTENER_CLOSED);
    /* Nobody has seen a listener that was never armed. */
    if (before != LISTENER_OPENING && listener->config.closed) {
        iocp_op_post(&listener->farewell, 0, 0);
        /* Refused when the port is closed: it runs no handlers any more. */
        iocp_port_post(listener->port, &listener->object, &listener->farewell);
    }
    iocp_object_unref(&listener->object);
}

static void listener_destroy(struct iocp_object *object)
{
    struct iocp_listener *listener = iocp__container(object, struct iocp_listener, object);
    iocp__release(listener, sizeof *listener);
}

static const struct iocp_object_class listener_class = {
    .name = "listener",
    .destroy = listener_destroy,
    .serial = 1,
};

static const struct iocp_object_class listener_socket_class = {
    .name = "listener socket",
    .destroy = listener_socket_gone,
    .serial = 1,
};

/* ---- The socket ---- */

/* The path of a Unix address, or "" when it has none (abstract, or another family). */
static void listener_path(const struct iocp_address *address, char path[IOCP_ADDRESS_TEXT_SIZE])
{
    static const char prefix[] = "unix:";
    char text[IOCP_ADDRESS_TEXT_SIZE];
    const char *name = text + sizeof prefix - 1;
    path[0] = 0;
    if (iocp_address_format(address, text, sizeof text) > 0 &&
        strncmp(text, prefix, sizeof prefix - 1) == 0 && name[0] != '@')
        strcpy(path, name);
}

static int listener_bind(iocp_handle handle, const struct iocp_address *address)
{
    char path[IOCP_ADDRESS_TEXT_SIZE];
    int result = iocp__socket_bind(handle, address, NULL);
    listener_path(address, path);
    if (result != IOCP_EADDRINUSE || !path[0] || !iocp__unix_is_stale(address))
        return result;
    /* A living listener sees the look as a connection that ends at once. Two programs that come
     * here at once may remove each other's new socket. The system has no call that would tell them
     * apart; whoever starts one service twice at once needs a lock of his own. */
    iocp__path_remove(path);
    return iocp__socket_bind(handle, address, NULL);
}

static int listener_set_options(iocp_handle handle, const struct iocp_listener_config *config)
{
    int result = 0;
    /* Not for Unix: the options have no meaning there. */
    if (iocp_address_family(&config->address) == IOCP_FAMILY_UNIX)
        return 0;
    result = iocp__socket_set(handle, IOCP__OPTION_REUSE_ADDRESS, 1);
    if (result == 0 && config->reuse_port)
        result = iocp__socket_set(handle, IOCP__OPTION_REUSE_PORT, 1);
    /* Set in both cases: the default is the administrator's. */
    if (result == 0 && iocp_address_family(&config->address) == IOCP_FAMILY_IPV6)
        result = iocp__socket_set(handle, IOCP__OPTION_IPV6_ONLY, config->ipv6_only != 0);
    return result;
}

/* A Unix socket gets its permissions before it listens: until then connecting to it is refused. */
static int listener_listen(iocp_handle handle, const struct iocp_listener_config *config)
{
    char path[IOCP_ADDRESS_TEXT_SIZE];
    int result = 0;
    listener_path(&config->address, path);
    if (path[0] && config->unix_mode)
        result = iocp__path_set_mode(path, config->unix_mode);
    if (result == 0)
        result = iocp__socket_listen(handle, config->backlog, NULL);
    return result;
}

static int listener_open(const struct iocp_listener_config *config, iocp_handle *out_handle)
{
    iocp_handle handle = IOCP_HANDLE_INVALID;
    int result = iocp__socket_open(iocp_address_family(&config->address), IOCP__SOCKET_STREAM,
                                   &handle, NULL);
    if (result < 0)
        return result;
    result = listener_set_options(handle, config);
    if (result == 0 && config->opened)
        config->opened(handle, config->context);
    if (result == 0)
        result = listener_bind(handle, &config->address);
    if (result == 0)
        result = listener_listen(handle, config);
    if (result < 0) {
        iocp__handle_close(handle);
        return result;
    }
    *out_handle = handle;
    return 0;
}

/* Not 0 for an address that means "both families". */
static int listener_is_any(const struct iocp_listener_config *config)
{
    struct iocp_address any;
    iocp_address_parse("*:0", &any);
    iocp_address_set_port(&any, iocp_address_port(&config->address));
    return !config->ipv6_only && iocp_address_equal(&config->address, &any);
}

/* Opens; on a machine without IPv6, "*" means the one family that there is. */
static int listener_open_any(struct iocp_listener_config *config, iocp_handle *out_handle)
{
    int result = listener_open(config, out_handle);
    if ((result == IOCP_ENOTSUP || result == IOCP_EADDRNOTAVAIL) && listener_is_any(config)) {
        uint16_t port = iocp_address_port(&config->address);
        iocp_address_parse("0.0.0.0:0", &config->address);
        iocp_address_set_port(&config->address, port);
        result = listener_open(config, out_handle);
    }
    return result;
}

/* ---- Public ---- */

static int listener_config_complete(struct iocp_listener_config *config)
{
    if (config->retry_min_ns == 0)
        config->retry_min_ns = RETRY_MIN_NS;
    if (config->retry_max_ns == 0)
        config->retry_max_ns =
            config->retry_min_ns > RETRY_MAX_NS ? config->retry_min_ns : RETRY_MAX_NS;
    if (!config->accepted || config->retry_min_ns > config->retry_max_ns ||
        iocp_address_family(&config->address) == IOCP_FAMILY_NONE)
        return IOCP_EINVAL;
    return 0;
}

static struct iocp_listener *listener_new(struct iocp_port *port,
                                          const struct iocp_listener_config *config)
{
    struct iocp_listener *listener = iocp__allocate_zero(sizeof *listener);
    if (!listener)
        return NULL;
    iocp_object_init(&listener->object, &listener_class);
    iocp_object_init(&listener->socket, &listener_socket_class);
    iocp_object_ref(&listener->object); /* the one that `socket` holds */
    iocp_op_init(&listener->accept, listener_accepted);
    iocp_op_init(&listener->retry, listener_retry);
    iocp_op_init(&listener->farewell, listener_say_closed);
    listener->port = port;
    listener->config = *config;
    listener->pause_ns = config->retry_min_ns;
    listener->state = LISTENER_OPENING;
    return listener;
}

/* Registers and arms. The listener is ARMED before the accept is: other workers may run the first
 * handlers before this returns. Takes the handle, also when it fails. */
static int listener_start(struct iocp_listener *listener, iocp_handle handle)
{
    int result = iocp__socket_local(handle, &listener->address);
    if (result == 0)
        result = iocp_port_register(listener->port, &listener->socket, handle, 0);
    if (result < 0) {
        iocp__handle_close(handle);
        return result;
    }
    listener_change(listener, LISTENER_ARMED);
    result = listener_submit_accept(listener);
    if (result < 0) {
        /* The port was closed meanwhile, and so runs no `closed`. */
        listener_change(listener, LISTENER_CLOSING);
        iocp_object_close(&listener->socket);
    }
    return result;
}

int iocp_listener_create(struct iocp_port *port, const struct iocp_listener_config *config,
                         struct iocp_listener **out_listener)
{
    struct iocp_listener_config complete;
    struct iocp_listener *listener;
    iocp_handle handle = IOCP_HANDLE_INVALID;
    int result;
    if (!port || !config || !out_listener)
        return IOCP_EINVAL;
    complete = *config;
    result = listener_config_complete(&complete);
    if (result < 0)
        return result;
    result = listener_open_any(&complete, &handle);
    if (result < 0)
        return result;
    listener = listener_new(port, &complete);
    if (!listener) {
        iocp__handle_close(handle);
        return IOCP_ENOMEM;
    }
    result = listener_start(listener, handle);
    /* From here on the port, the pending op and the running handler keep `socket`. */
    iocp_object_unref(&listener->socket);
    if (result < 0) {
        iocp_object_unref(&listener->object);
        return result;
    }
    *out_listener = listener;
    return 0;
}

struct iocp_listener *iocp_listener_ref(struct iocp_listener *listener)
{
    iocp_object_ref(&listener->object);
    return listener;
}

struct iocp_listener *iocp_listener_unref(struct iocp_listener *listener)
{
    if (listener)
        iocp_object_unref(&listener->object);
    return NULL;
}

void iocp_listener_close(struct iocp_listener *listener)
{
    uint32_t before = listener ? listener_change(listener, LISTENER_CLOSING) : 0;
    if (!before)
        return;
    /* `socket` may be gone before this returns; its memory lives as long as the listener, which the
     * caller holds. */
    iocp_object_close(&listener->socket);
    /* In every other state a handler may be preparing the timer: it finds out by itself. */
    if (before == LISTENER_RETRYING)
        iocp_port_cancel(listener->port, &listener->retry);
}

void iocp_listener_address(const struct iocp_listener *listener, struct iocp_address *out_address)
{
    *out_address = listener->address;
}

int iocp_listener_armed(const struct iocp_listener *listener)
{
    return listener_is_open(listener);
}

void iocp_listener_stats(const struct iocp_listener *listener,
                         struct iocp_listener_stats *out_stats)
{
    /* Relaxed: counters. */
    out_stats->accepted = iocp__load_relaxed(&listener->accepted);
    out_stats->failures = iocp__load_relaxed(&listener->failures);
    out_stats->retries = iocp__load_relaxed(&listener->retries);
}
