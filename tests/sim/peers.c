/* Clients that the test plays itself, without the library: they send and receive at their own pace,
 * or not at all, end half of a connection, reset it, break the framing, or say nothing for ever.
 * Steps of events: no thread runs them, and they call nothing of the library. */
#include "sim.h"

#define PEERS_MAX 256

struct peer {
    iocp_handle handle;
    struct stream *out;
    struct stream *in;
    int deaf;                            /* reads nothing: a window that closes */
    int mute;                            /* sends nothing */
    int last;                            /* what it does when it has sent all */
    uint32_t left;                       /* bytes to send */
    uint32_t step_ns;                    /* its pace */
    uint64_t end_ns;                     /* then it goes, whatever is on its way */
    int planned;                         /* a step is on its way */
    int ended;                           /* our side has */
    unsigned char wire[SIM_MESSAGE_MAX]; /* the message being sent */
    size_t wire_size;
    size_t wire_sent;
    unsigned char kept[SIM_MESSAGE_MAX]; /* received, not whole */
    size_t kept_size;
};

enum peer_last { PEER_END, PEER_STAY, PEER_RESET, PEER_CUT, PEER_BREAK, PEER_CLOSE, PEER_LASTS };

static struct peer *peers[PEERS_MAX];
static uint32_t peer_count;
static uint32_t peer_open;
static struct iocp_address peer_address; /* of the server */

static void peer_step(void *context, uint64_t value);

void peers_begin(uint16_t port)
{
    iocp_address_parse("127.0.0.1:0", &peer_address);
    iocp_address_set_port(&peer_address, port);
}

uint32_t peers_count(void)
{
    return peer_open;
}

static void peer_plan(struct peer *peer, uint64_t delay_ns)
{
    if (peer->planned || peer->handle == IOCP_HANDLE_INVALID)
        return;
    peer->planned = 1;
    iocp__sim_at(iocp__sim_now_ns() + delay_ns, peer_step, peer, 0);
}

static void peer_changed(void *watcher, iocp_handle handle)
{
    struct peer *peer = watcher;
    (void)handle;
    peer_plan(peer, sim_below(peer->step_ns + 1));
}

static void peer_close(struct peer *peer, int reset)
{
    if (peer->out && peer->wire_sent < peer->wire_size)
        peer->out->cut = 1;
    iocp__sim_watch(peer->handle, NULL, NULL);
    iocp__socket_set(peer->handle, IOCP__OPTION_RESET_ON_CLOSE, reset);
    iocp__handle_close(peer->handle);
    peer->handle = IOCP_HANDLE_INVALID;
    peer_open--;
}

void peers_start(void)
{
    struct peer *peer = iocp__sim_allocate(sizeof(*peer));
    if (peer_count == PEERS_MAX ||
        iocp__socket_open(IOCP_FAMILY_IPV4, IOCP__SOCKET_STREAM, &peer->handle, NULL) < 0) {
        iocp__sim_release(peer);
        return;
    }
    peers[peer_count++] = peer;
    peer_open++;
    peer->deaf = sim_once_in(6);
    peer->mute = sim_once_in(6);
    peer->last = (int)sim_below(PEER_LASTS);
    peer->left = peer->mute ? 0 : sim_below(knobs.bytes + 1);
    peer->step_ns = sim_below(sim_once_in(3) ? 20000000 : 200000);
    peer->end_ns = iocp__sim_now_ns() + (uint64_t)sim_below(60) * 100000000;
    iocp__sim_watch(peer->handle, peer_changed, peer);
    iocp__sim_trace("handle %d is a client's: %s%slast %d", (int)peer->handle,
                    peer->deaf ? "deaf, " : "", peer->mute ? "mute, " : "", peer->last);
    (void)iocp__sim_connect(peer->handle, &peer_address);
    peer_plan(peer, peer->step_ns);
}

void peers_end(void)
{
    for (uint32_t i = 0; i < peer_count; i++) {
        if (peers[i]->handle != IOCP_HANDLE_INVALID)
            peer_close(peers[i], 0);
    }
    while (peer_count)
        iocp__sim_release(peers[--peer_count]);
}

/* ---- Receiving. */

static void peer_feed(struct peer *peer, unsigned char byte)
{
    SIM_CHECK(peer->kept_size < SIM_MESSAGE_MAX, "a client gets a message without an end");
    peer->kept[peer->kept_size++] = byte;
    size_t size = peer->kept_size;
    if (knobs.kind == SIM_LINE && byte == '\n') {
        stream_check_message(peer->in, peer->kept, size - 1);
        peer->kept_size = 0;
    }
    if (knobs.kind == SIM_LENGTH && size >= 4) {
        size_t whole = peer->kept[0] | (size_t)peer->kept[1] << 8;
        if (size == whole) {
            stream_check_message(peer->in, peer->kept + 4, size - 4);
            peer->kept_size = 0;
        }
    }
}

