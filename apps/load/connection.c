/* The life of a connection.
 *
 *   new → connecting [open] → connected → ready → talking [timer] → finished [settle]
 *   storm: new → connecting → connected → closing [again] → new [destroy] → …
 *   any → ended [break] */
#include "connection.h"

#include "load.h"
#include "net.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTION_RETRY_NS UINT64_C(10000000) /* storm: after a connect that failed */
#define CONNECTION_PAUSE_NS UINT64_C(100000)   /* --rate: timers are not set closer than this */

static struct connection *connection_of(const struct iocp_packet *packet)
{
    return (struct connection *)packet->object;
}

static bool connection_is_storm(const struct connection *connection)
{
    return connection->load->protocol == &protocol_storm;
}

static void connection_submit(struct connection *connection, struct iocp_op *op)
{
    int error = iocp_port_submit(connection->load->port, &connection->object, op);
    if (error < 0) {
        connection_break(connection, TALLY_other, iocp_error_text(error));
    }
}

/* ---- The end. */

static void connection_finish(struct connection *connection)
{
    if (!connection->finished) {
        connection->finished = true;
        load_finished(connection->load,
                      connection->index < options_talkers(connection->load->options));
    }
}

/* Fan-out: every message of all others was delivered. */
static bool connection_has_heard_all(const struct connection *connection)
{
    const struct load *load = connection->load;
    if (!load->protocol->fan_out) {
        return true;
    }
    uint64_t own = load->protocol->echoes_talker ? 0 : connection->sent;
    return connection->heard_count + own >= load_sent(load);
}

static void connection_settle(struct connection *connection)
{
    if (!connection->finished && load_is_closed(connection->load) &&
        connection->sent == connection->answered && connection_has_heard_all(connection)) {
        connection_finish(connection);
    }
}

/* Gives the object back to the port. In a storm the slot goes on when it is gone. */
static void connection_close(struct connection *connection)
{
    connection->ended = true;
    iocp_object_close(&connection->object);
    if (connection_is_storm(connection)) {
        iocp_object_unref(&connection->object);
    }
}

static void connection_count_failure(struct connection *connection)
{
    struct tally *tally = connection->tally;
    system_lock_acquire(tally->lock);
    tally->failed++;
    system_lock_release(tally->lock);
}

void connection_break(struct connection *connection, enum tally_error error, const char *text)
{
    struct load *load = connection->load;
    char line[128];

    if (connection->ended || connection->finished) {
        return;
    }
    snprintf(line, sizeof line, "connection %" PRIu32 ": %s", connection->index, text);
    tally_fail(connection->tally, error, 1, line);
    if (!connection->connected) {
        connection_count_failure(connection);
    }
    if (connection_is_storm(connection)) {
        connection_close(connection);
        return;
    }
    if (connection->ready) {
        atomic_fetch_sub_explicit(&load->present, 1, memory_order_acq_rel);
    } else {
        load_opened(load);
    }
    connection_close(connection);
    connection_finish(connection);
}

static void connection_break_by(struct connection *connection, int64_t error)
{
    connection_break(connection, tally_error_of(error), iocp_error_text(error));
}

/* ---- Sending. */

uint64_t connection_due_ns(const struct connection *connection, uint64_t number)
{
    const struct load *load = connection->load;
    if (load->options->rate != 0) {
        return load_due_ns(load, connection->index, number);
    }
    return connection->due_ns[number % load->options->depth];
}

static uint32_t connection_sendable(const struct connection *connection)
{
    const struct load *load = connection->load;
    uint64_t count = load->options->depth - (connection->sent - connection->answered);
    if (load->options->rate != 0 || load->protocol->single) {
        uint64_t waiting = connection->scheduled - connection->sent;
        count = waiting < count ? waiting : count;
    }
    return (uint32_t)(count < load->batch ? count : load->batch);
}

/* Notes when messages are due and returns their bytes. */
static const unsigned char *connection_fill(struct connection *connection, uint32_t count)
{
    const struct load *load = connection->load;
    uint64_t due_ns = iocp_now_ns();

    if (connection_is_storm(connection)) {
        due_ns = connection->connect_ns; /* the connect is part of what is measured */
    }
    for (uint32_t i = 0; i < count && connection->due_ns != NULL; i++) {
        connection->due_ns[(connection->sent + i) % load->options->depth] = due_ns;
    }
    if (connection->out == NULL) {
        return load->same[connection->slow];
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t number = connection->sent + i;
        load->protocol->write(connection, number, connection_due_ns(connection, number),
                              connection->out + (size_t)i * load->frame);
    }
    return connection->out;
}

void connection_send(struct connection *connection, const void *data, size_t size)
{
    connection->sending = true;
    iocp_op_send(&connection->send, data, size);
    connection_submit(connection, &connection->send);
}

