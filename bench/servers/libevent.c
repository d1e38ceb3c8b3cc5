/* Peer: libevent, written as its book writes an echo server: bufferevents; echo moves the input to
 * the output with evbuffer_add_buffer. A base per thread, each with a listener of its own. What a
 * callback writes goes to the output buffer, which libevent sends when the socket is writable: it
 * coalesces by itself. With --coalesce all whole messages move to the output in one call. */
#include "server.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include <stdlib.h>
#include <string.h>

struct loop {
    struct event_base *base;
    const struct server_options *options;
    struct connection *first;
};

struct connection {
    struct bufferevent *events;
    struct loop *loop;
    struct connection *before;
    struct connection *next;
};

static void on_event(struct bufferevent *events, short what, void *context)
{
    struct connection *c = context;
    if (!(what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)))
        return;
    if (c->next)
        c->next->before = c->before;
    if (c->before)
        c->before->next = c->next;
    else
        c->loop->first = c->next;
    bufferevent_free(events);
    free(c);
}

static void on_echo(struct bufferevent *events, void *context)
{
    (void)context;
    evbuffer_add_buffer(bufferevent_get_output(events), bufferevent_get_input(events));
}

/* The first message in one piece, or NULL. */
static const unsigned char *input_frame(struct evbuffer *input, size_t *out_size)
{
    unsigned char header[FRAME_HEADER];
    if (evbuffer_copyout(input, header, sizeof header) < (ev_ssize_t)sizeof header)
        return NULL;
    size_t payload = (size_t)header[0] << 24 | (size_t)header[1] << 16 | (size_t)header[2] << 8 |
                     (size_t)header[3];
    if (payload > FRAME_MAX)
        server_refuse("a message above the limit");
    *out_size = FRAME_HEADER + payload;
    return evbuffer_get_length(input) < *out_size ? NULL
                                                  : evbuffer_pullup(input, (ev_ssize_t)*out_size);
}

static void connection_answer(struct connection *c, const void *frame, size_t size)
{
    if (c->loop->options->workload != WORKLOAD_ROOM) {
        bufferevent_write(c->events, frame, size);
        return;
    }
    for (struct connection *member = c->loop->first; member; member = member->next)
        bufferevent_write(member->events, frame, size);
}

static void on_messages(struct bufferevent *events, void *context)
{
    struct connection *c = context;
    struct evbuffer *input = bufferevent_get_input(events);
    const unsigned char *frame;
    size_t size;
    while ((frame = input_frame(input, &size)) != NULL) {
        server_handle(c->loop->options, frame + FRAME_HEADER, size - FRAME_HEADER);
        connection_answer(c, frame, size);
        evbuffer_drain(input, size);
    }
}

/* How many bytes the whole messages at the front have; handles them where they are. */
static size_t connection_whole(struct connection *c, struct evbuffer *input)
{
    size_t length = evbuffer_get_length(input);
    const unsigned char *data = evbuffer_pullup(input, -1);
    size_t done = 0;
    size_t size;
    while (done < length && (size = server_frame(data + done, length - done)) > 0) {
        server_handle(c->loop->options, data + done + FRAME_HEADER, size - FRAME_HEADER);
        done += size;
    }
    return done;
}

static void on_messages_coalesce(struct bufferevent *events, void *context)
{
    struct evbuffer *input = bufferevent_get_input(events);
    size_t whole = connection_whole(context, input);
    evbuffer_remove_buffer(input, bufferevent_get_output(events), whole);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *peer,
                      int peer_size, void *context)
{
    struct loop *loop = context;
    struct connection *c = calloc(1, sizeof *c);
    (void)listener, (void)peer, (void)peer_size;
    if (!c)
        server_refuse("no memory");
    c->loop = loop;
    c->events = bufferevent_socket_new(loop->base, fd, BEV_OPT_CLOSE_ON_FREE);
    c->next = loop->first;
    if (c->next)
        c->next->before = c;
    loop->first = c;
    bool framed = server_is_framed(loop->options);
    bufferevent_data_cb messages = loop->options->coalesce ? on_messages_coalesce : on_messages;
    bufferevent_setcb(c->events, framed ? messages : on_echo, NULL, on_event, c);
    bufferevent_enable(c->events, EV_READ | EV_WRITE);
}

static void loop_run(const struct server_options *options)
{
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop || !(loop->base = event_base_new()))
        server_refuse("no base");
    loop->options = options;
    if (!evconnlistener_new(loop->base, on_accept, loop, LEV_OPT_CLOSE_ON_FREE, 0,
                            server_listen(options)))
        server_refuse("no listener");
    server_ready(options->threads);
    event_base_dispatch(loop->base);
}

int main(int argc, char **argv)
{
    static struct server_options options;
    server_options_parse(&options, argc, argv);
    if (options.workload == WORKLOAD_ROOM && (options.threads > 1 || options.coalesce))
        server_refuse("the room has one thread, and one write per message");
    server_run(&options, loop_run);
}
