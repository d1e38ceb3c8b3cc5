/* The sessions of the net scenario: what the model knows of each, and what their handlers do. The
 * run is in net_run.c. */
#include "net.h"
#include "net/session.h"

#include <string.h>

struct model model;

int model_side(const struct end *end)
{
    return end->service == model.client;
}

/* ---- What handlers do besides: take long, block, say so or not. */

void handler_dawdles(void)
{
    iocp__sim_yield();
    switch (sim_below(60)) {
    case 0:
        iocp__sim_compute(sim_below(6000000));
        break;
    case 1:
        iocp__sim_sleep(sim_below(10000000));
        break;
    case 2:
        iocp_blocking_begin();
        iocp__sim_sleep(sim_below(10000000));
        iocp_blocking_end();
        break;
    default:
        break;
    }
}

static struct end *handler_enter(struct iocp_session *session, const char *name)
{
    struct end *end = *(struct end **)iocp_session_user(session);
    SIM_CHECK(end, "`%s` before `opened`", name);
    SIM_CHECK(!end->busy, "`%s` of handle %d while another handler of it runs", name,
              (int)end->handle);
    SIM_CHECK(!end->closed, "`%s` of handle %d after `closed`", name, (int)end->handle);
    end->busy = 1;
    handler_dawdles();
    return end;
}

static void handler_leave(struct end *end)
{
    iocp__sim_yield();
    end->busy = 0;
}

/* ---- Sending. */

static void end_sent(struct end *end, int result)
{
    SIM_CHECK(result == 0 || result == IOCP_EFULL || result == IOCP_ECLOSED ||
                  result == IOCP_ENOMEM,
              "a send gives %d", result);
    model.messages_sent[model_side(end)] += result == 0;
    model.sends_refused[model_side(end)] += result == IOCP_EFULL;
    model.over_high += result == IOCP_EFULL;
}

static int end_send_bytes(struct end *end, struct iocp_session *session, const unsigned char *wire,
                          size_t size)
{
    struct iocp_buffer *buffer = NULL;
    int result;
    if (sim_once_in(3) && iocp_buffer_copy(wire, size, &buffer) == 0)
        result = iocp_session_send_buffer(session, buffer);
    else
        result = iocp_session_send(session, wire, size);
    iocp_buffer_unref(buffer);
    if (result == 0)
        end->out->accepted += size;
    end_sent(end, result);
    return result;
}

static int end_send_raw(struct end *end, struct iocp_session *session)
{
    unsigned char *wire;
    size_t size = 1 + sim_below(sim_once_in(10) ? 9000 : 300);
    if (end->out->in_send)
        return 0;
    end->out->in_send = 1;
    wire = iocp__sim_allocate(size);
    stream_raw(end->out, end->out->accepted, size, wire);
    int result = end_send_bytes(end, session, wire, size);
    iocp__sim_release(wire);
    end->out->in_send = 0;
    end->left -= end->left < size ? end->left : size;
    return result;
}

/* Each thread is a sender of its own, whose messages keep their order. */
static int end_send_message(struct end *end, struct iocp_session *session)
{
    unsigned char wire[SIM_MESSAGE_MAX];
    size_t size = stream_message_size();
    uint32_t sub = iocp__sim_thread_index() % SIM_SUBS;
    uint32_t mark = 1u << sub;
    if (end->out->in_send & (int)mark)
        return 0;
    end->out->in_send |= (int)mark;
    stream_message(end->out, sub, end->out->sent[sub]++, size, wire);
    int result = end_send_bytes(end, session, wire, size);
    if (result < 0)
        end->out->sent[sub]--;
    end->out->in_send &= ~(int)mark;
    end->left -= end->left < size ? end->left : size;
    return result;
}

static void end_send(struct end *end, struct iocp_session *session, uint32_t count)
{
    for (uint32_t i = 0; i < count && end->left; i++) {
        int result =
            knobs.kind == SIM_RAW ? end_send_raw(end, session) : end_send_message(end, session);
        if (result < 0)
            return;
    }
}

/* ---- Anything that may be done to a session, from a handler or from another thread. */

void end_meddle(struct end *end, struct iocp_session *session)
{
    uint32_t what = sim_below(16);
    iocp__sim_trace("handle %d: meddle %u", (int)end->handle, what);
    switch (what) {
    case 0:
        iocp_session_close(session);
        break;
    case 1:
        iocp_session_abort(session);
        break;
    case 2:
        (void)iocp_session_finish(session);
        break;
    case 3:
    case 4:
        iocp_session_pause(session);
        break;
    case 5:
    case 6:
    case 7:
    case 8:
        iocp_session_resume(session);
        break;
    case 9:
        (void)iocp_group_join(model.group, session);
        break;
    case 10:
        (void)iocp_group_leave(model.group, session);
        break;
    case 11:
        iocp_session_confirm(session);
        break;
    default:
        end_send(end, session, 1 + sim_below(3));
    }
}

