/* What the library takes from the system: sockets, options, handles. All on the loopback. Unix
 * sockets are in os_unix.c. */
#include "os/os.h"
#include "os/sockaddr.h"
#include "support/check.h"
#include "support/system.h"

#include <pthread.h>
#include <string.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <unistd.h>
#endif

/* ---- Sockets as the system has them. */

#ifdef _WIN32
#define CODE(name) WSA##name
#define MSG_NOSIGNAL 0
#ifndef TCP_KEEPIDLE
#define TCP_KEEPIDLE 3
#endif
static int last_error(void)
{
    return WSAGetLastError();
}
#else
#define CODE(name) name
typedef int SOCKET;
static int last_error(void)
{
    return errno;
}
#endif

static struct iocp_address loopback(uint16_t port)
{
    struct iocp_address address = {.size = sizeof(struct sockaddr_in)};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(address.storage.bytes, &in, sizeof(in));
    return address;
}

static uint16_t port_of(const struct iocp_address *address)
{
    struct sockaddr_in in;
    memcpy(&in, address->storage.bytes, sizeof(in));
    return ntohs(in.sin_port);
}

static iocp_handle open_kind(enum iocp_family family, int type)
{
    iocp_handle handle = IOCP_HANDLE_INVALID;
    CHECK_OK(iocp__socket_open(family, type, &handle, NULL));
    return handle;
}

static iocp_handle open_socket(enum iocp_family family)
{
    return open_kind(family, IOCP__SOCKET_STREAM);
}

/* Returns 0 or the code of the system. */
static int connect_to(iocp_handle handle, const struct iocp_address *address)
{
    int result =
        connect((SOCKET)handle, (const void *)address->storage.bytes, (socklen_t)address->size);
    return result == 0 ? 0 : last_error();
}

enum readiness { READABLE, WRITABLE };

/* Until it can be read or written, or the connect has failed. */
static void await_ready(iocp_handle handle, enum readiness readiness)
{
    fd_set wanted, failed;
    FD_ZERO(&wanted);
    FD_ZERO(&failed);
    FD_SET((SOCKET)handle, &wanted);
    FD_SET((SOCKET)handle, &failed);
    CHECK_GE(select((int)handle + 1, readiness == READABLE ? &wanted : NULL,
                    readiness == WRITABLE ? &wanted : NULL, &failed, NULL),
             1);
}

static int receive(iocp_handle handle, void *data, size_t size)
{
    return (int)recv((SOCKET)handle, data, (int)size, 0);
}

static int option_of(iocp_handle handle, int level, int name)
{
    int value = 0; /* Windows sets a byte of it for some */
    socklen_t size = sizeof(value);
    CHECK_EQ(getsockopt((SOCKET)handle, level, name, (void *)&value, &size), 0);
    return value;
}

/* A listener on 127.0.0.1 with a port that the system chose. */
static iocp_handle listen_somewhere(struct iocp_address *out_address)
{
    iocp_handle handle = open_socket(IOCP_FAMILY_IPV4);
    struct iocp_address any = loopback(0);
    CHECK_OK(iocp__socket_bind(handle, &any, NULL));
    CHECK_OK(iocp__socket_listen(handle, 0, NULL));
    CHECK_OK(iocp__socket_local(handle, out_address));
    return handle;
}

static iocp_handle accept_from(iocp_handle listener)
{
    iocp_handle handle;
    await_ready(listener, READABLE);
    handle = (iocp_handle)accept((SOCKET)listener, NULL, NULL);
    CHECK_NE(handle, IOCP_HANDLE_INVALID);
    return handle;
}

static void connected_pair(iocp_handle *out_client, iocp_handle *out_server)
{
    struct iocp_address address;
    iocp_handle listener = listen_somewhere(&address);
    int error;
    *out_client = open_socket(IOCP_FAMILY_IPV4);
    error = connect_to(*out_client, &address);
    CHECK(error == 0 || error == CODE(EINPROGRESS) || error == CODE(EWOULDBLOCK));
    *out_server = accept_from(listener);
    await_ready(*out_client, WRITABLE);
    iocp__handle_close(listener);
}

