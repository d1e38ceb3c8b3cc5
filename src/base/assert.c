/* What a failed assertion does. The one place of the library that writes to stderr or ends a
 * program. */
#include "base/assert.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

void iocp__assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "iocp: %s:%d: assertion failed: %s\n", file, line, condition);
    fflush(stderr);
    /* What abort does, but on Windows its own way: that ends the program with 3, where abort may
     * open a dialog and wait for somebody to click. */
    raise(SIGABRT);
    abort();
}
