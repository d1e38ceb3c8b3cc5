/* Addresses: what parses, what does not, and what comes back as text. */
#include "os/sockaddr.h"
#include "support/check.h"

#include <iocp/address.h>
#include <iocp/error.h>

#include <string.h>

static struct iocp_address parsed(const char *text)
{
    struct iocp_address address;
    memset(&address, 0xab, sizeof address);
    if (iocp_address_parse(text, &address) != 0)
        CHECK_STR(text, "an address");
    return address;
}

static struct iocp_address from_system(const void *name, size_t size)
{
    struct iocp_address address;
    memset(&address, 0, sizeof address);
    memcpy(address.storage.bytes, name, size);
    address.size = (uint32_t)size;
    return address;
}

/* A path or abstract name of `size` bytes behind "unix:". */
static void unix_text(char *text, char first, size_t size)
{
    memcpy(text, "unix:", 5);
    memset(text + 5, 'x', size);
    text[5] = first;
    text[5 + size] = 0;
}

TEST(text_round_trip)
{
    static const char *const texts[] = {
        "127.0.0.1:80",
        "0.0.0.0:0",
        "255.255.255.255:65535",
        "[::1]:80",
        "[::]:0",
        "[fe80::1%2]:80",
        "[fe80::1%4294967295]:80",
        "[2001:db8:1:2:3:4:5:6]:443",
        "[1111:2222:3333:4444:5555:6666:7777:8888%4294967295]:65535",
        "[::ffff:192.0.2.1]:1",
        "unix:/run/app.sock",
        "unix:/a:b",
        "unix:@abstract",
    };
    size_t i;
    for (i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct iocp_address address = parsed(texts[i]);
        char text[IOCP_ADDRESS_TEXT_SIZE];
        CHECK_EQ(iocp_address_format(&address, text, sizeof text), (int)strlen(texts[i]));
        CHECK_STR(text, texts[i]);
    }
}

TEST(short_forms)
{
    static const struct {
        const char *text;
        const char *means;
    } forms[] = {
        {"*:80", "[::]:80"},
        {":80", "[::]:80"},
        {"localhost:80", "127.0.0.1:80"},
        {"[0:0::0:1]:80", "[::1]:80"},
        {"[2001:DB8::A]:80", "[2001:db8::a]:80"},
    };
    size_t i;
    for (i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct iocp_address address = parsed(forms[i].text);
        char text[IOCP_ADDRESS_TEXT_SIZE];
        CHECK(iocp_address_format(&address, text, sizeof text) > 0);
        CHECK_STR(text, forms[i].means);
    }
}

static const char *const malformed[] = {
    "",
    ":",
    "::",
    "80",
    "127.0.0.1",
    "127.0.0.1:",
    "127.0.0.1:-1",
    "127.0.0.1:+1",
    "127.0.0.1: 80",
    "127.0.0.1:80 ",
    " 127.0.0.1:80",
    "127.0.0.1:65536",
    "127.0.0.1:99999999999999999999",
    "127.0.0.1:4294967376",
    "127.0.0.1:080",
    "127.0.0.1:0x50",
    "127.0.0.1:8o",
    "127.0.0:80",
    "127.0.0.1.2:80",
    "256.0.0.1:80",
    "127.0.0.01:80",
    "127.1:80",
    "2130706433:80",
    "127.0.0.1:80:80",
    "example.com:80",
    "Localhost:80",
    "localhost",
    "*",
    "**:80",
    "[*]:80",
    "[]:80",
    "[:80",
    "]:80",
    "[::1:80",
    "::1]:80",
    "::1:80",
    "[::1]",
    "[::1]80",
    "[::1]x:80",
    "[::1] :80",
    "[ ::1]:80",
    "[127.0.0.1]:80",
    "[:::1]:80",
    "[1:2:3:4:5:6:7:8:9]:80",
    "[12345::]:80",
    "[g::]:80",
    "[fe80::1%]:80",
    "[fe80::1%0]:80",
    "[fe80::1%eth0]:80",
    "[fe80::1%-2]:80",
    "[fe80::1%4294967296]:80",
    "[fe80::1%2%3]:80",
    "[%2]:80",
    "[1111:2222:3333:4444:5555:6666:7777:8888%00000000000000000002]:80",
    "unix:",
    "unix:@",
    "unix:/",
    "unix:relative",
    "unix:./relative",
    "Unix:/path",
    "unix",
    "unix:80",
};

TEST(malformed_is_refused)
{
    size_t i;
    for (i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        struct iocp_address address;
        struct iocp_address before;
        memset(&address, 0xab, sizeof address);
        before = address;
        if (iocp_address_parse(malformed[i], &address) != IOCP_EINVAL)
            CHECK_STR(malformed[i], "refused");
        CHECK(memcmp(&address, &before, sizeof address) == 0);
    }
    CHECK_EQ(iocp_address_parse(NULL, NULL), IOCP_EINVAL);
}

