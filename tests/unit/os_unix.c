/* What the library takes from the system: Unix sockets, and paths. All in the folder of temporary
 * files. */
#include "os/os.h"
#include "os/sockaddr.h"
#include "support/check.h"
#include "support/system.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#ifndef _WIN32
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#ifdef _WIN32
#define CODE(name) WSA##name
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

static struct iocp_address unix_address(const char *path)
{
    struct iocp_address address = {0};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
    memcpy(address.storage.bytes, &un, sizeof(un));
    address.size = (uint32_t)(offsetof(struct sockaddr_un, sun_path) + strlen(un.sun_path) + 1);
    return address;
}

static iocp_handle open_socket(void)
{
    iocp_handle handle = IOCP_HANDLE_INVALID;
    CHECK_OK(iocp__socket_open(IOCP_FAMILY_UNIX, IOCP__SOCKET_STREAM, &handle, NULL));
    return handle;
}

/* Returns 0 or the code of the system. */
static int connect_to(iocp_handle handle, const struct iocp_address *address)
{
    int result =
        connect((SOCKET)handle, (const void *)address->storage.bytes, (socklen_t)address->size);
    return result == 0 ? 0 : last_error();
}

/* A path in the folder of temporary files that is this test's. Skips where there are no Unix
 * sockets. */
static const char *new_path(const char *name)
{
    static char path[4][512];
    static int count;
    iocp_handle handle;
    char *mine = path[count++ % 4];
    int error = iocp__socket_open(IOCP_FAMILY_UNIX, IOCP__SOCKET_STREAM, &handle, NULL);
    if (error == IOCP_ENOTSUP)
        SKIP("no Unix sockets here (Wine 8 has none)");
    CHECK_OK(error);
    iocp__handle_close(handle);
    snprintf(mine, sizeof(path[0]), "%siocp-os-%u-%s", system_temporary(),
             (unsigned)system_process(), name);
    return mine;
}

static iocp_handle unix_listener(const struct iocp_address *address, uint32_t backlog)
{
    iocp_handle handle = open_socket();
    CHECK_OK(iocp__socket_bind(handle, address, NULL));
    CHECK_OK(iocp__socket_listen(handle, backlog, NULL));
    return handle;
}

TEST(want_of_unix_sockets_is_told)
{
    iocp_handle handle = 77;
    int32_t os_error = 0;
    int error = iocp__socket_open(IOCP_FAMILY_UNIX, IOCP__SOCKET_STREAM, &handle, &os_error);
    if (error == 0) {
        CHECK(system_is_open(handle));
        return;
    }
    CHECK_EQ(error, IOCP_ENOTSUP);
    CHECK_EQ(os_error, CODE(EAFNOSUPPORT));
    CHECK_EQ(handle, 77);
}

TEST(path_of_a_dead_listener_is_stale)
{
    const char *path = new_path("socket");
    struct iocp_address address = unix_address(path);
    iocp_handle listener;
    CHECK(!iocp__unix_is_stale(&address)); /* nothing there */
    listener = unix_listener(&address, 8);
    CHECK(!iocp__unix_is_stale(&address));
    iocp__handle_close(listener);
    CHECK(iocp__unix_is_stale(&address));
    iocp__path_remove(path);
    CHECK(!system_path_exists(path));
    CHECK(!iocp__unix_is_stale(&address));
}

TEST(busy_listener_is_not_stale)
{
#ifdef _WIN32
    SKIP("Windows does not say when the backlog of a Unix socket is full");
#else
    const char *path = new_path("socket");
    struct iocp_address address = unix_address(path);
    iocp_handle listener = unix_listener(&address, 1);
    int waiting = 0;
    int error;
    while ((error = connect_to(open_socket(), &address)) == 0)
        waiting++;
    CHECK_EQ(error, EAGAIN);
    CHECK_GT(waiting, 0);
    CHECK(!iocp__unix_is_stale(&address));
    iocp__handle_close(listener);
    CHECK(iocp__unix_is_stale(&address));
    iocp__path_remove(path);
#endif
}

