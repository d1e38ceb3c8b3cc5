/* A client for line servers: prints what comes, sends its input, connects again after a loss; then
 * ends its side and prints on until the server has closed. Usage: client [ADDRESS [GREETING]] */
#include <iocp.h>

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static struct iocp_service *service;
static char greeting[4096];     /* a line that is sent first on every connection; may be empty */
static _Atomic uint64_t newest; /* the id of the newest session; 0: there was none yet */
static _Atomic int ended;       /* the input has ended */
static struct iocp_op input;    /* posted once: its handler reads the input */

static void client_opened(struct iocp_session *session, void *none)
{
    (void)none;
    if (iocp_session_send(session, greeting, strlen(greeting)) < 0)
        iocp_session_abort(session);
    if (atomic_exchange(&newest, iocp_session_id(session)) == 0)
        iocp_port_post(iocp_service_port(service), NULL, &input);
}

static void client_message(struct iocp_session *session, const void *line, size_t size, void *none)
{
    (void)session, (void)none;
    printf("%.*s\n", (int)size, (const char *)line);
    fflush(stdout);
}

static void client_closed(struct iocp_session *session, enum iocp_close_reason reason, void *none)
{
    (void)session, (void)reason, (void)none;
    if (ended)
        iocp_service_stop(service);
}

static void client_failed(struct iocp_service *unused, int error, int again, void *none)
{
    (void)unused, (void)again, (void)none;
    fprintf(stderr, "client: cannot connect: %s\n", iocp_error_text(error));
}

/* Sends the input, a line at a time, from the first connection on. It may block: it says so. */
static void client_input(const struct iocp_packet *packet)
{
    struct iocp_session *session;
    char line[4096];
    (void)packet;
    iocp_blocking_begin();
    while (fgets(line, sizeof line, stdin) != NULL) {
        session = iocp_service_find(service, newest); /* NULL: lost meanwhile */
        if (session == NULL || iocp_session_send(session, line, strlen(line)) < 0)
            fprintf(stderr, "client: not sent: %s", line);
        iocp_session_unref(session);
    }
    iocp_blocking_end();
    ended = 1; /* from now on the end of a session ends the program */
    session = iocp_service_find(service, newest);
    if (session == NULL || iocp_session_finish(session) < 0)
        iocp_service_stop(service);
    iocp_session_unref(session);
}

int main(int argc, char **argv)
{
    struct iocp_session_class lines = {.opened = client_opened, .message = client_message};
    struct iocp_connect_config config = {.session_class = &lines, .failed = client_failed};
    struct iocp_service_config two;
    int error;
    snprintf(greeting, sizeof greeting, "%s%s", argc > 2 ? argv[2] : "", argc > 2 ? "\n" : "");
    iocp_service_config_init(&two);
    two.workers = 2; /* one of them waits for the input */
    iocp_op_init(&input, client_input);
    iocp_op_post(&input, 0, 0);
    lines.framing = iocp_framing_line(65536);
    lines.closed = client_closed;
    config.reconnect_min_ns = 100000000;  /* after a loss: 0.1 s, then twice as long, */
    config.reconnect_max_ns = 5000000000; /* up to 5 s */
    if ((error = iocp_address_parse(argc > 1 ? argv[1] : "127.0.0.1:7777", &config.address)) < 0 ||
        (error = iocp_service_create(&two, &service)) < 0 ||
        (error = iocp_service_connect(service, &config, NULL)) < 0 ||
        (error = iocp_service_run(service)) < 0)
        fprintf(stderr, "client: %s\n", iocp_error_text(error));
    iocp_service_unref(service);
    return error < 0;
}