/* ---- Handlers. */

static int on_admit(struct iocp_session *session, void *context)
{
    (void)context;
    SIM_CHECK(!*(struct end **)iocp_session_user(session), "`admit` after `opened`");
    return sim_once_in(30) ? -1 : 0;
}

/* Another thread has ended the session already, and its handle is closed. */
static void end_find_no_connection(struct end *end)
{
    end->none.reset = 1;
    end->none.closed[0] = end->none.closed[1] = 1;
    end->none.aborted[0] = end->none.aborted[1] = 1;
    end->connection = &end->none;
}

static void on_opened(struct iocp_session *session, void *context)
{
    struct end **user = iocp_session_user(session);
    struct end *end = iocp__sim_allocate(sizeof(*end));
    (void)context;
    SIM_CHECK(!*user, "a second `opened`");
    SIM_CHECK(model.end_count < ENDS_MAX, "too many sessions");
    *user = end;
    model.ends[model.end_count++] = end;
    end->session = session;
    end->service = iocp_session_service(session);
    end->id = iocp_session_id(session);
    end->handle = session->object.handle;
    end->left = sim_below(knobs.bytes + 1);
    end->side = !model_side(end);
    end->connection = iocp__sim_connection(end->handle, &end->side);
    if (!end->connection)
        end_find_no_connection(end);
    end->out = stream_new(end->connection, end->side);
    end->out->droppable = model.session_class.full_policy == IOCP_FULL_DROP;
    end->busy = 1;
    SIM_CHECK(iocp_session_is_client(session) == model_side(end), "a client that is a server");
    SIM_CHECK(end->side == !model_side(end), "a session on the wrong end");
    model.opened[model_side(end)]++;
    tally.sessions++;
    iocp__sim_trace("handle %d: opened, stream %u", (int)end->handle, end->out->id);
    handler_dawdles();
    end_send(end, session, sim_below(4));
    if (sim_once_in(3))
        (void)iocp_group_join(model.group, session);
    if (sim_once_in(12))
        end_meddle(end, session);
    handler_leave(end);
}

static struct stream *end_in(struct end *end)
{
    if (!end->in)
        end->in = stream_of(end->connection, 1 - end->side);
    SIM_CHECK(end->in, "handle %d gets bytes that nobody sent", (int)end->handle);
    SIM_CHECK(!end->ended, "handle %d gets bytes after `ended`", (int)end->handle);
    model.messages_received[model_side(end)]++;
    tally.messages++;
    return end->in;
}

static void end_react(struct end *end, struct iocp_session *session)
{
    if (sim_once_in(2))
        end_send(end, session, 1 + sim_below(2));
    if (sim_once_in(40))
        end_meddle(end, session);
}

static size_t on_received(struct iocp_session *session, const void *data, size_t size,
                          void *context)
{
    struct end *end = handler_enter(session, "received");
    struct stream *in = end_in(end);
    (void)context;
    stream_check_raw(in, data, size);
    size_t used = sim_once_in(4) ? sim_below((uint32_t)size + 1) : size;
    iocp__sim_trace("handle %d: takes %zu of %zu", (int)end->handle, used, size);
    end_react(end, session);
    in->consumed += used;
    handler_leave(end);
    return used;
}

static void on_message(struct iocp_session *session, const void *data, size_t size, void *context)
{
    struct end *end = handler_enter(session, "message");
    (void)context;
    stream_check_message(end_in(end), data, size);
    iocp__sim_trace("handle %d: a message of %zu", (int)end->handle, size);
    end_react(end, session);
    handler_leave(end);
}

static void on_drained(struct iocp_session *session, void *context)
{
    struct end *end = handler_enter(session, "drained");
    (void)context;
    end_send(end, session, sim_below(4));
    handler_leave(end);
}

uint64_t stream_written(const struct stream *stream)
{
    return stream->connection->pipes[stream->side].written;
}

