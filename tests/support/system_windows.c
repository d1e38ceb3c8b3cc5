/* What tests ask of Windows, or of Wine. See system.h. */
#include "support/check_system.h"
#include "support/system.h"

#include <windows.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tlhelp32.h>
#include <winternl.h>

/* ---- Time. */

void system_nap(uint64_t time_ns)
{
    Sleep((DWORD)((time_ns + 999999) / 1000000));
}

void system_yield(void)
{
    if (!SwitchToThread())
        Sleep(0);
}

/* ---- Processes and their threads, as the system describes them. */

/* An entry of SystemProcessInformation, by the names of phnt; on 64-bit systems. */
struct system_thread_entry {
    LARGE_INTEGER times[3];
    ULONG wait_time;
    PVOID start;
    HANDLE process;
    HANDLE thread;
    LONG priority;
    LONG base_priority;
    ULONG context_switches;
    ULONG state;
    ULONG wait_reason;
};

#define THREAD_STATE_WAITING 5

/* What the system tells, for free(3). */
static void *system_query(SYSTEM_INFORMATION_CLASS what)
{
    for (ULONG size = 1 << 18;; size *= 2) {
        void *answer = malloc(size);
        CHECK(answer);
        if (NtQuerySystemInformation(what, answer, size, NULL) >= 0)
            return answer;
        free(answer);
        CHECK_LT(size, 1 << 28);
    }
}

static int64_t system_windows_sleeps(uint32_t thread)
{
    SYSTEM_PROCESS_INFORMATION *list = system_query(SystemProcessInformation);
    SYSTEM_PROCESS_INFORMATION *self = list;
    while ((DWORD)(uintptr_t)self->UniqueProcessId != GetCurrentProcessId()) {
        CHECK(self->NextEntryOffset);
        self = (void *)((char *)self + self->NextEntryOffset);
    }
    const struct system_thread_entry *entries = (const void *)(self + 1);
    int64_t sleeps = -1;
    ULONG i = 0;
    while (i < self->NumberOfThreads && (uint32_t)(uintptr_t)entries[i].thread != thread)
        i++;
    if (i == self->NumberOfThreads)
        FAIL("the thread %u is gone", thread);
    if (entries[i].state == THREAD_STATE_WAITING)
        sleeps = entries[i].context_switches;
    free(list);
    return sleeps;
}

/* ---- Wine describes no thread's state. Its threads are threads of Linux, which does: Wine shows
 * its files, and lets its system calls through. */

#define LINUX_GETPID 39
#define LINUX_GETTID 186

static long system_linux_call(long number)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number) : "rcx", "r11", "memory");
    return result;
}

/* Reads a line of a file of Linux that begins with `name`. Returns what follows, or NULL. */
static const char *system_linux_line(char *line, size_t size, uint32_t thread, const char *file,
                                     const char *name)
{
    char path[128];
    const char *found = NULL;
    snprintf(path, sizeof(path), "\\\\?\\unix\\proc\\%ld\\task\\%u\\%s",
             system_linux_call(LINUX_GETPID), thread, file);
    FILE *stream = fopen(path, "r");
    if (!stream)
        FAIL("the thread %u is gone", thread);
    while (!found && fgets(line, (int)size, stream))
        if (strncmp(line, name, strlen(name)) == 0)
            found = line + strlen(name);
    fclose(stream);
    return found;
}

static int64_t system_wine_sleeps(uint32_t thread)
{
    char line[256];
    unsigned buffer_size = 0;
    const char *state = system_linux_line(line, sizeof(line), thread, "status", "State:\t");
    if (!state || *state != 'S')
        return -1;
    /* It sleeps too while Wine's server answers a call: in a read of 64 bytes. */
    if (system_linux_line(line, sizeof(line), thread, "syscall", "0 ") &&
        sscanf(line, "0 %*s %*s %x", &buffer_size) == 1 && buffer_size == 64)
        return -1;
    const char *count =
        system_linux_line(line, sizeof(line), thread, "status", "voluntary_ctxt_switches:\t");
    return count ? strtoll(count, NULL, 10) : -1;
}

void system_compute(void)
{
    /* To ask is enough. */
}

uint32_t system_thread(void)
{
    return check_on_wine() ? (uint32_t)system_linux_call(LINUX_GETTID) : GetCurrentThreadId();
}

int64_t system_thread_sleeps(uint32_t thread)
{
    return check_on_wine() ? system_wine_sleeps(thread) : system_windows_sleeps(thread);
}

typedef HRESULT(WINAPI *system_description)(HANDLE thread, PWSTR *description);

static int system_thread_has_name(DWORD id, const char *name)
{
    wchar_t wide[64];
    PWSTR description = NULL;
    /* The headers of MinGW-w64 10 lack it. */
    HMODULE kernel = GetModuleHandleA("kernelbase.dll");
    system_description get_description =
        (system_description)(void (*)(void))GetProcAddress(kernel, "GetThreadDescription");
    CHECK(get_description != NULL);
    HANDLE thread = OpenThread(THREAD_QUERY_LIMITED_INFORMATION, FALSE, id);
    if (!thread)
        return 0;
    CHECK_GT(MultiByteToWideChar(CP_UTF8, 0, name, -1, wide, 64), 0);
    int same = SUCCEEDED(get_description(thread, &description)) && wcscmp(description, wide) == 0;
    LocalFree(description);
    CloseHandle(thread);
    return same;
}