/* Paths of Windows: text, and whether it is one there. None is one elsewhere. */
static const struct {
    const char *text;
    int is_path;
} drives[] = {
    {"unix:C:/run/app.sock", 1},
    {"unix:z:\\run\\app.sock", 1},
    {"unix:a:/x", 1},
    {"unix:Z:\\x", 1},
    {"unix:C:/", 0},
    {"unix:C:\\", 0},
    {"unix:C:", 0},
    {"unix:C:x", 0},
    {"unix:C:relative/x", 0},
    {"unix:CD:/x", 0},
    {"unix:1:/x", 0},
    {"unix:[:/x", 0},
    {"unix:`:/x", 0},
    {"unix:{:/x", 0},
    {"unix::/x", 0},
    {"unix:\\x", 0},
    {"unix:\\\\host\\share\\x", 0},
};

TEST(path_with_a_drive_is_one_on_windows)
{
    size_t i;
    for (i = 0; i < sizeof drives / sizeof drives[0]; i++) {
        struct iocp_address address;
        char text[IOCP_ADDRESS_TEXT_SIZE];
        int is_path = drives[i].is_path && test_on_windows();
        if (iocp_address_parse(drives[i].text, &address) != (is_path ? 0 : IOCP_EINVAL))
            CHECK_STR(drives[i].text, is_path ? "a path" : "no path");
        if (!is_path)
            continue;
        CHECK(iocp_address_family(&address) == IOCP_FAMILY_UNIX);
        CHECK(iocp_address_format(&address, text, sizeof text) > 0);
        CHECK_STR(text, drives[i].text);
    }
}

TEST(unix_name_of_every_length)
{
    char text[256];
    char written[IOCP_ADDRESS_TEXT_SIZE];
    struct iocp_address address;
    size_t path_max = sizeof(((struct sockaddr_un *)0)->sun_path);
    size_t size;
    for (size = 2; size < path_max; size++) {
        unix_text(text, size % 2 ? '/' : '@', size);
        address = parsed(text);
        CHECK(iocp_address_family(&address) == IOCP_FAMILY_UNIX);
        CHECK_EQ(iocp_address_format(&address, written, sizeof written), (int)(5 + size));
        CHECK_STR(written, text);
    }
    for (size = path_max; size < 200; size++) {
        unix_text(text, '/', size);
        CHECK_EQ(iocp_address_parse(text, &address), IOCP_EINVAL);
        unix_text(text, '@', size);
        CHECK_EQ(iocp_address_parse(text, &address), IOCP_EINVAL);
    }
}

TEST(format_writes_all_or_nothing)
{
    struct iocp_address address = parsed("127.0.0.1:80");
    char text[16];
    size_t size;
    for (size = 0; size <= 12; size++) {
        memset(text, '#', sizeof text);
        CHECK_EQ(iocp_address_format(&address, text, size), IOCP_EMSGSIZE);
        CHECK(memcmp(text, "################", sizeof text) == 0);
    }
    CHECK_EQ(iocp_address_format(&address, text, 13), 12);
    CHECK_STR(text, "127.0.0.1:80");
    CHECK_EQ(iocp_address_format(&address, NULL, 13), IOCP_EINVAL);
}

TEST(no_address)
{
    struct iocp_address none;
    struct iocp_address ipv4 = parsed("0.0.0.0:0");
    char text[IOCP_ADDRESS_TEXT_SIZE];
    memset(&none, 0, sizeof none);
    CHECK(iocp_address_family(&none) == IOCP_FAMILY_NONE);
    CHECK(iocp_address_family(NULL) == IOCP_FAMILY_NONE);
    CHECK_EQ(iocp_address_port(&none), 0);
    CHECK_EQ(iocp_address_set_port(&none, 80), IOCP_EINVAL);
    CHECK_EQ(iocp_address_format(&none, text, sizeof text), IOCP_EINVAL);
    CHECK(!iocp_address_equal(&none, &ipv4));
    CHECK(!iocp_address_equal(&ipv4, &none));
    CHECK(!iocp_address_equal(&none, &none));
    /* Sizes that cannot be. */
    ipv4.size = sizeof(struct sockaddr_in) - 1;
    CHECK(iocp_address_family(&ipv4) == IOCP_FAMILY_NONE);
    ipv4.size = sizeof ipv4.storage + 1;
    CHECK(iocp_address_family(&ipv4) == IOCP_FAMILY_NONE);
}

