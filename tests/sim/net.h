/* What the two files of the net scenario share: net.c (sessions and their handlers) and net_run.c
 * (who calls them, and what has to hold). */
#ifndef TESTS_SIM_NET_H
#define TESTS_SIM_NET_H

#include "sim.h"

#define ENDS_MAX 2048

/* A session as the model knows it. */
struct end {
    struct iocp_session *session; /* as long as `closed` has not run */
    struct iocp_service *service;
    struct iocp__sim_connection *connection;
    struct iocp__sim_connection none;
    int side;
    iocp_handle handle;
    uint64_t id;
    struct stream *out;
    struct stream *in;
    uint64_t left; /* bytes to send */
    int busy;      /* in a handler */
    int ended;
    int closed;
    int reason;
    int error;
};

struct model {
    struct iocp_port *port;        /* of the server, and of the clients with one_port */
    struct iocp_port *client_port; /* NULL: the same */
    struct iocp_service *server;
    struct iocp_service *client;
    struct iocp_session_class session_class;
    struct iocp_group *group;
    struct iocp_address address;
    uint16_t number; /* its port */
    struct end *ends[ENDS_MAX];
    uint32_t end_count;
    uint32_t broadcasts;
    uint64_t broadcast_bytes; /* which sessions took them nobody knows */
    uint32_t meddling;        /* meddlers that are at it */
    uint64_t connectors[16];
    uint32_t connector_count;
    int tries;   /* to start, in a row */
    int over;    /* user threads end */
    int settled; /* quiet: nothing may be left undone */
    int over_high;
    /* What the counters have to say. */
    uint64_t opened[2];
    uint64_t closed[2];
    uint64_t failed;
    uint64_t stopped;
    uint64_t messages_sent[2];
    uint64_t messages_received[2];
    uint64_t sends_refused[2];
};

extern struct model model;

/* 1: the client's, 0: the server's. */
int model_side(const struct end *end);
uint64_t stream_written(const struct stream *stream);
/* Anything that may be done to a session. */
void end_meddle(struct end *end, struct iocp_session *session);
/* Takes long now and then, blocks, says so or not. */
void handler_dawdles(void);
void model_make_class(void);
void on_failed(struct iocp_service *service, int error, int again, void *context);
void on_stopped(struct iocp_service *service, void *context);

#endif
