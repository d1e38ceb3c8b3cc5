/* What is counted: messages, times, errors. A tally belongs to some of the connections; there are
 * as many as workers, so that these seldom meet at one.
 *
 * Threads: whoever touches the numbers holds the lock. */
#ifndef APPS_LOAD_TALLY_H
#define APPS_LOAD_TALLY_H

#include "../common/system.h"
#include "latency.h"

/* X(name in JSON, text for people) */
#define TALLY_ERRORS(X)                                                                            \
    X(refused, "connections were refused")                                                         \
    X(reset, "connections were reset")                                                             \
    X(closed, "connections were closed by the server")                                             \
    X(timed_out, "connections timed out")                                                          \
    X(no_address, "connections found no free local port: --sources gives more")                    \
    X(no_descriptor, "connections found no free descriptor: ulimit -n gives more")                 \
    X(different, "messages came back with other bytes")                                            \
    X(malformed, "connections ended because what came was no message of the protocol")             \
    X(lost, "messages were not answered or delivered")                                             \
    X(repeated, "messages were delivered twice")                                                   \
    X(unexpected, "connections ended because something came that nobody had asked for")            \
    X(absent, "connections were not in the room within 10 s")                                      \
    X(rejected, "requests were refused by the chat")                                               \
    X(other, "connections ended for another reason")

enum tally_error {
#define TALLY_ERROR_VALUE(name, text) TALLY_##name,
    TALLY_ERRORS(TALLY_ERROR_VALUE)
#undef TALLY_ERROR_VALUE
        TALLY_ERROR_COUNT
};

/* "refused", "connections were refused". */
const char *tally_error_name(enum tally_error error);
const char *tally_error_text(enum tally_error error);

/* The kind that an error of the library belongs to. */
enum tally_error tally_error_of(int64_t error);

struct tally {
    struct system_lock *lock;
    struct latency *latencies[2]; /* [1]: of the connections that are tagged slow */
    uint64_t messages;            /* that were due in the measured window, and were answered */
    uint64_t deliveries;          /* fan-out: the same, each for every connection that got it */
    uint64_t bytes;               /* of these */
    uint64_t opened;
    uint64_t failed;
    uint64_t errors[TALLY_ERROR_COUNT];
    char first[160]; /* what was wrong first, "" when nothing was */
};

/* False: out of memory; what is there is to be freed. */
bool tally_init(struct tally *tally);
void tally_free(struct tally *tally);

/* Counts an error. `text` says more about it, and is kept when it is the first; it may be NULL. */
void tally_fail(struct tally *tally, enum tally_error error, uint64_t count, const char *text);

/* Adds the numbers of `from`, under its lock, to those of `to`. */
void tally_add(struct tally *to, struct tally *from, struct latency *scratch);

uint64_t tally_errors(const struct tally *tally);

#endif
