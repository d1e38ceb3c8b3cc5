/* Operations on Windows' port: how each kind starts, and what its packet means. Streams are in
 * iocp_stream.c, accepts in iocp_accept.c.
 *
 * 1. An op has at most one request, and a request at most one packet under way. It is answered, and
 *    its request freed, by the two functions below alone.
 * 2. A call that fails at once, other than by "pending", queues no packet; one that succeeds at
 *    once queues none on handles that skip, and one on all others (rows RV-03, NM-03 and NM-04 of
 *    the behaviour that was read from Wine's tests of Windows).
 * 3. Datagrams are received and sent without waiting, or after a poll. An overlapped operation with
 *    a message that does not fit ends with a warning, and whether a packet comes for that depends
 *    on the version.
 * 4. After `cancel` nothing is started any more: an op that would have to go on is answered with
 *    IOCP_ECANCELED. */
#include "backend/iocp.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"

#include <stddef.h>
#include <string.h>
#include <winternl.h>

_Static_assert(sizeof(struct iocp_slice) == sizeof(WSABUF) &&
                   offsetof(struct iocp_slice, data) == offsetof(WSABUF, buf) &&
                   offsetof(struct iocp_slice, size) == offsetof(WSABUF, len),
               "slices go to the kernel as they are");

#define OP_SEND_MAX (UINT32_C(1) << 30) /* of one call; a count of bytes has 32 bits */
#define OP_SLICES_MAX 1024

/* ---- Ends. */

/* What the poll of the system takes: the control code of its driver for sockets that select and
 * WSAPoll are made of, stable since Windows Vista and used by wepoll, libuv and mio. */
#define OP_IOCTL_POLL 0x00012024

enum op_poll_event {
    OP_POLL_RECEIVE = 0x001,
    OP_POLL_SEND = 0x004,
    OP_POLL_DISCONNECT = 0x008,
    OP_POLL_ABORT = 0x010,
    OP_POLL_ACCEPT = 0x080,
    OP_POLL_CONNECT_FAIL = 0x100
};

struct op_poll {
    LARGE_INTEGER timeout;
    ULONG count;
    ULONG exclusive;
    HANDLE handle;
    ULONG events;
    LONG status;
};

/* The poll of an op of a kind that has no progress to count: its address is kept there. */
static struct op_poll *op_poll_of(const struct iocp_op *op)
{
    return (struct op_poll *)(uintptr_t)op->progress;
}

static int op_is_datagram(const struct iocp_op *op)
{
    return (op->owner->backend & IOCP__WINDOWS_DATAGRAM) != 0;
}

static int op_may_poll(const struct iocp_op *op)
{
    return op->kind == IOCP_OP_POLL || op->kind == IOCP_OP_CONNECT || op_is_datagram(op);
}

static void op_free_request(struct iocp__windows *lane, struct iocp_op *op)
{
    struct iocp__request *request = iocp__windows_request_of(lane, op);

    if (!request)
        return;
    if (op_may_poll(op)) {
        iocp__release(op_poll_of(op), sizeof(struct op_poll));
        op->progress = 0;
    }
    iocp__windows_request_free(lane, request);
}

void iocp__windows_end(struct iocp__windows *lane, struct iocp_op *op, int64_t result)
{
    op_free_request(lane, op);
    iocp__op_done(&lane->finished, op, result, 0);
}

void iocp__windows_fail(struct iocp__windows *lane, struct iocp_op *op, int32_t os_error)
{
    op_free_request(lane, op);
    iocp__op_failed(&lane->finished, op, os_error);
}

/* ---- Calls. */

enum iocp__windows_call iocp__windows_called(const struct iocp_op *op, int failed,
                                             int32_t *out_error)
{
    DWORD error;

    if (!failed)
        return op->owner->backend & IOCP__WINDOWS_SKIPS ? IOCP__CALL_DONE : IOCP__CALL_PENDING;
    error = GetLastError(); /* WSAGetLastError is the same */
    if (error == ERROR_IO_PENDING)
        return IOCP__CALL_PENDING;
    *out_error = (int32_t)error;
    return IOCP__CALL_FAILED;
}

