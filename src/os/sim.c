/* The simulated system: threads, locks, parking, the clock, chance. Sockets are in sim_net.c.
 *
 * Threads are real ones, so that sanitizers and debuggers know them, of which one runs: the one
 * with the baton (`current`). Who has it decides who gets it next and lets that one go.
 * The baton is handed on outside of what TSan sees (this file is built without it; locks, parkers
 * and joins are told to it by name): so TSan finds what is ordered by nothing but the simulation.
 *
 * Invariants
 * 1. One thread of the run has the baton; all others wait for their `go`.
 * 2. Time moves only where a thread asks for it, computes, or where nobody can go on.
 * 3. `sim` is touched with the baton alone, or before and after a run.
 *
 * thread: READY ⇄ BLOCKED [iocp__sim_block] · READY → GONE [sim_thread_main] */
#include "os/sim.h"

#include "base/assert.h"
#include "os/sim_host.h"

#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef IOCP_SIM_TSAN /* the build has TSan, if not for this file */
#include <sanitizer/tsan_interface.h>
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#else
#define AnnotateIgnoreWritesBegin(file, line) ((void)0)
#define AnnotateIgnoreWritesEnd(file, line) ((void)0)
#define __tsan_acquire(address) ((void)(address))
#define __tsan_release(address) ((void)(address))
#endif

#define SIM_STREAMS (IOCP__SIM_FAULT + IOCP__SIM_FAULTS)
#define SIM_PARTS 4 /* of the bytes that decide */
#define SIM_IDLE_LOOKS_MAX 1000
#define SIM_TICK_NS 50 /* what asking for the time costs */

enum sim_state { SIM_READY = 1, SIM_BLOCKED, SIM_GONE };

struct sim_thread {
    pthread_t id;
    uint32_t go; /* slept on */
    uint32_t index;
    uint32_t state;
    uint32_t priority;
    uint32_t idle_looks;
    int computing;
    uint64_t (*wake_ns)(void *context);
    void *wake_context;
    uint64_t deadline_ns;
    uint64_t cpu_ns;
    uint64_t since_ns;
    struct iocp__sim_gate *gate;
    int counted; /* in gate->running */
    void (*run)(void *context);
    void *argument;
    void *local;
    void (*at_exit)(void *value);
    char name[16];
};

struct sim_event {
    uint64_t time_ns;
    uint64_t sequence;
    void (*fire)(void *context, uint64_t value);
    void *context;
    uint64_t value;
};

static struct {
    struct iocp__sim_config config;
    struct iocp__sim_counts counts;
    struct sim_thread **threads; /* all of the run, by index; gone ones too */
    struct sim_thread **live;    /* those that are not gone, in the same order */
    struct sim_thread **ready;   /* room for what sim_choose finds */
    uint32_t thread_count;
    uint32_t thread_room;
    uint32_t live_count;
    struct sim_thread *current;
    uint64_t now_ns;
    uint64_t random[SIM_STREAMS];
    size_t byte_next[SIM_PARTS]; /* of config.bytes */
    uint32_t countdown;          /* points until the next preemption */
    int by_priority;
    int faults_off;
    int running;
    uint32_t finished;        /* slept on */
    struct sim_event *events; /* heap */
    size_t event_count;
    size_t event_room;
    uint64_t event_sequence;
    void (*body)(void);
} sim;

static __thread struct sim_thread *sim_self;

void iocp__sim_point(void);

/* ---- Messages. */

static void sim_say(const char *kind, const char *format, va_list arguments)
{
    char text[512];
    vsnprintf(text, sizeof(text), format, arguments);
    fprintf(stderr, "%12.6f %-10s %s%s\n", (double)sim.now_ns / 1e6,
            sim_self ? sim_self->name : "-", kind, text);
}

void iocp__sim_trace(const char *format, ...)
{
    va_list arguments;
    if (!sim.config.trace)
        return;
    va_start(arguments, format);
    sim_say("", format, arguments);
    va_end(arguments);
}

static const char *sim_state_text(const struct sim_thread *thread)
{
    switch (thread->state) {
    case SIM_READY:
        return "ready";
    case SIM_BLOCKED:
        return thread->computing ? "computes" : "blocked";
    default:
        return "gone";
    }
}

