/* The slots of the epoll backend: completions made of readiness. An op is tried at once when its
 * slot believes that the direction is ready; else it stays in the slot until the kernel tells of an
 * edge, and is tried then. The attempts themselves are in try.c.
 *
 * Invariants
 * 1. object->active[d] is the op of direction d that is not answered while bit d of object->backend
 *    is set. It is cleared right before the answer goes to `finished`.
 * 2. Without READABLE no edge was fetched since an attempt to read found nothing more; without
 *    WRITABLE the same holds of writes, and EPOLLOUT is in slot->mask. So a held op whose bit is
 *    cleared gets an edge. A held read op whose bit is set is in `again` or `starved`.
 * 3. A short receive clears READABLE only without LINGER: an end, an error or urgent data that was
 *    reported before it raises no further edge.
 * 4. EPOLLOUT is asked for only when a write had to wait, and given back by sockets other than TCP
 *    when it comes for nobody: their side of the kernel tells of each piece that a peer takes.
 * 5. Slots do not move; a slot's generation changes when its object leaves. An event of another
 *    generation is of an object that is gone (a copy of its descriptor kept it open) and ignored.
 * 6. While `starved` has something the pool is armed or `refilled` is set.
 *
 * A slot: free → attached [slot_of] → in epoll [slot_arm] → free [iocp__epoll_slot_leave]
 * A held read op: waits for an edge → again [slot_again] | starved [slot_starve] → waits | answered
 */
#include "backend/epoll.h"

#include "backend/buffer.h"
#include "backend/try.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"

#include <errno.h>

#define SLOT_RECEIVES 4 /* buffers that a stream fills before others have their turn */
#define SLOT_ACCEPTS 16 /* the same for accepts */
#define SLOT_CHUNK 64   /* slots allocated at once */
#define SLOT_ALWAYS (EPOLLIN | EPOLLRDHUP | EPOLLPRI | EPOLLET)

enum slot_flag {
    SLOT_READABLE = 1, /* a receive or accept may find something */
    SLOT_WRITABLE = 2, /* a send may find room */
    SLOT_LINGER = 4,   /* invariant 3; until a receive finds nothing */
    SLOT_HUNG_UP = 8   /* an error or a hang-up was reported; until the next connect */
};

struct iocp__epoll_slot {
    struct iocp__link link; /* in lane->free, again, starved or none */
    struct iocp_object *object;
    uint32_t number; /* object->backend_data */
    uint32_t generation;
    uint32_t mask;  /* what epoll is asked for; 0: the handle is not in it */
    uint8_t flags;  /* enum slot_flag */
    uint8_t nature; /* enum iocp__nature */
};

/* ---- Slots. */

static struct iocp__epoll_slot *slot_at(struct iocp__epoll *lane, uint32_t number)
{
    uint32_t index = number - 1;

    iocp__debug(number > 0 && index / SLOT_CHUNK < lane->chunk_count);
    return &lane->chunks[index / SLOT_CHUNK][index % SLOT_CHUNK];
}

/* The op of a direction that is not answered, or NULL. */
static struct iocp_op *slot_op(const struct iocp__epoll_slot *slot, enum iocp__direction direction)
{
    const struct iocp_object *object = slot->object;
    return object->backend & 1u << direction ? object->active[direction] : NULL;
}

static void slot_let_go(struct iocp__epoll_slot *slot, enum iocp__direction direction)
{
    slot->object->backend &= ~(1u << direction);
}

/* Holds between any two calls of the port. */
static int slot_is_valid(const struct iocp__epoll_slot *slot)
{
    const struct iocp_op *read = slot_op(slot, IOCP__READ);
    int waits = slot->mask != 0;

    return slot->object && slot->object->backend_data == slot->number && (!read || waits) &&
           (!slot_op(slot, IOCP__POLL) || waits) &&
           (!(slot->flags & SLOT_READABLE) || !read || !iocp__link_alone(&slot->link)) &&
           (!slot_op(slot, IOCP__WRITE) || !(slot->flags & SLOT_WRITABLE)) &&
           ((slot->flags & SLOT_WRITABLE) || (slot->mask & EPOLLOUT));
}

