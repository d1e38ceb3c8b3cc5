/* The queue of entries, the memory it lies in, and one gather write made of it.
 *
 * Invariants
 * 1. An entry with a buffer has a reference on it; so has each slice in flight.
 * 2. room_users counts the entries, queued or in flight, whose bytes lie in the room. Only when it
 *    is 0 the room is given out from its beginning again: the kernel never sees bytes change.
 * 3. Bytes of a chunk before chunk_used never change; those behind are the next message's.
 * 4. Segments from head to tail hold `count` entries, all but the tail are full at their end.
 *
 * A message is one entry; only with `merge` neighbours in one memory become one. */
#include "net/send_queue.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"
#include "base/list.h"

#include <iocp/buffer.h>
#include <iocp/error.h>

#include <string.h>

/* ---- The pool. */

int iocp__send_pool_init(struct iocp__send_pool *pool, struct iocp_pool *large)
{
    int error = iocp_pool_create(IOCP__SEND_CHUNK, 0, &pool->chunks);
    if (error == 0)
        pool->large = iocp_pool_ref(large);
    return error;
}

int iocp__send_pool_buffer(struct iocp__send_pool *pool, size_t size,
                           struct iocp_buffer **out_buffer)
{
    if (size <= IOCP__SEND_CHUNK)
        return iocp_buffer_take(pool->chunks, out_buffer);
    if (size <= IOCP__SEND_LARGE)
        return iocp_buffer_take(pool->large, out_buffer);
    return iocp_buffer_create(size, out_buffer);
}

void iocp__send_pool_destroy(struct iocp__send_pool *pool)
{
    while (pool->blocks) {
        struct iocp__send_block *block = pool->blocks;
        pool->blocks = block->next_free;
        iocp__release(block, sizeof(*block));
    }
    while (pool->segments) {
        struct iocp__send_segment *segment = pool->segments;
        pool->segments = segment->next;
        iocp__release(segment, sizeof(*segment));
    }
    pool->chunks = iocp_pool_unref(pool->chunks);
    pool->large = iocp_pool_unref(pool->large);
}

/* All but the op, which stays as it is from one use to the next, and the arrays. */
static void send_block_clear(struct iocp__send_block *block)
{
    size_t begin = offsetof(struct iocp__send_block, flight_count);
    memset((char *)block + begin, 0, offsetof(struct iocp__send_block, slices) - begin);
    block->first.next = NULL;
    block->first.begin = 0;
    block->first.end = 0;
    block->head = &block->first;
    block->tail = &block->first;
}

struct iocp__send_block *iocp__send_block_take(struct iocp__send_pool *pool,
                                               struct iocp_session *session, iocp_handler *handler)
{
    iocp__lock_acquire(&pool->lock);
    struct iocp__send_block *block = pool->blocks;
    if (block) {
        pool->blocks = block->next_free;
        pool->block_count--;
    }
    iocp__lock_release(&pool->lock);
    if (!block) {
        block = iocp__allocate(sizeof(*block));
        if (!block)
            return NULL;
        iocp_op_init(&block->op, handler);
        block->op.context = block;
        send_block_clear(block);
    }
    block->session = session;
    return block;
}

static struct iocp__send_segment *send_segment_take(struct iocp__send_pool *pool)
{
    iocp__lock_acquire(&pool->lock);
    struct iocp__send_segment *segment = pool->segments;
    if (segment) {
        pool->segments = segment->next;
        pool->segment_count--;
    }
    iocp__lock_release(&pool->lock);
    if (!segment)
        segment = iocp__allocate(sizeof(*segment));
    if (!segment)
        return NULL;
    segment->next = NULL;
    segment->begin = 0;
    segment->end = 0;
    return segment;
}

static void send_segment_give(struct iocp__send_pool *pool, struct iocp__send_segment *segment)
{
    iocp__lock_acquire(&pool->lock);
    int keep = pool->segment_count < IOCP__SEND_POOL_BLOCKS;
    if (keep) {
        segment->next = pool->segments;
        pool->segments = segment;
        pool->segment_count++;
    }
    iocp__lock_release(&pool->lock);
    if (!keep)
        iocp__release(segment, sizeof(*segment));
}

void iocp__send_block_give(struct iocp__send_pool *pool, struct iocp__send_block *block)
{
    if (!block)
        return;
    iocp__send_landed(block);
    for (struct iocp__send_segment *segment = block->head, *next; segment; segment = next) {
        next = segment->next;
        for (uint32_t i = segment->begin; i < segment->end; i++)
            iocp_buffer_unref(segment->entries[i].buffer);
        if (segment != &block->first)
            send_segment_give(pool, segment);
    }
    for (struct iocp__send_segment *segment = block->empty, *next; segment; segment = next) {
        next = segment->next;
        if (segment != &block->first)
            send_segment_give(pool, segment);
    }
    iocp_buffer_unref(block->chunk);
    send_block_clear(block);
    iocp__lock_acquire(&pool->lock);
    int keep = pool->block_count < IOCP__SEND_POOL_BLOCKS;
    if (keep) {
        block->next_free = pool->blocks;
        pool->blocks = block;
        pool->block_count++;
    }
    iocp__lock_release(&pool->lock);
    if (!keep)
        iocp__release(block, sizeof(*block));
}

