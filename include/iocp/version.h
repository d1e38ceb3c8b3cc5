/* The version of the library: of these headers, and of the library that was linked. */
#ifndef IOCP_VERSION_H
#define IOCP_VERSION_H

#include <iocp/abi.h>

IOCP_BEGIN

#define IOCP_VERSION_MAJOR 0
#define IOCP_VERSION_MINOR 1
#define IOCP_VERSION_PATCH 0
#define IOCP_VERSION "0.1.0"

/* "0.1.0", of the linked library. Static. */
IOCP_API const char *iocp_version(void);

IOCP_END

#endif
