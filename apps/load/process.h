/* What a process has used so far, the server of a load: one file per system. */
#ifndef APPS_LOAD_PROCESS_H
#define APPS_LOAD_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

struct process_figures {
    uint64_t cpu_ns;    /* of all threads that are there */
    uint64_t user_ns;   /* these two in the system's ticks, with the threads that are gone */
    uint64_t system_ns; /* (Linux: 10 ms) */
    uint64_t switches_voluntary;
    uint64_t switches_involuntary;
    uint64_t rss_kb;
};

/* NULL when processes can be looked at here; else why not. */
const char *process_refusal(void);

/* False: there is no such process. */
bool process_read(uint32_t pid, struct process_figures *out);

#endif
