/* iocp-echo: sends every connection its own bytes back. Made for measuring the library: nothing but
 * receiving and sending happens in it.
 *
 * Back-pressure: a peer that sends and does not read fills its queue up to `send_pause`; then the
 * session stops receiving until the queue is nearly empty, and TCP slows the peer down. */
#include "../common/arguments.h"
#include "../common/server.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

struct echo_options {
    struct server_options server;
    struct addresses listen;
    uint32_t work_us;
};

/* What the handlers are given. */
struct echo {
    struct echo_options options;
    struct server server;
};

static const char echo_help[] =
    "usage: iocp-echo [OPTION]...\n"
    "Sends every connection its own bytes back, until Ctrl-C, or SIGTERM where there is one.\n"
    "\n"
    "  --listen ADDRESS    where to listen: ADDRESS:PORT, [IPV6]:PORT or unix:/PATH; port 0\n"
    "                      takes a free one; may be repeated (default 127.0.0.1:7000)\n"
    "  --workers N         threads that run handlers (default 0: the concurrency)\n"
    "  --concurrency N     of these, running at a time (default 0: the CPUs)\n"
    "  --lanes N           sources of completions at most (default 0: the concurrency)\n"
    "  --backend NAME      %s (default auto: the best that works)\n"
    "  --work MICROSECONDS compute so long for each receive, as a handler with work to do\n"
    "                      (default 0)\n"
    "  --max-sessions N    most connections at a time (default 65536)\n"
    "  --drain SECONDS     how long the end waits for peers that do not read or hang up\n"
    "                      (default 2)\n"
    "  --stats             at the end, print the counters as one line of JSON on stdout\n"
    "  --stats-every SECONDS\n"
    "                      also print them so often (default 0: only at the end)\n"
    "  --help              print this and exit\n"
    "  --version           print the version and exit\n"
    "\n"
    "Prints the addresses on stderr, then \"ready\" on stdout.\n";

enum echo_option {
    OPTION_LISTEN = 256,
    OPTION_WORKERS,
    OPTION_CONCURRENCY,
    OPTION_LANES,
    OPTION_BACKEND,
    OPTION_WORK,
    OPTION_MAX_SESSIONS,
    OPTION_DRAIN,
    OPTION_STATS,
    OPTION_STATS_EVERY,
    OPTION_HELP,
    OPTION_VERSION
};

static const struct option echo_long_options[] = {
    {"listen", required_argument, NULL, OPTION_LISTEN},
    {"workers", required_argument, NULL, OPTION_WORKERS},
    {"concurrency", required_argument, NULL, OPTION_CONCURRENCY},
    {"lanes", required_argument, NULL, OPTION_LANES},
    {"backend", required_argument, NULL, OPTION_BACKEND},
    {"work", required_argument, NULL, OPTION_WORK},
    {"max-sessions", required_argument, NULL, OPTION_MAX_SESSIONS},
    {"drain", required_argument, NULL, OPTION_DRAIN},
    {"stats", no_argument, NULL, OPTION_STATS},
    {"stats-every", required_argument, NULL, OPTION_STATS_EVERY},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

static _Noreturn void echo_print_help(void)
{
    char backends[ARGUMENTS_BACKENDS_SIZE];
    arguments_backends(backends);
    printf(echo_help, backends);
    exit(EXIT_SUCCESS);
}

static void echo_option(struct echo_options *options, int option, const char *value)
{
    struct server_options *server = &options->server;
    switch (option) {
    case OPTION_LISTEN:
        arguments_address(server, "--listen", value, &options->listen);
        break;
    case OPTION_WORKERS:
        server->workers = arguments_number(server, "--workers", value, 0, 1024);
        break;
    case OPTION_CONCURRENCY:
        server->concurrency = arguments_number(server, "--concurrency", value, 0, 1024);
        break;
    case OPTION_LANES:
        server->lanes = arguments_number(server, "--lanes", value, 0, 64);
        break;
    case OPTION_BACKEND:
        server->backend = arguments_backend(server, "--backend", value);
        break;
    case OPTION_WORK:
        options->work_us = arguments_number(server, "--work", value, 0, 1000000);
        break;
    case OPTION_MAX_SESSIONS:
        server->sessions_max = arguments_number(server, "--max-sessions", value, 1, 16777216);
        break;
    case OPTION_DRAIN:
        server->drain_s = arguments_number(server, "--drain", value, 1, 3600);
        break;
    case OPTION_STATS:
        server->stats = true;
        break;
    case OPTION_STATS_EVERY:
        server->stats_every_s = arguments_number(server, "--stats-every", value, 0, 86400);
        server->stats |= server->stats_every_s != 0;
        break;
    case OPTION_HELP:
        echo_print_help();
    case OPTION_VERSION:
        printf("iocp-echo %s\n", iocp_version());
        exit(EXIT_SUCCESS);
    }
}

static void echo_options_parse(struct echo_options *options, int argc, char **argv)
{
    int option;

    *options = (struct echo_options){
        .server = {.program = "iocp-echo", .sessions_max = 65536, .drain_s = 2},
    };
    while ((option = arguments_next(&options->server, argc, argv, echo_long_options)) != -1) {
        echo_option(options, option, optarg);
    }
    if (optind < argc) {
        usage_fail(&options->server, "unexpected argument \"%s\"", argv[optind]);
    }
    if (options->listen.count == 0) {
        arguments_address(&options->server, "--listen", "127.0.0.1:7000", &options->listen);
    }
}

static size_t echo_received(struct iocp_session *session, const void *data, size_t size,
                            void *context)
{
    const struct echo *echo = context;
    if (echo->options.work_us) {
        uint64_t end_ns = iocp_now_ns() + echo->options.work_us * UINT64_C(1000);
        while (iocp_now_ns() < end_ns)
            ;
    }
    int error = iocp_session_send(session, data, size);
    /* Bytes that cannot be sent back (no memory) may not be lost in silence. A session that closes
     * already refuses with IOCP_ECLOSED, and still sends what it has. */
    if (error < 0 && error != IOCP_ECLOSED) {
        iocp_session_abort(session);
    }
    return size;
}

static void echo_closed(struct iocp_session *session, enum iocp_close_reason reason, void *context)
{
    struct echo *echo = context;
    (void)session;
    server_count_closed(&echo->server, reason);
}

static void echo_class_init(struct iocp_session_class *session_class, struct echo *echo)
{
    iocp_session_class_init(session_class);
    session_class->name = "echo";
    session_class->received = echo_received;
    session_class->closed = echo_closed;
    session_class->context = echo;
    session_class->linger_ns = echo->options.server.drain_s * UINT64_C(1000000000);
}

int main(int argc, char **argv)
{
    const struct server_hooks hooks = {0};
    struct iocp_session_class session_class;
    struct echo echo;
    struct server *server = &echo.server;

    echo_options_parse(&echo.options, argc, argv);
    echo_class_init(&session_class, &echo);
    server_init(server, &echo.options.server);
    server_listen(server, &echo.options.listen, &session_class);
    server_start(server);
    server_print(&echo.options.listen, "listening on");
    puts("ready");
    fflush(stdout);
    server_run(server, &hooks);
    server_free(server);
    return EXIT_SUCCESS;
}
