/* Reads the command line of iocp-chat. */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const char options_help[] =
    "usage: iocp-chat [OPTION]...\n"
    "A chat server: people talk to it with nc or telnet, programs in packets.\n"
    "\n"
    "  --listen ADDRESS         where people connect: ADDRESS:PORT, [IPV6]:PORT, *:PORT (IPv4 and\n"
    "                           IPv6) or unix:/PATH; port 0 takes a free one; \"none\" for "
    "nowhere;\n"
    "                           may be repeated (default 0.0.0.0:7777)\n"
    "  --packet-listen ADDRESS  the same for programs (default 0.0.0.0:7778)\n"
    "  --workers N              threads that run handlers (default 0: the concurrency)\n"
    "  --concurrency N          of these, running at a time (default 0: the CPUs)\n"
    "  --backend NAME           %s (default auto: the best that works)\n"
    "  --max-sessions N         most connections at a time (default 65536)\n"
    "  --max-rooms N            most rooms at a time (default 10000)\n"
    "  --idle SECONDS           ends a session that says nothing for so long (default 0: never)\n"
    "  --line-max BYTES         longest line, 64 to 16384; a longer one ends the session\n"
    "                           (default 4096)\n"
    "  --rate N                 most messages a second of one session; more are refused\n"
    "                           (default 0: no limit)\n"
    "  --drain SECONDS          how long an end waits for peers that do not read or hang up\n"
    "                           (default 2)\n"
    "  --stats                  at the end, print the counters as one line of JSON on stdout\n"
    "  --stats-every SECONDS    also print them so often (default 0: only at the end)\n"
    "  --quiet                  print nothing but errors\n"
    "  --help                   print this and exit\n"
    "  --version                print the version and exit\n"
    "\n"
    "Ctrl-C, or SIGTERM where there is one, says goodbye to everybody and ends; a second one ends\n"
    "at once.\n";

enum option_code {
    OPTION_LISTEN = 256,
    OPTION_PACKET_LISTEN,
    OPTION_WORKERS,
    OPTION_CONCURRENCY,
    OPTION_BACKEND,
    OPTION_MAX_SESSIONS,
    OPTION_MAX_ROOMS,
    OPTION_IDLE,
    OPTION_LINE_MAX,
    OPTION_RATE,
    OPTION_DRAIN,
    OPTION_STATS,
    OPTION_STATS_EVERY,
    OPTION_QUIET,
    OPTION_HELP,
    OPTION_VERSION
};

static const struct option options_long[] = {
    {"listen", required_argument, NULL, OPTION_LISTEN},
    {"packet-listen", required_argument, NULL, OPTION_PACKET_LISTEN},
    {"workers", required_argument, NULL, OPTION_WORKERS},
    {"concurrency", required_argument, NULL, OPTION_CONCURRENCY},
    {"backend", required_argument, NULL, OPTION_BACKEND},
    {"max-sessions", required_argument, NULL, OPTION_MAX_SESSIONS},
    {"max-rooms", required_argument, NULL, OPTION_MAX_ROOMS},
    {"idle", required_argument, NULL, OPTION_IDLE},
    {"line-max", required_argument, NULL, OPTION_LINE_MAX},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"drain", required_argument, NULL, OPTION_DRAIN},
    {"stats", no_argument, NULL, OPTION_STATS},
    {"stats-every", required_argument, NULL, OPTION_STATS_EVERY},
    {"quiet", no_argument, NULL, OPTION_QUIET},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

static _Noreturn void options_print_help(void)
{
    char backends[ARGUMENTS_BACKENDS_SIZE];
    arguments_backends(backends);
    printf(options_help, backends);
    exit(EXIT_SUCCESS);
}

/* The options that take no number. */
static void options_take(struct chat_options *options, int option, const char *value)
{
    struct server_options *server = &options->server;
    switch (option) {
    case OPTION_LISTEN:
        arguments_address(server, "--listen", value, &options->lines);
        break;
    case OPTION_PACKET_LISTEN:
        arguments_address(server, "--packet-listen", value, &options->packets);
        break;
    case OPTION_BACKEND:
        server->backend = arguments_backend(server, "--backend", value);
        break;
    case OPTION_STATS:
        server->stats = true;
        break;
    case OPTION_QUIET:
        server->quiet = true;
        break;
    case OPTION_HELP:
        options_print_help();
    case OPTION_VERSION:
        printf("iocp-chat %s\n", iocp_version());
        exit(EXIT_SUCCESS);
    }
}

/* The options that take a number; false: it is none of these. */
static bool options_take_number(struct chat_options *options, int option, const char *value)
{
    const struct arguments_entry numbers[] = {
        {OPTION_WORKERS, "--workers", 0, 1024, &options->server.workers},
        {OPTION_CONCURRENCY, "--concurrency", 0, 1024, &options->server.concurrency},
        {OPTION_MAX_SESSIONS, "--max-sessions", 1, 16777216, &options->server.sessions_max},
        {OPTION_MAX_ROOMS, "--max-rooms", 1, 1000000, &options->rooms_max},
        {OPTION_IDLE, "--idle", 0, 31536000, &options->idle_s},
        {OPTION_LINE_MAX, "--line-max", 64, CHAT_LINE_SIZE_MAX, &options->line_max},
        {OPTION_RATE, "--rate", 0, 1000000, &options->rate},
        {OPTION_DRAIN, "--drain", 1, 3600, &options->server.drain_s},
        {OPTION_STATS_EVERY, "--stats-every", 0, 86400, &options->server.stats_every_s},
    };
    return arguments_entry_take(&options->server, numbers, sizeof numbers / sizeof numbers[0],
                                option, value);
}

void options_parse(struct chat_options *options, int argc, char **argv)
{
    bool given[2] = {false, false}; /* --listen, --packet-listen */
    int option;

    *options = (struct chat_options){
        .server = {.program = "iocp-chat", .sessions_max = 65536, .drain_s = 2},
        .rooms_max = 10000,
        .line_max = 4096,
    };
    while ((option = arguments_next(&options->server, argc, argv, options_long)) != -1) {
        given[0] |= option == OPTION_LISTEN;
        given[1] |= option == OPTION_PACKET_LISTEN;
        if (!options_take_number(options, option, optarg)) {
            options_take(options, option, optarg);
        }
    }
    if (optind < argc) {
        usage_fail(&options->server, "unexpected argument \"%s\"", argv[optind]);
    }
    options->server.stats |= options->server.stats_every_s != 0;
    if (!given[0]) {
        arguments_address(&options->server, "--listen", "0.0.0.0:7777", &options->lines);
    }
    if (!given[1]) {
        arguments_address(&options->server, "--packet-listen", "0.0.0.0:7778", &options->packets);
    }
}
