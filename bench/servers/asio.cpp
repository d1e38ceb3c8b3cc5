// Peer: Asio, standalone, built twice: on epoll, and on io_uring (ASIO_HAS_IO_URING and
// ASIO_DISABLE_EPOLL). Echo is its example async_tcp_echo_server, messages are its example chat: a
// read for the header, a read for the body, a queue of what is to be written, one write for each.
// With --coalesce one read takes what there is and one write has the answers to all of it. Threads
// are as in its example HTTP server 2, an io_context for each; for sleep and work, whose handlers
// block, as in HTTP server 3: one io_context that all threads run.
#include "server.h"

#include <asio.hpp>

#include <cstring>
#include <deque>
#include <memory>
#include <set>
#include <thread>
#include <vector>

using asio::ip::tcp;

class Echo : public std::enable_shared_from_this<Echo>
{
  public:
    Echo(tcp::socket socket, const server_options &options)
        : socket_(std::move(socket)), data_(std::max<size_t>(1024, options.size))
    {
    }

    void start()
    {
        auto self = shared_from_this();
        socket_.async_read_some(asio::buffer(data_), [this, self](std::error_code error, size_t n) {
            if (!error)
                answer(n);
        });
    }

  private:
    void answer(size_t size)
    {
        auto self = shared_from_this();
        asio::async_write(socket_, asio::buffer(data_, size),
                          [this, self](std::error_code error, size_t) {
                              if (!error)
                                  start();
                          });
    }

    tcp::socket socket_;
    std::vector<char> data_;
};

// A whole message, shared by all that it goes to.
using Message = std::shared_ptr<const std::vector<char>>;

class Participant
{
  public:
    virtual ~Participant() = default;
    virtual void deliver(const Message &message) = 0;
};

class Room
{
  public:
    void join(std::shared_ptr<Participant> participant)
    {
        participants_.insert(participant);
    }

    void leave(std::shared_ptr<Participant> participant)
    {
        participants_.erase(participant);
    }

    void deliver(const Message &message)
    {
        for (auto &participant : participants_)
            participant->deliver(message);
    }

  private:
    std::set<std::shared_ptr<Participant>> participants_;
};

class Messages : public Participant, public std::enable_shared_from_this<Messages>
{
  public:
    Messages(tcp::socket socket, const server_options &options, Room *room)
        : socket_(std::move(socket)), options_(options), room_(room),
          data_(FRAME_HEADER + std::max<size_t>(512, options.size))
    {
    }

    void start()
    {
        if (room_)
            room_->join(shared_from_this());
        read_header();
    }

    void deliver(const Message &message) override
    {
        bool writing = !queue_.empty();
        queue_.push_back(message);
        if (!writing)
            write();
    }

  private:
    void read_header()
    {
        auto self = shared_from_this();
        asio::async_read(socket_, asio::buffer(data_, FRAME_HEADER),
                         [this, self](std::error_code error, size_t) {
                             if (!error)
                                 read_body(payload_size());
                             else
                                 leave();
                         });
    }

    void read_body(size_t size)
    {
        auto self = shared_from_this();
        if (data_.size() < FRAME_HEADER + size)
            data_.resize(FRAME_HEADER + size);
        asio::async_read(socket_, asio::buffer(data_.data() + FRAME_HEADER, size),
                         [this, self, size](std::error_code error, size_t) {
                             if (error)
                                 return leave();
                             handle(size);
                             read_header();
                         });
    }

    size_t payload_size() const
    {
        const unsigned char *header = reinterpret_cast<const unsigned char *>(data_.data());
        size_t size = size_t(header[0]) << 24 | size_t(header[1]) << 16 | size_t(header[2]) << 8 |
                      size_t(header[3]);
        if (size > FRAME_MAX - FRAME_HEADER)
            server_refuse("a message above the limit");
        return size;
    }

    void handle(size_t size)
    {
        server_handle(&options_, data_.data() + FRAME_HEADER, size);
        auto message = std::make_shared<const std::vector<char>>(
            data_.begin(), data_.begin() + static_cast<std::ptrdiff_t>(FRAME_HEADER + size));
        if (room_)
            room_->deliver(message);
        else
            deliver(message);
    }

