/* The service: listeners, connectors and sessions of one program, from start to stop.
 *
 * States
 * idle → running [iocp_service_start] → stopping [iocp_service_stop] → ended [service_ended]
 * running, stopping, ended → idle [service_joined]   (the first two: the port was closed)
 *
 * Invariants
 * 1. alive counts the sessions in the table, the listeners until their `closed`, the connectors in
 *    the list, and one more but between `stop` and join. So it is 0 only after `stop`, once, and
 *    then the packet that runs `stopped` is posted.
 * 2. Nothing is added to alive from outside after STOPPING: `listen` and `connect` look at the
 *    state and add under one lock; sessions are added by listeners and connectors, which count
 *    themselves.
 * 3. References go one way: sessions, listeners and connectors hold the service's object; the
 *    service holds them only until they have closed. The user's references are counted apart
 *    (`users`): the last one ends all of it, so that no ring of references keeps it.
 * 4. A listener's entry has two references: of `listen` until it returns, and of the `closed`
 *    call. */
#include "net/service.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"
#include "core/types.h"
#include "core/worker.h"
#include "net/session.h"

#include <string.h>

#define SERVICE_TICK_NS UINT64_C(50000000)
#define SERVICE_TICK_MIN_NS UINT64_C(100000)
#define SERVICE_DRAIN_NS UINT64_C(5000000000)
#define SERVICE_SESSIONS_MAX 65536
#define SERVICE_BATCH 64
/* How often a join looks whether its port was closed by someone, which tells nobody. */
#define SERVICE_LOOK_NS UINT64_C(100000000)

struct service_listener {
    struct iocp__link link; /* the service's lock, as the rest */
    struct iocp_service *service;
    const struct iocp_session_class *session_class;
    struct iocp_listener *listener; /* a reference */
    uint32_t refs;                  /* atomic */
    uint32_t told;                  /* to close */
    int options_come;               /* with each connection, from its socket; fixed */
};

struct iocp__service_waiter {
    struct iocp__service_waiter *next;
    struct iocp__parker parker;
};

static void service_ended(const struct iocp_packet *packet);

/* ---- Making and unmaking. */

static void service_free(struct iocp_service *service)
{
    for (uint32_t i = 0; i < IOCP__SERVICE_SHARDS; i++)
        iocp__send_pool_destroy(&service->shards[i].sends);
    iocp__table_destroy(&service->table);
    iocp__release(service, sizeof(*service));
}

static void service_destroy(struct iocp_object *object)
{
    service_free(iocp__container(object, struct iocp_service, object));
}

static const struct iocp_object_class service_object_class = {
    .name = "service",
    .destroy = service_destroy,
    .serial = 1,
};

void iocp_service_config_init(struct iocp_service_config *config)
{
    memset(config, 0, sizeof(*config));
    iocp_port_config_init(&config->port_config);
    config->sessions_max = SERVICE_SESSIONS_MAX;
    config->tick_ns = SERVICE_TICK_NS;
    config->drain_ns = SERVICE_DRAIN_NS;
}

static int service_complete(struct iocp_service_config *config)
{
    if (config->sessions_max == 0)
        config->sessions_max = SERVICE_SESSIONS_MAX;
    if (config->tick_ns == 0)
        config->tick_ns = SERVICE_TICK_NS;
    if (config->drain_ns == 0)
        config->drain_ns = SERVICE_DRAIN_NS;
    if (config->role > IOCP_ROLE_CLIENT || config->sessions_max > IOCP__SESSIONS_MAX ||
        config->tick_ns < SERVICE_TICK_MIN_NS)
        return IOCP_EINVAL;
    return 0;
}

