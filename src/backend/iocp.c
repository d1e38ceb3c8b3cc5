/* Windows' port as a backend: the lanes on it, the packets that come out of it, the bell. What
 * operations do is in iocp_op.c.
 *
 * Invariants
 * 1. Packets with an OVERLAPPED are requests of ours; those without are bells, and their key is the
 *    lane that they were rung for.
 * 2. A request is in the kernel, in `arrived`, in `starved` or in the hands of the lane's holder,
 *    and has an op; or it is free.
 * 3. rung is 1 exactly while a bell of the lane is in the kernel's queue or in the hands of fetch.
 * 4. A request outlives its operation: it is freed when its packet has been looked at. So an old
 *    packet never reaches a new operation, whatever the system does with the values of handles.
 *
 * A request: free → in the kernel [iocp_op.c] → arrived [fetch] → complete [wait] → free, or in the
 * kernel again, or starved */
#include "backend/iocp.h"

#include "backend/buffer.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"

#include <stdio.h>
#include <string.h>
#include <winternl.h>

#define WINDOWS_ENTRIES 64 /* packets fetched at once */
#define WINDOWS_CHUNK 64   /* requests made at once */

/* ---- Requests. */

void iocp__requests_push(struct iocp__requests *requests, struct iocp__request *request)
{
    request->overlapped.Pointer = NULL;
    if (requests->last)
        requests->last->overlapped.Pointer = request;
    else
        requests->first = request;
    requests->last = request;
}

struct iocp__request *iocp__requests_pop(struct iocp__requests *requests)
{
    struct iocp__request *request = requests->first;

    if (!request)
        return NULL;
    requests->first = request->overlapped.Pointer;
    if (!requests->first)
        requests->last = NULL;
    return request;
}

static int windows_widen_chunks(struct iocp__windows *lane)
{
    uint32_t room = lane->chunk_room ? lane->chunk_room * 2 : 8;
    struct iocp__request **chunks;

    if (lane->chunk_count < lane->chunk_room)
        return 0;
    chunks = iocp__allocate(room * sizeof(*chunks));
    if (!chunks)
        return IOCP_ENOMEM;
    if (lane->chunk_count)
        memcpy(chunks, lane->chunks, lane->chunk_count * sizeof(*chunks));
    iocp__release(lane->chunks, lane->chunk_room * sizeof(*chunks));
    lane->chunks = chunks;
    lane->chunk_room = room;
    return 0;
}

static int windows_add_chunk(struct iocp__windows *lane)
{
    struct iocp__request *chunk;

    if (windows_widen_chunks(lane) < 0)
        return IOCP_ENOMEM;
    chunk = iocp__allocate_zero(WINDOWS_CHUNK * sizeof(*chunk));
    if (!chunk)
        return IOCP_ENOMEM;
    for (uint32_t i = WINDOWS_CHUNK; i-- > 0;) {
        chunk[i].number = lane->chunk_count * WINDOWS_CHUNK + i + 1;
        chunk[i].overlapped.Pointer = lane->free;
        lane->free = &chunk[i];
    }
    lane->chunks[lane->chunk_count++] = chunk;
    return 0;
}

struct iocp__request *iocp__windows_request(struct iocp__windows *lane, struct iocp_op *op)
{
    struct iocp__request *request;
    uint32_t number;

    if (!lane->free && windows_add_chunk(lane) < 0) {
        iocp__op_done(&lane->finished, op, IOCP_ENOMEM, 0);
        return NULL;
    }
    request = lane->free;
    lane->free = request->overlapped.Pointer;
    number = request->number;
    memset(request, 0, sizeof(*request));
    request->number = number;
    request->op = op;
    op->backend_data = number;
    return request;
}

struct iocp__request *iocp__windows_request_of(struct iocp__windows *lane, const struct iocp_op *op)
{
    uint32_t place = op->backend_data - 1;

    if (!op->backend_data)
        return NULL;
    iocp__assert(place / WINDOWS_CHUNK < lane->chunk_count);
    return &lane->chunks[place / WINDOWS_CHUNK][place % WINDOWS_CHUNK];
}

void iocp__windows_request_free(struct iocp__windows *lane, struct iocp__request *request)
{
    iocp__debug(request->number && request->op->backend_data == request->number);
    request->op->backend_data = 0;
    request->op = NULL;
    request->overlapped.Pointer = lane->free;
    lane->free = request;
}

