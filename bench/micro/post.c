/* Workload h, the driver: how long a packet takes from its post until a thread has it.
 *
 * Three cases with threads, and one without, which shows the bare path:
 *   N producers, N consumers: each producer has WINDOW items and posts the next one when it is free
 *     again; time from the first post until the last item was got, per packet.
 *   ping-pong: two queues, one item; both threads sleep nearly always.
 *   one thread: BURST posts, then BURST items out of the queue. */
#include "post.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define WINDOW 1024
#define BURST 64
#define THREADS_MAX 2

struct tally {
    uint64_t count;
    uint64_t sum;
    int ordered; /* one producer and one consumer: items come as they were posted */
    char apart[104];
};

struct run {
    const struct post_peer *peer;
    void *queue;
    uint64_t packets; /* of each producer */
    pthread_barrier_t start;
    struct tally tallies[THREADS_MAX];
    struct post_item *items[THREADS_MAX];
};

struct member { /* a thread of a run */
    struct run *run;
    uint32_t index;
    pthread_t thread;
};

static void driver_got(void *context, struct post_item *item)
{
    struct tally *tally = context;
    if (item->value != tally->count)
        tally->ordered = 0;
    tally->count++;
    tally->sum += item->value;
    __atomic_store_n(&item->busy, 0, __ATOMIC_RELEASE);
}

static void *consumer_main(void *argument)
{
    struct member *member = argument;
    struct run *run = member->run;
    pthread_barrier_wait(&run->start);
    run->peer->consume(run->queue, driver_got, &run->tallies[member->index]);
    return NULL;
}

static void item_wait_free(struct post_item *item)
{
    while (__atomic_load_n(&item->busy, __ATOMIC_ACQUIRE))
        sched_yield();
}

static void *producer_main(void *argument)
{
    struct member *member = argument;
    struct run *run = member->run;
    struct post_item *items = run->items[member->index];
    pthread_barrier_wait(&run->start);
    for (uint64_t i = 0; i < run->packets; i++) {
        struct post_item *item = &items[i % WINDOW];
        item_wait_free(item);
        item->value = i;
        __atomic_store_n(&item->busy, 1, __ATOMIC_RELAXED); /* the queue publishes it */
        run->peer->post(run->queue, item);
    }
    for (uint32_t i = 0; i < WINDOW; i++)
        item_wait_free(&items[i]);
    return NULL;
}

static void run_check(const struct run *run, uint32_t threads)
{
    uint64_t count = 0;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < threads; i++) {
        count += run->tallies[i].count;
        sum += run->tallies[i].sum;
    }
    micro_check(count == threads * run->packets, run->peer->impl, "number of packets");
    micro_check(sum == threads * (run->packets * (run->packets - 1) / 2), run->peer->impl,
                "sum of packets");
    micro_check(threads > 1 || run->tallies[0].ordered, run->peer->impl, "order of packets");
}

static void run_open(struct run *run, const struct post_peer *peer, uint32_t threads)
{
    memset(run, 0, sizeof(*run));
    run->peer = peer;
    run->queue = peer->open(threads);
    for (uint32_t i = 0; i < threads; i++) {
        run->items[i] = micro_allocate(WINDOW * sizeof(struct post_item));
        run->tallies[i].ordered = 1;
    }
}

static void member_start(struct member *member, struct run *run, uint32_t index,
                         void *(*main)(void *))
{
    member->run = run;
    member->index = index;
    micro_check(pthread_create(&member->thread, NULL, main, member) == 0, run->peer->impl,
                "a thread starts");
}

/* `threads` producers and as many consumers. */
static void run_threads(const struct post_peer *peer, uint32_t threads, uint64_t packets)
{
    struct run run;
    struct member producers[THREADS_MAX];
    struct member consumers[THREADS_MAX];
    char name[64];
    run_open(&run, peer, threads);
    run.packets = packets;
    pthread_barrier_init(&run.start, NULL, 2 * threads + 1);
    for (uint32_t i = 0; i < threads; i++) {
        member_start(&consumers[i], &run, i, consumer_main);
        member_start(&producers[i], &run, i, producer_main);
    }
    uint64_t cpu_ns = micro_cpu_ns();
    uint64_t begin_ns = micro_now_ns();
    pthread_barrier_wait(&run.start);
    for (uint32_t i = 0; i < threads; i++)
        pthread_join(producers[i].thread, NULL);
    uint64_t time_ns = micro_now_ns() - begin_ns;
    cpu_ns = micro_cpu_ns() - cpu_ns;
    peer->stop(run.queue);
    for (uint32_t i = 0; i < threads; i++)
        pthread_join(consumers[i].thread, NULL);
    run_check(&run, threads);
    peer->close(run.queue);
    double all = (double)(packets * threads);
    snprintf(name, sizeof(name), "%u producer%s, %u consumer%s", threads, threads > 1 ? "s" : "",
             threads, threads > 1 ? "s" : "");
    micro_report("h", name, peer->impl, "ns/packet", (double)time_ns / all);
    micro_report("h", name, peer->impl, "CPU ns/packet", (double)cpu_ns / all);
}

