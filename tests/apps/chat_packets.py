#!/usr/bin/env python3
"""iocp-chat with programs: packets beside lines, in the same rooms; and packets that are wrong."""
import socket
import struct
import sys

sys.dont_write_bytecode = True
from support import Person, check, check_equal, run, start_chat  # noqa: E402
from support.packets import *  # noqa: E402,F403

def start(*arguments):
    return start_chat(*arguments, packets="127.0.0.1:0")


def programs_and_people():
    chat = start()
    ann = Person(chat.lines[0], "ann")
    bot = Bot(chat.packets[0], "bot")
    ann.next("* bot joined lobby")
    ann.say("hello bot")
    bot.expect(SAID, string("ann") + b"hello bot")
    bot.send(SAY, b"hello ann")
    ann.next("bot: hello ann")
    bot.send(SAY, b"one line\nnot \x1b[31mtwo")
    ann.next("bot: one linenot [31mtwo")
    bot.send(SAY, b" \n ")  # nothing to say
    bot.send(PRIVATE, string("ANN") + b"psst")
    bot.expect(SENT, string("ann"))
    ann.next("bot (private): psst")
    ann.say("/msg bot psst yourself")
    ann.next("* sent to bot")
    bot.expect(PRIVATE_SAID, string("ann") + b"psst yourself")
    bot.send(WHO)
    bot.expect(PEOPLE, string("lobby") + struct.pack("<I", 2) + string("ann") + string("bot"))
    bot.send(NICK, string("robot"))
    bot.expect(RENAMED, string("bot") + string("robot"))
    ann.next("* bot is robot now")
    ann.say("/nick anna")
    ann.next("* you are anna now")
    bot.expect(RENAMED, string("ann") + string("anna"))
    bot.send(JOIN, string("kitchen"))
    bot.expect(JOINED, string("robot") + string("kitchen"))
    ann.next("* robot left lobby (went to kitchen)")
    bot.send(ROOMS)
    bot.expect(ROOM_LIST, struct.pack("<I", 2) + string("lobby") + struct.pack("<I", 1)
               + string("kitchen") + struct.pack("<I", 1))
    ann.join("kitchen")
    bot.expect(JOINED, string("anna") + string("kitchen"))
    ann.join("lobby")
    bot.expect(LEFT, string("anna") + string("kitchen") + b"went to lobby")
    bot.send(LEAVE)
    bot.expect(JOINED, string("robot") + string("lobby"))
    ann.next("* robot joined lobby")
    bot.send(PING, b"any\x00thing")
    bot.expect(PONG, b"any\x00thing")
    bot.send(QUIT)
    bot.expect(GOODBYE, b"goodbye")
    check_equal(bot.receive(), None, "after goodbye")
    ann.next("* robot left lobby (quit)")
    chat.stop()


def programs_alone():
    chat = start_chat(listen="none", packets="127.0.0.1:0")
    one, two = Bot(chat.packets[0], "one"), Bot(chat.packets[0], "")
    check(two.name.startswith("guest-"), f"made-up name {two.name}")
    one.expect(JOINED, string(two.name) + string("lobby"))
    one.send_raw(b"".join(packet(SAY, b"%d" % number) for number in range(1000)))  # coalesced
    for number in range(1000):
        two.expect(SAID, string("one") + b"%d" % number)
    for byte in packet(SAY, b"a byte at a time"):
        one.send_raw(bytes([byte]))
    two.expect(SAID, string("one") + b"a byte at a time")
    chat.stop()