/* Makes room for one more pointer to a chunk. */
static int slot_widen(struct iocp__epoll *lane)
{
    uint32_t room = lane->chunk_room ? lane->chunk_room * 2 : 4;
    struct iocp__epoll_slot **chunks;

    if (lane->chunk_count < lane->chunk_room)
        return 0;
    chunks = iocp__allocate(room * sizeof(struct iocp__epoll_slot *));
    if (!chunks)
        return IOCP_ENOMEM;
    for (uint32_t i = 0; i < lane->chunk_count; i++)
        chunks[i] = lane->chunks[i];
    iocp__release(lane->chunks, lane->chunk_room * sizeof(struct iocp__epoll_slot *));
    lane->chunks = chunks;
    lane->chunk_room = room;
    return 0;
}

/* Adds a chunk of free slots. */
static int slot_grow(struct iocp__epoll *lane)
{
    struct iocp__epoll_slot *chunk;

    if (slot_widen(lane) < 0)
        return IOCP_ENOMEM;
    chunk = iocp__allocate_zero(SLOT_CHUNK * sizeof(struct iocp__epoll_slot));
    if (!chunk)
        return IOCP_ENOMEM;
    for (uint32_t i = 0; i < SLOT_CHUNK; i++) {
        chunk[i].number = lane->chunk_count * SLOT_CHUNK + i + 1;
        iocp__link_insert(&lane->free, &chunk[i].link);
    }
    lane->chunks[lane->chunk_count++] = chunk;
    return 0;
}

/* The slot of an object, a new one when it has none. NULL: there is no memory. */
static struct iocp__epoll_slot *slot_of(struct iocp__epoll *lane, struct iocp_object *object)
{
    struct iocp__epoll_slot *slot;

    if (object->backend_data)
        return slot_at(lane, object->backend_data);
    if (iocp__link_alone(&lane->free) && slot_grow(lane) < 0)
        return NULL;
    slot = iocp__container(lane->free.next, struct iocp__epoll_slot, link);
    iocp__link_remove(&slot->link);
    slot->object = object;
    slot->mask = 0;
    slot->flags = SLOT_WRITABLE;
    slot->nature = IOCP__NATURE_UNKNOWN;
    object->backend_data = slot->number;
    return slot;
}

/* Asks epoll for `mask`. If any of it holds already, that counts as an edge. Returns 0 or the
 * system's code. */
static int slot_arm(struct iocp__epoll *lane, struct iocp__epoll_slot *slot, uint32_t mask)
{
    struct epoll_event event = {.events = mask};

    event.data.u64 = (uint64_t)slot->generation << 32 | slot->number;
    if (epoll_ctl(lane->descriptor, slot->mask ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
                  (int)slot->object->handle, &event) < 0)
        return errno;
    slot->mask = mask;
    return 0;
}

static void slot_finish(struct iocp__epoll *lane, struct iocp__epoll_slot *slot,
                        enum iocp__direction direction, int64_t result)
{
    struct iocp_op *op = slot_op(slot, direction);

    slot_let_go(slot, direction);
    iocp__op_done(&lane->finished, op, result, 0);
}

static void slot_fail(struct iocp__epoll *lane, struct iocp__epoll_slot *slot,
                      enum iocp__direction direction, int32_t os_error)
{
    struct iocp_op *op = slot_op(slot, direction);

    slot_let_go(slot, direction);
    iocp__op_failed(&lane->finished, op, os_error);
}

/* ---- Reading. */

/* The slot is tried again in the next wait, which does not sleep. */
static void slot_again(struct iocp__epoll *lane, struct iocp__epoll_slot *slot)
{
    iocp__link_remove(&slot->link);
    iocp__link_insert(&lane->again, &slot->link);
}

