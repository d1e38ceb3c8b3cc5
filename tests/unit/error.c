/* Errors: the values are part of the ABI, names and texts are there for all of them. */
#include "support/check.h"

#include <iocp/error.h>
#include <iocp/version.h>

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int value;
} errors[] = {
#define ROW(name, value, text) {"IOCP_E" #name, IOCP_E##name},
    IOCP_ERRORS(ROW)
#undef ROW
};

#define COUNT ((int)(sizeof(errors) / sizeof(errors[0])))

TEST(values_are_all_different_and_have_no_gap)
{
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(errors[i].value, -1 - i);
}

/* Written down once more: a change of the table that moves a value breaks programs. */
TEST(values_of_the_abi_stay)
{
    CHECK_EQ(IOCP_OK, 0);
    CHECK_EQ(IOCP_ECANCELED, -1);
    CHECK_EQ(IOCP_ETIMEDOUT, -2);
    CHECK_EQ(IOCP_ECLOSED, -3);
    CHECK_EQ(IOCP_EEOF, -5);
    CHECK_EQ(IOCP_EINVAL, -6);
    CHECK_EQ(IOCP_EMFILE, -15);
    CHECK_EQ(IOCP_ECONNRESET, -17);
    CHECK_EQ(IOCP_EPIPE, -22);
    CHECK_EQ(IOCP_EADDRINUSE, -25);
    CHECK_EQ(IOCP_EIO, -32);
    CHECK_EQ(IOCP_EUNKNOWN, -33);
}

TEST(names_are_those_of_the_enum)
{
    for (int i = 0; i < COUNT; i++)
        CHECK_STR(iocp_error_name(errors[i].value), errors[i].name);
    CHECK_STR(iocp_error_name(IOCP_ECONNRESET), "IOCP_ECONNRESET");
}

TEST(texts_are_there_and_all_different)
{
    for (int i = 0; i < COUNT; i++) {
        CHECK(iocp_error_text(errors[i].value)[0] != 0);
        for (int j = 0; j < i; j++)
            CHECK(strcmp(iocp_error_text(errors[i].value), iocp_error_text(errors[j].value)) != 0);
    }
    CHECK_STR(iocp_error_text(IOCP_ECONNRESET), "connection reset by the peer");
}

TEST(results_that_are_no_error_have_a_name_too)
{
    CHECK_STR(iocp_error_name(0), "IOCP_OK");
    CHECK_STR(iocp_error_name(1), "IOCP_OK");
    CHECK_STR(iocp_error_name(INT64_MAX), "IOCP_OK");
    CHECK_STR(iocp_error_text(0), iocp_error_text(4096));
}

TEST(values_that_are_none_of_ours_are_named_so)
{
    static const int64_t strangers[] = {-COUNT - 1, -COUNT - 2, -104, -4096, INT32_MIN, INT64_MIN};
    for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
        CHECK_STR(iocp_error_name(strangers[i]), "IOCP_?");
        CHECK(iocp_error_text(strangers[i])[0] != 0);
    }
}

TEST(version_of_the_library_is_that_of_the_headers)
{
    char text[32];
    snprintf(text, sizeof(text), "%d.%d.%d", IOCP_VERSION_MAJOR, IOCP_VERSION_MINOR,
             IOCP_VERSION_PATCH);
    CHECK_STR(iocp_version(), text);
    CHECK_STR(IOCP_VERSION, text);
}
