/* A raw ring of io_uring: see ring.h.
 *
 * 1. Both queues are rings of counters that only grow; a position is a counter under a mask.
 * 2. The kernel writes the head of the submission queue and the tail of the completion queue, this
 *    file the other two. Each side publishes with release and reads the other's with acquire: TSan
 *    does not see the kernel, so nothing but this rule keeps the entries in order.
 * 3. The indirection array of the submission queue maps every position to itself, for ever. */
#include "backend/ring.h"

#include "base/assert.h"
#include "base/atomic.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RING_NS_PER_S UINT64_C(1000000000)

static void *ring_map(int fd, size_t size, uint64_t offset)
{
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, (off_t)offset);
}

/* With IORING_FEAT_SINGLE_MMAP, in all kernels since 5.4, one mapping holds both queues. */
static int ring_map_all(struct iocp__ring *ring, const struct io_uring_params *params)
{
    size_t sq_size = params->sq_off.array + params->sq_entries * sizeof(uint32_t);
    size_t cq_size = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
    char *rings;
    uint32_t *array;
    uint32_t i;

    ring->rings_size = sq_size > cq_size ? sq_size : cq_size;
    ring->rings = ring_map(ring->fd, ring->rings_size, IORING_OFF_SQ_RING);
    if (ring->rings == MAP_FAILED) {
        ring->rings = NULL;
        return -errno;
    }
    ring->sqes_size = params->sq_entries * sizeof(struct io_uring_sqe);
    ring->sqes = ring_map(ring->fd, ring->sqes_size, IORING_OFF_SQES);
    if (ring->sqes == MAP_FAILED) {
        ring->sqes = NULL;
        return -errno;
    }
    rings = ring->rings;
    ring->sq_shared_head = (uint32_t *)(void *)(rings + params->sq_off.head);
    ring->sq_shared_tail = (uint32_t *)(void *)(rings + params->sq_off.tail);
    ring->sq_shared_flags = (uint32_t *)(void *)(rings + params->sq_off.flags);
    ring->cq_shared_head = (uint32_t *)(void *)(rings + params->cq_off.head);
    ring->cq_shared_tail = (uint32_t *)(void *)(rings + params->cq_off.tail);
    ring->cqes = (const struct io_uring_cqe *)(void *)(rings + params->cq_off.cqes);
    array = (uint32_t *)(void *)(rings + params->sq_off.array);
    for (i = 0; i < params->sq_entries; i++)
        array[i] = i;
    return 0;
}

int iocp__ring_open(struct iocp__ring *ring, uint32_t flags, uint32_t sq_entries,
                    uint32_t cq_entries)
{
    struct io_uring_params params;
    int error;

    memset(ring, 0, sizeof(*ring));
    memset(&params, 0, sizeof(params));
    params.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    params.cq_entries = cq_entries;
    ring->fd = (int)syscall(SYS_io_uring_setup, sq_entries, &params);
    if (ring->fd < 0)
        return -errno;
    ring->features = params.features;
    ring->sq_entries = params.sq_entries;
    ring->cq_entries = params.cq_entries;
    error = params.features & IORING_FEAT_SINGLE_MMAP ? ring_map_all(ring, &params) : -EINVAL;
    if (error < 0)
        iocp__ring_close(ring);
    return error;
}

void iocp__ring_close(struct iocp__ring *ring)
{
    if (ring->sqes)
        munmap(ring->sqes, ring->sqes_size);
    if (ring->rings)
        munmap(ring->rings, ring->rings_size);
    if (ring->fd >= 0)
        close(ring->fd);
    memset(ring, 0, sizeof(*ring));
    ring->fd = -1;
}

/* ---- Submission. */

uint32_t iocp__ring_unsubmitted(const struct iocp__ring *ring)
{
    /* Acquire: what the kernel has read of an entry comes before its next use. */
    return ring->sq_tail - iocp__load_acquire(ring->sq_shared_head);
}

struct io_uring_sqe *iocp__ring_sqe(struct iocp__ring *ring, uint32_t *out_index)
{
    struct io_uring_sqe *sqe;
    uint32_t index;

    if (iocp__ring_unsubmitted(ring) == ring->sq_entries)
        return NULL;
    index = ring->sq_tail++ & (ring->sq_entries - 1);
    sqe = &ring->sqes[index];
    memset(sqe, 0, sizeof(*sqe));
    *out_index = index;
    return sqe;
}

static int ring_call(struct iocp__ring *ring, uint32_t wait_count, uint32_t flags,
                     const void *argument, size_t size)
{
    long result;

    /* Release: the entries are written before the kernel may look at them. */
    iocp__store_release(ring->sq_shared_tail, ring->sq_tail);
    result = syscall(SYS_io_uring_enter, ring->fd, iocp__ring_unsubmitted(ring), wait_count, flags,
                     argument, size);
    return result < 0 ? -errno : (int)result;
}

int iocp__ring_enter(struct iocp__ring *ring, uint32_t wait_count, uint64_t timeout_ns)
{
    struct io_uring_getevents_arg argument;
    struct __kernel_timespec timeout;

    if (!wait_count)
        return ring_call(ring, 0, 0, NULL, 0);
    memset(&argument, 0, sizeof(argument));
    if (timeout_ns != UINT64_MAX) {
        timeout.tv_sec = (int64_t)(timeout_ns / RING_NS_PER_S);
        timeout.tv_nsec = (int64_t)(timeout_ns % RING_NS_PER_S);
        argument.ts = (uintptr_t)&timeout;
    }
    return ring_call(ring, wait_count, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument,
                     sizeof(argument));
}

/* ---- Completion. */

int iocp__ring_ready(const struct iocp__ring *ring)
{
    /* The head is written by this side alone. Acquire: as in `take`. */
    return *ring->cq_shared_head != iocp__load_acquire(ring->cq_shared_tail);
}

int iocp__ring_take(struct iocp__ring *ring, struct iocp__cqe *out_cqe)
{
    uint32_t head = *ring->cq_shared_head;
    const struct io_uring_cqe *cqe;

    /* Acquire: the kernel wrote the entry before it moved the tail. */
    if (head == iocp__load_acquire(ring->cq_shared_tail))
        return 0;
    cqe = &ring->cqes[head & (ring->cq_entries - 1)];
    out_cqe->user_data = cqe->user_data;
    out_cqe->result = cqe->res;
    out_cqe->flags = cqe->flags;
    /* Release: the entry is read before the kernel may write it anew. */
    iocp__store_release(ring->cq_shared_head, head + 1);
    return 1;
}

int iocp__ring_overflown(const struct iocp__ring *ring)
{
    /* Relaxed: a hint; the completions themselves come through the queue. */
    return (iocp__load_relaxed(ring->sq_shared_flags) & IORING_SQ_CQ_OVERFLOW) != 0;
}

int iocp__ring_flush(struct iocp__ring *ring)
{
    return ring_call(ring, 0, IORING_ENTER_GETEVENTS, NULL, 0);
}

int iocp__ring_register(struct iocp__ring *ring, uint32_t opcode, void *argument, uint32_t count)
{
    long result = syscall(SYS_io_uring_register, ring->fd, opcode, argument, count);

    return result < 0 ? -errno : (int)result;
}
