/* Writes an event into memory that is known to be large enough (asserted). */
#ifndef APPS_CHAT_WRITER_H
#define APPS_CHAT_WRITER_H

#include "text.h"

#include <stdint.h>

struct writer {
    char *data;
    size_t size;
    size_t capacity;
};

void writer_text(struct writer *writer, struct text text);
/* In digits. */
void writer_decimal(struct writer *writer, uint32_t value);
/* Little-endian, in so many bytes. */
void writer_number(struct writer *writer, uint32_t value, size_t width);
/* A byte with the size, then the text, of at most 255 bytes. */
void writer_string(struct writer *writer, struct text text);

#endif
