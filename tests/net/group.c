/* Groups: who gets what is published, while members come, go and close. */
#include "support/check.h"
#include "support/host.h"

#include <iocp.h>

#include <pthread.h>
#include <string.h>

#define MEMBERS 20

struct club {
    struct host host;
    struct iocp_group *group;
    int fds[MEMBERS];
    struct iocp_session *sessions[MEMBERS]; /* a reference each */
};

/* Members that have not joined yet. */
static void club_open(struct club *club)
{
    host_open(&club->host);
    CHECK_OK(iocp_group_create(&club->group));
    for (int i = 0; i < MEMBERS; i++) {
        club->fds[i] = host_connect(&club->host);
        host_ping(club->fds[i], "x");
        club->sessions[i] = host_last(&club->host);
    }
}

static void club_join(struct club *club)
{
    for (int i = 0; i < MEMBERS; i++)
        CHECK_OK(iocp_group_join(club->group, club->sessions[i]));
}

static void club_close(struct club *club)
{
    for (int i = 0; i < MEMBERS; i++) {
        iocp_session_unref(club->sessions[i]);
        if (club->fds[i] >= 0)
            net_close(club->fds[i]);
    }
    iocp_group_unref(club->group);
    host_end(&club->host);
}

static uint32_t publish(struct iocp_group *group, const char *text,
                        const struct iocp_session *except)
{
    struct iocp_buffer *buffer;
    CHECK_OK(iocp_buffer_copy(text, strlen(text), &buffer));
    uint32_t count = iocp_group_publish(group, buffer, except);
    iocp_buffer_unref(buffer);
    return count;
}

TEST(publishes_to_all_but_one)
{
    struct club club;
    club_open(&club);
    CHECK_EQ(publish(club.group, "nobody", NULL), 0);
    club_join(&club);
    CHECK_EQ(iocp_group_count(club.group), MEMBERS);
    CHECK_EQ(publish(club.group, "one", NULL), MEMBERS);
    CHECK_EQ(publish(club.group, "two", club.sessions[3]), MEMBERS - 1);
    for (int i = 0; i < MEMBERS; i++)
        expect_bytes(club.fds[i], i == 3 ? "one" : "onetwo", i == 3 ? 3 : 6);
    host_ping(club.fds[3], "nothing before this");
    club_close(&club);
}

TEST(join_and_leave)
{
    struct club club;
    struct iocp_group *other;
    club_open(&club);
    CHECK_OK(iocp_group_create(&other));
    CHECK_EQ(iocp_group_leave(club.group, club.sessions[0]), IOCP_ENOTFOUND);
    club_join(&club);
    CHECK_EQ(iocp_group_join(club.group, club.sessions[5]), IOCP_EEXIST);
    CHECK_OK(iocp_group_join(other, club.sessions[5]));
    for (int i = 0; i < MEMBERS; i += 2)
        CHECK_OK(iocp_group_leave(club.group, club.sessions[i]));
    CHECK_EQ(iocp_group_leave(club.group, club.sessions[0]), IOCP_ENOTFOUND);
    CHECK_EQ(iocp_group_count(club.group), MEMBERS / 2);
    CHECK_EQ(publish(club.group, "odd", NULL), MEMBERS / 2);
    CHECK_EQ(publish(other, "five", NULL), 1);
    for (int i = 1; i < MEMBERS; i += 2)
        expect_bytes(club.fds[i], "oddfive", i == 5 ? 7 : 3);
    host_ping(club.fds[0], "nothing before this");
    iocp_group_unref(other);
    club_close(&club);
}

static int see_closed(void *context)
{
    struct club *club = context;
    return latch_count(&club->host.closed) == MEMBERS / 2;
}

TEST(closing_leaves)
{
    struct club club;
    club_open(&club);
    club_join(&club);
    for (int i = 0; i < MEMBERS / 2; i++) {
        if (i % 2)
            iocp_session_abort(club.sessions[i]);
        else
            iocp_session_close(club.sessions[i]);
        /* At once, not when it has closed. */
        CHECK_EQ(iocp_group_leave(club.group, club.sessions[i]), IOCP_ENOTFOUND);
        CHECK_EQ(iocp_group_join(club.group, club.sessions[i]), IOCP_ECLOSED);
        net_close(club.fds[i]);
        club.fds[i] = -1;
    }
    CHECK_EQ(iocp_group_count(club.group), MEMBERS / 2);
    CHECK_EQ(publish(club.group, "left", NULL), MEMBERS / 2);
    wait_until(see_closed, &club);
    club_close(&club);
}

static void peer_left(struct host *host, struct iocp_session *session,
                      enum iocp_close_reason reason)
{
    struct iocp_group *group = host->context;
    (void)reason;
    CHECK_EQ(iocp_group_leave(group, session), IOCP_ENOTFOUND);
    publish(group, "bye", NULL);
}

static void peer_joins(struct host *host, struct iocp_session *session)
{
    CHECK_OK(iocp_group_join(host->context, session));
}

/* As in a chat: join in `opened`, and tell the others in `closed`. */
TEST(handlers_join_and_publish)
{
    struct host host;
    struct iocp_group *group;
    host_init(&host);
    CHECK_OK(iocp_group_create(&group));
    host.context = group;
    host.opened_hook = peer_joins;
    host.closed_hook = peer_left;
    host_start(&host);
    int a = host_connect(&host);
    int b = host_connect(&host);
    latch_wait_for(&host.opened, 2);
    net_close(a);
    expect_bytes(b, "bye", 3);
    CHECK_EQ(iocp_group_count(group), 1);
    net_close(b);
    latch_wait_for(&host.closed, 2);
    CHECK_EQ(iocp_group_count(group), 0);
    iocp_group_unref(group);
    host_end(&host);
}

