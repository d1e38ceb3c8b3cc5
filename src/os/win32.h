/* Inside of the Windows half of os/: Windows' headers, and what win32.c, win32_thread.c and
 * win32_socket.c need of each other. */
#ifndef IOCP_OS_WIN32_H
#define IOCP_OS_WIN32_H

#include "os/os.h"
#include "os/sockaddr.h" /* winsock2.h has to come before windows.h */

#include <windows.h>

/* Starts Winsock on the first call that succeeds, for the rest of the process: sockets of ours may
 * be open at any time. 0, or an error and the system's code. */
int iocp__winsock_start(int32_t *out_os_error);

/* Rooms for a text of UTF-8 bytes as UTF-16, which has no more units than the former has bytes. */
#define IOCP__WIDE_MAX 512

/* The text in UTF-16, with its terminating 0. IOCP_EINVAL when it is no UTF-8 or too long. */
int iocp__wide(const char *text, WCHAR out_wide[IOCP__WIDE_MAX]);

#endif
