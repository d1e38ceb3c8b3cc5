/* The life of a person:
 *
 *   connected → named and in the lobby [person_begin] → in another room [person_move] → gone
 *   [person_closed]
 *
 * People are named as they connect, programs when they say hello.
 *
 * Invariants:
 * 1. A named person is in one room, and holds a reference on it, outside of person_begin,
 * person_move and person_closed.
 * 2. It hears of its own entry before it hears anything from the room: the answer is sent before
 * the group is joined.
 * 3. When others read that somebody left, a question who is there does not show him any more. */
#include "person.h"

#include "chat.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define PERSON_NS_PER_S UINT64_C(1000000000)

struct person *person_of(struct iocp_session *session)
{
    return iocp_session_user(session);
}

bool person_has_name(const struct person *person)
{
    return person->name.size > 0;
}

void person_send(struct person *person, const void *data, size_t size)
{
    /* Full closes the session by its policy, closed needs no answer: only want of memory is left.
     */
    if (iocp_session_send(person->session, data, size) == IOCP_ENOMEM) {
        iocp_session_abort(person->session);
    }
}

void person_answer(struct person *person, const struct event *event)
{
    struct iocp_buffer *buffer = event_encode(event, person->protocol, person->chat->pool);
    if (buffer == NULL || iocp_session_send_buffer(person->session, buffer) == IOCP_ENOMEM) {
        iocp_session_abort(person->session);
    }
    iocp_buffer_unref(buffer);
}

void person_refuse(struct person *person, enum refusal refusal, const char *format, ...)
{
    char text[256];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    const struct event refused = {
        .kind = EVENT_REFUSED,
        .refusal = refusal,
        .request = person->request,
        .body = text_from(text),
    };
    person_answer(person, &refused);
}

void person_publish(struct person *person, const struct event *event)
{
    if (!room_publish(person->room, event, person->chat->pool, person->session)) {
        person_refuse(person, REFUSAL_MEMORY, "the server is out of memory: that was not sent");
    }
}

void person_close(struct person *person, const char *why)
{
    person->why = why;
    iocp_session_close(person->session);
}

/* A leaky bucket that holds one second: `paid_ns` moves by the price of a message, and may not be
 * further in the future than that. */
bool person_may_act(struct person *person)
{
    uint32_t rate = person->chat->options->rate;
    if (rate == 0) {
        return true;
    }
    uint64_t now_ns = iocp_now_ns();
    uint64_t price_ns = PERSON_NS_PER_S / rate;
    if (person->paid_ns < now_ns) {
        person->paid_ns = now_ns;
    }
    if (person->paid_ns + price_ns <= now_ns + PERSON_NS_PER_S) {
        person->paid_ns += price_ns;
        return true;
    }
    /* A notice for each refused message would double the flood; programs need an answer to each. */
    if (person->protocol == PROTOCOL_PACKETS || now_ns - person->warned_ns > PERSON_NS_PER_S) {
        person->warned_ns = now_ns;
        person_refuse(person, REFUSAL_TOO_FAST, "slow down: at most %" PRIu32 " messages a second",
                      rate);
    }
    return false;
}

static void person_enter(struct person *person, struct room *room, enum event_kind kind)
{
    struct event event = {
        .kind = kind,
        .self = true,
        .name = person->name,
        .other = room->name,
        .body = TEXT("iocp-chat " IOCP_VERSION),
    };
    directory_enter(&person->chat->directory, person, room);
    person_answer(person, &event);
    if (iocp_group_join(room->groups[person->protocol], person->session) == IOCP_ENOMEM) {
        iocp_session_abort(person->session);
    }
    event.kind = EVENT_JOINED;
    event.self = false;
    person_publish(person, &event);
}

static void person_exit(struct person *person, struct text why)
{
    struct directory *directory = &person->chat->directory;
    struct room *room = person->room;
    const struct event left = {
        .kind = EVENT_LEFT, .name = person->name, .other = room->name, .body = why};

    directory_leave(directory, person);
    iocp_group_leave(room->groups[person->protocol], person->session);
    if (!chat_is_leaving(person->chat)) {
        room_publish(room, &left, person->chat->pool, person->session);
    }
    directory_room_put(directory, room);
}

