"""iocp-echo under a storm, wave by wave: clients of every role, a process of clients that is killed and
one that is stopped for a while; and some who stay for the whole run."""
import random
import socket

from account import Account, Ledger
from children import Child
from echo_clients import ENDLESS, STALLED, Client, Loop
from support import check, check_equal, connect

ROLES = (["polite"] * 24 + ["half-closing"] * 20 + ["closing"] * 12 + ["silent"] * 4 +
         ["resetting"] * 12 + ["cutting"] * 10 + ["dropping"] * 10 + ["stalling"] * 2 + ["dead"] * 2)
STOPPED = ["polite", "half-closing", "polite", "resetting"] * 2
STAY, KILLED = 20, 6


class EchoStorm:
    name = "echo"

    def __init__(self, server, seed):
        self.address = server.program.address
        self.source = random.Random(seed)
        self.account = Account()
        self.blocked = self.stalled = 0
        self.heavy = False
        self.stay = [connect(self.address) for _ in range(STAY)]
        self.stay_bytes = 0
        self.children = []

    def size(self):
        """Most are small, but in the warm-up."""
        if self.heavy:
            return self.source.randrange(1 << 18, 1 << 19)
        return int(2 ** self.source.uniform(0, 16 if self.source.random() < 0.9 else 20))

    def make(self, role, ledger=None):
        size = ENDLESS if role == "endless" else self.size()
        return Client(self.address, role, self.source.getrandbits(32), size, ledger)

    def fork(self, body):
        child = Child(body)
        self.children.append(child)
        return child

    def warm_up(self):
        """More than what comes later, so that the server's pools have what its peaks need."""
        self.heavy = True
        self.storm(ROLES * 2, 2 * len(ROLES))
        self.heavy = False

    def wave(self):
        self.storm(ROLES, len(ROLES) // 2)

    def storm(self, roles, at_a_time):
        ledger = Ledger()
        killed = self.fork(lambda child: self.be_killed(child, ledger))
        stopped = self.fork(self.be_stopped)
        check_equal(killed.hear(), "ready", "the process that is to be killed")
        stopped.wait_stopped()
        self.ping()
        roles = self.source.sample(roles, len(roles))
        loop = Loop(self.make, roles, at_a_time)
        loop.run(at_half=killed.kill)
        self.account.add_killed("killed", KILLED, ledger)
        stopped.go_on()
        for role, bounds in stopped.hear():
            self.account.add(f"stopped {role}", {"error"} if role == "resetting" else {"peer"},
                             bounds, bounds)
        stopped.wait()
        self.children.clear()
        self.settle(loop)

    def settle(self, loop):
        for client in loop.ended:
            client.settle(self.account)
            self.stalled += client.role in STALLED
            self.blocked += client.blocked

    def be_killed(self, child, ledger):
        """In a process: sends and reads without an end."""
        loop = Loop(lambda role: self.make(role, ledger), [])
        for _ in range(KILLED):
            loop.start("endless")
        while not all(client.received for client in loop.running):
            loop.turn(loop.running)
        child.answer("ready")
        while True:
            loop.turn(loop.running)

    def be_stopped(self, child):
        """In a process: stops in the middle; when it goes on, nothing is lost."""
        loop = Loop(self.make, STOPPED)
        loop.run(at_half=child.stop)
        child.answer([(client.role, (client.received, client.sent)) for client in loop.ended])

    def ping(self):
        """Those who stay have been forgotten by nobody."""
        for number, connection in enumerate(self.stay):
            data = b"%d:%d;" % (number, self.stay_bytes) * 9
            connection.sendall(data)
            check_equal(connection.recv(len(data), socket.MSG_WAITALL), data, "what comes back")
            self.stay_bytes += len(data)

    def rest(self, server):
        """Nobody is there but those who stay: the figures, and counters equal on both sides."""
        before = server.at_rest(STAY)["service"]
        expected = -self.stay_bytes
        self.ping()
        expected += self.stay_bytes
        figures = server.at_rest(STAY)
        after = figures["service"]
        check_equal((after["bytes_received"] - before["bytes_received"],
                     after["bytes_sent"] - before["bytes_sent"]), (expected, expected),
                    "bytes of those who stay, by the server")
        check_equal(after["messages_received"] - before["messages_received"],
                    after["messages_sent"] - before["messages_sent"], "messages in and out, at rest")
        return figures

    def end(self, server):
        """Half of those who stay leave by themselves, the others see the server end."""
        for connection in self.stay[:STAY // 2]:
            connection.shutdown(socket.SHUT_WR)
            check_equal(connection.recv(1), b"", "after the end of our side")
            connection.close()
        server.at_rest(STAY - STAY // 2)
        server.program.send_signal()
        for connection in self.stay[STAY // 2:]:
            check_equal(connection.recv(1), b"", "when the server ends")
            connection.close()
        for number in range(STAY):
            self.account.add("staying", {"peer"} if number < STAY // 2 else {"shutdown"}, (0, 0), (0, 0))
        for pair in (self.account.received, self.account.returned):
            pair[0] += self.stay_bytes
            pair[1] += self.stay_bytes

    def remarks(self):
        check(self.stalled == 0 or self.blocked > 0, "no stalled client was ever blocked")
        yield f"{self.blocked} of {self.stalled} stalled clients were blocked, with nowhere to send to"

    def clean_up(self):
        for child in self.children:
            child.kill()
