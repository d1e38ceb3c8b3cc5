/* The harness itself: a check that could not fail would make every other test worthless. */
#include "os/os.h"
#include "support/check.h"

#include <stdlib.h>

CHILD(false_condition)
{
    CHECK(1 == 2);
}

CHILD(false_comparison)
{
    CHECK_LE(3, 2);
}

CHILD(false_equality)
{
    CHECK_EQ(IOCP_ECLOSED, IOCP_OK);
}

CHILD(error_result)
{
    CHECK_OK(IOCP_EINVAL);
}

CHILD(false_text)
{
    CHECK_STR("this", "that");
}

CHILD(false_memory)
{
    CHECK_MEM("abc", "abd", 3);
}

CHILD(failure)
{
    FAIL("%d", 1);
}

CHILD(unknown_backend)
{
    test_set_env("TEST_BACKEND", "select");
    test_backend();
}

TEST(failed_checks_end_with_1)
{
    CHECK_EQ(test_child("false_condition"), 1);
    CHECK_EQ(test_child("false_comparison"), 1);
    CHECK_EQ(test_child("false_equality"), 1);
    CHECK_EQ(test_child("error_result"), 1);
    CHECK_EQ(test_child("false_text"), 1);
    CHECK_EQ(test_child("false_memory"), 1);
    CHECK_EQ(test_child("failure"), 1);
    CHECK_EQ(test_child("unknown_backend"), 1);
}

CHILD(true_checks)
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
    CHECK_EQ(test_child("true_checks"), 0);
}

CHILD(skip)
{
    SKIP("%d", 1);
}

TEST(skip_ends_with_77)
{
    CHECK_EQ(test_child("skip"), 77);
}

CHILD(abort_process)
{
    abort();
}

TEST(an_abort_is_told_from_a_failed_check)
{
    CHECK_EQ(test_child("abort_process"), TEST_ABORTED);
}

CHILD(write_to_nowhere)
{
    volatile int *volatile nowhere = NULL;
    *nowhere = 1;
}

/* Sanitizers make an exit of it. */
CHILD(child_that_crashes)
{
    CHECK_EQ(test_child("write_to_nowhere"), 0);
}

TEST(a_crash_of_a_child_fails_its_test)
{
    CHECK_EQ(test_child("child_that_crashes"), 1);
}

CHILD(wait_for_ever)
{
    struct iocp__parker parker = {0};
    iocp__parker_wait(&parker, UINT64_MAX);
}

CHILD(child_that_hangs)
{
    test_set_env("TEST_TIMEOUT_S", "1");
    CHECK_EQ(test_child("wait_for_ever"), 0);
}

TEST(a_child_that_hangs_fails_its_test)
{
    CHECK_EQ(test_child("child_that_hangs"), 1);
}

TEST(variables_are_set_and_removed)
{
    test_set_env("CHECK_VARIABLE", "here");
    CHECK_STR(getenv("CHECK_VARIABLE"), "here");
    test_set_env("CHECK_VARIABLE", NULL);
    CHECK(getenv("CHECK_VARIABLE") == NULL);
}

TEST(backend_comes_from_the_environment)
{
    if (test_on_windows()) {
        test_set_env("TEST_BACKEND", "windows");
        CHECK_EQ(test_backend(), IOCP_BACKEND_WINDOWS);
    } else {
        test_set_env("TEST_BACKEND", "uring");
        CHECK_EQ(test_backend(), IOCP_BACKEND_URING);
        test_set_env("TEST_BACKEND", "epoll");
        CHECK_EQ(test_backend(), IOCP_BACKEND_EPOLL);
        test_set_env("TEST_BACKEND", "uring-denied");
        CHECK_EQ(test_backend(), IOCP_BACKEND_AUTO);
        CHECK_STR(test_backend_name(), "uring-denied");
    }
    test_set_env("TEST_BACKEND", NULL);
    CHECK_EQ(test_backend(), IOCP_BACKEND_AUTO);
    CHECK_STR(test_backend_name(), "auto");
}
