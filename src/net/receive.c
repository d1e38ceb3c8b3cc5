/* Received bytes on their way to handlers.
 *
 * Whole messages are delivered where they lie in the port's buffer. What is left over is copied
 * into a kept buffer, which is given back as soon as it is empty: an idle session has none.
 *
 * Invariants
 * 1. kept is NULL or holds at least one byte: begin < end.
 * 2. Without kept_ready what is kept has no whole message (LINE, LENGTH), or was offered (RAW).
 * 3. At most message_max bytes of an unfinished message are kept (LINE, LENGTH). RAW: with
 *    receive_max or more kept that `received` has seen, receiving pauses until
 *    `iocp_session_resume`, which offers the bytes again. What the kernel had handed over before a
 *    pause took hold is kept beyond these: as many bytes as the buffers of a lane at most.
 *
 * kept: none → partial or not consumed [receive_keep] → none [receive_drop]. */
#include "net/receive.h"

#include "backend/buffer.h"
#include "base/assert.h"
#include "base/atomic.h"
#include "net/service.h"
#include "net/session.h"

#include <string.h>

#define RECEIVE_STEP 512 /* first bytes taken to see whether they complete a kept message */

/* At the front of the kept buffer: so that a session that keeps nothing has no room for it. */
struct receive_kept {
    uint32_t begin; /* of the bytes, behind this */
    uint32_t end;
    uint32_t scanned; /* bytes known to hold no end of a message */
    uint32_t reserved;
};

void iocp__receive_drop(struct iocp_session *session)
{
    session->kept = iocp_buffer_unref(session->kept);
    session->kept_ready = 0;
}

/* What handlers of this thread are being given: a part of it may be sent on without a copy. */
struct receive_given {
    struct iocp_buffer *buffer; /* NULL: nothing */
    const char *data;
    size_t size;
};

static IOCP__THREAD_LOCAL struct receive_given receive_given;

/* Returns what was given before, to be set again afterwards: a handler may dispatch. */
static struct receive_given receive_give(struct iocp_buffer *buffer, const void *data, size_t size)
{
    struct receive_given outer = receive_given;
    receive_given = (struct receive_given){buffer, data, size};
    return outer;
}

struct iocp_buffer *iocp__receive_lend(const void *data, size_t size)
{
    const struct receive_given *given = &receive_given;
    size_t offset = (size_t)((uintptr_t)data - (uintptr_t)given->data);
    if (!given->buffer || offset >= given->size || size > given->size - offset)
        return NULL;
    return iocp__buffer_lend(given->buffer, size) ? given->buffer : NULL;
}

static struct receive_kept *receive_kept(struct iocp_buffer *buffer)
{
    return iocp_buffer_data(buffer);
}

static unsigned char *receive_bytes(struct iocp_buffer *buffer)
{
    return (unsigned char *)iocp_buffer_data(buffer) + sizeof(struct receive_kept);
}

static uint32_t receive_kept_size(const struct iocp_session *session)
{
    if (!session->kept)
        return 0;
    return receive_kept(session->kept)->end - receive_kept(session->kept)->begin;
}

static const unsigned char *receive_kept_data(const struct iocp_session *session)
{
    return receive_bytes(session->kept) + receive_kept(session->kept)->begin;
}

/* The first `size` bytes were delivered; nothing stays when these were all. */
static void receive_use_kept(struct iocp_session *session, size_t size)
{
    struct receive_kept *kept = receive_kept(session->kept);
    kept->begin += (uint32_t)size;
    kept->scanned = 0;
    if (kept->begin == kept->end)
        iocp__receive_drop(session);
}

/* A buffer for `size` bytes: pooled while small, twice the need when large, so that a long message
 * moves few times. */
static int receive_take(struct iocp_session *session, size_t size, struct iocp_buffer **out_buffer)
{
    struct iocp__service_shard *shard = iocp__service_shard(session->service, session->id);
    if (size > UINT32_MAX / 2)
        return IOCP_ENOMEM;
    if (size > IOCP__SEND_LARGE) {
        size_t capacity = (size_t)IOCP__SEND_LARGE * 2;
        while (capacity < size)
            capacity *= 2;
        size = capacity;
    }
    return iocp__send_pool_buffer(&shard->sends, size, out_buffer);
}

