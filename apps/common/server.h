/* The life of a server program: make the service, listen, run until it is told to stop, drain, end.
 *
 * SIGINT and SIGTERM tell it to stop, on Windows Ctrl-C, Ctrl-Break and a closed window. The first
 * time it drains, the second time it ends the process at once; both end with status 0.
 * Everything here belongs to the main thread. */
#ifndef APPS_COMMON_SERVER_H
#define APPS_COMMON_SERVER_H

#include <iocp.h>

#include "arguments.h"

#include <stdatomic.h>

#define SERVER_REASONS (IOCP_CLOSE_SHUTDOWN + 1)

struct server {
    const struct server_options *options;
    struct iocp_service *service;
    uint64_t started_ns;
    uint64_t report_ns;                           /* when the next line of --stats-every is due */
    atomic_bool ended;                            /* set by the `stopped` handler, on a worker */
    atomic_uint_least64_t closed[SERVER_REASONS]; /* sessions, by enum iocp_close_reason */
};

/* What a program does on the main thread while its server runs. Each may be NULL. */
struct server_hooks {
    void (*tick)(void *context);    /* once a second, and only then does the main thread wake */
    void (*leaving)(void *context); /* before the service stops: the last chance to send */
    void *context;
};

/* Ends the process by start_fail: there is no port, because of `error`. */
_Noreturn void server_refuse(const struct server_options *options, int error);

/* Prepares the process (system_init) and makes the service. Ends the process by start_fail when
 * that cannot be. */
void server_init(struct server *server, const struct server_options *options);

/* Listens on all of the list and puts the actual addresses into it. Ends the process by start_fail.
 */
void server_listen(struct server *server, struct addresses *addresses,
                   const struct iocp_session_class *session_class);

/* Prints a line of `label` and address each on stderr. */
void server_print(const struct addresses *addresses, const char *label);

/* Launches the workers. Ends the process by start_fail when that cannot be. */
void server_start(struct server *server);

/* Counts a session that has closed: each `closed` handler calls it, on any thread. */
void server_count_closed(struct server *server, enum iocp_close_reason reason);

/* Returns when it was told to stop and all sessions have ended. */
void server_run(struct server *server, const struct server_hooks *hooks);

/* Gives the service back, the last thing of the library's; with --stats it prints a line of JSON
 * with the counters on stdout. With --stats-every server_run has printed others. */
void server_free(struct server *server);

/* The workers that were asked for, or the number that stands for 0. */
uint32_t server_workers(const struct server *server);

#endif
