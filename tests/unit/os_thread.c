/* What the library takes from the system: locks, parking, threads. */
#include "base/assert.h"
#include "base/atomic.h"
#include "os/os.h"
#include "support/check.h"
#include "support/system.h"

#include <iocp/memory.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <signal.h>
#include <unistd.h>
#endif

#define THREADS 8

static void start(struct iocp__thread *thread, const char *name, void (*run)(void *context),
                  void *context)
{
    CHECK_OK(iocp__thread_start(thread, name, run, context));
}

/* ---- Locks. */

static struct iocp__lock lock;
static uint64_t guarded; /* plain: TSan tells when the lock does not order */

static void add_under_lock(void *context)
{
    (void)context;
    for (int i = 0; i < 20000; i++) {
        iocp__lock_acquire(&lock);
        guarded++;
        iocp__lock_release(&lock);
    }
}

static void add_by_try(void *context)
{
    (void)context;
    for (int i = 0; i < 20000; i++) {
        while (!iocp__lock_try(&lock))
            system_yield();
        guarded++;
        iocp__lock_release(&lock);
    }
}

TEST(lock_lets_one_thread_in)
{
    struct iocp__thread threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        start(&threads[i], "locker", i % 2 ? add_by_try : add_under_lock, NULL);
    for (int i = 0; i < THREADS; i++)
        iocp__thread_join(&threads[i]);
    CHECK_EQ(guarded, THREADS * 20000);
    CHECK_EQ(lock.word, 0);
}

TEST(lock_try_fails_while_it_is_held)
{
    CHECK(iocp__lock_try(&lock));
    CHECK(!iocp__lock_try(&lock));
    iocp__lock_release(&lock);
    iocp__lock_acquire(&lock);
    CHECK(!iocp__lock_try(&lock));
    iocp__lock_release(&lock);
    CHECK(iocp__lock_try(&lock));
}

/* A thread that says who it is and then does what it is told. */
struct subject {
    struct iocp__thread thread;
    struct iocp__thread_view view;
    struct iocp__parker known;
    struct iocp__parker parker;
    struct subject *next;
    uint32_t number; /* of the thread, for system_thread_sleeps */
    int pipe[2];
    int result;
    uint32_t stop;
};

static void subject_is_known(struct subject *subject)
{
    iocp__thread_view_self(&subject->view);
    subject->number = system_thread();
    iocp__parker_release(&subject->known);
}

/* Starts it and waits until its view is there. */
static void subject_start(struct subject *subject, const char *name, void (*run)(void *context))
{
    start(&subject->thread, name, run, subject);
    CHECK_EQ(iocp__parker_wait(&subject->known, UINT64_MAX), 0);
}

/* Until the watch sees that state; the time limit of the test is the bound. */
static void await_state(const struct subject *subject, int asleep)
{
    while (iocp__thread_asleep(&subject->view) != asleep)
        system_yield();
}

/* Until it sleeps, which the library cannot tell on Windows. */
static void await_asleep(const struct subject *subject)
{
    if (!test_on_windows())
        await_state(subject, 1);
    while (system_thread_sleeps(subject->number) < 0)
        system_yield();
}

static void enter_lock(void *context)
{
    struct subject *subject = context;
    subject_is_known(subject);
    iocp__lock_acquire(&lock);
    guarded++;
    iocp__lock_release(&lock);
}

TEST(lock_wakes_all_its_sleepers_one_by_one)
{
    struct subject subjects[THREADS];
    memset(subjects, 0, sizeof(subjects));
    iocp__lock_acquire(&lock);
    for (int i = 0; i < THREADS; i++) {
        subject_start(&subjects[i], "sleeper", enter_lock);
        await_asleep(&subjects[i]);
    }
    CHECK_EQ(guarded, 0);
    iocp__lock_release(&lock);
    for (int i = 0; i < THREADS; i++)
        iocp__thread_join(&subjects[i].thread);
    CHECK_EQ(guarded, THREADS);
    CHECK_EQ(lock.word, 0);
}

