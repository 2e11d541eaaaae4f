"""The waiting line on a real Asterisk, with SIP phones: `bench/callers.py [--minutes 20] [--latency 0.05]`.

1. Requests are scarce: 10 a minute, 5.0 calls a minute, 20 agents. The same callers beside our line and, at the same time on an
   Asterisk of its own, beside a polling dialplan with CURL().
2. The limit is raised: 1000 a minute, agents always free, 3 calls a second (`--raised`: only this).
"""
from __future__ import annotations

import argparse
import asyncio
import copy
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from _callers import Office, OurLine, Polling, traffic
from _table import save, show
from movidesk_rehearsal.asterisk import find_asterisk
from waiting import used

#: Of the first scene: requests and calls a minute, agents, seconds of talk and patience (means), and of a ring.
LIMIT, LOAD, AGENTS, TALK, PATIENCE, RING = 10, 5.0, 20, 180.0, 120.0, (2.0, 6.0)
#: Of the second. Nobody gives up, and phones are picked up at once.
FAST_LIMIT, FAST, FAST_AGENTS, FAST_TALK, FAST_PATIENCE, FAST_RING = 1000, 180.0, 120, 15.0, 600.0, (0.1, 0.1)
#: Seconds of the second scene that are shown apart: until the PBX knows enough agents, one caller asks at a time.
WARM = 30.0
#: After that: the most that is good.
GOALS = {"arrival to screen, less the ring, 95 % s": 2.0, "CPU of the service, % of a core": 50.0}


async def play(offices: list[Office], seconds: float) -> float:
    """The scene in all offices at once. Returns the share of a core that the first one's service used."""
    async def service() -> float:
        rehearsal = offices[0].rehearsal
        while not rehearsal.service_pid:
            await asyncio.sleep(0.1)
        begin, before = time.monotonic(), used(rehearsal.service_pid)[0]
        await asyncio.sleep(seconds)
        return (used(rehearsal.service_pid)[0] - before) / (time.monotonic() - begin)

    try:
        share, *_ = await asyncio.gather(service(), *(office.play(seconds) for office in offices))
        for office in offices:
            await office.leave()
        return share
    finally:
        for office in offices:
            await asyncio.get_running_loop().run_in_executor(None, office.close)


def scarce(folder: Path, tree, options) -> dict[str, dict]:
    callers = traffic(LOAD, options.minutes * 60, options.seed, TALK, PATIENCE, RING)
    agents = [str(5200 + n) for n in range(AGENTS)]
    offices = [kind(copy.deepcopy(callers), agents, folder / kind.__name__, tree, LIMIT, options.latency)
               for kind in (OurLine, Polling)]
    asyncio.run(play(offices, options.minutes * 60))
    return {office.name: office.figures() for office in offices}


def raised(folder: Path, tree, options) -> dict[str, dict]:
    callers = traffic(FAST, options.seconds, options.seed, FAST_TALK, FAST_PATIENCE, FAST_RING)
    office = OurLine(callers, [str(5200 + n) for n in range(FAST_AGENTS)], folder / "raised", tree, FAST_LIMIT, options.latency)
    share = asyncio.run(play([office], options.seconds))
    cpu = {"CPU of the service, % of a core": 100 * share}
    return {"from the beginning": {**office.figures(), **cpu}, f"after {WARM:g} s": {**office.figures(WARM), **cpu}}


def report(title: str, found: dict[str, dict], note: str = "") -> None:
    names = list(found)
    show(title, ["figure", *names], [[figure, *(found[name][figure] for name in names)] for figure in found[names[0]]], note)


def failures(figures: dict[str, dict[str, dict]]) -> Iterator[str]:
    """What our line must not do in either scene, and must keep in the second."""
    for scene, found in figures.items():
        for name, ours in found.items():
            if name != Polling.name:
                yield from (f"{scene}, {name}: {ours[figure]} {figure}"
                            for figure in ("429s", "overtakings", "phones rung in a call") if ours[figure])
    warm = list(figures["raised"].values())[-1]
    for figure, most in GOALS.items():
        if not warm[figure] <= most:
            yield f"{figure}: {warm[figure]:.2f} instead of at most {most}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20, help="of the first scene (default 20)")
    parser.add_argument("--seconds", type=float, default=60, help="of the second (default 60)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds that Movidesk takes for an answer (default 0.05)")
    parser.add_argument("--raised", action="store_true", help="only the second scene")
    parser.add_argument("--asterisk", help="its major version")
    options = parser.parse_args()
    tree, figures = find_asterisk(options.asterisk), {}
    with tempfile.TemporaryDirectory(prefix="movidesk-bench-") as folder:
        if not options.raised:
            figures["scarce"] = scarce(Path(folder), tree, options)
            report(f"{LIMIT} requests a minute, {LOAD} calls a minute, {AGENTS} agents, {options.minutes:g} minutes",
                   figures["scarce"], "screens: of those callers whose transfer Movidesk accepted")
        figures["raised"] = raised(Path(folder), tree, options)
        report(f"{FAST_LIMIT} requests a minute, {FAST / 60:g} calls a second, agents always free, Movidesk answers after "
               f"{1000 * options.latency:g} ms", figures["raised"])
    save("callers", {"minutes": options.minutes, "seed": options.seed, "latency": options.latency, **figures})
    wrong = list(failures(figures))
    print("FAILED: " + "; ".join(wrong) if wrong else "good: within the limit, in order of arrival, and quick where it is raised")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
