/* The contract between the port and what does its I/O: io_uring, epoll, Windows' port, a
 * simulation (tests only).
 *
 * The seam is at completion. A backend takes operations and answers each; a kernel that tells of
 * readiness is turned into completions inside its own file.
 *
 * 1. A backend never runs user code and never touches a reference count of an object; the port
 *    does.
 * 2. Every op it takes leaves through the queue of `wait`, exactly once, with event.result and
 *    event.os_error set, a canceled one too. A stream's op leaves through it once, as its last
 *    answer; the answers before go as events of their own (see below).
 * 3. `submit` cannot fail. An op that the system refuses is answered with an error. A full
 *    submission queue is handled inside.
 * 4. No other file names the system interface behind it. What differs is in `caps`.
 * 5. Per object it holds at most one op of direction READ, one of WRITE and one of POLL at a
 *    time: the port queues the others, because the kernel fills several pending receives last
 *    posted first and mixes the bytes of several pending sends (both measured on Linux 6.18).
 *    Files have no direction: any number of READ and WRITE ops at once.
 *
 * Lanes and threads: a lane is a source of completions. At any moment at most one thread, the
 * lane's holder, is inside `submit`, `cancel`, `attach`, `detach`, `watch` or `wait` of a lane; the
 * port sees to that and to the happens-before between two holders. Holders change: an op may be
 * submitted by one thread, canceled by a second and reaped by a third, while the first is blocked
 * elsewhere, or has exited. A request that the kernel cancels because its thread exited is started
 * again by the backend, unless `cancel` was called for it. Only `bell` comes from any thread at any
 * time.
 *
 * With IOCP__CAP_SHARED the lanes of one port share one source of completions, and the kernel
 * behind it decides which of the threads that wait goes on, and how many run at a time. Then any
 * number of threads are inside `fetch` at any time, whoever holds the lanes; a lane is held only
 * for a moment, to submit to it and to take what was fetched for it. */
#ifndef IOCP_BACKEND_H
#define IOCP_BACKEND_H

#include "base/list.h"

#include <iocp/object.h>
#include <iocp/port.h>

/* A lane as the port and the backend share it. A backend puts it first in a struct of its own. */
struct iocp__kernel {
    const struct iocp__backend *backend;
    struct iocp_pool *pool; /* buffers of the recv-streams; the lane's */
    uint64_t *resubmits;    /* counters of the port, the holder's to add to (relaxed atomics) */
    uint64_t *starved;
};

enum iocp__backend_caps {
    IOCP__CAP_FILES = 1, /* reads and writes of files without threads of ours */
    /* What a thread submitted is not finished while it computes: somebody has to interrupt it. The
     * port does, at each tick of the watch while a worker is stuck (iocp__threads_interrupt). */
    IOCP__CAP_COOPERATIVE = 2,
    /* The kernel is the gate: it has `fetch`, and no `watch`. */
    IOCP__CAP_SHARED = 4
};

/* How a lane is made. */
struct iocp__kernel_config {
    struct iocp_pool *pool; /* borrowed; outlives the lane and holds at most `buffer_count` */
    uint32_t buffer_count;
    uint32_t concurrency; /* IOCP__CAP_SHARED: threads that the kernel lets run at a time */
    uint32_t index;       /* of the lane in its port, below 64 */
    /* IOCP__CAP_SHARED: the lane whose source of completions it shares, and that outlives it; NULL:
     * it has one of its own. */
    struct iocp__kernel *first;
};

struct iocp__backend {
    const char *name;
    uint32_t kind; /* enum iocp_backend */
    uint32_t caps;

    /* Tries all that the library needs. 0, or with one line in `text` IOCP_ENOTSUP, or IOCP_ENOMEM
     * or IOCP_EMFILE: for want of these it could not be tried. */
    int (*probe)(char *text, size_t size);

    /* Makes a lane. IOCP_ENOMEM, IOCP_EMFILE, IOCP_ENOTSUP. */
    int (*create)(const struct iocp__kernel_config *config, struct iocp__kernel **out_kernel);
    /* Every op has been answered and every object detached. */
    void (*destroy)(struct iocp__kernel *kernel);

    /* Any thread, before the handle is registered: binds it to the lane's source of completions for
     * the rest of its life. IOCP_EBADHANDLE, IOCP_EBUSY (it is bound already). NULL where a kernel
     * knows no such thing. */
    int (*associate)(struct iocp__kernel *kernel, iocp_handle handle);

