"""What the tests of the programs share: starting a program, talking to it, ending it.

A test is a script: argv[1] is the folder of the programs, TEST_BACKEND the backend to run on
(uring, epoll, uring-denied, windows). With TEST_LAUNCHER, tools/wine-run, the programs are those for
Windows, started by it; the script and its connections are Linux's all the same. Nothing here sleeps
for a fixed time: everything waits for a text, an end of a stream or an end of a process, up to a
deadline.
"""
import contextlib
import ctypes
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

DEADLINE_S = 20
SKIPPED = 77

programs_folder = sys.argv[1] if len(sys.argv) > 1 else "build/bin"
backend = os.environ.get("TEST_BACKEND", "")
launcher = os.environ.get("TEST_LAUNCHER", "")
windows = launcher != ""
# How a program is told to stop. Wine turns SIGINT into a Ctrl-C, on the way that those of Windows take;
# a SIGTERM it takes for itself.
STOP = signal.SIGINT if windows else signal.SIGTERM
started = []
talkers = []  # sockets of people and programs at the chat


class Failure(Exception):
    pass


class Skip(Exception):
    """What the test needs is missing here, and should not be."""


class LeftOut(Exception):
    """The test is about something that this system does not have."""


def check(condition, message):
    if not condition:
        raise Failure(message[:4000])


def check_equal(found, expected, what="value"):
    check(found == expected, f"{what}: {found!r}, expected {expected!r}")


def wine_differs(behaviour):
    """False, but under Wine: there it says that the test leaves a check out, and which behaviour of
    Windows that is about. tools/run-tests repeats all of these at its end."""
    if windows:
        print(f"WINE: {sys._getframe(1).f_code.co_name}: {behaviour}")
    return windows


# ---- a kernel that forbids io_uring, as containers do

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
IO_URING_SETUP, EPERM = 425, 1  # the number is the same on every architecture that matters


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


libc = ctypes.CDLL(None, use_errno=True)
deny_instructions = b"".join(struct.pack("=HBBI", *instruction) for instruction in [
    (0x20, 0, 0, 0),               # load the number of the system call
    (0x15, 0, 1, IO_URING_SETUP),  # is it this one?
    (0x06, 0, 0, 0x00050000 | EPERM),
    (0x06, 0, 0, 0x7fff0000),      # allow
])
deny_filter = Filter(4, deny_instructions)


def deny_uring():
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(deny_filter), 0, 0) != 0:
        os._exit(SKIPPED)


# ---- streams that are read until a text comes

class Stream:
    """Bytes from a descriptor, by lines or by size. With `text` the lines of Windows become ours."""

    def __init__(self, descriptor, name, text=False):
        self.descriptor = descriptor
        self.name = name
        self.text = text
        self.bytes = b""
        self.total = 0  # bytes that came
        self.ended = False

    def fill(self, deadline):
        """Reads once; false at the end of the stream."""
        if self.ended:
            return False
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self.descriptor], [], [], left)[0]:
            raise Failure(f"{self.name}: nothing more came, and {self.bytes[-2000:]!r} is waiting")
        try:
            piece = os.read(self.descriptor, 1 << 16)
        except ConnectionResetError:
            piece = b""
        self.bytes += piece
        self.total += len(piece)
        if self.text:
            self.bytes = self.bytes.replace(b"\r\n", b"\n")
        self.ended = piece == b""
        return not self.ended

    def line(self):
        """The next line without its end, or None at the end of the stream."""
        deadline = time.monotonic() + DEADLINE_S
        while b"\n" not in self.bytes:
            if not self.fill(deadline):
                return None
        line, self.bytes = self.bytes.split(b"\n", 1)
        return line.decode()

    def exactly(self, size):
        """So many bytes, or None when the stream ends before."""
        deadline = time.monotonic() + DEADLINE_S
        while len(self.bytes) < size:
            if not self.fill(deadline):
                return None
        taken, self.bytes = self.bytes[:size], self.bytes[size:]
        return taken

    def rest(self):
        """All until the end of the stream, as long as something comes."""
        pieces = []
        while self.fill(time.monotonic() + DEADLINE_S):
            if not self.bytes.endswith(b"\r"):  # half of what `text` makes one
                pieces.append(self.bytes)
                self.bytes = b""
        pieces.append(self.bytes)
        self.bytes = b""
        return b"".join(pieces)


# ---- programs

