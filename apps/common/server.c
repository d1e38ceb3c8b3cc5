/* The life of a server program, on the main thread. The service runs on its own workers; this
 * thread waits for signals with sigtimedwait, so no handler of a signal interrupts anything.
 *
 *   running → draining [server_drain, first signal] → ended [server_stopped] → joined [server_run]
 *   draining → the process is gone [server_run, second signal]
 */
#include "server.h"

#include "report.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SERVER_NS_PER_S UINT64_C(1000000000)

/* The signals that the main thread waits for; SIGUSR1 is how `stopped` wakes it. */
static sigset_t server_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    return set;
}

/* Every session has closed: tells the main thread, which waits for signals. */
static void server_stopped(struct iocp_service *service, void *context)
{
    struct server *server = context;
    (void)service;
    /* Release: pairs with the acquire in server_run. The signal only wakes. */
    __atomic_store_n(&server->ended, 1, __ATOMIC_RELEASE);
    kill(getpid(), SIGUSR1);
}

/* A session is a descriptor, and the usual soft limit of 1,024 would be the real maximum. */
static void server_lift_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* the service works with fewer as well */
    }
}

static _Noreturn void server_refuse(const struct server_options *options, int error)
{
    char reason[256] = "";
    const char *asked = getenv("IOCP_BACKEND");
    /* The only value that the options have not checked. */
    if (error == IOCP_EINVAL && asked && options->backend == IOCP_BACKEND_AUTO) {
        start_fail(options, "IOCP_BACKEND: \"%s\" is not a backend: set uring, epoll or auto",
                   asked);
    }
    if (error == IOCP_ENOTSUP) {
        iocp_backend_probe((enum iocp_backend)options->backend, reason, sizeof reason);
    }
    start_fail(options, "cannot start: %s%s%s", iocp_error_text(error),
               reason[0] != '\0' ? ": " : "", reason);
}

void server_init(struct server *server, const struct server_options *options)
{
    sigset_t signals = server_signals();
    struct iocp_service_config config;

    *server = (struct server){.options = options};
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    server_lift_limit();
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
        fprintf(stderr, "%s %s\n", label, text);
    }
}

void server_start(struct server *server)
{
    int error = iocp_service_start(server->service);
    if (error < 0) {
        server_refuse(server->options, error);
    }
    server->started_ns = iocp_now_ns();
}

/* Waits for a signal; with `tick`, for a second at most. Returns it, or 0. */
static int server_wait(bool tick)
{
    const struct timespec second = {.tv_sec = 1};
    sigset_t signals = server_signals();
    int signal = tick ? sigtimedwait(&signals, NULL, &second) : sigwaitinfo(&signals, NULL);
    return signal < 0 ? 0 : signal;
}

static void server_drain(struct server *server, const struct server_hooks *hooks)
{
    if (hooks->leaving != NULL) {
        hooks->leaving(hooks->context);
    }
    iocp_service_stop(server->service);
}

void server_run(struct server *server, const struct server_hooks *hooks)
{
    bool draining = false;
    /* Acquire: pairs with the release in server_stopped. */
    while (__atomic_load_n(&server->ended, __ATOMIC_ACQUIRE) == 0) {
        int signal = server_wait(hooks->tick != NULL && !draining);
        if (signal == 0 && hooks->tick != NULL && !draining) {
            hooks->tick(hooks->context);
        }
        if (signal == SIGINT || signal == SIGTERM) {
            if (draining) {
                _exit(EXIT_SUCCESS);
            }
            draining = true;
            server_drain(server, hooks);
        }
    }
    iocp_service_join(server->service);
}

void server_free(struct server *server)
{
    if (server->options->stats) {
        report_print(server);
    }
    server->service = iocp_service_unref(server->service);
}

uint32_t server_workers(const struct server *server)
{
    if (server->options->workers != 0) {
        return server->options->workers;
    }
    return iocp_port_concurrency(iocp_service_port(server->service));
}
