/* Protocols whose answers are the messages themselves, in order: echo, framed, storm, idle. What
 * comes is known in advance byte by byte, so nothing of it is kept. */
#include "load.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { FIXED_LENGTH_SIZE = 4, FIXED_HEAD_SIZE = FIXED_LENGTH_SIZE + 1 };

/* The bytes before the pattern: the length, where there is one, and the tag. Returns their number.
 */
static size_t fixed_head(const struct connection *connection, unsigned char *head)
{
    const struct load *load = connection->load;
    uint32_t size = load->options->size;
    unsigned char *next = head;

    if (load->protocol->overhead != 0) {
        *next++ = (unsigned char)(size >> 24);
        *next++ = (unsigned char)(size >> 16);
        *next++ = (unsigned char)(size >> 8);
        *next++ = (unsigned char)size;
    }
    *next++ = connection->slow ? 'S' : 'M';
    return (size_t)(next - head);
}

static void fixed_write(const struct connection *connection, uint64_t number, uint64_t due_ns,
                        unsigned char *out)
{
    const struct content *content = &connection->load->content;
    size_t head_size = fixed_head(connection, out);
    (void)due_ns;
    memcpy(out + head_size, content_at(content, connection->index, number) + 1, content->size - 1);
}

/* ---- Comparing. */

/* A piece of an answer: from `offset` in message `number`. */
struct fixed_piece {
    const unsigned char *data;
    size_t size;
    size_t offset;
    uint64_t number;
};

/* The byte that belongs at an offset of a message. */
static unsigned char fixed_byte(const struct connection *connection, uint64_t number, size_t offset)
{
    unsigned char head[FIXED_HEAD_SIZE];
    size_t head_size = fixed_head(connection, head);
    if (offset < head_size) {
        return head[offset];
    }
    return content_at(&connection->load->content, connection->index,
                      number)[offset - head_size + 1];
}

static void fixed_differs(struct connection *connection, const struct fixed_piece *piece)
{
    char text[96];
    size_t i = 0;
    while (piece->data[i] == fixed_byte(connection, piece->number, piece->offset + i)) {
        i++;
    }
    size_t offset = piece->offset + i;
    snprintf(text, sizeof text, "answer %" PRIu64 ", byte %zu: 0x%02x instead of 0x%02x",
             piece->number, offset, piece->data[i], fixed_byte(connection, piece->number, offset));
    bool length = offset < connection->load->protocol->overhead;
    connection_break(connection, length ? TALLY_malformed : TALLY_different, text);
}

/* Whether the bytes are right: of the length at least, with --verify all of them. */
static bool fixed_is_right(const struct connection *connection, const struct fixed_piece *piece)
{
    const struct load *load = connection->load;
    unsigned char head[FIXED_HEAD_SIZE];
    size_t head_size = fixed_head(connection, head);
    size_t compared = load->options->verify ? head_size : load->protocol->overhead;
    size_t begin = piece->offset;
    size_t end = piece->offset + piece->size;

    if (begin < compared) {
        size_t until = end < compared ? end : compared;
        if (memcmp(piece->data, head + begin, until - begin) != 0) {
            return false;
        }
    }
    if (!load->options->verify || end <= head_size) {
        return true;
    }
    size_t from = begin > head_size ? begin : head_size;
    const unsigned char *content = content_at(&load->content, connection->index, piece->number) + 1;
    return memcmp(piece->data + (from - begin), content + (from - head_size), end - from) == 0;
}

/* Compares what has come, answer by answer. False: it is wrong, and the connection has ended. */
static bool fixed_compare(struct connection *connection, const unsigned char *data, size_t size)
{
    struct fixed_piece piece = {
        .data = data,
        .offset = connection->offset,
        .number = connection->answered,
    };
    while (size > 0) {
        size_t left = connection->load->frame - piece.offset;
        piece.size = size < left ? size : left;
        if (!fixed_is_right(connection, &piece)) {
            fixed_differs(connection, &piece);
            return false;
        }
        piece.data += piece.size;
        size -= piece.size;
        piece.offset = 0;
        piece.number++;
    }
    return true;
}

/* ---- Counting. */

/* An answer of a connection that sends one message. */
static void fixed_single_answered(struct connection *connection)
{
    if (connection->load->protocol == &protocol_storm) {
        connection_again(connection);
    } else {
        connection_ready(connection);
        connection_pump(connection);
    }
}

static void fixed_received(struct connection *connection, const unsigned char *data, size_t size)
{
    const struct load *load = connection->load;
    uint64_t in_flight = connection->sent - connection->answered;

    if (size > in_flight * load->frame - connection->offset) {
        connection_break(connection, TALLY_unexpected, "more came than was sent");
        return;
    }
    if ((load->options->verify || load->protocol->overhead != 0) &&
        !fixed_compare(connection, data, size)) {
        return;
    }
    size_t total = connection->offset + size;
    uint32_t count = (uint32_t)(total / load->frame);
    connection->offset = total % load->frame;
    if (count == 0) {
        return;
    }
    connection_answered(connection, count);
    if (load->protocol->single) {
        fixed_single_answered(connection);
    } else {
        connection_pump(connection);
    }
}

/* Storm and idle: the message goes out at once. */
static void fixed_opened_single(struct connection *connection)
{
    connection->talking = true;
    connection_pump(connection);
}

const struct protocol protocol_echo = {
    .name = "echo",
    .size_min = 1,
    .size_max = 16777216,
    .write = fixed_write,
    .opened = connection_ready,
    .received = fixed_received,
};

const struct protocol protocol_framed = {
    .name = "framed",
    .size_min = 1,
    .size_max = 16777216,
    .overhead = FIXED_LENGTH_SIZE,
    .write = fixed_write,
    .opened = connection_ready,
    .received = fixed_received,
};

const struct protocol protocol_storm = {
    .name = "storm",
    .single = true,
    .size_min = 1,
    .size_max = 16777216,
    .write = fixed_write,
    .opened = fixed_opened_single,
    .received = fixed_received,
};

const struct protocol protocol_idle = {
    .name = "idle",
    .single = true,
    .size_min = 1,
    .size_max = 16777216,
    .write = fixed_write,
    .opened = fixed_opened_single,
    .received = fixed_received,
};
