/* The functions of the chat that lines.c and packets.c call. */
#include "fake.h"

#include "../../../apps/chat/actions.h"

#include <stdarg.h>
#include <string.h>

struct fake fake;

static struct person fake_person;
static struct chat fake_chat;
static struct chat_options fake_options;
static char fake_session; /* only its address is used */

static struct text fake_copy(struct text text)
{
    char *copy = malloc(text.size > 0 ? text.size : 1);
    FUZZ_CHECK(copy);
    if (text.size > 0) {
        memcpy(copy, text.data, text.size);
    }
    return (struct text){.data = copy, .size = text.size};
}

static void fake_do(enum fake_act act, struct text a, struct text b)
{
    free((void *)fake.a.data);
    free((void *)fake.b.data);
    fake.a = fake_copy(a);
    fake.b = fake_copy(b);
    fake.act = act;
    fake.count++;
}

struct iocp_session *fake_begin(bool has_name, uint32_t line_max)
{
    free((void *)fake.a.data);
    free((void *)fake.b.data);
    fake = (struct fake){.may_act = true};
    fake_options = (struct chat_options){.line_max = line_max};
    fake_chat = (struct chat){.options = &fake_options};
    fake_person = (struct person){.chat = &fake_chat};
    if (has_name) {
        fake_person.name = TEXT("somebody");
    }
    return (struct iocp_session *)(void *)&fake_session;
}

bool fake_text_is(struct text text, const void *data, size_t size)
{
    return text.size == size && (size == 0 || memcmp(text.data, data, size) == 0);
}

/* Not with text.c's own reader: strict UTF-8 by the table of its well-formed bytes. */
void fake_check_clean(struct text text)
{
    if (text.size == 0) {
        return; /* without an address, perhaps */
    }
    const unsigned char *at = (const unsigned char *)text.data;
    const unsigned char *end = at + text.size;
    while (at < end) {
        size_t left = (size_t)(end - at);
        unsigned char low = 0x80;
        unsigned char high = 0xbf;
        size_t more = 0;
        FUZZ_CHECK((*at >= 0x20 && *at != 0x7f) || *at == '\t');
        FUZZ_CHECK(*at < 0x80 || (*at >= 0xc2 && *at <= 0xf4));
        if (*at >= 0x80) {
            more = *at < 0xe0 ? 1 : *at < 0xf0 ? 2 : 3;
            low = *at == 0xe0 ? 0xa0 : *at == 0xf0 ? 0x90 : low;
            high = *at == 0xed ? 0x9f : *at == 0xf4 ? 0x8f : high;
            FUZZ_CHECK(left > more && at[1] >= low && at[1] <= high);
            FUZZ_CHECK(*at != 0xc2 || at[1] >= 0xa0); /* the control characters of Unicode */
        }
        for (size_t i = 2; i <= more; i++) {
            FUZZ_CHECK(at[i] >= 0x80 && at[i] <= 0xbf);
        }
        at += 1 + more;
    }
}

/* ---- person.c */

struct person *person_of(struct iocp_session *session)
{
    (void)session;
    return &fake_person;
}

bool person_has_name(const struct person *person)
{
    return person->name.size > 0;
}

void person_begin(struct person *person, struct text name)
{
    (void)person;
    fake_do(FAKE_BEGIN, name, TEXT(""));
}

bool person_may_act(struct person *person)
{
    (void)person;
    return fake.may_act;
}

void person_answer(struct person *person, const struct event *event)
{
    (void)person;
    fake_do(FAKE_ANSWER, event->name, event->body);
    fake.kind = event->kind;
}

void person_refuse(struct person *person, enum refusal refusal, const char *format, ...)
{
    char text[256];
    va_list values;
    (void)person;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    fake_do(FAKE_REFUSE, TEXT(""), text_from(text));
    fake.refusal = refusal;
}

void person_send(struct person *person, const void *data, size_t size)
{
    (void)person;
    fake_do(FAKE_SEND, TEXT(""), (struct text){.data = data, .size = size});
}

void person_close(struct person *person, const char *why)
{
    (void)person;
    (void)why;
    fake.closes++;
}

/* ---- actions.c and chat.c */

void action_say(struct person *person, struct text text)
{
    (void)person;
    fake_do(FAKE_SAY, TEXT(""), text);
}

void action_tell(struct person *person, struct text name, struct text text)
{
    (void)person;
    fake_do(FAKE_TELL, name, text);
}

void action_rename(struct person *person, struct text name)
{
    (void)person;
    fake_do(FAKE_RENAME, name, TEXT(""));
}

void action_join(struct person *person, struct text room)
{
    (void)person;
    fake_do(FAKE_JOIN, room, TEXT(""));
}

void action_who(struct person *person)
{
    (void)person;
    fake_do(FAKE_WHO, TEXT(""), TEXT(""));
}

void action_rooms(struct person *person)
{
    (void)person;
    fake_do(FAKE_ROOMS, TEXT(""), TEXT(""));
}

void action_quit(struct person *person)
{
    (void)person;
    fake_do(FAKE_QUIT, TEXT(""), TEXT(""));
}

struct text chat_lobby_name(void)
{
    return TEXT("lobby");
}
