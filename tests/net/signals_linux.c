/* Signals that interrupt everything: the threads that dispatch get them all the time, with a
 * handler that was set without SA_RESTART, so that what waits in the kernel returns EINTR. They are
 * the test's own, since those that the library starts block signals. */
#include "support/exchange.h"
#include "support/net.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIGNALS 2000

static uint64_t handled; /* atomic */
static uint32_t stop;    /* atomic */

static void count_signal(int number)
{
    int saved = errno;
    (void)number;
    __atomic_fetch_add(&handled, 1, __ATOMIC_RELAXED);
    errno = saved;
}

static void set_handlers(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = count_signal;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    CHECK_EQ(sigaction(SIGCHLD, &action, NULL), 0);
}

/* One to each thread but the caller. */
static void signal_all(int number)
{
    long self = syscall(SYS_gettid);
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *entry;
    CHECK(tasks);
    while ((entry = readdir(tasks))) {
        long thread = strtol(entry->d_name, NULL, 10);
        if (thread > 0 && thread != self)
            syscall(SYS_tgkill, getpid(), thread, number); /* it may be gone */
    }
    closedir(tasks);
}

static void *storm(void *context)
{
    (void)context;
    for (int i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        signal_all(i % 2 ? SIGUSR1 : SIGCHLD);
        sched_yield();
    }
    return NULL;
}

TEST(interrupted_all_the_time)
{
    pthread_t thread;
    int lives = 0;
    set_handlers();
    CHECK_EQ(exchange_live(), 0);
    CHECK_EQ(pthread_create(&thread, NULL, storm, NULL), 0);
    while (__atomic_load_n(&handled, __ATOMIC_RELAXED) < SIGNALS || lives < 10) {
        struct exchange *exchange;
        CHECK_EQ(exchange_open_unmanned(&exchange), 0);
        for (int i = 0; i < 5; i++)
            CHECK_EQ(exchange_once(exchange), 0);
        exchange_close(exchange);
        lives++;
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    struct exchange_counts counts = exchange_counts();
    CHECK_EQ(counts.attempts_failed, 0);
    CHECK_EQ(counts.sessions_failed, 0);
}
