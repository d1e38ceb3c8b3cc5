/* The chat's protocol for people: one line in, at most one thing done. What it does is compared
 * with a second reading of the line, written here from docs/chat-protocol.md.
 *
 * An input is a byte with the limit of a line, and the line. */
#include "chat/fake.h"

#include "../../apps/chat/lines.h"

#include <string.h>

static bool is_blank(char character)
{
    return character == ' ' || character == '\t';
}

static struct text skip_blanks(struct text text)
{
    while (text.size > 0 && is_blank(text.data[0])) {
        text.data++;
        text.size--;
    }
    return text;
}

/* The first word of `*rest`, which then begins with the next one. */
static struct text first_word(struct text *rest)
{
    struct text word = skip_blanks(*rest);
    struct text after = word;
    while (after.size > 0 && !is_blank(after.data[0])) {
        after.data++;
        after.size--;
    }
    word.size -= after.size;
    *rest = skip_blanks(after);
    return word;
}

static bool did(enum fake_act act, struct text a, struct text b)
{
    return fake.act == act && fake_text_is(fake.a, a.data, a.size) &&
           fake_text_is(fake.b, b.data, b.size);
}

static bool is_word(struct text word, const char *name)
{
    return fake_text_is(word, name, strlen(name));
}

/* `line` is clean, and more than blanks. */
static void check_command(struct text line)
{
    struct text rest = {.data = line.data + 1, .size = line.size - 1};
    struct text word = first_word(&rest);
    struct text none = TEXT("");
    if (is_word(word, "who")) {
        FUZZ_CHECK(fake.act == FAKE_WHO);
    } else if (is_word(word, "rooms")) {
        FUZZ_CHECK(fake.act == FAKE_ROOMS);
    } else if (is_word(word, "quit")) {
        FUZZ_CHECK(fake.act == FAKE_QUIT);
    } else if (is_word(word, "help")) {
        FUZZ_CHECK(fake.act == FAKE_SEND);
    } else if (is_word(word, "leave")) {
        FUZZ_CHECK(did(FAKE_JOIN, TEXT("lobby"), none));
    } else if (is_word(word, "nick")) {
        FUZZ_CHECK(did(FAKE_RENAME, first_word(&rest), none));
    } else if (is_word(word, "join")) {
        FUZZ_CHECK(did(FAKE_JOIN, first_word(&rest), none));
    } else if (is_word(word, "msg")) {
        struct text name = first_word(&rest);
        FUZZ_CHECK(rest.size > 0 ? did(FAKE_TELL, name, rest)
                                 : fake.act == FAKE_REFUSE && fake.refusal == REFUSAL_MALFORMED);
    } else {
        FUZZ_CHECK(fake.act == FAKE_REFUSE && fake.refusal == REFUSAL_UNKNOWN);
    }
}

static void check_line(struct text line)
{
    fake_check_clean(fake.a);
    if (fake.act != FAKE_SEND) {
        fake_check_clean(fake.b);
    }
    if (skip_blanks(line).size == 0) {
        FUZZ_CHECK(fake.count == 0);
        return;
    }
    FUZZ_CHECK(fake.count == 1 && fake.closes == 0);
    if (line.data[0] != '/') {
        FUZZ_CHECK(did(FAKE_SAY, TEXT(""), line));
    } else if (line.size > 1 && line.data[1] == '/') {
        line.data++;
        line.size--;
        FUZZ_CHECK(did(FAKE_SAY, TEXT(""), line));
    } else {
        check_command(line);
    }
}

/* Cleaning: nothing grows, what is clean stays as it is, and a name is clean. */
static struct text check_clean(const uint8_t *data, size_t size, char *out)
{
    char again[CHAT_LINE_SIZE_MAX];
    struct text line = {.data = out, .size = text_clean(data, size, out)};
    FUZZ_CHECK(line.size <= size);
    fake_check_clean(line);
    FUZZ_CHECK(text_clean(out, line.size, again) == line.size);
    FUZZ_CHECK(memcmp(out, again, line.size) == 0);
    struct text raw = {.data = (const char *)data, .size = size};
    if (text_is_name(raw, NAME_CHARACTERS_MAX)) {
        FUZZ_CHECK(size > 0 && size <= NAME_SIZE_MAX);
        FUZZ_CHECK(fake_text_is(line, data, size));
        struct text rest = raw;
        FUZZ_CHECK(first_word(&rest).size == size);
    }
    return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char out[CHAT_LINE_SIZE_MAX];
    struct fuzz_input input = {data, size};
    uint32_t line_max = fuzz_byte(&input) & 1 ? 2048 : 24;
    if (input.size > CHAT_LINE_SIZE_MAX) {
        return 0;
    }
    char *exact = malloc(input.size > 0 ? input.size : 1);
    FUZZ_CHECK(exact);
    memcpy(exact, input.data, input.size);
    lines_message(fake_begin(true, line_max), exact, input.size, NULL);
    if (input.size > line_max) {
        FUZZ_CHECK(fake.count == 1 && fake.closes == 1 && fake.refusal == REFUSAL_TOO_LONG);
    } else {
        check_line(check_clean(input.data, input.size, out));
    }
    /* Who sends too fast is not listened to. */
    struct iocp_session *session = fake_begin(true, line_max);
    fake.may_act = false;
    if (input.size <= line_max) {
        lines_message(session, exact, input.size, NULL);
        FUZZ_CHECK(fake.count == 0);
    }
    free(exact);
    return 0;
}
