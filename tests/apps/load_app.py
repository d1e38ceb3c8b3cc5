#!/usr/bin/env python3
"""iocp-load with servers that behave: what it counts is what they did."""
import json
import os
import sys
import threading

sys.dont_write_bytecode = True
from support import (DEADLINE_S, STOP, LeftOut, check, check_equal, run, start_chat,  # noqa: E402
                     start_echo, temporary_folder, windows)
from support.peer import (Peer, Room, frames, pieces, run_load, serving,  # noqa: E402
                          start_load)


def echo_stats(echo):
    return json.loads(echo.stop()[0])["service"]


def echo_is_counted():
    echo = start_echo("--stats")
    figures, _ = run_load("--connections", 20, "--depth", 4, "--messages", 5000, "--size", 100,
                          "--verify", echo.address)
    check_equal((figures["messages"], figures["deliveries"]), (5000, 0), "messages")
    check_equal((figures["connections_opened"], figures["connections_failed"]), (20, 0), "opened")
    check(figures["latency_us"]["min"] > 0, f"no times: {figures}")
    service = echo_stats(echo)
    check_equal((service["accepted"], service["bytes_received"]), (20, 500000), "what came there")


def sizes_and_workers():
    """Answers that come in many pieces, many answers in a piece, and three threads."""
    echo = start_echo("--workers", "2")
    for protocol, size, depth in (("echo", 1, 50), ("echo", 300001, 3), ("framed", 1, 50),
                                  ("framed", 65533, 5), ("framed", 20, 1)):
        for verify in ([], ["--verify"]):
            figures, _ = run_load("--protocol", protocol, "--size", size, "--depth", depth,
                                  "--connections", 7, "--workers", 3, "--messages", 700, *verify,
                                  echo.address)
            check_equal(figures["messages"], 700, f"messages of {protocol} {size} {verify}")
    echo.stop()


def measured_for_a_time():
    echo = start_echo("--stats")
    figures, _ = run_load("--ramp", 0.1, "--warmup", 0.1, "--time", 0.3, "--verify", echo.address)
    check_equal(figures["seconds"], 0.3, "seconds")
    check(figures["messages"] > 0, f"no message: {figures}")
    service = echo_stats(echo)
    sent = service["bytes_received"] // 64
    check(sent > figures["messages"], f"{figures['messages']} measured of {sent}: no warm-up?")


def due_and_not_answered():
    """With --rate messages go out when they are due, and their time counts from then: the first
    waits for the last, which is due 0.198 s later."""
    def serve(connection, _):
        kept = b""
        for piece in pieces(connection):
            kept += piece
            if len(kept) == 100 * 10:
                connection.sendall(kept)
    figures, _ = serving(serve, "--connections", 1, "--size", 10, "--rate", 500, "--messages", 100,
                         "--verify")
    check_equal((figures["messages"], figures["depth"]), (100, 1024), "messages, depth")
    check(figures["latency_us"]["max"] >= 198000, f"the first message: {figures['latency_us']}")
    check(figures["latency_us"]["mean"] >= 99000, f"the mean of all: {figures['latency_us']}")


def what_is_due_and_not_sent():
    """A server that does not answer cannot be given more than --depth allows."""
    def serve(connection, _):
        for _ in pieces(connection):
            pass
    figures, _ = serving(serve, "--connections", 1, "--size", 10, "--rate", 1000, "--depth", 1,
                         "--time", 0.2, "--drain", 0.05, lost=1)
    check_equal((figures["messages"], figures["unsent"]), (0, 199), "messages answered, not sent")


def slow_ones_apart():
    """One in ten connections is tagged, and its times are in a histogram of their own."""
    tags = {}

    def serve(connection, number):
        for frame in frames(connection):
            tags.setdefault(number, set()).add(frame[4:5])
            if frame[4:5] == b"M" or answered:
                connection.sendall(frame)
    for answered in (True, False):
        tags.clear()
        drain, errors = (20, {}) if answered else (2, {"lost": 2})
        figures, _ = serving(serve, "--protocol", "framed", "--connections", 20, "--slow-percent",
                             10, "--time", 0.1, "--drain", drain, "--verify", **errors)
        check_equal(sorted(map(sorted, tags.values())), [[b"M"]] * 18 + [[b"S"]] * 2, "tags")
        check(figures["latency_us"]["min"] > 0, f"no times: {figures}")
        check_equal(figures["latency_slow_us"]["max"] > 0, answered, "that there are slow ones")


def a_room():
    # The last has frames that no buffer has room for: they come in pieces.
    for talkers, size, verify in ((1, 24, []), (4, 1000, ["--verify"]), (2, 200001, ["--verify"])):
        figures, _ = serving(Room().serve, "--protocol", "room", "--connections", 8, "--size", size,
                             "--talkers", talkers, "--messages", 60, "--depth", 3, *verify)
        check_equal((figures["messages"], figures["deliveries"]), (60, 60 * 8), "deliveries")