void iocp__sim_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    sim_say("VIOLATION: ", format, arguments);
    va_end(arguments);
    for (uint32_t i = 0; i < sim.thread_count; i++)
        if (sim.threads[i]->state != SIM_GONE)
            fprintf(stderr, "             thread %-10s %s\n", sim.threads[i]->name,
                    sim_state_text(sim.threads[i]));
    fprintf(stderr, "sim: seed %llu failed\n", (unsigned long long)sim.config.seed);
    fflush(stderr);
    abort();
}

/* ---- Chance: splitmix64, one state for each stream. */

static uint64_t sim_mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

/* Every fourth byte is of the same part, so that a change of one disturbs few streams. */
static uint32_t sim_part(uint32_t stream)
{
    switch (stream) {
    case IOCP__SIM_SCHEDULE:
        return 0;
    case IOCP__SIM_MODEL:
        return 1;
    default:
        return stream >= IOCP__SIM_FAULT ? 2 : 3;
    }
}

/* Puts the next byte in the place of the upper bits; 0 when there is none. */
static int sim_decide(uint32_t stream, uint64_t *value)
{
    size_t *next = &sim.byte_next[sim_part(stream)];
    if (*next >= sim.config.byte_count)
        return 0;
    *value = *value >> 8 | (uint64_t)sim.config.bytes[*next] << 56;
    *next += SIM_PARTS;
    return 1;
}

static uint64_t sim_seeded(uint32_t stream)
{
    sim.random[stream] += UINT64_C(0x9e3779b97f4a7c15);
    return sim_mix(sim.random[stream]);
}

uint64_t iocp__sim_random(uint32_t stream)
{
    uint64_t value = sim_seeded(stream);
    (void)sim_decide(stream, &value);
    return value;
}

uint32_t iocp__sim_below(uint32_t stream, uint32_t count)
{
    if (!count)
        return 0;
    uint64_t value = sim_seeded(stream);
    if (sim_decide(stream, &value))
        return (uint32_t)((value >> 32) * count >> 32);
    return (uint32_t)(value % count);
}

int iocp__sim_chance(enum iocp__sim_fault fault)
{
    if (!sim.running || sim.faults_off || !sim.config.fault[fault])
        return 0;
    int hit = iocp__sim_below(IOCP__SIM_FAULT + (uint32_t)fault, 10000) < sim.config.fault[fault];
    sim.counts.faults[fault] += (uint64_t)hit;
    return hit;
}

void iocp__sim_faults_on(int on)
{
    sim.faults_off = !on;
}

int iocp__sim_faults_are_on(void)
{
    return !sim.faults_off;
}

uint64_t iocp__random(void)
{
    return iocp__sim_random(IOCP__SIM_LIBRARY);
}

/* ---- Memory of the simulation, which TSan is not to look at. */

void *iocp__sim_allocate(size_t size)
{
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    unsigned char *memory = calloc(1, size);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    iocp__assert(memory);
    return memory;
}

void iocp__sim_release(void *memory)
{
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    free(memory);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
}

/* ---- Events: a heap by time, then by the order in which they were asked for. */

static int sim_event_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->time_ns != b->time_ns ? a->time_ns < b->time_ns : a->sequence < b->sequence;
}

static void sim_event_swap(size_t a, size_t b)
{
    struct sim_event event = sim.events[a];
    sim.events[a] = sim.events[b];
    sim.events[b] = event;
}

void iocp__sim_at(uint64_t time_ns, void (*fire)(void *context, uint64_t value), void *context,
                  uint64_t value)
{
    if (sim.event_count == sim.event_room) {
        struct sim_event *before = sim.events;
        sim.event_room = sim.event_room ? sim.event_room * 2 : 64;
        sim.events = iocp__sim_allocate(sim.event_room * sizeof(*sim.events));
        for (size_t i = 0; i < sim.event_count; i++)
            sim.events[i] = before[i];
        iocp__sim_release(before);
    }
    size_t at = sim.event_count++;
    sim.events[at] = (struct sim_event){time_ns, sim.event_sequence++, fire, context, value};
    for (; at && sim_event_before(&sim.events[at], &sim.events[(at - 1) / 2]); at = (at - 1) / 2)
        sim_event_swap(at, (at - 1) / 2);
}

