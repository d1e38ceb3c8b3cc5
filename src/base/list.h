/* The two intrusive lists of the library.
 *
 * Queue: first in, first out, of iocp_event; singly linked. An event is in one queue at a time.
 * Link: doubly linked ring with a head of its own, for what leaves from the middle.
 * Neither locks. */
#ifndef IOCP_BASE_LIST_H
#define IOCP_BASE_LIST_H

#include <iocp/op.h>

#define iocp__container(pointer, type, member)                                                     \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

struct iocp__queue {
    struct iocp_event *first;
    struct iocp_event *last;
    uint32_t count;
};

static inline void iocp__queue_init(struct iocp__queue *queue)
{
    queue->first = NULL;
    queue->last = NULL;
    queue->count = 0;
}

static inline void iocp__queue_push(struct iocp__queue *queue, struct iocp_event *event)
{
    event->next = NULL;
    if (queue->last)
        queue->last->next = event;
    else
        queue->first = event;
    queue->last = event;
    queue->count++;
}

/* NULL when empty. */
static inline struct iocp_event *iocp__queue_pop(struct iocp__queue *queue)
{
    struct iocp_event *event = queue->first;
    if (!event)
        return NULL;
    queue->first = event->next;
    if (!queue->first)
        queue->last = NULL;
    queue->count--;
    return event;
}

/* Moves all of `from` behind `to`. */
static inline void iocp__queue_join(struct iocp__queue *to, struct iocp__queue *from)
{
    if (!from->first)
        return;
    if (to->last)
        to->last->next = from->first;
    else
        to->first = from->first;
    to->last = from->last;
    to->count += from->count;
    iocp__queue_init(from);
}

struct iocp__link {
    struct iocp__link *next;
    struct iocp__link *back;
};

/* An empty ring, or a link that is in none. */
static inline void iocp__link_init(struct iocp__link *link)
{
    link->next = link;
    link->back = link;
}

static inline int iocp__link_alone(const struct iocp__link *link)
{
    return link->next == link;
}

/* Puts `link` in front of `at`: at the end of the ring when `at` is its head. */
static inline void iocp__link_insert(struct iocp__link *at, struct iocp__link *link)
{
    link->next = at;
    link->back = at->back;
    at->back->next = link;
    at->back = link;
}

/* Takes it out of its ring; nothing when it is in none. */
static inline void iocp__link_remove(struct iocp__link *link)
{
    link->back->next = link->next;
    link->next->back = link->back;
    iocp__link_init(link);
}

#endif
