/* The chat: everything that its sessions share.
 *
 * Made by the main thread before the service runs, freed after it has ended. In between only the
 * directory changes, under its own lock, and `leaving`, once. */
#ifndef APPS_CHAT_CHAT_H
#define APPS_CHAT_CHAT_H

#include <iocp.h>

#include "../common/server.h"
#include "directory.h"
#include "event.h"
#include "options.h"

#include <stdatomic.h>

/* One of the two ways in. */
struct side {
    struct chat *chat;
    enum protocol protocol;
    struct iocp_group *everyone; /* for the goodbye: all sessions of this side */
    struct iocp_session_class session_class;
};

struct chat {
    const struct chat_options *options;
    struct server *server; /* counts who has left */
    struct directory directory;
    struct iocp_pool *pool; /* for small events */
    struct room *lobby;     /* a reference: it is there even when empty */
    struct side sides[PROTOCOL_COUNT];
    atomic_bool leaving; /* the server is going down */
};

/* The room that everybody starts in. */
struct text chat_lobby_name(void);

/* Errors: IOCP_ENOMEM. */
int chat_init(struct chat *chat, const struct chat_options *options, struct server *server);
void chat_free(struct chat *chat);

/* Says goodbye to everybody; from now on nobody is told who leaves. */
void chat_leave(struct chat *chat);
bool chat_is_leaving(const struct chat *chat);
/* The event of it. */
struct event chat_goodbye(void);

#endif
