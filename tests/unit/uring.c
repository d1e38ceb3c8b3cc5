/* The io_uring backend alone: queues that are full, buffers that run out, files, rings that watch
 * each other. */
#include "backend/uring.h"
#include "support/deny_uring.h"
#include "support/uring_lane.h"

#include <iocp/memory.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct iocp__backend *backend = &iocp__backend_uring;

/* ---- Full queues. */

#define MANY 500

/* One eventfd, polled by many objects: all of them come true at once. */
static void poll_by_many(uint32_t sq, uint32_t cq)
{
    static struct item items[MANY];
    uint64_t one = 1;
    struct lane lane;
    uint32_t i;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    lane_open(&lane, 4, sq, cq);
    for (i = 0; i < MANY; i++) {
        item_open(&items[i], &lane, fd);
        iocp_op_poll(&items[i].op, IOCP_POLL_READ);
        item_submit(&items[i]);
    }
    lane_look(&lane);
    CHECK_EQ(lane.done.count, 0);
    CHECK_EQ(write(fd, &one, sizeof(one)), sizeof(one));
    for (i = 0; i < MANY; i++) {
        struct iocp_event *event = lane_next(&lane);
        CHECK_EQ(event->result, IOCP_POLL_READ);
        event->result = 0; /* a second answer would be seen */
        backend->detach(lane.kernel, event->op->owner);
    }
    lane_look(&lane);
    CHECK_EQ(lane.done.count, 0);
    close(fd);
    lane_close(&lane);
}

TEST(completions_beyond_the_queue_are_kept)
{
    poll_by_many(256, 256);
    poll_by_many(4, 8);
}

TEST(a_full_submission_queue_is_given_to_the_kernel)
{
    poll_by_many(1, 1024);
}

TEST(cancels_beyond_the_queue)
{
    static struct item items[MANY];
    struct lane lane;
    uint32_t i;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    lane_open(&lane, 4, 4, 8);
    for (i = 0; i < MANY; i++) {
        item_open(&items[i], &lane, fd);
        iocp_op_poll(&items[i].op, IOCP_POLL_READ);
        item_submit(&items[i]);
    }
    for (i = 0; i < MANY; i++) {
        backend->cancel(lane.kernel, &items[i].op);
        backend->cancel(lane.kernel, &items[i].op);
    }
    for (i = 0; i < MANY; i++)
        CHECK_EQ(lane_next(&lane)->result, IOCP_ECANCELED);
    close(fd);
    lane_close(&lane);
}

/* A tiny completion queue ends multishot requests: nobody may notice. */
TEST(streams_survive_a_full_completion_queue)
{
    struct lane lane;
    struct item items[8];
    uint64_t got[8] = {0};
    uint64_t ended = 0;
    unsigned char *data = make_data(20000);
    int peers[8];
    int i;

    lane_open(&lane, 64, 1, 2);
    for (i = 0; i < 8; i++) {
        int pair[2];
        make_connected_pair(pair);
        item_open(&items[i], &lane, pair[0]);
        peers[i] = pair[1];
        iocp_op_recv_stream(&items[i].op);
        item_submit(&items[i]);
    }
    lane_look(&lane);
    for (i = 0; i < 8; i++) {
        send_all(peers[i], data, 20000);
        close(peers[i]);
    }
    while (ended < 8) {
        struct iocp_event *event = lane_next(&lane);
        i = (int)((struct item *)(void *)event->op->owner - items);
        if (event->result == IOCP_EEOF) {
            ended++;
            CHECK_EQ(got[i], 20000);
            continue;
        }
        CHECK_MEM(iocp_buffer_data(event->buffer), data + got[i], (size_t)event->result);
        got[i] += (uint64_t)event->result;
        iocp_buffer_unref(event->buffer);
    }
    for (i = 0; i < 8; i++)
        item_close(&items[i]);
    free(data);
    lane_close(&lane);
}

/* ---- Buffers. */

static void *give_back(void *context)
{
    iocp_buffer_unref(context);
    return NULL;
}

