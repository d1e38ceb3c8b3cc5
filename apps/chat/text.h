/* Text from strangers: what may reach a terminal, and what may be a name.
 *
 * A text is a piece of memory that somebody else holds; nothing here allocates. */
#ifndef APPS_CHAT_TEXT_H
#define APPS_CHAT_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct text {
    const char *data;
    size_t size;
};

#define TEXT(literal) ((struct text){.data = (literal), .size = sizeof(literal) - 1})

/* Names have up to 24 characters, rooms up to 32; one of UTF-8 has up to 4 bytes. */
enum { NAME_CHARACTERS_MAX = 24, NAME_SIZE_MAX = 4 * 24 };
enum { ROOM_CHARACTERS_MAX = 32, ROOM_SIZE_MAX = 4 * 32 };

struct text text_from(const char *string);

/* Copies `size` bytes to `out`, which has as many, without what could command a terminal: control
 * characters other than the tab are dropped, each byte that is no UTF-8 becomes '?'. Returns the
 * bytes written. */
size_t text_clean(const void *data, size_t size, char *out);

/* Whether it may be the name of a person or a room: 1 to `characters_max` letters, digits, '-', '_'
 * and characters beyond ASCII that can be seen. */
bool text_is_name(struct text text, size_t characters_max);

/* Whether there is nothing but blanks in it. */
bool text_is_blank(struct text text);

/* Cuts the first word off the front of `*rest`, with the blanks around it. */
struct text text_word(struct text *rest);

#endif
