#!/usr/bin/env python3
"""The parts of the benchmark's runner that measure nothing: medians, disturbed rounds, bars, tables,
charts. Usage: bench_report_once.py PROGRAMS (the folder is not looked at)."""
import sys
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.dont_write_bytecode = True

from bench.runner import bars, charts, figures, micro, report, servers, workloads  # noqa: E402
from bench.runner.figures import Cell, Sample, measure_round  # noqa: E402


def cell(figure, *values):
    return Cell([Sample({figure: value}) for value in values])


class Rounds(unittest.TestCase):
    def test_median_of_odd_and_even(self):
        self.assertEqual(figures.median([3, 1, 2]), 2)
        self.assertEqual(figures.median([4, 1, 2, 3]), 2.5)

    def test_summary_has_lowest_and_highest(self):
        self.assertEqual(cell("cpu_us", 5, 1, 3).summary("cpu_us"), (3, 1, 5))
        self.assertIsNone(cell("cpu_us", 5).summary("p50"))

    def round(self, cell, *samples):
        left = list(samples)
        kept = measure_round(cell, lambda: left.pop(0), "cpu_us")
        return kept, len(samples) - len(left)

    def test_quiet_round_runs_once(self):
        it = Cell()
        kept, runs = self.round(it, Sample({"cpu_us": 1}, 0.01))
        self.assertEqual((runs, kept.disturbed, it.repeated, it.kept_disturbed), (1, "", 0, 0))

    def test_disturbed_round_is_repeated_and_counted(self):
        it = Cell()
        kept, runs = self.round(it, Sample({"cpu_us": 9}, 0.5), Sample({"cpu_us": 1}, 0.0))
        self.assertEqual((runs, kept.figures["cpu_us"], it.repeated, it.kept_disturbed),
                         (2, 1, 1, 0))

    def test_when_none_is_quiet_the_quietest_is_kept_and_marked(self):
        it = Cell()
        kept, runs = self.round(it, Sample({"cpu_us": 9}, 0.5), Sample({"cpu_us": 2}, 0.1),
                                Sample({"cpu_us": 3}, 0.3))
        self.assertEqual((runs, kept.figures["cpu_us"], it.repeated, it.kept_disturbed),
                         (3, 2, 2, 1))

    def test_wild_figure_is_repeated(self):
        it = cell("cpu_us", 1.0, 1.1)
        kept, runs = self.round(it, Sample({"cpu_us": 4.0}), Sample({"cpu_us": 1.2}))
        self.assertEqual((runs, kept.figures["cpu_us"]), (2, 1.2))


def echo_table(changes=()):
    known = {"raw io_uring": 10.0, "raw epoll": 12.0, "libuv": 20.0, "Asio epoll": 21.0,
             "Asio io_uring": 15.0, "libevent": 30.0, "iocp io_uring": 10.5, "iocp epoll": 12.1}
    known.update(changes)
    return {"row": {name: {"cpu_us": value} for name, value in known.items()}}


