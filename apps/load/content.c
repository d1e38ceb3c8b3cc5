/* A table of bytes that look like chance, and stamps of six bits a character. */
#include "content.h"

#include <stdlib.h>

enum {
    CONTENT_PLACES = 1 << 16,
    CONTENT_FIRST = '!', /* printable ASCII, without the blank */
    CONTENT_COUNT = '~' - '!' + 1,
    STAMP_FIRST = '0', /* to 'o' */
    STAMP_BITS = 6
};

bool content_init(struct content *content, uint32_t size)
{
    uint32_t state = 2463534242u;
    content->size = size;
    content->table_size = (size_t)CONTENT_PLACES + size;
    content->table = malloc(content->table_size);
    for (size_t i = 0; content->table != NULL && i < content->table_size; i++) {
        /* xorshift32 */
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        content->table[i] = (unsigned char)(CONTENT_FIRST + state % CONTENT_COUNT);
    }
    return content->table != NULL;
}

void content_free(struct content *content)
{
    free(content->table);
}

const unsigned char *content_at(const struct content *content, uint32_t connection, uint64_t number)
{
    /* The second factor is odd: 65,536 messages in a row begin at as many places. */
    uint64_t place = connection * UINT64_C(40503) + number * 9973;
    return content->table + place % CONTENT_PLACES;
}

static unsigned char *stamp_put(unsigned char *out, uint64_t value, int characters)
{
    for (int i = 0; i < characters; i++, value >>= STAMP_BITS) {
        *out++ = (unsigned char)(STAMP_FIRST + (value & 63));
    }
    return out;
}

/* Adds to `wrong` what no character of a stamp has. */
static uint64_t stamp_get(const unsigned char *data, int characters, unsigned *wrong)
{
    uint64_t value = 0;
    for (int i = characters - 1; i >= 0; i--) {
        unsigned bits = (unsigned)data[i] - STAMP_FIRST;
        *wrong |= bits & ~63u;
        value = value << STAMP_BITS | (bits & 63);
    }
    return value;
}

void stamp_write(const struct stamp *stamp, unsigned char out[CONTENT_STAMP_SIZE])
{
    *out++ = stamp->tag;
    out = stamp_put(out, stamp->talker, 6);
    out = stamp_put(out, stamp->number, 6);
    stamp_put(out, stamp->due_ns, 11);
}

bool stamp_read(const unsigned char data[CONTENT_STAMP_SIZE], struct stamp *out_stamp)
{
    unsigned wrong = 0;
    out_stamp->tag = data[0];
    out_stamp->talker = (uint32_t)stamp_get(data + 1, 6, &wrong);
    out_stamp->number = (uint32_t)stamp_get(data + 7, 6, &wrong);
    out_stamp->due_ns = stamp_get(data + 13, 11, &wrong);
    return wrong == 0;
}
