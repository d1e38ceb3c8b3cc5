/* The listener: a listening socket that always has an accept armed, or a timer that will arm it
 * (the notes' Listener). Services make their own; use it alone to accept without sessions.
 *
 * Threads: any thread may call anything; the handlers of one listener never overlap. */
#ifndef IOCP_LISTENER_H
#define IOCP_LISTENER_H

#include <iocp/address.h>
#include <iocp/port.h>

IOCP_BEGIN

struct iocp_listener;

struct iocp_listener_config {
    struct iocp_address address;
    uint32_t backlog;      /* as of listen(2); 0: the system's maximum */
    int reuse_port;        /* several sockets on one port share its connections */
    int ipv6_only;         /* an IPv6 address does not take IPv4 connections as well */
    uint32_t unix_mode;    /* permissions of a Unix socket's path; 0: as the umask gives */
    uint64_t retry_min_ns; /* first pause after a failed accept; 0: 5 ms; doubles up to */
    uint64_t retry_max_ns; /* 0: 1 s */
    /* The socket, before it is bound: to set options that the library does not know. On Linux its
     * connections begin with them. May be NULL. */
    void (*opened)(iocp_handle handle, void *context);
    /* A connection: the callee owns the handle. */
    void (*accepted)(struct iocp_listener *listener, iocp_handle handle, void *context);
    /* The listener has closed, every accept is answered: the last call. May be NULL. */
    void (*closed)(struct iocp_listener *listener, void *context);
    void *context;
};

struct iocp_listener_stats {
    uint64_t accepted;
    uint64_t failures; /* accepts that ended with an error, descriptor shortage included */
    uint64_t retries;  /* times that the retry timer armed the accept again */
};

/* Binds, listens and arms the accept. The config is copied. Gives one reference. A Unix path that
 * nobody listens on any more is replaced. On Windows nobody else may bind the address meanwhile.
 * Errors: IOCP_ENOTSUP (Windows: reuse_port, unix_mode; where there are no Unix sockets),
 * IOCP_EINVAL, IOCP_EADDRINUSE, IOCP_EADDRNOTAVAIL, IOCP_EPERM, IOCP_EMFILE, IOCP_ENOMEM,
 * IOCP_ECLOSED, as of the system. */
IOCP_API int iocp_listener_create(struct iocp_port *port, const struct iocp_listener_config *config,
                                  struct iocp_listener **out_listener);
IOCP_API struct iocp_listener *iocp_listener_ref(struct iocp_listener *listener);
IOCP_API struct iocp_listener *iocp_listener_unref(struct iocp_listener *listener);

/* Stops accepting; connections not accepted yet are refused by the system. Idempotent; returns at
 * once. */
IOCP_API void iocp_listener_close(struct iocp_listener *listener);

/* The address with the port that the system chose. */
IOCP_API void iocp_listener_address(const struct iocp_listener *listener,
                                    struct iocp_address *out_address);

/* Not 0 when an accept or the retry timer is armed: the invariant of an open listener. */
IOCP_API int iocp_listener_armed(const struct iocp_listener *listener);
IOCP_API void iocp_listener_stats(const struct iocp_listener *listener,
                                  struct iocp_listener_stats *out_stats);

IOCP_END

#endif
