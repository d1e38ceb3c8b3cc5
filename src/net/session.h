/* Inside of sessions (public face: iocp/session.h): the struct, its states, and what the files of
 * this folder need of each other. The rules are at the top of session.c. */
#ifndef IOCP_NET_SESSION_H
#define IOCP_NET_SESSION_H

#include "base/atomic.h"
#include "base/list.h"
#include "os/os.h"

#include <iocp/object.h>
#include <iocp/session.h>

struct iocp__connector;
struct iocp__membership;
struct iocp__send_block;

/* What holds of a session. One function changes it (session.c: iocp__session_set_state).
 * The order counts: from CLOSING on nothing is delivered or queued any more. Half of an OPEN
 * connection may have ended: the flags PEER_ENDED, FINISH. */
enum iocp__session_state {
    IOCP__SESSION_NEW = 1,    /* accepted; `admit` and `opened` have not run */
    IOCP__SESSION_CONNECTING, /* the connect is on its way */
    IOCP__SESSION_OPEN,       /* `opened` has run or runs */
    IOCP__SESSION_CLOSING,    /* the queue goes out */
    IOCP__SESSION_FINISHING,  /* the end was sent, or is being sent; the peer's is waited for */
    IOCP__SESSION_ENDING,     /* the object is closed, or is about to be; ops come back */
    IOCP__SESSION_CLOSED      /* both ops are at rest; `closed` runs or has run */
};

/* What the session's one op does (session.c, "the op"). */
enum iocp__session_use {
    IOCP__USE_REST = 0, /* idle */
    IOCP__USE_POSTED,   /* a packet of our own is on its way */
    IOCP__USE_CONNECT,  /* connecting */
    IOCP__USE_ARMING,   /* the stream is being submitted */
    IOCP__USE_STREAM,   /* the stream is armed */
    IOCP__USE_CANCELING /* the stream was asked to end */
};

enum iocp__session_pause {
    IOCP__PAUSE_USER = 1, /* iocp_session_pause */
    IOCP__PAUSE_SEND = 2, /* more than send_pause is queued */
    IOCP__PAUSE_FULL = 4  /* RAW: receive_max bytes are kept that `received` did not consume */
};

enum iocp__session_flag {
    IOCP__SESSION_CLIENT = 1,
    IOCP__SESSION_OPENED = 2, /* `opened` ran: `closed` will */
    IOCP__SESSION_CONFIRMED = 4,
    IOCP__SESSION_PEER_ENDED = 8, /* the end of the peer's stream was read */
    IOCP__SESSION_OFFER = 16,     /* resumed: what is kept is offered again */
    IOCP__SESSION_RESET = 32,     /* ENDING: with a reset */
    IOCP__SESSION_ENDED = 64,     /* `ended` runs or has run; only with PEER_ENDED */
    IOCP__SESSION_FINISH = 128,   /* iocp_session_finish: nothing is queued any more */
    IOCP__SESSION_END_SENT = 256, /* OPEN and later: our end was sent for it, or is being sent */
    IOCP__SESSION_CANCELER = 512, /* a thread is inside iocp_port_cancel for the op */
    IOCP__SESSION_RERUN = 1024,   /* the canceler is to post the op */
    IOCP__SESSION_PUT_OFF = 2048, /* the last user of the handle closes it */
    IOCP__SESSION_BULK = 4096     /* the last send was more than the room of a block holds */
};

#define IOCP__PEER_SIZE 28 /* of sockaddr_in6 */

struct iocp_session {
    struct iocp_object object;
    struct iocp_op op;

    /* What a send looks at, side by side: from here to `limits_gone` 54 bytes. */
    struct iocp_service *service;                   /* a reference on its object */
    const struct iocp_session_class *session_class; /* shared */
    uint64_t id;                                    /* 0 until it is in the table */
    struct iocp__send_block *block; /* the lock's: while something is queued or in flight */
    struct iocp__lock lock;
    uint32_t queued;      /* the lock's; atomic to read */
    uint16_t flags;       /* the lock's; atomic to read */
    uint8_t state;        /* the lock's; atomic to read */
    uint8_t paused;       /* the lock's; atomic to read */
    uint8_t sending;      /* the lock's: the op of the block is in flight */
    uint8_t use;          /* the lock's */
    uint8_t handle_users; /* the lock's: threads that use the handle, they put its close off */
    uint8_t reason;       /* the lock's; atomic to read */
    int8_t error;         /* the lock's; atomic to read */
    uint8_t kept_ready;   /* the serial order's: what is kept may hold whole messages */
    uint8_t peer_size;
    uint8_t limits_gone; /* the lock of the time limits': never in the wheel again */

    uint32_t read_stamp;               /* atomic: last activity, see iocp__stamp */
    uint32_t write_stamp;              /* atomic */
    struct iocp_buffer *kept;          /* received, not delivered: the serial order's (receive.c) */
    struct iocp__connector *connector; /* a reference; NULL: accepted */
    struct iocp__membership *membership; /* the lock's: list of the groups it is in */
    /* The lock's. CONNECTING: deadline of the attempt; OPEN: when it opened; CLOSING and later:
     * deadline of the linger. */
    uint64_t time_ns;
    struct iocp__link limit_link; /* the lock of the time limits', as limit_tick */
    uint32_t limit_tick;
    unsigned char peer[IOCP__PEER_SIZE];

    _Alignas(16) unsigned char user[]; /* user_size bytes */
};

