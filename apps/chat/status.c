/* Prints the status line on stderr. Belongs to the main thread. */
#include "status.h"

#include "../common/say.h"
#include "../common/system.h"

#include <inttypes.h>
#include <stdio.h>

void status_init(struct status *status, struct chat *chat, const struct server *server)
{
    *status = (struct status){.chat = chat, .server = server, .last_ns = iocp_now_ns()};
}

bool status_is_wanted(const struct status *status)
{
    return !status->server->options->quiet && system_terminal();
}

static uint64_t status_rate(uint64_t count, uint64_t *last, uint64_t passed_ns)
{
    uint64_t difference = count - *last;
    *last = count;
    return passed_ns == 0 ? 0 : difference * UINT64_C(1000000000) / passed_ns;
}

void status_print(struct status *status)
{
    struct iocp_service *service = status->server->service;
    struct iocp_service_stats stats;
    uint64_t now_ns = iocp_now_ns();
    uint64_t passed_ns = now_ns - status->last_ns;
    char line[256];

    iocp_service_stats(service, &stats);
    status->last_ns = now_ns;
    uint64_t in = status_rate(stats.messages_received, &status->last_in, passed_ns);
    uint64_t out = status_rate(stats.messages_sent, &status->last_out, passed_ns);
    int size = snprintf(line, sizeof line,
                        "sessions %" PRIu32 ", rooms %" PRIu32 ", in %" PRIu64 "/s, out %" PRIu64
                        "/s, %s, workers %" PRIu32 ", %zu KiB",
                        stats.sessions, directory_room_count(&status->chat->directory), in, out,
                        iocp_port_backend(iocp_service_port(service)),
                        server_workers(status->server), iocp_memory_size() / 1024);
    /* Blanks clear what is left of a longer line: not every console knows a sequence for it. */
    say("\r%-*s", status->shown, line);
    status->shown = size;
}

void status_finish(struct status *status)
{
    if (status->shown > 0) {
        say("\n");
    }
}
