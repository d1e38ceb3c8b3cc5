/* How a session sends: the queue's watermarks, the one send in flight, and the end of the stream.
 *
 * A send appends to the queue. When none is in flight it submits the late send of the block at
 * once; that is put together when the kernel is about to get it, so that all sends of a batch leave
 * as one.
 *
 * Invariants (of the lock)
 * 1. block is there exactly while `sending` or while something is queued, and after a failure.
 * 2. queued = bytes in the queue + bytes in flight <= send_high.
 * 3. sending: the op of the block is submitted; between that and its answer nobody else submits it,
 *    and until it is gathered the queue has at least one entry, or it is the disconnect.
 * 4. The end of the stream is sent once, after all that was queued: for FINISH by the block that
 *    sent the last of it (END_SENT), so that it needs no memory then; else by the advance of a
 *    closing session.
 * 5. Something queued and not `sending`: only after the session has failed.
 *
 * Memory that a send needs is fetched without the lock; then all is tried again (send_loop). */
#include "net/session.h"

#include "base/assert.h"
#include "core/op.h"
#include "net/receive.h"
#include "net/send_queue.h"
#include "net/service.h"

#include <iocp/port.h>

#include <string.h>

/* Bytes of one send. The answer comes when all are taken, so this is also the grain in which
 * send_stall_ns sees progress. */
#define SEND_FLIGHT (256u * 1024)
#define SEND_FLIGHT_STALL (32u * 1024)
/* Shared buffers up to this size are copied behind what is queued, while that is little: less work
 * than two atomic counts on a line that all members' workers write, and one piece for the kernel.
 * A peer that does not keep up goes on sharing, so that a backlog of many peers is there once. */
#define SEND_COPY 256
#define SEND_COPY_QUEUED (16u * 1024)
/* With more entries queued, shared buffers up to SEND_TINY are copied all the same: the queue's own
 * memory stays in proportion to its bytes. */
#define SEND_MANY 64
#define SEND_TINY 64

struct send_item {
    const void *data;
    struct iocp_buffer *buffer; /* NULL: copy `data` */
    uint32_t size;
};

/* One send, from try to try. */
struct send_work {
    struct send_item item;
    struct iocp__send_supply supply;
    struct iocp__send_block *spare;
    uint64_t now_ns;
    int want_block;
    int more_drops;
    enum iocp__send_want want;
    int submit; /* what to do after the lock */
    int unarm;
    int slow;
    uint32_t drop_count;
    uint32_t drops_total;
    struct iocp_buffer *drops[IOCP__SEND_DROPS];
};

static struct iocp__send_pool *send_pool(const struct iocp_session *session)
{
    return &iocp__service_shard(session->service, session->id)->sends;
}

static int send_merges(const struct iocp_session *session)
{
    /* Where the oldest messages may be dropped, each has an entry of its own. */
    return session->session_class->full_policy != IOCP_FULL_DROP;
}

/* A hint without the lock. */
static int send_is_closed(const struct iocp_session *session)
{
    /* Relaxed: as iocp__session_state. */
    return iocp__session_state(session) != IOCP__SESSION_OPEN ||
           iocp__load_relaxed(&session->flags) & IOCP__SESSION_FINISH;
}

/* Relaxed: a hint in any case. */
static int send_is_bulk(const struct iocp_session *session)
{
    return (iocp__load_relaxed(&session->flags) & IOCP__SESSION_BULK) != 0;
}

static void send_set_queued(struct iocp_session *session, uint32_t queued)
{
    /* Relaxed: iocp_session_queued looks without the lock. */
    iocp__store_relaxed(&session->queued, queued);
}

/* ---- The op. */

static void send_stamp(struct iocp_session *session)
{
    if (session->session_class->write_idle_ns)
        /* Relaxed: a time; the limits look at it. */
        iocp__store_relaxed(&session->write_stamp, iocp__stamp(iocp_now_ns()));
}

static void send_count_bytes(struct iocp_session *session, uint64_t size)
{
    /* Relaxed: a counter. */
    iocp__add_relaxed(&iocp__service_shard(session->service, session->id)->bytes_sent, size);
}

