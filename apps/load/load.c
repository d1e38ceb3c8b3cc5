/* What happens when: opening, gathering, warming up, measuring, draining. */
#include "load.h"

#include "../common/server.h"

#include <stdlib.h>
#include <string.h>

#define LOAD_CLOSED (UINT64_C(1) << 63)

enum {
    LOAD_BATCH_SIZE = 256 * 1024,   /* bytes in one send, unless one message has more */
    LOAD_OPENING_MAX = 256,         /* connects at a time: more would fill a server's backlog */
    LOAD_BUFFER_SIZE = 16 * 1024,   /* of what is received */
    LOAD_BUFFER_LARGE = 128 * 1024, /* for large messages */
    LOAD_PROBE_MS = 50,
    LOAD_PROBES_MAX = 100
};

static struct load *load_of(const struct iocp_packet *packet)
{
    return (struct load *)packet->object;
}

static enum load_phase load_phase(const struct load *load)
{
    return (enum load_phase)atomic_load_explicit(&load->phase, memory_order_acquire);
}

/* Release: who sees the phase sees what was done before it. */
static void load_set_phase(struct load *load, enum load_phase phase)
{
    atomic_store_explicit(&load->phase, phase, memory_order_release);
}

static void load_post(struct load *load, struct iocp_op *op)
{
    iocp_op_post(op, 0, 0);
    (void)iocp_port_post(load->port, &load->object, op);
}

static void load_set_timer(struct load *load, struct iocp_op *op, uint64_t delay_ns)
{
    iocp_op_timer(op, delay_ns, 0);
    (void)iocp_port_submit(load->port, &load->object, op);
}

/* ---- What is sent, and when. */

bool load_is_closed(const struct load *load)
{
    return (atomic_load_explicit(&load->sent, memory_order_acquire) & LOAD_CLOSED) != 0;
}

uint64_t load_sent(const struct load *load)
{
    return atomic_load_explicit(&load->sent, memory_order_acquire) & ~LOAD_CLOSED;
}

uint32_t load_take(struct load *load, uint32_t count)
{
    uint64_t limit = load->options->messages != 0 ? load->options->messages : LOAD_CLOSED - 1;
    uint64_t sent = atomic_load_explicit(&load->sent, memory_order_relaxed);
    uint32_t taken = 0;

    /* Acquire and release: the count is final for who sees that the load is closed. */
    do {
        if ((sent & LOAD_CLOSED) != 0 || sent == limit) {
            return 0;
        }
        taken = limit - sent < count ? (uint32_t)(limit - sent) : count;
    } while (!atomic_compare_exchange_weak_explicit(&load->sent, &sent, sent + taken,
                                                    memory_order_acq_rel, memory_order_relaxed));
    if (sent + taken == limit) {
        load_stop(load);
    }
    return taken;
}

/* Message `number` of a connection is one in a row of all: the talkers take turns. */
uint64_t load_due_ns(const struct load *load, uint32_t index, uint64_t number)
{
    uint64_t rate = load->options->rate;
    uint64_t place = index + number * options_talkers(load->options);
    return load->talk_ns + place / rate * OPTIONS_NS_PER_S + place % rate * OPTIONS_NS_PER_S / rate;
}

uint64_t load_due_count(const struct load *load, uint32_t index, uint64_t now_ns)
{
    uint64_t rate = load->options->rate;
    uint64_t talkers = options_talkers(load->options);
    uint64_t elapsed_ns = now_ns > load->talk_ns ? now_ns - load->talk_ns : 0;
    uint64_t places = elapsed_ns / OPTIONS_NS_PER_S * rate +
                      elapsed_ns % OPTIONS_NS_PER_S * rate / OPTIONS_NS_PER_S + 1;
    return places > index ? (places - index + talkers - 1) / talkers : 0;
}

/* Relaxed, here and where they are written: messages that are due about the beginning or the end
 * may fall on either side. */
bool load_measures(const struct load *load, uint64_t due_ns)
{
    return due_ns >= atomic_load_explicit(&load->begin_ns, memory_order_relaxed) &&
           due_ns < atomic_load_explicit(&load->end_ns, memory_order_relaxed);
}

/* ---- The measured window. */

static void load_open_window(struct load *load)
{
    const struct load_options *options = load->options;
    if (options->server_pid != 0) {
        (void)process_read(options->server_pid, &load->server_begin);
    }
    uint64_t now_ns = iocp_now_ns();
    /* Idle: the time begins when all are quiet, and the memory before they come. */
    bool timed = options->time_ns != 0 && load->protocol != &protocol_idle;
    atomic_store_explicit(&load->end_ns, timed ? now_ns + options->time_ns : UINT64_MAX,
                          memory_order_relaxed);
    atomic_store_explicit(&load->begin_ns, now_ns, memory_order_relaxed);
}

