#!/usr/bin/env python3
"""The examples do what their first comment says."""
import random
import re
import signal
import socket
import sys
import threading

sys.dont_write_bytecode = True
from support import (DEADLINE_S, Program, Stream, check, check_equal, connect,  # noqa: E402
                     free_address, path_for_programs, run, start_chat, start_echo, temporary_folder)

ATTEMPTS = 500  # of connecting to a program that is starting


def start(name, *arguments):
    """An example that listens on its first argument, and a first connection to it."""
    program = Program(f"example-{name}", *arguments)
    connection = connect(arguments[0], ATTEMPTS)
    return program, connection


def end(program):
    """These run until they are killed."""
    check(program.process.poll() is None, f"{program.name} has ended")
    program.stop(signal.SIGKILL, -9)


def exchange(connection, data, read_size=1 << 16):
    """Sends and reads at once; checks that the same comes back."""
    received = bytearray()
    sent = 0
    connection.settimeout(DEADLINE_S)
    while len(received) < len(data):
        if sent < len(data):
            sent += connection.send(data[sent:sent + (1 << 15)])
        # Reads less than it sends, then all the rest: a slow reader.
        piece = connection.recv(read_size if sent < len(data) else 1 << 16)
        check(piece, f"the end came after {len(received)} of {len(data)}")
        received += piece
    check(received == data, "other bytes came back")


def read_all(address):
    """What a new connection gives until its end, which may be a reset."""
    try:
        with connect(address) as connection:
            return Stream(connection.fileno(), "the client").rest()
    except ConnectionResetError:
        return b""


def echo():
    program, connection = start("echo", free_address())
    exchange(connection, random.Random(1).randbytes(1 << 20))
    end(program)


def chat():
    address = free_address()
    program, first = start("chat", address)
    ann = Stream(first.fileno(), "ann")
    check(re.fullmatch(r"\d+ came in", ann.line()), "that ann is in")
    second = connect(address)
    bob = Stream(second.fileno(), "bob")
    number = re.fullmatch(r"(\d+) came in", ann.line()).group(1)
    check_equal(bob.line(), f"{number} came in")
    second.sendall(b"hello\nand two\r\n")
    check_equal(ann.line(), f"{number}: hello")
    check_equal(ann.line(), f"{number}: and two")
    first.sendall(b"hello yourself\n")
    check(re.fullmatch(r"\d+: hello yourself", bob.line()), "the answer")
    second.close()
    check(re.fullmatch(rf"{number} is gone: .+", ann.line()), "that somebody is gone")
    end(program)


def wrong_address():
    for name in ("echo", "chat", "client", "proxy"):
        output, errors = Program(f"example-{name}", "nowhere").wait(1)
        check_equal((output, errors), ("", f"{name}: invalid argument\n"), name)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "127.0.0.1:%d" % listener.getsockname()[1]
        for name in ("echo", "chat", "proxy"):
            errors = Program(f"example-{name}", address).wait(1)[1]
            check_equal(errors, f"{name}: address already in use\n")


def client():
    server = start_chat()
    client_program = Program("example-client", server.lines[0], "/nick ann")
    output = client_program.output
    check(output.line().startswith("* welcome"), "the first line is the welcome")
    check_equal(output.line(), "* you are ann now")
    client_program.write("/who\n")
    check_equal(output.line(), "* in lobby (1): ann")
    client_program.close_input()
    output, errors = client_program.wait(0)
    check_equal((output, errors), ("", ""), "after the end of its input")
    server.stop()


def client_prints_answers_after_its_input():
    server = start_chat()
    client_program = Program("example-client", server.lines[0])
    output = client_program.output
    check(output.line().startswith("* welcome"), "the first line is the welcome")
    client_program.write("/nick ann\n" + "/who\n" * 1000)
    client_program.close_input()
    check_equal(output.line(), "* you are ann now")
    for _ in range(1000):
        check_equal(output.line(), "* in lobby (1): ann")
    client_program.wait(0)  # the server has closed
    server.stop()