/* The system's names of Unix sockets have more shapes than `parse` makes. */
TEST(unix_names_of_the_system)
{
    struct sockaddr_un name;
    struct iocp_address address;
    struct iocp_address same = parsed("unix:/path");
    char text[IOCP_ADDRESS_TEXT_SIZE];
    size_t at = offsetof(struct sockaddr_un, sun_path);
    memset(&name, 0, sizeof name);
    name.sun_family = AF_UNIX;

    address = from_system(&name, at); /* a peer without a name */
    CHECK(iocp_address_family(&address) == IOCP_FAMILY_NONE);
    CHECK_EQ(iocp_address_format(&address, text, sizeof text), IOCP_EINVAL);

    memcpy(name.sun_path, "/path", 5);
    address = from_system(&name, at + 5); /* without its terminating 0 */
    CHECK(iocp_address_equal(&address, &same));
    CHECK_EQ(iocp_address_format(&address, text, sizeof text), 10);
    address = from_system(&name, sizeof name); /* with more than one */
    CHECK(iocp_address_equal(&address, &same));
    CHECK_EQ(iocp_address_format(&address, text, sizeof text), 10);
    CHECK_STR(text, "unix:/path");

    memset(name.sun_path, 'x', sizeof name.sun_path); /* 108 bytes and no 0 */
    name.sun_path[0] = '/';
    address = from_system(&name, sizeof name);
    CHECK_EQ(iocp_address_format(&address, text, sizeof text), 5 + (int)sizeof name.sun_path);

    address = from_system(&name, at + 1); /* the root */
    CHECK_EQ(iocp_address_format(&address, text, sizeof text), IOCP_EINVAL);
    name.sun_path[0] = 'r'; /* relative */
    address = from_system(&name, sizeof name);
    CHECK_EQ(iocp_address_format(&address, text, sizeof text), IOCP_EINVAL);

    memcpy(name.sun_path, "\0a\0b", 4); /* abstract with a 0 in it */
    address = from_system(&name, at + 4);
    CHECK_EQ(iocp_address_format(&address, text, sizeof text), IOCP_EINVAL);
    CHECK(iocp_address_equal(&address, &address));
    same = from_system(&name, at + 2);
    CHECK(!iocp_address_equal(&address, &same));
}

TEST(family_and_port)
{
    struct iocp_address address = parsed("127.0.0.1:80");
    struct sockaddr_in name;
    CHECK(iocp_address_family(&address) == IOCP_FAMILY_IPV4);
    CHECK_EQ(iocp_address_port(&address), 80);
    CHECK_EQ(iocp_address_set_port(&address, 258), 0);
    CHECK_EQ(iocp_address_port(&address), 258);
    memcpy(&name, address.storage.bytes, sizeof name);
    CHECK_EQ(address.size, sizeof name);
    CHECK_EQ(ntohs(name.sin_port), 258);
    CHECK_EQ(ntohl(name.sin_addr.s_addr), INADDR_LOOPBACK);

    address = parsed("[fe80::1%7]:80");
    CHECK(iocp_address_family(&address) == IOCP_FAMILY_IPV6);
    CHECK_EQ(iocp_address_set_port(&address, 0), 0);
    CHECK_EQ(iocp_address_port(&address), 0);

    address = parsed("unix:@name");
    CHECK(iocp_address_family(&address) == IOCP_FAMILY_UNIX);
    CHECK_EQ(iocp_address_port(&address), 0);
    CHECK_EQ(iocp_address_set_port(&address, 80), IOCP_EINVAL);
}

static int equal(const char *text_a, const char *text_b)
{
    struct iocp_address a = parsed(text_a);
    struct iocp_address b = parsed(text_b);
    int result = iocp_address_equal(&a, &b);
    CHECK_EQ(result, iocp_address_equal(&b, &a));
    return result;
}

TEST(equal_is_the_same_place)
{
    CHECK(equal("127.0.0.1:80", "127.0.0.1:80"));
    CHECK(equal("127.0.0.1:80", "[::ffff:127.0.0.1]:80"));
    CHECK(equal("[::1]:80", "[0:0:0:0:0:0:0:1]:80"));
    CHECK(equal("unix:/path", "unix:/path"));
    CHECK(equal("unix:@name", "unix:@name"));
    CHECK(!equal("127.0.0.1:80", "127.0.0.1:81"));
    CHECK(!equal("127.0.0.1:80", "127.0.0.2:80"));
    CHECK(!equal("127.0.0.1:80", "[::127.0.0.1]:80"));
    CHECK(!equal("127.0.0.1:80", "[::ffff:127.0.0.1]:81"));
    CHECK(!equal("[::1]:80", "[::2]:80"));
    CHECK(!equal("[fe80::1%2]:80", "[fe80::1%3]:80"));
    CHECK(!equal("unix:/path", "unix:/path2"));
    CHECK(!equal("unix:/path", "unix:@path"));
    CHECK(!equal("unix:/path", "127.0.0.1:80"));
}

static uint64_t hash(const char *text)
{
    struct iocp_address address = parsed(text);
    return iocp_address_host_hash(&address);
}

TEST(hash_is_of_the_host)
{
    CHECK(hash("127.0.0.1:80") == hash("127.0.0.1:81"));
    CHECK(hash("127.0.0.1:80") == hash("[::ffff:127.0.0.1]:1"));
    CHECK(hash("[::1]:80") == hash("[::1]:81"));
    CHECK(hash("unix:/a") == hash("unix:/b"));
    CHECK(hash("127.0.0.1:80") != hash("127.0.0.2:80"));
    CHECK(hash("[::1]:80") != hash("[::2]:80"));
    CHECK(hash("[1::]:80") != hash("[2::]:80"));
    CHECK(hash("[fe80::1%2]:80") != hash("[fe80::1%3]:80"));
}
