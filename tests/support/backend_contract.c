/* The contract of backends: the fixture, and the checks of lanes. */
#include "support/backend_contract.h"

#include "base/atomic.h"

#include <iocp/memory.h>

#include <pthread.h>
#include <string.h>

#define CONTRACT_LIMIT_NS UINT64_C(20000000000)
#define CONTRACT_SHORT_NS UINT64_C(20000000)

/* ---- The fixture. */

static void contract_create(struct contract *contract, const struct iocp__backend *backend,
                            size_t buffer_size, uint32_t buffer_count, struct iocp__kernel *first)
{
    struct iocp__kernel_config config = {
        .buffer_count = buffer_count, .concurrency = 1, .index = first != NULL, .first = first};
    char text[160] = "";

    if (backend->probe(text, sizeof(text)) < 0)
        SKIP("%s", text);
    memset(contract, 0, sizeof(*contract));
    contract->backend = backend;
    CHECK_OK(iocp_pool_create(buffer_size, buffer_count, &contract->pool));
    config.pool = contract->pool;
    CHECK_OK(backend->create(&config, &contract->kernel));
    CHECK(contract->kernel->backend == backend);
    CHECK(contract->kernel->pool == contract->pool);
    contract->kernel->resubmits = &contract->resubmits;
    contract->kernel->starved = &contract->starved;
    iocp__queue_init(&contract->done);
}

void contract_open_sized(struct contract *contract, const struct iocp__backend *backend,
                         size_t buffer_size, uint32_t buffer_count)
{
    contract_create(contract, backend, buffer_size, buffer_count, NULL);
}

void contract_open(struct contract *contract, const struct iocp__backend *backend)
{
    contract_open_sized(contract, backend, 4096, 64);
}

void contract_open_next(struct contract *contract, const struct contract *first)
{
    contract_create(contract, first->backend, 4096, 64, first->kernel);
}

void contract_close(struct contract *contract)
{
    contract->backend->wait(contract->kernel, 0, &contract->done);
    CHECK_EQ(contract->done.count, 0);
    contract->backend->destroy(contract->kernel);
    iocp_pool_unref(contract->pool);
    contract->kernel = NULL;
    contract->pool = NULL;
}

void contract_attach(struct contract *contract, struct iocp_object *object, iocp_handle handle)
{
    memset(object, 0, sizeof(*object));
    object->refs = 1;
    object->handle = handle;
    CHECK_OK(iocp__handle_prepare(handle));
    if (contract->backend->associate)
        CHECK_OK(contract->backend->associate(contract->kernel, handle));
    object->attached = 1;
    contract->backend->attach(contract->kernel, object);
}

void contract_detach(struct contract *contract, struct iocp_object *object)
{
    CHECK_EQ(object->pending, 0);
    contract->backend->detach(contract->kernel, object);
    object->attached = 0;
    iocp__handle_close(object->handle);
    object->handle = IOCP_HANDLE_INVALID;
}

void contract_submit(struct contract *contract, struct iocp_object *object, struct iocp_op *op)
{
    op->event.op = op;
    op->owner = object;
    object->pending++;
    if (iocp__op_direction(op) != IOCP__UNDIRECTED)
        object->active[iocp__op_direction(op)] = op;
    contract->backend->submit(contract->kernel, op);
}

void contract_cancel(struct contract *contract, struct iocp_op *op)
{
    contract->backend->cancel(contract->kernel, op);
}

struct iocp_event *contract_next_at(struct contract *contract, const char *file, int line)
{
    uint64_t limit_ns = iocp__os_now_ns() + CONTRACT_LIMIT_NS;
    struct iocp_event *event;

    while (!contract->done.first) {
        contract->backend->wait(contract->kernel, limit_ns, &contract->done);
        /* What came with the end of the wait was found by that alone. */
        if (iocp__os_now_ns() >= limit_ns)
            check_failed(file, line, "no event came in time");
    }
    event = iocp__queue_pop(&contract->done);
    if (!(event->flags & IOCP_PACKET_MORE))
        event->op->owner->pending--;
    return event;
}

