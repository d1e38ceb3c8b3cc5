/* The choice among the backends of this system. */
#include "core/choose.h"

#include "backend/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    uint32_t kind;
} choose_names[] = {
    {"auto", IOCP_BACKEND_AUTO},
    {"uring", IOCP_BACKEND_URING},
    {"epoll", IOCP_BACKEND_EPOLL},
    {"windows", IOCP_BACKEND_WINDOWS},
};

static int choose_by_name(const char *name, uint32_t *out_kind)
{
    for (size_t i = 0; i < sizeof(choose_names) / sizeof(choose_names[0]); i++) {
        if (strcmp(name, choose_names[i].name) == 0) {
            *out_kind = choose_names[i].kind;
            return 0;
        }
    }
    return IOCP_EINVAL;
}

static const struct iocp__backend *choose_find(uint32_t kind)
{
    for (size_t i = 0; iocp__backends[i]; i++) {
        if (iocp__backends[i]->kind == kind)
            return iocp__backends[i];
    }
    return NULL;
}

static int choose_best(const struct iocp__backend **out_backend, char *reason, size_t size)
{
    char text[160];
    for (size_t i = 0; iocp__backends[i]; i++) {
        text[0] = 0;
        int error = iocp__backends[i]->probe(text, sizeof(text));
        if (error == 0)
            *out_backend = iocp__backends[i];
        /* A shortage of the moment is no reason to live with a lesser backend for ever. */
        if (error != IOCP_ENOTSUP)
            return error;
        if (i == 0)
            snprintf(reason, size, "%s", text);
    }
    return IOCP_ENOTSUP;
}

int iocp__choose_backend(uint32_t wanted, const struct iocp__backend **out_backend, char *reason,
                         size_t size)
{
    const char *name = getenv("IOCP_BACKEND");
    reason[0] = 0;
    if (wanted > IOCP_BACKEND_WINDOWS)
        return IOCP_EINVAL;
    if (wanted == IOCP_BACKEND_AUTO && name && choose_by_name(name, &wanted) < 0)
        return IOCP_EINVAL;
    if (wanted == IOCP_BACKEND_AUTO)
        return choose_best(out_backend, reason, size);
    const struct iocp__backend *backend = choose_find(wanted);
    if (!backend) {
        snprintf(reason, size, "not a backend of this system");
        return IOCP_ENOTSUP;
    }
    int error = backend->probe(reason, size);
    if (error < 0)
        return error;
    if (backend != iocp__backends[0])
        snprintf(reason, size, "asked for");
    *out_backend = backend;
    return 0;
}

int iocp_backend_probe(enum iocp_backend backend, char *text, size_t size)
{
    const struct iocp__backend *found;
    char reason[160];
    int error = iocp__choose_backend((uint32_t)backend, &found, reason, sizeof(reason));
    if (error < 0 && text && size)
        snprintf(text, size, "%s", reason);
    return error;
}
