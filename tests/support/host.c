#include "support/host.h"

#include "support/check.h"
#include "support/system.h"

#include <iocp/memory.h>

#include <string.h>

static struct host *host_of(void *context)
{
    return context;
}

struct guest *guest_of(struct iocp_session *session)
{
    return iocp_session_user(session);
}

static void guest_enter(struct guest *guest)
{
    CHECK_EQ(__atomic_exchange_n(&guest->inside, 1, __ATOMIC_RELAXED), 0);
    CHECK_EQ(guest->closed, 0);
}

static void guest_leave(struct guest *guest)
{
    CHECK_EQ(__atomic_exchange_n(&guest->inside, 0, __ATOMIC_RELAXED), 1);
}

static void host_opened(struct iocp_session *session, void *context)
{
    struct host *host = host_of(context);
    struct guest *guest = guest_of(session);
    guest_enter(guest);
    CHECK_EQ(guest->opened, 0);
    CHECK_EQ(guest->messages, 0);
    guest->opened = 1;
    __atomic_store_n(&host->last_id, iocp_session_id(session), __ATOMIC_RELAXED);
    if (host->opened_hook)
        host->opened_hook(host, session);
    guest_leave(guest);
    latch_add(&host->opened, 1);
}

static void host_count(struct host *host, struct guest *guest, size_t size)
{
    CHECK_EQ(guest->opened, 1);
    CHECK_EQ(guest->ended, 0);
    guest->messages++;
    guest->bytes += size;
    latch_add(&host->bytes, size);
    latch_add(&host->messages, 1);
}

static size_t host_received(struct iocp_session *session, const void *data, size_t size,
                            void *context)
{
    struct host *host = host_of(context);
    struct guest *guest = guest_of(session);
    guest_enter(guest);
    CHECK_GT(size, 0);
    size_t used = size;
    if (host->received_hook)
        used = host->received_hook(host, session, data, size);
    else if (iocp_session_send(session, data, size) == IOCP_EFULL)
        used = 0;
    guest_leave(guest);
    host_count(host, guest, used < size ? used : size);
    return used;
}

static void host_message(struct iocp_session *session, const void *data, size_t size, void *context)
{
    struct host *host = host_of(context);
    struct guest *guest = guest_of(session);
    guest_enter(guest);
    if (host->message_hook)
        host->message_hook(host, session, data, size);
    else
        iocp_session_send(session, data, size);
    guest_leave(guest);
    host_count(host, guest, size);
}

static void host_drained(struct iocp_session *session, void *context)
{
    struct host *host = host_of(context);
    struct guest *guest = guest_of(session);
    guest_enter(guest);
    CHECK_EQ(guest->opened, 1);
    if (host->drained_hook)
        host->drained_hook(host, session);
    guest_leave(guest);
    latch_add(&host->drained, 1);
}

static void host_ended(struct iocp_session *session, void *context)
{
    struct host *host = host_of(context);
    struct guest *guest = guest_of(session);
    guest_enter(guest);
    CHECK_EQ(guest->opened, 1);
    CHECK_EQ(guest->ended, 0);
    guest->ended = 1;
    host->ended_hook(host, session);
    guest_leave(guest);
    latch_add(&host->ended, 1);
}

static void host_closed(struct iocp_session *session, enum iocp_close_reason reason, void *context)
{
    struct host *host = host_of(context);
    struct guest *guest = guest_of(session);
    guest_enter(guest);
    CHECK_EQ(guest->opened, 1);
    CHECK_GT(reason, IOCP_CLOSE_NONE);
    CHECK_LT(reason, HOST_REASONS);
    CHECK_EQ(iocp_session_send(session, "x", 1), IOCP_ECLOSED);
    CHECK_EQ(iocp_session_queued(session), 0);
    __atomic_fetch_add(&host->reasons[reason], 1, __ATOMIC_RELAXED);
    __atomic_store_n(&host->error, iocp_session_error(session), __ATOMIC_RELAXED);
    if (host->closed_hook)
        host->closed_hook(host, session, reason);
    guest->closed = 1;
    guest_leave(guest);
    guest->inside = 1; /* nothing may enter any more */
    latch_add(&host->closed, 1);
}

