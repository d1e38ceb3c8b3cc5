#!/usr/bin/env python3
"""iocp-chat for a while with 200 people who talk, 100 of whom stay. The others are killed, wave by
wave: half of them reset their connections, half are in processes that get SIGKILL, none reads what
it was sent. Those who stay miss nothing, and in the end the server has answered every operation and
given everything back.

    tests/apps/chat_soak.py BUILD/bin [SECONDS]

By itself it lasts a few seconds; SECONDS may be an hour's.
"""
import json
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from support import STOP, check, check_equal, run, start_chat, talkers  # noqa: E402
from support.crowd import (Talker, check_who_is_there, read_until,  # noqa: E402
                           read_until_all_heard)

STAY, RESET, KILLED, PROCESSES, ROOMS, ROUNDS = 100, 50, 50, 5, 10, 5
SECONDS = 5


class Victims:
    """A process with a few people in it, who count whenever it is told to."""

    def __init__(self, address, first, count):
        self.people = {f"p{number}": f"room{number % ROOMS}"
                       for number in range(first, first + count)}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "victims", address, str(first), str(count)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def wait_ready(self):
        check_equal(self.process.stdout.readline(), b"ready\n", "first line of the victims")

    def count(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def be_victims(address, first, count):
    """What such a process does."""
    people = [Talker(address, number, ROOMS) for number in range(first, first + count)]
    print("ready", flush=True)
    for _ in sys.stdin:
        for talker in people:
            talker.count()


def wave(address, stay, first):
    """Lets victims in, talks with them, kills them; returns their number."""
    killed = [Victims(address, first + RESET + i * (KILLED // PROCESSES), KILLED // PROCESSES)
              for i in range(PROCESSES)]
    try:
        reset = [Talker(address, first + i, ROOMS) for i in range(RESET)]
        cut = {talker.name: talker.room for talker in reset}
        for victims in killed:
            victims.wait_ready()
            cut.update(victims.people)
        for _ in range(ROUNDS):
            for talker in stay + reset + killed:
                talker.count()
            killed.pop().kill()
            for _ in range(RESET // ROUNDS):
                talker = reset.pop()
                talkers.remove(talker.socket)
                talker.reset()
            read_until_all_heard(stay)
        check_equal((len(reset), len(killed)), (0, 0), "victims left")
    finally:
        for victims in killed:
            victims.kill()
    read_until(stay, lambda talker: talker.gone >= {
        name for name, room in cut.items() if room == talker.room})
    for talker in stay:
        talker.gone.clear()
    return len(cut)


def soak():
    deadline = time.monotonic() + (float(sys.argv[2]) if len(sys.argv) > 2 else SECONDS)
    chat = start_chat("--stats", "--workers", "4")
    stay = [Talker(chat.lines[0], number, ROOMS) for number in range(STAY)]
    people = STAY
    waves = 0
    while waves == 0 or time.monotonic() < deadline:
        people += wave(chat.lines[0], stay, people)
        waves += 1
    check_who_is_there(stay)
    # It ends while all who stayed are connected, and says goodbye to each.
    chat.send_signal(STOP)
    for talker in stay:
        talker.expect("* the server is going down, goodbye")
        check_equal(talker.expect_end(), "", f"after the goodbye to {talker.name}")
        talker.close()
    check_stats(json.loads(chat.wait(0)[0]), people)
    print(f"      {waves} waves, {people} people, {people - STAY} of them killed")


def check_stats(stats, people):
    service, port = stats["service"], stats["port"]
    for name, expected in (("accepted", people), ("closed", people), ("sessions", 0),
                           ("sessions_peak", STAY + RESET + KILLED), ("refused", 0),
                           ("accept_failures", 0), ("messages_dropped", 0)):
        check_equal(service[name], expected, name)
    # An object lives until its last operation was answered, and the record of an operation until its
    # packet was seen; each is memory of the library's. (port["objects"] is counted before that: what
    # the workers left open is closed as the port ends.)
    check_equal((port["running"], stats["memory_left"]), (0, 0), "handlers and blocks of memory left")
    # Each operation has a packet, a stream one for each connection or piece of data besides.
    check(port["packets"] >= port["submits"] + people, f"packets and submits in {port}")


if __name__ == "__main__":
    if sys.argv[1] == "victims":
        be_victims(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        run(soak)
