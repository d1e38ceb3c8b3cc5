/* One connection of the load: from its socket to its last answer.
 *
 * It is a serial object of the port: its handlers never overlap, so nothing in it needs a lock.
 * What it is told by others comes as a packet of its own: `timer` to begin and to go on, `kick` to
 * look at what has changed. */
#ifndef APPS_LOAD_CONNECTION_H
#define APPS_LOAD_CONNECTION_H

#include <iocp.h>

#include "tally.h"

#include <stdbool.h>

struct load;

struct connection {
    struct iocp_object object; /* first */
    struct load *load;
    struct tally *tally;
    struct iocp_op connect;
    struct iocp_op receive;
    struct iocp_op send;
    struct iocp_op timer;
    struct iocp_op kick;
    uint32_t index;
    uint32_t probe; /* the last probe that has reached it */
    bool slow;      /* its messages are tagged S */
    bool alive;     /* the object has its first reference */
    bool connected;
    bool ready;    /* may talk as soon as all are */
    bool talking;  /* sends what is due */
    bool sending;  /* the send op is out */
    bool ended;    /* closed by us or broken */
    bool finished; /* has nothing left to do */
    uint64_t connect_ns;
    uint64_t scheduled; /* messages that were due so far: with --rate, and one per connect */
    uint64_t sent;
    uint64_t answered;
    uint64_t *due_ns;    /* of the messages in flight, by number; NULL with --rate */
    size_t offset;       /* bytes of the next answer that are here */
    unsigned char *out;  /* its own messages; NULL when all send the same */
    unsigned char *kept; /* fan-out: the beginning of a frame that came in pieces */
    size_t kept_size;
    size_t kept_room;
    uint32_t *heard; /* fan-out: by talker, the number that comes next */
    uint64_t heard_count;
};

/* False: out of memory. */
bool connection_init(struct connection *connection, struct load *load, uint32_t index);
/* Main thread, at the end. */
void connection_free(struct connection *connection);

/* Begins to open it. False: it has failed already, and that is noted. */
bool connection_open(struct connection *connection);

/* Has `timer` call it after so long: it opens, or begins to talk. */
void connection_start_in(struct connection *connection, uint64_t delay_ns);
/* Has it look at what the load wants now. In handlers of the load. */
void connection_kick(struct connection *connection);

/* ---- For protocols, in handlers of the connection. */

/* Sends these bytes, which stay where they are, before any message. */
void connection_send(struct connection *connection, const void *data, size_t size);
/* All that comes before messages is done. */
void connection_ready(struct connection *connection);
/* When message `number`, one that is in flight, was due. */
uint64_t connection_due_ns(const struct connection *connection, uint64_t number);
/* So many answers have come, in order: notes their times. */
void connection_answered(struct connection *connection, uint32_t count);
/* Sends what is due; finishes when the load is closed and nothing is missing. */
void connection_pump(struct connection *connection);
/* One connect, message and close are done. */
void connection_again(struct connection *connection);
/* It cannot go on. `text` says what is wrong. */
void connection_break(struct connection *connection, enum tally_error error, const char *text);

#endif