/* An idle session costs at most 512 bytes: this, 16 of malloc's, 16 of the table, 64 of a slot of
 * epoll or a request of Windows. */
_Static_assert(sizeof(struct iocp_session) <= 416, "an idle session costs at most 512 bytes");

/* Times of activity in 32 bits: in units of 2^20 ns, rounded up, so that no limit is over early. */
static inline uint32_t iocp__stamp(uint64_t now_ns)
{
    return (uint32_t)(now_ns >> 20) + 1;
}

/* The time of a stamp, up to a unit late. One that is more than 52 days old looks younger. */
static inline uint64_t iocp__stamp_ns(uint32_t stamp, uint64_t now_ns)
{
    uint32_t age = (uint32_t)(now_ns >> 20) - stamp;
    return age > UINT32_MAX - 2 ? now_ns : ((now_ns >> 20) - age) << 20;
}

/* ---- Defaults of a class, applied where a member is 0. */
static inline uint32_t iocp__class_send_high(const struct iocp_session_class *session_class)
{
    return session_class->send_high ? session_class->send_high : 1024 * 1024;
}

static inline uint32_t iocp__class_send_pause(const struct iocp_session_class *session_class)
{
    return session_class->send_pause ? session_class->send_pause : 256 * 1024;
}

/* Never above send_pause, or receiving would go on at once. */
static inline uint32_t iocp__class_send_low(const struct iocp_session_class *session_class)
{
    uint32_t pause = iocp__class_send_pause(session_class);
    uint32_t low = session_class->send_low ? session_class->send_low : 64 * 1024;
    return low < pause ? low : pause;
}

static inline uint32_t iocp__class_receive_max(const struct iocp_session_class *session_class)
{
    return session_class->receive_max ? session_class->receive_max : 64 * 1024;
}

static inline uint64_t iocp__class_linger_ns(const struct iocp_session_class *session_class)
{
    return session_class->linger_ns ? session_class->linger_ns : UINT64_C(5000000000);
}

/* 0, or IOCP_EINVAL: no handler for what the framing gives, or a framing that is none. */
int iocp__session_class_check(const struct iocp_session_class *session_class);

/* ---- Life (session.c). */

/* Makes a session, NEW or CONNECTING, with one reference: the table's. Holds references on the
 * service and the connector (may be NULL). NULL: no memory. */
struct iocp_session *iocp__session_create(struct iocp_service *service,
                                          const struct iocp_session_class *session_class,
                                          struct iocp__connector *connector);

void iocp__session_set_peer(struct iocp_session *session, const struct iocp_address *address);

/* Registers the socket (taken on success) and starts the session: an accepted one with a packet
 * that runs `admit` and `opened`, a connecting one with the connect. An error leaves it as it
 * was. */
int iocp__session_begin(struct iocp_session *session, iocp_handle handle,
                        struct iocp_address *connect_to);

/* Flushes and closes; nothing when it is closing already. Any thread. */
void iocp__session_close(struct iocp_session *session, enum iocp_close_reason reason);

/* Ends it now. `error` 0: none. `reset`: the peer sees a reset. Any thread. */
void iocp__session_end(struct iocp_session *session, enum iocp_close_reason reason, int error,
                       int reset);

/* What a time limit asks: acts on what is over, and returns when to look again (UINT64_MAX:
 * never). */
uint64_t iocp__session_check_limits(struct iocp_session *session, uint64_t now_ns);

/* Gives up what the table held, without `closed`: the port is gone. */
void iocp__session_sweep(struct iocp_session *session);

/* Not 0 when handlers may get data: OPEN and not paused. */
static inline int iocp__session_may_deliver(const struct iocp_session *session)
{
    /* Relaxed: as iocp__session_state below. */
    return iocp__load_relaxed(&session->state) == IOCP__SESSION_OPEN &&
           !iocp__load_relaxed(&session->paused);
}

/* Sets IOCP__PAUSE_FULL: by receive.c, in the session's serial order. */
void iocp__session_pause_full(struct iocp_session *session);

/* The lock is held. */
static inline void iocp__session_flag(struct iocp_session *session, unsigned set, unsigned clear)
{
    /* Relaxed: the lock orders it; those who look without it look for a hint. */
    iocp__store_relaxed(&session->flags, (uint16_t)((session->flags | set) & ~clear));
}

static inline uint8_t iocp__session_state(const struct iocp_session *session)
{
    /* Relaxed: a hint, or in the session's order; decisions are made again under the lock. */
    return iocp__load_relaxed(&session->state);
}

/* ---- Sending (session_send.c). The lock is not held in any. */

/* Gives back what is queued, by whoever is alone with the session. */
void iocp__session_drop_block(struct iocp_session *session);

/* Moves a closing session on when its queue is empty: sends the end of the stream, waits for the
 * peer's when that was sent, or ends it. */
void iocp__session_advance(struct iocp_session *session);

/* Decides what comes next: at the end of each packet of the session. */
void iocp__session_run(struct iocp_session *session);

/* Ends the stream when receiving is paused; any thread. */
void iocp__session_unarm(struct iocp_session *session);

/* Brings the session into its serial order when nothing else will; any thread. */
void iocp__session_kick(struct iocp_session *session);

/* States, by the one function that changes them; the lock is held. */
void iocp__session_set_state(struct iocp_session *session, enum iocp__session_state state);

/* ---- Groups (group.c). */

/* Leaves all groups. The session is no longer open. */
void iocp__group_leave_all(struct iocp_session *session);

#endif
