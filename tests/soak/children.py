"""Clients in processes of their own, so that the system can kill or stop them in the middle of anything.

A child is forked from this process. It closes what it inherited first: a connection that two processes
hold is not ended when one of them closes it.
"""
import ctypes
import json
import os
import signal
import traceback

import support
from support import Failure, check

PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)


class Child:
    """Runs `body(child)` in a process. The two talk in lines."""

    def __init__(self, body):
        ours, theirs = os.pipe(), os.pipe()  # orders, answers
        self.pid = os.fork()
        if self.pid == 0:
            self.be(body, ours[0], theirs[1])
        os.close(ours[0])
        os.close(theirs[1])
        self.orders = ours[1]
        self.stream = support.Stream(theirs[0], f"process {self.pid}")

    def be(self, body, orders, answers):
        """The child's life; does not return."""
        status = 1
        try:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            keep = sorted((orders, answers))
            os.closerange(3, keep[0])
            os.closerange(keep[0] + 1, keep[1])
            os.closerange(keep[1] + 1, os.sysconf("SC_OPEN_MAX"))
            self.stream = support.Stream(orders, "orders")
            self.answers = answers
            body(self)
            status = 0
        except Failure as failure:
            self.answer({"failure": str(failure)})
        except BaseException:
            self.answer({"failure": traceback.format_exc()})
        os._exit(status)

    def answer(self, value):
        """In the child."""
        os.write(self.answers, json.dumps(value).encode() + b"\n")

    def order(self):
        """In the child: the next order; the parent's end is ours."""
        line = self.stream.line()
        if line is None:
            os._exit(1)
        return json.loads(line)

    def tell(self, value):
        os.write(self.orders, json.dumps(value).encode() + b"\n")

    def hear(self):
        """Its next answer."""
        line = self.stream.line()
        check(line is not None, f"process {self.pid} has ended without a word")
        value = json.loads(line)
        if isinstance(value, dict) and "failure" in value:
            raise Failure(f"in process {self.pid}: {value['failure']}")
        return value

    @staticmethod
    def stop():
        """In the child, whose connections are forgotten for a while."""
        os.kill(os.getpid(), signal.SIGSTOP)

    def wait_stopped(self):
        pid, status = os.waitpid(self.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self.pid = 0
            self.hear()  # why it has ended
            raise Failure(f"process {pid} has ended in place of stopping")

    def go_on(self):
        os.kill(self.pid, signal.SIGCONT)

    def kill(self):
        """Kills it, or lets go of one that has ended."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self):
        if self.pid:
            os.waitpid(self.pid, 0)
            os.close(self.orders)
            os.close(self.stream.descriptor)
        self.pid = 0
