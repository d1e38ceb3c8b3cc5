#!/usr/bin/env python3
"""The programs on Windows end as the console tells them to: each kind of event the first time drains,
the second time ends at once."""
import json
import sys

sys.dont_write_bytecode = True
from support import Person, check, check_equal, connect, run, start_chat, start_echo  # noqa: E402


def each_event_drains():
    for event in ("ctrl-c", "ctrl-break", "close", "logoff", "shutdown"):
        chat = start_chat("--stats", console=True)
        ann = Person(chat.lines[0])
        chat.write(f"{event}\n")
        ann.expect("* the server is going down, goodbye")
        check_equal(ann.expect_end(), "", f"after the goodbye for {event}")
        ann.close()
        chat.close_input()
        output, errors = chat.wait(0)
        check_equal(errors, "", f"errors after {event}")
        stats = json.loads(output)  # it has ended in order: the report comes last
        check_equal((stats["service"]["closed"], stats["memory_left"]), (1, 0),
                    f"sessions closed, and memory left after {event}")


def a_second_event_ends_at_once():
    # Nothing can follow a close: its handler does not return, and the system runs one at a time.
    for first, second in (("ctrl-c", "ctrl-c"), ("ctrl-break", "ctrl-c"), ("ctrl-c", "close")):
        chat = start_chat("--drain", "3600", "--stats", console=True)
        ann = Person(chat.lines[0])
        chat.write(f"{first}\n")
        ann.expect("* the server is going down, goodbye")  # and stays connected
        chat.write(f"{second}\n")
        chat.close_input()
        check_equal(chat.wait(0), ("", ""), f"after {first} and {second}")


def echo_sends_back_what_it_has():
    echo = start_echo("--stats", console=True)
    connection = connect(echo.address)
    connection.sendall(b"hello")
    check_equal(connection.recv(5), b"hello")
    echo.write("close\n")
    check_equal(connection.recv(1), b"", "after the event")
    connection.close()
    echo.close_input()
    check(json.loads(echo.wait(0)[0])["service"]["bytes_sent"] == 5, "bytes sent")


if __name__ == "__main__":
    run(each_event_drains, a_second_event_ends_at_once, echo_sends_back_what_it_has)
