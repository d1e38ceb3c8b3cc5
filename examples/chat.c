/* A chat room for nc: each line that somebody writes goes to everybody else, with the writer's
 * number in front. Usage: chat [ADDRESS] */
#include <iocp.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Sends the number of `from`, the separator and the line to all in the room but `except`. */
static void room_tell(struct iocp_group *room, struct iocp_session *from,
                      struct iocp_session *except, const char *separator, const void *line,
                      size_t size)
{
    struct iocp_buffer *buffer = NULL;
    char front[64];
    size_t front_size =
        (size_t)snprintf(front, sizeof front, "%" PRIu64 "%s", iocp_session_id(from), separator);

    if (iocp_buffer_create(front_size + size + 1, &buffer) < 0) {
        iocp_session_abort(from); /* no memory: better no connection than one with holes */
        return;
    }
    char *data = iocp_buffer_data(buffer);
    memcpy(data, front, front_size);
    memcpy(data + front_size, line, size);
    data[front_size + size] = '\n';
    iocp_buffer_set_size(buffer, front_size + size + 1);
    iocp_group_publish(room, buffer, except); /* shared by all who get it, not copied */
    iocp_buffer_unref(buffer);
}

static void chat_opened(struct iocp_session *session, void *room)
{
    if (iocp_group_join(room, session) < 0) {
        iocp_session_abort(session);
        return;
    }
    room_tell(room, session, NULL, " ", "came in", 7); /* to the newcomer, too */
}

static void chat_message(struct iocp_session *session, const void *line, size_t size, void *room)
{
    room_tell(room, session, session, ": ", line, size);
}

static void chat_closed(struct iocp_session *session, enum iocp_close_reason reason, void *room)
{
    const char *why = iocp_close_reason_text(reason);
    room_tell(room, session, session, " is gone: ", why, strlen(why));
}

int main(int argc, char **argv)
{
    struct iocp_session_class chat;
    struct iocp_service *service = NULL;
    struct iocp_group *room = NULL;
    struct iocp_address address;
    int error = iocp_group_create(&room);

    iocp_session_class_init(&chat);
    chat.framing = iocp_framing_line(4096);
    chat.opened = chat_opened;
    chat.message = chat_message;
    chat.closed = chat_closed;
    chat.context = room;                /* handed to every handler */
    chat.full_policy = IOCP_FULL_CLOSE; /* whoever does not read is let go */
    if (error < 0 ||
        (error = iocp_address_parse(argc > 1 ? argv[1] : "127.0.0.1:7777", &address)) < 0 ||
        (error = iocp_service_create(NULL, &service)) < 0 ||
        (error = iocp_service_listen(service, &address, &chat, NULL, NULL)) < 0 ||
        (error = iocp_service_run(service)) < 0) {
        fprintf(stderr, "chat: %s\n", iocp_error_text(error));
    }
    iocp_service_unref(service);
    iocp_group_unref(room);
    return error < 0;
}
