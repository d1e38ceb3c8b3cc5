/* The port by itself, without the server layer: reads a file in pieces through a completion port,
 * the pieces in flight together, and prints how many lines it has. Usage: port FILE */
#include <iocp.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Files are opened by the system; on Windows for overlapped operations. */
#ifdef _WIN32
#include <windows.h>
#define OPEN_TO_READ(path)                                                                         \
    ((iocp_handle)CreateFileA(path, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING,            \
                              FILE_FLAG_OVERLAPPED, NULL))
#else
#include <fcntl.h>
#define OPEN_TO_READ(path) open(path, O_RDONLY)
#endif

#define PIECES 4
#define PIECE_SIZE 65536

struct file {
    struct iocp_object object; /* first: the object is the file */
    struct iocp_op ops[PIECES];
    char data[PIECES][PIECE_SIZE];
};

static void file_destroy(struct iocp_object *object)
{
    free(object); /* the last reference is gone, and with it every operation */
}

static const struct iocp_object_class file_class = {.name = "file", .destroy = file_destroy};

static size_t count_lines(const char *data, size_t size)
{
    size_t count = 0;
    for (const char *end = data + size; (data = memchr(data, '\n', (size_t)(end - data))); data++)
        count++;
    return count;
}

int main(int argc, char **argv)
{
    struct iocp_port *port = NULL;
    struct file *file = calloc(1, sizeof *file);
    iocp_handle handle = argc > 1 ? OPEN_TO_READ(argv[1]) : IOCP_HANDLE_INVALID;
    uint64_t offset = 0;
    size_t lines = 0;
    int pending = 0;

    if (!file || handle == IOCP_HANDLE_INVALID || iocp_port_create(NULL, &port) < 0)
        return 1;
    iocp_object_init(&file->object, &file_class);
    iocp_port_register(port, &file->object, handle, 0); /* takes the handle */
    for (int i = 0; i < PIECES; i++, pending++, offset += PIECE_SIZE) {
        iocp_op_init(&file->ops[i], NULL);
        iocp_op_read(&file->ops[i], file->data[i], PIECE_SIZE, offset);
        iocp_port_submit(port, &file->object, &file->ops[i]);
    }
    while (pending > 0) {
        struct iocp_packet packet;
        if (iocp_port_wait(port, &packet, 1, IOCP_WAIT_FOREVER) != 1)
            break;
        int i = (int)(packet.op - file->ops);
        pending--;
        if (packet.result > 0) { /* the end of the file is IOCP_EEOF */
            lines += count_lines(file->data[i], (size_t)packet.result);
            iocp_op_read(&file->ops[i], file->data[i], PIECE_SIZE, offset);
            offset += PIECE_SIZE;
            pending += iocp_port_submit(port, &file->object, &file->ops[i]) == 0;
        }
        iocp_packet_release(&packet);
    }
    printf("%zu lines, read on %s\n", lines, iocp_port_backend(port));
    iocp_object_close(&file->object);
    iocp_object_unref(&file->object);
    iocp_port_unref(port); /* waits until the file is closed */
    return 0;
}
