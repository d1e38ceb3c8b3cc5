/* The worker pool (the notes' thread manager): N threads that dispatch one port.
 *
 * Threads: any thread may call anything; `join` may not be called by a worker of the pool. */
#ifndef IOCP_WORKERS_H
#define IOCP_WORKERS_H

#include <iocp/port.h>

IOCP_BEGIN

struct iocp_workers;

struct iocp_workers_config {
    uint32_t count;   /* threads; 0: the concurrency of the port */
    const char *name; /* shown by ps and debuggers as "name-3"; 10 bytes at most, NULL: "iocp" */
    /* Run on each worker, before its first and after its last handler; may be NULL. */
    void (*started)(void *context, uint32_t index);
    void (*stopped)(void *context, uint32_t index);
    void *context;
};

/* Starts the threads; they hold a reference on the port. `config` NULL means the defaults.
 * Errors: IOCP_EINVAL, IOCP_ENOMEM, IOCP_EAGAIN (the system gives no more threads); none is left
 * running then. */
IOCP_API int iocp_workers_launch(struct iocp_port *port, const struct iocp_workers_config *config,
                                 struct iocp_workers **out_workers);

/* Asks the threads to leave after the handler that they are in. Returns at once. Idempotent; also
 * from a handler. */
IOCP_API void iocp_workers_stop(struct iocp_workers *workers);

/* Waits until all have left (after `stop`, or the port's close), and frees the pool. NULL is fine.
 * From a worker of the pool: IOCP_EBUSY, and nothing is freed. */
IOCP_API int iocp_workers_join(struct iocp_workers *workers);

IOCP_API uint32_t iocp_workers_count(const struct iocp_workers *workers);

IOCP_END

#endif