/* A config that was zeroed, not initialized, has a zeroed port config: the defaults then. */
static int service_open_port(struct iocp_service *service)
{
    const struct iocp_service_config *config = &service->config;
    struct iocp_port_config port_config = config->port_config;
    struct iocp_port_config defaults;
    if (config->port) {
        service->port = iocp_port_ref(config->port);
        return 0;
    }
    iocp_port_config_init(&defaults);
    if (!port_config.workers_max)
        port_config.workers_max = defaults.workers_max;
    if (!port_config.buffer_size)
        port_config.buffer_size = defaults.buffer_size;
    if (!port_config.buffer_count)
        port_config.buffer_count = defaults.buffer_count;
    return iocp_port_create(&port_config, &service->port);
}

static int service_open_pools(struct iocp_service *service)
{
    struct iocp_pool *large = NULL;
    int error = iocp_pool_create(IOCP__SEND_LARGE, 0, &large);
    for (uint32_t i = 0; i < IOCP__SERVICE_SHARDS && error == 0; i++)
        error = iocp__send_pool_init(&service->shards[i].sends, large);
    iocp_pool_unref(large);
    return error;
}

int iocp_service_create(const struct iocp_service_config *config, struct iocp_service **out_service)
{
    struct iocp_service_config complete;
    iocp_service_config_init(&complete);
    if (config)
        complete = *config;
    if (!out_service || service_complete(&complete) < 0)
        return IOCP_EINVAL;
    struct iocp_service *service = iocp__allocate_zero(sizeof(*service));
    if (!service)
        return IOCP_ENOMEM;
    iocp_object_init(&service->object, &service_object_class);
    iocp_op_init(&service->end_op, service_ended);
    iocp__link_init(&service->listeners);
    iocp__link_init(&service->connectors);
    iocp__timeouts_init(&service->timeouts, complete.tick_ns);
    service->config = complete;
    service->users = 1;
    service->alive = 1;
    service->drain_deadline_ns = UINT64_MAX;
    int error = iocp__table_init(&service->table, complete.sessions_max);
    if (error == 0)
        error = service_open_pools(service);
    if (error == 0)
        error = service_open_port(service);
    if (error < 0) {
        service_free(service);
        return error;
    }
    *out_service = service;
    return 0;
}

struct iocp_service *iocp_service_ref(struct iocp_service *service)
{
    /* Relaxed: whoever takes a reference has one. */
    iocp__add_relaxed(&service->users, 1);
    return service;
}

static void service_listener_unref(struct service_listener *entry)
{
    /* Acquire and release: the last one sees what the other wrote. */
    if (iocp__sub_acq_rel(&entry->refs, 1) > 1)
        return;
    struct iocp_service *service = entry->service;
    iocp_listener_unref(entry->listener);
    iocp__release(entry, sizeof(*entry));
    iocp_object_unref(&service->object);
}

/* The port is gone, and with it the answers that would have ended these. */
static void service_sweep(struct iocp_service *service)
{
    struct iocp_session *sessions[SERVICE_BATCH];
    uint64_t cursor = 0;
    uint32_t count;
    while ((count = iocp__table_collect(&service->table, &cursor, sessions, SERVICE_BATCH, 1))) {
        for (uint32_t i = 0; i < count; i++) {
            iocp__session_sweep(sessions[i]);
            iocp_session_unref(sessions[i]);
        }
    }
    iocp__connector_sweep(service);
    while (!iocp__link_alone(&service->listeners)) {
        struct service_listener *entry =
            iocp__container(service->listeners.next, struct service_listener, link);
        iocp__link_remove(&entry->link);
        service_listener_unref(entry);
    }
}

struct iocp_service *iocp_service_unref(struct iocp_service *service)
{
    /* Acquire and release: as any reference. */
    if (!service || iocp__sub_acq_rel(&service->users, 1) > 1)
        return NULL;
    iocp_service_stop(service);
    int error = iocp_service_join(service);
    iocp__assert(error != IOCP_EBUSY);
    int own = !service->config.port;
    iocp_port_unref(service->port);
    if (own)
        service_sweep(service);
    iocp_object_unref(&service->object);
    return NULL;
}

struct iocp_port *iocp_service_port(struct iocp_service *service)
{
    return service->port;
}

void *iocp_service_context(const struct iocp_service *service)
{
    return service->config.context;
}

