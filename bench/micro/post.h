/* Workload h: packets from one thread to another. The driver (post.c) is the same for all; a peer
 * is a table of functions, one file per group of peers.
 *
 * A queue carries items from any thread to any. Posting never waits. */
#ifndef BENCH_POST_H
#define BENCH_POST_H

#include "micro.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Larger than what any peer links into a queue. */
#define POST_LINK_SIZE 160

struct post_item {
    uint64_t link[POST_LINK_SIZE / 8]; /* the peer's; zeroed before the first use */
    void *tally;                       /* the peer's, where its callbacks have no context */
    uint64_t value;
    uint32_t busy; /* atomic: from the post until it was got */
};

/* Takes an item out of the peer's hands: it may be posted again, from here as well. */
typedef void post_got(void *context, struct post_item *item);

struct post_peer {
    const char *impl;
    /* NULL: it does not work here. */
    void *(*open)(uint32_t consumers);
    void (*post)(void *queue, struct post_item *item);
    /* Calls `got` for each item until `stop`. */
    void (*consume)(void *queue, post_got *got, void *context);
    /* The same for the items that are there, without waiting. */
    void (*poll)(void *queue, post_got *got, void *context);
    void (*stop)(void *queue);
    void (*close)(void *queue);
};

/* What a peer's file defines; ends with NULL. */
extern const struct post_peer *const post_peers[];

#ifdef __cplusplus
}
#endif

#endif