/* The slot's stream goes on when a buffer comes back. */
static void slot_starve(struct iocp__epoll *lane, struct iocp__epoll_slot *slot)
{
    iocp__link_remove(&slot->link);
    iocp__link_insert(&lane->starved, &slot->link);
    /* Relaxed: a counter. */
    iocp__add_relaxed(lane->base.starved, 1);
    if (!iocp__pool_arm(lane->base.pool, iocp__epoll_refill, lane))
        iocp__epoll_refill(lane); /* one came back just now */
}

static struct iocp_buffer *slot_take_buffer(struct iocp__epoll *lane)
{
    struct iocp_buffer *buffer = lane->spare;

    lane->spare = NULL;
    if (!buffer && iocp_buffer_take(lane->base.pool, &buffer) < 0)
        return NULL;
    return buffer;
}

/* Takes a buffer back that was not needed: to the pool when somebody waits for one there. */
static void slot_keep_buffer(struct iocp__epoll *lane, struct iocp_buffer *buffer)
{
    if (lane->spare || !iocp__link_alone(&lane->starved))
        iocp_buffer_unref(buffer);
    else
        lane->spare = buffer;
}

/* What an attempt says about the next one. */
static void slot_note_read(struct iocp__epoll_slot *slot, enum iocp__try outcome)
{
    if (outcome == IOCP__TRY_BLOCKED)
        slot->flags &= (uint8_t) ~(SLOT_READABLE | SLOT_LINGER);
    else if (outcome == IOCP__TRY_DRAINED && !(slot->flags & SLOT_LINGER))
        slot->flags &= (uint8_t)~SLOT_READABLE;
}

static void slot_recv(struct iocp__epoll *lane, struct iocp__epoll_slot *slot)
{
    struct iocp_op *op = slot_op(slot, IOCP__READ);
    struct iocp__tried tried;
    enum iocp__try outcome =
        iocp__try_recv(slot->object->handle, slot->nature, op->u.io.slices, op->u.io.count,
                       op->kind == IOCP_OP_RECV_FROM ? op->u.io.address : NULL, &tried);

    slot_note_read(slot, outcome);
    if (outcome == IOCP__TRY_BLOCKED)
        return;
    if (outcome == IOCP__TRY_FAILED) {
        slot_fail(lane, slot, IOCP__READ, tried.os_error);
        return;
    }
    slot_finish(lane, slot, IOCP__READ, tried.result);
    op->event.flags |= tried.flags;
}

/* Receives once into a buffer. Returns not 0 when the stream can go on at once. */
static int slot_recv_buffer(struct iocp__epoll *lane, struct iocp__epoll_slot *slot,
                            struct iocp_buffer *buffer)
{
    struct iocp_slice slice = {.data = iocp_buffer_data(buffer),
                               .size = iocp_buffer_capacity(buffer)};
    struct iocp__tried tried;
    enum iocp__try outcome =
        iocp__try_recv(slot->object->handle, slot->nature, &slice, 1, NULL, &tried);

    slot_note_read(slot, outcome);
    if (outcome <= IOCP__TRY_DRAINED && tried.result > 0) {
        iocp__stream_received(&lane->finished, slot_op(slot, IOCP__READ), buffer,
                              (uint32_t)tried.result);
        buffer->event.flags |= tried.flags;
        return slot->flags & SLOT_READABLE;
    }
    slot_keep_buffer(lane, buffer);
    if (outcome == IOCP__TRY_FAILED)
        slot_fail(lane, slot, IOCP__READ, tried.os_error);
    else if (outcome == IOCP__TRY_DONE && tried.result < 0)
        slot_finish(lane, slot, IOCP__READ, tried.result);
    /* An empty datagram has no bytes for a stream to bring: on to the next. */
    return slot_op(slot, IOCP__READ) && outcome == IOCP__TRY_DONE;
}

