/* The watch: finds workers that are out for long, and lets others take over. */
#ifndef IOCP_CORE_WATCH_H
#define IOCP_CORE_WATCH_H

#include "core/types.h"

/* Starts the thread of the watch, once, if the port wants one. Without it (no memory, no threads)
 * the port works as with watch_ns 0, and the next worker tries again. */
void iocp__watch_start(struct iocp_port *port);

/* A worker goes out: the watch is to tick. Cheap when it does. */
void iocp__watch_arm(struct iocp_port *port);

/* A worker is between two packets: it looks after the others, if nobody did for a while. */
void iocp__watch_help(struct iocp_port *port);

/* Ends the thread and waits for it. */
void iocp__watch_stop(struct iocp_port *port);

#endif
