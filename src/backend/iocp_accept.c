/* Accepts on Windows: sockets made before their connections, several of them waiting at a time.
 *
 * An acceptor belongs to an op and has seats. A seat is free, or its request is in the kernel with
 * a socket for the next connection. A seat whose socket was taken, or whose connection was lost
 * before it could be accepted, gets another one by a loop, never by recursion.
 *
 * Invariants
 * 1. pending = seats whose request is in the kernel or has arrived.
 * 2. The op is answered when pending is 0: because it is canceled, because no seat can be armed,
 *    or, for a single accept, because it has its connection.
 * 3. A connection that arrives after the cancel is delivered all the same: it was accepted. */
#include "backend/iocp.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <string.h>

#define ACCEPT_SEATS 8       /* outstanding of one stream */
#define ACCEPT_LOSSES_MAX 64 /* connections lost in a row before the op fails */

struct iocp__acceptor;

struct accept_seat {
    struct iocp__request request; /* first */
    struct iocp__acceptor *acceptor;
    iocp_handle socket;
    uint32_t busy;
    /* What the system writes there: two addresses, each with 16 bytes more than the largest. */
    char addresses[2 * (sizeof(struct iocp_address) + 16)];
};

struct iocp__acceptor {
    struct iocp_op *op;
    enum iocp_family family;
    uint32_t pending;
    uint32_t losses;
    uint32_t count;
    int32_t error; /* why the last seat could not be armed */
    struct accept_seat seats[];
};

static size_t accept_size(uint32_t count)
{
    return sizeof(struct iocp__acceptor) + count * sizeof(struct accept_seat);
}

static struct iocp__acceptor *accept_of(const struct iocp_op *op)
{
    return op->u.io.one.data;
}

/* Answers the op: with `result`, or the error of the system. */
static void accept_end(struct iocp__windows *lane, struct iocp__acceptor *acceptor, int64_t result,
                       int32_t os_error)
{
    struct iocp_op *op = acceptor->op;

    iocp__assert(acceptor->pending == 0);
    op->u.io.one.data = NULL;
    iocp__release(acceptor, accept_size(acceptor->count));
    if (os_error)
        iocp__op_failed(&lane->finished, op, os_error);
    else
        iocp__op_done(&lane->finished, op, result, 0);
}

/* ---- One seat. */

static void accept_leave(struct iocp__acceptor *acceptor, struct accept_seat *seat)
{
    seat->busy = 0;
    acceptor->pending--;
}

static void accept_close(struct accept_seat *seat)
{
    iocp__handle_close(seat->socket);
    seat->socket = IOCP_HANDLE_INVALID;
}

/* The connection is there. */
static void accept_deliver(struct iocp__windows *lane, struct iocp__acceptor *acceptor,
                           struct accept_seat *seat)
{
    SOCKET listening = iocp__windows_socket(acceptor->op);
    iocp_handle handle = seat->socket;

    seat->socket = IOCP_HANDLE_INVALID;
    acceptor->losses = 0;
    /* Without it the socket has no addresses to ask for, and cannot be shut down. */
    if (setsockopt((SOCKET)handle, SOL_SOCKET, SO_UPDATE_ACCEPT_CONTEXT, (const char *)&listening,
                   sizeof(listening))) {
        iocp__handle_close(handle);
        acceptor->losses++;
        return;
    }
    if (acceptor->op->kind == IOCP_OP_ACCEPT)
        accept_end(lane, acceptor, handle, 0);
    else
        iocp__stream_accepted(&lane->finished, acceptor->op, handle);
}

/* A socket for the seat, and the system's accept. Returns DONE when a connection was there. */
static enum iocp__windows_call accept_arm(struct iocp__windows *lane,
                                          struct iocp__acceptor *acceptor, struct accept_seat *seat,
                                          int32_t *out_error)
{
    const DWORD room = sizeof(seat->addresses) / 2;
    enum iocp__windows_call call;
    DWORD bytes = 0;

    memset(&seat->request, 0, sizeof(seat->request));
    seat->request.op = acceptor->op;
    if (iocp__socket_open(acceptor->family, IOCP__SOCKET_STREAM, &seat->socket, out_error) < 0)
        return IOCP__CALL_FAILED;
    call = iocp__windows_called(acceptor->op,
                                !lane->first->functions.accept(iocp__windows_socket(acceptor->op),
                                                               (SOCKET)seat->socket,
                                                               seat->addresses, 0, room, room,
                                                               &bytes, &seat->request.overlapped),
                                out_error);
    if (call == IOCP__CALL_PENDING) {
        seat->busy = 1;
        acceptor->pending++;
    } else if (call == IOCP__CALL_FAILED) {
        accept_close(seat);
    }
    return call;
}

