/* The contract of backends: accepts, connects, datagrams, polls, files. See backend_contract.h. */
#include "support/backend_contract.h"

#include <iocp/memory.h>

#include <string.h>

/* One lane, one object, one op. */
struct other {
    struct contract contract;
    struct iocp_object object;
    struct iocp_op op;
    struct iocp_address address; /* where the object listens or is bound */
};

static void other_open(struct other *other, const struct iocp__backend *backend, iocp_handle handle)
{
    contract_open(&other->contract, backend);
    contract_attach(&other->contract, &other->object, handle);
}

static void other_listen(struct other *other, const struct iocp__backend *backend)
{
    struct iocp_address any = net_loopback();

    other_open(other, backend, net_listen(&any, &other->address));
}

static void other_close(struct other *other)
{
    contract_detach(&other->contract, &other->object);
    contract_close(&other->contract);
    CHECK_EQ(iocp_memory_count(), 0);
}

static void other_submit(struct other *other)
{
    contract_submit(&other->contract, &other->object, &other->op);
}

static int64_t other_answer(struct other *other)
{
    return contract_answer(&other->contract, &other->op);
}

static int64_t other_run(struct other *other)
{
    other_submit(other);
    return other_answer(other);
}

/* ---- Accepting. */

/* An accepted handle: a connected socket of ours, non-blocking and close-on-exec. */
static void other_check_accepted(int64_t handle)
{
    struct iocp_address peer;

    CHECK_OK(handle);
    CHECK(net_is_nonblocking((int)handle));
    CHECK(!system_is_inherited((iocp_handle)handle));
    CHECK_OK(iocp__socket_peer((iocp_handle)handle, &peer));
    net_close((int)handle);
}

void contract_accept_waits(const struct iocp__backend *backend)
{
    struct other other;

    other_listen(&other, backend);
    for (int i = 0; i < 3; i++) {
        int client;
        iocp_op_accept(&other.op);
        other_submit(&other);
        contract_nothing(&other.contract);
        client = net_connect(&other.address);
        other_check_accepted(other_answer(&other));
        net_close(client);
    }
    other_close(&other);
}

void contract_accept_in_a_row(const struct iocp__backend *backend)
{
    struct other other;
    int clients[5];

    other_listen(&other, backend);
    for (int i = 0; i < 5; i++)
        clients[i] = net_connect(&other.address);
    for (int i = 0; i < 5; i++) {
        iocp_op_accept(&other.op);
        other_check_accepted(other_run(&other));
    }
    for (int i = 0; i < 5; i++)
        net_close(clients[i]);
    other_close(&other);
}

void contract_accept_canceled(const struct iocp__backend *backend)
{
    struct other other;

    other_listen(&other, backend);
    iocp_op_accept(&other.op);
    other_submit(&other);
    contract_cancel(&other.contract, &other.op);
    CHECK_EQ(other_answer(&other), IOCP_ECANCELED);
    iocp_op_accept_stream(&other.op);
    other_submit(&other);
    contract_nothing(&other.contract);
    contract_cancel(&other.contract, &other.op);
    CHECK_EQ(other_answer(&other), IOCP_ECANCELED);
    other_close(&other);
}

void contract_accept_of_a_socket_that_does_not_listen(const struct iocp__backend *backend)
{
    struct other other;

    other_open(&other, backend, net_stream(IOCP_FAMILY_IPV4));
    iocp_op_accept(&other.op);
    CHECK_EQ(other_run(&other), IOCP_EINVAL);
    iocp_op_accept_stream(&other.op);
    CHECK_EQ(other_run(&other), IOCP_EINVAL);
    other_close(&other);
}

void contract_accept_stream_brings_all(const struct iocp__backend *backend)
{
    struct other other;
    int clients[60];

    other_listen(&other, backend);
    iocp_op_accept_stream(&other.op);
    for (int i = 0; i < 60; i++) {
        if (i == 20)
            other_submit(&other);
        clients[i] = net_connect(&other.address);
    }
    for (int i = 0; i < 60; i++) {
        struct iocp_event *event = contract_next(&other.contract);
        CHECK(event->op == &other.op);
        CHECK_EQ(event->flags, IOCP_PACKET_MORE);
        other_check_accepted(event->result);
        contract_release(event);
    }
    contract_nothing(&other.contract);
    contract_cancel(&other.contract, &other.op);
    CHECK_EQ(other_answer(&other), IOCP_ECANCELED);
    for (int i = 0; i < 60; i++)
        net_close(clients[i]);
    other_close(&other);
}

