/* The person: whoever is at the other end of a session, human or program, from the name to the last
 * room.
 *
 * A person lives in the user's area of its session. The functions below are called in handlers of
 * that session, so they never overlap for one person; only send works from anywhere. */
#ifndef APPS_CHAT_PERSON_H
#define APPS_CHAT_PERSON_H

#include <iocp.h>

#include "../common/system.h"
#include "event.h"
#include "table.h"

struct chat;
struct room;

struct person {
    /* Set once in `opened`. */
    struct chat *chat;
    struct iocp_session *session;
    uint64_t id; /* of the session */
    enum protocol protocol;
    /* Written by the person's own handlers, under the lock of the directory: they alone may read it
     * without. */
    struct text name; /* in name_bytes; empty until person_begin */
    char name_bytes[NAME_SIZE_MAX];
    struct room *room;
    struct person *prev; /* in the people of the room */
    struct person *next;
    UT_hash_handle hh; /* in the names of the directory */
    /* The handlers' own. */
    uint64_t paid_ns;   /* the rate limit: until when the messages so far are paid for */
    uint64_t warned_ns; /* when it was last told to slow down */
    const char *why;    /* why the server or the person ends the session; NULL: neither did */
    uint16_t request;   /* packets: the type of the request at hand */
};

/* Handlers of both session classes; `context` is the side. */
void person_opened(struct iocp_session *session, void *context);
void person_closed(struct iocp_session *session, enum iocp_close_reason reason, void *context);

struct person *person_of(struct iocp_session *session);
bool person_has_name(const struct person *person);

/* Gives the person a name, an unused one if `name` is empty, and lets it into the lobby; or refuses
 * the name. */
void person_begin(struct person *person, struct text name);

/* Goes to another room; takes the reference on it. */
void person_move(struct person *person, struct room *room);

/* Counts a message against --rate; false: it has been refused. */
bool person_may_act(struct person *person);

/* Tells this person alone. */
void person_answer(struct person *person, const struct event *event);
void person_refuse(struct person *person, enum refusal refusal, const char *format, ...)
    SYSTEM_PRINTF(3, 4);
void person_send(struct person *person, const void *data, size_t size);

/* Tells the others in the room; the person hears of it when that fails. */
void person_publish(struct person *person, const struct event *event);

/* Ends the session when what it was told is sent; `why`, static, is what the others read. */
void person_close(struct person *person, const char *why);

#endif
