/* Other processes at the end of a connection: a peer that is stopped (SIGSTOP) and goes on, and a
 * server that is killed (SIGKILL) and started again. They are forked before the first thread, and
 * wait for orders until they are needed. */
#include "support/host.h"
#include "support/system.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK 4096

struct process {
    pid_t id;
    int orders[2];  /* an address, to the process */
    int reports[2]; /* from the process */
};

static void read_whole(int fd, void *data, size_t size)
{
    size_t at = 0;
    while (at < size) {
        ssize_t count = read(fd, (char *)data + at, size - at);
        CHECK(count > 0 || (count < 0 && errno == EINTR));
        at += count > 0 ? (size_t)count : 0;
    }
}

static void write_whole(int fd, const void *data, size_t size)
{
    CHECK_EQ(write(fd, data, size), size);
}

/* Runs `body` in a process of its own, which ends with this one. */
static void process_start(struct process *process, void (*body)(struct process *process))
{
    CHECK_EQ(pipe(process->orders), 0);
    CHECK_EQ(pipe(process->reports), 0);
    process->id = fork();
    CHECK_GE(process->id, 0);
    if (process->id > 0) {
        /* So that a process that ends early is the end of what it reports. */
        close(process->reports[1]);
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    body(process);
    _exit(0);
}

static void process_order(struct process *process, const struct iocp_address *address)
{
    write_whole(process->orders[1], address, sizeof(*address));
}

/* Returns when it has stopped. */
static void process_stop(struct process *process)
{
    int status;
    CHECK_EQ(kill(process->id, SIGSTOP), 0);
    CHECK_EQ(waitpid(process->id, &status, WUNTRACED), process->id);
    CHECK(WIFSTOPPED(status));
}

static void process_kill(struct process *process)
{
    int status;
    CHECK_EQ(kill(process->id, SIGKILL), 0);
    CHECK_EQ(waitpid(process->id, &status, 0), process->id);
    CHECK(WIFSIGNALED(status));
}

static void process_end(struct process *process)
{
    int status;
    CHECK_EQ(waitpid(process->id, &status, 0), process->id);
    CHECK_EQ(status, 0);
}

/* ---- A peer that is stopped. */

static char stream_byte(uint64_t at)
{
    return (char)(at * 37 + at / 4099);
}

/* Connects and reads to the end, whatever that is. Reports how many bytes came, which have to be
 * the right ones. */
static void reader(struct process *process)
{
    struct iocp_address address;
    char data[CHUNK];
    uint64_t total = 0;
    read_whole(process->orders[0], &address, sizeof(address));
    int fd = net_connect(&address);
    for (;;) {
        ssize_t count = recv(fd, data, sizeof(data), 0);
        if (count < 0 && (errno == EINTR || errno == EAGAIN))
            continue; /* it was stopped for long */
        if (count <= 0)
            break;
        for (ssize_t i = 0; i < count; i++)
            CHECK_EQ(data[i], stream_byte(total + (uint64_t)i));
        total += (uint64_t)count;
    }
    write_whole(process->reports[1], &total, sizeof(total));
}

struct stopped {
    struct host host;
    struct process peer;
    struct iocp_session *session;
    uint64_t sent;
};

static int send_chunk(struct stopped *stopped)
{
    char data[CHUNK];
    for (size_t i = 0; i < CHUNK; i++)
        data[i] = stream_byte(stopped->sent + i);
    int error = iocp_session_send(stopped->session, data, CHUNK);
    if (error == 0)
        stopped->sent += CHUNK;
    return error;
}

/* A host with small limits, and a peer that has connected and stopped. */
static void stopped_open(struct stopped *stopped)
{
    process_start(&stopped->peer, reader);
    stopped->host.session_class.send_high = 64 * CHUNK;
    stopped->host.session_class.send_low = 4 * CHUNK;
    stopped->host.session_class.send_pause = 32 * CHUNK;
    stopped->host.config.tick_ns = 2 * MS;
    host_start(&stopped->host);
    process_order(&stopped->peer, &stopped->host.address);
    latch_wait_for(&stopped->host.opened, 1);
    stopped->session = host_last(&stopped->host);
    process_stop(&stopped->peer);
}

/* Goes on, and reports what it has read. */
static uint64_t stopped_peer_continues(struct stopped *stopped)
{
    uint64_t total;
    CHECK_EQ(kill(stopped->peer.id, SIGCONT), 0);
    read_whole(stopped->peer.reports[0], &total, sizeof(total));
    process_end(&stopped->peer);
    return total;
}

/* Sends until nothing goes any more: the system's buffers are full, and the queue is. */
static void stopped_fill(struct stopped *stopped)
{
    for (int refused = 0; refused < 100;) {
        int error = send_chunk(stopped);
        CHECK(error == 0 || error == IOCP_EFULL);
        refused = error == 0 ? 0 : refused + 1;
        if (error < 0)
            system_nap(MS);
        CHECK_LT(stopped->sent, 256u << 20);
    }
}

TEST(a_stopped_peer_gets_all_when_it_goes_on)
{
    static struct stopped stopped;
    host_init(&stopped.host);
    stopped_open(&stopped);
    stopped_fill(&stopped);
    CHECK_GT(iocp_session_queued(stopped.session), 62 * CHUNK);
    uint64_t drained = latch_count(&stopped.host.drained);
    CHECK_EQ(kill(stopped.peer.id, SIGCONT), 0);
    latch_wait_for(&stopped.host.drained, drained + 1);
    CHECK_EQ(send_chunk(&stopped), 0);
    iocp_session_close(stopped.session);
    CHECK_EQ(stopped_peer_continues(&stopped), stopped.sent);
    latch_wait_for(&stopped.host.closed, 1);
    CHECK_EQ(host_reason(&stopped.host, IOCP_CLOSE_LOCAL), 1);
    iocp_session_unref(stopped.session);
    host_end(&stopped.host);
}

/* A limit ends it; what the peer had got by then is right. */
static void stopped_peer_ends(struct stopped *stopped, enum iocp_close_reason reason)
{
    int error;
    stopped_open(stopped);
    while ((error = send_chunk(stopped)) != IOCP_ECLOSED) {
        CHECK(error == 0 || error == IOCP_EFULL);
        if (error < 0)
            system_nap(MS);
        CHECK_LT(stopped->sent, 256u << 20);
    }
    latch_wait_for(&stopped->host.closed, 1);
    CHECK_EQ(host_reason(&stopped->host, reason), 1);
    CHECK_LT(stopped_peer_continues(stopped), stopped->sent);
    iocp_session_unref(stopped->session);
    host_end(&stopped->host);
}

TEST(a_stopped_peer_is_closed_for_stalling)
{
    static struct stopped stopped;
    host_init(&stopped.host);
    stopped.host.session_class.send_stall_ns = 100 * MS;
    stopped_peer_ends(&stopped, IOCP_CLOSE_SEND_STALL);
}

TEST(a_stopped_peer_is_closed_for_being_slow)
{
    static struct stopped stopped;
    host_init(&stopped.host);
    stopped.host.session_class.full_policy = IOCP_FULL_CLOSE;
    stopped_peer_ends(&stopped, IOCP_CLOSE_SLOW);
}

/* ---- A server that is killed. */

/* At once on epoll. The ring of a process that was killed is taken down by the kernel on its own,
 * later, and holds the listening socket until then: 5 to 10 ms after the process is gone (Linux
 * 6.18), and longer on a busy machine. */
static int server_listen(struct host *host, const struct iocp_address *address)
{
    int is_uring = strcmp(iocp_port_backend(iocp_service_port(host->service)), "uring") == 0;
    int error;
    for (int attempt = 0; attempt < 10000; attempt++) {
        error =
            iocp_service_listen(host->service, address, &host->session_class, NULL, &host->address);
        if (error != IOCP_EADDRINUSE || !is_uring)
            break;
        system_nap(MS);
    }
    return error;
}

/* An echo server on the address that it is ordered to, for as long as it lives. Reports where it
 * listens. */
static void server(struct process *process)
{
    static struct host host;
    struct iocp_address address;
    read_whole(process->orders[0], &address, sizeof(address));
    host_init(&host);
    host.no_listener = 1;
    host_start(&host);
    CHECK_OK(server_listen(&host, &address));
    write_whole(process->reports[1], &host.address, sizeof(host.address));
    for (;;)
        pause();
}

static struct iocp_address server_order(struct process *process, const struct iocp_address *address)
{
    struct iocp_address listening;
    process_order(process, address);
    read_whole(process->reports[0], &listening, sizeof(listening));
    return listening;
}

static void client_opened(struct host *host, struct iocp_session *session)
{
    (void)host;
    CHECK_EQ(iocp_session_send(session, "hello", 5), 0);
}

static size_t client_received(struct host *host, struct iocp_session *session, const void *data,
                              size_t size)
{
    (void)host;
    (void)session;
    (void)data;
    return size;
}

#define CLIENTS 10

static void clients_connect(struct host *host, const struct iocp_address *address)
{
    struct iocp_connect_config config = {
        .address = *address,
        .session_class = &host->session_class,
        .reconnect_min_ns = MS,
        .reconnect_max_ns = 8 * MS,
    };
    host_init(host);
    host->no_listener = 1;
    host->opened_hook = client_opened;
    host->received_hook = client_received;
    host_start(host);
    for (int i = 0; i < CLIENTS; i++)
        CHECK_EQ(iocp_service_connect(host->service, &config, NULL), 0);
}

/* Killed in the middle of its connections, and started again on the same address: it binds, and all
 * clients come back by themselves. */
static void server_is_killed(const struct iocp_address *any)
{
    static struct host clients;
    struct process servers[3];
    for (int i = 0; i < 3; i++)
        process_start(&servers[i], server);
    struct iocp_address address = server_order(&servers[0], any);
    clients_connect(&clients, &address);
    for (uint64_t i = 0; i < 3; i++) {
        /* The first answers may be there already. */
        uint64_t before = i > 0 ? latch_count(&clients.bytes) : 0;
        if (i > 0)
            server_order(&servers[i], &address);
        /* Each has one session with it, and one answer. One that came while the server before was
         * ending has lost a session more. */
        latch_wait_for(&clients.bytes, before + 5 * CLIENTS);
        process_kill(&servers[i]);
    }
    latch_wait_for(&clients.closed, 3 * CLIENTS);
    CHECK_GE(host_reason(&clients, IOCP_CLOSE_PEER) + host_reason(&clients, IOCP_CLOSE_ERROR),
             3 * CLIENTS);
    host_end(&clients);
}

TEST(a_killed_server_binds_again)
{
    struct iocp_address any = net_loopback();
    server_is_killed(&any);
}

TEST(a_killed_server_binds_its_unix_path_again)
{
    struct iocp_address path = net_unix_path();
    server_is_killed(&path);
    net_unix_remove(&path);
}