/* ---- What `stop` waits for. */

void iocp__service_hold(struct iocp_service *service)
{
    /* Relaxed: the caller is counted, or holds the lock. */
    iocp__add_relaxed(&service->alive, 1);
}

void iocp__service_drop(struct iocp_service *service)
{
    /* Acquire and release: `stopped` comes after all that is counted. */
    if (iocp__sub_acq_rel(&service->alive, 1) > 1)
        return;
    iocp_op_post(&service->end_op, 0, 0);
    /* Refused when the port is closed: then join does not wait for it. */
    iocp_port_post(service->port, &service->object, &service->end_op);
}

/* Counts one more thing unless the service stops. */
static int service_enter(struct iocp_service *service)
{
    iocp__lock_acquire(&service->lock);
    int stopping = service->state >= IOCP__SERVICE_STOPPING;
    if (!stopping)
        iocp__service_hold(service);
    iocp__lock_release(&service->lock);
    return stopping ? IOCP_ECLOSED : 0;
}

/* ---- Listeners. */

void iocp__service_set_options(const struct iocp_session_class *session_class, iocp_handle handle)
{
    /* What the system refuses is left as it is: a connection without an option still serves. */
    if (!session_class->delay)
        iocp__socket_set(handle, IOCP__OPTION_NODELAY, 1);
    if (session_class->keepalive_s)
        iocp__socket_set(handle, IOCP__OPTION_KEEPALIVE_S, session_class->keepalive_s);
    if (session_class->send_buffer)
        iocp__socket_set(handle, IOCP__OPTION_SEND_BUFFER, session_class->send_buffer);
    if (session_class->receive_buffer)
        iocp__socket_set(handle, IOCP__OPTION_RECEIVE_BUFFER, session_class->receive_buffer);
}

static void service_listener_opened(iocp_handle handle, void *context)
{
    struct service_listener *entry = context;
    if (entry->options_come)
        iocp__service_set_options(entry->session_class, handle);
}

/* Makes a session of an accepted connection; takes the handle on success. The listener is
 * counted. */
static int service_adopt(struct service_listener *entry, iocp_handle handle)
{
    struct iocp_service *service = entry->service;
    struct iocp_address peer;
    int error = IOCP_ENOMEM;
    struct iocp_session *session = iocp__session_create(service, entry->session_class, NULL);
    if (!session)
        return error;
    if (!entry->options_come)
        iocp__service_set_options(entry->session_class, handle);
    if (iocp__socket_peer(handle, &peer) == 0)
        iocp__session_set_peer(session, &peer);
    /* The table has the first reference, and may give it back before `begin` returns. */
    iocp_session_ref(session);
    error = iocp__table_insert(&service->table, session);
    if (error < 0)
        goto fail;
    iocp__service_hold(service);
    error = iocp__session_begin(session, handle, NULL);
    if (error < 0) {
        iocp__timeouts_forget(service, session);
        iocp__table_remove(&service->table, session);
        iocp__service_drop(service);
        goto fail;
    }
    iocp_session_unref(session);
    return 0;
fail:
    iocp_session_unref(session);
    iocp_session_unref(session);
    return error;
}

static void service_accepted(struct iocp_listener *listener, iocp_handle handle, void *context)
{
    struct service_listener *entry = context;
    struct iocp_service *service = entry->service;
    (void)listener;
    int error = iocp__table_reserve(&service->table);
    if (error == 0) {
        error = service_adopt(entry, handle);
        if (error < 0)
            iocp__table_unreserve(&service->table);
    }
    if (error == 0)
        return;
    /* Relaxed: a counter; before the peer can see it. */
    iocp__add_relaxed(&service->refused, 1);
    iocp__handle_close(handle);
}

