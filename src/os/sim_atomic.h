/* Stands in the place of base/atomic.h in the simulated build, by -include: each atomic that orders
 * something is a place where a thread may be preempted. The atomics themselves are the same. */
#ifndef IOCP_BASE_ATOMIC_H
#define IOCP_BASE_ATOMIC_H

void iocp__sim_point(void);

#define IOCP__THREAD_LOCAL __thread

/* Asks for memory that will be written soon; the address need not be valid. */
#define iocp__prefetch(p) __builtin_prefetch((p), 1)

#define iocp__load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define iocp__load_acquire(p) (iocp__sim_point(), __atomic_load_n((p), __ATOMIC_ACQUIRE))
#define iocp__load_seq(p) (iocp__sim_point(), __atomic_load_n((p), __ATOMIC_SEQ_CST))
#define iocp__store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define iocp__store_release(p, v) (iocp__sim_point(), __atomic_store_n((p), (v), __ATOMIC_RELEASE))
#define iocp__store_seq(p, v) (iocp__sim_point(), __atomic_store_n((p), (v), __ATOMIC_SEQ_CST))
#define iocp__add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define iocp__add_seq(p, v) (iocp__sim_point(), __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST))
#define iocp__sub_relaxed(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_RELAXED)
#define iocp__sub_acq_rel(p, v) (iocp__sim_point(), __atomic_fetch_sub((p), (v), __ATOMIC_ACQ_REL))
#define iocp__or_acq_rel(p, v) (iocp__sim_point(), __atomic_fetch_or((p), (v), __ATOMIC_ACQ_REL))
#define iocp__exchange_acq_rel(p, v)                                                               \
    (iocp__sim_point(), __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL))
#define iocp__exchange_seq(p, v)                                                                   \
    (iocp__sim_point(), __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST))
#define iocp__cas_acq_rel(p, expected, v)                                                          \
    (iocp__sim_point(),                                                                            \
     __atomic_compare_exchange_n((p), (expected), (v), 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))

#endif