int64_t contract_answer_at(struct contract *contract, struct iocp_op *op, const char *file,
                           int line)
{
    struct iocp_event *event = contract_next_at(contract, file, line);

    if (event != &op->event)
        check_failed(file, line, "another event came: of a %s, result %lld",
                     event->op == op ? "stream" : "different op", (long long)event->result);
    if (event->result >= 0 && event->os_error)
        check_failed(file, line, "a success with an error of the system: %d", event->os_error);
    return event->result;
}

void contract_nothing_at(struct contract *contract, const char *file, int line)
{
    uint64_t limit_ns = iocp__os_now_ns() + CONTRACT_SHORT_NS;

    while (iocp__os_now_ns() < limit_ns) {
        contract->backend->wait(contract->kernel, limit_ns, &contract->done);
        if (contract->done.first)
            check_failed(file, line, "an event came: result %lld",
                         (long long)contract->done.first->result);
    }
}

void contract_release(struct iocp_event *event)
{
    if (event == &event->op->event)
        return;
    if (event->buffer)
        iocp_buffer_unref(event->buffer);
    else
        iocp__event_free(event);
}

static unsigned char contract_byte(size_t position)
{
    return (unsigned char)(position * 7 + position / 251);
}

void contract_fill(void *data, size_t size, size_t position)
{
    unsigned char *bytes = data;

    for (size_t i = 0; i < size; i++)
        bytes[i] = contract_byte(position + i);
}

void contract_check(const void *data, size_t size, size_t position)
{
    const unsigned char *bytes = data;

    for (size_t i = 0; i < size; i++)
        if (bytes[i] != contract_byte(position + i))
            FAIL("byte %zu is %u", position + i, bytes[i]);
}

/* ---- Waiting. */

void contract_wait_with_no_deadline_returns_at_once(const struct iocp__backend *backend)
{
    struct contract contract;

    contract_open(&contract, backend);
    for (int i = 0; i < 100; i++)
        backend->wait(contract.kernel, 0, &contract.done);
    CHECK_EQ(contract.done.count, 0);
    contract_close(&contract);
    CHECK_EQ(iocp_memory_count(), 0);
}

void contract_wait_sleeps_until_its_deadline(const struct iocp__backend *backend)
{
    struct contract contract;
    uint64_t deadline_ns;
    int waits = 0;

    contract_open(&contract, backend);
    deadline_ns = iocp__os_now_ns() + CONTRACT_SHORT_NS;
    while (iocp__os_now_ns() < deadline_ns) {
        backend->wait(contract.kernel, deadline_ns, &contract.done);
        waits++;
    }
    /* It may return early for nothing, but it does not spin. */
    CHECK_LE(waits, 3);
    contract_close(&contract);
}

void contract_bell_before_wait_ends_it(const struct iocp__backend *backend)
{
    struct contract contract;

    contract_open(&contract, backend);
    for (int i = 0; i < 100; i++) {
        backend->bell(contract.kernel);
        if (i % 3 == 0)
            backend->bell(contract.kernel);
        backend->wait(contract.kernel, UINT64_MAX, &contract.done);
    }
    CHECK_EQ(contract.done.count, 0);
    contract_close(&contract);
}

struct contract_ringer {
    struct contract *contract;
    uint64_t *count;
    uint64_t *seen;
    uint64_t rings;
};

static void *contract_ring_and_wait(void *context)
{
    struct contract_ringer *ringer = context;

    for (uint64_t i = 1; i <= ringer->rings; i++) {
        /* Sequential: a test of the bell's own order must not be the weaker one. */
        iocp__store_seq(ringer->count, i);
        ringer->contract->backend->bell(ringer->contract->kernel);
        while (iocp__load_seq(ringer->seen) < i)
            system_yield();
    }
    return NULL;
}

void contract_bell_of_a_thread_ends_wait(const struct iocp__backend *backend)
{
    struct contract contract;
    uint64_t count = 0;
    uint64_t seen = 0;
    struct contract_ringer ringer = {&contract, &count, &seen, 2000};
    pthread_t thread;

    contract_open(&contract, backend);
    CHECK_EQ(pthread_create(&thread, NULL, contract_ring_and_wait, &ringer), 0);
    while (seen < ringer.rings) {
        backend->wait(contract.kernel, UINT64_MAX, &contract.done);
        iocp__store_seq(&seen, iocp__load_seq(&count));
    }
    pthread_join(thread, NULL);
    contract_close(&contract);
}

