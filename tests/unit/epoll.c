/* The epoll backend alone: what is only its own. Edges that do not come again, turns, descriptors
 * that cannot be polled, helper threads. What all backends share is in tests/backend. */
#include "backend/epoll.h"
#include "backend/files.h"
#include "backend/try.h"
#include "support/backend_contract.h"

#include <iocp/memory.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct iocp__backend *const backend = &iocp__backend_epoll;

/* A lane and a connection. */
struct lane {
    struct contract contract;
    struct iocp_object object;
    struct iocp_op op;
    int peer;
};

static void lane_open(struct lane *lane, const int pair[2], size_t buffer_size)
{
    contract_open_sized(&lane->contract, backend, buffer_size, 64);
    contract_attach(&lane->contract, &lane->object, pair[0]);
    lane->peer = pair[1];
}

static void lane_open_tcp(struct lane *lane)
{
    int pair[2];

    make_connected_pair(pair);
    lane_open(lane, pair, 4096);
}

static void lane_open_unix(struct lane *lane)
{
    int pair[2];

    make_unix_pair(pair);
    lane_open(lane, pair, 4096);
}

static void lane_close(struct lane *lane)
{
    contract_detach(&lane->contract, &lane->object);
    close(lane->peer);
    contract_close(&lane->contract);
    CHECK_EQ(iocp_memory_count(), 0);
}

static void lane_submit(struct lane *lane)
{
    contract_submit(&lane->contract, &lane->object, &lane->op);
}

static int64_t lane_run(struct lane *lane)
{
    lane_submit(lane);
    return contract_answer(&lane->contract, &lane->op);
}

/* The stream in lane->op brings exactly this text next, in as many pieces as it likes. */
static void lane_expect(struct lane *lane, const char *text)
{
    while (*text) {
        struct iocp_event *event = contract_next(&lane->contract);
        CHECK_GT(event->result, 0);
        CHECK_LE(event->result, strlen(text));
        CHECK_MEM(iocp_buffer_data(event->buffer), text, (size_t)event->result);
        text += event->result;
        contract_release(event);
    }
}

static void lane_end_stream(struct lane *lane)
{
    contract_cancel(&lane->contract, &lane->op);
    CHECK_EQ(contract_answer(&lane->contract, &lane->op), IOCP_ECANCELED);
}

/* How many waits it takes to sleep for a while. */
static int lane_count_waits(struct lane *lane)
{
    uint64_t deadline_ns = iocp__os_now_ns() + 20000000;
    int count = 0;

    while (iocp__os_now_ns() < deadline_ns) {
        backend->wait(lane->contract.kernel, deadline_ns, &lane->contract.done);
        count++;
    }
    return count;
}

/* ---- Short receives that have not emptied the socket. */

TEST(urgent_data_does_not_stop_a_stream)
{
    struct lane lane;

    lane_open_tcp(&lane);
    iocp_op_recv_stream(&lane.op);
    lane_submit(&lane);
    for (int i = 0; i < 3; i++) {
        /* A receive stops at the urgent byte, which is not in the stream. */
        send_all(lane.peer, "abc", 3);
        CHECK_EQ(send(lane.peer, "!", 1, MSG_OOB), 1);
        send_all(lane.peer, "def", 3);
        lane_expect(&lane, "abcdef");
        send_all(lane.peer, "ghi", 3);
        lane_expect(&lane, "ghi");
    }
    lane_end_stream(&lane);
    lane_close(&lane);
}

static void send_with_descriptor(int fd, const char *text)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iocp_slice slice = {.data = (void *)(uintptr_t)text, .size = strlen(text)};
    struct msghdr message = {.msg_iov = (void *)&slice,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    CHECK_EQ(sendmsg(fd, &message, 0), strlen(text));
}

TEST(descriptors_do_not_stop_a_unix_stream)
{
    struct lane lane;

    lane_open_unix(&lane);
    iocp_op_recv_stream(&lane.op);
    lane_submit(&lane);
    for (int i = 0; i < 3; i++) {
        /* A receive stops behind the message that carries one. */
        send_with_descriptor(lane.peer, "abc");
        send_all(lane.peer, "def", 3);
        lane_expect(&lane, "abcdef");
    }
    lane_end_stream(&lane);
    lane_close(&lane);
}

/* ---- Room. */

