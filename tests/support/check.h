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
 * under the backend of the run (it sets IOCP_BACKEND; not on Windows). TEST_BACKEND chooses the
 * backend: uring, epoll, uring-denied (the process may not use io_uring, and the library has to
 * find out), on Windows windows, in programs of the simulation (-sim in their names) sim and
 * sim-shared, or unset. TEST_TIMEOUT_S overrides the time limit, 0 switches it off.
 *
 * In the simulation a test runs under the seeds 1 to TEST_SEEDS, each in a process of its own, and
 * what fails names its seed. TEST_SEED=n is one run, in this process; TEST_TRACE=1 prints what
 * happens in it.
 *
 * Checks may be used in any thread and in any handler: a failed one ends the process. */
#ifndef TESTS_SUPPORT_CHECK_H
#define TESTS_SUPPORT_CHECK_H

#include <iocp/port.h>

/* Printf as C has it. gcc takes `printf` for what old Windows had. */
#ifdef _WIN32
#define CHECK_PRINTF(text, first) __attribute__((format(gnu_printf, text, first)))
#else
#define CHECK_PRINTF(text, first) __attribute__((format(printf, text, first)))
#endif

struct check_test {
    const char *name;
    void (*run)(void);
    int is_child;
    struct check_test *next;
};

/* Begins a test. At the start of a line: the build finds the tests of a file by it. */
#define TEST(name) CHECK_TEST(name, 0)

/* Begins what a test runs in a process of its own, by test_child: what aborts, or a check that has
 * to fail. */
#define CHILD(name) CHECK_TEST(name, 1)

#define CHECK_TEST(name, is_child)                                                                 \
    static void test_##name(void);                                                                 \
    static struct check_test check_test_##name = {#name, test_##name, is_child, NULL};             \
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
/* Its name, as TEST_BACKEND has it; "auto" when none was chosen. */
const char *test_backend_name(void);
/* One that works on every version of this system, and one that is another system's. */
enum iocp_backend test_backend_always(void);
enum iocp_backend test_backend_never(void);

/* Not 0 in a Windows build, under Wine too. */
int test_on_windows(void);

/* 0, but under Wine: there it says that the test leaves a check out, and which behaviour of Windows
 * that is about, and returns 1. tools/run-tests repeats all of these at its end.
 *
 *     if (!test_wine_differs("GQ-11: waiters are served last in, first out"))
 *         CHECK_EQ(...); */
int test_wine_differs(const char *behaviour);

/* Runs a CHILD of this program in a process of its own, with what it prints thrown away. Returns
 * its exit status, or TEST_ABORTED; another end fails the test. */
int test_child(const char *name);
#define TEST_ABORTED 1000

/* Sets a variable of the environment; NULL removes it. */
void test_set_env(const char *name, const char *value);

/* Behind the macros. */
void check_add(struct check_test *test);
CHECK_PRINTF(3, 4)
__attribute__((noreturn)) void check_failed(const char *file, int line, const char *format, ...);
CHECK_PRINTF(1, 2) __attribute__((noreturn)) void check_skip(const char *format, ...);
void check_compare(const char *file, int line, const char *a_text, const char *op,
                   const char *b_text, intmax_t a, intmax_t b);
void check_ok(const char *file, int line, const char *text, intmax_t result);
void check_text(const char *file, int line, const char *a_text, const char *b_text, const char *a,
                const char *b);
void check_memory(const char *file, int line, const char *a_text, const char *b_text, const void *a,
                  const void *b, size_t size);

#endif