static struct sim_event sim_event_take(void)
{
    struct sim_event first = sim.events[0];
    size_t at = 0;
    sim.events[0] = sim.events[--sim.event_count];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < sim.event_count &&
            sim_event_before(&sim.events[child + 1], &sim.events[child]))
            child++;
        if (child >= sim.event_count || !sim_event_before(&sim.events[child], &sim.events[at]))
            return first;
        sim_event_swap(at, child);
        at = child;
    }
}

static uint64_t sim_fire_events(void)
{
    while (sim.event_count && sim.events[0].time_ns <= sim.now_ns) {
        struct sim_event event = sim_event_take();
        event.fire(event.context, event.value);
    }
    return sim.event_count ? sim.events[0].time_ns : UINT64_MAX;
}

/* ---- Who goes on. */

static void word_wait(uint32_t *word)
{
    while (!__atomic_load_n(word, __ATOMIC_ACQUIRE))
        iocp__sim_host_sleep(word);
    __atomic_store_n(word, 0, __ATOMIC_RELAXED);
}

static void word_let_go(uint32_t *word)
{
    __atomic_store_n(word, 1, __ATOMIC_RELEASE);
    iocp__sim_host_wake(word);
}

/* When a thread can go on. */
static uint64_t sim_wake_ns(const struct sim_thread *thread)
{
    uint64_t wake;
    switch (thread->state) {
    case SIM_READY:
        return 0;
    case SIM_BLOCKED:
        wake = thread->wake_ns ? thread->wake_ns(thread->wake_context) : UINT64_MAX;
        return wake < thread->deadline_ns ? wake : thread->deadline_ns;
    default:
        return UINT64_MAX;
    }
}

static struct sim_thread *sim_pick(struct sim_thread **ready, uint32_t count)
{
    if (!sim.by_priority)
        return ready[iocp__sim_below(IOCP__SIM_SCHEDULE, count)];
    struct sim_thread *best = ready[0];
    for (uint32_t i = 1; i < count; i++) {
        if (ready[i]->priority > best->priority)
            best = ready[i];
    }
    /* Nobody waits for ever: who polls for another's progress loses his priority some time. */
    if (iocp__sim_below(IOCP__SIM_SCHEDULE, 16) == 0)
        best->priority = (uint32_t)iocp__sim_random(IOCP__SIM_SCHEDULE);
    return best;
}

static void sim_forget_gone(void)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sim.live_count; i++) {
        if (sim.live[i]->state != SIM_GONE)
            sim.live[kept++] = sim.live[i];
    }
    sim.live_count = kept;
}

static struct sim_thread *sim_choose(void)
{
    sim.countdown = 0; /* what is asked here gives way to nobody */
    sim_forget_gone();
    for (;;) {
        uint64_t next = sim_fire_events();
        uint32_t count = 0;
        for (uint32_t i = 0; i < sim.live_count; i++) {
            uint64_t wake = sim_wake_ns(sim.live[i]);
            if (wake <= sim.now_ns)
                sim.ready[count++] = sim.live[i];
            else if (wake < next)
                next = wake;
        }
        if (++sim.counts.steps > sim.config.steps_max)
            iocp__sim_fail("no end after %llu steps", (unsigned long long)sim.config.steps_max);
        if (count)
            return sim_pick(sim.ready, count);
        if (next == UINT64_MAX)
            iocp__sim_fail("all threads sleep for ever");
        if (sim.config.quiet)
            sim.config.quiet(next);
        sim.now_ns = next;
        if (next > sim.config.time_max_ns)
            iocp__sim_fail("no end after %llu s of virtual time",
                           (unsigned long long)(next / 1000000000u));
    }
}

static void sim_reload(void)
{
    uint32_t most = sim.config.preempt * 2;
    sim.countdown = most ? 1 + iocp__sim_below(IOCP__SIM_SCHEDULE, most) : 0;
}

