/* The io_uring backend alone: threads that exit or are stuck while their requests are in the
 * kernel, and the bell. */
#include "backend/uring.h"
#include "base/atomic.h"
#include "support/uring_lane.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct iocp__backend *backend = &iocp__backend_uring;

/* ---- The submitting thread has exited. */

TEST(recv_goes_on_when_its_thread_has_exited)
{
    struct lane lane;
    struct item item;
    char data[8];
    int pair[2];

    lane_open(&lane, 4, 8, 16);
    make_connected_pair(pair);
    item_open(&item, &lane, pair[0]);
    iocp_op_recv(&item.op, data, sizeof(data));
    item_submit_by_the_dead(&item);
    send_all(pair[1], "abc", 3);
    expect_answer(&item, 3);
    CHECK_MEM(data, "abc", 3);
    CHECK_EQ(lane.resubmits, 1);
    item_close(&item);
    close(pair[1]);
    lane_close(&lane);
}

TEST(recv_without_memory_goes_on_when_its_thread_has_exited)
{
    struct lane lane;
    struct item item;
    char data[8];
    int pair[2];

    lane_open(&lane, 4, 8, 16);
    make_connected_pair(pair);
    item_open(&item, &lane, pair[0]);
    iocp_op_recv(&item.op, data, 0);
    item_submit_by_the_dead(&item);
    send_all(pair[1], "abc", 3);
    expect_answer(&item, 0);
    CHECK_EQ(lane.resubmits, 1);
    iocp_op_recv(&item.op, data, sizeof(data));
    item_submit(&item);
    expect_answer(&item, 3);
    item_close(&item);
    close(pair[1]);
    lane_close(&lane);
}

TEST(recv_stream_goes_on_when_its_thread_has_exited)
{
    struct lane lane;
    struct item item;
    int pair[2];

    lane_open(&lane, 4, 8, 16);
    make_connected_pair(pair);
    item_open(&item, &lane, pair[0]);
    iocp_op_recv_stream(&item.op);
    item_submit_by_the_dead(&item);
    send_all(pair[1], "one", 3);
    iocp_buffer_unref(expect_piece(&item, "one"));
    CHECK_EQ(lane.resubmits, 1);
    send_all(pair[1], "two", 3);
    iocp_buffer_unref(expect_piece(&item, "two"));
    CHECK_EQ(lane.resubmits, 1);
    close(pair[1]);
    expect_answer(&item, IOCP_EEOF);
    item_close(&item);
    lane_close(&lane);
}

TEST(accept_stream_goes_on_when_its_thread_has_exited)
{
    struct iocp_address at = net_loopback();
    struct lane lane;
    struct item item;
    int i;

    lane_open(&lane, 4, 8, 16);
    item_open(&item, &lane, net_listen(&at, &at));
    iocp_op_accept_stream(&item.op);
    item_submit_by_the_dead(&item);
    for (i = 0; i < 3; i++) {
        int client = net_connect(&at);
        struct iocp_event *event = lane_next(&lane);
        CHECK_EQ(event->flags, IOCP_PACKET_MORE);
        CHECK_EQ(fcntl((int)event->result, F_GETFD), FD_CLOEXEC);
        CHECK((fcntl((int)event->result, F_GETFL) & O_NONBLOCK) != 0);
        close((int)event->result);
        iocp__event_free(event);
        close(client);
    }
    CHECK_EQ(lane.resubmits, 1);
    item_cancel(&item);
    item_close(&item);
    lane_close(&lane);
}

TEST(accept_goes_on_when_its_thread_has_exited)
{
    struct iocp_address at = net_loopback();
    struct lane lane;
    struct item item;
    struct iocp_event *event;
    int client;

    lane_open(&lane, 4, 8, 16);
    item_open(&item, &lane, net_listen(&at, &at));
    iocp_op_accept(&item.op);
    item_submit_by_the_dead(&item);
    client = net_connect(&at);
    event = lane_next(&lane);
    CHECK_EQ(event->op, &item.op);
    CHECK_GE(event->result, 0);
    CHECK_EQ(lane.resubmits, 1);
    close((int)event->result);
    close(client);
    item_close(&item);
    lane_close(&lane);
}

/* A listener whose backlog is full: the kernel answers no further SYN, until somebody accepts and
 * the client sends another, about a second later. */
TEST(connect_goes_on_when_its_thread_has_exited)
{
    struct iocp_address at = net_loopback();
    int server = net_listen(&at, &at);
    struct lane lane;
    struct item item;
    iocp_handle client;
    int first;

    lane_open(&lane, 4, 8, 16);
    CHECK_EQ(listen(server, 0), 0);
    first = net_connect(&at);
    CHECK_EQ(iocp__socket_open(IOCP_FAMILY_IPV4, IOCP__SOCKET_STREAM, &client, NULL), 0);
    item_open(&item, &lane, (int)client);
    iocp_op_connect(&item.op, &at);
    item_submit_by_the_dead(&item);
    memset(&at, 0xee, sizeof(at));
    CHECK_EQ(lane.done.count, 0);
    close(net_accept(server));
    expect_answer(&item, 0);
    CHECK_EQ(lane.resubmits, 1);
    close(net_accept(server));
    item_close(&item);
    close(first);
    close(server);
    lane_close(&lane);
}

