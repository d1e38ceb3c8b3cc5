/* io_uring as a backend: a ring per lane. This file has the lane: what is given to the kernel, the
 * wait, the bell and the watch. What an operation is, is in uring_op.c.
 *
 * Its holder changes while the one before is blocked, computes or has exited, and completions must
 * come all the same. So the ring has no DEFER_TASKRUN, which refuses other threads (EEXIST). It has
 * COOP_TASKRUN, which saves an interrupt per completion (ARCHITECTURE.md has the figures); a
 * submitter that computes finishes its requests only when it is interrupted, by the watch
 * (IOCP__CAP_COOPERATIVE) or the timer of the kernel.
 *
 * 1. Entries are written, and the system calls made, by the holder alone; only the bell is others'.
 * 2. The kernel sees new entries with the next system call: with `wait`, or before when the queue
 * is full.
 * 3. No completion is lost: what does not fit in the queue the kernel keeps (IORING_FEAT_NODROP)
 * and `reap` fetches.
 * 4. `rung` is 1 from the first ring of the bell until a wait ends for it. Who sets it writes to
 * the eventfd; a poll request in the ring turns the write into a completion, which wakes the wait.
 * The completion alone means nothing: it may come after the wait that `rung` has ended.
 * 5. `unreaped` is 1 while answers lie in `finished`, entries are not given to the kernel or
 * starved streams have to be looked at: what a watch cannot see at the descriptor of the ring. */
#include "backend/uring.h"
#include "backend/buffer.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define URING_FLUSHES_MAX 8 /* of one wait: other lanes want their turn too */
#define URING_WATCHED_FIRST 8

/* ---- Giving entries to the kernel. */

/* What the system call may say to a healthy ring: time is over, a signal, no memory for requests,
 * the queue is full of completions, a completion was dropped for want of memory. */
static void uring_check_result(int result)
{
    iocp__assert(result >= 0 || result == -ETIME || result == -EINTR || result == -EAGAIN ||
                 result == -EBUSY || result == -EBADR);
    if (result == -EAGAIN)
        sched_yield();
}

/* Gives all entries to the kernel, without waiting. It may take only a part. */
static void uring_give(struct iocp__uring *uring)
{
    if (!iocp__ring_unsubmitted(&uring->ring))
        return;
    /* A receive that starts now should find a buffer. */
    iocp__uring_buffers_fill(uring);
    uring_check_result(iocp__ring_enter(&uring->ring, 0, 0));
}

struct io_uring_sqe *iocp__uring_sqe(struct iocp__uring *uring, uint8_t opcode, int fd,
                                     uint64_t user_data, union iocp__uring_scratch **out_scratch)
{
    struct io_uring_sqe *sqe;
    uint32_t index;

    /* It ends: the kernel takes entries whenever it has memory for a request. */
    while ((sqe = iocp__ring_sqe(&uring->ring, &index)) == NULL)
        uring_give(uring);
    sqe->opcode = opcode;
    sqe->fd = fd;
    sqe->user_data = user_data;
    if (out_scratch)
        *out_scratch = &uring->scratch[index];
    return sqe;
}

/* Rule 5. */
static void uring_note(struct iocp__uring *uring)
{
    uint32_t unreaped = uring->finished.count || uring->starved_canceled || uring->hungry ||
                        iocp__ring_unsubmitted(&uring->ring);

    /* Relaxed, both: who watches comes after this holder in any case. */
    if (iocp__load_relaxed(&uring->unreaped) != unreaped)
        iocp__store_relaxed(&uring->unreaped, unreaped);
}

/* ---- Operations. */

static void uring_attach(struct iocp__kernel *kernel, struct iocp_object *object)
{
    (void)kernel;
    object->backend = 0;
}

static void uring_detach(struct iocp__kernel *kernel, struct iocp_object *object)
{
    (void)kernel;
    (void)object;
}

static void uring_submit(struct iocp__kernel *kernel, struct iocp_op *op)
{
    struct iocp__uring *uring = iocp__uring_of(kernel);

    iocp__debug(op->progress == 0 && op->backend == 0);
    iocp__uring_start(uring, op);
    uring_note(uring);
}

