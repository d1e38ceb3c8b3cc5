/* What the library takes from the system: sockets, handles, paths. All on the loopback or in a
 * temporary folder. */
#include "os/os.h"
#include "support/check.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct iocp_address loopback(uint16_t port)
{
    struct iocp_address address = {.size = sizeof(struct sockaddr_in)};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(address.storage.bytes, &in, sizeof(in));
    return address;
}

static struct iocp_address unix_address(const char *path)
{
    struct iocp_address address = {0};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
    memcpy(address.storage.bytes, &un, sizeof(un));
    address.size = (uint32_t)(offsetof(struct sockaddr_un, sun_path) + strlen(un.sun_path) + 1);
    return address;
}

static uint16_t port_of(const struct iocp_address *address)
{
    struct sockaddr_in in;
    memcpy(&in, address->storage.bytes, sizeof(in));
    return ntohs(in.sin_port);
}

static iocp_handle open_socket(enum iocp_family family)
{
    iocp_handle handle = IOCP_HANDLE_INVALID;
    CHECK_OK(iocp__socket_open(family, IOCP__SOCKET_STREAM, &handle, NULL));
    return handle;
}

static int connect_to(iocp_handle handle, const struct iocp_address *address)
{
    return connect((int)handle, (const void *)address->storage.bytes, address->size);
}

static void await_poll(iocp_handle handle, short events)
{
    struct pollfd item = {.fd = (int)handle, .events = events};
    CHECK_EQ(poll(&item, 1, -1), 1);
}

