/* Gives an event the memory for its encoded form; lines.c and packets.c write it. */
#include "event.h"

#include "lines.h"
#include "packets.h"
#include "writer.h"

/* Room for all that either protocol puts around the texts. */
enum { EVENT_FRAME_MAX = 128, EVENT_ENTRY_MAX = ROOM_SIZE_MAX + 16 };

/* More than either form of the event can take. */
static size_t event_size_max(const struct event *event)
{
    size_t size = EVENT_FRAME_MAX + event->name.size + event->other.size + event->body.size;
    if (event->roster != NULL) {
        size += (size_t)event->roster->count * EVENT_ENTRY_MAX;
    }
    return size;
}

static struct iocp_buffer *event_buffer(size_t size, struct iocp_pool *pool)
{
    struct iocp_buffer *buffer = NULL;
    int error = size <= EVENT_POOL_CAPACITY ? iocp_buffer_take(pool, &buffer)
                                            : iocp_buffer_create(size, &buffer);
    return error < 0 ? NULL : buffer;
}

struct iocp_buffer *event_encode(const struct event *event, enum protocol protocol,
                                 struct iocp_pool *pool)
{
    struct iocp_buffer *buffer = event_buffer(event_size_max(event), pool);
    if (buffer == NULL) {
        return NULL;
    }
    struct writer writer = {
        .data = iocp_buffer_data(buffer),
        .capacity = iocp_buffer_capacity(buffer),
    };
    if (protocol == PROTOCOL_LINES) {
        lines_write(&writer, event);
    } else {
        packets_write(&writer, event);
    }
    iocp_buffer_set_size(buffer, writer.size);
    return buffer;
}