static void slot_recv_stream(struct iocp__epoll *lane, struct iocp__epoll_slot *slot)
{
    for (int i = 0; i < SLOT_RECEIVES; i++) {
        struct iocp_buffer *buffer = slot_take_buffer(lane);

        if (!buffer) {
            slot_starve(lane, slot);
            return;
        }
        if (!slot_recv_buffer(lane, slot, buffer))
            return;
    }
    slot_again(lane, slot);
}

static void slot_accept(struct iocp__epoll *lane, struct iocp__epoll_slot *slot)
{
    for (int i = 0; i < SLOT_ACCEPTS; i++) {
        struct iocp_op *op = slot_op(slot, IOCP__READ);
        struct iocp__tried tried;
        enum iocp__try outcome = iocp__try_accept(slot->object->handle, &tried);

        slot_note_read(slot, outcome);
        if (outcome == IOCP__TRY_BLOCKED)
            return;
        if (outcome == IOCP__TRY_FAILED) {
            slot_fail(lane, slot, IOCP__READ, tried.os_error);
            return;
        }
        if (outcome == IOCP__TRY_AGAIN)
            continue;
        if (op->kind == IOCP_OP_ACCEPT) {
            slot_finish(lane, slot, IOCP__READ, tried.result);
            return;
        }
        iocp__stream_accepted(&lane->finished, op, (iocp_handle)tried.result);
    }
    slot_again(lane, slot);
}

/* Tries the read op, if there is one and it may succeed. */
static void slot_read(struct iocp__epoll *lane, struct iocp__epoll_slot *slot)
{
    struct iocp_op *op = slot_op(slot, IOCP__READ);

    if (!op || !(slot->flags & SLOT_READABLE))
        return;
    if (op->kind == IOCP_OP_RECV_STREAM)
        slot_recv_stream(lane, slot);
    else if (op->kind == IOCP_OP_ACCEPT || op->kind == IOCP_OP_ACCEPT_STREAM)
        slot_accept(lane, slot);
    else
        slot_recv(lane, slot);
}

/* ---- Writing. */

static void slot_write_outcome(struct iocp__epoll *lane, struct iocp__epoll_slot *slot,
                               enum iocp__try outcome, const struct iocp__tried *tried)
{
    int os_error = tried->os_error;

    if (outcome == IOCP__TRY_BLOCKED) {
        if (!(slot->mask & EPOLLOUT))
            os_error = slot_arm(lane, slot, SLOT_ALWAYS | EPOLLOUT);
        if (!os_error)
            slot->flags &= (uint8_t)~SLOT_WRITABLE;
    }
    if (os_error)
        slot_fail(lane, slot, IOCP__WRITE, os_error);
    else if (outcome != IOCP__TRY_BLOCKED)
        slot_finish(lane, slot, IOCP__WRITE, tried->result);
}

/* Tries the write op, if there is one and it may succeed. */
static void slot_write(struct iocp__epoll *lane, struct iocp__epoll_slot *slot)
{
    struct iocp_op *op = slot_op(slot, IOCP__WRITE);
    struct iocp__tried tried;
    enum iocp__try outcome;

    if (!op || !(slot->flags & SLOT_WRITABLE))
        return;
    if (op->kind == IOCP_OP_CONNECT)
        outcome = iocp__try_connected(slot->object->handle, slot->flags & SLOT_HUNG_UP, &tried);
    else
        outcome = iocp__try_send(op, slot->nature, &tried);
    slot_write_outcome(lane, slot, outcome, &tried);
}

static void slot_connect(struct iocp__epoll *lane, struct iocp__epoll_slot *slot,
                         struct iocp_op *op)
{
    struct iocp__tried tried;
    enum iocp__try outcome = iocp__try_connect(slot->object->handle, op->u.io.address, &tried);

