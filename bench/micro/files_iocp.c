/* Workload j: reads through a port, one thread, both backends: each handler checks what came and
 * starts the next read. */
#include "files.h"

#include <iocp/error.h>
#include <iocp/port.h>

#include <stdlib.h>
#include <unistd.h>

struct reader {
    struct iocp_object object;
    struct iocp_port *port;
    struct files_run *run;
    struct iocp_op ops[FILES_DEPTH];
    uint32_t pending;
    int destroyed;
};

static void reader_start(struct reader *reader, uint32_t slot)
{
    int64_t offset = files_next(reader->run, slot);
    if (offset < 0)
        return;
    iocp_op_read(&reader->ops[slot], files_memory(reader->run, slot), FILES_BLOCK,
                 (uint64_t)offset);
    if (iocp_port_submit(reader->port, &reader->object, &reader->ops[slot]) < 0)
        abort();
    reader->pending++;
}

static void reader_complete(struct iocp_object *object, const struct iocp_packet *packet)
{
    struct reader *reader = (struct reader *)object;
    uint32_t slot = (uint32_t)(packet->op - reader->ops);
    reader->pending--;
    files_done(reader->run, slot, packet->result);
    reader_start(reader, slot);
}

static void reader_destroy(struct iocp_object *object)
{
    ((struct reader *)object)->destroyed = 1;
}

static const struct iocp_object_class reader_class = {"reader", reader_complete, reader_destroy, 0};

static int port_run(struct files_run *run, enum iocp_backend backend)
{
    struct iocp_port_config config;
    struct reader *reader = micro_allocate(sizeof(*reader));
    iocp_port_config_init(&config);
    config.backend = backend;
    if (iocp_port_create(&config, &reader->port) < 0) {
        free(reader);
        return -1;
    }
    reader->run = run;
    iocp_object_init(&reader->object, &reader_class);
    micro_check(iocp_port_register(reader->port, &reader->object, dup(run->file), 0) == 0,
                run->impl, "a file is registered");
    for (uint32_t slot = 0; slot < FILES_DEPTH; slot++) {
        iocp_op_init(&reader->ops[slot], NULL);
        reader_start(reader, slot);
    }
    while (reader->pending)
        iocp_port_dispatch(reader->port, IOCP_WAIT_FOREVER);
    iocp_object_close(&reader->object);
    iocp_object_unref(&reader->object);
    iocp_port_unref(reader->port);
    micro_check(reader->destroyed, run->impl, "the file is closed at the end");
    free(reader);
    return 0;
}

static int uring_run(struct files_run *run)
{
    return port_run(run, IOCP_BACKEND_URING);
}

static int epoll_run(struct files_run *run)
{
    return port_run(run, IOCP_BACKEND_EPOLL);
}

static const struct files_peer files_uring = {"iocp uring", uring_run};
static const struct files_peer files_epoll = {"iocp epoll", epoll_run};

const struct files_peer *const files_peers[] = {&files_uring, &files_epoll, NULL};