void contract_accept_stream_without_descriptors_ends(const struct iocp__backend *backend)
{
    struct other other;
    int client;

    other_listen(&other, backend);
    client = net_connect(&other.address);
    system_lower_limit(0);
    iocp_op_accept_stream(&other.op);
    CHECK_EQ(other_run(&other), IOCP_EMFILE);
    iocp_op_accept(&other.op);
    CHECK_EQ(other_run(&other), IOCP_EMFILE);

    /* The connection was not lost. */
    system_restore_limit();
    iocp_op_accept(&other.op);
    other_check_accepted(other_run(&other));
    net_close(client);
    other_close(&other);
}

/* ---- Connecting. */

void contract_connect_then_talk(const struct iocp__backend *backend)
{
    struct iocp_address any = net_loopback();
    struct other other;
    struct iocp_address address;
    int listening = net_listen(&any, &address);
    char data[8];
    int peer;

    other_open(&other, backend, net_stream(IOCP_FAMILY_IPV4));
    iocp_op_connect(&other.op, &address);
    other_submit(&other);
    /* It is read at submit. */
    memset(&address, 0xff, sizeof(address));
    CHECK_EQ(other_answer(&other), 0);
    peer = net_accept(listening);
    iocp_op_send(&other.op, "hello", 5);
    CHECK_EQ(other_run(&other), 5);
    expect_bytes(peer, "hello", 5);
    iocp_op_recv(&other.op, data, sizeof(data));
    other_submit(&other);
    send_all(peer, "reply", 5);
    CHECK_EQ(other_answer(&other), 5);
    CHECK_MEM(data, "reply", 5);
    net_close(peer);
    net_close(listening);
    other_close(&other);
}

void contract_connect_refused(const struct iocp__backend *backend)
{
    struct iocp_address any = net_loopback();
    struct other other;
    struct iocp_address address;
    char byte;

    /* A port that nobody listens on, and that nobody else gets. */
    int bound = net_bound(&any, &address);
    other_open(&other, backend, net_stream(IOCP_FAMILY_IPV4));
    for (int i = 0; i < 3; i++) {
        if (i == 1 && test_wine_differs("a socket that was refused may connect again"))
            break;
        iocp_op_connect(&other.op, &address);
        CHECK_EQ(other_run(&other), IOCP_ECONNREFUSED);
        CHECK_EQ(iocp_error_from_os(other.op.event.os_error), IOCP_ECONNREFUSED);
    }
    iocp_op_recv(&other.op, &byte, 1);
    CHECK_LT(other_run(&other), 0);
    net_close(bound);
    other_close(&other);
}

void contract_connect_canceled(const struct iocp__backend *backend)
{
    struct iocp_address any = net_loopback();
    struct other other;
    struct net_deaf deaf;

    /* The connect is under way for seconds. */
    net_deaf_open(&deaf, &any);
    other_open(&other, backend, net_stream(IOCP_FAMILY_IPV4));
    iocp_op_connect(&other.op, &deaf.address);
    other_submit(&other);
    contract_nothing(&other.contract);
    contract_cancel(&other.contract, &other.op);
    CHECK_EQ(other_answer(&other), IOCP_ECANCELED);
    contract_nothing(&other.contract);
    net_deaf_close(&deaf);
    other_close(&other);
}

void contract_connect_to_no_unix_socket(const struct iocp__backend *backend)
{
    struct iocp_address address = net_unix_path();
    struct other other;

    other_open(&other, backend, net_stream(IOCP_FAMILY_UNIX));
    iocp_op_connect(&other.op, &address);
    CHECK_EQ(other_run(&other), IOCP_ENOENT);
    other_close(&other);
}

void contract_connect_to_a_full_unix_listener_ends(const struct iocp__backend *backend)
{
    struct iocp_address address = net_unix_path();
    struct other other;
    struct net_deaf deaf;

    if (test_on_windows())
        SKIP("Windows does not say when the backlog of a Unix socket is full");
    net_deaf_open(&deaf, &address);
    other_open(&other, backend, net_stream(IOCP_FAMILY_UNIX));
    iocp_op_connect(&other.op, &address);
    CHECK_EQ(other_run(&other), IOCP_EAGAIN);
    net_unix_remove(&address);
    net_deaf_close(&deaf);
    other_close(&other);
}

