/* Workload j: random reads of 4 KiB. The driver (files.c) is the same for all; a peer is a
 * function, one file per group of peers. FILES_DEPTH reads are under way at a time. */
#ifndef BENCH_FILES_H
#define BENCH_FILES_H

#include "micro.h"

#include <stdint.h>

#define FILES_BLOCK 4096
#define FILES_DEPTH 32

/* A series of reads. A slot is one of FILES_DEPTH places with memory for a block. */
struct files_run {
    int file;
    const char *impl;
    unsigned char *memory; /* FILES_DEPTH blocks */
    const uint32_t *blocks;
    uint32_t count;
    uint32_t next;
    uint32_t done;
    uint32_t slots[FILES_DEPTH]; /* the block that is being read into it */
};

struct files_peer {
    const char *impl;
    /* Does all reads: takes each by files_next, checks it by files_done. Not 0: does not work here.
     */
    int (*run)(struct files_run *run);
};

/* The next read for a slot: its offset; -1 when there is none. */
int64_t files_next(struct files_run *run, uint32_t slot);
/* Where the slot's bytes go. */
void *files_memory(struct files_run *run, uint32_t slot);
/* A read has ended with `result` bytes: checks each of them. */
void files_done(struct files_run *run, uint32_t slot, int64_t result);

extern const struct files_peer *const files_peers[];

#endif
