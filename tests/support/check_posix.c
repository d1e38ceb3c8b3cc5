/* The test harness on Linux: processes by fork, the time limit by a signal. */
#include "support/check_system.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CHECK_TSAN
#define CHECK_TSAN 0
#endif

void check_system_start(void)
{
    /* Lines, so that nothing is lost or doubled across fork and _exit. */
    setvbuf(stdout, NULL, _IOLBF, 0);
}

/* In builds that count branches (preset coverage) gcc brings it: _exit alone loses the counts. */
__attribute__((weak)) void __gcov_dump(void);

void check_end(int status)
{
    if (__gcov_dump)
        __gcov_dump();
    _exit(status);
}

int test_on_windows(void)
{
    return 0;
}

int check_on_wine(void)
{
    return 0;
}

void test_set_env(const char *name, const char *value)
{
    if (value)
        CHECK_EQ(setenv(name, value, 1), 0);
    else
        CHECK_EQ(unsetenv(name), 0);
}

/* ---- The time limit. */

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

void check_arm_time_limit(int seconds)
{
    /* TSan holds handlers back until a call that it knows; there the signal itself ends the
     * process. */
    if (!CHECK_TSAN)
        signal(SIGALRM, time_limit_passed);
    alarm((unsigned)seconds);
}

void check_disarm_time_limit(void)
{
    alarm(0);
}

/* ---- Processes. */

static void check_run_quietly(const struct check_test *test, int quiet)
{
    if (quiet && (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)))
        _exit(99);
    check_run(test);
    exit(0);
}

int check_run_process(const struct check_test *test, int quiet, char *text, size_t size)
{
    int status = 0;

    pid_t child = fork();
    if (child == 0)
        check_run_quietly(test, quiet);
    if (child < 0 || waitpid(child, &status, 0) != child) {
        snprintf(text, size, "no process could be made for it");
        return -1;
    }
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    int number = WTERMSIG(status);
    if (number == SIGABRT)
        return TEST_ABORTED;
    snprintf(text, size, "%s", number == SIGALRM ? "time limit" : strsignal(number));
    return -1;
}

void check_become(char **command)
{
    execvp(command[0], command);
    perror(command[0]);
}
