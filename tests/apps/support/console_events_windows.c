/* Runs a program and sends it what a console sends: for each line of its own input, "ctrl-c",
 * "ctrl-break", "close", "logoff" or "shutdown". Ends with the program's status; when it is killed,
 * so is the program.
 *
 *     console-events PROGRAM [ARGUMENT...]
 *
 * An event reaches a process as a new thread in it, which runs CtrlRoutine of kernel32.dll, and
 * that calls the handlers. The thread is started here: GenerateConsoleCtrlEvent knows only the
 * first two kinds (in Wine 8 only the first) and needs a console to send them on. */
#include <stdio.h>
#include <string.h>
#include <windows.h>

enum { EVENTS_FAILED = 99 };

static const struct {
    const char *line;
    DWORD type;
} events[] = {
    {"ctrl-c\n", CTRL_C_EVENT},          {"ctrl-break\n", CTRL_BREAK_EVENT},
    {"close\n", CTRL_CLOSE_EVENT},       {"logoff\n", CTRL_LOGOFF_EVENT},
    {"shutdown\n", CTRL_SHUTDOWN_EVENT},
};

static int events_fail(const char *what)
{
    fprintf(stderr, "console-events: %s: error %lu\n", what, GetLastError());
    return EVENTS_FAILED;
}

/* Our command line without its first word. */
static wchar_t *events_command(void)
{
    wchar_t *at = GetCommandLineW();
    wchar_t end = *at == L'"' ? L'"' : L' ';
    for (at++; *at != L'\0' && *at != end; at++)
        ;
    while (*at == L'"' || *at == L' ')
        at++;
    return at;
}

/* Starts the program in a job that ends with this process. */
static int events_start(HANDLE *out_process)
{
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits;
    PROCESS_INFORMATION program;
    STARTUPINFOW start = {.cb = sizeof start};
    HANDLE job = CreateJobObjectW(NULL, NULL);

    memset(&limits, 0, sizeof limits);
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    if (!SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits) ||
        !CreateProcessW(NULL, events_command(), NULL, NULL, TRUE, CREATE_SUSPENDED, NULL, NULL,
                        &start, &program)) {
        return 0;
    }
    *out_process = program.hProcess;
    return AssignProcessToJobObject(job, program.hProcess) &&
           ResumeThread(program.hThread) != (DWORD)-1;
}

static int events_send(HANDLE process, const char *line)
{
    /* It lies at the same address in every process. */
    FARPROC routine = GetProcAddress(GetModuleHandleW(L"kernel32.dll"), "CtrlRoutine");
    LPTHREAD_START_ROUTINE run;
    memcpy(&run, &routine, sizeof run);
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        if (strcmp(events[i].line, line) == 0) {
            HANDLE thread = CreateRemoteThread(process, NULL, 0, run,
                                               (void *)(UINT_PTR)events[i].type, 0, NULL);
            return thread != NULL && CloseHandle(thread);
        }
    }
    SetLastError(ERROR_INVALID_PARAMETER);
    return 0;
}

int main(void)
{
    char line[64];
    HANDLE process;
    DWORD status;

    if (!events_start(&process)) {
        return events_fail("starting the program");
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (!events_send(process, line)) {
            return events_fail("sending an event");
        }
    }
    WaitForSingleObject(process, INFINITE);
    return GetExitCodeProcess(process, &status) ? (int)status : events_fail("ending");
}
