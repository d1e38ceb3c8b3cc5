/* What src/backend/iocp*.c and docs/backends.md take for granted of Windows, tried on the system
 * itself, without the library: which calls queue a packet, and which do not. The ids are those of
 * the rows that were read from Wine's tests, which pass on Windows. */
#include "support/check.h"
#include "support/net.h"

#include <winsock2.h>

#include <mswsock.h>

struct facts {
    HANDLE port;
    int pair[2];
    OVERLAPPED overlapped;
    char bytes[16];
};

static void facts_open(struct facts *facts, UCHAR modes)
{
    memset(facts, 0, sizeof(*facts));
    make_connected_pair(facts->pair);
    facts->port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 1);
    CHECK(facts->port != NULL);
    CHECK(CreateIoCompletionPort((HANDLE)(intptr_t)facts->pair[0], facts->port, 7, 0) ==
          facts->port);
    if (modes)
        CHECK(SetFileCompletionNotificationModes((HANDLE)(intptr_t)facts->pair[0], modes));
}

static void facts_close(struct facts *facts)
{
    net_close(facts->pair[0]);
    net_close(facts->pair[1]);
    CHECK(CloseHandle(facts->port));
}

/* The next packet: 0, or the error that it carries; -1 when none comes. */
static int facts_packet(struct facts *facts, DWORD timeout_ms, DWORD *out_bytes)
{
    ULONG_PTR key = 0;
    OVERLAPPED *overlapped = NULL;
    BOOL success = GetQueuedCompletionStatus(facts->port, out_bytes, &key, &overlapped, timeout_ms);
    if (!overlapped)
        return -1;
    CHECK_EQ(key, 7);
    CHECK(overlapped == &facts->overlapped);
    return success ? 0 : (int)GetLastError();
}

/* 0, or the error of the call. */
static int facts_receive(struct facts *facts, ULONG size)
{
    static DWORD flags;
    WSABUF buffer = {size, facts->bytes};
    flags = 0;
    return WSARecv((SOCKET)facts->pair[0], &buffer, 1, NULL, &flags, &facts->overlapped, NULL)
               ? WSAGetLastError()
               : 0;
}

static void facts_wait_readable(struct facts *facts)
{
    fd_set set;
    struct timeval limit = {10, 0};
    FD_ZERO(&set);
    FD_SET((SOCKET)facts->pair[0], &set);
    CHECK_EQ(select(0, &set, NULL, NULL, &limit), 1);
}

/* RV-03. */
TEST(success_at_once_queues_a_packet)
{
    struct facts facts;
    DWORD bytes = 0;
    facts_open(&facts, 0);
    send_all(facts.pair[1], "abc", 3);
    facts_wait_readable(&facts);
    CHECK_EQ(facts_receive(&facts, sizeof(facts.bytes)), 0);
    CHECK_EQ(facts_packet(&facts, 10000, &bytes), 0);
    CHECK_EQ(bytes, 3);
    CHECK_EQ(facts_packet(&facts, 50, &bytes), -1);
    facts_close(&facts);
}

/* NM-03, NM-04. */
TEST(a_handle_that_skips_queues_what_pends_alone)
{
    struct facts facts;
    DWORD bytes = 0;
    facts_open(&facts, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS);
    send_all(facts.pair[1], "abc", 3);
    facts_wait_readable(&facts);
    CHECK_EQ(facts_receive(&facts, sizeof(facts.bytes)), 0);
    CHECK_EQ(facts_packet(&facts, 50, &bytes), -1);
    CHECK_EQ(facts_receive(&facts, sizeof(facts.bytes)), WSA_IO_PENDING);
    send_all(facts.pair[1], "de", 2);
    CHECK_EQ(facts_packet(&facts, 10000, &bytes), 0);
    CHECK_EQ(bytes, 2);
    facts_close(&facts);
}

/* RV-21, RV-22. */
TEST(a_receive_of_nothing_waits_and_takes_nothing)
{
    struct facts facts;
    DWORD bytes = 1;
    facts_open(&facts, 0);
    CHECK_EQ(facts_receive(&facts, 0), WSA_IO_PENDING);
    CHECK_EQ(facts_packet(&facts, 50, &bytes), -1);
    send_all(facts.pair[1], "abc", 3);
    CHECK_EQ(facts_packet(&facts, 10000, &bytes), 0);
    CHECK_EQ(bytes, 0);
    expect_bytes(facts.pair[0], "abc", 3);
    facts_close(&facts);
}

/* CX-01, CX-12. */
TEST(a_canceled_operation_queues_one_packet)
{
    struct facts facts;
    DWORD bytes = 1;
    facts_open(&facts, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS);
    CHECK_EQ(facts_receive(&facts, sizeof(facts.bytes)), WSA_IO_PENDING);
    CHECK(CancelIoEx((HANDLE)(intptr_t)facts.pair[0], &facts.overlapped));
    CHECK_EQ(facts_packet(&facts, 10000, &bytes), ERROR_OPERATION_ABORTED);
    CHECK_EQ(bytes, 0);
    CHECK_EQ(facts_packet(&facts, 50, &bytes), -1);
    facts_close(&facts);
}

static void *facts_receive_and_exit(void *argument)
{
    CHECK_EQ(facts_receive(argument, 16), WSA_IO_PENDING);
    return NULL;
}

/* RV-32: operations on a handle with a port outlive the thread that started them. */
TEST(an_operation_outlives_its_thread)
{
    struct facts facts;
    pthread_t thread;
    DWORD bytes = 0;
    facts_open(&facts, 0);
    CHECK_EQ(pthread_create(&thread, NULL, facts_receive_and_exit, &facts), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    send_all(facts.pair[1], "abcd", 4);
    CHECK_EQ(facts_packet(&facts, 10000, &bytes), 0);
    CHECK_EQ(bytes, 4);
    facts_close(&facts);
}

/* DX-05: why the library does not use DisconnectEx. */
TEST(disconnectex_pends_on_a_handle_that_skips)
{
    struct facts facts;
    GUID id = WSAID_DISCONNECTEX;
    LPFN_DISCONNECTEX disconnect = NULL;
    DWORD bytes = 0;
    facts_open(&facts, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS);
    CHECK_EQ(WSAIoctl((SOCKET)facts.pair[0], SIO_GET_EXTENSION_FUNCTION_POINTER, &id, sizeof(id),
                      &disconnect, sizeof(disconnect), &bytes, NULL, NULL),
             0);
    CHECK(!disconnect((SOCKET)facts.pair[0], &facts.overlapped, 0, 0));
    CHECK_EQ(WSAGetLastError(), ERROR_IO_PENDING);
    expect_eof(facts.pair[1]);
    if (!test_wine_differs("DX-05: DisconnectEx that pends queues a packet on a handle that skips"))
        CHECK_EQ(facts_packet(&facts, 10000, &bytes), 0);
    else
        CHECK_EQ(facts_packet(&facts, 200, &bytes), -1);
    facts_close(&facts);
}
