/* The protocol for people. A line that begins with '/' is a command ("//" says the rest with one
 * slash), any other is said to the room. What the server itself has to say begins with "* "; nobody
 * can forge that, since what others say begins with their name and a colon. */
#include "lines.h"

#include "actions.h"
#include "chat.h"
#include "event.h"
#include "person.h"
#include "writer.h"

#include <string.h>

/* %n name, %o other, %b body, %t total of the roster, %p its names, %q names with their people. */
static const struct {
    const char *others;
    const char *self; /* NULL: the same */
} lines_texts[EVENT_COUNT] = {
    [EVENT_WELCOME] = {"* welcome, you are %n in %o; /help lists the commands\n", NULL},
    [EVENT_JOINED] = {"* %n joined %o\n", "* you joined %o\n"},
    [EVENT_LEFT] = {"* %n left %o (%b)\n", NULL},
    [EVENT_RENAMED] = {"* %n is %o now\n", "* you are %o now\n"},
    [EVENT_SAID] = {"%n: %b\n", NULL},
    [EVENT_PRIVATE] = {"%n (private): %b\n", NULL},
    [EVENT_SENT] = {"* sent to %n\n", NULL},
    [EVENT_PEOPLE] = {"* in %o (%t): %p\n", NULL},
    [EVENT_ROOMS] = {"* rooms (%t): %q\n", NULL},
    [EVENT_PONG] = {"* pong %b\n", NULL},
    [EVENT_REFUSED] = {"* %b\n", NULL},
    [EVENT_GOODBYE] = {"* %b\n", NULL},
};

static void lines_roster(struct writer *writer, const struct roster *roster, bool people)
{
    for (uint32_t i = 0; i < roster->count; i++) {
        const struct roster_entry *entry = &roster->entries[i];
        writer_text(writer, i > 0 ? TEXT(", ") : TEXT(""));
        writer_text(writer, (struct text){.data = entry->name, .size = entry->size});
        if (people) {
            writer_text(writer, TEXT(" "));
            writer_decimal(writer, entry->people);
        }
    }
    if (roster->count < roster->total) {
        writer_text(writer, TEXT(" and "));
        writer_decimal(writer, roster->total - roster->count);
        writer_text(writer, TEXT(" more"));
    }
}

static void lines_field(struct writer *writer, char field, const struct event *event)
{
    switch (field) {
    case 'n':
        writer_text(writer, event->name);
        break;
    case 'o':
        writer_text(writer, event->other);
        break;
    case 'b':
        writer_text(writer, event->body);
        break;
    case 't':
        writer_decimal(writer, event->roster->total);
        break;
    case 'p':
    case 'q':
        lines_roster(writer, event->roster, field == 'q');
        break;
    }
}

void lines_write(struct writer *writer, const struct event *event)
{
    const char *text = lines_texts[event->kind].others;
    if (event->self && lines_texts[event->kind].self != NULL) {
        text = lines_texts[event->kind].self;
    }
    while (*text != '\0') {
        size_t plain = strcspn(text, "%");
        writer_text(writer, (struct text){.data = text, .size = plain});
        text += plain;
        if (*text == '%') {
            lines_field(writer, text[1], event);
            text += 2;
        }
    }
}

static void lines_help(struct person *person, struct text argument)
{
    static const char help[] = "* /nick NAME       change your name\n"
                               "* /join ROOM       go to a room, which need not exist yet\n"
                               "* /leave           go back to the lobby\n"
                               "* /who             who is in this room\n"
                               "* /rooms           which rooms there are\n"
                               "* /msg NAME TEXT   say something to one person alone\n"
                               "* /quit            leave the server\n"
                               "* //TEXT           say TEXT with a slash in front\n"
                               "* anything else is said to everybody in the room\n";
    (void)argument;
    person_send(person, help, sizeof help - 1);
}

static void lines_nick(struct person *person, struct text argument)
{
    action_rename(person, text_word(&argument));
}

static void lines_join(struct person *person, struct text argument)
{
    action_join(person, text_word(&argument));
}

static void lines_leave(struct person *person, struct text argument)
{
    (void)argument;
    action_join(person, chat_lobby_name());
}

static void lines_who(struct person *person, struct text argument)
{
    (void)argument;
    action_who(person);
}

static void lines_rooms(struct person *person, struct text argument)
{
    (void)argument;
    action_rooms(person);
}

static void lines_msg(struct person *person, struct text argument)
{
    struct text name = text_word(&argument);
    if (argument.size == 0) {
        person_refuse(person, REFUSAL_MALFORMED, "usage: /msg NAME TEXT");
        return;
    }
    action_tell(person, name, argument);
}

static void lines_quit(struct person *person, struct text argument)
{
    (void)argument;
    action_quit(person);
}

static const struct {
    const char *name;
    void (*run)(struct person *person, struct text argument);
} lines_commands[] = {
    {"nick", lines_nick},   {"join", lines_join}, {"leave", lines_leave}, {"who", lines_who},
    {"rooms", lines_rooms}, {"msg", lines_msg},   {"quit", lines_quit},   {"help", lines_help},
};

static void lines_command(struct person *person, struct text line)
{
    struct text word = text_word(&line);
    for (size_t i = 0; i < sizeof lines_commands / sizeof lines_commands[0]; i++) {
        struct text name = text_from(lines_commands[i].name);
        if (name.size == word.size && memcmp(name.data, word.data, name.size) == 0) {
            lines_commands[i].run(person, line);
            return;
        }
    }
    if (!text_is_name(word, NAME_CHARACTERS_MAX)) {
        word.size = 0; /* nothing to repeat */
    }
    person_refuse(person, REFUSAL_UNKNOWN, "no such command: /%.*s (/help lists them)",
                  (int)word.size, word.data);
}

static void lines_run(struct person *person, struct text line)
{
    if (line.data[0] != '/') {
        action_say(person, line);
    } else if (line.size > 1 && line.data[1] == '/') {
        action_say(person, (struct text){.data = line.data + 1, .size = line.size - 1});
    } else {
        lines_command(person, (struct text){.data = line.data + 1, .size = line.size - 1});
    }
}

void lines_message(struct iocp_session *session, const void *data, size_t size, void *context)
{
    struct person *person = person_of(session);
    char clean[CHAT_LINE_SIZE_MAX];
    struct text line = {.data = clean};

    (void)context;
    if (size > person->chat->options->line_max) {
        person_refuse(person, REFUSAL_TOO_LONG, "that line is longer than %u bytes",
                      person->chat->options->line_max);
        person_close(person, "line too long");
        return;
    }
    line.size = text_clean(data, size, clean);
    if (!text_is_blank(line) && person_may_act(person)) {
        lines_run(person, line);
    }
}