int32_t iocp__windows_error(const struct iocp__request *request)
{
    LONG status = (LONG)request->overlapped.Internal;
    SOCKET socket = iocp__windows_socket(request->op);
    OVERLAPPED overlapped = request->overlapped;
    DWORD bytes;
    DWORD flags;

    overlapped.Pointer = NULL;
    if (status >= 0)
        return 0;
    if (!(request->op->owner->backend & IOCP__WINDOWS_SOCKET))
        return (int32_t)RtlNtStatusToDosError(status);
    /* The code of sockets, which tells more causes apart. */
    if (WSAGetOverlappedResult(socket, &overlapped, &bytes, FALSE, &flags))
        return WSAEINVAL;
    return WSAGetLastError();
}

/* A request is used again. */
static void op_renew(struct iocp__request *request)
{
    memset(&request->overlapped, 0, sizeof(request->overlapped));
    request->flags = 0;
}

/* ---- Polls. */

static ULONG op_poll_mask(uint32_t events)
{
    ULONG mask = OP_POLL_ABORT | OP_POLL_CONNECT_FAIL;

    if (events & IOCP_POLL_READ)
        mask |= OP_POLL_RECEIVE | OP_POLL_DISCONNECT | OP_POLL_ACCEPT;
    if (events & IOCP_POLL_WRITE)
        mask |= OP_POLL_SEND;
    return mask;
}

enum iocp__windows_call iocp__windows_poll(struct iocp__request *request, uint32_t events,
                                           int32_t *out_error)
{
    struct op_poll *poll = op_poll_of(request->op);
    SOCKET socket = iocp__windows_socket(request->op);
    SOCKET base = socket;
    DWORD size = 0;

    iocp__debug(op_may_poll(request->op));
    if (!poll)
        poll = iocp__allocate(sizeof(*poll));
    if (!poll) {
        *out_error = ERROR_NOT_ENOUGH_MEMORY;
        return IOCP__CALL_FAILED;
    }
    /* Layered providers have handles of their own on top of the driver's. */
    (void)WSAIoctl(socket, SIO_BASE_HANDLE, NULL, 0, &base, sizeof(base), &size, NULL, NULL);
    request->op->progress = (uintptr_t)poll;
    memset(poll, 0, sizeof(*poll));
    poll->timeout.QuadPart = INT64_MAX;
    poll->count = 1;
    poll->handle = (HANDLE)base;
    poll->events = op_poll_mask(events);
    op_renew(request);
    return iocp__windows_called(request->op,
                                !DeviceIoControl((HANDLE)base, OP_IOCTL_POLL, poll, sizeof(*poll),
                                                 poll, sizeof(*poll), NULL, &request->overlapped),
                                out_error);
}

static void op_polled(struct iocp__windows *lane, struct iocp__request *request)
{
    const struct op_poll *poll = op_poll_of(request->op);
    ULONG events = poll->count ? poll->events : 0;
    uint32_t found = 0;

    if (events & (OP_POLL_RECEIVE | OP_POLL_DISCONNECT | OP_POLL_ACCEPT))
        found |= IOCP_POLL_READ;
    if (events & OP_POLL_SEND)
        found |= IOCP_POLL_WRITE;
    found &= request->op->u.poll_events;
    if (events & (OP_POLL_ABORT | OP_POLL_CONNECT_FAIL))
        found |= IOCP_POLL_ERROR;
    iocp__windows_end(lane, request->op, found);
}

static void op_start_poll(struct iocp__windows *lane, struct iocp_op *op)
{
    struct iocp__request *request;
    int32_t error = 0;

    if (!(op->owner->backend & IOCP__WINDOWS_SOCKET)) {
        iocp__op_done(&lane->finished, op, IOCP_ENOTSUP, 0);
        return;
    }
    request = iocp__windows_request(lane, op);
    if (!request)
        return;
    switch (iocp__windows_poll(request, op->u.poll_events, &error)) {
    case IOCP__CALL_DONE:
        op_polled(lane, request);
        break;
    case IOCP__CALL_PENDING:
        break;
    case IOCP__CALL_FAILED:
        iocp__windows_fail(lane, op, error);
        break;
    }
}

/* ---- Receiving. */

static int op_wants_bytes(const struct iocp_op *op)
{
    for (uint32_t i = 0; i < op->u.io.count; i++) {
        if (op->u.io.slices[i].size)
            return 1;
    }
    return 0;
}

enum iocp__windows_call iocp__windows_wait_readable(struct iocp__request *request,
                                                    int32_t *out_error)
{
    WSABUF nothing = {0, NULL};

    /* A receive of nothing would take a datagram. */
    if (op_is_datagram(request->op))
        return iocp__windows_poll(request, IOCP_POLL_READ, out_error);
    op_renew(request);
    return iocp__windows_called(request->op,
                                WSARecv(iocp__windows_socket(request->op), &nothing, 1, NULL,
                                        &request->flags, &request->overlapped, NULL) != 0,
                                out_error);
}

