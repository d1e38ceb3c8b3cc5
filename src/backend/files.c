/* Helper threads for reads and writes of files. See files.h.
 *
 * Invariants
 * 1. An op is in `waiting`, in the hands of one helper, or in `finished`, by its event, so nothing
 *    here allocates. Between submit and collect the event's result and os_error are the helper's
 *    notes, not an answer yet.
 * 2. `lock` guards the queues, the stack of idle helpers and `stop`. No system call and no bell is
 *    under it.
 * 3. A helper goes on the stack only while `waiting` is empty. It leaves the stack by the hand of
 *    who then releases its parker, once.
 * 4. `thread_count` is the holder's alone.
 *
 * An op: waiting [submit] → running [files_run] → finished [files_run] → answered [collect]
 *        waiting → the caller's [cancel]
 * A helper: running → idle [files_next] → running [submit] | gone [destroy] */
#include "backend/files.h"

#include "backend/backend.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"
#include "os/os.h"

#include <errno.h>
#include <unistd.h>

struct files_helper {
    struct iocp__files *files;
    struct files_helper *below; /* the stack of idle ones */
    struct iocp__parker parker;
    struct iocp__thread thread;
};

struct iocp__files {
    struct iocp__lock lock;
    uint32_t stop;
    uint32_t any; /* finished.count, atomic, to look without the lock */
    uint32_t thread_count;
    struct iocp__queue waiting;
    struct iocp__queue finished;
    struct files_helper *idle;
    void (*bell)(void *context);
    void *context;
    struct files_helper helpers[IOCP__FILES_THREADS_MAX];
};

/* ---- On a helper. */

static ssize_t files_step(const struct iocp_op *op, size_t done)
{
    int descriptor = (int)op->owner->handle;
    char *data = (char *)op->u.file.one.data + done;
    size_t size = op->u.file.one.size - done;
    off_t offset = (off_t)(op->u.file.offset + done);

    return op->kind == IOCP_OP_READ ? pread(descriptor, data, size, offset)
                                    : pwrite(descriptor, data, size, offset);
}

/* Does all of it, and notes the outcome in the event. */
static void files_perform(struct iocp_op *op)
{
    size_t size = op->u.file.one.size;
    size_t done = 0;
    int os_error = 0;

    do {
        ssize_t step = files_step(op, done);
        if (step < 0 && errno == EINTR)
            continue;
        if (step < 0)
            os_error = errno;
        if (step <= 0)
            break;
        done += (size_t)step;
    } while (done < size);

    op->event.result = (int64_t)done;
    op->event.os_error = 0;
    if (done == size)
        return;
    if (op->kind == IOCP_OP_WRITE)
        op->event.os_error = os_error ? os_error : EIO; /* whole or an error */
    else if (done == 0)
        op->event.os_error = os_error;
    if (op->kind == IOCP_OP_READ && done == 0 && !os_error)
        op->event.result = IOCP_EEOF;
}

/* Waits for work. NULL: the end. */
static struct iocp_event *files_next(struct iocp__files *files, struct files_helper *helper)
{
    for (;;) {
        struct iocp_event *event;
        uint32_t stop;

        iocp__lock_acquire(&files->lock);
        event = iocp__queue_pop(&files->waiting);
        stop = files->stop;
        if (!event && !stop) {
            helper->below = files->idle;
            files->idle = helper;
        }
        iocp__lock_release(&files->lock);
        if (event || stop)
            return event;
        iocp__parker_wait(&helper->parker, UINT64_MAX);
    }
}

static void files_run(void *context)
{
    struct files_helper *helper = context;
    struct iocp__files *files = helper->files;
    struct iocp_event *event;

    while ((event = files_next(files, helper))) {
        uint32_t count;

        files_perform(iocp__container(event, struct iocp_op, event));
        iocp__lock_acquire(&files->lock);
        iocp__queue_push(&files->finished, event);
        count = files->finished.count;
        /* Relaxed: the bell, or the lock, orders it for the holder. */
        iocp__store_relaxed(&files->any, count);
        iocp__lock_release(&files->lock);
        /* Whoever made it more than nothing has rung, or is about to. */
        if (count == 1)
            files->bell(files->context);
    }
}

