/* The client role: connects, and connects again.
 *
 * A connector is an object of its own whose handlers all run in its serial order: the attempt, the
 * end of its session, the pause before the next attempt, the request to end. Other threads only
 * post.
 *
 * Invariants
 * 1. At any moment one of these holds: `step` is on its way (the first packet, or the timer of a
 *    pause); a session of it is in the table, or its end is on its way; the connector is removed.
 * 2. Removed: not in the service's list, and the service no longer waits for it.
 * 3. `reserved`: a place in the table is kept for the next attempt (only for the first one).
 * 4. The session references the connector, and the connector the session, until the session's end
 *    has been handled here.
 *
 * starting → attempt [connector_step] → session [connector_attempt] → pause [connector_pause]
 *          → attempt [connector_step] ...; each → removed [connector_remove] */
#include "net/service.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"
#include "net/session.h"

#include <string.h>

#define CONNECT_TIMEOUT_NS UINT64_C(10000000000)

struct iocp__connector {
    struct iocp_object object;
    struct iocp__link link; /* the service's lock */
    uint64_t id;
    struct iocp_service *service; /* a reference on its object */
    struct iocp_connect_config config;
    struct iocp_op step; /* the first packet; the timer of a pause */
    struct iocp_op lost; /* the session has ended */
    struct iocp_op end;  /* the connector is to end */
    uint32_t ended;      /* atomic */
    uint32_t end_reason; /* of `end` */

    /* The serial order's. */
    struct iocp_session *session; /* a reference */
    uint64_t pause_ns;
    uint32_t failures;
    uint32_t reserved;
    uint32_t waiting; /* the timer is on its way */
    uint32_t removed;

    /* What the session said when it ended; read by the handler of `lost`. */
    int lost_opened;
    int lost_error;
    enum iocp_close_reason lost_reason;

    _Alignas(16) unsigned char user[]; /* user_size bytes for the area of new sessions */
};

struct iocp__connector *iocp__connector_ref(struct iocp__connector *connector)
{
    iocp_object_ref(&connector->object);
    return connector;
}

struct iocp__connector *iocp__connector_unref(struct iocp__connector *connector)
{
    if (connector)
        iocp_object_unref(&connector->object);
    return NULL;
}

static void connector_destroy(struct iocp_object *object)
{
    struct iocp__connector *connector = iocp__container(object, struct iocp__connector, object);
    struct iocp_service *service = connector->service;
    iocp__release(connector, sizeof(*connector) + connector->config.session_class->user_size);
    iocp_object_unref(&service->object);
}

static const struct iocp_object_class connector_object_class = {
    .name = "connector",
    .destroy = connector_destroy,
    .serial = 1,
};

static struct iocp__connector *connector_of(const struct iocp_packet *packet)
{
    return iocp__container(packet->object, struct iocp__connector, object);
}

/* ---- The serial order. */

static void connector_unreserve(struct iocp__connector *connector)
{
    if (connector->reserved)
        iocp__table_unreserve(&connector->service->table);
    connector->reserved = 0;
}

static void connector_remove(struct iocp__connector *connector)
{
    struct iocp_service *service = connector->service;
    iocp__assert(!connector->removed && !connector->session);
    connector->removed = 1;
    connector_unreserve(connector);
    iocp__lock_acquire(&service->lock);
    iocp__link_remove(&connector->link);
    iocp__lock_release(&service->lock);
    iocp__service_drop(service);
    iocp__connector_unref(connector);
}

static int connector_is_ended(const struct iocp__connector *connector)
{
    /* Relaxed: `end` is posted after it is set, and looks again. */
    return iocp__load_relaxed(&connector->ended) != 0;
}

/* The pause with its random share, up to a quarter more; the next one is twice as long. */
static uint64_t connector_next_pause(struct iocp__connector *connector)
{
    uint64_t pause = connector->pause_ns;
    uint64_t max = connector->config.reconnect_max_ns;
    connector->pause_ns = pause < max / 2 ? pause * 2 : (max > pause ? max : pause);
    return pause + iocp__random() % (pause / 4 + 1);
}

static void connector_pause(struct iocp__connector *connector)
{
    struct iocp_port *port = connector->service->port;
    if (connector_is_ended(connector)) {
        connector_remove(connector);
        return;
    }
    iocp_op_timer(&connector->step, connector_next_pause(connector), 0);
    connector->waiting = 1;
    if (iocp_port_submit(port, &connector->object, &connector->step) < 0) {
        connector->waiting = 0;
        connector_remove(connector);
    }
}

