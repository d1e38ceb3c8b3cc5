/* Sessions from inside: what another thread may do while one is in the middle of a call. The thread
 * is played: by the bell that the call rings, and by hand where nothing is rung. */
#include "support/host.h"

#include "backend/backend.h"
#include "core/types.h"
#include "net/receive.h"
#include "net/session.h"

#include <iocp/memory.h>

#include <stdlib.h>
#include <string.h>

/* A service that only this thread dispatches, and one session of it. */
struct stage {
    struct host host;
    struct iocp_session *session;
    int peer;
};

static void stage_dispatch(struct stage *stage)
{
    int result = iocp_port_dispatch(iocp_service_port(stage->host.service), 10 * MS);
    if (result != IOCP_ETIMEDOUT)
        CHECK_OK(result);
}

/* `host` is initialized. */
static void stage_begin(struct stage *stage)
{
    stage->host.config.workers = IOCP_WORKERS_NONE;
    host_start(&stage->host);
    stage->peer = host_connect(&stage->host);
    while (!latch_count(&stage->host.opened))
        stage_dispatch(stage);
    stage->session = host_last(&stage->host);
}

static void stage_open(struct stage *stage)
{
    host_init(&stage->host);
    stage_begin(stage);
}

static void stage_end(struct stage *stage)
{
    iocp_session_unref(stage->session);
    net_close(stage->peer);
    iocp_service_stop(stage->host.service);
    while (!latch_count(&stage->host.stopped))
        stage_dispatch(stage);
    host_end(&stage->host);
}

/* ---- Another thread, inside of iocp_port_cancel. */

static struct {
    struct stage *stage;
    struct iocp__backend backend; /* the real one, with a bell of ours */
    const struct iocp__backend *real;
    int resume_first;
    int rung;
} meanwhile;

/* Rung in the middle of the cancel: the stream is answered, and the session resumed, before it
 * returns. */
static void meanwhile_bell(struct iocp__kernel *kernel)
{
    struct iocp_session *session = meanwhile.stage->session;
    kernel->backend = meanwhile.real;
    kernel->backend->bell(kernel);
    meanwhile.rung++;
    CHECK_EQ(session->use, IOCP__USE_CANCELING);
    if (meanwhile.resume_first)
        iocp_session_resume(session);
    while (session->use != IOCP__USE_REST)
        stage_dispatch(meanwhile.stage);
    if (!meanwhile.resume_first)
        iocp_session_resume(session);
    /* Who is inside of the cancel still uses the op: nobody may prepare it anew. */
    CHECK_EQ(session->use, IOCP__USE_REST);
    CHECK(!iocp_op_pending(&session->op));
}

/* Pauses the session, with a bell for the cancel. */
static void meanwhile_pause(struct stage *stage, int resume_first)
{
    struct iocp__lane *lane = stage->session->object.lane;
    meanwhile.stage = stage;
    meanwhile.resume_first = resume_first;
    meanwhile.rung = 0;
    meanwhile.real = lane->kernel->backend;
    meanwhile.backend = *meanwhile.real;
    meanwhile.backend.bell = meanwhile_bell;
    lane->kernel->backend = &meanwhile.backend;
    lane->sleeping = 1;
    iocp_session_pause(stage->session);
    CHECK_EQ(meanwhile.rung, 1);
}

static void check_receives(struct stage *stage)
{
    send_all(stage->peer, "hello", 5);
    while (latch_count(&stage->host.bytes) < 5)
        stage_dispatch(stage);
}

/* The request to resume finds the op at rest and in the hands of the canceler, who has to look
 * after it. */
TEST(resume_during_cancel_is_the_cancelers)
{
    struct stage stage;
    stage_open(&stage);
    meanwhile_pause(&stage, 0);
    check_receives(&stage);
    stage_end(&stage);
}

