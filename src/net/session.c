/* The life of a session: its states, its one op, the order of its handlers, its time limits.
 *
 * States
 * new → open [session_open]                      connecting → open [session_open]
 * new, connecting → ending [iocp__session_end]
 * open → closing [iocp__session_close]           closing → finishing [iocp__session_advance]
 * open, closing, finishing → ending [iocp__session_end]
 * ending → closed [session_take_closed]
 * Half-closed connections are OPEN: the peer's end, once delivered, is the flag ENDED
 * [session_peer_ended]; ours is FINISH [iocp_session_finish], then END_SENT, set with the
 * disconnect that follows the queue. Both together lead to closing.
 *
 * Invariants
 * 1. Handlers run in the serial order of the object: only inside packets of the session's ops.
 * 2. `opened` runs at most once, on the way to OPEN, before the stream is armed; `closed` runs once
 *    if `opened` did, in state CLOSED, which is reached when `use` is REST and nothing is
 *    `sending`: then no packet of the session is on its way, and none will be.
 * 3. One thread turns a session ENDING and closes its object. Until then the handle is valid;
 *    threads that use it (handle_users) put the close off.
 * 4. A session in state ENDING has an op on its way that will find it so, or is in a handler that
 *    ends with iocp__session_run. So it never stays: see the op.
 * 5. ENDED and FINISH are set under the lock while OPEN, and whoever sets the second of them closes
 *    the session: its reason tells which came last. Nothing is delivered after ENDED, nothing is
 *    queued after FINISH.
 * 6. The table holds one reference until `closed` has run; ops and the port hold theirs.
 *
 * The op. `op` is the receive stream, and before it the connect or the packet that opens the
 * session. When it is idle it serves as the packet that brings a request of another thread into the
 * serial order (iocp__session_kick), so that this never needs memory and never fails. A request
 * that comes while the op is on its way needs none: its answer looks at everything
 * (iocp__session_run). Only pausing cancels the stream. While a thread is inside iocp_port_cancel
 * (flag CANCELER) nobody prepares the op anew; who wanted to leaves that to the canceler (RERUN).
 *
 * use: POSTED | CONNECT → REST [session_packet] → ARMING → STREAM [session_arm]
 *      → CANCELING [iocp__session_unarm] → REST, STREAM → REST [session_packet]
 *      REST → POSTED [iocp__session_kick] */
#include "net/session.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "core/port.h"
#include "net/receive.h"
#include "net/send_queue.h"
#include "net/service.h"

#include <iocp/port.h>

#include <string.h>

/* ---- Making and unmaking. */

static void session_packet(const struct iocp_packet *packet);

static void session_destroy(struct iocp_object *object)
{
    struct iocp_session *session = iocp__container(object, struct iocp_session, object);
    struct iocp_service *service = session->service;
    iocp__debug(!session->membership && iocp__link_alone(&session->limit_link));
    iocp__session_drop_block(session);
    iocp__receive_drop(session);
    iocp__connector_unref(session->connector);
    iocp__release(session, sizeof(*session) + session->session_class->user_size);
    iocp_object_unref(&service->object);
}

static const struct iocp_object_class session_object_class = {
    .name = "session",
    .destroy = session_destroy,
    .serial = 1,
};

struct iocp_session *iocp__session_create(struct iocp_service *service,
                                          const struct iocp_session_class *session_class,
                                          struct iocp__connector *connector)
{
    size_t size = sizeof(struct iocp_session);
    if (session_class->user_size > SIZE_MAX - size)
        return NULL;
    struct iocp_session *session = iocp__allocate_zero(size + session_class->user_size);
    if (!session)
        return NULL;
    iocp_object_init(&session->object, &session_object_class);
    iocp_op_init(&session->op, session_packet);
    iocp__link_init(&session->limit_link);
    iocp_object_ref(&service->object);
    session->service = service;
    session->session_class = session_class;
    session->connector = connector ? iocp__connector_ref(connector) : NULL;
    session->state = connector ? IOCP__SESSION_CONNECTING : IOCP__SESSION_NEW;
    session->flags = connector ? IOCP__SESSION_CLIENT : 0;
    /* The op and the handle are iocp__session_begin's. */
    session->use = connector ? IOCP__USE_CONNECT : IOCP__USE_POSTED;
    session->handle_users = 1;
    return session;
}

