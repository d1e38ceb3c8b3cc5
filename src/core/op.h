/* Inside of operations: their states, and the send that is put together at the last moment. */
#ifndef IOCP_CORE_OP_H
#define IOCP_CORE_OP_H

#include <iocp/op.h>
#include <iocp/port.h>

/* What holds of an op. It is written by whoever has the op: its user, the holder of its lane, the
 * worker with its packet; and read by cancel, so that it is atomic. Entering SENT and READY happens
 * under the lock of the lane (timers: of the timers), which is what cancel relies on.
 *
 * idle → prepared [iocp_op_recv and the other preparing functions]
 * prepared → sent [iocp_port_submit] → queued, held → ready → idle [iocp__packet_make: when its
 * last packet is taken] */
enum iocp__op_state {
    IOCP__OP_IDLE = 0, /* the user's */
    IOCP__OP_PREPARED, /* the user's, with a kind and arguments */
    IOCP__OP_SENT,     /* in the inbox of its lane */
    IOCP__OP_QUEUED,   /* behind another op of its direction, or a timer in the heap */
    IOCP__OP_HELD,     /* the backend has it */
    IOCP__OP_READY     /* answered; its last packet is on its way or in a handler */
};

enum iocp__op_flag {
    IOCP__OP_CANCELED = 1, /* the user asked for its end */
    IOCP__OP_LATE = 2      /* u.late: gather fills the slices in, landed may save the packet */
};

/* Prepares a send whose slices `gather` fills in (op->u.late.slices and count, at least one slice
 * and one byte) once per submit: on the thread that holds the lane, right before the kernel gets
 * the op, under no lock. So all that was queued until then leaves in one send. The memory is
 * borrowed until the answer.
 *
 * When all of it was sent `landed` is called in the same way. Not 0: that was all, there is no
 * packet; the op is idle and may be another's by then, and its reference is given back. 0: the
 * answer goes the way of all. Such an op is not to be canceled by iocp_port_cancel. */
void iocp__op_send_late(struct iocp_op *op, void (*gather)(struct iocp_op *op),
                        int (*landed)(struct iocp_op *op));

#endif
