/* The simulation, decided by bytes instead of a seed. */
#ifndef FUZZ_SIM_SCHEDULE_H
#define FUZZ_SIM_SCHEDULE_H

#include <stddef.h>
#include <stdint.h>

/* One run of the scenario. An input is
 *
 *   2 bytes   the seed that goes on when the bytes have ended
 *   1 byte    for each knob (tests/sim/sim.h), in their order
 *   the rest  what is chosen in the run, a byte for each choice: of every four the first says which
 *             thread goes on, the second what the scenario does, the third what fails, the fourth
 *             what the network and the backend do
 *
 * What has to hold is what holds of a seed: tests/sim/README.md. With SIM_TRACE in the
 * environment the run is told as by `sim --trace`. */
void schedule_run(void (*scenario)(void), const uint8_t *data, size_t size);

#endif