/* ---- The holder. */

int iocp__files_create(void (*bell)(void *context), void *context, struct iocp__files **out_files)
{
    struct iocp__files *files = iocp__allocate_zero(sizeof(*files));

    if (!files)
        return IOCP_ENOMEM;
    iocp__queue_init(&files->waiting);
    iocp__queue_init(&files->finished);
    files->bell = bell;
    files->context = context;
    *out_files = files;
    return 0;
}

void iocp__files_destroy(struct iocp__files *files)
{
    struct files_helper *helper;

    if (!files)
        return;
    iocp__lock_acquire(&files->lock);
    iocp__assert(!files->waiting.first && !files->finished.first);
    files->stop = 1;
    helper = files->idle;
    files->idle = NULL;
    iocp__lock_release(&files->lock);
    while (helper) {
        struct files_helper *below = helper->below;
        iocp__parker_release(&helper->parker);
        helper = below;
    }
    for (uint32_t i = 0; i < files->thread_count; i++)
        iocp__thread_join(&files->helpers[i].thread);
    iocp__release(files, sizeof(*files));
}

/* Starts one more helper. */
static int files_grow(struct iocp__files *files)
{
    struct files_helper *helper = &files->helpers[files->thread_count];
    int error;

    helper->files = files;
    error = iocp__thread_start(&helper->thread, "iocp-file", files_run, helper);
    if (error < 0)
        return error;
    files->thread_count++;
    return 0;
}

int iocp__files_submit(struct iocp__files *files, struct iocp_op *op)
{
    struct files_helper *helper;
    int error = 0;

    iocp__debug(op->kind == IOCP_OP_READ || op->kind == IOCP_OP_WRITE);
    iocp__lock_acquire(&files->lock);
    iocp__queue_push(&files->waiting, &op->event);
    helper = files->idle;
    if (helper)
        files->idle = helper->below;
    iocp__lock_release(&files->lock);
    if (helper)
        iocp__parker_release(&helper->parker);
    else if (files->thread_count < IOCP__FILES_THREADS_MAX)
        error = files_grow(files);
    /* With a helper at all, the op's turn comes. */
    if (error == 0 || files->thread_count > 0)
        return 0;
    iocp__files_cancel(files, op);
    return error;
}

int iocp__files_cancel(struct iocp__files *files, struct iocp_op *op)
{
    struct iocp__queue kept;
    struct iocp_event *event;
    int found = 0;

    iocp__queue_init(&kept);
    iocp__lock_acquire(&files->lock);
    while ((event = iocp__queue_pop(&files->waiting))) {
        if (event == &op->event)
            found = 1;
        else
            iocp__queue_push(&kept, event);
    }
    files->waiting = kept;
    iocp__lock_release(&files->lock);
    return found;
}

void iocp__files_collect(struct iocp__files *files, struct iocp__queue *done)
{
    struct iocp__queue finished;
    struct iocp_event *event;

    /* Relaxed: a look; the bell comes after each change. */
    if (iocp__load_relaxed(&files->any) == 0)
        return;
    iocp__queue_init(&finished);
    iocp__lock_acquire(&files->lock);
    iocp__queue_join(&finished, &files->finished);
    iocp__store_relaxed(&files->any, 0);
    iocp__lock_release(&files->lock);
    while ((event = iocp__queue_pop(&finished))) {
        struct iocp_op *op = iocp__container(event, struct iocp_op, event);
        if (event->os_error)
            iocp__op_failed(done, op, event->os_error);
        else
            iocp__op_done(done, op, event->result, 0);
    }
}