/* Makes room for `size` bytes behind what is kept. */
static int receive_reserve(struct iocp_session *session, size_t size)
{
    struct iocp_buffer *buffer = session->kept;
    uint32_t kept = receive_kept_size(session);
    uint32_t scanned = 0;
    if (buffer) {
        size_t room = iocp_buffer_capacity(buffer) - sizeof(struct receive_kept);
        if (size <= room - receive_kept(buffer)->end)
            return 0;
        scanned = receive_kept(buffer)->scanned;
        if (size > room - kept)
            buffer = NULL;
    }
    if (!buffer) {
        int error = receive_take(session, sizeof(struct receive_kept) + kept + size, &buffer);
        if (error < 0)
            return error;
    }
    if (kept)
        memmove(receive_bytes(buffer), receive_kept_data(session), kept);
    if (buffer != session->kept)
        iocp_buffer_unref(session->kept);
    session->kept = buffer;
    *receive_kept(buffer) = (struct receive_kept){0, kept, scanned, 0};
    return 0;
}

/* Keeps bytes behind what is kept. Without memory the session fails: bytes of a stream cannot be
 * left out. Returns 0 then. */
static int receive_keep(struct iocp_session *session, const void *data, size_t size)
{
    int error = receive_reserve(session, size);
    if (error < 0) {
        iocp__session_end(session, IOCP_CLOSE_ERROR, error, 1);
        return 0;
    }
    struct receive_kept *kept = receive_kept(session->kept);
    memcpy(receive_bytes(session->kept) + kept->end, data, size);
    kept->end += (uint32_t)size;
    return 1;
}

static void receive_count(struct iocp_session *session, uint64_t messages)
{
    /* Relaxed: a counter. */
    iocp__add_relaxed(&iocp__service_shard(session->service, session->id)->messages_received,
                      messages);
}

/* ---- LINE and LENGTH. */

static void receive_message(struct iocp_session *session, const unsigned char *data,
                            const struct iocp_frame *frame)
{
    const struct iocp_session_class *session_class = session->session_class;
    session_class->message(session, data + frame->payload_offset, frame->payload_size,
                           session_class->context);
}

/* Delivers whole messages out of `data`. Returns the bytes used; *scanned: how many of the rest are
 * known to hold no end. Stops when the session is paused or no longer open. */
static size_t receive_frames(struct iocp_session *session, const unsigned char *data, size_t size,
                             size_t *scanned)
{
    size_t used = 0;
    uint64_t messages = 0;
    while (used < size && iocp__session_may_deliver(session)) {
        struct iocp_frame frame;
        int found = iocp_framing_next(&session->session_class->framing, data + used, size - used,
                                      *scanned, &frame);
        *scanned = 0;
        if (found < 0)
            iocp__session_close(session, IOCP_CLOSE_PROTOCOL);
        if (found == 0)
            *scanned = size - used;
        if (found <= 0)
            break;
        iocp__assert(frame.size > 0 && frame.size <= size - used);
        receive_message(session, data + used, &frame);
        used += frame.size;
        messages++;
    }
    if (messages)
        receive_count(session, messages);
    return used;
}

/* The message at the front of what is kept, which is dropped after it: nothing moves there any
 * more, so that it may be sent on like what came. */
static void receive_kept_message(struct iocp_session *session, const struct iocp_frame *frame)
{
    const unsigned char *data = receive_kept_data(session);
    struct receive_given outer = receive_give(session->kept, data, frame->size);
    receive_message(session, data, frame);
    receive_given = outer;
}

/* Completes the one message that is kept in part, taking no more of `data` than about twice what it
 * needs. Returns the bytes of `data` used: all when it did not suffice. */
static size_t receive_complete(struct iocp_session *session, const unsigned char *data, size_t size)
{
    size_t before = receive_kept_size(session);
    size_t taken = 0;
    size_t step = before > RECEIVE_STEP ? before : RECEIVE_STEP;
    while (taken < size) {
        struct iocp_frame frame;
        size_t piece = size - taken < step ? size - taken : step;
        if (!receive_keep(session, data + taken, piece))
            return size;
        taken += piece;
        step *= 2;
        int found = iocp_framing_next(&session->session_class->framing, receive_kept_data(session),
                                      receive_kept_size(session),
                                      receive_kept(session->kept)->scanned, &frame);
        if (found < 0) {
            iocp__session_close(session, IOCP_CLOSE_PROTOCOL);
            return size;
        }
        if (found > 0) {
            iocp__assert(frame.size > before && frame.size <= before + taken);
            receive_kept_message(session, &frame);
            receive_count(session, 1);
            iocp__receive_drop(session);
            return frame.size - before;
        }
        receive_kept(session->kept)->scanned = receive_kept_size(session);
    }
    return size;
}

