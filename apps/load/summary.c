/* Adds the tallies up and prints them. */
#include "summary.h"

#include "../common/say.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SUMMARY_LINE_SIZE = 110 };

bool summary_init(struct summary *summary, const struct load *load)
{
    *summary = (struct summary){.load = load, .scratch = latency_create()};
    return tally_init(&summary->total) && summary->scratch != NULL;
}

void summary_free(struct summary *summary)
{
    tally_free(&summary->total);
    latency_free(summary->scratch);
}

/* ---- Adding up. */

static double summary_seconds(const struct load *load)
{
    uint64_t begin_ns = atomic_load_explicit(&load->begin_ns, memory_order_relaxed);
    uint64_t end_ns = atomic_load_explicit(&load->end_ns, memory_order_relaxed);
    uint64_t now_ns = iocp_now_ns();
    if (begin_ns == UINT64_MAX) {
        return 0;
    }
    return (double)((end_ns < now_ns ? end_ns : now_ns) - begin_ns) / 1e9;
}

/* Connections are looked at only when the load has ended. */
static uint64_t summary_unsent(const struct load *load)
{
    uint64_t end_ns = atomic_load_explicit(&load->end_ns, memory_order_relaxed);
    uint64_t unsent = 0;
    if (load->options->rate == 0 || load->options->messages != 0 || load->talk_ns == 0) {
        return 0;
    }
    for (uint32_t i = 0; i < options_talkers(load->options); i++) {
        const struct connection *connection = &load->connections[i];
        uint64_t due = load_due_count(load, i, end_ns);
        if (connection->ready && due > connection->sent) {
            unsent += due - connection->sent;
        }
    }
    return unsent;
}

static bool summary_is_final(const struct summary *summary)
{
    return summary->load->port == NULL;
}

void summary_take(struct summary *summary)
{
    struct tally fresh = summary->total;
    for (int i = 0; i < 2; i++) {
        latency_clear(fresh.latencies[i]);
    }
    summary->total = (struct tally){
        .lock = fresh.lock,
        .latencies = {fresh.latencies[0], fresh.latencies[1]},
    };
    for (uint32_t i = 0; i < summary->load->options->server.workers; i++) {
        tally_add(&summary->total, &summary->load->tallies[i], summary->scratch);
    }
    summary->seconds = summary_seconds(summary->load);
    summary->unsent = summary_is_final(summary) ? summary_unsent(summary->load) : 0;
}

uint64_t summary_count(const struct summary *summary)
{
    bool fan_out = summary->load->protocol->fan_out;
    return fan_out ? summary->total.deliveries : summary->total.messages;
}

static double summary_per_second(const struct summary *summary, uint64_t count)
{
    return summary->seconds > 0 ? (double)count / summary->seconds : 0;
}

/* What the server used meanwhile, each per message or delivery too. */
struct summary_server {
    double cpu_us, user_us, system_us;
    uint64_t voluntary, involuntary;
};

static uint64_t summary_growth(uint64_t begin, uint64_t end)
{
    return end > begin ? end - begin : 0; /* threads that have ended take their numbers along */
}

static struct summary_server summary_server(const struct load *load)
{
    const struct process_figures *begin = &load->server_begin;
    const struct process_figures *end = &load->server_end;
    double user_us = (double)summary_growth(begin->user_ns, end->user_ns) / 1e3;
    double system_us = (double)summary_growth(begin->system_ns, end->system_ns) / 1e3;
    struct summary_server server = {
        .cpu_us = (double)summary_growth(begin->cpu_ns, end->cpu_ns) / 1e3,
        .voluntary = summary_growth(begin->switches_voluntary, end->switches_voluntary),
        .involuntary = summary_growth(begin->switches_involuntary, end->switches_involuntary),
    };
    /* The sum is exact; ticks say how it divides. */
    if (server.cpu_us == 0) {
        server.cpu_us = user_us + system_us;
    }
    double scale = user_us + system_us > 0 ? server.cpu_us / (user_us + system_us) : 0;
    server.user_us = user_us * scale;
    server.system_us = system_us * scale;
    return server;
}

static double summary_each(double value, uint64_t count)
{
    return count > 0 ? value / (double)count : 0;
}

/* ---- For people. */

/* "950 ns", "41.2 µs", "3.1 ms", "2.50 s". */
static const char *summary_time(char text[32], double us)
{
    if (us < 1000) {
        snprintf(text, 32, "%.1f µs", us);
    } else if (us < 1e6) {
        snprintf(text, 32, "%.2f ms", us / 1e3);
    } else {
        snprintf(text, 32, "%.2f s", us / 1e6);
    }
    return text;
}

