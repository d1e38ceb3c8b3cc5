/* The n-th system call fails under a port, for the calls that a service does not make: reads and
 * writes of files, datagrams, what a lane that watches another does, what the watch reads of a
 * handler that blocks. See calls_linux.h for how; tests/net/faults_linux.c has the others. */
#include "support/calls_linux.h"
#include "support/port.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FILE_SIZE 10000
#define LIFE_CALLS 8

/* One of each. The handles are made while nothing fails, and the port takes them. */
struct life {
    struct iocp_port *port;
    struct thing file;
    struct thing datagrams;
    struct thing pipe;
    iocp_handle handles[3]; /* of the things, in this order */
    iocp_handle pipe_writer;
    int udp_peer;
    struct iocp_address udp_address;
    struct latch answered;
    struct call write;
    struct call read;
    struct call send_to;
    struct call recv_from;
    struct call poll;
    struct call stuck[2];
    struct call helper; /* lets them go on */
    struct latch helped;
    char written[FILE_SIZE];
    char read_back[FILE_SIZE];
    char datagram[16];
};

static void life_handles(struct life *life)
{
    iocp_handle ends[2];
    struct iocp_address ours;
    system_pipe(ends);
    life->handles[0] = system_file(NULL);
    life->handles[1] = net_udp(&ours);
    life->handles[2] = ends[0];
    life->pipe_writer = ends[1];
    life->udp_peer = net_udp(&life->udp_address);
    /* What is received is there before it is asked for. */
    CHECK_EQ(net_send_to(life->udp_peer, "datagram", 8, &ours), 8);
}

static void stuck_answered(const struct iocp_packet *packet)
{
    struct life *life = packet->op->context;
    latch_wait_for(&life->helped, 1);
    call_answered(packet);
}

static void helper_answered(const struct iocp_packet *packet)
{
    struct life *life = packet->op->context;
    latch_add(&life->helped, 1);
    call_answered(packet);
}

static void life_calls(struct life *life)
{
    struct call *calls[LIFE_CALLS] = {&life->write,     &life->read,  &life->send_to,
                                      &life->recv_from, &life->poll,  &life->stuck[0],
                                      &life->stuck[1],  &life->helper};
    for (int i = 0; i < LIFE_CALLS; i++) {
        call_init(calls[i]);
        calls[i]->op.context = life;
        calls[i]->latch = &life->answered;
    }
    life->stuck[0].op.handler = stuck_answered;
    life->stuck[1].op.handler = stuck_answered;
    life->helper.op.handler = helper_answered;
}

/* By two workers, each with a lane if it got one; the pipe goes to the second. */
static void life_first_half(struct life *life)
{
    struct pump pump;
    thing_open(&life->file, life->port, life->handles[0], 0);
    thing_open(&life->datagrams, life->port, life->handles[1], 0);
    pump_start(&pump, life->port, 2);
    for (size_t i = 0; i < FILE_SIZE; i++)
        life->written[i] = (char)(i * 13 + i / 256);
    iocp_op_write(&life->write.op, life->written, FILE_SIZE, 0);
    call_submit(&life->write, life->port, &life->file.object);
    iocp_op_send_to(&life->send_to.op, "hello", 5, &life->udp_address);
    call_submit(&life->send_to, life->port, &life->datagrams.object);
    iocp_op_recv_from(&life->recv_from.op, life->datagram, sizeof(life->datagram), NULL);
    call_submit(&life->recv_from, life->port, &life->datagrams.object);
    latch_wait_for(&life->answered, 3);
    thing_open(&life->pipe, life->port, life->handles[2], 0);
    pump_stop(&pump);
}

/* By one worker, who watches the lane of the other for what is still to come; then by three, two of
 * whom do not come back by themselves. */
static void life_second_half(struct life *life)
{
    struct pump one;
    struct pump more;
    pump_start(&one, life->port, 1);
    iocp_op_poll(&life->poll.op, IOCP_POLL_READ);
    call_submit(&life->poll, life->port, &life->pipe.object);
    iocp_op_read(&life->read.op, life->read_back, FILE_SIZE, 0);
    call_submit(&life->read, life->port, &life->file.object);
    latch_wait_for(&life->answered, 4);
    system_pipe_write(life->pipe_writer, 'x');
    latch_wait_for(&life->answered, 5);
    pump_start(&more, life->port, 2);
    call_post(&life->stuck[0], life->port, 0, 0);
    call_post(&life->stuck[1], life->port, 0, 0);
    call_post(&life->helper, life->port, 0, 0);
    latch_wait_for(&life->answered, LIFE_CALLS);
    pump_stop(&one);
    pump_stop(&more);
}

