#!/usr/bin/env python3
"""iocp-chat with 300 people who all talk while half of them are cut off: between those who stay
nothing is lost or out of order, and at the end the server knows exactly who is there."""
import random
import re
import selectors
import sys
import time

sys.dont_write_bytecode = True
from support import DEADLINE_S, Person, check, check_equal, run, start_chat  # noqa: E402

PEOPLE, ROOMS, ROUNDS = 300, 6, 8


class Talker(Person):
    def __init__(self, address, number):
        super().__init__(address, f"p{number}")
        self.room = f"room{number % ROOMS}"
        self.join(self.room)
        self.socket.setblocking(False)
        self.rounds = {}   # by name: the rounds that were heard of
        self.gone = set()  # names that were said to have left

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
            self.rounds.setdefault(said.group(1), []).append(int(said.group(2)))
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


def storm():
    source = random.Random(300)
    chat = start_chat("--workers", "4")
    talkers = [Talker(chat.lines[0], number) for number in range(PEOPLE)]
    victims = source.sample(talkers, PEOPLE // 2)
    stay = [talker for talker in talkers if talker not in victims]
    for number in range(ROUNDS):
        for talker in stay + victims:
            talker.say(f"round {number}")
        for _ in range(min(len(victims), PEOPLE // 2 // (ROUNDS - 1) + 1)):
            victims.pop().reset()  # with all that it has not read
        read_until(stay, lambda talker: all(
            len(talker.rounds.get(other.name, ())) == number + 1
            for other in stay if other.room == talker.room and other is not talker))
    check_equal(len(victims), 0, "victims left")
    heard = {talker.name for talker in stay}
    for talker in stay:
        for name, rounds in talker.rounds.items():
            check_equal(rounds, list(range(len(rounds))), f"{name}, heard by {talker.name}")
            check(name not in heard or len(rounds) == ROUNDS, f"{talker.name} missed {name}")
    cut = {talker.name: talker.room for talker in talkers if talker not in stay}
    read_until(stay, lambda talker: talker.gone >= {
        name for name, room in cut.items() if room == talker.room})
    for talker in stay:
        talker.socket.setblocking(True)
        talker.say("/who")
    for talker in stay:
        match = talker.expect_match(rf"\* in {talker.room} \((\d+)\): (.*)")
        names = sorted(other.name for other in stay if other.room == talker.room)
        check_equal(sorted(match.group(2).split(", ")), names, f"who is in {talker.room}")
        check_equal(int(match.group(1)), len(names), "count")
    newcomer = Person(chat.lines[0], "newcomer")
    newcomer.say("/rooms")
    newcomer.expect_match(rf"\* rooms \({ROOMS + 1}\): lobby 1, .*")
    for talker in stay:
        talker.close()
    chat.stop()


if __name__ == "__main__":
    run(storm)