TEST(room_is_not_asked_for_when_nobody_waits)
{
    static char data[1 << 20];
    struct lane lane;
    size_t left = sizeof(data);
    char byte;

    lane_open_unix(&lane);
    iocp_op_send(&lane.op, data, sizeof(data));
    lane_submit(&lane);
    contract_nothing(&lane.contract);
    while (left > 0) {
        ssize_t got = recv(lane.peer, data, sizeof(data), MSG_DONTWAIT);
        left -= got > 0 ? (size_t)got : 0;
        backend->wait(lane.contract.kernel, 0, &lane.contract.done);
    }
    CHECK_EQ(contract_answer(&lane.contract, &lane.op), sizeof(data));
    contract_nothing(&lane.contract);

    /* From here on the peer's receives are no events. */
    for (int i = 0; i < 3; i++) {
        iocp_op_send(&lane.op, "x", 1);
        CHECK_EQ(lane_run(&lane), 1);
        recv_exact(lane.peer, &byte, 1);
        CHECK_EQ(lane_count_waits(&lane), 1);
    }
    lane_close(&lane);
}

TEST(unix_datagram_to_a_full_socket_ends)
{
    struct iocp_address address = net_unix_abstract();
    struct contract contract;
    struct iocp_object object;
    struct iocp_op op;
    int64_t result = 1;
    int bound = socket(AF_UNIX, SOCK_DGRAM, 0);

    CHECK_OK(iocp__socket_bind(bound, &address, NULL));
    contract_open(&contract, backend);
    contract_attach(&contract, &object, socket(AF_UNIX, SOCK_DGRAM, 0));
    for (int i = 0; i < 10000 && result == 1; i++) {
        iocp_op_send_to(&op, "x", 1, &address);
        contract_submit(&contract, &object, &op);
        result = contract_answer(&contract, &op);
    }
    CHECK_EQ(result, IOCP_EAGAIN);
    contract_detach(&contract, &object);
    close(bound);
    contract_close(&contract);
}

/* ---- Turns. */

TEST(answers_at_submit_do_not_keep_events_back)
{
    struct lane lane;
    struct iocp_op recv;
    char byte;
    int waits = 0;

    lane_open_tcp(&lane);
    iocp_op_recv(&recv, &byte, 1);
    contract_submit(&lane.contract, &lane.object, &recv);
    send_all(lane.peer, "x", 1);
    /* A send that is answered at once before every wait. */
    for (struct iocp_event *event = NULL; event != &recv.event; waits++) {
        iocp_op_send(&lane.op, "y", 1);
        lane_submit(&lane);
        backend->wait(lane.contract.kernel, 0, &lane.contract.done);
        while ((event = iocp__queue_pop(&lane.contract.done))) {
            event->op->owner->pending--;
            if (event == &recv.event)
                break;
        }
        CHECK_LT(waits, 20);
    }
    backend->wait(lane.contract.kernel, 0, &lane.contract.done);
    while (iocp__queue_pop(&lane.contract.done))
        lane.object.pending--;
    lane_close(&lane);
}

TEST(busy_stream_leaves_others_their_turn)
{
    static char data[50000];
    struct lane lane;
    struct iocp_object other;
    struct iocp_op recv;
    char byte;
    int pair[2];
    int before = 0;
    size_t got = 0;

    make_connected_pair(pair);
    lane_open(&lane, pair, 512);
    make_unix_pair(pair);
    contract_attach(&lane.contract, &other, pair[0]);
    iocp_op_recv_stream(&lane.op);
    lane_submit(&lane);
    iocp_op_recv(&recv, &byte, 1);
    contract_submit(&lane.contract, &other, &recv);
    send_all(lane.peer, data, sizeof(data));
    send_all(pair[1], "x", 1);
    for (;;) {
        struct iocp_event *event = contract_next(&lane.contract);
        if (event == &recv.event)
            break;
        got += (size_t)event->result;
        contract_release(event);
        CHECK_LT(before++, 20);
    }
    while (got < sizeof(data)) {
        struct iocp_event *event = contract_next(&lane.contract);
        CHECK_GT(event->result, 0);
        got += (size_t)event->result;
        contract_release(event);
    }
    lane_end_stream(&lane);
    contract_detach(&lane.contract, &other);
    close(pair[1]);
    lane_close(&lane);
}

/* There is no memory for one more buffer, and a moment later there is: the stream, which found
 * none, goes on, although no buffer comes back to the pool. */
TEST(stream_goes_on_when_there_is_memory_again)
{
    struct lane lane;
    struct iocp_event *event;

    lane_open_tcp(&lane);
    iocp_op_recv_stream(&lane.op);
    lane_submit(&lane);
    send_all(lane.peer, "one", 3);
    event = contract_next(&lane.contract);
    CHECK_EQ(event->result, 3);
    struct iocp_buffer *held = event->buffer; /* the one that a pool begins with */
    iocp_memory_fail(1, 0);
    send_all(lane.peer, "two", 3);
    event = contract_next(&lane.contract);
    CHECK_EQ(event->result, 3);
    CHECK_EQ(lane.contract.starved, 1);
    iocp_buffer_unref(event->buffer);
    iocp_buffer_unref(held);
    contract_cancel(&lane.contract, &lane.op);
    CHECK_EQ(contract_answer(&lane.contract, &lane.op), IOCP_ECANCELED);
    lane_close(&lane);
}

