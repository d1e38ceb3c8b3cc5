/* The session: everything about one connection (the notes' Session).
 *
 * Sessions are made by a service. Handlers of one session never overlap, on any number of workers:
 * `opened` is first, `closed` is last, each exactly once. Any thread may call any function below,
 * also after the session has closed (sends are refused then). Inside a handler the session is
 * borrowed; to keep it, keep its id, or take a reference. */
#ifndef IOCP_SESSION_H
#define IOCP_SESSION_H

#include <iocp/address.h>
#include <iocp/buffer.h>
#include <iocp/error.h>
#include <iocp/framing.h>

IOCP_BEGIN

struct iocp_service;
struct iocp_session;

enum iocp_close_reason {
    IOCP_CLOSE_NONE = 0,
    IOCP_CLOSE_LOCAL,      /* iocp_session_close or _abort; _finish after the peer's end */
    IOCP_CLOSE_PEER,       /* the peer ended its stream */
    IOCP_CLOSE_ERROR,      /* an operation failed: iocp_session_error says how */
    IOCP_CLOSE_PROTOCOL,   /* framing violated */
    IOCP_CLOSE_READ_IDLE,  /* nothing received for read_idle_ns */
    IOCP_CLOSE_WRITE_IDLE, /* nothing sent for write_idle_ns */
    IOCP_CLOSE_SEND_STALL, /* the peer took nothing for send_stall_ns */
    IOCP_CLOSE_HANDSHAKE,  /* not confirmed within handshake_ns */
    IOCP_CLOSE_LIFETIME,   /* open for lifetime_ns */
    IOCP_CLOSE_SLOW,       /* send queue above its watermark, policy CLOSE */
    IOCP_CLOSE_SHUTDOWN    /* the service stopped */
};

/* What happens to a send that would lift the queue above `send_high`. */
enum iocp_full_policy {
    IOCP_FULL_REFUSE = 0, /* the send is refused: IOCP_EFULL */
    IOCP_FULL_DROP, /* the oldest messages that are not on their way yet are dropped, counted */
    IOCP_FULL_CLOSE /* the session is aborted: IOCP_CLOSE_SLOW */
};

/* What all sessions of one kind share. Zeroed members mean the default that the comment names. */
struct iocp_session_class {
    const char *name;
    struct iocp_framing framing; /* zero: raw */
    size_t user_size;            /* bytes of the user's area, zeroed before `opened` */

    /* May refuse a new connection by a negative value: it is closed without `opened` and `closed`.
     */
    int (*admit)(struct iocp_session *session, void *context);
    void (*opened)(struct iocp_session *session, void *context);
    /* RAW: bytes, borrowed for the call, for reading only. Returns how many were consumed; the rest
     * comes again, with more behind it. */
    size_t (*received)(struct iocp_session *session, const void *data, size_t size, void *context);
    /* LINE, LENGTH: one whole message, borrowed for the call, for reading only. */
    void (*message)(struct iocp_session *session, const void *data, size_t size, void *context);
    /* The send queue, which had been above send_pause, is empty to send_low again. */
    void (*drained)(struct iocp_session *session, void *context);
    /* The peer has ended its stream, and all that it sent was delivered; what `received` left, or a
     * message without its end, is gone. At most once, the last handler of what was received. With
     * this set the session stays open for sending until it is closed or finished; without it the
     * queue is sent and the session closes: IOCP_CLOSE_PEER. A reset that comes later is seen when
     * something is sent, so have a time limit, or close soon. */
    void (*ended)(struct iocp_session *session, void *context);
    void (*closed)(struct iocp_session *session, enum iocp_close_reason reason, void *context);
    void *context; /* handed to every handler */

    uint32_t receive_max; /* RAW: most bytes kept that `received` did not consume; 64 KiB */
    uint32_t send_high;   /* bytes queued at most; 1 MiB */
    uint32_t send_pause;  /* above it receiving pauses, so that a peer that only asks cannot fill
                             the queue; 256 KiB; UINT32_MAX: never */
    uint32_t send_low;    /* receiving goes on below it; 64 KiB */
    uint32_t full_policy; /* enum iocp_full_policy */

