#!/usr/bin/env python3
"""iocp-load with servers that misbehave: each fault is found, counted and named."""
import itertools
import socket
import sys
import threading

sys.dont_write_bytecode = True
from support import DEADLINE_S, check, check_equal, run, start_chat  # noqa: E402
from support.peer import Room, pieces, reset, run_load, serving  # noqa: E402


def after(count, fault):
    """Echoes `count` bytes, and then what `fault` makes of each piece: None ends it."""
    def serve(connection, _):
        left = count
        for piece in pieces(connection):
            good, bad = piece[:left], piece[left:]
            left -= len(good)
            connection.sendall(good)
            if bad:
                bad = fault(connection, bad)
                if bad is None:
                    return
                connection.sendall(bad)
    return serve


def flip(_, piece):
    return bytes([piece[0] ^ 1]) + piece[1:]


def other_bytes():
    """Each byte of the fourth message is wrong once; the first one is the tag."""
    for place in (0, 1, 63):
        _, text = serving(after(3 * 64 + place, flip), "--connections", 1, "--messages", 10,
                          "--verify", different=1, lost=1)
        check(f"connection 0: answer 3, byte {place}: 0x" in text, f"byte {place}: {text}")
    serving(after(3 * 64, flip), "--connections", 1, "--messages", 10)  # nobody asked


def answers_in_another_order():
    """Two messages of one connection look alike only to one that does not compare."""
    def serve(connection, _):
        kept = b""
        for piece in pieces(connection):
            kept += piece
            if len(kept) == 100:
                connection.sendall(kept[50:] + kept[:50])
                kept = b""
    arguments = ("--connections", 1, "--depth", 2, "--messages", 2, "--size", 50)
    serving(serve, *arguments)
    serving(serve, *arguments, "--verify", different=1, lost=2)


def another_connections_bytes():
    """What one connection sent comes back on another one."""
    connections = {}
    both = threading.Barrier(2)

    def serve(connection, number):
        connections[number] = connection
        both.wait(DEADLINE_S)
        for piece in pieces(connection):
            connections[1 - number].sendall(piece)
    serving(serve, "--connections", 2, "--messages", 2, "--verify", "--drain", 1, different=2,
            lost=2)


def lengths_that_are_none():
    """A length is compared without --verify, too: nothing after it could be told apart."""
    _, text = serving(after(68 + 3, flip), "--protocol", "framed", "--connections", 1,
                      "--messages", 5, malformed=1, lost=1)
    check("answer 1, byte 3: 0x41 instead of 0x40" in text, text)


def ends():
    for size, lost in ((0, 6), (64, 3), (100, 3)):
        serving(after(size, lambda connection, piece: None), "--connections", 3, "--depth", 2,
                "--messages", 6, closed=3, lost=lost)
    serving(after(64, lambda connection, piece: reset(connection)), "--connections", 3, "--time", 5,
            reset=3, lost=3)


def too_much():
    serving(after(64, lambda connection, piece: piece + b"x"), "--connections", 1, "--time", 5,
            unexpected=1, lost=1)


def no_answer():
    """With --drain 0 nobody waits for it."""
    for drain in (0, 0.1):
        figures, _ = serving(after(64, lambda connection, piece: b""), "--connections", 2,
                             "--depth", 3, "--size", 32, "--time", 1, "--drain", drain, lost=6)
        check_equal(figures["messages"], 4, "messages before that")


