/* Everything at once: clients that come, talk, stop talking and go in every way, sessions that are
 * closed, aborted, paused and published to from everywhere, and a service that is stopped in the
 * middle of it. What is checked is in support/host.c: the order of handlers, their counts, that
 * nothing is left. */
#include "support/check.h"
#include "support/host.h"
#include "support/system.h"

#include <iocp.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CLIENTS 4
#define MEDDLERS 2

struct storm {
    struct host host;
    struct iocp_group *group;
    uint32_t stop; /* atomic */
    uint32_t rounds;
};

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

static void storm_opened(struct host *host, struct iocp_session *session)
{
    struct storm *storm = host->context;
    if (iocp_session_id(session) % 3 == 0)
        CHECK(iocp_group_join(storm->group, session) <= 0);
    if (iocp_session_id(session) % 31 == 0)
        iocp_session_close(session);
    if (iocp_session_id(session) % 37 == 0)
        iocp_session_abort(session);
}

static void storm_message(struct host *host, struct iocp_session *session, const void *data,
                          size_t size)
{
    struct storm *storm = host->context;
    struct guest *guest = guest_of(session);
    CHECK_GE(size, 2);
    switch (((const unsigned char *)data)[2 % size] % 23) {
    case 0:
        iocp_session_close(session);
        break;
    case 1:
        iocp_session_abort(session);
        break;
    case 2:
        iocp_session_pause(session);
        break;
    case 3: {
        struct iocp_buffer *buffer;
        CHECK_OK(iocp_buffer_copy(data, size, &buffer));
        iocp_group_publish(storm->group, buffer, guest->number % 2 ? session : NULL);
        iocp_buffer_unref(buffer);
        break;
    }
    case 4:
        iocp_session_pause(session);
        iocp_session_resume(session);
        break;
    default:
        iocp_session_send(session, data, size);
    }
    guest->number++;
}

static void storm_closed(struct host *host, struct iocp_session *session,
                         enum iocp_close_reason reason)
{
    struct storm *storm = host->context;
    (void)reason;
    CHECK_EQ(iocp_group_leave(storm->group, session), IOCP_ENOTFOUND);
    CHECK(iocp_service_find(host->service, iocp_session_id(session)) == NULL);
}

/* One connection: some messages, some reading, and an end. */
static void client_once(struct storm *storm, uint64_t *seed)
{
    unsigned char data[2000];
    char got[4096];
    int fd = net_try_connect(&storm->host.address);
    if (fd < 0)
        return;
    net_limit(fd, 20);
    for (uint32_t left = next_random(seed) % 30; left > 0; left--) {
        size_t size = 2 + next_random(seed) % (next_random(seed) % 8 ? 60 : 1900);
        memset(data, (int)next_random(seed), sizeof(data));
        data[0] = (unsigned char)size;
        data[1] = (unsigned char)(size >> 8);
        if (net_send_some(fd, data, size) < 0)
            break;
        if (next_random(seed) % 4 == 0 && net_recv_now(fd, got, sizeof(got)) == 0)
            break;
    }
    switch (next_random(seed) % 4) {
    case 0:
        net_reset(fd);
        return;
    case 1:
        net_shutdown_send(fd);
        net_recv_to_end(fd);
        break;
    case 2: /* a size of 0 */
        net_send_some(fd, "\0\0", 2);
        net_recv_to_end(fd);
    }
    net_close(fd);
}

struct actor {
    struct storm *storm;
    uint64_t seed;
};

static void *client_run(void *context)
{
    struct actor *actor = context;
    for (uint32_t i = 0; i < actor->storm->rounds; i++)
        client_once(actor->storm, &actor->seed);
    return NULL;
}

static int meddle(struct iocp_session *session, void *context)
{
    struct actor *actor = context;
    struct storm *storm = actor->storm;
    switch (next_random(&actor->seed) % 40) {
    case 0:
        iocp_session_close(session);
        break;
    case 1:
        iocp_session_abort(session);
        break;
    case 2:
        iocp_session_pause(session);
        break;
    case 3:
        iocp_session_send(session, "from outside", 12);
        break;
    case 4:
        iocp_group_join(storm->group, session);
        break;
    case 5:
        iocp_group_leave(storm->group, session);
        break;
    case 6: {
        struct iocp_address address;
        iocp_session_local(session, &address);
        break;
    }
    default:
        iocp_session_resume(session);
    }
    return 0;
}

static void *meddler_run(void *context)
{
    struct actor *actor = context;
    while (!__atomic_load_n(&actor->storm->stop, __ATOMIC_RELAXED)) {
        iocp_service_each(actor->storm->host.service, meddle, actor);
        system_nap(50000);
    }
    return NULL;
}

static void storm_init(struct storm *storm, uint32_t rounds)
{
    struct iocp_session_class *session_class = &storm->host.session_class;
    memset(storm, 0, sizeof(*storm));
    host_init(&storm->host);
    CHECK_OK(iocp_group_create(&storm->group));
    storm->rounds = rounds;
    storm->host.context = storm;
    storm->host.config.workers = 3;
    storm->host.config.port_config.concurrency = 3;
    storm->host.config.tick_ns = MS;
    storm->host.config.drain_ns = 20 * MS;
    storm->host.opened_hook = storm_opened;
    storm->host.message_hook = storm_message;
    storm->host.closed_hook = storm_closed;
    session_class->framing = iocp_framing_length(2, 2000);
    session_class->linger_ns = 10 * MS;
    session_class->read_idle_ns = 200 * MS;
    session_class->send_pause = 4000;
    session_class->send_low = 1000;
    session_class->send_high = 20000;
}

static void storm_run(struct storm *storm, int stop_in_between)
{
    pthread_t threads[CLIENTS + MEDDLERS];
    struct actor actors[CLIENTS + MEDDLERS];
    host_start(&storm->host);
    for (uint64_t i = 0; i < CLIENTS + MEDDLERS; i++) {
        actors[i] = (struct actor){storm, i * 1000003 + storm->rounds};
        CHECK_EQ(
            pthread_create(&threads[i], NULL, i < CLIENTS ? client_run : meddler_run, &actors[i]),
            0);
    }
    if (stop_in_between) {
        latch_wait_for(&storm->host.opened, storm->rounds / 2);
        iocp_service_stop(storm->host.service);
    }
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    __atomic_store_n(&storm->stop, 1, __ATOMIC_RELAXED);
    for (int i = CLIENTS; i < CLIENTS + MEDDLERS; i++)
        pthread_join(threads[i], NULL);
    iocp_service_stop(storm->host.service);
    CHECK_OK(iocp_service_join(storm->host.service));
    CHECK_EQ(iocp_group_count(storm->group), 0);
    CHECK_GT(latch_count(&storm->host.closed), 0);
    iocp_group_unref(storm->group);
    host_free(&storm->host);
}

TEST(every_way_to_end)
{
    struct storm storm;
    storm_init(&storm, 500);
    storm_run(&storm, 0);
}

TEST(stopped_in_the_middle)
{
    for (int i = 0; i < 3; i++) {
        struct storm storm;
        storm_init(&storm, 200);
        storm_run(&storm, 1);
    }
}
