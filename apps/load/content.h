/* What messages are made of.
 *
 * A payload begins with a tag, S or M. The rest of an echoed one are bytes of a table, from a place
 * that depends on connection and number, so that no other message looks the same. One that is
 * delivered to others has a stamp behind the tag: who sent it, its number, when it was due. All of
 * it is printable ASCII, so that it is a text for the chat as well. */
#ifndef APPS_LOAD_CONTENT_H
#define APPS_LOAD_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTENT_STAMP_SIZE 24 /* with the tag */

struct content {
    unsigned char *table;
    size_t table_size;
    uint32_t size; /* of a payload */
};

/* False: out of memory. */
bool content_init(struct content *content, uint32_t size);
void content_free(struct content *content);

/* The bytes of a payload but for its tag: content_at(...)[0] stands for the tag and is not sent. */
const unsigned char *content_at(const struct content *content, uint32_t connection,
                                uint64_t number);

struct stamp {
    unsigned char tag;
    uint32_t talker;
    uint32_t number;
    uint64_t due_ns;
};

void stamp_write(const struct stamp *stamp, unsigned char out[CONTENT_STAMP_SIZE]);
/* False: these bytes are no stamp. */
bool stamp_read(const unsigned char data[CONTENT_STAMP_SIZE], struct stamp *out_stamp);

#endif
