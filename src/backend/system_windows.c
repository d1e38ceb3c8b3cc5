/* The backends of Windows: its port, on all versions that the library runs on. */
#include "backend/backend.h"

const struct iocp__backend *const iocp__backends[] = {
    &iocp__backend_windows,
    NULL,
};
