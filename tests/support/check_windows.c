/* The test harness on Windows: a process of its own is this program started again, the time limit a
 * thread. What crashes says where. */
#include "support/check_system.h"

#include <windows.h>

#include <fcntl.h>
#include <io.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <tlhelp32.h>

/* Ends with abort(), as a shell on Linux has it. */
#define EXIT_ABORTED 134
#define FRAMES_MAX 24
/* Where the linker puts a program before the system moves it: what addr2line takes. */
#define LINKED_AT 0x140000000ull

int test_on_windows(void)
{
    return 1;
}

int check_on_wine(void)
{
    return GetProcAddress(GetModuleHandleA("ntdll.dll"), "wine_get_version") != NULL;
}

void check_end(int status)
{
    check_disarm_time_limit();
    /* ExitProcess would run destructors of DLLs. */
    TerminateProcess(GetCurrentProcess(), (UINT)status);
    abort();
}

void test_set_env(const char *name, const char *value)
{
    CHECK_EQ(_putenv_s(name, value ? value : ""), 0);
}

/* ---- The backends. */

const char *const check_backend_names[] = {"windows", NULL};
const enum iocp_backend check_backend_always = IOCP_BACKEND_WINDOWS;
const enum iocp_backend check_backend_never = IOCP_BACKEND_EPOLL;

void check_prepare_backend(void)
{
    /* The library looks there too; only TEST_BACKEND counts here. */
    test_set_env("IOCP_BACKEND", NULL);
}

/* ---- Where a thread is. Straight to the handle: the lock of stdout may belong to one that hangs.
 */

CHECK_PRINTF(1, 2) static void print(const char *format, ...)
{
    va_list arguments;
    char text[512];
    DWORD written;

    va_start(arguments, format);
    int size = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    WriteFile(GetStdHandle(STD_OUTPUT_HANDLE), text, (DWORD)size, &written, NULL);
}

static void print_address(DWORD64 address)
{
    char path[MAX_PATH];
    HMODULE module;

    if (!GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS |
                                GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                            (LPCSTR)(uintptr_t)address, &module)) {
        print("    %#llx\n", address);
        return;
    }
    GetModuleFileNameA(module, path, sizeof(path));
    const char *name = path;
    for (const char *at = path; *at; at++)
        if (*at == '\\')
            name = at + 1;
    DWORD64 offset = address - (uintptr_t)module;
    print("    %s %#llx\n", name, module == GetModuleHandleA(NULL) ? LINKED_AT + offset : offset);
}

/* `addr2line -fpe PROGRAM ADDRESS...` turns those of the program into lines. */
static void print_frames(CONTEXT context)
{
    for (int i = 0; i < FRAMES_MAX && context.Rip; i++) {
        DWORD64 base;
        DWORD64 frame;
        void *data;

        print_address(context.Rip);
        RUNTIME_FUNCTION *function = RtlLookupFunctionEntry(context.Rip, &base, NULL);
        if (function) {
            RtlVirtualUnwind(UNW_FLAG_NHANDLER, base, context.Rip, function, &context, &data,
                             &frame, NULL);
        } else {
            /* A function without a frame: the return address is on top of the stack. */
            context.Rip = *(DWORD64 *)(uintptr_t)context.Rsp;
            context.Rsp += sizeof(DWORD64);
        }
    }
}

/* Of all other threads. They stay where they are: the process is about to end. */
static void print_threads(void)
{
    THREADENTRY32 entry = {.dwSize = sizeof(entry)};

    HANDLE snapshot = CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0);
    for (BOOL more = Thread32First(snapshot, &entry); more; more = Thread32Next(snapshot, &entry)) {
        CONTEXT context = {.ContextFlags = CONTEXT_FULL};

        if (entry.th32OwnerProcessID != GetCurrentProcessId() ||
            entry.th32ThreadID == GetCurrentThreadId())
            continue;
        HANDLE thread =
            OpenThread(THREAD_SUSPEND_RESUME | THREAD_GET_CONTEXT, FALSE, entry.th32ThreadID);
        print("  thread %#lx\n", entry.th32ThreadID);
        if (thread && SuspendThread(thread) != (DWORD)-1 && GetThreadContext(thread, &context))
            print_frames(context);
    }
}

