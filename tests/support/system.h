/* What tests ask of the system besides sockets (net.h): time, threads, handles, files, pipes. The
 * suites include no header of a system, so that one source is the test on each of them.
 *
 * What a system lacks skips the test, with the reason. Whatever else goes wrong fails it. */
#ifndef TESTS_SUPPORT_SYSTEM_H
#define TESTS_SUPPORT_SYSTEM_H

#include <iocp/address.h>

/* ---- Time and threads. */

void system_nap(uint64_t time_ns);
/* Lets others run. */
void system_yield(void);
/* Computes for a moment: what is done in a loop by who waits for something, and keeps his processor
 * meanwhile. */
void system_compute(void);

/* The calling thread's number, never 0. */
uint32_t system_thread(void);
/* How often the thread has gone to sleep so far, or what else tells one sleep from the next; -1
 * when it does not sleep now. */
int64_t system_thread_sleeps(uint32_t thread);
/* The number of a thread of this process that has the name; 0 when none has. */
uint32_t system_thread_named(const char *name);

/* ---- Handles. */

/* Not 0 where thousands of handles at a time are slow: under Wine, and where each is simulated. */
int system_takes_its_time(void);

void system_close(iocp_handle handle);
/* Of a socket or file: not 0 when it is open, and when programs that this one starts get it. */
int system_is_open(iocp_handle handle);
int system_is_inherited(iocp_handle handle);
/* Those that this process has open: sockets and files, and what a port is made of. */
int system_open_handles(void);

/* Allows as many as the system does, and returns their number. */
uint32_t system_raise_limit(void);
/* Allows no more than are open and `spare`. Skips where there is no such limit. Before what is to
 * run out of them: io_uring reads the limit when an accept is submitted (Linux 6.18). */
void system_lower_limit(uint32_t spare);
/* Takes that back. */
void system_restore_limit(void);

#define SYSTEM_HOARD_MAX 512

struct system_hoard {
    iocp_handle handles[SYSTEM_HOARD_MAX];
    uint32_t count;
};

/* Takes all handles that are left below the limit. */
void system_hoard_take(struct system_hoard *hoard);
/* Gives so many back; UINT32_MAX: all. */
void system_hoard_give(struct system_hoard *hoard, uint32_t count);

/* ---- Files and pipes, opened as the port needs them. */

/* An empty file that goes when it is closed, open for reading and writing; `out_copy` (may be NULL)
 * is the same file once more, with a place in it of its own. */
iocp_handle system_file(iocp_handle *out_copy);
/* One that holds `text`, open for reading alone. */
iocp_handle system_file_to_read(const char *text);
/* One that is opened for calls that wait, where that makes a difference; else it skips. */
iocp_handle system_file_to_wait_for(void);
/* A handle of what can be neither read nor written. */
iocp_handle system_no_file(void);
/* One that has room for nothing; skips where there is none. */
iocp_handle system_file_without_room(void);
/* Reads at an offset, and waits for it: how many bytes. */
size_t system_file_read(iocp_handle handle, void *data, size_t size, uint64_t offset);

/* ends[0] is read from what is written into ends[1]. */
void system_pipe(iocp_handle ends[2]);
/* One byte; waits for it. */
void system_pipe_read(iocp_handle end, char *out_byte);
void system_pipe_write(iocp_handle end, char byte);

/* ---- The file of a Unix address. */

int system_path_exists(const char *path);
/* Makes an ordinary file. */
void system_path_make(const char *path);
void system_path_remove(const char *path);
/* The permissions; skips where a file has none. */
uint32_t system_path_mode(const char *path);
/* The directory of temporary files, with what separates it from a name behind it. */
const char *system_temporary(void);

/* ---- The process. */

uint32_t system_process(void);
/* As on a system without IPv6: from here on no such socket can be made. Skips where that cannot be
 * had. */
void system_deny_ipv6(void);

#endif
