/* Words for people: formatted first, then written at once. */
#include "say.h"

#include <stdarg.h>
#include <stdio.h>

void say(const char *format, ...)
{
    char text[1024];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    fputs(text, stderr);
    fflush(stderr); /* Wine 8 keeps it for the end of the program otherwise */
}
