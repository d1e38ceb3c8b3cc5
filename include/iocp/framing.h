/* Framing: where a message ends in a stream of bytes.
 *
 * A value with no state and no memory; the session does the buffering. Threads: any. */
#ifndef IOCP_FRAMING_H
#define IOCP_FRAMING_H

#include <iocp/abi.h>
#include <iocp/error.h>

IOCP_BEGIN

enum iocp_framing_kind {
    IOCP_FRAMING_RAW = 0, /* no messages: bytes as they come */
    IOCP_FRAMING_LINE,    /* up to "\n"; a "\r" before it is dropped too */
    IOCP_FRAMING_LENGTH   /* a header with the size in it */
};

struct iocp_framing {
    uint32_t kind; /* enum iocp_framing_kind */
    /* The largest message, terminator and header included; a larger one is IOCP_EPROTOCOL. Also the
     * most that a session buffers for a message that has not come whole. */
    uint32_t message_max;
    /* LENGTH only. */
    uint32_t message_min;     /* smallest whole message; at least the end of the size field */
    uint32_t size_offset;     /* where the size field begins */
    uint32_t size_width;      /* 1, 2, 4 or 8 bytes */
    uint32_t size_big_endian; /* byte order of the field */
    int32_t size_adjust;      /* whole message = field + adjust; 0 when the field counts it all */
    uint32_t payload_offset;  /* bytes of the message that the handler does not see */
};

IOCP_API struct iocp_framing iocp_framing_raw(void);
IOCP_API struct iocp_framing iocp_framing_line(uint32_t message_max);
/* A field of `size_width` bytes, little-endian, at the front, that counts the whole message with
 * itself, as in the course (its PacketHeader): change the members for another. The handler sees the
 * whole message. */
IOCP_API struct iocp_framing iocp_framing_length(uint32_t size_width, uint32_t message_max);

/* 0, or IOCP_EINVAL when the members contradict each other. */
IOCP_API int iocp_framing_check(const struct iocp_framing *framing);

struct iocp_frame {
    size_t size;           /* of the whole message in the stream */
    size_t payload_offset; /* what the handler sees */
    size_t payload_size;
};

/* Looks for the first message in `size` bytes, of which the first `scanned` are known to hold no
 * end (LINE; 0 is always right). Returns 1 and the frame; 0 when more bytes are needed;
 * IOCP_EPROTOCOL for a size below the minimum or above the maximum, found as soon as the field is
 * there. RAW: whatever is there is the message. IOCP_EINVAL: a pointer is missing. */
IOCP_API int iocp_framing_next(const struct iocp_framing *framing, const void *data, size_t size,
                               size_t scanned, struct iocp_frame *out_frame);

/* Writes the size field of a LENGTH message of `message_size` bytes, header included, into
 * `header`, which has at least size_offset + size_width bytes. Errors: IOCP_EINVAL, IOCP_EMSGSIZE.
 */
IOCP_API int iocp_framing_put_size(const struct iocp_framing *framing, void *header,
                                   size_t message_size);

IOCP_END

#endif
