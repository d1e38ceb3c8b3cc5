/* See micro.h. */
#include "micro.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TIME_LIMIT_S 600

static void micro_usage(FILE *out, const char *program)
{
    fprintf(out,
            "usage: %s [--quick] [--only TEXT] [--folder PATH]\n"
            "Prints a line of JSON per figure. Exits with 1 when a result was wrong.\n"
            "  --quick        a tenth of the work\n"
            "  --only TEXT    only implementations whose name contains TEXT\n"
            "  --folder PATH  where files are made; $TMPDIR or /tmp\n",
            program);
}

/* A packet that never comes is waited for: that, too, is a wrong result. */
static void micro_hangs(int number)
{
    static const char text[] = "wrong result: not over in time, something was lost\n";
    (void)number;
    if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
        _exit(2);
    _exit(1);
}

void micro_begin(int argc, char **argv, struct micro_options *out_options)
{
    struct micro_options options = {0, NULL, getenv("TMPDIR")};
    if (!options.folder)
        options.folder = "/tmp";
    for (int i = 1; i < argc; i++) {
        int more = i + 1 < argc;
        if (strcmp(argv[i], "--quick") == 0) {
            options.quick = 1;
        } else if (strcmp(argv[i], "--only") == 0 && more) {
            options.only = argv[++i];
        } else if (strcmp(argv[i], "--folder") == 0 && more) {
            options.folder = argv[++i];
        } else {
            int help = strcmp(argv[i], "--help") == 0;
            micro_usage(help ? stdout : stderr, argv[0]);
            exit(help ? 0 : 2);
        }
    }
    signal(SIGALRM, micro_hangs);
    alarm(TIME_LIMIT_S);
    setvbuf(stdout, NULL, _IOLBF, 0);
    *out_options = options;
}

int micro_wanted(const struct micro_options *options, const char *impl)
{
    return !options->only || strstr(impl, options->only);
}

static uint64_t micro_clock(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t micro_now_ns(void)
{
    return micro_clock(CLOCK_MONOTONIC);
}

uint64_t micro_cpu_ns(void)
{
    return micro_clock(CLOCK_PROCESS_CPUTIME_ID);
}

void micro_report(const char *workload, const char *name, const char *impl, const char *unit,
                  double value)
{
    printf("{\"workload\":\"%s\",\"case\":\"%s\",\"impl\":\"%s\",\"unit\":\"%s\",\"value\":%.3f}\n",
           workload, name, impl, unit, value);
}

void micro_check(int holds, const char *impl, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s: wrong result: %s\n", impl, what);
    exit(1);
}

void micro_skip(const char *impl, const char *why)
{
    fprintf(stderr, "%s: not measured: %s\n", impl, why);
}

uint32_t micro_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

void micro_shuffled(uint32_t *out_numbers, uint32_t count)
{
    uint64_t state = 1;
    for (uint32_t i = 0; i < count; i++)
        out_numbers[i] = i;
    for (uint32_t i = count; i > 1; i--) {
        uint32_t other = micro_random(&state) % i;
        uint32_t number = out_numbers[i - 1];
        out_numbers[i - 1] = out_numbers[other];
        out_numbers[other] = number;
    }
}

void *micro_allocate(uint64_t size)
{
    void *memory = NULL;
    if (posix_memalign(&memory, 4096, size) != 0) {
        fprintf(stderr, "no memory: %llu bytes\n", (unsigned long long)size);
        exit(1);
    }
    memset(memory, 0, size);
    return memory;
}
