"""Random histories of the waiting line: `bench/histories.py [--histories 10000] [--seed 1]`.

Hypothesis drives callers, priorities, answers, refusals, phones, hangups and dead processes through a virtual clock
(tests/support/line_machine.py): never more requests than the limit, nobody overtaken, one question of a queue at a time,
and the head of each queue is asked for in bounded time. Exits with 1 if a history breaks a rule.
"""
from __future__ import annotations

import argparse
import sys
import time
from multiprocessing import Pool
from pathlib import Path

from _table import save, show

TESTS = Path(__file__).parent.parent / "tests"


def run(task: tuple[int, int]) -> str:
    """Run so many histories; returns what was wrong, or ''."""
    histories, number = task
    sys.path.insert(0, str(TESTS))
    from hypothesis import HealthCheck, Phase, seed, settings
    from hypothesis.stateful import run_state_machine_as_test

    from support.line_machine import LineMachine

    machine = seed(number)(type("Machine", (LineMachine,), {}))
    try:
        run_state_machine_as_test(machine, settings=settings(
            max_examples=histories, stateful_step_count=40, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck)))
    except Exception as error:
        return f"seed {number}: {error!r}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    begun, share = time.monotonic(), 500
    tasks = [(min(share, options.histories - done), options.seed + done // share) for done in range(0, options.histories, share)]
    with Pool(2) as pool:
        wrong = [found for found in pool.map(run, tasks, chunksize=1) if found]
    seconds = time.monotonic() - begun
    show("Random histories of the waiting line", ["histories", "broken", "seconds"], [[options.histories, len(wrong), seconds]])
    print(*wrong, sep="\n")
    save("histories", {"histories": options.histories, "seed": options.seed, "broken": len(wrong), "seconds": seconds})
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
