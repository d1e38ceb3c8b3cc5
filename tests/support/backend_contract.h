/* The same checks for every backend, against the contract of backend/backend.h and without the
 * port. tests/backend/contract.c runs them all, each in a line like
 *
 *     TEST(recv_takes_what_is_there)
 *     {
 *         contract_recv_takes_what_is_there(backend());
 *     }
 *
 * because the build finds tests by their names in the file. To add one: write it in
 * backend_contract*.c, name it in CONTRACT_CHECKS, add the lines there.
 *
 * Also the fixture, for tests of one backend alone: a lane with its pool, and a `socket`, which is
 * an object whose registration the fixture imitates as far as a backend may look. */
#ifndef TESTS_SUPPORT_BACKEND_CONTRACT_H
#define TESTS_SUPPORT_BACKEND_CONTRACT_H

#include "backend/backend.h"
#include "backend/buffer.h"
#include "os/os.h"
#include "support/check.h"
#include "support/net.h"
#include "support/system.h"

#define CONTRACT_CHECKS(X)                                                                         \
    /* backend_contract.c: lanes */                                                                \
    X(wait_with_no_deadline_returns_at_once)                                                       \
    X(wait_sleeps_until_its_deadline)                                                              \
    X(bell_before_wait_ends_it)                                                                    \
    X(bell_of_a_thread_ends_wait)                                                                  \
    X(no_bell_of_many_threads_is_lost)                                                             \
    X(watch_tells_of_another_lane)                                                                 \
    X(watch_tells_of_what_is_there_already)                                                        \
    X(watch_tells_of_an_answer_made_at_submit)                                                     \
    X(watch_tells_of_a_file)                                                                       \
    X(two_lanes_watch_each_other)                                                                  \
    X(op_outlives_the_thread_that_submitted_it)                                                    \
    X(canceled_op_of_a_thread_that_exited)                                                         \
    X(cancel_after_the_answer_changes_nothing)                                                     \
    X(many_objects_at_once)                                                                        \
    X(descriptors_are_used_again)                                                                  \
    X(copy_of_a_closed_descriptor_is_silent)                                                       \
    /* backend_contract_shared.c: lanes that share */                                              \
    X(fetch_with_no_deadline_returns_at_once)                                                      \
    X(fetch_sleeps_until_its_deadline)                                                             \
    X(fetch_names_the_lane_of_an_answer)                                                           \
    X(fetch_names_both_lanes)                                                                      \
    X(fetch_hears_a_bell_once)                                                                     \
    X(fetch_by_many_threads)                                                                       \
    X(associate_once)                                                                              \
    /* backend_contract_stream.c: connected sockets */                                             \
    X(recv_takes_what_is_there)                                                                    \
    X(recv_waits)                                                                                  \
    X(recv_in_a_row)                                                                               \
    X(recv_into_slices)                                                                            \
    X(recv_of_nothing_waits_for_data)                                                              \
    X(recv_of_nothing_sees_the_end)                                                                \
    X(recv_at_the_end_is_eof)                                                                      \
    X(recv_of_a_reset_connection)                                                                  \
    X(recv_canceled)                                                                               \
    X(recv_not_connected)                                                                          \
    X(send_goes_out)                                                                               \
    X(send_of_nothing)                                                                             \
    X(send_is_whole)                                                                               \
    X(send_of_many_slices_is_whole)                                                                \
    X(send_canceled_halfway)                                                                       \
    X(send_to_a_closed_peer)                                                                       \
    X(send_and_recv_at_once)                                                                       \
    X(recv_stream_brings_all_bytes)                                                                \
    X(recv_stream_ends_with_eof)                                                                   \
    X(recv_stream_ends_with_a_reset)                                                               \
    X(recv_stream_canceled_leaves_the_rest)                                                        \
    X(recv_stream_without_buffers_goes_on_later)                                                   \
    X(recv_streams_share_few_buffers)                                                              \
    X(starved_recv_stream_goes_on_beside_an_answer)                                                \
    X(starved_recv_stream_canceled)                                                                \
    X(recv_stream_of_a_unix_socket)                                                                \
    X(no_socket_is_refused)                                                                        \
    /* backend_contract_other.c: the other kinds */                                                \
    X(accept_waits)                                                                                \
    X(accept_in_a_row)                                                                             \
    X(accept_canceled)                                                                             \
    X(accept_of_a_socket_that_does_not_listen)                                                     \
    X(accept_stream_brings_all)                                                                    \
    X(accept_stream_without_descriptors_ends)                                                      \
    X(connect_then_talk)                                                                           \
    X(connect_refused)                                                                             \
    X(connect_canceled)                                                                            \
    X(connect_to_no_unix_socket)                                                                   \
    X(connect_to_a_full_unix_listener_ends)                                                        \
    X(datagram_with_its_address)                                                                   \
    X(datagram_truncated)                                                                          \
    X(datagram_empty)                                                                              \
    X(datagram_refused)                                                                            \
    X(poll_waits_for_data)                                                                         \
    X(poll_tells_again_of_what_was_left)                                                           \
    X(poll_of_a_writable_socket)                                                                   \
    X(poll_waits_for_room)                                                                         \
    X(poll_of_a_pipe_without_reader)                                                               \
    X(poll_canceled)                                                                               \
    X(file_is_written_and_read)                                                                    \
    X(file_read_at_its_end)                                                                        \
    X(file_open_for_reading_is_not_written)                                                        \
    X(file_without_room)                                                                           \
    X(file_ops_at_once)                                                                            \
    X(file_ops_canceled)

