/* The backend on epoll: the lane with its bell, its wait and its watches. What objects wait for is
 * in epoll_slot.c. Reads and writes of files, of which epoll tells nothing, go to files.c.
 *
 * Invariants
 * 1. A lane does not sleep while `finished` or `again` has something, or `rung` is set.
 * 2. Who rings (a helper of files.c, a buffer that came back, the port) publishes first. `wait`
 *    takes the ring back before it looks at what was published: nothing falls between the two.
 * 3. The eventfd is written only when someone may sleep on it: the holder (`asleep`) or the waits
 *    of other lanes (`watchers`). It is never read: each write is an edge.
 * 4. A lane that is destroyed is watched by no lane that waits again.
 *
 * A wait: what is finished [skip], or fetch (asleep or not) → events → turns; then starved → files
 */
#include "backend/epoll.h"

#include "backend/buffer.h"
#include "backend/files.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"
#include "os/os.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EPOLL_SKIPS 4        /* waits in a row that hand out answers without asking the kernel */
#define EPOLL_SYS_PWAIT2 441 /* the number everywhere but on alpha; C libraries know it late */

/* ---- The bell. */

static void epoll_write_bell(struct iocp__epoll *lane)
{
    uint64_t one = 1;
    ssize_t written = write(lane->bell, &one, sizeof(one));

    /* It fails only at 2^64 rings. */
    iocp__assert(written == (ssize_t)sizeof(one));
}

static void epoll_bell(struct iocp__kernel *kernel)
{
    struct iocp__epoll *lane = iocp__epoll_of(kernel);

    /* One order of `rung` with `asleep` and with `watchers`: either the ringer sees that somebody
     * sleeps, or who goes to sleep sees `rung`. One of several ringers writes. */
    uint32_t rung = iocp__exchange_seq(&lane->rung, 1);
    int asleep = iocp__load_seq(&lane->asleep) && iocp__exchange_seq(&lane->asleep, 0);

    if (asleep || (!rung && iocp__load_seq(&lane->watchers)))
        epoll_write_bell(lane);
}

/* For the helpers of files.c. */
static void epoll_ring(void *context)
{
    struct iocp__epoll *lane = context;
    epoll_bell(&lane->base);
}

void iocp__epoll_refill(void *context)
{
    struct iocp__epoll *lane = context;

    /* Release: with `rung` behind it the holder that sees the one sees the other. */
    iocp__store_release(&lane->refilled, 1);
    epoll_bell(&lane->base);
}

/* After each change of `finished` and `again`: a lane that is let go with something in it ends the
 * waits that watch it. */
static void epoll_tell(struct iocp__epoll *lane)
{
    uint32_t loaded = lane->finished.first || !iocp__link_alone(&lane->again);

    /* Relaxed: watch is called while nobody holds the lane, so the port orders it with this. */
    if (loaded == iocp__load_relaxed(&lane->loaded))
        return;
    iocp__store_relaxed(&lane->loaded, loaded);
    if (loaded && iocp__load_relaxed(&lane->watchers))
        epoll_write_bell(lane);
}

/* ---- Operations and objects. */

static int epoll_op_is_file(const struct iocp_op *op)
{
    return op->kind == IOCP_OP_READ || op->kind == IOCP_OP_WRITE;
}

static void epoll_submit_file(struct iocp__epoll *lane, struct iocp_op *op)
{
    int error = 0;

    if (!lane->files)
        error = iocp__files_create(epoll_ring, lane, &lane->files);
    if (error == 0)
        error = iocp__files_submit(lane->files, op);
    if (error < 0)
        iocp__op_done(&lane->finished, op, error, 0);
}

static void epoll_submit(struct iocp__kernel *kernel, struct iocp_op *op)
{
    struct iocp__epoll *lane = iocp__epoll_of(kernel);

    if (epoll_op_is_file(op))
        epoll_submit_file(lane, op);
    else
        iocp__epoll_slot_begin(lane, op);
    epoll_tell(lane);
}

static void epoll_cancel(struct iocp__kernel *kernel, struct iocp_op *op)
{
    struct iocp__epoll *lane = iocp__epoll_of(kernel);

    if (!epoll_op_is_file(op))
        iocp__epoll_slot_cancel(lane, op);
    else if (lane->files && iocp__files_cancel(lane->files, op))
        iocp__op_done(&lane->finished, op, IOCP_ECANCELED, 0);
    epoll_tell(lane);
}