/* ---- Making them. */

TEST(sockets_do_not_block_and_are_not_inherited)
{
    struct iocp_address address = loopback(0);
    iocp_handle datagram = open_kind(IOCP_FAMILY_IPV4, IOCP__SOCKET_DATAGRAM);
    iocp_handle client, server;
    char byte;
    connected_pair(&client, &server);
    CHECK_EQ(option_of(client, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    CHECK_EQ(receive(client, &byte, 1), -1);
    CHECK_EQ(last_error(), CODE(EWOULDBLOCK));
    CHECK(!system_is_inherited(client));

    CHECK_EQ(option_of(datagram, SOL_SOCKET, SO_TYPE), SOCK_DGRAM);
    CHECK_OK(iocp__socket_bind(datagram, &address, NULL));
    CHECK_EQ(receive(datagram, &byte, 1), -1);
    CHECK_EQ(last_error(), CODE(EWOULDBLOCK));
    CHECK(!system_is_inherited(datagram));
    iocp__handle_close(datagram);
    CHECK(!system_is_open(datagram));
}

TEST(unix_sockets_are_as_the_others)
{
#ifdef _WIN32
    SKIP("Windows does not tell whether a socket blocks");
#else
    for (int type = IOCP__SOCKET_STREAM; type <= IOCP__SOCKET_DATAGRAM; type++) {
        iocp_handle handle = open_kind(IOCP_FAMILY_UNIX, type);
        CHECK(fcntl((int)handle, F_GETFL) & O_NONBLOCK);
        CHECK(fcntl((int)handle, F_GETFD) & FD_CLOEXEC);
        CHECK_EQ(option_of(handle, SOL_SOCKET, SO_TYPE),
                 type == IOCP__SOCKET_STREAM ? SOCK_STREAM : SOCK_DGRAM);
    }
#endif
}

static void *open_first(void *context)
{
    *(iocp_handle *)context = open_socket(IOCP_FAMILY_IPV4);
    return NULL;
}

/* Winsock is started by whoever comes first. */
TEST(many_threads_may_make_the_first_socket)
{
    pthread_t threads[8];
    iocp_handle handles[8];
    for (int i = 0; i < 8; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, open_first, &handles[i]), 0);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < 8; i++) {
        CHECK(system_is_open(handles[i]));
        for (int j = 0; j < i; j++)
            CHECK_NE(handles[i], handles[j]);
    }
}

TEST(socket_of_no_family_or_type_is_refused)
{
    iocp_handle handle = 77;
    int32_t os_error = 0;
    CHECK_EQ(iocp__socket_open(IOCP_FAMILY_NONE, IOCP__SOCKET_STREAM, &handle, &os_error),
             IOCP_EINVAL);
    CHECK_EQ(os_error, CODE(EINVAL));
    CHECK_EQ(iocp__socket_open(IOCP_FAMILY_IPV4, 3, &handle, NULL), IOCP_EINVAL);
    CHECK_EQ(handle, 77);
}

TEST(want_of_descriptors_is_emfile)
{
#ifdef _WIN32
    SKIP("Windows has no limit of descriptors that a process could lower");
#else
    struct rlimit before, limit;
    iocp_handle handle = 77;
    int32_t os_error = 0;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    limit.rlim_cur = 0;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(iocp__socket_open(IOCP_FAMILY_IPV4, IOCP__SOCKET_STREAM, &handle, &os_error),
             IOCP_EMFILE);
    CHECK_EQ(os_error, EMFILE);
    CHECK_EQ(iocp__socket_open(IOCP_FAMILY_IPV4, IOCP__SOCKET_STREAM, &handle, NULL), IOCP_EMFILE);
    CHECK_EQ(handle, 77);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0); /* the leak checker opens files at the end */
#endif
}

