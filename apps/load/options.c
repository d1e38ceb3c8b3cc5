/* Reads the command line of iocp-load, and refuses what does not go together. */
#include "options.h"

#include "process.h"
#include "protocol.h"

#include <ctype.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPTIONS_IN_FLIGHT_MAX = 1 << 26, /* depth × connections: 8 bytes are kept for each */
    OPTIONS_HEARD_MAX = 1 << 27,     /* talkers × connections: 4 bytes are kept for each */
    OPTIONS_OPEN_LOOP_DEPTH = 1024
};

static const char options_help[] =
    "usage: iocp-load [OPTION]... ADDRESS\n"
    "Puts load on a TCP server, compares what comes back, and measures: messages a second, round\n"
    "trips, and what the server used. ADDRESS is ADDRESS:PORT, [IPV6]:PORT or unix:/PATH.\n"
    "\n"
    "  --protocol NAME      what the server understands (default echo; docs/load.md has more):\n"
    "      echo             it sends all bytes back\n"
    "      framed           messages of 4 bytes length (big-endian, of the rest) and payload;\n"
    "                       it answers each with the same message\n"
    "      room             the same messages; each goes to every connection, the sender too\n"
    "      chat             iocp-chat, its packets\n"
    "      storm            connect, one message that comes back, close, again\n"
    "      idle             connect, one message that comes back, then quiet\n"
    "  --connections N      at a time (default 50)\n"
    "  --size BYTES         payload of a message (default 64)\n"
    "  --depth N            messages in flight per connection that talks (default 1; with\n"
    "                       --rate 1024)\n"
    "  --talkers N          room and chat: connections that talk, the others listen (default 1)\n"
    "  --rate N             messages a second of all, sent when they are due and not when the\n"
    "                       last answer came (default 0: when the last answer came)\n"
    "  --ramp SECONDS       time to open the connections in (default 0: as fast as they open)\n"
    "  --open SECONDS       how long that may take besides (default 30)\n"
    "  --warmup SECONDS     load that is not measured, at first (default 0)\n"
    "  --time SECONDS       load that is measured (default 10; with --messages no limit)\n"
    "  --messages N         end after so many messages\n"
    "  --drain SECONDS      how long the end waits for answers (default 5)\n"
    "  --verify             compare every byte; each message has bytes of its own\n"
    "  --slow-percent P     so many of a hundred connections send messages that begin with S,\n"
    "                       the others with M; the times of S are reported apart\n"
    "  --sources N          connect from 127.0.0.1 to 127.0.0.N in turn: one has 28,000 ports\n"
    "  --workers N          threads (default 1)\n"
    "  --backend NAME       %s (default auto: the best that works)\n"
    "  --server-pid PID     Linux: report processor time, context switches and memory of that\n"
    "                       process\n"
    "  --json FILE          write the figures as JSON; - for stdout\n"
    "  --quiet              no progress and no report\n"
    "  --help               print this and exit\n"
    "  --version            print the version and exit\n"
    "\n"
    "With --rate the time of a message counts from when it was due: a server that stalls is\n"
    "charged for all that would have been sent meanwhile. Without, a stall delays the next\n"
    "message, is noted once, and hides what users would have seen (coordinated omission).\n"
    "\n"
    "Ends with 0; with 1 when anything was lost, different, refused or reset; with 2 when it was\n"
    "started wrongly. Ctrl-C ends the load early and reports.\n";

enum options_code {
    OPTION_PROTOCOL = 256,
    OPTION_CONNECTIONS,
    OPTION_SIZE,
    OPTION_DEPTH,
    OPTION_TALKERS,
    OPTION_RATE,
    OPTION_RAMP,
    OPTION_OPEN,
    OPTION_WARMUP,
    OPTION_TIME,
    OPTION_MESSAGES,
    OPTION_DRAIN,
    OPTION_VERIFY,
    OPTION_SLOW_PERCENT,
    OPTION_SOURCES,
    OPTION_WORKERS,
    OPTION_BACKEND,
    OPTION_SERVER_PID,
    OPTION_JSON,
    OPTION_QUIET,
    OPTION_HELP,
    OPTION_VERSION
};