/* A slot is made with the first op that needs one. */
static void epoll_attach(struct iocp__kernel *kernel, struct iocp_object *object)
{
    (void)kernel;
    object->backend_data = 0;
}

static void epoll_detach(struct iocp__kernel *kernel, struct iocp_object *object)
{
    struct iocp__epoll *lane = iocp__epoll_of(kernel);

    iocp__epoll_slot_leave(lane, object);
    epoll_tell(lane);
}

/* ---- Waiting. */

/* Nanoseconds until `deadline_ns`, 0 when it is over. */
static uint64_t epoll_left_ns(uint64_t deadline_ns)
{
    uint64_t now_ns = iocp__os_now_ns();
    return deadline_ns > now_ns ? deadline_ns - now_ns : 0;
}

static struct timespec epoll_time(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u),
                             .tv_nsec = (long)(ns % 1000000000u)};
}

/* Sleeps on this lane and on those that it watches. A watch that fired is forgotten. */
static void epoll_sleep_watching(struct iocp__epoll *lane, uint64_t deadline_ns)
{
    struct timespec time = {0};
    uint32_t kept = 0;

    lane->polls[0] = (struct pollfd){.fd = lane->descriptor, .events = POLLIN};
    for (uint32_t i = 0; i < lane->watch_count; i++)
        lane->polls[i + 1] = (struct pollfd){.fd = lane->watches[i].descriptor, .events = POLLIN};
    if (deadline_ns != UINT64_MAX)
        time = epoll_time(epoll_left_ns(deadline_ns));
    if (ppoll(lane->polls, lane->watch_count + 1, deadline_ns == UINT64_MAX ? NULL : &time, NULL) <=
        0)
        return;
    for (uint32_t i = 0; i < lane->watch_count; i++) {
        if (lane->polls[i + 1].revents)
            /* Relaxed: a late look makes the other write its bell once for nothing. */
            iocp__sub_relaxed(&lane->watches[i].lane->watchers, 1);
        else
            lane->watches[kept++] = lane->watches[i];
    }
    lane->watch_count = kept;
}

static int epoll_fetch_ms(struct iocp__epoll *lane, uint64_t left_ns)
{
    /* Up, so that it never returns before the deadline. */
    uint64_t left_ms = left_ns / 1000000u + (left_ns % 1000000u != 0);
    return epoll_wait(lane->descriptor, lane->events, IOCP__EPOLL_EVENTS,
                      left_ms < INT_MAX ? (int)left_ms : INT_MAX);
}

static int epoll_sleep(struct iocp__epoll *lane, uint64_t deadline_ns)
{
    struct { /* as the kernel has it, also where time_t has 32 bits */
        int64_t seconds;
        int64_t nanoseconds;
    } time;
    uint64_t left_ns;
    long count;

    if (lane->watch_count) {
        epoll_sleep_watching(lane, deadline_ns);
        return epoll_wait(lane->descriptor, lane->events, IOCP__EPOLL_EVENTS, 0);
    }
    if (deadline_ns == UINT64_MAX)
        return epoll_wait(lane->descriptor, lane->events, IOCP__EPOLL_EVENTS, -1);
    left_ns = epoll_left_ns(deadline_ns);
    if (lane->no_pwait2)
        return epoll_fetch_ms(lane, left_ns);
    time.seconds = (int64_t)(left_ns / 1000000000u);
    time.nanoseconds = (int64_t)(left_ns % 1000000000u);
    count = syscall(EPOLL_SYS_PWAIT2, lane->descriptor, lane->events, IOCP__EPOLL_EVENTS, &time,
                    NULL, 0);
    /* Linux before 5.11 lacks it; filters made before it refuse it with EPERM. */
    if (count < 0 && (errno == ENOSYS || errno == EPERM)) {
        lane->no_pwait2 = 1;
        return epoll_fetch_ms(lane, left_ns);
    }
    return (int)count;
}

