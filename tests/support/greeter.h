/* A listener for the tests, with a port: it greets each connection with one byte and keeps it.
 *
 * Its handlers check what holds for every listener: `accepted` never overlaps, `closed` comes after
 * everything else, and nothing is armed then. */
#ifndef IOCP_TESTS_SUPPORT_GREETER_H
#define IOCP_TESTS_SUPPORT_GREETER_H

#include "support/net.h"

#include <iocp/listener.h>

#define GREETER_HANDLES_MAX 1024

struct greeter {
    struct iocp_port *port;
    struct iocp_listener *listener;
    struct iocp_listener_config config;
    struct iocp_address address; /* with the port that the system chose */
    struct latch accepted;
    struct latch closed;
    int handles[GREETER_HANDLES_MAX];
    uint32_t handle_count;
    uint32_t inside;      /* handlers that run now */
    int close_in_handler; /* `accepted` closes the listener */
};

/* Makes the port on the backend of this run, and fills in `config`. */
void greeter_init(struct greeter *greeter, const struct iocp_address *address);
/* Makes the listener. */
void greeter_listen(struct greeter *greeter);
/* Both. */
void greeter_open(struct greeter *greeter, const struct iocp_address *address);
/* Closes the handles that it keeps. */
void greeter_drop_handles(struct greeter *greeter);
/* Connects `count` clients at once, 64 at most, and dispatches until all are greeted; then they go.
 */
void greeter_serve(struct greeter *greeter, const struct iocp_address *address, uint32_t count);
/* Closes the listener, dispatches until it is closed, and frees all. */
void greeter_end(struct greeter *greeter);
/* Gives the listener and the port back, and checks that nothing of the library is left. */
void greeter_free(struct greeter *greeter);

/* The `closed` of the listener; for tests that put their own in front. */
void greeter_closed(struct iocp_listener *listener, void *context);

#endif
