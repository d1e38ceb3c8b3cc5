/* The test harness: tests that register themselves, checks that name both values, skips, a time
 * limit.
 *
 *     #include "support/check.h"
 *
 *     TEST(pops_in_order)
 *     {
 *         CHECK_EQ(queue.count, 0);
 *     }
 *
 * A test program runs all of its tests, each in a process of its own; `prog NAME` runs one in this
 * process (for debuggers), `prog --list` names them, and `prog --exec COMMAND...` runs a command
 * under the backend of the run (it sets IOCP_BACKEND). TEST_BACKEND chooses the backend: uring,
 * epoll, uring-denied (the process may not use io_uring, and the library has to find out), or
 * unset. TEST_TIMEOUT_S overrides the time limit, 0 switches it off.
 *
 * Checks may be used in any thread and in any handler: a failed one ends the process. */
#ifndef TESTS_SUPPORT_CHECK_H
#define TESTS_SUPPORT_CHECK_H

#include <iocp/port.h>

struct check_test {
    const char *name;
    void (*run)(void);
    struct check_test *next;
};

/* Begins a test. At the start of a line: the build finds the tests of a file by it. */
#define TEST(name)                                                                                 \
    static void test_##name(void);                                                                 \
    static struct check_test check_test_##name = {#name, test_##name, NULL};                       \
    __attribute__((constructor)) static void check_add_##name(void)                                \
    {                                                                                              \
        check_add(&check_test_##name);                                                             \
    }                                                                                              \
    static void test_##name(void)

#define CHECK(condition)                                                                           \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, "%s", #condition))

/* Integers, enums and pointers. Values from -33 to -1 are shown with the name of the error. */
#define CHECK_EQ(a, b) CHECK_COMPARE(a, ==, b)
#define CHECK_NE(a, b) CHECK_COMPARE(a, !=, b)
#define CHECK_LT(a, b) CHECK_COMPARE(a, <, b)
#define CHECK_LE(a, b) CHECK_COMPARE(a, <=, b)
#define CHECK_GT(a, b) CHECK_COMPARE(a, >, b)
#define CHECK_GE(a, b) CHECK_COMPARE(a, >=, b)
#define CHECK_COMPARE(a, op, b)                                                                    \
    check_compare(__FILE__, __LINE__, #a, #op, #b, (intmax_t)(a), (intmax_t)(b))

/* 0 or more, not an error. */
#define CHECK_OK(result) check_ok(__FILE__, __LINE__, #result, (intmax_t)(result))

#define CHECK_STR(a, b) check_text(__FILE__, __LINE__, #a, #b, (a), (b))
#define CHECK_MEM(a, b, size) check_memory(__FILE__, __LINE__, #a, #b, (a), (b), (size))

/* Fails with a message, as printf. */
#define FAIL(...) check_failed(__FILE__, __LINE__, __VA_ARGS__)

/* Ends the test as not run, and says why, as printf: for what the system lacks. */
#define SKIP(...) check_skip(__VA_ARGS__)

/* The backend of this run: for iocp_port_config.backend. AUTO for uring-denied. */
enum iocp_backend test_backend(void);
/* Its name: "uring", "epoll", "uring-denied"; "auto" when none was chosen. */
const char *test_backend_name(void);

/* Behind the macros. */
void check_add(struct check_test *test);
__attribute__((noreturn, format(printf, 3, 4))) void check_failed(const char *file, int line,
                                                                  const char *format, ...);
__attribute__((noreturn, format(printf, 1, 2))) void check_skip(const char *format, ...);
void check_compare(const char *file, int line, const char *a_text, const char *op,
                   const char *b_text, intmax_t a, intmax_t b);
void check_ok(const char *file, int line, const char *text, intmax_t result);
void check_text(const char *file, int line, const char *a_text, const char *b_text, const char *a,
                const char *b);
void check_memory(const char *file, int line, const char *a_text, const char *b_text, const void *a,
                  const void *b, size_t size);

#endif
