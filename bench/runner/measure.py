"""Starts servers and loads, and makes figures of what they say."""
import contextlib
import json
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from . import system
from .figures import Sample

SERVER = "127.0.0.1"
# Silent connections come at this pace, so that few are being served at a time.
CONNECTS_PER_S = 8000


def shown(errors):
    """What a program said on stderr, in one line."""
    return "; ".join(line.strip() for line in errors.splitlines() if line.strip())


class Failed(Exception):
    """A server or the load did not do what it should; the text says which and what."""


@dataclass
class Times:
    warmup: float
    measured: float


class Bench:
    """The programs and the processors that they run on."""

    def __init__(self, folder, load, times):
        self.folder = Path(folder)
        self.load = Path(load)
        self.times = times
        self.cpus = system.cpus()
        self.port = 0  # of the server that runs now

    def pinned(self, row):
        return [self.cpus[-1]] if row.pinned else None

    @contextlib.contextmanager
    def server(self, workload, row, server, wrapper=(), environment=None):
        """A server that listens; it is killed at the end."""
        self.port = system.free_port()
        command = [*wrapper, *server.command(self.folder, workload.server, self.port,
                                             row.threads, row.size)]
        process = system.start(command, self.pinned(row),
                               {**server.environment, **(environment or {})},
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            if process.stdout.readline().strip() != "ready":
                process.kill()
                raise Failed(f"{server.name} did not start: {process.stderr.read().strip()}")
            yield process
            if process.poll() is not None:
                raise Failed(f"{server.name} died with {process.returncode}: "
                             f"{process.stderr.read().strip()}")
        finally:
            system.end(process)
            process.stderr.close()

    def load_command(self, arguments):
        return [self.load, *arguments, "--json", "-", "--quiet", f"{SERVER}:{self.port}"]

    def run_load(self, row, arguments, what, seconds_max=60):
        """(what iocp-load reports, processor time it took)."""
        process = system.start(self.load_command(arguments), self.pinned(row),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        status, cpu_s = system.wait_with_usage(process, seconds_max)
        with process.stdout, process.stderr:
            text, errors = process.stdout.read(), process.stderr.read()
        if status != 0:
            raise Failed(f"{what}: iocp-load ended with {status}: {shown(errors)}")
        return json.loads(text), cpu_s

    def verify(self, workload, row, server):
        """Compares every byte that the server sends, for a moment."""
        with self.server(workload, row, server):
            arguments = row.load or ["--protocol", "echo", "--size", row.size]
            self.run_load(row, [*arguments, "--time", "0.2", "--drain", 30, "--verify"],
                          f"{server.name}, {row.label}, verify")

    def run(self, workload, row, server):
        """One measured run."""
        with self.server(workload, row, server) as process, \
                self.present(row, process):
            numbers = self.pinned(row) or self.cpus
            busy, own, begin = (system.busy_seconds(numbers), system.process_seconds(process.pid),
                                time.monotonic())
            report, load_s = self.run_load(
                row, [*row.load, "--warmup", self.times.warmup, "--time", self.times.measured,
                      "--server-pid", process.pid], f"{server.name}, {row.label}")
            elapsed = (time.monotonic() - begin) * len(numbers)
            own = system.process_seconds(process.pid) - own + load_s
            foreign = max(0.0, system.busy_seconds(numbers) - busy - own)
        return Sample(figures_of(report, workload.count, load_s), foreign / elapsed)

    @contextlib.contextmanager
    def present(self, row, server_process):
        """Silent connections beside those that are measured."""
        if not row.present:
            yield
            return
        idle = self.start_idle(row.present, 600, server_process)
        try:
            self.wait_established(idle, row.present)
            yield
        finally:
            system.end(idle)
            idle.stderr.close()

    def start_idle(self, count, seconds, server_process):
        return system.start(self.load_command(["--protocol", "idle", "--connections", count,
                                               "--sources", 8, "--time", seconds,
                                               "--ramp", f"{count / CONNECTS_PER_S:.2f}",
                                               "--server-pid", server_process.pid]),
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def wait_established(self, idle, count):
        deadline = time.monotonic() + 60
        while system.established(self.port) < count:
            if idle.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"{count} silent connections could not be opened")
            time.sleep(0.05)

    def run_idle(self, workload, row, server):
        """Memory with and without silent sessions. A few are there before, so that code and buffers
        of the first ones are not counted."""
        with self.server(workload, row, server) as process:
            self.run_load(row, ["--protocol", "echo", "--connections", 50, "--time", "0.2"],
                          f"{server.name}, before the idle ones")
            resident, slab = system.resident_bytes(process.pid), system.slab_bytes()
            allocated = library_bytes(process, server)
            report, slab_with, allocated_with = self.watch_idle(row, server, process)
        count = report["connections_opened"]
        figures = {"bytes": (report["server"]["rss_kb_end"] * 1024 - resident) / count,
                   "kernel_bytes": (slab_with - slab) / count}
        if allocated is not None:
            figures["library_bytes"] = (allocated_with - allocated) / count
        return Sample(figures)

    def watch_idle(self, row, server, process):
        """Looks at the memory while all the silent connections are there; (the load's report, the
        kernel's memory, the library's)."""
        idle = self.start_idle(row.connections, 1, process)
        slab, allocated = 0, None
        while idle.poll() is None:
            if system.established(self.port) == row.connections:
                slab, allocated = system.slab_bytes(), library_bytes(process, server)
            time.sleep(0.1)
        with idle.stdout, idle.stderr:
            text, errors = idle.stdout.read(), idle.stderr.read()
        if idle.returncode != 0 or not slab:
            raise Failed(f"{server.name}, {row.label}: "
                         f"{shown(errors) or 'they were never all there at a time'}")
        return json.loads(text), slab, allocated


def library_bytes(process, server):
    """What our library says it has allocated: the server answers SIGUSR1 with a line."""
    if server.program != "iocp":
        return None
    process.send_signal(signal.SIGUSR1)
    return int(process.stdout.readline())


def figures_of(report, count_name, load_s):
    """The figures of one run, each per message, delivery or connection. A server that used no
    processor time has not been measured: the run was too short."""
    count, used, latency = report[count_name], report["server"], report["latency_us"]
    per = "delivery" if count_name == "deliveries" else "message"
    if not count or not used[f"cpu_us_per_{per}"]:
        raise Failed("the load has measured nothing: the run is too short for this machine")
    return {
        "cpu_us": used[f"cpu_us_per_{per}"],
        "per_second": count / report["seconds"],
        "p50": latency["p50"], "p99": latency["p99"], "p99_9": latency["p99_9"],
        "switches": used[f"switches_per_{per}"],
        "load_cpu_us": load_s * 1e6 / count,
    }