TEST(both_ends_know_their_addresses)
{
    iocp_handle client, server;
    struct iocp_address client_local, client_peer, server_local, server_peer;
    connected_pair(&client, &server);
    CHECK_OK(iocp__socket_local(client, &client_local));
    CHECK_OK(iocp__socket_peer(client, &client_peer));
    CHECK_OK(iocp__socket_local(server, &server_local));
    CHECK_OK(iocp__socket_peer(server, &server_peer));
    CHECK_EQ(client_local.size, sizeof(struct sockaddr_in));
    CHECK_NE(port_of(&client_local), 0);
    CHECK_MEM(&client_local, &server_peer, sizeof(client_local));
    CHECK_MEM(&client_peer, &server_local, sizeof(client_peer));
}

TEST(socket_without_a_peer_says_so)
{
    struct iocp_address address = {.size = 99};
    iocp_handle handle = open_socket(IOCP_FAMILY_IPV4);
    CHECK_EQ(iocp__socket_peer(handle, &address), IOCP_ENOTCONN);
    iocp__handle_close(handle);
    CHECK_EQ(iocp__socket_local(handle, &address), IOCP_EBADHANDLE);
    CHECK_EQ(address.size, 99);
}

TEST(address_in_use_is_told)
{
    struct iocp_address address;
    iocp_handle listener = listen_somewhere(&address);
    iocp_handle second = open_socket(IOCP_FAMILY_IPV4);
    int32_t os_error = 0;
    CHECK_GE(listener, 0);
    CHECK_EQ(iocp__socket_bind(second, &address, &os_error), IOCP_EADDRINUSE);
    CHECK_EQ(os_error, CODE(EADDRINUSE));
    address.size = sizeof(address.storage) + 1;
    CHECK_EQ(iocp__socket_bind(second, &address, &os_error), IOCP_EINVAL);
}

/* Without SO_EXCLUSIVEADDRUSE another program could take a listening address over on Windows. */
TEST(listening_address_is_not_given_away)
{
    struct iocp_address address = loopback(0);
    iocp_handle listener = open_socket(IOCP_FAMILY_IPV4);
    iocp_handle second = open_socket(IOCP_FAMILY_IPV4);
    CHECK_OK(iocp__socket_set(listener, IOCP__OPTION_REUSE_ADDRESS, 1));
    CHECK_OK(iocp__socket_bind(listener, &address, NULL));
    CHECK_OK(iocp__socket_listen(listener, 0, NULL));
    CHECK_OK(iocp__socket_local(listener, &address));
    CHECK_OK(iocp__socket_set(second, IOCP__OPTION_REUSE_ADDRESS, 1));
    CHECK_EQ(iocp__socket_bind(second, &address, NULL), IOCP_EADDRINUSE);
    iocp__handle_close(listener);
    CHECK_OK(iocp__socket_bind(second, &address, NULL));
    CHECK_OK(iocp__socket_listen(second, 300, NULL));
}

TEST(thief_of_a_listening_address_is_refused)
{
    struct iocp_address address = loopback(0);
    iocp_handle listener = open_socket(IOCP_FAMILY_IPV4);
    iocp_handle thief = open_socket(IOCP_FAMILY_IPV4);
    int on = 1;
    CHECK_OK(iocp__socket_set(listener, IOCP__OPTION_REUSE_ADDRESS, 1));
    CHECK_OK(iocp__socket_bind(listener, &address, NULL));
    CHECK_OK(iocp__socket_listen(listener, 0, NULL));
    CHECK_OK(iocp__socket_local(listener, &address));
    CHECK_EQ(setsockopt((SOCKET)thief, SOL_SOCKET, SO_REUSEADDR, (void *)&on, sizeof(on)), 0);
    CHECK_LT(iocp__socket_bind(thief, &address, NULL), 0);
}