/* ---- Datagrams. */

void contract_datagram_with_its_address(const struct iocp__backend *backend)
{
    struct other other;
    struct iocp_address from;
    struct iocp_address peer_address;
    int peer = net_udp(&peer_address);
    char data[64];

    other_open(&other, backend, net_udp(&other.address));
    for (int i = 0; i < 3; i++) {
        memset(&from, 0, sizeof(from));
        iocp_op_recv_from(&other.op, data, sizeof(data), i == 1 ? NULL : &from);
        other_submit(&other);
        if (i)
            contract_nothing(&other.contract);
        CHECK_EQ(net_send_to(peer, "ping", 4, &other.address), 4);
        CHECK_EQ(other_answer(&other), 4);
        CHECK_EQ(other.op.event.flags, 0);
        CHECK_MEM(data, "ping", 4);
        if (i != 1)
            CHECK(iocp_address_equal(&from, &peer_address));
        iocp_op_send_to(&other.op, "pong", 4, &peer_address);
        CHECK_EQ(other_run(&other), 4);
        expect_bytes(peer, "pong", 4);
    }
    net_close(peer);
    other_close(&other);
}

void contract_datagram_truncated(const struct iocp__backend *backend)
{
    struct other other;
    struct iocp_address from;
    char data[4];
    int pair[2];

    make_udp_pair(pair);
    other_open(&other, backend, pair[0]);
    send_all(pair[1], "long one", 8);
    send_all(pair[1], "fits", 4);
    iocp_op_recv_from(&other.op, data, sizeof(data), &from);
    CHECK_EQ(other_run(&other), 4);
    CHECK_EQ(other.op.event.flags, IOCP_PACKET_TRUNCATED);
    CHECK_MEM(data, "long", 4);
    iocp_op_recv_from(&other.op, data, sizeof(data), &from);
    CHECK_EQ(other_run(&other), 4);
    CHECK_EQ(other.op.event.flags, 0);
    CHECK_MEM(data, "fits", 4);
    net_close(pair[1]);
    other_close(&other);
}

void contract_datagram_empty(const struct iocp__backend *backend)
{
    struct other other;
    struct iocp_address from;
    char data[4];
    int pair[2];

    make_udp_pair(pair);
    other_open(&other, backend, pair[0]);
    iocp_op_recv_from(&other.op, data, sizeof(data), &from);
    other_submit(&other);
    CHECK_EQ(net_send_some(pair[1], "", 0), 0);
    CHECK_EQ(other_answer(&other), 0);
    iocp_op_recv(&other.op, data, sizeof(data));
    other_submit(&other);
    CHECK_EQ(net_send_some(pair[1], "", 0), 0);
    CHECK_EQ(other_answer(&other), 0);
    iocp_op_send(&other.op, "", 0);
    CHECK_EQ(other_run(&other), 0);
    CHECK_EQ(net_recv_some(pair[1], data, sizeof(data)), 0);
    net_close(pair[1]);
    other_close(&other);
}

void contract_datagram_refused(const struct iocp__backend *backend)
{
    struct other other;
    char data[4];
    int pair[2];

    /* The other end is gone: the system says so to the next receive. */
    make_udp_pair(pair);
    other_open(&other, backend, pair[0]);
    net_close(pair[1]);
    iocp_op_send(&other.op, "x", 1);
    CHECK_EQ(other_run(&other), 1);
    if (!test_wine_differs("UD-11: a receive tells that an earlier datagram reached nobody")) {
        iocp_op_recv(&other.op, data, sizeof(data));
        CHECK_EQ(other_run(&other), IOCP_ECONNREFUSED);
    }
    other_close(&other);
}

/* ---- Polling. */

static void other_poll(struct other *other, uint32_t events)
{
    iocp_op_poll(&other->op, events);
    other_submit(other);
}

void contract_poll_waits_for_data(const struct iocp__backend *backend)
{
    struct other other;
    char data[8];
    int pair[2];

    make_connected_pair(pair);
    other_open(&other, backend, pair[0]);
    for (int i = 0; i < 3; i++) {
        other_poll(&other, IOCP_POLL_READ);
        contract_nothing(&other.contract);
        send_all(pair[1], "hello", 5);
        CHECK_EQ(other_answer(&other), IOCP_POLL_READ);
        CHECK_EQ(net_recv_some(pair[0], data, sizeof(data)), 5);
    }
    net_close(pair[1]);
    other_close(&other);
}

