/* Does io_uring work here, and all of it that the library needs? Tried, not read off a version:
 * seccomp filters, containers and imitations of the kernel decide as well. */
#include "backend/buffer.h"
#include "backend/uring.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define PROBE_LIMIT_NS UINT64_C(2000000000)
#define PROBE_BUFFERS 2
#define PROBE_FEATURES                                                                             \
    (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |                    \
     IORING_FEAT_FAST_POLL | IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP)

static int probe_too_old(char *text, size_t size)
{
    struct utsname name;

    if (uname(&name) < 0)
        name.release[0] = '\0';
    snprintf(text, size, "kernel %s is too old: needs 6.0 for multishot receive", name.release);
    return IOCP_ENOTSUP;
}

/* The value of kernel.io_uring_disabled, -1 when the kernel (before 6.6) has none. */
static int probe_disabled(void)
{
    FILE *file = fopen("/proc/sys/kernel/io_uring_disabled", "re");
    int value = -1;

    if (!file)
        return -1;
    if (fscanf(file, "%d", &value) != 1)
        value = -1;
    fclose(file);
    return value;
}

static int probe_setup_failed(int os_error, char *text, size_t size)
{
    const char *hint = "";

    if (os_error == EINVAL)
        return probe_too_old(text, size);
    if (os_error == ENOSYS)
        hint = " (kernel without io_uring, or seccomp)";
    if (os_error == EPERM || os_error == EACCES) {
        int disabled = probe_disabled();
        hint = disabled == 2   ? " (kernel.io_uring_disabled = 2)"
               : disabled == 1 ? " (kernel.io_uring_disabled = 1, or seccomp)"
                               : " (seccomp or another security module)";
    }
    snprintf(text, size, "io_uring_setup: %s%s", strerror(os_error), hint);
    return iocp__probe_error(os_error);
}

/* The three system calls, and what the kernel says of itself. */
static int probe_ring(char *text, size_t size)
{
    struct iocp__ring ring;
    int result = iocp__ring_open(&ring, IORING_SETUP_SUBMIT_ALL, 8, 16);
    uint32_t features = ring.features;
    const char *call = "io_uring_enter";

    if (result < 0)
        return probe_setup_failed(-result, text, size);
    result = iocp__ring_flush(&ring);
    if (result >= 0) {
        /* A call that changes nothing. Any answer but a refusal will do. */
        call = "io_uring_register";
        result = iocp__ring_register(&ring, IORING_UNREGISTER_BUFFERS, NULL, 0);
        if (result != -EPERM && result != -EACCES && result != -ENOSYS)
            result = 0;
    }
    iocp__ring_close(&ring);
    if (result < 0) {
        snprintf(text, size, "%s: %s (seccomp)", call, strerror(-result));
        return IOCP_ENOTSUP;
    }
    return (features & PROBE_FEATURES) == PROBE_FEATURES ? 0 : probe_too_old(text, size);
}

/* Waits for one answer. NULL when none comes. */
static struct iocp_event *probe_answer(struct iocp__kernel *kernel, struct iocp__queue *done)
{
    uint64_t deadline_ns = iocp__os_now_ns() + PROBE_LIMIT_NS;

    while (!done->first && iocp__os_now_ns() < deadline_ns)
        kernel->backend->wait(kernel, deadline_ns, done);
    return iocp__queue_pop(done);
}

/* A stream gives one byte in a buffer and ends when it is canceled. Multishot receive is the newest
 * of what the library needs: with it come multishot accept (5.19), the ring of provided buffers
 * (5.19) and multishot poll (5.13). */
static int probe_stream(struct iocp__kernel *kernel, struct iocp_op *op, char *text, size_t size)
{
    struct iocp__queue done;
    struct iocp_event *event;
    int received = 0;

    iocp__queue_init(&done);
    kernel->backend->submit(kernel, op);
    event = probe_answer(kernel, &done);
    if (event && event->buffer) {
        received = event->result == 1;
        iocp_buffer_unref(event->buffer);
        kernel->backend->cancel(kernel, op);
        event = probe_answer(kernel, &done);
    }
    if (event && event->result == IOCP_ECANCELED && received)
        return 0;
    if (event && event->os_error == EINVAL)
        return probe_too_old(text, size);
    snprintf(text, size, "io_uring multishot receive: %s",
             event ? iocp_error_text(event->result) : "no answer");
    return event ? iocp__probe_error(event->os_error) : IOCP_ENOTSUP;
}

static int probe_lane(struct iocp_pool *pool, const int *pair, char *text, size_t size)
{
    struct iocp__kernel *kernel;
    struct iocp_object object;
    struct iocp_op op;
    int error;

    error = iocp__uring_create_sized(pool, PROBE_BUFFERS, 8, 16, &kernel);
    if (error < 0) {
        if (error == IOCP_ENOTSUP)
            return probe_too_old(text, size);
        snprintf(text, size, "io_uring with provided buffers: %s", iocp_error_text(error));
        return error;
    }
    memset(&object, 0, sizeof(object));
    object.handle = pair[0];
    memset(&op, 0, sizeof(op));
    iocp_op_init(&op, NULL);
    iocp_op_recv_stream(&op);
    op.owner = &object;
    kernel->backend->attach(kernel, &object);
    error = probe_stream(kernel, &op, text, size);
    kernel->backend->detach(kernel, &object);
    kernel->backend->destroy(kernel);
    return error;
}

int iocp__uring_probe(char *text, size_t size)
{
    struct iocp_pool *pool = NULL;
    int pair[2] = {-1, -1};
    int error = probe_ring(text, size);

    if (error < 0)
        return error;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0 ||
        write(pair[1], "x", 1) != 1) {
        snprintf(text, size, "io_uring could not be tried: %s", strerror(errno));
        error = iocp__probe_error(errno);
    } else {
        error = iocp_pool_create(64, PROBE_BUFFERS, &pool);
        if (error < 0)
            snprintf(text, size, "io_uring could not be tried: %s", iocp_error_text(error));
        else
            error = probe_lane(pool, pair, text, size);
    }
    iocp_pool_unref(pool);
    if (pair[0] >= 0) {
        close(pair[0]);
        close(pair[1]);
    }
    return error;
}