TEST(a_stream_without_buffers_goes_on_when_one_comes_back)
{
    struct lane lane;
    struct item item;
    struct iocp_buffer *first;
    struct iocp_buffer *second;
    pthread_t thread;
    int pair[2];

    lane_open(&lane, 2, 8, 16);
    make_connected_pair(pair);
    item_open(&item, &lane, pair[0]);
    iocp_op_recv_stream(&item.op);
    item_submit(&item);
    send_all(pair[1], "one", 3);
    first = expect_piece(&item, "one");
    send_all(pair[1], "two", 3);
    second = expect_piece(&item, "two");
    CHECK_EQ(lane.starved, 0);
    send_all(pair[1], "three", 5);
    lane_look(&lane);
    while (!lane.starved) {
        CHECK_EQ(lane.done.count, 0);
        lane_look(&lane);
    }
    lane_look(&lane);
    CHECK_EQ(lane.starved, 1);
    CHECK_EQ(pthread_create(&thread, NULL, give_back, first), 0);
    iocp_buffer_unref(expect_piece(&item, "three"));
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(lane.starved, 1);
    iocp_buffer_unref(second);
    send_all(pair[1], "four", 4);
    iocp_buffer_unref(expect_piece(&item, "four"));
    item_cancel(&item);
    item_close(&item);
    close(pair[1]);
    lane_close(&lane);
}

TEST(a_starved_stream_can_be_canceled)
{
    struct lane lane;
    struct item item;
    struct iocp_buffer *buffer;
    int pair[2];

    lane_open(&lane, 1, 8, 16);
    CHECK_EQ(iocp_buffer_take(lane.pool, &buffer), 0);
    make_connected_pair(pair);
    item_open(&item, &lane, pair[0]);
    iocp_op_recv_stream(&item.op);
    item_submit(&item);
    while (!lane.starved)
        lane_look(&lane);
    item_cancel(&item);
    /* Canceled before the kernel had a chance to say so. */
    iocp_op_recv_stream(&item.op);
    item_submit(&item);
    item_cancel(&item);
    iocp_buffer_unref(buffer);
    send_all(pair[1], "one", 3);
    iocp_op_recv_stream(&item.op);
    item_submit(&item);
    iocp_buffer_unref(expect_piece(&item, "one"));
    item_cancel(&item);
    item_close(&item);
    close(pair[1]);
    lane_close(&lane);
}

#define STREAMS 40

/* Many streams, few buffers, each held for a while: all bytes arrive, in order. */
TEST(many_streams_share_few_buffers)
{
    static struct item items[STREAMS];
    uint64_t got[STREAMS] = {0};
    struct iocp_buffer *held[3] = {0};
    unsigned char *data = make_data(3000);
    struct lane lane;
    uint32_t ended = 0;
    uint32_t turn = 0;
    int i;

    lane_open(&lane, 4, 8, 64);
    for (i = 0; i < STREAMS; i++) {
        int pair[2];
        make_connected_pair(pair);
        send_all(pair[1], data, 3000);
        close(pair[1]);
        item_open(&items[i], &lane, pair[0]);
        iocp_op_recv_stream(&items[i].op);
        item_submit(&items[i]);
    }
    while (ended < STREAMS) {
        struct iocp_event *event = lane_next(&lane);
        i = (int)((struct item *)(void *)event->op->owner - items);
        if (event->result == IOCP_EEOF) {
            ended++;
            CHECK_EQ(got[i], 3000);
            item_close(&items[i]);
            continue;
        }
        CHECK_GT(event->result, 0);
        CHECK_MEM(iocp_buffer_data(event->buffer), data + got[i], (size_t)event->result);
        got[i] += (uint64_t)event->result;
        iocp_buffer_unref(held[turn % 3]);
        held[turn++ % 3] = event->buffer;
    }
    CHECK_GT(lane.starved, 0);
    for (i = 0; i < 3; i++)
        iocp_buffer_unref(held[i]);
    free(data);
    lane_close(&lane);
}

/* An idle stream pins no buffer: more streams than buffers, and nothing starves. */
TEST(idle_streams_pin_no_buffers)
{
    static struct item items[STREAMS];
    int peers[STREAMS];
    struct lane lane;
    int i;

    lane_open(&lane, 2, 64, 64);
    for (i = 0; i < STREAMS; i++) {
        int pair[2];
        make_connected_pair(pair);
        peers[i] = pair[1];
        item_open(&items[i], &lane, pair[0]);
        iocp_op_recv_stream(&items[i].op);
        item_submit(&items[i]);
    }
    for (i = STREAMS - 1; i >= 0; i--) {
        send_all(peers[i], "hello", 5);
        iocp_buffer_unref(expect_piece(&items[i], "hello"));
    }
    CHECK_EQ(lane.starved, 0);
    for (i = 0; i < STREAMS; i++) {
        close(peers[i]);
        expect_answer(&items[i], IOCP_EEOF);
        item_close(&items[i]);
    }
    lane_close(&lane);
}

