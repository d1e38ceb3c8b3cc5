/* How the tables of names hash and compare. */
#include "table.h"

#include <stdint.h>

static unsigned char table_fold(unsigned char byte)
{
    return byte >= 'A' && byte <= 'Z' ? (unsigned char)(byte + ('a' - 'A')) : byte;
}

/* FNV-1a of 32 bits. Whoever finds names that collide makes the directory slower for as many people
 * as he connects, which the limit of sessions bounds. */
unsigned table_hash(const void *key, size_t size)
{
    const unsigned char *bytes = key;
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ table_fold(bytes[i])) * 16777619u;
    }
    return hash ^ hash >> 16; /* uthash takes the low bits */
}

int table_compare(const void *a, const void *b, size_t size)
{
    const unsigned char *left = a, *right = b;
    for (size_t i = 0; i < size; i++) {
        if (table_fold(left[i]) != table_fold(right[i])) {
            return 1;
        }
    }
    return 0;
}
