/* The reference of the echo measurements: a plain epoll loop per thread, level-triggered, each with
 * a listener of its own on the same port. As short as such a server can be; it has no limits, no
 * queues and no framing, and closes a connection whose peer does not read.
 *
 *   plain PORT THREADS */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256
#define BUFFER_SIZE 65536

static uint16_t port;

static void add(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static int open_listener(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 4096) < 0) {
        perror("plain");
        exit(1);
    }
    return fd;
}

static void accept_all(int epoll, int listener)
{
    int fd;
    int on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        add(epoll, fd);
    }
}

static void echo(int fd, char *buffer)
{
    ssize_t size = recv(fd, buffer, BUFFER_SIZE, 0);
    ssize_t sent = 0;
    while (sent < size) {
        ssize_t n = send(fd, buffer + sent, (size_t)(size - sent), MSG_NOSIGNAL);
        if (n < 0)
            break;
        sent += n;
    }
    if (size <= 0 || sent < size)
        close(fd);
}

static void *loop(void *argument)
{
    (void)argument;
    struct epoll_event events[EVENTS];
    char *buffer = malloc(BUFFER_SIZE);
    int listener = open_listener();
    int epoll = epoll_create1(0);
    add(epoll, listener);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                accept_all(epoll, listener);
            else
                echo(events[i].data.fd, buffer);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int threads = argc > 2 ? atoi(argv[2]) : 1;
    port = (uint16_t)(argc > 1 ? atoi(argv[1]) : 7000);
    for (int i = 1; i < threads; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, loop, NULL);
    }
    loop(NULL);
    return 0;
}