/* ---- What the system refuses. */

TEST(file_cannot_be_polled)
{
    char path[] = "/tmp/iocp-epoll-XXXXXX";
    struct contract contract;
    struct iocp_object object;
    struct iocp_op op;
    int fd = mkstemp(path);

    CHECK_GE(fd, 0);
    unlink(path);
    contract_open(&contract, backend);
    contract_attach(&contract, &object, fd);
    iocp_op_poll(&op, IOCP_POLL_READ);
    contract_submit(&contract, &object, &op);
    CHECK_EQ(contract_answer(&contract, &op), IOCP_ENOTSUP);
    contract_detach(&contract, &object);
    contract_close(&contract);
}

TEST(failed_connect_whose_error_was_taken_fails)
{
    struct iocp_address address = net_loopback();
    struct contract contract;
    struct iocp_object object;
    struct iocp_op op;
    int bound = socket(AF_INET, SOCK_STREAM, 0);
    int64_t result;

    CHECK_OK(iocp__socket_bind(bound, &address, NULL));
    address = net_local(bound);
    contract_open(&contract, backend);
    contract_attach(&contract, &object, socket(AF_INET, SOCK_STREAM, 0));
    iocp_op_connect(&op, &address);
    contract_submit(&contract, &object, &op);
    /* Somebody else asks before the lane does. */
    (void)iocp__socket_pending_error(object.handle);
    result = contract_answer(&contract, &op);
    CHECK(result == IOCP_ECONNABORTED || result == IOCP_ECONNREFUSED);
    contract_detach(&contract, &object);
    close(bound);
    contract_close(&contract);
}

TEST(lane_without_memory_is_not_made)
{
    struct iocp__kernel *kernel = NULL;
    struct iocp_pool *pool;

    CHECK_OK(iocp_pool_create(64, 1, &pool));
    struct iocp__kernel_config config = {.pool = pool, .buffer_count = 1};
    iocp_memory_fail(1, 0);
    CHECK_EQ(backend->create(&config, &kernel), IOCP_ENOMEM);
    iocp_memory_fail(0, 0);
    iocp_pool_unref(pool);
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(ops_without_memory_are_answered)
{
    struct lane lane;
    struct contract other;
    char byte;

    lane_open_tcp(&lane);
    contract_open(&other, backend);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        iocp_memory_fail(nth, 1);
        iocp_op_recv(&lane.op, &byte, 1);
        CHECK_EQ(lane_run(&lane), IOCP_ENOMEM);
        iocp_op_read(&lane.op, &byte, 1, 0);
        CHECK_EQ(lane_run(&lane), IOCP_ENOMEM);
        /* A watch that could not be kept makes the wait return at once. */
        backend->watch(lane.contract.kernel, other.kernel);
        backend->wait(lane.contract.kernel, UINT64_MAX, &lane.contract.done);
        iocp_memory_fail(0, 0);
    }
    send_all(lane.peer, "x", 1);
    iocp_op_recv(&lane.op, &byte, 1);
    CHECK_EQ(lane_run(&lane), 1);
    contract_close(&other);
    lane_close(&lane);
}

TEST(many_objects_come_and_go_without_allocating)
{
    struct contract contract;
    struct iocp_object objects[100];
    struct iocp_op ops[100];
    char byte;
    size_t count = 0;

    contract_open(&contract, backend);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 100; i++) {
            contract_attach(&contract, &objects[i], socket(AF_INET, SOCK_DGRAM, 0));
            iocp_op_recv(&ops[i], &byte, 1);
            contract_submit(&contract, &objects[i], &ops[i]);
        }
        if (round == 0)
            count = iocp_memory_count();
        CHECK_EQ(iocp_memory_count(), count);
        for (int i = 99; i >= 0; i--) {
            contract_cancel(&contract, &ops[i]);
            CHECK_EQ(contract_answer(&contract, &ops[i]), IOCP_ECANCELED);
            contract_detach(&contract, &objects[i]);
        }
    }
    contract_close(&contract);
    CHECK_EQ(iocp_memory_count(), 0);
}

/* ---- Time and threads. */

