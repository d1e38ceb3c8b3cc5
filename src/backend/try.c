/* Attempts at operations of sockets, on Linux. See try.h. */
#include "backend/try.h"

#include "backend/backend.h"
#include "os/os.h"

#include <iocp/object.h>

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Most slices of one call (UIO_MAXIOV), and most bytes (MAX_RW_COUNT for pages of 4 KiB; it is a
 * little less where pages are larger, which costs one attempt more). */
#define TRY_SLICES_MAX 1024
#define TRY_BYTES_MAX ((size_t)0x7ffff000)

_Static_assert(sizeof(struct iocp_slice) == sizeof(struct iovec), "a slice is an iovec");
_Static_assert(offsetof(struct iocp_slice, size) == offsetof(struct iovec, iov_len), "as above");

/* ---- Small parts. */

static enum iocp__try try_done(struct iocp__tried *tried, int64_t result)
{
    tried->result = result;
    return IOCP__TRY_DONE;
}

static enum iocp__try try_failed(struct iocp__tried *tried, int os_error)
{
    if (os_error == EAGAIN)
        return IOCP__TRY_BLOCKED;
    tried->os_error = os_error;
    return IOCP__TRY_FAILED;
}

static void try_begin(struct iocp__tried *tried)
{
    tried->result = 0;
    tried->os_error = 0;
    tried->flags = 0;
}

/* The bytes that one call moves at most. */
static size_t try_total(const struct iocp_slice *slices, uint32_t count)
{
    size_t total = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (slices[i].size > TRY_BYTES_MAX - total)
            return TRY_BYTES_MAX;
        total += slices[i].size;
    }
    return total;
}

static void try_message(struct msghdr *message, struct iocp_slice *slices, uint32_t count,
                        struct iocp_address *address)
{
    *message = (struct msghdr){.msg_iov = (struct iovec *)(void *)slices, .msg_iovlen = count};
    if (address) {
        message->msg_name = address->storage.bytes;
        message->msg_namelen = sizeof(address->storage);
    }
}

/* -1: no socket. */
static int try_option(iocp_handle handle, int option)
{
    int value = 0;
    socklen_t size = sizeof(value);

    return getsockopt((int)handle, SOL_SOCKET, option, &value, &size) < 0 ? -1 : value;
}

enum iocp__nature iocp__try_nature(iocp_handle handle)
{
    int type = try_option(handle, SO_TYPE);

    if (type < 0)
        return IOCP__NATURE_NONE;
    if (type == SOCK_DGRAM || type == SOCK_RAW || type == SOCK_RDM)
        return IOCP__NATURE_DATAGRAM;
    if (type != SOCK_STREAM)
        return IOCP__NATURE_STREAM;
    /* MPTCP, which does not promise as much about short receives, has another number. Neither does
     * TCP below kTLS; nothing in this library sets that up. */
    if (try_option(handle, SO_PROTOCOL) == IPPROTO_TCP)
        return IOCP__NATURE_TCP;
    return try_option(handle, SO_DOMAIN) == AF_UNIX ? IOCP__NATURE_UNIX : IOCP__NATURE_STREAM;
}

/* The two calls of every message, without the C library's recv and send: those are points of
 * cancellation, which cost two atomic exchanges each in a process of several threads. */
static ssize_t try_call_recv(iocp_handle handle, void *data, size_t size)
{
    return syscall(SYS_recvfrom, (int)handle, data, size, MSG_DONTWAIT, NULL, NULL);
}

static ssize_t try_call_send(iocp_handle handle, const void *data, size_t size)
{
    return syscall(SYS_sendto, (int)handle, data, size, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0);
}

/* ---- Receiving. */

static enum iocp__try try_peek(iocp_handle handle, struct iocp__tried *tried)
{
    char byte;
    ssize_t got;

