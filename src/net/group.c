/* Groups: publishing to many sessions while members come and go.
 *
 * Members stand in an array. A publisher takes a reference on the array and works with no lock.
 * While it does, entries in front of the end that it saw only ever turn into NULL: a member who
 * leaves makes a hole, one who joins stands at the end. So both cost the same with publishers
 * inside as without. When the array is full, or mostly holes, with publishers inside, it is
 * replaced by a copy.
 *
 * Invariants
 * 1. Each session in an array has a reference of it, also in a replaced one. What left while
 *    publishers are inside is kept alive by the array (`departed`) until they are out.
 * 2. Without publishers the current array has no holes, and nobody has departed.
 * 3. A membership is in its session's list exactly as long as it is in the current array, at its
 *    index: both change together under both locks, the session's first, then the group's.
 * 4. Memory of the group is counted apart (`holds`: one for all users, one for each membership),
 *    because a session may be leaving while the last user goes. */
#include <iocp/group.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"
#include "net/session.h"
#include "os/os.h"

#define GROUP_CAPACITY_MIN 8
#define GROUP_AHEAD 6 /* members whose memory is on its way during a publication */

struct iocp__membership {
    struct iocp_session
        *session;             /* borrowed from the entry; `departed` has taken its reference over */
    struct iocp_group *group; /* one of its holds */
    struct iocp__membership *next; /* of the session's list, then of `departed` */
    uint32_t index;
};

struct group_entry {
    struct iocp_session *session; /* NULL: a hole; atomic to read */
    struct iocp__membership *membership;
};

struct group_array {
    uint32_t refs;  /* one of the group's, and the publishers' */
    uint32_t count; /* entries used, holes included */
    uint32_t holes;
    uint32_t capacity;
    struct iocp__membership *departed;
    struct group_entry entries[];
};

struct iocp_group {
    uint32_t refs;  /* atomic */
    uint32_t holds; /* atomic */
    struct iocp__lock lock;
    struct group_array *array;
};

/* ---- Arrays. */

static size_t group_array_size(uint32_t capacity)
{
    return sizeof(struct group_array) + capacity * sizeof(struct group_entry);
}

static struct group_array *group_array_create(uint32_t capacity)
{
    struct group_array *array = iocp__allocate(group_array_size(capacity));
    if (!array)
        return NULL;
    array->refs = 1;
    array->count = 0;
    array->holes = 0;
    array->capacity = capacity;
    array->departed = NULL;
    return array;
}

static void group_unhold(struct iocp_group *group)
{
    /* Acquire and release: the last one sees all that others did. */
    if (iocp__sub_acq_rel(&group->holds, 1) > 1)
        return;
    iocp__debug(group->array->count == 0 && group->array->refs == 1);
    iocp__release(group->array, group_array_size(group->array->capacity));
    iocp__release(group, sizeof(*group));
}

/* Forgets memberships that have left, with the references of their entries. */
static void group_forget(struct iocp__membership *departed)
{
    while (departed) {
        struct iocp__membership *next = departed->next;
        struct iocp_group *group = departed->group;
        iocp_session_unref(departed->session);
        iocp__release(departed, sizeof(*departed));
        group_unhold(group);
        departed = next;
    }
}

/* Frees an array that was replaced, once its last publisher is out. NULL is fine. */
static void group_array_free(struct group_array *array)
{
    if (!array)
        return;
    for (uint32_t i = 0; i < array->count; i++)
        iocp_session_unref(array->entries[i].session);
    group_forget(array->departed);
    iocp__release(array, group_array_size(array->capacity));
}

/* Puts an entry at the end; the group's lock is held, here and in the following. */
static void group_append(struct group_array *array, struct group_entry entry)
{
    entry.membership->index = array->count;
    array->entries[array->count++] = entry;
}

/* Closes the holes: no publisher is inside. */
static void group_compact(struct group_array *array)
{
    uint32_t count = array->count;
    if (!array->holes)
        return;
    array->count = 0;
    array->holes = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (array->entries[i].session)
            group_append(array, array->entries[i]);
    }
}

/* Puts `spare`, empty and large enough, in the place of the current array. Returns the old one when
 * nobody uses it any more: empty, to be freed. */
static struct group_array *group_replace(struct iocp_group *group, struct group_array *spare)
{
    struct group_array *old = group->array;
    int shared = old->refs > 1;
    for (uint32_t i = 0; i < old->count; i++) {
        struct iocp_session *session = old->entries[i].session;
        if (session && shared)
            iocp_session_ref(session);
        if (session)
            group_append(spare, old->entries[i]);
    }
    group->array = spare;
    old->refs--;
    if (shared)
        return NULL;
    old->count = 0;
    return old;
}

