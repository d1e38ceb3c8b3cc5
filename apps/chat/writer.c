/* Appends texts and numbers. */
#include "writer.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void writer_text(struct writer *writer, struct text text)
{
    assert(text.size <= writer->capacity - writer->size);
    if (text.size > 0) { /* an empty one may have no address, which memcpy forbids */
        memcpy(writer->data + writer->size, text.data, text.size);
        writer->size += text.size;
    }
}

void writer_decimal(struct writer *writer, uint32_t value)
{
    char digits[16];
    snprintf(digits, sizeof digits, "%" PRIu32, value);
    writer_text(writer, text_from(digits));
}

void writer_number(struct writer *writer, uint32_t value, size_t width)
{
    char bytes[4];
    assert(width <= sizeof bytes);
    for (size_t i = 0; i < width; i++) {
        bytes[i] = (char)(value >> (8 * i) & 0xff);
    }
    writer_text(writer, (struct text){.data = bytes, .size = width});
}

void writer_string(struct writer *writer, struct text text)
{
    assert(text.size <= UINT8_MAX);
    writer_number(writer, (uint32_t)text.size, 1);
    writer_text(writer, text);
}
