/* Inside of objects: the order in which the packets of one object are handled. */
#ifndef IOCP_CORE_OBJECT_H
#define IOCP_CORE_OBJECT_H

#include <iocp/object.h>

/* Asks for the right to handle `event` of a serial object. 1: the caller has it, handles the event
 * and then what `iocp__object_serial_next` gives, until that is NULL. 0: another worker has it and
 * will handle the event too. */
int iocp__object_serial_enter(struct iocp_object *object, struct iocp_event *event);

/* Gives the events that came meanwhile, oldest first, linked by `next`; NULL: none came and the
 * right is given back. */
struct iocp_event *iocp__object_serial_next(struct iocp_object *object);

#endif
