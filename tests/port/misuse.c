/* Misuse: what a public function answers to arguments that it cannot use. Nothing is broken by it,
 * no packet comes of it, and what was given stays the caller's. */
#include "support/port.h"

#include <iocp/error.h>
#include <iocp/workers.h>

#include <string.h>

/* Values out of range make no port. */
TEST(create)
{
    struct iocp_port *port = NULL;
    struct iocp_port_config config;
    CHECK_EQ(iocp_port_create(NULL, NULL), IOCP_EINVAL);
    port_config(&config, 0);
    config.backend = 99;
    CHECK_EQ(iocp_port_create(&config, &port), IOCP_EINVAL);
    port_config(&config, 0);
    config.backend = test_backend_never();
    CHECK_EQ(iocp_port_create(&config, &port), IOCP_ENOTSUP);

    const uint32_t buffer_sizes[] = {0, 63, (1u << 30) + 1};
    for (size_t i = 0; i < sizeof(buffer_sizes) / sizeof(buffer_sizes[0]); i++) {
        port_config(&config, 0);
        config.buffer_size = buffer_sizes[i];
        CHECK_EQ(iocp_port_create(&config, &port), IOCP_EINVAL);
    }
    const uint32_t buffer_counts[] = {0, 3, 100, 32769, 65536};
    for (size_t i = 0; i < sizeof(buffer_counts) / sizeof(buffer_counts[0]); i++) {
        port_config(&config, 0);
        config.buffer_count = buffer_counts[i];
        CHECK_EQ(iocp_port_create(&config, &port), IOCP_EINVAL);
    }
    port_config(&config, 0);
    config.watch_ns = 99999;
    CHECK_EQ(iocp_port_create(&config, &port), IOCP_EINVAL);
    port_config(&config, 0);
    config.workers_max = 0;
    CHECK_EQ(iocp_port_create(&config, &port), IOCP_EINVAL);
    CHECK(!port);
    CHECK_EQ(iocp_memory_count(), 0);
}

/* Waits need a port, and room for a packet. */
TEST(wait)
{
    struct iocp_packet packet;
    struct iocp_port *port = port_open(0);
    CHECK_EQ(iocp_port_wait(NULL, &packet, 1, 0), IOCP_EINVAL);
    CHECK_EQ(iocp_port_wait(port, NULL, 1, 0), IOCP_EINVAL);
    CHECK_EQ(iocp_port_wait(port, &packet, 0, 0), IOCP_EINVAL);
    CHECK_EQ(iocp_port_wait(port, &packet, UINT32_MAX, 0), IOCP_EINVAL);
    CHECK_EQ(iocp_port_dispatch(NULL, 0), IOCP_EINVAL);
    iocp_port_wake(NULL);
    port_end(port);
}

/* Nothing is closed, and nothing given back. */
TEST(nothing)
{
    iocp_port_close(NULL);
    iocp_object_close(NULL);
    iocp_packet_release(NULL);
    CHECK(!iocp_port_unref(NULL));
    CHECK(!iocp_object_unref(NULL));
    CHECK_EQ(iocp_memory_count(), 0);
}

/* No more threads than the port takes. */
TEST(pool_larger_than_the_port)
{
    struct iocp_port_config config;
    struct iocp_workers_config pool = {.count = 3};
    struct iocp_workers *workers = NULL;
    port_config(&config, 0);
    config.workers_max = 2;
    struct iocp_port *port = port_open_config(&config);
    CHECK_EQ(iocp_workers_launch(port, &pool, &workers), IOCP_EINVAL);
    CHECK(!workers);
    port_end(port);
}