void iocp__session_set_peer(struct iocp_session *session, const struct iocp_address *address)
{
    if (address->size > IOCP__PEER_SIZE || iocp_address_family(address) == IOCP_FAMILY_UNIX)
        return;
    memcpy(session->peer, address->storage.bytes, address->size);
    session->peer_size = (uint8_t)address->size;
}

int iocp__session_class_check(const struct iocp_session_class *session_class)
{
    if (!session_class)
        return IOCP_EINVAL;
    int raw = session_class->framing.kind == IOCP_FRAMING_RAW;
    if (raw ? !session_class->received : !session_class->message)
        return IOCP_EINVAL;
    if (session_class->full_policy > IOCP_FULL_CLOSE)
        return IOCP_EINVAL;
    return raw ? 0 : iocp_framing_check(&session_class->framing);
}

/* ---- State. */

static int session_step_is_legal(enum iocp__session_state from, enum iocp__session_state to)
{
    switch (to) {
    case IOCP__SESSION_OPEN:
        return from == IOCP__SESSION_NEW || from == IOCP__SESSION_CONNECTING;
    case IOCP__SESSION_CLOSING:
        return from == IOCP__SESSION_OPEN;
    case IOCP__SESSION_FINISHING:
        return from == IOCP__SESSION_CLOSING;
    case IOCP__SESSION_ENDING:
        return from >= IOCP__SESSION_NEW && from < IOCP__SESSION_ENDING;
    case IOCP__SESSION_CLOSED:
        return from == IOCP__SESSION_ENDING;
    default:
        return 0;
    }
}

void iocp__session_set_state(struct iocp_session *session, enum iocp__session_state state)
{
    iocp__assert(session_step_is_legal(session->state, state));
    /* Relaxed: the lock orders it; those who look without it look for a hint. */
    iocp__store_relaxed(&session->state, (uint8_t)state);
}

/* The lock is held, here and in the next. Relaxed: as above. */
static void session_pause(struct iocp_session *session, uint8_t set, uint8_t clear)
{
    iocp__store_relaxed(&session->paused, (uint8_t)((session->paused | set) & ~clear));
}

static void session_blame(struct iocp_session *session, enum iocp_close_reason reason, int error)
{
    if (session->reason == IOCP_CLOSE_NONE)
        iocp__store_relaxed(&session->reason, (uint8_t)reason);
    if (session->error == 0)
        iocp__store_relaxed(&session->error, (int8_t)error);
}

/* ---- The op. */

/* Submits the op, prepared, for a session whose `use` says so. It may be answered before this
 * returns. */
static void session_submit(struct iocp_session *session, int post)
{
    struct iocp_port *port = session->service->port;
    int error = post ? iocp_port_post(port, &session->object, &session->op)
                     : iocp_port_submit(port, &session->object, &session->op);
    if (error == 0)
        return;
    /* The port is closed: no packet comes any more. */
    iocp__lock_acquire(&session->lock);
    session->use = IOCP__USE_REST;
    iocp__lock_release(&session->lock);
    iocp__session_end(session, IOCP_CLOSE_ERROR, error, 0);
}

void iocp__session_kick(struct iocp_session *session)
{
    int post = 0;
    iocp__lock_acquire(&session->lock);
    if (session->use == IOCP__USE_REST && session->state != IOCP__SESSION_CLOSED) {
        post = !(session->flags & IOCP__SESSION_CANCELER);
        if (post)
            session->use = IOCP__USE_POSTED;
        else
            iocp__session_flag(session, IOCP__SESSION_RERUN, 0);
    }
    iocp__lock_release(&session->lock);
    if (!post)
        return;
    iocp_op_post(&session->op, 0, 0);
    session_submit(session, 1);
}

