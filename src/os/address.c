/* Addresses and their text. Values only: no socket is opened and no name server is asked.
 *
 * An address is read and written by copying the system's struct out of and into its bytes, so that
 * no two types share memory. A Unix address without a name (size of the family alone, as the system
 * gives for a peer that never bound) is no address. */
#include <iocp/address.h>
#include <iocp/error.h>

#include "os/sockaddr.h"

#include <stdio.h>
#include <string.h>

#define UNIX_PREFIX "unix:"
#define UNIX_PREFIX_SIZE (sizeof UNIX_PREFIX - 1)
#define UNIX_PATH_AT offsetof(struct sockaddr_un, sun_path)
#define UNIX_PATH_ROOM sizeof(((struct sockaddr_un *)0)->sun_path)
/* The longest host in a text is an IPv6 address with its scope and brackets: 58. */
#define HOST_SIZE 64

_Static_assert(sizeof(struct sockaddr_un) <= sizeof(((struct iocp_address *)0)->storage),
               "an address holds the largest sockaddr");

static void address_store(struct iocp_address *address, const void *name, size_t size)
{
    memset(address, 0, sizeof *address);
    memcpy(address->storage.bytes, name, size);
    address->size = (uint32_t)size;
}

static struct sockaddr_in address_ipv4(const struct iocp_address *address)
{
    struct sockaddr_in name;
    memcpy(&name, address->storage.bytes, sizeof name);
    return name;
}

static struct sockaddr_in6 address_ipv6(const struct iocp_address *address)
{
    struct sockaddr_in6 name;
    memcpy(&name, address->storage.bytes, sizeof name);
    return name;
}

/* ---- Reading text ---- */

/* A decimal number up to `max` without a sign, a blank or a zero in front. */
static int address_parse_number(const char *text, size_t size, uint64_t max, uint64_t *out_number)
{
    uint64_t number = 0;
    size_t i;
    if (size == 0 || size > 10 || (size > 1 && text[0] == '0'))
        return IOCP_EINVAL;
    for (i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return IOCP_EINVAL;
        number = number * 10 + (uint64_t)(text[i] - '0');
    }
    if (number > max)
        return IOCP_EINVAL;
    *out_number = number;
    return 0;
}

/* A relative path would name another place in another working directory. On Windows a path begins
 * with a drive, or is on the one of the moment. */
static int address_path_is_absolute(const char *path, size_t size)
{
#ifdef _WIN32
    char drive = (char)(path[0] | 0x20);
    if (size > 3 && drive >= 'a' && drive <= 'z' && path[1] == ':' &&
        (path[2] == '/' || path[2] == '\\'))
        return 1;
#endif
    return size > 1 && path[0] == '/';
}

static int address_parse_unix(const char *path, struct iocp_address *out_address)
{
    struct sockaddr_un name;
    size_t size = strlen(path);
    int is_abstract = path[0] == '@' && size > 1;
    /* Room is kept for the terminating 0 of a path; an abstract name has one in front instead. */
    if ((!is_abstract && !address_path_is_absolute(path, size)) || size >= UNIX_PATH_ROOM)
        return IOCP_EINVAL;
    memset(&name, 0, sizeof name);
    name.sun_family = AF_UNIX;
    memcpy(name.sun_path, path, size);
    if (is_abstract) {
        name.sun_path[0] = 0;
        address_store(out_address, &name, UNIX_PATH_AT + size);
    } else {
        address_store(out_address, &name, UNIX_PATH_AT + size + 1);
    }
    return 0;
}

static int address_parse_ipv4(const char *host, uint16_t port, struct iocp_address *out_address)
{
    struct sockaddr_in name;
    memset(&name, 0, sizeof name);
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    if (inet_pton(AF_INET, host, &name.sin_addr) != 1)
        return IOCP_EINVAL;
    address_store(out_address, &name, sizeof name);
    return 0;
}

/* `host` is what stood between the brackets; its scope is cut off in place. */
static int address_parse_ipv6(char *host, uint16_t port, struct iocp_address *out_address)
{
    struct sockaddr_in6 name;
    uint64_t scope = 0;
    char *percent = strchr(host, '%');
    if (percent) {
        *percent = 0;
        if (address_parse_number(percent + 1, strlen(percent + 1), UINT32_MAX, &scope) != 0 ||
            scope == 0)
            return IOCP_EINVAL;
    }
    memset(&name, 0, sizeof name);
    name.sin6_family = AF_INET6;
    name.sin6_port = htons(port);
    name.sin6_scope_id = (uint32_t)scope;
    if (inet_pton(AF_INET6, host, &name.sin6_addr) != 1)
        return IOCP_EINVAL;
    address_store(out_address, &name, sizeof name);
    return 0;
}

