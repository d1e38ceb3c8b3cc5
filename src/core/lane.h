/* The lane: where submitted operations wait for their turn, and finished ones for a worker.
 *
 * `iocp__lane_serve` alone talks to the backend (and `iocp__lane_watch`, `iocp__lane_bell`); only
 * the lane's holder calls it. The rest is for any thread. */
#ifndef IOCP_CORE_LANE_H
#define IOCP_CORE_LANE_H

#include "core/types.h"

/* Makes a lane with a backend of its own, held by nobody. */
int iocp__lane_create(struct iocp_port *port, uint32_t index, struct iocp__lane **out_lane);
/* It has no objects, and nothing in any queue. NULL is fine. */
void iocp__lane_destroy(struct iocp__lane *lane);

/* Gives the inbox to the backend, waits as backend.h says, and moves what finished to `ready`.
 * Afterwards give back lane->released. */
void iocp__lane_serve(struct iocp__lane *lane, uint64_t deadline_ns);

/* Gives the port's reference on closed objects back: runs destructors. */
void iocp__lane_release_closed(struct iocp__lane *lane);

/* Adds an op to the inbox; its state becomes SENT. Returns 1 when the holder sleeps and is to be
 * rung, 0 when it does not, IOCP_ECLOSED when the object is closing (the op is untouched). */
int iocp__lane_submit(struct iocp__lane *lane, struct iocp_object *object, struct iocp_op *op);

/* Asks for the end of an op. 1 or 0 as above, or IOCP_ENOTFOUND. */
int iocp__lane_cancel(struct iocp__lane *lane, struct iocp_op *op);

/* Tells the holder of a new object, or of one that is to be closed. 1 or 0 as above. */
int iocp__lane_attach(struct iocp__lane *lane, struct iocp_object *object);
int iocp__lane_close(struct iocp__lane *lane, struct iocp_object *object);

/* Marks every object of the lane as closing. For the end of the port: by the holder. */
void iocp__lane_close_all(struct iocp__lane *lane);

/* Not 0 when something waits for the holder. */
int iocp__lane_has_orders(struct iocp__lane *lane);

/* Adds packets of the port's own making: timers; one post, refusal or canceled timer. */
void iocp__lane_push(struct iocp__lane *lane, struct iocp__queue *events);
void iocp__lane_post(struct iocp__lane *lane, struct iocp_event *event);

/* Takes the oldest packet, NULL when there is none. With `serial` a packet of a serial object comes
 * with the right to handle it (object.h), and packets of objects that another worker handles go to
 * that
 * worker: in the order of the queue, which is why this happens under the lane's lock. */
struct iocp_event *iocp__lane_take(struct iocp__lane *lane, int serial);

/* Moves up to `count` of the oldest packets behind `events`, to be handed out. */
void iocp__lane_take_some(struct iocp__lane *lane, uint32_t count, struct iocp__queue *events);

#endif