void iocp__session_unarm(struct iocp_session *session)
{
    iocp__lock_acquire(&session->lock);
    int cancel =
        session->use == IOCP__USE_STREAM && session->paused && session->state == IOCP__SESSION_OPEN;
    if (cancel) {
        session->use = IOCP__USE_CANCELING;
        iocp__session_flag(session, IOCP__SESSION_CANCELER, 0);
    }
    iocp__lock_release(&session->lock);
    if (!cancel)
        return;
    iocp_port_cancel(session->service->port, &session->op);
    iocp__lock_acquire(&session->lock);
    int again = session->flags & IOCP__SESSION_RERUN;
    iocp__session_flag(session, 0, IOCP__SESSION_CANCELER | IOCP__SESSION_RERUN);
    iocp__lock_release(&session->lock);
    if (again)
        iocp__session_kick(session);
}

/* Whether bytes are to be received: to deliver them, or, closing, to find their end. */
static int session_wants(const struct iocp_session *session)
{
    if (session->flags & IOCP__SESSION_PEER_ENDED)
        return 0;
    if (session->state == IOCP__SESSION_OPEN)
        return !session->paused;
    return session->state == IOCP__SESSION_CLOSING || session->state == IOCP__SESSION_FINISHING;
}

static void session_arm(struct iocp_session *session)
{
    int arm = 0;
    iocp__lock_acquire(&session->lock);
    if (session->use == IOCP__USE_REST && session_wants(session)) {
        arm = !(session->flags & IOCP__SESSION_CANCELER);
        if (arm)
            session->use = IOCP__USE_ARMING;
        else
            iocp__session_flag(session, IOCP__SESSION_RERUN, 0);
    }
    iocp__lock_release(&session->lock);
    if (arm) {
        iocp_op_recv_stream(&session->op);
        session_submit(session, 0);
        /* This is in the serial order: the answer waits. */
        iocp__lock_acquire(&session->lock);
        if (session->use == IOCP__USE_ARMING)
            session->use = IOCP__USE_STREAM;
        iocp__lock_release(&session->lock);
    }
    /* Paused meanwhile, or before. */
    iocp__session_unarm(session);
}

/* ---- The end. */

static void session_close_object(struct iocp_session *session)
{
    iocp_handle handle = iocp_object_handle(&session->object);
    /* Relaxed: set before, under the lock. */
    if ((iocp__load_relaxed(&session->flags) & IOCP__SESSION_RESET) &&
        handle != IOCP_HANDLE_INVALID)
        iocp__socket_set(handle, IOCP__OPTION_RESET_ON_CLOSE, 1);
    iocp_object_close(&session->object);
}

/* The handle is valid until session_handle_done. Returns 0 when it is too late. */
static int session_handle_use(struct iocp_session *session)
{
    iocp__lock_acquire(&session->lock);
    int valid = session->state < IOCP__SESSION_ENDING && session->handle_users < UINT8_MAX;
    session->handle_users = (uint8_t)(session->handle_users + valid);
    iocp__lock_release(&session->lock);
    return valid;
}

static void session_handle_done(struct iocp_session *session)
{
    iocp__lock_acquire(&session->lock);
    session->handle_users--;
    int last = session->handle_users == 0 && session->flags & IOCP__SESSION_PUT_OFF;
    iocp__lock_release(&session->lock);
    if (last)
        session_close_object(session);
}

void iocp__session_end(struct iocp_session *session, enum iocp_close_reason reason, int error,
                       int reset)
{
    int put_off = 0;
    iocp__lock_acquire(&session->lock);
    int first = session->state < IOCP__SESSION_ENDING;
    if (first) {
        iocp__session_set_state(session, IOCP__SESSION_ENDING);
        session_blame(session, reason, error);
        iocp__session_flag(session, reset ? IOCP__SESSION_RESET : 0, 0);
        put_off = session->handle_users > 0;
        iocp__session_flag(session, put_off ? IOCP__SESSION_PUT_OFF : 0, 0);
    }
    iocp__lock_release(&session->lock);
    if (!first)
        return;
    if (!put_off)
        session_close_object(session);
    iocp__group_leave_all(session);
    iocp__session_kick(session);
}

