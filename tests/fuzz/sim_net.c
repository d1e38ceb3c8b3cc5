/* The net scenario of the simulation, its schedule and its faults read from the input. */
#include "fuzz.h"
#include "sim/schedule.h"

void sim_net_scenario(void);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    schedule_run(sim_net_scenario, data, size);
    return 0;
}
