/* The operation: one thing asked of the kernel, and its answer (the notes' IocpEvent).
 *
 * An op lives in memory of the user's, usually inside a larger struct. Its life: init once, then as
 * often as you like: prepare (one of the functions below) → submit → answered. From submit to the
 * answer the op and the memory that it names belong to the library. A stream is answered many
 * times; its last answer lacks IOCP_PACKET_MORE.
 *
 * Threads: preparing an op needs no lock, an idle op is its owner's. Nothing here calls the system.
 */
#ifndef IOCP_OP_H
#define IOCP_OP_H

#include <iocp/abi.h>
#include <iocp/address.h>
#include <iocp/buffer.h>
#include <iocp/error.h>

IOCP_BEGIN

struct iocp_object;
struct iocp_op;

enum iocp_op_kind {
    IOCP_OP_NONE = 0,
    IOCP_OP_RECV,
    IOCP_OP_SEND,
    IOCP_OP_ACCEPT,
    IOCP_OP_CONNECT,
    IOCP_OP_DISCONNECT,
    IOCP_OP_RECV_FROM,
    IOCP_OP_SEND_TO,
    IOCP_OP_READ,
    IOCP_OP_WRITE,
    IOCP_OP_POLL,
    IOCP_OP_TIMER,
    IOCP_OP_POST,
    IOCP_OP_ACCEPT_STREAM,
    IOCP_OP_RECV_STREAM
};

enum iocp_packet_flag {
    IOCP_PACKET_MORE = 1,     /* the stream goes on: the op is not the user's yet */
    IOCP_PACKET_TRUNCATED = 2 /* recv_from: the datagram was longer than the memory */
};

/* One answer. In a handler everything in it is borrowed until the handler returns. What
 * `iocp_port_wait` gives is the caller's, until `iocp_packet_release`. */
struct iocp_packet {
    struct iocp_op *op;         /* the op as it was submitted */
    struct iocp_object *object; /* its owner, or NULL */
    uintptr_t key;              /* of the registration; of the op for post and timer */
    int64_t result;             /* bytes, or the accepted handle, or below 0 an iocp_error */
    int32_t os_error;           /* the system's own code beside an error, else 0 */
    uint32_t flags;             /* enum iocp_packet_flag */
    struct iocp_buffer *buffer; /* recv-stream: holds the bytes; take a ref to keep them */
    void *data;                 /* recv-stream: the `result` bytes */
};

typedef void iocp_handler(const struct iocp_packet *packet);

/* Private: an answer on its way through the queues. */
struct iocp_event {
    struct iocp_event *next;
    struct iocp_op *op;
    int64_t result;
    struct iocp_buffer *buffer;
    int32_t os_error;
    uint32_t flags;
};

/* Transparent, so that it can be embedded; its members are the library's. `context` alone is the
 * user's. */
struct iocp_op {
    struct iocp_event event;
    struct iocp_object *owner;
    iocp_handler *handler;
    void *context;
    struct iocp_op *cancel_next;
    uint64_t progress;
    union {
        struct {
            struct iocp_slice *slices;
            uint32_t count;
            uint32_t flags;
            struct iocp_address *address;
            struct iocp_slice one;
        } io;
        struct { /* the same beginning as io */
            struct iocp_slice *slices;
            uint32_t count;
            uint32_t flags;
            void (*gather)(struct iocp_op *op);
            int (*landed)(struct iocp_op *op);
        } late;
        struct {
            struct iocp_slice one;
            uint64_t offset;
        } file;
        struct {
            uintptr_t key;
            uint64_t deadline_ns;
            struct iocp_op *child;
            struct iocp_op *sibling;
            struct iocp_op *back;
        } timer;
        struct {
            uintptr_t key;
        } post;
        uint32_t poll_events;
    } u;
    uint8_t kind;    /* enum iocp_op_kind */
    uint8_t state;   /* enum op_state of core/op.h */
    uint8_t flags;   /* enum op_flag of core/op.h */
    uint8_t backend; /* the backend's own */
    uint32_t backend_data;
};