/* ---- Parking. */

TEST(early_release_is_kept_but_only_one)
{
    struct iocp__parker parker = {0};
    iocp__parker_release(&parker);
    iocp__parker_release(&parker);
    CHECK_EQ(iocp__parker_wait(&parker, UINT64_MAX), 0);
    CHECK_EQ(iocp__parker_wait(&parker, 0), IOCP_ETIMEDOUT);
    iocp__parker_release(&parker);
    CHECK_EQ(iocp__parker_wait(&parker, 0), 0);
    CHECK_EQ(parker.word, 0);
}

TEST(park_ends_at_its_deadline_and_not_before)
{
    struct iocp__parker parker = {0};
    for (uint64_t length_ns = 1; length_ns < 20000000; length_ns *= 4) {
        uint64_t deadline_ns = iocp__os_now_ns() + length_ns;
        CHECK_EQ(iocp__parker_wait(&parker, deadline_ns), IOCP_ETIMEDOUT);
        CHECK_GE(iocp__os_now_ns(), deadline_ns);
        CHECK_EQ(parker.word, 0);
    }
    CHECK_EQ(iocp__parker_wait(&parker, iocp__os_now_ns() - 1), IOCP_ETIMEDOUT);
    CHECK_EQ(iocp__parker_wait(&parker, 0), IOCP_ETIMEDOUT);
    iocp__parker_release(&parker);
    CHECK_EQ(iocp__parker_wait(&parker, UINT64_MAX - 1), 0);
}

static void park(void *context)
{
    struct subject *subject = context;
    subject_is_known(subject);
    subject->result = iocp__parker_wait(&subject->parker, UINT64_MAX - 1);
    iocp__store_release(&subject->stop, 1);
}

TEST(release_wakes_a_parked_thread)
{
    struct subject subject = {.result = 99};
    subject_start(&subject, "parked", park);
    await_asleep(&subject);
    CHECK_EQ(iocp__load_acquire(&subject.stop), 0);
    iocp__parker_release(&subject.parker);
    iocp__thread_join(&subject.thread);
    CHECK_EQ(subject.result, 0);
}

#ifndef _WIN32
static uint32_t signals;

static void count_signal(int number)
{
    (void)number;
    iocp__add_relaxed(&signals, 1);
}

static void park_with_signals(void *context)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK_EQ(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
    park(context);
}
#endif

TEST(signals_do_not_end_a_park)
{
#ifdef _WIN32
    SKIP("Windows has no signals that interrupt a thread");
#else
    struct subject subject = {.result = 99};
    struct sigaction action = {.sa_handler = count_signal}; /* no SA_RESTART: EINTR */
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    subject_start(&subject, "parked", park_with_signals);
    for (uint32_t i = 1; i <= 20; i++) {
        await_asleep(&subject);
        CHECK_EQ(pthread_kill((pthread_t)subject.thread.id, SIGUSR1), 0);
        while (iocp__load_relaxed(&signals) != i)
            system_yield();
    }
    await_asleep(&subject);
    CHECK_EQ(iocp__load_acquire(&subject.stop), 0);
    iocp__parker_release(&subject.parker);
    iocp__thread_join(&subject.thread);
    CHECK_EQ(subject.result, 0);
#endif
}

/* Two threads hand one plain number to and fro; `short_ns` makes most waits end by their deadline.
 */
struct duel {
    struct iocp__parker sides[2];
    uint64_t number;
    uint64_t short_ns;
};

static void duel_wait(struct duel *duel, struct iocp__parker *parker)
{
    for (;;) {
        uint64_t deadline_ns = duel->short_ns ? iocp__os_now_ns() + duel->short_ns : UINT64_MAX;
        int result = iocp__parker_wait(parker, deadline_ns);
        if (result == 0)
            return;
        CHECK_EQ(result, IOCP_ETIMEDOUT);
    }
}