void person_move(struct person *person, struct room *room)
{
    char why[ROOM_SIZE_MAX + 16];
    snprintf(why, sizeof why, "went to %.*s", (int)room->name.size, room->name.data);
    person_exit(person, text_from(why));
    person_enter(person, room, EVENT_JOINED);
}

/* Makes up names until one is free: three digits, more when many are taken. */
static int person_name_guest(struct person *person)
{
    int error = IOCP_EEXIST;
    for (int attempt = 0; attempt < 40 && error == IOCP_EEXIST; attempt++) {
        char name[NAME_CHARACTERS_MAX + 1];
        int digits = 3 + attempt / 4;
        /* The finalizer of a hash: numbers that look like nothing, from ids that count up. */
        uint64_t number = (person->id + (uint64_t)attempt) * UINT64_C(0x9e3779b97f4a7c15);
        number ^= number >> 32;
        number &= (UINT64_C(1) << (4 * digits)) - 1;
        snprintf(name, sizeof name, "guest-%0*" PRIx64, digits, number);
        error = directory_name(&person->chat->directory, person, text_from(name));
    }
    return error;
}

void person_begin(struct person *person, struct text name)
{
    struct chat *chat = person->chat;
    struct room *lobby = NULL;
    if (name.size > 0 && !text_is_name(name, NAME_CHARACTERS_MAX)) {
        person_refuse(person, REFUSAL_BAD_NAME, "that is not a name");
        return;
    }
    int error =
        name.size > 0 ? directory_name(&chat->directory, person, name) : person_name_guest(person);
    if (error == IOCP_EEXIST) {
        person_refuse(person, REFUSAL_NAME_TAKEN, "that name is taken");
        return;
    }
    if (error == 0) {
        error = directory_room(&chat->directory, chat_lobby_name(), &lobby);
    }
    if (error < 0) {
        iocp_session_abort(person->session);
        return;
    }
    iocp_session_confirm(person->session);
    person_enter(person, lobby, EVENT_WELCOME);
}

void person_opened(struct iocp_session *session, void *context)
{
    struct side *side = context;
    struct person *person = person_of(session);
    person->chat = side->chat;
    person->session = session;
    person->id = iocp_session_id(session);
    person->protocol = side->protocol;
    if (iocp_group_join(side->everyone, session) == IOCP_ENOMEM) {
        iocp_session_abort(session);
        return;
    }
    if (chat_is_leaving(side->chat)) {
        const struct event goodbye = chat_goodbye();
        person_answer(person, &goodbye);
        person_close(person, "quit");
    } else if (side->protocol == PROTOCOL_LINES) {
        person_begin(person, TEXT(""));
    }
}

/* What the others read about the end of a session. */
static const char *person_why(const struct person *person, enum iocp_close_reason reason)
{
    switch (reason) {
    case IOCP_CLOSE_LOCAL:
        return person->why != NULL ? person->why : "quit";
    case IOCP_CLOSE_PEER:
        return "hung up";
    case IOCP_CLOSE_ERROR:
        return "connection lost";
    case IOCP_CLOSE_PROTOCOL:
        return person->protocol == PROTOCOL_LINES ? "line too long" : "malformed packet";
    case IOCP_CLOSE_READ_IDLE:
        return "idle";
    case IOCP_CLOSE_SEND_STALL:
    case IOCP_CLOSE_SLOW:
        return "too slow";
    default:
        return iocp_close_reason_text(reason);
    }
}

void person_closed(struct iocp_session *session, enum iocp_close_reason reason, void *context)
{
    struct person *person = person_of(session);
    struct side *side = context;
    if (person->room != NULL) {
        directory_unname(&person->chat->directory, person);
        person_exit(person, text_from(person_why(person, reason)));
    } else if (person_has_name(person)) {
        directory_unname(&person->chat->directory, person);
    }
    server_count_closed(side->chat->server, reason);
}
