/* What the suite of the port shares: a port on the backend of the run, an object that counts how
 * often it was destroyed, an op that remembers its answer, and a crew of workers that are known to
 * sleep.
 *
 * A helper that fails, or waits too long, ends the test, as those of net.h do. */
#ifndef TESTS_SUPPORT_PORT_H
#define TESTS_SUPPORT_PORT_H

#include "support/check.h"
#include "support/net.h"
#include "support/system.h"

#include <iocp/memory.h>
#include <iocp/port.h>

#define MILLISECOND UINT64_C(1000000)

/* ---- Ports. */

/* The defaults, the backend of the run and `concurrency` (0: the default). */
void port_config(struct iocp_port_config *config, uint32_t concurrency);
struct iocp_port *port_open(uint32_t concurrency);
struct iocp_port *port_open_config(const struct iocp_port_config *config);
/* Not 0 when it is the kernel that lets workers go, a further one by itself when one of them blocks
 * (Windows): then nothing is found blocked and no lane is taken away. */
int port_kernel_is_gate(const struct iocp_port *port);

/* Waits until each of so many workers that may run at a time has made its lane. They do it when
 * they first go to sleep, in their own time; for tests that take the descriptors away. */
void port_wait_lanes(struct iocp_port *port, uint32_t workers);

/* Gives the last reference of the port back, and checks that the library holds no memory then. */
void port_end(struct iocp_port *port);

/* Dispatches for so long, whatever comes: for what must not happen. */
void port_dispatch_for(struct iocp_port *port, uint64_t time_ns);

/* ---- Objects. */

struct thing {
    struct iocp_object object; /* first */
    uint32_t destroyed;        /* atomic */
    void *context;             /* the test's */
};

/* A plain object, or one whose handlers never overlap. */
void thing_init(struct thing *thing);
void thing_init_serial(struct thing *thing);
/* Makes a plain object and registers it. */
void thing_open(struct thing *thing, struct iocp_port *port, iocp_handle handle, uintptr_t key);
uint32_t thing_destroyed(const struct thing *thing);
/* Dispatches until the object is destroyed, which nobody but the port keeps alive. */
void thing_wait_gone(struct thing *thing, struct iocp_port *port);
/* Closes, gives the test's reference back and waits as above. */
void thing_end(struct thing *thing, struct iocp_port *port);

/* ---- Calls: an op, and the last packet that came for it. */

struct call {
    struct iocp_op op;         /* first */
    struct iocp_packet packet; /* the last one; its buffer is not the call's */
    uint32_t answers;          /* packets so far, atomic */
    uint32_t finals;           /* of these, without IOCP_PACKET_MORE, atomic */
    struct latch *latch;       /* is added 1 at the end of each answer; may be NULL */
};

/* The op's handler is `call_answered`. */
void call_init(struct call *call);
/* What the handler of a call does; handlers of the test's own may end with it. */
void call_answered(const struct iocp_packet *packet);
uint32_t call_answers(const struct call *call);
uint32_t call_finals(const struct call *call);
/* Submits; a refusal fails the test. */
void call_submit(struct call *call, struct iocp_port *port, struct iocp_object *object);
/* Dispatches until the last answer is there, checks that it is the only last one, and returns its
 * result. */
int64_t call_wait(struct call *call, struct iocp_port *port);
/* The two together. */
int64_t call_run(struct call *call, struct iocp_port *port, struct iocp_object *object);
/* Posts on behalf of no object; a refusal fails the test. */
void call_post(struct call *call, struct iocp_port *port, uintptr_t key, int64_t result);

/* ---- Sleep: whether a thread sleeps can be seen from outside. */

/* Waits until the thread (of system_thread) sleeps, and has done so for a while, without having run
 * in between. */
void thread_wait_asleep(uint32_t thread);

/* ---- Crew: threads that dispatch a port, and are known by number. */

#define CREW_MAX 16

struct crew_member {
    struct crew *crew;
    uint32_t index;
    pthread_t thread;
    uint32_t id;
};

struct crew {
    struct iocp_port *port;
    uint32_t count;
    uint32_t stopping; /* atomic */
    struct latch begun;
    struct latch left;
    struct crew_member members[CREW_MAX];
};

/* Starts the threads one after the other: each sleeps in the port before the next one comes, so
 * that the last one is the last that went to sleep. There must be nothing to handle yet. */
void crew_start(struct crew *crew, struct iocp_port *port, uint32_t count);
/* Waits until every one of them sleeps. */
void crew_wait_asleep(struct crew *crew);
/* The number of the calling thread in its crew, CREW_MAX for a thread of none. */
uint32_t crew_index(void);
/* Makes them leave and joins them. The port stays open. */
void crew_stop(struct crew *crew);

#endif