    if (outcome == IOCP__TRY_BLOCKED) {
        /* What was reported of the socket before is no longer so. */
        slot->flags &= (uint8_t) ~(SLOT_READABLE | SLOT_LINGER | SLOT_HUNG_UP);
        tried.os_error = slot_arm(lane, slot, SLOT_ALWAYS | EPOLLOUT);
        if (tried.os_error)
            outcome = IOCP__TRY_FAILED;
    }
    slot_write_outcome(lane, slot, outcome, &tried);
}

/* ---- Polling. */

static void slot_poll_start(struct iocp__epoll *lane, struct iocp__epoll_slot *slot,
                            struct iocp_op *op)
{
    uint32_t mask = slot->mask | SLOT_ALWAYS;
    int os_error;

    if (op->u.poll_events & IOCP_POLL_WRITE)
        mask |= EPOLLOUT;
    /* Asked for anew also when nothing is new in it: what holds already comes as an edge. */
    os_error = slot_arm(lane, slot, mask);
    if (!os_error)
        return;
    slot_let_go(slot, IOCP__POLL);
    if (os_error == EPERM) /* a handle that cannot be polled */
        iocp__op_done(&lane->finished, op, IOCP_ENOTSUP, os_error);
    else
        iocp__op_failed(&lane->finished, op, os_error);
}

static void slot_poll(struct iocp__epoll *lane, struct iocp__epoll_slot *slot, uint32_t events)
{
    uint32_t found = 0;

    if (events & (EPOLLIN | EPOLLRDHUP))
        found |= IOCP_POLL_READ;
    if (events & EPOLLOUT)
        found |= IOCP_POLL_WRITE;
    found &= slot_op(slot, IOCP__POLL)->u.poll_events;
    if (events & (EPOLLERR | EPOLLHUP))
        found |= IOCP_POLL_ERROR;
    if (found)
        slot_finish(lane, slot, IOCP__POLL, found);
}

/* ---- Operations on their way in. */

static void slot_begin(struct iocp__epoll *lane, struct iocp__epoll_slot *slot, struct iocp_op *op)
{
    enum iocp__direction direction = iocp__op_direction(op);
    int os_error;

    iocp__debug(!slot_op(slot, direction) && slot->object->active[direction] == op);
    slot->object->backend |= 1u << direction;
    if (direction == IOCP__POLL) {
        slot_poll_start(lane, slot, op);
        return;
    }
    if (slot->nature == IOCP__NATURE_UNKNOWN)
        slot->nature = (uint8_t)iocp__try_nature(slot->object->handle);
    if (slot->nature == IOCP__NATURE_NONE) {
        slot_fail(lane, slot, direction, ENOTSOCK);
    } else if (op->kind == IOCP_OP_CONNECT) {
        slot_connect(lane, slot, op);
    } else if (direction == IOCP__WRITE) {
        slot_write(lane, slot);
    } else if (slot->mask) {
        slot_read(lane, slot);
    } else {
        /* No attempt before this: epoll tells of what is there already. */
        os_error = slot_arm(lane, slot, SLOT_ALWAYS);
        if (os_error)
            slot_fail(lane, slot, direction, os_error);
    }
}

void iocp__epoll_slot_begin(struct iocp__epoll *lane, struct iocp_op *op)
{
    struct iocp__epoll_slot *slot = slot_of(lane, op->owner);

    if (!slot) {
        iocp__op_done(&lane->finished, op, IOCP_ENOMEM, 0);
        return;
    }
    slot_begin(lane, slot, op);
    iocp__check(slot_is_valid(slot));
}

void iocp__epoll_slot_cancel(struct iocp__epoll *lane, struct iocp_op *op)
{
    enum iocp__direction direction = iocp__op_direction(op);
    struct iocp__epoll_slot *slot;

    if (!op->owner->backend_data)
        return;
    slot = slot_at(lane, op->owner->backend_data);
    /* Else it is answered already, and its answer on the way. */
    if (slot_op(slot, direction) == op)
        slot_finish(lane, slot, direction, IOCP_ECANCELED);
}