static void duel_answer(void *context)
{
    struct duel *duel = context;
    for (uint64_t i = 0; i < 5000; i++) {
        duel_wait(duel, &duel->sides[1]);
        CHECK_EQ(duel->number++, 2 * i + 1);
        iocp__parker_release(&duel->sides[0]);
    }
}

static void run_duel(uint64_t short_ns)
{
    struct duel duel = {.short_ns = short_ns};
    struct iocp__thread thread;
    start(&thread, "duel", duel_answer, &duel);
    for (uint64_t i = 0; i < 5000; i++) {
        CHECK_EQ(duel.number++, 2 * i);
        iocp__parker_release(&duel.sides[1]);
        duel_wait(&duel, &duel.sides[0]);
    }
    iocp__thread_join(&thread);
}

TEST(no_release_is_lost)
{
    run_duel(0);
}

TEST(no_release_is_lost_at_a_deadline)
{
    run_duel(1);
    run_duel(20000);
}

#define ROUNDS 500

static struct subject ring[THREADS];

static void pass_on(void *context)
{
    struct subject *subject = context;
    for (int i = 0; i < ROUNDS; i++) {
        CHECK_EQ(iocp__parker_wait(&subject->parker, UINT64_MAX), 0);
        guarded++;
        iocp__parker_release(&subject->next->parker);
    }
}

TEST(parkers_pass_a_token_round)
{
    for (int i = 0; i < THREADS; i++) {
        ring[i].next = &ring[(i + 1) % THREADS];
        start(&ring[i].thread, "ring", pass_on, &ring[i]);
    }
    iocp__parker_release(&ring[0].parker);
    for (int i = 0; i < THREADS; i++)
        iocp__thread_join(&ring[i].thread);
    CHECK_EQ(guarded, THREADS * ROUNDS);
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(ring[i].parker.word, i == 0); /* the last release is kept */
}

/* ---- Threads. */

struct portrait {
    char name[256];
    void *context;
};

/* The name of the calling thread as the system has it. */
static void own_name(char *name, size_t size)
{
#ifdef _WIN32
    typedef HRESULT(WINAPI * get_description)(HANDLE thread, PWSTR * description);
    HMODULE kernel = GetModuleHandleW(L"kernelbase.dll");
    get_description get =
        (get_description)(void (*)(void))GetProcAddress(kernel, "GetThreadDescription");
    PWSTR wide;
    if (!get)
        SKIP("this Windows has no names of threads");
    CHECK(SUCCEEDED(get(GetCurrentThread(), &wide)));
    CHECK(WideCharToMultiByte(CP_UTF8, 0, wide, -1, name, (int)size, NULL, NULL));
    LocalFree(wide);
#else
    CHECK_EQ(pthread_getname_np(pthread_self(), name, size), 0);
#endif
}

static void take_portrait(void *context)
{
    struct portrait *portrait = context;
    portrait->context = context;
    own_name(portrait->name, sizeof(portrait->name));
}

TEST(thread_has_its_name_and_context)
{
    struct portrait portrait;
    struct iocp__thread thread;
    char name[] = "worker-3";
    start(&thread, name, take_portrait, &portrait);
    memset(name, 'x', sizeof(name) - 1); /* it was copied */
    iocp__thread_join(&thread);
    CHECK_STR(portrait.name, "worker-3");
    CHECK(portrait.context == &portrait);
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(name_of_a_thread_is_cut)
{
    struct portrait portrait;
    struct iocp__thread thread;
    size_t size = test_on_windows() ? 63 : 15;
    char name[129];
    memset(name, 'n', 128);
    name[128] = 0;
    start(&thread, name, take_portrait, &portrait);
    iocp__thread_join(&thread);
    CHECK_EQ(strlen(portrait.name), size);
    CHECK_MEM(portrait.name, name, size);
    if (!test_on_windows())
        return;                           /* Linux takes the bytes as they come */
    memcpy(name + 61, "\xe2\x82\xac", 3); /* a letter that would end up without its end */
    start(&thread, name, take_portrait, &portrait);
    iocp__thread_join(&thread);
    CHECK_EQ(strlen(portrait.name), 61);
}

#ifndef _WIN32
static void take_mask(void *context)
{
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, context), 0);
}
#endif

