/* What the library takes from the system: locks, parking, threads, the clock, errors. Sockets are
 * in os_socket.c. */
#include "os/os.h"
#include "base/atomic.h"
#include "support/check.h"

#include <iocp/memory.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define THREADS 4

static void start(struct iocp__thread *thread, const char *name, void (*run)(void *context),
                  void *context)
{
    CHECK_OK(iocp__thread_start(thread, name, run, context));
}

/* ---- Clock, processors, chance. */

TEST(clock_never_goes_back)
{
    uint64_t last = iocp__os_now_ns();
    CHECK_GT(last, 0);
    for (int i = 0; i < 10000; i++) {
        uint64_t now = iocp__os_now_ns();
        CHECK_GE(now, last);
        last = now;
    }
}

TEST(cpu_count_respects_the_affinity)
{
    cpu_set_t before, one;
    int cpu = 0;
    CHECK_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
    CHECK_EQ(iocp__cpu_count(), CPU_COUNT(&before));
    while (!CPU_ISSET(cpu, &before))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    CHECK_EQ(iocp__cpu_count(), 1);
}

TEST(random_values_differ)
{
    uint64_t seen[100];
    for (int i = 0; i < 100; i++) {
        seen[i] = iocp__random();
        for (int j = 0; j < i; j++)
            CHECK(seen[i] != seen[j]);
    }
}

/* ---- Errors. */

TEST(system_errors_have_their_counterpart)
{
    CHECK_EQ(iocp_error_from_os(0), IOCP_OK);
    CHECK_EQ(iocp_error_from_os(EPIPE), IOCP_EPIPE);
    CHECK_EQ(iocp_error_from_os(ECONNRESET), IOCP_ECONNRESET);
    CHECK_EQ(iocp_error_from_os(ECONNREFUSED), IOCP_ECONNREFUSED);
    CHECK_EQ(iocp_error_from_os(ECONNABORTED), IOCP_ECONNABORTED);
    CHECK_EQ(iocp_error_from_os(EMFILE), IOCP_EMFILE);
    CHECK_EQ(iocp_error_from_os(ENFILE), IOCP_EMFILE);
    CHECK_EQ(iocp_error_from_os(EACCES), IOCP_EPERM);
    CHECK_EQ(iocp_error_from_os(EPERM), IOCP_EPERM);
    CHECK_EQ(iocp_error_from_os(EAGAIN), IOCP_EAGAIN);
    CHECK_EQ(iocp_error_from_os(EWOULDBLOCK), IOCP_EAGAIN);
    CHECK_EQ(iocp_error_from_os(ENOTSOCK), IOCP_EBADHANDLE);
    CHECK_EQ(iocp_error_from_os(EBADF), IOCP_EBADHANDLE);
    CHECK_EQ(iocp_error_from_os(ETIMEDOUT), IOCP_ETIMEDOUT);
    CHECK_EQ(iocp_error_from_os(ENOBUFS), IOCP_ENOBUFS);
    CHECK_EQ(iocp_error_from_os(ENOMEM), IOCP_ENOMEM);
    CHECK_EQ(iocp_error_from_os(ECANCELED), IOCP_ECANCELED);
    CHECK_EQ(iocp_error_from_os(ENOTCONN), IOCP_ENOTCONN);
    CHECK_EQ(iocp_error_from_os(EISCONN), IOCP_EISCONN);
    CHECK_EQ(iocp_error_from_os(ENETUNREACH), IOCP_ENETUNREACH);
    CHECK_EQ(iocp_error_from_os(EHOSTUNREACH), IOCP_EHOSTUNREACH);
    CHECK_EQ(iocp_error_from_os(EADDRINUSE), IOCP_EADDRINUSE);
    CHECK_EQ(iocp_error_from_os(EADDRNOTAVAIL), IOCP_EADDRNOTAVAIL);
    CHECK_EQ(iocp_error_from_os(EMSGSIZE), IOCP_EMSGSIZE);
    CHECK_EQ(iocp_error_from_os(EOPNOTSUPP), IOCP_ENOTSUP);
    CHECK_EQ(iocp_error_from_os(ENOTSUP), IOCP_ENOTSUP);
    CHECK_EQ(iocp_error_from_os(EINVAL), IOCP_EINVAL);
    CHECK_EQ(iocp_error_from_os(EFAULT), IOCP_EFAULT);
    CHECK_EQ(iocp_error_from_os(EEXIST), IOCP_EEXIST);
    CHECK_EQ(iocp_error_from_os(ENOENT), IOCP_ENOENT);
    CHECK_EQ(iocp_error_from_os(EIO), IOCP_EIO);
}

