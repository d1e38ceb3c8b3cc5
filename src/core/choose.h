/* Which backend a port stands on. */
#ifndef IOCP_CORE_CHOOSE_H
#define IOCP_CORE_CHOOSE_H

#include "backend/backend.h"

/* The backend for `wanted` (enum iocp_backend): that one, or for AUTO the one that the
 * environment's IOCP_BACKEND names, or the best that works; `reason` says why not a better one, ""
 * if it is the best. IOCP_EINVAL: unknown. IOCP_ENOTSUP: it does not work here, or is not of this
 * system. */
int iocp__choose_backend(uint32_t wanted, const struct iocp__backend **out_backend, char *reason,
                         size_t size);

#endif
