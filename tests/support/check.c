/* The test harness: main, the checks, skips, the backend of the run.
 *
 * A test ends its process with 0 (passed), 77 (skipped) or anything else (failed). */
#include "support/check.h"
#include "support/check_system.h"

#include <iocp/error.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The build says so for sanitizers: programs are up to 20 times slower under them. */
#ifndef CHECK_TIMEOUT_S
#define CHECK_TIMEOUT_S 50
#endif

static struct check_test *first_test;
static struct check_test **last_test = &first_test;

/* The test that this process runs, for messages. */
static const char *current = "(no test)";

void check_add(struct check_test *test)
{
    *last_test = test;
    last_test = &test->next;
}

/* ---- Checks. */

void check_failed(const char *file, int line, const char *format, ...)
{
    va_list arguments;

    /* One write, so that two threads that fail together can be told apart. */
    char text[2048];
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    printf("%s:%d: %s: failed: %s\n", file, line, current, text);
    fflush(stdout);
    check_end(1);
}

void check_skip(const char *format, ...)
{
    va_list arguments;

    char text[1024];
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    printf("SKIP: %s\n", text);
    fflush(stdout);
    check_end(EXIT_SKIPPED);
}

/* " (IOCP_ECLOSED)" for values that are errors. */
static const char *check_error_name(char *text, size_t size, intmax_t value)
{
    text[0] = 0;
    if (value < 0 && strcmp(iocp_error_name(value), "IOCP_?") != 0)
        snprintf(text, size, " (%s)", iocp_error_name(value));
    return text;
}

static int check_holds(const char *op, intmax_t a, intmax_t b)
{
    if (op[0] == '=')
        return a == b;
    if (op[0] == '!')
        return a != b;
    if (op[0] == '<')
        return op[1] ? a <= b : a < b;
    return op[1] ? a >= b : a > b;
}

void check_compare(const char *file, int line, const char *a_text, const char *op,
                   const char *b_text, intmax_t a, intmax_t b)
{
    char a_name[64];
    char b_name[64];

    if (check_holds(op, a, b))
        return;
    check_failed(file, line, "%s %s %s: %" PRIdMAX "%s, %" PRIdMAX "%s", a_text, op, b_text, a,
                 check_error_name(a_name, sizeof(a_name), a), b,
                 check_error_name(b_name, sizeof(b_name), b));
}

void check_ok(const char *file, int line, const char *text, intmax_t result)
{
    if (result < 0)
        check_failed(file, line, "%s: %" PRIdMAX " %s", text, result, iocp_error_name(result));
}

void check_text(const char *file, int line, const char *a_text, const char *b_text, const char *a,
                const char *b)
{
    if (a && b && strcmp(a, b) == 0)
        return;
    check_failed(file, line, "%s is %s: \"%s\", \"%s\"", a_text, b_text, a ? a : "(NULL)",
                 b ? b : "(NULL)");
}

void check_memory(const char *file, int line, const char *a_text, const char *b_text, const void *a,
                  const void *b, size_t size)
{
    const unsigned char *left = a;
    const unsigned char *right = b;

    for (size_t i = 0; i < size; i++)
        if (left[i] != right[i])
            check_failed(file, line, "%s is %s: byte %zu of %zu: 0x%02x, 0x%02x", a_text, b_text, i,
                         size, left[i], right[i]);
}

/* ---- The backend of the run. */

const char *test_backend_name(void)
{
    const char *name = getenv("TEST_BACKEND");

    if (!name || !*name || strcmp(name, "auto") == 0)
        return "auto";
    for (const char *const *known = check_backend_names; *known; known++)
        if (strcmp(name, *known) == 0)
            return *known;
    FAIL("TEST_BACKEND is %s, which this system has not", name);
}

enum iocp_backend test_backend(void)
{
    const char *name = test_backend_name();

    if (strcmp(name, "uring") == 0 || strcmp(name, "sim") == 0)
        return IOCP_BACKEND_URING;
    if (strcmp(name, "epoll") == 0)
        return IOCP_BACKEND_EPOLL;
    if (strcmp(name, "windows") == 0 || strcmp(name, "sim-shared") == 0)
        return IOCP_BACKEND_WINDOWS;
    return IOCP_BACKEND_AUTO;
}