/* The buffers that the lane keeps in its ring follow the need: up when many go at once, and down
 * again when few do for long. */
TEST(the_ring_holds_as_many_buffers_as_are_needed)
{
    enum { BURST = 100 * 64 };
    struct lane lane;
    struct item item;
    unsigned char *data = make_data(BURST);
    uint32_t rounds = 0;
    int64_t got = 0;
    int pair[2];

    lane_open(&lane, 256, 8, 256);
    const struct iocp__uring_buffers *buffers = &iocp__uring_of(lane.kernel)->buffers;
    uint32_t least = buffers->target;
    make_connected_pair(pair);
    item_open(&item, &lane, pair[0]);
    iocp_op_recv_stream(&item.op);
    item_submit(&item);
    while (buffers->target < least * 4) {
        send_all(pair[1], data, BURST);
        for (got = 0; got < BURST;) {
            struct iocp_event *event = lane_next(&lane);
            CHECK_GT(event->result, 0);
            got += event->result;
            iocp_buffer_unref(event->buffer);
        }
    }
    lane.starved = 0;
    for (; buffers->target > least; rounds++) {
        CHECK_LT(rounds, 5000);
        send_all(pair[1], "hello", 5);
        iocp_buffer_unref(expect_piece(&item, "hello"));
    }
    CHECK_EQ(lane.starved, 0);
    CHECK_GT(rounds, 64);
    item_cancel(&item);
    item_close(&item);
    close(pair[1]);
    free(data);
    lane_close(&lane);
}

TEST(an_empty_datagram_does_not_end_a_stream)
{
    struct lane lane;
    struct item item;
    int pair[2];

    lane_open(&lane, 4, 8, 16);
    make_udp_pair(pair);
    item_open(&item, &lane, pair[0]);
    iocp_op_recv_stream(&item.op);
    item_submit(&item);
    lane_look(&lane);
    CHECK_EQ(send(pair[1], "", 0, 0), 0);
    send_all(pair[1], "abc", 3);
    iocp_buffer_unref(expect_piece(&item, "abc"));
    item_cancel(&item);
    item_close(&item);
    close(pair[1]);
    lane_close(&lane);
}

/* ---- Sends. */

TEST(a_send_has_more_slices_than_a_call_takes)
{
    enum { COUNT = 5000, SIZE = 300 };
    struct iocp_slice *slices = calloc(COUNT, sizeof(*slices));
    unsigned char *data = make_data((size_t)COUNT * SIZE);
    struct lane lane;
    struct item item;
    pthread_t reader;
    void *sum;
    int pair[2];
    int i;

    lane_open(&lane, 4, 8, 16);
    make_connected_pair(pair);
    item_open(&item, &lane, pair[0]);
    for (i = 0; i < COUNT; i++) {
        slices[i].data = data + (size_t)i * SIZE;
        slices[i].size = SIZE;
    }
    iocp_op_send_slices(&item.op, slices, COUNT);
    CHECK_EQ(pthread_create(&reader, NULL, read_all, &pair[1]), 0);
    item_submit(&item);
    expect_answer(&item, (int64_t)COUNT * SIZE);
    CHECK_EQ(lane.resubmits, 0);
    item_close(&item);
    CHECK_EQ(pthread_join(reader, &sum), 0);
    CHECK_EQ((uintptr_t)sum, sum_of(data, (size_t)COUNT * SIZE));
    close(pair[1]);
    free(slices);
    free(data);
    lane_close(&lane);
}

TEST(a_send_that_is_canceled_midway)
{
    size_t size = 16 << 20;
    unsigned char *data = make_data(size);
    struct lane lane;
    struct item item;
    int pair[2];

    lane_open(&lane, 4, 8, 16);
    make_connected_pair(pair);
    item_open(&item, &lane, pair[0]);
    iocp_op_send(&item.op, data, size);
    item_submit(&item);
    lane_look(&lane);
    item_cancel(&item);
    CHECK_EQ(lane.resubmits, 0);
    item_close(&item);
    close(pair[1]);
    free(data);
    lane_close(&lane);
}

/* ---- Files. */

