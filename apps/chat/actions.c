/* What a person can do. */
#include "actions.h"

#include "chat.h"
#include "person.h"

#include <stdlib.h>
#include <string.h>

void action_say(struct person *person, struct text text)
{
    const struct event said = {.kind = EVENT_SAID, .name = person->name, .body = text};
    if (!text_is_blank(text)) {
        person_publish(person, &said);
    }
}

/* Sends to a person of whom nothing but the id is known to be true still. */
static int action_deliver(struct person *person, const struct contact *contact,
                          const struct event *event)
{
    struct iocp_service *service = iocp_session_service(person->session);
    struct iocp_buffer *buffer = event_encode(event, contact->protocol, person->chat->pool);
    struct iocp_session *session = iocp_service_find(service, contact->id);
    int error = buffer == NULL ? IOCP_ENOMEM : IOCP_ECLOSED;
    if (buffer != NULL && session != NULL) {
        error = iocp_session_send_buffer(session, buffer);
    }
    iocp_session_unref(session);
    iocp_buffer_unref(buffer);
    return error;
}

void action_tell(struct person *person, struct text name, struct text text)
{
    struct contact contact;
    const struct event private = {.kind = EVENT_PRIVATE, .name = person->name, .body = text};

    if (!text_is_name(name, NAME_CHARACTERS_MAX)) {
        person_refuse(person, REFUSAL_NOBODY, "nobody has such a name");
        return;
    }
    if (directory_find(&person->chat->directory, name, &contact) < 0) {
        person_refuse(person, REFUSAL_NOBODY, "nobody is called %.*s", (int)name.size, name.data);
        return;
    }
    int error = action_deliver(person, &contact, &private);
    if (error < 0) {
        person_refuse(person, REFUSAL_NOT_SENT, "not sent: %s", iocp_error_text(error));
        return;
    }
    const struct event sent = {
        .kind = EVENT_SENT,
        .name = {.data = contact.name, .size = contact.name_size},
    };
    person_answer(person, &sent);
}

void action_rename(struct person *person, struct text name)
{
    char old[NAME_SIZE_MAX];
    struct event renamed = {.kind = EVENT_RENAMED, .self = true};

    if (!text_is_name(name, NAME_CHARACTERS_MAX)) {
        person_refuse(person, REFUSAL_BAD_NAME,
                      "a name has 1 to %d letters, digits, '-' or '_' and no blanks",
                      NAME_CHARACTERS_MAX);
        return;
    }
    renamed.name = (struct text){.data = old, .size = person->name.size};
    memcpy(old, person->name.data, person->name.size);
    int error = directory_name(&person->chat->directory, person, name);
    if (error == IOCP_EEXIST) {
        person_refuse(person, REFUSAL_NAME_TAKEN, "%.*s is taken", (int)name.size, name.data);
        return;
    }
    if (error < 0) {
        iocp_session_abort(person->session); /* it has no name any more */
        return;
    }
    renamed.other = person->name;
    person_answer(person, &renamed);
    renamed.self = false;
    if (renamed.name.size != name.size || memcmp(old, name.data, name.size) != 0) {
        person_publish(person, &renamed);
    }
}

void action_join(struct person *person, struct text name)
{
    struct directory *directory = &person->chat->directory;
    struct room *room = NULL;

    if (!text_is_name(name, ROOM_CHARACTERS_MAX)) {
        person_refuse(person, REFUSAL_BAD_ROOM,
                      "a room has 1 to %d letters, digits, '-' or '_' and no blanks",
                      ROOM_CHARACTERS_MAX);
        return;
    }
    int error = directory_room(directory, name, &room);
    if (error < 0) {
        bool full = error == IOCP_EFULL;
        person_refuse(person, full ? REFUSAL_ROOMS_FULL : REFUSAL_MEMORY, "%s",
                      full ? "there are too many rooms already" : "the server is out of memory");
        return;
    }
    if (room == person->room) {
        person_refuse(person, REFUSAL_SAME_ROOM, "you are in %.*s already", (int)room->name.size,
                      room->name.data);
        directory_room_put(directory, room);
        return;
    }
    person_move(person, room);
}

/* Answers with who is in the room, or which rooms there are. */
static void action_list(struct person *person, enum event_kind kind)
{
    struct directory *directory = &person->chat->directory;
    struct roster *roster = malloc(sizeof *roster);
    const struct event list = {.kind = kind, .other = person->room->name, .roster = roster};

    if (roster == NULL) {
        person_refuse(person, REFUSAL_MEMORY, "the server is out of memory");
        return;
    }
    if (kind == EVENT_PEOPLE) {
        directory_people(directory, person->room, roster);
    } else {
        directory_rooms(directory, roster);
    }
    person_answer(person, &list);
    free(roster);
}

void action_who(struct person *person)
{
    action_list(person, EVENT_PEOPLE);
}

void action_rooms(struct person *person)
{
    action_list(person, EVENT_ROOMS);
}

void action_quit(struct person *person)
{
    const struct event goodbye = {.kind = EVENT_GOODBYE, .body = TEXT("goodbye")};
    person_answer(person, &goodbye);
    person_close(person, "quit");
}