void connection_pump(struct connection *connection)
{
    struct load *load = connection->load;
    if (connection->ended || connection->sending) {
        return;
    }
    uint32_t count = connection->talking ? connection_sendable(connection) : 0;
    if (count > 0 && !load->protocol->single) {
        count = load_take(load, count);
    }
    if (count == 0) {
        connection_settle(connection);
        return;
    }
    const unsigned char *data = connection_fill(connection, count);
    connection->sent += count;
    connection_send(connection, data, (size_t)count * load->frame);
}

static void connection_on_sent(const struct iocp_packet *packet)
{
    struct connection *connection = connection_of(packet);
    connection->sending = false;
    if (packet->result < 0) {
        connection_break_by(connection, packet->result);
        return;
    }
    connection_pump(connection);
}

/* ---- Receiving. */

void connection_answered(struct connection *connection, uint32_t count)
{
    const struct load *load = connection->load;
    struct tally *tally = connection->tally;
    uint64_t now_ns = iocp_now_ns();

    system_lock_acquire(tally->lock);
    while (count > 0) {
        uint64_t due_ns = connection_due_ns(connection, connection->answered);
        uint32_t same = 1; /* what was sent together took as long */
        while (same < count &&
               connection_due_ns(connection, connection->answered + same) == due_ns) {
            same++;
        }
        if (load_measures(load, due_ns)) {
            latency_note(tally->latencies[connection->slow], now_ns - due_ns, same);
            tally->messages += same;
            tally->bytes += (uint64_t)same * load->options->size;
        }
        connection->answered += same;
        count -= same;
    }
    system_lock_release(tally->lock);
}

static void connection_on_received(const struct iocp_packet *packet)
{
    struct connection *connection = connection_of(packet);
    if (connection->ended) {
        return;
    }
    if (packet->result < 0) {
        connection_break_by(connection, packet->result);
        return;
    }
    connection->load->protocol->received(connection, packet->data, (size_t)packet->result);
}

/* ---- The beginning. */

void connection_ready(struct connection *connection)
{
    connection->ready = true;
    /* Before the other counter: when all are open, this one is right. */
    atomic_fetch_add_explicit(&connection->load->present, 1, memory_order_acq_rel);
    load_opened(connection->load);
}

static void connection_on_connected(const struct iocp_packet *packet)
{
    struct connection *connection = connection_of(packet);
    struct tally *tally = connection->tally;

    if (connection->finished) {
        return; /* the load ended meanwhile */
    }
    if (packet->result < 0) {
        connection_break_by(connection, packet->result);
    } else {
        connection->connected = true;
        system_lock_acquire(tally->lock);
        tally->opened++;
        system_lock_release(tally->lock);
        iocp_op_recv_stream(&connection->receive);
        connection_submit(connection, &connection->receive);
        connection->load->protocol->opened(connection);
    }
    if (!connection_is_storm(connection)) {
        load_open_next(connection->load);
    }
}

bool connection_open(struct connection *connection)
{
    struct load *load = connection->load;
    uint32_t sources = load->options->sources;
    uint32_t source = sources > 1 ? 1 + connection->index % sources : 0;
    iocp_handle handle = IOCP_HANDLE_INVALID;

    connection->connect_ns = iocp_now_ns();
    int error = net_open(&load->options->address, source, &handle);
    if (error == 0) {
        error = iocp_port_register(load->port, &connection->object, handle, 0);
        if (error < 0) {
            net_close(handle);
        }
    }
    if (error < 0) {
        connection_break_by(connection, error);
        return false;
    }
    /* Borrowed until the answer and never written. */
    iocp_op_connect(&connection->connect, (struct iocp_address *)&load->options->address);
    connection_submit(connection, &connection->connect);
    return !connection->ended;
}

/* Storm: one more connect on this slot, if there is to be one. */
static void connection_round(struct connection *connection)
{
    if (load_take(connection->load, 1) == 0) {
        connection_finish(connection);
        return;
    }
    connection->ended = false;
    connection->connected = false;
    connection->offset = 0;
    connection->scheduled = connection->sent + 1;
    connection_open(connection);
}

void connection_again(struct connection *connection)
{
    connection->connected = false;
    connection_close(connection);
}

/* The last reference is gone: every op is idle and the handle is closed. */
static void connection_on_destroy(struct iocp_object *object)
{
    struct connection *connection = (struct connection *)object;
    struct load *load = connection->load;
    bool failed = connection->connected || connection->scheduled != connection->answered;

    connection->alive = false;
    /* Acquire: pairs with the release of load_end. */
    if (!connection_is_storm(connection) ||
        atomic_load_explicit(&load->phase, memory_order_acquire) == LOAD_ENDED) {
        return;
    }
    if (connection->sent != connection->answered) {
        tally_fail(connection->tally, TALLY_lost, connection->sent - connection->answered, NULL);
        connection->answered = connection->sent;
    }
    iocp_object_init(&connection->object, object->object_class);
    connection->alive = true;
    if (failed) {
        /* A moment later: a server that refuses is not to be flooded, and this is no recursion. */
        connection_start_in(connection, CONNECTION_RETRY_NS);
    } else {
        connection_round(connection);
    }
}

