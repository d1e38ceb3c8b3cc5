/* What the tests of the io_uring backend alone share: a lane with sizes of its own, and handles
 * with one op each. Every helper that waits is bounded; one that fails ends the test. */
#ifndef TESTS_SUPPORT_URING_LANE_H
#define TESTS_SUPPORT_URING_LANE_H

#include "backend/backend.h"
#include "backend/buffer.h"
#include "os/os.h"
#include "support/check.h"
#include "support/net.h"

/* A lane, as the port would have it. */
struct lane {
    struct iocp_pool *pool;
    struct iocp__kernel *kernel;
    uint64_t resubmits;
    uint64_t starved;
    struct iocp__queue done;
};

/* A handle with one op. */
struct item {
    struct iocp_object object;
    struct iocp_op op;
    struct lane *lane;
};

/* With buffers of 64 bytes. Skips the test when io_uring does not work here. */
void lane_open(struct lane *lane, uint32_t buffers, uint32_t sq, uint32_t cq);
void lane_close(struct lane *lane);
/* One wait that sleeps until it is ended; the time limit of the test is its bound. */
void lane_wait(struct lane *lane);
/* One wait that does not sleep. */
void lane_look(struct lane *lane);
/* The next answer. */
struct iocp_event *lane_next(struct lane *lane);

/* Attaches a handle, which is the item's from here on. */
void item_open(struct item *item, struct lane *lane, int fd);
void item_close(struct item *item);
/* Submits the op of the item, prepared before. */
void item_submit(struct item *item);
/* The same from a thread that is gone when this returns, its request in the kernel. */
void item_submit_by_the_dead(struct item *item);
/* Cancels it and takes the answer. */
void item_cancel(struct item *item);

/* The next answer is the last one of the item. */
void expect_answer(struct item *item, int64_t result);
/* The next answer is a piece of its stream; the caller gets the buffer. */
struct iocp_buffer *expect_piece(struct item *item, const char *text);

/* Bytes that do not repeat, for free(3), and a sum of them. */
unsigned char *make_data(size_t size);
uint64_t sum_of(const unsigned char *data, size_t size);
/* For threads: reads the descriptor at `context` to its end and returns the sum. */
void *read_all(void *context);
/* For threads: rings the bell of the lane at `context` many times. */
void *ring_the_bell(void *context);

#endif