/* One addition for all messages of a flight. */
static void send_count_messages(struct iocp_session *session, uint32_t count)
{
    /* Relaxed: a counter. */
    if (count)
        iocp__add_relaxed(&iocp__service_shard(session->service, session->id)->messages_sent,
                          count);
}

static void send_gather(struct iocp_op *op)
{
    struct iocp__send_block *block = op->context;
    struct iocp_session *session = block->session;
    uint32_t size_max = session->session_class->send_stall_ns ? SEND_FLIGHT_STALL : SEND_FLIGHT;
    iocp__lock_acquire(&session->lock);
    iocp__send_gather(block, size_max, send_merges(session));
    uint32_t messages = block->messages;
    block->messages = 0;
    int bulk = block->flight_size > IOCP__SEND_ROOM;
    iocp__session_flag(session, bulk ? IOCP__SESSION_BULK : 0, bulk ? 0 : IOCP__SESSION_BULK);
    iocp__lock_release(&session->lock);
    send_count_messages(session, messages);
}

void iocp__session_drop_block(struct iocp_session *session)
{
    struct iocp__send_block *block = session->block;
    session->block = NULL;
    if (block)
        send_count_messages(session, block->messages);
    iocp__send_block_give(send_pool(session), block);
}

/* All that was queued is sent, on an open session that waits for nothing of it: then the block goes
 * back at once, without a packet through the queues and the serial order (invariant 1). */
static int send_landed(struct iocp_op *op)
{
    struct iocp__send_block *block = op->context;
    struct iocp_session *session = block->session;
    uint32_t size = block->flight_size;
    iocp__send_landed(block);
    iocp__lock_acquire(&session->lock);
    int last = block->count == 0 && session->state == IOCP__SESSION_OPEN &&
               !(session->flags & IOCP__SESSION_FINISH) && !(session->paused & IOCP__PAUSE_SEND);
    if (last) {
        send_set_queued(session, session->queued - size);
        session->sending = 0;
        session->block = NULL;
    }
    iocp__lock_release(&session->lock);
    if (!last)
        return 0;
    send_stamp(session);
    send_count_bytes(session, size);
    iocp__send_block_give(send_pool(session), block);
    return 1;
}

/* `sending` is set. */
static void send_submit(struct iocp_session *session, struct iocp__send_block *block)
{
    if (block->disconnect)
        iocp_op_disconnect(&block->op);
    else
        iocp__op_send_late(&block->op, send_gather, send_landed);
    int error = iocp_port_submit(session->service->port, &session->object, &block->op);
    if (error == 0)
        return;
    /* The port is closed: no answer comes. */
    iocp__lock_acquire(&session->lock);
    session->sending = 0;
    iocp__lock_release(&session->lock);
    iocp__session_end(session, IOCP_CLOSE_ERROR, error, 0);
}

/* Receiving goes on when little is left, and what a handler left for want of room is offered again.
 * Returns not 0 when it had paused; the lock is held. */
static int send_unpause(struct iocp_session *session)
{
    if (!(session->paused & IOCP__PAUSE_SEND) ||
        session->queued > iocp__class_send_low(session->session_class))
        return 0;
    /* A handler that consumed nothing may have done so for want of room here. */
    iocp__store_relaxed(&session->paused,
                        (uint8_t)(session->paused & ~(IOCP__PAUSE_SEND | IOCP__PAUSE_FULL)));
    iocp__session_flag(session, IOCP__SESSION_OFFER, 0);
    return 1;
}

/* The block, whose queue is empty, sends our end. The lock is held. */
static void send_end(struct iocp_session *session, struct iocp__send_block *block)
{
    iocp__assert(block->count == 0 && session->queued == 0);
    block->disconnect = 1;
    iocp__session_flag(session, IOCP__SESSION_END_SENT, 0);
}

