"""500 callers in line for a minute on FastAGI: `bench/waiting.py [--callers 500] [--seconds 60] [--limit 10]`.

`movidesk serve` runs as it does on a PBX, against the simulator over HTTP, all agents busy. Each caller does what the
dialplan does: asks over a connection of its own, waits as long as MOVIDESK_WAIT says, asks again.
"""
from __future__ import annotations

import argparse
import asyncio
import tempfile
import time

from _line import caller, used
from _table import median, percentile, save, show
from movidesk_rehearsal.asterisk import find_asterisk
from movidesk_rehearsal.rehearsal import Rehearsal


async def wait_in_line(rehearsal: Rehearsal, callers: int, seconds: float) -> tuple[list[float], list[float], float, float]:
    """Everybody arrives within 10 ms of the one before; then `seconds` are measured."""
    host, port = rehearsal.agid.split(":")
    settle = callers * 0.01 + 5
    begin = time.monotonic()
    took: list[float] = []
    tasks = [asyncio.create_task(caller(number, host, int(port), begin + settle + seconds, took, time.time()))
             for number in range(callers)]
    await asyncio.sleep(settle)
    arriving, before = len(took), used(rehearsal.service_pid)
    await asyncio.sleep(seconds)
    after = used(rehearsal.service_pid)
    await asyncio.gather(*tasks)
    return took[:arriving], took[arriving:], (after[0] - before[0]) / seconds * 100, after[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--callers", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--limit", type=int, default=10, help="requests a minute")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="movidesk-bench-") as folder:
        rehearsal = Rehearsal(find_asterisk(None), folder, agents=("5252",), limit=options.limit)
        rehearsal.model.agents["5252"].telephony = False  # code 3: everybody waits
        with rehearsal.simulator:
            rehearsal.start_service()
            try:
                arriving, took, cpu, memory = asyncio.run(wait_in_line(rehearsal, options.callers, options.seconds))
                refused = sum(entry["status"] == 429 for entry in rehearsal.model.log)
            finally:
                rehearsal.stop_service()
    title = f"{options.callers} callers in line for {options.seconds:g} s, {options.limit} requests a minute"
    show(title, ["figure", "is", "goal"], [
        ["CPU of the service, % of one core", cpu, "< 25"], ["memory of the service, MB (peak)", memory, "< 150"],
        ["answers a second", len(took) / options.seconds, ""],
        ["answer time, median ms", median(took), ""], ["answer time, 99 % ms", percentile(took, 0.99), ""],
        ["answer time, worst ms", max(took), "< 100"], ["answer time while all arrive, worst ms", max(arriving), ""],
        ["429s", refused, "0"]])
    save("waiting" if options.limit == 10 else f"waiting-{options.limit}", {
        "callers": options.callers, "seconds": options.seconds, "limit": options.limit, "cpu_percent": cpu, "memory_mb": memory,
        "median_ms": median(took), "worst_ms": max(took), "answers": len(took), "refused": refused})


if __name__ == "__main__":
    main()
