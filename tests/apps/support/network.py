"""Two network namespaces and a bad link between them, for tests on Linux that may make some (root).

The link is a pair of TUN devices, one in each namespace, and a relay here that carries packets from
one to the other: it drops, delays (so that they overtake each other), doubles, or lets none through.
`tc netem` does as much, but is a module that many kernels lack; TUN devices are nearly everywhere,
and here what was dropped can be counted and waited for.
"""
import ctypes
import fcntl
import heapq
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time

from support import DEADLINE_S, Skip, check, windows

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
PACKET_MAX = 65536

libc = ctypes.CDLL(None, use_errno=True)


def call(function, *arguments):
    if function(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Namespace:
    """A namespace of its own with a TUN device. In a `with` the calling thread is in it: sockets
    that it makes and programs that it starts are there."""

    def __init__(self, address):
        self.host = address.split("/")[0]
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            call(libc.unshare, CLONE_NEWNET)
        except PermissionError as error:
            raise Skip(f"no network namespace may be made here (root may): {error}") from None
        try:
            self.here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            self.device = self.open_device()
            self.ip("link", "set", "lo", "up")
            self.ip("addr", "add", address, "dev", "tun0")
            self.ip("link", "set", "tun0", "up")
        finally:
            call(libc.setns, self.home, CLONE_NEWNET)

    @staticmethod
    def open_device():
        try:
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:
            raise Skip(f"no TUN device can be made here: {error}") from None
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
        return device

    @staticmethod
    def ip(*arguments):
        subprocess.run(["ip", *arguments], check=True, timeout=DEADLINE_S)

    def __enter__(self):
        call(libc.setns, self.here, CLONE_NEWNET)

    def __exit__(self, *_):
        call(libc.setns, self.home, CLONE_NEWNET)

    def close(self):
        for descriptor in (self.device, self.here, self.home):
            os.close(descriptor)


class Relay(threading.Thread):
    """Carries packets between two devices. Its settings may be changed at any time."""

    def __init__(self, devices, seed=1):
        super().__init__(daemon=True)
        self.other = {devices[0]: devices[1], devices[1]: devices[0]}
        self.random = random.Random(seed)
        self.loss = self.double = 0.0  # shares of all packets
        self.delay_s = 0.0             # each waits for a random part of it
        self.cut = False
        self.carried = self.dropped = self.overtaken = 0
        self.dropped_by_cut = 0
        self.waiting = []              # (when, number, to, packet)
        self.number = 0
        self.newest = {device: 0 for device in devices}  # number of the last one that was carried
        self.changed = threading.Condition()
        self.stop_reader, self.stop_writer = os.pipe()
        self.start()

    def run(self):
        while True:
            timeout = max(0, self.waiting[0][0] - time.monotonic()) if self.waiting else None
            readable, _, _ = select.select([*self.other, self.stop_reader], [], [], timeout)
            if self.stop_reader in readable:
                return
            for device in readable:
                self.take(device, os.read(device, PACKET_MAX))
            while self.waiting and self.waiting[0][0] <= time.monotonic():
                self.carry(*heapq.heappop(self.waiting)[1:])
            with self.changed:
                self.changed.notify_all()

    def take(self, device, packet):
        if self.cut:
            self.dropped_by_cut += 1
        elif self.random.random() < self.loss:
            self.dropped += 1
        else:
            for _ in range(2 if self.random.random() < self.double else 1):
                self.number += 1
                when = time.monotonic() + self.random.random() * self.delay_s
                heapq.heappush(self.waiting, (when, self.number, self.other[device], packet))

    def carry(self, number, device, packet):
        try:
            os.write(device, packet)
        except OSError:  # it is down
            self.dropped_by_cut += 1
            return
        self.carried += 1
        self.overtaken += number < self.newest[device]
        self.newest[device] = max(number, self.newest[device])

    def wait_for_losses(self, count):
        """Until so many more packets have met a cut or a device that is down."""
        wanted = self.dropped_by_cut + count
        with self.changed:
            done = self.changed.wait_for(lambda: self.dropped_by_cut >= wanted, DEADLINE_S)
        check(done, f"{wanted - self.dropped_by_cut} packets less than expected were sent")

    def close(self):
        os.write(self.stop_writer, b"x")
        self.join()
        os.close(self.stop_reader)
        os.close(self.stop_writer)


class Link:
    """A server's side, a client's side, and the relay between them."""

    def __init__(self):
        if windows:
            raise Skip("namespaces are Linux's")
        if not shutil.which("ip"):
            raise Skip("there is no ip (iproute2); tools/bootstrap test installs it")
        self.server = Namespace("10.77.0.1/24")
        self.client = Namespace("10.77.0.2/24")
        self.relay = Relay((self.server.device, self.client.device))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.relay.close()
        self.server.close()
        self.client.close()