TEST(any_number_of_the_system_is_an_error)
{
    for (int number = -200; number < 1000; number++) {
        int error = iocp_error_from_os(number);
        CHECK((number == 0) == (error == 0));
        CHECK_LE(error, 0);
        CHECK_GE(error, IOCP_EUNKNOWN);
    }
    CHECK_EQ(iocp_error_from_os(4711), IOCP_EUNKNOWN);
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
            sched_yield();
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
    int pipe[2];
    int result;
    uint32_t stop;
};

static void subject_is_known(struct subject *subject)
{
    iocp__thread_view_self(&subject->view);
    iocp__parker_release(&subject->known);
}

/* Starts it and waits until its view is there. */
static void subject_start(struct subject *subject, const char *name, void (*run)(void *context))
{
    start(&subject->thread, name, run, subject);
    CHECK_EQ(iocp__parker_wait(&subject->known, UINT64_MAX), 0);
}

/* Until the watch sees that state; the time limit of the test is the bound. */
static void await_asleep(const struct subject *subject, int asleep)
{
    while (iocp__thread_asleep(&subject->view) != asleep)
        sched_yield();
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
        await_asleep(&subjects[i], 1);
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
    await_asleep(&subject, 1);
    CHECK_EQ(iocp__load_acquire(&subject.stop), 0);
    iocp__parker_release(&subject.parker);
    iocp__thread_join(&subject.thread);
    CHECK_EQ(subject.result, 0);
}

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

TEST(signals_do_not_end_a_park)
{
    struct subject subject = {.result = 99};
    struct sigaction action = {.sa_handler = count_signal}; /* no SA_RESTART: EINTR */
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    subject_start(&subject, "parked", park_with_signals);
    for (uint32_t i = 1; i <= 20; i++) {
        await_asleep(&subject, 1);
        CHECK_EQ(pthread_kill((pthread_t)subject.thread.id, SIGUSR1), 0);
        while (iocp__load_relaxed(&signals) != i)
            sched_yield();
    }
    await_asleep(&subject, 1);
    CHECK_EQ(iocp__load_acquire(&subject.stop), 0);
    iocp__parker_release(&subject.parker);
    iocp__thread_join(&subject.thread);
    CHECK_EQ(subject.result, 0);
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

/* ---- Threads. */

struct portrait {
    char name[64];
    sigset_t mask;
    void *context;
};

static void take_portrait(void *context)
{
    struct portrait *portrait = context;
    portrait->context = context;
    CHECK_EQ(pthread_getname_np(pthread_self(), portrait->name, sizeof(portrait->name)), 0);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &portrait->mask), 0);
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
    start(&thread, "a-name-that-is-too-long", take_portrait, &portrait);
    iocp__thread_join(&thread);
    CHECK_STR(portrait.name, "a-name-that-is-");
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(thread_takes_no_signals_and_its_maker_still_does)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE, SIGCHLD};
    struct portrait portrait;
    struct iocp__thread thread;
    sigset_t mask;
    start(&thread, "deaf", take_portrait, &portrait);
    iocp__thread_join(&thread);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        CHECK_EQ(sigismember(&portrait.mask, numbers[i]), 1);
        CHECK_EQ(sigismember(&mask, numbers[i]), 0);
    }
    CHECK_EQ(sigismember(&portrait.mask, SIGRTMIN), 1);
    CHECK_EQ(sigismember(&portrait.mask, SIGRTMAX), 1);
}