static void service_listener_closed(struct iocp_listener *listener, void *context)
{
    struct service_listener *entry = context;
    struct iocp_service *service = entry->service;
    struct iocp_listener_stats stats;
    iocp_listener_stats(listener, &stats);
    /* Relaxed: a counter. */
    iocp__add_relaxed(&service->accept_failures, stats.failures);
    iocp__lock_acquire(&service->lock);
    iocp__link_remove(&entry->link);
    iocp__lock_release(&service->lock);
    iocp__service_drop(service);
    service_listener_unref(entry);
}

static struct service_listener *service_listener_new(struct iocp_service *service,
                                                     const struct iocp_session_class *session_class)
{
    struct service_listener *entry = iocp__allocate_zero(sizeof(*entry));
    if (!entry)
        return NULL;
    iocp_object_ref(&service->object);
    iocp__link_init(&entry->link);
    entry->service = service;
    entry->session_class = session_class;
    entry->refs = 2;
    return entry;
}

/* From here on `stop` finds it. Returns not 0 when it came too late for that. */
static int service_listener_add(struct service_listener *entry, struct iocp_listener *listener)
{
    struct iocp_service *service = entry->service;
    iocp__lock_acquire(&service->lock);
    entry->listener = listener;
    iocp__link_insert(&service->listeners, &entry->link);
    int late = service->state >= IOCP__SERVICE_STOPPING;
    entry->told |= (uint32_t)late;
    iocp__lock_release(&service->lock);
    return late;
}

int iocp_service_listen(struct iocp_service *service, const struct iocp_address *address,
                        const struct iocp_session_class *session_class,
                        const struct iocp_listener_config *options,
                        struct iocp_address *out_address)
{
    struct iocp_listener_config config = {0};
    struct iocp_listener *listener;
    if (!service || !address || service->config.role == IOCP_ROLE_CLIENT ||
        iocp__session_class_check(session_class) < 0)
        return IOCP_EINVAL;
    struct service_listener *entry = service_listener_new(service, session_class);
    if (!entry)
        return IOCP_ENOMEM;
    if (options)
        config = *options;
    config.address = *address;
    entry->options_come = iocp__accepted_has_options(iocp_address_family(address));
    config.opened = service_listener_opened;
    config.accepted = service_accepted;
    config.closed = service_listener_closed;
    config.context = entry;
    int error = service_enter(service);
    if (error == 0) {
        error = iocp_listener_create(service->port, &config, &listener);
        if (error < 0)
            iocp__service_drop(service);
    }
    if (error < 0) {
        /* No `closed` comes. */
        service_listener_unref(entry);
        service_listener_unref(entry);
        return error;
    }
    if (out_address)
        iocp_listener_address(listener, out_address);
    if (service_listener_add(entry, listener)) {
        iocp_listener_close(listener);
        error = IOCP_ECLOSED;
    }
    service_listener_unref(entry);
    return error;
}

/* ---- Connectors. */

int iocp_service_connect(struct iocp_service *service, const struct iocp_connect_config *config,
                         uint64_t *out_connector)
{
    if (!service || !config || service->config.role == IOCP_ROLE_SERVER ||
        iocp_address_family(&config->address) == IOCP_FAMILY_NONE ||
        iocp__session_class_check(config->session_class) < 0)
        return IOCP_EINVAL;
    int error = service_enter(service);
    if (error < 0)
        return error;
    error = iocp__table_reserve(&service->table);
    if (error == 0) {
        error = iocp__connector_start(service, config, out_connector);
        if (error < 0)
            iocp__table_unreserve(&service->table);
    }
    if (error < 0)
        iocp__service_drop(service);
    return error;
}

int iocp_service_disconnect(struct iocp_service *service, uint64_t connector)
{
    if (!service || !connector)
        return IOCP_EINVAL;
    struct iocp__connector *found = iocp__connector_find(service, connector);
    if (!found)
        return IOCP_ENOTFOUND;
    iocp__connector_end(found, IOCP_CLOSE_LOCAL);
    iocp__connector_unref(found);
    return 0;
}

/* ---- Start. */