void iocp__session_close(struct iocp_session *session, enum iocp_close_reason reason)
{
    struct iocp_service *service = session->service;
    uint64_t linger = iocp__class_linger_ns(session->session_class);
    /* Relaxed: set before sessions are told to shut down. */
    uint64_t deadline = iocp__load_relaxed(&service->drain_deadline_ns);
    if (reason != IOCP_CLOSE_SHUTDOWN) {
        uint64_t now = iocp_now_ns();
        uint64_t until = linger < UINT64_MAX - now ? now + linger : UINT64_MAX;
        deadline = until < deadline ? until : deadline;
    }
    iocp__lock_acquire(&session->lock);
    enum iocp__session_state before = session->state;
    if (before == IOCP__SESSION_OPEN) {
        iocp__session_set_state(session, IOCP__SESSION_CLOSING);
        session_blame(session, reason, 0);
        session->time_ns = deadline;
    }
    iocp__lock_release(&session->lock);
    if (before < IOCP__SESSION_OPEN)
        iocp__session_end(session, reason, 0, 0);
    if (before != IOCP__SESSION_OPEN)
        return;
    iocp__group_leave_all(session);
    iocp__timeouts_set(service, session, deadline);
    iocp__session_advance(session);
    iocp__session_kick(session);
}

/* The last step: not 0 for the one caller that runs `closed`. */
static int session_take_closed(struct iocp_session *session)
{
    iocp__lock_acquire(&session->lock);
    int done = session->state == IOCP__SESSION_ENDING && session->use == IOCP__USE_REST &&
               !session->sending;
    if (done)
        iocp__session_set_state(session, IOCP__SESSION_CLOSED);
    iocp__lock_release(&session->lock);
    return done;
}

/* In the serial order, as its last part. */
static void session_close_finish(struct iocp_session *session)
{
    struct iocp_service *service = session->service;
    const struct iocp_session_class *session_class = session->session_class;
    struct iocp__connector *connector = session->connector;
    enum iocp_close_reason reason = session->reason;
    /* Relaxed: set in this order of handlers. */
    int opened = iocp__load_relaxed(&session->flags) & IOCP__SESSION_OPENED;
    iocp__session_drop_block(session);
    iocp__receive_drop(session);
    iocp__timeouts_forget(service, session);
    iocp__group_leave_all(session);
    /* Relaxed: counters. */
    if (opened)
        iocp__add_relaxed(&service->closed, 1);
    else if (!connector)
        iocp__add_relaxed(&service->refused, 1);
    if (opened && session_class->closed)
        session_class->closed(session, reason, session_class->context);
    iocp__table_remove(&service->table, session);
    iocp__table_unreserve(&service->table);
    if (connector)
        iocp__connector_session_ended(connector, opened, reason, session->error);
    iocp__service_drop(service);
    iocp_session_unref(session);
}

void iocp__session_sweep(struct iocp_session *session)
{
    iocp__lock_acquire(&session->lock);
    if (session->state < IOCP__SESSION_ENDING)
        iocp__session_set_state(session, IOCP__SESSION_ENDING);
    if (session->state < IOCP__SESSION_CLOSED)
        iocp__session_set_state(session, IOCP__SESSION_CLOSED);
    iocp__lock_release(&session->lock);
    iocp__timeouts_forget(session->service, session);
    iocp__group_leave_all(session);
    iocp__table_remove(&session->service->table, session);
    iocp__table_unreserve(&session->service->table);
    iocp_session_unref(session);
}

/* ---- Packets. */

