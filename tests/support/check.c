/* The test harness: main, the checks, skips, the time limit.
 *
 * A test ends its process with 0 (passed), 77 (skipped) or anything else (failed). */
#include "support/check.h"
#include "support/deny_uring.h"

#include <iocp/error.h>

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

/* The build says so for sanitizers: programs are up to 20 times slower under them. */
#ifndef CHECK_TIMEOUT_S
#define CHECK_TIMEOUT_S 50
#endif
#ifndef CHECK_TSAN
#define CHECK_TSAN 0
#endif

#define EXIT_SKIPPED 77

static struct check_test *first_test;
static struct check_test **last_test = &first_test;

/* The test that this process runs, for messages. */
static const char *current = "(no test)";

void check_add(struct check_test *test)
{
    *last_test = test;
    last_test = &test->next;
}

/* ---- Checks. They end the process without destructors: other threads may be in the middle of
 * something. */

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
    _exit(1);
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
    _exit(EXIT_SKIPPED);
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

static const char *const backend_names[] = {"auto", "uring", "epoll", "uring-denied"};

const char *test_backend_name(void)
{
    const char *name = getenv("TEST_BACKEND");
    size_t count = sizeof(backend_names) / sizeof(backend_names[0]);

    if (!name || !*name)
        return "auto";
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, backend_names[i]) == 0)
            return backend_names[i];
    FAIL("TEST_BACKEND is %s: expected auto, uring, epoll or uring-denied", name);
}

enum iocp_backend test_backend(void)
{
    const char *name = test_backend_name();

    if (strcmp(name, "uring") == 0)
        return IOCP_BACKEND_URING;
    if (strcmp(name, "epoll") == 0)
        return IOCP_BACKEND_EPOLL;
    return IOCP_BACKEND_AUTO;
}

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

static void check_prepare_backend(void)
{
    const char *name = test_backend_name();

    /* The library looks there too; only TEST_BACKEND counts here. */
    unsetenv("IOCP_BACKEND");
    if (strcmp(name, "uring") == 0)
        check_need_uring();
    if (strcmp(name, "uring-denied") == 0)
        deny_io_uring();
}

/* ---- The time limit. */

static int time_limit_s(void)
{
    const char *text = getenv("TEST_TIMEOUT_S");
    return text && *text ? atoi(text) : CHECK_TIMEOUT_S;
}

/* Says where each thread is. Only what a signal handler may do: the work is done by a shell. */
static void time_limit_passed(int signal_number)
{
    static const char text[] =
        "time limit passed; the threads, and the system calls they are in:\n";
    static const char script[] =
        "cd /proc/$PPID/task && for t in *; do "
        "echo \"  $t $(cat $t/comm): $(cut -d' ' -f1-4 $t/syscall 2>&1) in $(cat $t/wchan)\"; done";
    static char *const arguments[] = {"sh", "-c", (char *)(uintptr_t)script, NULL};

    (void)signal_number;
    if (write(STDOUT_FILENO, text, sizeof(text) - 1) > 0 && fork() == 0) {
        execv("/bin/sh", arguments);
        _exit(1);
    }
    wait(NULL);
    _exit(1);
}

static void check_arm_time_limit(void)
{
    /* TSan holds handlers back until a call that it knows; there the signal itself ends the
     * process. */
    if (!CHECK_TSAN)
        signal(SIGALRM, time_limit_passed);
    alarm((unsigned)time_limit_s());
}

/* ---- Running. */

/* Returns when the test has passed. */
static void check_run(const struct check_test *test)
{
    current = test->name;
    check_arm_time_limit();
    check_prepare_backend();
    test->run();
    alarm(0);
}

static int check_list(void)
{
    for (const struct check_test *test = first_test; test; test = test->next)
        puts(test->name);
    return 0;
}

static int check_run_named(const char *name)
{
    for (const struct check_test *test = first_test; test; test = test->next) {
        if (strcmp(test->name, name) == 0) {
            check_run(test);
            return 0;
        }
    }
    fprintf(stderr, "no test has the name %s\n", name);
    return 2;
}

/* Runs the test in a child; returns not 0 when it failed. */
static int check_run_child(const struct check_test *test)
{
    int status = 0;

    pid_t child = fork();
    if (child == 0) {
        check_run(test);
        exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror(test->name);
        return 1;
    }
    if (WIFSIGNALED(status)) {
        int number = WTERMSIG(status);
        printf("FAIL %s (%s)\n", test->name, number == SIGALRM ? "time limit" : strsignal(number));
        return 1;
    }
    int code = WEXITSTATUS(status);
    printf("%s %s\n", code == 0 ? "ok  " : code == EXIT_SKIPPED ? "skip" : "FAIL", test->name);
    return code != 0 && code != EXIT_SKIPPED;
}

static int check_run_all(void)
{
    int failed = 0;

    for (const struct check_test *test = first_test; test; test = test->next)
        failed += check_run_child(test);
    return failed ? 1 : 0;
}

/* Becomes another program, under the backend of the run: how scripts test the programs of the
 * library. */
static int check_exec(char **command)
{
    check_prepare_backend();
    if (test_backend() != IOCP_BACKEND_AUTO)
        setenv("IOCP_BACKEND", test_backend_name(), 1);
    execvp(command[0], command);
    perror(command[0]);
    return 2;
}

int main(int argc, char **argv)
{
    /* Lines, so that nothing is lost or doubled across fork and _exit. */
    setvbuf(stdout, NULL, _IOLBF, 0);
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