/* An error of the connection that was about to be accepted, not of the listening socket. */
static int accept_is_lost(int32_t error)
{
    return error == WSAECONNRESET || error == WSAECONNABORTED || error == WSAENETRESET ||
           error == WSAETIMEDOUT || error == WSAENETDOWN || error == WSAEHOSTUNREACH;
}

/* Arms a free seat; connections that are there already are taken on the way. Returns 0 when the op
 * is answered, or the seat cannot be armed now. */
static int accept_fill(struct iocp__windows *lane, struct iocp__acceptor *acceptor,
                       struct accept_seat *seat)
{
    int single = acceptor->op->kind == IOCP_OP_ACCEPT;

    for (;;) {
        enum iocp__windows_call call = accept_arm(lane, acceptor, seat, &acceptor->error);

        if (call == IOCP__CALL_PENDING)
            return 1;
        if (call == IOCP__CALL_FAILED) {
            if (!accept_is_lost(acceptor->error) || ++acceptor->losses > ACCEPT_LOSSES_MAX)
                return 0;
            continue;
        }
        accept_deliver(lane, acceptor, seat);
        if (single)
            return 0;
    }
}

/* ---- All seats. */

/* Arms what is free. The op is answered when none is armed in the end. */
static void accept_fill_all(struct iocp__windows *lane, struct iocp__acceptor *acceptor)
{
    struct iocp_op *op = acceptor->op;

    for (uint32_t i = 0; i < acceptor->count; i++) {
        if (acceptor->seats[i].busy)
            continue;
        if (!accept_fill(lane, acceptor, &acceptor->seats[i]))
            break;
    }
    /* A single one may have got its connection at once. */
    if (accept_of(op) && acceptor->pending == 0)
        accept_end(lane, acceptor, 0, acceptor->error ? acceptor->error : WSAECONNABORTED);
}

/* The family of the listening socket, or the system's code when it is none. */
static int32_t accept_family(const struct iocp_op *op, enum iocp_family *out_family)
{
    struct iocp_address address;
    int listens = 0;
    int size = sizeof(listens);

    if (getsockopt(iocp__windows_socket(op), SOL_SOCKET, SO_ACCEPTCONN, (char *)&listens, &size))
        return WSAGetLastError();
    if (!listens || iocp__socket_local(op->owner->handle, &address) < 0)
        return WSAEINVAL;
    *out_family = iocp_address_family(&address);
    return 0;
}

void iocp__windows_accept_start(struct iocp__windows *lane, struct iocp_op *op)
{
    uint32_t count = op->kind == IOCP_OP_ACCEPT ? 1 : ACCEPT_SEATS;
    struct iocp__acceptor *acceptor;
    enum iocp_family family = IOCP_FAMILY_NONE;
    int32_t error = accept_family(op, &family);

    if (error) {
        iocp__op_failed(&lane->finished, op, error);
        return;
    }
    acceptor = iocp__allocate_zero(accept_size(count));
    if (!acceptor) {
        iocp__op_done(&lane->finished, op, IOCP_ENOMEM, 0);
        return;
    }
    acceptor->op = op;
    acceptor->family = family;
    acceptor->count = count;
    for (uint32_t i = 0; i < count; i++)
        acceptor->seats[i] =
            (struct accept_seat){.acceptor = acceptor, .socket = IOCP_HANDLE_INVALID};
    op->u.io.one.data = acceptor;
    accept_fill_all(lane, acceptor);
}

void iocp__windows_accept_complete(struct iocp__windows *lane, struct iocp__request *request)
{
    struct accept_seat *seat = (struct accept_seat *)(void *)request;
    struct iocp__acceptor *acceptor = seat->acceptor;
    struct iocp_op *op = acceptor->op;
    int32_t error = iocp__windows_error(request);

    accept_leave(acceptor, seat);
    if (error) {
        accept_close(seat);
        acceptor->error = error;
        acceptor->losses++;
    } else {
        accept_deliver(lane, acceptor, seat);
    }
    if (!accept_of(op))
        return; /* answered */
    if (op->backend & IOCP__WINDOWS_CANCELED) {
        if (acceptor->pending == 0)
            accept_end(lane, acceptor, IOCP_ECANCELED, 0);
    } else if (error && (!accept_is_lost(error) || acceptor->losses > ACCEPT_LOSSES_MAX)) {
        if (acceptor->pending == 0)
            accept_end(lane, acceptor, 0, error);
    } else {
        accept_fill_all(lane, acceptor);
    }
}

void iocp__windows_accept_cancel(struct iocp_op *op)
{
    struct iocp__acceptor *acceptor = accept_of(op);

    /* NULL: answered, and its answer on the way. */
    for (uint32_t i = 0; acceptor && i < acceptor->count; i++) {
        if (acceptor->seats[i].busy)
            (void)CancelIoEx((HANDLE)op->owner->handle, &acceptor->seats[i].request.overlapped);
    }
}
