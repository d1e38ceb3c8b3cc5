/* Words for people, on stderr. */
#ifndef APPS_COMMON_SAY_H
#define APPS_COMMON_SAY_H

#include "system.h"

/* Prints up to 1,023 bytes at once, so that a line stays whole when several programs share a
 * terminal: formatted first, because MinGW-w64's fprintf puts one character after the other on a
 * stderr that has no buffer. */
void say(const char *format, ...) SYSTEM_PRINTF(1, 2);

#endif