int iocp__windows_datagram_retry(struct iocp_op *op, int32_t *error)
{
    struct iocp_address peer;

    /* Nobody is behind the address of an earlier send. Sockets with a peer are told so, as on other
     * systems; the others would fail for what somebody else did. */
    if (!op_is_datagram(op) || (*error != WSAECONNRESET && *error != WSAENETRESET))
        return 0;
    if (iocp__socket_peer(op->owner->handle, &peer) < 0)
        return 1;
    *error = WSAECONNREFUSED;
    return 0;
}

static void op_received(struct iocp__windows *lane, struct iocp_op *op, DWORD bytes)
{
    if (bytes == 0 && op_wants_bytes(op))
        iocp__windows_end(lane, op, IOCP_EEOF);
    else
        iocp__windows_end(lane, op, bytes);
}

static void op_start_stream_recv(struct iocp__windows *lane, struct iocp__request *request)
{
    struct iocp_op *op = request->op;
    WSABUF *slices = (WSABUF *)(void *)op->u.io.slices;
    uint32_t count = op->u.io.count < OP_SLICES_MAX ? op->u.io.count : OP_SLICES_MAX;
    enum iocp__windows_call call;
    DWORD bytes = 0;
    int32_t error = 0;

    if (op_wants_bytes(op)) {
        op_renew(request);
        call = iocp__windows_called(op,
                                    WSARecv(iocp__windows_socket(op), slices, count, &bytes,
                                            &request->flags, &request->overlapped, NULL) != 0,
                                    &error);
    } else {
        call = iocp__windows_wait_readable(request, &error);
    }
    if (call == IOCP__CALL_DONE)
        op_received(lane, op, bytes);
    else if (call == IOCP__CALL_FAILED)
        iocp__windows_fail(lane, op, error);
}

/* One attempt. Returns 0 when there is nothing to receive. */
static int op_try_datagram(struct iocp__windows *lane, struct iocp_op *op)
{
    WSABUF *slices = (WSABUF *)(void *)op->u.io.slices;
    struct iocp_address *address = op->kind == IOCP_OP_RECV_FROM ? op->u.io.address : NULL;
    int size = address ? (int)sizeof(address->storage) : 0;
    DWORD bytes = 0;
    int32_t error = 0;

    do {
        DWORD flags = 0;
        error = 0;
        if (WSARecvFrom(iocp__windows_socket(op), slices, op->u.io.count, &bytes, &flags,
                        address ? (void *)address->storage.bytes : NULL, address ? &size : NULL,
                        NULL, NULL))
            error = WSAGetLastError();
    } while (error && iocp__windows_datagram_retry(op, &error));
    if (error == WSAEWOULDBLOCK)
        return 0;
    if (error && error != WSAEMSGSIZE) {
        iocp__windows_fail(lane, op, error);
        return 1;
    }
    if (address)
        address->size = (uint32_t)size;
    if (error) {
        /* Cut: the memory is full, and that is how much there is. */
        int64_t room = 0;
        for (uint32_t i = 0; i < op->u.io.count; i++)
            room += op->u.io.slices[i].size;
        iocp__windows_end(lane, op, room);
        op->event.flags |= IOCP_PACKET_TRUNCATED;
        return 1;
    }
    iocp__windows_end(lane, op, bytes);
    return 1;
}

/* `ready`: a poll has said so. */
static void op_datagram_recv(struct iocp__windows *lane, struct iocp__request *request, int ready)
{
    struct iocp_op *op = request->op;
    int32_t error = 0;

    for (;;) {
        enum iocp__windows_call call;

        if (ready && !op_wants_bytes(op)) {
            iocp__windows_end(lane, op, 0);
            return;
        }
        if (op_wants_bytes(op) && op_try_datagram(lane, op))
            return;
        if (op->backend & IOCP__WINDOWS_CANCELED) {
            iocp__windows_end(lane, op, IOCP_ECANCELED);
            return;
        }
        call = iocp__windows_poll(request, IOCP_POLL_READ, &error);
        if (call == IOCP__CALL_FAILED)
            iocp__windows_fail(lane, op, error);
        if (call != IOCP__CALL_DONE)
            return;
        ready = 1;
    }
}