/* A send was taken whole. */
static void send_done(struct iocp_session *session, struct iocp__send_block *block)
{
    const struct iocp_session_class *session_class = session->session_class;
    struct iocp__send_block *unused = NULL;
    uint64_t now = session_class->send_stall_ns ? iocp_now_ns() : 0;
    send_stamp(session);
    iocp__send_landed(block);
    iocp__lock_acquire(&session->lock);
    send_set_queued(session, session->queued - block->flight_size);
    iocp__send_settle(block);
    /* Relaxed: as above. */
    iocp__store_relaxed(&block->since_ns, now);
    int again = block->count > 0 && session->state < IOCP__SESSION_ENDING;
    if (block->count == 0 && session->flags & IOCP__SESSION_FINISH &&
        session->state == IOCP__SESSION_OPEN) {
        send_end(session, block);
        again = 1;
    }
    session->sending = (uint8_t)again;
    if (block->count == 0 && !again) {
        session->block = NULL;
        unused = block;
    }
    int drained = send_unpause(session);
    iocp__lock_release(&session->lock);
    iocp__send_block_give(send_pool(session), unused);
    if (again)
        send_submit(session, block);
    if (!drained)
        return;
    iocp__store_relaxed(&session->read_stamp, iocp__stamp(iocp_now_ns()));
    if (session_class->drained && iocp__session_state(session) == IOCP__SESSION_OPEN)
        session_class->drained(session, session_class->context);
}

/* The op of the block is answered, and will not be submitted again here. */
static void send_rest(struct iocp_session *session)
{
    iocp__lock_acquire(&session->lock);
    session->sending = 0;
    iocp__lock_release(&session->lock);
}

/* Our end was sent. The session may stay for long: without the block. */
static void send_end_done(struct iocp_session *session, struct iocp__send_block *block)
{
    iocp__lock_acquire(&session->lock);
    session->sending = 0;
    session->block = NULL;
    iocp__lock_release(&session->lock);
    iocp__send_block_give(send_pool(session), block);
}

static void session_sent(const struct iocp_packet *packet)
{
    struct iocp__send_block *block = packet->op->context;
    struct iocp_session *session = block->session;
    if (packet->result < 0) {
        /* In this order: an open session without a send in flight would be sent on, and what was in
         * flight is still in the block. */
        iocp__session_end(session, IOCP_CLOSE_ERROR, (int)packet->result, 0);
        send_rest(session);
    } else if (block->disconnect) {
        send_end_done(session, block);
    } else {
        send_count_bytes(session, (uint64_t)packet->result);
        send_done(session, block);
    }
    iocp__session_run(session);
}

/* ---- The end of the stream. */

static int send_may_finish(const struct iocp_session *session)
{
    return session->state == IOCP__SESSION_CLOSING && !session->sending && session->queued == 0;
}

void iocp__session_advance(struct iocp_session *session)
{
    struct iocp__send_block *block = NULL;
    iocp__lock_acquire(&session->lock);
    int ready = send_may_finish(session);
    int ended = session->flags & IOCP__SESSION_PEER_ENDED;
    int sent = ready && !ended && session->flags & IOCP__SESSION_END_SENT;
    if (sent)
        iocp__session_set_state(session, IOCP__SESSION_FINISHING);
    iocp__lock_release(&session->lock);
    if (!ready || sent)
        return;
    if (!ended)
        block = iocp__send_block_take(send_pool(session), session, session_sent);
    if (!block) {
        /* The peer has ended too, or there is no memory to wait for it: closing the handle sends
         * the end of our stream as well. */
        iocp__session_end(session, IOCP_CLOSE_NONE, 0, 0);
        return;
    }
    block->disconnect = 1;
    iocp__lock_acquire(&session->lock);
    /* When the peer has ended since, the packet that said so comes here, too. */
    ready = send_may_finish(session) && !(session->flags & IOCP__SESSION_PEER_ENDED);
    if (ready) {
        iocp__assert(!session->block);
        iocp__session_set_state(session, IOCP__SESSION_FINISHING);
        session->block = block;
        session->sending = 1;
    }
    iocp__lock_release(&session->lock);
    if (ready)
        send_submit(session, block);
    else
        iocp__send_block_give(send_pool(session), block);
}

