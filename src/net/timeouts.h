/* Time limits of sessions: one wheel and one timer for a service.
 *
 * A session is in the wheel at the moment when it is to be looked at, not when its limit is:
 * activity only stores a time, and the look finds out whether a limit is over or when to look
 * again. The timer runs while the wheel has sessions. Nothing is posted to a session that is idle
 * within its limits. */
#ifndef IOCP_NET_TIMEOUTS_H
#define IOCP_NET_TIMEOUTS_H

#include "base/list.h"
#include "os/os.h"

#include <iocp/op.h>

struct iocp_service;
struct iocp_session;

#define IOCP__WHEEL_SLOTS 512

struct iocp__timeouts {
    struct iocp__lock lock;
    uint32_t count; /* sessions in the wheel */
    uint32_t armed; /* the timer is on its way or handled */
    uint64_t tick_ns;
    uint64_t position; /* the last tick that was handled; ticks are times / tick_ns */
    struct iocp_op op;
    struct iocp__link slots[IOCP__WHEEL_SLOTS];
};

void iocp__timeouts_init(struct iocp__timeouts *timeouts, uint64_t tick_ns);

/* Has the session looked at when `deadline_ns` is over, later only by the grain (far deadlines:
 * earlier as well, to no effect). An earlier look that was asked for stays; UINT64_MAX asks for
 * none. Any thread, no lock held. */
void iocp__timeouts_set(struct iocp_service *service, struct iocp_session *session,
                        uint64_t deadline_ns);

/* Takes it out for ever. */
void iocp__timeouts_forget(struct iocp_service *service, struct iocp_session *session);

/* The service has ended: the timer too. */
void iocp__timeouts_stop(struct iocp_service *service);

#endif