/* Makes an idle op. `handler` runs for its answers inside dispatch; NULL leaves them to the owner's
 * class (`iocp_object_class.complete`). */
IOCP_API void iocp_op_init(struct iocp_op *op, iocp_handler *handler);

/* Receives up to `size` bytes from a stream or one datagram. Size 0 completes with 0 when data or
 * the end of the stream is there, and takes nothing. A stream's end is IOCP_EEOF. */
IOCP_API void iocp_op_recv(struct iocp_op *op, void *data, size_t size);

/* The same into several pieces. The array is the library's until the answer and may be changed. */
IOCP_API void iocp_op_recv_slices(struct iocp_op *op, struct iocp_slice *slices, uint32_t count);

/* Receives again and again into buffers of the port until canceled or failed. Each packet has
 * `buffer` and `data`; an idle one holds no buffer. The last packet has an error (IOCP_EEOF at the
 * end of the stream). When several workers handle packets of an object that is not serial, the last
 * one may overtake earlier ones: the op has to live, unprepared, until those are handled too. */
IOCP_API void iocp_op_recv_stream(struct iocp_op *op);

/* Sends all of it: the answer is the whole size, or an error. */
IOCP_API void iocp_op_send(struct iocp_op *op, const void *data, size_t size);
IOCP_API void iocp_op_send_slices(struct iocp_op *op, struct iocp_slice *slices, uint32_t count);

/* Accepts one connection: `result` is its handle, which the receiver of the packet owns. A failure
 * for want of descriptors is IOCP_EMFILE. */
IOCP_API void iocp_op_accept(struct iocp_op *op);
/* Accepts again and again. It ends with an error, IOCP_EMFILE as well: submit it again later. */
IOCP_API void iocp_op_accept_stream(struct iocp_op *op);

/* Connects. `address` is borrowed until the answer. */
IOCP_API void iocp_op_connect(struct iocp_op *op, struct iocp_address *address);

/* Ends the sending side of a stream when all sends before it are answered; the peer reads its end.
 */
IOCP_API void iocp_op_disconnect(struct iocp_op *op);

/* Receives a datagram and where it came from. `address` may be NULL. */
IOCP_API void iocp_op_recv_from(struct iocp_op *op, void *data, size_t size,
                                struct iocp_address *address);
IOCP_API void iocp_op_send_to(struct iocp_op *op, const void *data, size_t size,
                              struct iocp_address *address);

/* Reads from or writes to a file at `offset` (Windows: opened with FILE_FLAG_OVERLAPPED). Several
 * may be pending on one file, in any order. A read at the end of the file is IOCP_EEOF; one close
 * to it may be short. A write is whole or an error. */
IOCP_API void iocp_op_read(struct iocp_op *op, void *data, size_t size, uint64_t offset);
IOCP_API void iocp_op_write(struct iocp_op *op, const void *data, size_t size, uint64_t offset);

enum iocp_poll_event {
    IOCP_POLL_READ = 1,
    IOCP_POLL_WRITE = 2,
    IOCP_POLL_ERROR = 4 /* in the answer only: error or hang-up */
};

/* Waits until the handle can be read or written; the answer is the events that hold. For handles
 * that other code reads. Errors: IOCP_ENOTSUP where a backend has none (regular files; on
 * Windows all but sockets). */
IOCP_API void iocp_op_poll(struct iocp_op *op, uint32_t events);

/* Ends with 0 after `timeout_ns`, never earlier, or with IOCP_ECANCELED. Timers end in the order of
 * their deadlines; those of one deadline in any. */
IOCP_API void iocp_op_timer(struct iocp_op *op, uint64_t timeout_ns, uintptr_t key);

/* A packet of one's own: comes out of the port with this key and result, in the order of posting.
 */
IOCP_API void iocp_op_post(struct iocp_op *op, uintptr_t key, int64_t result);

/* Not 0 from submit to the last answer. Only a hint unless the caller knows that nobody submits. */
IOCP_API int iocp_op_pending(const struct iocp_op *op);

IOCP_END

#endif
