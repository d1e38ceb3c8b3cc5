/* What tests ask of the simulated system. See system.h. */
#include "support/check.h"
#include "support/system.h"

#include "os/sim.h"

#include <string.h>

#define YIELD_NS 5000 /* so long takes a look at what others do */
#define COMPUTE_NS 20000

/* ---- Time and threads. */

void system_nap(uint64_t time_ns)
{
    iocp__sim_sleep(time_ns);
}

void system_yield(void)
{
    iocp__sim_compute(YIELD_NS);
}

void system_compute(void)
{
    iocp__sim_compute(COMPUTE_NS);
}

uint32_t system_thread(void)
{
    return iocp__sim_thread_index() + 1;
}

int64_t system_thread_sleeps(uint32_t thread)
{
    return iocp__sim_thread_since(thread - 1);
}

uint32_t system_thread_named(const char *name)
{
    return iocp__sim_thread_named(name) + 1;
}

/* ---- Handles. */

int system_takes_its_time(void)
{
    return 1;
}

void system_close(iocp_handle handle)
{
    iocp__handle_close(handle);
}

int system_is_open(iocp_handle handle)
{
    return iocp__sim_is_open(handle);
}

int system_is_inherited(iocp_handle handle)
{
    /* There are no other programs. */
    CHECK(iocp__sim_is_open(handle));
    return 0;
}

int system_open_handles(void)
{
    return (int)iocp__sim_handles_held();
}

uint32_t system_raise_limit(void)
{
    iocp__sim_limit_handles(UINT32_MAX);
    return UINT32_MAX;
}

void system_lower_limit(uint32_t spare)
{
    iocp__sim_limit_handles(spare);
}

void system_restore_limit(void)
{
    iocp__sim_limit_handles(UINT32_MAX);
}

void system_hoard_take(struct system_hoard *hoard)
{
    iocp_handle handle;
    hoard->count = 0;
    while (iocp__socket_open(IOCP_FAMILY_IPV4, IOCP__SOCKET_STREAM, &handle, NULL) == 0) {
        CHECK_LT(hoard->count, SYSTEM_HOARD_MAX);
        hoard->handles[hoard->count++] = handle;
    }
}

void system_hoard_give(struct system_hoard *hoard, uint32_t count)
{
    for (; hoard->count > 0 && count > 0; count--)
        system_close(hoard->handles[--hoard->count]);
}

/* ---- Files and pipes. */

iocp_handle system_file(iocp_handle *out_copy)
{
    iocp_handle file = iocp__sim_file();
    if (out_copy)
        *out_copy = iocp__sim_file_again(file, 0);
    return file;
}

iocp_handle system_file_to_read(const char *text)
{
    iocp_handle file = iocp__sim_file();
    CHECK_EQ(iocp__sim_file_write(file, text, strlen(text), 0), strlen(text));
    iocp_handle to_read = iocp__sim_file_again(file, 1);
    system_close(file);
    return to_read;
}

iocp_handle system_file_to_wait_for(void)
{
    return iocp__sim_no_file();
}

iocp_handle system_no_file(void)
{
    return iocp__sim_no_file();
}

iocp_handle system_file_without_room(void)
{
    SKIP("a file always has room in the simulation");
}

size_t system_file_read(iocp_handle handle, void *data, size_t size, uint64_t offset)
{
    int64_t count = iocp__sim_file_read(handle, data, size, offset);
    if (count == IOCP_EEOF)
        return 0;
    CHECK_GE(count, 0);
    return (size_t)count;
}

void system_pipe(iocp_handle ends[2])
{
    iocp__sim_pair(ends);
}

static uint64_t pipe_wake_ns(void *context)
{
    return iocp__sim_readable(*(iocp_handle *)context) ? 0 : UINT64_MAX;
}

void system_pipe_read(iocp_handle end, char *out_byte)
{
    iocp__sim_block(pipe_wake_ns, &end, UINT64_MAX);
    CHECK_EQ(iocp__sim_recv(end, out_byte, 1), 1);
}

void system_pipe_write(iocp_handle end, char byte)
{
    CHECK_EQ(iocp__sim_send(end, &byte, 1), 1);
}

/* ---- The file of a Unix address. */

int system_path_exists(const char *path)
{
    return iocp__sim_path_exists(path);
}

void system_path_make(const char *path)
{
    CHECK_EQ(iocp__sim_path_make(path), 0);
}

void system_path_remove(const char *path)
{
    iocp__path_remove(path);
}

uint32_t system_path_mode(const char *path)
{
    CHECK(iocp__sim_path_exists(path));
    return iocp__sim_path_mode(path);
}

const char *system_temporary(void)
{
    return "/tmp/";
}

/* ---- The process. */

uint32_t system_process(void)
{
    return 1;
}

void system_deny_ipv6(void)
{
    iocp__sim_deny_ipv6();
}
