/* Protocols in which a message reaches others: room, and the chat of iocp-chat
 * (docs/chat-protocol.md). A message has a stamp, so that whoever gets it knows who sent it, which
 * one it is, and how long it took. */
#include "load.h"

#include <stdlib.h>
#include <string.h>

enum {
    ROOM_LENGTH_SIZE = 4,
    CHAT_HEADER_SIZE = 4,
    CHAT_HELLO = 1,
    CHAT_SAY = 5,
    CHAT_PING = 9,
    CHAT_SAID = 0x85,
    CHAT_PONG = 0x8a,
    CHAT_REFUSED = 0x8b,
    FANOUT_GOES_ON = -1
};

/* One batch of received bytes. The tally's lock is held from its first frame to its last. */
struct fanout {
    struct connection *connection;
    uint64_t now_ns;
    uint32_t own;     /* messages of the connection's own that are done */
    int error;        /* enum tally_error, or FANOUT_GOES_ON */
    const char *text; /* what is wrong */
};

static void fanout_fail(struct fanout *fanout, enum tally_error error, const char *text)
{
    fanout->error = error;
    fanout->text = text;
}

/* ---- Deliveries. */

static void fanout_count(struct fanout *fanout, const struct stamp *stamp)
{
    const struct load *load = fanout->connection->load;
    struct tally *tally = fanout->connection->tally;
    if (load_measures(load, stamp->due_ns)) {
        latency_note(tally->latencies[0], fanout->now_ns - stamp->due_ns, 1);
        tally->deliveries++;
        tally->bytes += load->options->size;
    }
}

/* The number has to be the one that comes next of that talker. */
static void fanout_heard(struct fanout *fanout, const struct stamp *stamp)
{
    struct connection *connection = fanout->connection;
    uint32_t *next = &connection->heard[stamp->talker];
    if (stamp->number < *next) {
        connection->tally->errors[TALLY_repeated]++;
        return;
    }
    connection->tally->errors[TALLY_lost] += stamp->number - *next;
    connection->heard_count += stamp->number - *next + UINT64_C(1);
    *next = stamp->number + 1;
    fanout_count(fanout, stamp);
}

static void fanout_probed(struct fanout *fanout, const struct stamp *stamp)
{
    struct connection *connection = fanout->connection;
    struct load *load = connection->load;
    if (connection->probe != stamp->number &&
        stamp->number == atomic_load_explicit(&load->probe, memory_order_relaxed)) {
        connection->probe = stamp->number;
        load_probed(load);
    }
}

static bool fanout_is_same(const struct load *load, const struct stamp *stamp,
                           const unsigned char *payload)
{
    const unsigned char *content = content_at(&load->content, stamp->talker, stamp->number);
    return memcmp(payload + CONTENT_STAMP_SIZE, content + CONTENT_STAMP_SIZE,
                  load->options->size - CONTENT_STAMP_SIZE) == 0;
}

static void fanout_deliver(struct fanout *fanout, const unsigned char *payload, size_t size)
{
    const struct load *load = fanout->connection->load;
    struct stamp stamp;

    if (size != load->options->size || !stamp_read(payload, &stamp) ||
        (stamp.tag != 'M' && stamp.tag != 'P') || stamp.talker >= load->options->talkers ||
        stamp.due_ns > fanout->now_ns) {
        fanout_fail(fanout, TALLY_malformed, "what was delivered is no message of ours");
        return;
    }
    if (stamp.tag == 'P') {
        fanout_probed(fanout, &stamp);
        return;
    }
    if (load->options->verify && !fanout_is_same(load, &stamp, payload)) {
        fanout_fail(fanout, TALLY_different, "other bytes were delivered than were sent");
        return;
    }
    fanout_heard(fanout, &stamp);
    fanout->own += load->protocol->echoes_talker && stamp.talker == fanout->connection->index;
}

/* Room: a message of one's own has come back; chat: the server is past it. */
static void fanout_answered(struct fanout *fanout)
{
    struct connection *connection = fanout->connection;
    if (connection->sent - connection->answered < fanout->own) {
        fanout_fail(fanout, TALLY_unexpected, "more came back than was sent");
        return;
    }
    for (; fanout->own > 0; fanout->own--) {
        uint64_t due_ns = connection_due_ns(connection, connection->answered);
        connection->tally->messages += load_measures(connection->load, due_ns);
        connection->answered++;
    }
}

/* ---- Frames that come in pieces. */