int iocp__send_supply_fetch(struct iocp__send_pool *pool, struct iocp__send_supply *supply,
                            enum iocp__send_want want)
{
    if (want == IOCP__WANT_CHUNK)
        return iocp_buffer_take(pool->chunks, &supply->chunk);
    supply->segment = send_segment_take(pool);
    return supply->segment ? 0 : IOCP_ENOMEM;
}

void iocp__send_supply_give(struct iocp__send_pool *pool, struct iocp__send_supply *supply)
{
    iocp_buffer_unref(supply->chunk);
    iocp_buffer_unref(supply->old);
    if (supply->segment)
        send_segment_give(pool, supply->segment);
}

/* ---- The queue. */

static int send_tail_full(const struct iocp__send_block *block)
{
    return block->tail->end == IOCP__SEND_ENTRIES;
}

static int send_no_place(const struct iocp__send_block *block,
                         const struct iocp__send_supply *supply)
{
    return send_tail_full(block) && !block->empty && !supply->segment;
}

/* There is a place: send_no_place said so. */
static void send_append(struct iocp__send_block *block, struct iocp__send_supply *supply,
                        struct iocp__send_entry entry)
{
    if (send_tail_full(block)) {
        struct iocp__send_segment *segment = block->empty;
        if (segment)
            block->empty = segment->next;
        else
            segment = supply->segment;
        if (segment == supply->segment)
            supply->segment = NULL;
        segment->next = NULL;
        block->tail->next = segment;
        block->tail = segment;
    }
    block->tail->entries[block->tail->end++] = entry;
    block->count++;
}

/* The last entry when its bytes end at `offset` of `buffer`, so that it can grow. */
static struct iocp__send_entry *send_neighbour(struct iocp__send_block *block,
                                               const struct iocp_buffer *buffer, uint32_t offset)
{
    struct iocp__send_segment *tail = block->tail;
    if (tail->begin == tail->end)
        return NULL;
    struct iocp__send_entry *last = &tail->entries[tail->end - 1];
    return last->buffer == buffer && last->offset + last->size == offset ? last : NULL;
}

static enum iocp__send_want send_copy_room(struct iocp__send_block *block,
                                           struct iocp__send_supply *supply, const void *data,
                                           uint32_t size, int merge)
{
    uint32_t offset = block->room_used;
    struct iocp__send_entry *last = merge ? send_neighbour(block, NULL, offset) : NULL;
    if (!last && send_no_place(block, supply))
        return IOCP__WANT_SEGMENT;
    memcpy(block->room + offset, data, size);
    block->room_used += size;
    if (last) {
        last->size += size;
        return IOCP__WANT_NOTHING;
    }
    block->room_users++;
    send_append(block, supply, (struct iocp__send_entry){NULL, offset, size});
    return IOCP__WANT_NOTHING;
}

enum iocp__send_want iocp__send_copy(struct iocp__send_block *block,
                                     struct iocp__send_supply *supply, const void *data,
                                     uint32_t size, int merge)
{
    if (!block->bulk && size <= IOCP__SEND_ROOM - block->room_used)
        return send_copy_room(block, supply, data, size, merge);
    int fits = block->chunk && size <= IOCP__SEND_CHUNK - block->chunk_used;
    if (!fits && !supply->chunk)
        return IOCP__WANT_CHUNK;
    struct iocp__send_entry *last = NULL;
    if (fits && merge)
        last = send_neighbour(block, block->chunk, block->chunk_used);
    if (!last && send_no_place(block, supply))
        return IOCP__WANT_SEGMENT;
    if (!fits) {
        supply->old = block->chunk;
        block->chunk = supply->chunk;
        block->chunk_used = 0;
        supply->chunk = NULL;
    }
    uint32_t offset = block->chunk_used;
    memcpy((char *)iocp_buffer_data(block->chunk) + offset, data, size);
    block->chunk_used += size;
    if (last)
        last->size += size;
    else
        send_append(block, supply,
                    (struct iocp__send_entry){iocp_buffer_ref(block->chunk), offset, size});
    return IOCP__WANT_NOTHING;
}

