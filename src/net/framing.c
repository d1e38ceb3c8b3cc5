/* Framing: finds the end of a message in bytes. No state, no memory, no input or output.
 *
 * Sizes that a peer sends are added up in 64 bits with their overflow checked, and compared with
 * the limits before anything else is done with them. A message is never smaller than the end of its
 * size field, so that a size of 0 cannot make a reader turn on the spot. */
#include <iocp/framing.h>

#include <string.h>

struct iocp_framing iocp_framing_raw(void)
{
    struct iocp_framing framing;
    memset(&framing, 0, sizeof framing);
    framing.kind = IOCP_FRAMING_RAW;
    return framing;
}

struct iocp_framing iocp_framing_line(uint32_t message_max)
{
    struct iocp_framing framing = iocp_framing_raw();
    framing.kind = IOCP_FRAMING_LINE;
    framing.message_max = message_max;
    return framing;
}

struct iocp_framing iocp_framing_length(uint32_t size_width, uint32_t message_max)
{
    struct iocp_framing framing = iocp_framing_raw();
    framing.kind = IOCP_FRAMING_LENGTH;
    framing.message_max = message_max;
    framing.message_min = size_width;
    framing.size_width = size_width;
    return framing;
}

static uint64_t framing_field_end(const struct iocp_framing *framing)
{
    return (uint64_t)framing->size_offset + framing->size_width;
}

static uint64_t framing_field_max(const struct iocp_framing *framing)
{
    return UINT64_MAX >> (64 - 8 * framing->size_width);
}

/* field + adjust, or IOCP_EPROTOCOL when that is below 0 or above 64 bits. */
static int framing_adjust(const struct iocp_framing *framing, uint64_t field, uint64_t *out_size)
{
    int64_t adjust = framing->size_adjust;
    if (adjust < 0 ? field < (uint64_t)-adjust : field > UINT64_MAX - (uint64_t)adjust)
        return IOCP_EPROTOCOL;
    *out_size = field + (uint64_t)adjust;
    return 0;
}

static int framing_check_length(const struct iocp_framing *framing)
{
    uint32_t width = framing->size_width;
    uint64_t largest;
    if (width != 1 && width != 2 && width != 4 && width != 8)
        return IOCP_EINVAL;
    if (framing->message_min < framing_field_end(framing) ||
        framing->message_min > framing->message_max)
        return IOCP_EINVAL;
    if (framing->payload_offset > framing->message_min)
        return IOCP_EINVAL;
    /* Some value of the field must give a size within the limits. 8 bytes reach everything. */
    if (framing->size_adjust > 0 && (uint32_t)framing->size_adjust > framing->message_max)
        return IOCP_EINVAL;
    if (width < 8 && (framing_adjust(framing, framing_field_max(framing), &largest) != 0 ||
                      largest < framing->message_min))
        return IOCP_EINVAL;
    return 0;
}

int iocp_framing_check(const struct iocp_framing *framing)
{
    if (!framing)
        return IOCP_EINVAL;
    switch (framing->kind) {
    case IOCP_FRAMING_RAW:
        return 0;
    case IOCP_FRAMING_LINE:
        return framing->message_max > 0 ? 0 : IOCP_EINVAL;
    case IOCP_FRAMING_LENGTH:
        return framing_check_length(framing);
    default:
        return IOCP_EINVAL;
    }
}

static int framing_next_raw(size_t size, struct iocp_frame *out_frame)
{
    if (size == 0)
        return 0;
    out_frame->size = size;
    out_frame->payload_offset = 0;
    out_frame->payload_size = size;
    return 1;
}

static int framing_next_line(const struct iocp_framing *framing, const char *data, size_t size,
                             size_t scanned, struct iocp_frame *out_frame)
{
    size_t window = size < framing->message_max ? size : framing->message_max;
    const char *end = NULL;
    size_t line_size;
    if (scanned < window)
        end = memchr(data + scanned, '\n', window - scanned);
    if (!end)
        return size < framing->message_max ? 0 : IOCP_EPROTOCOL;
    line_size = (size_t)(end - data);
    out_frame->size = line_size + 1;
    out_frame->payload_offset = 0;
    out_frame->payload_size = line_size;
    if (line_size > 0 && data[line_size - 1] == '\r')
        out_frame->payload_size--;
    return 1;
}

static uint64_t framing_field(const struct iocp_framing *framing, const unsigned char *data)
{
    const unsigned char *bytes = data + framing->size_offset;
    uint32_t width = framing->size_width;
    uint64_t field = 0;
    uint32_t i;
    /* The usual one, written out, so that compilers make one load of it. */
    if (width == 4 && framing->size_big_endian)
        return bytes[3] | (uint32_t)bytes[2] << 8 | (uint32_t)bytes[1] << 16 |
               (uint32_t)bytes[0] << 24;
    if (width == 4)
        return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
               (uint32_t)bytes[3] << 24;
    for (i = 0; i < width; i++)
        field = field << 8 | bytes[framing->size_big_endian ? i : width - 1 - i];
    return field;
}

static int framing_next_length(const struct iocp_framing *framing, const void *data, size_t size,
                               struct iocp_frame *out_frame)
{
    uint64_t field_end = framing_field_end(framing);
    uint64_t message_size;
    if (size < field_end)
        return 0;
    if (framing_adjust(framing, framing_field(framing, data), &message_size) != 0)
        return IOCP_EPROTOCOL;
    if (message_size < field_end || message_size < framing->message_min ||
        message_size > framing->message_max || message_size < framing->payload_offset)
        return IOCP_EPROTOCOL;
    if (size < message_size)
        return 0;
    out_frame->size = (size_t)message_size;
    out_frame->payload_offset = framing->payload_offset;
    out_frame->payload_size = (size_t)message_size - framing->payload_offset;
    return 1;
}

int iocp_framing_next(const struct iocp_framing *framing, const void *data, size_t size,
                      size_t scanned, struct iocp_frame *out_frame)
{
    if (!framing || (!data && size) || !out_frame)
        return IOCP_EINVAL;
    switch (framing->kind) {
    case IOCP_FRAMING_LINE:
        return framing_next_line(framing, data, size, scanned, out_frame);
    case IOCP_FRAMING_LENGTH:
        return framing_next_length(framing, data, size, out_frame);
    default:
        return framing_next_raw(size, out_frame);
    }
}

int iocp_framing_put_size(const struct iocp_framing *framing, void *header, size_t message_size)
{
    unsigned char *bytes = header;
    uint32_t width;
    int64_t field;
    uint32_t i;
    if (!header || iocp_framing_check(framing) != 0 || framing->kind != IOCP_FRAMING_LENGTH)
        return IOCP_EINVAL;
    if (message_size < framing->message_min || message_size > framing->message_max)
        return IOCP_EMSGSIZE;
    /* Both are below 2^32 by now. */
    field = (int64_t)message_size - framing->size_adjust;
    if (field < 0 || (uint64_t)field > framing_field_max(framing))
        return IOCP_EMSGSIZE;
    bytes += framing->size_offset;
    width = framing->size_width;
    for (i = 0; i < width; i++)
        bytes[framing->size_big_endian ? width - 1 - i : i] = (unsigned char)(field >> (8 * i));
    return 0;
}
