/* The event: something that people and programs are told, before it has the form of either.
 *
 * An event is a value that points into memory of its maker's; encoding copies all of it. */
#ifndef APPS_CHAT_EVENT_H
#define APPS_CHAT_EVENT_H

#include <iocp.h>

#include "text.h"

/* The two ways to talk to the server: lines for people, packets for programs. */
enum protocol { PROTOCOL_LINES, PROTOCOL_PACKETS, PROTOCOL_COUNT };

/* What the members of struct event hold for each kind: name, other, body. */
enum event_kind {
    EVENT_WELCOME, /* your name, your room, the server */
    EVENT_JOINED,  /* who, room */
    EVENT_LEFT,    /* who, room, why */
    EVENT_RENAMED, /* old name, new name */
    EVENT_SAID,    /* who, -, what */
    EVENT_PRIVATE, /* who, -, what */
    EVENT_SENT,    /* to whom */
    EVENT_PEOPLE,  /* -, room; roster */
    EVENT_ROOMS,   /* roster */
    EVENT_PONG,    /* -, -, what came with the ping */
    EVENT_REFUSED, /* -, -, why; refusal and request */
    EVENT_GOODBYE, /* -, -, why */
    EVENT_COUNT
};

/* Why something was not done. The values are those of the packet protocol: they do not change. */
enum refusal {
    REFUSAL_NONE = 0,
    REFUSAL_MALFORMED = 1,
    REFUSAL_UNKNOWN = 2, /* no such request or command */
    REFUSAL_HELLO = 3,   /* before hello, or a second one */
    REFUSAL_BAD_NAME = 4,
    REFUSAL_NAME_TAKEN = 5,
    REFUSAL_BAD_ROOM = 6,
    REFUSAL_ROOMS_FULL = 7,
    REFUSAL_SAME_ROOM = 8,
    REFUSAL_NOBODY = 9,
    REFUSAL_TOO_FAST = 10,
    REFUSAL_TOO_LONG = 11,
    REFUSAL_NOT_SENT = 12,
    REFUSAL_MEMORY = 13
};

/* The first of many people or rooms. */
enum { ROSTER_MAX = 200 };
struct roster {
    uint32_t total;
    uint32_t count;
    struct roster_entry {
        uint32_t people; /* of a room */
        uint32_t size;
        char name[ROOM_SIZE_MAX];
    } entries[ROSTER_MAX];
};

struct event {
    enum event_kind kind;
    bool self; /* it answers what the receiver did */
    enum refusal refusal;
    uint16_t request; /* the request that a refusal answers; packets only */
    struct text name;
    struct text other;
    struct text body;
    const struct roster *roster;
};

/* Makes a buffer with the event in the form of `protocol`, with one reference; small ones come from
 * the pool. NULL: out of memory. */
struct iocp_buffer *event_encode(const struct event *event, enum protocol protocol,
                                 struct iocp_pool *pool);

/* The capacity that the buffers of that pool should have. */
enum { EVENT_POOL_CAPACITY = 512 };

#endif
