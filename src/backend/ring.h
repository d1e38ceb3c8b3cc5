/* A raw ring of io_uring: the two queues that a process shares with the kernel, and the three
 * system calls. No operation of the library is known here, and no liburing is needed.
 *
 * Threads: one at a time; whoever uses it next has to come after the one before (the lane's lease).
 */
#ifndef IOCP_BACKEND_RING_H
#define IOCP_BACKEND_RING_H

#include <stddef.h>
#include <stdint.h>

#include <linux/io_uring.h>

struct iocp__ring {
    int fd; /* -1: no ring */
    uint32_t features;
    uint32_t sq_entries;
    uint32_t cq_entries;
    uint32_t sq_tail; /* entries taken by iocp__ring_sqe so far; the kernel's copy may be behind */
    uint32_t *sq_shared_head;
    uint32_t *sq_shared_tail;
    uint32_t *sq_shared_flags;
    uint32_t *cq_shared_head;
    uint32_t *cq_shared_tail;
    struct io_uring_sqe *sqes;
    const struct io_uring_cqe *cqes;
    void *rings;
    size_t rings_size;
    size_t sqes_size;
};

/* A completion, copied out of the ring. */
struct iocp__cqe {
    uint64_t user_data;
    int32_t result;
    uint32_t flags;
};

/* Makes a ring with `flags` (IORING_SETUP_*) and the sizes, powers of two that the kernel may round
 * or cut. 0 or -errno: -EINVAL also for a kernel that is too old for this file. */
int iocp__ring_open(struct iocp__ring *ring, uint32_t flags, uint32_t sq_entries,
                    uint32_t cq_entries);
/* The kernel ends what is still pending, later and on its own. */
void iocp__ring_close(struct iocp__ring *ring);

/* The next free entry of the submission queue, zeroed, and its index; NULL when the queue is full.
 * The kernel sees it with the next `enter`. */
struct io_uring_sqe *iocp__ring_sqe(struct iocp__ring *ring, uint32_t *out_index);
/* Entries that the kernel has not taken yet. */
uint32_t iocp__ring_unsubmitted(const struct iocp__ring *ring);

/* Gives the kernel all entries, and with `wait_count` above 0 waits for so many completions, for up
 * to `timeout_ns` (UINT64_MAX: for ever). Returns what the system call does: entries taken or
 * -errno; -ETIME when the time is over and nothing was taken. */
int iocp__ring_enter(struct iocp__ring *ring, uint32_t wait_count, uint64_t timeout_ns);

/* Not 0 when a completion is there to be taken. */
int iocp__ring_ready(const struct iocp__ring *ring);
/* Takes the oldest completion. Returns 0 when there is none. */
int iocp__ring_take(struct iocp__ring *ring, struct iocp__cqe *out_cqe);
/* Not 0 when the kernel keeps completions that found the queue full: `flush` moves them in. */
int iocp__ring_overflown(const struct iocp__ring *ring);
int iocp__ring_flush(struct iocp__ring *ring);

/* io_uring_register: 0 or more, or -errno. */
int iocp__ring_register(struct iocp__ring *ring, uint32_t opcode, void *argument, uint32_t count);

#endif