/* All that the other side sent was delivered: it ended its stream, and this side saw the end. */
static void end_check_whole(const struct end *end, const char *what)
{
    const struct iocp__sim_connection *connection = end->connection;
    const struct stream *in = stream_of(connection, 1 - end->side);
    if (connection->reset || !in)
        return;
    uint64_t written = stream_written(in);
    /* The sender ended within a message, because of an error of its own. */
    int cut =
        in->cut || in->broken || in->in_send || in->accepted + model.broadcast_bytes > written;
    int whole =
        in->seen == written || (cut && in->seen < written && written - in->seen <= SIM_MESSAGE_MAX);
    SIM_CHECK(whole, "handle %d, %s: %llu of %llu bytes were delivered", (int)end->handle, what,
              (unsigned long long)in->seen, (unsigned long long)written);
}

static void on_ended(struct iocp_session *session, void *context)
{
    struct end *end = handler_enter(session, "ended");
    (void)context;
    SIM_CHECK(!end->ended, "a second `ended`");
    end->ended = 1;
    end_check_whole(end, "ended");
    iocp__sim_trace("handle %d: ended", (int)end->handle);
    end_send(end, session, sim_below(3));
    switch (sim_below(3)) {
    case 0:
        (void)iocp_session_finish(session);
        break;
    case 1:
        iocp_session_close(session);
        break;
    default:
        break;
    }
    handler_leave(end);
}

static void on_closed(struct iocp_session *session, enum iocp_close_reason reason, void *context)
{
    struct end *end = handler_enter(session, "closed");
    (void)context;
    end->closed = 1;
    end->session = NULL;
    end->reason = (int)reason;
    end->error = iocp_session_error(session);
    model.closed[model_side(end)]++;
    iocp__sim_trace("handle %d: closed, %s %d", (int)end->handle, iocp_close_reason_text(reason),
                    end->error);
    SIM_CHECK(reason != IOCP_CLOSE_NONE, "closed without a reason");
    SIM_CHECK(reason != IOCP_CLOSE_ERROR || end->error < 0, "closed for an error of %d",
              end->error);
    if (reason == IOCP_CLOSE_PEER)
        end_check_whole(end, "closed by the peer");
    if (reason == IOCP_CLOSE_PROTOCOL)
        SIM_CHECK(end->in || stream_of(end->connection, 1 - end->side), "protocol of nobody");
    if (reason == IOCP_CLOSE_PROTOCOL)
        SIM_CHECK(stream_of(end->connection, 1 - end->side)->broken, "the peer kept the protocol");
    int result = iocp_session_send(session, "x", 1);
    SIM_CHECK(result == IOCP_ECLOSED, "a send in `closed` gives %d", result);
    handler_leave(end);
}

void on_failed(struct iocp_service *service, int error, int again, void *context)
{
    (void)service;
    (void)again;
    (void)context;
    SIM_CHECK(error < 0, "a connect failed with %d", error);
    model.failed++;
    handler_dawdles();
}

void on_stopped(struct iocp_service *service, void *context)
{
    (void)context;
    model.stopped++;
    for (uint32_t i = 0; i < model.end_count; i++)
        SIM_CHECK(model.ends[i]->service != service || model.ends[i]->closed,
                  "`stopped` before `closed` of handle %d", (int)model.ends[i]->handle);
}

/* ---- The class. */

static uint64_t model_limit(void)
{
    return sim_once_in(3) ? (1 + (uint64_t)sim_below(40)) * 25000000 : 0;
}

void model_make_class(void)
{
    struct iocp_session_class *c = &model.session_class;
    iocp_session_class_init(c);
    c->name = "model";
    c->user_size = sizeof(struct end *);
    if (knobs.kind == SIM_LINE)
        c->framing = iocp_framing_line(SIM_MESSAGE_MAX);
    if (knobs.kind == SIM_LENGTH) {
        c->framing = iocp_framing_length(4, SIM_MESSAGE_MAX);
        c->framing.payload_offset = 4;
    }
    c->admit = sim_once_in(2) ? on_admit : NULL;
    c->opened = on_opened;
    c->received = on_received;
    c->message = on_message;
    c->drained = on_drained;
    c->ended = sim_once_in(2) ? on_ended : NULL;
    c->closed = on_closed;
    c->receive_max = 64 + sim_below(2000);
    c->send_high = 1000 + sim_below(30000);
    c->send_pause = sim_once_in(2) ? 100 + sim_below(3000) : UINT32_MAX;
    c->send_low = sim_below(1000);
    c->full_policy = knobs.kind == SIM_RAW ? 2 * sim_below(2) : sim_below(3);
    c->read_idle_ns = model_limit();
    c->write_idle_ns = model_limit();
    c->send_stall_ns = model_limit();
    c->handshake_ns = model_limit();
    c->lifetime_ns = model_limit();
    c->linger_ns = model_limit();
}