int iocp__windows_requeue(struct iocp__windows *lane, struct iocp__request *request)
{
    memset(&request->overlapped, 0, sizeof(request->overlapped)); /* Internal 0: success */
    return PostQueuedCompletionStatus(lane->first->port, 0, 0, &request->overlapped) != 0;
}

/* ---- The bell. */

static void windows_bell(struct iocp__kernel *kernel)
{
    struct iocp__windows *lane = iocp__windows_of(kernel);

    /* In one order with what was published before: who fetches the bell sees it. */
    if (iocp__exchange_seq(&lane->rung, 1))
        return;
    /* It fails only when the kernel has no memory for a packet. Then the next ring tries again: the
     * watch of the port rings while workers are out, and every completion wakes a thread. */
    if (!PostQueuedCompletionStatus(lane->first->port, 0, (ULONG_PTR)lane, NULL))
        iocp__exchange_seq(&lane->rung, 0);
}

/* A buffer came back; any thread. */
static void windows_refill(void *context)
{
    struct iocp__windows *lane = context;

    /* Release: with the bell behind it the holder that hears the one sees the other. */
    iocp__store_release(&lane->refilled, 1);
    windows_bell(&lane->base);
}

/* ---- Fetching. */

/* Milliseconds until the deadline, rounded up so that no wait ends before it. */
static DWORD windows_wait_ms(uint64_t deadline_ns)
{
    uint64_t now_ns;
    uint64_t left_ms;

    if (deadline_ns == 0)
        return 0;
    if (deadline_ns == UINT64_MAX)
        return INFINITE;
    now_ns = iocp__os_now_ns();
    if (deadline_ns <= now_ns)
        return 0;
    left_ms = (deadline_ns - now_ns + 999999) / 1000000;
    return left_ms < INFINITE ? (DWORD)left_ms : INFINITE - 1;
}

static void windows_arrive(struct iocp__windows *lane, struct iocp__request *request)
{
    iocp__lock_acquire(&lane->lock);
    iocp__requests_push(&lane->arrived, request);
    /* Relaxed: a look without the lock; who relies on it came by fetch. */
    iocp__store_relaxed(&lane->any, 1);
    iocp__lock_release(&lane->lock);
}

static uint64_t windows_fetch(struct iocp__kernel *kernel, uint64_t deadline_ns)
{
    struct iocp__windows *first = iocp__windows_of(kernel)->first;
    OVERLAPPED_ENTRY entries[WINDOWS_ENTRIES];
    ULONG count = 0;
    uint64_t lanes = 0;

    if (!GetQueuedCompletionStatusEx(first->port, entries, WINDOWS_ENTRIES, &count,
                                     windows_wait_ms(deadline_ns), FALSE)) {
        iocp__assert(GetLastError() == WAIT_TIMEOUT);
        return 0;
    }
    for (ULONG i = 0; i < count; i++) {
        struct iocp__windows *lane;

        if (entries[i].lpOverlapped) {
            struct iocp__request *request = (void *)entries[i].lpOverlapped;
            lane = first->lanes[request->op->owner->backend >> IOCP__WINDOWS_LANE_SHIFT];
            windows_arrive(lane, request);
        } else {
            lane = (struct iocp__windows *)entries[i].lpCompletionKey;
            /* Acquire and release: what was published before the ring is seen; a ring from here on
             * is another one. */
            iocp__exchange_acq_rel(&lane->rung, 0);
        }
        lanes |= UINT64_C(1) << lane->index;
    }
    return lanes;
}

/* ---- Serving. */

static void windows_take_arrived(struct iocp__windows *lane)
{
    struct iocp__requests arrived;
    struct iocp__request *request;

    if (!iocp__load_relaxed(&lane->any))
        return;
    iocp__lock_acquire(&lane->lock);
    arrived = lane->arrived;
    lane->arrived.first = NULL;
    lane->arrived.last = NULL;
    iocp__store_relaxed(&lane->any, 0);
    iocp__lock_release(&lane->lock);
    while ((request = iocp__requests_pop(&arrived)))
        iocp__windows_complete(lane, request);
}

static void windows_wait(struct iocp__kernel *kernel, uint64_t deadline_ns,
                         struct iocp__queue *done)
{
    struct iocp__windows *lane = iocp__windows_of(kernel);