enum iocp_backend test_backend_always(void)
{
    return check_backend_always;
}

enum iocp_backend test_backend_never(void)
{
    return check_backend_never;
}

/* ---- Where the system is not quite Windows. */

int test_wine_differs(const char *behaviour)
{
    if (!check_on_wine())
        return 0;
    printf("WINE: %s: %s\n", current, behaviour);
    fflush(stdout);
    return 1;
}

/* ---- Running. */

static int time_limit_s(void)
{
    const char *text = getenv("TEST_TIMEOUT_S");
    return text && *text ? atoi(text) : CHECK_TIMEOUT_S;
}

void check_run(const struct check_test *test)
{
    current = test->name;
    check_arm_time_limit(time_limit_s());
    check_prepare_backend();
    check_body(test);
    check_disarm_time_limit();
}

static const struct check_test *check_find(const char *name)
{
    for (const struct check_test *test = first_test; test; test = test->next)
        if (strcmp(test->name, name) == 0)
            return test;
    return NULL;
}

int test_child(const char *name)
{
    char text[128];

    const struct check_test *child = check_find(name);
    if (!child || !child->is_child)
        FAIL("no CHILD has the name %s", name);
    int status = check_run_process(child, 1, text, sizeof(text));
    if (status < 0)
        FAIL("%s: %s", name, text);
    return status;
}

static int check_list(void)
{
    for (const struct check_test *test = first_test; test; test = test->next)
        if (!test->is_child)
            puts(test->name);
    return 0;
}

/* Runs a test in a process of its own, or under each seed in one, until one does not pass: what
 * that one ended with, as check_run_process. */
static int check_run_apart(const struct check_test *test, char *text, size_t size)
{
    uint32_t seeds = check_seeds();
    if (!seeds)
        return check_run_process(test, 0, text, size);
    for (uint32_t seed = 1; seed <= seeds; seed++) {
        check_set_seed(seed);
        int status = check_run_process(test, 0, text, size);
        if (status != 0 && status != EXIT_SKIPPED)
            printf("%s: TEST_SEED=%u gives this run again, TEST_TRACE=1 its trace\n", test->name,
                   seed);
        if (status != 0)
            return status;
    }
    return 0;
}

static int check_run_named(const char *name)
{
    char text[128] = "aborted";
    const struct check_test *test = check_find(name);
    if (!test) {
        fprintf(stderr, "no test has the name %s\n", name);
        return 2;
    }
    if (!check_seeds()) {
        check_run(test);
        return 0;
    }
    int status = check_run_apart(test, text, sizeof(text));
    if (status < 0 || status == TEST_ABORTED) {
        printf("%s\n", text);
        return 1;
    }
    return status;
}

/* Runs each in a process of its own, a line each. */
static int check_run_all(void)
{
    int failed = 0;

    for (const struct check_test *test = first_test; test; test = test->next) {
        if (test->is_child)
            continue;
        char text[128] = "aborted";
        int status = check_run_apart(test, text, sizeof(text));
        if (status == 0 || status == EXIT_SKIPPED) {
            printf("%s %s\n", status == 0 ? "ok  " : "skip", test->name);
        } else {
            int told = status < 0 || status == TEST_ABORTED;
            printf("FAIL %s%s%s%s\n", test->name, told ? " (" : "", told ? text : "",
                   told ? ")" : "");
            failed = 1;
        }
        fflush(stdout);
    }
    return failed;
}

/* Becomes another program, under the backend of the run: how scripts test the programs of the
 * library. */
static int check_exec(char **command)
{
    check_prepare_backend();
    if (test_backend() != IOCP_BACKEND_AUTO)
        test_set_env("IOCP_BACKEND", test_backend_name());
    check_become(command);
    return 2;
}

int main(int argc, char **argv)
{
    check_system_start();
    if (argc > 2 && strcmp(argv[1], "--exec") == 0)
        return check_exec(argv + 2);
    if (argc > 2) {
        fprintf(stderr, "usage: %s [NAME | --list | --exec COMMAND...]\n", argv[0]);
        return 2;
    }
    if (argc == 1)
        return check_run_all();
    if (strcmp(argv[1], "--list") == 0)
        return check_list();
    return check_run_named(argv[1]);
}