def refusals():
    chat = start("--max-rooms", "2")
    ann = Person(chat.lines[0], "ann")
    bot = Bot(chat.packets[0])
    for request in (NICK, JOIN, LEAVE, SAY, PRIVATE, WHO, ROOMS, PING, QUIT):
        bot.send(request, string("x") + b"y")
        bot.refused(request, HELLO_FIRST)
    for body in (b"", b"\x01", b"\x02" + string("bot"), b"\x01\xffbot"):
        bot.send(HELLO, body)
        bot.refused(HELLO, MALFORMED)
    bot.send(HELLO, b"\x01" + string("two words"))
    bot.refused(HELLO, BAD_NAME)
    bot.send(HELLO, b"\x01" + string("Ann"))
    bot.refused(HELLO, NAME_TAKEN)
    bot.send(HELLO, b"\x01" + string("bot"))
    check_equal(bot.receive()[0], WELCOME, "answer to the good hello")
    ann.next("* bot joined lobby")
    bot.send(HELLO, b"\x01" + string("bot"))
    bot.refused(HELLO, HELLO_FIRST)
    for kind in (0, 11, 0x81, 0xffff):
        bot.send(kind)
        bot.refused(kind, UNKNOWN)
    for kind in (NICK, JOIN, PRIVATE):
        bot.send(kind)
        bot.refused(kind, MALFORMED)
        bot.send(kind, b"\x05bo")
        bot.refused(kind, MALFORMED)
    bot.send(NICK, string("ann"))
    bot.refused(NICK, NAME_TAKEN)
    bot.send(NICK, string("a\x1b[31m"))
    bot.refused(NICK, BAD_NAME)
    bot.send(NICK, b"\x02\xc3\x28")  # no UTF-8
    bot.refused(NICK, BAD_NAME)
    bot.send(JOIN, string(""))
    bot.refused(JOIN, BAD_ROOM)
    bot.send(JOIN, string("lobby"))
    bot.refused(JOIN, SAME_ROOM)
    bot.send(PRIVATE, string("nobody") + b"hello")
    bot.refused(PRIVATE, NOBODY)
    bot.send(SAY, b"x" * 4097)
    bot.refused(SAY, TOO_LONG)
    bot.send(SAY, b"x" * 4096)
    ann.next("bot: " + "x" * 4096)
    ann.join("kitchen")
    bot.expect(LEFT, string("ann") + string("lobby") + b"went to kitchen")
    bot.send(JOIN, string("third"))
    bot.refused(JOIN, ROOMS_FULL)
    chat.stop()


def violations():
    chat = start()
    ann = Person(chat.lines[0], "ann")
    bad = (b"\x00\x00\x00\x00", b"\x03\x00\x05\x00", b"\x00\x00", b"\xff\xff",
           struct.pack("<HH", 4096 + 129, SAY), b"GET / HTTP/1.1\r\n\r\n")
    for number, data in enumerate(bad):
        bot = Bot(chat.packets[0], f"bot{number}")
        ann.next(f"* bot{number} joined lobby")
        bot.send_raw(packet(SAY, b"still fine") + data)
        ann.next(f"bot{number}: still fine")
        check_equal(bot.receive(), None, f"after {data!r}")
        bot.socket.close()
        ann.next(f"* bot{number} left lobby (malformed packet)")
    bot = Bot(chat.packets[0], "bot")
    ann.next("* bot joined lobby")
    bot.send_raw(struct.pack("<HH", 4096 + 128, PING))  # the largest, cut short
    bot.socket.shutdown(socket.SHUT_WR)
    check_equal(bot.receive(), None, "after half a packet")
    ann.next("* bot left lobby (hung up)")
    ann.say("/who")
    ann.next("* in lobby (1): ann")
    chat.stop()


def goodbye():
    chat = start()
    bot = Bot(chat.packets[0], "bot")
    silent = Bot(chat.packets[0])
    silent.send(WHO)
    silent.refused(WHO, HELLO_FIRST)
    chat.send_signal()
    for program in (bot, silent):
        program.expect(GOODBYE, b"the server is going down, goodbye")
        check_equal(program.receive(), None, "after the goodbye")
        program.socket.close()
    chat.wait(0)


if __name__ == "__main__":
    run(programs_and_people, programs_alone, refusals, violations, goodbye)