static void receive_messages(struct iocp_session *session, const unsigned char *data, size_t size)
{
    while (size > 0 && iocp__session_state(session) == IOCP__SESSION_OPEN) {
        size_t used;
        size_t scanned = 0;
        if (session->kept_ready || !iocp__session_may_deliver(session)) {
            session->kept_ready = receive_keep(session, data, size) != 0;
            return;
        }
        if (session->kept) {
            used = receive_complete(session, data, size);
        } else {
            used = receive_frames(session, data, size, &scanned);
            if (scanned && receive_keep(session, data + used, size - used)) {
                receive_kept(session->kept)->scanned = (uint32_t)scanned;
                used = size;
            }
        }
        data += used;
        size -= used;
    }
}

/* ---- RAW. */

/* Offers bytes; returns how many were consumed. */
static size_t receive_offer(struct iocp_session *session, const unsigned char *data, size_t size)
{
    const struct iocp_session_class *session_class = session->session_class;
    size_t used = session_class->received(session, data, size, session_class->context);
    receive_count(session, 1);
    return used < size ? used : size;
}

/* Pauses when too much is kept that `received` has seen. */
static void receive_bound(struct iocp_session *session)
{
    if (receive_kept_size(session) >= iocp__class_receive_max(session->session_class))
        iocp__session_pause_full(session);
}

/* Offers what is kept, at most receive_max bytes at a time: the kernel may have handed over far
 * more before a pause took hold, and a handler that answers must not fill its send queue with one
 * call. Goes on while it takes some and there are bytes that it has not seen. */
static void receive_offer_kept(struct iocp_session *session)
{
    uint32_t max = iocp__class_receive_max(session->session_class);
    session->kept_ready = 0;
    while (iocp__session_may_deliver(session)) {
        uint32_t kept = receive_kept_size(session);
        uint32_t size = kept < max ? kept : max;
        size_t used = receive_offer(session, receive_kept_data(session), size);
        receive_use_kept(session, used);
        if (used == kept)
            return;
        /* It has seen all there is, or wants none of it. With bytes behind the piece the rest comes
         * again at once: it may be whole now, and nothing else may come any more. */
        if (used == 0 || (used < size && size == kept)) {
            receive_bound(session);
            return;
        }
    }
    session->kept_ready = 1;
}

static void receive_raw(struct iocp_session *session, const unsigned char *data, size_t size)
{
    if (session->kept || !iocp__session_may_deliver(session)) {
        if (!receive_keep(session, data, size))
            return;
        session->kept_ready = 1;
        if (iocp__session_may_deliver(session))
            receive_offer_kept(session);
        return;
    }
    size_t used = receive_offer(session, data, size);
    if (used < size && iocp__session_state(session) == IOCP__SESSION_OPEN &&
        receive_keep(session, data + used, size - used))
        receive_bound(session);
}

/* ---- Both. */

static void receive_deliver(struct iocp_session *session, const void *data, size_t size)
{
    if (session->session_class->framing.kind == IOCP_FRAMING_RAW)
        receive_raw(session, data, size);
    else
        receive_messages(session, data, size);
}

void iocp__receive_feed(struct iocp_session *session, struct iocp_buffer *buffer, const void *data,
                        size_t size)
{
    /* Relaxed: a counter. */
    iocp__add_relaxed(&iocp__service_shard(session->service, session->id)->bytes_received, size);
    if (size < IOCP__RECEIVE_LEND) {
        receive_deliver(session, data, size);
    } else {
        struct receive_given outer = receive_give(buffer, data, size);
        receive_deliver(session, data, size);
        receive_given = outer;
    }
    if (session->kept && iocp__session_state(session) != IOCP__SESSION_OPEN)
        iocp__receive_drop(session);
}

void iocp__receive_again(struct iocp_session *session)
{
    if (!session->kept)
        return;
    if (session->session_class->framing.kind == IOCP_FRAMING_RAW) {
        receive_offer_kept(session);
    } else {
        size_t scanned = receive_kept(session->kept)->scanned;
        size_t used = receive_frames(session, receive_kept_data(session),
                                     receive_kept_size(session), &scanned);
        session->kept_ready = !scanned;
        receive_use_kept(session, used);
        if (session->kept)
            receive_kept(session->kept)->scanned = (uint32_t)scanned;
    }
    if (session->kept && iocp__session_state(session) != IOCP__SESSION_OPEN)
        iocp__receive_drop(session);
}