static void host_stopped(struct iocp_service *service, void *context)
{
    struct host *host = host_of(context);
    struct iocp_service_stats stats;
    iocp_service_stats(service, &stats);
    CHECK_EQ(stats.sessions, 0);
    CHECK_EQ(latch_count(&host->opened), latch_count(&host->closed));
    latch_add(&host->stopped, 1);
}

void host_init(struct host *host)
{
    memset(host, 0, sizeof(*host));
    host->memory_before = iocp_memory_count();
    latch_init(&host->opened);
    latch_init(&host->closed);
    latch_init(&host->bytes);
    latch_init(&host->messages);
    latch_init(&host->drained);
    latch_init(&host->ended);
    latch_init(&host->stopped);
    latch_init(&host->event);
    iocp_service_config_init(&host->config);
    host->config.port_config.backend = test_backend();
    host->config.workers = 2;
    host->config.stopped = host_stopped;
    host->config.context = host;
    iocp_session_class_init(&host->session_class);
    host->session_class.name = "guest";
    host->session_class.user_size = sizeof(struct guest);
    host->session_class.opened = host_opened;
    host->session_class.received = host_received;
    host->session_class.message = host_message;
    host->session_class.drained = host_drained;
    host->session_class.closed = host_closed;
    host->session_class.context = host;
}

void host_make(struct host *host)
{
    if (host->ended_hook)
        host->session_class.ended = host_ended;
    CHECK_OK(iocp_service_create(&host->config, &host->service));
    if (host->no_listener)
        return;
    struct iocp_address any = host->on_local ? net_local_any() : net_loopback();
    CHECK_OK(iocp_service_listen(host->service, &any, &host->session_class, NULL, &host->address));
}

void host_start(struct host *host)
{
    host_make(host);
    CHECK_OK(iocp_service_start(host->service));
}

void host_open(struct host *host)
{
    host_init(host);
    host_start(host);
}

void host_free(struct host *host)
{
    struct iocp_service_stats stats = host_stats(host);
    CHECK_EQ(stats.sessions, 0);
    CHECK_EQ(stats.closed, stats.accepted + stats.connected);
    CHECK_EQ(stats.closed, latch_count(&host->closed));
    CHECK_EQ(latch_count(&host->opened), latch_count(&host->closed));
    iocp_service_unref(host->service);
    CHECK_EQ(iocp_memory_count(), host->memory_before);
}

void host_end(struct host *host)
{
    iocp_service_stop(host->service);
    CHECK_OK(iocp_service_join(host->service));
    CHECK_GE(latch_count(&host->stopped), 1);
    host_free(host);
}

int host_connect(struct host *host)
{
    return net_connect(&host->address);
}

void host_ping(int fd, const char *text)
{
    send_all(fd, text, strlen(text));
    expect_bytes(fd, text, strlen(text));
}

uint64_t host_reason(struct host *host, enum iocp_close_reason reason)
{
    return __atomic_load_n(&host->reasons[reason], __ATOMIC_RELAXED);
}

struct iocp_service_stats host_stats(struct host *host)
{
    struct iocp_service_stats stats;
    iocp_service_stats(host->service, &stats);
    return stats;
}

struct iocp_session *host_last(struct host *host)
{
    uint64_t id = __atomic_load_n(&host->last_id, __ATOMIC_RELAXED);
    struct iocp_session *session = iocp_service_find(host->service, id);
    CHECK(session != NULL);
    return session;
}

void wait_until_at(int (*condition)(void *context), void *context, const char *file, int line)
{
    uint64_t limit = iocp_now_ns() + NET_WAIT_LIMIT_S * 1000 * MS;
    while (!condition(context)) {
        if (iocp_now_ns() > limit)
            net_fail(file, line, "waited too long");
        system_nap(MS);
    }
}
