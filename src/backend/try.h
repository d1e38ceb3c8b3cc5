/* One attempt at an operation of a socket, now, without waiting: what a backend on top of a kernel
 * that tells of readiness does when it believes that the socket is ready.
 *
 * It knows no lanes and no queues, and keeps nothing between two calls but the progress of a send.
 * Threads: the caller has the socket's direction to itself. */
#ifndef IOCP_BACKEND_TRY_H
#define IOCP_BACKEND_TRY_H

#include <iocp/op.h>

/* What kind of socket a handle is, as far as receiving differs. */
enum iocp__nature {
    IOCP__NATURE_UNKNOWN = 0,
    IOCP__NATURE_NONE,    /* no socket */
    IOCP__NATURE_TCP,     /* a short receive has emptied it, but for urgent data */
    IOCP__NATURE_UNIX,    /* a Unix stream: the same, but for messages that carried descriptors */
    IOCP__NATURE_STREAM,  /* any other with an end of the stream */
    IOCP__NATURE_DATAGRAM /* 0 bytes are a legal result */
};

/* What an attempt came to. */
enum iocp__try {
    IOCP__TRY_DONE = 0, /* `result` holds; there may be more */
    IOCP__TRY_DRAINED,  /* `result` holds; the next attempt would find nothing */
    IOCP__TRY_BLOCKED,  /* not now, or not all of it: attempt it again when the kernel says so */
    IOCP__TRY_AGAIN,    /* one connection was lost before it was accepted: attempt it again */
    IOCP__TRY_FAILED    /* `os_error` says why */
};

struct iocp__tried {
    int64_t result; /* bytes or a handle; IOCP_EEOF */
    int32_t os_error;
    uint32_t flags; /* enum iocp_packet_flag: TRUNCATED */
};

enum iocp__nature iocp__try_nature(iocp_handle handle);

/* Receives into the slices; with `address` (may be NULL) it is filled in. When they have no bytes:
 * looks whether a receive would find something, and takes nothing. */
enum iocp__try iocp__try_recv(iocp_handle handle, enum iocp__nature nature,
                              struct iocp_slice *slices, uint32_t count,
                              struct iocp_address *address, struct iocp__tried *out_tried);

/* Sends what is left of a SEND or SEND_TO. Moves op->progress and the slices on. */
enum iocp__try iocp__try_send(struct iocp_op *op, enum iocp__nature nature,
                              struct iocp__tried *out_tried);

enum iocp__try iocp__try_accept(iocp_handle handle, struct iocp__tried *out_tried);

/* Begins to connect. BLOCKED: it is under way. */
enum iocp__try iocp__try_connect(iocp_handle handle, const struct iocp_address *address,
                                 struct iocp__tried *out_tried);
/* Asks what became of it, when the kernel said that something did. `hung_up`: it reported an error
 * or a hang-up, so it is not under way any more. */
enum iocp__try iocp__try_connected(iocp_handle handle, int hung_up, struct iocp__tried *out_tried);

#endif
