/* What the files of the io_uring backend share: uring.c (lanes: wait, bell, watch), uring_op.c
 * (operations: how each starts, what its completion means), uring_buffers.c (the memory of the
 * recv-streams) and uring_probe.c (does it work here?). The ring itself is ring.h. */
#ifndef IOCP_BACKEND_URING_H
#define IOCP_BACKEND_URING_H

#include "backend/backend.h"
#include "backend/ring.h"

#include <sys/socket.h>

#define IOCP__URING_SQ_ENTRIES 256
#define IOCP__URING_CQ_ENTRIES 4096

/* The low bits of user_data: an op is aligned to 8 bytes. */
enum iocp__uring_tag {
    IOCP__URING_TAG_OP = 0,
    IOCP__URING_TAG_BELL = 1,
    IOCP__URING_TAG_WATCH = 2, /* the rest is the struct iocp__uring that is watched */
    IOCP__URING_TAG_NONE = 3,  /* nobody waits for it */
    IOCP__URING_TAG_END = 4,   /* a look for the end of an op's stream; the op may be gone */
    IOCP__URING_TAG_MASK = 7
};

/* op->backend. */
enum iocp__uring_op_flag {
    IOCP__URING_OP_CANCELED = 1, /* `cancel` was called */
    IOCP__URING_OP_POLLING = 2,  /* what the kernel has is a poll, not the operation itself */
    IOCP__URING_OP_STARVED = 4,  /* in the queue of the starved */
    IOCP__URING_OP_CUT = 8,      /* a send that stopped midway and was started again */
    IOCP__URING_OP_BLOCKING =
        16,                   /* to a thread of the kernel's at once: the file knows no other way */
    IOCP__URING_OP_BEGUN = 32 /* the connection is being made: only its end is awaited */
};

/* Memory that a request names and that the kernel has copied when it has taken the entry
 * (IORING_FEAT_SUBMIT_STABLE): one per entry of the submission queue. */
union iocp__uring_scratch {
    struct msghdr message;
    struct iocp_address address;
};

/* A ring of provided buffers. A buffer has an id: its place in `table`. */
struct iocp__uring_buffers {
    struct io_uring_buf_ring *ring;
    struct iocp_buffer **table; /* NULL: a hole */
    uint16_t *holes;            /* stack of the ids that have no buffer */
    uint32_t hole_count;
    uint32_t entries; /* a power of two */
    uint32_t target;  /* how many buffers the ring is kept filled with; up to `entries` */
    uint32_t target_least;
    uint16_t tail;
    uint16_t used;   /* a stream was started here */
    uint32_t armed;  /* the pool was asked for a call some time */
    uint32_t wanted; /* a stream found no buffer since the last fill */
    uint32_t calm;   /* fills in a row that took little */
};

struct iocp__uring {
    struct iocp__kernel kernel;
    struct iocp__ring ring;
    union iocp__uring_scratch *scratch;
    struct iocp__uring_buffers buffers;
    struct iocp__queue finished; /* answers for the next return of `wait` */
    struct iocp__queue starved;  /* streams that wait for a buffer */
    uint32_t starved_canceled;   /* the end of one of them was asked for */
    uint32_t hungry;             /* they have to be looked at: nobody else will say so */
    uint32_t nudged;             /* the present or the next `wait` is to end */
    struct iocp__uring **watched;
    uint32_t watched_count;
    uint32_t watched_room;
    int bell;
    uint32_t bell_armed;
    uint32_t rung;      /* atomic: the bell was rung and no `wait` has ended for it */
    uint32_t unreaped;  /* atomic: there is work that the descriptor of the ring does not show */
    uint64_t uncounted; /* where the counters point until the port has set them */
};

static inline struct iocp__uring *iocp__uring_of(struct iocp__kernel *kernel)
{
    return (struct iocp__uring *)(void *)kernel;
}

/* The events of a poll, as a request has them: with their halves swapped on big-endian machines. */
static inline uint32_t iocp__uring_poll_word(uint32_t events)
{
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? events << 16 | events >> 16 : events;
}

/* `create` with sizes of one's own, for tests. */
int iocp__uring_create_sized(struct iocp_pool *pool, uint32_t buffer_count, uint32_t sq_entries,
                             uint32_t cq_entries, struct iocp__kernel **out_kernel);

/* ---- uring.c */

/* A new entry in the submission queue, with its scratch in *out_scratch (may be NULL). Never fails:
 * a full queue is given to the kernel first. */
struct io_uring_sqe *iocp__uring_sqe(struct iocp__uring *uring, uint8_t opcode, int fd,
                                     uint64_t user_data, union iocp__uring_scratch **out_scratch);
/* Ends the present or the next wait, from any thread: the bell. */
void iocp__uring_bell(struct iocp__kernel *kernel);

/* ---- uring_op.c */

/* Starts an op, or goes on with it from where it is. */
void iocp__uring_start(struct iocp__uring *uring, struct iocp_op *op);
/* Takes one completion of an op. */
void iocp__uring_complete(struct iocp__uring *uring, struct iocp_op *op,
                          const struct iocp__cqe *cqe);

/* A look for the end of a stream came back: the events that it saw, or an error. `op` is an address
 * only. */
void iocp__uring_looked(struct iocp__uring *uring, struct iocp_op *op, int32_t events);

/* ---- uring_buffers.c */

int iocp__uring_buffers_init(struct iocp__uring *uring, uint32_t buffer_count);
void iocp__uring_buffers_fini(struct iocp__uring *uring);
/* Fills the holes. */
void iocp__uring_buffers_fill(struct iocp__uring *uring);
/* The buffer that a completion names leaves the ring. */
struct iocp_buffer *iocp__uring_buffers_take(struct iocp__uring *uring, uint32_t id);
/* A buffer that a completion names was not filled: it stays. */
void iocp__uring_buffers_keep(struct iocp__uring *uring, uint32_t id);
/* A stream found no buffer. */
void iocp__uring_starve(struct iocp__uring *uring, struct iocp_op *op);
/* Fills the holes, and starts starved streams again when there is something for them. Afterwards
 * `hungry` says whether there is more to do at once, without sleeping. */
void iocp__uring_feed(struct iocp__uring *uring);

/* ---- uring_probe.c */

int iocp__uring_probe(char *text, size_t size);

#endif
