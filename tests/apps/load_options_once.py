#!/usr/bin/env python3
"""The command line of iocp-load."""
import os
import pty
import re
import sys
import time

sys.dont_write_bytecode = True
from support import (DEADLINE_S, LeftOut, Stream, check, check_equal, run, start_echo,  # noqa: E402
                     temporary_folder, windows)
from support.peer import start_load  # noqa: E402

ADDRESS = "127.0.0.1:1"


def help_and_version():
    output, errors = start_load("--help").wait(0)
    check(output.startswith("usage: iocp-load ") and errors == "", f"help: {output}")
    for option in ("--protocol", "--connections", "--size", "--depth", "--talkers", "--rate",
                   "--ramp", "--open", "--warmup", "--time", "--messages", "--drain", "--verify",
                   "--slow-percent", "--sources", "--workers", "--backend", "--server-pid",
                   "--json", "--quiet", "--help", "--version"):
        check(f"  {option} " in output, f"help lacks {option}")
    for protocol in ("echo", "framed", "room", "chat", "storm", "idle"):
        check(f"      {protocol} " in output, f"help lacks {protocol}")
    check("coordinated omission" in output, "help does not explain it")
    check(max(map(len, output.split("\n"))) <= 100, "help is too wide")
    output, errors = start_load("--version").wait(0)
    check(re.fullmatch(r"iocp-load \d+\.\d+\.\d+\n", output) and errors == "", f"{output}")


# What is refused, and a part of the one line that says why.
REFUSED = [
    ([], "which ADDRESS?"),
    ([ADDRESS, "more"], 'unexpected argument "more"'),
    (["nowhere"], 'ADDRESS: "nowhere" is not an address'),
    (["none"], '"none" is not an address to connect to'),
    (["--connections", "0", ADDRESS], '--connections: "0" is not between 1 and 1000000'),
    (["--connections", "ten", ADDRESS], '--connections: "ten" is not a number'),
    (["--size", "-1", ADDRESS], '--size: "-1" is not a number'),
    (["--time", "0", ADDRESS], '--time: "0" is not between 0.001 and 86400 seconds'),
    (["--time", "1s", ADDRESS], '--time: "1s" is not a number of seconds'),
    (["--ramp", "0x1", ADDRESS], '--ramp: "0x1" is not a number of seconds'),
    (["--warmup", "", ADDRESS], '--warmup: "" is not a number of seconds'),
    (["--drain", "86401", ADDRESS], "--drain: "),
    (["--protocol", "http", ADDRESS], '--protocol: "http" is none: write echo, framed, room'),
    (["--protocol", "room", "--size", "23", ADDRESS], "--protocol room a payload has 24 to"),
    (["--protocol", "chat", "--size", "16385", ADDRESS], "a payload has 24 to 16384 bytes"),
    (["--talkers", "2", ADDRESS], "with --protocol echo all connections talk"),
    (["--protocol", "room", "--talkers", "51", ADDRESS], "51 of 50 connections cannot talk"),
    (["--protocol", "storm", "--depth", "2", ADDRESS], "a connection sends one message"),
    (["--protocol", "idle", "--rate", "2", ADDRESS], "a connection sends one message"),
    (["--protocol", "idle", "--messages", "2", ADDRESS], "--messages: not with --protocol idle"),
    (["--protocol", "idle", "--warmup", "2", ADDRESS], "--warmup: not with --protocol idle"),
    (["--protocol", "room", "--slow-percent", "2", ADDRESS], "--slow-percent: not with"),
    (["--connections", "1000000", "--depth", "65536", ADDRESS], "messages in flight on all"),
    (["--protocol", "room", "--connections", "1000000", "--talkers", "1000000", ADDRESS],
     "pairs of talker and listener"),
    (["--sources", "2", "[::1]:1"], "--sources: only to an address of this machine"),
    (["--backend", "kqueue", ADDRESS], '"kqueue" is not a backend'),
    (["--server-pid", str(2 ** 31 - 1), ADDRESS], "--server-pid: "),
    (["--no-such", ADDRESS], "--no-such is no option"),
    (["--size"], "--size requires an argument"),
]


def refused():
    for arguments, reason in REFUSED:
        output, errors = start_load(*arguments).wait(2)
        check(reason in errors and errors.startswith("iocp-load: "), f"{arguments}: {errors!r}")
        check_equal((output, errors.count("\n")), ("", 1), f"{arguments}")


def no_place_for_json():
    echo = start_echo()
    with temporary_folder() as folder:
        path = os.path.join(folder, "missing", "figures")
        output, errors = start_load("--messages", 1, "--json", path, echo.address).wait(1)
    check("cannot write" in errors and "no errors" in output, f"{output} {errors}")
    echo.stop()


def progress_on_a_terminal():
    if windows:
        raise LeftOut("a terminal: Wine has consoles of its own")
    echo = start_echo()
    ours, theirs = pty.openpty()
    load = start_load("--time", 3600, echo.address, terminal=theirs)
    os.close(theirs)
    shown = Stream(ours, "the terminal")
    deadline = time.monotonic() + DEADLINE_S
    while not re.search(rb"\rmeasuring: 50 open, [1-9]\d* messages/s, p50 \S+ \S+, p99 \S+ \S+, "
                        rb"errors 0 *\r", shown.bytes):
        check(shown.fill(deadline), f"the end came after {shown.bytes}")
    load.send_signal()
    check("no errors" in load.wait(0)[0], "the report")
    os.close(ours)
    echo.stop()


if __name__ == "__main__":
    run(help_and_version, refused, no_place_for_json, progress_on_a_terminal)
