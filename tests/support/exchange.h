/* The whole life of a service that talks to itself: port, workers, listener, connector, two
 * sessions, a group; some bytes are echoed, a last word is published, all of it ends. For tests
 * that let something fail in it, at each place in turn.
 *
 * The life itself checks that what failed was said: by the call, by `failed` of the connector, or
 * by the reason of a session that closed. Where the library can try again it has to, so once the
 * service has started, the exchange comes to its end: a life that waits longer than the limit of
 * net.h fails the test. */
#ifndef IOCP_TESTS_SUPPORT_EXCHANGE_H
#define IOCP_TESTS_SUPPORT_EXCHANGE_H

#include "support/check.h"

#include <iocp/service.h>

/* One life on the backend of the run. Returns 0 when the exchange was made, or the error of the
 * call that could not be: then the service was taken down again. At its end nothing is left: the
 * library holds as much memory, and the process has as many handles open, as before. */
int exchange_live(void);

/* The same in two halves, for what goes on meanwhile: the service with its listener, started;
 * exchanges with it, one after the other; and the end. */
struct exchange;
int exchange_open(struct exchange **out_exchange);
/* The same with two threads of the test's own in the place of workers, which block no signals; and
 * handles are not counted, for tests that open some meanwhile. */
int exchange_open_unmanned(struct exchange **out_exchange);
/* One connection of its own, from the connect to the close. 0, or the error of the connect or of a
 * send of the client. */
int exchange_once(struct exchange *exchange);
void exchange_close(struct exchange *exchange);

/* Counts over all lives of the process, for tests that something has failed at all. */
struct exchange_counts {
    uint64_t attempts_failed; /* calls of `failed` */
    uint64_t sessions_failed; /* sessions that closed for IOCP_CLOSE_ERROR */
};

struct exchange_counts exchange_counts(void);

#endif