static int make_file(const char *directory)
{
    char path[300];
    int fd;

    snprintf(path, sizeof(path), "%s/iocp-uring-XXXXXX", directory);
    fd = mkstemp(path);
    if (fd < 0)
        SKIP("no file in %s: %s", directory, strerror(errno));
    unlink(path);
    return fd;
}

static void use_file(const char *directory)
{
    enum { OPS = 100, SIZE = 4096 };
    static struct item items[OPS];
    static unsigned char back[OPS][SIZE];
    unsigned char *data = make_data((size_t)OPS * SIZE);
    struct lane lane;
    struct iocp_event *event;
    int fd = make_file(directory);
    int i;

    lane_open(&lane, 4, 8, 16);
    for (i = 0; i < OPS; i++) {
        item_open(&items[i], &lane, fd);
        iocp_op_write(&items[i].op, data + (size_t)i * SIZE, SIZE, (uint64_t)i * SIZE);
        item_submit(&items[i]);
    }
    for (i = 0; i < OPS; i++)
        CHECK_EQ(lane_next(&lane)->result, SIZE);
    for (i = 0; i < OPS; i++) {
        iocp_op_read(&items[i].op, back[i], SIZE, (uint64_t)i * SIZE);
        item_submit(&items[i]);
    }
    for (i = 0; i < OPS; i++)
        CHECK_EQ(lane_next(&lane)->result, SIZE);
    CHECK_MEM(back, data, (size_t)OPS * SIZE);
    iocp_op_read(&items[0].op, back, SIZE, (uint64_t)OPS * SIZE - 10);
    item_submit(&items[0]);
    expect_answer(&items[0], 10);
    iocp_op_read(&items[0].op, back, SIZE, (uint64_t)OPS * SIZE);
    item_submit(&items[0]);
    expect_answer(&items[0], IOCP_EEOF);
    iocp_op_read(&items[0].op, back, 0, 0);
    item_submit(&items[0]);
    expect_answer(&items[0], 0);
    iocp_op_poll(&items[0].op, IOCP_POLL_READ);
    item_submit(&items[0]);
    event = lane_next(&lane);
    CHECK_EQ(event->result, IOCP_ENOTSUP);
    close(fd);
    free(data);
    lane_close(&lane);
}

TEST(files_on_disk)
{
    use_file("/var/tmp");
}

TEST(files_in_memory)
{
    use_file("/dev/shm");
}

/* ---- Watching another lane. */

TEST(watch_ends_a_wait_when_the_other_lane_has_something)
{
    struct lane lanes[2];
    struct item item;
    char data[8];
    int pair[2];
    int round;

    lane_open(&lanes[0], 4, 8, 16);
    lane_open(&lanes[1], 4, 8, 16);
    make_connected_pair(pair);
    item_open(&item, &lanes[1], pair[0]);
    for (round = 0; round < 3; round++) {
        iocp_op_recv(&item.op, data, sizeof(data));
        if (round == 0)
            item_submit_by_the_dead(&item);
        else
            item_submit(&item);
        backend->watch(lanes[0].kernel, lanes[1].kernel);
        backend->watch(lanes[0].kernel, lanes[1].kernel);
        lane_look(&lanes[0]);
        send_all(pair[1], "abc", 3);
        /* It may end for nothing; then the other has nothing, and is watched again. */
        while (!lanes[1].done.count) {
            backend->watch(lanes[0].kernel, lanes[1].kernel);
            lane_wait(&lanes[0]);
            lane_look(&lanes[1]);
        }
        expect_answer(&item, 3);
    }
    item_close(&item);
    close(pair[1]);
    lane_close(&lanes[1]);
    lane_close(&lanes[0]);
}

TEST(watch_sees_what_the_descriptor_does_not_show)
{
    struct lane lanes[2];
    struct item item;
    char data[8];
    int pair[2];

    lane_open(&lanes[0], 4, 8, 16);
    lane_open(&lanes[1], 4, 8, 16);
    make_connected_pair(pair);
    send_all(pair[1], "abc", 3);
    item_open(&item, &lanes[1], pair[0]);
    /* Submitted, but not yet given to the kernel. */
    iocp_op_recv(&item.op, data, sizeof(data));
    item_submit(&item);
    backend->watch(lanes[0].kernel, lanes[1].kernel);
    lane_wait(&lanes[0]);
    expect_answer(&item, 3);
    /* Answered without the kernel. */
    iocp_op_send_slices(&item.op, NULL, 0);
    item_submit(&item);
    backend->watch(lanes[0].kernel, lanes[1].kernel);
    lane_wait(&lanes[0]);
    expect_answer(&item, 0);
    /* A bell that the lane has not heard yet. */
    backend->bell(lanes[1].kernel);
    backend->watch(lanes[0].kernel, lanes[1].kernel);
    lane_wait(&lanes[0]);
    item_close(&item);
    close(pair[1]);
    lane_close(&lanes[0]);
    lane_close(&lanes[1]);
}

