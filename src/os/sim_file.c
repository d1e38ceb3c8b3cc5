/* Files of the simulated system: bytes in memory. See sim.h. */
#include "os/sim_net.h"

#define FILE_SIZE_MAX (UINT64_C(1) << 30)

struct iocp__sim_file {
    unsigned char *bytes;
    uint64_t size;
    uint64_t room;
    uint32_t handles;
};

static iocp_handle file_open(struct iocp__sim_file *file, int read_only)
{
    struct iocp__sim_socket *socket = iocp__sim_socket_new(IOCP_FAMILY_NONE);
    socket->state = IOCP__SIM_FILE;
    socket->file = file;
    socket->read_only = read_only;
    if (file)
        file->handles++;
    return socket->handle;
}

iocp_handle iocp__sim_file(void)
{
    return file_open(iocp__sim_allocate(sizeof(struct iocp__sim_file)), 0);
}

iocp_handle iocp__sim_file_again(iocp_handle handle, int read_only)
{
    return file_open(iocp__sim_socket_get(handle)->file, read_only);
}

iocp_handle iocp__sim_no_file(void)
{
    return file_open(NULL, 0);
}

void iocp__sim_file_close(struct iocp__sim_socket *socket)
{
    if (!socket->file || --socket->file->handles)
        return;
    iocp__sim_release(socket->file->bytes);
    iocp__sim_release(socket->file);
}

static void file_copy(unsigned char *to, const unsigned char *from, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++)
        to[i] = from[i];
}

int64_t iocp__sim_file_read(iocp_handle handle, void *data, size_t size, uint64_t offset)
{
    const struct iocp__sim_file *file = iocp__sim_socket_get(handle)->file;
    if (!file)
        return IOCP_EBADHANDLE;
    if (offset >= file->size)
        return size ? IOCP_EEOF : 0;
    uint64_t count = size < file->size - offset ? size : file->size - offset;
    file_copy(data, file->bytes + offset, count);
    return (int64_t)count;
}

int64_t iocp__sim_file_write(iocp_handle handle, const void *data, size_t size, uint64_t offset)
{
    const struct iocp__sim_socket *socket = iocp__sim_socket_get(handle);
    struct iocp__sim_file *file = socket->file;
    if (!file || socket->read_only)
        return IOCP_EBADHANDLE;
    if (offset > FILE_SIZE_MAX || size > FILE_SIZE_MAX - offset)
        return IOCP_ENOBUFS;
    uint64_t end = offset + size;
    if (end > file->room) {
        unsigned char *before = file->bytes;
        file->room = end > file->room * 2 ? end : file->room * 2;
        file->bytes = iocp__sim_allocate(file->room);
        file_copy(file->bytes, before, file->size);
        iocp__sim_release(before);
    }
    file_copy(file->bytes + offset, data, size);
    if (end > file->size)
        file->size = end;
    return (int64_t)size;
}
