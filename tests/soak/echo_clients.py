"""Clients of iocp-echo: what each does, and a loop that runs many of them. Each sends bytes that it can
tell again at every offset, and compares all that come back."""
import errno
import random
import select
import selectors
import socket
import time

import support
from support import check

BLOCK = random.Random(7).randbytes(1 << 20) * 2
HALF = len(BLOCK) // 2
ENDLESS = 1 << 50
# A client that could not send for so long is blocked: the server and the kernels take no more.
SILENCE_S = 0.1

# What a role does at its end, and the reasons that the server may give for it.
ROLES = {
    "polite": {"peer"},           # reads all back, then ends its side and waits for the server's end
    "half-closing": {"peer"},     # ends its side as soon as all is sent, and reads all back
    "closing": {"peer"},          # reads all back, then closes
    "silent": {"peer"},           # closes without a byte
    "resetting": {"error"},       # reads all back, then resets
    "cutting": {"error"},         # resets in the middle
    "dropping": {"peer", "error"},  # closes in the middle, with bytes unread
    "stalling": {"peer"},         # sends and does not read until it is blocked; later it reads all
    "dead": {"error"},            # the same, but it resets in place of reading
    "endless": {"peer", "error"},  # goes on until its process is killed
}
STALLED = ("stalling", "dead")


class Client:
    def __init__(self, address, role, number, size, ledger=None):
        self.role, self.size, self.ledger = role, 0 if role == "silent" else size, ledger
        self.source = random.Random(number)
        self.offset = self.source.randrange(HALF)
        self.sent = self.received = 0
        self.asleep = role in STALLED   # does not read
        self.blocked = False            # was there no room for more?
        self.finished = False           # our side has ended
        self.done = False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if self.asleep:
            self.size = ENDLESS
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.socket.setblocking(False)
        host, port = address.rsplit(":", 1)
        error = self.socket.connect_ex((host, int(port)))
        check(error in (0, errno.EINPROGRESS), f"a {role} client: connect: {errno.errorcode.get(error)}")
        self.connected = False

    def mask(self):
        """What the loop is to wait for."""
        more = self.sent < self.size and not self.finished
        if self.role == "endless":
            more = self.sent - self.received < 1 << 16
        writes = not self.connected or more
        reads = self.connected and not self.asleep
        return writes * selectors.EVENT_WRITE | reads * selectors.EVENT_READ

    def step(self, mask):
        try:
            if mask & selectors.EVENT_WRITE:
                self.write()
            if mask & selectors.EVENT_READ and not self.done:
                self.read()
        except OSError as error:
            check(False, f"a {self.role} client, {self.sent} bytes sent and {self.received} received: "
                         f"{type(error).__name__}")
        if not self.done:
            self.look()

    def write(self):
        if not self.connected:
            error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            check(error == 0, f"a {self.role} client: connect: {errno.errorcode.get(error)}")
            self.connected = True
        if self.sent == self.size or self.finished:
            return
        at = (self.offset + self.sent) % HALF
        piece = BLOCK[at:at + min(self.size - self.sent, self.source.randint(1, 1 << 14))]
        if self.ledger:
            self.ledger.add(len(piece), 0)
        try:
            self.sent += self.socket.send(piece)
        except BlockingIOError:
            pass

    def read(self):
        try:
            data = self.socket.recv(self.source.choice((1000, 1 << 14, 1 << 17)))
        except BlockingIOError:
            return
        at = (self.offset + self.received) % HALF
        check(data == BLOCK[at:at + len(data)], f"a {self.role} client got other bytes, from "
              f"{self.received} on, than the {self.sent} that it sent")
        self.received += len(data)
        if self.ledger:
            self.ledger.add(0, len(data))
        if not data:
            self.at_end()

    def at_end(self):
        check(self.finished and self.received == self.sent, f"the server ended a {self.role} client, "
              f"after {self.received} of {self.sent} bytes")
        self.close()

    def look(self):
        """Where is it, and what does its role do there?"""
        if not self.connected:
            return
        all_sent, all_back = self.sent == self.size, self.received == self.size
        if self.role in ("cutting", "dropping") and self.received * 2 >= self.size:
            self.close(reset=self.role == "cutting")
        elif self.role == "half-closing" and all_sent:
            self.finish()
        elif self.role == "polite" and all_back:
            self.finish()
        elif self.role in ("closing", "silent") and all_back:
            self.close()
        elif self.role == "resetting" and all_back:
            self.close(reset=True)

    def finish(self):
        if not self.finished:
            self.finished = True
            self.socket.shutdown(socket.SHUT_WR)

    def wake(self):
        """A stalled one, when the others are done: goes on, or is found dead."""
        self.blocked = not select.select([], [self.socket], [], 0)[1]
        if self.role == "dead":
            self.close(reset=True)
        else:
            self.asleep = False
            self.finish()

    def close(self, reset=False):
        if reset:
            support.reset(self.socket)
        self.socket.close()
        self.done = True

    def settle(self, account):
        """Its bytes, exactly or from what came back to what was sent."""
        bounds = (self.received, self.sent)
        account.add(self.role, ROLES[self.role], bounds, bounds)


class Loop:
    """Runs clients, at most `at_a_time` of those that do not stall."""

    def __init__(self, make, roles, at_a_time=100):
        self.make, self.roles, self.at_a_time = make, list(roles), at_a_time
        self.selector = selectors.DefaultSelector()
        self.running, self.stalled = set(), set()
        self.masks = {}
        self.ended = []

    def run(self, at_half=lambda: None):
        """Until all have ended; `at_half` is called when half of them have been started."""
        half = len(self.roles) // 2
        with self.selector:
            while self.roles or self.running:
                while self.roles and len(self.running) < self.at_a_time:
                    self.start(self.roles.pop())
                    if len(self.roles) == half:
                        at_half()
                self.turn(self.running)
            while self.stalled and (events := self.selector.select(SILENCE_S)):
                self.step(events)
            for client in list(self.stalled):
                client.wake()
                self.update(client)
            while self.stalled:
                self.turn(self.stalled)

    def start(self, role):
        client = self.make(role)
        (self.stalled if client.asleep else self.running).add(client)
        self.masks[client] = 0
        self.update(client)

    def turn(self, waited_for):
        """One wait. Something happens, or those that are waited for are stuck."""
        events = self.selector.select(support.DEADLINE_S)
        if not events:
            some = next(iter(waited_for))
            check(False, f"{len(waited_for)} clients are stuck, as a {some.role} one with {some.sent} "
                         f"bytes sent and {some.received} received")
        self.step(events)

    def step(self, events):
        for key, mask in events:
            key.data.step(mask)
            self.update(key.data)

    def update(self, client):
        mask = 0 if client.done else client.mask()
        if mask and not self.masks[client]:
            self.selector.register(client.socket, mask, client)
        elif mask and mask != self.masks[client]:
            self.selector.modify(client.socket, mask, client)
        elif not mask and self.masks[client]:
            self.selector.unregister(client.socket)
        self.masks[client] = mask
        if client.done:
            self.running.discard(client)
            self.stalled.discard(client)
            self.ended.append(client)
            del self.masks[client]
