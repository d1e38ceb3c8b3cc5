/* Misuse of the server layer: a missing pointer is an answer, not a crash, and nothing happens. */
#include "support/check.h"

#include <iocp.h>

static int visit_never(struct iocp_session *session, void *context)
{
    (void)session;
    (void)context;
    FAIL("a visit of nothing");
    return 0;
}

TEST(services)
{
    CHECK_EQ(iocp_service_create(NULL, NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_service_listen(NULL, NULL, NULL, NULL, NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_service_connect(NULL, NULL, NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_service_disconnect(NULL, 1), IOCP_EINVAL);
    CHECK_EQ(iocp_service_start(NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_service_run(NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_service_join(NULL), IOCP_EINVAL);
    iocp_service_stop(NULL);
    CHECK(iocp_service_find(NULL, 1) == NULL);
    CHECK_EQ(iocp_service_broadcast(NULL, NULL), 0);
    iocp_service_each(NULL, visit_never, NULL);
    CHECK(iocp_service_unref(NULL) == NULL);
}

TEST(sessions)
{
    CHECK_EQ(iocp_session_send(NULL, "x", 1), IOCP_EINVAL);
    CHECK_EQ(iocp_session_send_buffer(NULL, NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_session_finish(NULL), IOCP_EINVAL);
    iocp_session_pause(NULL);
    iocp_session_resume(NULL);
    iocp_session_confirm(NULL);
    iocp_session_close(NULL);
    iocp_session_abort(NULL);
    CHECK(iocp_session_unref(NULL) == NULL);
}

TEST(groups)
{
    struct iocp_group *group = NULL;
    CHECK_EQ(iocp_group_create(NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_group_create(&group), 0);
    CHECK_EQ(iocp_group_join(group, NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_group_join(NULL, NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_group_leave(group, NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_group_publish(group, NULL, NULL), 0);
    CHECK_EQ(iocp_group_publish(NULL, NULL, NULL), 0);
    iocp_group_each(NULL, visit_never, NULL);
    iocp_group_each(group, NULL, NULL);
    CHECK(iocp_group_unref(group) == NULL);
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(listeners_and_framing)
{
    struct iocp_framing line = iocp_framing_line(10);
    struct iocp_frame frame;
    CHECK_EQ(iocp_listener_create(NULL, NULL, NULL), IOCP_EINVAL);
    iocp_listener_close(NULL);
    CHECK_EQ(iocp_framing_check(NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_framing_next(NULL, "x", 1, 0, &frame), IOCP_EINVAL);
    CHECK_EQ(iocp_framing_next(&line, NULL, 1, 0, &frame), IOCP_EINVAL);
    CHECK_EQ(iocp_framing_next(&line, "x", 1, 0, NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_framing_put_size(NULL, NULL, 1), IOCP_EINVAL);
}
