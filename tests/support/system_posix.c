/* What tests ask of Linux. See system.h. */
#include "support/check.h"
#include "support/system.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* ---- Time and threads. */

void system_nap(uint64_t time_ns)
{
    struct timespec time = {(time_t)(time_ns / 1000000000), (long)(time_ns % 1000000000)};
    nanosleep(&time, NULL);
}

void system_yield(void)
{
    sched_yield();
}

void system_compute(void)
{
    /* To ask is enough. */
}

uint32_t system_thread(void)
{
    return (uint32_t)syscall(SYS_gettid);
}

int64_t system_thread_sleeps(uint32_t thread)
{
    char path[64];
    char line[256];
    char state = '?';
    int64_t count = -1;
    snprintf(path, sizeof(path), "/proc/self/task/%u/status", thread);
    FILE *file = fopen(path, "r");
    if (!file)
        FAIL("the thread %u is gone", thread);
    while (fgets(line, sizeof(line), file)) {
        sscanf(line, "State: %c", &state);
        sscanf(line, "voluntary_ctxt_switches: %" SCNd64, &count);
    }
    fclose(file);
    return state == 'S' ? count : -1;
}

uint32_t system_thread_named(const char *name)
{
    char path[300];
    char line[64];
    uint32_t found = 0;
    struct dirent *entry;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks);
    while (!found && (entry = readdir(tasks))) {
        snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (!file)
            continue;
        if (fgets(line, sizeof(line), file)) {
            line[strcspn(line, "\n")] = 0;
            if (strcmp(line, name) == 0)
                found = (uint32_t)atoi(entry->d_name);
        }
        fclose(file);
    }
    closedir(tasks);
    return found;
}

/* ---- Handles. */

int system_takes_its_time(void)
{
    return 0;
}

void system_close(iocp_handle handle)
{
    CHECK_EQ(close((int)handle), 0);
}

int system_is_open(iocp_handle handle)
{
    return fcntl((int)handle, F_GETFD) >= 0;
}

int system_is_inherited(iocp_handle handle)
{
    int flags = fcntl((int)handle, F_GETFD);
    CHECK_GE(flags, 0);
    return !(flags & FD_CLOEXEC);
}

int system_open_handles(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;
    CHECK(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static struct rlimit system_limit;

uint32_t system_raise_limit(void)
{
    struct rlimit limit;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    return limit.rlim_cur < UINT32_MAX ? (uint32_t)limit.rlim_cur : UINT32_MAX;
}

void system_lower_limit(uint32_t spare)
{
    struct rlimit few;
    int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK_GE(lowest, 0);
    close(lowest);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &system_limit), 0);
    few = system_limit;
    few.rlim_cur = (rlim_t)lowest + spare;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
}

void system_restore_limit(void)
{
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &system_limit), 0);
}

void system_hoard_take(struct system_hoard *hoard)
{
    int fd;
    hoard->count = 0;
    while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
        CHECK_LT(hoard->count, SYSTEM_HOARD_MAX);
        hoard->handles[hoard->count++] = fd;
    }
    CHECK_EQ(errno, EMFILE);
}

void system_hoard_give(struct system_hoard *hoard, uint32_t count)
{
    for (; hoard->count > 0 && count > 0; count--)
        system_close(hoard->handles[--hoard->count]);
}

/* ---- Files and pipes. */

iocp_handle system_file(iocp_handle *out_copy)
{
    char path[] = "/tmp/iocp-test-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    CHECK_GE(fd, 0);
    if (out_copy) {
        *out_copy = open(path, O_RDWR | O_CLOEXEC);
        CHECK_GE(*out_copy, 0);
    }
    unlink(path);
    return fd;
}

iocp_handle system_file_to_read(const char *text)
{
    char path[] = "/tmp/iocp-test-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    CHECK_GE(fd, 0);
    CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK_GE(fd, 0);
    unlink(path);
    return fd;
}

iocp_handle system_file_to_wait_for(void)
{
    SKIP("files are opened in one way on Linux");
}

iocp_handle system_no_file(void)
{
    int fd = open("/tmp", O_PATH | O_CLOEXEC);
    CHECK_GE(fd, 0);
    return fd;
}

iocp_handle system_file_without_room(void)
{
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    CHECK_GE(fd, 0);
    return fd;
}

size_t system_file_read(iocp_handle handle, void *data, size_t size, uint64_t offset)
{
    ssize_t count = pread((int)handle, data, size, (off_t)offset);
    CHECK_GE(count, 0);
    return (size_t)count;
}

void system_pipe(iocp_handle ends[2])
{
    int fds[2];
    CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
    ends[0] = fds[0];
    ends[1] = fds[1];
}

void system_pipe_read(iocp_handle end, char *out_byte)
{
    CHECK_EQ(read((int)end, out_byte, 1), 1);
}

void system_pipe_write(iocp_handle end, char byte)
{
    CHECK_EQ(write((int)end, &byte, 1), 1);
}

/* ---- The file of a Unix address. */

int system_path_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

void system_path_make(const char *path)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK_GE(fd, 0);
    close(fd);
}

void system_path_remove(const char *path)
{
    unlink(path);
}

uint32_t system_path_mode(const char *path)
{
    struct stat status;
    CHECK_EQ(stat(path, &status), 0);
    return status.st_mode & 0777;
}

const char *system_temporary(void)
{
    return "/tmp/";
}

/* ---- The process. */

uint32_t system_process(void)
{
    return (uint32_t)getpid();
}

void system_deny_ipv6(void)
{
    /* The low half of the first argument on a little-endian machine. */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
    CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        SKIP("no seccomp filter can be set here: %s", strerror(errno));
    CHECK_EQ(socket(AF_INET6, SOCK_STREAM, 0), -1);
    CHECK_EQ(errno, EAFNOSUPPORT);
}
