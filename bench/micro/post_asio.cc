/* Workload h: asio::post onto an io_context that the consumers run, as its documentation has it: a
 * work guard keeps them in run(), and the hint says how many threads there are. */
#include "post.h"

#include <asio.hpp>

namespace
{

struct Queue {
    explicit Queue(uint32_t consumers)
        : context(static_cast<int>(consumers)), work(asio::make_work_guard(context))
    {
    }
    asio::io_context context;
    asio::executor_work_guard<asio::io_context::executor_type> work;
};

/* Whoever runs the handlers. */
thread_local post_got *consumer_got;
thread_local void *consumer_context;

void *asio_open(uint32_t consumers)
{
    return new Queue(consumers);
}

void asio_post(void *queue, post_item *item)
{
    asio::post(static_cast<Queue *>(queue)->context,
               [item] { consumer_got(consumer_context, item); });
}

void asio_consume(void *queue, post_got *got, void *context)
{
    consumer_got = got;
    consumer_context = context;
    static_cast<Queue *>(queue)->context.run();
}

void asio_poll(void *queue, post_got *got, void *context)
{
    consumer_got = got;
    consumer_context = context;
    static_cast<Queue *>(queue)->context.poll();
}

void asio_stop(void *queue)
{
    static_cast<Queue *>(queue)->work.reset();
    static_cast<Queue *>(queue)->context.stop();
}

void asio_close(void *queue)
{
    delete static_cast<Queue *>(queue);
}

const post_peer peer = {"asio::post", asio_open, asio_post, asio_consume,
                        asio_poll,    asio_stop, asio_close};

} // namespace

extern "C" const post_peer *const post_peers[] = {&peer, nullptr};
