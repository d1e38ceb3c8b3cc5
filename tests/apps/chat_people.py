#!/usr/bin/env python3
"""iocp-chat with people: rooms, names, notices, bad input, ends."""
import select
import signal
import sys

sys.dont_write_bytecode = True
from support import (STOP, Person, Stream, check, check_equal, connect, run,  # noqa: E402
                     start_chat)


def two_people_talk():
    chat = start_chat()
    ann = Person(chat.lines[0], "ann")
    bob = Person(chat.lines[0])
    ann.next(f"* {bob.name} joined lobby")
    bob.say("/nick bob")
    ann.next(f"* {bob.name} is bob now")
    bob.next("* you are bob now")
    ann.say("hello")
    bob.next("ann: hello")
    bob.say("hello ann, how are you?")
    ann.next("bob: hello ann, how are you?")  # and no echo of her own line before it
    for number in range(200):
        ann.say(f"line {number}")
    for number in range(200):
        bob.next(f"ann: line {number}")
    chat.stop()


def commands():
    chat = start_chat()
    ann = Person(chat.lines[0], "ann")
    bob = Person(chat.lines[0], "bob")
    ann.expect_match(r"\* \S+ is bob now")
    ann.say("/who")
    ann.next("* in lobby (2): ann, bob")
    ann.say("/join kitchen")
    ann.next("* you joined kitchen")
    bob.next("* ann left lobby (went to kitchen)")
    ann.say("/who")
    ann.next("* in kitchen (1): ann")
    bob.say("/rooms")
    bob.next("* rooms (2): lobby 1, kitchen 1")
    ann.say("does anybody hear me?")
    bob.say("/msg ann in the lobby nobody does")
    bob.next("* sent to ann")
    ann.next("bob (private): in the lobby nobody does")
    bob.say("/msg ANN you are found in any case")
    bob.next("* sent to ann")
    ann.next("bob (private): you are found in any case")
    bob.say("/join Kitchen")  # the same room
    bob.next("* you joined kitchen")
    ann.next("* bob joined kitchen")
    bob.say("/join kitchen")
    bob.next("* you are in kitchen already")
    ann.say("/leave")
    ann.next("* you joined lobby")
    bob.next("* ann left kitchen (went to lobby)")
    bob.say("/leave")
    bob.next("* you joined lobby")
    ann.next("* bob joined lobby")
    ann.say("/rooms")
    ann.next("* rooms (1): lobby 2")  # the kitchen is gone
    ann.say("/help")
    check(ann.stream.line().startswith("* /nick NAME"), "help begins with /nick")
    ann.expect("* anything else is said to everybody in the room")
    ann.say("//help is a command")
    bob.next("ann: /help is a command")
    ann.say("/quit")
    ann.next("* goodbye")
    check_equal(ann.expect_end(), "", "after goodbye")
    bob.next("* ann left lobby (quit)")
    chat.stop()


def refusals():
    chat = start_chat("--max-rooms", "3")
    ann = Person(chat.lines[0], "ann")
    bob = Person(chat.lines[0], "bob")
    ann.expect_match(r"\* \S+ is bob now")
    ann.say("/nick BOB")
    ann.next("* BOB is taken")
    ann.say("/nick Ann")  # her own name, written another way
    ann.next("* you are Ann now")
    bob.next("* ann is Ann now")
    for name in ("", "two words", "*", "ann:", "a" * 25, "a\u200bb", "a\u00a0b"):
        ann.say(f"/nick {name}")
        if name == "two words":  # the first word counts
            ann.expect_match(r"\* you are \S+ now")
            bob.expect_match(r"\* \S+ is \S+ now")
        else:
            ann.next("* a name has 1 to 24 letters, digits, '-' or '_' and no blanks")
    ann.say("/nick \uac00\ub098\ub2e4")
    ann.next("* you are \uac00\ub098\ub2e4 now")
    bob.expect_match(r"\* \S+ is \uac00\ub098\ub2e4 now")
    ann.say("/nick ann")
    ann.next("* you are ann now")
    ann.say("/msg nobody hello")
    ann.next("* nobody is called nobody")
    ann.say("/msg bob")
    ann.next("* usage: /msg NAME TEXT")
    ann.say("/msg")
    ann.next("* usage: /msg NAME TEXT")
    ann.say("/msg \x01* hello")
    ann.next("* nobody has such a name")
    ann.say("/dance")
    ann.next("* no such command: /dance (/help lists them)")
    ann.say("/")
    ann.next("* no such command: / (/help lists them)")
    ann.say("/join " + "r" * 33)
    ann.next("* a room has 1 to 32 letters, digits, '-' or '_' and no blanks")
    ann.say("/join " + "r" * 32)
    ann.next("* you joined " + "r" * 32)
    bob.join("third")
    ann.say("/join fourth")
    ann.next("* there are too many rooms already")
    ann.say("/who")
    ann.next("* in " + "r" * 32 + " (1): ann")
    chat.stop()