    /* A registered object comes to the lane, before its first op; it leaves when its last op is
     * answered, right before its handle is closed. object->backend and backend_data are the
     * backend's own, 0 at first. */
    void (*attach)(struct iocp__kernel *kernel, struct iocp_object *object);
    void (*detach)(struct iocp__kernel *kernel, struct iocp_object *object);

    /* Takes an op of any kind but TIMER, POST and DISCONNECT, which are the port's own.
     * op->progress is 0; op->backend and backend_data are the backend's own, 0 at first. It may be
     * given to the kernel at once or with the next `wait`. Sends go out whole: a partial one goes
     * on until all is taken, it is canceled (IOCP_ECANCELED) or it fails. */
    void (*submit)(struct iocp__kernel *kernel, struct iocp_op *op);

    /* Asks for an op that this lane holds to end. It is answered with what happened first. */
    void (*cancel)(struct iocp__kernel *kernel, struct iocp_op *op);

    /* Gives everything submitted to the kernel, then moves finished ops to `done`, and waits for
     * the first until `deadline_ns` of iocp__os_now_ns when there is none (0: do not wait;
     * UINT64_MAX: for ever). Returns early when the bell was rung since the last return, or a
     * watched lane has something. It may return with nothing. */
    void (*wait)(struct iocp__kernel *kernel, uint64_t deadline_ns, struct iocp__queue *done);

    /* IOCP__CAP_SHARED, else NULL; any number of threads, none of which holds a lane of `kernel`'s
     * port: waits until there is something for any of its lanes, or `deadline_ns` as for `wait`.
     * Returns a bit for each lane that its caller is to serve, by calling `wait` without waiting as
     * its holder: ops of it finished, or its bell was rung. */
    uint64_t (*fetch)(struct iocp__kernel *kernel, uint64_t deadline_ns);

    /* Ends the present or the next `wait`; with IOCP__CAP_SHARED one present or future `fetch`,
     * which returns the bit of this lane. Rings that nobody has heard yet are one. */
    void (*bell)(struct iocp__kernel *kernel);

    /* NULL with IOCP__CAP_SHARED. Once: `wait` of `kernel` ends when `other` has something to reap
     * (now or later). Both are the same backend's; `other` is held by nobody at the moment and may
     * be held by another thread later. May also end a wait for nothing. */
    void (*watch)(struct iocp__kernel *kernel, struct iocp__kernel *other);
};

/* The direction of an op on its object. The op that a backend has of direction d is
 * object->active[d], from `submit` until the port takes its answer. */
enum iocp__direction {
    IOCP__READ,
    IOCP__WRITE,
    IOCP__POLL,
    IOCP__UNDIRECTED /* files */
};

enum iocp__direction iocp__op_direction(const struct iocp_op *op);

/* The answers of a stream before its last one.
 *
 * recv-stream: the event inside the buffer (iocp__buffer_event), filled in by
 * iocp__stream_received; the buffer carries one reference, which goes to the packet. accept-stream:
 * an event of its own, from iocp__stream_accepted; when there is no memory for it the connection is
 * closed. */
void iocp__stream_received(struct iocp__queue *done, struct iocp_op *op, struct iocp_buffer *buffer,
                           uint32_t size);
void iocp__stream_accepted(struct iocp__queue *done, struct iocp_op *op, iocp_handle handle);
/* Frees an event of its own, when its packet has been released. Whose an event is: the op's when it
 * is &event->op->event (the op need not be there any more to compare), else a buffer's when
 * event->buffer is set, else its own. The handle in it is not looked at. */
void iocp__event_free(struct iocp_event *event);

/* What a probe returns that failed with this code of the system. */
int iocp__probe_error(int os_error);

/* The answer of an op, or the last one of a stream. `result` below 0 is an iocp_error. It sets the
 * flags to 0: a backend that has one to add (TRUNCATED) puts it in op->event.flags afterwards. */
void iocp__op_done(struct iocp__queue *done, struct iocp_op *op, int64_t result, int32_t os_error);

/* A send took `sent` bytes: op->progress and the slices go on behind them. Returns 0 when nothing
 * is left. */
int iocp__op_advance(struct iocp_op *op, uint64_t sent);

/* The same as iocp__op_done for an error of the system: maps it. */
void iocp__op_failed(struct iocp__queue *done, struct iocp_op *op, int32_t os_error);

/* The backends of this system, best first, with NULL behind the last: system_linux.c,
 * system_windows.c. */
extern const struct iocp__backend *const iocp__backends[];

extern const struct iocp__backend iocp__backend_uring;
extern const struct iocp__backend iocp__backend_epoll;
extern const struct iocp__backend iocp__backend_windows;

#endif
