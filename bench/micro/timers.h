/* Workload i: a million pending timers. The driver (timers.c) is the same for all; a peer is a
 * table of functions, one file per peer. One thread does everything, since that is all that the
 * peers allow without further locks. */
#ifndef BENCH_TIMERS_H
#define BENCH_TIMERS_H

#include "micro.h"

#include <stdint.h>

struct timers_peer {
    const char *impl;
    /* Room for `count` timers. `ended` is to be called for each that ends, with its number. */
    void (*open)(uint32_t count, void (*ended)(uint32_t index));
    /* The peer's clock, for those that keep the time: called before a series of starts. */
    void (*update)(void);
    void (*start)(uint32_t index, uint64_t timeout_ms);
    void (*cancel)(uint32_t index);
    /* Whatever a cancel leaves to be done later. May be NULL. */
    void (*settle)(uint64_t canceled);
    /* Runs what is due by now; at least one round. */
    void (*run)(void);
    void (*close)(void);
};

extern const struct timers_peer *const timers_peers[];

#endif