static void uring_cancel(struct iocp__kernel *kernel, struct iocp_op *op)
{
    struct iocp__uring *uring = iocp__uring_of(kernel);
    struct io_uring_sqe *sqe;

    if (op->backend & IOCP__URING_OP_CANCELED)
        return;
    op->backend |= IOCP__URING_OP_CANCELED;
    if (op->backend & IOCP__URING_OP_STARVED) {
        uring->starved_canceled = 1;
    } else {
        /* The request of the op was given to the kernel before this one, or is in front of it; and
         * when the op is answered and used again, its next request comes behind. So it finds the
         * right one. */
        sqe = iocp__uring_sqe(uring, IORING_OP_ASYNC_CANCEL, -1, IOCP__URING_TAG_NONE, NULL);
        sqe->addr = (uintptr_t)op | IOCP__URING_TAG_OP;
        sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    }
    uring_note(uring);
}

/* ---- The bell. */

void iocp__uring_bell(struct iocp__kernel *kernel)
{
    struct iocp__uring *uring = iocp__uring_of(kernel);
    uint64_t one = 1;
    ssize_t written;

    /* Release: what the caller did comes before the end of the wait. Acquire goes with it for free.
     */
    if (iocp__exchange_acq_rel(&uring->rung, 1))
        return;
    do {
        written = write(uring->bell, &one, sizeof(one));
    } while (written < 0 && errno == EINTR);
    /* EAGAIN after 2^64 - 2 writes; each would have woken the wait. */
    iocp__debug(written == sizeof(one));
}

/* Rule 4: the wait is to end when the bell was rung. */
static void uring_hear(struct iocp__uring *uring)
{
    /* Relaxed: a first look. Then acquire: what was done before the ring is seen after the wait. */
    if (iocp__load_relaxed(&uring->rung) && iocp__exchange_acq_rel(&uring->rung, 0))
        uring->nudged = 1;
}

/* A poll of many shots: edges, so the eventfd is not read but before arming, where a count above 0
 * would end each new poll at once. A ring that this read swallows is still in `rung`. */
static void uring_arm_bell(struct iocp__uring *uring)
{
    struct io_uring_sqe *sqe;
    uint64_t count;

    if (uring->bell_armed)
        return;
    uring->bell_armed = 1;
    if (read(uring->bell, &count, sizeof(count)) < 0)
        iocp__debug(errno == EAGAIN || errno == EINTR);
    sqe = iocp__uring_sqe(uring, IORING_OP_POLL_ADD, uring->bell, IOCP__URING_TAG_BELL, NULL);
    sqe->poll32_events = iocp__uring_poll_word(POLLIN);
    sqe->len = IORING_POLL_ADD_MULTI;
}

/* ---- The watch. */

static void uring_forget(struct iocp__uring *uring, const struct iocp__uring *other)
{
    uint32_t i;

    for (i = 0; i < uring->watched_count; i++) {
        if (uring->watched[i] == other)
            break;
    }
    iocp__assert(i < uring->watched_count);
    uring->watched[i] = uring->watched[--uring->watched_count];
}

/* Remembers that `other` is watched. 0: it was already, or there is no memory to remember. */
static int uring_remember(struct iocp__uring *uring, struct iocp__uring *other)
{
    uint32_t room = uring->watched_room ? uring->watched_room * 2 : URING_WATCHED_FIRST;
    struct iocp__uring **watched;
    uint32_t i;

    for (i = 0; i < uring->watched_count; i++) {
        if (uring->watched[i] == other)
            return 0;
    }
    if (uring->watched_count == uring->watched_room) {
        watched = iocp__allocate(room * sizeof(*watched));
        if (!watched) {
            uring->nudged = 1; /* the caller will ask again */
            return 0;
        }
        if (uring->watched_count)
            memcpy(watched, uring->watched, uring->watched_count * sizeof(*watched));
        iocp__release(uring->watched, uring->watched_room * sizeof(*watched));
        uring->watched = watched;
        uring->watched_room = room;
    }
    uring->watched[uring->watched_count++] = other;
    return 1;
}

