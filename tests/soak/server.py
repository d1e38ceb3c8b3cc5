"""A server that is soaked: it prints its counters each second, and this reads those that are newer than
the question."""
import json
import os
import subprocess
import time

import support
from support import Failure, check, start_chat, start_echo

ARGUMENTS = ("--stats-every", "1", "--workers", "4", "--drain", "20")


class Server:
    def __init__(self, kind):
        begin = time.monotonic()
        start = start_echo if kind == "echo" else start_chat
        more = {} if kind == "echo" else {"packets": "127.0.0.1:0"}
        self.program = start(*ARGUMENTS, **more)
        # Both clocks are the system's monotonic one; the server started after this.
        self.begin_ns = int(begin * 1e9)

    def figures(self, holds=lambda figures: True, what=""):
        """The first report that was made after this call and for which `holds`."""
        asked_ns = time.monotonic_ns()
        deadline = time.monotonic() + support.DEADLINE_S
        while True:
            line = self.program.output.line()
            check(line is not None, f"{self.program.name} has ended: {self.errors()}")
            figures = json.loads(line)
            if self.begin_ns + figures["uptime_ns"] > asked_ns and holds(figures):
                return figures
            check(time.monotonic() < deadline, f"it does not come to rest: {what(figures)}"
                  if callable(what) else f"it does not come to rest: {what}, {line}")

    def at_rest(self, least, most=None):
        """The figures when only so many sessions are left."""
        most = least if most is None else most
        return self.figures(
            lambda figures: least <= figures["service"]["sessions"] <= most,
            lambda figures: f"{figures['service']['sessions']} sessions, expected {least}")

    def explain(self, failure):
        """What clients ran into may be the server's end: then that is the failure."""
        try:
            status = self.program.process.wait(1)
        except subprocess.TimeoutExpired:
            return failure
        return Failure(f"{self.program.name} has ended with {status}: {self.errors()}\n{failure}")

    def errors(self):
        """What it has said on stderr, as a sanitizer does before the end."""
        descriptor = self.program.errors.descriptor
        os.set_blocking(descriptor, False)
        try:
            return os.read(descriptor, 1 << 16).decode(errors="replace")
        except BlockingIOError:
            return "nothing on stderr"

    def stop(self):
        """Ends it; to be called when all clients hear of it. Returns the last report."""
        output, errors = self.program.wait(0)
        check(errors == "", f"{self.program.name} complains: {errors[-4000:]}")
        return json.loads(output.splitlines()[-1])
