/* The figures of a load, for people and as JSON. */
#ifndef APPS_LOAD_SUMMARY_H
#define APPS_LOAD_SUMMARY_H

#include "load.h"

struct summary {
    const struct load *load;
    struct tally total;
    struct latency *scratch;
    uint64_t unsent; /* with --rate: messages that were due and did not go out */
    double seconds;  /* of the measured window so far */
};

/* False: out of memory. */
bool summary_init(struct summary *summary, const struct load *load);
void summary_free(struct summary *summary);

/* Takes the numbers as they are now. While the load runs, connections wait for it for a moment. */
void summary_take(struct summary *summary);

/* One line for a terminal; `before` is the number of messages or deliveries one second ago. */
void summary_print_progress(const struct summary *summary, uint64_t before);
void summary_clear_progress(void);
/* Messages, or deliveries where messages have several. */
uint64_t summary_count(const struct summary *summary);

/* The report, on stdout or, when that is taken, on stderr. */
void summary_print(const struct summary *summary);
/* What went wrong, on stderr; nothing when nothing did. */
void summary_print_errors(const struct summary *summary);
/* False: the file cannot be written; that is said. */
bool summary_write_json(const struct summary *summary, const char *path);

#endif