TEST(reused_port_is_shared)
{
    struct iocp_address address = loopback(0);
    iocp_handle first = open_socket(IOCP_FAMILY_IPV4);
    iocp_handle second = open_socket(IOCP_FAMILY_IPV4);
    if (test_on_windows()) {
        CHECK_EQ(iocp__socket_set(first, IOCP__OPTION_REUSE_PORT, 1), IOCP_ENOTSUP);
        CHECK_OK(iocp__socket_set(first, IOCP__OPTION_REUSE_PORT, 0));
        return;
    }
    CHECK_OK(iocp__socket_set(first, IOCP__OPTION_REUSE_PORT, 1));
    CHECK_OK(iocp__socket_set(second, IOCP__OPTION_REUSE_PORT, 1));
    CHECK_OK(iocp__socket_bind(first, &address, NULL));
    CHECK_OK(iocp__socket_listen(first, 1, NULL));
    CHECK_OK(iocp__socket_local(first, &address));
    CHECK_OK(iocp__socket_bind(second, &address, NULL));
    CHECK_OK(iocp__socket_listen(second, UINT32_MAX, NULL));
}

TEST(shutdown_ends_the_stream_of_the_peer)
{
    iocp_handle client, server;
    char byte;
    int32_t os_error = 0;
    connected_pair(&client, &server);
    CHECK_OK(iocp__socket_shutdown_send(client, &os_error));
    CHECK_EQ(os_error, 0);
    await_ready(server, READABLE);
    CHECK_EQ(receive(server, &byte, 1), 0);
    CHECK_EQ(send((SOCKET)server, "x", 1, MSG_NOSIGNAL), 1);
    await_ready(client, READABLE);
    CHECK_EQ(receive(client, &byte, 1), 1);
    CHECK_EQ(iocp__socket_shutdown_send(open_socket(IOCP_FAMILY_IPV4), &os_error), IOCP_ENOTCONN);
    CHECK_EQ(os_error, CODE(ENOTCONN));
}

TEST(pending_error_is_given_once)
{
    struct iocp_address address;
    iocp_handle listener = listen_somewhere(&address);
    iocp_handle client = open_socket(IOCP_FAMILY_IPV4);
    CHECK_EQ(iocp__socket_pending_error(client), 0);
    iocp__handle_close(listener); /* so nobody listens on that port */
    if (connect_to(client, &address) == CODE(ECONNREFUSED))
        SKIP("this kernel refuses at once");
    await_ready(client, WRITABLE);
    CHECK_EQ(iocp__socket_pending_error(client), CODE(ECONNREFUSED));
    if (!test_wine_differs("SO_ERROR is reset by reading it"))
        CHECK_EQ(iocp__socket_pending_error(client), 0);
}

TEST(reset_on_close_is_read_as_reset)
{
    iocp_handle client, server;
    char byte;
    connected_pair(&client, &server);
    CHECK_OK(iocp__socket_set(client, IOCP__OPTION_RESET_ON_CLOSE, 1));
    iocp__handle_close(client);
    await_ready(server, READABLE);
    if (!test_wine_differs("CL-08: closing with linger and 0 s resets the connection")) {
        CHECK_EQ(receive(server, &byte, 1), -1);
        CHECK_EQ(last_error(), CODE(ECONNRESET));
    }
}

TEST(reset_on_close_can_be_taken_back)
{
    iocp_handle client, server;
    char byte;
    connected_pair(&client, &server);
    CHECK_OK(iocp__socket_set(client, IOCP__OPTION_RESET_ON_CLOSE, 1));
    CHECK_OK(iocp__socket_set(client, IOCP__OPTION_RESET_ON_CLOSE, 0));
    iocp__handle_close(client);
    await_ready(server, READABLE);
    CHECK_EQ(receive(server, &byte, 1), 0);
}

/* ---- Options. */

TEST(options_of_tcp_reach_the_socket)
{
    iocp_handle handle = open_socket(IOCP_FAMILY_IPV4);
    int size;
    CHECK_OK(iocp__socket_set(handle, IOCP__OPTION_NODELAY, 1));
    CHECK_NE(option_of(handle, IPPROTO_TCP, TCP_NODELAY), 0);
    CHECK_OK(iocp__socket_set(handle, IOCP__OPTION_SEND_BUFFER, 20000));
    size = option_of(handle, SOL_SOCKET, SO_SNDBUF); /* the kernel doubles it */
    CHECK(size == 40000 || size == 20000);
    CHECK_OK(iocp__socket_set(handle, IOCP__OPTION_RECEIVE_BUFFER, 20000));
    size = option_of(handle, SOL_SOCKET, SO_RCVBUF);
    CHECK(size == 40000 || size == 20000);
}

