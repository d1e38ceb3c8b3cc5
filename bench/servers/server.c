/* The common part of the benchmark's servers: see server.h. */
#include "server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#define SLEEP_NS (10 * 1000 * 1000)
#define WORK_NS (20 * 1000)

static const char *const workloads[] = {
    [WORKLOAD_ECHO] = "echo",   [WORKLOAD_FRAMED] = "framed", [WORKLOAD_ROOM] = "room",
    [WORKLOAD_SLEEP] = "sleep", [WORKLOAD_WORK] = "work",     [WORKLOAD_STORM] = "storm",
    [WORKLOAD_IDLE] = "idle",
};
#define WORKLOAD_COUNT (sizeof workloads / sizeof *workloads)

static _Noreturn void server_usage(const char *wrong)
{
    fprintf(stderr,
            "%s\n"
            "usage: SERVER --workload echo|framed|room|sleep|work|storm|idle --port PORT\n"
            "              [--threads N] [--size BYTES] [--coalesce] [--queue]\n"
            "              [--backend uring|epoll] [--concurrency N] [--lanes N]\n",
            wrong);
    exit(2);
}

void server_refuse(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(2);
}

static enum workload server_workload(const char *name)
{
    for (size_t i = 0; i < WORKLOAD_COUNT; i++) {
        if (strcmp(workloads[i], name) == 0)
            return (enum workload)i;
    }
    server_usage("no such workload");
}

static uint32_t server_number(const char *text, uint32_t max)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (end == text || *end || number > max)
        server_usage("not a number, or too large");
    return (uint32_t)number;
}

static const struct option server_long_options[] = {
    {"workload", required_argument, NULL, 'w'}, {"port", required_argument, NULL, 'p'},
    {"threads", required_argument, NULL, 't'},  {"size", required_argument, NULL, 's'},
    {"coalesce", no_argument, NULL, 'c'},       {"queue", no_argument, NULL, 'q'},
    {"backend", required_argument, NULL, 'b'},  {"concurrency", required_argument, NULL, 'n'},
    {"lanes", required_argument, NULL, 'l'},    {NULL, 0, NULL, 0},
};

static void server_option(struct server_options *options, int option)
{
    switch (option) {
    case 'w':
        options->workload = server_workload(optarg);
        break;
    case 'p':
        options->port = (uint16_t)server_number(optarg, UINT16_MAX);
        break;
    case 't':
        options->threads = server_number(optarg, 64);
        break;
    case 's':
        options->size = server_number(optarg, FRAME_MAX - FRAME_HEADER);
        break;
    case 'c':
        options->coalesce = true;
        break;
    case 'q':
        options->queue = true;
        break;
    case 'b':
        options->backend = optarg;
        break;
    case 'n':
        options->concurrency = server_number(optarg, 64);
        break;
    case 'l':
        options->lanes = server_number(optarg, 64);
        break;
    default:
        server_usage("wrong option");
    }
}

void server_options_parse(struct server_options *options, int argc, char **argv)
{
    struct rlimit limit;
    int option;

    *options = (struct server_options){.threads = 1, .size = 64};
    while ((option = getopt_long(argc, argv, "", server_long_options, NULL)) != -1)
        server_option(options, option);
    if (optind < argc || !options->port || !options->threads)
        server_usage("a port is needed, and nothing but options");
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

bool server_is_framed(const struct server_options *options)
{
    return options->workload >= WORKLOAD_FRAMED && options->workload <= WORKLOAD_WORK;
}

int server_listen(const struct server_options *options)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(options->port)};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0) {
        perror("listening socket");
        exit(1);
    }
    return fd;
}

void server_ready(uint32_t listeners)
{
    static _Atomic uint32_t ready;
    if (++ready < listeners)
        return;
    puts("ready");
    fflush(stdout);
}

static uint64_t server_cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Computing is measured in the thread's own time: a thread that was taken off the processor has not
 * computed meanwhile. */
static void server_compute(void)
{
    uint64_t end = server_cpu_ns() + WORK_NS;
    while (server_cpu_ns() < end)
        ;
}

void server_handle(const struct server_options *options, const void *payload, size_t size)
{
    if (options->workload == WORKLOAD_WORK) {
        server_compute();
    } else if (options->workload == WORKLOAD_SLEEP && size && *(const char *)payload == 'S') {
        nanosleep(&(struct timespec){.tv_nsec = SLEEP_NS}, NULL);
    }
}

size_t server_frame(const void *data, size_t size)
{
    uint32_t field;
    if (size < FRAME_HEADER)
        return 0;
    memcpy(&field, data, sizeof field);
    size_t whole = FRAME_HEADER + (size_t)ntohl(field);
    if (whole > FRAME_MAX)
        server_refuse("a message above the limit");
    return whole <= size ? whole : 0;
}

struct server_thread {
    const struct server_options *options;
    void (*loop)(const struct server_options *options);
};

static void *server_thread_main(void *argument)
{
    const struct server_thread *thread = argument;
    thread->loop(thread->options);
    return NULL;
}

void server_run(const struct server_options *options,
                void (*loop)(const struct server_options *options))
{
    struct server_thread thread = {options, loop};
    for (uint32_t i = 1; i < options->threads; i++) {
        pthread_t id;
        if (pthread_create(&id, NULL, server_thread_main, &thread) != 0)
            server_refuse("no thread");
    }
    loop(options);
    abort();
}