uint32_t system_thread_named(const char *name)
{
    THREADENTRY32 entry = {.dwSize = sizeof(entry)};
    uint32_t found = 0;
    HANDLE snapshot = CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0);
    for (BOOL more = Thread32First(snapshot, &entry); more && !found;
         more = Thread32Next(snapshot, &entry)) {
        if (entry.th32OwnerProcessID == GetCurrentProcessId() &&
            system_thread_has_name(entry.th32ThreadID, name))
            found = entry.th32ThreadID;
    }
    CloseHandle(snapshot);
    return found;
}

int system_takes_its_time(void)
{
    return 1;
}

/* ---- Handles. */

void system_close(iocp_handle handle)
{
    CHECK(CloseHandle((HANDLE)handle));
}

int system_is_open(iocp_handle handle)
{
    DWORD flags;
    return GetHandleInformation((HANDLE)handle, &flags) != 0;
}

int system_is_inherited(iocp_handle handle)
{
    DWORD flags = 0;
    CHECK(GetHandleInformation((HANDLE)handle, &flags));
    return (flags & HANDLE_FLAG_INHERIT) != 0;
}

/* Not 0 for a socket, file, pipe or port. */
static int system_counts(HANDLE handle)
{
    union {
        PUBLIC_OBJECT_TYPE_INFORMATION type;
        unsigned char bytes[512];
    } answer;
    ULONG size = 0;
    if (NtQueryObject(handle, ObjectTypeInformation, &answer, sizeof(answer), &size) < 0)
        return 0;
    const wchar_t *name = answer.type.TypeName.Buffer;
    return wcscmp(name, L"File") == 0 || wcscmp(name, L"IoCompletion") == 0;
}

#define SYSTEM_HANDLE_GAP 256

/* Handles are small multiples of four, and what is free is used again: so they can be tried one by
 * one. Not counted is what threads and their locks have. GetProcessHandleCount is 0 under Wine 8,
 * whose server may crash when it is asked for all handles. */
int system_open_handles(void)
{
    int count = 0;
    int gap = 0;
    for (uintptr_t value = 4; gap < SYSTEM_HANDLE_GAP; value += 4) {
        DWORD flags;
        gap = GetHandleInformation((HANDLE)value, &flags) ? 0 : gap + 1;
        count += gap == 0 && system_counts((HANDLE)value);
    }
    return count;
}

uint32_t system_raise_limit(void)
{
    return UINT32_MAX;
}

void system_lower_limit(uint32_t spare)
{
    (void)spare;
    SKIP("Windows has no limit on handles that a test could reach");
}

void system_restore_limit(void)
{
}

void system_hoard_take(struct system_hoard *hoard)
{
    (void)hoard;
    FAIL("there is no limit");
}

void system_hoard_give(struct system_hoard *hoard, uint32_t count)
{
    (void)hoard;
    (void)count;
    FAIL("there is no limit");
}

/* ---- Files and pipes. */

const char *system_temporary(void)
{
    static char path[4 * MAX_PATH];
    wchar_t wide[MAX_PATH];
    CHECK_GT(GetTempPathW(MAX_PATH, wide), 0);
    CHECK_GT(WideCharToMultiByte(CP_UTF8, 0, wide, -1, path, sizeof(path), NULL, NULL), 0);
    return path;
}

static void system_wide(const char *path, wchar_t wide[MAX_PATH])
{
    CHECK_GT(MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, MAX_PATH), 0);
}

/* A path that nothing else has; numbers of processes are used again soon. */
static void system_new_path(wchar_t wide[MAX_PATH])
{
    static LONG made;
    char path[5 * MAX_PATH];
    LARGE_INTEGER now;
    QueryPerformanceCounter(&now);
    snprintf(path, sizeof(path), "%siocp-file-%lu-%ld-%llx", system_temporary(),
             GetCurrentProcessId(), InterlockedIncrement(&made), (unsigned long long)now.QuadPart);
    system_wide(path, wide);
}

static HANDLE system_open_file(const wchar_t *path, DWORD access, DWORD disposition, DWORD flags)
{
    HANDLE file = CreateFileW(path, access, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                              NULL, disposition, FILE_FLAG_OVERLAPPED | flags, NULL);
    if (file == INVALID_HANDLE_VALUE)
        FAIL("CreateFile: error %lu", GetLastError());
    return file;
}

iocp_handle system_file(iocp_handle *out_copy)
{
    const DWORD both = GENERIC_READ | GENERIC_WRITE;
    wchar_t path[MAX_PATH];
    system_new_path(path);
    HANDLE file = system_open_file(path, both | DELETE, CREATE_NEW, FILE_FLAG_DELETE_ON_CLOSE);
    if (out_copy)
        *out_copy = (iocp_handle)system_open_file(path, both, OPEN_EXISTING, 0);
    return (iocp_handle)file;
}

