/* The version of the library as built, for programs that run with another one than they saw. */
#include <iocp/version.h>

const char *iocp_version(void)
{
    return IOCP_VERSION;
}
