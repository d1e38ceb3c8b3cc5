/* Slots, ids and the cap of a service's sessions.
 *
 * Invariants
 * 1. reserved <= sessions_max at every moment; a session in a slot has one place of it.
 * 2. A slot's generation grows with each session that gets it, so that no id comes twice: 40 bits
 *    last for 35 years of one slot that is taken a thousand times a second.
 * 3. Slots are made in chunks that never move and are freed with the table alone.
 *
 * Index of a slot: position in its shard * SHARDS + shard. */
#include "net/session_table.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"
#include "net/session.h"

#define TABLE_CHUNK 256
#define TABLE_INDEX_BITS 24
#define TABLE_INDEX_MASK ((UINT64_C(1) << TABLE_INDEX_BITS) - 1)

static uint32_t table_chunk_count(uint32_t length)
{
    return (length + TABLE_CHUNK - 1) / TABLE_CHUNK;
}

int iocp__table_init(struct iocp__session_table *table, uint32_t sessions_max)
{
    uint32_t length = (sessions_max + IOCP__TABLE_SHARDS - 1) / IOCP__TABLE_SHARDS;
    table->sessions_max = sessions_max;
    for (uint32_t i = 0; i < IOCP__TABLE_SHARDS; i++) {
        struct iocp__table_shard *shard = &table->shards[i];
        size_t size = table_chunk_count(length) * sizeof(struct iocp__slot *);
        shard->length = length;
        shard->chunks = iocp__allocate_zero(size);
        if (!shard->chunks) {
            iocp__table_destroy(table);
            return IOCP_ENOMEM;
        }
    }
    return 0;
}

void iocp__table_destroy(struct iocp__session_table *table)
{
    for (uint32_t i = 0; i < IOCP__TABLE_SHARDS; i++) {
        struct iocp__table_shard *shard = &table->shards[i];
        uint32_t count = table_chunk_count(shard->length);
        if (!shard->chunks)
            continue;
        for (uint32_t k = 0; k < count; k++)
            iocp__release(shard->chunks[k], TABLE_CHUNK * sizeof(struct iocp__slot));
        iocp__release(shard->chunks, count * sizeof(struct iocp__slot *));
        shard->chunks = NULL;
    }
}

int iocp__table_reserve(struct iocp__session_table *table)
{
    /* Relaxed: a count that guards no memory; the exchange keeps the cap exact. */
    uint32_t reserved = iocp__load_relaxed(&table->reserved);
    do {
        if (reserved >= table->sessions_max)
            return IOCP_EFULL;
    } while (!iocp__cas_acq_rel(&table->reserved, &reserved, reserved + 1));
    uint32_t peak = iocp__load_relaxed(&table->peak);
    while (peak < reserved + 1 && !iocp__cas_acq_rel(&table->peak, &peak, reserved + 1))
        ;
    return 0;
}

void iocp__table_unreserve(struct iocp__session_table *table)
{
    /* Relaxed: as above. */
    uint32_t before = iocp__sub_relaxed(&table->reserved, 1);
    iocp__assert(before > 0);
}

static struct iocp__slot *table_slot(struct iocp__table_shard *shard, uint32_t position)
{
    return &shard->chunks[position / TABLE_CHUNK][position % TABLE_CHUNK];
}

static struct iocp__slot *table_slot_of(struct iocp__session_table *table, uint64_t id,
                                        struct iocp__table_shard **out_shard)
{
    uint32_t index = (uint32_t)(id & TABLE_INDEX_MASK);
    *out_shard = &table->shards[index % IOCP__TABLE_SHARDS];
    return table_slot(*out_shard, index / IOCP__TABLE_SHARDS);
}

/* Takes a free slot; the lock is held. *out_full: another shard may have one. NULL and not full: a
 * chunk is missing. */
static struct iocp__slot *table_take(struct iocp__table_shard *shard, uint32_t *out_position,
                                     int *out_full)
{
    *out_full = 0;
    if (shard->free) {
        *out_position = shard->free - 1;
        struct iocp__slot *slot = table_slot(shard, *out_position);
        shard->free = (uint32_t)(slot->word & TABLE_INDEX_MASK);
        return slot;
    }
    if (shard->made == shard->length) {
        *out_full = 1;
        return NULL;
    }
    if (!shard->chunks[shard->made / TABLE_CHUNK])
        return NULL;
    *out_position = shard->made++;
    return table_slot(shard, *out_position);
}

