/* Locks, parking and threads on Linux. The clock is in posix.c, sockets are in posix_socket.c.
 *
 * A lock's word: 0 free, 1 held, 2 held while somebody may sleep on it.
 *   0 → 1      [iocp__lock_acquire, iocp__lock_try]
 *   0, 1 → 2   [lock_acquire_slowly: the caller holds it if it was 0, and sleeps if not]
 *   1, 2 → 0   [iocp__lock_release, which wakes one sleeper after a 2]
 *
 * A parker's word: 0 nothing, 1 a release is kept, 2 somebody waits.
 *   0 → 2      [iocp__parker_wait goes to sleep]
 *   any → 1    [iocp__parker_release, which wakes after a 2]
 *   1, 2 → 0   [iocp__parker_wait returns: released, out of time]
 *
 * Both may be freed by the thread that got through while the thread that let it through has still
 * to make its wake call: the call takes the address only as a name. A sleeper that happens to have
 * the same name afterwards looks at its word again. */
#include "os/os.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* ---- Futexes. */

/* Sleeps while *word is `value`, until `deadline_ns` of CLOCK_MONOTONIC. Returns errno or 0. */
static int futex_wait(uint32_t *word, uint32_t value, uint64_t deadline_ns)
{
    struct timespec until;
    struct timespec *at = NULL;

    if (deadline_ns != UINT64_MAX) {
        until.tv_sec = (time_t)(deadline_ns / 1000000000u);
        until.tv_nsec = (long)(deadline_ns % 1000000000u);
        at = &until;
    }
    /* The BITSET form alone takes an absolute time. */
    if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value, at, NULL,
                FUTEX_BITSET_MATCH_ANY) == 0)
        return 0;
    return errno;
}

static void futex_wake_one(uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* ---- Locks. */

#define LOCK_FREE 0u
#define LOCK_HELD 1u
#define LOCK_CONTENDED 2u
#define LOCK_SPINS 100

static inline void thread_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield" ::: "memory");
#endif
}

static void lock_acquire_slowly(struct iocp__lock *lock)
{
    uint32_t spins = 0;

    /* Worth it only while nobody sleeps: sleepers say that the lock is held for long. */
    while (spins++ < LOCK_SPINS) {
        uint32_t word = iocp__load_relaxed(&lock->word); /* relaxed: the exchange decides */
        if (word == LOCK_FREE && iocp__lock_try(lock))
            return;
        if (word == LOCK_CONTENDED)
            break;
        thread_pause();
    }
    /* Acquire (of acq_rel): what the last holder wrote. The word stays CONTENDED after a sleep,
     * since there may be more sleepers: that costs at most one wake for nobody. */
    while (iocp__exchange_acq_rel(&lock->word, LOCK_CONTENDED) != LOCK_FREE)
        futex_wait(&lock->word, LOCK_CONTENDED, UINT64_MAX);
}

void iocp__lock_acquire(struct iocp__lock *lock)
{
    if (!iocp__lock_try(lock))
        lock_acquire_slowly(lock);
}

int iocp__lock_try(struct iocp__lock *lock)
{
    uint32_t expected = LOCK_FREE;
    /* Acquire (of acq_rel): what the last holder wrote is seen. */
    return iocp__cas_acq_rel(&lock->word, &expected, LOCK_HELD);
}

void iocp__lock_release(struct iocp__lock *lock)
{
    /* Release (of acq_rel): what this holder wrote is seen by the next. */
    uint32_t was = iocp__exchange_acq_rel(&lock->word, LOCK_FREE);

    iocp__debug(was != LOCK_FREE);
    if (was == LOCK_CONTENDED)
        futex_wake_one(&lock->word);
}

/* ---- Parking. */

#define PARKER_EMPTY 0u
#define PARKER_RELEASED 1u
#define PARKER_WAITING 2u

int iocp__parker_wait(struct iocp__parker *parker, uint64_t deadline_ns)
{
    uint32_t expected = PARKER_EMPTY;

    /* Acquire (of acq_rel), here and below: what came before the release is seen by who it lets go.
     */
    if (!iocp__cas_acq_rel(&parker->word, &expected, PARKER_WAITING)) {
        iocp__assert(expected == PARKER_RELEASED); /* one waiter at a time */
        iocp__exchange_acq_rel(&parker->word, PARKER_EMPTY);
        return 0;
    }
    for (;;) {
        int error = futex_wait(&parker->word, PARKER_WAITING, deadline_ns);

        /* A release may have come after the deadline: it counts. */
        if (error == ETIMEDOUT)
            return iocp__exchange_acq_rel(&parker->word, PARKER_EMPTY) == PARKER_RELEASED
                       ? 0
                       : IOCP_ETIMEDOUT;
        if (iocp__load_acquire(&parker->word) == PARKER_RELEASED) {
            iocp__exchange_acq_rel(&parker->word, PARKER_EMPTY);
            return 0;
        }
        /* Woken for nothing, or by a signal (EINTR): the deadline is absolute, wait on. */
    }
}