def program_path(name):
    path = os.path.join(programs_folder, name + (".exe" if windows else ""))
    check(os.path.exists(path), f"{path} is missing")
    return path


def path_for_programs(path):
    """A path of ours as the programs know it."""
    return "Z:" + os.path.abspath(path).replace("/", "\\") if windows else path


class Program:
    backend = backend
    stop_signal = STOP
    text = windows  # its lines are to be made ours

    def __init__(self, name, *arguments, denied=None, terminal=None, forced=None, console=False):
        self.name = name
        denied = backend == "uring-denied" if denied is None else denied
        environment = {key: value for key, value in os.environ.items() if key != "IOCP_BACKEND"}
        if not name.startswith("iocp-") and self.backend in ("uring", "epoll", "windows"):
            environment["IOCP_BACKEND"] = self.backend  # the examples have no options
        if forced:
            environment["IOCP_BACKEND"] = forced
        self.process = subprocess.Popen(
            [*self.command(name, console), *arguments], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=terminal or subprocess.PIPE, env=environment,
            preexec_fn=deny_uring if denied else None)
        self.output = Stream(self.process.stdout.fileno(), f"output of {name}", self.text)
        # A terminal of the caller's is his to read.
        self.errors = self.output if terminal else \
            Stream(self.process.stderr.fileno(), f"errors of {name}", self.text)
        started.append(self)

    def command(self, name, console):
        """What starts it; with `console` each line of its input is an event of its console."""
        path = program_path(name)
        if not console:
            return [launcher, path] if windows else [path]
        events = os.path.join(programs_folder, "..", "tests", "console-events.exe")
        check(os.path.exists(events), f"{events} is missing")
        return [launcher, events, path_for_programs(path)]

    def send_signal(self, number=None):
        self.process.send_signal(number or self.stop_signal)

    def write(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def close_input(self):
        self.process.stdin.close()

    def wait(self, status=0):
        """Waits for the end; returns what was still on stdout and stderr."""
        output, errors = self.output.rest().decode(), self.errors.rest().decode()
        try:
            found = self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} does not end") from None
        check(found == status, f"{self.name} ended with {found}, expected {status}: {errors}")
        return output, errors

    def stop(self, number=None, status=0):
        """Ends it. A server waits for those who have not hung up: so they do."""
        self.send_signal(number)
        for talker in talkers:
            talker.close()
        talkers.clear()
        return self.wait(status)


class LinuxProgram(Program):
    """One of ours for Linux, beside those for Windows: from a build folder next to theirs."""
    backend = ""
    stop_signal = signal.SIGTERM
    text = False

    def command(self, name, console):
        for build in ("release", "dev"):
            path = os.path.join(programs_folder, "..", "..", build, "bin", name)
            if os.path.exists(path):
                return [path]
        raise LeftOut(f"there is no {name} for Linux: build/release or build/dev would have it")


def backend_arguments(kind=Program):
    return ["--backend", kind.backend if kind.backend in ("uring", "epoll", "windows") else "auto"]


def read_start(program, pattern, count):
    """Reads stderr until `count` lines match; returns the groups. Skips without the backend."""
    found = []
    while len(found) < count:
        line = program.errors.line()
        if line is None:
            program.process.wait(DEADLINE_S)
            raise Failure(f"{program.name} did not start: {program.process.returncode}")
        if "cannot start: not supported" in line and backend == "uring":
            raise Skip(line)
        match = re.fullmatch(pattern, line)
        if match:
            found.append(match.groups())
    return found


def start_chat(*arguments, listen="127.0.0.1:0", packets="none", console=False, kind=Program):
    """Starts iocp-chat; the program gets `lines` and `packets`, lists of addresses."""
    program = kind("iocp-chat", "--listen", listen, "--packet-listen", packets,
                   *backend_arguments(kind), *arguments, console=console)
    count = (listen != "none") + (packets != "none")
    found = read_start(program, r"(lines|packets)\s+(\S+)", count)
    program.lines = [address for kind, address in found if kind == "lines"]
    program.packets = [address for kind, address in found if kind == "packets"]
    return program


def start_echo(*arguments, listen="127.0.0.1:0", console=False, kind=Program):
    program = kind("iocp-echo", "--listen", listen, *backend_arguments(kind), *arguments,
                   console=console)
    program.address = read_start(program, r"(listening on) (\S+)", 1)[0][1]
    check_equal(program.output.line(), "ready", "first line of iocp-echo")
    return program


