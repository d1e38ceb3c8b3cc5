/* The system part on POSIX: the main thread takes signals with sigtimedwait, so no handler of a
 * signal interrupts anything. */
#include "system.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct system_lock {
    pthread_mutex_t mutex;
};

/* The signals that the main thread waits for; SIGUSR1 is `system_wake`. */
static sigset_t system_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    return set;
}

/* A session is a descriptor, and the usual soft limit of 1,024 would be the real maximum. */
static void system_lift_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* the service works with fewer as well */
    }
}

bool system_init(void)
{
    sigset_t signals = system_signals();
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* the threads that it starts inherit this */
    system_lift_limit();
    return true;
}

enum system_event system_wait(bool tick)
{
    const struct timespec second = {.tv_sec = 1};
    sigset_t signals = system_signals();
    int signal = tick ? sigtimedwait(&signals, NULL, &second) : sigwaitinfo(&signals, NULL);
    switch (signal) {
    case SIGINT:
    case SIGTERM:
        return SYSTEM_STOP;
    case SIGUSR1:
        return SYSTEM_WOKEN;
    default: /* a second has passed, or the process was stopped and goes on */
        return SYSTEM_TICK;
    }
}

void system_wake(void)
{
    kill(getpid(), SIGUSR1);
}

/* The entries of /proc/self/fd, without the two dots and the descriptor that reads them. */
static uint64_t system_descriptors(void)
{
    uint64_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL) {
        return 0;
    }
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count > 3 ? count - 3 : 0;
}

void system_usage(struct system_usage *usage)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file != NULL) {
        if (fscanf(file, "%*s %lu", &pages) != 1) {
            pages = 0;
        }
        fclose(file);
    }
    usage->resident = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
    usage->handles = system_descriptors();
}

bool system_terminal(void)
{
    return isatty(STDERR_FILENO);
}

struct system_lock *system_lock_create(void)
{
    struct system_lock *lock = malloc(sizeof *lock);
    if (lock != NULL) {
        pthread_mutex_init(&lock->mutex, NULL);
    }
    return lock;
}

void system_lock_free(struct system_lock *lock)
{
    if (lock != NULL) {
        pthread_mutex_destroy(&lock->mutex);
        free(lock);
    }
}

void system_lock_acquire(struct system_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
}

void system_lock_release(struct system_lock *lock)
{
    pthread_mutex_unlock(&lock->mutex);
}