int iocp__session_begin(struct iocp_session *session, iocp_handle handle,
                        struct iocp_address *connect_to)
{
    struct iocp_port *port = session->service->port;
    int error = iocp__port_register_socket(port, &session->object, handle, 0);
    if (error < 0)
        return error;
    session_handle_done(session);
    if (connect_to)
        iocp_op_connect(&session->op, connect_to);
    else
        iocp_op_post(&session->op, 0, 0);
    session_submit(session, !connect_to);
    return 0;
}

static uint64_t session_limits(struct iocp_session *session, uint64_t now_ns,
                               enum iocp_close_reason *out_over);

/* NEW or CONNECTING → OPEN, unless it was ended meanwhile. */
static void session_open(struct iocp_session *session)
{
    struct iocp_service *service = session->service;
    const struct iocp_session_class *session_class = session->session_class;
    enum iocp_close_reason over;
    uint64_t now = iocp_now_ns();
    uint64_t next = UINT64_MAX;
    iocp__lock_acquire(&session->lock);
    int first = session->state < IOCP__SESSION_OPEN;
    if (first) {
        iocp__session_set_state(session, IOCP__SESSION_OPEN);
        iocp__session_flag(session, IOCP__SESSION_OPENED, 0);
        session->time_ns = now;
        /* Relaxed: times. */
        iocp__store_relaxed(&session->read_stamp, iocp__stamp(now));
        iocp__store_relaxed(&session->write_stamp, iocp__stamp(now));
        next = session_limits(session, now, &over);
    }
    iocp__lock_release(&session->lock);
    if (!first)
        return;
    /* Relaxed: a counter. */
    iocp__add_relaxed(session->connector ? &service->connected : &service->accepted, 1);
    iocp__timeouts_set(service, session, next);
    if (session_class->opened)
        session_class->opened(session, session_class->context);
}

static void session_accepted(struct iocp_session *session)
{
    const struct iocp_session_class *session_class = session->session_class;
    if (iocp__session_state(session) != IOCP__SESSION_NEW)
        return;
    if (session_class->admit && session_class->admit(session, session_class->context) < 0)
        iocp__session_end(session, IOCP_CLOSE_LOCAL, 0, 0);
    else
        session_open(session);
}

static void session_data(struct iocp_session *session, const struct iocp_packet *packet)
{
    if (iocp__session_state(session) != IOCP__SESSION_OPEN)
        return;
    if (session->session_class->read_idle_ns)
        /* Relaxed: a time; the limits look at it. */
        iocp__store_relaxed(&session->read_stamp, iocp__stamp(iocp_now_ns()));
    iocp__receive_feed(session, packet->buffer, packet->data, (size_t)packet->result);
}

/* The stream ended. A pause is no end; neither is a cancel that nobody wants any more: it is armed
 * again. */
static void session_stream_ended(struct iocp_session *session, int error)
{
    if (error == IOCP_EEOF) {
        iocp__lock_acquire(&session->lock);
        iocp__session_flag(session, IOCP__SESSION_PEER_ENDED, 0);
        int finishing = session->state == IOCP__SESSION_FINISHING;
        iocp__lock_release(&session->lock);
        if (finishing)
            iocp__session_end(session, IOCP_CLOSE_NONE, 0, 0);
    } else if (error != IOCP_ECANCELED) {
        iocp__session_end(session, IOCP_CLOSE_ERROR, error, 0);
    }
}

static void session_packet(const struct iocp_packet *packet)
{
    struct iocp_session *session = iocp__container(packet->object, struct iocp_session, object);
    int error = packet->result < 0 ? (int)packet->result : 0;
    uint8_t use = IOCP__USE_STREAM;
    if (!(packet->flags & IOCP_PACKET_MORE)) {
        iocp__lock_acquire(&session->lock);
        use = session->use;
        session->use = IOCP__USE_REST;
        iocp__lock_release(&session->lock);
    }
    if (packet->buffer && packet->result > 0)
        session_data(session, packet);
    else if (use == IOCP__USE_CONNECT && !error)
        session_open(session);
    else if (use == IOCP__USE_CONNECT)
        iocp__session_end(session, IOCP_CLOSE_ERROR, error, 0);
    else if (use == IOCP__USE_POSTED)
        session_accepted(session);
    else
        session_stream_ended(session, error);
    iocp__session_run(session);
}

