/* The histogram of times, by HdrHistogram_c. */
#include "latency.h"

#include <hdr/hdr_histogram.h>
#include <string.h>

#define LATENCY_MIN_NS INT64_C(100)
#define LATENCY_MAX_NS (INT64_C(3600) * 1000000000)
#define LATENCY_DIGITS 3

static struct hdr_histogram *latency_of(struct latency *latency)
{
    return (struct hdr_histogram *)latency;
}

static const struct hdr_histogram *latency_seen(const struct latency *latency)
{
    return (const struct hdr_histogram *)latency;
}

struct latency *latency_create(void)
{
    struct hdr_histogram *histogram = NULL;
    if (hdr_init(LATENCY_MIN_NS, LATENCY_MAX_NS, LATENCY_DIGITS, &histogram) != 0) {
        return NULL;
    }
    return (struct latency *)histogram;
}

void latency_free(struct latency *latency)
{
    if (latency != NULL) {
        hdr_close(latency_of(latency));
    }
}

void latency_note(struct latency *latency, uint64_t time_ns, uint64_t count)
{
    int64_t value = time_ns < LATENCY_MAX_NS ? (int64_t)time_ns : LATENCY_MAX_NS;
    hdr_record_values(latency_of(latency), value, (int64_t)count);
}

void latency_copy(struct latency *to, const struct latency *from)
{
    struct hdr_histogram *target = latency_of(to);
    const struct hdr_histogram *source = latency_seen(from);
    int64_t *counts = target->counts;
    *target = *source;
    target->counts = counts;
    memcpy(counts, source->counts, (size_t)source->counts_len * sizeof *counts);
}

void latency_clear(struct latency *latency)
{
    hdr_reset(latency_of(latency));
}

void latency_add(struct latency *to, const struct latency *from)
{
    hdr_add(latency_of(to), latency_seen(from));
}

uint64_t latency_count(const struct latency *latency)
{
    return (uint64_t)latency_seen(latency)->total_count;
}

static double latency_at(const struct latency *latency, double percentile)
{
    return (double)hdr_value_at_percentile(latency_seen(latency), percentile) / 1e3;
}

void latency_figures(const struct latency *latency, struct latency_figures *out)
{
    *out = (struct latency_figures){0};
    if (latency_count(latency) > 0) {
        out->min = (double)hdr_min(latency_seen(latency)) / 1e3;
        out->mean = hdr_mean(latency_seen(latency)) / 1e3;
        out->p50 = latency_at(latency, 50);
        out->p90 = latency_at(latency, 90);
        out->p99 = latency_at(latency, 99);
        out->p99_9 = latency_at(latency, 99.9);
        out->max = (double)hdr_max(latency_seen(latency)) / 1e3;
    }
}