TEST(thread_takes_no_signals_and_its_maker_still_does)
{
#ifdef _WIN32
    SKIP("Windows has no signals that a thread could take");
#else
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE, SIGCHLD};
    struct iocp__thread thread;
    sigset_t of_thread, mask;
    start(&thread, "deaf", take_mask, &of_thread);
    iocp__thread_join(&thread);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        CHECK_EQ(sigismember(&of_thread, numbers[i]), 1);
        CHECK_EQ(sigismember(&mask, numbers[i]), 0);
    }
    CHECK_EQ(sigismember(&of_thread, SIGRTMIN), 1);
    CHECK_EQ(sigismember(&of_thread, SIGRTMAX), 1);
#endif
}

TEST(thread_without_memory_is_refused)
{
    struct portrait portrait;
    struct iocp__thread thread;
    iocp_memory_fail(1, 0);
    CHECK_EQ(iocp__thread_start(&thread, "none", take_portrait, &portrait), IOCP_ENOMEM);
    CHECK_EQ(iocp_memory_count(), 0);
}

static void spin(void *context)
{
    struct subject *subject = context;
    subject_is_known(subject);
    while (!iocp__load_acquire(&subject->stop))
        continue;
}

TEST(thread_that_computes_is_awake)
{
    struct subject subject = {0};
    int awake = test_on_windows() ? -1 : 0; /* Windows does not tell */
    uint64_t before_ns;
    subject_start(&subject, "spinner", spin);
    await_state(&subject, awake);
    before_ns = iocp__thread_cpu_ns(&subject.view);
    while (iocp__thread_cpu_ns(&subject.view) < before_ns + 1000000)
        system_yield();
    await_state(&subject, awake);
    iocp__store_release(&subject.stop, 1);
    iocp__thread_join(&subject.thread);
}

TEST(thread_that_is_gone_cannot_be_told)
{
    struct subject subject = {0};
    subject_start(&subject, "gone", park);
    iocp__parker_release(&subject.parker);
    iocp__thread_join(&subject.thread);
    /* The kernel lets join return a little before the thread has left /proc. */
    await_state(&subject, -1);
    while (iocp__thread_cpu_ns(&subject.view) != 0)
        system_yield();
}

#ifndef _WIN32
static void read_pipe(void *context)
{
    struct subject *subject = context;
    char byte;
    subject_is_known(subject);
    CHECK_EQ(read(subject->pipe[0], &byte, 1), 1);
}
#endif

TEST(thread_in_a_blocking_read_is_asleep)
{
#ifdef _WIN32
    SKIP("the library does not ask Windows whether a thread sleeps");
#else
    struct subject subject = {0};
    uint64_t before_ns, after_ns;
    CHECK_EQ(pipe(subject.pipe), 0);
    subject_start(&subject, "reader", read_pipe);
    await_state(&subject, 1);
    /* It may be seen so on its last steps to sleep; from then on its processor time stands still.
     */
    after_ns = iocp__thread_cpu_ns(&subject.view);
    do {
        before_ns = after_ns;
        system_yield();
        after_ns = iocp__thread_cpu_ns(&subject.view);
    } while (before_ns != after_ns);
    CHECK_GT(after_ns, 0);
    CHECK_EQ(iocp__thread_asleep(&subject.view), 1);
    CHECK_EQ(write(subject.pipe[1], "x", 1), 1);
    iocp__thread_join(&subject.thread);
#endif
}

