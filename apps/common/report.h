/* The report of a server: a line of JSON with every counter of its service and its port. */
#ifndef APPS_COMMON_REPORT_H
#define APPS_COMMON_REPORT_H

struct server;

/* Prints a line of a server that runs: as below, without memory_left. */
void report_now(const struct server *server);

/* Prints the line on stdout but for its end. The counters have the names that the structs
 * iocp_service_stats and iocp_port_stats give them; beside them stand the closed sessions by
 * reason, and what the process holds of the system. */
void report_begin(const struct server *server);

/* Ends and flushes it. Its last member, memory_left, counts what the library still has allocated:
 * when all was given back, 0. */
void report_end(void);

#endif
