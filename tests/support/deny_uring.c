/* Takes io_uring away from the process: a seccomp filter like the one of Docker since 2023, that
 * answers its system calls with EPERM. */
#include "support/deny_uring.h"
#include "support/check.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The three numbers follow each other and are the same on every architecture. */
_Static_assert(SYS_io_uring_enter == SYS_io_uring_setup + 1, "numbers in a row");
_Static_assert(SYS_io_uring_register == SYS_io_uring_setup + 2, "numbers in a row");

void deny_io_uring(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SYS_io_uring_setup, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SYS_io_uring_register, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

    CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        SKIP("no seccomp filter can be set here: %s", strerror(errno));
    CHECK_EQ(io_uring_error(), EPERM);
}

int io_uring_error(void)
{
    struct io_uring_params parameters;

    memset(&parameters, 0, sizeof(parameters));
    long ring = syscall(SYS_io_uring_setup, 2, &parameters);
    if (ring < 0)
        return errno;
    close((int)ring);
    return 0;
}
