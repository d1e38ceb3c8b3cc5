/* What the files of the Windows backend share: iocp.c (the kernel's port and the lanes on it),
 * iocp_op.c (operations: how each starts, what its packet means), iocp_stream.c (recv-streams) and
 * iocp_accept.c (accepts).
 *
 * All lanes of a port share one port of the kernel, that of the first lane. What a packet says goes
 * to the lane of its operation, which takes it when it is served. */
#ifndef IOCP_BACKEND_IOCP_H
#define IOCP_BACKEND_IOCP_H

#include "backend/backend.h"
#include "os/os.h"
#include "os/sockaddr.h"

#include <mswsock.h>

struct iocp__windows;

/* One operation in the kernel. An idle session has one, so it is kept small: how many bytes were
 * transferred is overlapped.InternalHigh, its lane is that of the op's object, and the link to the
 * next request (arrived, starved or free) is overlapped.Pointer, which is the system's only while
 * the request is. */
struct iocp__request {
    OVERLAPPED overlapped; /* first: what the kernel gives back */
    struct iocp_op *op;
    DWORD flags;     /* what a receive tells of itself, and reads */
    uint32_t number; /* in its lane, from 1; 0: a seat of an acceptor */
};

_Static_assert(sizeof(struct iocp__request) == 48, "an idle session costs at most 512 bytes");

struct iocp__requests {
    struct iocp__request *first;
    struct iocp__request *last;
};

struct iocp__windows_functions {
    LPFN_ACCEPTEX accept;
    LPFN_CONNECTEX connect;
};

#define IOCP__WINDOWS_LANES_MAX 64

/* ---- A lane. */
struct iocp__windows {
    struct iocp__kernel base;
    struct iocp__windows *first; /* whose `port` and `functions` count */
    HANDLE port;
    struct iocp__windows_functions functions;
    struct iocp__windows *lanes[IOCP__WINDOWS_LANES_MAX]; /* of the first one: all, by index */
    uint32_t index;

    /* Any thread's. */
    uint32_t rung;     /* atomic: the bell is in the kernel's queue */
    uint32_t refilled; /* atomic: a buffer came back for the starved ones */
    uint32_t any;      /* atomic: arrived is not empty; written under the lock */
    struct iocp__lock lock;
    struct iocp__requests arrived; /* the lock's: what fetch brought for this lane */

    /* The holder's. */
    struct iocp__queue finished;
    struct iocp__requests starved; /* streams that found no buffer */
    struct iocp__request *free;
    struct iocp__request **chunks;
    uint32_t chunk_count;
    uint32_t chunk_room;
    struct iocp_buffer *spare;
    uint64_t uncounted;
};

enum iocp__windows_object { /* object->backend; above them the index of its lane */
                            IOCP__WINDOWS_SOCKET = 1,
                            IOCP__WINDOWS_DATAGRAM = 2,
                            IOCP__WINDOWS_SKIPS = 4, /* what succeeds at once queues no packet */
                            IOCP__WINDOWS_TCP = 8,   /* has ConnectEx */
                            IOCP__WINDOWS_FILE = 16,
                            IOCP__WINDOWS_LANE_SHIFT = 8
};

enum iocp__windows_op { /* op->backend */
                        IOCP__WINDOWS_CANCELED = 1,
                        IOCP__WINDOWS_STARVED = 2
};

static inline struct iocp__windows *iocp__windows_of(struct iocp__kernel *kernel)
{
    return (struct iocp__windows *)(void *)kernel;
}

static inline SOCKET iocp__windows_socket(const struct iocp_op *op)
{
    return (SOCKET)op->owner->handle;
}

/* ---- iocp.c */

void iocp__requests_push(struct iocp__requests *requests, struct iocp__request *request);
struct iocp__request *iocp__requests_pop(struct iocp__requests *requests);

/* A request for the op, zeroed but for that; NULL: no memory, and the op is answered. */
struct iocp__request *iocp__windows_request(struct iocp__windows *lane, struct iocp_op *op);
/* The one that the op has; NULL when it has none. */
struct iocp__request *iocp__windows_request_of(struct iocp__windows *lane,
                                               const struct iocp_op *op);
void iocp__windows_request_free(struct iocp__windows *lane, struct iocp__request *request);

/* Makes a packet of the request, as if the kernel had finished it now: it gets its turn behind all
 * that waits. Returns 0 when the kernel has no memory for it. */
int iocp__windows_requeue(struct iocp__windows *lane, struct iocp__request *request);

/* Has the bell rung when a buffer comes back to the pool. 0: one is there now. */
int iocp__windows_want_buffer(struct iocp__windows *lane);

/* ---- iocp_op.c */

/* How a call of the system ended that takes a request. */
enum iocp__windows_call {
    IOCP__CALL_DONE = 0, /* at once; no packet comes */
    IOCP__CALL_PENDING,  /* a packet comes */
    IOCP__CALL_FAILED    /* no packet comes */
};

/* `failed`: the call said so. On failure *out_error gets the system's code. */
enum iocp__windows_call iocp__windows_called(const struct iocp_op *op, int failed,
                                             int32_t *out_error);
/* The code of a request that has arrived; 0: success. */
int32_t iocp__windows_error(const struct iocp__request *request);

/* Answers the op and frees its request, if it has one. */
void iocp__windows_end(struct iocp__windows *lane, struct iocp_op *op, int64_t result);
void iocp__windows_fail(struct iocp__windows *lane, struct iocp_op *op, int32_t os_error);

void iocp__windows_submit(struct iocp__kernel *kernel, struct iocp_op *op);
void iocp__windows_cancel(struct iocp__kernel *kernel, struct iocp_op *op);
/* A request has arrived. */
void iocp__windows_complete(struct iocp__windows *lane, struct iocp__request *request);

/* Waits until a datagram socket, or one that is polled, is ready: `events` of op.h. */
enum iocp__windows_call iocp__windows_poll(struct iocp__request *request, uint32_t events,
                                           int32_t *out_error);
/* What a datagram socket's error means: not 0 when it is about an earlier send, and the receive is
 * to be repeated; else *error is what it fails with. */
int iocp__windows_datagram_retry(struct iocp_op *op, int32_t *error);
/* Waits until there is something to receive, taking nothing. */
enum iocp__windows_call iocp__windows_wait_readable(struct iocp__request *request,
                                                    int32_t *out_error);

/* ---- iocp_stream.c */

void iocp__windows_stream_start(struct iocp__windows *lane, struct iocp_op *op);
void iocp__windows_stream_complete(struct iocp__windows *lane, struct iocp__request *request);
void iocp__windows_stream_cancel(struct iocp__windows *lane, struct iocp_op *op);
/* After a refill: streams that found no buffer go on, as far as the buffers last. */
void iocp__windows_stream_feed(struct iocp__windows *lane);

/* ---- iocp_accept.c */

void iocp__windows_accept_start(struct iocp__windows *lane, struct iocp_op *op);
void iocp__windows_accept_complete(struct iocp__windows *lane, struct iocp__request *request);
void iocp__windows_accept_cancel(struct iocp_op *op);

#endif