int iocp_service_start(struct iocp_service *service)
{
    if (!service)
        return IOCP_EINVAL;
    struct iocp_workers_config config = {.count = service->config.workers};
    struct iocp_workers *workers = NULL;
    iocp__lock_acquire(&service->lock);
    int idle = service->state == IOCP__SERVICE_IDLE;
    if (idle)
        iocp__store_relaxed(&service->state, IOCP__SERVICE_RUNNING);
    iocp__lock_release(&service->lock);
    if (!idle)
        return IOCP_EBUSY;
    int error = 0;
    if (service->config.workers != IOCP_WORKERS_NONE)
        error = iocp_workers_launch(service->port, &config, &workers);
    iocp__lock_acquire(&service->lock);
    service->workers = workers;
    int ended = service->state == IOCP__SERVICE_ENDED;
    if (error < 0 && service->state == IOCP__SERVICE_RUNNING)
        iocp__store_relaxed(&service->state, IOCP__SERVICE_IDLE);
    iocp__lock_release(&service->lock);
    /* Stopped meanwhile. */
    if (ended)
        iocp_workers_stop(workers);
    return error;
}

int iocp_service_run(struct iocp_service *service)
{
    int error = iocp_service_start(service);
    return error < 0 ? error : iocp_service_join(service);
}

/* ---- Stop. */

static struct service_listener *service_next_listener(struct iocp_service *service)
{
    struct service_listener *found = NULL;
    iocp__lock_acquire(&service->lock);
    for (struct iocp__link *link = service->listeners.next; link != &service->listeners && !found;
         link = link->next) {
        struct service_listener *entry = iocp__container(link, struct service_listener, link);
        if (entry->told)
            continue;
        entry->told = 1;
        /* Relaxed: the list's reference is there. */
        iocp__add_relaxed(&entry->refs, 1);
        found = entry;
    }
    iocp__lock_release(&service->lock);
    return found;
}

static void service_close_sessions(struct iocp_service *service)
{
    struct iocp_session *sessions[SERVICE_BATCH];
    uint64_t cursor = 0;
    uint32_t count;
    /* Relaxed: this thread has stored it, or there is none. */
    uint64_t drain = iocp__load_relaxed(&service->drain_deadline_ns);
    while ((count = iocp__table_collect(&service->table, &cursor, sessions, SERVICE_BATCH, 1))) {
        for (uint32_t i = 0; i < count; i++) {
            iocp__session_close(sessions[i], IOCP_CLOSE_SHUTDOWN);
            /* For those that were closing before, with a later deadline. */
            iocp__timeouts_set(service, sessions[i], drain);
            iocp_session_unref(sessions[i]);
        }
    }
}

static void service_close_all(struct iocp_service *service)
{
    struct service_listener *entry;
    struct iocp__connector *connector;
    while ((entry = service_next_listener(service))) {
        iocp_listener_close(entry->listener);
        service_listener_unref(entry);
    }
    while ((connector = iocp__connector_find(service, 0))) {
        iocp__connector_end(connector, IOCP_CLOSE_SHUTDOWN);
        iocp__connector_unref(connector);
    }
    service_close_sessions(service);
}

void iocp_service_stop(struct iocp_service *service)
{
    if (!service)
        return;
    uint64_t now = iocp_now_ns();
    uint64_t drain = service->config.drain_ns;
    iocp__lock_acquire(&service->lock);
    uint32_t before = service->state;
    if (before == IOCP__SERVICE_RUNNING) {
        iocp__store_relaxed(&service->state, IOCP__SERVICE_STOPPING);
        /* Relaxed: seen by those who are told to close, through their locks. */
        iocp__store_relaxed(&service->drain_deadline_ns,
                            drain < UINT64_MAX - now ? now + drain : UINT64_MAX);
    }
    iocp__lock_release(&service->lock);
    if (before > IOCP__SERVICE_RUNNING)
        return;
    /* The caller's reference may go with `stopped`. */
    iocp_object_ref(&service->object);
    if (before == IOCP__SERVICE_RUNNING)
        iocp__table_set_closed(&service->table, 1);
    service_close_all(service);
    if (before == IOCP__SERVICE_RUNNING)
        iocp__service_drop(service);
    iocp_object_unref(&service->object);
}

