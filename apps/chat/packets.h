/* The protocol for programs: packets in, packets out. docs/chat-protocol.md describes it. */
#ifndef APPS_CHAT_PACKETS_H
#define APPS_CHAT_PACKETS_H

#include <stddef.h>

struct event;
struct iocp_session;
struct writer;

/* The version of the protocol, and the bytes that a SAY or PRIVATE packet has beside its text. */
enum { PACKETS_VERSION = 1, PACKETS_FRAME_MAX = 128 };

/* The handler of the session class: one whole packet, header included. */
void packets_message(struct iocp_session *session, const void *data, size_t size, void *context);

void packets_write(struct writer *writer, const struct event *event);

#endif
