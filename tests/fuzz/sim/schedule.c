/* Bytes into knobs and choices: see schedule.h. */
#include "schedule.h"

#include "../../sim/sim.h"
#include "../fuzz.h"

/* Small values are more frequent than large ones, so that most runs are short; 255 is the most. */
static uint32_t schedule_knob(struct fuzz_input *input, uint32_t least, uint32_t most)
{
    uint64_t byte = fuzz_byte(input);
    return least + (uint32_t)((most - least) * byte * byte * byte / (255 * 255 * 255));
}

/* Few values: each about as often as the others. */
static uint32_t schedule_choice(struct fuzz_input *input, uint32_t least, uint32_t most)
{
    return least + fuzz_byte(input) % (most - least + 1);
}

static void schedule_knobs(struct fuzz_input *input)
{
#define SCHEDULE_KNOB(name, least, most, text)                                                     \
    knobs.name = (most) - (least) < 8 ? schedule_choice(input, least, most)                        \
                                      : schedule_knob(input, least, most);
    SIM_KNOBS(SCHEDULE_KNOB)
#undef SCHEDULE_KNOB
}

void schedule_run(void (*scenario)(void), const uint8_t *data, size_t size)
{
    static int prepared;
    struct fuzz_input input = {data, size};
    struct sim_job job = {.scenario = scenario, .trace = getenv("SIM_TRACE") != NULL};
    if (!prepared)
        sim_prepare();
    prepared = 1;
    job.seed = (uint64_t)fuzz_byte(&input) << 8;
    job.seed |= fuzz_byte(&input);
    schedule_knobs(&input);
    job.bytes = input.data;
    job.byte_count = input.size;
    sim_run(&job);
}