/* Hands the baton on; returns when the thread has it again. */
static void sim_switch(void)
{
    struct sim_thread *self = sim_self;
    struct sim_thread *next = sim_choose();
    sim_reload();
    sim.now_ns += iocp__sim_below(IOCP__SIM_SCHEDULE, 2000);
    if (next == self)
        return;
    sim.counts.switches++;
    sim.current = next;
    word_let_go(&next->go);
    word_wait(&self->go);
    iocp__assert(sim.current == self);
}

void iocp__sim_point(void)
{
    if (sim.running && sim.countdown && --sim.countdown == 0)
        sim_switch();
}

void iocp__sim_yield(void)
{
    sim_switch();
}

static void sim_gate_pause(struct sim_thread *thread)
{
    if (thread->gate && thread->counted)
        thread->gate->running--;
}

static void sim_gate_resume(struct sim_thread *thread)
{
    if (thread->gate && thread->counted)
        thread->gate->running++;
}

static void sim_wait(uint64_t (*wake_ns)(void *context), void *context, uint64_t deadline_ns)
{
    struct sim_thread *self = sim_self;
    self->wake_ns = wake_ns;
    self->wake_context = context;
    self->deadline_ns = deadline_ns;
    self->since_ns = sim.now_ns;
    self->state = SIM_BLOCKED;
    sim_switch();
    self->state = SIM_READY;
}

void iocp__sim_block(uint64_t (*wake_ns)(void *context), void *context, uint64_t deadline_ns)
{
    sim_gate_pause(sim_self);
    sim_wait(wake_ns, context, deadline_ns);
    sim_gate_resume(sim_self);
}

void iocp__sim_sleep(uint64_t ns)
{
    iocp__sim_block(NULL, NULL, sim.now_ns + ns);
}

void iocp__sim_compute(uint64_t ns)
{
    sim_self->computing = 1;
    sim_self->idle_looks = 0;
    sim_wait(NULL, NULL, sim.now_ns + ns);
    sim_self->computing = 0;
    sim_self->cpu_ns += ns;
}

uint32_t iocp__sim_thread_index(void)
{
    return sim_self->index;
}

void iocp__sim_looked(int idle)
{
    uint32_t most = sim.config.idle_looks_max ? sim.config.idle_looks_max : SIM_IDLE_LOOKS_MAX;
    sim_self->idle_looks = idle ? sim_self->idle_looks + 1 : 0;
    if (sim_self->idle_looks > most)
        iocp__sim_fail("a thread looks again and again, finds nothing and does not sleep");
}

int64_t iocp__sim_thread_since(uint32_t index)
{
    const struct sim_thread *thread = sim.threads[index];
    return thread->state == SIM_BLOCKED && !thread->computing ? (int64_t)thread->since_ns : -1;
}

uint32_t iocp__sim_thread_named(const char *name)
{
    for (uint32_t i = 0; i < sim.thread_count; i++) {
        if (sim.threads[i]->state != SIM_GONE && strcmp(sim.threads[i]->name, name) == 0)
            return i;
    }
    return UINT32_MAX;
}

int iocp__sim_inside(void)
{
    return sim.running && sim_self;
}

/* ---- The gate of a kernel that has one. */

void iocp__sim_gate_enter(struct iocp__sim_gate *gate)
{
    sim_self->gate = gate;
    sim_self->counted = 1;
    gate->running++;
}

void iocp__sim_gate_leave(void)
{
    sim_gate_pause(sim_self);
    sim_self->counted = 0;
}

void iocp__sim_gate_forget(struct iocp__sim_gate *gate)
{
    for (uint32_t i = 0; i < sim.thread_count; i++) {
        if (sim.threads[i]->gate == gate)
            sim.threads[i]->gate = NULL;
    }
}

/* ---- os.h: the clock, locks, parking. */

uint64_t iocp__sim_now_ns(void)
{
    return sim.now_ns;
}

uint64_t iocp__os_now_ns(void)
{
    sim.now_ns += SIM_TICK_NS;
    return sim.now_ns;
}

