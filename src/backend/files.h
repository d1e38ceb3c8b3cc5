/* Reads and writes of files for backends whose kernel has none that complete later: a few helper
 * threads, started when there is work for them.
 *
 * Threads: one of them at a time, the lane's holder, calls submit, cancel and collect. */
#ifndef IOCP_BACKEND_FILES_H
#define IOCP_BACKEND_FILES_H

#include "base/list.h"

#include <iocp/op.h>

#define IOCP__FILES_THREADS_MAX 4

struct iocp__files;

/* `bell(context)` runs on a helper thread, under no lock, when there is something to collect. No
 * thread is started yet. IOCP_ENOMEM. */
int iocp__files_create(void (*bell)(void *context), void *context, struct iocp__files **out_files);

/* Ends the threads. Every op has been collected or canceled. NULL is fine. */
void iocp__files_destroy(struct iocp__files *files);

/* Takes a READ or WRITE. Errors, which leave the op the caller's: IOCP_EAGAIN, IOCP_ENOMEM when no
 * thread could be started at all. */
int iocp__files_submit(struct iocp__files *files, struct iocp_op *op);

/* Takes an op back that no thread has begun. Returns not 0 when it is the caller's to answer; 0
 * when it runs or has run, or was never here. */
int iocp__files_cancel(struct iocp__files *files, struct iocp_op *op);

/* Answers what has finished into `done`. */
void iocp__files_collect(struct iocp__files *files, struct iocp__queue *done);

#endif
