/* Takes io_uring away from the process, as Docker's and other sandboxes do. */
#ifndef TESTS_SUPPORT_DENY_URING_H
#define TESTS_SUPPORT_DENY_URING_H

/* From here on this process, its threads to come and its children get EPERM from every io_uring
 * call. Call it before the first other thread. It cannot be taken back. */
void deny_io_uring(void);

/* 0 when this process may make an io_uring, else the errno of the attempt. */
int io_uring_error(void);

#endif
