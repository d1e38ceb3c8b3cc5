/* The simulated backend, between its files: sim.c (lanes, waiting, cancels) and sim_op.c (what an
 * attempt of each kind of op does). */
#ifndef IOCP_BACKEND_SIM_H
#define IOCP_BACKEND_SIM_H

#include "backend/backend.h"
#include "os/sim.h"

#define IOCP__SIM_LANES_MAX 64
#define IOCP__SIM_LATE_NS 3000000

struct iocp__sim_entry {
    struct iocp__sim_entry *next;
    struct iocp__sim_entry *back;
    struct iocp_op *op;
    iocp_handle handle;
    uint64_t due_ns;         /* of the next attempt */
    uint64_t cancel_ns;      /* when a cancel arrives */
    struct iocp__queue held; /* answers on their way */
    uint64_t held_ns;        /* when they are there */
    int finished;            /* the last answer is held */
    int starved;             /* no buffer: goes on when one comes back */
    int connecting;
    int fetched; /* shared: a fetch has told of it */
};

struct iocp__sim_lane {
    struct iocp__kernel base;
    struct iocp__sim_source *source; /* NULL: a lane of its own */
    struct iocp__sim_entry *entries;
    struct iocp__sim_lane *watched[IOCP__SIM_LANES_MAX];
    uint32_t watch_count;
    uint32_t index;
    uint32_t attached;
    int rung;
    int inside; /* a holder is in here */
};

/* When what may be late happens: now (0), or somewhat later. */
uint64_t iocp__sim_soon_ns(void);
uint32_t iocp__sim_backend_below(uint32_t count);
/* Tries the op once: it gets answers, or waits for the network. */
void iocp__sim_attempt(struct iocp__sim_lane *lane, struct iocp__sim_entry *entry);
/* Of all pieces of an op that moves bytes. */
uint64_t iocp__sim_size(const struct iocp_op *op);
/* The last answer. */
void iocp__sim_finish(struct iocp__sim_entry *entry, int64_t result);

#endif