static void *contract_ring_often(void *context)
{
    struct contract_ringer *ringer = context;

    for (uint64_t i = 0; i < ringer->rings; i++) {
        /* Relaxed: that the bell orders it is what is tested. */
        iocp__add_relaxed(ringer->count, 1);
        ringer->contract->backend->bell(ringer->contract->kernel);
    }
    return NULL;
}

void contract_no_bell_of_many_threads_is_lost(const struct iocp__backend *backend)
{
    struct contract contract;
    uint64_t count = 0;
    struct contract_ringer ringer = {&contract, &count, NULL, 3000};
    pthread_t threads[3];

    contract_open(&contract, backend);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, contract_ring_often, &ringer), 0);
    while (iocp__load_relaxed(&count) < 3 * ringer.rings)
        backend->wait(contract.kernel, UINT64_MAX, &contract.done);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    contract_close(&contract);
}

/* ---- Watching: two lanes, and a connection in the second. */

struct contract_two {
    struct contract a;
    struct contract b;
    struct iocp_object object; /* of b */
    int peer;
    char byte;
};

static void contract_two_open(struct contract_two *two, const struct iocp__backend *backend)
{
    int pair[2];

    if (backend->caps & IOCP__CAP_SHARED)
        SKIP("lanes of this backend share one source of completions: none watches another");
    contract_open(&two->a, backend);
    contract_open(&two->b, backend);
    make_connected_pair(pair);
    contract_attach(&two->b, &two->object, pair[0]);
    two->peer = pair[1];
}

static void contract_two_close(struct contract_two *two)
{
    contract_detach(&two->b, &two->object);
    net_close(two->peer);
    contract_close(&two->b);
    contract_close(&two->a);
}

void contract_watch_tells_of_another_lane(const struct iocp__backend *backend)
{
    struct contract_two two;
    struct iocp_op op;

    contract_two_open(&two, backend);
    for (int i = 0; i < 20; i++) {
        iocp_op_recv(&op, &two.byte, 1);
        contract_submit(&two.b, &two.object, &op);
        /* Given to the kernel; a backend may wait for this with it. */
        backend->wait(two.b.kernel, 0, &two.b.done);
        backend->watch(two.a.kernel, two.b.kernel);
        send_all(two.peer, "x", 1);
        backend->wait(two.a.kernel, UINT64_MAX, &two.a.done);
        CHECK_EQ(contract_answer(&two.b, &op), 1);
    }
    contract_two_close(&two);
}

void contract_watch_tells_of_what_is_there_already(const struct iocp__backend *backend)
{
    struct contract_two two;
    struct iocp_op op;

    contract_two_open(&two, backend);
    iocp_op_recv(&op, &two.byte, 1);
    contract_submit(&two.b, &two.object, &op);
    backend->wait(two.b.kernel, 0, &two.b.done);
    send_all(two.peer, "x", 1);
    backend->watch(two.a.kernel, two.b.kernel);
    backend->watch(two.a.kernel, two.b.kernel);
    backend->wait(two.a.kernel, UINT64_MAX, &two.a.done);
    CHECK_EQ(contract_answer(&two.b, &op), 1);
    contract_two_close(&two);
}

void contract_watch_tells_of_an_answer_made_at_submit(const struct iocp__backend *backend)
{
    struct contract_two two;
    struct iocp_op op;

    contract_two_open(&two, backend);
    /* Before the watch, and after it by whoever holds the lane then. */
    for (int after = 0; after < 2; after++) {
        if (after)
            backend->watch(two.a.kernel, two.b.kernel);
        iocp_op_send(&op, "x", 1);
        contract_submit(&two.b, &two.object, &op);
        if (backend->kind == IOCP_BACKEND_URING)
            backend->wait(two.b.kernel, 0, &two.b.done); /* it may give it to the kernel now only */
        if (!after)
            backend->watch(two.a.kernel, two.b.kernel);
        if (!two.b.done.first)
            backend->wait(two.a.kernel, UINT64_MAX, &two.a.done);
        CHECK_EQ(contract_answer(&two.b, &op), 1);
    }
    contract_two_close(&two);
}