def nobody_listens():
    """The port is taken, so that no connection can be given it as its own and reach itself."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        figures, text = run_load("--connections", 300, address, refused=300)
        check("connection refused" in text, text)
        opened = (figures["connections_opened"], figures["connections_failed"])
        check_equal(opened, (0, 300), "opened")
        figures, _ = run_load("--protocol", "storm", "--messages", 5, address, refused=5)
        check_equal((figures["messages"], figures["connections_failed"]), (0, 5), "messages")


def some_go_on():
    """Those that are let in go on; the others are counted, and their messages too."""
    def serve(connection, number):
        for piece in pieces(connection):
            if number >= 3:
                return
            connection.sendall(piece)
    figures, text = serving(serve, "--connections", 10, "--time", 0.2, closed=7, lost=7)
    check(figures["messages"] > 0, f"no message: {text}")


def not_open_in_time():
    """A server that never answers what comes before messages, and a closed door behind it."""
    def serve(connection, _):
        for _ in pieces(connection):
            pass
    for protocol, ready in (("chat", 0), ("idle", 1)):
        errors = {"timed_out": 4, "lost": 4} if ready else {"timed_out": 4}
        figures, text = serving(serve, "--protocol", protocol, "--connections", 4, "--open", 0.2,
                                **errors)
        check("not open in time" in text, text)
        check_equal((figures["messages"], figures["deliveries"]), (0, 0), "messages")


def a_quiet_connection_is_closed():
    def serve(connection, number):
        connection.sendall(connection.recv(64))
        if number > 0:
            for _ in pieces(connection):
                pass
    serving(serve, "--protocol", "idle", "--connections", 5, "--time", 0.2, closed=1)


def a_storm_with_failures():
    """Every third connection is closed without an answer; the others go on."""
    def serve(connection, number):
        data = connection.recv(64)
        if number % 3 != 2:
            connection.sendall(data)
            for _ in pieces(connection):
                pass
    figures, _ = serving(serve, "--protocol", "storm", "--connections", 1, "--messages", 30,
                         closed=10, lost=10)
    check_equal((figures["messages"], figures["connections_opened"]), (20, 30), "connections")


def room_faults():
    """For member 2 one message is missing, comes twice, or has another last byte."""
    arguments = ("--protocol", "room", "--connections", 4, "--messages", 20, "--verify", "--drain",
                 1)

    def spoiling(fault):
        counts = itertools.count()

        def spoil(frame, member):
            message = frame[4:5] == b"M" and member == 2
            return fault(frame) if message and next(counts) == 7 else [frame]
        return Room(spoil).serve
    serving(spoiling(lambda frame: []), *arguments, lost=1)
    serving(spoiling(lambda frame: [frame, frame]), *arguments, repeated=1)
    _, text = serving(spoiling(lambda frame: [frame[:-1] + b"\n"]), *arguments, different=1,
                      lost=None)
    check("other bytes were delivered" in text, text)
    serving(spoiling(lambda frame: [b"\0" + frame]), *arguments, malformed=1, lost=None)
    serving(spoiling(lambda frame: [frame[:7] + b"~" + frame[8:]]), *arguments, malformed=1,
            lost=None)


def a_room_that_one_is_not_in():
    """Nobody waits for ever for somebody who gets nothing."""
    serving(Room(lambda frame, member: [frame] if member != 1 else []).serve, "--protocol", "room",
            "--connections", 3, "--messages", 10, "--drain", 0.1, absent=1, lost=10)


def a_room_whose_talker_is_gone():
    """Those that listen do not wait for the messages that it would have sent."""
    def spoil(frame, member):
        if frame[4:5] == b"M" and member == 0:
            room.members[0].shutdown(socket.SHUT_RDWR)
            return []
        return [frame]
    room = Room(spoil)
    serving(room.serve, "--protocol", "room", "--connections", 3, "--messages", 5, closed=1, lost=1)


def a_chat_that_refuses():
    chat = start_chat("--line-max", "100", listen="none", packets="127.0.0.1:0")
    _, text = run_load("--protocol", "chat", "--connections", 2, "--size", 101, "--messages", 1,
                       chat.packets[0], rejected=1, lost=None)
    check("--line-max" in text, text)
    chat.stop()


if __name__ == "__main__":
    run(other_bytes, answers_in_another_order, another_connections_bytes, lengths_that_are_none,
        ends, too_much, no_answer, nobody_listens, some_go_on,
        not_open_in_time, a_quiet_connection_is_closed, a_storm_with_failures, room_faults,
        a_room_that_one_is_not_in, a_room_whose_talker_is_gone, a_chat_that_refuses)
