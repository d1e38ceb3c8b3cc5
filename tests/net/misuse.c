/* Misuse of the server layer: a missing pointer is an answer, not a crash, and nothing happens. */
#include "support/check.h"

#include <iocp.h>

#include <string.h>

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

static void expect_no_service(const struct iocp_service_config *config)
{
    struct iocp_service *service = NULL;
    CHECK_EQ(iocp_service_create(config, &service), IOCP_EINVAL);
    CHECK(!service);
}

TEST(configs_of_services)
{
    struct iocp_service_config config;
    struct iocp_service *service = NULL;
    iocp_service_config_init(&config);
    config.role = IOCP_ROLE_CLIENT + 1;
    expect_no_service(&config);
    iocp_service_config_init(&config);
    config.sessions_max = UINT32_MAX;
    expect_no_service(&config);
    iocp_service_config_init(&config);
    config.tick_ns = 1;
    expect_no_service(&config);
    /* Zeroes are the defaults. */
    memset(&config, 0, sizeof(config));
    config.port_config.backend = test_backend();
    CHECK_EQ(iocp_service_create(&config, &service), 0);
    CHECK(iocp_service_unref(service) == NULL);
    CHECK_EQ(iocp_memory_count(), 0);
}

static size_t received_never(struct iocp_session *session, const void *data, size_t size,
                             void *context)
{
    (void)session;
    (void)data;
    (void)context;
    FAIL("received %zu bytes", size);
    return size;
}

/* A service refuses what its role is not for, and classes that contradict themselves. */
TEST(roles_and_classes)
{
    struct iocp_service_config config;
    struct iocp_service *service = NULL;
    struct iocp_session_class class = {.received = received_never};
    struct iocp_connect_config connect = {.session_class = &class};
    iocp_service_config_init(&config);
    config.port_config.backend = test_backend();
    config.role = IOCP_ROLE_CLIENT;
    CHECK_EQ(iocp_service_create(&config, &service), 0);
    CHECK_EQ(iocp_address_parse("127.0.0.1:0", &connect.address), 0);
    CHECK_EQ(iocp_service_listen(service, &connect.address, &class, NULL, NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_service_connect(service, NULL, NULL), IOCP_EINVAL);
    class.full_policy = IOCP_FULL_CLOSE + 1;
    CHECK_EQ(iocp_service_connect(service, &connect, NULL), IOCP_EINVAL);
    class.full_policy = 0;
    class.user_size = SIZE_MAX;
    CHECK_EQ(iocp_service_connect(service, &connect, NULL), IOCP_ENOMEM);
    class.user_size = 0;
    memset(&connect.address, 0, sizeof(connect.address));
    CHECK_EQ(iocp_service_connect(service, &connect, NULL), IOCP_EINVAL);
    iocp_service_each(service, NULL, NULL);
    CHECK(iocp_service_unref(service) == NULL);

    config.role = IOCP_ROLE_SERVER;
    CHECK_EQ(iocp_service_create(&config, &service), 0);
    CHECK_EQ(iocp_address_parse("127.0.0.1:1", &connect.address), 0);
    CHECK_EQ(iocp_service_connect(service, &connect, NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_service_listen(service, NULL, &class, NULL, NULL), IOCP_EINVAL);
    CHECK(iocp_service_unref(service) == NULL);
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(sessions)
{
    CHECK_STR(iocp_close_reason_text((enum iocp_close_reason)99), "?");
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
    CHECK_EQ(iocp_group_leave(NULL, NULL), IOCP_EINVAL);
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
