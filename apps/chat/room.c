/* A room is two groups of the library: one buffer reaches all who speak the same protocol. */
#include "room.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct room *room_create(struct text name)
{
    struct room *room = calloc(1, sizeof *room);
    if (room == NULL) {
        return NULL;
    }
    memcpy(room->name_bytes, name.data, name.size);
    room->name = (struct text){.data = room->name_bytes, .size = name.size};
    room->refs = 1;
    for (size_t i = 0; i < PROTOCOL_COUNT; i++) {
        if (iocp_group_create(&room->groups[i]) < 0) {
            room_free(room);
            return NULL;
        }
    }
    return room;
}

void room_free(struct room *room)
{
    assert(room->people == NULL);
    for (size_t i = 0; i < PROTOCOL_COUNT; i++) {
        iocp_group_unref(room->groups[i]);
    }
    free(room);
}

bool room_publish(struct room *room, const struct event *event, struct iocp_pool *pool,
                  const struct iocp_session *except)
{
    for (enum protocol protocol = 0; protocol < PROTOCOL_COUNT; protocol++) {
        if (iocp_group_count(room->groups[protocol]) == 0) {
            continue;
        }
        struct iocp_buffer *buffer = event_encode(event, protocol, pool);
        if (buffer == NULL) {
            return false;
        }
        iocp_group_publish(room->groups[protocol], buffer, except);
        iocp_buffer_unref(buffer);
    }
    return true;
}
