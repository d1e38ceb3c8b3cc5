/* Workload h: what people write by hand. A queue under a lock, and three ways to wait for it.
 *
 * futex: a lock of one word that spins a little, a stack of waiters, each with a word of its own:
 *   the last to wait is woken first and is given the item in its hand. The reference.
 * condvar: pthread_mutex and pthread_cond.
 * eventfd: pthread_mutex, an eventfd as the bell, epoll to wait; a consumer that was rung for takes
 *   all that is there. */
#include "post.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Items in a list. */

struct list {
    struct post_item *first;
    struct post_item *last;
};

static void list_push(struct list *list, struct post_item *item)
{
    item->link[0] = 0;
    if (list->first)
        list->last->link[0] = (uint64_t)(uintptr_t)item;
    else
        list->first = item;
    list->last = item;
}

static struct post_item *list_pop(struct list *list)
{
    struct post_item *item = list->first;
    if (item)
        list->first = (struct post_item *)(uintptr_t)item->link[0];
    return item;
}

/* ---- futex. */

struct waiter {
    uint32_t word; /* atomic: 0 waits, 1 was let go */
    struct post_item *item;
    struct waiter *below;
};

struct futex_queue {
    uint32_t lock; /* 0 free, 1 held, 2 held and slept upon */
    int stopped;
    struct list list;
    struct waiter *top;
};

