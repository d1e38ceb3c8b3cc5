/* Runs seeds of the simulation. tools/sim drives it; README.md says how to read what it prints.
 *
 *     sim [--scenario net|port|service] [--from SEED] [--count N] [--set KNOB=VALUE]... [--trace]
 *         [--progress] [--knobs] [--seeds FILE] */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct knob {
    const char *name;
    size_t offset;
    uint32_t least;
    uint32_t most;
    const char *text;
    int set;
    uint32_t value;
};

static struct knob table[] = {
#define SIM_KNOB_ENTRY(name, least, most, text)                                                    \
    {#name, offsetof(struct knobs, name), least, most, text, 0, 0},
    SIM_KNOBS(SIM_KNOB_ENTRY)
#undef SIM_KNOB_ENTRY
};

#define TABLE_COUNT (sizeof(table) / sizeof(table[0]))

struct options {
    void (*scenario)(void);
    uint64_t from;
    uint64_t count;
    int trace;
    int progress;
    int knobs;
    const char *file;
};

static struct {
    uint64_t seeds;
    uint64_t steps;
    uint64_t switches;
    uint64_t faults;
    uint64_t connections;
    uint64_t bytes;
    uint64_t time_ns;
} sum;

/* ---- Knobs. */

static uint64_t mix(uint64_t value)
{
    value += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

/* Each from the seed and its own place. Half of the faults do not happen in a run, so that those
 * that do are seen alone, too. */
static void knobs_choose(uint64_t seed)
{
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        const struct knob *knob = &table[i];
        uint64_t chance = mix(mix(seed) + i);
        uint32_t value = knob->least + (uint32_t)(chance % (knob->most - knob->least + 1));
        if (strncmp(knob->name, "sometimes_", 10) == 0 && chance >> 63)
            value = 0;
        *(uint32_t *)((char *)&knobs + knob->offset) = knob->set ? knob->value : value;
    }
}

static void knobs_print(void)
{
    for (size_t i = 0; i < TABLE_COUNT; i++)
        printf("knob %s=%u least %u: %s\n", table[i].name,
               *(uint32_t *)((char *)&knobs + table[i].offset), table[i].least, table[i].text);
    fflush(stdout);
}

static int knobs_set(const char *text)
{
    const char *equals = strchr(text, '=');
    for (size_t i = 0; equals && i < TABLE_COUNT; i++) {
        size_t size = (size_t)(equals - text);
        if (strlen(table[i].name) != size || strncmp(table[i].name, text, size) != 0)
            continue;
        table[i].set = 1;
        table[i].value = (uint32_t)strtoul(equals + 1, NULL, 10);
        return 1;
    }
    return 0;
}

/* ---- A run. */

static void run(uint64_t seed, const struct options *options)
{
    const struct sim_job job = {options->scenario, seed, options->trace, NULL, 0};
    sim_run(&job);
    const struct iocp__sim_counts *counts = iocp__sim_counts();
    sum.seeds++;
    sum.steps += counts->steps;
    sum.switches += counts->switches;
    sum.connections += counts->connections;
    sum.bytes += counts->bytes;
    sum.time_ns += counts->time_ns;
    for (int i = 0; i < IOCP__SIM_FAULTS; i++)
        sum.faults += counts->faults[i];
}

/* ---- The program. */

static void usage(void)
{
    fprintf(stderr, "usage: sim [--scenario net|port|service] [--from SEED] [--count N] "
                    "[--set KNOB=VALUE]... [--trace] [--progress] [--knobs] [--seeds FILE]\n");
    exit(2);
}

static void (*scenario_named(const char *name))(void)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } scenarios[] = {
        {"net", sim_net_scenario}, {"port", sim_port_scenario}, {"service", sim_service_scenario}};
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        if (strcmp(name, scenarios[i].name) == 0)
            return scenarios[i].run;
    }
    return NULL;
}

static void parse_value(struct options *options, const char *name, const char *value)
{
    if (!value)
        usage();
    if (strcmp(name, "--from") == 0)
        options->from = strtoull(value, NULL, 10);
    else if (strcmp(name, "--count") == 0)
        options->count = strtoull(value, NULL, 10);
    else if (strcmp(name, "--seeds") == 0)
        options->file = value;
    else if (strcmp(name, "--scenario") == 0 && scenario_named(value))
        options->scenario = scenario_named(value);
    else if (strcmp(name, "--set") != 0 || !knobs_set(value))
        usage();
}

static void parse(int argc, char **argv, struct options *options)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0) {
            options->trace = 1;
        } else if (strcmp(argv[i], "--progress") == 0) {
            options->progress = 1;
        } else if (strcmp(argv[i], "--knobs") == 0) {
            options->knobs = 1;
        } else {
            parse_value(options, argv[i], argv[i + 1]);
            i++;
        }
    }
}

/* Lines of a scenario, a seed and a remark. */
static int run_file(const struct options *options)
{
    char line[300];
    char name[8];
    unsigned long long seed;
    FILE *file = fopen(options->file, "r");
    int count = 0;
    if (!file)
        return 0;
    while (fgets(line, sizeof(line), file)) {
        struct options one = *options;
        if (line[0] == '#' || sscanf(line, "%7s %llu", name, &seed) != 2)
            continue;
        one.scenario = scenario_named(name);
        if (!one.scenario)
            usage();
        printf("%s", line);
        fflush(stdout);
        knobs_choose(seed);
        run(seed, &one);
        count++;
    }
    fclose(file);
    return count;
}

static void run_range(const struct options *options)
{
    for (uint64_t i = 0; i < options->count; i++) {
        knobs_choose(options->from + i);
        if (options->knobs)
            knobs_print();
        if (options->progress) {
            printf("seed %llu\n", (unsigned long long)(options->from + i));
            fflush(stdout);
        }
        run(options->from + i, options);
    }
}

static void print_sum(void)
{
    printf("done: seeds %llu sessions %llu messages %llu ops %llu connections %llu bytes %llu "
           "faults %llu steps %llu switches %llu virtual_ms %llu\n",
           (unsigned long long)sum.seeds, (unsigned long long)tally.sessions,
           (unsigned long long)tally.messages, (unsigned long long)tally.ops,
           (unsigned long long)sum.connections, (unsigned long long)sum.bytes,
           (unsigned long long)sum.faults, (unsigned long long)sum.steps,
           (unsigned long long)sum.switches, (unsigned long long)(sum.time_ns / 1000000));
}

int main(int argc, char **argv)
{
    struct options options = {.scenario = sim_net_scenario, .from = 1, .count = 1};
    parse(argc, argv, &options);
    sim_prepare();
    if (options.file && run_file(&options) == 0) {
        fprintf(stderr, "%s has no seeds\n", options.file);
        return 1;
    }
    if (!options.file)
        run_range(&options);
    print_sum();
    return 0;
}
