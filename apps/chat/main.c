/* iocp-chat: a chat server. People reach it with nc, a line at a time; programs with packets; they
 * share the rooms. This file starts it and ends it. */
#include "../common/say.h"
#include "../common/server.h"
#include "chat.h"
#include "options.h"
#include "status.h"

#include <inttypes.h>
#include <stdlib.h>

static void main_tick(void *context)
{
    status_print(context);
}

static void main_leaving(void *context)
{
    struct status *status = context;
    status_finish(status);
    chat_leave(status->chat);
}

/* "iocp-chat 0.1.0 on epoll (why not a better one), 2 workers, concurrency 2", and the addresses.
 */
static void main_announce(const struct server *server, const struct chat_options *options)
{
    const struct iocp_port *port = iocp_service_port(server->service);
    const char *reason = iocp_port_backend_reason(port);
    bool because = reason[0] != '\0';
    uint32_t workers = server_workers(server);

    say("iocp-chat %s on %s%s%s%s, %" PRIu32 " worker%s, concurrency %" PRIu32 "\n", iocp_version(),
        iocp_port_backend(port), because ? " (" : "", reason, because ? ")" : "", workers,
        workers == 1 ? "" : "s", iocp_port_concurrency(port));
    server_print(&options->lines, "lines  ");
    server_print(&options->packets, "packets");
}

int main(int argc, char **argv)
{
    struct chat_options options;
    struct chat chat;
    struct server server;
    struct status status;

    options_parse(&options, argc, argv);
    int error = chat_init(&chat, &options, &server);
    if (error < 0) {
        start_fail(&options.server, "cannot start: %s", iocp_error_text(error));
    }
    server_init(&server, &options.server);
    server_listen(&server, &options.lines, &chat.sides[PROTOCOL_LINES].session_class);
    server_listen(&server, &options.packets, &chat.sides[PROTOCOL_PACKETS].session_class);
    server_start(&server);
    if (!options.server.quiet) {
        main_announce(&server, &options);
    }
    status_init(&status, &chat, &server);
    const struct server_hooks hooks = {
        .tick = status_is_wanted(&status) ? main_tick : NULL,
        .leaving = main_leaving,
        .context = &status,
    };
    server_run(&server, &hooks);
    chat_free(&chat);
    server_free(&server);
    return EXIT_SUCCESS;
}
