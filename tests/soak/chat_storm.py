"""iocp-chat under a storm, wave by wave: people and programs who come, talk in the rooms of those who
stay, and go in every way; those who stay miss nothing that anybody said."""
import random

from account import Account, Ledger
from chat_people import (Mute, Program, deaf, exactly, garbage, leave_by_reset,
                         leave_half_closing, leave_politely, silent)
from children import Child
from support import check_equal, talkers
from support.crowd import Talker, check_who_is_there, read_until, read_until_all_heard

ROOMS, ROUNDS = 4, 4
STAY, STAY_PROGRAMS = 12, 4      # of each room some
LEAVE = [leave_politely] * 12 + [leave_half_closing] * 10 + [leave_by_reset] * 12
KILLED, STOPPED = 5, 5           # in a process each
DEAF_EVERY = 5                   # waves: it takes megabytes


class ChatStorm:
    name = "chat"

    def __init__(self, server, seed):
        self.chat = server.program
        self.source = random.Random(seed)
        self.account = Account()
        self.children = []
        self.waves = self.deliveries = 0
        self.number = STAY + STAY_PROGRAMS  # of the next who comes
        self.stay = [self.person(number, []) for number in range(STAY + STAY_PROGRAMS)]
        # They came one after the other: the later ones are known to nobody before they count.
        self.mute = Mute(self.chat)

    def person(self, number, people, program=None):
        program = program if program is not None else number >= STAY and number < STAY + STAY_PROGRAMS
        if program:
            return Program(self.chat.packets[0], number, ROOMS, people)
        return Talker(self.chat.lines[0], number, ROOMS, people)

    def numbers(self, count):
        self.number += count
        return range(self.number - count, self.number)

    def fork(self, body):
        child = Child(body)
        self.children.append(child)
        return child

    # ---- a wave

    def warm_up(self):
        """More than what comes later, so that the server's pools have what its peaks need."""
        self.storm(LEAVE * 3)
        for _ in range(4):
            deaf(self.chat, self.numbers(1)[0], self.account)

    def wave(self):
        self.storm(LEAVE)
        self.waves += 1

    def storm(self, ways):
        """Some come, talk, and go one after the other while the others talk on."""
        ledger = Ledger()
        cut = self.numbers(KILLED)
        held = self.numbers(STOPPED)
        killed = self.fork(lambda child: self.be_killed(child, cut, ledger))
        killed.hear()
        stopped = self.fork(lambda child: self.be_stopped(child, held))
        stopped.hear()
        guests = self.invite(ways)
        self.talk(killed, stopped, guests)
        self.account.add_killed("killed", KILLED, ledger)
        self.let_go_on(stopped)
        self.misbehave()
        self.await_gone([*cut, *held] + [int(guest.name[1:]) for guest, _ in guests])
        self.children.clear()
        talkers.clear()

    def invite(self, ways):
        """Guests, and how each is going to leave."""
        ways = self.source.sample(ways, len(ways))
        guests = []
        for number, way in zip(self.numbers(len(ways)), ways):
            people = self.stay + [guest for guest, _ in guests]
            program = way is not leave_half_closing and self.source.random() < 0.3
            guests.append((self.person(number, people, program), way))
        return guests

    def talk(self, killed, stopped, guests):
        """Rounds in which all talk; after each some leave. Who is to be killed or stopped talks, too."""
        left = list(guests)
        for child in (killed, killed, killed, stopped):
            child.tell("count")
        for number in range(ROUNDS):
            people = self.stay + [guest for guest, _ in left]
            for person in people:
                person.count()
            if number == 0:
                killed.kill()
                stopped.wait_stopped()
                self.children.remove(killed)
            read_until_all_heard(people)
            self.deliveries += sum(len(person.heard) for person in people)
            for _ in range(len(guests) // ROUNDS + 1):
                if left:
                    guest, way = left.pop()
                    way(guest, self.account)
        for guest, way in left:
            way(guest, self.account)

    def let_go_on(self, stopped):
        """The process goes on: it has to hear all that was said meanwhile, and says good-bye."""
        stopped.go_on()
        stopped.tell({person.name: (person.room, person.said) for person in self.stay})
        self.account.merge(Account.loads(stopped.hear()))
        stopped.wait()

    def misbehave(self):
        garbage(self.chat, self.source, self.account)
        silent(self.chat, self.account)
        if self.mute.ended():
            self.mute.settle(self.account)
            self.mute = Mute(self.chat)
        if self.waves % DEAF_EVERY == 0:
            deaf(self.chat, self.numbers(1)[0], self.account)

    def await_gone(self, numbers):
        """Those who stay are told of each who left their room; they forget them."""
        rooms = {f"room{room}": {f"p{number}" for number in numbers if number % ROOMS == room}
                 for room in range(ROOMS)}
        read_until(self.stay, lambda person: person.gone >= rooms[person.room])
        for person in self.stay:
            for name in rooms[person.room]:
                person.heard.pop(name, None)
            person.gone.clear()

    # ---- processes

    def be_killed(self, child, numbers, ledger):
        """Talks when it is told to, and does not read."""
        people = [self.person(number, self.stay) for number in numbers]
        for person in people:
            ledger.add(person.sent, person.stream.total)
        child.answer("ready")
        while True:
            child.order()
            for person in people:
                ledger.add(100, 0)  # before it is sent, and more than a round takes
                person.count()

    def be_stopped(self, child, numbers):
        """Talks, is stopped, and then has to hear what those who stay have said."""
        people = [self.person(number, self.stay) for number in numbers]
        child.answer("ready")
        child.order()
        for person in people:
            person.count()
        child.stop()
        said = child.order()
        read_until(people, lambda person: all(
            person.heard.get(name, 0) >= rounds for name, (room, rounds) in said.items()
            if room == person.room))
        account = Account()
        for person in people:
            leave_politely(person, account)
        child.answer(account.dumps("stopped "))

    # ---- rest

    def rest(self, server):
        """Nobody is there but those who stay. They talk, and each counter of the server goes up by what
        they said and heard."""
        least = len(self.stay)
        before = server.at_rest(least, least + 1)["service"]  # the mute one may be there, or not
        bytes_before = self.stay_bytes()
        for _ in range(ROUNDS):
            for person in self.stay:
                person.count()
            read_until_all_heard(self.stay)
        figures = server.at_rest(least, least + 1)
        after = figures["service"]
        found = {name: after[name] - before[name] for name in
                 ("messages_received", "messages_sent", "bytes_received", "bytes_sent")}
        said = ROUNDS * len(self.stay)
        heard = ROUNDS * sum(len(person.heard) for person in self.stay)
        sent, read = (now - then for now, then in zip(self.stay_bytes(), bytes_before))
        check_equal(found, {"messages_received": said, "messages_sent": heard,
                            "bytes_received": sent, "bytes_sent": read},
                    "what the server counted while those who stay talked")
        self.deliveries += heard
        return figures

    def stay_bytes(self):
        return (sum(person.sent for person in self.stay),
                sum(person.stream.total for person in self.stay))

    def end(self, server):
        """The server says goodbye to those who stay."""
        self.mute.settle(self.account)
        server.at_rest(len(self.stay), len(self.stay))
        check_who_is_there([person for person in self.stay if isinstance(person, Talker)],
                           [person for person in self.stay if isinstance(person, Program)])
        server.program.send_signal()
        for person in self.stay:
            person.socket.setblocking(True)
            person.stream.rest()
            person.close()
            self.account.add("staying", {"shutdown"}, *exactly(person))

    def remarks(self):
        yield f"{self.deliveries:,} deliveries heard, each in its order and none twice"

    def clean_up(self):
        for child in self.children:
            child.kill()
