"""People of the soaked chat beside those who count aloud (support/crowd.py): programs that count, and
those who behave badly, one function each. Each of these functions adds to the account what it did."""
import select
import socket
import struct

import support
from account import UNKNOWN
from support import Person, check, check_equal, connect
from support.crowd import Ear
from support.packets import GOODBYE, JOIN, JOINED, LEFT, QUIT, SAID, SAY, Bot, string

LONG_LINE = "x" * 2000
# What is talked before it is heard that the deaf one is thrown out lies in buffers, of the kernel and of
# the server (16 MiB a lane), and goes on coming while a busy machine lets the server wait.
FLOOD_MAX = 512 << 20


class Program(Bot, Ear):
    """A program that counts, as a Talker does."""

    def __init__(self, address, number, room_count, people=()):
        super().__init__(address, f"p{number}")
        self.listen(f"room{number % room_count}", people)
        self.send(JOIN, string(self.room))
        self.wait_for(JOINED, string(self.name) + string(self.room))
        self.socket.setblocking(False)

    def wait_for(self, kind, body):
        """Reads until this packet has come. The lobby may have something to say before it."""
        while True:
            packet = self.receive()
            check(packet is not None, f"the end came to {self.name} before packet {kind:#x}")
            if packet == (kind, body):
                return

    def count(self):
        self.send(SAY, f"round {self.said}".encode())
        self.said += 1

    def note_all(self):
        data = self.stream.bytes
        while len(data) >= 4 and len(data) >= (size := struct.unpack_from("<H", data)[0]):
            self.note(struct.unpack_from("<H", data, 2)[0], data[4:size])
            data = data[size:]
        self.stream.bytes = data

    def note(self, kind, body):
        if kind == SAID:
            name, text = self.cut(body)
            self.hear(name, text.decode())
        elif kind == LEFT:
            name, body = self.cut(body)
            if self.cut(body)[0] == self.room:
                self.gone.add(name)

    def reset(self):
        support.reset(self.socket)

    def close(self):
        self.socket.close()


def exactly(person):
    """The bytes of somebody who read all: what the server received, and what it sent."""
    return (person.sent, person.sent), (person.stream.total, person.stream.total)


def roughly(person):
    """Of somebody who left in the middle."""
    return (0, person.sent), (person.stream.total, UNKNOWN)


def leave_politely(person, account):
    """Says so, and reads to the end: what the room was being told stands behind the goodbye."""
    person.socket.setblocking(True)
    if isinstance(person, Program):
        person.send(QUIT)
        person.wait_for(GOODBYE, b"goodbye")
        while packet := person.receive():
            person.note(*packet)
    else:
        person.say("/quit")
        for line in person.expect("* goodbye"):
            person.note(line)
        for line in person.expect_end().splitlines():
            person.note(line)
    person.close()
    account.add("polite", {"local"}, *exactly(person))


def leave_half_closing(person, account):
    """Ends its side, and reads what comes until the server ends the other."""
    person.socket.setblocking(True)
    person.socket.shutdown(socket.SHUT_WR)
    person.stream.rest()
    person.close()
    account.add("half-closing", {"peer"}, *exactly(person))


def leave_by_reset(person, account):
    person.reset()
    account.add("resetting", {"error"}, *roughly(person))


def read_to_the_end(connection, role, account):
    """The server lets go of somebody: by its end, or by a reset when it was still being sent to."""
    total = 0
    connection.settimeout(support.DEADLINE_S)
    try:
        while data := connection.recv(1 << 16):
            total += len(data)
    except (ConnectionResetError, BrokenPipeError) as error:
        account.errors[f"{role}: {type(error).__name__}"] += 1
    except TimeoutError:
        check(False, f"a {role} client is not let go of")
    connection.close()
    return total


def send_garbage(address, data, reasons, account, role):
    """Bytes that break the framing end a connection; the others do not, and then the client does."""
    connection = connect(address)
    try:
        connection.sendall(data)
        if reasons != {"protocol"}:
            connection.shutdown(socket.SHUT_WR)
    except (ConnectionResetError, BrokenPipeError) as error:
        account.errors[f"{role}: {type(error).__name__}"] += 1
    returned = read_to_the_end(connection, role, account)
    account.add(role, reasons, (0, len(data)), (returned, UNKNOWN))


def garbage(chat, source, account):
    """Of each kind one: a line without an end, lines of noise, a packet too short, too long, unknown."""
    noise = source.randbytes(300)
    lines = b"\n".join(source.randbytes(source.randrange(90)).replace(b"\n", b"") for _ in range(9))
    send_garbage(chat.lines[0], b"x" * 20000, {"protocol"}, account, "garbage: no line")
    send_garbage(chat.lines[0], lines + b"\n", {"peer"}, account, "garbage: lines")
    send_garbage(chat.packets[0], b"\0\0" + noise, {"protocol"}, account, "garbage: short packet")
    send_garbage(chat.packets[0], b"\xff\xff" + noise, {"protocol"}, account, "garbage: long packet")
    send_garbage(chat.packets[0], struct.pack("<HH", 304, 0x7777) + noise, {"peer"}, account,
                 "garbage: unknown packet")


def silent(chat, account):
    """Comes, says nothing and goes."""
    for address, reasons in ((chat.lines[0], {"peer", "error"}), (chat.packets[0], {"peer"})):
        connect(address).close()
        account.add("silent", reasons, (0, 0), (0, UNKNOWN))


class Mute:
    """A program that never says hello: it is let go of after ten seconds."""

    def __init__(self, chat):
        self.connection = connect(chat.packets[0])

    def ended(self):
        return bool(select.select([self.connection], [], [], 0)[0])

    def settle(self, account):
        reasons = {"handshake"} if self.ended() else {"peer"}
        if reasons == {"peer"}:
            self.connection.shutdown(socket.SHUT_WR)
            reasons = {"peer", "handshake"}
        read_to_the_end(self.connection, "mute", account)
        account.add("mute", reasons, (0, 0), (0, UNKNOWN))


def deaf(chat, number, account):
    """Somebody who does not read, in a room where one talks without an end. He is thrown out, and the
    talker hears of it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = chat.lines[0].rsplit(":", 1)
    connection.connect((host, int(port)))
    talker = Person(chat.lines[0], f"p{number}")
    talker.join(f"flood{number}")
    order = f"/nick deaf{number}\n/join flood{number}\n".encode()
    connection.sendall(order)
    talker.expect(f"* deaf{number} joined flood{number}")
    left = f"* deaf{number} left flood{number} (too slow)"
    while not select.select([talker.socket], [], [], 0)[0]:
        talker.say(LONG_LINE)
        check(talker.sent < FLOOD_MAX, f"{FLOOD_MAX} bytes for one who does not read; he is there still")
    talker.next(left)
    returned = read_to_the_end(connection, "deaf", account)
    account.add("deaf", {"slow"}, (len(order), len(order)), (returned, UNKNOWN))
    talker.say("/quit")
    talker.expect("* goodbye")
    check_equal(talker.expect_end(), "", "after the goodbye to one who talked to a deaf one")
    talker.close()
    account.add("polite", {"local"}, *exactly(talker))
