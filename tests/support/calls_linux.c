#include "support/calls_linux.h"

#include "support/check.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE_SIZE 4096u
#define SYS_EPOLL_PWAIT2 441 /* newer than some C libraries */

#ifndef SECCOMP_USER_NOTIF_FLAG_CONTINUE
#define SECCOMP_USER_NOTIF_FLAG_CONTINUE 1u
#endif

struct calls_number {
    enum calls_name name;
    long number;
};

/* Calls that not every architecture has are left out there. */
static const struct calls_number calls_numbers[] = {
    {CALLS_ACCEPT4, SYS_accept4},
    {CALLS_BIND, SYS_bind},
    {CALLS_CLONE, SYS_clone},
    {CALLS_CLONE, SYS_clone3},
    {CALLS_CONNECT, SYS_connect},
    {CALLS_EPOLL_CREATE1, SYS_epoll_create1},
    {CALLS_EPOLL_CTL, SYS_epoll_ctl},
#ifdef SYS_epoll_wait
    {CALLS_EPOLL_WAIT, SYS_epoll_wait},
#endif
    {CALLS_EPOLL_WAIT, SYS_epoll_pwait},
    {CALLS_EPOLL_WAIT, SYS_EPOLL_PWAIT2},
    {CALLS_EVENTFD2, SYS_eventfd2},
    {CALLS_GETSOCKNAME, SYS_getsockname},
    {CALLS_LISTEN, SYS_listen},
    {CALLS_MEMBARRIER, SYS_membarrier},
    {CALLS_MMAP, SYS_mmap},
    {CALLS_OPENAT, SYS_openat},
#ifdef SYS_poll
    {CALLS_POLL, SYS_poll},
#endif
    {CALLS_POLL, SYS_ppoll},
    {CALLS_PREAD64, SYS_pread64},
    {CALLS_PWRITE64, SYS_pwrite64},
    {CALLS_RECV, SYS_recvfrom},
    {CALLS_RECV, SYS_recvmsg},
    {CALLS_SEND, SYS_sendto},
    {CALLS_SEND, SYS_sendmsg},
    {CALLS_SETSOCKOPT, SYS_setsockopt},
    {CALLS_SHUTDOWN, SYS_shutdown},
    {CALLS_SOCKET, SYS_socket},
    {CALLS_SOCKETPAIR, SYS_socketpair},
    {CALLS_URING_ENTER, SYS_io_uring_enter},
    {CALLS_URING_REGISTER, SYS_io_uring_register},
    {CALLS_URING_SETUP, SYS_io_uring_setup},
};

#define NUMBERS (sizeof(calls_numbers) / sizeof(calls_numbers[0]))

static struct {
    pthread_mutex_t lock; /* of what follows; never held over a call that is watched */
    enum calls_name name;
    uint32_t spared; /* a thread whose calls are not counted; 0: none */
    uint64_t nth;
    uint64_t made;
    int os_error;
    int failed;
    int listener; /* where calls are told of; written before `ready` */
    sem_t ready;
} calls = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- The supervisor. */

static enum calls_name calls_of(const struct seccomp_data *data)
{
    for (size_t i = 0; i < NUMBERS; i++)
        if (calls_numbers[i].number == data->nr)
            return calls_numbers[i].name;
    return CALLS_NONE;
}

/* Counts the call. Returns the errno that it gets, 0: it goes on. */
static int calls_judge(const struct seccomp_notif *told)
{
    int os_error = 0;
    pthread_mutex_lock(&calls.lock);
    if (calls.name != CALLS_NONE && told->pid != calls.spared &&
        calls_of(&told->data) == calls.name && ++calls.made == calls.nth) {
        calls.failed = 1;
        os_error = calls.os_error;
    }
    pthread_mutex_unlock(&calls.lock);
    return os_error;
}

/* A signal came in between: the call is made again, and is told of again. */
static void calls_take_back(void)
{
    pthread_mutex_lock(&calls.lock);
    calls.made--;
    calls.failed = 0;
    pthread_mutex_unlock(&calls.lock);
}

