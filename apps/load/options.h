/* The command line of iocp-load. */
#ifndef APPS_LOAD_OPTIONS_H
#define APPS_LOAD_OPTIONS_H

#include "../common/arguments.h"

#define OPTIONS_NS_PER_S UINT64_C(1000000000)

struct protocol;

struct load_options {
    struct server_options server; /* program, workers, backend, quiet */
    const struct protocol *protocol;
    const char *address_text;
    struct iocp_address address;
    uint32_t connections;
    uint32_t size; /* of the payload of a message */
    uint32_t depth;
    uint32_t talkers;  /* fan-out: how many of the connections talk */
    uint32_t rate;     /* messages a second of all; 0: closed loop */
    uint32_t messages; /* 0: no end but time */
    uint32_t sources;
    uint32_t server_pid; /* 0: none */
    uint32_t slow_percent;
    uint64_t ramp_ns;
    uint64_t open_ns; /* besides the ramp */
    uint64_t warmup_ns;
    uint64_t time_ns; /* 0: until all messages are done */
    uint64_t drain_ns;
    bool verify;
    const char *json; /* a path, "-" for stdout, or NULL */
};

/* Ends the process when the command line cannot be used, and after --help and --version. */
void options_parse(struct load_options *options, int argc, char **argv);

/* How many connections send messages. */
uint32_t options_talkers(const struct load_options *options);

#endif