static int address_parse_host(char *host, size_t size, uint16_t port,
                              struct iocp_address *out_address)
{
    if (size == 0 || strcmp(host, "*") == 0) {
        char any[] = "::";
        return address_parse_ipv6(any, port, out_address);
    }
    if (strcmp(host, "localhost") == 0)
        return address_parse_ipv4("127.0.0.1", port, out_address);
    if (host[0] != '[')
        return address_parse_ipv4(host, port, out_address);
    if (host[size - 1] != ']')
        return IOCP_EINVAL;
    host[size - 1] = 0;
    return address_parse_ipv6(host + 1, port, out_address);
}

int iocp_address_parse(const char *text, struct iocp_address *out_address)
{
    char host[HOST_SIZE];
    const char *colon;
    uint64_t port;
    size_t size;
    if (!text || !out_address)
        return IOCP_EINVAL;
    if (strncmp(text, UNIX_PREFIX, UNIX_PREFIX_SIZE) == 0)
        return address_parse_unix(text + UNIX_PREFIX_SIZE, out_address);
    colon = strrchr(text, ':');
    if (!colon || address_parse_number(colon + 1, strlen(colon + 1), UINT16_MAX, &port) != 0)
        return IOCP_EINVAL;
    size = (size_t)(colon - text);
    if (size >= sizeof host)
        return IOCP_EINVAL;
    memcpy(host, text, size);
    host[size] = 0;
    return address_parse_host(host, size, (uint16_t)port, out_address);
}

/* ---- Writing text ---- */

/* Each of these writes into IOCP_ADDRESS_TEXT_SIZE bytes and returns the length. */

static int address_format_ipv4(const struct iocp_address *address, char *text)
{
    struct sockaddr_in name = address_ipv4(address);
    char host[INET_ADDRSTRLEN];
    if (!inet_ntop(AF_INET, &name.sin_addr, host, sizeof host))
        return IOCP_EINVAL;
    return snprintf(text, IOCP_ADDRESS_TEXT_SIZE, "%s:%u", host, (unsigned)ntohs(name.sin_port));
}

static int address_format_ipv6(const struct iocp_address *address, char *text)
{
    struct sockaddr_in6 name = address_ipv6(address);
    char host[INET6_ADDRSTRLEN];
    char scope[12] = "";
    if (!inet_ntop(AF_INET6, &name.sin6_addr, host, sizeof host))
        return IOCP_EINVAL;
    if (name.sin6_scope_id)
        snprintf(scope, sizeof scope, "%%%u", (unsigned)name.sin6_scope_id);
    return snprintf(text, IOCP_ADDRESS_TEXT_SIZE, "[%s%s]:%u", host, scope,
                    (unsigned)ntohs(name.sin6_port));
}

/* The name of a Unix address: a path without its terminating 0, or an abstract name with the 0 that
 * it begins with. `*out_name` points into the address. */
static size_t address_unix_name(const struct iocp_address *address, const char **out_name)
{
    const char *name = (const char *)address->storage.bytes + UNIX_PATH_AT;
    size_t size = address->size - UNIX_PATH_AT;
    *out_name = name;
    return name[0] == 0 ? size : strnlen(name, size);
}

static int address_format_unix(const struct iocp_address *address, char *text)
{
    const char *name;
    size_t size = address_unix_name(address, &name);
    /* What `parse` would not read back has no text: a relative path, the root, and an abstract name
     * that is empty or has a 0 in it. Only the system or another program can have made one. (A name
     * that fills all of sun_path has one all the same: the system does give it out.) */
    if (size < 2)
        return IOCP_EINVAL;
    if (name[0] == 0 ? memchr(name + 1, 0, size - 1) != NULL
                     : !address_path_is_absolute(name, size))
        return IOCP_EINVAL;
    memcpy(text, UNIX_PREFIX, UNIX_PREFIX_SIZE);
    memcpy(text + UNIX_PREFIX_SIZE, name, size);
    if (name[0] == 0)
        text[UNIX_PREFIX_SIZE] = '@';
    text[UNIX_PREFIX_SIZE + size] = 0;
    return (int)(UNIX_PREFIX_SIZE + size);
}

int iocp_address_format(const struct iocp_address *address, char *text, size_t size)
{
    char whole[IOCP_ADDRESS_TEXT_SIZE];
    int length;
    if (!text)
        return IOCP_EINVAL;
    switch (iocp_address_family(address)) {
    case IOCP_FAMILY_IPV4:
        length = address_format_ipv4(address, whole);
        break;
    case IOCP_FAMILY_IPV6:
        length = address_format_ipv6(address, whole);
        break;
    case IOCP_FAMILY_UNIX:
        length = address_format_unix(address, whole);
        break;
    case IOCP_FAMILY_NONE:
    default:
        return IOCP_EINVAL;
    }
    if (length < 0)
        return length;
    if ((size_t)length >= size)
        return IOCP_EMSGSIZE;
    memcpy(text, whole, (size_t)length + 1);
    return length;
}

