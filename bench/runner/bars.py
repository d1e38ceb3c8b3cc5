"""The bars of the benchmark: what has to hold between the medians of one run.

A bar looks at `table`: {row: {server: {figure: median}}} of one workload, and gives Bar values."""
from dataclasses import dataclass

from . import servers


@dataclass
class Bar:
    workload: str
    text: str
    limit: float
    value: float  # the worst of all rows; above the limit: missed
    where: str
    at_least: bool = False

    @property
    def met(self):
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def missed_by(self):
        if self.met:
            return 0.0
        return self.limit / self.value - 1 if self.at_least else self.value / self.limit - 1


def kinds(row, kind, figure, known, keep=lambda server: True):
    """{name: value} of the servers of one kind in a row."""
    return {server.name: row[server.name][figure] for server in known
            if server.kind == kind and keep(server)
            and row.get(server.name, {}).get(figure) is not None}


def ratio_bar(workload, text, limit, rows, at_least=False):
    """`rows`: (label, ours, theirs, their name). The worst ratio decides; None without rows."""
    ratios = [(ours / theirs, f"{label}: {ours:.4g} against {theirs:.4g} ({name})")
              for label, ours, theirs, name in rows if theirs]
    if not ratios:
        return []
    value, where = min(ratios) if at_least else max(ratios)
    return [Bar(workload, text, limit, value, where, at_least)]


def against(table, known, figure, kind, best, keep=lambda server: True, ours=None):
    """Rows for ratio_bar: our best backend against the best of others."""
    for label, row in table.items():
        mine = kinds(row, servers.OURS, figure, known)
        if ours:
            mine = {name: value for name, value in mine.items() if name == ours}
        others = kinds(row, kind, figure, known, keep)
        if mine and others:
            name = best(others, key=others.get)
            yield label, best(mine.values()), others[name], name


def named(name):
    return lambda server: server.name == name


def echo(table, known):
    def row(kind, keep=lambda server: True, ours=None):
        return list(against(table, known, "cpu_us", kind, min, keep, ours))
    return [
        *ratio_bar("a", "CPU at most 1.10 × raw io_uring", 1.10,
                   row(servers.RAW, named("raw io_uring"))),
        *ratio_bar("a", "CPU below libuv, Asio and libevent", 1.0, row(servers.PEER)),
        *ratio_bar("a", "epoll: CPU at most 1.05 × raw epoll", 1.05,
                   row(servers.RAW, named("raw epoll"), "iocp epoll")),
    ]


def framed(table, known):
    def row(by_hand):
        return list(against(table, known, "cpu_us", servers.PEER, min,
                            lambda server: server.hand_coalesced == by_hand))
    return [*ratio_bar("b", "CPU at most 1/4 of each peer, one write per message", 0.25,
                       row(False)),
            *ratio_bar("b", "CPU below each peer that coalesces by hand", 1.0, row(True))]


def room(table, known):
    def row(label, kind):
        part = {name: value for name, value in table.items() if name.startswith(label)}
        return list(against(part, known, "cpu_us", kind, min))
    return [
        *ratio_bar("c", "50 talkers: CPU per delivery at most 1/2 of the best peer", 0.5,
                   row("50 ", servers.PEER)),
        *ratio_bar("c", "1 talker: CPU per delivery at most 1/1.1 of the best peer", 1 / 1.1,
                   row("1 ", servers.PEER)),
        *ratio_bar("c", "never more CPU than a bare loop of send", 1.0, row("", servers.RAW)),
    ]


def sleep(table, known):
    calm, some = table.get("nobody sleeps"), table.get("1 % sleep")
    if not calm or not some:
        return []

    def row(figure):
        """The backend that does better with sleepers."""
        names = [server.name for server in known
                 if server.kind == servers.OURS and server.name in calm and server.name in some]
        pairs = [(name, some[name][figure], calm[name][figure]) for name in names]
        pairs = [pair for pair in pairs if pair[1] is not None and pair[2]]
        key = (lambda pair: pair[1] / pair[2])
        if not pairs:
            return []
        name, with_them, without = max(pairs, key=key) if figure == "per_second" else \
            min(pairs, key=key)
        return [(name, with_them, without, "without")]
    return [*ratio_bar("d", "messages/s at least 0.9 × those without sleepers", 0.9,
                       row("per_second"), at_least=True),
            *ratio_bar("d", "p99 of the others at most 3 × that without", 3.0, row("p99"))]


