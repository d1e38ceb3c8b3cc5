/* Workload j: what people write by hand. A pool of four threads that call pread; jobs go to them
 * and answers come back through a list under a mutex with a condition variable each. And one thread
 * that calls pread in a loop, which shows what the read itself costs. */
#include "files.h"

#include <pthread.h>
#include <unistd.h>

#define THREADS 4

struct list {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    uint32_t slots[FILES_DEPTH + THREADS]; /* a ring; the end for each thread, besides the jobs */
    uint32_t first;
    uint32_t count;
};

struct pool {
    struct files_run *run;
    struct list jobs;
    struct list answers;
    int64_t offsets[FILES_DEPTH];
    int64_t results[FILES_DEPTH];
};

#define SLOT_END UINT32_MAX

static void list_init(struct list *list)
{
    pthread_mutex_init(&list->lock, NULL);
    pthread_cond_init(&list->filled, NULL);
    list->first = 0;
    list->count = 0;
}

static void list_put(struct list *list, uint32_t slot)
{
    pthread_mutex_lock(&list->lock);
    list->slots[(list->first + list->count++) % (FILES_DEPTH + THREADS)] = slot;
    pthread_mutex_unlock(&list->lock);
    pthread_cond_signal(&list->filled);
}

static uint32_t list_get(struct list *list)
{
    pthread_mutex_lock(&list->lock);
    while (!list->count)
        pthread_cond_wait(&list->filled, &list->lock);
    uint32_t slot = list->slots[list->first];
    list->first = (list->first + 1) % (FILES_DEPTH + THREADS);
    list->count--;
    pthread_mutex_unlock(&list->lock);
    return slot;
}

static void *pool_thread(void *argument)
{
    struct pool *pool = argument;
    uint32_t slot;
    while ((slot = list_get(&pool->jobs)) != SLOT_END) {
        pool->results[slot] =
            pread(pool->run->file, files_memory(pool->run, slot), FILES_BLOCK, pool->offsets[slot]);
        list_put(&pool->answers, slot);
    }
    return NULL;
}

static int pool_start(struct pool *pool, uint32_t slot)
{
    pool->offsets[slot] = files_next(pool->run, slot);
    if (pool->offsets[slot] < 0)
        return 0;
    list_put(&pool->jobs, slot);
    return 1;
}

static int pool_run(struct files_run *run)
{
    struct pool pool = {.run = run};
    pthread_t threads[THREADS];
    uint32_t pending = 0;
    list_init(&pool.jobs);
    list_init(&pool.answers);
    for (int i = 0; i < THREADS; i++)
        micro_check(pthread_create(&threads[i], NULL, pool_thread, &pool) == 0, run->impl,
                    "a thread starts");
    for (uint32_t slot = 0; slot < FILES_DEPTH; slot++)
        pending += (uint32_t)pool_start(&pool, slot);
    while (pending) {
        uint32_t slot = list_get(&pool.answers);
        files_done(run, slot, pool.results[slot]);
        pending -= !pool_start(&pool, slot);
    }
    for (int i = 0; i < THREADS; i++)
        list_put(&pool.jobs, SLOT_END);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return 0;
}

static int loop_run(struct files_run *run)
{
    int64_t offset;
    while ((offset = files_next(run, 0)) >= 0)
        files_done(run, 0, pread(run->file, files_memory(run, 0), FILES_BLOCK, offset));
    return 0;
}

static const struct files_peer files_pool = {"pread pool", pool_run};
static const struct files_peer files_loop = {"pread loop", loop_run};

const struct files_peer *const files_peers[] = {&files_pool, &files_loop, NULL};