/* Marks the session as finished. Returns 0, IOCP_ECLOSED, or 1: a block is needed. *close: the
 * peer's end came before. The lock is held. */
static int send_try_finish(struct iocp_session *session, struct iocp__send_block **spare,
                           int *submit, int *close)
{
    if (session->state != IOCP__SESSION_OPEN)
        return IOCP_ECLOSED;
    if (session->flags & IOCP__SESSION_FINISH)
        return 0;
    *close = session->flags & IOCP__SESSION_ENDED;
    if (!*close && !session->block) {
        if (!*spare)
            return 1;
        session->block = *spare;
        *spare = NULL;
        send_end(session, session->block);
        session->sending = 1;
        *submit = 1;
    }
    iocp__session_flag(session, IOCP__SESSION_FINISH, 0);
    return 0;
}

int iocp_session_finish(struct iocp_session *session)
{
    struct iocp__send_block *spare = NULL;
    int submit = 0;
    int close = 0;
    int result;
    if (!session)
        return IOCP_EINVAL;
    do {
        iocp__lock_acquire(&session->lock);
        result = send_try_finish(session, &spare, &submit, &close);
        iocp__lock_release(&session->lock);
        if (result == 1) {
            spare = iocp__send_block_take(send_pool(session), session, session_sent);
            if (!spare)
                return IOCP_ENOMEM;
            /* For send_stall_ns. */
            spare->since_ns = iocp_now_ns();
        }
    } while (result == 1);
    iocp__send_block_give(send_pool(session), spare);
    if (submit)
        send_submit(session, session->block);
    if (close)
        iocp__session_close(session, IOCP_CLOSE_LOCAL);
    return result;
}

/* ---- One send. Down to send_try the lock is held. */

/* Makes room for the item by the policy. 0: there is room, or will be once the oldest entry is
 * dropped after the append; 1: more drops are needed; or IOCP_EFULL. */
static int send_make_room(struct iocp_session *session, struct send_work *work)
{
    struct iocp__send_block *block = session->block;
    uint32_t high = iocp__class_send_high(session->session_class);
    uint32_t size = work->item.size;
    uint32_t policy = session->session_class->full_policy;
    if (size <= high && session->queued <= high - size)
        return 0;
    work->slow = policy == IOCP_FULL_CLOSE;
    if (policy != IOCP_FULL_DROP || size > high || !block || block->flight_size > high - size)
        return IOCP_EFULL;
    while (session->queued > high - size && block->count > 1) {
        if (work->drop_count == IOCP__SEND_DROPS - 1)
            return 1;
        uint32_t dropped = iocp__send_drop(block, &work->drops[work->drop_count++]);
        send_set_queued(session, session->queued - dropped);
        work->drops_total++;
    }
    return 0;
}

/* Whether a shared buffer is copied. */
static int send_is_copied(const struct iocp_session *session, uint32_t size)
{
    const struct iocp__send_block *block = session->block;
    if (size <= SEND_TINY && block->count > SEND_MANY)
        return 1;
    return size <= SEND_COPY && (block->count > 0 || block->bulk) &&
           session->queued <= SEND_COPY_QUEUED && send_merges(session);
}

/* Where the bytes lie in their buffer. */
static uint32_t send_offset(const struct send_item *item)
{
    return (uint32_t)((const char *)item->data - (const char *)iocp_buffer_data(item->buffer));
}

static int send_append(struct iocp_session *session, struct send_work *work)
{
    struct iocp__send_block *block = session->block;
    const struct send_item *item = &work->item;
    int merge = send_merges(session);
    int copy = !item->buffer || send_is_copied(session, item->size);
    if (copy)
        work->want = iocp__send_copy(block, &work->supply, item->data, item->size, merge);
    else
        work->want =
            iocp__send_buffer(block, &work->supply, item->buffer, send_offset(item), item->size);
    if (work->want == IOCP__WANT_NOTHING && !copy)
        iocp_buffer_ref(item->buffer);
    return work->want == IOCP__WANT_NOTHING;
}