static const struct option options_long[] = {
    {"protocol", required_argument, NULL, OPTION_PROTOCOL},
    {"connections", required_argument, NULL, OPTION_CONNECTIONS},
    {"size", required_argument, NULL, OPTION_SIZE},
    {"depth", required_argument, NULL, OPTION_DEPTH},
    {"talkers", required_argument, NULL, OPTION_TALKERS},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"ramp", required_argument, NULL, OPTION_RAMP},
    {"open", required_argument, NULL, OPTION_OPEN},
    {"warmup", required_argument, NULL, OPTION_WARMUP},
    {"time", required_argument, NULL, OPTION_TIME},
    {"messages", required_argument, NULL, OPTION_MESSAGES},
    {"drain", required_argument, NULL, OPTION_DRAIN},
    {"verify", no_argument, NULL, OPTION_VERIFY},
    {"slow-percent", required_argument, NULL, OPTION_SLOW_PERCENT},
    {"sources", required_argument, NULL, OPTION_SOURCES},
    {"workers", required_argument, NULL, OPTION_WORKERS},
    {"backend", required_argument, NULL, OPTION_BACKEND},
    {"server-pid", required_argument, NULL, OPTION_SERVER_PID},
    {"json", required_argument, NULL, OPTION_JSON},
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

/* The options that are neither number nor time. */
static void options_take(struct load_options *options, int option, const char *value)
{
    switch (option) {
    case OPTION_PROTOCOL:
        options->protocol = protocol_find(value);
        if (options->protocol == NULL) {
            usage_fail(&options->server,
                       "--protocol: \"%s\" is none: write echo, framed, room, chat, storm or idle",
                       value);
        }
        break;
    case OPTION_BACKEND:
        options->server.backend = arguments_backend(&options->server, "--backend", value);
        break;
    case OPTION_VERIFY:
        options->verify = true;
        break;
    case OPTION_JSON:
        options->json = value;
        break;
    case OPTION_QUIET:
        options->server.quiet = true;
        break;
    case OPTION_HELP:
        options_print_help();
    case OPTION_VERSION:
        printf("iocp-load %s\n", iocp_version());
        exit(EXIT_SUCCESS);
    }
}

/* The options that take a number; false: it is none of these. */
static bool options_take_number(struct load_options *options, int option, const char *value)
{
    const struct arguments_entry numbers[] = {
        {OPTION_CONNECTIONS, "--connections", 1, 1000000, &options->connections},
        {OPTION_SIZE, "--size", 1, 16777216, &options->size},
        {OPTION_DEPTH, "--depth", 1, 65536, &options->depth},
        {OPTION_TALKERS, "--talkers", 1, 1000000, &options->talkers},
        {OPTION_RATE, "--rate", 0, 100000000, &options->rate},
        {OPTION_MESSAGES, "--messages", 1, UINT32_MAX, &options->messages},
        {OPTION_SLOW_PERCENT, "--slow-percent", 0, 100, &options->slow_percent},
        {OPTION_SOURCES, "--sources", 1, 254, &options->sources},
        {OPTION_WORKERS, "--workers", 1, 64, &options->server.workers},
        {OPTION_SERVER_PID, "--server-pid", 1, INT32_MAX, &options->server_pid},
    };
    return arguments_entry_take(&options->server, numbers, sizeof numbers / sizeof numbers[0],
                                option, value);
}

/* "10" or "0.25": at most a day. */
static uint64_t options_seconds(const struct load_options *options, const char *name,
                                const char *text, double min)
{
    const double day = 86400;
    char *end = NULL;
    double seconds = strtod(text, &end);
    /* strtod takes blanks, signs, "inf" and hexadecimal numbers, too. */
    if (strspn(text, "0123456789.") != strlen(text) || end == text || *end != '\0') {
        usage_fail(&options->server, "%s: \"%s\" is not a number of seconds", name, text);
    }
    if (seconds < min || seconds > day) {
        usage_fail(&options->server, "%s: \"%s\" is not between %g and %g seconds", name, text, min,
                   day);
    }
    return (uint64_t)(seconds * 1e9);
}

/* The options that take a time; false: it is none of these. */
static bool options_take_time(struct load_options *options, int option, const char *value)
{
    const struct {
        int option;
        const char *name;
        double min;
        uint64_t *time_ns;
    } times[] = {
        {OPTION_RAMP, "--ramp", 0, &options->ramp_ns},
        {OPTION_OPEN, "--open", 0.001, &options->open_ns},
        {OPTION_WARMUP, "--warmup", 0, &options->warmup_ns},
        {OPTION_TIME, "--time", 0.001, &options->time_ns},
        {OPTION_DRAIN, "--drain", 0, &options->drain_ns},
    };
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        if (times[i].option == option) {
            *times[i].time_ns = options_seconds(options, times[i].name, value, times[i].min);
            return true;
        }
    }
    return false;
}

uint32_t options_talkers(const struct load_options *options)
{
    return options->protocol->fan_out ? options->talkers : options->connections;
}

