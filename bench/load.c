/* A load for any server that echoes: N connections, messages of one size, some in flight on each.
 * Checks every byte that comes back. Not part of the library and independent of it, so that it
 * measures any peer alike.
 *
 *   load ADDRESS PORT CONNECTIONS SIZE DEPTH SECONDS [SERVER_PID [KILL_SHARE]]
 *
 * Prints one line: messages per second, processor time of the server per message (with its pid),
 * and the round-trip times. KILL_SHARE percent of the connections are reset half-way. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct connection {
    int fd;
    uint32_t index;
    uint32_t received; /* bytes of the present answer */
    uint64_t sent_count;
    uint64_t answer_count;
    uint64_t sent_at_ns[64]; /* ring by message number */
};

struct load {
    struct sockaddr_in address;
    uint32_t connections;
    uint32_t size;
    uint32_t depth;
    double seconds;
    int server_pid;
    uint32_t kill_share;
    int epoll;
    int ending;
    uint64_t messages;
    uint64_t lost; /* connections that the server ended */
    uint64_t *times;
    size_t times_count;
    size_t times_capacity;
    struct connection *list;
    unsigned char *out;
    unsigned char *in;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double cpu_seconds(int pid)
{
    char path[64];
    unsigned long user = 0;
    unsigned long kernel = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    if (fscanf(file, "%*d %*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
               &kernel) != 2)
        user = kernel = 0;
    fclose(file);
    return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

static unsigned char pattern(uint32_t index, uint64_t message, uint32_t offset)
{
    return (unsigned char)(index * 31 + message * 7 + offset);
}

static void send_one(struct load *load, struct connection *c)
{
    for (uint32_t i = 0; i < load->size; i++)
        load->out[i] = pattern(c->index, c->sent_count, i);
    c->sent_at_ns[c->sent_count % 64] = now_ns();
    uint32_t done = 0;
    while (done < load->size) {
        ssize_t n = send(c->fd, load->out + done, load->size - done, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            die("send");
        done += (uint32_t)n;
    }
    c->sent_count++;
}

static void answered(struct load *load, struct connection *c)
{
    uint64_t took = now_ns() - c->sent_at_ns[c->answer_count % 64];
    if (load->times_count < load->times_capacity)
        load->times[load->times_count++] = took;
    load->messages++;
    c->answer_count++;
    c->received = 0;
    if (!load->ending)
        send_one(load, c);
}

static void forget(struct load *load, struct connection *c)
{
    epoll_ctl(load->epoll, EPOLL_CTL_DEL, c->fd, NULL);
    close(c->fd);
    c->fd = -1;
}

static void readable(struct load *load, struct connection *c)
{
    ssize_t n = recv(c->fd, load->in, 256 * 1024, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        load->lost++;
        forget(load, c);
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        if (load->in[i] != pattern(c->index, c->answer_count, c->received)) {
            fprintf(stderr, "load: connection %u: message %llu differs at byte %u\n", c->index,
                    (unsigned long long)c->answer_count, c->received);
            exit(1);
        }
        if (++c->received == load->size)
            answered(load, c);
    }
}

static void open_all(struct load *load)
{
    load->list = calloc(load->connections, sizeof(*load->list));
    for (uint32_t i = 0; i < load->connections; i++) {
        struct connection *c = &load->list[i];
        int on = 1;
        c->index = i;
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&load->address, sizeof(load->address)))
            die("connect");
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(load->epoll, EPOLL_CTL_ADD, c->fd, &event);
    }
}

static void kill_share(struct load *load)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    for (uint32_t i = 0; i < load->connections; i++) {
        struct connection *c = &load->list[i];
        if (i % 100 < load->kill_share && c->fd >= 0) {
            setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
            forget(load, c);
        }
    }
    load->kill_share = 0;
}

static void run(struct load *load)
{
    struct epoll_event events[256];
    uint64_t begin = now_ns();
    uint64_t end = begin + (uint64_t)(load->seconds * 1e9);
    for (uint32_t i = 0; i < load->connections; i++) {
        for (uint32_t d = 0; d < load->depth; d++)
            send_one(load, &load->list[i]);
    }
    for (uint64_t now = begin; now < end; now = now_ns()) {
        int count = epoll_wait(load->epoll, events, 256, 100);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->fd >= 0)
                readable(load, c);
        }
        if (load->kill_share && now > begin + (end - begin) / 2)
            kill_share(load);
    }
    load->ending = 1;
}

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return (*x > *y) - (*x < *y);
}

static double at(const struct load *load, double share)
{
    if (!load->times_count)
        return 0;
    return (double)load->times[(size_t)((double)(load->times_count - 1) * share)] / 1000.0;
}

static int parse(struct load *load, int argc, char **argv)
{
    if (argc < 7)
        return 0;
    load->address.sin_family = AF_INET;
    load->address.sin_port = htons((uint16_t)atoi(argv[2]));
    load->connections = (uint32_t)atoi(argv[3]);
    load->size = (uint32_t)atoi(argv[4]);
    load->depth = (uint32_t)atoi(argv[5]);
    load->seconds = atof(argv[6]);
    load->server_pid = argc > 7 ? atoi(argv[7]) : 0;
    load->kill_share = argc > 8 ? (uint32_t)atoi(argv[8]) : 0;
    return inet_pton(AF_INET, argv[1], &load->address.sin_addr) == 1 && load->connections &&
           load->size && load->depth && load->depth <= 64 && load->seconds > 0;
}

int main(int argc, char **argv)
{
    struct load load = {0};
    if (!parse(&load, argc, argv)) {
        fprintf(stderr, "usage: load ADDRESS PORT CONNECTIONS SIZE DEPTH SECONDS "
                        "[SERVER_PID [KILL_SHARE]]\n");
        return 2;
    }
    load.out = malloc(load.size);
    load.in = malloc(256 * 1024);
    load.times_capacity = 4 * 1000 * 1000;
    load.times = malloc(load.times_capacity * sizeof(*load.times));
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    open_all(&load);
    double cpu = cpu_seconds(load.server_pid);
    uint64_t begin = now_ns();
    run(&load);
    double seconds = (double)(now_ns() - begin) / 1e9;
    cpu = cpu_seconds(load.server_pid) - cpu;
    qsort(load.times, load.times_count, sizeof(*load.times), compare);
    printf("messages %llu  per_second %.0f  server_cpu_us %.2f  p50_us %.0f  p99_us %.0f  "
           "max_us %.0f  lost %llu\n",
           (unsigned long long)load.messages, (double)load.messages / seconds,
           load.messages ? cpu * 1e6 / (double)load.messages : 0, at(&load, 0.5), at(&load, 0.99),
           at(&load, 1), (unsigned long long)load.lost);
    return 0;
}