void iocp__parker_release(struct iocp__parker *parker)
{
    /* Release (of acq_rel): pairs with the acquires of the wait. */
    if (iocp__exchange_acq_rel(&parker->word, PARKER_RELEASED) == PARKER_WAITING)
        futex_wake_one(&parker->word);
}

/* ---- Threads. */

#define THREAD_NAME_SIZE 16 /* of the kernel, with the 0 */

struct thread_start {
    void (*run)(void *context);
    void *context;
    char name[THREAD_NAME_SIZE];
};

static void *thread_main(void *argument)
{
    struct thread_start start = *(struct thread_start *)argument;

    iocp__release(argument, sizeof(start));
    prctl(PR_SET_NAME, start.name, 0, 0, 0);
    start.run(start.context);
    return NULL;
}

int iocp__thread_start(struct iocp__thread *thread, const char *name, void (*run)(void *context),
                       void *context)
{
    struct thread_start *start = iocp__allocate_zero(sizeof(*start));
    pthread_t id;
    sigset_t all, before;
    int error;

    if (!start)
        return IOCP_ENOMEM;
    start->run = run;
    start->context = context;
    snprintf(start->name, sizeof(start->name), "%s", name);
    /* A thread inherits the mask of its maker: so no signal reaches it, not even at its beginning.
     */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&id, NULL, thread_main, start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        iocp__release(start, sizeof(*start));
        return error == ENOMEM ? IOCP_ENOMEM : IOCP_EAGAIN;
    }
    thread->id = (uintptr_t)id;
    return 0;
}

void iocp__thread_join(struct iocp__thread *thread)
{
    int error = pthread_join((pthread_t)thread->id, NULL);
    iocp__assert(error == 0);
}

void iocp__thread_view_self(struct iocp__thread_view *view)
{
    clockid_t clock;
    int error = pthread_getcpuclockid(pthread_self(), &clock);

    iocp__assert(error == 0); /* it fails for threads that are gone */
    view->system_id = (int32_t)syscall(SYS_gettid);
    view->cpu_clock = (int32_t)clock;
}

uint64_t iocp__thread_cpu_ns(const struct iocp__thread_view *view)
{
    struct timespec time;

    if (clock_gettime((clockid_t)view->cpu_clock, &time))
        return 0;
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

int iocp__thread_asleep(const struct iocp__thread_view *view)
{
    /* "4711 (name) S ...": the name has up to 15 bytes, which may be ')' or a space too; behind it
     * there are only letters and numbers. So the state comes after the last ')'. */
    char text[96];
    ssize_t size;
    char *end;
    int file;

    snprintf(text, sizeof(text), "/proc/self/task/%d/stat", (int)view->system_id);
    file = open(text, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    size = read(file, text, sizeof(text) - 1);
    close(file);
    if (size <= 0)
        return -1;
    text[size] = 0;
    end = strrchr(text, ')');
    if (!end || end[1] != ' ')
        return -1;
    switch (end[2]) {
    case 'S':
    case 'D':
        return 1;
    case 'R':
        return 0;
    default: /* stopped by a signal or a debugger, or on its way out */
        return -1;
    }
}

/* ---- The slot of the thread. */

static pthread_once_t thread_once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_key;
static int thread_key_error;

/* The key holds one pointer and the slot is two: it holds where they are. */
static IOCP__THREAD_LOCAL struct thread_slot {
    void *value;
    void (*at_exit)(void *value);
} thread_slot;

static void thread_exits(void *argument)
{
    struct thread_slot *slot = argument;
    void *value = slot->value;

    slot->value = NULL;
    if (value)
        slot->at_exit(value);
}

static void thread_make_key(void)
{
    thread_key_error = pthread_key_create(&thread_key, thread_exits);
}

int iocp__thread_local_set(void *value, void (*at_exit)(void *value))
{
    pthread_once(&thread_once, thread_make_key);
    if (thread_key_error || pthread_setspecific(thread_key, value ? &thread_slot : NULL))
        return IOCP_ENOMEM;
    thread_slot.value = value;
    thread_slot.at_exit = at_exit;
    return 0;
}

/* ---- Interrupts: membarrier(2), private and expedited, sends one to each CPU that runs a thread
 * of this process (Linux 4.14). Errors mean that there is none. */

void iocp__threads_interrupt_prepare(void)
{
    (void)syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
}

void iocp__threads_interrupt(void)
{
    (void)syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}
