/* What the test harness needs of a system: check_posix.c, check_windows.c. For check.c alone; the
 * tests see support/check.h. */
#ifndef TESTS_SUPPORT_CHECK_SYSTEM_H
#define TESTS_SUPPORT_CHECK_SYSTEM_H

#include "support/check.h"

#define EXIT_SKIPPED 77

/* First of all: what is printed comes out at once or by lines, and nothing opens a dialog. */
void check_system_start(void);

/* Ends the process without destructors: other threads may be in the middle of something. */
__attribute__((noreturn)) void check_end(int status);

/* After so many seconds (0: never) the process says where its threads are and ends with 1. */
void check_arm_time_limit(int seconds);
void check_disarm_time_limit(void);

/* The names that TEST_BACKEND may have here besides "auto", with NULL behind the last. */
extern const char *const check_backend_names[];
/* One that works on every version of this system, and one that is another system's. */
extern const enum iocp_backend check_backend_always;
extern const enum iocp_backend check_backend_never;

/* Not 0 under Wine. */
int check_on_wine(void);

/* Gives this process what the backend of the run needs, or skips. */
void check_prepare_backend(void);

/* How many seeds a test is to run under, 2 and more, each in a process of its own; 0: it runs once,
 * in this one, because nothing depends on a seed, or there is only one, or TEST_SEED names it. */
uint32_t check_seeds(void);
/* Of the processes to come. */
void check_set_seed(uint32_t seed);
/* Runs the test's function, where its system is a simulated one as the first thread of a run. */
void check_body(const struct check_test *test);

/* Runs the test by its name in a process of its own, the output thrown away if it is `quiet`.
 * Returns its exit status, TEST_ABORTED, or -1 for another end, which `text` then tells. */
int check_run_process(const struct check_test *test, int quiet, char *text, size_t size);
/* For check_posix.c, where the new process goes on in the middle: runs the test; returns when it
 * has passed. */
void check_run(const struct check_test *test);

/* Becomes another program. Returns only when it cannot, having said why. */
void check_become(char **command);

#endif
