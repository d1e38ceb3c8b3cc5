/* Which backend a port stands on, and why: asked for, by the environment, or found out. */
#include "support/port.h"

#include <iocp/error.h>

#include <string.h>

static int is_denied(void)
{
    return strcmp(test_backend_name(), "uring-denied") == 0;
}

static int have_uring(void)
{
    return iocp_backend_probe(IOCP_BACKEND_URING, NULL, 0) == 0;
}

/* Its name, as the port and the environment have it. */
static const char *always_name(void)
{
    return test_backend_always() == IOCP_BACKEND_WINDOWS ? "windows" : "epoll";
}

static int create(uint32_t backend, struct iocp_port **out_port)
{
    struct iocp_port_config config;
    iocp_port_config_init(&config);
    config.backend = backend;
    return iocp_port_create(&config, out_port);
}

/* The port of this run stands on the backend of this run. Where io_uring is denied, AUTO finds
 * epoll, and says in one line why. */
TEST(chosen)
{
    struct iocp_port *port = port_open(0);
    const char *reason = iocp_port_backend_reason(port);
    CHECK(reason);
    CHECK(!strchr(reason, '\n'));
    if (test_backend() == IOCP_BACKEND_URING) {
        CHECK_STR(iocp_port_backend(port), "uring");
        CHECK_STR(reason, "");
    } else if (test_backend() == test_backend_always() || is_denied()) {
        CHECK_STR(iocp_port_backend(port), always_name());
    }
    if (is_denied())
        CHECK_GT(strlen(reason), 0);
    port_end(port);
}

/* AUTO is io_uring where that works; on Windows there is but one. */
TEST(automatic)
{
    struct iocp_port *port = NULL;
    CHECK_EQ(create(IOCP_BACKEND_AUTO, &port), 0);
    CHECK_STR(iocp_port_backend(port), have_uring() ? "uring" : always_name());
    if (have_uring() || test_on_windows())
        CHECK_STR(iocp_port_backend_reason(port), "");
    else
        CHECK_GT(strlen(iocp_port_backend_reason(port)), 0);
    port_end(port);
}

/* One that does not work here makes no port. */
TEST(asked_for)
{
    struct iocp_port *port = NULL;
    CHECK_EQ(create(test_backend_never(), &port), IOCP_ENOTSUP);
    CHECK_EQ(create(test_backend_always(), &port), 0);
    CHECK_STR(iocp_port_backend(port), always_name());
    port_end(port);
    if (have_uring()) {
        CHECK_EQ(create(IOCP_BACKEND_URING, &port), 0);
        CHECK_STR(iocp_port_backend(port), "uring");
        port_end(port);
    } else {
        CHECK_EQ(create(IOCP_BACKEND_URING, &port), IOCP_ENOTSUP);
    }
    CHECK_EQ(iocp_memory_count(), 0);
}

/* The environment decides for AUTO, and for AUTO alone. */
TEST(environment)
{
    struct iocp_port *port = NULL;
    test_set_env("IOCP_BACKEND", always_name());
    CHECK_EQ(create(IOCP_BACKEND_AUTO, &port), 0);
    CHECK_STR(iocp_port_backend(port), always_name());
    port_end(port);
    if (have_uring()) {
        CHECK_EQ(create(IOCP_BACKEND_URING, &port), 0);
        CHECK_STR(iocp_port_backend(port), "uring");
        port_end(port);
    }

    test_set_env("IOCP_BACKEND", "uring");
    if (have_uring()) {
        CHECK_EQ(create(IOCP_BACKEND_AUTO, &port), 0);
        CHECK_STR(iocp_port_backend(port), "uring");
        port_end(port);
    } else {
        CHECK_EQ(create(IOCP_BACKEND_AUTO, &port), IOCP_ENOTSUP);
    }
    CHECK_EQ(create(test_backend_always(), &port), 0);
    CHECK_STR(iocp_port_backend(port), always_name());
    port_end(port);

    port = NULL;
    test_set_env("IOCP_BACKEND", "banana");
    CHECK_EQ(create(IOCP_BACKEND_AUTO, &port), IOCP_EINVAL);
    CHECK(!port);
    CHECK_EQ(iocp_memory_count(), 0);
    test_set_env("IOCP_BACKEND", NULL);
}

/* Probing says whether a backend works, and why not, in as many bytes as there are; it leaves
 * nothing behind. */
TEST(probe)
{
    char text[256];
    char cut[5];
    int before = system_open_handles();
    memset(text, 'x', sizeof(text));
    CHECK_EQ(iocp_backend_probe(test_backend_always(), text, sizeof(text)), 0);
    CHECK_EQ(iocp_backend_probe(test_backend_always(), NULL, 0), 0);
    CHECK_EQ(iocp_backend_probe(test_backend_never(), text, sizeof(text)), IOCP_ENOTSUP);
    CHECK(memchr(text, 0, sizeof(text)));
    CHECK_GT(strlen(text), 0);
    CHECK_EQ(iocp_backend_probe(test_backend_never(), NULL, 0), IOCP_ENOTSUP);
    memset(cut, 'x', sizeof(cut));
    CHECK_EQ(iocp_backend_probe(test_backend_never(), cut, sizeof(cut)), IOCP_ENOTSUP);
    CHECK_EQ(strnlen(cut, sizeof(cut)), sizeof(cut) - 1);
    if (is_denied()) {
        CHECK_EQ(iocp_backend_probe(IOCP_BACKEND_URING, text, sizeof(text)), IOCP_ENOTSUP);
        CHECK_GT(strlen(text), 0);
    }
    CHECK_EQ(system_open_handles(), before);
    CHECK_EQ(iocp_memory_count(), 0);
}

/* A port takes all of its descriptors with it. */
TEST(no_descriptor_is_left)
{
    int before;
    port_end(port_open(4));
    before = system_open_handles();
    for (int i = 0; i < 5; i++) {
        struct crew crew;
        struct iocp_port *port = port_open(4);
        crew_start(&crew, port, 4);
        crew_stop(&crew);
        port_end(port);
    }
    CHECK_EQ(system_open_handles(), before);
}
