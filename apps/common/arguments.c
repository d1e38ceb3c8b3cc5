/* Reads the values of options. getopt_long finds them; this turns their text into numbers, backends
 * and addresses, and says in one line what is wrong with a bad one. */
#include "arguments.h"

#include "say.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_START = 1, EXIT_USAGE = 2 };

static void arguments_complain(const char *program, const char *format, va_list values)
{
    char text[512];
    vsnprintf(text, sizeof text, format, values);
    say("%s: %s\n", program, text);
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

int arguments_next(const struct server_options *options, int argc, char **argv,
                   const struct option *known)
{
    opterr = 0;
    int option = getopt_long(argc, argv, ":", known, NULL);
    const char *text = argv[optind - 1];
    if (option == ':' && strchr(text, '=') == NULL) {
        usage_fail(options, "%s requires an argument", text);
    }
    if (option == ':' || option == '?') {
        usage_fail(options, "%s is no option, or one that takes no argument: --help lists them",
                   text);
    }
    return option;
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

static const struct {
    const char *name;
    enum iocp_backend backend;
} arguments_names[] = {
    {"uring", IOCP_BACKEND_URING},
    {"epoll", IOCP_BACKEND_EPOLL},
    {"windows", IOCP_BACKEND_WINDOWS},
    {"auto", IOCP_BACKEND_AUTO},
};

#define ARGUMENTS_NAMES_COUNT (sizeof arguments_names / sizeof arguments_names[0])

void arguments_backends(char text[ARGUMENTS_BACKENDS_SIZE])
{
    const char *separator = "";
    size_t size = 0;
    for (size_t i = 0; i + 1 < ARGUMENTS_NAMES_COUNT; i++) {
        /* Those that do not work here are no advice. */
        if (iocp_backend_probe(arguments_names[i].backend, NULL, 0) != IOCP_ENOTSUP) {
            size += (size_t)snprintf(text + size, ARGUMENTS_BACKENDS_SIZE - size, "%s%s", separator,
                                     arguments_names[i].name);
            separator = ", ";
        }
    }
    snprintf(text + size, ARGUMENTS_BACKENDS_SIZE - size, "%sauto", size > 0 ? " or " : "");
}

bool arguments_entry_take(const struct server_options *options,
                          const struct arguments_entry *entries, size_t count, int option,
                          const char *value)
{
    for (size_t i = 0; i < count; i++) {
        if (entries[i].option == option) {
            *entries[i].number =
                arguments_number(options, entries[i].name, value, entries[i].min, entries[i].max);
            return true;
        }
    }
    return false;
}

uint32_t arguments_backend(const struct server_options *options, const char *name, const char *text)
{
    char backends[ARGUMENTS_BACKENDS_SIZE];
    for (size_t i = 0; i < ARGUMENTS_NAMES_COUNT; i++) {
        if (strcmp(text, arguments_names[i].name) == 0) {
            return arguments_names[i].backend;
        }
    }
    arguments_backends(backends);
    usage_fail(options, "%s: \"%s\" is not a backend: write %s", name, text, backends);
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