TEST(send_goes_on_midway_when_its_thread_has_exited)
{
    size_t size = 8 << 20;
    unsigned char *data = make_data(size);
    struct lane lane;
    struct item item;
    pthread_t reader;
    void *sum;
    int pair[2];

    lane_open(&lane, 4, 8, 16);
    make_connected_pair(pair);
    item_open(&item, &lane, pair[0]);
    iocp_op_send(&item.op, data, size);
    item_submit_by_the_dead(&item);
    CHECK_EQ(pthread_create(&reader, NULL, read_all, &pair[1]), 0);
    expect_answer(&item, (int64_t)size);
    CHECK_EQ(lane.resubmits, 1);
    item_close(&item);
    CHECK_EQ(pthread_join(reader, &sum), 0);
    CHECK_EQ((uintptr_t)sum, sum_of(data, size));
    close(pair[1]);
    free(data);
    lane_close(&lane);
}

TEST(poll_and_datagrams_go_on_when_their_thread_has_exited)
{
    struct lane lane;
    struct item item;
    struct iocp_address from;
    char data[4];
    int pair[2];

    lane_open(&lane, 4, 8, 16);
    make_udp_pair(pair);
    item_open(&item, &lane, pair[0]);
    iocp_op_poll(&item.op, IOCP_POLL_READ);
    item_submit_by_the_dead(&item);
    send_all(pair[1], "abcdef", 6);
    expect_answer(&item, IOCP_POLL_READ);
    CHECK_EQ(lane.resubmits, 1);
    iocp_op_recv_from(&item.op, data, sizeof(data), &from);
    item_submit(&item);
    expect_answer(&item, 4);
    CHECK_EQ(item.op.event.flags, IOCP_PACKET_TRUNCATED);

    iocp_op_recv_from(&item.op, data, sizeof(data), &from);
    item_submit_by_the_dead(&item);
    send_all(pair[1], "xyz", 3);
    expect_answer(&item, 3);
    CHECK_EQ(item.op.event.flags, 0);
    CHECK_EQ(lane.resubmits, 2);
    item_close(&item);
    close(pair[1]);
    lane_close(&lane);
}

TEST(cancel_of_an_op_of_a_thread_that_has_exited)
{
    struct lane lane;
    struct item item;
    char data[8];
    int pair[2];

    lane_open(&lane, 4, 8, 16);
    make_connected_pair(pair);
    item_open(&item, &lane, pair[0]);
    iocp_op_recv(&item.op, data, sizeof(data));
    item_submit_by_the_dead(&item);
    item_cancel(&item);
    iocp_op_recv_stream(&item.op);
    item_submit_by_the_dead(&item);
    item_cancel(&item);
    CHECK_EQ(lane.resubmits, 0);
    item_close(&item);
    close(pair[1]);
    lane_close(&lane);
}

static void *look_and_exit(void *context)
{
    lane_look(context);
    return NULL;
}

