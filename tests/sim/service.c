/* The service scenario: short lives of services that have a port of their own. A server and its
 * clients are one service, whose sessions talk to each other by way of groups, in messages of all
 * sizes, while threads publish, join, leave, pause and ask; then the service ends, in one of the
 * ways in which one can: stopped from outside or in a handler, waited for by several, dropped, or
 * with its port closed below it, started or not. After it nothing is left. */
#include "net/session.h"
#include "sim.h"

#include <string.h>

#define MESSAGE_MAX 50000
#define HEADER 12 /* size, who, number */
#define TALKERS 4 /* of one publisher each */
#define IDS_MAX 512

enum life_end { LIFE_STOP, LIFE_HANDLER, LIFE_DROP, LIFE_PORT, LIFE_IDLE, LIFE_ENDS };

enum life_hot { LIFE_HOT_PAUSE = 1, LIFE_HOT_CLOSE };

/* In the user's area of a session. */
struct member {
    uint32_t mark;  /* of clients: what the connect was given */
    uint32_t place; /* in life.ids */
    int opened;
    int closed;
    uint32_t last[TALKERS]; /* number of the last message of each */
};

static struct {
    struct iocp_service *service;
    struct iocp_session_class session_class;
    struct iocp_group *groups[2];
    struct iocp_address address;
    enum life_end end;
    uint64_t ids[IDS_MAX];
    struct iocp_session *sessions[IDS_MAX]; /* of these ids, until `closed` */
    uint32_t id_count;
    int hot;        /* all threads are after the newest session */
    int unattended; /* nobody runs handlers any more */
    uint32_t opened;
    uint32_t closed;
    uint32_t stopped;
    uint32_t joined;
    uint32_t talkers;
} life;

/* ---- Messages. */

static void put_word(unsigned char *at, uint32_t word)
{
    for (int i = 0; i < 4; i++)
        at[i] = (unsigned char)(word >> (8 * i));
}