    do {
        got = recv((int)handle, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? try_failed(tried, errno) : try_done(tried, 0);
}

static enum iocp__try try_received(enum iocp__nature nature, size_t asked, ssize_t got,
                                   uint32_t message_flags, struct iocp__tried *tried)
{
    if (got < 0)
        return try_failed(tried, errno);
    if (got == 0 && nature != IOCP__NATURE_DATAGRAM)
        return try_done(tried, IOCP_EEOF);
    if (message_flags & MSG_TRUNC)
        tried->flags = IOCP_PACKET_TRUNCATED;
    tried->result = got;
    if ((size_t)got == asked)
        return IOCP__TRY_DONE;
    /* A Unix stream stops behind a message that carried descriptors, however much follows; that
     * they found no room is what tells. */
    if (nature == IOCP__NATURE_TCP ||
        (nature == IOCP__NATURE_UNIX && !(message_flags & MSG_CTRUNC)))
        return IOCP__TRY_DRAINED;
    return IOCP__TRY_DONE;
}

enum iocp__try iocp__try_recv(iocp_handle handle, enum iocp__nature nature,
                              struct iocp_slice *slices, uint32_t count,
                              struct iocp_address *address, struct iocp__tried *out_tried)
{
    struct msghdr message;
    size_t asked;
    ssize_t got;

    try_begin(out_tried);
    if (count > TRY_SLICES_MAX)
        count = TRY_SLICES_MAX;
    asked = try_total(slices, count);
    if (asked == 0)
        return try_peek(handle, out_tried);
    if (nature == IOCP__NATURE_TCP && count == 1 && !address) {
        do {
            got = try_call_recv(handle, slices->data, slices->size);
        } while (got < 0 && errno == EINTR);
        return try_received(nature, asked, got, 0, out_tried);
    }
    try_message(&message, slices, count, address);
    do {
        got = recvmsg((int)handle, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got >= 0 && address)
        address->size = message.msg_namelen < sizeof(address->storage)
                            ? (uint32_t)message.msg_namelen
                            : (uint32_t)sizeof(address->storage);
    return try_received(nature, asked, got, (uint32_t)message.msg_flags, out_tried);
}

/* ---- Sending. */

static ssize_t try_send_once(struct iocp_op *op, uint32_t count, struct iocp_address *address)
{
    struct iocp_slice *slices = op->u.io.slices;
    struct msghdr message;
    ssize_t sent;

    if (count == 1 && !address) {
        do {
            sent = try_call_send(op->owner->handle, slices->data, slices->size);
        } while (sent < 0 && errno == EINTR);
        return sent;
    }
    try_message(&message, slices, count, address);
    if (address)
        message.msg_namelen = address->size;
    do {
        sent = sendmsg((int)op->owner->handle, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent;
}

/* A Unix datagram socket can be writable for ever while the one that it sends to, unconnected, is
 * full: nothing tells of room there, so waiting would be spinning or for ever. */
static int try_is_hopeless(const struct iocp_op *op, const struct iocp_address *address)
{
    struct pollfd ready = {.fd = (int)op->owner->handle, .events = POLLOUT};

    return address && iocp_address_family(address) == IOCP_FAMILY_UNIX && poll(&ready, 1, 0) > 0;
}

enum iocp__try iocp__try_send(struct iocp_op *op, enum iocp__nature nature,
                              struct iocp__tried *out_tried)
{
    struct iocp_address *address = op->kind == IOCP_OP_SEND_TO ? op->u.io.address : NULL;
    /* A datagram is not to be cut: the system refuses too many slices. */
    uint32_t limit = nature == IOCP__NATURE_DATAGRAM ? UINT32_MAX : TRY_SLICES_MAX;

    try_begin(out_tried);
    for (;;) {
        uint32_t count = op->u.io.count < limit ? op->u.io.count : limit;
        size_t asked = try_total(op->u.io.slices, count);
        ssize_t sent = try_send_once(op, count, address);
        int os_error = sent < 0 ? errno : 0;

        if (os_error == EAGAIN && try_is_hopeless(op, address)) {
            out_tried->os_error = EAGAIN;
            return IOCP__TRY_FAILED;
        }
        if (os_error)
            return try_failed(out_tried, os_error);
        iocp__op_advance(op, (uint64_t)sent);
        /* The kernel took less than it was given: it is full, and will tell when it is not. */
        if ((size_t)sent < asked)
            return IOCP__TRY_BLOCKED;
        if (op->u.io.count == 0)
            return try_done(out_tried, (int64_t)op->progress);
    }
}

/* ---- Connections. */

/* Errors of one connection that was lost while it waited, not of the listening socket: accept(2),
 * "Error handling". EOPNOTSUPP is in that list and not in this: a socket that cannot listen has it.
 */
static int try_is_lost(int os_error)
{
    switch (os_error) {
    case ECONNABORTED:
    case EINTR:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return 1;
    default:
        return 0;
    }
}

enum iocp__try iocp__try_accept(iocp_handle handle, struct iocp__tried *out_tried)
{
    int accepted = accept4((int)handle, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    try_begin(out_tried);
    if (accepted >= 0)
        return try_done(out_tried, accepted);
    return try_is_lost(errno) ? IOCP__TRY_AGAIN : try_failed(out_tried, errno);
}

enum iocp__try iocp__try_connect(iocp_handle handle, const struct iocp_address *address,
                                 struct iocp__tried *out_tried)
{
    const struct sockaddr *to = (const struct sockaddr *)(const void *)address->storage.bytes;
    int result = connect((int)handle, to, address->size);

    /* Linux (6.18 too) says so when an earlier attempt on the socket failed and its error was asked
     * for by SO_ERROR: it is about that one. */
    if (result < 0 && errno == ECONNABORTED)
        result = connect((int)handle, to, address->size);
    try_begin(out_tried);
    if (result == 0)
        return IOCP__TRY_DONE;
    /* EINTR: it goes on all the same. EAGAIN is no "under way" but a Unix listener with a full
     * backlog, of which nothing tells when it has room: the caller's to repeat. */
    if (errno == EINPROGRESS || errno == EINTR)
        return IOCP__TRY_BLOCKED;
    out_tried->os_error = errno;
    return IOCP__TRY_FAILED;
}

enum iocp__try iocp__try_connected(iocp_handle handle, int hung_up, struct iocp__tried *out_tried)
{
    struct iocp_address peer;

    try_begin(out_tried);
    out_tried->os_error = iocp__socket_pending_error(handle);
    if (out_tried->os_error)
        return IOCP__TRY_FAILED;
    /* No error is no proof: somebody may have read it before. A peer is. */
    if (iocp__socket_peer(handle, &peer) == 0)
        return IOCP__TRY_DONE;
    if (!hung_up)
        return IOCP__TRY_BLOCKED;
    out_tried->os_error = ECONNABORTED;
    return IOCP__TRY_FAILED;
}
