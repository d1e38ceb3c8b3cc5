/* UTF-8, cleaned and checked. */
#include "text.h"

#include <stdint.h>
#include <string.h>

struct text text_from(const char *string)
{
    return (struct text){.data = string, .size = strlen(string)};
}

/* Reads one character of `left` bytes; returns its size, or 0 when it is no UTF-8: cut short,
 * longer than it needs to be, a surrogate or beyond the last. */
static size_t text_decode(const unsigned char *bytes, size_t left, uint32_t *out_character)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t first = bytes[0];
    size_t size = first < 0x80 ? 1 : first < 0xc0 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (size == 0 || size > left || first >= 0xf8) {
        return 0;
    }
    uint32_t character = size == 1 ? first : first & (0x7fu >> size);
    for (size_t i = 1; i < size; i++) {
        if ((bytes[i] & 0xc0) != 0x80) {
            return 0;
        }
        character = character << 6 | (bytes[i] & 0x3fu);
    }
    if (character < smallest[size] || character > 0x10ffff ||
        (character >= 0xd800 && character <= 0xdfff)) {
        return 0;
    }
    *out_character = character;
    return size;
}

/* The control characters of ASCII, and those of Unicode (U+009B begins commands to terminals just
 * as ESC [ does). */
static bool text_is_control(uint32_t character)
{
    return (character < 0x20 && character != '\t') || (character >= 0x7f && character < 0xa0);
}

/* Blanks and characters that cannot be seen: in a name they would imitate another one. */
static bool text_is_unseen(uint32_t character)
{
    return character == 0xa0 || character == 0xad || (character >= 0x2000 && character <= 0x206f) ||
           character == 0x3000 || character == 0x3164 || character == 0xfeff;
}

static bool text_is_plain(uint32_t character)
{
    return (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') ||
           (character >= '0' && character <= '9') || character == '-' || character == '_';
}

size_t text_clean(const void *data, size_t size, char *out)
{
    const unsigned char *bytes = data;
    size_t written = 0;
    for (size_t at = 0, step; at < size; at += step) {
        uint32_t character = 0;
        step = text_decode(bytes + at, size - at, &character);
        if (step == 0) {
            out[written++] = '?';
            step = 1;
        } else if (!text_is_control(character)) {
            memcpy(out + written, bytes + at, step);
            written += step;
        }
    }
    return written;
}

bool text_is_name(struct text text, size_t characters_max)
{
    const unsigned char *bytes = (const unsigned char *)text.data;
    size_t characters = 0;
    for (size_t at = 0, step; at < text.size; at += step) {
        uint32_t character = 0;
        step = text_decode(bytes + at, text.size - at, &character);
        bool fits = character < 0x80 ? text_is_plain(character)
                                     : !text_is_control(character) && !text_is_unseen(character);
        if (step == 0 || !fits || ++characters > characters_max) {
            return false;
        }
    }
    return characters > 0;
}

static bool text_is_space(char character)
{
    return character == ' ' || character == '\t';
}

bool text_is_blank(struct text text)
{
    size_t at = 0;
    while (at < text.size && text_is_space(text.data[at])) {
        at++;
    }
    return at == text.size;
}

/* Drops the first `size` bytes, then the blanks that follow. */
static void text_skip(struct text *rest, size_t size)
{
    while (size < rest->size && text_is_space(rest->data[size])) {
        size++;
    }
    rest->data += size;
    rest->size -= size;
}

struct text text_word(struct text *rest)
{
    text_skip(rest, 0);
    struct text word = *rest;
    word.size = 0;
    while (word.size < rest->size && !text_is_space(rest->data[word.size])) {
        word.size++;
    }
    text_skip(rest, word.size);
    return word;
}
