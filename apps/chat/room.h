/* The room: people and programs who hear each other. The directory keeps rooms and counts their
 * references; here is what a room is and how it is told something. */
#ifndef APPS_CHAT_ROOM_H
#define APPS_CHAT_ROOM_H

#include <iocp.h>

#include "event.h"
#include "table.h"
#include "text.h"

struct person;

struct room {
    /* Never changes. */
    struct iocp_group *groups[PROTOCOL_COUNT];
    struct text name; /* in name_bytes */
    char name_bytes[ROOM_SIZE_MAX];
    /* Under the lock of the directory. */
    UT_hash_handle hh; /* in its rooms */
    struct person *people;
    uint32_t people_count;
    uint32_t refs;
};

/* Makes a room that nobody is in, with one reference. NULL: out of memory. Only allocates, so the
 * directory may call it under its lock. */
struct room *room_create(struct text name);

/* Frees a room that has no references and is in no directory. */
void room_free(struct room *room);

/* Sends an event to all in the room but `except` (may be NULL), encoded once for each protocol that
 * is spoken there. The caller is in the room, or else holds a reference. False: out of memory. */
bool room_publish(struct room *room, const struct event *event, struct iocp_pool *pool,
                  const struct iocp_session *except);

#endif
