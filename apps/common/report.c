/* Writes the counters of a server as a line of JSON. The names of the members are those of the
 * structs, taken from the lists below, so that the two cannot differ. */
#include "report.h"

#include "server.h"
#include "system.h"

#include <inttypes.h>
#include <stdio.h>

#define REPORT_SERVICE(X)                                                                          \
    X(accepted)                                                                                    \
    X(refused)                                                                                     \
    X(connected)                                                                                   \
    X(connect_failures)                                                                            \
    X(closed)                                                                                      \
    X(bytes_received)                                                                              \
    X(bytes_sent)                                                                                  \
    X(messages_received)                                                                           \
    X(messages_sent)                                                                               \
    X(sends_refused)                                                                               \
    X(messages_dropped)                                                                            \
    X(accept_failures)                                                                             \
    X(sessions)                                                                                    \
    X(sessions_peak)

#define REPORT_PORT(X)                                                                             \
    X(packets)                                                                                     \
    X(submits)                                                                                     \
    X(landed)                                                                                      \
    X(posts)                                                                                       \
    X(cancels)                                                                                     \
    X(waits)                                                                                       \
    X(wakes)                                                                                       \
    X(bells)                                                                                       \
    X(parks)                                                                                       \
    X(declared)                                                                                    \
    X(detected)                                                                                    \
    X(seized)                                                                                      \
    X(resubmits)                                                                                   \
    X(starved)                                                                                     \
    X(buffers)                                                                                     \
    X(objects)                                                                                     \
    X(lanes)                                                                                       \
    X(workers)                                                                                     \
    X(running)                                                                                     \
    X(running_max)

#define REPORT_NUMBER(name)                                                                        \
    printf("%s\"%s\":%" PRIu64, separator, #name, (uint64_t)stats.name);                           \
    separator = ",";

/* A JSON string; the reasons of a system hold nothing worse than quotes and backslashes. */
static void report_string(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte < 0x20) {
            printf("\\u%04x", byte);
            continue;
        }
        if (byte == '"' || byte == '\\') {
            putchar('\\');
        }
        putchar(byte);
    }
    putchar('"');
}

static void report_service(const struct server *server)
{
    struct iocp_service_stats stats;
    const char *separator = "";
    iocp_service_stats(server->service, &stats);
    REPORT_SERVICE(REPORT_NUMBER)
}

static void report_port(const struct server *server)
{
    struct iocp_port_stats stats;
    const char *separator = "";
    iocp_port_stats(iocp_service_port(server->service), &stats);
    REPORT_PORT(REPORT_NUMBER)
}

/* Sessions that ended, by the texts of the reasons. */
static void report_closed(const struct server *server)
{
    const char *separator = "";
    for (size_t reason = 1; reason < SERVER_REASONS; reason++) {
        printf("%s\"%s\":%" PRIu64, separator,
               iocp_close_reason_text((enum iocp_close_reason)reason),
               (uint64_t)atomic_load_explicit(&server->closed[reason], memory_order_relaxed));
        separator = ",";
    }
}

void report_begin(const struct server *server)
{
    struct iocp_port *port = iocp_service_port(server->service);
    uint64_t uptime_ns = iocp_now_ns() - server->started_ns;
    struct system_usage usage;

    system_usage(&usage);
    printf("{\"program\":");
    report_string(server->options->program);
    printf(",\"version\":\"%s\",\"backend\":\"%s\",\"reason\":", iocp_version(),
           iocp_port_backend(port));
    report_string(iocp_port_backend_reason(port));
    printf(",\"workers\":%" PRIu32 ",\"concurrency\":%" PRIu32 ",\"uptime_ns\":%" PRIu64,
           server_workers(server), iocp_port_concurrency(port), uptime_ns);
    printf(",\"memory_size\":%zu,\"memory_count\":%zu,\"resident\":%" PRIu64 ",\"handles\":%" PRIu64
           ",\"service\":{",
           iocp_memory_size(), iocp_memory_count(), usage.resident, usage.handles);
    report_service(server);
    printf("},\"closed\":{");
    report_closed(server);
    printf("},\"port\":{");
    report_port(server);
    printf("}");
}

void report_now(const struct server *server)
{
    report_begin(server);
    printf("}\n");
    fflush(stdout);
}

void report_end(void)
{
    printf(",\"memory_left\":%zu}\n", iocp_memory_count());
    fflush(stdout);
}
