"""`movidesk report` of a month with a million calls, and of today beside them: `bench/reports.py [--calls COUNT]`.

Seconds of the whole process, the computing in it, and the most memory that it held; for calls that this version recorded, and for
those of the version before, of which it looks at the events too. Exit status 1 where a month takes more time or memory than
the goal, or today longer than a command may (bench/commands.py).
"""
from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _table import median, save, show
from movidesk.journal import Journal
from movidesk.reports import periods

HOME = Path(__file__).resolve().parent.parent
GOAL = 5.0          # seconds of a month
GOAL_TODAY = 0.5    # seconds of today
GOAL_MEMORY = 200.0  # megabytes
TODAY = 2000        # calls of today
COMMANDS = ("report --month", "report --month --csv", "report --month --json", "report --month --html",
            "report --month --callers", "report")
CALLS = ("INSERT INTO calls (id, call_id, uniqueid, mode, state, queue, number, extension, code, arrived, ended, picked_up,"
         " shown) VALUES (?1, 'bench-' || ?1, ?1, 'control', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")
EVENTS = "INSERT INTO events (call, kind, at, status, settled) VALUES (?, ?, ?, 'delivered', ?)"


def fill(path: str, count: int, by_us: bool) -> None:
    """Write `count` calls of the last month and those of today, in one transaction (a bench's privilege): eight queues, 40
    agents, 400,000 numbers; four of five are answered. by_us: as this version records them, not the one before."""
    db, now, rng = Journal(path).store.connection, time.time(), random.Random(1)
    month = periods.month_of(periods.before(periods.month_of(periods.today(now))))
    spans = [(*periods.bounds(month), count), (periods.begin_of(periods.today(now)), now, TODAY)]
    db.execute("BEGIN")
    db.execute("DROP TRIGGER events_added")  # nothing waits, and it would take a minute
    calls, events, number = [], [], 0
    for begin, end, times in spans:
        for place in range(times):
            number += 1
            arrived = begin + (end - begin) * place / times
            call, own = _life(rng, number, arrived, by_us)
            calls.append(call)
            events += own
            if len(calls) == 10_000 or place == times - 1:
                db.executemany(CALLS, calls)
                db.executemany(EVENTS, events)
                calls, events = [], []
    db.execute("COMMIT")


def _life(rng: random.Random, number: int, arrived: float, by_us: bool) -> tuple[tuple, list[tuple]]:
    queue, agent, caller = str(77 + rng.randrange(8)), str(5200 + rng.randrange(40)), f"47{rng.randrange(400_000):09d}"
    wait, fate = rng.expovariate(1 / 40), rng.random()
    until = arrived + wait
    came = (number, "received", arrived, arrived + 1)
    if fate < 0.8:
        shown, ended = until + rng.uniform(0.2, 3), until + rng.expovariate(1 / 240)
        return ((number, "completed", queue, caller, agent, "", arrived, ended, *((until, shown) if by_us else (None, None))),
                [came, (number, "transferred", until, shown), (number, "completed", ended, ended + 5)])
    state, code = ("canceled", "4") if fate < 0.95 else ("lost", "2")
    return (number, state, queue, caller, "", code, arrived, until, None, None), [came, (number, state, until, until + 5)]


def run(config: Path, command: str) -> tuple[float, float, float]:
    """Run one command; its seconds, the seconds that it computed, and its megabytes at most."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "movidesk.cli", "--config", config, *command.split()],
                               stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(HOME / "lib"), "LANGUAGE": "C"})
    _, status, used = os.wait4(process.pid, 0)
    took = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    figures, good = {}, True
    for version in ("this version", "the version before"):
        with tempfile.TemporaryDirectory(prefix="movidesk-bench-") as folder:
            journal, config = Path(folder) / "journal.db", Path(folder) / "movidesk.conf"
            config.write_text(f"[movidesk]\ntoken = 00000000-0000-0000-0000-000000000000\n[journal]\npath = {journal}\n"
                              f"standby = {folder}\n")
            fill(str(journal), options.calls, by_us=version == "this version")
            for command in COMMANDS if version == "this version" else COMMANDS[:1]:
                taken, computed, held = zip(*(run(config, command) for _ in range(options.times)))
                figures[f"{command}, {version}"] = {"median": median(taken), "best": min(taken), "computing": median(computed),
                                                    "megabytes": max(held)}
                good = good and median(taken) <= (GOAL if "--month" in command else GOAL_TODAY) and max(held) <= GOAL_MEMORY
    show(f"{options.calls} calls of a month, {TODAY} of today: seconds, megabytes",
         ["movidesk", "median", "best", "computing", "megabytes"],
         [[name, *numbers.values()] for name, numbers in figures.items()],
         f"goal: a month at most {GOAL:g} s, today {GOAL_TODAY:g} s, {GOAL_MEMORY:g} MB")
    save("reports", {"calls": options.calls, "figures": figures})
    sys.exit(not good)


if __name__ == "__main__":
    main()