static void op_start_recv(struct iocp__windows *lane, struct iocp_op *op)
{
    struct iocp__request *request = iocp__windows_request(lane, op);

    if (!request)
        return;
    if (op_is_datagram(op))
        op_datagram_recv(lane, request, 0);
    else
        op_start_stream_recv(lane, request);
}

/* ---- Sending. */

/* How many slices one call takes; a first one that is too long is put into *out_long, cut. */
static uint32_t op_send_slices(const struct iocp_op *op, WSABUF *out_long)
{
    uint32_t total = 0;
    uint32_t i;

    for (i = 0; i < op->u.io.count && i < OP_SLICES_MAX; i++) {
        if (op->u.io.slices[i].size > OP_SEND_MAX - total)
            break;
        total += op->u.io.slices[i].size;
    }
    if (i > 0)
        return i;
    out_long->len = OP_SEND_MAX;
    out_long->buf = op->u.io.slices->data;
    return 0;
}

/* The kernel took `sent` bytes. Not 0: more is to be sent. */
static int op_sent(struct iocp__windows *lane, struct iocp_op *op, DWORD sent)
{
    int nothing = sent == 0 && op_wants_bytes(op);

    if (!iocp__op_advance(op, sent))
        iocp__windows_end(lane, op, (int64_t)op->progress);
    else if (nothing)
        iocp__windows_fail(lane, op, WSAECONNABORTED); /* it would go on like that */
    else if (op->backend & IOCP__WINDOWS_CANCELED)
        iocp__windows_end(lane, op, IOCP_ECANCELED);
    else
        return 1;
    return 0;
}

static enum iocp__windows_call op_send_once(struct iocp__request *request, DWORD *out_bytes,
                                            int32_t *out_error)
{
    struct iocp_op *op = request->op;
    WSABUF first;
    uint32_t count = op_send_slices(op, &first);
    WSABUF *slices = count ? (WSABUF *)(void *)op->u.io.slices : &first;

    *out_bytes = 0;
    op_renew(request);
    return iocp__windows_called(op,
                                WSASend(iocp__windows_socket(op), slices, count ? count : 1,
                                        out_bytes, 0, &request->overlapped, NULL) != 0,
                                out_error);
}

static void op_send(struct iocp__windows *lane, struct iocp__request *request)
{
    struct iocp_op *op = request->op;
    enum iocp__windows_call call;
    int32_t error = 0;
    DWORD sent;

    do
        call = op_send_once(request, &sent, &error);
    while (call == IOCP__CALL_DONE && op_sent(lane, op, sent));
    if (call == IOCP__CALL_FAILED)
        iocp__windows_fail(lane, op, error);
}

/* Rule 3: at once, or after a poll. */
static void op_send_datagram(struct iocp__windows *lane, struct iocp__request *request)
{
    struct iocp_op *op = request->op;
    const struct iocp_address *to = op->kind == IOCP_OP_SEND_TO ? op->u.io.address : NULL;
    WSABUF *slices = (WSABUF *)(void *)op->u.io.slices;
    enum iocp__windows_call call = IOCP__CALL_DONE;
    DWORD sent = 0;
    int32_t error = 0;

    while (call == IOCP__CALL_DONE) {
        if (WSASendTo(iocp__windows_socket(op), slices, op->u.io.count, &sent, 0,
                      to ? (const void *)to->storage.bytes : NULL, to ? (int)to->size : 0, NULL,
                      NULL) == 0) {
            iocp__windows_end(lane, op, sent);
            return;
        }
        error = WSAGetLastError();
        if (iocp__windows_datagram_retry(op, &error))
            continue;
        if (error == WSAEWOULDBLOCK && (op->backend & IOCP__WINDOWS_CANCELED)) {
            iocp__windows_end(lane, op, IOCP_ECANCELED);
            return;
        }
        call = IOCP__CALL_FAILED;
        if (error == WSAEWOULDBLOCK)
            call = iocp__windows_poll(request, IOCP_POLL_WRITE, &error);
    }
    if (call == IOCP__CALL_FAILED)
        iocp__windows_fail(lane, op, error);
}

static void op_start_send(struct iocp__windows *lane, struct iocp_op *op)
{
    struct iocp__request *request;

    if (!op->u.io.count) {
        iocp__op_done(&lane->finished, op, 0, 0);
        return;
    }
    request = iocp__windows_request(lane, op);
    if (request && op_is_datagram(op))
        op_send_datagram(lane, request);
    else if (request)
        op_send(lane, request);
}

/* ---- Connections. */

