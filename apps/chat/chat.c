/* Makes and frees what the sessions share: the directory, the lobby and the two session classes. */
#include "chat.h"

#include "lines.h"
#include "packets.h"
#include "person.h"

#define CHAT_NS_PER_S UINT64_C(1000000000)

/* A program that has not said hello by then is none of ours. */
#define CHAT_HANDSHAKE_NS (10 * CHAT_NS_PER_S)
/* A peer whose window has been closed for so long is gone, or asleep. */
#define CHAT_STALL_NS (60 * CHAT_NS_PER_S)
#define CHAT_KEEPALIVE_S 60

struct text chat_lobby_name(void)
{
    return TEXT("lobby");
}

static struct iocp_framing chat_framing(enum protocol protocol, uint32_t line_max)
{
    if (protocol == PROTOCOL_LINES) {
        /* A line that is longer than allowed but not by far reaches the handler, which can say so;
         * after a violation of the framing nothing can be said any more. */
        return iocp_framing_line(2 * line_max);
    }
    struct iocp_framing framing = iocp_framing_length(2, line_max + PACKETS_FRAME_MAX);
    framing.message_min = 4;
    return framing;
}

static void chat_class_init(struct side *side)
{
    const struct chat_options *options = side->chat->options;
    struct iocp_session_class *session_class = &side->session_class;
    bool lines = side->protocol == PROTOCOL_LINES;

    iocp_session_class_init(session_class);
    session_class->name = lines ? "lines" : "packets";
    session_class->framing = chat_framing(side->protocol, options->line_max);
    session_class->user_size = sizeof(struct person);
    session_class->opened = person_opened;
    session_class->message = lines ? lines_message : packets_message;
    session_class->closed = person_closed;
    session_class->context = side;
    /* Whoever cannot follow is let go: a conversation with holes would be worse. */
    session_class->full_policy = IOCP_FULL_CLOSE;
    session_class->read_idle_ns = options->idle_s * CHAT_NS_PER_S;
    session_class->send_stall_ns = CHAT_STALL_NS;
    session_class->handshake_ns = lines ? 0 : CHAT_HANDSHAKE_NS;
    /* Of the end of the server too: nc does not hang up before a key is pressed. */
    session_class->linger_ns = options->server.drain_s * CHAT_NS_PER_S;
    session_class->keepalive_s = CHAT_KEEPALIVE_S;
}

int chat_init(struct chat *chat, const struct chat_options *options, struct server *server)
{
    *chat = (struct chat){.options = options, .server = server};
    int error = directory_init(&chat->directory, options->rooms_max);
    if (error == 0) {
        error = iocp_pool_create(EVENT_POOL_CAPACITY, 0, &chat->pool);
    }
    if (error < 0) {
        goto fail;
    }
    error = directory_room(&chat->directory, chat_lobby_name(), &chat->lobby);
    if (error < 0) {
        goto fail;
    }
    for (enum protocol protocol = 0; protocol < PROTOCOL_COUNT; protocol++) {
        struct side *side = &chat->sides[protocol];
        side->chat = chat;
        side->protocol = protocol;
        chat_class_init(side);
        error = iocp_group_create(&side->everyone);
        if (error < 0) {
            goto fail;
        }
    }
    return 0;
fail:
    chat_free(chat);
    return error;
}

void chat_free(struct chat *chat)
{
    for (size_t i = 0; i < PROTOCOL_COUNT; i++) {
        iocp_group_unref(chat->sides[i].everyone);
    }
    if (chat->lobby != NULL) {
        directory_room_put(&chat->directory, chat->lobby);
    }
    iocp_pool_unref(chat->pool);
    directory_free(&chat->directory);
}

struct event chat_goodbye(void)
{
    return (struct event){
        .kind = EVENT_GOODBYE,
        .body = TEXT("the server is going down, goodbye"),
    };
}

bool chat_is_leaving(const struct chat *chat)
{
    /* Sequential: in chat_leave the store comes before the publish, in person_opened the join of
     * the group before this load; so a new session is in the group in time, or it sees the flag. */
    return atomic_load(&chat->leaving);
}

void chat_leave(struct chat *chat)
{
    const struct event goodbye = chat_goodbye();
    atomic_store(&chat->leaving, true); /* see chat_is_leaving */
    for (enum protocol protocol = 0; protocol < PROTOCOL_COUNT; protocol++) {
        struct iocp_buffer *buffer = event_encode(&goodbye, protocol, chat->pool);
        if (buffer != NULL) {
            iocp_group_publish(chat->sides[protocol].everyone, buffer, NULL);
            iocp_buffer_unref(buffer);
        }
    }
}
