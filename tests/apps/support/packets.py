"""The chat's protocol for programs (docs/chat-protocol.md), and somebody who speaks it."""
import struct

from support import Stream, check, check_equal, connect, talkers

HELLO, NICK, JOIN, LEAVE, SAY, PRIVATE, WHO, ROOMS, PING, QUIT = range(1, 11)
(WELCOME, JOINED, LEFT, RENAMED, SAID, PRIVATE_SAID, SENT, PEOPLE, ROOM_LIST, PONG, REFUSED,
 GOODBYE) = range(0x81, 0x8d)
MALFORMED, UNKNOWN, HELLO_FIRST, BAD_NAME, NAME_TAKEN, BAD_ROOM, ROOMS_FULL, SAME_ROOM, NOBODY, \
    TOO_FAST, TOO_LONG, NOT_SENT = range(1, 13)


def string(text):
    data = text.encode()
    return struct.pack("<B", len(data)) + data


def packet(kind, body=b""):
    return struct.pack("<HH", 4 + len(body), kind) + body


class Bot:
    """A program that speaks packets."""

    def __init__(self, address, name=None):
        self.socket = connect(address)
        talkers.append(self.socket)
        self.stream = Stream(self.socket.fileno(), f"what {name or 'a program'} reads")
        self.name = name
        self.sent = 0  # bytes
        if name is not None:
            self.send(HELLO, b"\x01" + string(name))
            kind, body = self.receive()
            check_equal(kind, WELCOME, "answer to hello")
            self.name, body = self.cut(body)
            room, server = self.cut(body)
            check_equal(room, "lobby", "room of the welcome")
            check(server.startswith(b"iocp-chat "), f"server of the welcome: {server}")
            # The welcome comes before the room is entered; the next answer comes after it.
            self.send(PING)
            self.expect(PONG, b"")

    def send(self, kind, body=b""):
        self.send_raw(packet(kind, body))

    def send_raw(self, data):
        self.socket.sendall(data)
        self.sent += len(data)

    def receive(self):
        """The next packet, or None at the end."""
        header = self.stream.exactly(4)
        if header is None:
            return None
        size, kind = struct.unpack("<HH", header)
        check(size >= 4, f"a packet of {size} bytes")
        body = self.stream.exactly(size - 4)
        check(body is not None, "the end came inside a packet")
        return kind, body

    def expect(self, kind, body):
        check_equal(self.receive(), (kind, body), f"next packet of {self.name}")

    def refused(self, request, reason):
        kind, body = self.receive()
        check_equal(kind, REFUSED, "kind")
        check_equal(struct.unpack("<HH", body[:4]), (request, reason), f"refusal {body!r}")

    @staticmethod
    def cut(body):
        size = body[0]
        return body[1:1 + size].decode(), body[1 + size:]
