/* The wheel of time limits.
 *
 * Invariants
 * 1. A session is in at most one slot; it is in one only while it is in the table, so that a
 *    reference may be taken from the wheel.
 * 2. A slot holds what is due at a tick after `position`, within one turn of the wheel.
 * 3. armed is 1 whenever the wheel has sessions.
 *
 * Nothing fires early: a look compares times that activity stored, rounded up; a tick only
 * decides when to look. */
#include "net/timeouts.h"

#include "base/assert.h"
#include "base/atomic.h"
#include "net/service.h"
#include "net/session.h"

static void timeouts_tick(const struct iocp_packet *packet);

void iocp__timeouts_init(struct iocp__timeouts *timeouts, uint64_t tick_ns)
{
    timeouts->tick_ns = tick_ns;
    for (uint32_t i = 0; i < IOCP__WHEEL_SLOTS; i++)
        iocp__link_init(&timeouts->slots[i]);
    iocp_op_init(&timeouts->op, timeouts_tick);
}

/* The next tick, on the grid: sessions come out at the first tick that is not before their time. */
static void timeouts_arm(struct iocp_service *service)
{
    struct iocp__timeouts *timeouts = &service->timeouts;
    uint64_t now = iocp_now_ns();
    uint64_t wait = timeouts->tick_ns - now % timeouts->tick_ns;
    iocp_op_timer(&timeouts->op, wait, 0);
    if (iocp_port_submit(service->port, &service->object, &timeouts->op) == 0)
        return;
    /* The port is closed: no session gets a packet any more. */
    iocp__lock_acquire(&timeouts->lock);
    timeouts->armed = 0;
    iocp__lock_release(&timeouts->lock);
}

/* The lock is held here and below. */
static void timeouts_take(struct iocp__timeouts *timeouts, struct iocp_session *session)
{
    if (iocp__link_alone(&session->limit_link))
        return;
    iocp__link_remove(&session->limit_link);
    timeouts->count--;
}

static void timeouts_insert(struct iocp__timeouts *timeouts, struct iocp_session *session,
                            uint64_t deadline_ns)
{
    uint64_t tick = deadline_ns / timeouts->tick_ns + (deadline_ns % timeouts->tick_ns != 0);
    uint64_t far = timeouts->position + IOCP__WHEEL_SLOTS - 1;
    if (tick <= timeouts->position)
        tick = timeouts->position + 1;
    if (tick > far)
        tick = far;
    if (!iocp__link_alone(&session->limit_link) &&
        (int32_t)(session->limit_tick - (uint32_t)tick) <= 0)
        return;
    timeouts_take(timeouts, session);
    session->limit_tick = (uint32_t)tick;
    iocp__link_insert(&timeouts->slots[tick % IOCP__WHEEL_SLOTS], &session->limit_link);
    timeouts->count++;
}

void iocp__timeouts_set(struct iocp_service *service, struct iocp_session *session,
                        uint64_t deadline_ns)
{
    struct iocp__timeouts *timeouts = &service->timeouts;
    int arm = 0;
    if (deadline_ns == UINT64_MAX)
        return;
    uint64_t now = iocp_now_ns();
    iocp__lock_acquire(&timeouts->lock);
    if (!session->limits_gone) {
        arm = !timeouts->armed;
        if (arm)
            timeouts->position = now / timeouts->tick_ns;
        timeouts->armed = 1;
        timeouts_insert(timeouts, session, deadline_ns);
    }
    iocp__lock_release(&timeouts->lock);
    if (arm)
        timeouts_arm(service);
}

void iocp__timeouts_forget(struct iocp_service *service, struct iocp_session *session)
{
    struct iocp__timeouts *timeouts = &service->timeouts;
    iocp__lock_acquire(&timeouts->lock);
    timeouts_take(timeouts, session);
    session->limits_gone = 1;
    iocp__lock_release(&timeouts->lock);
}

void iocp__timeouts_stop(struct iocp_service *service)
{
    /* Not pending, or its answer on the way: both are fine. */
    iocp_port_cancel(service->port, &service->timeouts.op);
}

/* Moves a slot to a ring of the caller's: a session that is put back may land in the same slot. */
static void timeouts_splice(struct iocp__timeouts *timeouts, uint64_t position,
                            struct iocp__link *due)
{
    struct iocp__link *slot = &timeouts->slots[position % IOCP__WHEEL_SLOTS];
    iocp__link_init(due);
    iocp__lock_acquire(&timeouts->lock);
    iocp__link_insert(slot, due);
    iocp__link_remove(slot);
    iocp__lock_release(&timeouts->lock);
}

/* Takes one session out, with a reference; NULL: no more. */
static struct iocp_session *timeouts_due(struct iocp__timeouts *timeouts, struct iocp__link *due)
{
    struct iocp_session *session = NULL;
    iocp__lock_acquire(&timeouts->lock);
    if (!iocp__link_alone(due)) {
        session = iocp__container(due->next, struct iocp_session, limit_link);
        timeouts_take(timeouts, session);
        iocp_session_ref(session);
    }
    iocp__lock_release(&timeouts->lock);
    return session;
}

/* Handles the ticks that have passed, one turn of the wheel at most. `position` moves first, so
 * that who is looked at and put back lands behind it. */
static void timeouts_advance(struct iocp_service *service)
{
    struct iocp__timeouts *timeouts = &service->timeouts;
    uint64_t now = iocp_now_ns();
    uint64_t target = now / timeouts->tick_ns;
    iocp__lock_acquire(&timeouts->lock);
    uint64_t position = timeouts->position;
    timeouts->position = target > position ? target : position;
    iocp__lock_release(&timeouts->lock);
    if (target > position + IOCP__WHEEL_SLOTS)
        position = target - IOCP__WHEEL_SLOTS;
    while (position < target) {
        struct iocp__link due;
        struct iocp_session *session;
        timeouts_splice(timeouts, ++position, &due);
        while ((session = timeouts_due(timeouts, &due))) {
            uint64_t next = iocp__session_check_limits(session, now);
            iocp__timeouts_set(service, session, next);
            iocp_session_unref(session);
        }
    }
}

static void timeouts_tick(const struct iocp_packet *packet)
{
    struct iocp_service *service = iocp__container(packet->object, struct iocp_service, object);
    struct iocp__timeouts *timeouts = &service->timeouts;
    timeouts_advance(service);
    iocp__lock_acquire(&timeouts->lock);
    int again = timeouts->count > 0;
    timeouts->armed = (uint32_t)again;
    iocp__lock_release(&timeouts->lock);
    if (again)
        timeouts_arm(service);
}