int iocp__send_grow(struct iocp__send_block *block, const void *data, uint32_t size)
{
    struct iocp__send_segment *tail = block->tail;
    if (tail->begin == tail->end)
        return 0;
    struct iocp__send_entry *last = &tail->entries[tail->end - 1];
    uint32_t end = last->offset + last->size;
    if (!last->buffer && end == block->room_used && size <= IOCP__SEND_ROOM - end) {
        memcpy(block->room + end, data, size);
        block->room_used += size;
    } else if (last->buffer && last->buffer == block->chunk && end == block->chunk_used &&
               size <= IOCP__SEND_CHUNK - end) {
        memcpy((char *)iocp_buffer_data(block->chunk) + end, data, size);
        block->chunk_used += size;
    } else {
        return 0;
    }
    last->size += size;
    return 1;
}

enum iocp__send_want iocp__send_buffer(struct iocp__send_block *block,
                                       struct iocp__send_supply *supply, struct iocp_buffer *buffer,
                                       uint32_t offset, uint32_t size)
{
    if (send_no_place(block, supply))
        return IOCP__WANT_SEGMENT;
    send_append(block, supply, (struct iocp__send_entry){buffer, offset, size});
    return IOCP__WANT_NOTHING;
}

/* The oldest entry of a queue that is not empty. */
static struct iocp__send_entry *send_front(struct iocp__send_block *block)
{
    return &block->head->entries[block->head->begin];
}

/* Forgets the oldest entry. A segment that it leaves empty is kept for the next append. */
static void send_pop(struct iocp__send_block *block)
{
    struct iocp__send_segment *head = block->head;
    head->begin++;
    block->count--;
    if (head->begin < head->end)
        return;
    head->begin = 0;
    head->end = 0;
    if (head == block->tail)
        return;
    block->head = head->next;
    head->next = block->empty;
    block->empty = head;
}

uint32_t iocp__send_drop(struct iocp__send_block *block, struct iocp_buffer **out_buffer)
{
    struct iocp__send_entry entry = *send_front(block);
    iocp__debug(block->count > 0);
    if (!entry.buffer)
        block->room_users--;
    *out_buffer = entry.buffer;
    send_pop(block);
    return entry.size;
}

/* ---- The flight. */

static void *send_bytes(struct iocp__send_block *block, const struct iocp__send_entry *entry)
{
    unsigned char *base = entry->buffer ? iocp_buffer_data(entry->buffer) : block->room;
    return base + entry->offset;
}

/* Not 0 when bytes at `data` of `buffer` follow those of the last slice. */
static int send_joins(const struct iocp__send_block *block, const struct iocp_buffer *buffer,
                      const char *data)
{
    if (block->flight_count == 0 || block->flight[block->flight_count - 1] != buffer)
        return 0;
    const struct iocp_slice *last = &block->slices[block->flight_count - 1];
    return (const char *)last->data + last->size == data;
}

/* Puts the first `size` bytes of the oldest entry into flight: as a slice of its own, or at the end
 * of the last one when they follow it in memory. */
static void send_launch(struct iocp__send_block *block, uint32_t size)
{
    struct iocp__send_entry *entry = send_front(block);
    char *data = send_bytes(block, entry);
    int whole = size == entry->size;
    if (send_joins(block, entry->buffer, data)) {
        block->slices[block->flight_count - 1].size += size;
        /* Never the last reference: the slice has one. */
        if (whole)
            iocp_buffer_unref(entry->buffer);
    } else {
        block->slices[block->flight_count].data = data;
        block->slices[block->flight_count].size = size;
        block->flight[block->flight_count] =
            whole || !entry->buffer ? entry->buffer : iocp_buffer_ref(entry->buffer);
        block->flight_count++;
    }
    block->flight_size += size;
    if (whole) {
        block->flight_room += !entry->buffer;
        send_pop(block);
    } else {
        entry->offset += size;
        entry->size -= size;
    }
}

void iocp__send_gather(struct iocp__send_block *block, uint32_t size_max, int split)
{
    iocp__assert(block->count > 0 && block->flight_count == 0);
    while (block->count > 0 && block->flight_count < IOCP__SEND_SLICES) {
        uint32_t size = send_front(block)->size;
        uint32_t left = size_max - block->flight_size;
        if (size > left && split)
            size = left;
        else if (size > left && block->flight_count > 0)
            break;
        send_launch(block, size);
        if (block->flight_size >= size_max)
            break;
    }
    block->op.u.late.slices = block->slices;
    block->op.u.late.count = block->flight_count;
}

void iocp__send_landed(struct iocp__send_block *block)
{
    for (uint32_t i = 0; i < block->flight_count; i++)
        iocp_buffer_unref(block->flight[i]);
    block->flight_count = 0;
}

void iocp__send_settle(struct iocp__send_block *block)
{
    block->room_users -= block->flight_room;
    block->flight_room = 0;
    block->flight_size = 0;
    if (block->room_users == 0)
        block->room_used = 0;
}
