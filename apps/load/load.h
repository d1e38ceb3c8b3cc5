/* The load: from the first connection to the last answer.
 *
 *   opening → gathering (room) → warming → measuring → draining → ended
 *   opening, gathering, warming, measuring → draining [stop, all messages sent] → ended
 *
 * The load is a serial object of the port: what moves it on is its handlers, which never overlap.
 * Its other functions may be called by the handlers of any connection. */
#ifndef APPS_LOAD_LOAD_H
#define APPS_LOAD_LOAD_H

#include "connection.h"
#include "content.h"
#include "options.h"
#include "process.h"
#include "protocol.h"
#include "tally.h"

#include <stdatomic.h>

enum load_phase {
    LOAD_OPENING = 1,
    LOAD_GATHERING,
    LOAD_WARMING,
    LOAD_MEASURING,
    LOAD_DRAINING,
    LOAD_ENDED
};

struct load {
    struct iocp_object object; /* first */
    const struct load_options *options;
    const struct protocol *protocol;
    struct iocp_port *port; /* NULL at the end */
    const char *backend;    /* its name */
    struct iocp_workers *workers;
    struct connection *connections;
    struct tally *tallies; /* one per worker */
    struct content content;
    unsigned char *same[2]; /* messages that all send, without and with the slow tag; or NULL */
    uint32_t frame;         /* bytes sent for one message */
    uint32_t batch;         /* most messages in one send */

    struct iocp_op timer; /* the end of warming, measuring, draining */
    struct iocp_op open_timer;
    struct iocp_op probe_timer;
    struct iocp_op all_open;
    struct iocp_op all_here;
    struct iocp_op stop;
    struct iocp_op done;
    bool deadline_set; /* draining: `timer` is for its end */
    uint32_t probes;
    uint32_t probed_most; /* of all of them: connections that one has reached */

    uint64_t started_ns;
    struct process_figures server_begin;
    struct process_figures server_end;

    atomic_uint phase;             /* enum load_phase; written by the load's handlers */
    atomic_bool stopping;          /* `stop` has been posted */
    atomic_uint next;              /* the connection to be opened next */
    atomic_bool late;              /* the time to open is over */
    atomic_uint opening;           /* connections that are neither ready nor failed */
    atomic_uint present;           /* ready, and not broken */
    atomic_uint talkers;           /* connections that talk, and are not finished */
    atomic_uint unfinished;        /* connections that have something left to do */
    atomic_uint probe;             /* number of the probe under way */
    atomic_bool probe_wanted;      /* nobody has sent it yet */
    atomic_uint probed;            /* connections that it has reached */
    atomic_uint_fast64_t sent;     /* messages taken, and LOAD_CLOSED */
    atomic_uint_fast64_t begin_ns; /* of the measured window: UINT64_MAX before it */
    atomic_uint_fast64_t end_ns;
    uint64_t talk_ns; /* when message 0 is due, with --rate */
};

/* Makes the port and all memory. Ends the process by start_fail when that cannot be. */
void load_init(struct load *load, const struct load_options *options);

/* Begins to open connections, and launches the workers. `system_wake` tells when it has ended. */
void load_start(struct load *load);

/* Asks for an early end. Any thread; again is fine. */
void load_stop(struct load *load);

/* Main thread, when it has ended: no handler runs any more; counts what is missing. */
void load_finish(struct load *load);
void load_free(struct load *load);

/* ---- For connections. */

/* How many of `count` messages may be sent: fewer at the end, 0 after it. */
uint32_t load_take(struct load *load, uint32_t count);

/* No message is to be sent any more. */
bool load_is_closed(const struct load *load);
/* How many messages were sent in all; does not change once the load is closed. */
uint64_t load_sent(const struct load *load);

void load_opened(struct load *load); /* one connection is ready or has failed */
/* One connection, which talked or listened, has nothing left to do. */
void load_finished(struct load *load, bool talked);
void load_probed(struct load *load); /* the probe has reached one more connection */
/* Has the next connection opened, unless all are or the load is closed. */
void load_open_next(struct load *load);
/* Who is not open by now has failed. */
bool load_is_late(const struct load *load);

/* The time when message `number` of a connection is due, with --rate. */
uint64_t load_due_ns(const struct load *load, uint32_t index, uint64_t number);
/* How many messages of a connection are due by `now_ns`. */
uint64_t load_due_count(const struct load *load, uint32_t index, uint64_t now_ns);

/* Whether a message that was due then belongs to what is measured. */
bool load_measures(const struct load *load, uint64_t due_ns);

#endif
