/* Ours: the server layer with the library's defaults, through the public headers only. The
 * concurrency and the workers are --threads, or --concurrency when that is given. */
#include "server.h"

#include <iocp.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Idle objects that fill the other lane up, more than there are sessions: see other_lane_fill. */
#define FILLERS 256

struct server {
    struct server_options options;
    struct iocp_framing framing;
    struct iocp_group *room;
};

static size_t on_received(struct iocp_session *session, const void *data, size_t size,
                          void *context)
{
    (void)context;
    if (iocp_session_send(session, data, size) == IOCP_ENOMEM)
        iocp_session_abort(session);
    return size;
}

static void on_message(struct iocp_session *session, const void *frame, size_t size, void *context)
{
    const struct server *server = context;
    const char *payload = (const char *)frame + FRAME_HEADER;
    server_handle(&server->options, payload, size - FRAME_HEADER);
    if (iocp_session_send(session, frame, size) == IOCP_ENOMEM)
        iocp_session_abort(session);
}

static void on_opened_room(struct iocp_session *session, void *context)
{
    const struct server *server = context;
    if (iocp_group_join(server->room, session) < 0)
        iocp_session_abort(session);
}

static void on_message_room(struct iocp_session *session, const void *frame, size_t size,
                            void *context)
{
    const struct server *server = context;
    struct iocp_buffer *buffer = NULL;
    if (iocp_buffer_copy(frame, size, &buffer) < 0)
        iocp_session_abort(session);
    else
        iocp_group_publish(server->room, buffer, NULL);
    iocp_buffer_unref(buffer);
}

/* 4 bytes of big-endian size of what follows; the handler sees all of it. */
static struct iocp_framing server_framing(void)
{
    struct iocp_framing framing = iocp_framing_length(FRAME_HEADER, FRAME_MAX);
    framing.size_big_endian = 1;
    framing.size_adjust = FRAME_HEADER;
    return framing;
}

static void server_class(struct server *server, struct iocp_session_class *sessions)
{
    iocp_session_class_init(sessions);
    sessions->context = server;
    if (!server_is_framed(&server->options)) {
        sessions->received = on_received;
        return;
    }
    sessions->framing = server_framing();
    sessions->message = on_message;
    if (server->options.workload == WORKLOAD_ROOM) {
        iocp_group_create(&server->room);
        sessions->opened = on_opened_room;
        sessions->message = on_message_room;
    }
}

static void server_config(const struct server_options *options, struct iocp_service_config *config)
{
    iocp_service_config_init(config);
    config->workers = options->threads;
    config->port_config.concurrency =
        options->concurrency ? options->concurrency : options->threads;
    config->port_config.lanes = options->lanes;
    if (options->backend)
        config->port_config.backend =
            strcmp(options->backend, "epoll") == 0 ? IOCP_BACKEND_EPOLL : IOCP_BACKEND_URING;
}

static void filler_destroy(struct iocp_object *object)
{
    (void)object; /* they live as long as the program */
}

/* For "one hot lane" with several lanes. New objects go to the lane that has fewer. Those that a
 * thread registers which is no worker alternate between two lanes, and the first one goes to the
 * lane that has not the listener; every second one is closed again. So all sessions will go to the
 * lane of the listener. Which lanes there are is no business of a program's: here it is what is
 * measured. */
static void other_lane_fill(struct iocp_port *port)
{
    static const struct iocp_object_class filler = {.name = "filler", .destroy = filler_destroy};
    static struct iocp_object objects[2 * FILLERS];
    struct iocp_port_stats stats;
    do {
        usleep(1000);
        iocp_port_stats(port, &stats);
    } while (stats.lanes < 2);
    uint64_t objects_before = stats.objects;
    for (int i = 0; i < 2 * FILLERS; i++) {
        iocp_object_init(&objects[i], &filler);
        if (iocp_port_register(port, &objects[i], socket(AF_INET, SOCK_DGRAM, 0), 0) < 0)
            server_refuse("cannot fill a lane");
    }
    for (int i = 1; i < 2 * FILLERS; i += 2)
        iocp_object_close(&objects[i]);
    do {
        usleep(1000);
        iocp_port_stats(port, &stats);
    } while (stats.objects > objects_before + FILLERS);
}

/* Answers each SIGUSR1 with the bytes that the library has allocated: resident memory counts whole
 * pages, and only those that were touched. */
static _Noreturn void report_memory(const sigset_t *signals)
{
    for (;;) {
        int number;
        sigwait(signals, &number);
        printf("%zu\n", iocp_memory_size());
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    static struct server server;
    static struct iocp_session_class sessions;
    struct iocp_service_config config;
    struct iocp_service *service = NULL;
    struct iocp_address address;
    sigset_t signals;
    char text[32];
    int error;

    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* in the workers as well */
    server_options_parse(&server.options, argc, argv);
    server_class(&server, &sessions);
    server_config(&server.options, &config);
    snprintf(text, sizeof text, "0.0.0.0:%u", server.options.port);
    if ((error = iocp_address_parse(text, &address)) < 0 ||
        (error = iocp_service_create(&config, &service)) < 0 ||
        (error = iocp_service_listen(service, &address, &sessions, NULL, NULL)) < 0 ||
        (error = iocp_service_start(service)) < 0)
        server_refuse(iocp_error_text(error));
    if (server.options.workload == WORKLOAD_WORK && server.options.threads > 1 &&
        server.options.lanes != 1)
        other_lane_fill(iocp_service_port(service));
    server_ready(1);
    report_memory(&signals);
}