static void load_close_window(struct load *load)
{
    uint64_t now_ns = iocp_now_ns();
    uint64_t end_ns = atomic_load_explicit(&load->end_ns, memory_order_relaxed);
    bool open = atomic_load_explicit(&load->begin_ns, memory_order_relaxed) != UINT64_MAX;

    if (now_ns < end_ns) {
        atomic_store_explicit(&load->end_ns, now_ns, memory_order_relaxed);
    }
    if (open && load->server_end.rss_kb == 0 && load->options->server_pid != 0) {
        (void)process_read(load->options->server_pid, &load->server_end);
    }
}

static void load_measure(struct load *load)
{
    if (atomic_load_explicit(&load->begin_ns, memory_order_relaxed) == UINT64_MAX) {
        load_open_window(load);
    }
    load_set_phase(load, LOAD_MEASURING);
    if (load->options->time_ns != 0) {
        load_set_timer(load, &load->timer, load->options->time_ns);
    }
}

/* ---- The steps. */

static void load_end(struct load *load)
{
    load_close_window(load);
    load_set_phase(load, LOAD_ENDED);
    system_wake();
}

/* Nothing new is sent; what is in flight has until the deadline. */
static void load_drain(struct load *load)
{
    if (load_phase(load) >= LOAD_DRAINING) {
        return;
    }
    load_set_phase(load, LOAD_DRAINING);
    uint64_t before = atomic_fetch_or_explicit(&load->sent, LOAD_CLOSED, memory_order_acq_rel);
    if (before != load->options->messages) {
        load_close_window(load); /* else the last answers belong to it */
    }
    if (iocp_op_pending(&load->timer)) {
        (void)iocp_port_cancel(load->port, &load->timer); /* its answer sets the deadline */
    } else {
        load->deadline_set = true;
        load_set_timer(load, &load->timer, load->options->drain_ns);
    }
    for (uint32_t i = 0; i < load->options->connections; i++) {
        if (load->protocol != &protocol_storm) { /* there each slot ends by itself */
            connection_kick(&load->connections[i]);
        }
    }
}

/* Every talker begins; in a storm the slots begin one after the other, as --ramp says. */
static void load_talk(struct load *load)
{
    const struct load_options *options = load->options;
    uint32_t talkers = options_talkers(options);

    load->talk_ns = iocp_now_ns();
    for (uint32_t i = 0; i < talkers; i++) {
        bool storm = load->protocol == &protocol_storm;
        connection_start_in(&load->connections[i], storm ? options->ramp_ns * i / talkers : 0);
    }
}

static void load_begin(struct load *load)
{
    if (load->options->warmup_ns != 0 && load->protocol != &protocol_idle) {
        load_set_phase(load, LOAD_WARMING);
        load_set_timer(load, &load->timer, load->options->warmup_ns);
    } else {
        load_measure(load);
    }
    if (load->protocol != &protocol_idle) {
        load_talk(load);
    }
}

/* Room: a server may let a connection in later than the system does. */
static void load_gather(struct load *load)
{
    uint32_t present = atomic_load_explicit(&load->present, memory_order_acquire);
    uint32_t probed = atomic_load_explicit(&load->probed, memory_order_relaxed);
    if (probed > load->probed_most) {
        load->probed_most = probed;
    }
    if (load->probes == LOAD_PROBES_MAX) {
        uint32_t heard = load->probed_most; /* the last probe may still be on its way */
        tally_fail(&load->tallies[0], TALLY_absent, present > heard ? present - heard : 0, NULL);
        load_begin(load);
        return;
    }
    load->probes++;
    /* Relaxed: who has seen an old number counts at worst for the new one, as it is there too. */
    atomic_store_explicit(&load->probed, 0, memory_order_relaxed);
    atomic_store_explicit(&load->probe, load->probes, memory_order_relaxed);
    atomic_store_explicit(&load->probe_wanted, true, memory_order_relaxed);
    for (uint32_t i = 0; i < load->options->talkers; i++) {
        connection_kick(&load->connections[i]);
    }
    load_set_timer(load, &load->probe_timer, LOAD_PROBE_MS * UINT64_C(1000000));
}

/* ---- Handlers. */

static void load_on_all_open(const struct iocp_packet *packet)
{
    struct load *load = load_of(packet);
    if (load_phase(load) != LOAD_OPENING) {
        return;
    }
    if (load->protocol->gathers) {
        load_set_phase(load, LOAD_GATHERING);
        load_gather(load);
    } else {
        load_begin(load);
    }
}

