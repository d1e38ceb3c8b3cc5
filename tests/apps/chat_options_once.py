#!/usr/bin/env python3
"""The command lines of iocp-chat and iocp-echo, and where they listen."""
import json
import os
import pty
import re
import socket
import sys
import time

sys.dont_write_bytecode = True
from support import (DEADLINE_S, LeftOut, Person, Program, Skip, Stream, check,  # noqa: E402
                     check_equal, connect, free_address, run, start_chat, start_echo,
                     temporary_folder, windows, wine_differs)

# What --backend and IOCP_BACKEND take: all that works here.
BACKENDS = r"windows or auto" if windows else r"(uring, epoll|epoll) or auto"


def address_in(folder, name):
    """A free address, known before somebody listens there."""
    return free_address() if windows else "unix:" + os.path.join(folder, name)


def help_and_version():
    for name in ("iocp-chat", "iocp-echo"):
        output, errors = Program(name, "--help").wait(0)
        check(output.startswith(f"usage: {name} ") and errors == "", f"help of {name}: {output}")
        for option in ("--listen", "--workers", "--concurrency", "--backend", "--max-sessions",
                       "--drain", "--stats", "--help", "--version"):
            check(option in output, f"help of {name} lacks {option}")
        check(max(map(len, output.split("\n"))) <= 100, f"help of {name} is too wide")
        check(re.search(f"--backend NAME +{BACKENDS} ", output), f"backends in the help of {name}")
        output, errors = Program(name, "--version").wait(0)
        check_equal((output.split()[0], errors), (name, ""), "version")
        check(output.split()[1].count(".") == 2, f"version {output}")
    chat = Program("iocp-chat", "--help").wait(0)[0]
    for option in ("--packet-listen", "--max-rooms", "--idle", "--line-max", "--rate", "--quiet"):
        check(option in chat, f"help lacks {option}")


def bad_options():
    for name in ("iocp-chat", "iocp-echo"):
        for arguments, part in (
                (["--listen", "abc"], '--listen: "abc" is not an address: '),
                (["--listen", "127.0.0.1:70000"], "is not an address"),
                (["--listen", ""], "is not an address"),
                (["--workers", "-1"], '--workers: "-1" is not a number'),
                (["--workers", "2x"], "is not a number"),
                (["--workers", "99999999999999999999"], "is not between 0 and 1024"),
                (["--max-sessions", "0"], "is not between 1 and 16777216"),
                (["--backend", "kqueue"], '--backend: "kqueue" is not a backend'),
                (["--nonsense"], "--nonsense is no option"),
                (["--workers"], "--workers requires an argument"),
                (["--stats=1"], "--stats=1 is no option, or one that takes no argument"),
                (["extra"], 'unexpected argument "extra"')):
            output, errors = Program(name, *arguments).wait(2)
            check_equal(output, "", f"output for {arguments}")
            check(errors.startswith(f"{name}: ") and part in errors, f"{arguments}: {errors}")
            check_equal(errors.count("\n"), 1, f"lines of {errors!r}")
        errors = Program(name, "--backend", "kqueue").wait(2)[1]
        check(re.search(f" is not a backend: write {BACKENDS}\n$", errors), errors)
    errors = Program("iocp-chat", *["--listen", "127.0.0.1:0"] * 17).wait(2)[1]
    check_equal(errors, "iocp-chat: --listen: more than 16 addresses\n")


def bad_environment():
    output, errors = Program("iocp-echo", forced="kqueue").wait(1)
    check_equal(output, "")
    check(re.fullmatch(f'iocp-echo: IOCP_BACKEND: "kqueue" is not a backend: set {BACKENDS}\n',
                       errors), errors)


def backend_of_another_system():
    name = "epoll" if windows else "windows"
    output, errors = Program("iocp-echo", "--backend", name).wait(1)
    check_equal((output, errors), ("", "iocp-echo: cannot start: not supported here: "
                                       "not a backend of this system\n"))


def port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "127.0.0.1:%d" % listener.getsockname()[1]
        for name in ("iocp-chat", "iocp-echo"):
            output, errors = Program(name, "--listen", address).wait(1)
            check_equal((output, errors),
                        ("", f"{name}: cannot listen on {address}: address already in use\n"))


def no_io_uring():
    if windows:
        raise LeftOut("io_uring is of Linux")
    errors = Program("iocp-echo", "--backend", "uring", denied=True).wait(1)[1]
    check(errors.startswith("iocp-echo: cannot start: not supported here: "), errors)
    check("io_uring_setup" in errors and errors.count("\n") == 1, errors)
    chat = Program("iocp-chat", "--listen", "127.0.0.1:0", "--packet-listen", "none", denied=True)
    line = chat.errors.line()
    check(line.startswith("iocp-chat ") and " on epoll (io_uring_setup: " in line, line)
    chat.stop()


