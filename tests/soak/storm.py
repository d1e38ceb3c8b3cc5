#!/usr/bin/env python3
"""Soaks one server: what tools/soak starts for each program and backend.

    tests/soak/storm.py BUILD/bin echo|chat SECONDS SEED

TEST_BACKEND and TEST_LAUNCHER are as for tests/apps. Prints a line of JSON now and then, {"waves": N,
"clients": N, "left": SECONDS}, and one at the end: {"conditions": [[NAME, HOLDS, TEXT]...]...},
{"failure": TEXT...} or {"skip": TEXT}.
"""
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

sys.dont_write_bytecode = True
here = Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here.parent / "apps")]
import support  # noqa: E402

support.DEADLINE_S = 60  # other programs may be running, and sanitizers; taken over by what follows

from account import Samples, service_conditions  # noqa: E402
from chat_storm import ChatStorm  # noqa: E402
from echo_storm import EchoStorm  # noqa: E402
from server import Server  # noqa: E402

RESTS = 30          # moments of rest in a run, at most
REST_EVERY_S = 2.5  # and one of them takes a second or two
WARM_UPS = 3        # waves that are heavier than all others, where memory is judged
WAVE_S = 0.1        # at least: a client's port is used again only after a while


def sanitized():
    return "build/asan" in support.programs_folder or "build/tsan" in support.programs_folder


def tell(value):
    print(json.dumps(value), flush=True)


def run_waves(storm, server, samples, seconds):
    """Waves for so long, with moments of rest between them; returns how many."""
    for _ in range(0 if samples.short else WARM_UPS):
        storm.warm_up()
    waves, end = 0, time.monotonic() + seconds
    next_rest = next_word = 0
    while time.monotonic() < end or len(samples.list) < 3:
        begin = time.monotonic()
        storm.wave()
        waves += 1
        if time.monotonic() >= next_rest:
            samples.add(storm.rest(server))
            next_rest = time.monotonic() + max(seconds / RESTS, REST_EVERY_S)
        if time.monotonic() >= next_word:
            tell({"waves": waves, "clients": storm.account.count(), "left": end - time.monotonic()})
            next_word = time.monotonic() + 1
        time.sleep(max(0, begin + WAVE_S - time.monotonic()))
    samples.add(storm.rest(server))
    return waves


def soak(kind, seconds, seed):
    begin = time.monotonic()
    server = Server(kind)
    storm = (EchoStorm if kind == "echo" else ChatStorm)(server, seed)
    samples = Samples(seconds, sanitized())
    try:
        waves = run_waves(storm, server, samples, seconds)
        storm.end(server)
        figures = server.stop()
    except (support.Failure, OSError) as error:
        raise server.explain(support.Failure(f"{type(error).__name__}: {error}")) from error
    finally:
        storm.clean_up()
    conditions = [*service_conditions(figures, storm.account), *samples.conditions()]
    return {
        "conditions": [[one.name, bool(one.holds), one.text] for one in conditions],
        "remarks": list(storm.remarks()), "waves": waves, "seconds": time.monotonic() - begin,
        "clients": dict(storm.account.clients), "errors": dict(storm.account.errors),
        "figures": figures, "rests": samples.list}


def main():
    _, _, kind, seconds, seed = sys.argv
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(1))
    status = 1
    try:
        outcome = soak(kind, float(seconds), int(seed))
        tell(outcome)
        status = 0 if all(holds for _, holds, _ in outcome["conditions"]) else 1
    except support.Skip as skip:
        tell({"skip": str(skip)})
        status = support.SKIPPED
    except support.Failure as failure:
        tell({"failure": str(failure), "where": traceback.format_exc()})
    finally:
        for program in support.started:
            support.end(program, False)
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