/* Not 0 when the stream goes on. */
static int peer_receive(struct peer *peer, struct iocp__sim_connection *connection)
{
    unsigned char data[512];
    int64_t size = iocp__sim_recv(peer->handle, data, 1 + sim_below(sizeof(data)));
    if (size <= 0)
        return size == IOCP_EAGAIN;
    if (!peer->in)
        peer->in = stream_of(connection, 1);
    SIM_CHECK(peer->in, "a client gets bytes that no session sent");
    if (knobs.kind == SIM_RAW) {
        stream_check_raw(peer->in, data, (size_t)size);
        peer->in->consumed += (uint64_t)size;
    } else {
        for (int64_t i = 0; i < size; i++)
            peer_feed(peer, data[i]);
    }
    peer_plan(peer, sim_below(peer->step_ns + 1));
    return 1;
}

/* ---- Sending. */

static void peer_compose(struct peer *peer)
{
    struct stream *out = peer->out;
    peer->wire_sent = 0;
    if (knobs.kind == SIM_RAW) {
        peer->wire_size = 1 + sim_below(SIM_MESSAGE_MAX);
        stream_raw(out, out->accepted, peer->wire_size, peer->wire);
    } else {
        peer->wire_size = stream_message_size();
        stream_message(out, 0, out->sent[0]++, peer->wire_size, peer->wire);
    }
}

static void peer_break(struct peer *peer)
{
    peer->out->broken = 1;
    peer->wire_sent = 0;
    peer->wire_size = SIM_MESSAGE_MAX;
    for (size_t i = 0; i < SIM_MESSAGE_MAX; i++)
        peer->wire[i] = 0xff; /* a length that is too much, a line without an end */
}

static void peer_finish(struct peer *peer)
{
    switch (peer->last) {
    case PEER_STAY:
        return;
    case PEER_RESET:
        peer_close(peer, 1);
        return;
    case PEER_CLOSE:
        peer_close(peer, 0);
        return;
    case PEER_BREAK:
        if (!peer->out->broken && knobs.kind != SIM_RAW) {
            peer_break(peer);
            peer_plan(peer, 0);
            return;
        }
        break;
    default:
        break;
    }
    peer->ended = 1;
    iocp__socket_shutdown_send(peer->handle, NULL);
    if (peer->deaf)
        peer_plan(peer, 100000000);
}

/* Returns 0 when the connection is no more. */
static int peer_send(struct peer *peer)
{
    if (peer->ended)
        return 1;
    if (peer->wire_sent == peer->wire_size) {
        if (!peer->left || peer->out->broken) {
            peer_finish(peer);
            return 1;
        }
        peer_compose(peer);
        peer->left -= peer->left < peer->wire_size ? peer->left : (uint32_t)peer->wire_size;
    }
    int64_t size = iocp__sim_send(peer->handle, peer->wire + peer->wire_sent,
                                  peer->wire_size - peer->wire_sent);
    if (size < 0)
        return size == IOCP_EAGAIN;
    peer->wire_sent += (size_t)size;
    peer->out->accepted += (uint64_t)size;
    if (peer->last == PEER_CUT && !peer->left && peer->wire_sent < peer->wire_size) {
        peer->out->cut = 1;
        peer->ended = 1;
        iocp__socket_shutdown_send(peer->handle, NULL);
    }
    peer_plan(peer, sim_below(peer->step_ns + 1));
    return 1;
}

/* ---- A step. */

static void peer_step(void *context, uint64_t value)
{
    struct peer *peer = context;
    int end = 0;
    (void)value;
    peer->planned = 0;
    if (peer->handle == IOCP_HANDLE_INVALID)
        return;
    int error = iocp__sim_connected(peer->handle);
    if (error == IOCP_EAGAIN)
        return;
    struct iocp__sim_connection *connection = iocp__sim_connection(peer->handle, &end);
    if (error < 0 || iocp__sim_now_ns() >= peer->end_ns) {
        peer_close(peer, sim_once_in(2));
        return;
    }
    if (!peer->out)
        peer->out = stream_new(connection, 0);
    int goes_on = peer->deaf || peer_receive(peer, connection);
    if (goes_on && peer->handle != IOCP_HANDLE_INVALID)
        goes_on = peer_send(peer);
    if (!goes_on)
        peer_close(peer, 0);
}
