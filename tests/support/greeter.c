/* The listener that greets. See greeter.h. */
#include "support/greeter.h"
#include "support/check.h"

#include <iocp/memory.h>

#include <string.h>

static void greeter_accepted(struct iocp_listener *listener, iocp_handle handle, void *context)
{
    struct greeter *greeter = context;
    CHECK_EQ(__atomic_add_fetch(&greeter->inside, 1, __ATOMIC_SEQ_CST), 1);
    CHECK_EQ(latch_count(&greeter->closed), 0);
    CHECK_LT(greeter->handle_count, GREETER_HANDLES_MAX);
    greeter->handles[greeter->handle_count++] = (int)handle;
    /* A client that left at once is greeted in vain. */
    int64_t sent = net_send_some((int)handle, "!", 1);
    CHECK(sent == 1 || sent == IOCP_EPIPE || sent == IOCP_ECONNRESET || sent == IOCP_ECONNABORTED);
    if (greeter->close_in_handler)
        iocp_listener_close(listener);
    CHECK_EQ(__atomic_sub_fetch(&greeter->inside, 1, __ATOMIC_SEQ_CST), 0);
    latch_add(&greeter->accepted, 1);
}

void greeter_closed(struct iocp_listener *listener, void *context)
{
    struct greeter *greeter = context;
    CHECK_EQ(__atomic_load_n(&greeter->inside, __ATOMIC_SEQ_CST), 0);
    CHECK(!iocp_listener_armed(listener));
    latch_add(&greeter->closed, 1);
}

void greeter_init(struct greeter *greeter, const struct iocp_address *address)
{
    struct iocp_port_config config;
    memset(greeter, 0, sizeof *greeter);
    latch_init(&greeter->accepted);
    latch_init(&greeter->closed);
    iocp_port_config_init(&config);
    config.backend = test_backend();
    CHECK_OK(iocp_port_create(&config, &greeter->port));
    greeter->config.address = *address;
    greeter->config.accepted = greeter_accepted;
    greeter->config.closed = greeter_closed;
    greeter->config.context = greeter;
}

void greeter_listen(struct greeter *greeter)
{
    CHECK_OK(iocp_listener_create(greeter->port, &greeter->config, &greeter->listener));
    iocp_listener_address(greeter->listener, &greeter->address);
    CHECK(iocp_listener_armed(greeter->listener));
}

void greeter_open(struct greeter *greeter, const struct iocp_address *address)
{
    greeter_init(greeter, address);
    greeter_listen(greeter);
}

void greeter_drop_handles(struct greeter *greeter)
{
    uint32_t i;
    for (i = 0; i < greeter->handle_count; i++)
        net_close(greeter->handles[i]);
    greeter->handle_count = 0;
}

void greeter_free(struct greeter *greeter)
{
    iocp_listener_unref(greeter->listener);
    iocp_port_unref(greeter->port);
    greeter_drop_handles(greeter);
    CHECK_EQ(iocp_memory_count(), 0);
}

void greeter_end(struct greeter *greeter)
{
    iocp_listener_close(greeter->listener);
    CHECK(!iocp_listener_armed(greeter->listener));
    pump_until_latch(greeter->port, &greeter->closed, 1);
    pump_drain(greeter->port);
    CHECK_EQ(latch_count(&greeter->closed), 1);
    greeter_free(greeter);
}

void greeter_serve(struct greeter *greeter, const struct iocp_address *address, uint32_t count)
{
    int clients[64];
    uint64_t before = latch_count(&greeter->accepted);
    uint32_t i;
    CHECK_LE(count, 64);
    for (i = 0; i < count; i++)
        clients[i] = net_connect(address);
    pump_until_latch(greeter->port, &greeter->accepted, before + count);
    for (i = 0; i < count; i++) {
        expect_bytes(clients[i], "!", 1);
        net_close(clients[i]);
    }
    greeter_drop_handles(greeter);
}