void contract_poll_tells_again_of_what_was_left(const struct iocp__backend *backend)
{
    struct other other;
    struct iocp_op recv;
    char data[8];
    int pair[2];

    make_connected_pair(pair);
    other_open(&other, backend, pair[0]);
    iocp_op_recv(&recv, data, 1);
    contract_submit(&other.contract, &other.object, &recv);
    send_all(pair[1], "hello", 5);
    CHECK_EQ(contract_answer(&other.contract, &recv), 1);
    /* Four bytes are left, of which nothing new tells. */
    for (int i = 0; i < 3; i++) {
        other_poll(&other, IOCP_POLL_READ);
        CHECK_EQ(other_answer(&other), IOCP_POLL_READ);
    }
    /* Both directions of receiving at once. */
    iocp_op_recv(&recv, data, 4);
    contract_submit(&other.contract, &other.object, &recv);
    CHECK_EQ(contract_answer(&other.contract, &recv), 4);
    other_poll(&other, IOCP_POLL_READ);
    contract_nothing(&other.contract);
    net_shutdown_send(pair[1]);
    CHECK_EQ(other_answer(&other) & IOCP_POLL_READ, IOCP_POLL_READ);
    net_close(pair[1]);
    other_close(&other);
}

void contract_poll_of_a_writable_socket(const struct iocp__backend *backend)
{
    struct other other;
    int pair[2];

    make_connected_pair(pair);
    other_open(&other, backend, pair[0]);
    other_poll(&other, IOCP_POLL_READ | IOCP_POLL_WRITE);
    CHECK_EQ(other_answer(&other), IOCP_POLL_WRITE);
    send_all(pair[1], "x", 1);
    other_poll(&other, IOCP_POLL_READ);
    CHECK_EQ(other_answer(&other), IOCP_POLL_READ);
    other_poll(&other, IOCP_POLL_READ | IOCP_POLL_WRITE);
    CHECK_EQ(other_answer(&other), IOCP_POLL_READ | IOCP_POLL_WRITE);
    net_close(pair[1]);
    other_close(&other);
}

void contract_poll_waits_for_room(const struct iocp__backend *backend)
{
    static char data[65536];
    struct other other;
    size_t filled;
    int pair[2];

    make_local_pair(pair);
    other_open(&other, backend, pair[0]);
    filled = net_fill(pair[0]);
    CHECK_GT(filled, 0);
    other_poll(&other, IOCP_POLL_WRITE);
    contract_nothing(&other.contract);
    while (filled > 0) {
        size_t size = filled < sizeof(data) ? filled : sizeof(data);
        recv_exact(pair[1], data, size);
        filled -= size;
    }
    CHECK_EQ(other_answer(&other), IOCP_POLL_WRITE);
    net_close(pair[1]);
    other_close(&other);
}

void contract_poll_of_a_pipe_without_reader(const struct iocp__backend *backend)
{
    struct other other;
    iocp_handle ends[2];

    system_pipe(ends);
    other_open(&other, backend, ends[1]);
    other_poll(&other, IOCP_POLL_READ);
    if (backend->kind == IOCP_BACKEND_WINDOWS) {
        CHECK_EQ(other_answer(&other), IOCP_ENOTSUP); /* it polls sockets alone */
        system_close(ends[0]);
    } else {
        contract_nothing(&other.contract);
        system_close(ends[0]);
        CHECK_EQ(other_answer(&other), IOCP_POLL_ERROR);
    }
    other_close(&other);
}

void contract_poll_canceled(const struct iocp__backend *backend)
{
    struct other other;
    int pair[2];

    make_connected_pair(pair);
    other_open(&other, backend, pair[0]);
    other_poll(&other, IOCP_POLL_READ);
    contract_cancel(&other.contract, &other.op);
    CHECK_EQ(other_answer(&other), IOCP_ECANCELED);
    send_all(pair[1], "x", 1);
    contract_nothing(&other.contract);
    other_poll(&other, IOCP_POLL_READ);
    CHECK_EQ(other_answer(&other), IOCP_POLL_READ);
    net_close(pair[1]);
    other_close(&other);
}

/* ---- Files. */

