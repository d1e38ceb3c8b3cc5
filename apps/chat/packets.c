/* The protocol for programs. A packet is {uint16 size, uint16 type} and a body; the numbers are
 * little-endian and the size counts the whole packet. docs/chat-protocol.md is the contract. */
#include "packets.h"

#include "actions.h"
#include "chat.h"
#include "event.h"
#include "person.h"
#include "writer.h"

#include <string.h>

enum { PACKETS_HEADER_SIZE = 4 };

enum packets_request {
    REQUEST_HELLO = 1,
    REQUEST_NICK = 2,
    REQUEST_JOIN = 3,
    REQUEST_LEAVE = 4,
    REQUEST_SAY = 5,
    REQUEST_PRIVATE = 6,
    REQUEST_WHO = 7,
    REQUEST_ROOMS = 8,
    REQUEST_PING = 9,
    REQUEST_QUIT = 10
};

/* The type and the body of each event: n name, o other, b body (the rest of the packet), r request,
 * c code of the refusal, p names of the roster, q names with their people. */
static const struct {
    uint16_t type;
    const char *body;
} packets_layouts[EVENT_COUNT] = {
    [EVENT_WELCOME] = {0x81, "nob"}, [EVENT_JOINED] = {0x82, "no"},
    [EVENT_LEFT] = {0x83, "nob"},    [EVENT_RENAMED] = {0x84, "no"},
    [EVENT_SAID] = {0x85, "nb"},     [EVENT_PRIVATE] = {0x86, "nb"},
    [EVENT_SENT] = {0x87, "n"},      [EVENT_PEOPLE] = {0x88, "op"},
    [EVENT_ROOMS] = {0x89, "q"},     [EVENT_PONG] = {0x8a, "b"},
    [EVENT_REFUSED] = {0x8b, "rcb"}, [EVENT_GOODBYE] = {0x8c, "b"},
};

static void packets_roster(struct writer *writer, const struct roster *roster, bool people)
{
    writer_number(writer, roster->total, 4);
    for (uint32_t i = 0; i < roster->count; i++) {
        const struct roster_entry *entry = &roster->entries[i];
        writer_string(writer, (struct text){.data = entry->name, .size = entry->size});
        if (people) {
            writer_number(writer, entry->people, 4);
        }
    }
}

static void packets_field(struct writer *writer, char field, const struct event *event)
{
    switch (field) {
    case 'n':
        writer_string(writer, event->name);
        break;
    case 'o':
        writer_string(writer, event->other);
        break;
    case 'b':
        writer_text(writer, event->body);
        break;
    case 'r':
        writer_number(writer, event->request, 2);
        break;
    case 'c':
        writer_number(writer, event->refusal, 2);
        break;
    case 'p':
    case 'q':
        packets_roster(writer, event->roster, field == 'q');
        break;
    }
}

void packets_write(struct writer *writer, const struct event *event)
{
    struct writer header = {.data = writer->data, .capacity = PACKETS_HEADER_SIZE};
    writer_number(writer, 0, 2); /* the size, known at the end */
    writer_number(writer, packets_layouts[event->kind].type, 2);
    for (const char *field = packets_layouts[event->kind].body; *field != '\0'; field++) {
        packets_field(writer, *field, event);
    }
    writer_number(&header, (uint32_t)writer->size, 2);
}

/* Takes a string off the front of the body; false when it is not all there. */
static bool packets_string(struct text *body, struct text *out_string)
{
    if (body->size == 0) {
        return false;
    }
    size_t size = (unsigned char)body->data[0];
    if (size > body->size - 1) {
        return false;
    }
    *out_string = (struct text){.data = body->data + 1, .size = size};
    body->data += 1 + size;
    body->size -= 1 + size;
    return true;
}

/* Each takes the body of its request and returns false when it is malformed. */
static bool packets_hello(struct person *person, struct text body)
{
    struct text name;
    if (body.size == 0 || body.data[0] != PACKETS_VERSION) {
        return false;
    }
    body.data++;
    body.size--;
    if (!packets_string(&body, &name)) {
        return false;
    }
    person_begin(person, name);
    return true;
}

