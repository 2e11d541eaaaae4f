"""Random histories of a fleet: `bench/fleet_histories.py [--histories 2000] [--seed 1]`.

Three PBXs with clocks of their own, a real Redis, cuts in one direction and in both, slow, lost and late answers, stopped and
killed processes, FLUSHALL, SCRIPT FLUSH, restarts of Redis and jumps of its clock (tests/support/fleet_history.py): the account
never gets more requests than its limit in 60 s; while the network is calm no two callers of a queue are asked for at once and
nobody is overtaken; afterwards everybody gets on. Exits with 1 if a history breaks a rule; `--seed N --histories 1` repeats one.
"""
from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from multiprocessing import Pool
from pathlib import Path

from _table import save, show

TESTS = Path(__file__).parent.parent / "tests"
STEPS = 25


def run(task: tuple[int, int]) -> tuple[int, float, list[str]]:
    """Run so many histories, of seeds in order; returns the requests sent, the virtual hours, and what was wrong."""
    first, count = task
    sys.path.insert(0, str(TESTS))
    from movidesk_rehearsal.redis_server import PrivateRedis
    from support.fleet_history import World

    sent, seconds, wrong = 0, 0.0, []
    with tempfile.TemporaryDirectory() as folder, PrivateRedis(Path(folder) / "redis") as redis:
        for seed in range(first, first + count):
            world = World(redis, Path(tempfile.mkdtemp(dir=folder)), random.Random(seed))
            try:
                world.play(STEPS)
            except Exception as error:
                wrong.append(f"seed {seed}: {error!r}")
            finally:
                world.close()
            sent, seconds = sent + len(world.sent), seconds + world.now
    return sent, seconds / 3600, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--histories", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    begun, per_task = time.monotonic(), 50
    tasks = [(options.seed + done, min(per_task, options.histories - done))
             for done in range(0, options.histories, per_task)]
    with Pool(2) as pool:
        found = pool.map(run, tasks, chunksize=1)
    seconds, wrong = time.monotonic() - begun, [text for _, _, texts in found for text in texts]
    requests, hours = sum(sent for sent, _, _ in found), sum(hours for _, hours, _ in found)
    show("Random histories of a fleet", ["histories", "broken", "requests", "virtual hours", "seconds"],
         [[options.histories, len(wrong), requests, hours, seconds]])
    print(*wrong, sep="\n")
    save("fleet_histories", {"histories": options.histories, "seed": options.seed, "broken": len(wrong), "requests": requests,
                             "virtual_hours": hours, "seconds": seconds})
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
