/* The net scenario: a server, clients that are sessions and clients that the test plays, threads
 * that call what they like; then quiet, in which all has to come to rest; then the end, after
 * which nothing is left and every counter is the model's. */
#include "net.h"
#include "net/session.h"

#include <string.h>

/* ---- Setting up. */

static void model_port_config(struct iocp_port_config *config, uint32_t concurrency)
{
    iocp_port_config_init(config);
    config->backend = knobs.shared ? IOCP_BACKEND_WINDOWS : IOCP_BACKEND_URING;
    config->concurrency = concurrency;
    config->lanes = knobs.lanes;
    config->buffer_size = knobs.buffer_size;
    config->buffer_count = 1u << knobs.buffer_power;
    config->watch_ns = knobs.watch ? 500000 : 0;
}

static void model_make_service(struct iocp_port *port, uint32_t workers, uint32_t sessions_max,
                               struct iocp_service **out_service)
{
    struct iocp_service_config config;
    iocp_service_config_init(&config);
    config.port = port;
    config.workers = workers;
    config.sessions_max = sessions_max;
    config.tick_ns = 1000000 + sim_below(50000000);
    config.drain_ns = 1000000 + (uint64_t)sim_below(2000) * 1000000;
    config.stopped = on_stopped;
    int error = iocp_service_create(&config, out_service);
    SIM_CHECK(error == 0, "no service: %d", error);
}

static struct iocp_port *model_make_port(uint32_t concurrency)
{
    struct iocp_port_config config;
    struct iocp_port *port = NULL;
    model_port_config(&config, concurrency);
    int error = iocp_port_create(&config, &port);
    SIM_CHECK(error == 0, "no port: %d", error);
    sim_port_add(port);
    return port;
}

/* What fails for want of something is tried again. */
static int model_retries(int error)
{
    model.tries = error ? model.tries + 1 : 0;
    iocp__sim_faults_on(model.tries < 5);
    if (error == 0)
        return 0;
    SIM_CHECK(error == IOCP_ENOMEM || error == IOCP_EMFILE || error == IOCP_EAGAIN ||
                  error == IOCP_ENOBUFS,
              "the service does not start: %d", error);
    iocp__sim_sleep(1000000);
    return 1;
}

static void model_connect(void)
{
    struct iocp_connect_config config = {
        .address = model.address,
        .session_class = &model.session_class,
        .timeout_ns = 10000000 + (uint64_t)sim_below(2000) * 1000000,
        .failed = on_failed,
    };
    if (sim_once_in(2)) {
        config.reconnect_min_ns = 1000000 + sim_below(50000000);
        config.reconnect_max_ns = 500000000;
        config.attempts_max = sim_below(6);
    }
    uint32_t at = sim_below(16);
    uint64_t connector = 0;
    if (iocp_service_connect(model.client, &config, &connector) == 0)
        model.connectors[at] = connector;
}

/* ---- Threads that call what they like. */

static void model_broadcast(void)
{
    unsigned char wire[SIM_MESSAGE_MAX];
    struct iocp_buffer *buffer = NULL;
    size_t size = stream_message_size();
    if (knobs.kind == SIM_RAW || model.broadcasts & 0x80000000u)
        return;
    model.broadcasts |= 0x80000000u; /* one at a time, so that they keep their order */
    stream_broadcast((model.broadcasts & 0x7fffffffu) + 1, size, wire);
    if (iocp_buffer_copy(wire, size, &buffer) == 0) {
        int side = (int)sim_below(2);
        int group = sim_once_in(2);
        model.broadcasts++;
        model.broadcast_bytes += size;
        /* A group may have members of both. */
        uint32_t taken = group ? iocp_group_publish(model.group, buffer, NULL)
                               : iocp_service_broadcast(side ? model.client : model.server, buffer);
        model.messages_sent[side] += taken;
    }
    iocp_buffer_unref(buffer);
    model.broadcasts &= 0x7fffffffu;
}