static bool packets_nick(struct person *person, struct text body)
{
    struct text name;
    if (!packets_string(&body, &name)) {
        return false;
    }
    action_rename(person, name);
    return true;
}

static bool packets_join(struct person *person, struct text body)
{
    struct text room;
    if (!packets_string(&body, &room)) {
        return false;
    }
    action_join(person, room);
    return true;
}

static bool packets_leave(struct person *person, struct text body)
{
    (void)body;
    action_join(person, chat_lobby_name());
    return true;
}

/* The text of a packet in `clean`, which holds CHAT_LINE_SIZE_MAX bytes; refuses one that is longer
 * than a line may be. */
static bool packets_text(struct person *person, struct text body, char *clean,
                         struct text *out_text)
{
    if (body.size > person->chat->options->line_max) {
        person_refuse(person, REFUSAL_TOO_LONG, "that text is longer than %u bytes",
                      person->chat->options->line_max);
        return false;
    }
    *out_text = (struct text){.data = clean, .size = text_clean(body.data, body.size, clean)};
    return true;
}

static bool packets_say(struct person *person, struct text body)
{
    char clean[CHAT_LINE_SIZE_MAX];
    struct text text;
    if (packets_text(person, body, clean, &text)) {
        action_say(person, text);
    }
    return true;
}

static bool packets_private(struct person *person, struct text body)
{
    char clean[CHAT_LINE_SIZE_MAX];
    struct text name, text;
    if (!packets_string(&body, &name)) {
        return false;
    }
    if (packets_text(person, body, clean, &text)) {
        action_tell(person, name, text);
    }
    return true;
}

static bool packets_who(struct person *person, struct text body)
{
    (void)body;
    action_who(person);
    return true;
}

static bool packets_rooms(struct person *person, struct text body)
{
    (void)body;
    action_rooms(person);
    return true;
}

static bool packets_ping(struct person *person, struct text body)
{
    const struct event pong = {.kind = EVENT_PONG, .body = body};
    person_answer(person, &pong);
    return true;
}

static bool packets_quit(struct person *person, struct text body)
{
    (void)body;
    action_quit(person);
    return true;
}

static bool (*const packets_requests[])(struct person *person, struct text body) = {
    [REQUEST_HELLO] = packets_hello, [REQUEST_NICK] = packets_nick,
    [REQUEST_JOIN] = packets_join,   [REQUEST_LEAVE] = packets_leave,
    [REQUEST_SAY] = packets_say,     [REQUEST_PRIVATE] = packets_private,
    [REQUEST_WHO] = packets_who,     [REQUEST_ROOMS] = packets_rooms,
    [REQUEST_PING] = packets_ping,   [REQUEST_QUIT] = packets_quit,
};

static void packets_run(struct person *person, struct text body)
{
    uint16_t type = person->request;
    if (type >= sizeof packets_requests / sizeof packets_requests[0] ||
        packets_requests[type] == NULL) {
        person_refuse(person, REFUSAL_UNKNOWN, "no such request: %u", (unsigned)type);
    } else if ((type == REQUEST_HELLO) == person_has_name(person)) {
        person_refuse(person, REFUSAL_HELLO, "hello comes first, and once");
    } else if (!packets_requests[type](person, body)) {
        person_refuse(person, REFUSAL_MALFORMED, "that packet is malformed");
    }
}

void packets_message(struct iocp_session *session, const void *data, size_t size, void *context)
{
    struct person *person = person_of(session);
    const unsigned char *bytes = data;

    (void)context;
    /* The framing has no smaller packet. */
    person->request = (uint16_t)(bytes[2] | bytes[3] << 8);
    if (person_may_act(person)) {
        packets_run(person, (struct text){.data = (const char *)data + PACKETS_HEADER_SIZE,
                                          .size = size - PACKETS_HEADER_SIZE});
    }
}
