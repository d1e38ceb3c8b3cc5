#include "support/exchange.h"

#include "support/net.h"
#include "support/system.h"

#include <iocp/buffer.h>
#include <iocp/group.h>
#include <iocp/memory.h>
#include <iocp/session.h>

#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define PATTERN_SIZE 50000
#define FIRST_SIZE 1000 /* sent at once; the rest when it has come back */
#define LAST_WORD "that was all"

struct exchange {
    struct iocp_session_class server_class;
    struct iocp_session_class client_class;
    struct iocp_service *service;
    struct iocp_address address;
    struct latch done; /* exchanges that came to their end */
    int32_t error;     /* atomic: of the last one; a client that cannot send gives up */
    size_t memory_before;
    int handles_before; /* -1: not counted */
    struct pump pump;   /* in the place of workers */
};

/* The user's area of a session, on both sides. */
struct partner {
    struct iocp_group *group; /* the server's: of this session alone */
    size_t received;
    uint32_t finished; /* the client's: all has come */
    int gave_up;       /* the client's: the error of a send */
};

static struct exchange_counts counts; /* atomic */

static char pattern_byte(size_t at)
{
    return (char)(at * 31 + at / 251);
}

static char pattern[PATTERN_SIZE]; /* written before the first worker */

static void pattern_make(void)
{
    for (size_t i = 0; i < PATTERN_SIZE; i++)
        pattern[i] = pattern_byte(i);
}

static struct partner *partner_of(struct iocp_session *session)
{
    return iocp_session_user(session);
}

/* What may be refused in the middle: memory, or a session that has failed meanwhile. */
static void check_refusal(int error)
{
    CHECK(error == IOCP_ENOMEM || error == IOCP_ECLOSED);
}

/* ---- The server: an echo, and a last word by way of the group. */

static void server_opened(struct iocp_session *session, void *context)
{
    struct partner *partner = partner_of(session);
    int error = iocp_group_create(&partner->group);
    (void)context;
    if (error == 0)
        error = iocp_group_join(partner->group, session);
    if (error < 0) {
        check_refusal(error);
        iocp_session_abort(session);
    }
}

static void server_says_last_word(struct iocp_session *session)
{
    struct partner *partner = partner_of(session);
    struct iocp_buffer *buffer = NULL;
    int error = iocp_buffer_copy(LAST_WORD, strlen(LAST_WORD), &buffer);
    if (error == 0 && iocp_group_publish(partner->group, buffer, NULL) == 0)
        error = IOCP_ENOMEM;
    iocp_buffer_unref(buffer);
    if (error < 0) {
        check_refusal(error);
        iocp_session_abort(session);
    }
}

static size_t server_received(struct iocp_session *session, const void *data, size_t size,
                              void *context)
{
    struct partner *partner = partner_of(session);
    int error = iocp_session_send(session, data, size);
    (void)context;
    if (error < 0) {
        check_refusal(error);
        iocp_session_abort(session);
        return size;
    }
    partner->received += size;
    CHECK_LE(partner->received, PATTERN_SIZE);
    if (partner->received == PATTERN_SIZE)
        server_says_last_word(session);
    return size;
}

/* What was said of the end fits together. */
static void check_end(struct iocp_session *session, enum iocp_close_reason reason)
{
    int error = iocp_session_error(session);
    CHECK_NE(reason, IOCP_CLOSE_NONE);
    if (reason != IOCP_CLOSE_ERROR)
        return;
    CHECK_LT(error, 0);
    /* Relaxed: a count. */
    __atomic_fetch_add(&counts.sessions_failed, 1, __ATOMIC_RELAXED);
}

static void server_closed(struct iocp_session *session, enum iocp_close_reason reason,
                          void *context)
{
    (void)context;
    iocp_group_unref(partner_of(session)->group);
    check_end(session, reason);
}

/* ---- The client: sends, compares, sends the rest, waits for the last word, closes. */

/* A local close is not mended by the connector, so this is the end of the exchange. */
static void client_send(struct iocp_session *session, const char *data, size_t size)
{
    struct partner *partner = partner_of(session);
    int error = iocp_session_send(session, data, size);
    if (error < 0) {
        check_refusal(error);
        partner->gave_up = error;
        iocp_session_abort(session);
    }
}

static void client_opened(struct iocp_session *session, void *context)
{
    (void)context;
    client_send(session, pattern, FIRST_SIZE);
}

/* The echo, in order, and the last word behind it. */
static void client_compare(const struct partner *partner, const char *data, size_t size)
{
    static const char last_word[] = LAST_WORD;
    for (size_t i = 0; i < size; i++) {
        size_t at = partner->received + i;
        CHECK_LT(at, PATTERN_SIZE + strlen(LAST_WORD));
        CHECK_EQ(data[i], at < PATTERN_SIZE ? pattern_byte(at) : last_word[at - PATTERN_SIZE]);
    }
}

static size_t client_received(struct iocp_session *session, const void *data, size_t size,
                              void *context)
{
    struct partner *partner = partner_of(session);
    size_t before = partner->received;
    (void)context;
    client_compare(partner, data, size);
    partner->received += size;
    if (before < FIRST_SIZE && partner->received >= FIRST_SIZE)
        client_send(session, pattern + FIRST_SIZE, PATTERN_SIZE - FIRST_SIZE);
    if (partner->received == PATTERN_SIZE + strlen(LAST_WORD)) {
        partner->finished = 1;
        iocp_session_close(session);
    }
    return size;
}

