/* The contract of backends: lanes that share one source of completions (IOCP__CAP_SHARED). See
 * backend_contract.h. */
#include "support/backend_contract.h"

#include "base/atomic.h"

#include <iocp/memory.h>

#include <pthread.h>
#include <string.h>

#define SHARED_SHORT_NS UINT64_C(20000000)

/* Two lanes of one port, and a connection in each. */
struct shared_lane {
    struct contract contract;
    struct iocp_object object;
    struct iocp_op op;
    pthread_mutex_t holder;
    int peer;
    char byte;
};

struct shared {
    const struct iocp__backend *backend;
    struct shared_lane lanes[2];
};

static void shared_open(struct shared *shared, const struct iocp__backend *backend)
{
    if (!(backend->caps & IOCP__CAP_SHARED))
        SKIP("each lane of this backend has a source of completions of its own");
    memset(shared, 0, sizeof(*shared));
    shared->backend = backend;
    contract_open(&shared->lanes[0].contract, backend);
    contract_open_next(&shared->lanes[1].contract, &shared->lanes[0].contract);
    for (int i = 0; i < 2; i++) {
        int pair[2];
        make_connected_pair(pair);
        contract_attach(&shared->lanes[i].contract, &shared->lanes[i].object, pair[0]);
        shared->lanes[i].peer = pair[1];
        pthread_mutex_init(&shared->lanes[i].holder, NULL);
    }
}

static void shared_close(struct shared *shared)
{
    /* The first outlives the others. */
    for (int i = 1; i >= 0; i--) {
        contract_detach(&shared->lanes[i].contract, &shared->lanes[i].object);
        net_close(shared->lanes[i].peer);
        contract_close(&shared->lanes[i].contract);
    }
    CHECK_EQ(iocp_memory_count(), 0);
}

static uint64_t shared_fetch(struct shared *shared, int lane, uint64_t deadline_ns)
{
    return shared->backend->fetch(shared->lanes[lane].contract.kernel, deadline_ns);
}

static void shared_bell(struct shared *shared, int lane)
{
    shared->backend->bell(shared->lanes[lane].contract.kernel);
}

static void shared_submit(struct shared *shared, int lane)
{
    struct shared_lane *at = &shared->lanes[lane];

    iocp_op_recv(&at->op, &at->byte, 1);
    contract_submit(&at->contract, &at->object, &at->op);
}

/* What a fetch has named is there without waiting. */
static void shared_expect(struct shared *shared, int lane)
{
    struct contract *contract = &shared->lanes[lane].contract;

    shared->backend->wait(contract->kernel, 0, &contract->done);
    CHECK_EQ(contract->done.count, 1);
    CHECK_EQ(contract_answer(contract, &shared->lanes[lane].op), 1);
}

void contract_fetch_with_no_deadline_returns_at_once(const struct iocp__backend *backend)
{
    struct shared shared;

    shared_open(&shared, backend);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(shared_fetch(&shared, i % 2, 0), 0);
    shared_close(&shared);
}

void contract_fetch_sleeps_until_its_deadline(const struct iocp__backend *backend)
{
    struct shared shared;
    uint64_t deadline_ns;
    int fetches = 0;

    shared_open(&shared, backend);
    deadline_ns = iocp__os_now_ns() + SHARED_SHORT_NS;
    while (iocp__os_now_ns() < deadline_ns) {
        CHECK_EQ(shared_fetch(&shared, 0, deadline_ns), 0);
        fetches++;
    }
    CHECK_LE(fetches, 3);
    shared_close(&shared);
}

void contract_fetch_names_the_lane_of_an_answer(const struct iocp__backend *backend)
{
    struct shared shared;

    shared_open(&shared, backend);
    for (int i = 0; i < 20; i++) {
        int lane = i / 2 % 2;
        shared_submit(&shared, lane);
        CHECK_EQ(shared_fetch(&shared, 0, 0), 0);
        send_all(shared.lanes[lane].peer, "x", 1);
        CHECK_EQ(shared_fetch(&shared, i % 2, UINT64_MAX), UINT64_C(1) << lane);
        shared_expect(&shared, lane);
        CHECK_EQ(shared_fetch(&shared, 0, 0), 0);
    }
    shared_close(&shared);
}

void contract_fetch_names_both_lanes(const struct iocp__backend *backend)
{
    struct shared shared;

    shared_open(&shared, backend);
    for (int i = 0; i < 20; i++) {
        uint64_t named = 0;
        for (int lane = 0; lane < 2; lane++) {
            shared_submit(&shared, lane);
            send_all(shared.lanes[lane].peer, "x", 1);
        }
        shared_bell(&shared, 1);
        while (named != 3)
            named |= shared_fetch(&shared, i % 2, UINT64_MAX);
        /* The second may have been named for its bell alone, so far. */
        while (!shared.lanes[1].contract.done.first) {
            struct contract *contract = &shared.lanes[1].contract;
            backend->wait(contract->kernel, 0, &contract->done);
            if (!contract->done.first)
                shared_fetch(&shared, 0, UINT64_MAX);
        }
        CHECK_EQ(contract_answer(&shared.lanes[1].contract, &shared.lanes[1].op), 1);
        shared_expect(&shared, 0);
        while (shared_fetch(&shared, 0, 0))
            continue;
    }
    shared_close(&shared);
}

void contract_fetch_hears_a_bell_once(const struct iocp__backend *backend)
{
    struct shared shared;

    shared_open(&shared, backend);
    for (int i = 0; i < 100; i++) {
        int lane = i % 2;
        shared_bell(&shared, lane);
        if (i % 3 == 0)
            shared_bell(&shared, lane); /* nobody has heard the first: they are one */
        CHECK_EQ(shared_fetch(&shared, i / 2 % 2, UINT64_MAX), UINT64_C(1) << lane);
        CHECK_EQ(shared_fetch(&shared, 0, 0), 0);
    }
    shared_close(&shared);
}

