/* The chat's protocol for programs: one packet in, exactly one thing done. What it does is compared
 * with a second reading of the packet, written here from docs/chat-protocol.md; and what was
 * understood goes through the writer of events and comes out the same.
 *
 * An input is a byte (has the program a name? the limit of a text), and the packet behind its size
 * field: the type and the body. */
#include "chat/fake.h"

#include "../../apps/chat/event.h"
#include "../../apps/chat/packets.h"
#include "../../apps/chat/writer.h"

#include <string.h>

enum { HEADER_SIZE = 4, HELLO = 1, REQUESTS = 10 };

/* A string off the front of the body: a byte with its size, then it. */
static bool read_string(struct text *body, struct text *string)
{
    size_t size = body->size > 0 ? (unsigned char)body->data[0] : 0;
    if (body->size < 1 + size) {
        return false;
    }
    *string = (struct text){.data = body->data + 1, .size = size};
    *body = (struct text){.data = body->data + 1 + size, .size = body->size - 1 - size};
    return true;
}

static bool refused(enum refusal refusal)
{
    return fake.act == FAKE_REFUSE && fake.refusal == refusal;
}

static bool named(enum fake_act act, struct text name)
{
    return fake.act == act && fake_text_is(fake.a, name.data, name.size);
}

/* Requests that begin with a string. */
static void check_string(uint16_t type, struct text body)
{
    struct text name;
    if (type == HELLO) {
        if (body.size == 0 || body.data[0] != PACKETS_VERSION) {
            FUZZ_CHECK(refused(REFUSAL_MALFORMED));
            return;
        }
        body = (struct text){.data = body.data + 1, .size = body.size - 1};
    }
    if (!read_string(&body, &name)) {
        FUZZ_CHECK(refused(REFUSAL_MALFORMED));
    } else if (type == 6) {
        FUZZ_CHECK(refused(REFUSAL_TOO_LONG) || named(FAKE_TELL, name));
    } else {
        FUZZ_CHECK(named(type == HELLO ? FAKE_BEGIN : type == 2 ? FAKE_RENAME : FAKE_JOIN, name));
    }
}

static void check_text(struct text text, uint32_t line_max)
{
    static char clean[CHAT_LINE_SIZE_MAX];
    if (text.size > line_max) {
        FUZZ_CHECK(refused(REFUSAL_TOO_LONG));
        return;
    }
    FUZZ_CHECK(fake.act == FAKE_SAY || fake.act == FAKE_TELL);
    fake_check_clean(fake.b);
    FUZZ_CHECK(fake_text_is(fake.b, clean, text_clean(text.data, text.size, clean)));
}

static void check_request(uint16_t type, struct text body, uint32_t line_max)
{
    struct text name;
    switch (type) {
    case HELLO:
    case 2: /* nick */
    case 3: /* join */
        check_string(type, body);
        break;
    case 4: /* leave */
        FUZZ_CHECK(named(FAKE_JOIN, TEXT("lobby")));
        break;
    case 5: /* say */
        check_text(body, line_max);
        break;
    case 6: /* private */
        check_string(type, body);
        if (read_string(&body, &name)) {
            check_text(body, line_max);
        }
        break;
    case 7:
        FUZZ_CHECK(fake.act == FAKE_WHO);
        break;
    case 8:
        FUZZ_CHECK(fake.act == FAKE_ROOMS);
        break;
    case 9:
        FUZZ_CHECK(fake.act == FAKE_ANSWER && fake.kind == EVENT_PONG);
        FUZZ_CHECK(fake_text_is(fake.b, body.data, body.size));
        break;
    case 10:
        FUZZ_CHECK(fake.act == FAKE_QUIT);
        break;
    default:
        FUZZ_CHECK(refused(REFUSAL_UNKNOWN));
    }
}

/* What was done, told to others: a private message with its name and its text, read again. */
static void check_event(void)
{
    const struct event event = {.kind = EVENT_PRIVATE, .name = fake.a, .body = fake.b};
    size_t size = HEADER_SIZE + 1 + event.name.size + event.body.size;
    char *bytes = malloc(size);
    struct writer writer = {.data = bytes, .capacity = size};
    struct text name;
    FUZZ_CHECK(bytes);
    packets_write(&writer, &event);
    FUZZ_CHECK(writer.size == size);
    FUZZ_CHECK((size_t)((unsigned char)bytes[0] | (unsigned char)bytes[1] << 8) == size);
    FUZZ_CHECK((unsigned char)bytes[2] == 0x86 && bytes[3] == 0);
    struct text body = {.data = bytes + HEADER_SIZE, .size = size - HEADER_SIZE};
    FUZZ_CHECK(read_string(&body, &name));
    FUZZ_CHECK(fake_text_is(name, event.name.data, event.name.size));
    FUZZ_CHECK(fake_text_is(body, event.body.data, event.body.size));
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    uint8_t how = fuzz_byte(&input);
    bool has_name = how & 1;
    uint32_t line_max = how & 2 ? 2048 : 16;
    /* The framing lets through what has a type and is not above its maximum. */
    if (input.size < 2 || 2 + input.size > line_max + PACKETS_FRAME_MAX) {
        return 0;
    }
    size_t whole = 2 + input.size;
    char *packet = malloc(whole);
    FUZZ_CHECK(packet);
    packet[0] = (char)whole;
    packet[1] = (char)(whole >> 8);
    memcpy(packet + 2, input.data, input.size);
    struct iocp_session *session = fake_begin(has_name, line_max);
    packets_message(session, packet, whole, NULL);

    uint16_t type = (uint16_t)(input.data[0] | input.data[1] << 8);
    struct text body = {.data = packet + HEADER_SIZE, .size = whole - HEADER_SIZE};
    FUZZ_CHECK(fake.count == 1 && fake.closes == 0);
    if (type >= HELLO && type <= REQUESTS && (type == HELLO) == has_name) {
        FUZZ_CHECK(refused(REFUSAL_HELLO));
    } else {
        check_request(type, body, line_max);
    }
    check_event();
    free(packet);
    return 0;
}
