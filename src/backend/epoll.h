/* Inside of the epoll backend: what its two files share. epoll.c is the lane (bell, wait, watch),
 * epoll_slot.c what one object waits for and how its operations are tried.
 *
 * A lane is one epoll descriptor. An object has a slot in its lane from its first op to its detach.
 * Answers gather in `finished`, for wait to hand out. */
#ifndef IOCP_BACKEND_EPOLL_H
#define IOCP_BACKEND_EPOLL_H

#include "backend/backend.h"

#include <poll.h>
#include <sys/epoll.h>

#define IOCP__EPOLL_EVENTS 256 /* fetched at once */
#define IOCP__EPOLL_TAG_BELL 0 /* of the eventfd; slots count from 1 */

struct iocp__epoll_slot;
struct iocp__files;

struct iocp__epoll_watch {
    struct iocp__epoll *lane;
    int descriptor; /* of its epoll */
};

struct iocp__epoll {
    struct iocp__kernel base;
    int descriptor;
    int bell;

    /* Any thread's, atomic. */
    uint32_t rung;     /* the bell was rung and no wait has returned since */
    uint32_t asleep;   /* the holder sleeps or is about to */
    uint32_t refilled; /* a buffer came back for the starved ones */
    uint32_t loaded;   /* finished or again has something; the holder's to set */
    uint32_t watchers; /* lanes with a watch on this one */

    /* The holder's. */
    struct iocp__queue finished;
    struct iocp__link again;   /* slots to be tried without an edge */
    struct iocp__link starved; /* slots whose stream found no buffer */
    struct iocp__link free;
    struct iocp__epoll_slot **chunks;
    uint32_t chunk_count;
    uint32_t chunk_room;
    uint32_t skips; /* waits in a row that did not ask the kernel */
    uint32_t no_pwait2;
    struct iocp_buffer *spare; /* taken, and not needed in the end */
    struct iocp__files *files; /* NULL until there is one to read or write */
    struct iocp__epoll_watch *watches;
    struct pollfd *polls; /* one more than watches: [0] is this lane itself */
    uint32_t watch_count;
    uint32_t watch_room;
    uint32_t watch_hit; /* a watched lane has something already */
    struct epoll_event events[IOCP__EPOLL_EVENTS];
};

static inline struct iocp__epoll *iocp__epoll_of(struct iocp__kernel *kernel)
{
    return (struct iocp__epoll *)(void *)kernel;
}

/* A buffer came back to the pool; any thread. */
void iocp__epoll_refill(void *context);

/* Takes an op of a kind that epoll can tell of: answers it, or holds it in its object's slot. */
void iocp__epoll_slot_begin(struct iocp__epoll *lane, struct iocp_op *op);
/* Answers it as canceled if it is held. */
void iocp__epoll_slot_cancel(struct iocp__epoll *lane, struct iocp_op *op);
/* Its ops have been answered; the slot, if it had one, is free. */
void iocp__epoll_slot_leave(struct iocp__epoll *lane, struct iocp_object *object);

/* An event of epoll that is not the bell's. */
void iocp__epoll_slot_event(struct iocp__epoll *lane, const struct epoll_event *event);
/* Tries the slots of `list`, each once. What is not finished then is in a list of the lane. */
void iocp__epoll_slot_serve(struct iocp__epoll *lane, struct iocp__link *list);
/* After a refill: streams that found no buffer go on, as far as the buffers last. */
void iocp__epoll_slot_serve_starved(struct iocp__epoll *lane);

/* Takes the memory of all slots back. */
void iocp__epoll_slot_free_all(struct iocp__epoll *lane);

#endif
