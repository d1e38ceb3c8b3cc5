/* Errors: one set of negative values, the same on every system.
 *
 * A function that can fail returns 0 or more on success and one of these below 0. A completion
 * carries one in its result, with the system's own code beside it in os_error.
 * Threads: everything here may be called from anywhere. */
#ifndef IOCP_ERROR_H
#define IOCP_ERROR_H

#include <iocp/abi.h>

IOCP_BEGIN

/* X(NAME, value, text): the value is part of the ABI and never changes its meaning. */
#define IOCP_ERRORS(X)                                                                             \
    X(CANCELED, -1, "operation canceled")                                                          \
    X(TIMEDOUT, -2, "timed out")                                                                   \
    X(CLOSED, -3, "closed")                                                                        \
    X(WOKEN, -4, "woken without a packet")                                                         \
    X(EOF, -5, "end of stream")                                                                    \
    X(INVAL, -6, "invalid argument")                                                               \
    X(NOMEM, -7, "out of memory")                                                                  \
    X(BUSY, -8, "already in use")                                                                  \
    X(NOTFOUND, -9, "not found")                                                                   \
    X(AGAIN, -10, "cannot be done now, try again")                                                 \
    X(FULL, -11, "limit reached")                                                                  \
    X(PROTOCOL, -12, "protocol violated by the peer")                                              \
    X(NOTSUP, -13, "not supported here")                                                           \
    X(PERM, -14, "not permitted")                                                                  \
    X(MFILE, -15, "too many open descriptors")                                                     \
    X(NOBUFS, -16, "no buffer space")                                                              \
    X(CONNRESET, -17, "connection reset by the peer")                                              \
    X(CONNABORTED, -18, "connection aborted")                                                      \
    X(CONNREFUSED, -19, "connection refused")                                                      \
    X(NOTCONN, -20, "not connected")                                                               \
    X(ISCONN, -21, "already connected")                                                            \
    X(PIPE, -22, "sending side is closed")                                                         \
    X(NETUNREACH, -23, "network unreachable")                                                      \
    X(HOSTUNREACH, -24, "host unreachable")                                                        \
    X(ADDRINUSE, -25, "address already in use")                                                    \
    X(ADDRNOTAVAIL, -26, "address not available")                                                  \
    X(MSGSIZE, -27, "message does not fit")                                                        \
    X(BADHANDLE, -28, "not an open handle of the right kind")                                      \
    X(FAULT, -29, "memory not accessible")                                                         \
    X(EXIST, -30, "exists already")                                                                \
    X(NOENT, -31, "no such file or path")                                                          \
    X(IO, -32, "input/output error")                                                               \
    X(UNKNOWN, -33, "other error of the system")

enum iocp_error {
    IOCP_OK = 0,
#define IOCP_ERROR_VALUE(name, value, text) IOCP_E##name = value,
    IOCP_ERRORS(IOCP_ERROR_VALUE)
#undef IOCP_ERROR_VALUE
};

/* The name of an error, "IOCP_ECONNRESET"; "IOCP_OK" for 0 and more, "IOCP_?" for a value that is
 * none of ours. The string is static. */
IOCP_API const char *iocp_error_name(int64_t error);

/* The same in words, "connection reset by the peer". The string is static. */
IOCP_API const char *iocp_error_text(int64_t error);

/* The error that stands for a code of the system: errno on Linux, GetLastError or WSAGetLastError
 * on Windows. 0 gives IOCP_OK; a code that the map lacks gives IOCP_EUNKNOWN. */
IOCP_API int iocp_error_from_os(int os_error);

IOCP_END

#endif
