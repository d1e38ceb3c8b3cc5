/* The report of a server: one line of JSON with every counter of its service and its port. */
#ifndef APPS_COMMON_REPORT_H
#define APPS_COMMON_REPORT_H

struct server;

/* Prints the line on stdout and flushes it. The counters have the names that the structs
 * iocp_service_stats and iocp_port_stats give them. */
void report_print(const struct server *server);

#endif