/* A handle is registered once, with an object of its own; a refused one stays the caller's. */
TEST(register_handles)
{
    int pair[2];
    struct thing thing;
    struct thing other;
    struct iocp_port *port = port_open(0);
    struct iocp_port *second = port_open(0);
    make_local_pair(pair);
    thing_init(&thing);
    thing_init(&other);
    CHECK_EQ(iocp_object_handle(&thing.object), IOCP_HANDLE_INVALID);
    CHECK_EQ(iocp_port_register(NULL, &thing.object, pair[0], 0), IOCP_EINVAL);
    CHECK_EQ(iocp_port_register(port, NULL, pair[0], 0), IOCP_EINVAL);
    CHECK_EQ(iocp_port_register(port, &thing.object, IOCP_HANDLE_INVALID, 0), IOCP_EBADHANDLE);
    CHECK_EQ(iocp_port_register(port, &thing.object, 1 << 20, 0), IOCP_EBADHANDLE);
    CHECK_EQ(iocp_object_handle(&thing.object), IOCP_HANDLE_INVALID);

    CHECK_EQ(iocp_port_register(port, &thing.object, pair[0], 0), 0);
    CHECK_EQ(iocp_object_handle(&thing.object), pair[0]);
    CHECK(net_is_nonblocking(pair[0]));
    CHECK_EQ(iocp_port_register(port, &thing.object, pair[1], 0), IOCP_EBUSY);
    CHECK_EQ(iocp_port_register(second, &thing.object, pair[1], 0), IOCP_EBUSY);
    iocp_port_close(second);
    CHECK_EQ(iocp_port_register(second, &other.object, pair[1], 0), IOCP_ECLOSED);
    CHECK(system_is_open(pair[1]));
    send_all(pair[1], "x", 1);

    thing_end(&thing, port);
    CHECK(!system_is_open(pair[0]));
    iocp_object_unref(&other.object);
    CHECK_EQ(thing_destroyed(&other), 1);
    net_close(pair[1]);
    CHECK(!iocp_port_unref(second));
    port_end(port);
}

/* Windows binds a handle to one port for the rest of its life, whoever closes the object, and takes
 * none that was opened to be waited for. */
TEST(register_handles_of_windows)
{
    int pair[2];
    char byte = 0;
    struct thing thing;
    struct thing other;
    struct call call;
    struct iocp_port *port = port_open(0);
    struct iocp_port *second = port_open(0);
    if (!port_kernel_is_gate(port))
        SKIP("the kernel binds no handles to a port");
    make_connected_pair(pair);
    thing_open(&thing, port, pair[0], 0);
    thing_init(&other);
    CHECK_EQ(iocp_port_register(second, &other.object, pair[0], 0), IOCP_EBUSY);
    CHECK_EQ(iocp_port_register(port, &other.object, pair[0], 0), IOCP_EBUSY);
    CHECK_EQ(iocp_object_handle(&other.object), IOCP_HANDLE_INVALID);
    iocp_handle file = system_file_to_wait_for();
    CHECK_EQ(iocp_port_register(second, &other.object, file, 0), IOCP_EBADHANDLE);
    CHECK(system_is_open(file));
    system_close(file);
    iocp_handle event = system_no_file();
    CHECK_EQ(iocp_port_register(second, &other.object, event, 0), IOCP_EBADHANDLE);
    system_close(event);

    /* The first is as it was, and so is the object that was refused. */
    call_init(&call);
    iocp_op_recv(&call.op, &byte, 1);
    send_all(pair[1], "x", 1);
    CHECK_EQ(call_run(&call, port, &thing.object), 1);
    thing_end(&thing, port);
    CHECK_EQ(iocp_port_register(second, &other.object, pair[1], 0), 0);
    thing_end(&other, second);
    CHECK(!iocp_port_unref(second));
    port_end(port);
}

/* An op is prepared for each submit, belongs to a registered object, and is pending once at a time.
 */
TEST(submit)
{
    int pair[2];
    char byte;
    struct thing thing;
    struct thing loose;
    struct call call;
    struct iocp_port *port = port_open(0);
    struct iocp_port *second = port_open(0);
    make_local_pair(pair);
    thing_open(&thing, port, pair[0], 0);
    thing_init(&loose);
    call_init(&call);
    CHECK_EQ(iocp_port_submit(port, &thing.object, &call.op), IOCP_EINVAL);
    CHECK_EQ(iocp_port_submit(port, &thing.object, NULL), IOCP_EINVAL);
    iocp_op_recv(&call.op, &byte, 1);
    CHECK_EQ(iocp_port_submit(NULL, &thing.object, &call.op), IOCP_EINVAL);
    CHECK_EQ(iocp_port_submit(port, NULL, &call.op), IOCP_EINVAL);
    CHECK_EQ(iocp_port_submit(port, &loose.object, &call.op), IOCP_EINVAL);
    CHECK_EQ(iocp_port_submit(second, &thing.object, &call.op), IOCP_EINVAL);
    CHECK(!iocp_op_pending(&call.op));
    CHECK_EQ(iocp_port_submit(port, &thing.object, &call.op), 0);
    CHECK(iocp_op_pending(&call.op));
    CHECK_EQ(iocp_port_submit(port, &thing.object, &call.op), IOCP_EBUSY);
    port_dispatch_for(port, MILLISECOND);
    CHECK_EQ(iocp_port_submit(port, &thing.object, &call.op), IOCP_EBUSY);
    send_all(pair[1], "x", 1);
    CHECK_EQ(call_wait(&call, port), 1);
    CHECK(!iocp_op_pending(&call.op));
    CHECK_EQ(iocp_port_submit(port, &thing.object, &call.op), IOCP_EINVAL);
    pump_drain(port);
    CHECK_EQ(call_answers(&call), 1);
    thing_end(&thing, port);
    iocp_object_unref(&loose.object);
    CHECK_EQ(thing_destroyed(&loose), 1);
    net_close(pair[1]);
    CHECK(!iocp_port_unref(second));
    port_end(port);
}