/* What is kept comes again when the session may deliver. Returns not 0 when it was time for
 * that. */
static int session_redeliver(struct iocp_session *session)
{
    /* Relaxed: both are set before the kick or the packet that leads here. */
    int offer = iocp__load_relaxed(&session->flags) & IOCP__SESSION_OFFER;
    if (!iocp__session_may_deliver(session) || !(offer || session->kept_ready))
        return 0;
    iocp__lock_acquire(&session->lock);
    iocp__session_flag(session, 0, IOCP__SESSION_OFFER);
    iocp__lock_release(&session->lock);
    iocp__receive_again(session);
    return 1;
}

/* Whether the handlers have seen all that came before the peer's end: what is kept in a paused
 * session they have not. The lock is held. */
static int session_all_delivered(const struct iocp_session *session)
{
    if (!(session->flags & IOCP__SESSION_PEER_ENDED) || session->state != IOCP__SESSION_OPEN)
        return 0;
    return !session->kept ||
           (!session->paused && !session->kept_ready && !(session->flags & IOCP__SESSION_OFFER));
}

/* The peer has ended, and all that it sent is delivered. Without `ended`, or when our side was
 * finished before, the queue goes out and the session ends. */
static void session_peer_ended(struct iocp_session *session)
{
    const struct iocp_session_class *session_class = session->session_class;
    /* Relaxed: set in this order of handlers. */
    if (!(iocp__load_relaxed(&session->flags) & IOCP__SESSION_PEER_ENDED))
        return;
    iocp__lock_acquire(&session->lock);
    int close = session_all_delivered(session);
    int tell = close && session_class->ended && !(session->flags & IOCP__SESSION_ENDED);
    if (session_class->ended)
        close = tell && session->flags & IOCP__SESSION_FINISH;
    if (tell)
        iocp__session_flag(session, IOCP__SESSION_ENDED, 0);
    iocp__lock_release(&session->lock);
    if (tell) {
        iocp__receive_drop(session);
        session_class->ended(session, session_class->context);
    }
    if (close)
        iocp__session_close(session, IOCP_CLOSE_PEER);
}

/* Open, receiving, not paused: nothing is to be done but to wait. What changes from here on comes
 * with a packet of its own, the stream's answer if no other. */
static int session_is_steady(struct iocp_session *session)
{
    iocp__lock_acquire(&session->lock);
    int steady = session->state == IOCP__SESSION_OPEN && session->use == IOCP__USE_STREAM &&
                 !session->paused;
    iocp__lock_release(&session->lock);
    return steady;
}

void iocp__session_run(struct iocp_session *session)
{
    int steady;
    do {
        while (session_redeliver(session))
            ;
        session_peer_ended(session);
        steady = session_is_steady(session);
        if (!steady) {
            iocp__session_advance(session);
            session_arm(session);
        }
        /* Once more when it was resumed while this ran: that thread saw the stream armed. */
    } while (session_redeliver(session));
    if (!steady && session_take_closed(session))
        session_close_finish(session);
}

/* ---- Time limits. */

struct session_limit {
    uint64_t now_ns;
    uint64_t next_ns;
    enum iocp_close_reason over;
};

static void session_limit_add(struct session_limit *limit, uint64_t since_ns, uint64_t length_ns,
                              enum iocp_close_reason reason)
{
    if (!length_ns)
        return;
    uint64_t end = length_ns < UINT64_MAX - since_ns ? since_ns + length_ns : UINT64_MAX;
    if (end <= limit->now_ns && !limit->over)
        limit->over = reason;
    if (end < limit->next_ns)
        limit->next_ns = end;
}

/* When to look again at an open session, and what is over. A limit that does not run now (paused,
 * nothing in flight) is looked at again after its whole length. Stamps of activity are rounded up,
 * so nothing is over early. The lock is held. */