TEST(name_of_a_thread_does_not_deceive_the_watch)
{
#ifdef _WIN32
    SKIP("Windows has no text with the name of a thread in it to look at");
#else
    static const char *const names[] = {"a) R 1", ") R", "))))))))))))))", "(S) S", "a\nR) R"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct subject subject = {0};
        CHECK_EQ(pipe(subject.pipe), 0);
        subject_start(&subject, names[i], read_pipe);
        await_state(&subject, 1);
        CHECK_EQ(write(subject.pipe[1], "x", 1), 1);
        iocp__thread_join(&subject.thread);
        close(subject.pipe[0]);
        close(subject.pipe[1]);
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct subject subject = {0};
        subject_start(&subject, "(S) S) S", spin);
        await_state(&subject, 0);
        iocp__store_release(&subject.stop, 1);
        iocp__thread_join(&subject.thread);
    }
#endif
}

/* ---- The slot of the thread. */

struct leaver {
    int values[4]; /* what to set, one after the other; -1: NULL */
    int exits;
    int exited_with;
    int same_thread;
    struct iocp__thread_view self;
};

static struct leaver leaver;

static void leaver_exits(void *value)
{
    struct iocp__thread_view self;
    iocp__thread_view_self(&self);
    leaver.exits++;
    leaver.exited_with = *(int *)value;
    leaver.same_thread = self.system_id == leaver.self.system_id;
}

static void other_exits(void *value)
{
    (void)value;
    FAIL("the function that was replaced ran");
}

static void leave(void *context)
{
    struct leaver *self = context;
    iocp__thread_view_self(&self->self);
    for (int i = 0; i < 4 && self->values[i]; i++) {
        int last = i == 3 || !self->values[i + 1];
        void *value = self->values[i] < 0 ? NULL : &self->values[i];
        CHECK_EQ(iocp__thread_local_set(value, last ? leaver_exits : other_exits), 0);
    }
    CHECK_EQ(self->exits, 0);
}

static void run_leaver(int first, int second, int third)
{
    struct iocp__thread thread;
    leaver = (struct leaver){.values = {first, second, third}};
    start(&thread, "leaver", leave, &leaver);
    iocp__thread_join(&thread);
}

TEST(exit_of_a_thread_is_told_with_the_last_value)
{
    run_leaver(7, 0, 0);
    CHECK_EQ(leaver.exits, 1);
    CHECK_EQ(leaver.exited_with, 7);
    CHECK(leaver.same_thread);
    run_leaver(7, 8, 0);
    CHECK_EQ(leaver.exits, 1);
    CHECK_EQ(leaver.exited_with, 8);
    run_leaver(7, -1, 9);
    CHECK_EQ(leaver.exits, 1);
    CHECK_EQ(leaver.exited_with, 9);
}

TEST(exit_of_a_thread_without_a_value_is_not_told)
{
    run_leaver(0, 0, 0);
    CHECK_EQ(leaver.exits, 0);
    run_leaver(7, -1, 0);
    CHECK_EQ(leaver.exits, 0);
}

static void *leave_by_pthread(void *context)
{
    leave(context);
    return NULL;
}

TEST(exit_of_a_thread_that_others_started_is_told)
{
    pthread_t thread;
    leaver = (struct leaver){.values = {7}};
    CHECK_EQ(pthread_create(&thread, NULL, leave_by_pthread, &leaver), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(leaver.exits, 1);
    CHECK_EQ(leaver.exited_with, 7);
    CHECK(leaver.same_thread);
}

CHILD(process_that_ends_with_a_value)
{
    static int value = 7;
    CHECK_EQ(iocp__thread_local_set(&value, other_exits), 0);
    exit(0);
}

/* Windows would tell: when other threads have been killed with locks in their hands. */
TEST(end_of_the_process_is_not_told)
{
    CHECK_EQ(test_child("process_that_ends_with_a_value"), 0);
}

CHILD(process_with_a_broken_invariant)
{
    iocp__assert(leaver.exits == 1);
}

TEST(broken_invariant_aborts)
{
    CHECK_EQ(test_child("process_with_a_broken_invariant"), TEST_ABORTED);
}