static void *calls_supervise(void *context)
{
    struct seccomp_notif told;
    struct seccomp_notif_resp answer;
    (void)context;
    while (sem_wait(&calls.ready) != 0)
        CHECK_EQ(errno, EINTR);
    for (;;) {
        memset(&told, 0, sizeof(told));
        memset(&answer, 0, sizeof(answer));
        if (ioctl(calls.listener, SECCOMP_IOCTL_NOTIF_RECV, &told) != 0) {
            CHECK(errno == EINTR || errno == ENOENT);
            continue;
        }
        answer.id = told.id;
        answer.error = -calls_judge(&told);
        if (answer.error == 0)
            answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        if (ioctl(calls.listener, SECCOMP_IOCTL_NOTIF_SEND, &answer) == 0)
            continue;
        CHECK_EQ(errno, ENOENT);
        if (answer.error != 0)
            calls_take_back();
    }
    return NULL;
}

/* ---- The filter. */

#define LOAD(member) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define JUMP(how, value, yes, no) BPF_JUMP(BPF_JMP | how | BPF_K, (uint32_t)(value), yes, no)
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)

/* Two instructions a call: is it this one? Then tell. In front of them mmap, by its arguments; the
 * low halves of these, on a little-endian machine. The sizes are checked: a notification is not to
 * be longer than what is there for it. */
static void calls_set_filter(void)
{
    struct sock_filter code[2 * NUMBERS + 10];
    size_t count = 0;
    code[count++] = (struct sock_filter)LOAD(nr);
    code[count++] = (struct sock_filter)JUMP(BPF_JEQ, SYS_mmap, 0, 6);
    code[count++] = (struct sock_filter)LOAD(args[4]);
    code[count++] = (struct sock_filter)JUMP(BPF_JEQ, -1, 0, 2);
    code[count++] = (struct sock_filter)LOAD(args[1]);
    code[count++] = (struct sock_filter)JUMP(BPF_JGE, PAGE_SIZE, 1, 0);
    code[count++] = (struct sock_filter)RETURN(SECCOMP_RET_USER_NOTIF);
    code[count++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    for (size_t i = 0; i < NUMBERS; i++) {
        code[count++] = (struct sock_filter)JUMP(BPF_JEQ, calls_numbers[i].number, 0, 1);
        code[count++] = (struct sock_filter)RETURN(SECCOMP_RET_USER_NOTIF);
    }
    code[count++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = (unsigned short)count, .filter = code};
    CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    calls.listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                                  SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (calls.listener < 0)
        SKIP("no seccomp filter with a supervisor can be set here: %s", strerror(errno));
}

static void calls_check_sizes(void)
{
    struct seccomp_notif_sizes sizes;
    if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) != 0)
        SKIP("seccomp has no supervisors here: %s", strerror(errno));
    if (sizes.seccomp_notif > sizeof(struct seccomp_notif) ||
        sizes.seccomp_notif_resp > sizeof(struct seccomp_notif_resp))
        SKIP("this kernel tells more of a call than its headers had when this was built");
}

/* ---- For the tests. */

void calls_watch(void)
{
    pthread_t supervisor;
    calls_check_sizes();
    CHECK_EQ(sem_init(&calls.ready, 0, 0), 0);
    CHECK_EQ(pthread_create(&supervisor, NULL, calls_supervise, NULL), 0);
    pthread_detach(supervisor);
    calls_set_filter();
    CHECK_EQ(sem_post(&calls.ready), 0);
}

static void calls_arm(enum calls_name name, uint32_t spared, uint64_t nth, int os_error)
{
    pthread_mutex_lock(&calls.lock);
    calls.name = name;
    calls.spared = spared;
    calls.nth = nth;
    calls.made = 0;
    calls.os_error = os_error;
    calls.failed = 0;
    pthread_mutex_unlock(&calls.lock);
}

void calls_fail(enum calls_name name, uint64_t nth, int os_error)
{
    calls_arm(name, 0, nth, os_error);
}

void calls_fail_elsewhere(enum calls_name name, uint64_t nth, int os_error)
{
    calls_arm(name, (uint32_t)syscall(SYS_gettid), nth, os_error);
}

uint64_t calls_made(void)
{
    pthread_mutex_lock(&calls.lock);
    uint64_t made = calls.made;
    pthread_mutex_unlock(&calls.lock);
    return made;
}

int calls_failed(void)
{
    pthread_mutex_lock(&calls.lock);
    int failed = calls.failed;
    pthread_mutex_unlock(&calls.lock);
    return failed;
}

int calls_on_uring(void)
{
    const char *name = test_backend_name();
    if (strcmp(name, "auto") == 0)
        return iocp_backend_probe(IOCP_BACKEND_URING, NULL, 0) == 0;
    return strcmp(name, "uring") == 0;
}

void calls_pass(void)
{
    fflush(NULL);
    _exit(0);
}
