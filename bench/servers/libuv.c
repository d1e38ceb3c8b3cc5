/* Peer: libuv, written as its guide writes a TCP echo server: a buffer from malloc per read, a
 * write request from malloc per write, both freed in the write's callback. A loop per thread, each
 * with a listener of its own. Framing is ours, since libuv has none.
 *
 * With --queue the messages are handled in libuv's work queue, one of a connection at a time, so
 * that answers keep their order (UV_THREADPOOL_SIZE in the environment sets its threads). */
#include "server.h"

#include <uv.h>

#include <stdlib.h>
#include <string.h>

#define INPUT_ROOM 4096

struct loop {
    uv_loop_t uv;
    uv_tcp_t listener;
    const struct server_options *options;
    struct connection *first;
};

struct connection {
    uv_tcp_t tcp; /* first: what libuv calls stream and handle */
    uv_work_t work;
    struct loop *loop;
    struct connection *before;
    struct connection *next;
    char *input; /* bytes of messages that have not been handled */
    size_t input_size;
    size_t input_capacity;
    size_t working; /* size of the message that is in the work queue; 0: none is */
    bool closed;
};

struct echo_write {
    uv_write_t request;
    char *memory;
};

/* A message on its way to one connection or to many. */
struct message {
    size_t users;
    char data[];
};

struct message_write {
    uv_write_t request;
    struct message *message;
};

static void *allocate(size_t size)
{
    void *memory = malloc(size);
    if (!memory)
        server_refuse("no memory");
    return memory;
}

static void on_closed(uv_handle_t *handle)
{
    struct connection *c = (struct connection *)handle;
    if (c->next)
        c->next->before = c->before;
    if (c->before)
        c->before->next = c->next;
    else
        c->loop->first = c->next;
    free(c->input);
    free(c);
}

static void connection_close(struct connection *c)
{
    if (!c->closed && !c->working)
        uv_close((uv_handle_t *)&c->tcp, on_closed);
    c->closed = true;
}

/* ---- Echo. */

static void echo_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    *buffer = uv_buf_init(allocate(suggested), (unsigned)suggested);
}

static void echo_written(uv_write_t *request, int status)
{
    struct echo_write *write = (struct echo_write *)request;
    (void)status;
    free(write->memory);
    free(write);
}

static void echo_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    if (size > 0) {
        struct echo_write *write = allocate(sizeof *write);
        uv_buf_t answer = uv_buf_init(buffer->base, (unsigned)size);
        write->memory = buffer->base;
        if (uv_write(&write->request, stream, &answer, 1, echo_written) < 0)
            echo_written(&write->request, UV_ECANCELED);
        return;
    }
    free(buffer->base);
    if (size < 0)
        connection_close((struct connection *)stream);
}

/* ---- Messages. */

static struct message *message_create(const void *data, size_t size)
{
    struct message *message = allocate(sizeof *message + size);
    message->users = 1;
    memcpy(message->data, data, size);
    return message;
}

static void message_release(struct message *message)
{
    if (--message->users == 0)
        free(message);
}

static void message_written(uv_write_t *request, int status)
{
    struct message_write *write = (struct message_write *)request;
    (void)status;
    message_release(write->message);
    free(write);
}

static void message_send(struct message *message, size_t size, struct connection *to)
{
    struct message_write *write = allocate(sizeof *write);
    uv_buf_t buffer = uv_buf_init(message->data, (unsigned)size);
    message->users++;
    write->message = message;
    if (uv_write(&write->request, (uv_stream_t *)&to->tcp, &buffer, 1, message_written) < 0)
        message_written(&write->request, UV_ECANCELED);
}

static void connection_answer(struct connection *c, const char *frames, size_t size)
{
    struct message *message = message_create(frames, size);
    if (c->loop->options->workload != WORKLOAD_ROOM) {
        message_send(message, size, c);
    } else {
        for (struct connection *member = c->loop->first; member; member = member->next) {
            if (!member->closed)
                message_send(message, size, member);
        }
    }
    message_release(message);
}