/* Blanks clear what is left of a longer line: not every console knows a sequence for it. */
static void summary_show(const char *line)
{
    say("\r%-*s", SUMMARY_LINE_SIZE, line);
}

void summary_clear_progress(void)
{
    summary_show("");
    say("\r");
}

void summary_print_progress(const struct summary *summary, uint64_t before)
{
    const struct load *load = summary->load;
    static const char *const phases[] = {"",          "opening",  "gathering", "warming up",
                                         "measuring", "draining", "ended"};
    struct latency_figures times;
    char line[SUMMARY_LINE_SIZE + 1];
    char p50[32];
    char p99[32];

    latency_figures(summary->total.latencies[0], &times);
    snprintf(line, sizeof line,
             "%s: %" PRIu64 " open, %" PRIu64 " %s/s, p50 %s, p99 %s, errors %" PRIu64,
             phases[atomic_load_explicit(&load->phase, memory_order_acquire)],
             summary->total.opened, summary_count(summary) - before,
             load->protocol->fan_out ? "deliveries" : "messages", summary_time(p50, times.p50),
             summary_time(p99, times.p99), tally_errors(&summary->total));
    summary_show(line);
}

static void summary_print_times(FILE *file, const char *name, const struct latency *latency)
{
    struct latency_figures times;
    char text[7][32];

    latency_figures(latency, &times);
    if (latency_count(latency) > 0) {
        fprintf(file, "%-10s p50 %s  p90 %s  p99 %s  p99.9 %s  max %s  (min %s, mean %s)\n", name,
                summary_time(text[0], times.p50), summary_time(text[1], times.p90),
                summary_time(text[2], times.p99), summary_time(text[3], times.p99_9),
                summary_time(text[4], times.max), summary_time(text[5], times.min),
                summary_time(text[6], times.mean));
    }
}

static void summary_print_server(FILE *file, const struct summary *summary)
{
    const struct load *load = summary->load;
    struct summary_server server = summary_server(load);
    uint64_t count = summary_count(summary);

    fprintf(file,
            "server     %.2f µs of processor time per %s (%.0f %% in the system), %.2f context "
            "switches\n           memory %" PRIu64 " KiB at first, %" PRIu64 " KiB at the end\n",
            summary_each(server.cpu_us, count), load->protocol->fan_out ? "delivery" : "message",
            server.cpu_us > 0 ? 100 * server.system_us / server.cpu_us : 0,
            summary_each((double)(server.voluntary + server.involuntary), count),
            load->server_begin.rss_kb, load->server_end.rss_kb);
}

static void summary_print_load(FILE *file, const struct summary *summary)
{
    const struct load_options *options = summary->load->options;
    fprintf(file, "load       %s at %s: %" PRIu32 " connections, %" PRIu32 " bytes",
            options->protocol->name, options->address_text, options->connections, options->size);
    if (!options->protocol->single) {
        fprintf(file, ", %" PRIu32 " in flight each", options->depth);
    }
    if (options->protocol->fan_out) {
        fprintf(file, ", %" PRIu32 " talk", options->talkers);
    }
    if (options->rate != 0) {
        fprintf(file, ", %" PRIu32 " due a second", options->rate);
    }
    fprintf(file, "; %.2f s measured\n", summary->seconds);
}

void summary_print(const struct summary *summary)
{
    const struct load *load = summary->load;
    const struct load_options *options = load->options;
    const struct tally *total = &summary->total;
    FILE *file = options->json != NULL && strcmp(options->json, "-") == 0 ? stderr : stdout;
    const char *name = load->protocol->fan_out ? "deliveries" : "messages";

    summary_print_load(file, summary);
    fprintf(file, "%-10s %" PRIu64 ", %.0f a second, %.1f MB/s%s\n", name, summary_count(summary),
            summary_per_second(summary, summary_count(summary)),
            summary_per_second(summary, total->bytes) / 1e6,
            options->verify ? ", every byte compared" : "");
    summary_print_times(file, options->slow_percent != 0 ? "others" : "times", total->latencies[0]);
    summary_print_times(file, "slow", total->latencies[1]);
    if (options->server_pid != 0) {
        summary_print_server(file, summary);
    }
    if (summary->unsent != 0) {
        fprintf(file,
                "behind     %" PRIu64 " messages were due and never sent: the server, or --depth, "
                "is below this rate\n",
                summary->unsent);
    }
    fprintf(file, "%s\n", tally_errors(total) == 0 ? "no errors" : "there were errors:");
    fflush(file);
}

void summary_print_errors(const struct summary *summary)
{
    const struct tally *total = &summary->total;
    for (int i = 0; i < TALLY_ERROR_COUNT; i++) {
        if (total->errors[i] != 0) {
            say("iocp-load: %" PRIu64 " %s\n", total->errors[i],
                tally_error_text((enum tally_error)i));
        }
    }
    if (total->first[0] != '\0') {
        say("iocp-load: the first: %s\n", total->first);
    }
}

