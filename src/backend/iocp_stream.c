/* Recv-streams on Windows, which has none: a receive of nothing waits for bytes and pins no memory;
 * when there are some, they are received without waiting into buffers of the pool.
 *
 * A stream: waiting (in the kernel) [stream_arm] → bytes [complete] → waiting, or in the kernel's
 * queue for its next turn [requeue], or starved [stream_starve] → bytes [feed], or answered */
#include "backend/iocp.h"

#include "backend/buffer.h"
#include "base/assert.h"
#include "base/atomic.h"

#define STREAM_TURN 4 /* buffers that one stream fills before others have their turn */

/* What a receive came to. */
enum stream_step {
    STREAM_MORE = 0, /* the buffer is full: there may be more */
    STREAM_DRAINED,  /* nothing more now */
    STREAM_STARVED,  /* there was no buffer */
    STREAM_OVER      /* the op is answered */
};

static void stream_starve(struct iocp__windows *lane, struct iocp__request *request)
{
    request->op->backend |= IOCP__WINDOWS_STARVED;
    iocp__requests_push(&lane->starved, request);
    /* Relaxed: a counter. */
    iocp__add_relaxed(lane->base.starved, 1);
    if (!iocp__windows_want_buffer(lane)) {
        /* One came back just now. Release: pairs with the exchange in wait. */
        iocp__store_release(&lane->refilled, 1);
        lane->base.backend->bell(&lane->base);
    }
}

static struct iocp_buffer *stream_take_buffer(struct iocp__windows *lane)
{
    struct iocp_buffer *buffer = lane->spare;

    lane->spare = NULL;
    if (!buffer && iocp_buffer_take(lane->base.pool, &buffer) < 0)
        return NULL;
    return buffer;
}

/* Takes a buffer back that was not needed: to the pool when somebody waits for one there. */
static void stream_keep_buffer(struct iocp__windows *lane, struct iocp_buffer *buffer)
{
    if (lane->spare || lane->starved.first)
        iocp_buffer_unref(buffer);
    else
        lane->spare = buffer;
}

static enum stream_step stream_failed(struct iocp__windows *lane, struct iocp_op *op, int32_t error)
{
    if (error == WSAEWOULDBLOCK)
        return STREAM_DRAINED;
    if (iocp__windows_datagram_retry(op, &error))
        return STREAM_MORE;
    iocp__windows_fail(lane, op, error);
    return STREAM_OVER;
}

static enum stream_step stream_receive(struct iocp__windows *lane, struct iocp_op *op)
{
    struct iocp_buffer *buffer = stream_take_buffer(lane);
    int is_datagram = (op->owner->backend & IOCP__WINDOWS_DATAGRAM) != 0;
    int room;
    int got;
    int error;

    if (!buffer)
        return STREAM_STARVED;
    room = (int)iocp_buffer_capacity(buffer);
    got = recv(iocp__windows_socket(op), iocp_buffer_data(buffer), room, 0);
    error = got < 0 ? WSAGetLastError() : 0;
    if (error == WSAEMSGSIZE && is_datagram)
        got = room; /* cut */
    if (got > 0) {
        iocp__stream_received(&lane->finished, op, buffer, (uint32_t)got);
        if (error)
            buffer->event.flags |= IOCP_PACKET_TRUNCATED;
        return got == room || is_datagram ? STREAM_MORE : STREAM_DRAINED;
    }
    stream_keep_buffer(lane, buffer);
    if (error)
        return stream_failed(lane, op, error);
    /* An empty datagram has no bytes for a stream to bring: on to the next. */
    if (is_datagram)
        return STREAM_MORE;
    iocp__windows_end(lane, op, IOCP_EEOF);
    return STREAM_OVER;
}

/* Receives until there is nothing more, or the turn is over. */
static enum stream_step stream_drain(struct iocp__windows *lane, struct iocp_op *op, int *turn)
{
    enum stream_step step = STREAM_MORE;

    while (step == STREAM_MORE && *turn > 0) {
        step = stream_receive(lane, op);
        --*turn;
    }
    return step;
}

/* There are bytes, or it is worth a look. */
static void stream_run(struct iocp__windows *lane, struct iocp__request *request)
{
    struct iocp_op *op = request->op;
    int turn = STREAM_TURN;

    for (;;) {
        enum stream_step step;
        int32_t error = 0;
        enum iocp__windows_call call;

        if (op->backend & IOCP__WINDOWS_CANCELED) {
            iocp__windows_end(lane, op, IOCP_ECANCELED);
            return;
        }
        step = stream_drain(lane, op, &turn);
        if (step == STREAM_OVER)
            return;
        if (step == STREAM_STARVED) {
            stream_starve(lane, request);
            return;
        }
        if (turn == 0) {
            if (iocp__windows_requeue(lane, request))
                return;
            turn = STREAM_TURN; /* no memory for a packet: then there is no next turn */
            continue;
        }
        call = iocp__windows_wait_readable(request, &error);
        if (call == IOCP__CALL_FAILED)
            iocp__windows_fail(lane, op, error);
        if (call != IOCP__CALL_DONE)
            return;
    }
}

void iocp__windows_stream_start(struct iocp__windows *lane, struct iocp_op *op)
{
    struct iocp__request *request = iocp__windows_request(lane, op);
    int32_t error = 0;
    enum iocp__windows_call call;

    if (!request)
        return;
    call = iocp__windows_wait_readable(request, &error);
    if (call == IOCP__CALL_DONE)
        stream_run(lane, request);
    else if (call == IOCP__CALL_FAILED)
        iocp__windows_fail(lane, op, error);
}

void iocp__windows_stream_complete(struct iocp__windows *lane, struct iocp__request *request)
{
    int32_t error = iocp__windows_error(request);

    if (error && !iocp__windows_datagram_retry(request->op, &error))
        iocp__windows_fail(lane, request->op, error);
    else
        stream_run(lane, request);
}

/* Takes it off the starved ones. */
void iocp__windows_stream_cancel(struct iocp__windows *lane, struct iocp_op *op)
{
    struct iocp__requests others = {NULL, NULL};
    struct iocp__request *request;

    while ((request = iocp__requests_pop(&lane->starved))) {
        if (request->op != op)
            iocp__requests_push(&others, request);
    }
    lane->starved = others;
    op->backend &= (uint8_t)~IOCP__WINDOWS_STARVED;
    iocp__windows_end(lane, op, IOCP_ECANCELED);
}

void iocp__windows_stream_feed(struct iocp__windows *lane)
{
    while (lane->starved.first) {
        struct iocp__request *request;

        if (!lane->spare && iocp_buffer_take(lane->base.pool, &lane->spare) < 0 &&
            iocp__windows_want_buffer(lane))
            return;
        request = iocp__requests_pop(&lane->starved);
        request->op->backend &= (uint8_t)~IOCP__WINDOWS_STARVED;
        stream_run(lane, request);
    }
}
