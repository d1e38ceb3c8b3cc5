/* A handle of the simulated system, as the files know it that make it up: sim_net.c (connections),
 * sim_socket.c (handles, names, options), sim_datagram.c, sim_file.c. Everybody else sees sim.h.
 *
 * state: FRESH → CONNECTING → CONNECTED, FAILED · FRESH → LISTENING, DATAGRAM, FILE */
#ifndef IOCP_OS_SIM_NET_H
#define IOCP_OS_SIM_NET_H

#include "os/sim.h"

#define IOCP__SIM_HANDLE_FIRST 16 /* smaller ones are nobody's */

enum iocp__sim_state {
    IOCP__SIM_FRESH = 1,
    IOCP__SIM_CONNECTING,
    IOCP__SIM_CONNECTED,
    IOCP__SIM_FAILED,
    IOCP__SIM_LISTENING,
    IOCP__SIM_DATAGRAM,
    IOCP__SIM_FILE
};

struct iocp__sim_socket {
    iocp_handle handle;
    uint32_t state;  /* enum iocp__sim_state */
    uint32_t serial; /* of its making: handles may be used again */
    enum iocp_family family;
    struct iocp_address name;   /* where it was bound */
    struct iocp_address target; /* where it connects to, or sends datagrams */
    int associated;             /* with a port of completions */
    int reset_on_close;
    int reuse_address;
    int reuse_port;
    int ipv6_only;
    uint32_t send_size; /* options; 0: the system's */
    uint32_t receive_size;
    int error; /* of a connect */
    int deaf;
    struct iocp__sim_connection *connection;
    int end;
    struct iocp__sim_connection *backlog; /* the oldest first */
    uint32_t backlog_count;
    struct iocp__sim_datagram *datagrams; /* to it, the oldest first */
    struct iocp__sim_file *file;
    int read_only;
    struct iocp__sim_manner manner;
    void (*changed)(void *watcher, iocp_handle handle);
    void *watcher;
};

/* NULL: it is not open. */
struct iocp__sim_socket *iocp__sim_socket_find(iocp_handle handle);
/* Fails when it is not open. */
struct iocp__sim_socket *iocp__sim_socket_get(iocp_handle handle);
struct iocp__sim_socket *iocp__sim_socket_new(enum iocp_family family);
/* The next one that is open, by number; the first for NULL. */
struct iocp__sim_socket *iocp__sim_socket_next(const struct iocp__sim_socket *before);
/* An operation on it may get further. */
void iocp__sim_socket_changed(struct iocp__sim_socket *socket);

/* Which connection it is, or was, an end of. */
void iocp__sim_socket_note(iocp_handle handle, struct iocp__sim_connection *connection);
struct iocp__sim_connection *iocp__sim_socket_noted(iocp_handle handle);

/* Not 0 when no handle can be made. */
int iocp__sim_socket_is_full(void);
/* Who listens there: NULL with IOCP_ECONNREFUSED or IOCP_ENOENT. */
struct iocp__sim_socket *iocp__sim_socket_listener(const struct iocp_address *address,
                                                   int *out_error);
/* Gives a socket that has no name one that connections and datagrams can come from. */
void iocp__sim_socket_name(struct iocp__sim_socket *socket);
/* `address` as a socket of this family gives it: an IPv4 one mapped, for IPv6. */
struct iocp_address iocp__sim_address_for(enum iocp_family family,
                                          const struct iocp_address *address);

/* A connect that takes no time. */
void iocp__sim_connect_now(struct iocp__sim_socket *socket, const struct iocp_address *address);
/* A pipe's window follows what its ends have room for. */
void iocp__sim_connection_fit(struct iocp__sim_connection *connection);
/* The socket is closed: its connection, those that wait in its backlog; its datagrams; its file. */
void iocp__sim_connection_close(struct iocp__sim_socket *socket);
int iocp__sim_datagram_is_there(const struct iocp__sim_socket *socket);
void iocp__sim_datagrams_free(struct iocp__sim_socket *socket);
void iocp__sim_file_close(struct iocp__sim_socket *socket);

uint32_t iocp__sim_net_below(uint32_t count);
/* Mostly short, now and then long. */
uint64_t iocp__sim_net_later_ns(void);

/* Of iocp__sim_net_begin and _end. */
void iocp__sim_sockets_begin(const struct iocp__sim_config *config);
void iocp__sim_sockets_end(void);

#endif