struct fanout_protocol {
    size_t header_size;
    size_t (*frame_size)(const struct load *load, const unsigned char *header); /* 0: wrong */
    void (*frame)(struct fanout *fanout, const unsigned char *data, size_t size);
};

/* The size of the frame that begins here; 0: not enough is here, or it is wrong. */
static size_t fanout_size(struct fanout *fanout, const struct fanout_protocol *protocol,
                          const unsigned char *data, size_t size)
{
    if (size < protocol->header_size) {
        return 0;
    }
    size_t frame = protocol->frame_size(fanout->connection->load, data);
    if (frame == 0) {
        fanout_fail(fanout, TALLY_malformed, "a frame has a length that no message has");
    }
    return frame;
}

/* Keeps bytes until their frame is whole; there is room for `room`. False: out of memory. */
static bool fanout_keep(struct fanout *fanout, const unsigned char *data, size_t size, size_t room)
{
    struct connection *connection = fanout->connection;
    if (connection->kept_room < room) {
        unsigned char *kept = realloc(connection->kept, room);
        if (kept == NULL) {
            fanout_fail(fanout, TALLY_other, iocp_error_text(IOCP_ENOMEM));
            return false;
        }
        connection->kept = kept;
        connection->kept_room = room;
    }
    memcpy(connection->kept + connection->kept_size, data, size);
    connection->kept_size += size;
    return true;
}

/* Adds to the frame that is kept; returns how many bytes it took. */
static size_t fanout_complete(struct fanout *fanout, const struct fanout_protocol *protocol,
                              const unsigned char *data, size_t size)
{
    struct connection *connection = fanout->connection;
    size_t wanted = protocol->header_size;
    if (connection->kept_size >= wanted) {
        wanted = fanout_size(fanout, protocol, connection->kept, connection->kept_size);
    }
    size_t missing = wanted - connection->kept_size;
    size_t taken = size < missing ? size : missing;
    if (fanout->error != FANOUT_GOES_ON || !fanout_keep(fanout, data, taken, wanted)) {
        return 0;
    }
    wanted = fanout_size(fanout, protocol, connection->kept, connection->kept_size);
    if (wanted != 0 && connection->kept_size == wanted) {
        connection->kept_size = 0;
        protocol->frame(fanout, connection->kept, wanted);
    }
    return taken;
}

static void fanout_frames(struct fanout *fanout, const struct fanout_protocol *protocol,
                          const unsigned char *data, size_t size)
{
    while (size > 0 && fanout->error == FANOUT_GOES_ON) {
        size_t taken = 0;
        if (fanout->connection->kept_size == 0) {
            taken = fanout_size(fanout, protocol, data, size);
        }
        if (taken != 0 && taken <= size) {
            protocol->frame(fanout, data, taken);
        } else if (fanout->error == FANOUT_GOES_ON) {
            taken = fanout_complete(fanout, protocol, data, size);
        }
        data += taken;
        size -= taken;
    }
}

static void fanout_received(struct connection *connection, const struct fanout_protocol *protocol,
                            const unsigned char *data, size_t size)
{
    struct fanout fanout = {
        .connection = connection,
        .now_ns = iocp_now_ns(),
        .error = FANOUT_GOES_ON,
    };
    system_lock_acquire(connection->tally->lock);
    fanout_frames(&fanout, protocol, data, size);
    if (fanout.error == FANOUT_GOES_ON) {
        fanout_answered(&fanout);
    }
    system_lock_release(connection->tally->lock);
    if (fanout.error != FANOUT_GOES_ON) {
        connection_break(connection, (enum tally_error)fanout.error, fanout.text);
        return;
    }
    connection_pump(connection);
}

static void fanout_write(const struct connection *connection, uint64_t number, uint64_t due_ns,
                         unsigned char *payload)
{
    const struct content *content = &connection->load->content;
    const struct stamp stamp = {
        .tag = 'M',
        .talker = connection->index,
        .number = (uint32_t)number,
        .due_ns = due_ns,
    };
    stamp_write(&stamp, payload);
    memcpy(payload + CONTENT_STAMP_SIZE,
           content_at(content, connection->index, number) + CONTENT_STAMP_SIZE,
           content->size - CONTENT_STAMP_SIZE);
}

/* ---- Room. */

