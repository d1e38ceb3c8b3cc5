/* What an idle session costs of the process's memory: opens N connections to a service from a child
 * process, and prints the library's bytes per session. The kernel's own memory is not counted.
 *
 *   idle [SESSIONS [uring|epoll|auto]] */
#include <iocp.h>

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static uint32_t opened;
static int pipe_ready[2];
static uint32_t wanted;

static void on_opened(struct iocp_session *session, void *context)
{
    (void)session;
    (void)context;
    if (__atomic_add_fetch(&opened, 1, __ATOMIC_ACQ_REL) == wanted &&
        write(pipe_ready[1], "x", 1) < 0)
        abort();
}

static size_t on_received(struct iocp_session *session, const void *data, size_t size,
                          void *context)
{
    (void)context;
    iocp_session_send(session, data, size);
    return size;
}

/* Several source addresses: one has too few ports for many connections. */
static void child(uint16_t port)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (uint32_t i = 0; i < wanted; i++) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
        to.sin_addr.s_addr = htonl(0x7f000001u + i / 16000);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        char byte = 'x';
        if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
            perror("idle: connect");
            _exit(1);
        }
        /* Each has been active once: its buffers were used and given back. */
        if (send(fd, &byte, 1, 0) != 1 || recv(fd, &byte, 1, MSG_WAITALL) != 1)
            _exit(1);
    }
    pause();
    _exit(0);
}

int main(int argc, char **argv)
{
    struct iocp_service_config config;
    struct iocp_session_class session_class;
    struct iocp_service *service;
    struct iocp_address address;
    struct iocp_address bound;
    wanted = argc > 1 ? (uint32_t)atoi(argv[1]) : 10000;
    if (argc > 2)
        setenv("IOCP_BACKEND", argv[2], 1);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    iocp_service_config_init(&config);
    config.sessions_max = wanted;
    iocp_session_class_init(&session_class);
    session_class.opened = on_opened;
    session_class.received = on_received;
    iocp_address_parse("0.0.0.0:0", &address);
    if (pipe(pipe_ready) < 0 || iocp_service_create(&config, &service) < 0 ||
        iocp_service_listen(service, &address, &session_class, NULL, &bound) < 0 ||
        iocp_service_start(service) < 0) {
        fprintf(stderr, "idle: cannot start\n");
        return 1;
    }
    size_t before = iocp_memory_size();
    pid_t pid = fork();
    if (pid == 0)
        child(iocp_address_port(&bound));
    char byte;
    if (read(pipe_ready[0], &byte, 1) != 1)
        return 1;
    struct iocp_service_stats stats;
    do
        iocp_service_stats(service, &stats);
    while (stats.bytes_sent < wanted);
    size_t after = iocp_memory_size();
    printf("%s: %u sessions, %zu bytes of ours at rest, %zu with them: %.1f bytes per session\n",
           iocp_port_backend(iocp_service_port(service)), wanted, before, after,
           (double)(after - before) / (double)wanted);
    iocp_service_stop(service);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    iocp_service_join(service);
    iocp_service_unref(service);
    return 0;
}
