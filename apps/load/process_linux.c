/* A process as /proc shows it. */
#include "process.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROCESS_PATH_SIZE 320

const char *process_refusal(void)
{
    return NULL;
}

/* Reads a file of /proc as text. */
static bool process_text(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return false;
    }
    size_t length = fread(text, 1, size - 1, file);
    fclose(file);
    text[length] = '\0';
    return length > 0;
}

/* The number behind `name` in a text of lines "name: number". */
static uint64_t process_line(const char *text, const char *name)
{
    uint64_t value = 0;
    const char *line = strstr(text, name);
    if (line != NULL) {
        (void)sscanf(line + strlen(name), " %" SCNu64, &value);
    }
    return value;
}

/* User and system time: fields 14 and 15, counted behind the name, which may have anything in it.
 */
static bool process_stat(uint32_t pid, struct process_figures *out)
{
    char path[PROCESS_PATH_SIZE];
    char text[1024];
    uint64_t user = 0;
    uint64_t system = 0;
    uint64_t tick_ns = UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK);

    snprintf(path, sizeof path, "/proc/%" PRIu32 "/stat", pid);
    if (!process_text(path, text, sizeof text)) {
        return false;
    }
    const char *fields = strrchr(text, ')');
    if (fields == NULL ||
        sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64,
               &user, &system) != 2) {
        return false;
    }
    out->user_ns = user * tick_ns;
    out->system_ns = system * tick_ns;
    return true;
}

static void process_thread(uint32_t pid, const char *thread, struct process_figures *out)
{
    char path[PROCESS_PATH_SIZE];
    char text[4096];
    uint64_t cpu_ns = 0;

    snprintf(path, sizeof path, "/proc/%" PRIu32 "/task/%s/schedstat", pid, thread);
    if (process_text(path, text, sizeof text) && sscanf(text, "%" SCNu64, &cpu_ns) == 1) {
        out->cpu_ns += cpu_ns;
    }
    snprintf(path, sizeof path, "/proc/%" PRIu32 "/task/%s/status", pid, thread);
    if (process_text(path, text, sizeof text)) {
        out->switches_voluntary += process_line(text, "\nvoluntary_ctxt_switches:");
        out->switches_involuntary += process_line(text, "\nnonvoluntary_ctxt_switches:");
        out->rss_kb = process_line(text, "\nVmRSS:"); /* of the process, in each thread */
    }
}

bool process_read(uint32_t pid, struct process_figures *out)
{
    char path[PROCESS_PATH_SIZE];
    struct dirent *entry;

    *out = (struct process_figures){0};
    snprintf(path, sizeof path, "/proc/%" PRIu32 "/task", pid);
    DIR *threads = opendir(path);
    if (threads == NULL) {
        return false;
    }
    while ((entry = readdir(threads)) != NULL) {
        if (entry->d_name[0] != '.') {
            process_thread(pid, entry->d_name, out);
        }
    }
    closedir(threads);
    return process_stat(pid, out);
}