/* The same for posts and timers. */
TEST(post_and_timer)
{
    struct call call;
    struct iocp_packet packet;
    struct iocp_port *port = port_open(0);
    call_init(&call);
    CHECK_EQ(iocp_port_post(port, NULL, &call.op), IOCP_EINVAL);
    CHECK_EQ(iocp_port_post(port, NULL, NULL), IOCP_EINVAL);
    iocp_op_timer(&call.op, 0, 0);
    CHECK_EQ(iocp_port_post(port, NULL, &call.op), IOCP_EINVAL);
    iocp_op_post(&call.op, 0, 0);
    CHECK_EQ(iocp_port_post(NULL, NULL, &call.op), IOCP_EINVAL);
    CHECK_EQ(iocp_port_post(port, NULL, &call.op), 0);
    CHECK_EQ(iocp_port_post(port, NULL, &call.op), IOCP_EBUSY);
    CHECK_EQ(iocp_port_wait(port, &packet, 1, 0), 1);
    iocp_packet_release(&packet);
    CHECK(!iocp_op_pending(&call.op));
    CHECK_EQ(iocp_port_post(port, NULL, &call.op), IOCP_EINVAL);

    iocp_op_timer(&call.op, 3600 * 1000 * MILLISECOND, 0);
    CHECK_EQ(iocp_port_submit(NULL, NULL, &call.op), IOCP_EINVAL);
    CHECK_EQ(iocp_port_submit(port, NULL, &call.op), 0);
    CHECK_EQ(iocp_port_submit(port, NULL, &call.op), IOCP_EBUSY);
    CHECK_EQ(iocp_port_cancel(port, &call.op), 0);
    CHECK_EQ(call_wait(&call, port), IOCP_ECANCELED);
    CHECK_EQ(iocp_port_wait(port, &packet, 1, 0), IOCP_ETIMEDOUT);
    port_end(port);
}

/* After the port's close nothing starts any more. */
TEST(closed_port)
{
    int pair[2];
    char byte;
    struct thing thing;
    struct call call;
    struct iocp_port *port = port_open(0);
    make_local_pair(pair);
    thing_open(&thing, port, pair[0], 0);
    iocp_port_close(port);
    call_init(&call);
    iocp_op_recv(&call.op, &byte, 1);
    CHECK_EQ(iocp_port_submit(port, &thing.object, &call.op), IOCP_ECLOSED);
    iocp_op_timer(&call.op, 0, 0);
    CHECK_EQ(iocp_port_submit(port, NULL, &call.op), IOCP_ECLOSED);
    iocp_op_post(&call.op, 0, 0);
    CHECK_EQ(iocp_port_post(port, NULL, &call.op), IOCP_ECLOSED);
    CHECK(!iocp_op_pending(&call.op));
    CHECK_EQ(iocp_port_cancel(port, &call.op), IOCP_ENOTFOUND);
    iocp_object_close(&thing.object);
    iocp_object_unref(&thing.object);
    port_end(port);
    CHECK_EQ(thing_destroyed(&thing), 1);
    CHECK_EQ(call_answers(&call), 0);
    expect_eof(pair[1]);
    net_close(pair[1]);
}