void iocp__epoll_slot_leave(struct iocp__epoll *lane, struct iocp_object *object)
{
    struct epoll_event unused = {0};
    struct iocp__epoll_slot *slot;

    if (!object->backend_data)
        return;
    slot = slot_at(lane, object->backend_data);
    iocp__assert(slot->object == object);
    iocp__assert(!slot_op(slot, IOCP__READ) && !slot_op(slot, IOCP__WRITE) &&
                 !slot_op(slot, IOCP__POLL));
    /* Closing alone would leave it in epoll while a child process has a copy of the descriptor. */
    if (slot->mask)
        (void)epoll_ctl(lane->descriptor, EPOLL_CTL_DEL, (int)object->handle, &unused);
    iocp__link_remove(&slot->link);
    slot->object = NULL;
    slot->generation++;
    /* In front: the warmest is used first. */
    iocp__link_insert(lane->free.next, &slot->link);
    object->backend_data = 0;
}

void iocp__epoll_slot_free_all(struct iocp__epoll *lane)
{
    for (uint32_t i = 0; i < lane->chunk_count; i++)
        iocp__release(lane->chunks[i], SLOT_CHUNK * sizeof(struct iocp__epoll_slot));
    iocp__release(lane->chunks, lane->chunk_room * sizeof(struct iocp__epoll_slot *));
}

/* ---- Edges and turns. */

void iocp__epoll_slot_event(struct iocp__epoll *lane, const struct epoll_event *event)
{
    uint32_t events = event->events;
    struct iocp__epoll_slot *slot;

    slot = slot_at(lane, (uint32_t)event->data.u64);
    if (!slot->object || slot->generation != (uint32_t)(event->data.u64 >> 32))
        return;
    if (events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLERR | EPOLLHUP))
        slot->flags |= SLOT_READABLE;
    if (events & (EPOLLPRI | EPOLLRDHUP | EPOLLERR | EPOLLHUP))
        slot->flags |= SLOT_LINGER;
    if (events & (EPOLLERR | EPOLLHUP))
        slot->flags |= SLOT_HUNG_UP;
    if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
        slot->flags |= SLOT_WRITABLE;
    if (slot_op(slot, IOCP__POLL))
        slot_poll(lane, slot, events);
    /* Writes first: a connect is answered before the first receive. */
    slot_write(lane, slot);
    slot_read(lane, slot);
    /* Invariant 4. If the system refuses, more events come than are needed, no less. */
    if ((events & EPOLLOUT) && slot->nature != IOCP__NATURE_TCP && !slot_op(slot, IOCP__WRITE) &&
        !slot_op(slot, IOCP__POLL))
        (void)slot_arm(lane, slot, SLOT_ALWAYS);
    iocp__check(slot_is_valid(slot));
}

void iocp__epoll_slot_serve(struct iocp__epoll *lane, struct iocp__link *list)
{
    while (!iocp__link_alone(list)) {
        struct iocp__epoll_slot *slot = iocp__container(list->next, struct iocp__epoll_slot, link);

        iocp__link_remove(&slot->link);
        slot_read(lane, slot);
        iocp__check(slot_is_valid(slot));
    }
}

void iocp__epoll_slot_serve_starved(struct iocp__epoll *lane)
{
    /* Acquire: with `refilled` the buffer itself is seen, by way of the pool's lock as well. */
    if (!iocp__load_relaxed(&lane->refilled) || !iocp__exchange_acq_rel(&lane->refilled, 0))
        return;
    while (!iocp__link_alone(&lane->starved)) {
        struct iocp__epoll_slot *slot =
            iocp__container(lane->starved.next, struct iocp__epoll_slot, link);

        if (!lane->spare && iocp_buffer_take(lane->base.pool, &lane->spare) < 0 &&
            iocp__pool_arm(lane->base.pool, iocp__epoll_refill, lane))
            return;
        iocp__link_remove(&slot->link);
        slot_read(lane, slot);
        iocp__check(slot_is_valid(slot));
    }
}