/* The descriptor of a ring can be read while completions are there. */
static void uring_watch(struct iocp__kernel *kernel, struct iocp__kernel *other_kernel)
{
    struct iocp__uring *uring = iocp__uring_of(kernel);
    struct iocp__uring *other = iocp__uring_of(other_kernel);
    struct io_uring_sqe *sqe;

    /* Relaxed: the caller comes after the last holder. A ring of the bell that is not seen here is
     * seen at the descriptor, unless no wait has armed the poll yet: then entries are not given
     * either. */
    if (iocp__load_relaxed(&other->unreaped) || iocp__load_relaxed(&other->rung)) {
        uring->nudged = 1;
        return;
    }
    if (!uring_remember(uring, other))
        return;
    sqe = iocp__uring_sqe(uring, IORING_OP_POLL_ADD, other->ring.fd,
                          (uintptr_t)other | IOCP__URING_TAG_WATCH, NULL);
    sqe->poll32_events = iocp__uring_poll_word(POLLIN);
    uring_note(uring);
}

/* ---- The wait. */

static void uring_dispatch(struct iocp__uring *uring, const struct iocp__cqe *cqe)
{
    uintptr_t pointer = (uintptr_t)(cqe->user_data & ~(uint64_t)IOCP__URING_TAG_MASK);

    switch (cqe->user_data & IOCP__URING_TAG_MASK) {
    case IOCP__URING_TAG_OP:
        iocp__uring_complete(uring, (struct iocp_op *)pointer, cqe);
        break;
    case IOCP__URING_TAG_BELL:
        /* Its thread has exited, or the completion queue was full. */
        if (!(cqe->flags & IORING_CQE_F_MORE))
            uring->bell_armed = 0;
        break;
    case IOCP__URING_TAG_END:
        iocp__uring_looked(uring, (struct iocp_op *)pointer, cqe->result);
        break;
    case IOCP__URING_TAG_WATCH:
        /* Whatever the result: the caller looks, and watches again. */
        uring_forget(uring, (struct iocp__uring *)pointer);
        uring->nudged = 1;
        break;
    default:
        iocp__assert(cqe->user_data == IOCP__URING_TAG_NONE);
    }
}

static void uring_reap(struct iocp__uring *uring)
{
    struct iocp__cqe cqe;
    uint32_t flushes = 0;

    for (;;) {
        uint32_t left = uring->ring.cq_entries; /* a flood must not keep the others waiting */
        while (left-- && iocp__ring_take(&uring->ring, &cqe))
            uring_dispatch(uring, &cqe);
        if (!iocp__ring_overflown(&uring->ring) || ++flushes > URING_FLUSHES_MAX)
            return;
        uring_check_result(iocp__ring_flush(&uring->ring));
    }
}

/* Gives the entries to the kernel and waits for a completion. 0: the time is over. */
static int uring_sleep(struct iocp__uring *uring, uint64_t deadline_ns)
{
    uint64_t timeout_ns = UINT64_MAX;

    if (deadline_ns != UINT64_MAX) {
        uint64_t now_ns = iocp__os_now_ns();
        if (now_ns >= deadline_ns) {
            uring_give(uring);
            return 0;
        }
        timeout_ns = deadline_ns - now_ns;
    }
    uring_check_result(iocp__ring_enter(&uring->ring, 1, timeout_ns));
    return 1;
}

static void uring_wait(struct iocp__kernel *kernel, uint64_t deadline_ns, struct iocp__queue *done)
{
    struct iocp__uring *uring = iocp__uring_of(kernel);
    int time_left = deadline_ns != 0;

    do {
        iocp__uring_feed(uring);
        uring_arm_bell(uring);
        uring_hear(uring);
        if (!time_left || uring->hungry || uring->nudged || uring->finished.count ||
            iocp__ring_ready(&uring->ring))
            uring_give(uring);
        else
            time_left = uring_sleep(uring, deadline_ns);
        uring_reap(uring);
        uring_hear(uring);
    } while (time_left && !uring->nudged && !uring->finished.count);
    /* Nobody may come back for long: what was started again is not to lie about. */
    if (!uring->finished.count)
        uring_give(uring);
    uring->nudged = 0;
    iocp__queue_join(done, &uring->finished);
    uring_note(uring);
}

