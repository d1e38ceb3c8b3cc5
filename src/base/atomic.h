/* Atomics on plain integers and pointers: the __atomic builtins, so that TSan sees them. And
 * variables of which each thread has its own.
 *
 * Every use names its memory order and says at the call why that one. An MSVC build needs this file
 * and bits.h written anew, and no other. */
#ifndef IOCP_BASE_ATOMIC_H
#define IOCP_BASE_ATOMIC_H

/* In front of the type of a static variable. */
#ifdef _MSC_VER
#define IOCP__THREAD_LOCAL __declspec(thread)
#else
#define IOCP__THREAD_LOCAL __thread
#endif

/* Asks for memory that will be written soon; the address need not be valid. */
#define iocp__prefetch(p) __builtin_prefetch((p), 1)

#define iocp__load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define iocp__load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define iocp__load_seq(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define iocp__store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define iocp__store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define iocp__store_seq(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define iocp__add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define iocp__add_seq(p, v) __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
#define iocp__sub_relaxed(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_RELAXED)
#define iocp__sub_acq_rel(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_ACQ_REL)
#define iocp__or_acq_rel(p, v) __atomic_fetch_or((p), (v), __ATOMIC_ACQ_REL)
#define iocp__exchange_acq_rel(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
#define iocp__exchange_seq(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
/* *expected gets the present value on failure. */
#define iocp__cas_acq_rel(p, expected, v)                                                          \
    __atomic_compare_exchange_n((p), (expected), (v), 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)

#endif