static void model_meddle_session(void)
{
    if (!model.end_count)
        return;
    /* Often the same one as other threads. */
    uint32_t newest = model.end_count - 1;
    struct end *end = model.ends[sim_once_in(2) ? newest : sim_below(model.end_count)];
    struct iocp_session *session = iocp_service_find(end->service, end->id);
    if (!session)
        return;
    SIM_CHECK(iocp_session_id(session) == end->id, "the session of another");
    for (uint32_t i = 1 + sim_below(3); i > 0; i--)
        end_meddle(end, session);
    iocp_session_unref(session);
}

static void model_step(void)
{
    struct iocp_service_stats stats;
    switch (sim_below(12)) {
    case 0:
        if (sim_once_in(4))
            model_broadcast();
        break;
    case 1:
        iocp_port_wake(model.port);
        break;
    case 2:
        iocp_service_stats(sim_once_in(2) ? model.server : model.client, &stats);
        SIM_CHECK(stats.sessions <= knobs.sessions_max + 64, "%u sessions", stats.sessions);
        break;
    case 3:
        (void)iocp_service_disconnect(model.client, model.connectors[sim_below(16)]);
        break;
    case 4:
        model_connect();
        break;
    case 5: /* a storm */
        for (uint32_t i = sim_below(6); knobs.peers && i > 0; i--)
            peers_start();
        break;
    default:
        model_meddle_session();
    }
}

static void model_pause(void)
{
    if (sim_once_in(3))
        iocp__sim_yield();
    else
        iocp__sim_sleep(sim_below(sim_once_in(5) ? 200000000 : 2000000));
}

static void meddler_run(void *context)
{
    (void)context;
    for (uint32_t i = 0; i < knobs.steps; i++) {
        model_pause();
        model_step();
    }
    model.meddling--;
}

/* A thread of the user's: dispatches now and then, and ends. */
static void user_dispatch(void *context)
{
    (void)context;
    for (uint32_t i = 1 + sim_below(20); i > 0 && !model.over; i--) {
        int result = iocp_port_dispatch(model.port, sim_below(30000000));
        SIM_CHECK(result > 0 || result == IOCP_ETIMEDOUT || result == IOCP_EWOKEN ||
                      result == IOCP_ENOMEM,
                  "dispatch gives %d", result);
    }
}

static void user_run(void *context)
{
    (void)context;
    while (!model.over) {
        struct iocp__thread thread;
        if (iocp__thread_start(&thread, "passer-by", user_dispatch, NULL) == 0)
            iocp__thread_join(&thread);
        iocp__sim_sleep(5000000 + sim_below(200000000));
        if (sim_once_in(20))
            break;
    }
}

/* ---- Quiet: no faults, nobody meddles. What can go on has to. */

static int end_pipe_is_busy(const struct end *end)
{
    const struct iocp__sim_connection *connection = end->connection;
    return connection->reset || connection->closed[0] || connection->closed[1];
}

static void check_settled_end(const struct end *end)
{
    const struct iocp_session *session = end->session;
    if (end->closed || end->busy || session->state != IOCP__SESSION_OPEN || end_pipe_is_busy(end))
        return;
    const struct iocp__sim_pipe *in = &end->connection->pipes[1 - end->side];
    const struct iocp__sim_pipe *out = &end->connection->pipes[end->side];
    SIM_CHECK(session->paused || in->visible == in->read,
              "handle %d: %llu bytes are there, and nobody receives them", (int)end->handle,
              (unsigned long long)(in->visible - in->read));
    SIM_CHECK(session->paused || !in->fin_visible || session->flags & IOCP__SESSION_PEER_ENDED,
              "handle %d: the end of the stream is there, and nobody sees it", (int)end->handle);
    SIM_CHECK(!(session->paused & IOCP__PAUSE_SEND) ||
                  session->queued > iocp__class_send_low(session->session_class),
              "handle %d: receiving waits for a queue of %u bytes", (int)end->handle,
              session->queued);
    SIM_CHECK(!session->queued || out->written - out->read >= out->window,
              "handle %d: %u bytes are queued, and nobody sends them", (int)end->handle,
              session->queued);
}

static void check_settled(void)
{
    if (!model.settled || sim_ports_busy())
        return;
    int backlog = iocp__sim_backlog(model.number);
    SIM_CHECK(backlog == 0, "%d connections wait, and nobody accepts them", backlog);
    for (uint32_t i = 0; i < model.end_count; i++)
        check_settled_end(model.ends[i]);
}

