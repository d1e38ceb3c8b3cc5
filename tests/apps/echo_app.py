#!/usr/bin/env python3
"""iocp-echo: every byte comes back, in order, to whoever sent it; its counters agree."""
import json
import random
import select
import socket
import sys

sys.dont_write_bytecode = True
from support import (DEADLINE_S, check, check_equal, connect, run, start_echo,  # noqa: E402
                     wine_differs)


def exchange(connection, data, piece_max, slow=False):
    """Sends all of the data in pieces and reads as much, both at once; returns what came."""
    source = random.Random(piece_max)
    received = bytearray()
    sent = 0
    connection.setblocking(False)
    while len(received) < len(data):
        wanted = [connection] if sent < len(data) else []
        readable, writable, _ = select.select([connection], wanted, [], DEADLINE_S)
        check(readable or writable, f"stuck after {sent} sent and {len(received)} received")
        if writable:
            piece = data[sent:sent + source.randint(1, piece_max)]
            try:
                sent += connection.send(piece)
            except BlockingIOError:
                pass
        if readable:
            piece = connection.recv(1000 if slow else 1 << 16)
            check(piece, f"the end came after {len(received)} of {len(data)}")
            received += piece
    return bytes(received)


def a_mebibyte_in_pieces():
    echo = start_echo("--stats")
    data = random.Random(1).randbytes(1 << 20)
    for piece_max in (1 << 20, 5000):
        with connect(echo.address) as connection:
            check(exchange(connection, data, piece_max) == data, "other bytes came back")
    with connect(echo.address) as connection:
        check(exchange(connection, data[:10000], 3) == data[:10000], "other bytes came back")
    output, _ = echo.stop()
    check_equal(output.count("\n"), 1, "lines of stats")
    stats = json.loads(output)
    service = stats["service"]
    total = 2 * len(data) + 10000
    check_equal((service["bytes_received"], service["bytes_sent"]), (total, total), "bytes")
    check_equal((service["accepted"], service["closed"]), (3, 3), "sessions")
    check_equal(service["sessions"], 0, "sessions left")
    check_equal((service["refused"], service["sends_refused"], service["messages_dropped"]),
                (0, 0, 0), "refused")
    check_equal(service["messages_received"], service["messages_sent"], "messages")
    check(stats["backend"] in ("uring", "epoll", "windows"), f"backend {stats['backend']}")
    check(stats["workers"] >= 1 and stats["uptime_ns"] > 0, f"workers and uptime in {stats}")
    check_equal(stats["port"]["objects"], 0, "objects left in the port")
    check_equal(stats["memory_left"], 0, "blocks of memory left at the end")


def many_connections():
    echo = start_echo("--stats", "--workers", "4", "--concurrency", "2")
    connections = [connect(echo.address) for _ in range(300)]
    for round_number in range(3):
        for number, connection in enumerate(connections):
            connection.sendall(b"%d:%d;" % (number, round_number) * 20)
        for number, connection in enumerate(connections):
            expected = b"%d:%d;" % (number, round_number) * 20
            check_equal(connection.recv(len(expected), socket.MSG_WAITALL), expected, "echo")
    for connection in connections:
        connection.close()
    service = json.loads(echo.stop()[0])["service"]
    check_equal((service["accepted"], service["closed"]), (300, 300), "sessions")
    check(service["sessions_peak"] == 300, f"peak {service['sessions_peak']}")


def back_pressure():
    """A peer that only sends is slowed down: the server keeps a bounded amount for it."""
    echo = start_echo("--stats")
    with connect(echo.address) as connection:
        connection.setblocking(False)
        sent, data = 0, b"x" * (1 << 16)
        # The end of it: for a second nothing more is taken, though nothing was read back.
        while select.select([], [connection], [], 1)[1]:
            sent += connection.send(data)
            check(sent < 64 << 20, "the server takes everything and never waits")
        received = 0
        connection.settimeout(DEADLINE_S)
        while received < sent:
            piece = connection.recv(1 << 16)
            check(piece, f"the end came after {received} of {sent}")
            received += len(piece)
    service = json.loads(echo.stop()[0])["service"]
    check_equal(service["bytes_sent"], sent, "bytes")


def half_close():
    """What was sent before the end of a stream comes back after it."""
    echo = start_echo()
    data = random.Random(2).randbytes(200000)
    with connect(echo.address) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = bytearray()
        while piece := connection.recv(1 << 16):
            received += piece
    check(received == data, f"{len(received)} of {len(data)} bytes came back")
    echo.stop()


def drains():
    """SIGTERM: connections that are idle end, and what was received is sent back first."""
    echo = start_echo()
    idle = [connect(echo.address) for _ in range(20)]
    for connection in idle:
        connection.sendall(b"hello")
        check_equal(connection.recv(5, socket.MSG_WAITALL), b"hello")
    echo.send_signal()
    for connection in idle:
        check_equal(connection.recv(1), b"", "after the signal")
        connection.close()
    output, errors = echo.wait(0)
    check_equal((output, errors), ("", ""), "after the end")


def session_limit():
    echo = start_echo("--max-sessions", "1", "--stats")
    with connect(echo.address) as first:
        first.sendall(b"a")
        check_equal(first.recv(1), b"a")
        with connect(echo.address) as second:
            try:
                check_equal(second.recv(1), b"", "past --max-sessions")
            except ConnectionResetError:
                pass
        first.sendall(b"b")
        check_equal(first.recv(1), b"b", "the first, afterwards")
    service = json.loads(echo.stop()[0])["service"]
    check_equal((service["accepted"], service["refused"]), (1, 1), "accepted and refused")


def tells_now_and_then():
    """--stats-every: a line with the counters while it runs."""
    echo = start_echo("--stats-every", "1")
    with connect(echo.address) as connection:
        connection.sendall(b"a")
        check_equal(connection.recv(1), b"a")
        stats = json.loads(echo.output.line())
        check_equal((stats["service"]["sessions"], stats["service"]["bytes_sent"]), (1, 1),
                    "sessions and bytes while it runs")
        check("memory_left" not in stats, "the last line came first")
    before = stats
    while stats["service"]["closed"] == 0:
        stats = json.loads(echo.output.line())
    check(stats["closed"]["peer"] == 1 and sum(stats["closed"].values()) == 1,
          f"reasons: {stats['closed']}")
    check(stats["resident"] > 0, f"what the process holds: {stats}")
    if not wine_differs("GetProcessHandleCount counts"):
        check(0 < stats["handles"] < before["handles"], f"handles, after a connection: {stats}")
    check_equal(json.loads(echo.stop()[0].splitlines()[-1])["memory_left"], 0, "memory left")


if __name__ == "__main__":
    run(a_mebibyte_in_pieces, many_connections, back_pressure, half_close, drains, session_limit,
        tells_now_and_then)