static uint64_t session_limits(struct iocp_session *session, uint64_t now_ns,
                               enum iocp_close_reason *out_over)
{
    const struct iocp_session_class *c = session->session_class;
    struct session_limit limit = {now_ns, UINT64_MAX, IOCP_CLOSE_NONE};
    /* Relaxed: times; a newer one only moves the limit back. */
    uint64_t read = iocp__stamp_ns(iocp__load_relaxed(&session->read_stamp), now_ns);
    uint64_t write = iocp__stamp_ns(iocp__load_relaxed(&session->write_stamp), now_ns);
    uint64_t taken = session->sending ? iocp__load_relaxed(&session->block->since_ns) : now_ns;
    if (!(session->flags & IOCP__SESSION_CONFIRMED))
        session_limit_add(&limit, session->time_ns, c->handshake_ns, IOCP_CLOSE_HANDSHAKE);
    session_limit_add(&limit, session->time_ns, c->lifetime_ns, IOCP_CLOSE_LIFETIME);
    session_limit_add(&limit, taken, c->send_stall_ns, IOCP_CLOSE_SEND_STALL);
    if (!(session->flags & IOCP__SESSION_PEER_ENDED))
        session_limit_add(&limit, session->paused ? now_ns : read, c->read_idle_ns,
                          IOCP_CLOSE_READ_IDLE);
    if (!(session->flags & IOCP__SESSION_END_SENT))
        session_limit_add(&limit, write, c->write_idle_ns, IOCP_CLOSE_WRITE_IDLE);
    *out_over = limit.over;
    return limit.next_ns;
}

uint64_t iocp__session_check_limits(struct iocp_session *session, uint64_t now_ns)
{
    enum iocp_close_reason over = IOCP_CLOSE_NONE;
    uint64_t next = UINT64_MAX;
    iocp__lock_acquire(&session->lock);
    enum iocp__session_state state = session->state;
    if (state == IOCP__SESSION_OPEN)
        next = session_limits(session, now_ns, &over);
    else if (state < IOCP__SESSION_ENDING)
        next = session->time_ns;
    iocp__lock_release(&session->lock);
    if (state != IOCP__SESSION_OPEN && state != IOCP__SESSION_CONNECTING) {
        /* Relaxed: set before sessions are looked at for it. */
        uint64_t drain = iocp__load_relaxed(&session->service->drain_deadline_ns);
        next = drain < next && state < IOCP__SESSION_ENDING ? drain : next;
    }
    if (over == IOCP_CLOSE_SEND_STALL)
        iocp__session_end(session, over, 0, 1);
    else if (over)
        iocp__session_close(session, over);
    else if (next > now_ns)
        return next;
    else if (state == IOCP__SESSION_CONNECTING)
        iocp__session_end(session, IOCP_CLOSE_ERROR, IOCP_ETIMEDOUT, 0);
    else
        /* The linger is over. With the queue still there the peer is to know that it misses
         * bytes. */
        iocp__session_end(session, IOCP_CLOSE_NONE, 0, state == IOCP__SESSION_CLOSING);
    return UINT64_MAX;
}

/* ---- Public. */

void iocp_session_class_init(struct iocp_session_class *session_class)
{
    memset(session_class, 0, sizeof(*session_class));
    session_class->receive_max = iocp__class_receive_max(session_class);
    session_class->send_high = iocp__class_send_high(session_class);
    session_class->send_pause = iocp__class_send_pause(session_class);
    session_class->send_low = iocp__class_send_low(session_class);
    session_class->linger_ns = iocp__class_linger_ns(session_class);
}

struct iocp_session *iocp_session_ref(struct iocp_session *session)
{
    iocp_object_ref(&session->object);
    return session;
}

struct iocp_session *iocp_session_unref(struct iocp_session *session)
{
    if (session)
        iocp_object_unref(&session->object);
    return NULL;
}

uint64_t iocp_session_id(const struct iocp_session *session)
{
    return session->id;
}

struct iocp_service *iocp_session_service(const struct iocp_session *session)
{
    return session->service;
}

