"""iocp-load, and servers for it that do what no server should: each is a function that is run in a
thread of its own for each connection."""
import contextlib
import json
import os
import socket
import struct
import threading

from support import (DEADLINE_S, Program, Skip, backend_arguments, check, check_equal,
                     programs_folder, windows)

ERRORS = ("refused", "reset", "closed", "timed_out", "no_address", "no_descriptor", "different",
          "malformed", "lost", "repeated", "unexpected", "absent", "rejected", "other")


def start_load(*arguments, **how):
    name = "iocp-load"
    if not os.path.exists(os.path.join(programs_folder, name + (".exe" if windows else ""))):
        raise Skip(f"{name} is not built for want of HdrHistogram_c: tools/bootstrap load gets it")
    return Program(name, *backend_arguments(), *map(str, arguments), **how)


def run_load(*arguments, **errors):
    """Runs it to its end; returns its figures and what it said. The errors that are named are the
    ones that there have to be: a number, or None for one or more."""
    load = start_load("--json", "-", "--quiet", *arguments)
    output, text = load.wait(1 if errors else 0)
    figures = json.loads(output)
    check_equal(set(figures["errors"]), set(ERRORS), "names of errors")
    found = {name: count for name, count in figures["errors"].items() if count}
    check_equal(set(found), set(errors), f"errors ({text})")
    for name, count in errors.items():
        check(count in (None, found[name]), f"{found[name]} {name}, expected {count}: {text}")
    check_equal(text == "", not errors, "that it says what was wrong")
    check_figures(figures)
    return figures, text


def check_figures(figures):
    """What holds for every load."""
    fan_out = figures["protocol"] in ("room", "chat")
    count = figures["deliveries" if fan_out else "messages"]
    check_equal(figures["bytes"], count * figures["size"], "bytes")
    for name in ("latency_us", "latency_slow_us"):
        times = figures.get(name, {})
        ordered = [times.get(key, 0) for key in ("min", "p50", "p90", "p99", "p99_9", "max")]
        check(ordered == sorted(ordered), f"{name} is in no order: {times}")
        check(not times or times["min"] <= times["mean"] <= times["max"], f"mean of {times}")
    if figures["seconds"] > 0:
        rate = figures["messages"] / figures["seconds"]
        check(abs(figures["messages_per_second"] - rate) <= 0.001 * rate + 0.1,
              f"messages a second: {figures['messages_per_second']}, computed {rate}")


class Peer:
    """Listens, and runs `serve(connection, number)` for each connection. What it raises fails the
    test at `stop`; that the other side is gone is no failure."""

    def __init__(self, serve):
        self.serve = serve
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.connections = []
        self.failures = []
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return  # `stop`
            connection.settimeout(DEADLINE_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections.append(connection)
            thread = threading.Thread(target=self.run, daemon=True,
                                      args=(connection, len(self.connections) - 1))
            self.threads.append(thread)
            thread.start()

    def run(self, connection, number):
        try:
            with connection:
                self.serve(connection, number)
        except ConnectionError:
            pass
        except Exception as failure:  # shown by `stop`
            self.failures.append(f"{type(failure).__name__}: {failure}")

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(DEADLINE_S)
        check(not self.failures, f"the server: {self.failures}")


def serving(serve, *arguments, **errors):
    """Puts a load on such a server; returns what run_load does."""
    peer = Peer(serve)
    result = run_load(*arguments, peer.address, **errors)
    peer.stop()
    return result


def pieces(connection):
    """What is received until the other side ends."""
    while piece := connection.recv(1 << 16):
        yield piece


def frames(connection):
    """Frames with their length of 4 bytes, until the other side ends."""
    kept = b""
    for piece in pieces(connection):
        kept += piece
        while len(kept) >= 4 and len(kept) >= 4 + (size := struct.unpack(">I", kept[:4])[0]):
            yield kept[:4 + size]
            kept = kept[4 + size:]


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Room:
    """The protocol `room`. `spoil(frame, member)` says which frames a member gets for one."""

    def __init__(self, spoil=lambda frame, member: [frame]):
        self.spoil = spoil
        self.lock = threading.Lock()
        self.members = {}

    def serve(self, connection, number):
        with self.lock:
            self.members[number] = connection
        try:
            for frame in frames(connection):
                with self.lock:
                    for member, other in self.members.items():
                        self.deliver(other, self.spoil(frame, member))
        finally:
            with self.lock:
                del self.members[number]

    def deliver(self, member, parts):
        with contextlib.suppress(ConnectionError):  # its own thread finds that out as well
            for part in parts:
                member.sendall(part)
