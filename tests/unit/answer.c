/* Answers: the events that a backend hands to the port. */
#include "backend/backend.h"
#include "backend/buffer.h"
#include "os/os.h"
#include "support/check.h"
#include "support/system.h"

#include <iocp/memory.h>

#include <string.h>

static struct iocp__queue done;

/* As after an earlier use, so that a member that nobody sets shows. */
static struct iocp_op dirty_op(enum iocp_op_kind kind)
{
    struct iocp_op op;
    memset(&op, 0x5a, sizeof(op));
    op.kind = (uint8_t)kind;
    return op;
}

TEST(op_done_fills_the_event_of_the_op)
{
    struct iocp_op op = dirty_op(IOCP_OP_RECV);
    iocp__op_done(&done, &op, 42, 0);
    CHECK(iocp__queue_pop(&done) == &op.event);
    CHECK(op.event.op == &op);
    CHECK_EQ(op.event.result, 42);
    CHECK_EQ(op.event.os_error, 0);
    CHECK_EQ(op.event.flags, 0);
    CHECK(op.event.buffer == NULL);

    iocp__op_done(&done, &op, IOCP_EEOF, 0);
    CHECK(iocp__queue_pop(&done) == &op.event);
    CHECK_EQ(op.event.result, IOCP_EEOF);
}

TEST(op_failed_maps_the_error_and_keeps_the_code)
{
    struct iocp_op op = dirty_op(IOCP_OP_SEND);
    int32_t code = 1; /* of this system */
    while (iocp_error_from_os(code) != IOCP_ECONNRESET)
        code++;
    iocp__op_failed(&done, &op, code);
    CHECK(iocp__queue_pop(&done) == &op.event);
    CHECK_EQ(op.event.result, IOCP_ECONNRESET);
    CHECK_EQ(op.event.os_error, code);
    iocp__op_failed(&done, &op, 99999);
    CHECK_EQ(op.event.result, IOCP_EUNKNOWN);
    CHECK_EQ(op.event.os_error, 99999);
}

TEST(received_answer_is_the_event_of_the_buffer)
{
    struct iocp_op op = dirty_op(IOCP_OP_RECV_STREAM);
    struct iocp_buffer *buffer;
    CHECK_OK(iocp_buffer_create(100, &buffer));
    iocp__stream_received(&done, &op, buffer, 100);
    CHECK(iocp__queue_pop(&done) == &buffer->event);
    CHECK(buffer->event.op == &op);
    CHECK(buffer->event.buffer == buffer);
    CHECK_EQ(buffer->event.result, 100);
    CHECK_EQ(buffer->event.os_error, 0);
    CHECK_EQ(buffer->event.flags, IOCP_PACKET_MORE);
    CHECK_EQ(iocp_buffer_size(buffer), 100);
    CHECK_EQ(buffer->refs, 1);
    iocp_buffer_unref(buffer);
}

TEST(accepted_answers_are_events_of_their_own)
{
    struct iocp_op op = dirty_op(IOCP_OP_ACCEPT_STREAM);
    for (iocp_handle handle = 1001; handle < 1004; handle++)
        iocp__stream_accepted(&done, &op, handle);
    iocp__op_done(&done, &op, IOCP_ECANCELED, 125);
    CHECK_EQ(done.count, 4);
    for (iocp_handle handle = 1001; handle < 1004; handle++) {
        struct iocp_event *event = iocp__queue_pop(&done);
        CHECK(event != &event->op->event);
        CHECK(event->op == &op);
        CHECK(event->buffer == NULL);
        CHECK_EQ(event->result, handle);
        CHECK_EQ(event->os_error, 0);
        CHECK_EQ(event->flags, IOCP_PACKET_MORE);
        iocp__event_free(event);
    }
    CHECK(iocp__queue_pop(&done) == &op.event);
    CHECK_EQ(op.event.flags, 0);
    CHECK_EQ(iocp_memory_count(), 0);
}

TEST(accepted_without_memory_closes_the_connection)
{
    struct iocp_op op = dirty_op(IOCP_OP_ACCEPT_STREAM);
    iocp_handle handle;
    CHECK_OK(iocp__socket_open(IOCP_FAMILY_IPV4, IOCP__SOCKET_STREAM, &handle, NULL));
    iocp_memory_fail(1, 0);
    iocp__stream_accepted(&done, &op, handle);
    CHECK_EQ(done.count, 0);
    CHECK(!system_is_open(handle));
}