static const struct iocp_object_class connection_class = {
    .name = "connection",
    .destroy = connection_on_destroy,
    .serial = 1,
};

/* With --rate: what is due by now goes out, and the timer is set for what comes next. */
static void connection_schedule(struct connection *connection)
{
    const struct load *load = connection->load;
    uint64_t now_ns = iocp_now_ns();

    connection->scheduled = load_due_count(load, connection->index, now_ns);
    uint64_t next_ns = load_due_ns(load, connection->index, connection->scheduled);
    uint64_t pause_ns = next_ns > now_ns ? next_ns - now_ns : 0;
    connection_start_in(connection,
                        pause_ns > CONNECTION_PAUSE_NS ? pause_ns : CONNECTION_PAUSE_NS);
}

static void connection_on_timer(const struct iocp_packet *packet)
{
    struct connection *connection = connection_of(packet);
    const struct load *load = connection->load;

    if (packet->result < 0 || connection->finished) {
        return;
    }
    if (connection_is_storm(connection)) {
        connection_round(connection);
        return;
    }
    if (connection->ended) {
        return;
    }
    if (!connection->ready) {
        if (!connection_open(connection)) {
            load_open_next(connection->load);
        }
        return;
    }
    connection->talking = true;
    if (load->options->rate != 0 && !load_is_closed(load)) {
        connection_schedule(connection);
    }
    connection_pump(connection);
}

void connection_start_in(struct connection *connection, uint64_t delay_ns)
{
    iocp_op_timer(&connection->timer, delay_ns, 0);
    connection_submit(connection, &connection->timer);
}

static void connection_send_probe(struct connection *connection)
{
    struct load *load = connection->load;
    /* One of the talkers sends it. Relaxed: nothing else goes with it. */
    if (connection->ended || connection->sending || connection->out == NULL ||
        !atomic_exchange_explicit(&load->probe_wanted, false, memory_order_relaxed)) {
        return;
    }
    load->protocol->write(connection, 0, 0, connection->out);
    const struct stamp stamp = {
        .tag = 'P',
        .talker = connection->index,
        .number = atomic_load_explicit(&load->probe, memory_order_relaxed),
    };
    stamp_write(&stamp, connection->out + load->frame - load->options->size);
    connection_send(connection, connection->out, load->frame);
}

static void connection_on_kick(const struct iocp_packet *packet)
{
    struct connection *connection = connection_of(packet);
    if (load_is_closed(connection->load)) {
        connection_settle(connection);
    } else if (!connection->ready && load_is_late(connection->load)) {
        connection_break(connection, TALLY_timed_out, "it was not open in time");
    } else {
        connection_send_probe(connection);
    }
}

void connection_kick(struct connection *connection)
{
    /* One that is on its way will see what has changed. */
    if (!iocp_op_pending(&connection->kick)) {
        iocp_op_post(&connection->kick, 0, 0);
        (void)iocp_port_post(connection->load->port, &connection->object, &connection->kick);
    }
}

/* ---- Memory. */

static bool connection_allocate(struct connection *connection)
{
    const struct load *load = connection->load;
    const struct load_options *options = load->options;
    bool talks = connection->index < options_talkers(options);

    if (talks && options->rate == 0) {
        connection->due_ns = calloc(options->depth, sizeof *connection->due_ns);
        if (connection->due_ns == NULL) {
            return false;
        }
    }
    if (talks && load->same[0] == NULL) {
        connection->out = malloc((size_t)load->batch * load->frame);
        if (connection->out == NULL) {
            return false;
        }
    }
    if (load->protocol->fan_out) {
        connection->heard = calloc(options->talkers, sizeof *connection->heard);
        return connection->heard != NULL;
    }
    return true;
}

bool connection_init(struct connection *connection, struct load *load, uint32_t index)
{
    uint64_t percent = load->options->slow_percent;
    *connection = (struct connection){
        .load = load,
        .tally = &load->tallies[index % load->options->server.workers],
        .index = index,
        .slow = (index + 1) * percent / 100 != index * percent / 100, /* evenly among the others */
        .scheduled = load->protocol->single,
        .alive = true,
    };
    iocp_object_init(&connection->object, &connection_class);
    iocp_op_init(&connection->connect, connection_on_connected);
    iocp_op_init(&connection->receive, connection_on_received);
    iocp_op_init(&connection->send, connection_on_sent);
    iocp_op_init(&connection->timer, connection_on_timer);
    iocp_op_init(&connection->kick, connection_on_kick);
    return connection_allocate(connection);
}

void connection_free(struct connection *connection)
{
    free(connection->due_ns);
    free(connection->out);
    free(connection->kept);
    free(connection->heard);
}