TEST(last_unref_makes_all_leave)
{
    struct club club;
    club_open(&club);
    club_join(&club);
    CHECK(iocp_group_ref(club.group) == club.group);
    CHECK(iocp_group_unref(club.group) == NULL);
    CHECK_EQ(publish(club.group, "still", NULL), MEMBERS);
    iocp_group_unref(club.group);
    CHECK(iocp_group_unref(NULL) == NULL);
    CHECK_OK(iocp_group_create(&club.group));
    club_join(&club);
    club_close(&club);
}

struct visit {
    struct club *club;
    uint32_t count;
};

/* Members may do anything to the group while it is gone through. */
static int leave_and_join(struct iocp_session *session, void *context)
{
    struct visit *visit = context;
    struct iocp_group *group = visit->club->group;
    visit->count++;
    CHECK_OK(iocp_group_leave(group, session));
    if (visit->count % 3)
        CHECK_OK(iocp_group_join(group, session));
    CHECK_EQ(publish(group, "!", NULL), iocp_group_count(group));
    return 0;
}

TEST(each_sees_every_member_once)
{
    struct club club;
    struct visit visit = {&club, 0};
    club_open(&club);
    club_join(&club);
    for (int round = 0; round < 30; round++) {
        visit.count = 0;
        uint32_t members = iocp_group_count(club.group);
        iocp_group_each(club.group, leave_and_join, &visit);
        CHECK_EQ(visit.count, members);
        for (int i = 0; i < MEMBERS; i++) {
            int error = iocp_group_join(club.group, club.sessions[i]);
            CHECK(error == 0 || error == IOCP_EEXIST);
        }
    }
    CHECK_EQ(iocp_group_count(club.group), MEMBERS);
    club_close(&club);
}

/* ---- Publishers, joins and leaves at once. A member that stays gets everything, in the order of
 * each publisher. */

struct crowd {
    struct club *club;
    uint32_t index;
    uint32_t stop; /* atomic */
};

static void *crowd_move(void *context)
{
    struct crowd *crowd = context;
    struct club *club = crowd->club;
    for (uint32_t i = 0; !__atomic_load_n(&crowd->stop, __ATOMIC_RELAXED); i++) {
        struct iocp_session *session = club->sessions[MEMBERS / 2 + i * 7 % (MEMBERS / 2)];
        if (iocp_group_join(club->group, session) == IOCP_EEXIST)
            CHECK_OK(iocp_group_leave(club->group, session));
    }
    return NULL;
}

static void *crowd_publish(void *context)
{
    struct crowd *crowd = context;
    for (unsigned i = 0; i < 400; i++) {
        char text[3] = {(char)('a' + crowd->index), (char)('0' + i % 10), 0};
        CHECK_GE(publish(crowd->club->group, text, NULL), MEMBERS / 2);
    }
    return NULL;
}

static void *crowd_read(void *context)
{
    /* What those that come and go were sent; until the end of the stream. */
    net_recv_to_end(*(int *)context);
    return NULL;
}

TEST(publishing_while_members_move)
{
    struct club club;
    struct crowd crowds[3];
    pthread_t threads[3];
    pthread_t readers[MEMBERS / 2];
    club_open(&club);
    for (int i = 0; i < MEMBERS / 2; i++) {
        CHECK_OK(iocp_group_join(club.group, club.sessions[i]));
        CHECK_EQ(pthread_create(&readers[i], NULL, crowd_read, &club.fds[MEMBERS / 2 + i]), 0);
    }
    for (uint32_t i = 0; i < 3; i++) {
        crowds[i] = (struct crowd){&club, i, 0};
        CHECK_EQ(pthread_create(&threads[i], NULL, i == 2 ? crowd_move : crowd_publish, &crowds[i]),
                 0);
    }
    for (int i = 0; i < MEMBERS / 2; i++) {
        unsigned next[2] = {0, 0};
        for (int k = 0; k < 800; k++) {
            char text[2];
            recv_exact(club.fds[i], text, 2);
            CHECK(text[0] == 'a' || text[0] == 'b');
            CHECK_EQ(text[1], '0' + (char)(next[text[0] - 'a']++ % 10));
        }
    }
    __atomic_store_n(&crowds[2].stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < MEMBERS / 2; i++) {
        iocp_session_close(club.sessions[MEMBERS / 2 + i]);
        pthread_join(readers[i], NULL);
    }
    CHECK_EQ(iocp_group_count(club.group), MEMBERS / 2);
    club_close(&club);
}

static int leave_one(struct iocp_session *session, void *context)
{
    struct visit *visit = context;
    visit->count++;
    CHECK_OK(iocp_group_leave(visit->club->group, session));
    return 0;
}

TEST(join_without_memory)
{
    struct club club;
    club_open(&club);
    for (int i = 0; i < MEMBERS; i++) {
        uint64_t nth = 0;
        int error;
        do {
            iocp_memory_fail(++nth, 0);
            error = iocp_group_join(club.group, club.sessions[i]);
            iocp_memory_fail(0, 0);
            CHECK(error == 0 || error == IOCP_ENOMEM);
            CHECK_EQ(iocp_group_count(club.group), (uint32_t)(i + (error == 0)));
        } while (error < 0);
    }
    /* Leaving and publishing need none. */
    iocp_memory_fail(1, 1);
    struct visit visit = {&club, 0};
    iocp_group_each(club.group, leave_one, &visit);
    iocp_memory_fail(0, 0);
    CHECK_EQ(visit.count, MEMBERS);
    CHECK_EQ(iocp_group_count(club.group), 0);
    club_close(&club);
}