static uint32_t get_word(const unsigned char *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint32_t message_size(void)
{
    static const uint32_t most[] = {40, 300, 300, 3000, MESSAGE_MAX};
    return HEADER + sim_below(most[sim_below(sim_once_in(8) ? 5 : 3)] - HEADER + 1);
}

static struct iocp_buffer *message_make(uint32_t who, uint32_t number)
{
    struct iocp_buffer *buffer = NULL;
    uint32_t size = message_size();
    if (iocp_buffer_create(size, &buffer) < 0)
        return NULL;
    unsigned char *bytes = iocp_buffer_data(buffer);
    put_word(bytes, size);
    put_word(bytes + 4, who);
    put_word(bytes + 8, number);
    for (uint32_t i = HEADER; i < size; i++)
        bytes[i] = (unsigned char)(who + number + i);
    iocp_buffer_set_size(buffer, size);
    return buffer;
}

static void message_check(struct member *member, const unsigned char *bytes, size_t size)
{
    SIM_CHECK(size >= HEADER && get_word(bytes) == size, "a message of %zu bytes", size);
    uint32_t who = get_word(bytes + 4);
    uint32_t number = get_word(bytes + 8);
    SIM_CHECK(who < TALKERS && number > member->last[who], "message %u of %u after %u", number, who,
              who < TALKERS ? member->last[who] : 0);
    member->last[who] = number;
    for (size_t i = HEADER; i < size; i++)
        SIM_CHECK(bytes[i] == (unsigned char)(who + number + i), "byte %zu of %zu differs", i,
                  size);
}

/* ---- Handlers. */

static void on_opened(struct iocp_session *session, void *context)
{
    struct member *member = iocp_session_user(session);
    (void)context;
    SIM_CHECK(!member->opened, "a second `opened`");
    SIM_CHECK(member->mark == (iocp_session_is_client(session) ? 77 : 0), "mark %u", member->mark);
    member->opened = 1;
    life.opened++;
    tally.sessions++;
    SIM_CHECK(life.id_count < IDS_MAX, "too many sessions");
    member->place = life.id_count++;
    life.ids[member->place] = iocp_session_id(session);
    life.sessions[member->place] = session;
    iocp__sim_yield();
    (void)iocp_group_join(life.groups[0], session);
    if (sim_once_in(2))
        (void)iocp_group_join(life.groups[1], session);
}

static void on_message(struct iocp_session *session, const void *data, size_t size, void *context)
{
    struct member *member = iocp_session_user(session);
    (void)context;
    SIM_CHECK(member->opened && !member->closed, "a message before `opened` or after `closed`");
    message_check(member, data, size);
    tally.messages++;
    iocp__sim_yield();
    if (sim_once_in(30))
        iocp_session_pause(session);
    if (life.end == LIFE_HANDLER && sim_once_in(20)) {
        iocp_service_stop(life.service);
        int result = iocp_service_join(life.service);
        SIM_CHECK(result == IOCP_EBUSY, "a join in a handler gives %d", result);
    }
}

static void on_closed(struct iocp_session *session, enum iocp_close_reason reason, void *context)
{
    struct member *member = iocp_session_user(session);
    (void)context;
    SIM_CHECK(member->opened && !member->closed, "`closed` before `opened`, or twice");
    SIM_CHECK(reason != IOCP_CLOSE_NONE, "closed without a reason");
    member->closed = 1;
    life.sessions[member->place] = NULL;
    life.closed++;
    iocp__sim_yield();
}

static void on_stopped(struct iocp_service *service, void *context)
{
    (void)service;
    (void)context;
    SIM_CHECK(life.closed == life.opened, "`stopped` with %u sessions open",
              life.opened - life.closed);
    life.stopped++;
}

/* Asked when nobody can go on: an open session that nobody paused receives. */
static void check_armed(void)
{
    for (uint32_t i = 0; !life.unattended && !sim_ports_busy() && i < life.id_count; i++) {
        const struct iocp_session *session = life.sessions[i];
        int wants = session && session->state == IOCP__SESSION_OPEN && !session->paused &&
                    !(session->flags & IOCP__SESSION_PEER_ENDED);
        SIM_CHECK(!wants || session->use != IOCP__USE_REST, "session %u receives nothing", i);
    }
}

/* ---- Threads. */

static struct iocp_session *find_one(void)
{
    uint32_t at = life.hot ? life.id_count : sim_below(life.id_count) + 1;
    while (life.hot && at > 1 && !life.sessions[at - 1])
        at--;
    return life.id_count ? iocp_service_find(life.service, life.ids[at - 1]) : NULL;
}

/* The address of a session is there as long as it is open, whoever closes it meanwhile. */
static void ask(struct iocp_session *session)
{
    struct iocp_address local;
    iocp_session_local(session, &local);
    uint16_t port = iocp_address_port(&local);
    SIM_CHECK(iocp_session_is_client(session) || !port || port == iocp_address_port(&life.address),
              "the address of a session has the port %u", port);
}

static int visit(struct iocp_session *session, void *context)
{
    uint32_t *left = context;
    if (sim_once_in(3))
        (void)iocp_group_leave(life.groups[1], session);
    iocp__sim_yield();
    return (*left)-- == 0;
}

static void publish(uint32_t who, uint32_t number, const struct iocp_session *except)
{
    struct iocp_buffer *buffer = message_make(who, number);
    if (!buffer)
        return;
    if (sim_once_in(5))
        (void)iocp_service_broadcast(life.service, buffer);
    else
        (void)iocp_group_publish(life.groups[sim_below(2)], buffer, except);
    iocp_buffer_unref(buffer);
}

static void meet(struct iocp_session *session)
{
    uint32_t left = sim_below(20);
    switch (sim_below(9)) {
    case 0:
        iocp_session_close(session);
        break;
    case 1:
        iocp_session_abort(session);
        break;
    case 2:
        (void)iocp_session_finish(session);
        break;
    case 3:
        iocp_session_resume(session);
        break;
    case 4:
        (void)iocp_group_join(life.groups[1], session);
        break;
    case 5:
        iocp_group_each(life.groups[sim_below(2)], visit, &left);
        break;
    case 6:
        iocp_service_each(life.service, visit, &left);
        break;
    default:
        ask(session);
    }
}

/* What threads can do to each other at one session: close it while others ask, or pause it while it
 * is resumed. */
static void meet_hot(struct iocp_session *session)
{
    if (life.hot == LIFE_HOT_CLOSE && sim_once_in(12))
        iocp_session_abort(session);
    else if (life.hot == LIFE_HOT_CLOSE)
        ask(session);
    else if (sim_once_in(2))
        iocp_session_pause(session);
    else
        iocp_session_resume(session);
}

static void talker_run(void *context)
{
    (void)context;
    uint32_t who = life.talkers++;
    for (uint32_t i = 1; i <= knobs.steps * (life.hot ? 30 : 3); i++) {
        struct iocp_session *session = find_one();
        if (!life.hot || sim_once_in(30))
            publish(who, i, session);
        if (session && life.hot)
            meet_hot(session);
        else if (session && sim_once_in(2))
            meet(session);
        iocp_session_unref(session);
        if (life.hot ? !sim_once_in(12) : sim_once_in(2))
            iocp__sim_yield();
        else
            iocp__sim_sleep(sim_below(3000000));
    }
}

static void joiner_run(void *context)
{
    (void)context;
    int result = iocp_service_join(life.service);
    SIM_CHECK(result == 0 || result == IOCP_ECLOSED, "a join gives %d", result);
    life.joined++;
}

/* ---- A life. */

static void life_make_class(void)
{
    struct iocp_session_class *c = &life.session_class;
    iocp_session_class_init(c);
    c->name = "member";
    c->user_size = sizeof(struct member);
    c->framing = iocp_framing_length(4, MESSAGE_MAX);
    c->opened = on_opened;
    c->message = on_message;
    c->closed = on_closed;
    c->send_high = sim_once_in(2) ? 2 * MESSAGE_MAX : 4000;
    c->full_policy = sim_below(3);
    c->linger_ns = 1 + (uint64_t)sim_below(300) * 1000000;
    c->send_stall_ns = sim_once_in(3) ? 400000000 : 0;
    c->keepalive_s = sim_below(2);
    c->send_buffer = sim_below(2) * 8192;
    c->receive_buffer = sim_below(2) * 8192;
    c->delay = sim_below(2);
}

/* With faults, what it makes on the way has to be gone when it fails. */
static void life_create(void)
{
    struct iocp_service_config config;
    int error = IOCP_ENOMEM;
    iocp_service_config_init(&config);
    config.port_config.backend = knobs.shared ? IOCP_BACKEND_WINDOWS : IOCP_BACKEND_URING;
    config.port_config.concurrency = knobs.concurrency;
    config.port_config.lanes = knobs.lanes;
    config.port_config.buffer_size = 1000 + knobs.buffer_size;
    config.port_config.buffer_count = 1u << knobs.buffer_power;
    config.port_config.watch_ns = knobs.watch ? 500000 : 0;
    config.workers = knobs.workers;
    config.drain_ns = 1 + (uint64_t)sim_below(300) * 1000000;
    config.tick_ns = 1000000;
    config.stopped = on_stopped;
    for (uint32_t tries = 0; error == IOCP_ENOMEM || error == IOCP_EMFILE; tries++) {
        iocp__sim_faults_on(tries < 5);
        error = iocp_service_create(&config, &life.service);
    }
    SIM_CHECK(error == 0, "no service: %d", error);
    iocp__sim_faults_on(0);
    sim_port_add(iocp_service_port(life.service));
    for (int i = 0; i < 2; i++)
        SIM_CHECK(iocp_group_create(&life.groups[i]) == 0, "no group");
}

static void life_connect(uint32_t count)
{
    struct member first = {.mark = 77};
    struct iocp_connect_config config = {
        .address = life.address,
        .session_class = &life.session_class,
        .timeout_ns = sim_once_in(2) ? IOCP_WAIT_FOREVER : 0,
        .user = &first,
    };
    for (uint32_t i = 0; i < count; i++) {
        config.reconnect_min_ns = sim_below(2) * 3000000;
        config.reconnect_max_ns = sim_below(2) * 9000000;
        (void)iocp_service_connect(life.service, &config, NULL);
    }
}

static void life_begin(void)
{
    life.end = sim_below(LIFE_ENDS);
    life.hot = (int)sim_below(3);
    life_make_class();
    life_create();
    iocp_address_parse("127.0.0.1:0", &life.address);
    int error =
        iocp_service_listen(life.service, &life.address, &life.session_class, NULL, &life.address);
    SIM_CHECK(error == 0, "listen gives %d", error);
    if (life.end != LIFE_IDLE) {
        SIM_CHECK(iocp_service_start(life.service) == 0, "the service does not start");
        SIM_CHECK(iocp_service_start(life.service) == IOCP_EBUSY, "it starts twice");
    }
    life_connect(4 + knobs.connectors);
    iocp__sim_sleep(sim_below(20000000));
    iocp__sim_faults_on(1);
}

static void close_port(void)
{
    life.unattended = 1;
    iocp_port_close(iocp_service_port(life.service));
}

static void life_act(void)
{
    struct iocp__thread threads[TALKERS];
    uint32_t started = 0;
    for (uint32_t i = 0; i <= knobs.meddlers; i++)
        started += iocp__thread_start(&threads[started], "talker", talker_run, NULL) == 0;
    if (sim_once_in(2))
        iocp__sim_sleep(sim_below(60000000));
    if (life.end == LIFE_STOP && sim_once_in(2))
        iocp_service_stop(life.service);
    if (life.end == LIFE_PORT && sim_once_in(2))
        close_port();
    while (started)
        iocp__thread_join(&threads[--started]);
    iocp__sim_faults_on(0);
}

/* Stopped, or its port closed, and waited for by three. */
static void life_join(void)
{
    struct iocp__thread threads[2];
    for (int i = 0; i < 2; i++)
        SIM_CHECK(!iocp__thread_start(&threads[i], "joiner", joiner_run, NULL), "no thread");
    iocp__sim_sleep(sim_below(3000000));
    if (life.end == LIFE_PORT)
        close_port();
    else
        iocp_service_stop(life.service);
    joiner_run(NULL);
    for (int i = 0; i < 2; i++)
        iocp__thread_join(&threads[i]);
    SIM_CHECK(life.joined == 3, "%u of 3 have joined", life.joined);
}

static void life_finish(void)
{
    int whole = life.end != LIFE_PORT && life.end != LIFE_IDLE;
    if (life.end != LIFE_DROP && life.end != LIFE_IDLE)
        life_join();
    sim_port_remove(iocp_service_port(life.service));
    /* Without handlers that might join: members that nobody closes any more leave by this. */
    if (!whole)
        life.groups[0] = iocp_group_unref(life.groups[0]);
    iocp_service_unref(life.service);
    iocp_group_unref(life.groups[0]);
    iocp_group_unref(life.groups[1]);
    SIM_CHECK(!whole || life.stopped == 1, "`stopped` ran %u times", life.stopped);
    SIM_CHECK(!whole || life.closed == life.opened, "%u of %u sessions were closed", life.closed,
              life.opened);
}

void sim_service_scenario(void)
{
    for (uint32_t i = 0; i < knobs.rounds; i++) {
        memset(&life, 0, sizeof(life));
        iocp__sim_faults_on(0);
        sim_quiet_also = check_armed;
        life_begin();
        life_act();
        life_finish();
    }
}
