"""Runs the programs of bench/micro (workloads h, i, j): each prints its figures as lines of JSON."""
import json
import subprocess

from .figures import Cell, Sample

TITLES = {"h": "Post to get", "i": "Timers", "j": "Files"}


def programs(folder):
    return sorted(folder.glob("bench-micro-*"))


def run(program, quick):
    """The values of one run, as (workload, "case (unit)", implementation, value)."""
    command = [str(program), *(["--quick"] if quick else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{program.name} ended with {done.returncode}: {done.stderr.strip()}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [(line["workload"], f"{line['case']} ({line['unit']})", line["impl"],
             float(line["value"])) for line in lines]


def add(cells, values):
    """`cells`: {workload: {case: {implementation: Cell}}}."""
    for workload, case, name, value in values:
        row = cells.setdefault(workload, {}).setdefault(case, {})
        row.setdefault(name, Cell()).samples.append(Sample({"value": value}))


def medians(cases):
    return {case: {name: cell.median("value") for name, cell in row.items()}
            for case, row in cases.items()}