/* Those that are not open yet are given up. */
static void load_on_open_timer(const struct iocp_packet *packet)
{
    struct load *load = load_of(packet);
    if (load_phase(load) == LOAD_OPENING) {
        atomic_store_explicit(&load->late, true, memory_order_relaxed);
        for (uint32_t i = 0; i < load->options->connections; i++) {
            connection_kick(&load->connections[i]);
        }
    }
}

static void load_on_probe_timer(const struct iocp_packet *packet)
{
    if (load_phase(load_of(packet)) == LOAD_GATHERING) {
        load_gather(load_of(packet));
    }
}

static void load_on_all_here(const struct iocp_packet *packet)
{
    if (load_phase(load_of(packet)) == LOAD_GATHERING) {
        load_begin(load_of(packet));
    }
}

static void load_on_timer(const struct iocp_packet *packet)
{
    struct load *load = load_of(packet);
    switch (load_phase(load)) {
    case LOAD_WARMING:
        load_measure(load);
        break;
    case LOAD_MEASURING:
        load_drain(load);
        break;
    case LOAD_DRAINING:
        if (load->deadline_set) {
            load_end(load);
        } else { /* that of an earlier phase */
            load->deadline_set = true;
            load_set_timer(load, &load->timer, load->options->drain_ns);
        }
        break;
    default:
        break;
    }
}

static void load_on_stop(const struct iocp_packet *packet)
{
    load_drain(load_of(packet));
}

static void load_on_done(const struct iocp_packet *packet)
{
    if (load_phase(load_of(packet)) != LOAD_ENDED) {
        load_end(load_of(packet));
    }
}

/* ---- What connections tell. */

void load_stop(struct load *load)
{
    /* Relaxed: the post orders what is done before it. */
    if (!atomic_exchange_explicit(&load->stopping, true, memory_order_relaxed)) {
        load_post(load, &load->stop);
    }
}

void load_opened(struct load *load)
{
    /* Acquire and release: the last one sees what all others did. */
    if (atomic_fetch_sub_explicit(&load->opening, 1, memory_order_acq_rel) == 1) {
        load_post(load, &load->all_open);
    }
}

void load_finished(struct load *load, bool talked)
{
    if (talked && atomic_fetch_sub_explicit(&load->talkers, 1, memory_order_acq_rel) == 1) {
        load_stop(load); /* those that listen would wait for ever */
    }
    if (atomic_fetch_sub_explicit(&load->unfinished, 1, memory_order_acq_rel) == 1) {
        load_post(load, &load->done);
    }
}

void load_probed(struct load *load)
{
    uint32_t probed = atomic_fetch_add_explicit(&load->probed, 1, memory_order_acq_rel) + 1;
    /* Exactly one sees the last number, so that the op is posted once at a time. */
    if (probed == atomic_load_explicit(&load->present, memory_order_acquire) &&
        !iocp_op_pending(&load->all_here)) {
        load_post(load, &load->all_here);
    }
}

void load_open_next(struct load *load)
{
    const struct load_options *options = load->options;
    /* Relaxed: a number for each. */
    uint32_t index = atomic_fetch_add_explicit(&load->next, 1, memory_order_relaxed);

    if (index < options->connections && !load_is_closed(load)) {
        uint64_t at_ns = load->started_ns + options->ramp_ns * index / options->connections;
        uint64_t now_ns = iocp_now_ns();
        connection_start_in(&load->connections[index], at_ns > now_ns ? at_ns - now_ns : 0);
    }
}

bool load_is_late(const struct load *load)
{
    /* Relaxed: nothing else goes with it. */
    return atomic_load_explicit(&load->late, memory_order_relaxed);
}

/* ---- From start to end. */

static const struct iocp_object_class load_class = {.name = "load", .serial = 1};

static _Noreturn void load_fail_memory(const struct load *load)
{
    start_fail(&load->options->server, "cannot start: %s", iocp_error_text(IOCP_ENOMEM));
}

static void load_create_port(struct load *load)
{
    const struct load_options *options = load->options;
    struct iocp_port_config config;
    bool large = (uint64_t)load->frame * options->depth > LOAD_BUFFER_SIZE;

    iocp_port_config_init(&config);
    config.backend = options->server.backend;
    config.concurrency = options->server.workers;
    config.buffer_size = large ? LOAD_BUFFER_LARGE : LOAD_BUFFER_SIZE;
    int error = iocp_port_create(&config, &load->port);
    if (error < 0) {
        server_refuse(&options->server, error);
    }
    load->backend = iocp_port_backend(load->port);
}

/* Without --verify all connections send the same bytes, from the same memory. */
static bool load_fill_same(struct load *load)
{
    for (int i = 0; i < 2; i++) {
        const struct connection any = {.load = load, .slow = i != 0};
        load->same[i] = malloc((size_t)load->batch * load->frame);
        if (load->same[i] == NULL) {
            return false;
        }
        for (uint32_t k = 0; k < load->batch; k++) {
            load->protocol->write(&any, 0, 0, load->same[i] + (size_t)k * load->frame);
        }
    }
    return true;
}

