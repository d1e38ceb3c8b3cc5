"""Many people at a chat who talk at once in several rooms. Each counts aloud, round by round, and
checks that it misses nothing of what the others count."""
import re
import selectors
import time

from support import DEADLINE_S, Person, check, check_equal


class Talker(Person):
    """Somebody who counts, and listens to those who count in the same room."""

    def __init__(self, address, number, room_count):
        super().__init__(address, f"p{number}")
        self.room = f"room{number % room_count}"
        self.join(self.room)
        self.socket.setblocking(False)
        self.said = 0      # rounds
        self.heard = {}    # by name: the rounds that were heard of, all of them and in order
        self.gone = set()  # names that were said to have left

    def count(self):
        """Says the next round. A victim may find that it has been let go: it did not read."""
        self.say(f"round {self.said}")
        self.said += 1

    def take(self):
        """Reads what is there and notes it."""
        data = self.socket.recv(1 << 18)
        check(data, f"{self.name} was cut off by the server")
        *lines, self.stream.bytes = (self.stream.bytes + data).split(b"\n")
        for line in lines:
            self.note(line.decode())

    def note(self, line):
        said = re.fullmatch(r"(p\d+): round (\d+)", line)
        left = re.fullmatch(rf"\* (p\d+) left {self.room} \(.*\)", line)
        if said:
            name = said.group(1)
            check_equal(int(said.group(2)), self.heard.get(name, 0),
                        f"round of {name}, heard by {self.name}")
            self.heard[name] = self.heard.get(name, 0) + 1
        elif left:
            self.gone.add(left.group(1))


def read_until(talkers, done):
    """Reads for all until `done` holds for each."""
    deadline = time.monotonic() + DEADLINE_S
    with selectors.DefaultSelector() as selector:
        for talker in talkers:
            if not done(talker):
                selector.register(talker.socket, selectors.EVENT_READ, talker)
        while selector.get_map():
            left = deadline - time.monotonic()
            events = selector.select(left) if left > 0 else []
            check(events, f"{len(selector.get_map())} are still waiting, as "
                          f"{next(iter(selector.get_map().values())).data.name}")
            for key, _ in events:
                key.data.take()
                if done(key.data):
                    selector.unregister(key.fileobj)


def read_until_all_heard(talkers):
    """Until each has heard all that the others of its room said."""
    rooms = {}
    for talker in talkers:
        rooms.setdefault(talker.room, []).append(talker)
    read_until(talkers, lambda talker: all(
        talker.heard.get(other.name, 0) == other.said
        for other in rooms[talker.room] if other is not talker))


def check_who_is_there(talkers):
    """The server knows exactly these people in their rooms."""
    rooms = {}
    for talker in talkers:
        rooms.setdefault(talker.room, []).append(talker.name)
        talker.socket.setblocking(True)
        talker.say("/who")
    for talker in talkers:
        match = talker.expect_match(rf"\* in {talker.room} \((\d+)\): (.*)")
        check_equal(sorted(match.group(2).split(", ")), sorted(rooms[talker.room]),
                    f"who is in {talker.room}")
        check_equal(int(match.group(1)), len(rooms[talker.room]), "count")