/* There is nothing to cancel in an op that is idle, prepared or answered. */
TEST(cancel)
{
    struct call call;
    struct iocp_port *port = port_open(0);
    call_init(&call);
    CHECK_EQ(iocp_port_cancel(port, &call.op), IOCP_ENOTFOUND);
    CHECK_EQ(iocp_port_cancel(port, NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_port_cancel(NULL, &call.op), IOCP_EINVAL);
    iocp_op_timer(&call.op, 0, 0);
    CHECK_EQ(iocp_port_cancel(port, &call.op), IOCP_ENOTFOUND);
    CHECK_EQ(call_run(&call, port, NULL), 0);
    CHECK_EQ(iocp_port_cancel(port, &call.op), IOCP_ENOTFOUND);
    port_end(port);
}

/* Objects may be closed and unreferenced without ever having been registered, and NULL is fine. */
TEST(objects)
{
    struct thing thing;
    thing_init(&thing);
    iocp_object_close(&thing.object);
    iocp_object_close(&thing.object);
    CHECK(iocp_object_ref(&thing.object) == &thing.object);
    CHECK(!iocp_object_unref(&thing.object));
    CHECK_EQ(thing_destroyed(&thing), 0);
    CHECK(!iocp_object_unref(&thing.object));
    CHECK_EQ(thing_destroyed(&thing), 1);
    CHECK(!iocp_object_unref(NULL));
}

static void wait_inside(const struct iocp_packet *packet)
{
    struct iocp_port *port = packet->op->context;
    struct iocp_packet inner;
    CHECK_EQ(iocp_port_wait(port, &inner, 1, 0), IOCP_EBUSY);
    CHECK_EQ(iocp_port_wait(port, &inner, 1, IOCP_WAIT_FOREVER), IOCP_EBUSY);
    CHECK_EQ(iocp_port_dispatch(port, 0), IOCP_EBUSY);
    call_answered(packet);
}

/* A handler may not wait for the port that it runs in: IOCP_EBUSY, and the packets stay where they
 * are. */
TEST(wait_in_a_handler)
{
    struct call calls[2];
    struct iocp_port *port = port_open(0);
    for (int i = 0; i < 2; i++) {
        call_init(&calls[i]);
        iocp_op_init(&calls[i].op, wait_inside);
        calls[i].op.context = port;
        call_post(&calls[i], port, 0, 10 + i);
    }
    CHECK_EQ(call_wait(&calls[0], port), 10);
    CHECK_EQ(call_wait(&calls[1], port), 11);
    port_end(port);
}

/* No more threads than workers_max: one more gets IOCP_EFULL, until one of them is gone. */
TEST(workers_max)
{
    struct crew crew;
    struct iocp_packet packet;
    struct iocp_port_config config;
    port_config(&config, 1);
    config.workers_max = 2;
    struct iocp_port *port = port_open_config(&config);
    crew_start(&crew, port, 2);
    CHECK_EQ(iocp_port_wait(port, &packet, 1, 0), IOCP_EFULL);
    CHECK_EQ(iocp_port_dispatch(port, IOCP_WAIT_FOREVER), IOCP_EFULL);
    crew_stop(&crew);
    CHECK_EQ(iocp_port_wait(port, &packet, 1, 0), IOCP_ETIMEDOUT);
    CHECK_EQ(iocp_port_dispatch(port, 0), IOCP_ETIMEDOUT);
    port_end(port);
}

/* Pools and buffers. */
TEST(buffers)
{
    struct iocp_pool *pool = NULL;
    struct iocp_buffer *buffers[3] = {NULL, NULL, NULL};
    CHECK_EQ(iocp_pool_create(0, 1, &pool), IOCP_EINVAL);
    CHECK_EQ(iocp_pool_create((size_t)3 << 30, 1, &pool), IOCP_EINVAL);
    CHECK_EQ(iocp_pool_create(64, 1, NULL), IOCP_EINVAL);
    CHECK_EQ(iocp_buffer_take(NULL, &buffers[0]), IOCP_EINVAL);
    CHECK_EQ(iocp_buffer_create(0, &buffers[0]), IOCP_EINVAL);
    CHECK(!iocp_pool_unref(NULL));
    CHECK(!iocp_buffer_unref(NULL));
    CHECK_EQ(iocp_pool_create(64, 2, &pool), 0);
    CHECK_EQ(iocp_buffer_take(pool, &buffers[0]), 0);
    CHECK_EQ(iocp_buffer_take(pool, &buffers[1]), 0);
    CHECK_EQ(iocp_buffer_take(pool, &buffers[2]), IOCP_EFULL);
    CHECK(!buffers[2]);
    /* The pool lives on until its last buffer is back. */
    CHECK(!iocp_pool_unref(pool));
    memset(iocp_buffer_data(buffers[1]), 1, iocp_buffer_capacity(buffers[1]));
    CHECK(!iocp_buffer_unref(buffers[0]));
    CHECK(!iocp_buffer_unref(buffers[1]));
    CHECK_EQ(iocp_memory_count(), 0);
}
