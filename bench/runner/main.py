"""The command line of bench/run, and the order of things: build, verify, rounds, counts, report."""
import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import bars, charts, counts, micro, report, system, workloads
from .figures import FOREIGN_MAX, Cell, measure_round
from .measure import Bench, Failed, Times

ROOT = Path(__file__).resolve().parents[2]
MICRO = ("h", "i", "j")


def say(message):
    print(message, file=sys.stderr, flush=True)


class Progress:
    """One line that is written over and over on a terminal; otherwise a line now and then."""

    def __init__(self, total):
        self.total, self.done, self.begin, self.shown = total, 0, time.monotonic(), 0.0

    def step(self, text):
        self.done += 1
        now = time.monotonic()
        line = f"{self.done}/{self.total}  {now - self.begin:.0f} s  {text}"
        if sys.stderr.isatty():
            print(f"\r\033[K{line}", end="\n" if self.done == self.total else "",
                  file=sys.stderr, flush=True)
        elif now - self.shown > 10 or self.done == self.total:
            self.shown = now
            say(line)


class Run:
    """What is measured in one call of bench/run, and what came of it."""

    def __init__(self, arguments, bench, chosen):
        self.arguments, self.bench, self.chosen = arguments, bench, chosen
        self.cells = {workload.key: {} for workload in chosen}
        self.micro, self.failures, self.bars, self.runs = {}, [], [], 0

    def rows(self, workload):
        return [row for row in workload.rows if row.quick or not self.arguments.quick]

    def pairs(self, workload):
        return [(row, server) for row in self.rows(workload) for server in workload.servers
                if (self.bench.folder / f"bench-server-{server.program}").exists()]

    def verify(self):
        """Servers that send a wrong byte are not measured, and are named in the report."""
        for workload in self.chosen:
            progress = Progress(len(self.pairs(workload)))
            for row, server in self.pairs(workload):
                progress.step(f"{workload.key}: verify {server.name}")
                try:
                    self.bench.verify(workload, row, server)
                    self.cells[workload.key].setdefault(row.label, {})[server.name] = Cell()
                except Failed as failed:
                    self.failed(workload, failed)

    def failed(self, workload, failed):
        self.failures.append(f"{workload.key}: {failed}")
        say(f"\n{workload.key}: {failed}")

    def measured_pairs(self, workload):
        cells = self.cells[workload.key]
        return [(row, server, cells[row.label][server.name])
                for row, server in self.pairs(workload) if server.name in cells.get(row.label, {})]

    def rounds(self, workload):
        """All rows and servers in turn, then all again. Memory does not vary: one round."""
        rounds = 1 if workload.key == "g" else self.arguments.rounds
        pairs = self.measured_pairs(workload)
        progress = Progress(rounds * len(pairs))
        for number in range(rounds):
            for row, server, cell in pairs:
                progress.step(f"{workload.key}: round {number + 1}, {row.label}, {server.name}")
                self.guard(workload, lambda: self.one(workload, row, server, cell))

    def one(self, workload, row, server, cell):
        run = self.bench.run_idle if workload.key == "g" else self.bench.run
        measure_round(cell, lambda: run(workload, row, server), workload.figure,
                      self.arguments.foreign)

    def guard(self, workload, action):
        try:
            action()
        except Failed as failed:
            self.failed(workload, failed)

    def counts(self, workload):
        """System calls and instructions, in the rows where user space decides."""
        if workload.key not in "abc" or self.arguments.quick or self.arguments.no_counts:
            return
        pairs = [pair for pair in self.measured_pairs(workload)
                 if pair[0].pinned and pair[0].size <= 100 and pair[2].samples]
        pairs = [pair for pair in pairs if "1,000 ×" not in pair[0].label]
        progress = Progress(len(pairs))
        for row, server, cell in pairs:
            progress.step(f"{workload.key}: count {row.label}, {server.name}")
            count = {"c": 60}.get(workload.key, 6000)
            figures = cell.samples[0].figures
            for name, what in (("system_calls", counts.system_calls),
                               ("instructions", counts.instructions)):
                self.guard(workload, lambda: figures.update(
                    {name: what(self.bench, workload, row, server, count)}))

    def run_micro(self):
        programs = micro.programs(self.bench.folder)
        rounds = 1 if self.arguments.quick else self.arguments.rounds
        progress = Progress(rounds * len(programs))
        for _ in range(rounds):
            for program in programs:
                progress.step(program.name)
                try:
                    micro.add(self.micro, micro.run(program, self.arguments.quick))
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    self.failures.append(str(error))

    def judge(self):
        for workload in self.chosen:
            table = {label: {name: {figure: cell.median(figure)
                                    for figure in cell.samples[0].figures}
                             for name, cell in row.items() if cell.samples}
                     for label, row in self.cells[workload.key].items()}
            self.bars += bars.judge(workload.key, table, workload.servers)
        for key in sorted(self.micro):
            self.bars += bars.micro(key, micro.medians(self.micro[key]))

    def all_cells(self):
        return [cell for rows in self.cells.values() for row in rows.values()
                for cell in row.values()]

    def info(self):
        cells = self.all_cells()
        return {**system.describe(ROOT), "command": shown_command(),
                "date": time.strftime("%Y-%m-%d"), "rounds": self.arguments.rounds,
                "seconds": self.bench.times.measured, "foreign_max": self.arguments.foreign,
                "runs": sum(len(cell.samples) for cell in cells),
                "repeated": sum(cell.repeated for cell in cells),
                "kept": sum(cell.kept_disturbed for cell in cells)}

    def chart(self, workload, folder):
        """Writes the chart of a workload; its name, or None without figures."""
        kind = {server.name: server.kind for server in workload.servers}
        panels = []
        for label, row in self.cells[workload.key].items():
            found = [(name, kind[name], *cell.summary(workload.figure))
                     for name, cell in row.items() if cell.summary(workload.figure)]
            panels += [(label, found)] if found else []
        if not panels:
            return None
        folder.mkdir(exist_ok=True)
        title = f"{workload.title}: " + report.TITLES[workload.figure].format(per=workload.per)
        path = folder / f"{workload.key}.svg"
        path.write_text(charts.chart(title, panels, workload.figure == "per_second"))
        return f"{folder.name}/{path.name}"

    def write(self, folder):
        parts = [report.workload_part(workload, self.cells[workload.key],
                                      self.chart(workload, folder / "charts"))
                 for workload in self.chosen if self.cells[workload.key]]
        parts += [report.micro_part(key, micro.TITLES[key], self.micro[key])
                  for key in sorted(self.micro)]
        info = self.info()
        (folder / "RESULTS.md").write_text(report.write(info, self.bars, parts, self.failures))
        (folder / "results.json").write_text(json.dumps(self.as_json(info), indent=1) + "\n")

    def as_json(self, info):
        cells = {key: {label: {name: {"samples": [sample.figures for sample in cell.samples],
                                      "repeated": cell.repeated,
                                      "kept_disturbed": cell.kept_disturbed}
                               for name, cell in row.items()} for label, row in rows.items()}
                 for key, rows in self.cells.items()}
        return {"info": info, "workloads": cells,
                "micro": {key: micro.medians(cases) for key, cases in self.micro.items()},
                "bars": [{**bar.__dict__, "met": bool(bar.met)} for bar in self.bars],
                "failures": self.failures}