/* ---- The end, and join. */

static void service_wake(struct iocp__service_waiter *waiters)
{
    while (waiters) {
        struct iocp__service_waiter *next = waiters->next;
        iocp__parker_release(&waiters->parker);
        waiters = next;
    }
}

static void service_ended(const struct iocp_packet *packet)
{
    struct iocp_service *service = iocp__container(packet->object, struct iocp_service, object);
    struct iocp_port *port = service->port;
    iocp__timeouts_stop(service);
    if (service->config.stopped)
        service->config.stopped(service, service->config.context);
    iocp__lock_acquire(&service->lock);
    struct iocp_workers *workers = service->workers;
    iocp__lock_release(&service->lock);
    /* Before ENDED: a join on a shared port frees the pool after it. */
    iocp_workers_stop(workers);
    iocp__lock_acquire(&service->lock);
    iocp__store_relaxed(&service->state, IOCP__SERVICE_ENDED);
    struct iocp_workers *started = service->workers;
    struct iocp__service_waiter *waiters = service->waiters;
    service->waiters = NULL;
    iocp__lock_release(&service->lock);
    if (started != workers)
        iocp_workers_stop(started);
    service_wake(waiters);
    if (service->config.workers == IOCP_WORKERS_NONE)
        iocp_port_wake(port);
}

/* Waits until the state is `state`. 0, or IOCP_ECLOSED: the port is closed, so it never will be. */
static int service_wait(struct iocp_service *service, enum iocp__service_state state)
{
    for (;;) {
        struct iocp__service_waiter waiter = {NULL, {0}};
        iocp__lock_acquire(&service->lock);
        int there = service->state == state;
        if (!there) {
            waiter.next = service->waiters;
            service->waiters = &waiter;
        }
        iocp__lock_release(&service->lock);
        if (there)
            return 0;
        int error = iocp__parker_wait(&waiter.parker, iocp_now_ns() + SERVICE_LOOK_NS);
        iocp__lock_acquire(&service->lock);
        struct iocp__service_waiter **at = &service->waiters;
        while (*at && *at != &waiter)
            at = &(*at)->next;
        int listed = *at != NULL;
        if (listed)
            *at = waiter.next;
        iocp__lock_release(&service->lock);
        /* Taken off the list, but not released yet: its memory is still looked at. */
        if (!listed && error < 0)
            iocp__parker_wait(&waiter.parker, UINT64_MAX);
        /* Sequentially consistent only because the port stores it so. */
        if (listed && iocp__load_seq(&service->port->closed))
            return IOCP_ECLOSED;
    }
}

/* Back to the beginning. */
static void service_joined(struct iocp_service *service)
{
    iocp__lock_acquire(&service->lock);
    /* The one that `stop` took away. */
    if (service->state > IOCP__SERVICE_RUNNING)
        iocp__service_hold(service);
    iocp__store_relaxed(&service->state, IOCP__SERVICE_IDLE);
    iocp__store_relaxed(&service->drain_deadline_ns, UINT64_MAX);
    service->joining = 0;
    service->workers = NULL;
    struct iocp__service_waiter *waiters = service->waiters;
    service->waiters = NULL;
    iocp__lock_release(&service->lock);
    iocp__table_set_closed(&service->table, 0);
    service_wake(waiters);
}

static int service_in_handler(struct iocp_service *service)
{
    struct iocp__worker *worker = iocp__worker_find(service->port);
    return worker && worker->dispatching;
}

