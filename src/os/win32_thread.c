/* Locks, parking and threads on Windows. The clock is in win32.c, sockets are in win32_socket.c.
 *
 * A parker's word: 0 nothing, 1 a release is kept, 2 somebody waits.
 *   0 → 2      [iocp__parker_wait goes to sleep]
 *   any → 1    [iocp__parker_release, which wakes after a 2]
 *   1, 2 → 0   [iocp__parker_wait returns: released, out of time]
 *
 * It may be freed by the thread that was let through while the other has still to make its wake
 * call: the call takes the address only as a name. A sleeper that happens to have the same name
 * afterwards looks at its word again. */
#include "os/win32.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"

#include <errno.h>
#include <process.h>
#include <string.h>

/* ---- Locks. */

_Static_assert(sizeof(struct iocp__lock) == sizeof(SRWLOCK), "a lock is an SRWLOCK");

/* Zeroed memory is SRWLOCK_INIT. */
static SRWLOCK *lock_of(struct iocp__lock *lock)
{
    return (SRWLOCK *)(void *)&lock->word;
}

void iocp__lock_acquire(struct iocp__lock *lock)
{
    AcquireSRWLockExclusive(lock_of(lock));
}

int iocp__lock_try(struct iocp__lock *lock)
{
    return TryAcquireSRWLockExclusive(lock_of(lock)) != 0;
}

void iocp__lock_release(struct iocp__lock *lock)
{
    ReleaseSRWLockExclusive(lock_of(lock));
}

/* ---- Parking. */

#define PARKER_EMPTY 0u
#define PARKER_RELEASED 1u
#define PARKER_WAITING 2u

/* How long to sleep, rounded up, so that the sleep never ends early by our doing. 0: it is time. */
static DWORD parker_sleep_ms(uint64_t deadline_ns)
{
    uint64_t now_ns;
    uint64_t sleep_ms;

    if (deadline_ns == UINT64_MAX)
        return INFINITE;
    now_ns = iocp__os_now_ns();
    if (now_ns >= deadline_ns)
        return 0;
    sleep_ms = (deadline_ns - now_ns - 1) / 1000000 + 1;
    /* In pieces of 49 days: the deadline is looked at after each. */
    return sleep_ms < INFINITE ? (DWORD)sleep_ms : INFINITE - 1;
}

int iocp__parker_wait(struct iocp__parker *parker, uint64_t deadline_ns)
{
    uint32_t expected = PARKER_EMPTY;
    uint32_t waiting = PARKER_WAITING;

    /* Acquire (of acq_rel), here and below: what came before the release is seen by who it lets go.
     */
    if (!iocp__cas_acq_rel(&parker->word, &expected, PARKER_WAITING)) {
        iocp__assert(expected == PARKER_RELEASED); /* one waiter at a time */
        iocp__exchange_acq_rel(&parker->word, PARKER_EMPTY);
        return 0;
    }
    for (;;) {
        DWORD sleep_ms = parker_sleep_ms(deadline_ns);

        /* A release may have come after the deadline: it counts. */
        if (sleep_ms == 0)
            return iocp__exchange_acq_rel(&parker->word, PARKER_EMPTY) == PARKER_RELEASED
                       ? 0
                       : IOCP_ETIMEDOUT;
        /* It may end early, by up to a tick of the system's clock, or for nothing: we look. */
        WaitOnAddress(&parker->word, &waiting, sizeof(waiting), sleep_ms);
        if (iocp__load_acquire(&parker->word) == PARKER_RELEASED) {
            iocp__exchange_acq_rel(&parker->word, PARKER_EMPTY);
            return 0;
        }
    }
}

void iocp__parker_release(struct iocp__parker *parker)
{
    /* Release (of acq_rel): pairs with the acquires of the wait. */
    if (iocp__exchange_acq_rel(&parker->word, PARKER_RELEASED) == PARKER_WAITING)
        WakeByAddressSingle(&parker->word);
}

/* ---- Threads. */

#define THREAD_NAME_SIZE 64 /* of ours, with the 0: the system has no bound that matters */

struct thread_start {
    void (*run)(void *context);
    void *context;
    char name[THREAD_NAME_SIZE];
};

/* A name in UTF-8 cut to a room is cut between two letters. */
static void thread_copy_name(char room[THREAD_NAME_SIZE], const char *name)
{
    size_t size = strlen(name);

    if (size >= THREAD_NAME_SIZE) {
        size = THREAD_NAME_SIZE - 1;
        while (size > 0 && ((unsigned char)name[size] & 0xc0) == 0x80)
            size--;
    }
    memcpy(room, name, size);
    room[size] = 0;
}

/* Names are for debuggers; Windows has them from version 1607 on, which exports the function from
 * kernelbase.dll alone. */
static void thread_set_name(const char *name)
{
    typedef HRESULT(WINAPI * set_description)(HANDLE thread, PCWSTR description);
    HMODULE kernel = GetModuleHandleW(L"kernelbase.dll");
    WCHAR wide[IOCP__WIDE_MAX];
    set_description set = NULL;

    if (kernel)
        set = (set_description)(void (*)(void))GetProcAddress(kernel, "SetThreadDescription");
    if (set && iocp__wide(name, wide) == 0)
        set(GetCurrentThread(), wide);
}