/* The answer of the canceled stream finds the session resumed, and may not arm the next one. */
TEST(arming_during_cancel_is_the_cancelers)
{
    struct stage stage;
    stage_open(&stage);
    meanwhile_pause(&stage, 1);
    check_receives(&stage);
    stage_end(&stage);
}

/* ---- Another thread, inside of a call that uses the handle. */

TEST(handle_in_use_is_not_closed)
{
    struct stage stage;
    struct iocp_address local;
    stage_open(&stage);
    struct iocp_session *session = stage.session;
    /* As between the two halves of iocp_session_local. */
    session->handle_users++;
    iocp_session_abort(session);
    for (int i = 0; i < 3; i++)
        stage_dispatch(&stage);
    CHECK_NE(iocp_object_handle(&session->object), IOCP_HANDLE_INVALID);
    iocp_session_local(session, &local); /* too late for others */
    CHECK_EQ(local.size, 0);
    session->handle_users--;
    iocp_object_close(&session->object);
    while (!latch_count(&stage.host.closed))
        stage_dispatch(&stage);
    stage_end(&stage);
}

/* ---- Another thread, in the middle of an accept. */

static struct iocp_service *stopped_meanwhile;

/* Memory for a session is asked for: the service is stopped, and only then the memory is there. */
static void *allocate_meanwhile(void *context, size_t size)
{
    struct iocp_service *service = stopped_meanwhile;
    (void)context;
    if (service && size >= sizeof(struct iocp_session)) {
        stopped_meanwhile = NULL;
        iocp_service_stop(service);
    }
    return malloc(size);
}

static void release_meanwhile(void *context, void *memory, size_t size)
{
    (void)context;
    (void)size;
    free(memory);
}

/* A connection that was accepted before the stop, and becomes a session after it, is refused: else
 * nobody would close it. */
TEST(connection_behind_a_stop_is_refused)
{
    const struct iocp_allocator allocator = {allocate_meanwhile, release_meanwhile, NULL};
    struct stage stage;
    CHECK_EQ(iocp_allocator_set(&allocator), 0);
    host_init(&stage.host);
    stage.host.config.workers = IOCP_WORKERS_NONE;
    host_start(&stage.host);
    stage.peer = host_connect(&stage.host);
    stage.session = NULL;
    stopped_meanwhile = stage.host.service;
    while (!latch_count(&stage.host.stopped))
        stage_dispatch(&stage);
    CHECK_EQ(latch_count(&stage.host.opened), 0);
    expect_gone(stage.peer);
    stage_end(&stage);
}

/* ---- The limits of the queues, to the byte. */

TEST(send_high_is_reached_and_not_passed)
{
    struct stage stage;
    char data[1000] = {0};
    host_init(&stage.host);
    stage.host.session_class.send_high = sizeof(data);
    stage_begin(&stage);
    CHECK_EQ(iocp_session_send(stage.session, data, sizeof(data)), 0);
    CHECK_EQ(iocp_session_send(stage.session, data, 1), IOCP_EFULL);
    stage_end(&stage);
}

TEST(send_pause_is_passed_before_receiving_pauses)
{
    struct stage stage;
    char data[1000] = {0};
    host_init(&stage.host);
    stage.host.session_class.send_pause = sizeof(data);
    stage_begin(&stage);
    CHECK_EQ(iocp_session_send(stage.session, data, sizeof(data)), 0);
    CHECK_EQ(stage.session->paused, 0);
    CHECK_EQ(stage.session->use, IOCP__USE_STREAM);
    CHECK_EQ(iocp_session_send(stage.session, data, 1), 0);
    CHECK_EQ(stage.session->paused, IOCP__PAUSE_SEND);
    /* Not only told to deliver nothing: it takes no more from the system. */
    CHECK_EQ(stage.session->use, IOCP__USE_CANCELING);
    stage_end(&stage);
}

static size_t take_nothing(struct host *host, struct iocp_session *session, const void *data,
                           size_t size)
{
    (void)host;
    (void)data;
    guest_of(session)->number = size;
    return 0;
}