/* A connection has the options of the socket that accepted it exactly where the library relies on
 * it. (What else has them is not asked: Windows has some.) */
TEST(accepted_has_options_where_it_is_said)
{
    struct iocp_address address = loopback(0);
    iocp_handle listener = open_socket(IOCP_FAMILY_IPV4);
    iocp_handle client = open_socket(IOCP_FAMILY_IPV4);
    CHECK(!iocp__accepted_has_options(IOCP_FAMILY_UNIX));
    if (!iocp__accepted_has_options(IOCP_FAMILY_IPV4))
        SKIP("each connection is given its options here");
    CHECK_OK(iocp__socket_set(listener, IOCP__OPTION_NODELAY, 1));
    CHECK_OK(iocp__socket_set(listener, IOCP__OPTION_KEEPALIVE_S, 77));
    CHECK_OK(iocp__socket_set(listener, IOCP__OPTION_SEND_BUFFER, 20000));
    CHECK_OK(iocp__socket_set(listener, IOCP__OPTION_RECEIVE_BUFFER, 24000));
    CHECK_OK(iocp__socket_bind(listener, &address, NULL));
    CHECK_OK(iocp__socket_listen(listener, 0, NULL));
    CHECK_OK(iocp__socket_local(listener, &address));
    (void)connect_to(client, &address);
    iocp_handle server = accept_from(listener);
    CHECK_NE(option_of(server, IPPROTO_TCP, TCP_NODELAY), 0);
    CHECK_NE(option_of(server, SOL_SOCKET, SO_KEEPALIVE), 0);
    CHECK_EQ(option_of(server, IPPROTO_TCP, TCP_KEEPIDLE), 77);
    CHECK_EQ(option_of(server, SOL_SOCKET, SO_SNDBUF), 40000);
    CHECK_EQ(option_of(server, SOL_SOCKET, SO_RCVBUF), 48000);
}

TEST(keepalive_reaches_the_socket)
{
    iocp_handle handle = open_socket(IOCP_FAMILY_IPV4);
    CHECK_OK(iocp__socket_set(handle, IOCP__OPTION_KEEPALIVE_S, 30));
    CHECK_NE(option_of(handle, SOL_SOCKET, SO_KEEPALIVE), 0);
    if (!test_wine_differs("TCP_KEEPIDLE can be read"))
        CHECK_EQ(option_of(handle, IPPROTO_TCP, TCP_KEEPIDLE), 30);
    CHECK_OK(iocp__socket_set(handle, IOCP__OPTION_KEEPALIVE_S, 1000000));
    if (!test_wine_differs("TCP_KEEPIDLE can be read"))
        CHECK_EQ(option_of(handle, IPPROTO_TCP, TCP_KEEPIDLE), 32767);
    CHECK_OK(iocp__socket_set(handle, IOCP__OPTION_KEEPALIVE_S, 0));
    CHECK_EQ(option_of(handle, SOL_SOCKET, SO_KEEPALIVE), 0);
}

static iocp_handle open_ipv6(void)
{
    struct iocp_address address = {0};
    struct sockaddr_in6 any;
    iocp_handle handle;
    if (iocp__socket_open(IOCP_FAMILY_IPV6, IOCP__SOCKET_STREAM, &handle, NULL) < 0)
        SKIP("no IPv6 here");
    memset(&any, 0, sizeof(any));
    any.sin6_family = AF_INET6;
    any.sin6_addr = in6addr_loopback;
    memcpy(address.storage.bytes, &any, sizeof(any));
    address.size = sizeof(any);
    if (iocp__socket_bind(open_socket(IOCP_FAMILY_IPV6), &address, NULL) < 0)
        SKIP("no address of IPv6 here");
    return handle;
}

