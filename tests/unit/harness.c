/* The harness itself: a check that could not fail would make every other test worthless. */
#include "support/check.h"
#include "support/deny_uring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* How a child that runs `body` ends, with what it prints thrown away. */
static int harness_end_of(void (*body)(void))
{
    int status;

    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stdout))
            _exit(99);
        body();
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void false_condition(void)
{
    CHECK(1 == 2);
}

static void false_comparison(void)
{
    CHECK_LE(3, 2);
}

static void false_equality(void)
{
    CHECK_EQ(IOCP_ECLOSED, IOCP_OK);
}

static void error_result(void)
{
    CHECK_OK(IOCP_EINVAL);
}

static void false_text(void)
{
    CHECK_STR("this", "that");
}

static void false_memory(void)
{
    CHECK_MEM("abc", "abd", 3);
}

static void failure(void)
{
    FAIL("%d", 1);
}

static void skip(void)
{
    SKIP("%d", 1);
}

static void unknown_backend(void)
{
    setenv("TEST_BACKEND", "select", 1);
    test_backend();
}

TEST(failed_checks_end_with_1)
{
    CHECK_EQ(harness_end_of(false_condition), 1);
    CHECK_EQ(harness_end_of(false_comparison), 1);
    CHECK_EQ(harness_end_of(false_equality), 1);
    CHECK_EQ(harness_end_of(error_result), 1);
    CHECK_EQ(harness_end_of(false_text), 1);
    CHECK_EQ(harness_end_of(false_memory), 1);
    CHECK_EQ(harness_end_of(failure), 1);
    CHECK_EQ(harness_end_of(unknown_backend), 1);
}

static void true_checks(void)
{
    CHECK(1);
    CHECK_EQ(-1, IOCP_ECANCELED);
    CHECK_NE(1, 2);
    CHECK_LT(-1, 0);
    CHECK_LE(2, 2);
    CHECK_GT(UINT32_MAX, 0);
    CHECK_GE(2, 2);
    CHECK_OK(7);
    CHECK_STR("this", "this");
    CHECK_MEM("abc", "abd", 2);
}

TEST(true_checks_go_on)
{
    CHECK_EQ(harness_end_of(true_checks), 0);
}

TEST(skip_ends_with_77)
{
    CHECK_EQ(harness_end_of(skip), 77);
}

TEST(backend_comes_from_the_environment)
{
    setenv("TEST_BACKEND", "uring", 1);
    CHECK_EQ(test_backend(), IOCP_BACKEND_URING);
    setenv("TEST_BACKEND", "epoll", 1);
    CHECK_EQ(test_backend(), IOCP_BACKEND_EPOLL);
    setenv("TEST_BACKEND", "uring-denied", 1);
    CHECK_EQ(test_backend(), IOCP_BACKEND_AUTO);
    CHECK_STR(test_backend_name(), "uring-denied");
    unsetenv("TEST_BACKEND");
    CHECK_EQ(test_backend(), IOCP_BACKEND_AUTO);
    CHECK_STR(test_backend_name(), "auto");
}

TEST(io_uring_is_denied_for_the_rest_of_the_process)
{
    deny_io_uring();
    CHECK_EQ(io_uring_error(), EPERM);
}