static void model_settle(void)
{
    iocp__sim_faults_on(0);
    iocp__sim_sleep(1500000000);
    model.settled = 1;
    iocp__sim_sleep(200000000);
    model.settled = 0;
    iocp__sim_faults_on(sim_once_in(2));
}

/* ---- The truth, at the end of a round. */

static void check_end(const struct end *end)
{
    const struct stream *out = end->out;
    uint64_t written = stream_written(out);
    SIM_CHECK(end->closed, "handle %d was opened and not closed", (int)end->handle);
    SIM_CHECK(written <= out->accepted + model.broadcast_bytes,
              "handle %d sent %llu bytes, and %llu were given to it", (int)end->handle,
              (unsigned long long)written, (unsigned long long)out->accepted);
    if (end->error || end->connection->aborted[end->side] || out->droppable)
        return;
    SIM_CHECK(written >= out->accepted, "handle %d: closed (%s), and %llu of %llu bytes were sent",
              (int)end->handle, iocp_close_reason_text((enum iocp_close_reason)end->reason),
              (unsigned long long)written, (unsigned long long)out->accepted);
}

static void check_stats(struct iocp_service *service, int side)
{
    struct iocp_service_stats stats;
    uint64_t written = 0;
    for (uint32_t i = 0; i < model.end_count; i++)
        written += model_side(model.ends[i]) == side ? stream_written(model.ends[i]->out) : 0;
    iocp_service_stats(service, &stats);
    SIM_CHECK(stats.sessions == 0, "%u sessions are left", stats.sessions);
    SIM_CHECK((side ? stats.connected : stats.accepted) == model.opened[side],
              "counted as opened: %llu, of %llu",
              (unsigned long long)(side ? stats.connected : stats.accepted),
              (unsigned long long)model.opened[side]);
    SIM_CHECK(stats.closed == model.closed[side], "counted as closed: %llu, of %llu",
              (unsigned long long)stats.closed, (unsigned long long)model.closed[side]);
    SIM_CHECK(stats.messages_received == model.messages_received[side],
              "counted as received: %llu, of %llu", (unsigned long long)stats.messages_received,
              (unsigned long long)model.messages_received[side]);
    SIM_CHECK(!side || stats.connect_failures == model.failed,
              "counted as failed connects: %llu, of %llu",
              (unsigned long long)stats.connect_failures, (unsigned long long)model.failed);
    SIM_CHECK(stats.sends_refused >= model.sends_refused[side], "counted as refused: %llu, of %llu",
              (unsigned long long)stats.sends_refused,
              (unsigned long long)model.sends_refused[side]);
    SIM_CHECK(stats.bytes_sent <= written, "counted as sent: %llu bytes, of %llu",
              (unsigned long long)stats.bytes_sent, (unsigned long long)written);
}

static void check_round(void)
{
    struct iocp_service_stats stats[2];
    for (uint32_t i = 0; i < model.end_count; i++)
        check_end(model.ends[i]);
    check_stats(model.server, 0);
    check_stats(model.client, 1);
    iocp_service_stats(model.server, &stats[0]);
    iocp_service_stats(model.client, &stats[1]);
    /* Together, because a group may have members of both. */
    SIM_CHECK(stats[0].messages_sent + stats[1].messages_sent ==
                  model.messages_sent[0] + model.messages_sent[1],
              "counted as sent: %llu messages, of %llu",
              (unsigned long long)(stats[0].messages_sent + stats[1].messages_sent),
              (unsigned long long)(model.messages_sent[0] + model.messages_sent[1]));
}

static void check_port(struct iocp_port *port)
{
    struct iocp_port_stats stats;
    iocp_port_stats(port, &stats);
    tally.ops += stats.submits;
    SIM_CHECK(stats.running == 0, "%u workers are out at the end", stats.running);
    SIM_CHECK(stats.packets + stats.landed >= stats.submits, "%llu packets for %llu operations",
              (unsigned long long)stats.packets, (unsigned long long)stats.submits);
}

/* ---- A round: start, steps, quiet, stop. */