static void client_closed(struct iocp_session *session, enum iocp_close_reason reason,
                          void *context)
{
    struct exchange *exchange = context;
    const struct partner *partner = partner_of(session);
    check_end(session, reason);
    if (!partner->finished && reason != IOCP_CLOSE_LOCAL) {
        /* The connector tries again. */
        CHECK(reason == IOCP_CLOSE_ERROR || reason == IOCP_CLOSE_PEER);
        return;
    }
    CHECK(partner->finished || partner->gave_up);
    /* Relaxed: the latch orders it. */
    __atomic_store_n(&exchange->error, partner->gave_up, __ATOMIC_RELAXED);
    latch_add(&exchange->done, 1);
}

static void client_failed(struct iocp_service *service, int error, int again, void *context)
{
    (void)service;
    (void)context;
    CHECK_LT(error, 0);
    CHECK(again);
    /* Relaxed: a count. */
    __atomic_fetch_add(&counts.attempts_failed, 1, __ATOMIC_RELAXED);
}

/* ---- A life. */

static void exchange_classes(struct exchange *exchange)
{
    struct iocp_session_class *server = &exchange->server_class;
    struct iocp_session_class *client = &exchange->client_class;
    iocp_session_class_init(server);
    server->name = "server";
    server->user_size = sizeof(struct partner);
    server->opened = server_opened;
    server->received = server_received;
    server->closed = server_closed;
    server->context = exchange;
    iocp_session_class_init(client);
    client->name = "client";
    client->user_size = sizeof(struct partner);
    client->opened = client_opened;
    client->received = client_received;
    client->closed = client_closed;
    client->context = exchange;
}

static int exchange_make(struct exchange *exchange, uint32_t workers)
{
    struct iocp_service_config config;
    struct iocp_address any = net_loopback();
    struct iocp_listener_config options = {.retry_min_ns = MS, .retry_max_ns = 4 * MS};
    iocp_service_config_init(&config);
    config.port_config.backend = test_backend();
    config.port_config.buffer_count = 32; /* small ones are made faster */
    config.port_config.buffer_size = 4096;
    config.workers = workers;
    config.sessions_max = 64;
    int error = iocp_service_create(&config, &exchange->service);
    if (error == 0)
        error = iocp_service_listen(exchange->service, &any, &exchange->server_class, &options,
                                    &exchange->address);
    return error == 0 ? iocp_service_start(exchange->service) : error;
}

static int exchange_open_with(struct exchange **out_exchange, uint32_t workers)
{
    struct exchange *exchange = calloc(1, sizeof(*exchange));
    CHECK(exchange);
    exchange->memory_before = iocp_memory_count();
    exchange->handles_before = workers == IOCP_WORKERS_NONE ? -1 : system_open_handles();
    latch_init(&exchange->done);
    pattern_make();
    exchange_classes(exchange);
    int error = exchange_make(exchange, workers);
    if (error < 0) {
        exchange_close(exchange);
        return error;
    }
    *out_exchange = exchange;
    return 0;
}

int exchange_open(struct exchange **out_exchange)
{
    return exchange_open_with(out_exchange, 2);
}

int exchange_open_unmanned(struct exchange **out_exchange)
{
    int error = exchange_open_with(out_exchange, IOCP_WORKERS_NONE);
    if (error == 0)
        pump_start(&(*out_exchange)->pump, iocp_service_port((*out_exchange)->service), 2);
    return error;
}

int exchange_once(struct exchange *exchange)
{
    uint64_t before = latch_count(&exchange->done);
    struct iocp_connect_config config = {
        .address = exchange->address,
        .session_class = &exchange->client_class,
        /* What is lost on its way must not be found by a time limit. */
        .timeout_ns = IOCP_WAIT_FOREVER,
        .reconnect_min_ns = MS,
        .reconnect_max_ns = 4 * MS,
        .failed = client_failed,
        .context = exchange,
    };
    int error = iocp_service_connect(exchange->service, &config, NULL);
    if (error < 0)
        return error;
    latch_wait_for(&exchange->done, before + 1);
    return __atomic_load_n(&exchange->error, __ATOMIC_RELAXED);
}

void exchange_close(struct exchange *exchange)
{
    if (exchange->service) {
        iocp_service_stop(exchange->service);
        CHECK_EQ(iocp_service_join(exchange->service), 0);
    }
    if (exchange->pump.count)
        pump_stop(&exchange->pump);
    iocp_service_unref(exchange->service);
    CHECK_EQ(iocp_memory_count(), exchange->memory_before);
    if (exchange->handles_before >= 0)
        CHECK_EQ(system_open_handles(), exchange->handles_before);
    free(exchange);
}

int exchange_live(void)
{
    struct exchange *exchange = NULL;
    int error = exchange_open(&exchange);
    if (error < 0)
        return error;
    error = exchange_once(exchange);
    exchange_close(exchange);
    return error;
}

struct exchange_counts exchange_counts(void)
{
    struct exchange_counts now;
    now.attempts_failed = __atomic_load_n(&counts.attempts_failed, __ATOMIC_RELAXED);
    now.sessions_failed = __atomic_load_n(&counts.sessions_failed, __ATOMIC_RELAXED);
    return now;
}