void contract_file_is_written_and_read(const struct iocp__backend *backend)
{
    struct other other;
    char data[8];

    other_open(&other, backend, system_file(NULL));
    for (int i = 0; i < 5; i++) {
        iocp_op_write(&other.op, "hello", 5, (uint64_t)i * 1000);
        CHECK_EQ(other_run(&other), 5);
        iocp_op_read(&other.op, data, 3, (uint64_t)i * 1000 + 1);
        CHECK_EQ(other_run(&other), 3);
        CHECK_MEM(data, "ell", 3);
    }
    other_close(&other);
}

void contract_file_read_at_its_end(const struct iocp__backend *backend)
{
    struct other other;
    char data[8];

    other_open(&other, backend, system_file(NULL));
    iocp_op_read(&other.op, data, sizeof(data), 0);
    CHECK_EQ(other_run(&other), IOCP_EEOF);
    iocp_op_write(&other.op, "hello", 5, 0);
    CHECK_EQ(other_run(&other), 5);
    iocp_op_read(&other.op, data, sizeof(data), 2);
    CHECK_EQ(other_run(&other), 3);
    CHECK_MEM(data, "llo", 3);
    iocp_op_read(&other.op, data, sizeof(data), 5);
    CHECK_EQ(other_run(&other), IOCP_EEOF);
    CHECK_EQ(other.op.event.os_error, 0);
    iocp_op_read(&other.op, data, 0, 0);
    CHECK_EQ(other_run(&other), 0);
    other_close(&other);
}

void contract_file_open_for_reading_is_not_written(const struct iocp__backend *backend)
{
    struct other other;
    char data[8];

    other_open(&other, backend, system_file_to_read("eight and more"));
    iocp_op_write(&other.op, "x", 1, 0);
    CHECK_EQ(other_run(&other), test_on_windows() ? IOCP_EPERM : IOCP_EBADHANDLE);
    iocp_op_read(&other.op, data, sizeof(data), 0);
    CHECK_EQ(other_run(&other), sizeof(data));
    CHECK_MEM(data, "eight an", sizeof(data));
    other_close(&other);
}

void contract_file_without_room(const struct iocp__backend *backend)
{
    struct other other;

    other_open(&other, backend, system_file_without_room());
    iocp_op_write(&other.op, "x", 1, 0);
    CHECK_EQ(other_run(&other), IOCP_EFULL);
    other_close(&other);
}

#define OTHER_FILES 64
#define OTHER_PIECE 10000

void contract_file_ops_at_once(const struct iocp__backend *backend)
{
    static struct iocp_op ops[OTHER_FILES];
    static char data[OTHER_FILES][OTHER_PIECE];
    struct other other;

    other_open(&other, backend, system_file(NULL));
    for (int reading = 0; reading < 2; reading++) {
        for (int i = 0; i < OTHER_FILES; i++) {
            uint64_t offset = (uint64_t)i * OTHER_PIECE;
            if (reading) {
                memset(data[i], 0, OTHER_PIECE);
                iocp_op_read(&ops[i], data[i], OTHER_PIECE, offset);
            } else {
                contract_fill(data[i], OTHER_PIECE, offset);
                iocp_op_write(&ops[i], data[i], OTHER_PIECE, offset);
            }
            contract_submit(&other.contract, &other.object, &ops[i]);
        }
        for (int i = 0; i < OTHER_FILES; i++)
            CHECK_EQ(contract_next(&other.contract)->result, OTHER_PIECE);
    }
    for (int i = 0; i < OTHER_FILES; i++)
        contract_check(data[i], OTHER_PIECE, (size_t)i * OTHER_PIECE);
    other_close(&other);
}

void contract_file_ops_canceled(const struct iocp__backend *backend)
{
    static struct iocp_op ops[OTHER_FILES];
    static char data[OTHER_FILES][OTHER_PIECE];
    struct other other;

    other_open(&other, backend, system_file(NULL));
    for (int i = 0; i < OTHER_FILES; i++) {
        iocp_op_write(&ops[i], data[i], OTHER_PIECE, (uint64_t)i * OTHER_PIECE);
        contract_submit(&other.contract, &other.object, &ops[i]);
    }
    for (int i = OTHER_FILES - 1; i >= 0; i--)
        contract_cancel(&other.contract, &ops[i]);
    for (int i = 0; i < OTHER_FILES; i++) {
        int64_t result = contract_next(&other.contract)->result;
        CHECK(result == OTHER_PIECE || result == IOCP_ECANCELED);
    }
    contract_nothing(&other.contract);
    other_close(&other);
}