void *iocp_session_user(struct iocp_session *session)
{
    return session->user;
}

void iocp_session_peer(const struct iocp_session *session, struct iocp_address *out_address)
{
    memset(out_address, 0, sizeof(*out_address));
    memcpy(out_address->storage.bytes, session->peer, session->peer_size);
    out_address->size = session->peer_size;
}

void iocp_session_local(const struct iocp_session *session, struct iocp_address *out_address)
{
    /* The lock and the count of users are not what const promises. */
    struct iocp_session *self = (struct iocp_session *)(uintptr_t)session;
    memset(out_address, 0, sizeof(*out_address));
    if (!session_handle_use(self))
        return;
    if (iocp__socket_local(iocp_object_handle(&self->object), out_address) < 0)
        memset(out_address, 0, sizeof(*out_address));
    session_handle_done(self);
}

int iocp_session_is_client(const struct iocp_session *session)
{
    return session->connector != NULL;
}

int iocp_session_error(const struct iocp_session *session)
{
    /* Relaxed: meant for `closed`, which is ordered behind it. */
    return iocp__load_relaxed(&session->error);
}

void iocp_session_pause(struct iocp_session *session)
{
    if (!session)
        return;
    iocp__lock_acquire(&session->lock);
    session_pause(session, IOCP__PAUSE_USER, 0);
    iocp__lock_release(&session->lock);
    iocp__session_unarm(session);
}

void iocp__session_pause_full(struct iocp_session *session)
{
    iocp__lock_acquire(&session->lock);
    session_pause(session, IOCP__PAUSE_FULL, 0);
    iocp__lock_release(&session->lock);
}

void iocp_session_resume(struct iocp_session *session)
{
    if (!session)
        return;
    /* Paused time is no idle time. Relaxed: a time. */
    iocp__store_relaxed(&session->read_stamp, iocp__stamp(iocp_now_ns()));
    iocp__lock_acquire(&session->lock);
    int was = session->paused & (IOCP__PAUSE_USER | IOCP__PAUSE_FULL);
    session_pause(session, 0, IOCP__PAUSE_USER | IOCP__PAUSE_FULL);
    if (was)
        iocp__session_flag(session, IOCP__SESSION_OFFER, 0);
    iocp__lock_release(&session->lock);
    if (was)
        iocp__session_kick(session);
}

void iocp_session_confirm(struct iocp_session *session)
{
    if (!session)
        return;
    iocp__lock_acquire(&session->lock);
    iocp__session_flag(session, IOCP__SESSION_CONFIRMED, 0);
    iocp__lock_release(&session->lock);
}

void iocp_session_close(struct iocp_session *session)
{
    if (session)
        iocp__session_close(session, IOCP_CLOSE_LOCAL);
}

void iocp_session_abort(struct iocp_session *session)
{
    if (session)
        iocp__session_end(session, IOCP_CLOSE_LOCAL, 0, 1);
}

const char *iocp_close_reason_text(enum iocp_close_reason reason)
{
    static const char *const texts[] = {
        [IOCP_CLOSE_NONE] = "none",
        [IOCP_CLOSE_LOCAL] = "local",
        [IOCP_CLOSE_PEER] = "peer",
        [IOCP_CLOSE_ERROR] = "error",
        [IOCP_CLOSE_PROTOCOL] = "protocol",
        [IOCP_CLOSE_READ_IDLE] = "read idle",
        [IOCP_CLOSE_WRITE_IDLE] = "write idle",
        [IOCP_CLOSE_SEND_STALL] = "send stall",
        [IOCP_CLOSE_HANDSHAKE] = "handshake",
        [IOCP_CLOSE_LIFETIME] = "lifetime",
        [IOCP_CLOSE_SLOW] = "slow",
        [IOCP_CLOSE_SHUTDOWN] = "shutdown",
    };
    size_t count = sizeof(texts) / sizeof(texts[0]);
    return (size_t)reason < count ? texts[reason] : "?";
}