static uint64_t sim_lock_wake_ns(void *context)
{
    return ((struct iocp__lock *)context)->word ? UINT64_MAX : 0;
}

void iocp__lock_acquire(struct iocp__lock *lock)
{
    iocp__sim_point();
    /* Outside of a run there is one thread. */
    while (lock->word)
        sim_wait(sim_lock_wake_ns, lock, UINT64_MAX);
    lock->word = 1;
    __tsan_acquire(lock);
}

int iocp__lock_try(struct iocp__lock *lock)
{
    iocp__sim_point();
    if (lock->word)
        return 0;
    lock->word = 1;
    __tsan_acquire(lock);
    return 1;
}

void iocp__lock_release(struct iocp__lock *lock)
{
    iocp__assert(lock->word);
    __tsan_release(lock);
    lock->word = 0;
    iocp__sim_point();
}

/* A parker's word: 0 nothing, 1 a release is kept. */
static uint64_t sim_parker_wake_ns(void *context)
{
    return ((struct iocp__parker *)context)->word ? 0 : UINT64_MAX;
}

int iocp__parker_wait(struct iocp__parker *parker, uint64_t deadline_ns)
{
    iocp__sim_point();
    if (!parker->word)
        iocp__sim_block(sim_parker_wake_ns, parker, deadline_ns);
    if (!parker->word)
        return IOCP_ETIMEDOUT;
    parker->word = 0;
    __tsan_acquire(parker);
    return 0;
}

void iocp__parker_release(struct iocp__parker *parker)
{
    iocp__sim_point();
    __tsan_release(parker);
    parker->word = 1;
}

/* ---- os.h: threads. */

static struct sim_thread **sim_threads_moved(struct sim_thread **before, uint32_t count)
{
    struct sim_thread **moved = iocp__sim_allocate(sim.thread_room * sizeof(*moved));
    for (uint32_t i = 0; i < count; i++)
        moved[i] = before[i];
    iocp__sim_release(before);
    return moved;
}

static void sim_threads_grow(void)
{
    sim.thread_room = sim.thread_room ? sim.thread_room * 2 : 64;
    sim.threads = sim_threads_moved(sim.threads, sim.thread_count);
    sim.live = sim_threads_moved(sim.live, sim.live_count);
    sim.ready = sim_threads_moved(sim.ready, 0);
}

static struct sim_thread *sim_thread_new(const char *name, void (*run)(void *context),
                                         void *context)
{
    struct sim_thread *thread = iocp__sim_allocate(sizeof(*thread));
    if (sim.thread_count == sim.thread_room)
        sim_threads_grow();
    snprintf(thread->name, sizeof(thread->name), "%s", name);
    thread->run = run;
    thread->argument = context;
    thread->index = sim.thread_count;
    thread->priority = (uint32_t)iocp__sim_random(IOCP__SIM_SCHEDULE);
    thread->state = SIM_READY;
    sim.threads[sim.thread_count++] = thread;
    sim.live[sim.live_count++] = thread;
    return thread;
}

static void sim_thread_exit(struct sim_thread *thread)
{
    /* As a key's destructor: again as long as it sets something. */
    while (thread->local) {
        void *value = thread->local;
        thread->local = NULL;
        thread->at_exit(value);
    }
    iocp__sim_gate_leave();
    thread->state = SIM_GONE;
}

static void *sim_thread_main(void *argument)
{
    struct sim_thread *self = argument;
    sim_self = self;
    word_wait(&self->go);
    self->run(self->argument);
    sim_thread_exit(self);
    if (self->index == 0) {
        word_let_go(&sim.finished);
        return NULL;
    }
    struct sim_thread *next = sim_choose();
    sim_reload();
    sim.current = next;
    sim.counts.switches++;
    word_let_go(&next->go);
    return NULL;
}

int iocp__thread_start(struct iocp__thread *thread, const char *name, void (*run)(void *context),
                       void *context)
{
    if (iocp__sim_chance(IOCP__SIM_THREADS))
        return IOCP_EAGAIN;
    struct sim_thread *started = sim_thread_new(name, run, context);
    int error = pthread_create(&started->id, NULL, sim_thread_main, started);
    iocp__assert(error == 0);
    thread->id = started->index;
    iocp__sim_trace("starts %s", name);
    return 0;
}