def a_chat():
    chat = start_chat("--stats", listen="none", packets="127.0.0.1:0")
    figures, _ = run_load("--protocol", "chat", "--connections", 20, "--talkers", 5, "--messages",
                          200, "--depth", 2, "--size", 100, "--verify", chat.packets[0])
    check_equal((figures["messages"], figures["deliveries"]), (200, 200 * 19), "deliveries")
    rated, _ = run_load("--protocol", "chat", "--connections", 3, "--rate", 500, "--messages", 50,
                        chat.packets[0])
    check_equal((rated["messages"], rated["deliveries"]), (50, 100), "deliveries, with --rate")
    chat.stop()


def a_storm():
    echo = start_echo("--stats")
    figures, _ = run_load("--protocol", "storm", "--connections", 10, "--messages", 300, "--verify",
                          "--workers", 2, echo.address)
    check_equal((figures["messages"], figures["connections_opened"]), (300, 300), "connections")
    timed, _ = run_load("--protocol", "storm", "--connections", 3, "--time", 0.2, echo.address)
    check_equal(echo_stats(echo)["accepted"], 300 + timed["connections_opened"], "accepted")


def idle_ones():
    echo = start_echo("--stats")
    figures, _ = run_load("--protocol", "idle", "--connections", 300, "--ramp", 0.3, "--time", 0.1,
                          echo.address)
    check_equal((figures["messages"], figures["connections_opened"]), (300, 300), "connections")
    service = echo_stats(echo)
    check_equal((service["accepted"], service["sessions_peak"]), (300, 300), "at a time")
    check_equal(service["bytes_received"], 300 * 64, "bytes")


def what_the_server_used():
    if windows:
        raise LeftOut("--server-pid: there is no /proc")
    echo = start_echo()
    figures, _ = run_load("--messages", 20000, "--depth", 4, "--server-pid", echo.process.pid,
                          echo.address)
    server = figures["server"]
    used = server["cpu_user_us"] + server["cpu_system_us"]
    check(used > 0 and abs(server["cpu_us_per_message"] - used / 20000) < 0.001, f"{server}")
    switches = server["switches_voluntary"] + server["switches_involuntary"]
    check(abs(server["switches_per_message"] - switches / 20000) < 0.001, f"{server}")
    check(0 < server["rss_kb_begin"] <= server["rss_kb_end"], f"{server}")
    echo.stop()


def sources_take_turns():
    sources = []

    def serve(connection, _):
        sources.append(connection.getpeername()[0])
        for piece in pieces(connection):
            connection.sendall(piece)
    serving(serve, "--connections", 9, "--sources", 3, "--messages", 9)
    check_equal({source: sources.count(source) for source in sources},
                {f"127.0.0.{n}": 3 for n in (1, 2, 3)}, "sources")


def unix_sockets():
    if windows:
        raise LeftOut("Unix sockets: Wine has none")
    with temporary_folder() as folder:
        address = "unix:" + os.path.join(folder, "echo")
        echo = start_echo(listen=address)
        figures, _ = run_load("--messages", 100, "--verify", address)
        check_equal(figures["messages"], 100, "messages")
        echo.stop()


def the_report():
    echo = start_echo()
    with temporary_folder() as folder:
        path = os.path.join(folder, "figures")
        load = start_load("--messages", 100, "--json", path if not windows else "-", echo.address)
        output, errors = load.wait(0)
        report = errors if windows else output
        figures = json.loads(output) if windows else json.load(open(path, encoding="utf-8"))
    check_equal(figures["messages"], 100, "messages")
    check(f"load       echo at {echo.address}: 50 connections, 64 bytes, " in report, report)
    check("messages   100, " in report and "p99.9" in report and "no errors" in report, report)
    echo.stop()


def interrupted():
    """Ctrl-C ends the load early, with a report, and nothing is lost by that."""
    for arguments in (["--time", 3600], ["--rate", 1, "--connections", 20], ["--warmup", 3600],
                      ["--ramp", 3600, "--connections", 2, "--protocol", "idle"],
                      ["--protocol", "storm", "--time", 3600]):
        interrupt(arguments, threading.Event())


def interrupt(arguments, begun):
    def serve(connection, _):
        for piece in pieces(connection):
            connection.sendall(piece)
            begun.set()
    peer = Peer(serve)
    load = start_load("--json", "-", "--drain", 3600, *arguments, peer.address)
    check(begun.wait(DEADLINE_S), f"{arguments}: no load")
    load.send_signal(STOP)
    output, report = load.wait(0)
    check(sum(json.loads(output)["errors"].values()) == 0, output)
    check("no errors" in report, report)
    peer.stop()


if __name__ == "__main__":
    run(echo_is_counted, sizes_and_workers, measured_for_a_time, due_and_not_answered,
        what_is_due_and_not_sent, slow_ones_apart, a_room, a_chat, a_storm, idle_ones,
        what_the_server_used, sources_take_turns, unix_sockets, the_report, interrupted)
