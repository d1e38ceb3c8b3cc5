"""The workloads a to g: which load each row puts on which servers. h to j are bench/micro."""
from dataclasses import dataclass, field

from . import servers


@dataclass
class Row:
    label: str
    load: list  # options of iocp-load, but time and address
    size: int = 64
    threads: int = 1
    pinned: bool = False  # server and client on one processor
    quick: bool = True  # is measured in a quick run, too
    present: int = 0  # silent connections that are there all the time
    connections: int = 0  # g: how many sessions
    count_load: list = field(default_factory=list)  # instead of `load` under strace and callgrind


@dataclass
class Workload:
    key: str
    title: str
    server: str  # --workload of the servers
    servers: list
    rows: list
    figure: str = "cpu_us"  # what bars and charts look at
    per: str = "message"
    count: str = "messages"  # what the figures are divided by, in iocp-load's JSON
    note: str = ""
    verify: list = field(default_factory=list)  # options of the run that compares every byte


def options(protocol, connections, size, depth=1, **more):
    result = ["--protocol", protocol, "--connections", connections, "--size", size]
    result += ["--depth", depth] if depth > 1 else []
    for name, value in more.items():
        result += [f"--{name.replace('_', '-')}", value]
    return result


def echo_row(connections, size, depth, threads=1, quick=True):
    shown = f"{size} B" if size < 1024 else f"{size // 1024} KiB"
    label = f"{'2 threads: ' if threads == 2 else ''}{connections:,} × {shown} × {depth}"
    return Row(label, options("echo", connections, size, depth), size, threads, threads == 1, quick)


def echo():
    rows = [echo_row(50, 64, 1), echo_row(1000, 64, 1, quick=False), echo_row(50, 64, 16),
            echo_row(50, 4096, 1, quick=False), echo_row(8, 65536, 4, quick=False),
            echo_row(50, 64, 1, 2), echo_row(1000, 64, 1, 2, quick=False),
            echo_row(8, 65536, 4, 2, quick=False)]
    return Workload("a", "Echo", "echo", servers.ALL, rows,
                    note="connections × size × messages in flight per connection; in the first rows "
                         "server and client share one processor, in the last ones nothing is "
                         "pinned and the servers have two threads")


def framed():
    rows = [Row("50 × 64 B × 16", options("framed", 50, 64, 16), pinned=True)]
    return Workload("b", "Framed requests, pipelined", "framed", servers.FRAMED, rows,
                    note="length-prefixed messages of 64 B, 16 in flight, each answered from its "
                         "handler; server and client share one processor")


def room(members=1000, members_counted=100):
    rows = [Row(f"{talkers} talker{'s' * (talkers > 1)}",
                options("room", members, 100, talkers=talkers), 100, pinned=True,
                count_load=options("room", members_counted, 100, talkers=talkers))
            for talkers in (1, 50)]
    return Workload("c", "Fan-out", "room", servers.ROOM, rows, per="delivery",
                    count="deliveries",
                    note=f"{members:,} members of a room, 100 B messages, each to everybody; server "
                         "and client share one processor; raw epoll is the bare loop of send(2)")


def sleep():
    rows = [Row("nobody sleeps", options("framed", 500, 64), threads=2),
            Row("1 % sleep", options("framed", 500, 64, slow_percent=1), threads=2)]
    return Workload("d", "Handlers that block", "sleep", servers.SLEEP, rows,
                    figure="per_second",
                    note="500 sessions; the messages of 5 of them sleep 10 ms in the handler; the "
                         "latencies are those of the others; nothing is pinned")


def work():
    rows = [Row("16 × 64 B × 1", options("framed", 16, 64), threads=2)]
    return Workload("e", "One hot lane", "work", servers.WORK, rows, figure="per_second",
                    note="handlers that compute for 20 µs; all sessions on one lane of a port with "
                         "two (hot lane), or on the only one; nothing is pinned")


def storm(present):
    load = options("storm", 50, 64, sources=8)
    rows = [Row("nobody else", load, pinned=True),
            Row(f"{present:,} present", load, pinned=True, present=present)]
    return Workload("f", "Connect storm", "storm", servers.ALL, rows, figure="per_second",
                    per="connection",
                    note="connect, echo 64 B once, close, 50 at a time; server and client share one "
                         "processor")


def idle(sizes):
    rows = [Row(f"{count:,} sessions", [], connections=count) for count in sizes]
    return Workload("g", "Idle sessions", "idle", servers.ALL, rows, figure="bytes",
                    per="session", note="each has echoed one message; resident memory that the "
                                        "process gained")


def all_workloads(quick):
    sizes = (2000,) if quick else (10000, 19000)
    return [echo(), framed(), room(), sleep(), work(), storm(sizes[0]), idle(sizes)]
