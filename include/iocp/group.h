/* The group: a set of sessions that a message is published to (a room, a channel).
 *
 * Threads: any thread may call anything. A session leaves its groups by itself when it closes. */
#ifndef IOCP_GROUP_H
#define IOCP_GROUP_H

#include <iocp/buffer.h>
#include <iocp/session.h>

IOCP_BEGIN

struct iocp_group;

/* Gives one reference; a member holds none. Errors: IOCP_ENOMEM. */
IOCP_API int iocp_group_create(struct iocp_group **out_group);
IOCP_API struct iocp_group *iocp_group_ref(struct iocp_group *group);
/* NULL is fine; returns NULL. The last one makes all members leave. */
IOCP_API struct iocp_group *iocp_group_unref(struct iocp_group *group);

/* Errors: IOCP_EEXIST (a member already), IOCP_ECLOSED (the session is closing), IOCP_ENOMEM. */
IOCP_API int iocp_group_join(struct iocp_group *group, struct iocp_session *session);
/* IOCP_ENOTFOUND when it is no member. */
IOCP_API int iocp_group_leave(struct iocp_group *group, struct iocp_session *session);

/* Sends one buffer, shared and not copied, to every member but `except` (may be NULL). Returns how
 * many took it; the others were full or closing. */
IOCP_API uint32_t iocp_group_publish(struct iocp_group *group, struct iocp_buffer *buffer,
                                     const struct iocp_session *except);

IOCP_API uint32_t iocp_group_count(const struct iocp_group *group);

/* Calls `visit` for each member, with no lock held. */
IOCP_API void iocp_group_each(struct iocp_group *group,
                              int (*visit)(struct iocp_session *session, void *context),
                              void *context);

IOCP_END

#endif
