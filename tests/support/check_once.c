/* The test harness where nothing depends on a seed: a test runs once. check_sim.c has the other
 * case. */
#include "support/check_system.h"

uint32_t check_seeds(void)
{
    return 0;
}

void check_set_seed(uint32_t seed)
{
    (void)seed;
}

void check_body(const struct check_test *test)
{
    test->run();
}
