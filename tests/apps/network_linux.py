#!/usr/bin/env python3
"""The programs over a bad link: packets that are lost, late, doubled and out of order, a link that
is cut and healed, a device that goes down and comes back."""
import json
import random
import re
import sys
import threading
import time

sys.dont_write_bytecode = True
from support import (DEADLINE_S, Person, Program, check, check_equal, connect,  # noqa: E402
                     run, start_chat, start_echo)
from support.network import Link  # noqa: E402

SIZE = 150000
CONNECTIONS = 4


class Exchange(threading.Thread):
    """Sends bytes on a connection and compares what comes back; sends all the time."""

    def __init__(self, connection, seed):
        super().__init__(daemon=True)
        self.connection = connection
        self.data = random.Random(seed).randbytes(SIZE)
        self.error = None
        self.half = threading.Event()  # so much has come back
        self.start()

    def run(self):
        try:
            sender = threading.Thread(target=self.connection.sendall, args=(self.data,))
            sender.start()
            self.receive()
            sender.join()
        except Exception as error:  # told by `finish`, in the thread of the test
            self.error = error
        self.half.set()

    def receive(self):
        received = bytearray()
        while len(received) < SIZE:
            piece = self.connection.recv(1 << 16)
            check(piece, f"the end came after {len(received)} of {SIZE}")
            received += piece
            if len(received) > SIZE // 2:
                self.half.set()
        check(received == self.data, "other bytes came back")

    def finish(self):
        self.join()
        if self.error:
            raise self.error
        self.connection.close()


def start_exchanges(link, address):
    with link.client:
        connections = [connect(address) for _ in range(CONNECTIONS)]
    return [Exchange(connection, seed) for seed, connection in enumerate(connections)]


def finish_exchanges(echo, exchanges):
    """All bytes came back, and the server counted no more and no less."""
    for exchange in exchanges:
        exchange.finish()
    service = json.loads(echo.stop()[0])["service"]
    total = SIZE * CONNECTIONS
    check_equal((service["bytes_received"], service["bytes_sent"]), (total, total), "bytes")
    check_equal((service["accepted"], service["closed"]), (CONNECTIONS, CONNECTIONS), "sessions")


def start_echo_over(link):
    with link.server:
        return start_echo("--stats", listen=link.server.host + ":0")


def lost_late_doubled_and_out_of_order():
    with Link() as link:
        echo = start_echo_over(link)
        link.relay.delay_s, link.relay.loss, link.relay.double = 0.004, 0.03, 0.02
        finish_exchanges(echo, start_exchanges(link, echo.address))
        relay = link.relay
        print(f"{relay.carried} packets carried, {relay.dropped} lost, {relay.overtaken} overtaken")
        check(relay.dropped > 0 and relay.overtaken > 0, "the link was good")


def cut_in_the_middle_and_healed():
    with Link() as link:
        echo = start_echo_over(link)
        link.relay.delay_s = 0.002
        exchanges = start_exchanges(link, echo.address)
        exchanges[0].half.wait()
        link.relay.cut = True
        # Both sides send again, in vain.
        link.relay.wait_for_losses(10)
        link.relay.cut = False
        finish_exchanges(echo, exchanges)


def the_device_goes_down_and_comes_back():
    with Link() as link:
        echo = start_echo_over(link)
        link.relay.delay_s = 0.002
        exchanges = start_exchanges(link, echo.address)
        exchanges[0].half.wait()
        with link.server:
            link.server.ip("link", "set", "tun0", "down")
        # What the clients still send finds no device.
        link.relay.wait_for_losses(1)
        with link.server:
            link.server.ip("link", "set", "tun0", "up")
        finish_exchanges(echo, exchanges)


def talk_until(watcher, pattern):
    """The watcher, who must not be idle, talks until a line comes; returns it."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        check(time.monotonic() < deadline, f"no line like {pattern} came")
        watcher.say("/who")
        line = watcher.stream.line()
        check(line is not None, "the watcher was let go")
        if re.fullmatch(pattern, line):
            return line


def a_cut_ends_by_the_limits_and_clients_come_back():
    """Nothing tells a server of a cable that was pulled: --idle does. When the link is back, the
    client finds its session gone and connects again."""
    with Link() as link:
        with link.server:
            chat = start_chat("--idle", "1", listen=link.server.host + ":0")
            watcher = Person(chat.lines[0], "watcher")
        with link.client:
            client = Program("example-client", chat.lines[0], "/nick traveller")
        talk_until(watcher, r"\* \S+ is traveller now")
        link.relay.cut = True
        check_equal(talk_until(watcher, r"\* traveller left lobby .*"),
                    "* traveller left lobby (idle)", "how it ended")
        link.relay.cut = False
        talk_until(watcher, r"\* \S+ is traveller now")
        client.process.kill()
        chat.stop()


if __name__ == "__main__":
    run(lost_late_doubled_and_out_of_order, cut_in_the_middle_and_healed,
        the_device_goes_down_and_comes_back, a_cut_ends_by_the_limits_and_clients_come_back)