static unsigned __stdcall thread_main(void *argument)
{
    struct thread_start start = *(struct thread_start *)argument;

    iocp__release(argument, sizeof(start));
    thread_set_name(start.name);
    start.run(start.context);
    return 0;
}

int iocp__thread_start(struct iocp__thread *thread, const char *name, void (*run)(void *context),
                       void *context)
{
    struct thread_start *start = iocp__allocate(sizeof(*start));
    uintptr_t id;
    int error;

    if (!start)
        return IOCP_ENOMEM;
    start->run = run;
    start->context = context;
    thread_copy_name(start->name, name);
    id = _beginthreadex(NULL, 0, thread_main, start, 0, NULL);
    if (!id) {
        error = errno; /* EACCES: the runtime had no memory for its own part */
        iocp__release(start, sizeof(*start));
        return error == ENOMEM || error == EACCES ? IOCP_ENOMEM : IOCP_EAGAIN;
    }
    thread->id = id;
    return 0;
}

void iocp__thread_join(struct iocp__thread *thread)
{
    HANDLE handle = (HANDLE)thread->id;
    DWORD result = WaitForSingleObject(handle, INFINITE);

    iocp__assert(result == WAIT_OBJECT_0);
    CloseHandle(handle);
}

void iocp__thread_view_self(struct iocp__thread_view *view)
{
    view->system_id = (int32_t)GetCurrentThreadId();
    view->cpu_clock = 0;
}

static uint64_t thread_time_ns(const FILETIME *time)
{
    return (((uint64_t)time->dwHighDateTime << 32) | time->dwLowDateTime) * 100;
}

/* QueryThreadCycleTime would be finer, but it counts cycles, and the system does not tell how long
 * one takes. */
uint64_t iocp__thread_cpu_ns(const struct iocp__thread_view *view)
{
    FILETIME created;
    FILETIME exited;
    FILETIME kernel;
    FILETIME user;
    uint64_t used_ns = 0;
    HANDLE thread =
        OpenThread(THREAD_QUERY_LIMITED_INFORMATION | SYNCHRONIZE, FALSE, (DWORD)view->system_id);

    if (!thread)
        return 0;
    /* One that is gone stays as long as somebody has it open. */
    if (WaitForSingleObject(thread, 0) == WAIT_TIMEOUT &&
        GetThreadTimes(thread, &created, &exited, &kernel, &user))
        used_ns = thread_time_ns(&kernel) + thread_time_ns(&user);
    CloseHandle(thread);
    return used_ns;
}

/* Only a snapshot of all threads of all processes would tell; nobody here has to know: the kernel's
 * port counts for itself who is blocked. */
int iocp__thread_asleep(const struct iocp__thread_view *view)
{
    (void)view;
    return -1;
}

/* ---- The slot of the thread: of fiber-local storage, because that has exit callbacks. They run
 * before the modules hear of the exit, so thread-local variables are still there. */

struct thread_slot {
    void *value;
    void (*at_exit)(void *value);
};

static INIT_ONCE thread_once = INIT_ONCE_STATIC_INIT;
static DWORD thread_index = FLS_OUT_OF_INDEXES;
static BOOLEAN(NTAPI *thread_process_ends)(void);

/* The index holds one pointer and the slot is two: it holds where they are. */
static IOCP__THREAD_LOCAL struct thread_slot thread_slot;

static void WINAPI thread_exits(void *argument)
{
    struct thread_slot *slot = argument;
    void *value = slot->value;

    slot->value = NULL;
    /* At the end of the process it runs too, for the last thread. The others were killed wherever
     * they were, with locks of ours in their hands maybe. */
    if (value && !(thread_process_ends && thread_process_ends()))
        slot->at_exit(value);
}

static BOOL CALLBACK thread_make_index(INIT_ONCE *once, void *argument, void **context)
{
    HMODULE module = GetModuleHandleW(L"ntdll.dll");

    (void)once;
    (void)argument;
    (void)context;
    if (module)
        thread_process_ends = (BOOLEAN(NTAPI *)(void))(void (*)(void))GetProcAddress(
            module, "RtlDllShutdownInProgress");
    /* The callback has to outlast every thread that set a value. There is no way to wait for them,
     * so the module, if it is a DLL, is never unloaded from now on. */
    if (!GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                            (LPCWSTR)(void *)&thread_once, &module))
        return FALSE;
    thread_index = FlsAlloc(thread_exits);
    return thread_index != FLS_OUT_OF_INDEXES;
}

int iocp__thread_local_set(void *value, void (*at_exit)(void *value))
{
    if (!InitOnceExecuteOnce(&thread_once, thread_make_index, NULL, NULL) ||
        !FlsSetValue(thread_index, value ? &thread_slot : NULL))
        return IOCP_ENOMEM;
    thread_slot.value = value;
    thread_slot.at_exit = at_exit;
    return 0;
}

/* ---- Interrupts: there is nothing to do here. The kernel finishes what a thread submitted without
 * its help, so FlushProcessWriteBuffers, which would interrupt it, would cost and bring nothing. */

void iocp__threads_interrupt_prepare(void)
{
}

void iocp__threads_interrupt(void)
{
}