static void model_start(void)
{
    while (model_retries(iocp_service_listen(model.server, &model.address, &model.session_class,
                                             NULL, &model.address)))
        ;
    while (model_retries(iocp_service_start(model.server)))
        ;
    while (model_retries(iocp_service_start(model.client)))
        ;
    model.number = iocp_address_port(&model.address);
    peers_begin(model.number);
}

static void model_act(void)
{
    struct iocp__thread threads[2];
    uint32_t started = 0;
    for (uint32_t i = 0; i < knobs.meddlers; i++) {
        model.meddling++;
        if (iocp__thread_start(&threads[started], "meddler", meddler_run, NULL) == 0)
            started++;
        else
            model.meddling--;
    }
    for (uint32_t i = 0; i < knobs.peers; i++)
        peers_start();
    for (uint32_t i = 0; i < knobs.connectors; i++)
        model_connect();
    for (uint32_t i = 0; i < knobs.steps; i++) {
        model_pause();
        model_step();
    }
    while (started)
        iocp__thread_join(&threads[--started]);
}

static void model_stop(void)
{
    uint64_t before = model.stopped;
    iocp_service_stop(sim_once_in(2) ? model.server : model.client);
    if (sim_once_in(2))
        iocp__sim_sleep(sim_below(300000000));
    iocp_service_stop(model.client);
    iocp_service_stop(model.server);
    int error = iocp_service_join(model.client);
    SIM_CHECK(error == 0, "join gives %d", error);
    error = iocp_service_join(model.server);
    SIM_CHECK(error == 0, "join gives %d", error);
    SIM_CHECK(model.stopped == before + 2, "`stopped` ran %llu times",
              (unsigned long long)(model.stopped - before));
}

static void model_create(void)
{
    memset(&model, 0, sizeof(model));
    iocp__sim_faults_on(0);
    sim_quiet_also = check_settled;
    model_make_class();
    iocp_address_parse("127.0.0.1:0", &model.address);
    model.port = model_make_port(knobs.concurrency);
    if (!knobs.one_port)
        model.client_port = model_make_port(1 + sim_below(2));
    model_make_service(model.port, knobs.workers, knobs.sessions_max, &model.server);
    if (knobs.one_port)
        model_make_service(model.port, IOCP_WORKERS_NONE, 64, &model.client);
    else
        model_make_service(model.client_port, 1 + sim_below(2), 64, &model.client);
    int error = iocp_group_create(&model.group);
    SIM_CHECK(error == 0, "no group: %d", error);
    iocp__sim_faults_on(1);
}

static void model_release_port(struct iocp_port *port)
{
    if (!port)
        return;
    check_port(port);
    sim_port_remove(port);
    iocp_port_unref(port);
}

static void model_free(void)
{
    iocp_group_unref(model.group);
    iocp_service_unref(model.client);
    iocp_service_unref(model.server);
    model_release_port(model.client_port);
    model_release_port(model.port);
    peers_end();
    for (uint32_t i = 0; i < model.end_count; i++)
        iocp__sim_release(model.ends[i]);
    streams_free();
    sim_quiet_also = NULL;
}

/* With clients on the port of the server it is the server's workers that run them: they stop last.
 */
static void model_stop_clients_first(void)
{
    uint64_t before = model.stopped;
    iocp_service_stop(model.client);
    int error = iocp_service_join(model.client);
    SIM_CHECK(error == 0, "join gives %d", error);
    iocp_service_stop(model.server);
    error = iocp_service_join(model.server);
    SIM_CHECK(error == 0, "join gives %d", error);
    SIM_CHECK(model.stopped == before + 2, "`stopped` ran %llu times",
              (unsigned long long)(model.stopped - before));
}

void sim_net_scenario(void)
{
    struct iocp__thread users[2];
    uint32_t started = 0;
    model_create();
    for (uint32_t round = 0; round < knobs.rounds; round++) {
        model_start();
        while (round == 0 && started < knobs.threads &&
               iocp__thread_start(&users[started], "user", user_run, NULL) == 0)
            started++;
        model_act();
        model_settle();
        if (knobs.one_port)
            model_stop_clients_first();
        else
            model_stop();
        check_round();
    }
    model.over = 1;
    while (started)
        iocp__thread_join(&users[--started]);
    model_free();
}