    void write()
    {
        auto self = shared_from_this();
        asio::async_write(socket_, asio::buffer(*queue_.front()),
                          [this, self](std::error_code error, size_t) {
                              if (error)
                                  return leave();
                              queue_.pop_front();
                              if (!queue_.empty())
                                  write();
                          });
    }

    void leave()
    {
        if (room_)
            room_->leave(shared_from_this());
    }

    tcp::socket socket_;
    const server_options &options_;
    Room *room_;
    std::vector<char> data_;
    std::deque<Message> queue_;
};

// The variant with hand-made coalescing: while one write is under way nothing is read.
class Batches : public std::enable_shared_from_this<Batches>
{
  public:
    Batches(tcp::socket socket, const server_options &options)
        : socket_(std::move(socket)), options_(options), data_(4096)
    {
    }

    void start()
    {
        auto self = shared_from_this();
        if (size_ == data_.size())
            data_.resize(2 * size_);
        socket_.async_read_some(asio::buffer(data_.data() + size_, data_.size() - size_),
                                [this, self](std::error_code error, size_t size) {
                                    if (error)
                                        return;
                                    size_ += size;
                                    handle();
                                });
    }

  private:
    void handle()
    {
        answers_.clear();
        size_t done = 0, frame;
        while ((frame = server_frame(data_.data() + done, size_ - done)) > 0) {
            const char *message = data_.data() + done;
            server_handle(&options_, message + FRAME_HEADER, frame - FRAME_HEADER);
            answers_.insert(answers_.end(), message, message + frame);
            done += frame;
        }
        size_ -= done;
        std::memmove(data_.data(), data_.data() + done, size_);
        if (done)
            write();
        else
            start();
    }

    void write()
    {
        auto self = shared_from_this();
        asio::async_write(socket_, asio::buffer(answers_),
                          [this, self](std::error_code error, size_t) {
                              if (!error)
                                  start();
                          });
    }

    tcp::socket socket_;
    const server_options &options_;
    std::vector<char> data_;
    std::vector<char> answers_;
    size_t size_ = 0;
};

class Server
{
  public:
    explicit Server(const server_options &options) : options_(options)
    {
        bool shared = options.workload == WORKLOAD_SLEEP || options.workload == WORKLOAD_WORK;
        contexts_count_ = shared ? 1 : options.threads;
        int hint = shared ? static_cast<int>(options.threads) : 1;
        for (uint32_t i = 0; i < contexts_count_; i++)
            contexts_.push_back(std::make_unique<asio::io_context>(hint));
        acceptor_ =
            std::make_unique<tcp::acceptor>(*contexts_[0], tcp::v4(), server_listen(&options));
        accept();
    }

    void run()
    {
        std::vector<std::thread> threads;
        server_ready(1);
        for (uint32_t i = 0; i < options_.threads; i++)
            threads.emplace_back([this, i] { run_context(*contexts_[i % contexts_count_]); });
        for (auto &thread : threads)
            thread.join();
    }

  private:
    static void run_context(asio::io_context &context)
    {
        auto work = asio::make_work_guard(context);
        context.run();
    }

    void accept()
    {
        asio::io_context &context = *contexts_[next_++ % contexts_count_];
        acceptor_->async_accept(context, [this](std::error_code error, tcp::socket socket) {
            if (!error)
                begin(std::move(socket));
            accept();
        });
    }

    void begin(tcp::socket socket)
    {
        if (!server_is_framed(&options_))
            std::make_shared<Echo>(std::move(socket), options_)->start();
        else if (options_.coalesce)
            std::make_shared<Batches>(std::move(socket), options_)->start();
        else
            std::make_shared<Messages>(std::move(socket), options_,
                                       options_.workload == WORKLOAD_ROOM ? &room_ : nullptr)
                ->start();
    }

    const server_options &options_;
    uint32_t contexts_count_;
    uint32_t next_ = 0;
    std::vector<std::unique_ptr<asio::io_context>> contexts_;
    std::unique_ptr<tcp::acceptor> acceptor_;
    Room room_;
};

int main(int argc, char **argv)
{
    static server_options options;
    server_options_parse(&options, argc, argv);
    if (options.workload == WORKLOAD_ROOM && (options.threads > 1 || options.coalesce))
        server_refuse("the room has one thread, and one write per message");
    if (options.workload == WORKLOAD_SLEEP && options.coalesce)
        server_refuse("answers wait for no other message's sleep");
    Server(options).run();
}
