/* Packets on their way out: from the answer of an op to its handler. */
#ifndef IOCP_CORE_PACKET_H
#define IOCP_CORE_PACKET_H

#include "core/types.h"

/* Makes the packet of an event. After a last answer the op is its user's again; the event is the
 * library's no more. */
void iocp__packet_make(struct iocp_event *event, struct iocp_packet *packet);

#endif
