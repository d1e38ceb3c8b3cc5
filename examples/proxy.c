/* A relay: bytes go both ways between a client and the target. Usage: proxy [LISTEN [TARGET]]
 * The two sessions of a pair know each other by id, never by pointer: find gives NULL for a session
 * that is gone. Back-pressure: the queue of a side that does not read grows, and the other side
 * stops receiving until it has drained. */
#include <iocp.h>

#include <stdatomic.h>
#include <stdio.h>

static struct iocp_service *service;
static struct iocp_address target;
static struct iocp_session_class front_class, back_class; /* accepted; connected to the target */

/* The user's area: the other session's id; 0: the back tells it later; UINT64_MAX: closed. */
static _Atomic uint64_t *peer_of(struct iocp_session *session)
{
    return iocp_session_user(session);
}

/* Does something to the session of that id, if there still is one. */
static void session_do(uint64_t id, void (*what)(struct iocp_session *session))
{
    struct iocp_session *session = iocp_service_find(service, id);
    if (session != NULL)
        what(session);
    iocp_session_unref(session);
}

static size_t half_received(struct iocp_session *session, const void *data, size_t size, void *none)
{
    struct iocp_session *peer = iocp_service_find(service, *peer_of(session));
    int error = peer != NULL ? iocp_session_send(peer, data, size) : IOCP_ECLOSED;
    (void)none;
    if (error < 0 && error != IOCP_ECLOSED) {
        iocp_session_abort(session); /* no memory: bytes are never lost in silence */
    } else if (error == 0 && iocp_session_queued(peer) > front_class.send_pause) {
        iocp_session_pause(session);
        if (iocp_session_queued(peer) <= front_class.send_low)
            iocp_session_resume(session); /* it drained just before the pause */
    }
    iocp_session_unref(peer);
    return size;
}

static void half_drained(struct iocp_session *session, void *none)
{
    (void)none;
    session_do(*peer_of(session), iocp_session_resume);
}

static void half_ended(struct iocp_session *session, void *none)
{
    struct iocp_session *peer = iocp_service_find(service, *peer_of(session));
    (void)none; /* the other way goes on */
    if (peer != NULL && iocp_session_finish(peer) == IOCP_ENOMEM)
        iocp_session_abort(peer);
    iocp_session_unref(peer);
}

static void half_closed(struct iocp_session *session, enum iocp_close_reason reason, void *none)
{
    (void)reason, (void)none; /* the peer closes too, after it has sent what it has */
    session_do(atomic_exchange(peer_of(session), UINT64_MAX), iocp_session_close);
}

static void back_failed(struct iocp_service *unused, int error, int again, void *front)
{
    (void)unused, (void)again;
    fprintf(stderr, "proxy: cannot connect: %s\n", iocp_error_text(error));
    session_do((uintptr_t)front, iocp_session_close);
}

static void front_opened(struct iocp_session *session, void *none)
{
    _Atomic uint64_t front = iocp_session_id(session); /* what the back starts with */
    struct iocp_connect_config config = {.address = target, .session_class = &back_class};
    (void)none;
    config.failed = back_failed;
    config.context = (void *)(uintptr_t)front;
    config.user = &front;
    iocp_session_pause(session); /* until there is somebody to relay to */
    if (iocp_service_connect(service, &config, NULL) < 0)
        iocp_session_abort(session);
}

/* Tells the front who its peer is, unless it has closed meanwhile. */
static void back_opened(struct iocp_session *session, void *none)
{
    struct iocp_session *front = iocp_service_find(service, *peer_of(session));
    uint64_t unknown = 0, id = iocp_session_id(session);
    (void)none;
    if (front != NULL && atomic_compare_exchange_strong(peer_of(front), &unknown, id))
        iocp_session_resume(front);
    else
        iocp_session_abort(session);
    iocp_session_unref(front);
}

int main(int argc, char **argv)
{
    struct iocp_session_class half = {.received = half_received, .drained = half_drained};
    struct iocp_address address;
    int error;
    half.ended = half_ended;
    half.closed = half_closed;
    half.user_size = sizeof(_Atomic uint64_t);
    half.send_pause = 256 * 1024;
    half.send_low = 64 * 1024;
    front_class = back_class = half;
    front_class.opened = front_opened;
    back_class.opened = back_opened;
    if ((error = iocp_address_parse(argc > 1 ? argv[1] : "127.0.0.1:7001", &address)) < 0 ||
        (error = iocp_address_parse(argc > 2 ? argv[2] : "127.0.0.1:7000", &target)) < 0 ||
        (error = iocp_service_create(NULL, &service)) < 0 ||
        (error = iocp_service_listen(service, &address, &front_class, NULL, NULL)) < 0 ||
        (error = iocp_service_run(service)) < 0)
        fprintf(stderr, "proxy: %s\n", iocp_error_text(error));
    iocp_service_unref(service);
    return error < 0;
}
