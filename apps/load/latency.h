/* Times in a histogram of high dynamic range: three significant digits from 100 ns to an hour.
 *
 * The one place that knows the library HdrHistogram_c. Nothing here locks. */
#ifndef APPS_LOAD_LATENCY_H
#define APPS_LOAD_LATENCY_H

#include <stdbool.h>
#include <stdint.h>

struct latency; /* a histogram */

/* NULL: out of memory. */
struct latency *latency_create(void);
void latency_free(struct latency *latency); /* NULL is fine */

/* Notes a time `count` times; beyond an hour it counts as an hour. */
void latency_note(struct latency *latency, uint64_t time_ns, uint64_t count);

/* Makes `to` the same as `from`: fast, for it happens while others wait. */
void latency_copy(struct latency *to, const struct latency *from);
void latency_clear(struct latency *latency);
void latency_add(struct latency *to, const struct latency *from);

uint64_t latency_count(const struct latency *latency);

/* In microseconds; all 0 without a time. */
struct latency_figures {
    double min, mean, p50, p90, p99, p99_9, max;
};

void latency_figures(const struct latency *latency, struct latency_figures *out);

#endif