static void connector_failed(struct iocp__connector *connector, int error)
{
    const struct iocp_connect_config *config = &connector->config;
    if (connector_is_ended(connector)) {
        connector_remove(connector);
        return;
    }
    /* Relaxed: a counter. */
    iocp__add_relaxed(&connector->service->connect_failures, 1);
    connector->failures++;
    int more = !config->attempts_max || connector->failures < config->attempts_max;
    int again = config->reconnect_min_ns && more;
    if (config->failed)
        config->failed(connector->service, error, again, config->context);
    if (again)
        connector_pause(connector);
    else
        connector_remove(connector);
}

/* A socket with the options of the class. */
static int connector_socket(const struct iocp_connect_config *config, iocp_handle *out_handle)
{
    int error = iocp__socket_open(iocp_address_family(&config->address), IOCP__SOCKET_STREAM,
                                  out_handle, NULL);
    if (error == 0)
        iocp__service_set_options(config->session_class, *out_handle);
    return error;
}

static void connector_set_deadline(struct iocp__connector *connector, struct iocp_session *session)
{
    uint64_t timeout = connector->config.timeout_ns;
    uint64_t now = iocp_now_ns();
    session->time_ns = timeout < UINT64_MAX - now ? now + timeout : UINT64_MAX;
    iocp__timeouts_set(connector->service, session, session->time_ns);
}

/* Begins an attempt with a session that has a place in the table. Takes the handle. */
static int connector_begin(struct iocp__connector *connector, struct iocp_session *session,
                           iocp_handle handle)
{
    struct iocp_service *service = connector->service;
    int error = iocp__table_insert(&service->table, session);
    if (error < 0) {
        iocp__handle_close(handle);
        return error;
    }
    iocp__service_hold(service);
    connector->session = iocp_session_ref(session);
    connector_set_deadline(connector, session);
    error = iocp__session_begin(session, handle, &connector->config.address);
    if (error == 0)
        return 0;
    iocp__handle_close(handle);
    iocp__timeouts_forget(service, session);
    iocp__table_remove(&service->table, session);
    iocp__service_drop(service);
    connector->session = iocp_session_unref(session);
    return error;
}

static int connector_attempt(struct iocp__connector *connector)
{
    struct iocp_service *service = connector->service;
    const struct iocp_session_class *session_class = connector->config.session_class;
    iocp_handle handle = IOCP_HANDLE_INVALID;
    int error = connector->reserved ? 0 : iocp__table_reserve(&service->table);
    if (error < 0)
        return error;
    connector->reserved = 1;
    error = connector_socket(&connector->config, &handle);
    if (error < 0)
        goto fail;
    struct iocp_session *session = iocp__session_create(service, session_class, connector);
    if (!session) {
        iocp__handle_close(handle);
        error = IOCP_ENOMEM;
        goto fail;
    }
    iocp__session_set_peer(session, &connector->config.address);
    memcpy(iocp_session_user(session), connector->user, session_class->user_size);
    error = connector_begin(connector, session, handle);
    if (error < 0) {
        iocp_session_unref(session);
        goto fail;
    }
    /* The session's now. */
    connector->reserved = 0;
    return 0;
fail:
    connector_unreserve(connector);
    return error;
}

static void connector_step(const struct iocp_packet *packet)
{
    struct iocp__connector *connector = connector_of(packet);
    connector->waiting = 0;
    if (connector_is_ended(connector)) {
        connector_remove(connector);
        return;
    }
    int error = connector_attempt(connector);
    /* Not an attempt that failed: there are none any more. The service stops, and this connector
     * has not been told yet, or the port is closed. */
    if (error == IOCP_ECLOSED)
        connector_remove(connector);
    else if (error < 0)
        connector_failed(connector, error);
}

static void connector_lost(const struct iocp_packet *packet)
{
    struct iocp__connector *connector = connector_of(packet);
    connector->session = iocp_session_unref(connector->session);
    if (!connector->lost_opened) {
        connector_failed(connector, connector->lost_error ? connector->lost_error : IOCP_ECANCELED);
        return;
    }
    connector->failures = 0;
    connector->pause_ns = connector->config.reconnect_min_ns;
    int wanted =
        connector->lost_reason != IOCP_CLOSE_LOCAL && connector->lost_reason != IOCP_CLOSE_SHUTDOWN;
    if (wanted && connector->config.reconnect_min_ns)
        connector_pause(connector);
    else
        connector_remove(connector);
}