/* Fetches events, and sleeps until there are any if that is allowed. Returns their number. */
static int epoll_fetch(struct iocp__epoll *lane, uint64_t deadline_ns)
{
    int count;

    if (deadline_ns == 0 || lane->watch_hit || lane->finished.first ||
        !iocp__link_alone(&lane->again)) {
        count = epoll_wait(lane->descriptor, lane->events, IOCP__EPOLL_EVENTS, 0);
    } else {
        /* See epoll_bell. */
        iocp__store_seq(&lane->asleep, 1);
        if (iocp__load_seq(&lane->rung))
            count = epoll_wait(lane->descriptor, lane->events, IOCP__EPOLL_EVENTS, 0);
        else
            count = epoll_sleep(lane, deadline_ns);
        /* Relaxed: who still sees it set writes the bell once for nothing. */
        iocp__store_relaxed(&lane->asleep, 0);
    }
    lane->watch_hit = 0;
    /* An interrupted wait is a wait with nothing; io_uring of the user's interrupts it, for one. */
    iocp__assert(count >= 0 || errno == EINTR);
    return count < 0 ? 0 : count;
}

/* Moves all of `from` behind `to`. */
static void epoll_move(struct iocp__link *to, struct iocp__link *from)
{
    while (!iocp__link_alone(from)) {
        struct iocp__link *link = from->next;
        iocp__link_remove(link);
        iocp__link_insert(to, link);
    }
}

static void epoll_wait_lane(struct iocp__kernel *kernel, uint64_t deadline_ns,
                            struct iocp__queue *done)
{
    struct iocp__epoll *lane = iocp__epoll_of(kernel);
    int skip = lane->finished.first && lane->skips < EPOLL_SKIPS;
    int count = skip ? 0 : epoll_fetch(lane, deadline_ns);
    struct iocp__link turn;

    lane->skips = skip ? lane->skips + 1 : 0;
    /* Acquire: who sees the ring sees what it was rung for, here and, behind the return, in the
     * port. A ring from here on is for the next wait. */
    if (iocp__load_relaxed(&lane->rung))
        (void)iocp__exchange_acq_rel(&lane->rung, 0);
    if (!skip) {
        iocp__link_init(&turn);
        epoll_move(&turn, &lane->again);
        for (int i = 0; i < count; i++)
            if (lane->events[i].data.u64 != IOCP__EPOLL_TAG_BELL)
                iocp__epoll_slot_event(lane, &lane->events[i]);
        iocp__epoll_slot_serve(lane, &turn);
    }
    /* Skipped or not: the ring that told of a buffer was taken back above. */
    iocp__epoll_slot_serve_starved(lane);
    if (lane->files)
        iocp__files_collect(lane->files, &lane->finished);
    iocp__queue_join(done, &lane->finished);
    epoll_tell(lane);
}

/* ---- Watching. */

static int epoll_widen_watches(struct iocp__epoll *lane)
{
    uint32_t room = lane->watch_room ? lane->watch_room * 2 : 8;
    struct iocp__epoll_watch *watches;
    struct pollfd *polls;

    if (lane->watch_count < lane->watch_room)
        return 0;
    watches = iocp__allocate(room * sizeof(*watches));
    polls = iocp__allocate((room + 1) * sizeof(*polls));
    if (!watches || !polls)
        goto fail;
    if (lane->watch_count)
        memcpy(watches, lane->watches, lane->watch_count * sizeof(*watches));
    iocp__release(lane->watches, lane->watch_room * sizeof(*watches));
    iocp__release(lane->polls, (lane->watch_room + 1) * sizeof(*polls));
    lane->watches = watches;
    lane->polls = polls;
    lane->watch_room = room;
    return 0;
fail:
    iocp__release(watches, room * sizeof(*watches));
    iocp__release(polls, (room + 1) * sizeof(*polls));
    return IOCP_ENOMEM;
}

/* The other lane's descriptor is asked for by poll(2) beside this one's, and not put into this one:
 * epoll descriptors must not watch each other in a circle, which lanes come to do in time. */