static uint64_t sim_join_wake_ns(void *context)
{
    return ((struct sim_thread *)context)->state == SIM_GONE ? 0 : UINT64_MAX;
}

void iocp__thread_join(struct iocp__thread *thread)
{
    struct sim_thread *other = sim.threads[thread->id];
    if (other->state != SIM_GONE)
        iocp__sim_block(sim_join_wake_ns, other, UINT64_MAX);
    pthread_join(other->id, NULL);
}

void iocp__thread_view_self(struct iocp__thread_view *view)
{
    view->system_id = (int32_t)sim_self->index;
    view->cpu_clock = 0;
}

uint64_t iocp__thread_cpu_ns(const struct iocp__thread_view *view)
{
    const struct sim_thread *thread = sim.threads[view->system_id];
    return thread->cpu_ns + (thread->computing ? sim.now_ns - thread->since_ns : 0);
}

int iocp__thread_asleep(const struct iocp__thread_view *view)
{
    const struct sim_thread *thread = sim.threads[view->system_id];
    /* Looking takes a descriptor for a moment, as on Linux. */
    if (thread->state == SIM_GONE || iocp__sim_handles_are_out())
        return -1;
    return thread->state == SIM_BLOCKED && !thread->computing;
}

int iocp__thread_local_set(void *value, void (*at_exit)(void *value))
{
    sim_self->local = value;
    sim_self->at_exit = at_exit;
    return 0;
}

void iocp__threads_interrupt_prepare(void)
{
}

void iocp__threads_interrupt(void)
{
}

uint32_t iocp__cpu_count(void)
{
    return 2;
}

int iocp_error_from_os(int os_error)
{
    if (os_error == 0)
        return IOCP_OK;
    int error = 1000 - os_error;
    return error < 0 && error >= IOCP_EUNKNOWN ? error : IOCP_EUNKNOWN;
}

/* ---- A run. */

static void sim_body(void *context)
{
    (void)context;
    sim.body();
    for (uint32_t i = 1; i < sim.thread_count; i++) {
        if (sim.threads[i]->state != SIM_GONE)
            iocp__sim_fail("thread %s is still there", sim.threads[i]->name);
    }
}

void iocp__sim_run(const struct iocp__sim_config *config, void (*body)(void))
{
    memset(&sim, 0, sizeof(sim));
    sim.config = *config;
    sim.body = body;
    for (uint32_t i = 0; i < SIM_STREAMS; i++)
        sim.random[i] = sim_mix(config->seed * 64 + i + 1);
    for (uint32_t part = 0; part < SIM_PARTS; part++)
        sim.byte_next[part] = part;
    sim.now_ns = 1000000;
    sim.by_priority = (int)iocp__sim_below(IOCP__SIM_SCHEDULE, 2);
    iocp__sim_net_begin(config);
    sim_reload();
    struct sim_thread *first = sim_thread_new("main", sim_body, NULL);
    int error = pthread_create(&first->id, NULL, sim_thread_main, first);
    iocp__assert(error == 0);
    sim.running = 1;
    sim.current = first;
    word_let_go(&first->go);
    word_wait(&sim.finished);
    pthread_join(first->id, NULL);
    sim.running = 0;
    sim.counts.time_ns = sim.now_ns;
    iocp__sim_net_end();
    for (uint32_t i = 0; i < sim.thread_count; i++)
        iocp__sim_release(sim.threads[i]);
    iocp__sim_release(sim.threads);
    iocp__sim_release(sim.live);
    iocp__sim_release(sim.ready);
    sim.threads = NULL;
    sim.thread_count = 0;
    iocp__sim_release(sim.events);
    sim.events = NULL;
    sim.event_count = 0;
}

const struct iocp__sim_counts *iocp__sim_counts(void)
{
    return &sim.counts;
}

void iocp__sim_count_connection(void)
{
    sim.counts.connections++;
}

void iocp__sim_count_bytes(uint64_t size)
{
    sim.counts.bytes += size;
}
