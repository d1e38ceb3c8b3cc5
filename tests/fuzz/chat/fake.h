/* The chat without its server: what its two protocols call is written down here instead of done, so
 * that a fuzz target can look at it. Texts are copied into memory of exactly their size at once,
 * which shows a text that lies outside of what came. */
#ifndef FUZZ_CHAT_FAKE_H
#define FUZZ_CHAT_FAKE_H

#include "../fuzz.h"

#include "../../../apps/chat/chat.h"
#include "../../../apps/chat/person.h"

enum fake_act {
    FAKE_NONE = 0,
    FAKE_SAY,    /* b */
    FAKE_TELL,   /* a: name, b: text */
    FAKE_RENAME, /* a */
    FAKE_JOIN,   /* a */
    FAKE_WHO,
    FAKE_ROOMS,
    FAKE_QUIT,
    FAKE_BEGIN,  /* a */
    FAKE_ANSWER, /* b: the body of the event; kind */
    FAKE_REFUSE, /* b: what it says; refusal */
    FAKE_SEND,   /* b */
    FAKE_CLOSE
};

/* The last thing that was done, and how many were. */
struct fake {
    enum fake_act act;
    uint32_t count;
    uint32_t closes; /* not in count */
    struct text a;
    struct text b;
    enum refusal refusal;
    enum event_kind kind;
    bool may_act;
};

extern struct fake fake;

/* Forgets what was done, and makes a person with or without a name. */
struct iocp_session *fake_begin(bool has_name, uint32_t line_max);

bool fake_text_is(struct text text, const void *data, size_t size);

/* What may be shown: UTF-8 without control characters. */
void fake_check_clean(struct text text);

#endif
