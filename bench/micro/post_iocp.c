/* Workload h: the port. On both backends with batches of up to 64 packets, and on the better one
 * also packet by packet, and with handlers. */
#include "post.h"

#include <iocp/error.h>
#include <iocp/port.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 64

_Static_assert(sizeof(struct iocp_op) <= POST_LINK_SIZE, "an op fits into an item");

struct port_queue {
    struct iocp_port *port;
    post_got *got; /* of the handlers */
    void *context;
};

/* Handlers have no context of their consumer: each thread has its own. */
static __thread struct port_queue handler_queue;

static void port_handle(const struct iocp_packet *packet)
{
    handler_queue.got(handler_queue.context, packet->op->context);
}

static void *port_open(enum iocp_backend backend)
{
    struct iocp_port_config config;
    struct port_queue *queue = calloc(1, sizeof(*queue));
    iocp_port_config_init(&config);
    config.backend = backend;
    if (iocp_port_create(&config, &queue->port) < 0) {
        free(queue);
        return NULL;
    }
    return queue;
}

static void *port_open_uring(uint32_t consumers)
{
    (void)consumers;
    return port_open(IOCP_BACKEND_URING);
}

static void *port_open_epoll(uint32_t consumers)
{
    (void)consumers;
    return port_open(IOCP_BACKEND_EPOLL);
}

static void port_post(void *context, struct post_item *item)
{
    struct port_queue *queue = context;
    struct iocp_op *op = (struct iocp_op *)item->link;
    if (!op->context) {
        iocp_op_init(op, port_handle);
        op->context = item;
    }
    iocp_op_post(op, 0, 0);
    if (iocp_port_post(queue->port, NULL, op) < 0)
        abort();
}

static int port_take(struct port_queue *queue, uint32_t batch, uint64_t timeout_ns, post_got *got,
                     void *context)
{
    struct iocp_packet packets[BATCH];
    int count = iocp_port_wait(queue->port, packets, batch, timeout_ns);
    for (int i = 0; i < count; i++) {
        struct post_item *item = packets[i].op->context;
        iocp_packet_release(&packets[i]);
        got(context, item);
    }
    return count;
}

static void port_consume(void *queue, post_got *got, void *context)
{
    while (port_take(queue, BATCH, IOCP_WAIT_FOREVER, got, context) > 0)
        ;
}

static void port_poll(void *queue, post_got *got, void *context)
{
    while (port_take(queue, BATCH, 0, got, context) == BATCH)
        ;
}

static void port_consume_each(void *queue, post_got *got, void *context)
{
    while (port_take(queue, 1, IOCP_WAIT_FOREVER, got, context) > 0)
        ;
}

static void port_poll_each(void *queue, post_got *got, void *context)
{
    while (port_take(queue, 1, 0, got, context) > 0)
        ;
}

static void port_consume_handlers(void *queue, post_got *got, void *context)
{
    struct iocp_port *port = ((struct port_queue *)queue)->port;
    handler_queue.got = got;
    handler_queue.context = context;
    while (iocp_port_dispatch(port, IOCP_WAIT_FOREVER) > 0)
        ;
}

static void port_poll_handlers(void *queue, post_got *got, void *context)
{
    struct iocp_port *port = ((struct port_queue *)queue)->port;
    handler_queue.got = got;
    handler_queue.context = context;
    while (iocp_port_dispatch(port, 0) > 0)
        ;
}

static void port_stop(void *queue)
{
    iocp_port_close(((struct port_queue *)queue)->port);
}

static void port_close(void *queue)
{
    iocp_port_unref(((struct port_queue *)queue)->port);
    free(queue);
}

static const struct post_peer post_uring = {"iocp uring", port_open_uring, port_post, port_consume,
                                            port_poll,    port_stop,       port_close};
static const struct post_peer post_epoll = {"iocp epoll", port_open_epoll, port_post, port_consume,
                                            port_poll,    port_stop,       port_close};
static const struct post_peer post_each = {"iocp uring, packet by packet",
                                           port_open_uring,
                                           port_post,
                                           port_consume_each,
                                           port_poll_each,
                                           port_stop,
                                           port_close};
static const struct post_peer post_handlers = {
    "iocp uring, handlers", port_open_uring, port_post, port_consume_handlers,
    port_poll_handlers,     port_stop,       port_close};

const struct post_peer *const post_peers[] = {&post_uring, &post_epoll, &post_each, &post_handlers,
                                              NULL};