/* Either what was asked for, or the error, with the system's own code beside it. */
static void check_answer(const struct call *call, int64_t result, int os_error)
{
    CHECK_EQ(call_finals(call), 1);
    if (call->packet.result == result)
        return;
    CHECK(calls_failed());
    /* That no thread could be had is no answer to a call of the op's own. */
    CHECK(call->packet.os_error == os_error || (call->packet.os_error == 0 && os_error == EAGAIN));
    CHECK_EQ(call->packet.result, iocp_error_from_os(os_error));
}

static void life_answers(struct life *life, int os_error)
{
    check_answer(&life->write, FILE_SIZE, os_error);
    check_answer(&life->send_to, 5, os_error);
    check_answer(&life->recv_from, 8, os_error);
    check_answer(&life->poll, IOCP_POLL_READ, os_error);
    check_answer(&life->stuck[0], 0, os_error);
    check_answer(&life->stuck[1], 0, os_error);
    check_answer(&life->helper, 0, os_error);
    if (life->recv_from.packet.result == 8)
        CHECK_MEM(life->datagram, "datagram", 8);
    /* A write that failed may have written nothing: then the file is empty. */
    if (life->write.packet.result != FILE_SIZE)
        return;
    check_answer(&life->read, FILE_SIZE, os_error);
    if (life->read.packet.result == FILE_SIZE)
        CHECK_MEM(life->read_back, life->written, FILE_SIZE);
}

/* Packets that the system has thrown away since a processor's queue of them was full. */
static uint64_t packets_dropped(void)
{
    uint64_t sum = 0;
    char line[256];
    FILE *file = fopen("/proc/net/softnet_stat", "r");
    CHECK(file);
    while (fgets(line, sizeof(line), file)) {
        unsigned dropped = 0;
        CHECK_EQ(sscanf(line, "%*x %x", &dropped), 1);
        sum += dropped;
    }
    fclose(file);
    return sum;
}

/* What was sent has arrived. Beside programs that keep the loopback busy a datagram may be lost. */
static void life_expect_datagram(const struct life *life, uint64_t dropped_before)
{
    char data[5];
    int64_t count = net_recv_some(life->udp_peer, data, sizeof(data));
    if (count == IOCP_EAGAIN && packets_dropped() > dropped_before)
        return;
    CHECK_EQ(count, 5);
    CHECK_MEM(data, "hello", 5);
}

/* The port could not be made: the handles are the caller's. */
static void life_drop_handles(struct life *life)
{
    for (int i = 0; i < 3; i++)
        system_close(life->handles[i]);
}

static void life_run(struct life *life, int os_error)
{
    struct iocp_port_config config;
    struct thing *things[3] = {&life->file, &life->datagrams, &life->pipe};
    port_config(&config, 2);
    config.buffer_count = 32;
    int error = iocp_port_create(&config, &life->port);
    if (error < 0) {
        CHECK(calls_failed());
        CHECK(error == iocp_error_from_os(os_error) || error == IOCP_ENOTSUP ||
              error == IOCP_ENOMEM);
        life_drop_handles(life);
        return;
    }
    life_first_half(life);
    life_second_half(life);
    life_answers(life, os_error);
    for (int i = 0; i < 3; i++)
        iocp_object_unref(&things[i]->object);
    CHECK(!iocp_port_unref(life->port));
    for (int i = 0; i < 3; i++)
        CHECK_EQ(thing_destroyed(things[i]), 1);
}

/* Returns not 0 when a call has failed. */
static int life_live(enum calls_name name, uint64_t nth, int os_error)
{
    static struct life life;
    int handles = system_open_handles();
    uint64_t dropped = packets_dropped();
    memset(&life, 0, sizeof(life));
    latch_init(&life.answered);
    latch_init(&life.helped);
    life_calls(&life);
    life_handles(&life);
    if (name == CALLS_CLONE || name == CALLS_OPENAT)
        calls_fail_elsewhere(name, nth, os_error);
    else
        calls_fail(name, nth, os_error);
    life_run(&life, os_error);
    int failed = calls_failed();
    calls_fail(CALLS_NONE, 0, 0);
    if (life.send_to.packet.result == 5)
        life_expect_datagram(&life, dropped);
    system_close(life.pipe_writer);
    net_close(life.udp_peer);
    CHECK_EQ(iocp_memory_count(), 0);
    CHECK_EQ(system_open_handles(), handles);
    return failed;
}