static void epoll_watch(struct iocp__kernel *kernel, struct iocp__kernel *other)
{
    struct iocp__epoll *lane = iocp__epoll_of(kernel);
    struct iocp__epoll *watched = iocp__epoll_of(other);
    uint32_t i = 0;

    while (i < lane->watch_count && lane->watches[i].lane != watched)
        i++;
    if (i == lane->watch_count) {
        if (epoll_widen_watches(lane) < 0) {
            lane->watch_hit = 1; /* the caller asks again after a wait for nothing */
            return;
        }
        lane->watches[i].lane = watched;
        lane->watches[i].descriptor = watched->descriptor;
        lane->watch_count++;
        /* In one order with the `rung` below: see epoll_bell. */
        iocp__add_seq(&watched->watchers, 1);
    }
    if (iocp__load_seq(&watched->rung) || iocp__load_seq(&watched->loaded))
        lane->watch_hit = 1;
}

/* ---- Lanes. */

static void epoll_free(struct iocp__epoll *lane)
{
    if (lane->bell >= 0)
        close(lane->bell);
    if (lane->descriptor >= 0)
        close(lane->descriptor);
    iocp__release(lane, sizeof(*lane));
}

static int epoll_open(struct iocp__epoll *lane)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = IOCP__EPOLL_TAG_BELL};

    lane->descriptor = epoll_create1(EPOLL_CLOEXEC);
    if (lane->descriptor < 0)
        return errno;
    lane->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (lane->bell < 0)
        return errno;
    return epoll_ctl(lane->descriptor, EPOLL_CTL_ADD, lane->bell, &event) < 0 ? errno : 0;
}

static int epoll_create_lane(const struct iocp__kernel_config *config,
                             struct iocp__kernel **out_kernel)
{
    struct iocp__epoll *lane = iocp__allocate_zero(sizeof(*lane));
    int os_error;

    if (!lane)
        return IOCP_ENOMEM;
    lane->base.backend = &iocp__backend_epoll;
    lane->base.pool = config->pool;
    lane->descriptor = -1;
    lane->bell = -1;
    iocp__queue_init(&lane->finished);
    iocp__link_init(&lane->again);
    iocp__link_init(&lane->starved);
    iocp__link_init(&lane->free);
    os_error = epoll_open(lane);
    if (os_error) {
        epoll_free(lane);
        return iocp_error_from_os(os_error);
    }
    *out_kernel = &lane->base;
    return 0;
}

static void epoll_destroy(struct iocp__kernel *kernel)
{
    struct iocp__epoll *lane = iocp__epoll_of(kernel);

    iocp__assert(!lane->finished.first);
    iocp__assert(iocp__link_alone(&lane->again) && iocp__link_alone(&lane->starved));
    iocp__files_destroy(lane->files);
    (void)iocp__pool_arm(lane->base.pool, NULL, NULL);
    iocp_buffer_unref(lane->spare);
    iocp__epoll_slot_free_all(lane);
    iocp__release(lane->watches, lane->watch_room * sizeof(*lane->watches));
    iocp__release(lane->polls, (lane->watch_room + 1) * sizeof(*lane->polls));
    epoll_free(lane);
}

/* A bell rung must come out of epoll. */
static int epoll_probe(char *text, size_t size)
{
    struct iocp__epoll *lane = iocp__allocate_zero(sizeof(*lane));
    int os_error = ENOMEM;

    if (lane) {
        lane->descriptor = -1;
        lane->bell = -1;
        os_error = epoll_open(lane);
        if (!os_error) {
            epoll_write_bell(lane);
            os_error =
                epoll_wait(lane->descriptor, lane->events, IOCP__EPOLL_EVENTS, 0) == 1 ? 0 : EIO;
        }
        epoll_free(lane);
    }
    if (!os_error)
        return 0;
    if (text && size)
        snprintf(text, size, "epoll does not work here: %s",
                 iocp_error_text(iocp_error_from_os(os_error)));
    return iocp__probe_error(os_error);
}

const struct iocp__backend iocp__backend_epoll = {
    .name = "epoll",
    .kind = IOCP_BACKEND_EPOLL,
    .caps = 0,
    .probe = epoll_probe,
    .create = epoll_create_lane,
    .destroy = epoll_destroy,
    .attach = epoll_attach,
    .detach = epoll_detach,
    .submit = epoll_submit,
    .cancel = epoll_cancel,
    .wait = epoll_wait_lane,
    .bell = epoll_bell,
    .watch = epoll_watch,
};
