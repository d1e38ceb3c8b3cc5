/* The service: all sessions of a program and how they reach each other (the notes' Service).
 *
 * Create it, give it listeners or connectors, start it; stop it from any thread, also from a
 * handler. Threads: any thread may call anything, but where a comment says otherwise. */
#ifndef IOCP_SERVICE_H
#define IOCP_SERVICE_H

#include <iocp/address.h>
#include <iocp/listener.h>
#include <iocp/port.h>
#include <iocp/session.h>

IOCP_BEGIN

struct iocp_group;
struct iocp_service;

enum iocp_role {
    IOCP_ROLE_PEER = 0, /* listens and connects */
    IOCP_ROLE_SERVER,   /* listens */
    IOCP_ROLE_CLIENT    /* connects */
};

struct iocp_service_config {
    struct iocp_port *port; /* shared; NULL: the service makes its own from port_config */
    struct iocp_port_config port_config;
    uint32_t workers;      /* threads that `start` launches; 0: the port's concurrency;
                         IOCP_WORKERS_NONE: the user's threads dispatch the port */
    uint32_t role;         /* enum iocp_role */
    uint32_t sessions_max; /* a cap that holds at every moment, connecting ones included: 0: 65,536;
                              up to 16,777,216 */
    uint64_t tick_ns;      /* grain of the sessions' time limits; 0: 50 ms */
    uint64_t drain_ns;     /* how long `stop` lets sessions send what they have; 0: 5 s */
    /* Every session has closed and every listener too, after `stop`. May be NULL. */
    void (*stopped)(struct iocp_service *service, void *context);
    void *context;
};

#define IOCP_WORKERS_NONE UINT32_MAX

IOCP_API void iocp_service_config_init(struct iocp_service_config *config);

/* Gives one reference. `config` NULL means the defaults. Errors: as of iocp_port_create. */
IOCP_API int iocp_service_create(const struct iocp_service_config *config,
                                 struct iocp_service **out_service);
IOCP_API struct iocp_service *iocp_service_ref(struct iocp_service *service);
/* NULL is fine; returns NULL. The last one, after stop and join, frees the service. If it was
 * started and not joined, it stops and joins first; so never from a handler. */
IOCP_API struct iocp_service *iocp_service_unref(struct iocp_service *service);

IOCP_API struct iocp_port *iocp_service_port(struct iocp_service *service);
IOCP_API void *iocp_service_context(const struct iocp_service *service);

/* Listens; sessions are of `session_class`, which is shared until the service is freed. Before or
 * after `start`. `options` may be NULL; its address and handlers are not looked at. `out_address`,
 * which may be NULL, gets the address with the port that the system chose. Errors: those of
 * iocp_listener_create, IOCP_EINVAL (role), IOCP_ECLOSED (stopping). */
IOCP_API int iocp_service_listen(struct iocp_service *service, const struct iocp_address *address,
                                 const struct iocp_session_class *session_class,
                                 const struct iocp_listener_config *options,
                                 struct iocp_address *out_address);

struct iocp_connect_config {
    struct iocp_address address;
    const struct iocp_session_class *session_class; /* shared until the service is freed */
    uint64_t timeout_ns;       /* of one attempt; 0: 10 s; IOCP_WAIT_FOREVER: the system's own */
    uint64_t reconnect_min_ns; /* pause after the first failure or loss, doubles up to the */
    uint64_t reconnect_max_ns; /* maximum, each with a random share; min 0: never again */
    uint32_t attempts_max;     /* failures in a row until it gives up; 0: no bound */
    /* An attempt failed; `again` is 0 when it was the last. May be NULL. */
    void (*failed)(struct iocp_service *service, int error, int again, void *context);
    void *context;
    /* Put into the user's area pointer of the new session before `opened`: copied, NULL: zeroes. */
    const void *user;
};

/* Connects, and with reconnect_min_ns connects again whenever the session is lost to anything but a
 * local close. `opened` of the class runs at success. The config is copied. `out_connector` (may be
 * NULL) is for iocp_service_disconnect. Errors, otherwise reported by `failed`: IOCP_EINVAL,
 * IOCP_ENOMEM, IOCP_EFULL (sessions_max), IOCP_ECLOSED. */
IOCP_API int iocp_service_connect(struct iocp_service *service,
                                  const struct iocp_connect_config *config,
                                  uint64_t *out_connector);

/* Ends a connector: no more attempts; its session, if there is one, is closed. */
IOCP_API int iocp_service_disconnect(struct iocp_service *service, uint64_t connector);

/* Launches the workers. Errors: IOCP_EBUSY (started), as of iocp_workers_launch. */
IOCP_API int iocp_service_start(struct iocp_service *service);

/* Ends it: no more accepts and attempts; sessions close with IOCP_CLOSE_SHUTDOWN, sending what they
 * have until drain_ns is over, then they are aborted; `stopped` runs; the workers leave. Returns at
 * once. Idempotent; any thread, also a handler or a thread of the user's that waits for signals. */
IOCP_API void iocp_service_stop(struct iocp_service *service);

/* Waits until a stopped service has ended and its workers have left; then it may be started again
 * (listen and connect anew). From a handler: IOCP_EBUSY. Not started: 0. */
IOCP_API int iocp_service_join(struct iocp_service *service);

/* Starts, waits for somebody to stop it, joins: a whole server program in one call. */
IOCP_API int iocp_service_run(struct iocp_service *service);

/* Finds an open session by its id and gives a reference, or NULL. */
IOCP_API struct iocp_session *iocp_service_find(struct iocp_service *service, uint64_t id);

/* Sends one buffer to every open session. Returns how many took it. */
IOCP_API uint32_t iocp_service_broadcast(struct iocp_service *service, struct iocp_buffer *buffer);

/* Calls `visit` for each open session, with no lock held; a session that opens or closes meanwhile
 * may or may not be visited. Stops early when `visit` returns not 0. */
IOCP_API void iocp_service_each(struct iocp_service *service,
                                int (*visit)(struct iocp_session *session, void *context),
                                void *context);

struct iocp_service_stats {
    uint64_t accepted;  /* connections that became sessions */
    uint64_t refused;   /* closed at once: sessions_max, `admit`, no memory */
    uint64_t connected; /* attempts that became sessions */
    uint64_t connect_failures;
    uint64_t closed; /* sessions that ended */
    uint64_t bytes_received;
    uint64_t bytes_sent;
    uint64_t messages_received; /* calls of received and message */
    uint64_t messages_sent;     /* sends accepted; counted when they are given to the kernel */
    uint64_t sends_refused;
    uint64_t messages_dropped; /* by IOCP_FULL_DROP */
    uint64_t accept_failures;
    uint32_t sessions; /* now */
    uint32_t sessions_peak;
};

IOCP_API void iocp_service_stats(struct iocp_service *service,
                                 struct iocp_service_stats *out_stats);

IOCP_END

#endif