/* ---- Parts ---- */

enum iocp_family iocp_address_family(const struct iocp_address *address)
{
    struct sockaddr name;
    if (!address || address->size <= UNIX_PATH_AT || address->size > sizeof address->storage)
        return IOCP_FAMILY_NONE;
    memcpy(&name, address->storage.bytes, sizeof name);
    if (name.sa_family == AF_INET && address->size >= sizeof(struct sockaddr_in))
        return IOCP_FAMILY_IPV4;
    if (name.sa_family == AF_INET6 && address->size >= sizeof(struct sockaddr_in6))
        return IOCP_FAMILY_IPV6;
    if (name.sa_family == AF_UNIX)
        return IOCP_FAMILY_UNIX;
    return IOCP_FAMILY_NONE;
}

uint16_t iocp_address_port(const struct iocp_address *address)
{
    switch (iocp_address_family(address)) {
    case IOCP_FAMILY_IPV4:
        return ntohs(address_ipv4(address).sin_port);
    case IOCP_FAMILY_IPV6:
        return ntohs(address_ipv6(address).sin6_port);
    case IOCP_FAMILY_UNIX:
    case IOCP_FAMILY_NONE:
    default:
        return 0;
    }
}

int iocp_address_set_port(struct iocp_address *address, uint16_t port)
{
    enum iocp_family family = iocp_address_family(address);
    if (family == IOCP_FAMILY_IPV4) {
        struct sockaddr_in name = address_ipv4(address);
        name.sin_port = htons(port);
        memcpy(address->storage.bytes, &name, sizeof name);
        return 0;
    }
    if (family == IOCP_FAMILY_IPV6) {
        struct sockaddr_in6 name = address_ipv6(address);
        name.sin6_port = htons(port);
        memcpy(address->storage.bytes, &name, sizeof name);
        return 0;
    }
    return IOCP_EINVAL;
}

/* ---- Comparing ---- */

/* The host of an IPv4 or IPv6 address in one form: an IPv4 host is mapped into IPv6. */
struct address_host {
    unsigned char bytes[16];
    uint32_t scope;
};

/* Returns 0 when the family has no host. */
static int address_host(const struct iocp_address *address, struct address_host *out_host)
{
    enum iocp_family family = iocp_address_family(address);
    memset(out_host, 0, sizeof *out_host);
    if (family == IOCP_FAMILY_IPV4) {
        struct sockaddr_in name = address_ipv4(address);
        out_host->bytes[10] = 0xff;
        out_host->bytes[11] = 0xff;
        memcpy(out_host->bytes + 12, &name.sin_addr, 4);
        return 1;
    }
    if (family == IOCP_FAMILY_IPV6) {
        struct sockaddr_in6 name = address_ipv6(address);
        memcpy(out_host->bytes, &name.sin6_addr, 16);
        out_host->scope = name.sin6_scope_id;
        return 1;
    }
    return 0;
}

static int address_unix_equal(const struct iocp_address *a, const struct iocp_address *b)
{
    const char *name_a;
    const char *name_b;
    size_t size_a = address_unix_name(a, &name_a);
    size_t size_b = address_unix_name(b, &name_b);
    return size_a == size_b && memcmp(name_a, name_b, size_a) == 0;
}

/* "No address" names no place: it equals nothing, itself included. */
int iocp_address_equal(const struct iocp_address *a, const struct iocp_address *b)
{
    struct address_host host_a;
    struct address_host host_b;
    if (iocp_address_family(a) == IOCP_FAMILY_UNIX && iocp_address_family(b) == IOCP_FAMILY_UNIX)
        return address_unix_equal(a, b);
    if (!address_host(a, &host_a) || !address_host(b, &host_b))
        return 0;
    return memcmp(host_a.bytes, host_b.bytes, sizeof host_a.bytes) == 0 &&
           host_a.scope == host_b.scope && iocp_address_port(a) == iocp_address_port(b);
}

/* The finalizer of MurmurHash3: every bit of the input changes every bit of the result. */
static uint64_t address_mix(uint64_t value)
{
    value ^= value >> 33;
    value *= 0xff51afd7ed558ccdull;
    value ^= value >> 33;
    value *= 0xc4ceb9fe1a85ec53ull;
    value ^= value >> 33;
    return value;
}

/* Unix addresses are all on one host, so a peer cannot pass a limit by binding to many names. */
uint64_t iocp_address_host_hash(const struct iocp_address *address)
{
    struct address_host host;
    uint64_t halves[2];
    address_host(address, &host);
    memcpy(halves, host.bytes, sizeof halves);
    return address_mix(address_mix(address_mix(halves[0]) + halves[1]) + host.scope);
}
