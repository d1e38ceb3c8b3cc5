/* Counting, and the names of errors. */
#include "tally.h"

#include <iocp.h>

#include <stdio.h>

static const struct {
    const char *name;
    const char *text;
} tally_texts[] = {
#define TALLY_ERROR_TEXT(name, text) {#name, text},
    TALLY_ERRORS(TALLY_ERROR_TEXT)
#undef TALLY_ERROR_TEXT
};

const char *tally_error_name(enum tally_error error)
{
    return tally_texts[error].name;
}

const char *tally_error_text(enum tally_error error)
{
    return tally_texts[error].text;
}

enum tally_error tally_error_of(int64_t error)
{
    switch (error) {
    case IOCP_ECONNREFUSED:
    case IOCP_ENOENT: /* of a Unix socket */
        return TALLY_refused;
    case IOCP_ECONNRESET:
    case IOCP_ECONNABORTED:
    case IOCP_EPIPE:
        return TALLY_reset;
    case IOCP_EEOF:
        return TALLY_closed;
    case IOCP_ETIMEDOUT:
        return TALLY_timed_out;
    case IOCP_EADDRNOTAVAIL:
    case IOCP_EADDRINUSE:
        return TALLY_no_address;
    case IOCP_EMFILE:
        return TALLY_no_descriptor;
    default:
        return TALLY_other;
    }
}

bool tally_init(struct tally *tally)
{
    *tally = (struct tally){.lock = system_lock_create()};
    tally->latencies[0] = latency_create();
    tally->latencies[1] = latency_create();
    return tally->lock != NULL && tally->latencies[0] != NULL && tally->latencies[1] != NULL;
}

void tally_free(struct tally *tally)
{
    system_lock_free(tally->lock);
    latency_free(tally->latencies[0]);
    latency_free(tally->latencies[1]);
}

void tally_fail(struct tally *tally, enum tally_error error, uint64_t count, const char *text)
{
    system_lock_acquire(tally->lock);
    tally->errors[error] += count;
    if (text != NULL && tally->first[0] == '\0') {
        snprintf(tally->first, sizeof tally->first, "%s", text);
    }
    system_lock_release(tally->lock);
}

static void tally_add_numbers(struct tally *to, const struct tally *from)
{
    to->messages += from->messages;
    to->deliveries += from->deliveries;
    to->bytes += from->bytes;
    to->opened += from->opened;
    to->failed += from->failed;
    for (int i = 0; i < TALLY_ERROR_COUNT; i++) {
        to->errors[i] += from->errors[i];
    }
    if (to->first[0] == '\0') {
        snprintf(to->first, sizeof to->first, "%s", from->first);
    }
}

void tally_add(struct tally *to, struct tally *from, struct latency *scratch)
{
    system_lock_acquire(from->lock);
    tally_add_numbers(to, from);
    system_lock_release(from->lock);
    for (int i = 0; i < 2; i++) {
        /* Copied under the lock and added after it: adding takes a hundred times as long. */
        system_lock_acquire(from->lock);
        latency_copy(scratch, from->latencies[i]);
        system_lock_release(from->lock);
        latency_add(to->latencies[i], scratch);
    }
}

uint64_t tally_errors(const struct tally *tally)
{
    uint64_t sum = 0;
    for (int i = 0; i < TALLY_ERROR_COUNT; i++) {
        sum += tally->errors[i];
    }
    return sum;
}
