/* The contract of backends (src/backend/backend.h), checked on each of them without the port: the
 * checks are in support/backend_contract*.c. What is one backend's alone is in tests/unit. */
#include "support/backend_contract.h"

static const struct iocp__backend *backend(void)
{
    for (int i = 0; iocp__backends[i]; i++)
        if (iocp__backends[i]->kind == (uint32_t)test_backend())
            return iocp__backends[i];
    SKIP("TEST_BACKEND does not name a backend");
}

/* ---- Lanes. */

TEST(wait_with_no_deadline_returns_at_once)
{
    contract_wait_with_no_deadline_returns_at_once(backend());
}

TEST(wait_sleeps_until_its_deadline)
{
    contract_wait_sleeps_until_its_deadline(backend());
}

TEST(bell_before_wait_ends_it)
{
    contract_bell_before_wait_ends_it(backend());
}

TEST(bell_of_a_thread_ends_wait)
{
    contract_bell_of_a_thread_ends_wait(backend());
}

TEST(no_bell_of_many_threads_is_lost)
{
    contract_no_bell_of_many_threads_is_lost(backend());
}

TEST(watch_tells_of_another_lane)
{
    contract_watch_tells_of_another_lane(backend());
}

TEST(watch_tells_of_what_is_there_already)
{
    contract_watch_tells_of_what_is_there_already(backend());
}

TEST(watch_tells_of_an_answer_made_at_submit)
{
    contract_watch_tells_of_an_answer_made_at_submit(backend());
}

TEST(watch_tells_of_a_file)
{
    contract_watch_tells_of_a_file(backend());
}

TEST(two_lanes_watch_each_other)
{
    contract_two_lanes_watch_each_other(backend());
}

TEST(op_outlives_the_thread_that_submitted_it)
{
    contract_op_outlives_the_thread_that_submitted_it(backend());
}

TEST(canceled_op_of_a_thread_that_exited)
{
    contract_canceled_op_of_a_thread_that_exited(backend());
}

TEST(cancel_after_the_answer_changes_nothing)
{
    contract_cancel_after_the_answer_changes_nothing(backend());
}

TEST(many_objects_at_once)
{
    contract_many_objects_at_once(backend());
}

TEST(descriptors_are_used_again)
{
    contract_descriptors_are_used_again(backend());
}

TEST(copy_of_a_closed_descriptor_is_silent)
{
    contract_copy_of_a_closed_descriptor_is_silent(backend());
}

/* ---- Lanes that share. */

TEST(fetch_with_no_deadline_returns_at_once)
{
    contract_fetch_with_no_deadline_returns_at_once(backend());
}

TEST(fetch_sleeps_until_its_deadline)
{
    contract_fetch_sleeps_until_its_deadline(backend());
}

TEST(fetch_names_the_lane_of_an_answer)
{
    contract_fetch_names_the_lane_of_an_answer(backend());
}

TEST(fetch_names_both_lanes)
{
    contract_fetch_names_both_lanes(backend());
}

TEST(fetch_hears_a_bell_once)
{
    contract_fetch_hears_a_bell_once(backend());
}

TEST(fetch_by_many_threads)
{
    contract_fetch_by_many_threads(backend());
}

TEST(associate_once)
{
    contract_associate_once(backend());
}

/* ---- Connected sockets. */

TEST(recv_takes_what_is_there)
{
    contract_recv_takes_what_is_there(backend());
}

TEST(recv_waits)
{
    contract_recv_waits(backend());
}

TEST(recv_in_a_row)
{
    contract_recv_in_a_row(backend());
}

TEST(recv_into_slices)
{
    contract_recv_into_slices(backend());
}

TEST(recv_of_nothing_waits_for_data)
{
    contract_recv_of_nothing_waits_for_data(backend());
}

TEST(recv_of_nothing_sees_the_end)
{
    contract_recv_of_nothing_sees_the_end(backend());
}

TEST(recv_at_the_end_is_eof)
{
    contract_recv_at_the_end_is_eof(backend());
}

TEST(recv_of_a_reset_connection)
{
    contract_recv_of_a_reset_connection(backend());
}

TEST(recv_canceled)
{
    contract_recv_canceled(backend());
}

TEST(recv_not_connected)
{
    contract_recv_not_connected(backend());
}

TEST(send_goes_out)
{
    contract_send_goes_out(backend());
}