/* What follows from an append. */
static void send_appended(struct iocp_session *session, struct send_work *work)
{
    const struct iocp_session_class *session_class = session->session_class;
    struct iocp__send_block *block = session->block;
    uint32_t queued = session->queued + work->item.size;
    if (queued > iocp__class_send_high(session_class)) {
        /* Not before the append: a send that is submitted must find an entry. */
        queued -= iocp__send_drop(block, &work->drops[work->drop_count++]);
        work->drops_total++;
    }
    send_set_queued(session, queued);
    block->messages++;
    if (!session->sending) {
        session->sending = 1;
        work->submit = 1;
        /* Relaxed: the limits look at it. */
        iocp__store_relaxed(&block->since_ns, work->now_ns);
    }
    if (queued > iocp__class_send_pause(session_class) && !(session->paused & IOCP__PAUSE_SEND)) {
        iocp__store_relaxed(&session->paused, (uint8_t)(session->paused | IOCP__PAUSE_SEND));
        work->unarm = 1;
    }
}

/* Returns 0 (queued), an error, or 1 when work says what is missing. */
static int send_try(struct iocp_session *session, struct send_work *work)
{
    if (send_is_closed(session))
        return IOCP_ECLOSED;
    int room = send_make_room(session, work);
    work->more_drops = room > 0;
    if (room != 0)
        return room;
    int fresh = !session->block;
    if (fresh) {
        session->block = work->spare;
        work->spare = NULL;
        if (session->block)
            session->block->bulk = send_is_bulk(session);
    }
    work->want_block = !session->block;
    if (work->want_block)
        return 1;
    if (!send_append(session, work)) {
        /* Invariant 1: the session may be closed until the next try. */
        if (fresh) {
            work->spare = session->block;
            session->block = NULL;
        }
        return 1;
    }
    send_appended(session, work);
    return 0;
}

static int send_fetch(struct iocp_session *session, struct send_work *work)
{
    if (work->more_drops)
        return 0;
    if (!work->want_block)
        return iocp__send_supply_fetch(send_pool(session), &work->supply, work->want);
    work->spare = iocp__send_block_take(send_pool(session), session, session_sent);
    return work->spare ? 0 : IOCP_ENOMEM;
}

/* Before the first try: what a send into an empty queue needs. What cannot be had now is asked for
 * again when it is missed. */
static void send_foresee(struct iocp_session *session, struct send_work *work)
{
    work->spare = iocp__send_block_take(send_pool(session), session, session_sent);
    if (send_is_bulk(session) && (!work->item.buffer || work->item.size <= SEND_COPY))
        (void)iocp__send_supply_fetch(send_pool(session), &work->supply, IOCP__WANT_CHUNK);
}

static int send_loop(struct iocp_session *session, struct send_work *work)
{
    int result;
    do {
        iocp__lock_acquire(&session->lock);
        result = send_try(session, work);
        iocp__lock_release(&session->lock);
        while (work->drop_count > 0)
            iocp_buffer_unref(work->drops[--work->drop_count]);
        if (result == 1 && send_fetch(session, work) < 0)
            result = IOCP_ENOMEM;
    } while (result == 1);
    return result;
}

static void send_count(struct iocp_session *session, int result, uint32_t drops)
{
    struct iocp__service_shard *shard = iocp__service_shard(session->service, session->id);
    /* Relaxed: counters. What was accepted is counted when it is gathered. */
    if (result == IOCP_EFULL)
        iocp__add_relaxed(&shard->sends_refused, 1);
    if (drops)
        iocp__add_relaxed(&shard->messages_dropped, drops);
}

