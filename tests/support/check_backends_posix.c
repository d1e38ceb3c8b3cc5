/* The backends of Linux, for the test harness. */
#include "support/check_system.h"
#include "support/deny_uring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

const char *const check_backend_names[] = {"uring", "epoll", "uring-denied", NULL};
const enum iocp_backend check_backend_always = IOCP_BACKEND_EPOLL;
const enum iocp_backend check_backend_never = IOCP_BACKEND_WINDOWS;

/* Skips the run when it asks for io_uring and the system has none. The system is asked, not the
 * library: a library that refuses a good io_uring must not get away with skipped tests. */
static void check_need_uring(void)
{
    char text[256];
    struct utsname system;
    int major = 0;
    int minor = 0;

    int error = io_uring_error();
    if (error)
        SKIP("no io_uring here: %s", strerror(error));
    if (iocp_backend_probe(IOCP_BACKEND_URING, text, sizeof(text)) == 0)
        return;
    uname(&system);
    if (sscanf(system.release, "%d.%d", &major, &minor) == 2 && major < 6)
        SKIP("Linux %s: %s", system.release, text);
    FAIL("io_uring works here, and the library refuses it: %s", text);
}

void check_prepare_backend(void)
{
    const char *name = test_backend_name();

    /* The library looks there too; only TEST_BACKEND counts here. */
    unsetenv("IOCP_BACKEND");
    if (strcmp(name, "uring") == 0)
        check_need_uring();
    if (strcmp(name, "uring-denied") == 0)
        deny_io_uring();
}