TEST(watch_tells_of_a_buffer_that_came_back)
{
    struct contract watcher;
    struct lane lane;
    struct iocp_event *held;
    int pair[2];

    contract_open(&watcher, backend);
    make_connected_pair(pair);
    contract_open_sized(&lane.contract, backend, 512, 1);
    contract_attach(&lane.contract, &lane.object, pair[0]);
    lane.peer = pair[1];
    iocp_op_recv_stream(&lane.op);
    lane_submit(&lane);
    for (int i = 0; i < 3; i++) {
        char data[1024] = "";
        send_all(lane.peer, data, sizeof(data));
        held = contract_next(&lane.contract);
        CHECK_EQ(held->result, 512);
        contract_nothing(&lane.contract);
        backend->watch(watcher.kernel, lane.contract.kernel);
        contract_release(held);
        backend->wait(watcher.kernel, UINT64_MAX, &watcher.done);
        held = contract_next(&lane.contract);
        CHECK_EQ(held->result, 512);
        contract_release(held);
    }
    lane_end_stream(&lane);
    contract_detach(&lane.contract, &lane.object);
    close(lane.peer);
    contract_close(&lane.contract);
    contract_close(&watcher);
}

TEST(old_kernels_sleep_in_milliseconds_rounded_up)
{
    struct lane lane;

    lane_open_tcp(&lane);
    iocp__epoll_of(lane.contract.kernel)->no_pwait2 = 1;
    for (uint64_t left_ns = 1; left_ns < 10000000; left_ns *= 7) {
        uint64_t deadline_ns = iocp__os_now_ns() + left_ns;
        backend->wait(lane.contract.kernel, deadline_ns, &lane.contract.done);
        CHECK_GE(iocp__os_now_ns(), deadline_ns);
    }
    lane_close(&lane);
}

/* Threads of this process that are helpers of files.c, by their name. */
static int helper_count(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int count = 0;

    CHECK(tasks != NULL);
    for (struct dirent *entry; (entry = readdir(tasks));) {
        char path[300];
        char name[32] = "";
        FILE *file;
        snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
        file = fopen(path, "r");
        if (file && fgets(name, sizeof(name), file))
            count += strncmp(name, "iocp-file", 9) == 0;
        if (file)
            fclose(file);
    }
    closedir(tasks);
    return count;
}

TEST(helpers_are_few_and_leave)
{
    static struct iocp_op ops[200];
    static char bytes[200];
    struct contract contract;
    struct iocp_object object;
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);

    CHECK_GE(fd, 0);
    contract_open(&contract, backend);
    contract_attach(&contract, &object, fd);
    CHECK_EQ(helper_count(), 0);
    for (int i = 0; i < 200; i++) {
        iocp_op_read(&ops[i], &bytes[i], 1, 0);
        contract_submit(&contract, &object, &ops[i]);
    }
    for (int i = 0; i < 200; i++)
        CHECK_EQ(contract_next(&contract)->result, 1);
    /* They are there until the lane is gone, and by now have their name. */
    CHECK_GT(helper_count(), 0);
    CHECK_LE(helper_count(), IOCP__FILES_THREADS_MAX);
    contract_detach(&contract, &object);
    contract_close(&contract);
    CHECK_EQ(iocp_memory_count(), 0);
    /* A joined thread leaves /proc a moment later. */
    while (helper_count() > 0)
        sched_yield();
}

static enum iocp__nature nature_of(int domain, int type, int protocol)
{
    int descriptor = socket(domain, type, protocol);
    CHECK_GE(descriptor, 0);
    enum iocp__nature nature = iocp__try_nature(descriptor);
    close(descriptor);
    return nature;
}

TEST(natures_of_sockets)
{
    int file = open("/dev/null", O_RDONLY);
    CHECK_EQ(nature_of(AF_INET, SOCK_STREAM, 0), IOCP__NATURE_TCP);
    CHECK_EQ(nature_of(AF_INET, SOCK_DGRAM, 0), IOCP__NATURE_DATAGRAM);
    CHECK_EQ(nature_of(AF_UNIX, SOCK_STREAM, 0), IOCP__NATURE_UNIX);
    CHECK_EQ(nature_of(AF_UNIX, SOCK_DGRAM, 0), IOCP__NATURE_DATAGRAM);
    CHECK_EQ(iocp__try_nature(file), IOCP__NATURE_NONE);
    close(file);
}

/* Whole segments come out of it, headers and all, one at a time. */
TEST(a_raw_socket_of_tcp_is_no_stream)
{
    int descriptor = socket(AF_INET, SOCK_RAW, IPPROTO_TCP);
    if (descriptor < 0 && errno == EPERM)
        SKIP("raw sockets are not permitted here");
    close(descriptor);
    CHECK_EQ(nature_of(AF_INET, SOCK_RAW, IPPROTO_TCP), IOCP__NATURE_DATAGRAM);
}
