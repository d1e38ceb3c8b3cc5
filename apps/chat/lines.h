/* The protocol for people: lines in, lines out. */
#ifndef APPS_CHAT_LINES_H
#define APPS_CHAT_LINES_H

#include <stddef.h>

struct event;
struct iocp_session;
struct writer;

/* The handler of the session class: one line. */
void lines_message(struct iocp_session *session, const void *data, size_t size, void *context);

void lines_write(struct writer *writer, const struct event *event);

#endif