def several_families():
    with temporary_folder() as folder:
        path = os.path.join(folder, "chat")
        listen = ["--listen", "127.0.0.1:0", "--listen", "[::1]:0"]
        with_unix = not wine_differs("AF_UNIX: programs listen on Unix sockets")
        if with_unix:
            listen += ["--listen", f"unix:{path}"]
        chat = Program("iocp-chat", *listen, "--packet-listen", "none", "--workers", "1")
        line = chat.errors.line()
        check(", 1 worker, concurrency " in line, line)
        addresses = []
        for _ in range(len(listen) // 2):
            line = chat.errors.line()
            if line and "cannot listen on [::1]:0" in line:
                raise Skip(line)
            check(line and line.startswith("lines   "), f"not an address: {line}")
            addresses.append(line.split()[1])
        check(addresses[1].startswith("[::1]:"), f"IPv6: {addresses}")
        if with_unix:
            check_equal(addresses[2], f"unix:{path}", "Unix")
        people = [Person(address) for address in addresses]
        for person in people:
            person.say("/nick tester")
            person.expect("* you are tester now")
            person.say("from everywhere")
            for other in people:
                if other is not person:
                    other.expect("tester: from everywhere")
            person.say("/nick " + person.name)
            person.expect(f"* you are {person.name} now")
        people.clear()
        chat.stop()


def both_families_on_one_port():
    echo = start_echo(listen="*:0")
    port = echo.address.rsplit(":", 1)[1]
    for host in ("127.0.0.1", "[::1]"):
        with connect(f"{host}:{port}") as connection:
            connection.sendall(b"hello")
            check_equal(connection.recv(5, socket.MSG_WAITALL), b"hello", f"from {host}")
    echo.stop()


def unix_path_again():
    if wine_differs("AF_UNIX: a program can listen on the path that a killed one left behind"):
        return
    with temporary_folder() as folder:
        address = "unix:" + os.path.join(folder, "echo")
        # On epoll: of a killed program with io_uring the kernel closes the sockets a while after
        # its end (Linux 6.18), and until then they are in use.
        first = start_echo("--backend", "epoll", listen=address)
        errors = Program("iocp-echo", "--listen", address).wait(1)[1]
        check("address already in use" in errors, errors)
        first.process.kill()  # leaves the path behind
        first.wait(-9)
        second = start_echo(listen=address)
        with connect(address) as connection:
            connection.sendall(b"hello")
            check_equal(connection.recv(5, socket.MSG_WAITALL), b"hello")
        second.stop()


def quiet_and_stats():
    with temporary_folder() as folder:
        address = address_in(folder, "chat")
        chat = Program("iocp-chat", "--listen", address, "--packet-listen", "none", "--quiet",
                       "--stats")
        with connect(address, attempts=500) as connection:
            check(connection.recv(1) == b"*", "no welcome")
        output, errors = chat.stop()
        check_equal(errors, "", "errors of a quiet server")
        check_equal(output.count("\n"), 1, "lines of stats")
        stats = json.loads(output)
        check_equal((stats["program"], stats["service"]["accepted"]), ("iocp-chat", 1))
        check_equal(stats["memory_left"], 0, "blocks of memory left at the end")


def shown(screen):
    """What is on a terminal as text. Wine draws it a cell at a time: of its sequences, those that go
    one cell on stand for a blank."""
    return re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", screen.bytes.replace(b"\x1b[1C", b" "))


def status_line():
    """On a terminal, and there alone, a line of numbers is written again and again."""
    with temporary_folder() as folder:
        address = address_in(folder, "chat")
        ours, its = pty.openpty()
        chat = Program("iocp-chat", "--listen", address, "--packet-listen", "none", terminal=its)
        os.close(its)
        screen = Stream(ours, "the terminal")
        ann = Person(address, attempts=500)
        deadline = time.monotonic() + DEADLINE_S
        pattern = rb"\rsessions 1, rooms 1, in \d+/s, out \d+/s, \w+, workers \d+, \d+ KiB"
        while len(re.findall(pattern, shown(screen))) < 2:
            screen.fill(deadline)
        check(shown(screen).startswith(b"iocp-chat "), f"the first line of {shown(screen)}")
        ann.say("/quit")
        ann.expect("* goodbye")
        ann.close()
        # Shorter ones cover all of the longer ones before.
        while not re.search(rb"\rsessions 0, [^\r]* *\r", shown(screen)):
            screen.fill(deadline)
        lengths = [len(line) for line in re.findall(rb"\r(sessions [^\r]*)(?=\r)", shown(screen))]
        for before, after in zip(lengths, lengths[1:]):
            check(after >= min(before, len(b"sessions ")), f"lengths of the lines: {lengths}")
        chat.send_signal()
        while not screen.bytes.endswith(b"\r\n"):  # the line is ended
            screen.fill(deadline)
        chat.wait(0)
        os.close(ours)


def listens_on_packets_only():
    chat = start_chat(listen="none", packets="127.0.0.1:0")
    check_equal(chat.lines, [], "lines")
    chat.stop()


if __name__ == "__main__":
    run(help_and_version, bad_options, bad_environment, backend_of_another_system, port_in_use,
        no_io_uring, several_families, both_families_on_one_port, unix_path_again, quiet_and_stats, status_line,
        listens_on_packets_only)
