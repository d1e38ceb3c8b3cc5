/* An echo server: every connection gets its own bytes back. Usage: echo [ADDRESS] */
#include <iocp.h>

#include <stdio.h>

static size_t echo_received(struct iocp_session *session, const void *data, size_t size,
                            void *context)
{
    (void)context;
    return iocp_session_send(session, data, size) == 0 ? size : 0;
}

int main(int argc, char **argv)
{
    static const struct iocp_session_class echo = {.name = "echo", .received = echo_received};
    struct iocp_service *service = NULL;
    struct iocp_address address;
    int error;

    if ((error = iocp_address_parse(argc > 1 ? argv[1] : "127.0.0.1:7000", &address)) < 0 ||
        (error = iocp_service_create(NULL, &service)) < 0 ||
        (error = iocp_service_listen(service, &address, &echo, NULL, NULL)) < 0 ||
        (error = iocp_service_run(service)) < 0) {
        fprintf(stderr, "echo: %s\n", iocp_error_text(error));
    }
    iocp_service_unref(service);
    return error < 0;
}