/* Tries one shard. IOCP_EFULL: it has no slot; 1: it wants a chunk, which *chunk may be. */
static int table_insert_in(struct iocp__session_table *table, uint32_t index,
                           struct iocp_session *session, struct iocp__slot **chunk)
{
    struct iocp__table_shard *shard = &table->shards[index];
    uint32_t position = 0;
    int full = 0;
    int error = IOCP_ECLOSED;
    iocp__lock_acquire(&shard->lock);
    if (shard->closed)
        goto out;
    struct iocp__slot *slot = table_take(shard, &position, &full);
    if (!slot && !full && *chunk) {
        shard->chunks[shard->made / TABLE_CHUNK] = *chunk;
        *chunk = NULL;
        slot = table_take(shard, &position, &full);
    }
    error = full ? IOCP_EFULL : 1;
    if (slot) {
        uint64_t generation = (slot->word >> TABLE_INDEX_BITS) + 1;
        slot->word = generation << TABLE_INDEX_BITS;
        slot->session = session;
        session->id = slot->word | (position * IOCP__TABLE_SHARDS + index);
        error = 0;
    }
out:
    iocp__lock_release(&shard->lock);
    return error;
}

int iocp__table_insert(struct iocp__session_table *table, struct iocp_session *session)
{
    /* Relaxed: any spread will do. */
    uint32_t turn = iocp__add_relaxed(&table->turn, 1);
    struct iocp__slot *chunk = NULL;
    int error = IOCP_EFULL;
    /* Chunks are made outside the lock: the allocator is the user's. */
    for (uint32_t tries = 0; tries < IOCP__TABLE_SHARDS && error == IOCP_EFULL; tries++) {
        uint32_t index = (turn + tries) % IOCP__TABLE_SHARDS;
        while ((error = table_insert_in(table, index, session, &chunk)) == 1) {
            chunk = iocp__allocate_zero(TABLE_CHUNK * sizeof(struct iocp__slot));
            if (!chunk)
                return IOCP_ENOMEM;
        }
    }
    iocp__release(chunk, TABLE_CHUNK * sizeof(struct iocp__slot));
    return error;
}

void iocp__table_remove(struct iocp__session_table *table, struct iocp_session *session)
{
    struct iocp__table_shard *shard;
    uint32_t position = (uint32_t)(session->id & TABLE_INDEX_MASK) / IOCP__TABLE_SHARDS;
    struct iocp__slot *slot = table_slot_of(table, session->id, &shard);
    iocp__lock_acquire(&shard->lock);
    iocp__assert(slot->session == session);
    slot->session = NULL;
    slot->word = (slot->word & ~TABLE_INDEX_MASK) | shard->free;
    shard->free = position + 1;
    iocp__lock_release(&shard->lock);
}

void iocp__table_set_closed(struct iocp__session_table *table, int closed)
{
    for (uint32_t i = 0; i < IOCP__TABLE_SHARDS; i++) {
        iocp__lock_acquire(&table->shards[i].lock);
        table->shards[i].closed = closed != 0;
        iocp__lock_release(&table->shards[i].lock);
    }
}

struct iocp_session *iocp__table_find(struct iocp__session_table *table, uint64_t id)
{
    struct iocp_session *found = NULL;
    uint32_t index = (uint32_t)(id & TABLE_INDEX_MASK);
    struct iocp__table_shard *shard = &table->shards[index % IOCP__TABLE_SHARDS];
    uint32_t position = index / IOCP__TABLE_SHARDS;
    iocp__lock_acquire(&shard->lock);
    if (position < shard->made) {
        struct iocp_session *session = table_slot(shard, position)->session;
        if (session && session->id == id && iocp__session_state(session) == IOCP__SESSION_OPEN)
            found = iocp_session_ref(session);
    }
    iocp__lock_release(&shard->lock);
    return found;
}

uint32_t iocp__table_collect(struct iocp__session_table *table, uint64_t *cursor,
                             struct iocp_session **sessions, uint32_t count, int all)
{
    uint32_t taken = 0;
    uint32_t index = (uint32_t)(*cursor >> 32);
    uint32_t position = (uint32_t)*cursor;
    for (; index < IOCP__TABLE_SHARDS && taken < count; index++, position = 0) {
        struct iocp__table_shard *shard = &table->shards[index];
        iocp__lock_acquire(&shard->lock);
        for (; position < shard->made && taken < count; position++) {
            struct iocp_session *session = table_slot(shard, position)->session;
            if (session && (all || iocp__session_state(session) == IOCP__SESSION_OPEN))
                sessions[taken++] = iocp_session_ref(session);
        }
        int more = position < shard->made;
        iocp__lock_release(&shard->lock);
        if (more)
            break;
    }
    *cursor = (uint64_t)index << 32 | position;
    return taken;
}
