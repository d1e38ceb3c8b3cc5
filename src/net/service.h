/* Inside of services (public face: iocp/service.h): the struct and what sessions, connectors and
 * time limits need of it. The rules are at the top of service.c. */
#ifndef IOCP_NET_SERVICE_H
#define IOCP_NET_SERVICE_H

#include "base/list.h"
#include "net/send_queue.h"
#include "net/session_table.h"
#include "net/timeouts.h"
#include "os/os.h"

#include <iocp/object.h>
#include <iocp/service.h>
#include <iocp/workers.h>

#define IOCP__SERVICE_SHARDS 16

/* Counters and free send blocks of the sessions whose id ends in the shard's number: so that
 * workers do not meet on one line of memory with each message. Counters are relaxed atomics. */
struct iocp__service_shard {
    struct iocp__send_pool sends;
    uint64_t bytes_received;
    uint64_t bytes_sent;
    uint64_t messages_received;
    uint64_t messages_sent;
    uint64_t sends_refused;
    uint64_t messages_dropped;
    uint64_t space[8]; /* a line between two shards */
};

enum iocp__service_state {
    IOCP__SERVICE_IDLE = 0, /* made, or joined */
    IOCP__SERVICE_RUNNING,
    IOCP__SERVICE_STOPPING,
    IOCP__SERVICE_ENDED /* `stopped` has run; waits for join */
};

struct iocp__connector;
struct iocp__service_waiter; /* a thread in join */

struct iocp_service {
    struct iocp_object object; /* counts what belongs to the service; serial: tick and end */
    uint32_t users;            /* atomic: references of the user's */
    uint32_t alive;            /* atomic: sessions, listeners, connectors, and one until `stop` */
    struct iocp_service_config config;
    struct iocp_port *port;
    struct iocp_op end_op; /* the packet that runs `stopped` */

    /* The lock's. */
    struct iocp__lock lock;
    uint32_t state; /* enum iocp__service_state; atomic to read */
    uint32_t joining;
    struct iocp_workers *workers;
    struct iocp__link listeners;
    struct iocp__link connectors;
    uint64_t connector_last;
    struct iocp__service_waiter *waiters;

    uint64_t drain_deadline_ns; /* atomic: of `stop`; UINT64_MAX: none */
    struct iocp__timeouts timeouts;
    struct iocp__session_table table;

    /* Atomic, once a connection. */
    uint64_t accepted;
    uint64_t refused;
    uint64_t connected;
    uint64_t connect_failures;
    uint64_t closed;
    uint64_t accept_failures; /* of listeners that have closed */

    struct iocp__service_shard shards[IOCP__SERVICE_SHARDS];
};

static inline struct iocp__service_shard *iocp__service_shard(struct iocp_service *service,
                                                              uint64_t id)
{
    return &service->shards[id % IOCP__SERVICE_SHARDS];
}

/* Something that `stop` waits for has come or gone. The caller of `hold` is held itself, or holds
 * the lock and has seen a state before STOPPING. */
void iocp__service_hold(struct iocp_service *service);
void iocp__service_drop(struct iocp_service *service);

/* Sets the options of a new connection. */
void iocp__service_set_options(const struct iocp_session_class *session_class, iocp_handle handle);

/* ---- Connectors (connector.c). */

/* Makes and starts one, which takes over a place in the table and a hold on the service that the
 * caller has got for it; not when it fails: IOCP_ENOMEM, IOCP_ECLOSED. */
int iocp__connector_start(struct iocp_service *service, const struct iocp_connect_config *config,
                          uint64_t *out_id);

/* No more attempts; its session is closed with `reason`. Any thread; the service is not locked. */
void iocp__connector_end(struct iocp__connector *connector, enum iocp_close_reason reason);

struct iocp__connector *iocp__connector_ref(struct iocp__connector *connector);
struct iocp__connector *iocp__connector_unref(struct iocp__connector *connector);

/* The connector of this id, or for id 0 one that was not told to end, with a reference; NULL:
 * none. */
struct iocp__connector *iocp__connector_find(struct iocp_service *service, uint64_t id);

/* A session of it has ended: `opened`, or its connect failed with `error`. The last thing that the
 * session does. */
void iocp__connector_session_ended(struct iocp__connector *connector, int opened,
                                   enum iocp_close_reason reason, int error);
/* Gives the service's reference up: the port is gone. */
void iocp__connector_sweep(struct iocp_service *service);

#endif