TEST(thread_without_memory_is_refused)
{
    struct portrait portrait;
    struct iocp__thread thread;
    iocp_memory_fail(1, 0);
    CHECK_EQ(iocp__thread_start(&thread, "none", take_portrait, &portrait), IOCP_ENOMEM);
    CHECK_EQ(iocp_memory_count(), 0);
}

static void read_pipe(void *context)
{
    struct subject *subject = context;
    char byte;
    subject_is_known(subject);
    CHECK_EQ(read(subject->pipe[0], &byte, 1), 1);
}

static void spin(void *context)
{
    struct subject *subject = context;
    subject_is_known(subject);
    while (!iocp__load_acquire(&subject->stop))
        continue;
}

TEST(thread_in_a_blocking_read_is_asleep)
{
    struct subject subject = {0};
    uint64_t before_ns, after_ns;
    CHECK_EQ(pipe(subject.pipe), 0);
    subject_start(&subject, "reader", read_pipe);
    await_asleep(&subject, 1);
    /* It may be seen so on its last steps to sleep; from then on its processor time stands still.
     */
    after_ns = iocp__thread_cpu_ns(&subject.view);
    do {
        before_ns = after_ns;
        sched_yield();
        after_ns = iocp__thread_cpu_ns(&subject.view);
    } while (before_ns != after_ns);
    CHECK_GT(after_ns, 0);
    CHECK_EQ(iocp__thread_asleep(&subject.view), 1);
    CHECK_EQ(write(subject.pipe[1], "x", 1), 1);
    iocp__thread_join(&subject.thread);
}

TEST(thread_that_computes_is_awake)
{
    struct subject subject = {0};
    uint64_t before_ns;
    subject_start(&subject, "spinner", spin);
    await_asleep(&subject, 0);
    before_ns = iocp__thread_cpu_ns(&subject.view);
    while (iocp__thread_cpu_ns(&subject.view) < before_ns + 1000000)
        sched_yield();
    await_asleep(&subject, 0);
    iocp__store_release(&subject.stop, 1);
    iocp__thread_join(&subject.thread);
}

TEST(name_of_a_thread_does_not_deceive_the_watch)
{
    static const char *const names[] = {"a) R 1", ") R", "))))))))))))))", "(S) S", "a\nR) R"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct subject subject = {0};
        CHECK_EQ(pipe(subject.pipe), 0);
        subject_start(&subject, names[i], read_pipe);
        await_asleep(&subject, 1);
        CHECK_EQ(write(subject.pipe[1], "x", 1), 1);
        iocp__thread_join(&subject.thread);
        close(subject.pipe[0]);
        close(subject.pipe[1]);
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct subject subject = {0};
        subject_start(&subject, "(S) S) S", spin);
        await_asleep(&subject, 0);
        iocp__store_release(&subject.stop, 1);
        iocp__thread_join(&subject.thread);
    }
}

TEST(thread_that_is_gone_cannot_be_told)
{
    struct subject subject = {0};
    subject_start(&subject, "gone", park);
    iocp__parker_release(&subject.parker);
    iocp__thread_join(&subject.thread);
    /* The kernel lets join return a little before the thread has left /proc. */
    await_asleep(&subject, -1);
    while (iocp__thread_cpu_ns(&subject.view) != 0)
        sched_yield();
}

/* ---- The slot of the thread. */

struct leaver {
    int values[4]; /* what to set, one after the other; -1: NULL */
    int exits;
    int exited_with;
    int same_thread;
    pthread_t self;
};

static struct leaver leaver;

static void leaver_exits(void *value)
{
    leaver.exits++;
    leaver.exited_with = *(int *)value;
    leaver.same_thread = pthread_equal(pthread_self(), leaver.self);
}

static void other_exits(void *value)
{
    (void)value;
    FAIL("the function that was replaced ran");
}

static void leave(void *context)
{
    struct leaver *self = context;
    self->self = pthread_self();
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