/* ---- Many threads. */

#define SHARED_FETCHERS 3
#define SHARED_ANSWERS 1000 /* of each lane */

struct shared_crowd {
    struct shared shared;
    uint64_t count;    /* atomic: answers */
    uint64_t rings;    /* atomic: of the bell, with what is published before it */
    uint64_t heard;    /* atomic: the highest of rings that a fetcher saw after its fetch */
    uint32_t stopping; /* atomic */
    uint32_t left;     /* atomic */
};

/* As its holder, which the mutex stands for. */
static void crowd_serve(struct shared_crowd *crowd, int lane)
{
    struct shared_lane *at = &crowd->shared.lanes[lane];
    struct contract *contract = &at->contract;

    pthread_mutex_lock(&at->holder);
    crowd->shared.backend->wait(contract->kernel, 0, &contract->done);
    while (contract->done.first) {
        CHECK_EQ(contract_answer(contract, &at->op), 1);
        /* Relaxed: a count. */
        iocp__add_relaxed(&crowd->count, 1);
        shared_submit(&crowd->shared, lane);
        crowd->shared.backend->wait(contract->kernel, 0, &contract->done);
    }
    pthread_mutex_unlock(&at->holder);
}

static void *crowd_fetch(void *context)
{
    struct shared_crowd *crowd = context;

    while (!iocp__load_relaxed(&crowd->stopping)) {
        uint64_t lanes = shared_fetch(&crowd->shared, 0, UINT64_MAX);
        /* Relaxed: that the bell orders it is what is tested. */
        uint64_t rings = iocp__load_relaxed(&crowd->rings);
        uint64_t heard = iocp__load_relaxed(&crowd->heard);
        while (rings > heard && !iocp__cas_acq_rel(&crowd->heard, &heard, rings))
            continue;
        for (int lane = 0; lane < 2; lane++)
            if (lanes >> lane & 1)
                crowd_serve(crowd, lane);
    }
    iocp__add_relaxed(&crowd->left, 1);
    return NULL;
}

static void *crowd_ring(void *context)
{
    struct shared_crowd *crowd = context;

    for (uint64_t i = 0; i < SHARED_ANSWERS; i++) {
        iocp__add_relaxed(&crowd->rings, 1);
        shared_bell(&crowd->shared, (int)(i % 2));
    }
    return NULL;
}

static void crowd_wait_for(const uint64_t *counter, uint64_t value)
{
    uint64_t limit_ns = iocp__os_now_ns() + UINT64_C(20000000000);

    while (iocp__load_relaxed(counter) < value) {
        system_nap(1000000);
        CHECK_LT(iocp__os_now_ns(), limit_ns);
    }
}

/* Several fetch, two ring, answers come on both lanes: none of it is lost, none comes twice. */
void contract_fetch_by_many_threads(const struct iocp__backend *backend)
{
    static struct shared_crowd crowd;
    pthread_t fetchers[SHARED_FETCHERS];
    pthread_t ringers[2];

    shared_open(&crowd.shared, backend);
    for (int lane = 0; lane < 2; lane++)
        shared_submit(&crowd.shared, lane);
    for (int i = 0; i < SHARED_FETCHERS; i++)
        CHECK_EQ(pthread_create(&fetchers[i], NULL, crowd_fetch, &crowd), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&ringers[i], NULL, crowd_ring, &crowd), 0);
    for (int i = 0; i < SHARED_ANSWERS; i++)
        for (int lane = 0; lane < 2; lane++)
            send_all(crowd.shared.lanes[lane].peer, "x", 1);
    for (int i = 0; i < 2; i++)
        pthread_join(ringers[i], NULL);
    crowd_wait_for(&crowd.heard, 2 * SHARED_ANSWERS);
    crowd_wait_for(&crowd.count, 2 * SHARED_ANSWERS);
    iocp__store_relaxed(&crowd.stopping, 1);
    while (iocp__load_relaxed(&crowd.left) < SHARED_FETCHERS) {
        shared_bell(&crowd.shared, 0);
        system_nap(1000000);
    }
    for (int i = 0; i < SHARED_FETCHERS; i++)
        pthread_join(fetchers[i], NULL);
    while (shared_fetch(&crowd.shared, 0, 0))
        continue;
    for (int lane = 0; lane < 2; lane++) {
        struct shared_lane *at = &crowd.shared.lanes[lane];
        contract_cancel(&at->contract, &at->op);
        CHECK_EQ(contract_answer(&at->contract, &at->op), IOCP_ECANCELED);
    }
    CHECK_EQ(crowd.count, 2 * SHARED_ANSWERS);
    shared_close(&crowd.shared);
}

/* ---- Handles. */

void contract_associate_once(const struct iocp__backend *backend)
{
    struct contract first;
    struct contract second;
    struct iocp_object object;
    iocp_handle file;
    int pair[2];

    if (!backend->associate)
        SKIP("the kernel binds no handle to a lane");
    contract_open(&first, backend);
    contract_open(&second, backend);
    make_connected_pair(pair);
    contract_attach(&first, &object, pair[0]);
    CHECK_EQ(backend->associate(first.kernel, pair[0]), IOCP_EBUSY);
    CHECK_EQ(backend->associate(second.kernel, pair[0]), IOCP_EBUSY);
    file = system_file_to_wait_for();
    CHECK_EQ(backend->associate(first.kernel, file), IOCP_EBADHANDLE);
    system_close(file);
    contract_detach(&first, &object);
    net_close(pair[1]);
    contract_close(&second);
    contract_close(&first);
}