/* ---- As JSON. */

static void summary_json_times(FILE *file, const char *name, const struct latency *latency)
{
    struct latency_figures times;
    latency_figures(latency, &times);
    fprintf(file,
            ",\n \"%s\": {\"min\": %.3f, \"mean\": %.3f, \"p50\": %.3f, \"p90\": %.3f, "
            "\"p99\": %.3f, \"p99_9\": %.3f, \"max\": %.3f}",
            name, times.min, times.mean, times.p50, times.p90, times.p99, times.p99_9, times.max);
}

static void summary_json_errors(FILE *file, const struct tally *total)
{
    fprintf(file, ",\n \"errors\": {");
    for (int i = 0; i < TALLY_ERROR_COUNT; i++) {
        fprintf(file, "%s\"%s\": %" PRIu64, i > 0 ? ", " : "",
                tally_error_name((enum tally_error)i), total->errors[i]);
    }
    fprintf(file, "}");
}

static void summary_json_server(FILE *file, const struct summary *summary)
{
    const struct load *load = summary->load;
    struct summary_server server = summary_server(load);
    double switches = (double)(server.voluntary + server.involuntary);

    fprintf(file,
            ",\n \"server\": {\"cpu_user_us\": %.0f, \"cpu_system_us\": %.0f, "
            "\"cpu_us_per_message\": %.4f, \"switches_voluntary\": %" PRIu64
            ", \"switches_involuntary\": %" PRIu64 ", \"switches_per_message\": %.4f",
            server.user_us, server.system_us, summary_each(server.cpu_us, summary->total.messages),
            server.voluntary, server.involuntary, summary_each(switches, summary->total.messages));
    if (load->protocol->fan_out) {
        fprintf(file, ", \"cpu_us_per_delivery\": %.4f, \"switches_per_delivery\": %.4f",
                summary_each(server.cpu_us, summary->total.deliveries),
                summary_each(switches, summary->total.deliveries));
    }
    fprintf(file, ", \"rss_kb_begin\": %" PRIu64 ", \"rss_kb_end\": %" PRIu64 "}",
            load->server_begin.rss_kb, load->server_end.rss_kb);
}

static void summary_json(FILE *file, const struct summary *summary)
{
    const struct load *load = summary->load;
    const struct load_options *options = load->options;
    const struct tally *total = &summary->total;

    fprintf(file,
            "{\"program\": \"iocp-load\", \"version\": \"%s\", \"protocol\": \"%s\", "
            "\"connections\": %" PRIu32 ", \"size\": %" PRIu32 ", \"depth\": %" PRIu32
            ", \"talkers\": %" PRIu32 ", \"rate\": %" PRIu32 ", \"workers\": %" PRIu32
            ", \"backend\": \"%s\", \"verify\": %s,\n",
            iocp_version(), options->protocol->name, options->connections, options->size,
            options->depth, options_talkers(options), options->rate, options->server.workers,
            load->backend, options->verify ? "true" : "false");
    fprintf(file,
            " \"seconds\": %.9f, \"messages\": %" PRIu64 ", \"deliveries\": %" PRIu64
            ", \"bytes\": %" PRIu64 ", \"messages_per_second\": %.1f, "
            "\"deliveries_per_second\": %.1f, \"unsent\": %" PRIu64
            ", \"connections_opened\": %" PRIu64 ", \"connections_failed\": %" PRIu64,
            summary->seconds, total->messages, total->deliveries, total->bytes,
            summary_per_second(summary, total->messages),
            summary_per_second(summary, total->deliveries), summary->unsent, total->opened,
            total->failed);
    summary_json_errors(file, total);
    summary_json_times(file, "latency_us", total->latencies[0]);
    if (options->slow_percent != 0) {
        summary_json_times(file, "latency_slow_us", total->latencies[1]);
    }
    if (options->server_pid != 0) {
        summary_json_server(file, summary);
    }
    fprintf(file, "}\n");
}

bool summary_write_json(const struct summary *summary, const char *path)
{
    bool to_stdout = strcmp(path, "-") == 0;
    FILE *file = to_stdout ? stdout : fopen(path, "w");
    if (file == NULL) {
        say("iocp-load: cannot write %s: %s\n", path, strerror(errno));
        return false;
    }
    summary_json(file, summary);
    bool written = fflush(file) == 0 && ferror(file) == 0;
    written = (to_stdout || fclose(file) == 0) && written;
    if (!written) {
        say("iocp-load: cannot write %s: %s\n", path, strerror(errno));
    }
    return written;
}
