/* Assertions in three levels, by what they cost.
 *
 * iocp__assert   cheap, stays on in every build: a broken invariant ends the program where it
 * broke. iocp__debug    a few instructions on a hot path: builds with IOCP_DEBUG (presets dev,
 * asan, tsan). iocp__check    walks a structure (x_is_valid): builds with IOCP_CHECK (dev, asan).
 *
 * Bad arguments of users are no assertion: public functions answer IOCP_EINVAL. */
#ifndef IOCP_BASE_ASSERT_H
#define IOCP_BASE_ASSERT_H

#ifdef __GNUC__
#define IOCP__COLD __attribute__((cold))
#else
#define IOCP__COLD
#endif

/* Prints the place on stderr and aborts. */
IOCP__COLD _Noreturn void iocp__assert_failed(const char *condition, const char *file, int line);

#define iocp__assert(condition)                                                                    \
    ((condition) ? (void)0 : iocp__assert_failed(#condition, __FILE__, __LINE__))

#ifdef IOCP_DEBUG
#define iocp__debug(condition) iocp__assert(condition)
#else
#define iocp__debug(condition) ((void)(0 && (condition)))
#endif

#ifdef IOCP_CHECK
#define iocp__check(condition) iocp__assert(condition)
#else
#define iocp__check(condition) ((void)(0 && (condition)))
#endif

#endif
