/* Files: reads and writes at offsets, in any order, many at a time. */
#include "support/port.h"

#include <iocp/error.h>

#include <stdlib.h>
#include <string.h>

#define BLOCK 4096u
#define BLOCKS 64u

struct box {
    struct iocp_port *port;
    struct thing thing;
    iocp_handle copy; /* the same file, for the test */
};

static void box_open(struct box *box)
{
    iocp_handle file = system_file(&box->copy);
    box->port = port_open(0);
    thing_open(&box->thing, box->port, file, 6);
}

static void box_end(struct box *box)
{
    thing_end(&box->thing, box->port);
    system_close(box->copy);
    port_end(box->port);
}

static void fill(unsigned char *data, uint32_t block)
{
    for (uint32_t i = 0; i < BLOCK; i++)
        data[i] = (unsigned char)(block * 31 + i * 7);
}

/* A write is whole, a read gives what is there: short at the end of the file, and IOCP_EEOF behind
 * it. */
TEST(write_and_read)
{
    struct box box;
    struct call call;
    char data[64] = {0};
    box_open(&box);
    call_init(&call);
    iocp_op_read(&call.op, data, sizeof(data), 0);
    CHECK_EQ(call_run(&call, box.port, &box.thing.object), IOCP_EEOF);
    CHECK_EQ(call.packet.os_error, 0);
    CHECK_EQ(call.packet.key, 6);

    iocp_op_write(&call.op, "hello, file", 11, 100);
    CHECK_EQ(call_run(&call, box.port, &box.thing.object), 11);
    CHECK_EQ(system_file_read(box.copy, data, sizeof(data), 100), 11);
    CHECK_MEM(data, "hello, file", 11);

    memset(data, 0, sizeof(data));
    iocp_op_read(&call.op, data, 5, 100);
    CHECK_EQ(call_run(&call, box.port, &box.thing.object), 5);
    CHECK_MEM(data, "hello", 5);
    iocp_op_read(&call.op, data, sizeof(data), 107);
    CHECK_EQ(call_run(&call, box.port, &box.thing.object), 4);
    CHECK_MEM(data, "file", 4);
    iocp_op_read(&call.op, data, sizeof(data), 111);
    CHECK_EQ(call_run(&call, box.port, &box.thing.object), IOCP_EEOF);
    iocp_op_read(&call.op, data, sizeof(data), UINT64_C(1) << 40);
    CHECK_EQ(call_run(&call, box.port, &box.thing.object), IOCP_EEOF);
    box_end(&box);
}

/* Many at once, in any order: each has its own place. */
TEST(many_in_parallel)
{
    static unsigned char data[BLOCKS][BLOCK];
    static unsigned char read_back[BLOCKS][BLOCK];
    static struct call calls[BLOCKS];
    struct box box;
    box_open(&box);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        uint32_t block = i * 37 % BLOCKS;
        fill(data[block], block);
        call_init(&calls[i]);
        iocp_op_write(&calls[i].op, data[block], BLOCK, (uint64_t)block * BLOCK);
        call_submit(&calls[i], box.port, &box.thing.object);
    }
    for (uint32_t i = 0; i < BLOCKS; i++)
        CHECK_EQ(call_wait(&calls[i], box.port), BLOCK);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        uint32_t block = i * 23 % BLOCKS;
        iocp_op_read(&calls[i].op, read_back[block], BLOCK, (uint64_t)block * BLOCK);
        call_submit(&calls[i], box.port, &box.thing.object);
    }
    for (uint32_t i = 0; i < BLOCKS; i++)
        CHECK_EQ(call_wait(&calls[i], box.port), BLOCK);
    CHECK(memcmp(data, read_back, sizeof(data)) == 0);
    box_end(&box);
}

/* One write of 8 MiB is one answer. */
TEST(a_large_write_is_whole)
{
    size_t size = 8u << 20;
    unsigned char *data = malloc(size);
    unsigned char *read_back = malloc(size);
    struct box box;
    struct call call;
    CHECK(data && read_back);
    for (size_t i = 0; i < size; i += BLOCK)
        fill(data + i, (uint32_t)(i / BLOCK));
    box_open(&box);
    call_init(&call);
    iocp_op_write(&call.op, data, size, 1);
    CHECK_EQ(call_run(&call, box.port, &box.thing.object), size);
    size_t at = 0;
    while (at < size) {
        iocp_op_read(&call.op, read_back + at, size - at, 1 + at);
        int64_t result = call_run(&call, box.port, &box.thing.object);
        CHECK_GT(result, 0);
        at += (size_t)result;
    }
    CHECK(memcmp(data, read_back, size) == 0);
    free(data);
    free(read_back);
    box_end(&box);
}

/* What the system refuses is an answer with its code. */
TEST(refused)
{
    struct thing thing;
    struct call call;
    char byte;
    struct iocp_port *port = port_open(0);
    int refusal = test_on_windows() ? IOCP_EPERM : IOCP_EBADHANDLE;
    thing_open(&thing, port, system_file_to_read("text"), 0);
    call_init(&call);
    iocp_op_write(&call.op, "x", 1, 0);
    CHECK_EQ(call_run(&call, port, &thing.object), refusal);
    CHECK_EQ(iocp_error_from_os(call.packet.os_error), refusal);
    iocp_op_read(&call.op, &byte, 1, 1);
    CHECK_EQ(call_run(&call, port, &thing.object), 1);
    CHECK_EQ(byte, 'e');
    /* What is no socket cannot receive, and what is none of files' has no offset. */
    iocp_op_recv(&call.op, &byte, 1);
    CHECK_LT(call_run(&call, port, &thing.object), 0);
    thing_end(&thing, port);
    port_end(port);
}

/* Closing while many are on their way: each is answered once, with what happened first, and the
 * file is closed after the last of them. */
TEST(close_under_way)
{
    static unsigned char data[BLOCKS][BLOCK];
    static struct call calls[BLOCKS];
    struct box box;
    box_open(&box);
    iocp_handle file = iocp_object_handle(&box.thing.object);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        call_init(&calls[i]);
        iocp_op_write(&calls[i].op, data[i], BLOCK, (uint64_t)i * BLOCK);
        call_submit(&calls[i], box.port, &box.thing.object);
        if (i == BLOCKS / 2)
            CHECK_GE(iocp_port_dispatch(box.port, 1000 * MILLISECOND), 1);
    }
    thing_end(&box.thing, box.port);
    CHECK(!system_is_open(file));
    for (uint32_t i = 0; i < BLOCKS; i++) {
        int64_t result = call_wait(&calls[i], box.port);
        CHECK(result == (int64_t)BLOCK || result == IOCP_ECANCELED || result == IOCP_ECLOSED);
    }
    system_close(box.copy);
    port_end(box.port);
}