/* ConnectEx wants a bound socket. 0, or the system's code. */
static int32_t op_bind_any(const struct iocp_op *op)
{
    struct sockaddr_in6 name; /* sockaddr_in is a shorter one, zero but for its family */
    int is_ipv6 = iocp_address_family(op->u.io.address) == IOCP_FAMILY_IPV6;
    int size = is_ipv6 ? (int)sizeof(struct sockaddr_in6) : (int)sizeof(struct sockaddr_in);

    memset(&name, 0, sizeof(name));
    name.sin6_family = is_ipv6 ? AF_INET6 : AF_INET;
    if (bind(iocp__windows_socket(op), (const void *)&name, size) == 0)
        return 0;
    return WSAGetLastError() == WSAEINVAL ? 0 : WSAGetLastError(); /* EINVAL: it is bound */
}

static void op_connected(struct iocp__windows *lane, struct iocp_op *op)
{
    /* Without it the socket has no peer to ask for, and cannot be shut down. */
    if ((op->owner->backend & IOCP__WINDOWS_TCP) &&
        setsockopt(iocp__windows_socket(op), SOL_SOCKET, SO_UPDATE_CONNECT_CONTEXT, NULL, 0))
        iocp__windows_fail(lane, op, WSAGetLastError());
    else
        iocp__windows_end(lane, op, 0);
}

static void op_connect_tcp(struct iocp__windows *lane, struct iocp__request *request)
{
    struct iocp_op *op = request->op;
    const struct iocp_address *to = op->u.io.address;
    int32_t error = op_bind_any(op);
    enum iocp__windows_call call = IOCP__CALL_FAILED;

    if (!error)
        call = iocp__windows_called(op,
                                    !lane->first->functions.connect(
                                        iocp__windows_socket(op), (const void *)to->storage.bytes,
                                        (int)to->size, NULL, 0, NULL, &request->overlapped),
                                    &error);
    if (call == IOCP__CALL_DONE)
        op_connected(lane, op);
    else if (call == IOCP__CALL_FAILED)
        iocp__windows_fail(lane, op, error);
}

/* Datagrams, which only note the address, and Unix sockets, which have no ConnectEx. */
static void op_connect_other(struct iocp__windows *lane, struct iocp__request *request)
{
    struct iocp_op *op = request->op;
    const struct iocp_address *to = op->u.io.address;
    int32_t error = 0;
    enum iocp__windows_call call = IOCP__CALL_FAILED;

    if (connect(iocp__windows_socket(op), (const void *)to->storage.bytes, (int)to->size) == 0) {
        iocp__windows_end(lane, op, 0);
        return;
    }
    error = WSAGetLastError();
    if (error == WSAEWOULDBLOCK)
        call = iocp__windows_poll(request, IOCP_POLL_WRITE, &error);
    if (call == IOCP__CALL_DONE)
        iocp__windows_complete(lane, request);
    else if (call == IOCP__CALL_FAILED)
        iocp__windows_fail(lane, op, error);
}

static void op_start_connect(struct iocp__windows *lane, struct iocp_op *op)
{
    struct iocp__request *request = iocp__windows_request(lane, op);

    if (!request)
        return;
    if (op->owner->backend & IOCP__WINDOWS_TCP)
        op_connect_tcp(lane, request);
    else
        op_connect_other(lane, request);
}

static void op_connect_complete(struct iocp__windows *lane, struct iocp__request *request)
{
    int32_t error = 0;

    if (!(request->op->owner->backend & IOCP__WINDOWS_TCP))
        error = iocp__socket_pending_error(request->op->owner->handle);
    if (error)
        iocp__windows_fail(lane, request->op, error);
    else
        op_connected(lane, request->op);
}

/* ---- Files. */

static void op_start_file(struct iocp__windows *lane, struct iocp_op *op)
{
    struct iocp__request *request = iocp__windows_request(lane, op);
    HANDLE file = (HANDLE)op->owner->handle;
    int32_t error = 0;
    BOOL done;

    if (!request)
        return;
    request->overlapped.Offset = (DWORD)op->u.file.offset;
    request->overlapped.OffsetHigh = (DWORD)(op->u.file.offset >> 32);
    if (op->kind == IOCP_OP_READ)
        done = ReadFile(file, op->u.file.one.data, op->u.file.one.size, NULL, &request->overlapped);
    else
        done =
            WriteFile(file, op->u.file.one.data, op->u.file.one.size, NULL, &request->overlapped);
    if (iocp__windows_called(op, !done, &error) != IOCP__CALL_FAILED)
        return;
    if (error == ERROR_HANDLE_EOF && op->kind == IOCP_OP_READ)
        iocp__windows_end(lane, op, op->u.file.one.size ? IOCP_EEOF : 0);
    else
        iocp__windows_fail(lane, op, error);
}