/* Handles the messages that are whole; returns how many bytes they had. */
static size_t connection_handle(struct connection *c)
{
    const struct server_options *options = c->loop->options;
    size_t done = 0;
    size_t size;
    while ((size = server_frame(c->input + done, c->input_size - done)) > 0) {
        const char *frame = c->input + done;
        server_handle(options, frame + FRAME_HEADER, size - FRAME_HEADER);
        if (!options->coalesce)
            connection_answer(c, frame, size);
        done += size;
    }
    if (done && options->coalesce)
        connection_answer(c, c->input, done);
    return done;
}

static void connection_consume(struct connection *c, size_t size)
{
    c->input_size -= size;
    memmove(c->input, c->input + size, c->input_size);
}

static void message_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct connection *c = (struct connection *)handle;
    (void)suggested;
    if (c->input_capacity - c->input_size < INPUT_ROOM) {
        c->input_capacity = 2 * c->input_capacity + INPUT_ROOM;
        c->input = realloc(c->input, c->input_capacity);
        if (!c->input)
            server_refuse("no memory");
    }
    *buffer = uv_buf_init(c->input + c->input_size, (unsigned)(c->input_capacity - c->input_size));
}

static void connection_work(struct connection *c);

static void message_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct connection *c = (struct connection *)stream;
    (void)buffer;
    if (size < 0) {
        connection_close(c);
        return;
    }
    c->input_size += (size_t)size;
    if (c->loop->options->queue)
        connection_work(c);
    else
        connection_consume(c, connection_handle(c));
}

/* ---- The work queue. */

static void on_work(uv_work_t *work)
{
    struct connection *c = work->data;
    server_handle(c->loop->options, c->input + FRAME_HEADER, c->working - FRAME_HEADER);
}

static void on_worked(uv_work_t *work, int status)
{
    struct connection *c = work->data;
    size_t size = c->working;
    (void)status;
    c->working = 0;
    connection_answer(c, c->input, size);
    connection_consume(c, size);
    uv_read_start((uv_stream_t *)&c->tcp, message_allocate, message_read);
    connection_work(c);
}

/* Nothing is read meanwhile, so that the message stays where it is. */
static void connection_work(struct connection *c)
{
    c->working = server_frame(c->input, c->input_size);
    if (!c->working)
        return;
    uv_read_stop((uv_stream_t *)&c->tcp);
    c->work.data = c;
    uv_queue_work(&c->loop->uv, &c->work, on_work, on_worked);
}

/* ---- Connections. */

static void on_connection(uv_stream_t *listener, int status)
{
    struct loop *loop = listener->data;
    struct connection *c = calloc(1, sizeof *c);
    if (!c || status < 0)
        server_refuse("no connection");
    c->loop = loop;
    c->next = loop->first;
    if (c->next)
        c->next->before = c;
    loop->first = c;
    uv_tcp_init(&loop->uv, &c->tcp);
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) < 0)
        connection_close(c);
    else if (server_is_framed(loop->options))
        uv_read_start((uv_stream_t *)&c->tcp, message_allocate, message_read);
    else
        uv_read_start((uv_stream_t *)&c->tcp, echo_allocate, echo_read);
}

static void loop_run(const struct server_options *options)
{
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop || uv_loop_init(&loop->uv) < 0)
        server_refuse("no loop");
    loop->options = options;
    uv_tcp_init(&loop->uv, &loop->listener);
    loop->listener.data = loop;
    if (uv_tcp_open(&loop->listener, server_listen(options)) < 0 ||
        uv_listen((uv_stream_t *)&loop->listener, 4096, on_connection) < 0)
        server_refuse("no listener");
    server_ready(options->threads);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

int main(int argc, char **argv)
{
    static struct server_options options;
    server_options_parse(&options, argc, argv);
    if (options.workload == WORKLOAD_ROOM && options.threads > 1)
        server_refuse("the room has one thread");
    server_run(&options, loop_run);
}