static int send_item(struct iocp_session *session, const struct send_item *item)
{
    struct send_work work;
    memset(&work, 0, offsetof(struct send_work, drops));
    work.item = *item;
    if (session->session_class->send_stall_ns)
        work.now_ns = iocp_now_ns();
    /* Relaxed: a hint: nothing is queued, so that there is no block, and a try without one would be
     * in vain. */
    if (iocp__load_relaxed(&session->queued) == 0)
        send_foresee(session, &work);
    int result = send_loop(session, &work);
    iocp__send_block_give(send_pool(session), work.spare);
    iocp__send_supply_give(send_pool(session), &work.supply);
    send_count(session, result, work.drops_total);
    if (work.submit)
        send_submit(session, session->block);
    if (work.unarm)
        iocp__session_unarm(session);
    if (result == IOCP_EFULL && work.slow)
        iocp__session_end(session, IOCP_CLOSE_SLOW, 0, 1);
    return result;
}

/* Bytes that no chunk takes are copied before the lock, into a buffer of their own. */
static int send_large(struct iocp_session *session, const void *data, size_t size)
{
    struct iocp_buffer *buffer = NULL;
    /* One that the watermark refuses in any case is not copied. */
    if (size <= iocp__class_send_high(session->session_class)) {
        int error = iocp__send_pool_buffer(send_pool(session), size, &buffer);
        if (error < 0)
            return error;
        memcpy(iocp_buffer_data(buffer), data, size);
        iocp_buffer_set_size(buffer, size);
    }
    uint32_t cut = size < UINT32_MAX ? (uint32_t)size : UINT32_MAX;
    struct send_item item = {buffer ? iocp_buffer_data(buffer) : data, buffer, cut};
    int result = send_item(session, &item);
    iocp_buffer_unref(buffer);
    return result;
}

/* The common case of a handler that answers the messages of one receive: a copy behind others that
 * are about to be sent, while at most `limit` bytes are queued. Returns 0 when it is not that
 * simple, and nothing has changed. */
static int send_behind(struct iocp_session *session, const void *data, uint32_t size,
                       uint32_t limit)
{
    uint32_t high = iocp__class_send_high(session->session_class);
    uint32_t pause = iocp__class_send_pause(session->session_class);
    limit = high < limit ? high : limit;
    limit = pause < limit ? pause : limit;
    iocp__lock_acquire(&session->lock);
    int done = session->sending && size <= limit && session->queued <= limit - size &&
               !send_is_closed(session) && send_merges(session) && session->block->count > 0 &&
               iocp__send_grow(session->block, data, size);
    if (done) {
        send_set_queued(session, session->queued + size);
        session->block->messages++;
    }
    iocp__lock_release(&session->lock);
    return done;
}

int iocp_session_send(struct iocp_session *session, const void *data, size_t size)
{
    if (!session || (!data && size))
        return IOCP_EINVAL;
    if (send_is_closed(session))
        return IOCP_ECLOSED;
    if (size == 0)
        return 0;
    struct iocp_buffer *received =
        size < IOCP__RECEIVE_LEND ? NULL : iocp__receive_lend(data, size);
    if (size > IOCP__SEND_CHUNK && !received)
        return send_large(session, data, size);
    /* Relaxed: a hint. */
    if (!received && iocp__load_relaxed(&session->queued) &&
        send_behind(session, data, (uint32_t)size, UINT32_MAX))
        return 0;
    struct send_item item = {data, received, (uint32_t)size};
    return send_item(session, &item);
}

int iocp_session_send_buffer(struct iocp_session *session, struct iocp_buffer *buffer)
{
    if (!session || !buffer)
        return IOCP_EINVAL;
    if (send_is_closed(session))
        return IOCP_ECLOSED;
    if (iocp_buffer_size(buffer) == 0)
        return 0;
    const void *data = iocp_buffer_data(buffer);
    uint32_t size = (uint32_t)iocp_buffer_size(buffer);
    /* Relaxed: a hint. */
    if (size <= SEND_COPY && iocp__load_relaxed(&session->queued) &&
        send_behind(session, data, size, SEND_COPY_QUEUED))
        return 0;
    struct send_item item = {data, buffer, size};
    return send_item(session, &item);
}

size_t iocp_session_queued(const struct iocp_session *session)
{
    /* Relaxed: a hint to the caller, old when it returns. */
    return iocp__session_state(session) < IOCP__SESSION_ENDING
               ? iocp__load_relaxed(&session->queued)
               : 0;
}
