/* The hash table of the chat: uthash, set up for names that differ in more than the case of ASCII
 * letters, and for memory that runs out (an element that was not added has hh.tbl NULL). Include it
 * in place of uthash.h. */
#ifndef APPS_CHAT_TABLE_H
#define APPS_CHAT_TABLE_H

#include <stddef.h>

/* A hash, and 0 when both are the same, without regard to the case of ASCII letters. */
unsigned table_hash(const void *key, size_t size);
int table_compare(const void *a, const void *b, size_t size);

#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(key, size, hash) ((hash) = table_hash((key), (size)))
#define HASH_KEYCMP(a, b, size) table_compare((a), (b), (size))

#include <uthash.h>

#endif
