/* What a run without io_uring rests on. */
#include "support/deny_uring.h"
#include "support/check.h"

#include <errno.h>

TEST(io_uring_is_denied_for_the_rest_of_the_process)
{
    deny_io_uring();
    CHECK_EQ(io_uring_error(), EPERM);
}