/* ---- Making and ending. */

static int uring_error(int os_error)
{
    int error = iocp_error_from_os(os_error);

    return error == IOCP_ENOMEM || error == IOCP_EMFILE ? error : IOCP_ENOTSUP;
}

/* Frees what there is; the ring may be half made. */
static void uring_free(struct iocp__uring *uring)
{
    uint32_t entries = uring->ring.sq_entries;

    iocp__ring_close(&uring->ring);
    iocp__uring_buffers_fini(uring);
    if (uring->bell >= 0)
        close(uring->bell);
    iocp__release(uring->watched, uring->watched_room * sizeof(struct iocp__uring *));
    iocp__release(uring->scratch, entries * sizeof(*uring->scratch));
    iocp__release(uring, sizeof(*uring));
}

static int uring_open(struct iocp__uring *uring, uint32_t buffer_count, uint32_t sq_entries,
                      uint32_t cq_entries)
{
    int result = iocp__ring_open(&uring->ring, IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN,
                                 sq_entries, cq_entries);

    if (result < 0)
        return uring_error(-result);
    uring->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (uring->bell < 0)
        return uring_error(errno);
    uring->scratch = iocp__allocate(uring->ring.sq_entries * sizeof(*uring->scratch));
    if (!uring->scratch)
        return IOCP_ENOMEM;
    return iocp__uring_buffers_init(uring, buffer_count);
}

int iocp__uring_create_sized(struct iocp_pool *pool, uint32_t buffer_count, uint32_t sq_entries,
                             uint32_t cq_entries, struct iocp__kernel **out_kernel)
{
    struct iocp__uring *uring = iocp__allocate_zero(sizeof(*uring));
    int error;

    if (!uring)
        return IOCP_ENOMEM;
    uring->kernel.backend = &iocp__backend_uring;
    uring->kernel.pool = pool;
    uring->kernel.resubmits = &uring->uncounted;
    uring->kernel.starved = &uring->uncounted;
    uring->bell = -1;
    error = uring_open(uring, buffer_count, sq_entries, cq_entries);
    if (error < 0) {
        uring_free(uring);
        return error;
    }
    *out_kernel = &uring->kernel;
    return 0;
}

static int uring_create(const struct iocp__kernel_config *config, struct iocp__kernel **out_kernel)
{
    return iocp__uring_create_sized(config->pool, config->buffer_count, IOCP__URING_SQ_ENTRIES,
                                    IOCP__URING_CQ_ENTRIES, out_kernel);
}

/* Rings that watch each other hold each other's files, so closing alone would end neither. The
 * polls of this ring are canceled; those on it end by the completion of a NOP that nobody takes. */
static void uring_destroy(struct iocp__kernel *kernel)
{
    struct iocp__uring *uring = iocp__uring_of(kernel);
    struct io_uring_sqe *sqe;

    iocp__assert(!uring->finished.count && !uring->starved.count);
    sqe = iocp__uring_sqe(uring, IORING_OP_ASYNC_CANCEL, -1, IOCP__URING_TAG_NONE, NULL);
    sqe->cancel_flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL;
    iocp__uring_sqe(uring, IORING_OP_NOP, -1, IOCP__URING_TAG_NONE, NULL);
    uring_give(uring);
    uring_free(uring);
}

const struct iocp__backend iocp__backend_uring = {
    .name = "uring",
    .kind = IOCP_BACKEND_URING,
    .caps = IOCP__CAP_FILES | IOCP__CAP_COOPERATIVE,
    .probe = iocp__uring_probe,
    .create = uring_create,
    .destroy = uring_destroy,
    .attach = uring_attach,
    .detach = uring_detach,
    .submit = uring_submit,
    .cancel = uring_cancel,
    .wait = uring_wait,
    .bell = iocp__uring_bell,
    .watch = uring_watch,
};