TEST(ipv6_only_reaches_the_socket)
{
    iocp_handle handle = open_ipv6();
    /* On Linux the default is the administrator's. */
    if (test_on_windows())
        CHECK_EQ(option_of(handle, IPPROTO_IPV6, IPV6_V6ONLY), 0);
    CHECK_OK(iocp__socket_set(handle, IOCP__OPTION_IPV6_ONLY, 1));
    CHECK_EQ(option_of(handle, IPPROTO_IPV6, IPV6_V6ONLY), 1);
    CHECK_OK(iocp__socket_set(handle, IOCP__OPTION_IPV6_ONLY, 0));
    CHECK_EQ(option_of(handle, IPPROTO_IPV6, IPV6_V6ONLY), 0);
}

/* Listens on all addresses of IPv6 and returns what came of a connect to it over IPv4: 0, or the
 * code of the system. */
static int connect_over_ipv4(int ipv6_only)
{
    struct iocp_address address = {0};
    iocp_handle listener = open_ipv6();
    iocp_handle client = open_socket(IOCP_FAMILY_IPV4);
    struct sockaddr_in6 any;
    int error;
    memset(&any, 0, sizeof(any));
    any.sin6_family = AF_INET6;
    memcpy(address.storage.bytes, &any, sizeof(any));
    address.size = sizeof(any);
    CHECK_OK(iocp__socket_set(listener, IOCP__OPTION_IPV6_ONLY, ipv6_only));
    CHECK_OK(iocp__socket_bind(listener, &address, NULL));
    CHECK_OK(iocp__socket_listen(listener, 0, NULL));
    CHECK_OK(iocp__socket_local(listener, &address));
    memcpy(&any, address.storage.bytes, sizeof(any));
    address = loopback(ntohs(any.sin6_port));
    error = connect_to(client, &address);
    if (error == CODE(EINPROGRESS) || error == CODE(EWOULDBLOCK)) {
        await_ready(client, WRITABLE);
        error = iocp__socket_pending_error(client);
    }
    if (error == 0)
        iocp__handle_close(accept_from(listener));
    iocp__handle_close(client);
    iocp__handle_close(listener);
    return error;
}

TEST(ipv6_listener_takes_ipv4_unless_told_otherwise)
{
    CHECK_EQ(connect_over_ipv4(0), 0);
    CHECK_EQ(connect_over_ipv4(1), CODE(ECONNREFUSED));
}

/* IOCP__OPTION_REUSE_PORT is no option at all on Windows. */
static int is_missing(int option)
{
    return option == IOCP__OPTION_REUSE_PORT && test_on_windows();
}

static void set_all(iocp_handle handle)
{
    for (int option = IOCP__OPTION_NODELAY; option <= IOCP__OPTION_RESET_ON_CLOSE; option++) {
        if (!is_missing(option))
            CHECK_EQ(iocp__socket_set(handle, (enum iocp__socket_option)option, 1), 0);
    }
}

TEST(options_that_a_family_lacks_succeed)
{
    iocp_handle handle;
    set_all(open_kind(IOCP_FAMILY_IPV4, IOCP__SOCKET_STREAM));
    set_all(open_kind(IOCP_FAMILY_IPV4, IOCP__SOCKET_DATAGRAM));
    if (iocp__socket_open(IOCP_FAMILY_UNIX, IOCP__SOCKET_STREAM, &handle, NULL) == 0)
        set_all(handle);
}

TEST(options_of_no_socket_fail)
{
    iocp_handle ends[2];
    iocp_handle handle = open_socket(IOCP_FAMILY_IPV4);
    system_pipe(ends);
    for (int option = IOCP__OPTION_NODELAY; option <= IOCP__OPTION_RESET_ON_CLOSE; option++) {
        if (!is_missing(option))
            CHECK_EQ(iocp__socket_set(ends[0], (enum iocp__socket_option)option, 1),
                     IOCP_EBADHANDLE);
        CHECK_EQ(iocp__socket_set(handle, (enum iocp__socket_option)option, -1), IOCP_EINVAL);
    }
}

/* ---- Handles. */

