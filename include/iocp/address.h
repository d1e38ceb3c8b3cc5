/* Addresses: IPv4, IPv6 and Unix sockets, and their text.
 *
 * An address is a value: copy it as you like. Threads: any. Nothing here asks a name server. */
#ifndef IOCP_ADDRESS_H
#define IOCP_ADDRESS_H

#include <iocp/abi.h>

IOCP_BEGIN

enum iocp_family {
    IOCP_FAMILY_NONE = 0,
    IOCP_FAMILY_IPV4 = 4,
    IOCP_FAMILY_IPV6 = 6,
    IOCP_FAMILY_UNIX = 1
};

/* A socket address as the system has it. Zeroed memory is "no address". The bytes are a sockaddr of
 * `size` bytes; programs that need them include the system's header and cast. */
struct iocp_address {
    uint32_t size;
    uint32_t reserved;
    union {
        uint64_t alignment;
        unsigned char bytes[112]; /* sockaddr_un, the largest, has 110 */
    } storage;
};

/* Room for the longest text: "unix:" and a path of 108, or "[IPv6%scope]:port". */
#define IOCP_ADDRESS_TEXT_SIZE 128

/* Reads "127.0.0.1:80", "[::1]:80", "[fe80::1%2]:80" (the scope is a number), "*:80" (any address,
 * both families), ":80" (the same), "localhost:80" (127.0.0.1), "unix:/path" (on Windows
 * "unix:C:/path" as well) and "unix:@abstract". Port 0 lets the system choose. Errors: IOCP_EINVAL
 * for anything else; *out_address stays. */
IOCP_API int iocp_address_parse(const char *text, struct iocp_address *out_address);

/* Writes the text in the form that `parse` reads, with a terminating 0, and returns its length
 * without it. Errors: IOCP_EINVAL (no address), IOCP_EMSGSIZE (`size` is too small; nothing is
 * written). */
IOCP_API int iocp_address_format(const struct iocp_address *address, char *text, size_t size);

IOCP_API enum iocp_family iocp_address_family(const struct iocp_address *address);

/* The port, 0 when the family has none. */
IOCP_API uint16_t iocp_address_port(const struct iocp_address *address);
IOCP_API int iocp_address_set_port(struct iocp_address *address, uint16_t port);

/* Not 0 when both name the same place; an IPv4 address mapped into IPv6 equals itself unmapped. */
IOCP_API int iocp_address_equal(const struct iocp_address *a, const struct iocp_address *b);

/* A hash of the host alone, without the port: for limits per address. */
IOCP_API uint64_t iocp_address_host_hash(const struct iocp_address *address);

IOCP_END

#endif