TEST(a_bell_of_the_other_lane_ends_the_watch)
{
    struct lane lanes[2];
    pthread_t thread;

    lane_open(&lanes[0], 4, 8, 16);
    lane_open(&lanes[1], 4, 8, 16);
    lane_look(&lanes[1]);
    backend->watch(lanes[0].kernel, lanes[1].kernel);
    CHECK_EQ(pthread_create(&thread, NULL, ring_the_bell, &lanes[1]), 0);
    lane_wait(&lanes[0]);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    lane_close(&lanes[0]);
    lane_close(&lanes[1]);
}

/* Descriptors of this process. */
static int count_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;

    CHECK(directory != NULL);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

/* Rings that refer to each other would stay for ever, with all their memory. */
TEST(lanes_that_watch_each_other_end)
{
    struct lane lanes[3];
    int before;
    int round;
    int i;

    lane_open(&lanes[0], 4, 8, 16);
    lane_close(&lanes[0]);
    before = count_descriptors();
    for (round = 0; round < 50; round++) {
        for (i = 0; i < 3; i++)
            lane_open(&lanes[i], 4, 8, 16);
        for (i = 0; i < 3; i++)
            lane_look(&lanes[i]);
        for (i = 0; i < 3; i++) {
            backend->watch(lanes[i].kernel, lanes[(i + 1) % 3].kernel);
            backend->watch(lanes[i].kernel, lanes[(i + 2) % 3].kernel);
            lane_look(&lanes[i]);
        }
        lane_close(&lanes[0]);
        /* Those that watched the one that is gone are told so. */
        lane_wait(&lanes[1]);
        lane_close(&lanes[1]);
        lane_close(&lanes[2]);
    }
    CHECK_EQ(count_descriptors(), before);
    CHECK_EQ(iocp_memory_count(), 0);
}

/* ---- Making lanes. */

TEST(probe_says_that_the_system_forbids_it)
{
    struct iocp__kernel *kernel;
    struct iocp_pool *pool;
    char text[160] = "";

    CHECK_EQ(iocp_pool_create(64, 4, &pool), 0);
    deny_io_uring();
    CHECK_EQ(backend->probe(text, sizeof(text)), IOCP_ENOTSUP);
    CHECK(strstr(text, "io_uring_setup: Operation not permitted (") == text);
    struct iocp__kernel_config config = {.pool = pool, .buffer_count = 4};
    CHECK_EQ(backend->create(&config, &kernel), IOCP_ENOTSUP);
    iocp_pool_unref(pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(create_fails_cleanly_without_memory)
{
    struct lane lane;
    struct iocp__kernel *kernel;
    uint64_t nth;
    int before;

    lane_open(&lane, 4, 8, 16);
    struct iocp__kernel_config config = {.pool = lane.pool, .buffer_count = 64};
    before = count_descriptors();
    for (nth = 1;; nth++) {
        int error;
        iocp_memory_fail(nth, 0);
        error = backend->create(&config, &kernel);
        iocp_memory_fail(0, 0);
        if (error == 0)
            break;
        CHECK_EQ(error, IOCP_ENOMEM);
        CHECK_EQ(count_descriptors(), before);
    }
    CHECK_GT(nth, 3);
    backend->destroy(kernel);
    lane_close(&lane);
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(watch_without_memory_ends_the_wait)
{
    struct lane lanes[2];

    lane_open(&lanes[0], 4, 8, 16);
    lane_open(&lanes[1], 4, 8, 16);
    lane_look(&lanes[1]);
    iocp_memory_fail(1, 0);
    backend->watch(lanes[0].kernel, lanes[1].kernel);
    iocp_memory_fail(0, 0);
    lane_wait(&lanes[0]);
    lane_close(&lanes[0]);
    lane_close(&lanes[1]);
}
