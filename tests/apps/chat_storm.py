#!/usr/bin/env python3
"""iocp-chat with 300 people who all talk while half of them are cut off: between those who stay
nothing is lost or out of order, and at the end the server knows exactly who is there."""
import random
import sys

sys.dont_write_bytecode = True
from support import Person, check_equal, run, start_chat  # noqa: E402
from support.crowd import (Talker, check_who_is_there, read_until,  # noqa: E402
                           read_until_all_heard)

PEOPLE, ROOMS, ROUNDS = 300, 6, 8


def storm():
    source = random.Random(300)
    chat = start_chat("--workers", "4")
    talkers = [Talker(chat.lines[0], number, ROOMS) for number in range(PEOPLE)]
    victims = source.sample(talkers, PEOPLE // 2)
    stay = [talker for talker in talkers if talker not in victims]
    cut = {talker.name: talker.room for talker in victims}
    for _ in range(ROUNDS):
        for talker in stay + victims:
            talker.count()
        for _ in range(min(len(victims), PEOPLE // 2 // (ROUNDS - 1) + 1)):
            victims.pop().reset()  # with all that it has not read
        read_until_all_heard(stay)
    check_equal(len(victims), 0, "victims left")
    read_until(stay, lambda talker: talker.gone >= {
        name for name, room in cut.items() if room == talker.room})
    check_who_is_there(stay)
    newcomer = Person(chat.lines[0], "newcomer")
    newcomer.say("/rooms")
    newcomer.expect_match(rf"\* rooms \({ROOMS + 1}\): lobby 1, .*")
    for talker in stay:
        talker.close()
    chat.stop()


if __name__ == "__main__":
    run(storm)
