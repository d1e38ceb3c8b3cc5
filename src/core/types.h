/* The structs of the core, in one place: read this before port.c, lane.c and gate.c.
 *
 *   port ─┬─ lanes      sources of completions; each held by one worker at a time
 *         ├─ gate       tickets, the stack of waiting workers (gate.c); or the kernel's own gate,
 *         │             and who waits in it (gate_kernel.c)
 *         ├─ timers     a heap and a wheel
 *         ├─ workers    a record per thread that ever waited here
 *         └─ watch      finds workers that do not come back
 *
 * Locks, in the order in which they may be taken: gate or timers → lane. No system call, no
 * handler and no destructor runs under any of them. */
#ifndef IOCP_CORE_TYPES_H
#define IOCP_CORE_TYPES_H

#include "backend/backend.h"
#include "base/list.h"
#include "os/os.h"

#include <iocp/port.h>

/* Lanes and so tickets beyond this make no program faster that a port can serve. */
#define IOCP__LANES_MAX 64
#define IOCP__DISPATCH_MAX 256

enum iocp__object_state {
    IOCP__OBJECT_REGISTERED = 1,
    IOCP__OBJECT_FILE = 2,    /* its reads and writes have an offset and no direction */
    IOCP__OBJECT_CLOSING = 4, /* iocp_object_close was called */
    IOCP__OBJECT_LISTED = 8,  /* in its lane's list of changes */
    IOCP__OBJECT_CLOSED = 16  /* the handle is closed, the port has forgotten it */
};

/* ---- Lane. Words of the lock: everything down to `sleeping`; the holder's alone: the rest. */
struct iocp__lane {
    struct iocp__lock lock;
    uint32_t sleeping;           /* the holder is in the kernel's wait, or about to enter it, and
                                    has seen an empty inbox: ring the bell after adding to it */
    struct iocp__queue inbox;    /* submitted ops for the holder */
    struct iocp_op *cancels;     /* ops whose end was asked for, by cancel_next */
    struct iocp_object *changes; /* objects to attach or close, by change_next, newest first */
    struct iocp__queue ready;    /* packets that nobody took yet */
    uint64_t submits;
    uint64_t packets;
    uint64_t posts;
    uint64_t cancel_count;

    uint32_t ready_count; /* = ready.count, atomic, to look without the lock */
    uint32_t owed;        /* atomic: a worker put the bell off until its batch is over */
    uint32_t hot;     /* atomic: its packets take long, or its holder got no ticket for them: others
                             may take them */
    uint32_t objects; /* atomic: attached or about to be */
    uint32_t due;     /* atomic, gate_kernel.c: it is to be served; who fails to claim it relies on
                         its holder, who looks here again */

    struct iocp__worker *holder;  /* changed under the gate's lock, atomic; NULL: free */
    struct iocp__worker *watcher; /* gate's lock: sleeps with a watch on this free lane */

    uint32_t index;
    struct iocp_port *port;
    struct iocp__kernel *kernel;
    struct iocp_pool *pool;
    struct iocp_object *first_object;
    struct iocp_object *released; /* closed objects whose reference is to be given back */
    uint64_t waits;               /* atomic, the holder's to add to */
    uint64_t landed;              /* the same */
};

/* ---- Worker: a thread as one port sees it. */
enum iocp__phase {
    IOCP__PHASE_OUT = 0, /* not in the port: no ticket, no lane, not waiting */
    IOCP__PHASE_INSIDE,  /* in wait or dispatch, looking for packets or asleep */
    IOCP__PHASE_BUSY,    /* with packets in the user's hands; ticket and lane may be taken away by
                            whoever turns BUSY into SEIZED first */
    IOCP__PHASE_SEIZED /* the same, but the lane is gone; under the gate's lock the ticket may go */
};

struct iocp__worker {
    uint32_t phase; /* atomic */
    uint32_t depth; /* nesting of iocp_blocking_begin; the thread's */
    uint64_t
        sequence; /* atomic: grows with each packet handled and each wait: the watch compares */
    struct iocp__lane *lane; /* the thread's while INSIDE, else under the gate's lock */
    struct iocp__lane *home; /* the last one, which it may have lost; the thread's */
    uint32_t ticket;         /* gate's lock when SEIZED, else the thread's */
    uint32_t dispatching;    /* the thread is in dispatch */
    uint32_t eager;          /* the last look into the kernel found something at once */
    uint32_t on_duty;        /* it was given the duty with its last sleep */
    uint32_t owes;           /* some lane's bell was put off */
    uint32_t unserved;       /* packets taken since the last look into the kernel */
    uint32_t handler_ns;     /* what a packet takes, smoothed */

