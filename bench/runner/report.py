"""RESULTS.md out of the figures: the bars, a table per workload, and all figures behind it."""
from .charts import number

COLUMNS = [("cpu_us", "CPU µs"), ("per_second", "per second"), ("p50", "p50 µs"),
           ("p99", "p99 µs"), ("p99_9", "p99.9 µs"), ("switches", "switches"),
           ("system_calls", "system calls"), ("instructions", "instructions"),
           ("bytes", "bytes"), ("library_bytes", "of it the library's"),
           ("kernel_bytes", "kernel, both ends"), ("load_cpu_us", "load's CPU µs")]
TITLES = {"cpu_us": "CPU µs per {per}", "per_second": "{per}s per second",
          "bytes": "bytes per {per}"}


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def spread(summary):
    if summary is None:
        return "–"
    middle, low, high = summary
    return number(middle) if low == high else f"{number(middle)} ({number(low)}–{number(high)})"


def overview(workload, cells):
    """A line per row, a column per server: the figure that the bars look at."""
    names = [server.name for server in workload.servers
             if any(server.name in cells[row.label] for row in workload.rows
                    if row.label in cells)]
    rows = []
    for row in workload.rows:
        if row.label not in cells:
            continue
        values = [cells[row.label].get(name) for name in names]
        rows.append([row.label] + [number(cell.median(workload.figure))
                                   if cell and cell.median(workload.figure) is not None else "–"
                                   for cell in values])
    title = TITLES[workload.figure].format(per=workload.per)
    if len(names) > len(rows) + 2:  # many servers, few rows: the other way round
        columns = list(zip(*rows))
        return table([title, *columns[0]], [[name, *values] for name, values in
                                            zip(names, columns[1:])])
    return table([title, *names], rows)


def details(workload, cells):
    columns = [(figure, title) for figure, title in COLUMNS
               if any(cell.values(figure) for row in cells.values() for cell in row.values())]
    rows = [[label, name, *(spread(cell.summary(figure)) for figure, _ in columns),
             str(cell.repeated), str(cell.kept_disturbed)]
            for label, row in cells.items() for name, cell in row.items()]
    header = ["row", "server", *(title for _, title in columns), "repeated", "kept"]
    return ["<details><summary>All figures: median (lowest–highest)</summary>", "",
            *table(header, rows), "", "</details>"]


def bar_rows(bars):
    for bar in bars:
        sign = "≥" if bar.at_least else "≤"
        verdict = "met" if bar.met else f"**missed by {bar.missed_by:.0%}**"
        yield [bar.workload, bar.text, f"{sign} {bar.limit:.3g}", f"{bar.value:.3g}", verdict,
               bar.where]


def head(info):
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items())
    return [
        "# Measured", "",
        f"By `{info['command']}` on {info['date']}: iocp {info['iocp']}, Linux {info['kernel']}, "
        f"{info['machine']}; {versions}.", "",
        f"Server and load on the same machine, over loopback. {info['rounds']} rounds of "
        f"{info['seconds']:g} s, all servers of a workload in turn; the figures are medians. "
        f"A run beside which others took more than {info['foreign_max']:.0%} of the processors, or "
        "with a figure far from its other rounds, was repeated, up to twice: "
        f"{info['repeated']} repeats for {info['runs']} runs, of which {info['kept']} count though "
        "no repeat was quiet. Compare within one table, not between two runs. Each server's bytes were "
        "compared first. Less is better, but for rates.", "",
        "[README.md](README.md) says what each workload is and how each server is written.", "",
    ]


def workload_part(workload, cells, chart):
    part = [f"## {workload.key}. {workload.title}", "", workload.note[0].upper() +
            workload.note[1:] + ".", "", *overview(workload, cells), ""]
    if chart:
        part += [f"![{workload.title}]({chart})", ""]
    return part + [*details(workload, cells), ""]


def micro_part(key, title, values):
    """`values`: {case: {implementation: Cell}}."""
    names = list(dict.fromkeys(name for row in values.values() for name in row))
    rows = [[case, *(spread(row[name].summary("value")) if name in row else "–"
                     for name in names)] for case, row in values.items()]
    return [f"## {key}. {title}", "", *table(["case", *names], rows), ""]


def failures_part(failures):
    if not failures:
        return []
    return ["## Not measured", "", *(f"* {failure}" for failure in failures), ""]


def write(info, bars, parts, failures):
    lines = head(info)
    if bars:
        lines += ["## Bars", "", *table(["", "bar", "limit", "measured", "", "worst row"],
                                        bar_rows(bars)), ""]
    for part in parts:
        lines += part
    lines += failures_part(failures)
    return "\n".join(lines).rstrip("\n") + "\n"