TEST(bell_works_when_the_thread_that_armed_it_has_exited)
{
    struct lane lane;
    pthread_t thread;
    int round;

    lane_open(&lane, 4, 8, 16);
    CHECK_EQ(pthread_create(&thread, NULL, look_and_exit, &lane), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    for (round = 0; round < 3; round++) {
        CHECK_EQ(pthread_create(&thread, NULL, ring_the_bell, &lane), 0);
        lane_wait(&lane);
        CHECK_EQ(pthread_join(thread, NULL), 0);
    }
    lane_close(&lane);
}

/* ---- The bell. */

struct bounce {
    struct lane lanes[2];
    uint32_t rounds;
};

static void *bounce_back(void *context)
{
    struct bounce *bounce = context;
    uint32_t i;

    for (i = 0; i < bounce->rounds; i++) {
        lane_wait(&bounce->lanes[1]);
        backend->bell(bounce->lanes[0].kernel);
    }
    return NULL;
}

/* Each bell ends one wait and no more: two threads that wait for each other, for ever if one is
 * lost. */
TEST(bell_is_never_lost)
{
    struct bounce bounce;
    pthread_t thread;
    uint32_t i;

    lane_open(&bounce.lanes[0], 4, 8, 16);
    lane_open(&bounce.lanes[1], 4, 8, 16);
    bounce.rounds = 3000;
    CHECK_EQ(pthread_create(&thread, NULL, bounce_back, &bounce), 0);
    for (i = 0; i < bounce.rounds; i++) {
        backend->bell(bounce.lanes[1].kernel);
        lane_wait(&bounce.lanes[0]);
    }
    CHECK_EQ(pthread_join(thread, NULL), 0);
    lane_close(&bounce.lanes[0]);
    lane_close(&bounce.lanes[1]);
}

/* ---- The end of a stream. */

#define RESETS 50000
#define RESETS_LIMIT_NS UINT64_C(5000000000) /* fewer then, beside other work */
#define RESETS_OVER UINT32_MAX
#define RESET_SPIN_MAX 3000 /* steps: a few microseconds, which the two threads meet within */

struct resetter {
    int fd;
    uint32_t round; /* atomic: the other side's; RESETS_OVER: no more come */
    uint32_t done;  /* atomic: the last round that is over */
};

/* Some time, without a system call, so that the two meet within a microsecond. */
static void spin(uint32_t *state)
{
    volatile uint32_t steps;

    *state = *state * 1664525u + 1013904223u;
    for (steps = (*state >> 8) % RESET_SPIN_MAX; steps; steps--)
        ;
}

/* The next value of a word that is `old`. */
static uint32_t await_change(uint32_t *word, uint32_t old)
{
    uint32_t looks = 0;
    uint32_t value;

    while ((value = iocp__load_acquire(word)) == old) {
        if (++looks % 1000 == 0)
            sched_yield();
    }
    return value;
}

static void *reset_each(void *context)
{
    struct resetter *resetter = context;
    uint32_t random = 1;
    uint32_t round = 0;

    while ((round = await_change(&resetter->round, round)) != RESETS_OVER) {
        spin(&random);
        send(resetter->fd, "x", 1, 0);
        close(resetter->fd);
        iocp__store_release(&resetter->done, round);
    }
    return NULL;
}

static void expect_reset_answer(struct lane *lane)
{
    struct iocp_event *event;

    while ((event = lane_next(lane))->flags & IOCP_PACKET_MORE)
        iocp_buffer_unref(event->buffer);
    CHECK_EQ(event->result, IOCP_ECONNRESET);
}

/* A byte and a reset that come while the kernel begins to wait for them: a request of many shots
 * takes the byte and, about once in 10,000 times, misses the reset (Linux 6.18.44). */
TEST(a_reset_that_meets_the_start_of_a_stream)
{
    struct linger at_once = {1, 0};
    struct resetter resetter;
    struct lane lane;
    struct item item;
    pthread_t thread;
    uint32_t random = 7;
    uint32_t round;
    uint64_t until_ns = iocp__os_now_ns() + RESETS_LIMIT_NS;

    lane_open(&lane, 4, 8, 16);
    memset(&resetter, 0, sizeof(resetter));
    CHECK_EQ(pthread_create(&thread, NULL, reset_each, &resetter), 0);
    for (round = 1; round <= RESETS && iocp__os_now_ns() < until_ns; round++) {
        int pair[2];
        make_connected_pair(pair);
        net_no_delay(pair[1]);
        setsockopt(pair[1], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        item_open(&item, &lane, pair[0]);
        iocp_op_recv_stream(&item.op);
        resetter.fd = pair[1];
        iocp__store_release(&resetter.round, round);
        spin(&random);
        item_submit(&item);
        lane_look(&lane);
        await_change(&resetter.done, round - 1);
        expect_reset_answer(&lane);
        item_close(&item);
    }
    iocp__store_release(&resetter.round, RESETS_OVER);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    lane_close(&lane);
}

/* ---- Reaping by another thread. */

struct submitter {
    struct item *item;
    struct latch submitted;
    struct latch release;
    uint32_t spin; /* atomic: until it is 0 */
};

static void *submit_and_block(void *context)
{
    struct submitter *submitter = context;

    item_submit(submitter->item);
    lane_look(submitter->item->lane);
    latch_add(&submitter->submitted, 1);
    latch_wait_for(&submitter->release, 1);
    return NULL;
}

static void *submit_and_spin(void *context)
{
    struct submitter *submitter = context;

    item_submit(submitter->item);
    lane_look(submitter->item->lane);
    latch_add(&submitter->submitted, 1);
    while (iocp__load_relaxed(&submitter->spin))
        ;
    return NULL;
}

static void reap_for(void *(*run)(void *context))
{
    struct submitter submitter;
    struct lane lane;
    struct item item;
    pthread_t thread;
    char data[8];
    int pair[2];

    lane_open(&lane, 4, 8, 16);
    make_connected_pair(pair);
    item_open(&item, &lane, pair[0]);
    submitter.item = &item;
    submitter.spin = 1;
    latch_init(&submitter.submitted);
    latch_init(&submitter.release);
    iocp_op_recv(&item.op, data, sizeof(data));
    CHECK_EQ(pthread_create(&thread, NULL, run, &submitter), 0);
    latch_wait_for(&submitter.submitted, 1);
    send_all(pair[1], "abc", 3);
    expect_answer(&item, 3);
    CHECK_EQ(lane.resubmits, 0);

    /* Another op, canceled by this thread. */
    iocp_op_recv(&item.op, data, sizeof(data));
    item_submit(&item);
    item_cancel(&item);
    iocp__store_relaxed(&submitter.spin, 0);
    latch_add(&submitter.release, 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    item_close(&item);
    close(pair[1]);
    lane_close(&lane);
}

TEST(others_reap_while_the_submitter_is_blocked)
{
    reap_for(submit_and_block);
}

TEST(others_reap_while_the_submitter_spins)
{
    reap_for(submit_and_spin);
}