def work(table, known):
    result = []
    for row in table.values():
        rates = {server.name: row[server.name]["per_second"] for server in known
                 if server.name in row and server.kind == servers.OURS}
        pairs = [(iocp.name, rates.get(f"{iocp.name}, 2 workers, hot lane"),
                  rates.get(f"{iocp.name}, 1 worker")) for iocp in servers.IOCP]
        pairs = [(name, two, one, "1 worker") for name, two, one in pairs if two and one]
        best = max(pairs, key=lambda pair: pair[1] / pair[2], default=None)
        result += ratio_bar("e", "messages/s at least 1.5 × with a second worker"
                            + ceiling(row), 1.5, [best] if best else [], at_least=True)
    return result


def ceiling(row):
    """What two workers can reach on two processors when the load takes its share of them."""
    one = row.get("iocp io_uring, 1 worker") or row.get("iocp epoll, 1 worker")
    if not one or not one.get("cpu_us") or not one.get("load_cpu_us"):
        return ""
    server, load = one["cpu_us"], one["load_cpu_us"]
    return f" (ceiling by the load's share of 2 processors: {2 * server / (server + load):.2f} ×)"


def storm(table, known):
    return ratio_bar("f", "connections/s at least the best peer's", 1.0,
                     list(against(table, known, "per_second", servers.PEER, max)), at_least=True)


def idle(table, known):
    rows = [(label, min(ours.values())) for label, row in table.items()
            if (ours := kinds(row, servers.OURS, "bytes", known))]
    if not rows:
        return []
    label, most = max(rows, key=lambda pair: pair[1])
    result = [Bar("g", "at most 512 bytes per idle session", 512, most, label)]
    if len(rows) == 2:
        (few, before), (many, after) = rows
        result.append(Bar("g", "flat: at most 1.1 × with more sessions", 1.1, after / before,
                          f"{many}: {after:.4g}; {few}: {before:.4g}; each further one: "
                          f"{further(few, before, many, after):.4g}"))
    return result


def further(few, before, many, after):
    """Bytes of a session more: without what a server has once, its receive buffers above all."""
    few, many = (int(label.split()[0].replace(",", "")) for label in (few, many))
    return (many * after - few * before) / (many - few)


JUDGES = {"a": echo, "b": framed, "c": room, "d": sleep, "e": work, "f": storm, "g": idle}


def judge(key, table, known):
    return JUDGES[key](table, known)


# ---- h, i, j: values by case and implementation, in a unit where less is better but for rates.

def micro_pairs(table, ours, theirs):
    """(case, our best, their best, name) for implementations whose names contain these words."""
    for case, row in table.items():
        mine = [value for name, value in row.items() if ours in name.lower()]
        others = {name: value for name, value in row.items()
                  if any(word in name.lower() for word in theirs) and ours not in name.lower()}
        if mine and others:
            name = min(others, key=others.get)
            yield case, min(mine), others[name], name


def micro(key, table):
    """`table`: {"case (unit)": {implementation: median}}."""
    if key == "h":
        table = {case: row for case, row in table.items() if case.endswith("(ns/packet)")
                 and "CPU" not in case}
        return [*ratio_bar("h", "at most 2 × the futex queue", 2.0,
                           list(micro_pairs(table, "iocp", ["futex"]))),
                *ratio_bar("h", "at most half of asio::post", 0.5,
                           list(micro_pairs(table, "iocp", ["asio"])))]
    if key == "i":
        return ratio_bar("i", "below libuv and libevent", 1.0,
                         list(micro_pairs(table, "iocp", ["libuv", "libevent"])))
    rates = {case: {name: 1 / value for name, value in row.items() if value}
             for case, row in table.items() if "/s" in case}
    costs = {case: row for case, row in table.items() if "/s" not in case}
    return [*ratio_bar("j", "reads/s at least the thread pool's", 1.0,
                       [(case, 1 / mine, 1 / theirs, name) for case, mine, theirs, name in
                        micro_pairs(rates, "iocp", ["pool", "libuv"])], at_least=True),
            *ratio_bar("j", "CPU per read below the thread pool's", 1.0,
                       list(micro_pairs(costs, "iocp", ["pool", "libuv"])))]