/* Sends `size` bytes, of which the handler takes none, and returns what pauses the session then. */
static int paused_after(size_t size)
{
    struct stage stage;
    char data[1000] = {0};
    host_init(&stage.host);
    stage.host.session_class.receive_max = sizeof(data);
    stage.host.received_hook = take_nothing;
    stage_begin(&stage);
    send_all(stage.peer, data, size);
    while (guest_of(stage.session)->number < size)
        stage_dispatch(&stage);
    int paused = stage.session->paused;
    stage_end(&stage);
    return paused;
}

TEST(receive_max_is_reached_before_receiving_pauses)
{
    CHECK_EQ(paused_after(999), 0);
    CHECK_EQ(paused_after(1000), IOCP__PAUSE_FULL);
}

/* Echoes as much as the queue takes, in pieces of 600 bytes, and leaves the rest. */
static size_t echo_what_fits(struct host *host, struct iocp_session *session, const void *data,
                             size_t size)
{
    size_t used = 0;
    (void)host;
    while (size - used >= 600 && iocp_session_send(session, (const char *)data + used, 600) == 0)
        used += 600;
    return used;
}

/* Bytes that a handler left because the send queue was full come again when it is not, though
 * nothing else comes. */
TEST(left_bytes_come_again_when_there_is_room)
{
    struct stage stage;
    char data[1200];
    memset(data, 'd', sizeof(data));
    host_init(&stage.host);
    stage.host.session_class.send_high = 1000;
    stage.host.session_class.send_pause = 100;
    stage.host.session_class.send_low = 50;
    stage.host.received_hook = echo_what_fits;
    stage_begin(&stage);
    send_all(stage.peer, data, sizeof(data));
    while (host_stats(&stage.host).bytes_sent < sizeof(data))
        stage_dispatch(&stage);
    expect_bytes(stage.peer, data, sizeof(data));
    stage_end(&stage);
}

/* ---- Times of activity. */

/* Whenever a stamp is looked at, it is no earlier than the time that it was made of: so no limit is
 * over early. */
TEST(stamps_are_not_early)
{
    static const uint64_t times[] = {0, 1, (1 << 20) - 1, 1 << 20, 123456789, UINT64_C(1) << 52};
    static const uint64_t later[] = {0, 1, 1000, 1 << 20, 3 << 20, UINT64_C(1) << 50};
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        uint32_t stamp = iocp__stamp(times[i]);
        for (size_t k = 0; k < sizeof(later) / sizeof(later[0]); k++)
            CHECK_GE(iocp__stamp_ns(stamp, times[i] + later[k]), times[i]);
    }
}

/* ---- What a handler was given. */

static struct {
    const char *data;
    size_t size;
    int lent_inside;
} given;

static size_t note_given(struct host *host, struct iocp_session *session, const void *data,
                         size_t size)
{
    (void)host, (void)session;
    given.data = data;
    given.size = size;
    given.lent_inside = iocp__receive_lend(data, size) != NULL &&
                        iocp__receive_lend(given.data + 1, size) == NULL &&
                        iocp__receive_lend(given.data - 1, 2) == NULL;
    return size;
}

/* The memory of a message is to be sent on as it lies there only by its handler, and no byte of
 * what is beside it: afterwards the buffer is somebody else's, and the same address other bytes. */
TEST(what_was_given_is_lent_to_its_handler_alone)
{
    struct stage stage;
    static char data[IOCP__RECEIVE_LEND * 2];
    host_init(&stage.host);
    stage.host.received_hook = note_given;
    stage_begin(&stage);
    given.size = 0;
    /* In pieces, should the system make some: until one is large enough to be lent. */
    while (given.size < IOCP__RECEIVE_LEND) {
        send_all(stage.peer, data, sizeof(data));
        stage_dispatch(&stage);
    }
    CHECK(given.lent_inside);
    CHECK(!iocp__receive_lend(given.data, given.size));
    stage_end(&stage);
}
