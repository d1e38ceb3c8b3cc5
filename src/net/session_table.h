/* The sessions of a service by id: slots in shards, each with a lock of its own.
 *
 * An id is the slot's generation above 24 bits of slot index, so that an old id never finds the
 * session that has the slot now. The table also holds the cap: a place is reserved before a session
 * is made. */
#ifndef IOCP_NET_SESSION_TABLE_H
#define IOCP_NET_SESSION_TABLE_H

#include "os/os.h"

#include <iocp/session.h>

#define IOCP__TABLE_SHARDS 16
#define IOCP__SESSIONS_MAX (1u << 24)

struct iocp__slot {
    struct iocp_session *session; /* NULL: free */
    uint64_t word; /* generation of the last id << 24 | next free slot of the shard */
};

struct iocp__table_shard {
    struct iocp__lock lock;
    uint32_t closed; /* refuses new sessions */
    uint32_t made;   /* slots that exist */
    uint32_t free;   /* first free slot + 1; 0: none */
    uint32_t length; /* slots that may exist */
    struct iocp__slot **chunks;
    uint32_t space[8]; /* keeps the locks of two shards apart */
};

struct iocp__session_table {
    uint32_t sessions_max;
    uint32_t reserved; /* atomic: sessions and places for them, never above sessions_max */
    uint32_t peak;     /* atomic */
    uint32_t turn;     /* atomic: the shard of the next session */
    struct iocp__table_shard shards[IOCP__TABLE_SHARDS];
};

/* 0 or IOCP_ENOMEM. `destroy` takes a zeroed one too. */
int iocp__table_init(struct iocp__session_table *table, uint32_t sessions_max);
void iocp__table_destroy(struct iocp__session_table *table);

/* A place under the cap: 0 or IOCP_EFULL. Given back by `unreserve`. */
int iocp__table_reserve(struct iocp__session_table *table);
void iocp__table_unreserve(struct iocp__session_table *table);

/* Puts a session, for which a place is reserved, in and gives it its id. The table borrows the
 * creator's reference. 0, IOCP_ENOMEM, IOCP_ECLOSED. */
int iocp__table_insert(struct iocp__session_table *table, struct iocp_session *session);
void iocp__table_remove(struct iocp__session_table *table, struct iocp_session *session);

/* Refuses new sessions, or takes them again. After a close every session that is in is seen by
 * `collect`, and none comes. */
void iocp__table_set_closed(struct iocp__session_table *table, int closed);

/* An open session with a reference, or NULL. */
struct iocp_session *iocp__table_find(struct iocp__session_table *table, uint64_t id);

/* Gives up to `count` sessions from *cursor (0 at first) on, each with a reference; 0 at the end.
 * `all`: those that are not open as well. */
uint32_t iocp__table_collect(struct iocp__session_table *table, uint64_t *cursor,
                             struct iocp_session **sessions, uint32_t count, int all);

#endif
