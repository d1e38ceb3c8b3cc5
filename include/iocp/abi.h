/* How the headers of iocp reach a compiler: visibility, C++ linkage, and the two types whose layout
 * is the system's. The only public header with #if in it. */
#ifndef IOCP_ABI_H
#define IOCP_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define IOCP_BEGIN extern "C" {
#define IOCP_END }
#else
#define IOCP_BEGIN
#define IOCP_END
#endif

#if defined(_WIN32) && defined(IOCP_BUILD_SHARED)
#define IOCP_API __declspec(dllexport)
#elif defined(_WIN32) && defined(IOCP_USE_SHARED)
#define IOCP_API __declspec(dllimport)
#elif defined(_WIN32)
#define IOCP_API
#else
#define IOCP_API __attribute__((visibility("default")))
#endif

IOCP_BEGIN

/* A socket or a file of the system: a descriptor on Linux, a SOCKET or HANDLE on Windows. */
typedef intptr_t iocp_handle;

#define IOCP_HANDLE_INVALID ((iocp_handle)-1)

/* A piece of memory, in the field order of the system's own type (iovec, WSABUF), so that an array
 * of them reaches the kernel uncopied. On Windows a size has 32 bits: an operation of 4 GiB or more
 * in one piece is refused there (IOCP_EINVAL of submit). */
#ifdef _WIN32
typedef uint32_t iocp_slice_size;
struct iocp_slice {
    iocp_slice_size size;
    void *data;
};
#else
typedef size_t iocp_slice_size;
struct iocp_slice {
    void *data;
    iocp_slice_size size;
};
#endif

IOCP_END

#endif
