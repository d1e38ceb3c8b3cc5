/* The system's socket addresses: the headers that declare sockaddr_in, sockaddr_in6, sockaddr_un,
 * inet_pton and inet_ntop. Their members have the same names on all systems. */
#ifndef IOCP_OS_SOCKADDR_H
#define IOCP_OS_SOCKADDR_H

#ifdef _WIN32
#include <winsock2.h>
#include <ws2tcpip.h>

#include <afunix.h>
#else
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#endif

#endif
