"""Many people at a chat who talk at once in several rooms. Each counts aloud, round by round, and
checks that it misses nothing of what the others count."""
import re
import selectors
import time

from support import DEADLINE_S, Person, check, check_equal


class Ear:
    """What somebody in a room has heard of those who count there."""

    def listen(self, room, people=()):
        """From now on. Of those who are there already the next round is the next to be heard."""
        self.room = room
        self.said = 0      # rounds
        self.gone = set()  # names that were said to have left
        # By name: the rounds that were heard of, all of them and in order.
        self.heard = {other.name: other.said for other in people if other.room == room}

    def hear(self, name, text):
        said = re.fullmatch(r"round (\d+)", text)
        if said:
            check_equal(int(said.group(1)), self.heard.get(name, 0),
                        f"round of {name}, heard by {self.name}")
            self.heard[name] = self.heard.get(name, 0) + 1

    def take(self):
        """Reads what is there and notes it."""
        data = self.socket.recv(1 << 18)
        check(data, f"{self.name} was cut off by the server")
        self.stream.total += len(data)
        self.stream.bytes += data
        self.note_all()


class Talker(Person, Ear):
    """Somebody who counts, and listens to those who count in the same room."""

    def __init__(self, address, number, room_count, people=()):
        super().__init__(address, f"p{number}")
        self.listen(f"room{number % room_count}", people)
        self.join(self.room)
        self.socket.setblocking(False)

    def count(self):
        """Says the next round. A victim may find that it has been let go: it did not read."""
        self.say(f"round {self.said}")
        self.said += 1

    def note_all(self):
        *lines, self.stream.bytes = self.stream.bytes.split(b"\n")
        for line in lines:
            self.note(line.decode())

    def note(self, line):
        said = re.fullmatch(r"(p\d+): (.*)", line)
        left = re.fullmatch(rf"\* (p\d+) left {self.room} \(.*\)", line)
        if said:
            self.hear(*said.groups())
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


def check_who_is_there(talkers, others=()):
    """The server knows exactly these people in their rooms, by what it tells the first."""
    rooms = {}
    for talker in [*talkers, *others]:
        rooms.setdefault(talker.room, []).append(talker.name)
    for talker in talkers:
        talker.socket.setblocking(True)
        talker.say("/who")
    for talker in talkers:
        match = talker.expect_match(rf"\* in {talker.room} \((\d+)\): (.*)")
        check_equal(sorted(match.group(2).split(", ")), sorted(rooms[talker.room]),
                    f"who is in {talker.room}")
        check_equal(int(match.group(1)), len(rooms[talker.room]), "count")
