"""The journal, empty and with a million calls or 100,000 waiting events in it: `bench/journal.py [--before COMMIT]`.

Milliseconds of each verb (run as the service runs it), of a look for something to deliver, and of what alarms, sweep, conversion
and status read; with a commit to compare with, the same steps of that version in turn. Then events while calls are pruned by
keep_days.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from _table import median, percentile, save, show
from movidesk.journal import Journal

HOME = Path(__file__).resolve().parent.parent
GOAL = 1.2         # a full journal beside an empty one
SLACK = 0.05       # milliseconds that a step may take longer all the same
COUNTS = "status"  # the one step that counts what waits, for people


def run(tree: Path, *arguments: object) -> str:
    """Run the _journal_steps.py of this checkout with its product; what it printed."""
    steps, environment = tree / "bench" / "_journal_steps.py", {**os.environ, "PYTHONPATH": str(tree / "lib")}
    return subprocess.run([sys.executable, str(steps), *map(str, arguments)], env=environment, stdout=subprocess.PIPE,
                          check=True, text=True).stdout


def measure(trees: dict[str, Path], folder: str, calls: int, pending: int, times: int, rounds: int) -> dict:
    """(version, journal) -> step -> ms, the median of the rounds; versions take turns by rounds, journals by calls."""
    kinds = {"empty": (0, 0), f"{calls} calls": (calls, 0), f"{pending} events wait": (calls // 10, pending)}
    paths = {}
    for version, tree in trees.items():
        paths[version] = [f"{folder}/{version}-{number}.db" for number in range(len(kinds))]
        for path, (ended, owed) in zip(paths[version], kinds.values()):
            run(tree, "fill", path, ended, owed)
    found: dict = {(version, kind): {} for version in trees for kind in kinds}
    for number in range(rounds):
        for version, tree in trees.items():
            for kind, steps in zip(kinds, json.loads(run(tree, "measure", times, f"r{number}-", *paths[version]))):
                for step, took in steps.items():
                    found[version, kind].setdefault(step, []).append(took)
    return {place: {step: median(took) for step, took in steps.items()} for place, steps in found.items()}


def prune_beside_calls(path: str) -> tuple[list[float], int, float]:
    """Events recorded through one connection while another prunes; ms of each, calls pruned, seconds it took."""
    pruner, recorder = Journal(path), Journal(path)
    pruned, done = [0], threading.Event()

    def prune() -> None:
        while True:
            count = pruner.outbox.prune(90)
            pruned[0] += count
            if not count:
                break
            time.sleep(0.01)
        done.set()

    thread, begin, took = threading.Thread(target=prune), time.perf_counter(), []
    thread.start()
    while not done.is_set():
        start = time.perf_counter()
        recorder.calls.record(f"during-{len(took)}", "canceled")
        took.append((time.perf_counter() - start) * 1000)
        time.sleep(0.005)
    thread.join()
    return took, pruned[0], time.perf_counter() - begin


def report(found: dict, versions: list[str]) -> tuple[dict, bool]:
    """Show the table; the ratios, and whether the present version keeps to the goal."""
    ratios, good = {}, True
    kinds = list(dict.fromkeys(kind for _, kind in found))
    for version in versions:
        rows = []
        for step, bare in found[version, kinds[0]].items():
            row = [step, bare]
            for kind in kinds[1:]:
                took = found[version, kind][step]
                ratios[f"{version}: {step}, {kind}"] = took / bare
                row += [took, took / bare]
                good = good and (version != versions[-1] or step == COUNTS or took <= GOAL * bare + SLACK)
            rows.append(row)
        show(f"{version}: milliseconds", ["step", kinds[0], kinds[1], "ratio", kinds[2], "ratio"], rows,
             f"goal: <= {GOAL:g}, or {SLACK:g} ms more; {COUNTS} counts what waits")
    return ratios, good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--pending", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--before", metavar="COMMIT", help="measure this version, too; it must have bench/_journal_steps.py")
    options = parser.parse_args()
    trees = {"now": HOME}
    with tempfile.TemporaryDirectory(prefix="movidesk-bench-") as folder:
        if options.before:
            earlier = Path(folder) / "before"
            earlier.mkdir()
            archive = subprocess.run(["git", "-C", str(HOME), "archive", options.before, "lib", "bench"],
                                     stdout=subprocess.PIPE, check=True)
            subprocess.run(["tar", "-x", "-C", str(earlier)], input=archive.stdout, check=True)
            trees = {"before": earlier, **trees}
        found = measure(trees, folder, options.calls, options.pending, options.times, options.rounds)
        run(trees["now"], "fill", folder + "/prune.db", options.calls, 0)
        during, pruned, seconds = prune_beside_calls(folder + "/prune.db")
    ratios, good = report(found, list(trees))
    print(f"pruned {pruned} calls in {seconds:.1f} s; an event meanwhile: median {median(during):.2f} ms, 99 % "
          f"{percentile(during, 0.99):.2f} ms, worst {max(during):.1f} ms")
    save("journal", {"calls": options.calls, "pending": options.pending, "ratios": ratios,
                     "median_ms": {", ".join(place): steps for place, steps in found.items()},
                     "pruned": pruned, "prune_seconds": seconds,
                     "event_while_pruning_ms": {"median": median(during), "worst": max(during)}})
    sys.exit(not good)


if __name__ == "__main__":
    main()
