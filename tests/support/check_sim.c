/* The test harness where the system is simulated: seeds, and a run for each test. Processes and the
 * time limit are those of the system that it runs on. */
#include "support/check_system.h"

#include "os/sim.h"
#include "os/sim_host.h"
#include "sim/sim.h"

#include <stdlib.h>
#include <string.h>

/* The build says fewer for sanitizers. */
#ifndef CHECK_SEEDS
#define CHECK_SEEDS 2
#endif

/* As on a loopback of Linux: what a sender can have on the way to one who does not read, and how
 * long it takes. */
#define SEND_SIZE (2u << 20)
#define RECEIVE_SIZE (128u << 10)
#define LATENCY_MAX_NS 50000
/* Tests look, too; and packets that they post are none that the simulated kernel sees. */
#define IDLE_LOOKS_MAX 100000

const char *const check_backend_names[] = {"sim", "sim-shared", NULL};
const enum iocp_backend check_backend_always = IOCP_BACKEND_WINDOWS;
const enum iocp_backend check_backend_never = IOCP_BACKEND_EPOLL;

static uint32_t check_seed = 1;

void check_prepare_backend(void)
{
    /* The library looks there too; only TEST_BACKEND counts here. */
    test_set_env("IOCP_BACKEND", NULL);
}

static uint64_t check_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

uint32_t check_seeds(void)
{
    uint64_t seeds = check_number("TEST_SEEDS", CHECK_SEEDS);
    /* One needs no process of its own: with sanitizers that is half of the time. */
    return check_number("TEST_SEED", 0) || seeds == 1 ? 0 : (uint32_t)seeds;
}

void check_set_seed(uint32_t seed)
{
    check_seed = seed;
}

void check_body(const struct check_test *test)
{
    static const uint32_t preempts[] = {300, 60, 15};
    uint64_t seed = check_number("TEST_SEED", check_seed);
    struct iocp__sim_config config = {
        .seed = seed,
        .preempt = preempts[seed % 3],
        .handles_max = UINT32_MAX,
        .latency_max_ns = LATENCY_MAX_NS,
        .send_size = SEND_SIZE,
        .receive_size = RECEIVE_SIZE,
        .handles_again = 1,
        .idle_looks_max = IDLE_LOOKS_MAX,
        .time_max_ns = UINT64_C(24) * 3600 * 1000000000,
        .steps_max = UINT64_MAX,
        .trace = check_number("TEST_TRACE", 0) != 0,
        .quiet = sim_quiet,
    };
    iocp__sim_host_pin();
    iocp__sim_run(&config, test->run);
    iocp__sim_net_free();
}