/* ---- Ping-pong. */

struct player {
    const struct post_peer *peer;
    void *mine;
    struct player *other;
    uint64_t left; /* hits until the end; the player's own */
    uint64_t hits;
    pthread_mutex_t *lock;
    pthread_cond_t *end;
    int *over;
    pthread_t thread;
};

static void player_got(void *context, struct post_item *item)
{
    struct player *player = context;
    player->hits++;
    if (item->value-- > 1) {
        player->peer->post(player->other->mine, item);
        return;
    }
    pthread_mutex_lock(player->lock);
    *player->over = 1;
    pthread_cond_signal(player->end);
    pthread_mutex_unlock(player->lock);
}

static void *player_main(void *argument)
{
    struct player *player = argument;
    player->peer->consume(player->mine, player_got, player);
    return NULL;
}

static void run_ping_pong(const struct post_peer *peer, uint64_t hits)
{
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t end = PTHREAD_COND_INITIALIZER;
    int over = 0;
    struct post_item *ball = micro_allocate(sizeof(*ball));
    struct player players[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        players[i] = (struct player){.peer = peer, .other = &players[1 - i], .lock = &lock};
        players[i].end = &end;
        players[i].over = &over;
        players[i].mine = peer->open(1);
    }
    for (int i = 0; i < 2; i++)
        pthread_create(&players[i].thread, NULL, player_main, &players[i]);
    ball->value = hits;
    uint64_t cpu_ns = micro_cpu_ns();
    uint64_t begin_ns = micro_now_ns();
    peer->post(players[0].mine, ball);
    pthread_mutex_lock(&lock);
    while (!over)
        pthread_cond_wait(&end, &lock);
    pthread_mutex_unlock(&lock);
    uint64_t time_ns = micro_now_ns() - begin_ns;
    cpu_ns = micro_cpu_ns() - cpu_ns;
    for (int i = 0; i < 2; i++)
        peer->stop(players[i].mine);
    for (int i = 0; i < 2; i++)
        pthread_join(players[i].thread, NULL);
    micro_check(players[0].hits + players[1].hits == hits, peer->impl, "hits of the ping-pong");
    for (int i = 0; i < 2; i++)
        peer->close(players[i].mine);
    micro_report("h", "ping-pong", peer->impl, "ns/packet", (double)time_ns / (double)hits);
    micro_report("h", "ping-pong", peer->impl, "CPU ns/packet", (double)cpu_ns / (double)hits);
}

/* ---- One thread. */

static void run_alone(const struct post_peer *peer, uint64_t packets)
{
    struct run run;
    run_open(&run, peer, 1);
    run.packets = packets / BURST * BURST;
    uint64_t cpu_ns = micro_cpu_ns();
    uint64_t begin_ns = micro_now_ns();
    for (uint64_t i = 0; i < run.packets;) {
        for (uint32_t k = 0; k < BURST; k++, i++) {
            run.items[0][k].value = i;
            peer->post(run.queue, &run.items[0][k]);
        }
        peer->poll(run.queue, driver_got, &run.tallies[0]);
    }
    uint64_t time_ns = micro_now_ns() - begin_ns;
    cpu_ns = micro_cpu_ns() - cpu_ns;
    run_check(&run, 1);
    peer->stop(run.queue);
    peer->close(run.queue);
    double all = (double)run.packets;
    micro_report("h", "one thread", peer->impl, "ns/packet", (double)time_ns / all);
    micro_report("h", "one thread", peer->impl, "CPU ns/packet", (double)cpu_ns / all);
}

static void run_peer(const struct post_peer *peer, const struct micro_options *options)
{
    uint64_t packets = options->quick ? 100000 : 1000000;
    void *queue = peer->open(1);
    if (!queue) {
        micro_skip(peer->impl, "not available on this system");
        return;
    }
    peer->stop(queue);
    peer->close(queue);
    run_alone(peer, packets);
    run_threads(peer, 1, packets);
    run_threads(peer, 2, packets / 2);
    run_ping_pong(peer, options->quick ? 2000 : 20000);
}

int main(int argc, char **argv)
{
    struct micro_options options;
    micro_begin(argc, argv, &options);
    for (uint32_t i = 0; post_peers[i]; i++) {
        if (micro_wanted(&options, post_peers[i]->impl))
            run_peer(post_peers[i], &options);
    }
    return 0;
}
