/* The status line: one line on a terminal, written anew each second. */
#ifndef APPS_CHAT_STATUS_H
#define APPS_CHAT_STATUS_H

#include "../common/server.h"
#include "chat.h"

struct status {
    struct chat *chat;
    const struct server *server;
    uint64_t last_ns;
    uint64_t last_in; /* messages so far, at the last line */
    uint64_t last_out;
    int shown; /* characters on the terminal, of a line without its end */
};

void status_init(struct status *status, struct chat *chat, const struct server *server);

/* Whether there is a terminal to write on, and nobody asked for quiet. */
bool status_is_wanted(const struct status *status);

void status_print(struct status *status);

/* Ends the line, if there is one. */
void status_finish(struct status *status);

#endif
