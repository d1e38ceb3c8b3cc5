/* The life of a server program: make the service, listen, run until a signal, drain, end.
 *
 * The first SIGINT or SIGTERM drains, the second ends the process at once; both end with status 0.
 * Everything here belongs to the main thread. */
#ifndef APPS_COMMON_SERVER_H
#define APPS_COMMON_SERVER_H

#include <iocp.h>

#include "arguments.h"

struct server {
    const struct server_options *options;
    struct iocp_service *service;
    uint64_t started_ns;
    uint32_t ended; /* set by the `stopped` handler, on a worker */
};

/* What a program does on the main thread while its server runs. Each may be NULL. */
struct server_hooks {
    void (*tick)(void *context);    /* once a second, and only then does the main thread wake */
    void (*leaving)(void *context); /* before the service stops: the last chance to send */
    void *context;
};

/* Blocks the signals for this thread and those that it starts, lifts the limit of descriptors, and
 * makes the service. Ends the process by start_fail when that cannot be. */
void server_init(struct server *server, const struct server_options *options);

/* Listens on all of the list and puts the actual addresses into it. Ends the process by start_fail.
 */
void server_listen(struct server *server, struct addresses *addresses,
                   const struct iocp_session_class *session_class);

/* Prints a line of `label` and address each on stderr. */
void server_print(const struct addresses *addresses, const char *label);

/* Launches the workers. Ends the process by start_fail when that cannot be. */
void server_start(struct server *server);

/* Returns when a signal has come and all sessions have ended. */
void server_run(struct server *server, const struct server_hooks *hooks);

/* Prints one line of JSON with the counters on stdout, and gives the service back. */
void server_free(struct server *server);

/* The workers that were asked for, or the number that stands for 0. */
uint32_t server_workers(const struct server *server);

#endif
