/* The lowest and the highest bit of a number: the compiler's builtins. An MSVC build needs this
 * file and atomic.h written anew. */
#ifndef IOCP_BASE_BITS_H
#define IOCP_BASE_BITS_H

#include <stdint.h>

/* Of a value that is not 0; counted from 0. */
static inline uint32_t iocp__bit_lowest(uint64_t value)
{
    return (uint32_t)__builtin_ctzll(value);
}

static inline uint32_t iocp__bit_highest(uint64_t value)
{
    return 63 - (uint32_t)__builtin_clzll(value);
}

#endif
