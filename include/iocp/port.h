/* The completion port (the notes' IocpCore): operations go in, finished ones come out, to any
 * thread.
 *
 * Any number of threads may call anything here at any time; handlers run only inside
 * `iocp_port_dispatch`. A thread becomes a worker of the port by calling wait or dispatch; at most
 * `concurrency` workers are let out with packets at a time, a further one only when one of them
 * comes back or blocks. */
#ifndef IOCP_PORT_H
#define IOCP_PORT_H

#include <iocp/abi.h>
#include <iocp/object.h>
#include <iocp/op.h>

IOCP_BEGIN

struct iocp_port;

#define IOCP_WAIT_FOREVER UINT64_MAX

enum iocp_backend {
    IOCP_BACKEND_AUTO = 0, /* the best that works; the environment's IOCP_BACKEND decides first */
    IOCP_BACKEND_URING,
    IOCP_BACKEND_EPOLL,
    IOCP_BACKEND_WINDOWS
};

struct iocp_port_config {
    uint32_t concurrency;  /* workers that run at a time; 0: CPUs that this process may use */
    uint32_t backend;      /* enum iocp_backend; one that does not work makes `create` fail */
    uint32_t lanes;        /* rings or epoll sets at most (Windows: queues before its port); 0: the
                               concurrency. Fewer share more */
    uint32_t workers_max;  /* threads that may be in wait or dispatch; more get IOCP_EFULL */
    uint32_t buffer_size;  /* bytes of a recv-stream's buffer */
    uint32_t buffer_count; /* most buffers per lane, a power of two up to 32,768 */
    uint32_t watch_ns;     /* how long a handler may keep its lane to itself, if it blocks a 16th of
                               it when others are busy; 0: for ever, and undeclared blocking is not
                               detected */
};

/* Fills in the defaults: all CPUs, AUTO, 1,024 workers, 65 KiB, 256 buffers, 2 ms. */
IOCP_API void iocp_port_config_init(struct iocp_port_config *config);

/* Makes a port with one reference. `config` NULL means the defaults. Errors: IOCP_EINVAL (a value
 * out of range, an unknown IOCP_BACKEND), IOCP_ENOTSUP (the backend asked for does not work here:
 * `iocp_backend_probe` says why), IOCP_ENOMEM, IOCP_EMFILE. */
IOCP_API int iocp_port_create(const struct iocp_port_config *config, struct iocp_port **out_port);

IOCP_API struct iocp_port *iocp_port_ref(struct iocp_port *port);
/* Gives a reference back; NULL is fine; returns NULL. The last one of the user's closes the port,
 * cancels what is pending, waits for the kernel's answers and drops them without running handlers:
 * call it when no thread is in wait or dispatch (asserted). */
IOCP_API struct iocp_port *iocp_port_unref(struct iocp_port *port);

/* Associates a handle with the port. The object **takes** the handle (closed by
 * `iocp_object_close`) and the port holds one reference on the object until then. The key comes
 * back in each packet. The handle is made non-blocking. On Windows it belongs to this port for the
 * rest of its life. Errors, which leave the handle the caller's: IOCP_EINVAL,
 * IOCP_EBUSY (the object is registered already; Windows: the handle has a port already),
 * IOCP_EBADHANDLE (Windows: also one that was not opened for overlapped operations),
 * IOCP_ECLOSED. */
IOCP_API int iocp_port_register(struct iocp_port *port, struct iocp_object *object,
                                iocp_handle handle, uintptr_t key);

/* Starts a prepared op on a registered object; its outcome, a refusal by the system as well, comes
 * as a packet. For a timer `object` is its owner or NULL, registered or not. Returns 0, or for
 * misuse (no packet then): IOCP_EINVAL (not prepared, wrong object; Windows: a piece of memory of 4
 * GiB or more), IOCP_EBUSY (the op is
 * pending), IOCP_ECLOSED (the port is closed). */
IOCP_API int iocp_port_submit(struct iocp_port *port, struct iocp_object *object,
                              struct iocp_op *op);

/* Asks for the op to end early. It is answered all the same, with what happened first: its real
 * result or IOCP_ECANCELED. Returns 0 when the request went out, IOCP_ENOTFOUND when the op is not
 * pending. The caller keeps the op alive, as by a reference on its owner. */
IOCP_API int iocp_port_cancel(struct iocp_port *port, struct iocp_op *op);

/* Queues a packet of one's own: prepare the op with `iocp_op_post`. `object` is its owner or NULL.
 * Never allocates; wakes one waiter at most. Errors: as for submit. */
