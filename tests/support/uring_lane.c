/* Lanes for the tests of the io_uring backend. See uring_lane.h. */
#include "support/uring_lane.h"

#include "backend/uring.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIMIT_NS UINT64_C(20000000000)
#define BUFFER_SIZE 64

static const struct iocp__backend *backend = &iocp__backend_uring;

/* ---- Lanes. */

void lane_open(struct lane *lane, uint32_t buffers, uint32_t sq, uint32_t cq)
{
    char text[200];

    if (backend->probe(text, sizeof(text)) < 0)
        SKIP("%s", text);
    memset(lane, 0, sizeof(*lane));
    CHECK_EQ(iocp_pool_create(BUFFER_SIZE, buffers, &lane->pool), 0);
    CHECK_EQ(iocp__uring_create_sized(lane->pool, buffers, sq, cq, &lane->kernel), 0);
    lane->kernel->resubmits = &lane->resubmits;
    lane->kernel->starved = &lane->starved;
    iocp__queue_init(&lane->done);
}

void lane_close(struct lane *lane)
{
    CHECK_EQ(lane->done.count, 0);
    backend->destroy(lane->kernel);
    iocp_pool_unref(lane->pool);
}

void lane_wait(struct lane *lane)
{
    backend->wait(lane->kernel, UINT64_MAX, &lane->done);
}

void lane_look(struct lane *lane)
{
    backend->wait(lane->kernel, 0, &lane->done);
}

struct iocp_event *lane_next(struct lane *lane)
{
    uint64_t deadline_ns = iocp__os_now_ns() + LIMIT_NS;

    while (!lane->done.first) {
        if (iocp__os_now_ns() > deadline_ns)
            FAIL("no answer came");
        backend->wait(lane->kernel, deadline_ns, &lane->done);
    }
    return iocp__queue_pop(&lane->done);
}

void expect_answer(struct item *item, int64_t result)
{
    struct iocp_event *event = lane_next(item->lane);

    CHECK_EQ(event, &item->op.event);
    CHECK_EQ(event->result, result);
    CHECK_EQ(event->flags & IOCP_PACKET_MORE, 0);
}

struct iocp_buffer *expect_piece(struct item *item, const char *text)
{
    struct iocp_event *event = lane_next(item->lane);

    CHECK_EQ(event->op, &item->op);
    CHECK_EQ(event->result, strlen(text));
    CHECK_EQ(event->flags, IOCP_PACKET_MORE);
    CHECK_MEM(iocp_buffer_data(event->buffer), text, strlen(text));
    return event->buffer;
}

/* ---- Items. */

void item_open(struct item *item, struct lane *lane, int fd)
{
    memset(item, 0, sizeof(*item));
    item->lane = lane;
    item->object.handle = fd;
    item->object.refs = 1;
    CHECK_EQ(iocp__handle_prepare(fd), 0);
    backend->attach(lane->kernel, &item->object);
    iocp_op_init(&item->op, NULL);
}

void item_submit(struct item *item)
{
    item->op.owner = &item->object;
    backend->submit(item->lane->kernel, &item->op);
}

void item_close(struct item *item)
{
    backend->detach(item->lane->kernel, &item->object);
    close((int)item->object.handle);
}

void item_cancel(struct item *item)
{
    backend->cancel(item->lane->kernel, &item->op);
    expect_answer(item, IOCP_ECANCELED);
}

/* ---- Threads. */

static void *submit_and_exit(void *context)
{
    struct item *item = context;

    item_submit(item);
    lane_look(item->lane);
    return NULL;
}

void item_submit_by_the_dead(struct item *item)
{
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, submit_and_exit, item), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* ---- Data. */

void *read_all(void *context)
{
    int fd = *(int *)context;
    uint64_t sum = 0;
    unsigned char data[65536];
    ssize_t got;

    while ((got = read(fd, data, sizeof(data))) > 0) {
        for (ssize_t i = 0; i < got; i++)
            sum = sum * 31 + data[i];
    }
    return (void *)(uintptr_t)sum;
}

uint64_t sum_of(const unsigned char *data, size_t size)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < size; i++)
        sum = sum * 31 + data[i];
    return sum;
}

unsigned char *make_data(size_t size)
{
    unsigned char *data = malloc(size);

    CHECK(data != NULL);
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 13);
    return data;
}

void *ring_the_bell(void *context)
{
    struct lane *lane = context;
    int i;

    for (i = 0; i < 100; i++) {
        backend->bell(lane->kernel);
        sched_yield();
    }
    return NULL;
}