/* Some are made only when threads meet in a certain way: the first may take several lives. */
static void each_call_fails(const char *text, enum calls_name name, const int *os_errors)
{
    for (const int *os_error = os_errors; *os_error; os_error++) {
        uint64_t nth = 1;
        for (int lives = 0; nth == 1 && lives < 100; lives++)
            nth += life_live(name, 1, *os_error) != 0;
        CHECK_EQ(nth, 2);
        while (life_live(name, nth, *os_error))
            nth++;
        printf("%-14s %-13s %3llu times\n", text, iocp_error_name(iocp_error_from_os(*os_error)),
               (unsigned long long)nth - 1);
    }
}

#define RUN(call, ...) each_call_fails(#call, CALLS_##call, (const int[]){__VA_ARGS__, 0})

#define RUN_ON_URING(...) (calls_on_uring() ? RUN(__VA_ARGS__) : (void)0)
#define RUN_ON_EPOLL(...) (calls_on_uring() ? (void)0 : RUN(__VA_ARGS__))

TEST(calls_of_files_and_datagrams)
{
    calls_watch();
    RUN(RECV, EINTR, ENOMEM, ECONNREFUSED);
    RUN(SEND, EINTR, ENOMEM, ENOBUFS, EPERM, ENETUNREACH);
    RUN(CLONE, EAGAIN);
    RUN_ON_EPOLL(PREAD64, EIO, EINTR, ENOMEM);
    RUN_ON_EPOLL(PWRITE64, EIO, ENOSPC, EINTR, EDQUOT);
    calls_pass();
}

TEST(calls_that_wait_and_watch)
{
    calls_watch();
    RUN(OPENAT, EMFILE, ENFILE, ENOENT);
    RUN_ON_EPOLL(POLL, EINTR, ENOMEM);
    RUN_ON_EPOLL(EPOLL_WAIT, EINTR);
    RUN_ON_EPOLL(EPOLL_CTL, ENOMEM, ENOSPC);
    RUN_ON_URING(URING_ENTER, EINTR, EAGAIN, EBUSY, EBADR);
    RUN_ON_URING(MEMBARRIER, EPERM, ENOSYS);
    calls_pass();
}

TEST(calls_that_make_lanes)
{
    calls_watch();
    RUN(EVENTFD2, EMFILE, ENFILE, ENOMEM);
    RUN_ON_EPOLL(EPOLL_CREATE1, EMFILE, ENFILE, ENOMEM);
    RUN_ON_URING(URING_SETUP, EMFILE, ENFILE, ENOMEM, EPERM, ENOSYS);
    RUN_ON_URING(URING_REGISTER, ENOMEM, EINVAL);
    RUN_ON_URING(SOCKETPAIR, EMFILE, ENFILE, ENOMEM);
    RUN_ON_URING(MMAP, ENOMEM, EAGAIN);
    calls_pass();
}

/* The watch could not be started when the second worker came, and no further one comes: a handler
 * that blocks is noticed all the same. */
TEST(a_watch_that_does_not_start_is_started_later)
{
    static struct life life;
    struct crew crew;
    calls_watch();
    latch_init(&life.answered);
    latch_init(&life.helped);
    life_calls(&life);
    life.port = port_open(1);
    calls_fail_elsewhere(CALLS_CLONE, 1, EAGAIN);
    crew_start(&crew, life.port, 2); /* both sleep */
    CHECK(calls_failed());
    call_post(&life.stuck[0], life.port, 0, 0);
    call_post(&life.helper, life.port, 0, 0);
    latch_wait_for(&life.answered, 2);
    crew_stop(&crew);
    port_end(life.port);
    calls_pass();
}

/* It could not be started when the second worker came, and could a moment later, since the first
 * one was out. When it has gone to sleep, it is woken as any other. */
TEST(a_watch_that_started_the_second_time_is_woken)
{
    static struct life life;
    struct crew crews[2];
    calls_watch();
    latch_init(&life.answered);
    latch_init(&life.helped);
    life_calls(&life);
    life.port = port_open(1);
    crew_start(&crews[0], life.port, 1);
    call_post(&life.stuck[0], life.port, 0, 0);
    crew_wait_asleep(&crews[0]); /* in the handler */
    calls_fail_elsewhere(CALLS_CLONE, 1, EAGAIN);
    crew_start(&crews[1], life.port, 1);
    CHECK(calls_failed());
    call_post(&life.helper, life.port, 0, 0);
    latch_wait_for(&life.answered, 2);
    uint32_t watch = system_thread_named("iocp-watch");
    CHECK(watch);
    thread_wait_asleep(watch);

    latch_init(&life.helped);
    call_post(&life.stuck[1], life.port, 0, 0);
    call_post(&life.helper, life.port, 0, 0);
    latch_wait_for(&life.answered, 4);
    for (int i = 0; i < 2; i++)
        crew_stop(&crews[i]);
    port_end(life.port);
    calls_pass();
}