/* Takes a membership out. Returns it when it can be forgotten at once, else NULL: publishers are
 * inside. */
static struct iocp__membership *group_remove(struct iocp_group *group,
                                             struct iocp__membership *membership)
{
    struct group_array *array = group->array;
    struct group_entry *entry = &array->entries[membership->index];
    iocp__assert(entry->membership == membership && entry->session == membership->session);
    membership->next = NULL;
    if (array->refs > 1) {
        /* Relaxed: a publisher that has read it before still may use it. */
        iocp__store_relaxed(&entry->session, (struct iocp_session *)NULL);
        array->holes++;
        membership->next = array->departed;
        array->departed = membership;
        return NULL;
    }
    struct group_entry last = array->entries[--array->count];
    if (last.membership != membership) {
        *entry = last;
        last.membership->index = membership->index;
    }
    return membership;
}

/* ---- Publishers. */

static struct group_array *group_enter(struct iocp_group *group, uint32_t *out_count)
{
    iocp__lock_acquire(&group->lock);
    struct group_array *array = group->array;
    array->refs++;
    *out_count = array->count;
    iocp__lock_release(&group->lock);
    return array;
}

static void group_exit(struct iocp_group *group, struct group_array *array)
{
    struct iocp__membership *departed = NULL;
    iocp__lock_acquire(&group->lock);
    uint32_t left = --array->refs;
    if (left == 1 && array == group->array) {
        departed = array->departed;
        array->departed = NULL;
        group_compact(array);
    }
    iocp__lock_release(&group->lock);
    group_forget(departed);
    if (left == 0)
        group_array_free(array);
}

/* A visit of a member waits for the memory of its session more than for anything else. */
static void group_prefetch(const struct group_array *array, uint32_t index, uint32_t count)
{
    /* Relaxed: it is only fetched; what is gone by then does no harm. */
    struct iocp_session *session =
        index < count ? iocp__load_relaxed(&array->entries[index].session) : NULL;
    if (!session)
        return;
    iocp__prefetch(&session->object.refs);
    iocp__prefetch(&session->service);
    iocp__prefetch(&session->limits_gone);
}

void iocp_group_each(struct iocp_group *group,
                     int (*visit)(struct iocp_session *session, void *context), void *context)
{
    uint32_t count;
    int stop = 0;
    if (!group || !visit)
        return;
    struct group_array *array = group_enter(group, &count);
    for (uint32_t i = 0; i < count && !stop; i++) {
        group_prefetch(array, i + GROUP_AHEAD, count);
        /* Relaxed: the session was there before the array's reference was taken. */
        struct iocp_session *session = iocp__load_relaxed(&array->entries[i].session);
        if (session)
            stop = visit(session, context) != 0;
    }
    group_exit(group, array);
}

struct group_message {
    struct iocp_buffer *buffer;
    const struct iocp_session *except;
    uint32_t taken;
};

static int group_send_to(struct iocp_session *session, void *context)
{
    struct group_message *message = context;
    if (session != message->except && iocp_session_send_buffer(session, message->buffer) == 0)
        message->taken++;
    return 0;
}

uint32_t iocp_group_publish(struct iocp_group *group, struct iocp_buffer *buffer,
                            const struct iocp_session *except)
{
    struct group_message message = {buffer, except, 0};
    if (buffer)
        iocp_group_each(group, group_send_to, &message);
    return message.taken;
}

uint32_t iocp_group_count(const struct iocp_group *group)
{
    /* The lock is not what const promises. */
    struct iocp_group *self = (struct iocp_group *)(uintptr_t)group;
    iocp__lock_acquire(&self->lock);
    uint32_t count = self->array->count - self->array->holes;
    iocp__lock_release(&self->lock);
    return count;
}

/* ---- Members. */

/* The session's lock is held. */
static struct iocp__membership **group_find(struct iocp_group *group, struct iocp_session *session)
{
    struct iocp__membership **at = &session->membership;
    while (*at && (*at)->group != group)
        at = &(*at)->next;
    return at;
}

/* How large an array the next member needs; 0: it has a place. The group's lock is held. */
static uint32_t group_wanted(const struct group_array *array)
{
    uint32_t members = array->count - array->holes;
    if (array->count < array->capacity && array->holes <= members + GROUP_CAPACITY_MIN)
        return 0;
    return members + members / 2 + GROUP_CAPACITY_MIN;
}

struct group_join {
    struct iocp__membership *membership;
    struct group_array *spare;
    struct group_array *old; /* to be freed */
    uint32_t wanted;         /* capacity of the spare that is missing */
};