static void connector_end(const struct iocp_packet *packet)
{
    struct iocp__connector *connector = connector_of(packet);
    if (connector->waiting)
        iocp_port_cancel(connector->service->port, &connector->step);
    if (connector->session)
        iocp__session_close(connector->session, connector->end_reason);
}

/* ---- From elsewhere. */

int iocp__connector_start(struct iocp_service *service, const struct iocp_connect_config *config,
                          uint64_t *out_id)
{
    size_t user_size = config->session_class->user_size;
    if (user_size > SIZE_MAX - sizeof(struct iocp__connector))
        return IOCP_ENOMEM;
    struct iocp__connector *connector = iocp__allocate_zero(sizeof(*connector) + user_size);
    if (!connector)
        return IOCP_ENOMEM;
    iocp_object_init(&connector->object, &connector_object_class);
    iocp_op_init(&connector->step, connector_step);
    iocp_op_init(&connector->lost, connector_lost);
    iocp_op_init(&connector->end, connector_end);
    iocp__link_init(&connector->link);
    iocp_object_ref(&service->object);
    connector->service = service;
    connector->config = *config;
    if (!config->timeout_ns)
        connector->config.timeout_ns = CONNECT_TIMEOUT_NS;
    connector->config.user = NULL;
    if (config->user && user_size)
        memcpy(connector->user, config->user, user_size);
    connector->pause_ns = config->reconnect_min_ns;
    iocp__lock_acquire(&service->lock);
    int stopping = service->state >= IOCP__SERVICE_STOPPING;
    if (!stopping) {
        connector->id = ++service->connector_last;
        iocp__link_insert(&service->connectors, &connector->link);
    }
    iocp__lock_release(&service->lock);
    if (stopping) {
        iocp__connector_unref(connector);
        return IOCP_ECLOSED;
    }
    connector->reserved = 1;
    uint64_t id = connector->id;
    iocp_op_post(&connector->step, 0, 0);
    int error = iocp_port_post(service->port, &connector->object, &connector->step);
    if (error < 0) {
        iocp__lock_acquire(&service->lock);
        iocp__link_remove(&connector->link);
        iocp__lock_release(&service->lock);
        iocp__connector_unref(connector);
        return error;
    }
    if (out_id)
        *out_id = id;
    return 0;
}

void iocp__connector_end(struct iocp__connector *connector, enum iocp_close_reason reason)
{
    /* Acquire and release: one caller alone posts. */
    if (iocp__exchange_acq_rel(&connector->ended, 1))
        return;
    connector->end_reason = reason;
    iocp_op_post(&connector->end, 0, 0);
    iocp_port_post(connector->service->port, &connector->object, &connector->end);
}

struct iocp__connector *iocp__connector_find(struct iocp_service *service, uint64_t id)
{
    struct iocp__connector *found = NULL;
    iocp__lock_acquire(&service->lock);
    for (struct iocp__link *link = service->connectors.next; link != &service->connectors && !found;
         link = link->next) {
        struct iocp__connector *connector = iocp__container(link, struct iocp__connector, link);
        if (id ? connector->id == id : !connector_is_ended(connector))
            found = iocp__connector_ref(connector);
    }
    iocp__lock_release(&service->lock);
    return found;
}

void iocp__connector_session_ended(struct iocp__connector *connector, int opened,
                                   enum iocp_close_reason reason, int error)
{
    connector->lost_opened = opened;
    connector->lost_reason = reason;
    connector->lost_error = error;
    iocp_op_post(&connector->lost, 0, 0);
    iocp_port_post(connector->service->port, &connector->object, &connector->lost);
}

void iocp__connector_sweep(struct iocp_service *service)
{
    while (!iocp__link_alone(&service->connectors)) {
        struct iocp__connector *connector =
            iocp__container(service->connectors.next, struct iocp__connector, link);
        iocp__link_remove(&connector->link);
        connector_unreserve(connector);
        connector->session = iocp_session_unref(connector->session);
        iocp__connector_unref(connector);
    }
}
