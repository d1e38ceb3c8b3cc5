/* A client for line servers: prints what comes, sends what is typed, connects again when the
 * connection is lost. Ends with its input. Usage: client [ADDRESS [LINE]]
 * LINE is sent first on every connection: client 127.0.0.1:7777 "/nick ann" */
#include <iocp.h>

#include <semaphore.h>
#include <stdio.h>
#include <string.h>

struct client {
    char line[4096]; /* to begin with, may be empty */
    sem_t opened;
    uint64_t session; /* the id of the newest one; atomic */
};

static void client_opened(struct iocp_session *session, void *context)
{
    struct client *client = context;
    if (iocp_session_send(session, client->line, strlen(client->line)) < 0) {
        iocp_session_abort(session);
    }
    __atomic_store_n(&client->session, iocp_session_id(session), __ATOMIC_RELAXED);
    sem_post(&client->opened);
}

static void client_message(struct iocp_session *session, const void *line, size_t size, void *none)
{
    (void)session, (void)none;
    printf("%.*s\n", (int)size, (const char *)line);
    fflush(stdout);
}

static void client_failed(struct iocp_service *service, int error, int again, void *context)
{
    (void)service, (void)again, (void)context;
    fprintf(stderr, "client: cannot connect: %s\n", iocp_error_text(error));
}

/* Sends the input, a line at a time, from the first connection on. */
static void client_run(struct client *client, struct iocp_service *service)
{
    char line[4096];
    sem_wait(&client->opened);
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint64_t id = __atomic_load_n(&client->session, __ATOMIC_RELAXED);
        struct iocp_session *session = iocp_service_find(service, id); /* NULL: lost meanwhile */
        if (session == NULL || iocp_session_send(session, line, strlen(line)) < 0) {
            fprintf(stderr, "client: not sent: %s", line);
        }
        iocp_session_unref(session);
    }
}

int main(int argc, char **argv)
{
    static struct client client;
    struct iocp_session_class lines = {.opened = client_opened, .message = client_message};
    struct iocp_connect_config config = {.session_class = &lines, .failed = client_failed};
    struct iocp_service *service = NULL;
    int error;

    if (argc > 2) {
        snprintf(client.line, sizeof client.line, "%s\n", argv[2]);
    }
    sem_init(&client.opened, 0, 0);
    lines.framing = iocp_framing_line(65536);
    lines.context = &client;
    config.reconnect_min_ns = 100000000;  /* after a loss: 0.1 s, then twice as long, */
    config.reconnect_max_ns = 5000000000; /* up to 5 s */
    if ((error = iocp_address_parse(argc > 1 ? argv[1] : "127.0.0.1:7777", &config.address)) < 0 ||
        (error = iocp_service_create(NULL, &service)) < 0 ||
        (error = iocp_service_connect(service, &config, NULL)) < 0 ||
        (error = iocp_service_start(service)) < 0) {
        fprintf(stderr, "client: %s\n", iocp_error_text(error));
    } else {
        client_run(&client, service);
    }
    iocp_service_unref(service); /* stops: sends what is queued, closes, joins */
    return error < 0;
}
