/* Workload h: GLib's GAsyncQueue, as its documentation has it: pointers in, pointers out; a pointer
 * of its own says that it is over. */
#include "post.h"

#include <glib.h>

static struct post_item glib_over;

static void *glib_open(uint32_t consumers)
{
    (void)consumers;
    return g_async_queue_new();
}

static void glib_post(void *queue, struct post_item *item)
{
    g_async_queue_push(queue, item);
}

static void glib_consume(void *queue, post_got *got, void *context)
{
    struct post_item *item;
    while ((item = g_async_queue_pop(queue)) != &glib_over)
        got(context, item);
    g_async_queue_push(queue, &glib_over); /* for the next consumer */
}

static void glib_poll(void *queue, post_got *got, void *context)
{
    struct post_item *item;
    while ((item = g_async_queue_try_pop(queue)))
        got(context, item);
}

static void glib_stop(void *queue)
{
    g_async_queue_push(queue, &glib_over);
}

static void glib_close(void *queue)
{
    g_async_queue_unref(queue);
}

static const struct post_peer post_glib = {"GLib GAsyncQueue", glib_open, glib_post, glib_consume,
                                           glib_poll,          glib_stop, glib_close};

const struct post_peer *const post_peers[] = {&post_glib, NULL};