# ---- connections

def connect(address, attempts=1):
    """A socket connected to the text of an address; the server may still be starting."""
    for attempt in range(attempts):
        try:
            return connect_once(address)
        except (ConnectionRefusedError, FileNotFoundError):
            if attempt == attempts - 1:
                raise
            time.sleep(0.02)  # between attempts of a bounded number; no event tells us
    return None


def connect_once(address):
    if address.startswith("unix:"):
        path = address[len("unix:"):]
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(DEADLINE_S)
        connection.connect("\0" + path[1:] if path.startswith("@") else path)
        return connection
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host.strip("[]"), int(port)), DEADLINE_S)


def reset(connection):
    """Closes it by a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Person:
    """Somebody at nc."""

    def __init__(self, address, name=None, attempts=1):
        self.socket = connect(address, attempts)
        talkers.append(self.socket)
        self.sent = 0  # bytes
        self.stream = Stream(self.socket.fileno(), f"what {name or 'somebody'} reads")
        welcome = self.stream.line() or ""
        match = re.fullmatch(r"\* welcome, you are (\S+) in lobby; .*", welcome)
        check(match, f"not a welcome: {welcome!r}")
        self.name = match.group(1)
        # The welcome comes before the room is entered; the next answer comes after it.
        if not name:
            self.say("/who")
            self.expect_match(r"\* in lobby \(.*")
        else:
            self.say(f"/nick {name}")
            self.expect(f"* you are {name} now")
            self.name = name

    def send(self, data):
        self.socket.sendall(data)
        self.sent += len(data)

    def say(self, line):
        self.send(line.encode() + b"\n")

    def next(self, expected):
        """The very next line is this one."""
        check_equal(self.stream.line(), expected, f"next line of {self.name}")

    def expect(self, *expected):
        """Reads until these lines have come, in this order; returns the others."""
        others = []
        for text in expected:
            while True:
                line = self.stream.line()
                check(line is not None, f"the end came to {self.name} before {text!r}: {others}")
                if line == text:
                    break
                others.append(line)
        return others

    def expect_match(self, pattern):
        while True:
            line = self.stream.line()
            check(line is not None, f"the end came to {self.name} before {pattern!r}")
            match = re.fullmatch(pattern, line)
            if match:
                return match

    def join(self, room):
        self.say(f"/join {room}")
        self.expect(f"* you joined {room}")

    def finish_writing(self):
        self.socket.shutdown(socket.SHUT_WR)

    def expect_end(self):
        """The server ends the connection; returns what came before."""
        return self.stream.rest().decode()

    def close(self):
        self.socket.close()

    def reset(self):
        reset(self.socket)


def free_address():
    """An address that was free a moment ago, on a loopback host that is this process's alone: what
    others listen on or connect from does not take its port meanwhile."""
    number = os.getpid()  # of 22 bits
    host = f"127.{1 + (number >> 16 & 63)}.{number >> 8 & 255}.{number & 255}"
    with socket.create_server((host, 0)) as listener:
        return "%s:%d" % listener.getsockname()


def temporary_folder():
    return tempfile.TemporaryDirectory(prefix="iocp-")


# ---- running

def run(*tests):
    """Runs the functions, one after the other; ends the process with 0, 1 or 77."""
    status = 0
    for test in tests:
        try:
            test()
            print(f"ok    {test.__name__}")
        except Skip as skip:
            print(f"skip  {test.__name__}: {skip}")
            status = status or SKIPPED
        except LeftOut as reason:
            print(f"left out  {test.__name__}: {reason}")
        except Exception:
            print(f"FAIL  {test.__name__}")
            traceback.print_exc(file=sys.stdout)
            status = 1
        for program in started:
            end(program, status == 1)
        started.clear()
        talkers.clear()
        sys.stdout.flush()
        if status == 1:
            break
    sys.exit(status)


def end(program, show):
    if program.process.poll() is None:
        program.process.kill()
        program.process.wait()
    if show:
        left = program.errors.bytes
        if not program.errors.ended:
            os.set_blocking(program.errors.descriptor, False)
            with contextlib.suppress(BlockingIOError):
                left += os.read(program.errors.descriptor, 1 << 16)
        print(f"---- errors of {program.name}\n{left[-4000:].decode(errors='replace')}")
    for file in (program.process.stdin, program.process.stdout, program.process.stderr):
        try:
            if file:
                file.close()
        except OSError:
            pass