/* An operation whose outcome is waited for: how many bytes, 0 at the end. No port hears of it. */
static size_t system_transfer(HANDLE handle, void *data, size_t size, uint64_t offset, int write)
{
    OVERLAPPED overlapped;
    DWORD count = 0;
    HANDLE event = CreateEventA(NULL, TRUE, FALSE, NULL);
    CHECK(event);
    memset(&overlapped, 0, sizeof(overlapped));
    overlapped.hEvent = (HANDLE)((uintptr_t)event | 1);
    overlapped.Offset = (DWORD)offset;
    overlapped.OffsetHigh = (DWORD)(offset >> 32);
    BOOL done = write ? WriteFile(handle, data, (DWORD)size, NULL, &overlapped)
                      : ReadFile(handle, data, (DWORD)size, NULL, &overlapped);
    if (done || GetLastError() == ERROR_IO_PENDING)
        done = WaitForSingleObject(event, INFINITE) == WAIT_OBJECT_0 &&
               GetOverlappedResult(handle, &overlapped, &count, FALSE);
    if (!done && GetLastError() != ERROR_HANDLE_EOF)
        FAIL("a transfer: error %lu", GetLastError());
    CloseHandle(event);
    return count;
}

iocp_handle system_file_to_read(const char *text)
{
    wchar_t path[MAX_PATH];
    system_new_path(path);
    HANDLE file = system_open_file(path, GENERIC_WRITE, CREATE_NEW, 0);
    CHECK_EQ(system_transfer(file, (void *)(uintptr_t)text, strlen(text), 0, 1), strlen(text));
    CloseHandle(file);
    return (iocp_handle)system_open_file(path, GENERIC_READ | DELETE, OPEN_EXISTING,
                                         FILE_FLAG_DELETE_ON_CLOSE);
}

iocp_handle system_file_to_wait_for(void)
{
    wchar_t path[MAX_PATH];
    system_new_path(path);
    HANDLE file = CreateFileW(path, GENERIC_READ | GENERIC_WRITE | DELETE, FILE_SHARE_READ, NULL,
                              CREATE_NEW, FILE_FLAG_DELETE_ON_CLOSE, NULL);
    CHECK(file != INVALID_HANDLE_VALUE);
    return (iocp_handle)file;
}

iocp_handle system_no_file(void)
{
    HANDLE event = CreateEventA(NULL, TRUE, FALSE, NULL);
    CHECK(event != NULL);
    return (iocp_handle)event;
}

iocp_handle system_file_without_room(void)
{
    SKIP("Windows has no file like /dev/full");
}

size_t system_file_read(iocp_handle handle, void *data, size_t size, uint64_t offset)
{
    return system_transfer((HANDLE)handle, data, size, offset, 0);
}

void system_pipe(iocp_handle ends[2])
{
    static LONG made;
    char name[64];
    snprintf(name, sizeof(name), "\\\\.\\pipe\\iocp-test-%lu-%ld", GetCurrentProcessId(),
             InterlockedIncrement(&made));
    HANDLE reader = CreateNamedPipeA(
        name, PIPE_ACCESS_INBOUND | FILE_FLAG_OVERLAPPED | FILE_FLAG_FIRST_PIPE_INSTANCE,
        PIPE_TYPE_BYTE | PIPE_WAIT, 1, 4096, 4096, 0, NULL);
    CHECK(reader != INVALID_HANDLE_VALUE);
    HANDLE writer =
        CreateFileA(name, GENERIC_WRITE, 0, NULL, OPEN_EXISTING, FILE_FLAG_OVERLAPPED, NULL);
    CHECK(writer != INVALID_HANDLE_VALUE);
    ends[0] = (iocp_handle)reader;
    ends[1] = (iocp_handle)writer;
}

void system_pipe_read(iocp_handle end, char *out_byte)
{
    CHECK_EQ(system_transfer((HANDLE)end, out_byte, 1, 0, 0), 1);
}

void system_pipe_write(iocp_handle end, char byte)
{
    CHECK_EQ(system_transfer((HANDLE)end, &byte, 1, 0, 1), 1);
}

/* ---- The file of a Unix address. */

int system_path_exists(const char *path)
{
    wchar_t wide[MAX_PATH];
    system_wide(path, wide);
    return GetFileAttributesW(wide) != INVALID_FILE_ATTRIBUTES;
}

void system_path_make(const char *path)
{
    wchar_t wide[MAX_PATH];
    system_wide(path, wide);
    CloseHandle(system_open_file(wide, GENERIC_WRITE, CREATE_NEW, 0));
}

void system_path_remove(const char *path)
{
    wchar_t wide[MAX_PATH];
    system_wide(path, wide);
    DeleteFileW(wide);
}

uint32_t system_path_mode(const char *path)
{
    (void)path;
    SKIP("files have no permissions of that kind on Windows");
}

/* ---- The process. */

uint32_t system_process(void)
{
    return GetCurrentProcessId();
}

void system_deny_ipv6(void)
{
    SKIP("Windows has nothing that takes IPv6 from a process");
}
