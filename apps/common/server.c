/* The life of a server program, on the main thread. The service runs on its own workers; this
 * thread waits for the system to tell it to stop.
 *
 *   running → draining [server_drain, first stop] → ended [server_stopped] → joined [server_run]
 *   draining → the process is gone [server_run, second stop]
 */
#include "server.h"

#include "report.h"
#include "say.h"
#include "system.h"

#include <stdlib.h>

#define SERVER_NS_PER_S UINT64_C(1000000000)

/* Every session has closed: tells the main thread. */
static void server_stopped(struct iocp_service *service, void *context)
{
    struct server *server = context;
    (void)service;
    /* Release: pairs with the acquire in server_run. */
    atomic_store_explicit(&server->ended, true, memory_order_release);
    system_wake();
}

_Noreturn void server_refuse(const struct server_options *options, int error)
{
    char reason[256] = "";
    const char *asked = getenv("IOCP_BACKEND");
    /* The only value that the options have not checked. */
    if (error == IOCP_EINVAL && asked && options->backend == IOCP_BACKEND_AUTO) {
        char backends[ARGUMENTS_BACKENDS_SIZE];
        arguments_backends(backends);
        start_fail(options, "IOCP_BACKEND: \"%s\" is not a backend: set %s", asked, backends);
    }
    if (error == IOCP_ENOTSUP) {
        iocp_backend_probe((enum iocp_backend)options->backend, reason, sizeof reason);
    }
    start_fail(options, "cannot start: %s%s%s", iocp_error_text(error),
               reason[0] != '\0' ? ": " : "", reason);
}

void server_init(struct server *server, const struct server_options *options)
{
    struct iocp_service_config config;

    *server = (struct server){.options = options};
    if (!system_init()) {
        server_refuse(options, IOCP_ENOMEM);
    }
    iocp_service_config_init(&config);
    config.role = IOCP_ROLE_SERVER;
    config.workers = options->workers;
    config.sessions_max = options->sessions_max;
    config.drain_ns = options->drain_s * SERVER_NS_PER_S;
    config.port_config.backend = options->backend;
    config.port_config.concurrency = options->concurrency;
    config.port_config.lanes = options->lanes;
    config.stopped = server_stopped;
    config.context = server;
    int error = iocp_service_create(&config, &server->service);
    if (error < 0) {
        server_refuse(options, error);
    }
}

void server_listen(struct server *server, struct addresses *addresses,
                   const struct iocp_session_class *session_class)
{
    for (uint32_t i = 0; i < addresses->count; i++) {
        struct iocp_address *address = &addresses->list[i];
        char text[IOCP_ADDRESS_TEXT_SIZE] = "?";
        int error = iocp_service_listen(server->service, address, session_class, NULL, address);
        if (error < 0) {
            iocp_address_format(address, text, sizeof text);
            start_fail(server->options, "cannot listen on %s: %s", text, iocp_error_text(error));
        }
    }
}

void server_print(const struct addresses *addresses, const char *label)
{
    for (uint32_t i = 0; i < addresses->count; i++) {
        char text[IOCP_ADDRESS_TEXT_SIZE] = "?";
        iocp_address_format(&addresses->list[i], text, sizeof text);
        say("%s %s\n", label, text);
    }
}

void server_start(struct server *server)
{
    int error = iocp_service_start(server->service);
    if (error < 0) {
        server_refuse(server->options, error);
    }
    server->started_ns = iocp_now_ns();
    server->report_ns = server->started_ns + server->options->stats_every_s * SERVER_NS_PER_S;
}

static void server_drain(struct server *server, const struct server_hooks *hooks)
{
    if (hooks->leaving != NULL) {
        hooks->leaving(hooks->context);
    }
    iocp_service_stop(server->service);
}

void server_count_closed(struct server *server, enum iocp_close_reason reason)
{
    /* Relaxed: a count, which nothing is ordered by. */
    atomic_fetch_add_explicit(&server->closed[reason], 1, memory_order_relaxed);
}

/* A second has passed, or less: waiting for signals may end with nothing. */
static void server_tick(struct server *server, const struct server_hooks *hooks)
{
    uint64_t every_ns = server->options->stats_every_s * SERVER_NS_PER_S;
    uint64_t now_ns = iocp_now_ns();
    if (hooks->tick != NULL) {
        hooks->tick(hooks->context);
    }
    if (every_ns != 0 && now_ns >= server->report_ns) {
        server->report_ns = now_ns + every_ns;
        report_now(server);
    }
}

void server_run(struct server *server, const struct server_hooks *hooks)
{
    bool draining = false;
    /* Acquire: pairs with the release in server_stopped. */
    while (!atomic_load_explicit(&server->ended, memory_order_acquire)) {
        bool tick = (hooks->tick != NULL || server->options->stats_every_s != 0) && !draining;
        enum system_event event = system_wait(tick);
        if (event == SYSTEM_TICK && tick) {
            server_tick(server, hooks);
        }
        if (event == SYSTEM_STOP) {
            if (draining) {
                _Exit(EXIT_SUCCESS);
            }
            draining = true;
            server_drain(server, hooks);
        }
    }
    iocp_service_join(server->service);
}

void server_free(struct server *server)
{
    bool stats = server->options->stats;
    if (stats) {
        report_begin(server);
    }
    server->service = iocp_service_unref(server->service);
    if (stats) {
        report_end();
    }
}

uint32_t server_workers(const struct server *server)
{
    if (server->options->workers != 0) {
        return server->options->workers;
    }
    return iocp_port_concurrency(iocp_service_port(server->service));
}