static bool load_allocate(struct load *load)
{
    const struct load_options *options = load->options;
    if (!content_init(&load->content, options->size)) {
        return false;
    }
    if (!options->verify && !load->protocol->fan_out && !load_fill_same(load)) {
        return false;
    }
    load->tallies = calloc(options->server.workers, sizeof *load->tallies);
    load->connections = calloc(options->connections, sizeof *load->connections);
    if (load->tallies == NULL || load->connections == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < options->server.workers; i++) {
        if (!tally_init(&load->tallies[i])) {
            return false;
        }
    }
    for (uint32_t i = 0; i < options->connections; i++) {
        if (!connection_init(&load->connections[i], load, i)) {
            return false;
        }
    }
    return true;
}

static void load_init_ops(struct load *load)
{
    iocp_object_init(&load->object, &load_class);
    iocp_op_init(&load->timer, load_on_timer);
    iocp_op_init(&load->open_timer, load_on_open_timer);
    iocp_op_init(&load->probe_timer, load_on_probe_timer);
    iocp_op_init(&load->all_open, load_on_all_open);
    iocp_op_init(&load->all_here, load_on_all_here);
    iocp_op_init(&load->stop, load_on_stop);
    iocp_op_init(&load->done, load_on_done);
}

void load_init(struct load *load, const struct load_options *options)
{
    memset(load, 0, sizeof *load);
    load->options = options;
    load->protocol = options->protocol;
    load->frame = options->size + load->protocol->overhead;
    load->batch = LOAD_BATCH_SIZE / load->frame;
    if (load->batch > options->depth) {
        load->batch = options->depth;
    }
    if (load->batch == 0) {
        load->batch = 1;
    }
    if (!system_init()) {
        load_fail_memory(load);
    }
    load_init_ops(load);
    load_create_port(load);
    if (!load_allocate(load)) {
        load_fail_memory(load);
    }
    atomic_store(&load->opening, options->connections);
    atomic_store(&load->unfinished, options->connections);
    atomic_store(&load->talkers, options_talkers(options));
    atomic_store(&load->begin_ns, UINT64_MAX);
    atomic_store(&load->end_ns, UINT64_MAX);
    load_set_phase(load, LOAD_OPENING);
}

void load_start(struct load *load)
{
    const struct load_options *options = load->options;
    const struct iocp_workers_config config = {.count = options->server.workers, .name = "load"};

    /* Before there are workers: no handler runs meanwhile. */
    load->started_ns = iocp_now_ns();
    if (load->protocol == &protocol_idle) {
        load_open_window(load);
    }
    if (load->protocol == &protocol_storm) {
        load_begin(load);
    } else {
        for (int i = 0; i < LOAD_OPENING_MAX; i++) {
            load_open_next(load);
        }
        load_set_timer(load, &load->open_timer, options->ramp_ns + options->open_ns);
    }
    int error = iocp_workers_launch(load->port, &config, &load->workers);
    if (error < 0) {
        start_fail(&options->server, "cannot start: %s", iocp_error_text(error));
    }
}

/* What one connection has not got. */
static uint64_t load_missing(const struct load *load, const struct connection *connection)
{
    uint64_t missing = connection->sent - connection->answered;
    if (load->protocol->fan_out && connection->ready) {
        uint64_t own = load->protocol->echoes_talker ? 0 : connection->sent;
        uint64_t expected = load_sent(load) - own;
        missing = load->protocol->echoes_talker ? 0 : missing;
        missing += expected > connection->heard_count ? expected - connection->heard_count : 0;
    }
    return missing;
}

void load_finish(struct load *load)
{
    iocp_workers_stop(load->workers);
    iocp_workers_join(load->workers);
    for (uint32_t i = 0; i < load->options->connections; i++) {
        struct connection *connection = &load->connections[i];
        tally_fail(connection->tally, TALLY_lost, load_missing(load, connection), NULL);
        if (connection->alive) {
            iocp_object_close(&connection->object);
            iocp_object_unref(&connection->object);
        }
    }
    load->port = iocp_port_unref(load->port);
}

void load_free(struct load *load)
{
    for (uint32_t i = 0; i < load->options->connections; i++) {
        connection_free(&load->connections[i]);
    }
    for (uint32_t i = 0; i < load->options->server.workers; i++) {
        tally_free(&load->tallies[i]);
    }
    content_free(&load->content);
    free(load->same[0]);
    free(load->same[1]);
    free(load->connections);
    free(load->tallies);
}
