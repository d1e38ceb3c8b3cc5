/* What streams are made of: each byte follows from its stream and its place, so that whoever
 * receives it knows whether it is the right one.
 *
 * A message: 6 digits stream (0: a broadcast), 2 digits sender, 8 digits sequence, all
 * hexadecimal, then letters. */
#include "sim.h"

#include <stdio.h>
#include <string.h>

#define HEADER 16
#define STREAMS_MAX 4096

static struct stream *streams[STREAMS_MAX];
static uint32_t stream_count;

struct stream *stream_new(struct iocp__sim_connection *connection, int side)
{
    SIM_CHECK(connection, "a session without a connection");
    SIM_CHECK(!stream_of(connection, side), "a second session on one end of a connection");
    SIM_CHECK(stream_count < STREAMS_MAX, "too many streams");
    struct stream *stream = iocp__sim_allocate(sizeof(*stream));
    stream->id = stream_count + 1;
    stream->connection = connection;
    stream->side = side;
    streams[stream_count++] = stream;
    return stream;
}

struct stream *stream_of(const struct iocp__sim_connection *connection, int side)
{
    for (uint32_t i = stream_count; i > 0; i--) {
        if (streams[i - 1]->connection == connection && streams[i - 1]->side == side)
            return streams[i - 1];
    }
    return NULL;
}

void streams_free(void)
{
    while (stream_count)
        iocp__sim_release(streams[--stream_count]);
}

/* ---- Contents. */

static uint32_t stream_mix(uint32_t a, uint32_t b, uint32_t c)
{
    uint64_t value = ((uint64_t)a << 40) ^ ((uint64_t)b << 20) ^ c;
    value *= UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(value >> 40);
}

static unsigned char stream_letter(uint32_t id, uint32_t key, size_t place)
{
    return (unsigned char)('a' + stream_mix(id, key, (uint32_t)place) % 25);
}

static size_t stream_frame_size(void)
{
    return knobs.kind == SIM_LINE ? 1 : 4;
}

size_t stream_message_size(void)
{
    size_t least = HEADER + stream_frame_size();
    size_t most = sim_once_in(8) ? SIM_MESSAGE_MAX : 60;
    return least + sim_below((uint32_t)(most - least + 1));
}

static void stream_put_hex(unsigned char *to, uint32_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--, value >>= 4)
        to[i] = (unsigned char)"0123456789abcdef"[value & 15];
}

static uint32_t stream_get_hex(const unsigned char *from, int digits)
{
    uint32_t value = 0;
    for (int i = 0; i < digits; i++) {
        uint32_t digit = (uint32_t)(from[i] <= '9' ? from[i] - '0' : from[i] - 'a' + 10);
        value = value << 4 | (digit & 15);
    }
    return value;
}

static void stream_fill(uint32_t id, uint32_t sub, uint32_t sequence, size_t size,
                        unsigned char *wire)
{
    unsigned char *payload = wire;
    size_t payload_size = size - stream_frame_size();
    if (knobs.kind == SIM_LENGTH) {
        for (int i = 0; i < 4; i++)
            wire[i] = (unsigned char)(size >> (8 * i));
        payload += 4;
    } else {
        wire[size - 1] = '\n';
    }
    stream_put_hex(payload, id, 6);
    stream_put_hex(payload + 6, sub, 2);
    stream_put_hex(payload + 8, sequence, 8);
    for (size_t i = HEADER; i < payload_size; i++)
        payload[i] = stream_letter(id, sequence, i);
}

void stream_message(struct stream *stream, uint32_t sub, uint32_t sequence, size_t size,
                    unsigned char *wire)
{
    stream_fill(stream->id, sub, sequence, size, wire);
}

void stream_broadcast(uint32_t sequence, size_t size, unsigned char *wire)
{
    stream_fill(0, 0, sequence, size, wire);
}

static unsigned char stream_raw_byte(const struct stream *stream, uint64_t offset)
{
    return (unsigned char)stream_mix(stream->id, 0, (uint32_t)offset);
}

void stream_raw(const struct stream *stream, uint64_t offset, size_t size, unsigned char *bytes)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = stream_raw_byte(stream, offset + i);
}

/* ---- Checks. */

void stream_check_raw(struct stream *stream, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        SIM_CHECK(bytes[i] == stream_raw_byte(stream, stream->consumed + i),
                  "stream %u: byte %llu is not the one that was sent", stream->id,
                  (unsigned long long)(stream->consumed + i));
    if (stream->consumed + size > stream->seen)
        stream->seen = stream->consumed + size;
}

static void stream_check_order(struct stream *stream, uint32_t sub, uint32_t sequence)
{
    SIM_CHECK(sub < SIM_SUBS, "stream %u: sender %u", stream->id, sub);
    uint32_t expected = stream->received[sub];
    int right = stream->droppable ? sequence >= expected : sequence == expected;
    SIM_CHECK(right && sequence < stream->sent[sub],
              "stream %u, sender %u: message %u of %u, %u was expected", stream->id, sub, sequence,
              stream->sent[sub], expected);
    stream->received[sub] = sequence + 1;
}

void stream_check_message(struct stream *stream, const void *payload, size_t size)
{
    const unsigned char *bytes = payload;
    SIM_CHECK(size >= HEADER, "stream %u: a message of %zu bytes", stream->id, size);
    uint32_t id = stream_get_hex(bytes, 6);
    uint32_t sub = stream_get_hex(bytes + 6, 2);
    uint32_t sequence = stream_get_hex(bytes + 8, 8);
    SIM_CHECK(id == 0 || id == stream->id, "stream %u: a message of stream %u", stream->id, id);
    for (size_t i = HEADER; i < size; i++)
        SIM_CHECK(bytes[i] == stream_letter(id, sequence, i),
                  "stream %u: byte %zu of message %u is not the one that was sent", stream->id, i,
                  sequence);
    if (id == 0) {
        SIM_CHECK(sequence > stream->broadcast, "stream %u: broadcast %u comes after %u",
                  stream->id, sequence, stream->broadcast);
        stream->broadcast = sequence;
    } else {
        stream_check_order(stream, sub, sequence);
    }
    stream->seen += size + stream_frame_size();
}
