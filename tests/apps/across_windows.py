#!/usr/bin/env python3
"""Programs for Windows and for Linux talk to each other."""
import random
import shutil
import socket
import subprocess
import sys

sys.dont_write_bytecode = True
from support import (DEADLINE_S, LinuxProgram, Person, Program, Skip, Stream, check,  # noqa: E402
                     check_equal, connect, free_address, run, start_chat, start_echo)


def nc_at_a_windows_server():
    if not shutil.which("nc"):
        raise Skip("nc is not installed")
    chat = start_chat()
    ann = Person(chat.lines[0], "ann")
    host, port = chat.lines[0].rsplit(":", 1)
    said = subprocess.run(["nc", "-N", host, port], input=b"/nick bob\nhello from nc\n/who\n",
                          timeout=DEADLINE_S, capture_output=True, check=True)
    check(said.stdout.endswith(b"* you are bob now\n* in lobby (2): ann, bob\n"), f"{said}")
    ann.expect("bob: hello from nc", "* bob left lobby (hung up)")
    chat.stop()


def talk(chat, kinds):
    """A client of each kind at one server: both hear each other."""
    ann, bob = (kind("example-client", chat.lines[0], f"/nick {name}")
                for kind, name in zip(kinds, ("ann", "bob")))
    for client, name in ((ann, "ann"), (bob, "bob")):
        check(client.output.line().startswith("* welcome, "), f"the welcome of {name}")
    for number in range(50):
        for speaker, hearer, name in ((ann, bob, "ann"), (bob, ann, "bob")):
            speaker.write(f"line {number}\n")
            while (line := hearer.output.line()) != f"{name}: line {number}":
                check(line is not None and line.startswith("* "), f"{name}'s line: {line!r}")
    for client in (ann, bob):
        client.close_input()
        check_equal(client.wait(0)[1], "", "errors")
    chat.stop()


def clients_of_both_at_a_windows_server():
    talk(start_chat(), (LinuxProgram, Program))


def clients_of_both_at_a_linux_server():
    talk(start_chat(kind=LinuxProgram), (Program, LinuxProgram))


def a_windows_proxy_before_a_linux_server():
    echo = start_echo(kind=LinuxProgram)
    address = free_address()
    Program("example-proxy", address, echo.address)
    data = random.Random(4).randbytes(300000)  # less than the proxy and the server hold
    with connect(address, attempts=500) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = Stream(connection.fileno(), "the client").rest()
    check(received == data, f"{len(received)} of {len(data)} bytes came back")
    echo.stop()


if __name__ == "__main__":
    run(nc_at_a_windows_server, clients_of_both_at_a_windows_server,
        clients_of_both_at_a_linux_server, a_windows_proxy_before_a_linux_server)
