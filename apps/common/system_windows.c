/* The system part on Windows: a request to end comes to a console control handler, on a thread that
 * the system starts for it; two events bring it, and a wake, to the main thread. */
#include "system.h"

#include <stdlib.h>
#include <windows.h>

#include <psapi.h> /* after windows.h */

struct system_lock {
    SRWLOCK word;
};

/* Both reset themselves when the main thread takes them. The first is looked at first. */
static HANDLE system_events[2]; /* stop, wake */

/* Closing the window, logging off and shutting down end the process when the handler returns, or
 * some seconds later: it does not return, and the process ends as the main thread does. */
static BOOL WINAPI system_control(DWORD type)
{
    SetEvent(system_events[0]);
    if (type != CTRL_C_EVENT && type != CTRL_BREAK_EVENT) {
        Sleep(INFINITE);
    }
    return TRUE;
}

bool system_init(void)
{
    for (size_t i = 0; i < 2; i++) {
        system_events[i] = CreateEventW(NULL, FALSE, FALSE, NULL);
        if (system_events[i] == NULL) {
            return false;
        }
    }
    return SetConsoleCtrlHandler(system_control, TRUE);
}

enum system_event system_wait(bool tick)
{
    switch (WaitForMultipleObjects(2, system_events, FALSE, tick ? 1000 : INFINITE)) {
    case WAIT_OBJECT_0:
        return SYSTEM_STOP;
    case WAIT_OBJECT_0 + 1:
        return SYSTEM_WOKEN;
    default:
        return SYSTEM_TICK;
    }
}

void system_wake(void)
{
    SetEvent(system_events[1]);
}

void system_usage(struct system_usage *usage)
{
    PROCESS_MEMORY_COUNTERS memory;
    DWORD handles = 0;
    bool known = GetProcessMemoryInfo(GetCurrentProcess(), &memory, sizeof memory);
    usage->resident = known ? memory.WorkingSetSize : 0;
    usage->handles = GetProcessHandleCount(GetCurrentProcess(), &handles) ? handles : 0;
}

bool system_terminal(void)
{
    DWORD mode;
    return GetConsoleMode(GetStdHandle(STD_ERROR_HANDLE), &mode);
}

struct system_lock *system_lock_create(void)
{
    struct system_lock *lock = malloc(sizeof *lock);
    if (lock != NULL) {
        InitializeSRWLock(&lock->word);
    }
    return lock;
}

void system_lock_free(struct system_lock *lock)
{
    free(lock);
}

void system_lock_acquire(struct system_lock *lock)
{
    AcquireSRWLockExclusive(&lock->word);
}

void system_lock_release(struct system_lock *lock)
{
    ReleaseSRWLockExclusive(&lock->word);
}
