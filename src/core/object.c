/* Ref-counted objects and their serial order. Closing is the lane's (lane.c).
 *
 * Invariants
 * 1. refs > 0 as long as an op of the object is pending, a handler of it runs, or it is
 *    registered.
 * 2. object->serial is NULL (nobody handles the object), SERIAL_RUNNING (somebody does, nothing
 *    waits), or the newest of the events that wait, linked to SERIAL_RUNNING at the oldest.
 *
 * serial: NULL → RUNNING [enter] → event … [enter, by others] → RUNNING [next] → NULL [next] */
#include "core/object.h"

#include "base/assert.h"
#include "base/atomic.h"

#include <string.h>

static struct iocp_event object_running;
#define SERIAL_RUNNING (&object_running)

void iocp_object_init(struct iocp_object *object, const struct iocp_object_class *object_class)
{
    memset(object, 0, sizeof(*object));
    object->object_class = object_class;
    object->handle = IOCP_HANDLE_INVALID;
    object->refs = 1;
}

struct iocp_object *iocp_object_ref(struct iocp_object *object)
{
    /* Relaxed: whoever takes a reference has one. */
    uint32_t before = iocp__add_relaxed(&object->refs, 1);
    iocp__assert(before > 0 && before < UINT32_MAX / 2);
    return object;
}

struct iocp_object *iocp_object_unref(struct iocp_object *object)
{
    if (!object)
        return NULL;
    /* Acquire and release: the destructor sees all that other owners did. */
    uint32_t before = iocp__sub_acq_rel(&object->refs, 1);
    iocp__assert(before > 0);
    if (before == 1) {
        iocp__debug(object->pending == 0);
        if (object->object_class->destroy)
            object->object_class->destroy(object);
    }
    return NULL;
}

iocp_handle iocp_object_handle(const struct iocp_object *object)
{
    return object->handle;
}

int iocp__object_serial_enter(struct iocp_object *object, struct iocp_event *event)
{
    struct iocp_event *head = iocp__load_acquire(&object->serial);
    for (;;) {
        struct iocp_event *wanted = head ? event : SERIAL_RUNNING;
        if (head)
            event->next = head;
        /* Acquire: the handlers before are seen; release: so is this event. */
        if (iocp__cas_acq_rel(&object->serial, &head, wanted))
            return wanted == SERIAL_RUNNING;
    }
}

struct iocp_event *iocp__object_serial_next(struct iocp_object *object)
{
    struct iocp_event *head = SERIAL_RUNNING;
    /* Release: what the handlers did is seen by who enters next. */
    if (iocp__cas_acq_rel(&object->serial, &head, (struct iocp_event *)NULL))
        return NULL;
    head = iocp__exchange_acq_rel(&object->serial, SERIAL_RUNNING);
    struct iocp_event *oldest = NULL;
    while (head != SERIAL_RUNNING) {
        struct iocp_event *older = head->next;
        head->next = oldest;
        oldest = head;
        head = older;
    }
    return oldest;
}
