"""What the clients of one server did, in the terms of the server's own counters, and whether the two
agree; and the figures of the server at rest, and whether they grow.

Of most clients the bytes are known exactly. Of those that are killed or reset in the middle two bounds
are known, and the server's count has to lie between the sums of the two.
"""
import mmap
import struct
from collections import Counter

from support import Failure

KIB = 1024
UNKNOWN = 1 << 60  # bytes that the server sent to somebody who did not read all of it, at most


class Condition:
    """One thing that has to hold at the end: a line of the report."""

    def __init__(self, name, holds, text):
        self.name, self.holds, self.text = name, bool(holds), text


def between(name, found, least, most):
    """The server's count has to be what the clients know of it."""
    if most >= UNKNOWN:
        expected = f"at least {least:,}"
    else:
        expected = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    return Condition(name, least <= found <= most, f"{found:,}, by the clients {expected}")


class Ledger:
    """The bytes of clients that may be killed at any moment, in memory that outlives them: how many they
    meant to send, and how many came back."""

    def __init__(self):
        self.memory = mmap.mmap(-1, mmap.PAGESIZE)

    def add(self, planned, returned):
        old = self.read()
        struct.pack_into("QQ", self.memory, 0, old[0] + planned, old[1] + returned)

    def read(self):
        return struct.unpack_from("QQ", self.memory, 0)


class Account:
    def __init__(self):
        self.clients = Counter()   # by role
        self.endings = Counter()   # by the reasons that the server may have for the end
        self.received = [0, 0]     # bytes that the server received: at least, at most
        self.returned = [0, 0]     # bytes that it sent
        self.errors = Counter()    # what clients ran into, and were to run into

    def add(self, role, reasons, received, returned):
        """A client that has ended. `received` and `returned` are pairs."""
        self.clients[role] += 1
        self.endings[frozenset(reasons)] += 1
        for i in range(2):
            self.received[i] += received[i]
            self.returned[i] += returned[i]

    def add_killed(self, role, count, ledger):
        """Clients of a process that was killed: the server's figures lie between what came back and
        what was to be sent. It sees their end or a reset."""
        planned, returned = ledger.read()
        self.clients[role] += count
        self.endings[frozenset({"peer", "error"})] += count
        for pair in (self.received, self.returned):
            pair[0] += returned
            pair[1] += planned

    def merge(self, other):
        self.clients += other.clients
        self.endings += other.endings
        self.errors += other.errors
        for i in range(2):
            self.received[i] += other.received[i]
            self.returned[i] += other.returned[i]

    def dumps(self, prefix):
        """For another process: all of it as text, the roles with something in front."""
        return {"clients": {prefix + role: count for role, count in self.clients.items()},
                "endings": [(sorted(reasons), count) for reasons, count in self.endings.items()],
                "bytes": (self.received, self.returned), "errors": self.errors}

    @classmethod
    def loads(cls, value):
        account = cls()
        account.clients.update(value["clients"])
        account.endings.update({frozenset(reasons): count for reasons, count in value["endings"]})
        account.received, account.returned = value["bytes"]
        account.errors.update(value["errors"])
        return account

    def count(self):
        return sum(self.clients.values())

    def reason_conditions(self, closed):
        """The server's reasons: each at least as often as it was the only one possible, at most as often
        as it was possible."""
        names = set(closed) | set().union(*self.endings)
        for name in sorted(names):
            least = sum(n for reasons, n in self.endings.items() if reasons == {name})
            most = sum(n for reasons, n in self.endings.items() if name in reasons)
            if closed.get(name, 0) or most:
                yield between(f"closed: {name}", closed.get(name, 0), least, most)


class Samples:
    """The server's figures at moments of rest, when all clients but those who stay have gone."""

    # How much more than in the first third of the run a figure may be in its last third: a part of it,
    # and a number. What is judged in short runs, too, and in those of builds with sanitizers.
    ALLOWED = {"memory_count": (0.05, 64), "memory_size": (0.05, 1024 * KIB),
               "resident": (0.25, 8192 * KIB), "handles": (0, 3)}
    ALWAYS = ("handles",)
    SHORT_S = 60  # in which the pools of a server may still grow to what the storm's peak needs
    # Receive buffers are kept for the next time: buffer_count free ones for each lane, beside as many
    # that an io_uring has. The last of them may be made late: they have a bound of their own, and what
    # they add to other figures is no growth.
    BUFFERS_OF_A_LANE = 2 * 256
    OF_A_BUFFER = {"memory_count": 1, "memory_size": 66 * KIB, "resident": 66 * KIB, "handles": 0}
    NAMES = {"memory_count": "blocks of memory", "memory_size": "bytes in them",
             "resident": "resident bytes", "handles": "handles"}

    def __init__(self, seconds, sanitized):
        self.list = []
        self.excuse = ""
        self.short = seconds < self.SHORT_S
        if self.short:
            self.excuse = f" (not judged: the run is shorter than {self.SHORT_S} s)"
        elif sanitized:  # what was freed stays in quarantine, to find who still uses it
            self.excuse = " (not judged: a sanitizer's build)"

    def add(self, figures):
        self.list.append({name: figures[name] for name in self.ALLOWED}
                         | {name: figures["port"][name] for name in ("buffers", "lanes")})

    def conditions(self):
        """The least of the last third is compared with the most of the first: what goes up and down is
        no growth. It takes three moments."""
        if len(self.list) < 3:
            raise Failure(f"only {len(self.list)} moments of rest: too few to judge anything")
        third = len(self.list) // 3
        bound = self.BUFFERS_OF_A_LANE * max(sample["lanes"] for sample in self.list)
        buffers = [sample["buffers"] for sample in self.list]
        yield Condition("receive buffers", max(buffers) <= bound,
                        f"{max(buffers)} at rest, at most {bound}")
        more = max(0, max(buffers[-third:]) - min(buffers[:third]))
        for name, (factor, extra) in self.ALLOWED.items():
            before = max(sample[name] for sample in self.list[:third])
            after = min(sample[name] for sample in self.list[-third:])
            most = int(before * (1 + factor)) + extra + more * self.OF_A_BUFFER[name]
            text = f"{before:,} in the first third, {after:,} in the last, at most {most:,}"
            excuse = "" if name in self.ALWAYS else self.excuse
            if after == 0:
                excuse = " (not judged: the system does not say)"  # Wine, of handles
            yield Condition(self.NAMES[name], after <= most or excuse, text + excuse)


def service_conditions(figures, account):
    """The last report of a server against what its clients did."""
    service = figures["service"]
    count = account.count()
    yield between("accepted", service["accepted"], count, count)
    yield between("closed", service["closed"], count, count)
    yield between("bytes received", service["bytes_received"], *account.received)
    yield between("bytes sent", service["bytes_sent"], *account.returned)
    yield from account.reason_conditions(figures["closed"])
    for name in ("sessions", "refused", "accept_failures", "connect_failures", "messages_dropped"):
        yield Condition(name, service[name] == 0, f"{service[name]}, expected 0")
    running = figures["port"]["running"]
    yield Condition("handlers running", running == 0, f"{running}, expected 0")
    yield Condition("memory left", figures["memory_left"] == 0,
                    f"{figures['memory_left']} blocks, expected 0")