/* Linux refuses a connection to any file with the error of a dead socket: nobody's file may be
 * removed for that. */
TEST(file_that_is_no_socket_is_never_stale)
{
    const char *path = new_path("file");
    struct iocp_address address = unix_address(path);
    system_path_make(path);
    CHECK_NE(connect_to(open_socket(), &address), 0);
    CHECK(!iocp__unix_is_stale(&address));
    CHECK(system_path_exists(path));
    iocp__path_remove(path);
}

TEST(link_to_a_socket_is_never_stale)
{
#ifdef _WIN32
    SKIP("making a symbolic link takes a privilege on Windows");
#else
    const char *path = new_path("socket");
    const char *link = new_path("link");
    struct iocp_address address = unix_address(path);
    iocp__handle_close(unix_listener(&address, 1));
    CHECK_EQ(symlink(path, link), 0);
    address = unix_address(link);
    CHECK(!iocp__unix_is_stale(&address));
    iocp__path_remove(path);
    iocp__path_remove(link);
#endif
}

TEST(addresses_without_a_path_are_never_stale)
{
    struct iocp_address address;
    CHECK_OK(iocp_address_parse("127.0.0.1:1", &address));
    CHECK(!iocp__unix_is_stale(&address));
    memset(&address, 0, sizeof(address));
    CHECK(!iocp__unix_is_stale(&address));
    address = unix_address("");
    address.size = offsetof(struct sockaddr_un, sun_path) + 10; /* an abstract name */
    CHECK(!iocp__unix_is_stale(&address));
}

TEST(longest_path_works)
{
#ifdef _WIN32
    SKIP("Windows wants a 0 behind a path");
#else
    struct iocp_address address, local;
    iocp_handle listener;
    char path[109];
    size_t size;
    snprintf(path, sizeof(path), "%s", new_path("socket"));
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
#endif
}

TEST(unix_peer_without_a_name_is_no_address)
{
    const char *path = new_path("socket");
    struct iocp_address address = unix_address(path);
    struct iocp_address zero = {0};
    struct iocp_address peer = {.size = 99};
    iocp_handle accepted;
    iocp_handle listener = unix_listener(&address, 1);
    CHECK_EQ(connect_to(open_socket(), &address), 0);
    accepted = (iocp_handle)accept((SOCKET)listener, NULL, NULL);
    CHECK_NE(accepted, IOCP_HANDLE_INVALID);
    CHECK_OK(iocp__socket_peer(accepted, &peer));
    CHECK_MEM(&peer, &zero, sizeof(zero));
    iocp__path_remove(path);
}

TEST(mode_of_a_path_is_set)
{
#ifdef _WIN32
    CHECK_EQ(iocp__path_set_mode("C:/anything", 0620), IOCP_ENOTSUP);
#else
    const char *path = new_path("socket");
    struct iocp_address address = unix_address(path);
    struct stat status;
    CHECK_GE(unix_listener(&address, 1), 0);
    CHECK_EQ(iocp__path_set_mode(path, 0620), 0);
    CHECK_EQ(stat(path, &status), 0);
    CHECK_EQ(status.st_mode & 07777, 0620);
    CHECK_EQ(iocp__path_set_mode(new_path("missing"), 0620), IOCP_ENOENT);
    iocp__path_remove(path);
#endif
}

TEST(path_is_utf8)
{
    char path[512];
    snprintf(path, sizeof(path),
             "%siocp-os-%u-gr\xc3\xbc\xc3\x9f"
             "e-\xe2\x82\xac",
             system_temporary(), (unsigned)system_process());
    system_path_make(path);
    CHECK(system_path_exists(path));
    iocp__path_remove(path);
    CHECK(!system_path_exists(path));
    iocp__path_remove(path);
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = 0;
    iocp__path_remove(path); /* too long for any file: nothing happens */
}
