/* What the programs need of a system besides the library: how they are told to end, a lock, the
 * terminal. One header, one file per system (system_posix.c, system_windows.c), chosen by the
 * build; nothing else here asks which system it is.
 *
 * getopt_long is no part of it: Linux has it, and MinGW-w64 brings it along. */
#ifndef APPS_COMMON_SYSTEM_H
#define APPS_COMMON_SYSTEM_H

#include <stdbool.h>
#include <stdint.h>

/* Lets a compiler that can check the values of a function like printf. MinGW-w64 has two printfs,
 * and a name for the one that it was told to take. */
#if defined(__MINGW_PRINTF_FORMAT)
#define SYSTEM_PRINTF(text, values) __attribute__((format(__MINGW_PRINTF_FORMAT, text, values)))
#elif defined(__GNUC__)
#define SYSTEM_PRINTF(text, values) __attribute__((format(printf, text, values)))
#else
#define SYSTEM_PRINTF(text, values)
#endif

/* Once, on the main thread, before any other thread starts: from now on requests to end the program
 * are kept for `system_wait`, and the process may have as many connections as the system allows
 * without asking anybody. False: out of memory. */
bool system_init(void);

enum system_event {
    SYSTEM_TICK, /* nothing: a second has passed */
    SYSTEM_STOP, /* SIGINT or SIGTERM; on Windows Ctrl-C, Ctrl-Break, or the window, the session or
                  * the system is closed */
    SYSTEM_WOKEN /* `system_wake` */
};

/* The main thread waits for one of these; with `tick` for a second at most. Several of one kind
 * that come at once may be one. */
enum system_event system_wait(bool tick);

/* Any thread. */
void system_wake(void);

/* What the process holds of the system at this moment; 0 where the system does not say. */
struct system_usage {
    uint64_t handles;  /* descriptors; on Windows handles of every kind */
    uint64_t resident; /* bytes of memory */
};
void system_usage(struct system_usage *usage);

/* Whether stderr is a terminal. */
bool system_terminal(void);

/* A lock, for as long as memory is touched. NULL: out of memory. */
struct system_lock *system_lock_create(void);
void system_lock_free(struct system_lock *lock); /* NULL is fine */
void system_lock_acquire(struct system_lock *lock);
void system_lock_release(struct system_lock *lock);

#endif
