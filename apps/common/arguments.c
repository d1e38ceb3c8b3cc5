/* Reads the values of options. getopt_long finds them; this turns their text into numbers, backends
 * and addresses, and says in one line what is wrong with a bad one. */
#include "arguments.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_START = 1, EXIT_USAGE = 2 };

static void arguments_complain(const char *program, const char *format, va_list values)
{
    char text[512];
    vsnprintf(text, sizeof text, format, values);
    /* One write: the line stays whole when several programs share a terminal. */
    fprintf(stderr, "%s: %s\n", program, text);
}

void usage_fail(const struct server_options *options, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    arguments_complain(options->program, format, values);
    va_end(values);
    exit(EXIT_USAGE);
}

void start_fail(const struct server_options *options, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    arguments_complain(options->program, format, values);
    va_end(values);
    exit(EXIT_START);
}

uint32_t arguments_number(const struct server_options *options, const char *name, const char *text,
                          uint32_t min, uint32_t max)
{
    /* strtoul takes blanks and signs in front, "-1" even as a huge number: only digits may pass. */
    char *end = NULL;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end != '\0') {
        usage_fail(options, "%s: \"%s\" is not a number", name, text);
    }
    if (errno != 0 || value < min || value > max) {
        usage_fail(options, "%s: \"%s\" is not between %u and %u", name, text, min, max);
    }
    return (uint32_t)value;
}

uint32_t arguments_backend(const struct server_options *options, const char *name, const char *text)
{
    if (strcmp(text, "auto") == 0) {
        return IOCP_BACKEND_AUTO;
    }
    if (strcmp(text, "uring") == 0) {
        return IOCP_BACKEND_URING;
    }
    if (strcmp(text, "epoll") == 0) {
        return IOCP_BACKEND_EPOLL;
    }
    usage_fail(options, "%s: \"%s\" is not a backend: write uring, epoll or auto", name, text);
}

void arguments_address(const struct server_options *options, const char *name, const char *text,
                       struct addresses *addresses)
{
    if (strcmp(text, "none") == 0) {
        addresses->count = 0;
        return;
    }
    if (addresses->count == ARGUMENTS_ADDRESSES_MAX) {
        usage_fail(options, "%s: more than %d addresses", name, ARGUMENTS_ADDRESSES_MAX);
    }
    if (iocp_address_parse(text, &addresses->list[addresses->count]) < 0) {
        usage_fail(options,
                   "%s: \"%s\" is not an address: write ADDRESS:PORT, [IPV6]:PORT or unix:/PATH",
                   name, text);
    }
    addresses->count++;
}
