/* Worker records, and the declaration of blocking.
 *
 * A record belongs to a port and to a thread; whichever goes last frees it. The port keeps a record
 * whose thread is gone for the next new thread, so that threads may come and go.
 *
 * Invariant: record->port and record->thread_gone change under the registry lock alone. */
#include "core/worker.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/atomic.h"
#include "core/gate.h"
#include "core/watch.h"

static struct iocp__lock worker_registry;

/* The records of this thread, the one used last in front. */
static IOCP__THREAD_LOCAL struct iocp__worker *worker_list;

static void worker_free(struct iocp__worker *worker)
{
    iocp__release(worker, sizeof(*worker));
}

/* A reference on the port of a record, or NULL when the port is gone or going. */
static struct iocp_port *worker_port_ref(struct iocp__worker *worker)
{
    iocp__lock_acquire(&worker_registry);
    struct iocp_port *port = worker->port;
    if (port) {
        uint32_t refs = iocp__load_relaxed(&port->refs);
        /* Acquire and release: as any reference; 0 means that it is being freed. */
        while (refs && !iocp__cas_acq_rel(&port->refs, &refs, refs + 1))
            ;
        if (!refs)
            port = NULL;
    }
    iocp__lock_release(&worker_registry);
    return port;
}

/* The thread exits: what it holds goes on to others. */
static void worker_thread_exit(void *list)
{
    struct iocp__worker *worker = list;
    worker_list = NULL;
    while (worker) {
        struct iocp__worker *next = worker->thread_next;
        struct iocp_port *port = worker_port_ref(worker);
        if (port)
            iocp__gate_leave(port, worker);
        iocp_port_unref(port);
        iocp__lock_acquire(&worker_registry);
        int last = !worker->port;
        /* Relaxed: by the lock the next thread that takes the record sees it at rest. */
        iocp__store_relaxed(&worker->thread_gone, 1);
        iocp__lock_release(&worker_registry);
        if (last)
            worker_free(worker);
        worker = next;
    }
}

struct iocp__worker *iocp__worker_find(struct iocp_port *port)
{
    struct iocp__worker *worker = worker_list;
    /* Relaxed: another thread only ever turns it into NULL, when the port is gone. */
    while (worker && iocp__load_relaxed(&worker->port) != port)
        worker = worker->thread_next;
    return worker;
}

/* Frees the records of this thread whose ports are gone. */
static void worker_prune(void)
{
    struct iocp__worker **at = &worker_list;
    while (*at) {
        struct iocp__worker *worker = *at;
        iocp__lock_acquire(&worker_registry);
        int dead = !worker->port;
        iocp__lock_release(&worker_registry);
        if (dead) {
            *at = worker->thread_next;
            worker_free(worker);
        } else {
            at = &worker->thread_next;
        }
    }
}

/* A record whose thread is gone. */
static struct iocp__worker *worker_reuse(struct iocp_port *port)
{
    iocp__lock_acquire(&port->gate.lock);
    struct iocp__worker *worker = port->workers;
    iocp__lock_release(&port->gate.lock);
    iocp__lock_acquire(&worker_registry);
    while (worker && !worker->thread_gone)
        worker = worker->next;
    if (worker)
        iocp__store_relaxed(&worker->thread_gone, 0);
    iocp__lock_release(&worker_registry);
    return worker;
}

static int worker_create(struct iocp_port *port, struct iocp__worker **out_worker)
{
    struct iocp__worker *worker = iocp__allocate_zero(sizeof(*worker));
    if (!worker)
        return IOCP_ENOMEM;
    worker->port = port;
    iocp__lock_acquire(&port->gate.lock);
    int full = port->worker_count >= port->config.workers_max;
    if (!full) {
        worker->next = port->workers;
        port->workers = worker;
        port->worker_count++;
    }
    iocp__lock_release(&port->gate.lock);
    if (full) {
        worker_free(worker);
        return IOCP_EFULL;
    }
    *out_worker = worker;
    return 0;
}

static void worker_give_back(struct iocp__worker *worker)
{
    iocp__lock_acquire(&worker_registry);
    iocp__store_relaxed(&worker->thread_gone, 1);
    iocp__lock_release(&worker_registry);
}

int iocp__worker_get(struct iocp_port *port, struct iocp__worker **out_worker)
{
    struct iocp__worker *worker = iocp__worker_find(port);
    if (!worker) {
        worker = worker_reuse(port);
        int error = worker ? 0 : worker_create(port, &worker);
        if (error < 0)
            return error;
        worker_prune();
        worker->depth = 0;
        worker->home = NULL;
        /* Without it nobody would learn that the thread exits. */
        error = iocp__thread_local_set(worker, worker_thread_exit);
        if (error < 0) {
            worker_give_back(worker);
            return error;
        }
        worker->thread_next = worker_list;
        worker_list = worker;
        struct iocp__thread_view view;
        iocp__thread_view_self(&view);
        iocp__lock_acquire(&port->gate.lock);
        worker->view = view;
        int several = port->worker_count > 1;
        iocp__lock_release(&port->gate.lock);
        if (several)
            iocp__watch_start(port);
    }
    *out_worker = worker;
    return 0;
}

void iocp__worker_leave(struct iocp_port *port)
{
    struct iocp__worker *worker = iocp__worker_find(port);
    if (worker)
        iocp__gate_leave(port, worker);
}

void iocp__worker_forget_port(struct iocp_port *port)
{
    struct iocp__worker *mine = iocp__worker_find(port);
    struct iocp__worker **at = &worker_list;
    while (*at && *at != mine)
        at = &(*at)->thread_next;
    if (mine) {
        *at = mine->thread_next;
        /* Cannot fail: the thread has its slot. */
        iocp__thread_local_set(worker_list, worker_thread_exit);
        mine->thread_gone = 1;
    }
    struct iocp__worker *worker = port->workers;
    port->workers = NULL;
    while (worker) {
        struct iocp__worker *next = worker->next;
        iocp__lock_acquire(&worker_registry);
        iocp__store_relaxed(&worker->port, NULL);
        int gone = (int)worker->thread_gone;
        iocp__lock_release(&worker_registry);
        if (gone)
            worker_free(worker);
        worker = next;
    }
}

/* ---- Declared blocking. */

void iocp_blocking_begin(void)
{
    for (struct iocp__worker *worker = worker_list; worker; worker = worker->thread_next) {
        /* Relaxed: NULL when the port is gone; it is not while this thread is out with packets. */
        struct iocp_port *port = iocp__load_relaxed(&worker->port);
        if (!port || worker->depth++ > 0)
            continue;
        if (iocp__gate_block(port, worker) && worker->owes) {
            worker->owes = 0;
            iocp__gate_settle_owed(port);
        }
    }
}

void iocp_blocking_end(void)
{
    for (struct iocp__worker *worker = worker_list; worker; worker = worker->thread_next) {
        if (worker->depth > 0)
            worker->depth--;
    }
}