void contract_watch_tells_of_a_file(const struct iocp__backend *backend)
{
    struct contract_two two;
    struct iocp_object file;
    struct iocp_op op;

    contract_two_open(&two, backend);
    contract_attach(&two.b, &file, system_file(NULL));
    for (uint64_t i = 0; i < 200; i++) {
        iocp_op_write(&op, "x", 1, i);
        contract_submit(&two.b, &file, &op);
        if (i % 2 || backend->kind == IOCP_BACKEND_URING)
            backend->wait(two.b.kernel, 0, &two.b.done);
        backend->watch(two.a.kernel, two.b.kernel);
        if (!two.b.done.first)
            backend->wait(two.a.kernel, UINT64_MAX, &two.a.done);
        CHECK_EQ(contract_answer(&two.b, &op), 1);
    }
    contract_detach(&two.b, &file);
    contract_two_close(&two);
}

void contract_two_lanes_watch_each_other(const struct iocp__backend *backend)
{
    struct contract_two two;
    struct iocp_op op;

    contract_two_open(&two, backend);
    for (int i = 0; i < 3; i++) {
        backend->watch(two.b.kernel, two.a.kernel);
        backend->wait(two.b.kernel, 0, &two.b.done);
        iocp_op_recv(&op, &two.byte, 1);
        contract_submit(&two.b, &two.object, &op);
        backend->wait(two.b.kernel, 0, &two.b.done);
        backend->watch(two.a.kernel, two.b.kernel);
        send_all(two.peer, "x", 1);
        backend->wait(two.a.kernel, UINT64_MAX, &two.a.done);
        CHECK_EQ(contract_answer(&two.b, &op), 1);
    }
    contract_two_close(&two);
}

/* ---- Threads that come and go. */

struct contract_errand {
    struct contract *contract;
    struct iocp_object *object;
    struct iocp_op *op;
    int cancel;
};

static void *contract_run_errand(void *context)
{
    struct contract_errand *errand = context;

    if (errand->cancel) {
        contract_cancel(errand->contract, errand->op);
    } else {
        contract_submit(errand->contract, errand->object, errand->op);
        errand->contract->backend->wait(errand->contract->kernel, 0, &errand->contract->done);
    }
    return NULL;
}

static void contract_on_a_thread(struct contract_errand errand)
{
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, contract_run_errand, &errand), 0);
    pthread_join(thread, NULL);
}

void contract_op_outlives_the_thread_that_submitted_it(const struct iocp__backend *backend)
{
    struct contract contract;
    struct iocp_object object;
    struct iocp_op op;
    char data[8];
    int pair[2];

    contract_open(&contract, backend);
    make_connected_pair(pair);
    contract_attach(&contract, &object, pair[0]);
    iocp_op_recv(&op, data, sizeof(data));
    contract_on_a_thread((struct contract_errand){&contract, &object, &op, 0});
    contract_nothing(&contract);
    send_all(pair[1], "hello", 5);
    CHECK_EQ(contract_answer(&contract, &op), 5);
    contract_detach(&contract, &object);
    net_close(pair[1]);
    contract_close(&contract);
}

void contract_canceled_op_of_a_thread_that_exited(const struct iocp__backend *backend)
{
    struct contract contract;
    struct iocp_object object;
    struct iocp_op op;
    char data[8];
    int pair[2];

    contract_open(&contract, backend);
    make_connected_pair(pair);
    contract_attach(&contract, &object, pair[0]);
    iocp_op_recv(&op, data, sizeof(data));
    contract_on_a_thread((struct contract_errand){&contract, &object, &op, 0});
    contract_on_a_thread((struct contract_errand){&contract, &object, &op, 1});
    CHECK_EQ(contract_answer(&contract, &op), IOCP_ECANCELED);
    contract_detach(&contract, &object);
    net_close(pair[1]);
    contract_close(&contract);
}