int iocp_service_join(struct iocp_service *service)
{
    if (!service)
        return IOCP_EINVAL;
    if (service_in_handler(service))
        return IOCP_EBUSY;
    iocp__lock_acquire(&service->lock);
    uint32_t state = service->state;
    uint32_t joining = service->joining;
    struct iocp_workers *workers = service->workers;
    if (state != IOCP__SERVICE_IDLE)
        service->joining = 1;
    iocp__lock_release(&service->lock);
    if (state == IOCP__SERVICE_IDLE)
        return 0;
    if (joining)
        return service_wait(service, IOCP__SERVICE_IDLE);
    int error = 0;
    /* The threads of a port of our own leave by themselves, also when the port is closed. */
    if (!workers || service->config.port)
        error = service_wait(service, IOCP__SERVICE_ENDED);
    int busy = iocp_workers_join(workers);
    if (busy == IOCP_EBUSY) {
        iocp__lock_acquire(&service->lock);
        service->joining = 0;
        iocp__lock_release(&service->lock);
        return busy;
    }
    service_joined(service);
    return error;
}

/* ---- All sessions. */

struct iocp_session *iocp_service_find(struct iocp_service *service, uint64_t id)
{
    return service ? iocp__table_find(&service->table, id) : NULL;
}

void iocp_service_each(struct iocp_service *service,
                       int (*visit)(struct iocp_session *session, void *context), void *context)
{
    struct iocp_session *sessions[SERVICE_BATCH];
    uint64_t cursor = 0;
    uint32_t count;
    int stop = !service || !visit;
    while (!stop &&
           (count = iocp__table_collect(&service->table, &cursor, sessions, SERVICE_BATCH, 0))) {
        for (uint32_t i = 0; i < count; i++) {
            stop = stop || visit(sessions[i], context) != 0;
            iocp_session_unref(sessions[i]);
        }
    }
}

struct service_message {
    struct iocp_buffer *buffer;
    uint32_t taken;
};

static int service_send_to(struct iocp_session *session, void *context)
{
    struct service_message *message = context;
    if (iocp_session_send_buffer(session, message->buffer) == 0)
        message->taken++;
    return 0;
}

uint32_t iocp_service_broadcast(struct iocp_service *service, struct iocp_buffer *buffer)
{
    struct service_message message = {buffer, 0};
    if (buffer)
        iocp_service_each(service, service_send_to, &message);
    return message.taken;
}

/* ---- Counters. */

static uint64_t service_accept_failures(struct iocp_service *service)
{
    uint64_t failures = 0;
    iocp__lock_acquire(&service->lock);
    for (struct iocp__link *link = service->listeners.next; link != &service->listeners;
         link = link->next) {
        struct iocp_listener_stats stats;
        iocp_listener_stats(iocp__container(link, struct service_listener, link)->listener, &stats);
        failures += stats.failures;
    }
    iocp__lock_release(&service->lock);
    /* Relaxed: a counter. */
    return failures + iocp__load_relaxed(&service->accept_failures);
}

void iocp_service_stats(struct iocp_service *service, struct iocp_service_stats *out_stats)
{
    /* Relaxed, all of them: counters, read one after the other. */
    struct iocp_service_stats stats = {
        .accepted = iocp__load_relaxed(&service->accepted),
        .refused = iocp__load_relaxed(&service->refused),
        .connected = iocp__load_relaxed(&service->connected),
        .connect_failures = iocp__load_relaxed(&service->connect_failures),
        .closed = iocp__load_relaxed(&service->closed),
        .accept_failures = service_accept_failures(service),
        .sessions = iocp__load_relaxed(&service->table.reserved),
        .sessions_peak = iocp__load_relaxed(&service->table.peak),
    };
    for (uint32_t i = 0; i < IOCP__SERVICE_SHARDS; i++) {
        struct iocp__service_shard *shard = &service->shards[i];
        stats.bytes_received += iocp__load_relaxed(&shard->bytes_received);
        stats.bytes_sent += iocp__load_relaxed(&shard->bytes_sent);
        stats.messages_received += iocp__load_relaxed(&shard->messages_received);
        stats.messages_sent += iocp__load_relaxed(&shard->messages_sent);
        stats.sends_refused += iocp__load_relaxed(&shard->sends_refused);
        stats.messages_dropped += iocp__load_relaxed(&shard->messages_dropped);
    }
    *out_stats = stats;
}