    /* Only ports without workers wait like this: the last unref, and tests of the backend. */
    if (deadline_ns && !lane->finished.first && !iocp__load_relaxed(&lane->any))
        windows_fetch(kernel, deadline_ns);
    windows_take_arrived(lane);
    /* Acquire: with `refilled` the buffer itself is seen, by way of the pool's lock as well. */
    if (iocp__load_relaxed(&lane->refilled) && iocp__exchange_acq_rel(&lane->refilled, 0))
        iocp__windows_stream_feed(lane);
    iocp__queue_join(done, &lane->finished);
}

/* ---- Objects. */

/* Not 0 when the handle was opened for overlapped operations. */
static int windows_is_overlapped(HANDLE handle)
{
    IO_STATUS_BLOCK status;
    ULONG mode = 0;
    const int file_mode_information = 16;
    const ULONG synchronous = 0x10 | 0x20; /* FILE_SYNCHRONOUS_IO_ALERT, _NONALERT */

    return NtQueryInformationFile(handle, &status, &mode, sizeof(mode),
                                  (FILE_INFORMATION_CLASS)file_mode_information) < 0 ||
           !(mode & synchronous);
}

static int windows_associate(struct iocp__kernel *kernel, iocp_handle handle)
{
    struct iocp__windows *lane = iocp__windows_of(kernel);
    DWORD error;

    if (CreateIoCompletionPort((HANDLE)handle, lane->first->port, 0, 0))
        return 0;
    /* The system says the same of a handle that is bound already and of one that cannot be. */
    error = GetLastError();
    if (error != ERROR_INVALID_PARAMETER)
        return iocp_error_from_os((int)error);
    return windows_is_overlapped((HANDLE)handle) ? IOCP_EBUSY : IOCP_EBADHANDLE;
}

/* What the handle is, and whether operations that succeed at once may do without a packet: not with
 * layered providers, whose handles are not the file system's. Datagrams keep their packets: a
 * message that was cut ends with a warning, about which systems differ. */
static void windows_attach(struct iocp__kernel *kernel, struct iocp_object *object)
{
    WSAPROTOCOL_INFOW info;
    int size = sizeof(info);
    int listens = 0;
    int listens_size = sizeof(listens);

    object->backend = iocp__windows_of(kernel)->index << IOCP__WINDOWS_LANE_SHIFT;
    object->backend_data = 0;
    if (iocp__handle_is_file(object->handle)) {
        object->backend |= IOCP__WINDOWS_FILE;
        return;
    }
    if (getsockopt((SOCKET)object->handle, SOL_SOCKET, SO_PROTOCOL_INFOW, (char *)&info, &size))
        return;
    object->backend |= IOCP__WINDOWS_SOCKET;
    if (info.iSocketType != SOCK_STREAM) {
        object->backend |= IOCP__WINDOWS_DATAGRAM;
        return;
    }
    if (info.iAddressFamily == AF_INET || info.iAddressFamily == AF_INET6)
        object->backend |= IOCP__WINDOWS_TCP;
    /* Connections that wait already are to come one by one, with other packets between them. */
    if (getsockopt((SOCKET)object->handle, SOL_SOCKET, SO_ACCEPTCONN, (char *)&listens,
                   &listens_size) == 0 &&
        listens)
        return;
    if ((info.dwServiceFlags1 & XP1_IFS_HANDLES) &&
        SetFileCompletionNotificationModes((HANDLE)object->handle,
                                           FILE_SKIP_COMPLETION_PORT_ON_SUCCESS |
                                               FILE_SKIP_SET_EVENT_ON_HANDLE))
        object->backend |= IOCP__WINDOWS_SKIPS;
}

static void windows_detach(struct iocp__kernel *kernel, struct iocp_object *object)
{
    (void)kernel;
    object->backend = 0;
}

/* ---- Making and ending. */

static int windows_function(SOCKET socket, GUID guid, void *out_function, size_t size)
{
    DWORD got = 0;

    return WSAIoctl(socket, SIO_GET_EXTENSION_FUNCTION_POINTER, &guid, sizeof(guid), out_function,
                    (DWORD)size, &got, NULL, NULL);
}