TEST(send_of_nothing)
{
    contract_send_of_nothing(backend());
}

TEST(send_is_whole)
{
    contract_send_is_whole(backend());
}

TEST(send_of_many_slices_is_whole)
{
    contract_send_of_many_slices_is_whole(backend());
}

TEST(send_canceled_halfway)
{
    contract_send_canceled_halfway(backend());
}

TEST(send_to_a_closed_peer)
{
    contract_send_to_a_closed_peer(backend());
}

TEST(send_and_recv_at_once)
{
    contract_send_and_recv_at_once(backend());
}

TEST(recv_stream_brings_all_bytes)
{
    contract_recv_stream_brings_all_bytes(backend());
}

TEST(recv_stream_ends_with_eof)
{
    contract_recv_stream_ends_with_eof(backend());
}

TEST(recv_stream_ends_with_a_reset)
{
    contract_recv_stream_ends_with_a_reset(backend());
}

TEST(recv_stream_canceled_leaves_the_rest)
{
    contract_recv_stream_canceled_leaves_the_rest(backend());
}

TEST(recv_stream_without_buffers_goes_on_later)
{
    contract_recv_stream_without_buffers_goes_on_later(backend());
}

TEST(recv_streams_share_few_buffers)
{
    contract_recv_streams_share_few_buffers(backend());
}

TEST(starved_recv_stream_goes_on_beside_an_answer)
{
    contract_starved_recv_stream_goes_on_beside_an_answer(backend());
}

TEST(starved_recv_stream_canceled)
{
    contract_starved_recv_stream_canceled(backend());
}

TEST(recv_stream_of_a_unix_socket)
{
    contract_recv_stream_of_a_unix_socket(backend());
}

TEST(no_socket_is_refused)
{
    contract_no_socket_is_refused(backend());
}

/* ---- The other kinds. */

TEST(accept_waits)
{
    contract_accept_waits(backend());
}

TEST(accept_in_a_row)
{
    contract_accept_in_a_row(backend());
}

TEST(accept_canceled)
{
    contract_accept_canceled(backend());
}

TEST(accept_of_a_socket_that_does_not_listen)
{
    contract_accept_of_a_socket_that_does_not_listen(backend());
}

TEST(accept_stream_brings_all)
{
    contract_accept_stream_brings_all(backend());
}

TEST(accept_stream_without_descriptors_ends)
{
    contract_accept_stream_without_descriptors_ends(backend());
}

TEST(connect_then_talk)
{
    contract_connect_then_talk(backend());
}

TEST(connect_refused)
{
    contract_connect_refused(backend());
}

TEST(connect_canceled)
{
    contract_connect_canceled(backend());
}

TEST(connect_to_no_unix_socket)
{
    contract_connect_to_no_unix_socket(backend());
}

TEST(connect_to_a_full_unix_listener_ends)
{
    contract_connect_to_a_full_unix_listener_ends(backend());
}

TEST(datagram_with_its_address)
{
    contract_datagram_with_its_address(backend());
}

TEST(datagram_truncated)
{
    contract_datagram_truncated(backend());
}

TEST(datagram_empty)
{
    contract_datagram_empty(backend());
}

TEST(datagram_refused)
{
    contract_datagram_refused(backend());
}

TEST(poll_waits_for_data)
{
    contract_poll_waits_for_data(backend());
}

TEST(poll_tells_again_of_what_was_left)
{
    contract_poll_tells_again_of_what_was_left(backend());
}

TEST(poll_of_a_writable_socket)
{
    contract_poll_of_a_writable_socket(backend());
}

TEST(poll_waits_for_room)
{
    contract_poll_waits_for_room(backend());
}

TEST(poll_of_a_pipe_without_reader)
{
    contract_poll_of_a_pipe_without_reader(backend());
}

TEST(poll_canceled)
{
    contract_poll_canceled(backend());
}

TEST(file_is_written_and_read)
{
    contract_file_is_written_and_read(backend());
}

TEST(file_read_at_its_end)
{
    contract_file_read_at_its_end(backend());
}

TEST(file_open_for_reading_is_not_written)
{
    contract_file_open_for_reading_is_not_written(backend());
}

TEST(file_without_room)
{
    contract_file_without_room(backend());
}

TEST(file_ops_at_once)
{
    contract_file_ops_at_once(backend());
}

TEST(file_ops_canceled)
{
    contract_file_ops_canceled(backend());
}