/* 0, an error, or 1: `wanted` says what is missing. Both locks are held. */
static int group_try_join(struct iocp_group *group, struct iocp_session *session,
                          struct group_join *join)
{
    if (session->state != IOCP__SESSION_OPEN)
        return IOCP_ECLOSED;
    if (*group_find(group, session))
        return IOCP_EEXIST;
    join->wanted = group_wanted(group->array);
    if (join->wanted) {
        if (!join->spare || join->spare->capacity < join->wanted)
            return 1;
        join->old = group_replace(group, join->spare);
        join->spare = NULL;
    }
    struct iocp__membership *membership = join->membership;
    membership->next = session->membership;
    session->membership = membership;
    group_append(group->array, (struct group_entry){iocp_session_ref(session), membership});
    join->membership = NULL;
    return 0;
}

int iocp_group_join(struct iocp_group *group, struct iocp_session *session)
{
    struct group_join join = {NULL, NULL, NULL, 0};
    if (!group || !session)
        return IOCP_EINVAL;
    join.membership = iocp__allocate(sizeof(*join.membership));
    if (!join.membership)
        return IOCP_ENOMEM;
    join.membership->session = session;
    join.membership->group = group;
    /* Relaxed: the caller has a reference. */
    iocp__add_relaxed(&group->holds, 1);
    int result;
    do {
        iocp__lock_acquire(&session->lock);
        iocp__lock_acquire(&group->lock);
        result = group_try_join(group, session, &join);
        iocp__lock_release(&group->lock);
        iocp__lock_release(&session->lock);
        if (result == 1) {
            group_array_free(join.spare);
            join.spare = group_array_create(join.wanted);
            if (!join.spare)
                result = IOCP_ENOMEM;
        }
    } while (result == 1);
    group_array_free(join.spare);
    group_array_free(join.old);
    if (join.membership) {
        iocp__release(join.membership, sizeof(*join.membership));
        group_unhold(group);
    }
    return result;
}

/* Unlinks the membership at `at` of the session's list. The session's lock is held. */
static struct iocp__membership *group_unlink(struct iocp__membership **at)
{
    struct iocp__membership *membership = *at;
    struct iocp_group *group = membership->group;
    *at = membership->next;
    iocp__lock_acquire(&group->lock);
    membership = group_remove(group, membership);
    iocp__lock_release(&group->lock);
    return membership;
}

int iocp_group_leave(struct iocp_group *group, struct iocp_session *session)
{
    struct iocp__membership *membership = NULL;
    if (!group || !session)
        return IOCP_EINVAL;
    iocp__lock_acquire(&session->lock);
    struct iocp__membership **at = group_find(group, session);
    int found = *at != NULL;
    if (found)
        membership = group_unlink(at);
    iocp__lock_release(&session->lock);
    group_forget(membership);
    return found ? 0 : IOCP_ENOTFOUND;
}

void iocp__group_leave_all(struct iocp_session *session)
{
    int found;
    do {
        struct iocp__membership *membership = NULL;
        iocp__lock_acquire(&session->lock);
        found = session->membership != NULL;
        if (found)
            membership = group_unlink(&session->membership);
        iocp__lock_release(&session->lock);
        group_forget(membership);
    } while (found);
}

/* ---- The group. */

int iocp_group_create(struct iocp_group **out_group)
{
    if (!out_group)
        return IOCP_EINVAL;
    struct iocp_group *group = iocp__allocate_zero(sizeof(*group));
    if (!group)
        return IOCP_ENOMEM;
    group->array = group_array_create(GROUP_CAPACITY_MIN);
    if (!group->array) {
        iocp__release(group, sizeof(*group));
        return IOCP_ENOMEM;
    }
    group->refs = 1;
    group->holds = 1;
    *out_group = group;
    return 0;
}

struct iocp_group *iocp_group_ref(struct iocp_group *group)
{
    /* Relaxed: whoever takes a reference has one. */
    iocp__add_relaxed(&group->refs, 1);
    return group;
}

/* Some member, with a reference; nobody publishes any more. */
static struct iocp_session *group_member(struct iocp_group *group)
{
    struct iocp_session *session = NULL;
    iocp__lock_acquire(&group->lock);
    if (group->array->count > 0)
        session = iocp_session_ref(group->array->entries[0].session);
    iocp__lock_release(&group->lock);
    return session;
}

struct iocp_group *iocp_group_unref(struct iocp_group *group)
{
    struct iocp_session *session;
    /* Acquire and release: as any reference. */
    if (!group || iocp__sub_acq_rel(&group->refs, 1) > 1)
        return NULL;
    while ((session = group_member(group))) {
        iocp_group_leave(group, session);
        iocp_session_unref(session);
    }
    group_unhold(group);
    return NULL;
}
