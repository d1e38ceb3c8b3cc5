/* What a session has to send: a block of memory that it holds only while there is something, and
 * the pool that blocks come from.
 *
 * A block has the op of the send, the slices for the kernel, a queue of entries and room for small
 * messages. Bytes are copied into that room, then into a shared-out chunk; large ones get a buffer
 * of their own, and buffers of the user's are queued by reference. Nothing here locks but the pool:
 * the session's lock is around what works on its queue, and memory is taken and given back outside
 * it. */
#ifndef IOCP_NET_SEND_QUEUE_H
#define IOCP_NET_SEND_QUEUE_H

#include "os/os.h"

#include <iocp/op.h>

#define IOCP__SEND_SLICES 32   /* one gather write */
#define IOCP__SEND_ENTRIES 24  /* of a segment */
#define IOCP__SEND_ROOM 648    /* small messages inside the block */
#define IOCP__SEND_CHUNK 4096  /* capacity of a chunk */
#define IOCP__SEND_LARGE 16384 /* capacity of a large buffer; beyond it each has its own size */
#define IOCP__SEND_DROPS 32    /* buffers given back at once */

struct iocp__send_entry {
    struct iocp_buffer *buffer; /* a reference; NULL: in the block's room */
    uint32_t offset;
    uint32_t size;
};

struct iocp__send_segment {
    struct iocp__send_segment *next;
    uint32_t begin;
    uint32_t end;
    struct iocp__send_entry entries[IOCP__SEND_ENTRIES];
};

struct iocp__send_block {
    struct iocp_op op;
    struct iocp_session *session; /* borrowed: a pending op holds a reference */
    struct iocp__send_block *next_free;

    /* On the way: set by gather, the answer's to give back. */
    uint32_t flight_count; /* slices */
    uint32_t flight_size;
    uint32_t flight_room; /* entries that lay in the room */
    uint32_t disconnect;  /* the op ends the stream */
    uint32_t messages;    /* appended and not counted by the service yet */
    uint32_t bulk;        /* more is expected than the room holds: copies go to a chunk at once */
    uint64_t since_ns;    /* atomic: when the present send began */

    /* Queued, not on the way. */
    struct iocp__send_segment *head;
    struct iocp__send_segment *tail;
    struct iocp__send_segment *empty; /* used up, for the next append */
    uint32_t count;                   /* entries */
    uint32_t room_used;               /* bytes of the room given out */
    uint32_t room_users;              /* entries in it, those in flight included */
    uint32_t chunk_used;
    struct iocp_buffer *chunk; /* a reference; where copies go on */

    struct iocp_slice slices[IOCP__SEND_SLICES];
    struct iocp_buffer *flight[IOCP__SEND_SLICES]; /* a reference each; NULL: the room */
    struct iocp__send_segment first;
    unsigned char room[IOCP__SEND_ROOM];
};

_Static_assert(sizeof(struct iocp__send_block) <= 2048, "a block is two KiB");

/* ---- The pool: a few free blocks and segments, and chunks. */
#define IOCP__SEND_POOL_BLOCKS 64 /* free ones that are kept */

struct iocp__send_pool {
    struct iocp__lock lock;
    uint32_t block_count;
    uint32_t segment_count;
    struct iocp__send_block *blocks;
    struct iocp__send_segment *segments;
    struct iocp_pool *chunks;
    struct iocp_pool *large; /* buffers of SEND_LARGE */
};

/* `large` is shared by several. 0 or IOCP_ENOMEM. */
int iocp__send_pool_init(struct iocp__send_pool *pool, struct iocp_pool *large);
/* Takes a zeroed one too. */
void iocp__send_pool_destroy(struct iocp__send_pool *pool);

/* A buffer for at least `size` bytes: a chunk, a large one, or one of its own. IOCP_ENOMEM. */
int iocp__send_pool_buffer(struct iocp__send_pool *pool, size_t size,
                           struct iocp_buffer **out_buffer);

/* An empty block with an idle op for the session, or NULL. A pool has one `handler`. */
struct iocp__send_block *iocp__send_block_take(struct iocp__send_pool *pool,
                                               struct iocp_session *session, iocp_handler *handler);
/* Gives it back with all that is queued in it. NULL is fine. */
void iocp__send_block_give(struct iocp__send_pool *pool, struct iocp__send_block *block);

/* ---- The queue. */

/* Memory that one append may need, taken outside the lock, and what it gives back there. */
struct iocp__send_supply {
    struct iocp__send_segment *segment;
    struct iocp_buffer *chunk; /* empty, capacity SEND_CHUNK */
    struct iocp_buffer *old;   /* a chunk that is full: to be given back */
};

enum iocp__send_want { IOCP__WANT_NOTHING = 0, IOCP__WANT_SEGMENT, IOCP__WANT_CHUNK };

/* Appends a copy of up to SEND_CHUNK bytes. `merge`: a run of messages may become one entry. Says
 * what is missing, then nothing has changed. */
enum iocp__send_want iocp__send_copy(struct iocp__send_block *block,
                                     struct iocp__send_supply *supply, const void *data,
                                     uint32_t size, int merge);

/* Appends a copy to the last entry, when there is room behind it in its memory. Returns 0 when
 * there is not, and nothing has changed. */
int iocp__send_grow(struct iocp__send_block *block, const void *data, uint32_t size);

/* Appends `size` bytes of a buffer, whose reference it takes unless something is missing. */
enum iocp__send_want iocp__send_buffer(struct iocp__send_block *block,
                                       struct iocp__send_supply *supply, struct iocp_buffer *buffer,
                                       uint32_t offset, uint32_t size);

/* Fetches what was wanted: 0 or IOCP_ENOMEM. */
int iocp__send_supply_fetch(struct iocp__send_pool *pool, struct iocp__send_supply *supply,
                            enum iocp__send_want want);
/* Gives back what was not used. */
void iocp__send_supply_give(struct iocp__send_pool *pool, struct iocp__send_supply *supply);

/* Takes the oldest entry out. `*out_buffer`: its reference, the caller's now; NULL: none. */
uint32_t iocp__send_drop(struct iocp__send_block *block, struct iocp_buffer **out_buffer);

/* Moves entries into flight: as many slices as there are, up to `size_max` bytes but one entry at
 * least. `split`: an entry may be cut at size_max. Fills in the late send. The queue is not
 * empty. */
void iocp__send_gather(struct iocp__send_block *block, uint32_t size_max, int split);

/* Gives back the references of what was in flight: outside the lock, by the answer. */
void iocp__send_landed(struct iocp__send_block *block);

/* The rest of the answer, under the lock: the room is free again when nothing lies in it. */
void iocp__send_settle(struct iocp__send_block *block);

#endif