    uint32_t waiting;                /* gate's lock: on the stack */
    uint32_t granted;                /* gate's lock: its waker took the ticket for it, */
    struct iocp__lane *granted_lane; /* gate's lock: and this lane; NULL: none */
    struct iocp__worker *above;      /* gate's lock: the stack */
    struct iocp__worker *below;
    struct iocp__lane *wait_lane; /* gate's lock: asleep in this lane's kernel wait; NULL: parked */
    uint64_t wait_deadline_ns;    /* gate's lock: of the sleep */
    struct iocp__parker parker;

    struct iocp_port *port;           /* registry lock; NULL: the port is gone */
    struct iocp__worker *next;        /* of the port; gate's lock */
    struct iocp__worker *thread_next; /* of the thread */
    uint32_t thread_gone; /* registry lock, atomic to read: free to be another thread's */

    /* gate_kernel.c alone. */
    uint64_t wait_epoch; /* gate's lock: a wake after this one ends the wait */
    uint32_t stale;      /* gate's lock: waits, and is to return without packets */
    uint32_t turn;       /* the thread's: the lane that it looks at first */

    struct iocp__thread_view view; /* of the thread; fixed while it lives */

    /* Notes of whoever looks after the workers, watch.c: */
    uint64_t watch_sequence;  /* with this packet */
    uint64_t watch_since_ns;  /* it has been out since then, */
    uint64_t watch_look_ns;   /* and at the last look */
    uint64_t watch_cpu_ns;    /* it had used so much */
    uint64_t watch_unseen_ns; /* it has stood still, its state unreadable, since then; 0: not so */
};

/* ---- Gate. All under its lock, but where atomic is said. */
struct iocp__gate {
    struct iocp__lock lock;
    uint32_t limit;   /* the concurrency value */
    uint32_t running; /* tickets out; atomic to read */
    uint32_t running_max;
    uint32_t sleepers;            /* workers on the stack; atomic to read */
    struct iocp__worker *top;     /* began to wait last: is woken first */
    struct iocp__worker *duty;    /* sleeps no longer than to the next timer */
    uint32_t stale;               /* gate_kernel.c: workers whose `stale` is set; atomic to read */
    struct iocp__worker *passing; /* gate_kernel.c: parked until `stale` is 0, by `below` */
    uint64_t wakes;
    uint64_t bells;
    uint64_t parks;
    uint64_t declared;
    uint64_t detected;
    uint64_t seized;
};

/* ---- Timers: a heap of those that end soon, a wheel of lists for the rest (timer.c). All under
 * the lock, but where atomic is said. */
#define IOCP__TIMER_LEVELS 8
#define IOCP__TIMER_SLOTS 64 /* of a level: a bit of `filled` each */

struct iocp__timer_slot {
    struct iocp_op *first; /* by u.timer.sibling and back */
    uint64_t earliest_ns;  /* none of them ends before */
};

struct iocp__timers {
    struct iocp__lock lock;
    uint32_t pouring;     /* 1 + the index of the slot that is being emptied; 0: none */
    struct iocp_op *root; /* of the heap */
    uint64_t base;        /* the tick up to which timers are in the heap */
    uint64_t added;
    uint64_t removed;
    uint64_t first_ns; /* atomic: no timer ends before; UINT64_MAX without any */
    uint64_t filled[IOCP__TIMER_LEVELS];
    struct iocp__timer_slot slots[IOCP__TIMER_LEVELS * IOCP__TIMER_SLOTS];
};

/* ---- Watch: a thread that looks after workers while any of them runs; they help it. */
struct iocp__watch {
    struct iocp__parker parker;
    struct iocp__thread thread;
    uint32_t started;      /* gate's lock */
    uint32_t armed;        /* atomic: it ticks; 0: it sleeps until armed */
    uint32_t stop;         /* atomic */
    uint32_t looking;      /* atomic: somebody looks at the workers */
    uint64_t next_look_ns; /* atomic: a worker does not look again before */
    uint64_t keen_ns;      /* atomic: until then the watch ticks more often */
    uint32_t missing;      /* atomic: its thread could not be started */
};

struct iocp_port {
    uint32_t refs;
    uint32_t closed;     /* atomic */
    uint64_t wake_epoch; /* atomic: grows with each iocp_port_wake */
    struct iocp_port_config config;
    const struct iocp__backend *backend;
    uint32_t shared; /* IOCP__CAP_SHARED: the kernel is the gate, see gate_kernel.c */
    char reason[160];

    struct iocp__lane *lanes[IOCP__LANES_MAX]; /* [0] is the shared one: posts, timers, refusals */
    uint32_t lane_count;                       /* atomic; grows only */
    uint32_t lanes_reserved;                   /* gate's lock */
    uint32_t lanes_max;
    uint32_t free_lanes; /* atomic: lanes with objects that nobody holds */

    struct iocp__gate gate;
    struct iocp__timers timers;
    struct iocp__watch watch;
    struct iocp__worker *workers; /* gate's lock */
    uint32_t worker_count;

    uint64_t resubmits; /* atomic */
    uint64_t starved;   /* atomic */
};

#endif