static void op_file_complete(struct iocp__windows *lane, struct iocp__request *request)
{
    struct iocp_op *op = request->op;
    int32_t error = iocp__windows_error(request);
    DWORD bytes = (DWORD)request->overlapped.InternalHigh;
    DWORD asked = op->u.file.one.size;

    if (error == ERROR_HANDLE_EOF && op->kind == IOCP_OP_READ) {
        error = 0;
        bytes = 0;
    }
    if (error)
        iocp__windows_fail(lane, op, error);
    else if (op->kind == IOCP_OP_READ && bytes == 0 && asked > 0)
        iocp__windows_end(lane, op, IOCP_EEOF);
    else if (op->kind == IOCP_OP_WRITE && bytes < asked)
        iocp__windows_fail(lane, op, ERROR_WRITE_FAULT); /* whole or an error */
    else
        iocp__windows_end(lane, op, bytes);
}

/* ---- The way in and out. */

void iocp__windows_submit(struct iocp__kernel *kernel, struct iocp_op *op)
{
    struct iocp__windows *lane = iocp__windows_of(kernel);

    switch (op->kind) {
    case IOCP_OP_RECV:
    case IOCP_OP_RECV_FROM:
        op_start_recv(lane, op);
        break;
    case IOCP_OP_RECV_STREAM:
        iocp__windows_stream_start(lane, op);
        break;
    case IOCP_OP_SEND:
    case IOCP_OP_SEND_TO:
        op_start_send(lane, op);
        break;
    case IOCP_OP_ACCEPT:
    case IOCP_OP_ACCEPT_STREAM:
        iocp__windows_accept_start(lane, op);
        break;
    case IOCP_OP_CONNECT:
        op_start_connect(lane, op);
        break;
    case IOCP_OP_POLL:
        op_start_poll(lane, op);
        break;
    default:
        op_start_file(lane, op);
        break;
    }
}

void iocp__windows_cancel(struct iocp__kernel *kernel, struct iocp_op *op)
{
    struct iocp__windows *lane = iocp__windows_of(kernel);
    struct iocp__request *request;

    op->backend |= IOCP__WINDOWS_CANCELED;
    if (op->kind == IOCP_OP_ACCEPT || op->kind == IOCP_OP_ACCEPT_STREAM) {
        iocp__windows_accept_cancel(op);
        return;
    }
    if (op->backend & IOCP__WINDOWS_STARVED) {
        iocp__windows_stream_cancel(lane, op);
        return;
    }
    request = iocp__windows_request_of(lane, op);
    /* It fails when the packet is on its way already. */
    if (request)
        (void)CancelIoEx((HANDLE)op->owner->handle, &request->overlapped);
}

/* A request other than a stream's or an accept's has ended well. */
static void op_complete(struct iocp__windows *lane, struct iocp__request *request)
{
    switch (request->op->kind) {
    case IOCP_OP_RECV:
    case IOCP_OP_RECV_FROM:
        if (op_is_datagram(request->op))
            op_datagram_recv(lane, request, 1);
        else
            op_received(lane, request->op, (DWORD)request->overlapped.InternalHigh);
        break;
    case IOCP_OP_SEND:
    case IOCP_OP_SEND_TO:
        if (op_is_datagram(request->op))
            op_send_datagram(lane, request);
        else if (op_sent(lane, request->op, (DWORD)request->overlapped.InternalHigh))
            op_send(lane, request);
        break;
    case IOCP_OP_CONNECT:
        op_connect_complete(lane, request);
        break;
    default: /* POLL */
        op_polled(lane, request);
        break;
    }
}

void iocp__windows_complete(struct iocp__windows *lane, struct iocp__request *request)
{
    struct iocp_op *op = request->op;
    int32_t error;

    if (!request->number) {
        iocp__windows_accept_complete(lane, request);
    } else if (op->kind == IOCP_OP_RECV_STREAM) {
        iocp__windows_stream_complete(lane, request);
    } else if (op->owner->backend & IOCP__WINDOWS_FILE) {
        op_file_complete(lane, request);
    } else {
        error = iocp__windows_error(request);
        if (error)
            iocp__windows_fail(lane, op, error);
        else
            op_complete(lane, request);
    }
}