void contract_cancel_after_the_answer_changes_nothing(const struct iocp__backend *backend)
{
    struct contract contract;
    struct iocp_object object;
    struct iocp_op op;
    char data[8];
    int pair[2];

    contract_open(&contract, backend);
    make_connected_pair(pair);
    contract_attach(&contract, &object, pair[0]);
    for (int i = 0; i < 10; i++) {
        int64_t result;

        send_all(pair[1], "x", 1);
        iocp_op_recv(&op, data, sizeof(data));
        contract_submit(&contract, &object, &op);
        contract_cancel(&contract, &op);
        contract_cancel(&contract, &op);
        result = contract_answer(&contract, &op);
        CHECK(result == 1 || result == IOCP_ECANCELED);
        contract_nothing(&contract);
        if (result == IOCP_ECANCELED) {
            /* The byte is still there. */
            iocp_op_recv(&op, data, sizeof(data));
            contract_submit(&contract, &object, &op);
            CHECK_EQ(contract_answer(&contract, &op), 1);
        }
    }
    contract_detach(&contract, &object);
    net_close(pair[1]);
    contract_close(&contract);
}

/* ---- Objects. */

#define CONTRACT_MANY 400

void contract_many_objects_at_once(const struct iocp__backend *backend)
{
    static struct iocp_object objects[CONTRACT_MANY];
    static struct iocp_op ops[CONTRACT_MANY];
    static int peers[CONTRACT_MANY];
    static char bytes[CONTRACT_MANY];
    struct contract contract;

    system_raise_limit();
    contract_open(&contract, backend);
    for (int i = 0; i < CONTRACT_MANY; i++) {
        int pair[2];
        make_local_pair(pair);
        contract_attach(&contract, &objects[i], pair[0]);
        peers[i] = pair[1];
        iocp_op_recv(&ops[i], &bytes[i], 1);
        contract_submit(&contract, &objects[i], &ops[i]);
    }
    for (int i = 0; i < CONTRACT_MANY; i++)
        send_all(peers[i], (char[]){(char)i}, 1);
    for (int i = 0; i < CONTRACT_MANY; i++)
        CHECK_EQ(contract_next(&contract)->result, 1);
    for (int i = 0; i < CONTRACT_MANY; i++) {
        CHECK_EQ(bytes[i], (char)i);
        contract_detach(&contract, &objects[i]);
        net_close(peers[i]);
    }
    contract_close(&contract);
    CHECK_EQ(iocp_memory_count(), 0);
}

void contract_descriptors_are_used_again(const struct iocp__backend *backend)
{
    struct contract contract;
    struct iocp_object object;
    struct iocp_op op;
    char byte;

    contract_open(&contract, backend);
    for (int i = 0; i < 200; i++) {
        int pair[2];
        make_local_pair(pair);
        contract_attach(&contract, &object, pair[0]);
        iocp_op_recv(&op, &byte, 1);
        contract_submit(&contract, &object, &op);
        if (i % 2)
            send_all(pair[1], "x", 1);
        else
            contract_cancel(&contract, &op);
        CHECK_EQ(contract_answer(&contract, &op), i % 2 ? 1 : IOCP_ECANCELED);
        contract_detach(&contract, &object);
        net_close(pair[1]);
    }
    contract_close(&contract);
}

void contract_copy_of_a_closed_descriptor_is_silent(const struct iocp__backend *backend)
{
    struct contract contract;
    struct iocp_object first;
    struct iocp_object second;
    struct iocp_op op;
    char byte;
    int old_pair[2];
    int new_pair[2];
    int copy;

    contract_open(&contract, backend);
    make_connected_pair(old_pair);
    make_connected_pair(new_pair);
    copy = net_copy(old_pair[0]);
    contract_attach(&contract, &first, old_pair[0]);
    iocp_op_recv(&op, &byte, 1);
    contract_submit(&contract, &first, &op);
    contract_nothing(&contract);
    contract_cancel(&contract, &op);
    CHECK_EQ(contract_answer(&contract, &op), IOCP_ECANCELED);
    contract_detach(&contract, &first);

    /* The second has the place of the first; data for the first is none of its business. */
    contract_attach(&contract, &second, new_pair[0]);
    iocp_op_recv(&op, &byte, 1);
    contract_submit(&contract, &second, &op);
    send_all(old_pair[1], "old", 3);
    contract_nothing(&contract);
    send_all(new_pair[1], "n", 1);
    CHECK_EQ(contract_answer(&contract, &op), 1);
    CHECK_EQ(byte, 'n');
    contract_detach(&contract, &second);
    net_close(copy);
    net_close(old_pair[1]);
    net_close(new_pair[1]);
    contract_close(&contract);
}
