/* The simulation's tests: what a run is made of (knobs), what is known of it (the model), and what
 * has to hold. Nothing here is locked: one thread runs at a time (os/sim.h), and what is here gives
 * way only where it calls the library or the simulation. */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include "os/sim.h"

#include <iocp.h>

/* ---- Knobs: all that a run's seed decides beforehand, each by itself, so that one can be set to
 * another value and the rest stays (`--set NAME=VALUE`). */
#define SIM_KNOBS(X)                                                                               \
    X(shared, 0, 1, "the kernel is the gate")                                                      \
    X(kind, 0, 2, "framing: 0 raw, 1 line, 2 length")                                              \
    X(workers, 1, 5, "workers of the server")                                                      \
    X(concurrency, 1, 4, "of its port")                                                            \
    X(lanes, 0, 4, "of its port")                                                                  \
    X(threads, 0, 2, "threads of the user's that dispatch, end and come back")                     \
    X(one_port, 0, 1, "clients are on the port of the server")                                     \
    X(watch, 0, 1, "a watch looks for stuck workers")                                              \
    X(connectors, 0, 8, "clients that are sessions")                                               \
    X(peers, 0, 12, "clients that the test plays")                                                 \
    X(meddlers, 0, 2, "threads that call what they like")                                          \
    X(steps, 2, 30, "of the main thread and of each meddler")                                      \
    X(rounds, 1, 2, "from start to join")                                                          \
    X(bytes, 100, 12000, "that an end has to send")                                                \
    X(window, 16, 20000, "bytes on their way in a connection, at most")                            \
    X(latency, 1, 20000, "microseconds on their way, at most")                                     \
    X(buffer_size, 64, 2000, "of the port")                                                        \
    X(buffer_power, 0, 5, "the port has 2 to the power of it buffers a lane")                      \
    X(sessions_max, 3, 40, "of the server")                                                        \
    X(handles, 24, 80, "descriptors, while there are faults")                                      \
    X(preempt, 0, 2, "0 where threads block, 1 at some atomics and locks, 2 at many")              \
    X(objects, 1, 8, "port scenario: pairs of connected objects")                                  \
    X(sometimes_short, 0, 6000, "chance in 10,000 of short transfers")                             \
    X(sometimes_late, 0, 4000, "late operations and answers")                                      \
    X(sometimes_cancel, 0, 6000, "cancels that come late")                                         \
    X(sometimes_spurious, 0, 1000, "waits that end with nothing")                                  \
    X(sometimes_refuse, 0, 300, "operations refused")                                              \
    X(sometimes_reset, 0, 100, "connections reset")                                                \
    X(sometimes_accept, 0, 3000, "accepts that fail")                                              \
    X(sometimes_connect, 0, 3000, "connects that fail")                                            \
    X(sometimes_memory, 0, 300, "allocations that fail")                                           \
    X(sometimes_handles, 0, 1500, "sockets that cannot be made")                                   \
    X(sometimes_threads, 0, 5000, "threads that cannot be made")

struct knobs {
#define SIM_KNOB_MEMBER(name, least, most, text) uint32_t name;
    SIM_KNOBS(SIM_KNOB_MEMBER)
#undef SIM_KNOB_MEMBER
};

extern struct knobs knobs;

/* What a scenario counts, for the report. */
struct tally {
    uint64_t sessions;
    uint64_t messages;
    uint64_t ops;
};

extern struct tally tally;

/* A run, as the knobs are. */
struct sim_job {
    void (*scenario)(void);
    uint64_t seed;
    int trace;
    const uint8_t *bytes; /* as in iocp__sim_config */
    size_t byte_count;
};

void sim_prepare(void); /* once, before the first run */
void sim_run(const struct sim_job *job);

void sim_net_scenario(void);
void sim_port_scenario(void);
void sim_service_scenario(void);

/* Chance of the model. */
uint32_t sim_below(uint32_t count);
/* Once in `count` times. */
int sim_once_in(uint32_t count);

/* As iocp__sim_fail, when the condition does not hold. */
#define SIM_CHECK(condition, ...) ((condition) ? (void)0 : iocp__sim_fail(__VA_ARGS__))

/* ---- Invariants of ports, looked at whenever no thread can go on (invariants.c). */
void sim_port_add(struct iocp_port *port);
void sim_port_remove(struct iocp_port *port);
void sim_quiet(uint64_t until_ns);
/* Asked at the same moments. */
extern void (*sim_quiet_also)(void);
/* Not 0 when a worker of some port is out with packets. */
int sim_ports_busy(void);

/* ---- Streams: what one end of a connection sends, known byte by byte (streams.c). */

enum sim_kind { SIM_RAW, SIM_LINE, SIM_LENGTH };

#define SIM_MESSAGE_MAX 600 /* whole, with frame */
#define SIM_SUBS 8          /* senders of one stream, each with messages in order */

struct stream {
    uint32_t id; /* 1 and more */
    struct iocp__sim_connection *connection;
    int side;          /* the end that sends */
    uint64_t accepted; /* bytes that the sender's side took */
    uint64_t seen;     /* bytes that the receiver's handlers saw */
    uint64_t consumed; /* raw */
    uint32_t sent[SIM_SUBS];
    uint32_t received[SIM_SUBS];
    uint32_t broadcast; /* the last one received */
    int droppable;      /* whole messages may be missing */
    int cut;            /* ended within a message */
    int broken;         /* violates the framing */
    int in_send;
};

struct stream *stream_new(struct iocp__sim_connection *connection, int side);
/* The stream that leaves from this end; NULL. */
struct stream *stream_of(const struct iocp__sim_connection *connection, int side);
void streams_free(void);
/* Whole messages of `size` bytes on the wire, into `wire`; and bytes of a raw stream. */
void stream_message(struct stream *stream, uint32_t sub, uint32_t sequence, size_t size,
                    unsigned char *wire);
void stream_broadcast(uint32_t sequence, size_t size, unsigned char *wire);
void stream_raw(const struct stream *stream, uint64_t offset, size_t size, unsigned char *bytes);
size_t stream_message_size(void);
/* Checks what arrived: the payload of a message, or bytes at the front. */
void stream_check_message(struct stream *stream, const void *payload, size_t size);
void stream_check_raw(struct stream *stream, const void *data, size_t size);

/* ---- Clients that the test plays (peers.c). */

void peers_begin(uint16_t port);
void peers_start(void); /* one more */
void peers_end(void);   /* closes what is left */
uint32_t peers_count(void);

#endif
