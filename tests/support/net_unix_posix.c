/* Unix sockets where the system always has them: Linux, and what is simulated on it. See net.h. */
#include "support/net.h"

#include <sys/un.h>

int net_have_unix(void)
{
    return 1;
}

int net_have_unix_abstract(void)
{
    return 1;
}

const char *net_unix_file(const struct iocp_address *address)
{
    const struct sockaddr_un *name = (const void *)address->storage.bytes;
    return iocp_address_family(address) == IOCP_FAMILY_UNIX && name->sun_path[0] ? name->sun_path
                                                                                 : NULL;
}