static uint32_t room_length(const unsigned char *data)
{
    return (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
}

static size_t room_frame_size(const struct load *load, const unsigned char *header)
{
    return room_length(header) == load->options->size ? load->frame : 0;
}

static void room_frame(struct fanout *fanout, const unsigned char *data, size_t size)
{
    fanout_deliver(fanout, data + ROOM_LENGTH_SIZE, size - ROOM_LENGTH_SIZE);
}

static void room_received(struct connection *connection, const unsigned char *data, size_t size)
{
    static const struct fanout_protocol room = {ROOM_LENGTH_SIZE, room_frame_size, room_frame};
    fanout_received(connection, &room, data, size);
}

static void room_write(const struct connection *connection, uint64_t number, uint64_t due_ns,
                       unsigned char *out)
{
    uint32_t size = connection->load->options->size;
    out[0] = (unsigned char)(size >> 24);
    out[1] = (unsigned char)(size >> 16);
    out[2] = (unsigned char)(size >> 8);
    out[3] = (unsigned char)size;
    fanout_write(connection, number, due_ns, out + ROOM_LENGTH_SIZE);
}

const struct protocol protocol_room = {
    .name = "room",
    .fan_out = true,
    .gathers = true,
    .echoes_talker = true,
    .size_min = CONTENT_STAMP_SIZE,
    .size_max = 16777216,
    .overhead = ROOM_LENGTH_SIZE,
    .write = room_write,
    .opened = connection_ready,
    .received = room_received,
};

/* ---- Chat: a message is a SAY, and a PING whose answer says that it was said. */

static void chat_header(unsigned char *out, size_t size, unsigned type)
{
    out[0] = (unsigned char)size;
    out[1] = (unsigned char)(size >> 8);
    out[2] = (unsigned char)type;
    out[3] = (unsigned char)(type >> 8);
}

static void chat_write(const struct connection *connection, uint64_t number, uint64_t due_ns,
                       unsigned char *out)
{
    uint32_t size = connection->load->options->size;
    chat_header(out, CHAT_HEADER_SIZE + size, CHAT_SAY);
    fanout_write(connection, number, due_ns, out + CHAT_HEADER_SIZE);
    chat_header(out + CHAT_HEADER_SIZE + size, CHAT_HEADER_SIZE, CHAT_PING);
}

static void chat_opened(struct connection *connection)
{
    /* HELLO, version 1, no name, so that the server makes one up; and PING: the server enters
     * people after it has welcomed them, and before their next packet. */
    static const unsigned char hello[] = {6, 0, CHAT_HELLO, 0, 1, 0, 4, 0, CHAT_PING, 0};
    connection_send(connection, hello, sizeof hello);
}

static size_t chat_frame_size(const struct load *load, const unsigned char *header)
{
    size_t size = (size_t)header[0] | (size_t)header[1] << 8;
    (void)load;
    return size >= CHAT_HEADER_SIZE ? size : 0;
}

/* SAID: a string, the name, and the text. */
static void chat_said(struct fanout *fanout, const unsigned char *body, size_t size)
{
    size_t name = size > 0 ? 1 + (size_t)body[0] : 1;
    if (name > size) {
        fanout_fail(fanout, TALLY_malformed, "a SAID without a text");
        return;
    }
    fanout_deliver(fanout, body + name, size - name);
}

static void chat_frame(struct fanout *fanout, const unsigned char *data, size_t size)
{
    struct connection *connection = fanout->connection;
    switch (data[2] | data[3] << 8) {
    case CHAT_SAID:
        chat_said(fanout, data + CHAT_HEADER_SIZE, size - CHAT_HEADER_SIZE);
        break;
    case CHAT_PONG:
        if (!connection->ready) {
            connection_ready(connection);
        } else {
            fanout->own++;
        }
        break;
    case CHAT_REFUSED:
        fanout_fail(fanout, TALLY_rejected,
                    "the chat refused a request: is --size above its "
                    "--line-max, or --rate above its own?");
        break;
    default: /* who comes and goes */
        break;
    }
}

static void chat_received(struct connection *connection, const unsigned char *data, size_t size)
{
    static const struct fanout_protocol chat = {CHAT_HEADER_SIZE, chat_frame_size, chat_frame};
    fanout_received(connection, &chat, data, size);
}

const struct protocol protocol_chat = {
    .name = "chat",
    .fan_out = true,
    .size_min = CONTENT_STAMP_SIZE,
    .size_max = 16384,
    .overhead = 2 * CHAT_HEADER_SIZE,
    .write = chat_write,
    .opened = chat_opened,
    .received = chat_received,
};