/* A socket as a program might make it: it blocks, and others inherit it. */
static iocp_handle plain_socket(void)
{
    iocp_handle handle = (iocp_handle)socket(AF_INET, SOCK_DGRAM, 0);
    struct iocp_address address = loopback(0);
    CHECK_NE(handle, IOCP_HANDLE_INVALID);
    CHECK_OK(iocp__socket_bind(handle, &address, NULL));
    CHECK(system_is_inherited(handle));
    return handle;
}

TEST(prepared_handle_does_not_block_and_is_not_inherited)
{
    iocp_handle handle;
    char byte;
    CHECK_EQ(iocp__handle_prepare(IOCP_HANDLE_INVALID), IOCP_EBADHANDLE); /* starts Winsock */
    handle = plain_socket();
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(iocp__handle_prepare(handle), 0);
        CHECK(!system_is_inherited(handle));
        CHECK_EQ(receive(handle, &byte, 1), -1);
        CHECK_EQ(last_error(), CODE(EWOULDBLOCK));
    }
}

TEST(prepared_pipe_and_file_are_not_inherited)
{
    iocp_handle handles[3];
    system_pipe(handles);
    handles[2] = system_file(NULL);
    for (int i = 0; i < 3; i++) {
#ifdef _WIN32
        CHECK(SetHandleInformation((HANDLE)handles[i], HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT));
#else
        CHECK_EQ(fcntl((int)handles[i], F_SETFD, 0), 0);
#endif
        CHECK(system_is_inherited(handles[i]));
        CHECK_EQ(iocp__handle_prepare(handles[i]), 0);
        CHECK(!system_is_inherited(handles[i]));
        iocp__handle_close(handles[i]);
        CHECK(!system_is_open(handles[i]));
    }
}

TEST(prepared_pipe_does_not_block)
{
#ifdef _WIN32
    SKIP("on Windows a pipe blocks or not by the call and not by its state");
#else
    int ends[2];
    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(iocp__handle_prepare(ends[0]), 0);
    CHECK(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
    CHECK(!(fcntl(ends[1], F_GETFL) & O_NONBLOCK));
#endif
}

TEST(prepare_refuses_what_is_no_handle)
{
    iocp_handle handle = open_socket(IOCP_FAMILY_IPV4);
    iocp__handle_close(handle);
    CHECK_EQ(iocp__handle_prepare(handle), IOCP_EBADHANDLE);
    CHECK_EQ(iocp__handle_prepare(IOCP_HANDLE_INVALID), IOCP_EBADHANDLE);
    CHECK_EQ(iocp__handle_prepare((iocp_handle)1 << 32), IOCP_EBADHANDLE);
    CHECK_EQ(iocp__handle_prepare(-77), IOCP_EBADHANDLE);
#ifdef _WIN32
    /* Handles of other things. */
    HANDLE event = CreateEventW(NULL, TRUE, FALSE, NULL);
    HANDLE thread = OpenThread(SYNCHRONIZE, FALSE, GetCurrentThreadId());
    CHECK(event && thread);
    CHECK_EQ(iocp__handle_prepare((iocp_handle)event), IOCP_EBADHANDLE);
    CHECK_EQ(iocp__handle_prepare((iocp_handle)thread), IOCP_EBADHANDLE);
    CHECK_EQ(iocp__handle_prepare((iocp_handle)GetCurrentProcess()), IOCP_EBADHANDLE);
    CHECK_EQ(iocp__handle_prepare((iocp_handle)GetCurrentThread()), IOCP_EBADHANDLE);
    CHECK_EQ(iocp__handle_prepare(0), IOCP_EBADHANDLE);
#endif
}

TEST(files_are_told_from_what_can_be_polled)
{
    iocp_handle ends[2];
    system_pipe(ends);
    CHECK(iocp__handle_is_file(system_file(NULL)));
    CHECK(!iocp__handle_is_file(ends[0]));
    CHECK(!iocp__handle_is_file(open_socket(IOCP_FAMILY_IPV4)));
    CHECK(!iocp__handle_is_file(IOCP_HANDLE_INVALID));
}