/* 0, or the system's code. */
static int32_t windows_load(struct iocp__windows_functions *functions)
{
    const GUID accept_id = WSAID_ACCEPTEX;
    const GUID connect_id = WSAID_CONNECTEX;
    iocp_handle handle;
    int32_t os_error = 0;

    if (iocp__socket_open(IOCP_FAMILY_IPV4, IOCP__SOCKET_STREAM, &handle, &os_error) < 0 &&
        iocp__socket_open(IOCP_FAMILY_IPV6, IOCP__SOCKET_STREAM, &handle, &os_error) < 0)
        return os_error;
    os_error = 0;
    if (windows_function((SOCKET)handle, accept_id, &functions->accept,
                         sizeof(functions->accept)) ||
        windows_function((SOCKET)handle, connect_id, &functions->connect,
                         sizeof(functions->connect)))
        os_error = WSAGetLastError();
    iocp__handle_close(handle);
    return os_error;
}

/* The kernel's port and the functions: the first lane's. 0, or the system's code. */
static int32_t windows_open(struct iocp__windows *lane, uint32_t concurrency)
{
    int32_t os_error = windows_load(&lane->functions);

    if (os_error)
        return os_error;
    lane->port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, concurrency);
    return lane->port ? 0 : (int32_t)GetLastError();
}

static int windows_create(const struct iocp__kernel_config *config,
                          struct iocp__kernel **out_kernel)
{
    struct iocp__windows *lane = iocp__allocate_zero(sizeof(*lane));
    int32_t os_error = 0;

    if (!lane)
        return IOCP_ENOMEM;
    lane->base.backend = &iocp__backend_windows;
    lane->base.pool = config->pool;
    lane->base.resubmits = &lane->uncounted;
    lane->base.starved = &lane->uncounted;
    lane->index = config->index;
    iocp__queue_init(&lane->finished);
    iocp__assert(config->index < IOCP__WINDOWS_LANES_MAX);
    lane->first = config->first ? iocp__windows_of(config->first) : lane;
    lane->first->lanes[config->index] = lane;
    if (!config->first)
        os_error = windows_open(lane, config->concurrency);
    if (os_error) {
        iocp__release(lane, sizeof(*lane));
        return iocp__probe_error(os_error);
    }
    *out_kernel = &lane->base;
    return 0;
}

static void windows_destroy(struct iocp__kernel *kernel)
{
    struct iocp__windows *lane = iocp__windows_of(kernel);

    iocp__assert(!lane->finished.first && !lane->arrived.first && !lane->starved.first);
    (void)iocp__pool_arm(lane->base.pool, NULL, NULL);
    iocp_buffer_unref(lane->spare);
    for (uint32_t i = 0; i < lane->chunk_count; i++)
        iocp__release(lane->chunks[i], WINDOWS_CHUNK * sizeof(*lane->chunks[i]));
    iocp__release(lane->chunks, lane->chunk_room * sizeof(*lane->chunks));
    if (lane->port)
        CloseHandle(lane->port);
    iocp__release(lane, sizeof(*lane));
}

/* A packet must come out of a port, and the functions must be there. */
static int windows_probe(char *text, size_t size)
{
    struct iocp__windows_functions functions;
    DWORD bytes = 0;
    ULONG_PTR key = 0;
    OVERLAPPED *overlapped = NULL;
    int32_t os_error = windows_load(&functions);

    if (!os_error) {
        HANDLE port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 1);

        if (!port || !PostQueuedCompletionStatus(port, 0, 1, NULL) ||
            !GetQueuedCompletionStatus(port, &bytes, &key, &overlapped, 0))
            os_error = (int32_t)GetLastError();
        if (port)
            CloseHandle(port);
    }
    if (!os_error)
        return 0;
    if (text && size)
        snprintf(text, size, "completion ports or AcceptEx, ConnectEx do not work here: error %d",
                 (int)os_error);
    return iocp__probe_error(os_error);
}

/* For iocp_stream.c, by way of the pool. */
int iocp__windows_want_buffer(struct iocp__windows *lane)
{
    return iocp__pool_arm(lane->base.pool, windows_refill, lane);
}

const struct iocp__backend iocp__backend_windows = {
    .name = "windows",
    .kind = IOCP_BACKEND_WINDOWS,
    .caps = IOCP__CAP_FILES | IOCP__CAP_SHARED,
    .probe = windows_probe,
    .create = windows_create,
    .destroy = windows_destroy,
    .associate = windows_associate,
    .attach = windows_attach,
    .detach = windows_detach,
    .submit = iocp__windows_submit,
    .cancel = iocp__windows_cancel,
    .wait = windows_wait,
    .fetch = windows_fetch,
    .bell = windows_bell,
};
