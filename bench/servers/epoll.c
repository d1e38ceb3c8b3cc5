/* Reference: an epoll loop per thread, each with a listener of its own; level-triggered, one read
 * per event, the answer sent at once. What does not fit waits in the connection, which is not read
 * meanwhile. The room runs on one thread and is a bare loop of send over the sockets. */
#include "server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256

/* Bytes that wait, on the heap only while there are some. */
struct bytes {
    char *data;
    size_t size;
    size_t capacity;
};

struct connection {
    int fd;
    uint32_t index; /* in the loop's list */
    struct bytes unsent;
    struct bytes rest; /* of a message that has not come whole */
};

struct loop {
    const struct server_options *options;
    int epoll;
    int listener;
    struct connection **list;
    uint32_t count;
    uint32_t capacity;
    struct bytes answers; /* --coalesce */
    char input[READ_SIZE + FRAME_MAX];
};

static void *grown(void *memory, size_t size)
{
    void *larger = realloc(memory, size);
    if (!larger)
        server_refuse("no memory");
    return larger;
}

static void bytes_add(struct bytes *bytes, const void *data, size_t size)
{
    if (bytes->size + size > bytes->capacity) {
        bytes->capacity = 2 * (bytes->size + size);
        bytes->data = grown(bytes->data, bytes->capacity);
    }
    memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

static void bytes_free(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}

static void connection_watch(struct loop *loop, struct connection *c, int how, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(loop->epoll, how, c->fd, &event) < 0)
        server_refuse("epoll_ctl");
}

/* Of a connection that fails, the next read tells. */
static size_t connection_try(struct connection *c, const void *data, size_t size)
{
    ssize_t sent = send(c->fd, data, size, MSG_NOSIGNAL);
    if (sent >= 0)
        return (size_t)sent;
    return errno == EAGAIN ? 0 : size;
}

static void connection_send(struct loop *loop, struct connection *c, const void *data, size_t size)
{
    size_t sent = c->unsent.size ? 0 : connection_try(c, data, size);
    if (sent == size)
        return;
    if (!c->unsent.size)
        connection_watch(loop, c, EPOLL_CTL_MOD, EPOLLOUT);
    bytes_add(&c->unsent, (const char *)data + sent, size - sent);
}

static void connection_writable(struct loop *loop, struct connection *c)
{
    size_t sent = connection_try(c, c->unsent.data, c->unsent.size);
    c->unsent.size -= sent;
    memmove(c->unsent.data, c->unsent.data + sent, c->unsent.size);
    if (!c->unsent.size) {
        bytes_free(&c->unsent);
        connection_watch(loop, c, EPOLL_CTL_MOD, EPOLLIN);
    }
}

static void connection_close(struct loop *loop, struct connection *c)
{
    loop->list[c->index] = loop->list[--loop->count];
    loop->list[c->index]->index = c->index;
    bytes_free(&c->unsent);
    bytes_free(&c->rest);
    close(c->fd);
    free(c);
}

static void loop_answer(struct loop *loop, struct connection *c, const char *frame, size_t size)
{
    server_handle(loop->options, frame + FRAME_HEADER, size - FRAME_HEADER);
    if (loop->options->workload == WORKLOAD_ROOM) {
        for (uint32_t i = 0; i < loop->count; i++)
            connection_send(loop, loop->list[i], frame, size);
    } else if (loop->options->coalesce) {
        bytes_add(&loop->answers, frame, size);
    } else {
        connection_send(loop, c, frame, size);
    }
}

static void loop_frames(struct loop *loop, struct connection *c, const char *data, size_t size)
{
    size_t frame;
    for (; (frame = server_frame(data, size)) > 0; data += frame, size -= frame)
        loop_answer(loop, c, data, frame);
    if (loop->answers.size)
        connection_send(loop, c, loop->answers.data, loop->answers.size);
    loop->answers.size = 0;
    if (size)
        bytes_add(&c->rest, data, size);
    else if (c->rest.data)
        bytes_free(&c->rest);
}

static void connection_readable(struct loop *loop, struct connection *c)
{
    size_t rest = c->rest.size;
    ssize_t received = recv(c->fd, loop->input + rest, READ_SIZE, 0);
    if (received < 0 && errno == EAGAIN)
        return;
    if (received <= 0) {
        connection_close(loop, c);
    } else if (server_is_framed(loop->options)) {
        if (rest)
            memcpy(loop->input, c->rest.data, rest);
        c->rest.size = 0;
        loop_frames(loop, c, loop->input, rest + (size_t)received);
    } else {
        connection_send(loop, c, loop->input, (size_t)received);
    }
}

static void loop_accept(struct loop *loop)
{
    int fd;
    while ((fd = accept4(loop->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *c = calloc(1, sizeof *c);
        if (loop->count == loop->capacity) {
            loop->capacity = loop->capacity ? 2 * loop->capacity : 64;
            loop->list = grown(loop->list, loop->capacity * sizeof(struct connection *));
        }
        if (!c)
            server_refuse("no memory");
        c->fd = fd;
        c->index = loop->count;
        loop->list[loop->count++] = c;
        connection_watch(loop, c, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static void loop_run(const struct server_options *options)
{
    struct epoll_event events[EVENTS];
    struct epoll_event listening = {.events = EPOLLIN};
    struct loop *loop = calloc(1, sizeof *loop);

    if (!loop)
        server_refuse("no memory");
    loop->options = options;
    loop->listener = server_listen(options);
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->listener, &listening);
    server_ready(options->threads);
    for (;;) {
        int count = epoll_wait(loop->epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c)
                loop_accept(loop);
            else if (c->unsent.size)
                connection_writable(loop, c);
            else
                connection_readable(loop, c);
        }
    }
}

int main(int argc, char **argv)
{
    static struct server_options options;
    server_options_parse(&options, argc, argv);
    if (options.workload == WORKLOAD_ROOM && options.threads > 1)
        server_refuse("the room has one thread");
    server_run(&options, loop_run);
}
