/* From received bytes to handler calls: framing over incoming buffers, and what is kept between two
 * of them. In the session's serial order. */
#ifndef IOCP_NET_RECEIVE_H
#define IOCP_NET_RECEIVE_H

#include <iocp/session.h>

struct iocp_buffer;

/* Fewer bytes than this are copied when a handler sends them on. */
#define IOCP__RECEIVE_LEND 1024

/* Delivers what came in `buffer`; keeps what is no whole message, was not consumed, or came while
 * paused. Closes the session when the framing is violated or memory is out. */
void iocp__receive_feed(struct iocp_session *session, struct iocp_buffer *buffer, const void *data,
                        size_t size);

/* The buffer of these bytes, when a handler of this thread is being given them and they may stay in
 * it until they are sent; else NULL: they have to be copied. Gives no reference. */
struct iocp_buffer *iocp__receive_lend(const void *data, size_t size);

/* Delivers what was kept, after a pause. */
void iocp__receive_again(struct iocp_session *session);

/* Forgets what is kept. */
void iocp__receive_drop(struct iocp_session *session);

#endif
