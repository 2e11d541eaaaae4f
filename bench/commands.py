"""The admin's commands on a journal with a million calls: `bench/commands.py [--calls COUNT]`.

Seconds of the whole process, and the computing in it. Exit status 1 where the median of a command takes
longer than the goal. Line, outbox and the last calls are read by index; a search reads the calls from the newest on.
"""
from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _table import median, save, show

HOME = Path(__file__).resolve().parent.parent
GOAL = 0.5  # seconds
#: Searches that find what they look for soon, late, and not at all: then all calls are read.
COMMANDS = ("--version", "status", "status --nagios", "outbox", "calls", "calls --number 0777", "calls --number 999",
            "calls --agent 5253", "calls --queue 78 --state lost", "calls --unanswered --day yesterday",
            "calls --since 30d --until 29d --number 999", "calls --day today --csv -n 100", "calls --id old-500000",
            "calls --id none")


def run(config: Path, command: str) -> tuple[float, float]:
    """Run one command; its seconds, and the seconds that it computed."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "movidesk.cli", "--config", config, *command.split()], stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(HOME / "lib"), "LANGUAGE": "C"})
    took, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "Traceback" not in done.stderr and "Usage" not in done.stderr, done.stderr
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="movidesk-bench-") as folder:
        journal, config = Path(folder) / "journal.db", Path(folder) / "movidesk.conf"
        config.write_text(f"[movidesk]\ntoken = 00000000-0000-0000-0000-000000000000\n[journal]\npath = {journal}\n"
                          f"standby = {folder}\n")
        subprocess.run([sys.executable, HOME / "bench" / "_journal_steps.py", "fill", journal, str(options.calls), "100"],
                       check=True, env={**os.environ, "PYTHONPATH": str(HOME / "lib")})
        figures = {}
        for command in COMMANDS:
            taken, computed = zip(*(run(config, command) for _ in range(options.times)))
            figures[command] = {"median": median(taken), "best": min(taken), "computing": median(computed)}
    show(f"{options.calls} calls, 100 events wait: seconds", ["movidesk", "median", "best", "computing"],
         [[command, *numbers.values()] for command, numbers in figures.items()], f"goal: the median at most {GOAL:g}")
    save("commands", {"calls": options.calls, "seconds": figures})
    sys.exit(any(numbers["median"] > GOAL for numbers in figures.values()))


if __name__ == "__main__":
    main()