def bad_input():
    chat = start_chat()
    ann = Person(chat.lines[0], "ann")
    bob = Person(chat.lines[0], "bob")
    ann.expect_match(r"\* \S+ is bob now")
    ann.send(b"\n\r\n   \n\t\n\x00\n\x1b\n")  # nothing of it is a message
    ann.send(b"\x1b[31mred\x1b]0;title\x07 \x9b2J \xc2\x9b2J\tend\x7f\r\n")
    bob.next("ann: [31mred]0;title ?2J 2J\tend")
    ann.send(b"\xff\xfd\x06 caf\xc3\xa9 \xe2\x82 \xed\xa0\x80 \xf0\x9f\x98\x80 \xc0\xaf\n")
    bob.next("ann: ?? caf\u00e9 ?? ??? \U0001f600 ??")
    ann.send(b"in ")
    ann.send(b"three ")
    ann.send(b"pieces\nand two in one\n")
    bob.next("ann: in three pieces")
    bob.next("ann: and two in one")
    ann.send(bytes(range(256)) * 8 + b"\n")  # garbage, with many a line in it
    ann.say("after the garbage")
    bob.expect("ann: after the garbage")
    chat.stop()


def long_lines():
    chat = start_chat("--line-max", "100")
    ann = Person(chat.lines[0], "ann")
    bob = Person(chat.lines[0], "bob")
    ann.expect_match(r"\* \S+ is bob now")
    bob.say("b" * 100)
    ann.next("bob: " + "b" * 100)
    bob.say("b" * 101)
    bob.next("* that line is longer than 100 bytes")
    check_equal(bob.expect_end(), "", "after the notice")
    bob.close()
    ann.next("* bob left lobby (line too long)")
    cid = Person(chat.lines[0], "cid")
    ann.expect_match(r"\* \S+ is cid now")
    cid.send(b"c" * 100000)  # no end in sight
    cid.expect_end()
    cid.close()
    ann.next("* cid left lobby (line too long)")
    ann.say("/who")
    ann.next("* in lobby (1): ann")
    chat.stop()


def half_close():
    chat = start_chat()
    ann = Person(chat.lines[0], "ann")
    bob = Person(chat.lines[0], "bob")
    ann.expect_match(r"\* \S+ is bob now")
    bob.send(b"last words\n/who\nwithout an end")
    bob.finish_writing()
    ann.next("bob: last words")
    bob.next("* in lobby (2): ann, bob")  # answered, although nothing more comes from bob
    check_equal(bob.expect_end(), "", "after the answer")
    ann.next("* bob left lobby (hung up)")
    chat.stop()


def lost_connection():
    chat = start_chat()
    ann = Person(chat.lines[0], "ann")
    bob = Person(chat.lines[0], "bob")
    ann.expect_match(r"\* \S+ is bob now")
    bob.reset()
    ann.next("* bob left lobby (connection lost)")
    again = Person(chat.lines[0], "bob")  # the name is free again
    again.say("back")
    ann.expect("bob: back")
    chat.stop()


def slow_reader():
    """Somebody who does not read is let go, and the others go on."""
    chat = start_chat()
    ann = Person(chat.lines[0], "ann")
    bob = Person(chat.lines[0], "bob")
    ann.expect_match(r"\* \S+ is bob now")
    lines = (b"x" * 4000 + b"\n") * 100
    for _ in range(200):  # 80 MB: more than any kernel keeps for bob
        ann.send(lines)
        if select.select([ann.socket], [], [], 0)[0]:
            break
    ann.next("* bob left lobby (too slow)")
    bob.close()
    ann.say("/who")
    ann.next("* in lobby (1): ann")  # all that she sent before is dealt with
    cid = Person(chat.lines[0], "cid")
    ann.expect_match(r"\* \S+ is cid now")
    ann.say("still here")
    cid.expect("ann: still here")
    chat.stop()


def rate_limit():
    chat = start_chat("--rate", "5")
    ann = Person(chat.lines[0])
    bob = Person(chat.lines[0])
    ann.expect(f"* {bob.name} joined lobby")
    ann.send(b"".join(b"flood %d\n" % number for number in range(100)))
    ann.expect("* slow down: at most 5 messages a second")
    ann.finish_writing()
    heard = bob.expect(f"* {ann.name} left lobby (hung up)")
    check(4 <= len(heard) < 100, f"{len(heard)} of 100 got through")  # /who was the first of 5
    check_equal(heard[:4], [f"{ann.name}: flood {number}" for number in range(4)])
    chat.stop()


def session_limit():
    chat = start_chat("--max-sessions", "2")
    ann = Person(chat.lines[0])
    bob = Person(chat.lines[0])
    third = connect(chat.lines[0])
    check_equal(Stream(third.fileno(), "the third").rest(), b"", "past --max-sessions")
    bob.close()
    ann.expect(f"* {bob.name} left lobby (hung up)")
    Person(chat.lines[0], "cid")  # there is room again
    chat.stop()


def idle_limit():
    chat = start_chat("--idle", "1")
    ann = Person(chat.lines[0])
    check_equal(ann.expect_end(), "", "before the end")
    chat.stop()


def goodbye():
    for number in {STOP, signal.SIGINT}:
        chat = start_chat()
        people = [Person(chat.lines[0]) for _ in range(10)]
        people[3].join("kitchen")
        chat.send_signal(number)
        for person in people:
            person.expect("* the server is going down, goodbye")
            check_equal(person.expect_end(), "", "after the goodbye")
            person.close()
        output, errors = chat.wait(0)
        check_equal((output, errors), ("", ""), "after the goodbye")


def second_signal_ends_at_once():
    chat = start_chat("--drain", "3600")
    ann = Person(chat.lines[0])
    chat.send_signal(signal.SIGINT)
    ann.expect("* the server is going down, goodbye")
    chat.send_signal(signal.SIGINT)
    chat.wait(0)


if __name__ == "__main__":
    run(two_people_talk, commands, refusals, bad_input, long_lines, half_close, lost_connection,
        slow_reader, rate_limit, session_limit, idle_limit, goodbye, second_signal_ends_at_once)