static int option_of(iocp_handle handle, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof(value);
    CHECK_EQ(getsockopt((int)handle, level, name, &value, &size), 0);
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

static void connected_pair(iocp_handle *out_client, iocp_handle *out_server)
{
    struct iocp_address address;
    iocp_handle listener = listen_somewhere(&address);
    *out_client = open_socket(IOCP_FAMILY_IPV4);
    if (connect_to(*out_client, &address) != 0)
        CHECK_EQ(errno, EINPROGRESS);
    await_poll(listener, POLLIN);
    *out_server = accept4((int)listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    CHECK_GE(*out_server, 0);
    await_poll(*out_client, POLLOUT);
    iocp__handle_close(listener);
}

TEST(sockets_are_non_blocking_and_close_on_exec)
{
    static const enum iocp_family families[] = {IOCP_FAMILY_IPV4, IOCP_FAMILY_UNIX};
    for (int i = 0; i < 2; i++) {
        for (int type = IOCP__SOCKET_STREAM; type <= IOCP__SOCKET_DATAGRAM; type++) {
            iocp_handle handle;
            CHECK_OK(iocp__socket_open(families[i], type, &handle, NULL));
            CHECK(fcntl((int)handle, F_GETFL) & O_NONBLOCK);
            CHECK(fcntl((int)handle, F_GETFD) & FD_CLOEXEC);
            CHECK_EQ(option_of(handle, SOL_SOCKET, SO_TYPE),
                     type == IOCP__SOCKET_STREAM ? SOCK_STREAM : SOCK_DGRAM);
            iocp__handle_close(handle);
            CHECK_EQ(fcntl((int)handle, F_GETFD), -1);
        }
    }
}

TEST(socket_of_no_family_or_type_is_refused)
{
    iocp_handle handle = 77;
    int32_t os_error = 0;
    CHECK_EQ(iocp__socket_open(IOCP_FAMILY_NONE, IOCP__SOCKET_STREAM, &handle, &os_error),
             IOCP_EINVAL);
    CHECK_EQ(os_error, EINVAL);
    CHECK_EQ(iocp__socket_open(IOCP_FAMILY_IPV4, 3, &handle, NULL), IOCP_EINVAL);
    CHECK_EQ(handle, 77);
}

TEST(want_of_descriptors_is_emfile)
{
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
    CHECK_EQ(os_error, EADDRINUSE);
    address.size = sizeof(address.storage) + 1;
    CHECK_EQ(iocp__socket_bind(second, &address, &os_error), IOCP_EINVAL);
}

TEST(reused_port_is_shared)
{
    struct iocp_address address = loopback(0);
    iocp_handle first = open_socket(IOCP_FAMILY_IPV4);
    iocp_handle second = open_socket(IOCP_FAMILY_IPV4);
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
    await_poll(server, POLLIN);
    CHECK_EQ(recv((int)server, &byte, 1, 0), 0);
    CHECK_EQ(send((int)server, "x", 1, MSG_NOSIGNAL), 1);
    await_poll(client, POLLIN);
    CHECK_EQ(recv((int)client, &byte, 1, 0), 1);
    CHECK_EQ(iocp__socket_shutdown_send(open_socket(IOCP_FAMILY_IPV4), &os_error), IOCP_ENOTCONN);
    CHECK_EQ(os_error, ENOTCONN);
}

TEST(pending_error_is_given_once)
{
    struct iocp_address address;
    iocp_handle listener = listen_somewhere(&address);
    iocp_handle client = open_socket(IOCP_FAMILY_IPV4);
    CHECK_EQ(iocp__socket_pending_error(client), 0);
    iocp__handle_close(listener); /* so nobody listens on that port */
    if (connect_to(client, &address) != 0 && errno == ECONNREFUSED)
        SKIP("this kernel refuses at once");
    await_poll(client, POLLOUT);
    CHECK_EQ(iocp__socket_pending_error(client), ECONNREFUSED);
    CHECK_EQ(iocp__socket_pending_error(client), 0);
}

TEST(reset_on_close_is_read_as_reset)
{
    iocp_handle client, server;
    char byte;
    connected_pair(&client, &server);
    CHECK_OK(iocp__socket_set(client, IOCP__OPTION_RESET_ON_CLOSE, 1));
    iocp__handle_close(client);
    await_poll(server, POLLIN);
    CHECK_EQ(recv((int)server, &byte, 1, 0), -1);
    CHECK_EQ(errno, ECONNRESET);
}

TEST(reset_on_close_can_be_taken_back)
{
    iocp_handle client, server;
    char byte;
    connected_pair(&client, &server);
    CHECK_OK(iocp__socket_set(client, IOCP__OPTION_RESET_ON_CLOSE, 1));
    CHECK_OK(iocp__socket_set(client, IOCP__OPTION_RESET_ON_CLOSE, 0));
    iocp__handle_close(client);
    await_poll(server, POLLIN);
    CHECK_EQ(recv((int)server, &byte, 1, 0), 0);
}

TEST(options_of_tcp_reach_the_socket)
{
    iocp_handle handle = open_socket(IOCP_FAMILY_IPV4);
    int size;
    CHECK_OK(iocp__socket_set(handle, IOCP__OPTION_NODELAY, 1));
    CHECK_NE(option_of(handle, IPPROTO_TCP, TCP_NODELAY), 0);
    CHECK_OK(iocp__socket_set(handle, IOCP__OPTION_KEEPALIVE_S, 30));
    CHECK_NE(option_of(handle, SOL_SOCKET, SO_KEEPALIVE), 0);
    CHECK_EQ(option_of(handle, IPPROTO_TCP, TCP_KEEPIDLE), 30);
    CHECK_OK(iocp__socket_set(handle, IOCP__OPTION_KEEPALIVE_S, 1000000));
    CHECK_EQ(option_of(handle, IPPROTO_TCP, TCP_KEEPIDLE), 32767);
    CHECK_OK(iocp__socket_set(handle, IOCP__OPTION_KEEPALIVE_S, 0));
    CHECK_EQ(option_of(handle, SOL_SOCKET, SO_KEEPALIVE), 0);
    CHECK_OK(iocp__socket_set(handle, IOCP__OPTION_REUSE_ADDRESS, 1));
    CHECK_NE(option_of(handle, SOL_SOCKET, SO_REUSEADDR), 0);
    CHECK_OK(iocp__socket_set(handle, IOCP__OPTION_SEND_BUFFER, 20000));
    size = option_of(handle, SOL_SOCKET, SO_SNDBUF); /* the kernel doubles it */
    CHECK(size == 40000 || size == 20000);
    CHECK_OK(iocp__socket_set(handle, IOCP__OPTION_RECEIVE_BUFFER, 20000));
    size = option_of(handle, SOL_SOCKET, SO_RCVBUF);
    CHECK(size == 40000 || size == 20000);
}

TEST(ipv6_only_reaches_the_socket)
{
    iocp_handle handle;
    if (iocp__socket_open(IOCP_FAMILY_IPV6, IOCP__SOCKET_STREAM, &handle, NULL) < 0)
        SKIP("no IPv6 here");
    CHECK_OK(iocp__socket_set(handle, IOCP__OPTION_IPV6_ONLY, 1));
    CHECK_EQ(option_of(handle, IPPROTO_IPV6, IPV6_V6ONLY), 1);
    CHECK_OK(iocp__socket_set(handle, IOCP__OPTION_IPV6_ONLY, 0));
    CHECK_EQ(option_of(handle, IPPROTO_IPV6, IPV6_V6ONLY), 0);
}

TEST(options_that_a_family_lacks_succeed)
{
    for (int option = IOCP__OPTION_NODELAY; option <= IOCP__OPTION_RESET_ON_CLOSE; option++) {
        iocp_handle handle = open_socket(IOCP_FAMILY_UNIX);
        CHECK_EQ(iocp__socket_set(handle, (enum iocp__socket_option)option, 1), 0);
        iocp__handle_close(handle);
        CHECK_OK(iocp__socket_open(IOCP_FAMILY_IPV4, IOCP__SOCKET_DATAGRAM, &handle, NULL));
        CHECK_EQ(iocp__socket_set(handle, (enum iocp__socket_option)option, 1), 0);
        iocp__handle_close(handle);
    }
}

TEST(options_of_no_socket_fail)
{
    int ends[2];
    CHECK_EQ(pipe(ends), 0);
    for (int option = IOCP__OPTION_NODELAY; option <= IOCP__OPTION_RESET_ON_CLOSE; option++)
        CHECK_EQ(iocp__socket_set(ends[0], (enum iocp__socket_option)option, 1), IOCP_EBADHANDLE);
    CHECK_EQ(iocp__socket_set(open_socket(IOCP_FAMILY_IPV4), IOCP__OPTION_KEEPALIVE_S, -1),
             IOCP_EINVAL);
}

/* ---- Handles. */

TEST(prepared_handle_is_non_blocking_and_close_on_exec)
{
    int ends[2];
    CHECK_EQ(pipe(ends), 0);
    CHECK(!(fcntl(ends[0], F_GETFL) & O_NONBLOCK));
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(iocp__handle_prepare(ends[0]), 0);
        CHECK(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
        CHECK(fcntl(ends[0], F_GETFD) & FD_CLOEXEC);
    }
    CHECK(!(fcntl(ends[1], F_GETFL) & O_NONBLOCK));
}

TEST(prepare_refuses_what_is_no_handle)
{
    iocp_handle handle = open_socket(IOCP_FAMILY_UNIX);
    iocp__handle_close(handle);
    CHECK_EQ(iocp__handle_prepare(handle), IOCP_EBADHANDLE);
    CHECK_EQ(iocp__handle_prepare(IOCP_HANDLE_INVALID), IOCP_EBADHANDLE);
    CHECK_EQ(iocp__handle_prepare((iocp_handle)1 << 32), IOCP_EBADHANDLE);
}

/* ---- Unix sockets and paths. */

static char folder[] = "/tmp/iocp-test-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[128];
    static int made;
    if (!made)
        CHECK(mkdtemp(folder) != NULL);
    made = 1;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void clean_folder(void)
{
    iocp__path_remove(in_folder("file"));
    iocp__path_remove(in_folder("link"));
    iocp__path_remove(in_folder("socket"));
    CHECK_EQ(rmdir(folder), 0);
}

static iocp_handle unix_listener(const struct iocp_address *address, uint32_t backlog)
{
    iocp_handle handle = open_socket(IOCP_FAMILY_UNIX);
    CHECK_OK(iocp__socket_bind(handle, address, NULL));
    CHECK_OK(iocp__socket_listen(handle, backlog, NULL));
    return handle;
}

TEST(files_are_told_from_what_can_be_polled)
{
    int file = open(in_folder("file"), O_CREAT | O_RDWR, 0600);
    int ends[2];
    CHECK_GE(file, 0);
    CHECK_EQ(pipe(ends), 0);
    CHECK(iocp__handle_is_file(file));
    CHECK(!iocp__handle_is_file(ends[0]));
    CHECK(!iocp__handle_is_file(open_socket(IOCP_FAMILY_IPV4)));
    CHECK(!iocp__handle_is_file(IOCP_HANDLE_INVALID));
    clean_folder();
}

TEST(path_of_a_dead_listener_is_stale)
{
    struct iocp_address address = unix_address(in_folder("socket"));
    iocp_handle listener;
    CHECK(!iocp__unix_is_stale(&address)); /* nothing there */
    listener = unix_listener(&address, 8);
    CHECK(!iocp__unix_is_stale(&address));
    iocp__handle_close(listener);
    CHECK(iocp__unix_is_stale(&address));
    iocp__path_remove(in_folder("socket"));
    CHECK(!iocp__unix_is_stale(&address));
    clean_folder();
}

TEST(busy_listener_is_not_stale)
{
    struct iocp_address address = unix_address(in_folder("socket"));
    iocp_handle listener = unix_listener(&address, 1);
    int waiting = 0;
    while (connect_to(open_socket(IOCP_FAMILY_UNIX), &address) == 0)
        waiting++;
    CHECK_EQ(errno, EAGAIN);
    CHECK_GT(waiting, 0);
    CHECK(!iocp__unix_is_stale(&address));
    iocp__handle_close(listener);
    CHECK(iocp__unix_is_stale(&address));
    clean_folder();
}

/* Linux refuses a connection to any file with the error of a dead socket: nobody's file may be
 * removed for that. */
TEST(file_that_is_no_socket_is_never_stale)
{
    struct iocp_address address = unix_address(in_folder("file"));
    char target[128];
    int file = open(in_folder("file"), O_CREAT | O_RDWR, 0600);
    CHECK_GE(file, 0);
    CHECK_EQ(connect_to(open_socket(IOCP_FAMILY_UNIX), &address), -1);
    CHECK_EQ(errno, ECONNREFUSED);
    CHECK(!iocp__unix_is_stale(&address));

    address = unix_address(in_folder("socket"));
    iocp__handle_close(unix_listener(&address, 1));
    snprintf(target, sizeof(target), "%s", in_folder("socket"));
    CHECK_EQ(symlink(target, in_folder("link")), 0);
    address = unix_address(in_folder("link"));
    CHECK(!iocp__unix_is_stale(&address));
    clean_folder();
}

TEST(addresses_without_a_path_are_never_stale)
{
    struct iocp_address address = loopback(1);
    CHECK(!iocp__unix_is_stale(&address));
    memset(&address, 0, sizeof(address));
    CHECK(!iocp__unix_is_stale(&address));
    address = unix_address("");
    address.size = offsetof(struct sockaddr_un, sun_path) + 10; /* an abstract name */
    CHECK(!iocp__unix_is_stale(&address));
}

TEST(longest_path_works)
{
    struct iocp_address address, local;
    iocp_handle listener;
    char path[109];
    size_t size;
    snprintf(path, sizeof(path), "%s", in_folder("socket"));
    size = strlen(path);
    memset(path + size, 's', 108 - size);
    path[108] = 0; /* all of sun_path, without a 0 in it */
    address = unix_address("");
    memcpy(address.storage.bytes + offsetof(struct sockaddr_un, sun_path), path, 108);
    address.size = sizeof(struct sockaddr_un);
    listener = unix_listener(&address, 1);
    CHECK_OK(iocp__socket_local(listener, &local));
    CHECK_GE(local.size, address.size);
    CHECK_MEM(local.storage.bytes, address.storage.bytes, address.size);
    CHECK(!iocp__unix_is_stale(&address));
    iocp__handle_close(listener);
    CHECK(iocp__unix_is_stale(&address));
    iocp__path_remove(path);
    clean_folder();
}

TEST(unix_peer_without_a_name_is_no_address)
{
    int ends[2];
    struct iocp_address zero = {0};
    struct iocp_address address = {.size = 99};
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    CHECK_OK(iocp__socket_peer(ends[0], &address));
    CHECK_MEM(&address, &zero, sizeof(zero));
}

TEST(mode_of_a_path_is_set)
{
    struct iocp_address address = unix_address(in_folder("socket"));
    struct stat status;
    CHECK_GE(unix_listener(&address, 1), 0);
    CHECK_EQ(iocp__path_set_mode(in_folder("socket"), 0620), 0);
    CHECK_EQ(stat(in_folder("socket"), &status), 0);
    CHECK_EQ(status.st_mode & 07777, 0620);
    CHECK_EQ(iocp__path_set_mode(in_folder("missing"), 0620), IOCP_ENOENT);
    clean_folder();
}
