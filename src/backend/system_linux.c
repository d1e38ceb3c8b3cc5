/* The backends of Linux, best first. */
#include "backend/backend.h"

const struct iocp__backend *const iocp__backends[] = {
    &iocp__backend_uring,
    &iocp__backend_epoll,
    NULL,
};