    /* Time limits in nanoseconds, each off at 0; checked every `tick_ns` of the service. */
    uint64_t read_idle_ns;  /* not after the peer's end */
    uint64_t write_idle_ns; /* not after the end that iocp_session_finish sent */
    uint64_t send_stall_ns;
    uint64_t handshake_ns; /* until iocp_session_confirm */
    uint64_t lifetime_ns;
    uint64_t linger_ns; /* a closing session waits so long for its queue and the peer; 0: 5 s */

    int delay;       /* leaves Nagle's algorithm on (TCP_NODELAY is set otherwise) */
    int keepalive_s; /* TCP keepalive after so many idle seconds; 0: off */
    int send_buffer; /* SO_SNDBUF; 0: the system's */
    int receive_buffer;
};

IOCP_API void iocp_session_class_init(struct iocp_session_class *session_class);

IOCP_API struct iocp_session *iocp_session_ref(struct iocp_session *session);
/* NULL is fine. Returns NULL. */
IOCP_API struct iocp_session *iocp_session_unref(struct iocp_session *session);

/* A number that no other session of the service has, had or will have; never 0. */
IOCP_API uint64_t iocp_session_id(const struct iocp_session *session);
IOCP_API struct iocp_service *iocp_session_service(const struct iocp_session *session);
/* The user's area: touch it in handlers, or guard it yourself. Lives as long as the session. */
IOCP_API void *iocp_session_user(struct iocp_session *session);
/* Of the peer; still there in `closed`. A Unix peer has no name: NONE. */
IOCP_API void iocp_session_peer(const struct iocp_session *session,
                                struct iocp_address *out_address);
IOCP_API void iocp_session_local(const struct iocp_session *session,
                                 struct iocp_address *out_address);
/* Not 0 when this side connected. */
IOCP_API int iocp_session_is_client(const struct iocp_session *session);
/* Why it failed, for IOCP_CLOSE_ERROR: an iocp_error. */
IOCP_API int iocp_session_error(const struct iocp_session *session);
/* For the reason in `closed`: "peer", "read idle". Static. */
IOCP_API const char *iocp_close_reason_text(enum iocp_close_reason reason);

/* Queues a copy of `size` bytes; all of it, or nothing. Bytes that a handler was given and sends on
 * before it returns, to whomever, are not copied when they are many: their buffer is kept until
 * they are sent. Returns 0, or IOCP_EFULL (the watermark), IOCP_ECLOSED (finished, closing or
 * closed), IOCP_ENOMEM, IOCP_EINVAL. Sends of one thread leave in their order, never mixed with
 * those of another; those made while a batch of packets is handled leave together. */
IOCP_API int iocp_session_send(struct iocp_session *session, const void *data, size_t size);

/* The same without a copy: the session **shares** the buffer until it is sent. Its bytes must not
 * change any more. */
IOCP_API int iocp_session_send_buffer(struct iocp_session *session, struct iocp_buffer *buffer);

/* Bytes queued and not taken by the kernel yet. */
IOCP_API size_t iocp_session_queued(const struct iocp_session *session);

/* Stops and resumes receiving. What was received before may still be delivered after `pause`
 * returns in another thread; not when called in a handler of the session. They do not nest. */
IOCP_API void iocp_session_pause(struct iocp_session *session);
IOCP_API void iocp_session_resume(struct iocp_session *session);

/* Ends the handshake limit: the peer is who it should be. */
IOCP_API void iocp_session_confirm(struct iocp_session *session);

/* Ends our side of the stream after what is queued; sends are refused from now on. Receiving goes
 * on, and so do the handlers, until the peer ends its side: then the session closes, with
 * IOCP_CLOSE_PEER. When the peer's end was delivered before, it closes as by iocp_session_close. A
 * peer that never ends is the business of the time limits, or of a close. Idempotent, returns at
 * once: 0, or IOCP_ECLOSED (not open: closing or closed), or IOCP_ENOMEM (nothing has changed). */
IOCP_API int iocp_session_finish(struct iocp_session *session);

/* Closes: sends what is queued, then ends the stream, waits for the peer's end up to linger_ns, and
 * runs `closed`. Nothing received after it is delivered. Idempotent, returns at once. */
IOCP_API void iocp_session_close(struct iocp_session *session);

/* The same at once: drops the queue and resets the connection. */
IOCP_API void iocp_session_abort(struct iocp_session *session);

IOCP_END

#endif
