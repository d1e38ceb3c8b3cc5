"""Counts that do not depend on the neighbours: system calls by strace, instructions of user space by
callgrind. Short runs of their own, beside the measured ones."""
import re
import signal
import subprocess
import tempfile
from pathlib import Path

from . import system
from .measure import Failed


def difference(measure, count):
    """Per message: the difference of two runs, so that starting and connecting do not count.
    `measure(count, number)` gives (what is counted, messages)."""
    first, second = measure(count, 1), measure(3 * count, 2)
    return max(0.0, (second[0] - first[0]) / (second[1] - first[1]))


def load(bench, workload, row, server, count, tool):
    """How many messages or deliveries there were."""
    arguments = [*(row.count_load or row.load), "--messages", count, "--drain", 30]
    report, _ = bench.run_load(row, arguments, f"{server.name}, {row.label}, {tool}",
                               seconds_max=120)
    return report[workload.count]


# Connections close behind the back of a load that ends: those of a few dozen are lost in so many.
STRACE_TIMES = 3


def system_calls(bench, workload, row, server, count):
    """System calls of the server per message, while strace slows it down: a server that is slower
    than its load batches more."""
    with tempfile.TemporaryDirectory() as folder, bench.server(workload, row, server) as process:
        def measure(messages, number):
            output = Path(folder) / f"strace.{number}"
            tracer = system.start(["strace", "-f", "-c", "-o", output, "-p", process.pid],
                                  stderr=subprocess.PIPE)
            tracer.stderr.readline()  # "attached"
            try:
                done = load(bench, workload, row, server, messages, "strace")
            finally:
                tracer.send_signal(signal.SIGINT)
                tracer.communicate()
            return strace_total(server, output), done
        load(bench, workload, row, server, count, "before strace")
        return difference(measure, STRACE_TIMES * count)


def strace_total(server, output):
    total = re.search(r"^100\.00\s+\S+\s+\S+\s+(\d+).*total$", output.read_text(), re.M)
    if not total:
        raise Failed(f"{server.name}: strace has counted nothing")
    return int(total.group(1))


def instructions(bench, workload, row, server, count):
    """Instructions of user space per message."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "callgrind"
        wrapper = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={output}"]
        with bench.server(workload, row, server, wrapper) as process:
            def measure(messages, number):
                done = load(bench, workload, row, server, messages, "callgrind")
                return callgrind_total(server, process, Path(f"{output}.{number}")), done
            measure(count, 1)  # has the start of the program in it, too
            return difference(lambda messages, number: measure(messages, number + 1), count)


def callgrind_total(server, process, dump):
    """Instructions since the last dump: each request for one writes the next file. Asked for and not
    waited for at the end, since a server that sleeps in its ring does not hear a signal there."""
    done = subprocess.run(["callgrind_control", "--dump", str(process.pid)], capture_output=True,
                          text=True, timeout=60, check=False)
    total = dump.exists() and re.search(r"^(?:totals|summary): (\d+)", dump.read_text(), re.M)
    if not total:
        raise Failed(f"{server.name}: callgrind has written nothing: {done.stdout}{done.stderr}")
    return int(total.group(1))