/* ---- Ends that are no exits. */

static LONG WINAPI crashed(EXCEPTION_POINTERS *exception)
{
    DWORD code = exception->ExceptionRecord->ExceptionCode;

    fflush(stdout);
    print("exception %#lx:\n", code);
    print_frames(*exception->ContextRecord);
    check_end((int)code);
}

static void aborted(int signal_number)
{
    (void)signal_number;
    fflush(stdout);
    check_end(EXIT_ABORTED);
}

void check_system_start(void)
{
    SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX | SEM_NOOPENFILEERRORBOX);
    SetUnhandledExceptionFilter(crashed);
    signal(SIGABRT, aborted);
    /* Lines end as on Linux. */
    _setmode(_fileno(stdout), _O_BINARY);
    _setmode(_fileno(stderr), _O_BINARY);
}

/* ---- The time limit. */

/* Told when the test has passed, and the thread that waits for it. */
static HANDLE passed;
static HANDLE limiter;

static DWORD WINAPI time_limit_run(void *context)
{
    DWORD limit_ms = (DWORD)(uintptr_t)context;

    if (WaitForSingleObject(passed, limit_ms) == WAIT_TIMEOUT) {
        print("time limit passed; the threads:\n");
        print_threads();
        check_end(1);
    }
    return 0;
}

void check_arm_time_limit(int seconds)
{
    if (seconds <= 0)
        return;
    passed = CreateEventA(NULL, TRUE, FALSE, NULL);
    CHECK(passed != NULL);
    void *limit_ms = (void *)((uintptr_t)seconds * 1000);
    limiter = CreateThread(NULL, 0, time_limit_run, limit_ms, 0, NULL);
    CHECK(limiter != NULL);
}

void check_disarm_time_limit(void)
{
    if (!limiter || GetThreadId(limiter) == GetCurrentThreadId())
        return;
    SetEvent(passed);
    /* A thread that ends together with its process makes Wine 8 hang and kill it, 1 in 100. */
    WaitForSingleObject(limiter, INFINITE);
}

/* ---- Processes. */

/* Starts this program again with the name of a test; NULL when that fails. */
static HANDLE start_again(const char *name, HANDLE output, HANDLE errors)
{
    char program[MAX_PATH];
    char command[MAX_PATH + 256];
    STARTUPINFOA startup = {.cb = sizeof(startup), .dwFlags = STARTF_USESTDHANDLES};
    PROCESS_INFORMATION started;

    startup.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
    startup.hStdOutput = output;
    startup.hStdError = errors;
    GetModuleFileNameA(NULL, program, sizeof(program));
    snprintf(command, sizeof(command), "\"%s\" %s", program, name);
    if (!CreateProcessA(program, command, NULL, NULL, TRUE, 0, NULL, NULL, &startup, &started))
        return NULL;
    CloseHandle(started.hThread);
    return started.hProcess;
}

int check_run_process(const struct check_test *test, int quiet, char *text, size_t size)
{
    SECURITY_ATTRIBUTES inherited = {sizeof(inherited), NULL, TRUE};
    DWORD status;

    HANDLE nowhere = CreateFileA("NUL", GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE,
                                 &inherited, OPEN_EXISTING, 0, NULL);
    HANDLE process = start_again(test->name, quiet ? nowhere : GetStdHandle(STD_OUTPUT_HANDLE),
                                 quiet ? nowhere : GetStdHandle(STD_ERROR_HANDLE));
    DWORD error = GetLastError();
    CloseHandle(nowhere);
    if (!process) {
        snprintf(text, size, "no process could be made for it: error %lu", error);
        return -1;
    }
    WaitForSingleObject(process, INFINITE);
    GetExitCodeProcess(process, &status);
    CloseHandle(process);
    if (status == EXIT_ABORTED)
        return TEST_ABORTED;
    if (status > 255) {
        snprintf(text, size, "exception %#lx", status);
        return -1;
    }
    return (int)status;
}

void check_become(char **command)
{
    fprintf(stderr, "%s: a process cannot become another on Windows: there is no --exec\n",
            command[0]);
}
