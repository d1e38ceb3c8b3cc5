/* From received bytes to handler calls: framing over incoming buffers, and what is kept between two
 * of them. In the session's serial order. */
#ifndef IOCP_NET_RECEIVE_H
#define IOCP_NET_RECEIVE_H

#include <iocp/session.h>

/* Delivers what came; keeps what is no whole message, was not consumed, or came while paused.
 * Closes the session when the framing is violated or memory is out. */
void iocp__receive_feed(struct iocp_session *session, const void *data, size_t size);

/* Delivers what was kept, after a pause. */
void iocp__receive_again(struct iocp_session *session);

/* Forgets what is kept. */
void iocp__receive_drop(struct iocp_session *session);

#endif
