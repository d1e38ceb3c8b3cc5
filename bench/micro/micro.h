/* What the programs of bench/micro share: the command line, the clocks, the lines that they print
 * and the check that what they measured was right. Not part of the library, and no user of it. */
#ifndef BENCH_MICRO_H
#define BENCH_MICRO_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct micro_options {
    int quick;
    const char *only;   /* run the implementations and cases whose name contains it; NULL: all */
    const char *folder; /* for files */
};

/* Reads the command line; --help and mistakes end the program. */
void micro_begin(int argc, char **argv, struct micro_options *out_options);
/* Not 0 when `--only` asks for it. */
int micro_wanted(const struct micro_options *options, const char *impl);

uint64_t micro_now_ns(void);
/* Processor time of the whole process, the kernel's share and threads that have ended included. */
uint64_t micro_cpu_ns(void);

/* One figure, as a line of JSON. */
void micro_report(const char *workload, const char *name, const char *impl, const char *unit,
                  double value);
/* Ends the program with 1 unless `holds`. */
void micro_check(int holds, const char *impl, const char *what);
/* Says on stderr that something was not measured, and why. */
void micro_skip(const char *impl, const char *why);

/* The same numbers in every run. */
uint32_t micro_random(uint64_t *state);
/* 0 .. count-1 in random order. */
void micro_shuffled(uint32_t *out_numbers, uint32_t count);
void *micro_allocate(uint64_t size);

#ifdef __cplusplus
}
#endif

#endif