class Bars(unittest.TestCase):
    def met(self, found):
        return [bar.met for bar in found]

    def test_echo_met(self):
        self.assertEqual(self.met(bars.judge("a", echo_table(), servers.ALL)), [True] * 3)

    def test_echo_counts_the_better_backend_and_each_row(self):
        table = echo_table({"iocp io_uring": 99.0, "iocp epoll": 10.9})
        self.assertEqual(self.met(bars.judge("a", table, servers.ALL)), [True] * 3)
        table["other"] = echo_table({"iocp io_uring": 12.0, "iocp epoll": 12.7})["row"]
        first, second, third = bars.judge("a", table, servers.ALL)
        self.assertEqual((first.met, second.met, third.met), (False, True, False))
        self.assertIn("other", first.where)
        self.assertAlmostEqual(first.missed_by, 1.2 / 1.1 - 1)

    def test_framed_tells_plain_peers_from_coalesced_ones(self):
        row = {server.name: {"cpu_us": 0.9 if server.hand_coalesced else 4.0}
               for server in servers.FRAMED}
        row["iocp io_uring"] = {"cpu_us": 0.95}
        self.assertEqual(self.met(bars.judge("b", {"row": row}, servers.FRAMED)), [True, False])

    def test_room(self):
        row = {server.name: {"cpu_us": 2.0} for server in servers.ROOM}
        table = {"1 talker": {**row, "iocp epoll": {"cpu_us": 1.9}},
                 "50 talkers": {**row, "iocp epoll": {"cpu_us": 0.9}}}
        self.assertEqual(self.met(bars.judge("c", table, servers.ROOM)), [True, False, True])

    def test_sleep_compares_with_and_without(self):
        def row(rate, p99):
            return {server.name: {"per_second": rate, "p99": p99} for server in servers.SLEEP}
        table = {"nobody sleeps": row(100.0, 10.0), "1 % sleep": row(80.0, 20.0)}
        self.assertEqual(self.met(bars.judge("d", table, servers.SLEEP)), [False, True])

    def test_work_names_the_ceiling(self):
        row = {"iocp io_uring, 1 worker": {"per_second": 10.0, "cpu_us": 30.0, "load_cpu_us": 10.0},
               "iocp io_uring, 2 workers, hot lane": {"per_second": 14.0}}
        bar, = bars.judge("e", {"row": row}, servers.WORK)
        self.assertFalse(bar.met)
        self.assertAlmostEqual(bar.missed_by, 1.5 / 1.4 - 1)
        self.assertIn("1.50", bar.text)

    def test_idle(self):
        table = {label: {"iocp epoll": {"bytes": value}}
                 for label, value in (("1,000 sessions", 400.0), ("3,000 sessions", 500.0))}
        found = bars.judge("g", table, servers.ALL)
        self.assertEqual(self.met(found), [True, False])
        self.assertIn("each further one: 550", found[1].where)

    def test_micro(self):
        table = {"1 x 1 (ns/packet)": {"iocp": 100.0, "futex queue": 60.0, "asio::post": 150.0}}
        self.assertEqual(self.met(bars.micro("h", table)), [True, False])

    def test_nothing_measured_judges_nothing(self):
        for key, known in (("a", servers.ALL), ("d", servers.SLEEP), ("e", servers.WORK)):
            self.assertEqual(bars.judge(key, {}, known), [])


class Report(unittest.TestCase):
    def cells(self, workload):
        return {row.label: {server.name: cell(workload.figure, 1.0, 2.0, 3.0)
                            for server in workload.servers} for row in workload.rows}

    def test_tables_are_even(self):
        for workload in workloads.all_workloads(quick=False):
            for line in (report.overview(workload, self.cells(workload)),
                         [text for text in report.details(workload, self.cells(workload))
                          if text.startswith("|")]):
                self.assertEqual(len({text.count("|") for text in line}), 1, workload.key)

    def test_details_show_spread(self):
        workload = workloads.all_workloads(quick=False)[0]
        text = "\n".join(report.details(workload, self.cells(workload)))
        self.assertIn("| 2 (1–3) |", text)

    def test_missed_bars_are_shown_by_how_much(self):
        bar = bars.Bar("a", "text", 1.1, 1.21, "row")
        self.assertIn("**missed by 10%**", next(report.bar_rows([bar])))

    def test_chart_is_xml_with_a_bar_for_each_server(self):
        panel = ("50 × 64 B", [("iocp & co", "ours", 1.0, 0.9, 1.2), ("slow", "peer", 99.0, 9, 99),
                               ("raw", "raw", 0.8, 0.8, 0.8)])
        root = xml.fromstring(charts.chart("Echo", [panel]))
        boxes = [box for box in root.iter("{http://www.w3.org/2000/svg}rect")
                 if box.get("height") == str(charts.BAR)]
        self.assertEqual(len(boxes), 3)
        self.assertLessEqual(max(float(box.get("width")) for box in boxes), charts.WIDTH)

    def test_micro_rounds_become_medians(self):
        cells = {}
        for value in (3.0, 1.0, 2.0):
            micro.add(cells, [("h", "1 x 1 (ns)", "iocp", value)])
        self.assertEqual(micro.medians(cells["h"]), {"1 x 1 (ns)": {"iocp": 2.0}})


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=0)