def shown_command():
    return shlex.join(["bench/run", *sys.argv[1:]])


def parse():
    parser = argparse.ArgumentParser(
        prog="bench/run", description="Measures iocp beside its peers; see bench/README.md.")
    parser.add_argument("--quick", action="store_true", help="about a minute: fewer, shorter rounds")
    parser.add_argument("--only", default="", metavar="a,c", help="these workloads (a to j)")
    parser.add_argument("--rounds", type=int, help="rounds (3; quick: 1)")
    parser.add_argument("--seconds", type=float, help="measured time of a run (0.5; quick: 0.25)")
    parser.add_argument("--foreign", type=float, default=FOREIGN_MAX, metavar="SHARE",
                        help="repeat a run beside which others took more of the processors (0.05)")
    parser.add_argument("--no-counts", action="store_true",
                        help="no system calls and instructions, as in quick runs")
    parser.add_argument("--build", default=ROOT / "build/release", type=Path, help="build folder")
    parser.add_argument("--load", type=Path, help="iocp-load (of the build folder)")
    parser.add_argument("--out", default=ROOT / "bench", type=Path,
                        help="folder for RESULTS.md, results.json and charts (bench)")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    arguments.seconds = arguments.seconds or (0.25 if arguments.quick else 0.5)
    arguments.only = [key for key in arguments.only.split(",") if key]
    arguments.load = arguments.load or arguments.build / "bin/iocp-load"
    for key in arguments.only:
        if key not in [*bars.JUDGES, *MICRO]:
            parser.error(f"no workload {key}: a to j")
    return arguments


def missing(arguments):
    """What has to be there before anything is measured."""
    if not arguments.load.exists():
        return f"{arguments.load} is missing: make bench builds it"
    tools = [name for name in ("ss", "strace", "valgrind", "callgrind_control")
             if not shutil.which(name)]
    return f"missing: {', '.join(tools)} (tools/bootstrap bench)" if tools else ""


def main():
    arguments = parse()
    problem = missing(arguments)
    if problem:
        sys.exit(f"bench/run: {problem}")
    only = arguments.only
    chosen = [workload for workload in workloads.all_workloads(arguments.quick)
              if not only or workload.key in only]
    arguments.out.mkdir(parents=True, exist_ok=True)
    times = Times(arguments.seconds / 4, arguments.seconds)
    run = Run(arguments, Bench(arguments.build / "bin", arguments.load, times), chosen)
    run.verify()
    for workload in chosen:
        run.rounds(workload)
        run.counts(workload)
    if not only or set(only) & set(MICRO):
        run.run_micro()
    run.judge()
    run.write(arguments.out)
    for bar in run.bars:
        say(f"{'met   ' if bar.met else 'MISSED'} {bar.workload}: {bar.text}: {bar.value:.3g}")
    say(f"written: {arguments.out / 'RESULTS.md'}")
    return 1 if run.failures else 0
