/* Framing, of every kind: a reader that gets the stream whole, one that gets it byte by byte, and
 * one that gets it in pieces must find the same messages and the same end.
 *
 * An input is the framing (1 byte of kind and sizes, then numbers), the sizes of the pieces, and
 * the stream. */
#include "fuzz.h"

#include <iocp/error.h>
#include <iocp/framing.h>

#include <string.h>

/* A hash of all that a reader found, and how its reading ended. */
struct reading {
    uint64_t hash;
    uint64_t count;
    size_t at; /* where it stopped: the first byte of no message */
    int result;
};

static void reading_add(struct reading *reading, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++)
        reading->hash = (reading->hash ^ bytes[i]) * UINT64_C(0x100000001b3);
}

/* Memory of exactly the bytes that the reader has, so that a look beyond is seen. */
static int next(const struct iocp_framing *framing, const uint8_t *data, size_t size,
                size_t scanned, struct iocp_frame *frame)
{
    uint8_t *copy = malloc(size ? size : 1);
    FUZZ_CHECK(copy);
    if (size)
        memcpy(copy, data, size);
    int result = iocp_framing_next(framing, copy, size, scanned, frame);
    free(copy);
    return result;
}

static void check_frame(const struct iocp_framing *framing, const struct iocp_frame *frame,
                        size_t size)
{
    FUZZ_CHECK(frame->size > 0 && frame->size <= size);
    FUZZ_CHECK(frame->payload_offset <= frame->size);
    FUZZ_CHECK(frame->payload_size <= frame->size - frame->payload_offset);
    if (framing->kind == IOCP_FRAMING_RAW)
        return;
    FUZZ_CHECK(frame->size <= framing->message_max);
    if (framing->kind == IOCP_FRAMING_LENGTH)
        FUZZ_CHECK(frame->size >= framing->message_min);
}

/* What LENGTH says of its own messages: the size written back is the size that was read. */
static void check_size_field(const struct iocp_framing *framing, const uint8_t *message,
                             const struct iocp_frame *frame)
{
    if (framing->kind != IOCP_FRAMING_LENGTH)
        return;
    size_t end = (size_t)framing->size_offset + framing->size_width;
    uint8_t *copy = malloc(end);
    FUZZ_CHECK(copy);
    memcpy(copy, message, end);
    memset(copy + framing->size_offset, 0xa5, framing->size_width);
    FUZZ_CHECK(iocp_framing_put_size(framing, copy, frame->size) == 0);
    FUZZ_CHECK(memcmp(copy, message, end) == 0);
    free(copy);
}

/* Reads all of the stream; `pieces` says how much comes at a time, over and over. */
static struct reading read_stream(const struct iocp_framing *framing, struct fuzz_input stream,
                                  struct fuzz_input pieces, int remember)
{
    struct reading reading = {.hash = UINT64_C(0xcbf29ce484222325)};
    size_t end = 0;
    size_t scanned = 0;
    size_t piece = 0;
    for (;;) {
        struct iocp_frame frame;
        const uint8_t *at = stream.data + reading.at;
        size_t have = end - reading.at;
        reading.result = next(framing, at, have, scanned, &frame);
        if (reading.result < 0)
            return reading;
        if (reading.result == 1) {
            check_frame(framing, &frame, have);
            check_size_field(framing, at, &frame);
            reading_add(&reading, at + frame.payload_offset, frame.payload_size);
            if (framing->kind != IOCP_FRAMING_RAW)
                reading_add(&reading, &frame.payload_size, sizeof(frame.payload_size));
            reading.count++;
            reading.at += frame.size;
            scanned = 0;
        } else if (end == stream.size) {
            return reading;
        } else {
            size_t more =
                pieces.size ? (size_t)pieces.data[piece++ % pieces.size] + 1 : stream.size;
            scanned = remember ? have : 0;
            end = more < stream.size - end ? end + more : stream.size;
        }
    }
}

static struct iocp_framing read_framing(struct fuzz_input *input)
{
    static const uint32_t widths[] = {1, 2, 4, 8};
    uint8_t how = fuzz_byte(input);
    uint32_t max = fuzz_number(input);
    struct iocp_framing framing = iocp_framing_raw();
    /* Most maxima near the sizes that a stream can have. */
    if (how & 0x80)
        max %= 300;
    if (how % 3 == 1)
        return iocp_framing_line(max);
    if (how % 3 == 0)
        return framing;
    framing = iocp_framing_length(widths[how >> 2 & 3], max);
    framing.size_big_endian = how >> 4 & 1;
    framing.size_offset = fuzz_byte(input) % 16;
    framing.message_min = framing.size_offset + framing.size_width + fuzz_byte(input) % 16;
    framing.payload_offset = fuzz_byte(input) % 32;
    framing.size_adjust = how & 0x40 ? (int32_t)fuzz_number(input) : (int8_t)fuzz_byte(input);
    return framing;
}

static void check_equal(const struct iocp_framing *framing, struct reading a, struct reading b)
{
    FUZZ_CHECK(a.hash == b.hash);
    FUZZ_CHECK(a.at == b.at);
    FUZZ_CHECK(a.result == b.result);
    if (framing->kind != IOCP_FRAMING_RAW)
        FUZZ_CHECK(a.count == b.count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t ones[] = {0};
    struct fuzz_input input = {data, size};
    struct iocp_framing framing = read_framing(&input);
    struct fuzz_input pieces = {NULL, fuzz_byte(&input) % 8};
    if (iocp_framing_check(&framing) != 0 || pieces.size > input.size)
        return 0;
    pieces.data = input.data;
    input.data += pieces.size;
    input.size -= pieces.size;

    struct reading whole = read_stream(&framing, input, (struct fuzz_input){NULL, 0}, 0);
    struct fuzz_input bytes = {ones, sizeof(ones)};
    for (int remember = 0; remember < 2; remember++) {
        check_equal(&framing, whole, read_stream(&framing, input, pieces, remember));
        /* Byte by byte is quadratic in the copies. */
        if (input.size <= 512)
            check_equal(&framing, whole, read_stream(&framing, input, bytes, remember));
    }
    return 0;
}