#define CONTRACT_DECLARE(name) void contract_##name(const struct iocp__backend *backend);
CONTRACT_CHECKS(CONTRACT_DECLARE)
#undef CONTRACT_DECLARE

/* ---- The fixture. Helpers fail the test at the caller's line. */

struct contract {
    const struct iocp__backend *backend;
    struct iocp_pool *pool;
    struct iocp__kernel *kernel;
    struct iocp__queue done; /* what wait has brought and the test has not looked at */
    uint64_t resubmits;
    uint64_t starved;
};

/* A lane with 64 buffers of 4,096 bytes. Skips the test where the backend does not work. */
void contract_open(struct contract *contract, const struct iocp__backend *backend);
void contract_open_sized(struct contract *contract, const struct iocp__backend *backend,
                         size_t buffer_size, uint32_t buffer_count);
/* The same as a further lane of a port, whose first lane is `first`. */
void contract_open_next(struct contract *contract, const struct contract *first);
/* Checks that nothing is left: no answer, no memory if it is the last. */
void contract_close(struct contract *contract);

/* Makes an object of a handle, which is the object's from here on, and attaches it. */
void contract_attach(struct contract *contract, struct iocp_object *object, iocp_handle handle);
/* Detaches and closes. Its ops are answered. */
void contract_detach(struct contract *contract, struct iocp_object *object);

/* Submits a prepared op; op->event.op is set here, so a zeroed op will do. */
void contract_submit(struct contract *contract, struct iocp_object *object, struct iocp_op *op);
void contract_cancel(struct contract *contract, struct iocp_op *op);

/* Waits for the next event, whatever it is; 20 s at most. */
#define contract_next(contract) contract_next_at((contract), __FILE__, __LINE__)
/* The next event must be the last answer of `op`: its result. */
#define contract_answer(contract, op) contract_answer_at((contract), (op), __FILE__, __LINE__)
/* For a short while nothing comes. */
#define contract_nothing(contract) contract_nothing_at((contract), __FILE__, __LINE__)
/* Gives back what an event of a stream owns: a buffer, or the event itself (not its handle). */
void contract_release(struct iocp_event *event);

struct iocp_event *contract_next_at(struct contract *contract, const char *file, int line);
int64_t contract_answer_at(struct contract *contract, struct iocp_op *op, const char *file,
                           int line);
void contract_nothing_at(struct contract *contract, const char *file, int line);

/* Fills memory with bytes that tell where they belong; checks them. */
void contract_fill(void *data, size_t size, size_t position);
void contract_check(const void *data, size_t size, size_t position);

#endif
