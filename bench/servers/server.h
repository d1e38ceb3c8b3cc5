/* What the servers of the benchmark share: their command line, the listening socket, what a handler
 * does before it answers, and where a message ends. No peer has any of this from its library, or
 * has it in a form of its own; everything else is written out in each server. */
#ifndef BENCH_SERVERS_SERVER_H
#define BENCH_SERVERS_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define SERVER_NORETURN [[noreturn]]
extern "C" {
#else
#define SERVER_NORETURN _Noreturn
#endif

/* A message of the framed workloads: its payload's size in 4 bytes, big-endian, and the payload. */
#define FRAME_HEADER 4
#define FRAME_MAX (FRAME_HEADER + 64 * 1024)
/* What the servers with one read buffer per thread read at a time. */
#define READ_SIZE (64 * 1024)

enum workload {
    WORKLOAD_ECHO, /* the bytes go back as they come */
    WORKLOAD_FRAMED,
    WORKLOAD_ROOM,  /* framed; each message goes to every connection */
    WORKLOAD_SLEEP, /* framed; a message that begins with 'S' sleeps 10 ms in its handler */
    WORKLOAD_WORK,  /* framed; the handler computes for 20 µs */
    WORKLOAD_STORM, /* as echo; connections come and go */
    WORKLOAD_IDLE,  /* as echo; connections stay and are silent */
};

struct server_options {
    enum workload workload;
    uint16_t port;
    uint32_t threads;
    size_t size;          /* of the messages, as a hint for buffers */
    bool coalesce;        /* answers to what one read gave leave in one write */
    bool queue;           /* libuv: messages are handled in its work queue */
    const char *backend;  /* iocp: "uring" or "epoll"; NULL: the default */
    uint32_t concurrency; /* iocp: of the port; 0: the default */
    uint32_t lanes;       /* iocp: of the port; 0: the default */
};

/* Reads the command line; ends the process with 2 and a usage text when it is wrong. Also lifts the
 * limit of descriptors to the most that is allowed, and ignores SIGPIPE. */
void server_options_parse(struct server_options *options, int argc, char **argv);
/* Ends the process: the server cannot do what was asked for. */
SERVER_NORETURN void server_refuse(const char *what);

bool server_is_framed(const struct server_options *options);

/* A listening TCP socket on all addresses, non-blocking; several may share the port. What it
 * accepts has TCP_NODELAY from it. */
int server_listen(const struct server_options *options);
/* A listener is ready; says "ready" when all of them are, `listeners` in number. */
void server_ready(uint32_t listeners);

/* What the handler of a message does before it answers. */
void server_handle(const struct server_options *options, const void *payload, size_t size);

/* The size of the whole first message in `data`, or 0 when not all of it is there. */
size_t server_frame(const void *data, size_t size);

/* Runs `loop` on so many threads, the calling one included; never returns. */
SERVER_NORETURN void server_run(const struct server_options *options,
                                void (*loop)(const struct server_options *options));

#ifdef __cplusplus
}
#endif

#endif
