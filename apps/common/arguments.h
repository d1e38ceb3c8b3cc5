/* The command line of the programs: what all of them take, and how a bad value is reported.
 *
 * A bad option ends the process with status 2 after one line on stderr; what goes wrong later, in
 * the start of the program, ends it with 1. Used by the main thread before anything runs. */
#ifndef APPS_COMMON_ARGUMENTS_H
#define APPS_COMMON_ARGUMENTS_H

#include <iocp.h>

#include "system.h"

#include <stdbool.h>

#define ARGUMENTS_ADDRESSES_MAX 16

struct addresses {
    uint32_t count;
    struct iocp_address list[ARGUMENTS_ADDRESSES_MAX];
};

/* What a server of ours is told, whatever it serves. */
struct server_options {
    const char *program; /* its name in what it prints */
    uint32_t workers;    /* 0: the concurrency */
    uint32_t concurrency;
    uint32_t lanes; /* 0: the concurrency */
    uint32_t sessions_max;
    uint32_t drain_s;
    uint32_t backend; /* enum iocp_backend */
    bool stats;
    uint32_t stats_every_s; /* 0: at the end only */
    bool quiet;
};

/* Prints "PROGRAM: message" on stderr and ends the process: `usage_fail` with 2, `start_fail`
 * with 1. */
_Noreturn void usage_fail(const struct server_options *options, const char *format, ...)
    SYSTEM_PRINTF(2, 3);
_Noreturn void start_fail(const struct server_options *options, const char *format, ...)
    SYSTEM_PRINTF(2, 3);

/* The code of the next option of the command line, as getopt_long has it, or -1. What is wrong ends
 * the process by usage_fail: in our words, for those of getopt_long differ between systems. */
struct option;
int arguments_next(const struct server_options *options, int argc, char **argv,
                   const struct option *known);

/* Writes the names that --backend and IOCP_BACKEND take here: "uring, epoll or auto". */
#define ARGUMENTS_BACKENDS_SIZE 64
void arguments_backends(char text[ARGUMENTS_BACKENDS_SIZE]);

/* Each reads the value of one option (`name`, for the message) or ends the process by usage_fail.
 */
uint32_t arguments_number(const struct server_options *options, const char *name, const char *text,
                          uint32_t min, uint32_t max);
uint32_t arguments_backend(const struct server_options *options, const char *name,
                           const char *text);
/* Appends to the list; "none" empties it and adds nothing. */
void arguments_address(const struct server_options *options, const char *name, const char *text,
                       struct addresses *addresses);

/* An option that takes a number, and where it goes. */
struct arguments_entry {
    int option;
    const char *name;
    uint32_t min, max;
    uint32_t *number;
};

/* Takes the number of `option` when it is one of the entries; false: it is none. */
bool arguments_entry_take(const struct server_options *options,
                          const struct arguments_entry *entries, size_t count, int option,
                          const char *value);

#endif
