/* A service for the tests, on the backend of the run, with a listener on net_loopback or a Unix
 * socket.
 *
 * Its handlers check what holds for every session: `opened` is first, `closed` is last, each once,
 * none overlaps; then they call the hook of the test. `host_end` checks that every session that
 * opened has closed, and that nothing of the library is left. */
#ifndef IOCP_TESTS_SUPPORT_HOST_H
#define IOCP_TESTS_SUPPORT_HOST_H

#include "support/net.h"

#include <iocp/service.h>
#include <iocp/session.h>

#define MS UINT64_C(1000000)
#define HOST_REASONS (IOCP_CLOSE_SHUTDOWN + 1)

/* The user's area of each session of a host. */
struct guest {
    uint32_t inside; /* a handler runs */
    uint32_t opened;
    uint32_t closed;
    uint32_t ended;
    uint32_t messages;
    uint64_t bytes;
    uint64_t number; /* the test's */
};

struct host {
    struct iocp_service_config config;
    struct iocp_session_class session_class;
    struct iocp_service *service;
    struct iocp_address address; /* of the listener */
    int no_listener;
    int on_local; /* on a Unix socket, if there are any: small buffers make TCP slow */
    size_t memory_before;
    void *context; /* the test's */

    /* What the handlers do after their checks; NULL: nothing, but received and message echo. */
    void (*opened_hook)(struct host *host, struct iocp_session *session);
    size_t (*received_hook)(struct host *host, struct iocp_session *session, const void *data,
                            size_t size);
    void (*message_hook)(struct host *host, struct iocp_session *session, const void *data,
                         size_t size);
    void (*drained_hook)(struct host *host, struct iocp_session *session);
    /* With it the class gets `ended`. */
    void (*ended_hook)(struct host *host, struct iocp_session *session);
    void (*closed_hook)(struct host *host, struct iocp_session *session,
                        enum iocp_close_reason reason);

    struct latch opened;
    struct latch closed;
    struct latch bytes;    /* received */
    struct latch messages; /* calls of received and message */
    struct latch drained;
    struct latch ended;
    struct latch stopped;
    struct latch event;             /* the test's */
    uint64_t reasons[HOST_REASONS]; /* atomic */
    int32_t error;                  /* atomic: of the last session that closed */
    uint64_t last_id;               /* atomic: of the last session that opened */
};

/* Fills in the defaults: two workers, a raw echo server. */
void host_init(struct host *host);
/* Makes the service, listens, starts. */
void host_start(struct host *host);
/* The first two steps alone. */
void host_make(struct host *host);
/* A host with the defaults, started. */
void host_open(struct host *host);
/* Stops, joins, and does the checks. */
void host_end(struct host *host);
/* The same for a service that the test has stopped and joined. */
void host_free(struct host *host);

/* A blocking socket that is connected to the host. */
int host_connect(struct host *host);
/* Sends a text and expects the same back. */
void host_ping(int fd, const char *text);
uint64_t host_reason(struct host *host, enum iocp_close_reason reason);
struct iocp_service_stats host_stats(struct host *host);
struct guest *guest_of(struct iocp_session *session);
/* The session that opened last, with a reference; it must be open. */
struct iocp_session *host_last(struct host *host);

/* Not 0 when `condition` came true within the limit of net.h; asks every millisecond. For what has
 * no event, as a counter of the library. */
#define wait_until(condition, context) wait_until_at((condition), (context), __FILE__, __LINE__)
void wait_until_at(int (*condition)(void *context), void *context, const char *file, int line);

#endif
