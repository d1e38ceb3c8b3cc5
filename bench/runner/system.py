"""What Linux tells of processors, processes and memory, and how a program is started."""
import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpus():
    return sorted(os.sched_getaffinity(0))


def busy_seconds(cpu_numbers):
    """Processor time that was not idle on these processors since boot, stolen time included."""
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        match = re.match(r"cpu(\d+) (.*)", line)
        if match and int(match.group(1)) in cpu_numbers:
            user, nice, system, _, _, irq, softirq, steal = map(int, match.group(2).split()[:8])
            total += user + nice + system + irq + softirq + steal
    return total * TICK_S


def process_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def resident_bytes(pid):
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(match.group(1)) * 1024


def slab_bytes():
    match = re.search(r"Slab:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(match.group(1)) * 1024


def established(port):
    """Connections that were accepted on a port."""
    done = subprocess.run(["ss", "-Htn", "state", "established", f"sport = :{port}"],
                          capture_output=True, text=True, check=True)
    return done.stdout.count("\n")


def free_port():
    """A port that nobody listens on, below those that the system gives to clients. The servers
    share their ports, so that a second one on the same port would not be noticed."""
    while True:
        port = random.randrange(10000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port


def start(command, cpu_numbers=None, environment=None, **options):
    def pin():
        if cpu_numbers:
            os.sched_setaffinity(0, cpu_numbers)
    return subprocess.Popen([str(part) for part in command], preexec_fn=pin,
                            env={**os.environ, **(environment or {})},
                            stdin=subprocess.DEVNULL, text=True, **options)


def end(process):
    """Ends a program that has nothing to say any more. Under valgrind a server that sleeps in its
    ring does not hear SIGTERM."""
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


def wait_with_usage(process, seconds_max):
    """(exit status, processor time) of a child; kills it when it takes too long."""
    deadline = time.monotonic() + seconds_max
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage.ru_utime + usage.ru_stime
        if time.monotonic() > deadline:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.02)


def version_of(command, pattern):
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return None
    match = re.search(pattern, text)
    return match.group(1) if match else None


def header_version(path, *names):
    """The numbers of #define lines, joined by dots."""
    file = Path(path)
    if not file.exists():
        return None
    text = file.read_text(errors="replace")
    found = [re.search(rf'#\s*define\s+{name}\s+"?([\w.-]+)', text) for name in names]
    return ".".join(match.group(1) for match in found if match) or None


def asio_version():
    number = header_version("/usr/include/asio/version.hpp", "ASIO_VERSION")
    if not number:
        return None
    number = int(number)
    return f"{number // 100000}.{number // 100 % 1000}.{number % 100}"


def describe(root):
    """The machine and the versions, as lines of text."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", info)
    versions = {
        "libuv": header_version("/usr/include/uv/version.h", "UV_VERSION_MAJOR",
                                "UV_VERSION_MINOR", "UV_VERSION_PATCH"),
        "libevent": header_version("/usr/include/event2/event-config.h", "EVENT__VERSION"),
        "Asio": asio_version(),
        "liburing": version_of(["pkg-config", "--modversion", "liburing"], r"(\S+)"),
        "gcc": version_of(["gcc", "-dumpfullversion"], r"(\S+)"),
    }
    iocp = header_version(root / "include/iocp/version.h", "IOCP_VERSION_MAJOR",
                          "IOCP_VERSION_MINOR", "IOCP_VERSION_PATCH")
    revision = version_of(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], r"(\w+)")
    return {
        "machine": f"{len(cpus())} CPUs ({model.group(1) if model else 'model unknown'})",
        "kernel": os.uname().release,
        "iocp": f"{iocp} ({revision})" if revision else iocp,
        "versions": {name: version for name, version in versions.items() if version},
    }