IOCP_API int iocp_port_post(struct iocp_port *port, struct iocp_object *object, struct iocp_op *op);

/* Takes up to `count` packets, first in first out, waiting up to `timeout_ns` (0: not at all;
 * IOCP_WAIT_FOREVER) for the first. Returns their number, or IOCP_ETIMEDOUT, IOCP_ECLOSED,
 * IOCP_EWOKEN (`iocp_port_wake`), IOCP_EINVAL, IOCP_ENOMEM, IOCP_EFULL. The caller counts as
 * running until its next wait. An op whose last packet was taken is its owner's again; give each
 * packet back with `iocp_packet_release`. */
IOCP_API int iocp_port_wait(struct iocp_port *port, struct iocp_packet *packets, uint32_t count,
                            uint64_t timeout_ns);

/* Gives the references of a packet back: on its object and its buffer. */
IOCP_API void iocp_packet_release(struct iocp_packet *packet);

/* Waits as above and runs the handlers of what came: about 256 at most, more when other workers
 * hand packets of a serial object over to it meanwhile. Returns how many ran (1 or more), or an
 * error as above. A handler may call anything but wait and dispatch of the same port (IOCP_EBUSY).
 */
IOCP_API int iocp_port_dispatch(struct iocp_port *port, uint64_t timeout_ns);

/* Makes every thread that is in wait or dispatch now return IOCP_EWOKEN, unless it has packets. */
IOCP_API void iocp_port_wake(struct iocp_port *port);

/* Ends the port: waiters return IOCP_ECLOSED, now and from now on; packets that nobody took are
 * dropped at the last unref. Idempotent; any thread, also a handler. */
IOCP_API void iocp_port_close(struct iocp_port *port);

/* Declares that the calling handler blocks from here on (a database call, a lock, a file): another
 * worker takes its place at once. Every begin needs an end; they nest. Outside a handler both do
 * nothing. After `end` more than `concurrency` handlers may run for a moment. On Windows the kernel
 * sees for itself when a handler blocks; there this lets out what the handler has put off. */
IOCP_API void iocp_blocking_begin(void);
IOCP_API void iocp_blocking_end(void);

/* "uring", "epoll", "windows". Static. */
IOCP_API const char *iocp_port_backend(const struct iocp_port *port);
/* Why the port does not stand on a better backend, in one line; "" when it does. Lives as long as
 * the port. */
IOCP_API const char *iocp_port_backend_reason(const struct iocp_port *port);
IOCP_API uint32_t iocp_port_concurrency(const struct iocp_port *port);

/* Tries a backend out: makes it, runs what the library needs, and takes it down again. Returns 0;
 * or IOCP_ENOTSUP, or IOCP_ENOMEM or IOCP_EMFILE when for want of these it could not be tried, with
 * the reason, cut to `size` bytes, in `text` (may be NULL). */
IOCP_API int iocp_backend_probe(enum iocp_backend backend, char *text, size_t size);

/* The time that deadlines are counted in: monotonic, in nanoseconds. */
IOCP_API uint64_t iocp_now_ns(void);

/* Counters since `create`, each exact, read one after the other. */
struct iocp_port_stats {
    uint64_t packets; /* packets that left the port */
    uint64_t landed;  /* sends of sessions that were answered without a packet */
    uint64_t submits; /* ops submitted, posts and timers included */
    uint64_t posts;
    uint64_t cancels;     /* cancel requests that found their op pending */
    uint64_t waits;       /* calls that slept or polled in the kernel */
    uint64_t wakes;       /* waiters woken by a post, a submit or a hand-over */
    uint64_t bells;       /* of these, through the kernel wait of a lane */
    uint64_t parks;       /* times a worker parked for want of a lane */
    uint64_t declared;    /* times a handler declared that it blocks */
    uint64_t detected;    /* workers found blocked: their ticket went on; 0 on Windows */
    uint64_t seized;      /* lanes taken from a worker that was not back in time; 0 on Windows */
    uint64_t resubmits;   /* ops started again: their thread had exited, or they missed an end */
    uint64_t starved;     /* streams that found no free buffer and went on later */
    uint64_t buffers;     /* receive buffers that there are now, in use or kept for it */
    uint64_t objects;     /* registered now */
    uint32_t lanes;       /* now */
    uint32_t workers;     /* threads known now */
    uint32_t running;     /* of these, out with packets and a ticket; on Windows blocked ones too */
    uint32_t running_max; /* highest value of `running` so far */
};

IOCP_API void iocp_port_stats(struct iocp_port *port, struct iocp_port_stats *out_stats);

IOCP_END

#endif
