/* The command line of iocp-chat. */
#ifndef APPS_CHAT_OPTIONS_H
#define APPS_CHAT_OPTIONS_H

#include "../common/arguments.h"

/* The most that --line-max allows: a line is cleaned on the stack of its handler. */
enum { CHAT_LINE_SIZE_MAX = 16384 };

struct chat_options {
    struct server_options server;
    struct addresses lines;
    struct addresses packets;
    uint32_t rooms_max;
    uint32_t idle_s;   /* 0: off */
    uint32_t line_max; /* bytes */
    uint32_t rate;     /* messages a second of one session; 0: off */
};

/* Ends the process for --help and --version, and for anything wrong. */
void options_parse(struct chat_options *options, int argc, char **argv);

#endif