def client_waits_for_the_server():
    """It has ended its side; what the server says then is printed, until that closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        client_program = Program("example-client", "127.0.0.1:%d" % listener.getsockname()[1])
        client_program.write("question\n")
        client_program.close_input()
        connection = listener.accept()[0]
        connection.settimeout(DEADLINE_S)
        check_equal(Stream(connection.fileno(), "the server").rest(), b"question\n")
        for number in range(3):
            connection.sendall(b"answer %d\n" % number)
            check_equal(client_program.output.line(), f"answer {number}")
        check(client_program.process.poll() is None, "the client has not waited")
        connection.close()
        check_equal(client_program.wait(0), ("", ""))


def client_reconnects():
    address = free_address()
    client_program = Program("example-client", address, "/nick ann")
    check_equal(client_program.errors.line(), "client: cannot connect: connection refused")
    for _ in range(2):
        server = start_chat(listen=address)
        output = client_program.output
        check(output.line().startswith("* welcome"), "the welcome")
        check_equal(output.line(), "* you are ann now")
        client_program.write("/who\n")
        check_equal(output.line(), "* in lobby (1): ann")
        server.send_signal()
        check_equal(output.line(), "* the server is going down, goodbye")
        server.wait(0)
    client_program.close_input()
    client_program.wait(0)


def proxy_relays():
    server = start_echo()
    address = free_address()
    program, connection = start("proxy", address, server.address)
    exchange(connection, random.Random(1).randbytes(8 << 20))
    exchange(connection, random.Random(2).randbytes(4 << 20), read_size=1000)
    others = [connect(address) for _ in range(50)]
    for number, other in enumerate(others):
        other.sendall(b"%d" % number * 100)
    for number, other in enumerate(others):
        expected = b"%d" % number * 100
        check_equal(other.recv(len(expected), socket.MSG_WAITALL), expected)
        other.close()
    server.stop()  # the target goes away: so do its connections
    check_equal(Stream(connection.fileno(), "the client").rest(), b"", "after the target's end")
    check_equal(read_all(address), b"", "without a target")
    check_equal(program.errors.line(), "proxy: cannot connect: connection refused")
    end(program)


def proxy_half_closes():
    """A client that ends its side at once gets all that an echo server sends back."""
    server = start_echo()
    program, connection = start("proxy", free_address(), server.address)
    data = random.Random(3).randbytes(4 << 20)
    connection.settimeout(DEADLINE_S)
    sender = threading.Thread(target=lambda: (connection.sendall(data),
                                              connection.shutdown(socket.SHUT_WR)))
    sender.start()
    received = Stream(connection.fileno(), "the client").rest()
    sender.join()
    check(received == data, f"{len(received)} bytes came back, of {len(data)}")
    end(program)
    server.stop()


def proxy_passes_each_end_on():
    """The target sees the end of the client, and then still answers; and the other way round."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        address = free_address()
        program, connection = start("proxy", address,
                                    "127.0.0.1:%d" % listener.getsockname()[1])
        for client_first in (True, False):
            target = listener.accept()[0]
            first, second = (connection, target) if client_first else (target, connection)
            first.sendall(b"all")
            first.shutdown(socket.SHUT_WR)
            check_equal(Stream(second.fileno(), "the second").rest(), b"all")
            for piece in (b"some", b"more"):
                second.sendall(piece)
                check_equal(first.recv(4, socket.MSG_WAITALL), piece)
            second.shutdown(socket.SHUT_WR)
            check_equal(Stream(first.fileno(), "the first").rest(), b"")
            connection = connect(address)
        end(program)


def proxy_back_pressure():
    """A target that sends for ever to a client that does not read is slowed down."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        program, connection = start("proxy", free_address(),
                                    "127.0.0.1:%d" % listener.getsockname()[1])
        target = listener.accept()[0]
        target.settimeout(1)
        sent, piece = 0, b"x" * (1 << 16)
        try:
            while sent < 64 << 20:
                sent += target.send(piece)
        except TimeoutError:
            pass
        check(sent < 64 << 20, "the proxy takes everything and never waits")
        target.close()  # what it sent is delivered all the same
        check_equal(len(Stream(connection.fileno(), "the client").rest()), sent, "bytes delivered")
        end(program)


def port_counts_lines():
    """More pieces than are in flight together, and an end in the middle of one."""
    with temporary_folder() as folder:
        path = f"{folder}/lines"
        with open(path, "w", encoding="ascii") as file:
            file.write("".join(f"line {i}\n" for i in range(123456)))
        output, errors = Program("example-port", path_for_programs(path)).wait(0)
    check(re.fullmatch(r"123456 lines, read on (uring|epoll|windows)\n", output), f"output {output!r}")
    check_equal(errors, "")


if __name__ == "__main__":
    run(echo, chat, wrong_address, client, client_prints_answers_after_its_input,
        client_waits_for_the_server, client_reconnects, proxy_relays, proxy_half_closes,
        proxy_passes_each_end_on, proxy_back_pressure, port_counts_lines)
