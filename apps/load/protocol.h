/* What a protocol is to the rest: a table of functions. */
#ifndef APPS_LOAD_PROTOCOL_H
#define APPS_LOAD_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct connection;

struct protocol {
    const char *name;
    bool fan_out;       /* messages reach other connections: deliveries are counted, some talk */
    bool single;        /* a connection sends one message */
    bool gathers;       /* the load begins when probes reach all (room) */
    bool echoes_talker; /* fan-out: a talker gets its own messages as well */
    uint32_t size_min;  /* of a payload */
    uint32_t size_max;
    uint32_t overhead; /* bytes sent with a payload */
    /* Writes message `number` of the connection, due at `due_ns`: size + overhead bytes. */
    void (*write)(const struct connection *connection, uint64_t number, uint64_t due_ns,
                  unsigned char *out);
    /* The connection is there: send what comes before messages, or say that it is ready. */
    void (*opened)(struct connection *connection);
    /* Bytes have come. Calls connection_break when they are wrong. */
    void (*received)(struct connection *connection, const unsigned char *data, size_t size);
};

/* NULL: there is none of that name. */
const struct protocol *protocol_find(const char *name);

extern const struct protocol protocol_echo;
extern const struct protocol protocol_framed;
extern const struct protocol protocol_storm;
extern const struct protocol protocol_idle;
extern const struct protocol protocol_room;
extern const struct protocol protocol_chat;

#endif