static void futex_sleep(uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void futex_lock(uint32_t *lock)
{
    for (int spins = 0; spins < 100; spins++) {
        uint32_t free = 0;
        if (__atomic_compare_exchange_n(lock, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return;
    }
    while (__atomic_exchange_n(lock, 2, __ATOMIC_ACQUIRE))
        futex_sleep(lock, 2);
}

static void futex_unlock(uint32_t *lock)
{
    if (__atomic_exchange_n(lock, 0, __ATOMIC_RELEASE) == 2)
        futex_wake(lock);
}

static void *futex_open(uint32_t consumers)
{
    (void)consumers;
    return calloc(1, sizeof(struct futex_queue));
}

static void waiter_release(struct waiter *waiter, struct post_item *item)
{
    waiter->item = item;
    __atomic_store_n(&waiter->word, 1, __ATOMIC_RELEASE);
    futex_wake(&waiter->word);
}

static void futex_post(void *context, struct post_item *item)
{
    struct futex_queue *queue = context;
    futex_lock(&queue->lock);
    struct waiter *waiter = queue->top;
    if (waiter)
        queue->top = waiter->below;
    else
        list_push(&queue->list, item);
    futex_unlock(&queue->lock);
    if (waiter)
        waiter_release(waiter, item);
}

static struct post_item *futex_take(struct futex_queue *queue, int wait)
{
    struct waiter self = {0};
    futex_lock(&queue->lock);
    struct post_item *item = list_pop(&queue->list);
    int sleeps = !item && wait && !queue->stopped;
    if (sleeps) {
        self.below = queue->top;
        queue->top = &self;
    }
    futex_unlock(&queue->lock);
    if (!sleeps)
        return item;
    while (!__atomic_load_n(&self.word, __ATOMIC_ACQUIRE))
        futex_sleep(&self.word, 0);
    return self.item;
}

static void futex_consume(void *context, post_got *got, void *got_context)
{
    struct post_item *item;
    while ((item = futex_take(context, 1)))
        got(got_context, item);
}

static void futex_poll(void *context, post_got *got, void *got_context)
{
    struct post_item *item;
    while ((item = futex_take(context, 0)))
        got(got_context, item);
}

static void futex_stop(void *context)
{
    struct futex_queue *queue = context;
    futex_lock(&queue->lock);
    queue->stopped = 1;
    struct waiter *waiter = queue->top;
    queue->top = NULL;
    futex_unlock(&queue->lock);
    while (waiter) {
        struct waiter *below = waiter->below;
        waiter_release(waiter, NULL);
        waiter = below;
    }
}

/* ---- condvar. */

struct condvar_queue {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    int stopped;
    struct list list;
};

static void *condvar_open(uint32_t consumers)
{
    struct condvar_queue *queue = calloc(1, sizeof(*queue));
    (void)consumers;
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->filled, NULL);
    return queue;
}

static void condvar_post(void *context, struct post_item *item)
{
    struct condvar_queue *queue = context;
    pthread_mutex_lock(&queue->lock);
    list_push(&queue->list, item);
    pthread_mutex_unlock(&queue->lock);
    pthread_cond_signal(&queue->filled);
}

static struct post_item *condvar_take(struct condvar_queue *queue, int wait)
{
    pthread_mutex_lock(&queue->lock);
    while (wait && !queue->list.first && !queue->stopped)
        pthread_cond_wait(&queue->filled, &queue->lock);
    struct post_item *item = list_pop(&queue->list);
    pthread_mutex_unlock(&queue->lock);
    return item;
}

static void condvar_consume(void *context, post_got *got, void *got_context)
{
    struct post_item *item;
    while ((item = condvar_take(context, 1)))
        got(got_context, item);
}

static void condvar_poll(void *context, post_got *got, void *got_context)
{
    struct post_item *item;
    while ((item = condvar_take(context, 0)))
        got(got_context, item);
}

static void condvar_stop(void *context)
{
    struct condvar_queue *queue = context;
    pthread_mutex_lock(&queue->lock);
    queue->stopped = 1;
    pthread_mutex_unlock(&queue->lock);
    pthread_cond_broadcast(&queue->filled);
}

/* ---- eventfd. */

struct eventfd_queue {
    pthread_mutex_t lock;
    struct list list;
    int epoll;
    int bell;
    int stopped; /* atomic */
};

static void *eventfd_open(uint32_t consumers)
{
    struct eventfd_queue *queue = calloc(1, sizeof(*queue));
    (void)consumers;
    pthread_mutex_init(&queue->lock, NULL);
    queue->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    queue->epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_ctl(queue->epoll, EPOLL_CTL_ADD, queue->bell, &event) < 0) {
        perror("epoll_ctl");
        exit(1);
    }
    return queue;
}

static void eventfd_ring(struct eventfd_queue *queue)
{
    uint64_t one = 1;
    if (write(queue->bell, &one, sizeof(one)) < 0)
        abort();
}

static void eventfd_post(void *context, struct post_item *item)
{
    struct eventfd_queue *queue = context;
    pthread_mutex_lock(&queue->lock);
    int ring = !queue->list.first;
    list_push(&queue->list, item);
    pthread_mutex_unlock(&queue->lock);
    if (ring)
        eventfd_ring(queue);
}

static void eventfd_poll(void *context, post_got *got, void *got_context)
{
    struct eventfd_queue *queue = context;
    struct post_item *item;
    do {
        pthread_mutex_lock(&queue->lock);
        item = list_pop(&queue->list);
        pthread_mutex_unlock(&queue->lock);
        if (item)
            got(got_context, item);
    } while (item);
}

static void eventfd_consume(void *context, post_got *got, void *got_context)
{
    struct eventfd_queue *queue = context;
    while (!__atomic_load_n(&queue->stopped, __ATOMIC_ACQUIRE)) {
        struct epoll_event event;
        uint64_t count;
        if (epoll_wait(queue->epoll, &event, 1, -1) < 0 && errno != EINTR)
            abort();
        /* EAGAIN: another consumer was first. */
        if (read(queue->bell, &count, sizeof(count)) < 0 && errno != EAGAIN)
            abort();
        eventfd_poll(context, got, got_context);
    }
    eventfd_ring(queue); /* for the next one */
}

static void eventfd_stop(void *context)
{
    struct eventfd_queue *queue = context;
    __atomic_store_n(&queue->stopped, 1, __ATOMIC_RELEASE);
    eventfd_ring(queue);
}

static void eventfd_close(void *context)
{
    struct eventfd_queue *queue = context;
    close(queue->epoll);
    close(queue->bell);
    free(queue);
}

static const struct post_peer post_futex = {"futex",    futex_open, futex_post, futex_consume,
                                            futex_poll, futex_stop, free};
static const struct post_peer post_condvar = {
    "condvar", condvar_open, condvar_post, condvar_consume, condvar_poll, condvar_stop, free};
static const struct post_peer post_eventfd = {"eventfd",       eventfd_open, eventfd_post,
                                              eventfd_consume, eventfd_poll, eventfd_stop,
                                              eventfd_close};

const struct post_peer *const post_peers[] = {&post_futex, &post_condvar, &post_eventfd, NULL};