static void options_check_protocol(const struct load_options *options)
{
    const struct server_options *server = &options->server;
    const struct protocol *protocol = options->protocol;
    const char *name = protocol->name;

    if (options->size < protocol->size_min || options->size > protocol->size_max) {
        usage_fail(server, "--size: with --protocol %s a payload has %u to %u bytes", name,
                   protocol->size_min, protocol->size_max);
    }
    if (options->talkers != 0 && !protocol->fan_out) {
        usage_fail(server, "--talkers: with --protocol %s all connections talk", name);
    }
    if (options->talkers > options->connections) {
        usage_fail(server, "--talkers: %u of %u connections cannot talk", options->talkers,
                   options->connections);
    }
    if (protocol->single && (options->depth > 1 || options->rate != 0)) {
        usage_fail(server, "--depth and --rate: with --protocol %s a connection sends one message",
                   name);
    }
    if (protocol == &protocol_idle && (options->messages != 0 || options->warmup_ns != 0)) {
        usage_fail(server, "%s: not with --protocol idle",
                   options->messages != 0 ? "--messages" : "--warmup");
    }
    if (options->slow_percent != 0 && (protocol->fan_out || protocol->single)) {
        usage_fail(server, "--slow-percent: not with --protocol %s", name);
    }
}

/* Memory that a typing error would ask for. */
static void options_check_memory(const struct load_options *options)
{
    uint64_t connections = options->connections;
    if (options->rate == 0 && connections * options->depth > OPTIONS_IN_FLIGHT_MAX) {
        usage_fail(&options->server, "--depth: more than %d messages in flight on all connections",
                   OPTIONS_IN_FLIGHT_MAX);
    }
    if (connections * options->talkers > OPTIONS_HEARD_MAX) {
        usage_fail(&options->server, "--talkers: more than %d pairs of talker and listener",
                   OPTIONS_HEARD_MAX);
    }
}

static void options_check_system(const struct load_options *options)
{
    const struct server_options *server = &options->server;
    struct process_figures figures;
    char text[IOCP_ADDRESS_TEXT_SIZE] = "";

    if (options->server_pid != 0 && process_refusal() != NULL) {
        usage_fail(server, "--server-pid: %s", process_refusal());
    }
    if (options->server_pid != 0 && !process_read(options->server_pid, &figures)) {
        usage_fail(server, "--server-pid: there is no process %u", options->server_pid);
    }
    iocp_address_format(&options->address, text, sizeof text);
    if (options->sources > 1 && strncmp(text, "127.", 4) != 0) {
        usage_fail(server, "--sources: only to an address of this machine, 127.0.0.1 and the like");
    }
}

static void options_take_address(struct load_options *options, int argc, char **argv)
{
    struct addresses addresses = {0};
    if (optind == argc) {
        usage_fail(&options->server, "which ADDRESS? --help explains");
    }
    if (optind + 1 < argc) {
        usage_fail(&options->server, "unexpected argument \"%s\"", argv[optind + 1]);
    }
    options->address_text = argv[optind];
    arguments_address(&options->server, "ADDRESS", argv[optind], &addresses);
    if (addresses.count == 0) {
        usage_fail(&options->server, "ADDRESS: \"none\" is not an address to connect to");
    }
    options->address = addresses.list[0];
}

/* What is not given and depends on what is. */
static void options_fill(struct load_options *options, bool timed)
{
    if (options->depth == 0) {
        options->depth = options->rate != 0 ? OPTIONS_OPEN_LOOP_DEPTH : 1;
    }
    if (options->talkers == 0 && options->protocol->fan_out) {
        options->talkers = 1;
    }
    if (!timed && options->messages == 0) {
        options->time_ns = 10 * OPTIONS_NS_PER_S;
    }
}

void options_parse(struct load_options *options, int argc, char **argv)
{
    int option;

    *options = (struct load_options){
        .server = {.program = "iocp-load", .workers = 1},
        .protocol = protocol_find("echo"),
        .connections = 50,
        .size = 64,
        .sources = 1,
        .open_ns = 30 * OPTIONS_NS_PER_S,
        .drain_ns = 5 * OPTIONS_NS_PER_S,
    };
    while ((option = arguments_next(&options->server, argc, argv, options_long)) != -1) {
        if (!options_take_number(options, option, optarg) &&
            !options_take_time(options, option, optarg)) {
            options_take(options, option, optarg);
        }
    }
    options_take_address(options, argc, argv);
    options_check_protocol(options);
    options_fill(options, options->time_ns != 0);
    options_check_memory(options);
    options_check_system(options);
}
