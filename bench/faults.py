"""Calls while everything dies: `bench/faults.py [--calls 1000] [--seed 1] [--asterisk]`; the measure is --calls 10000.

Callers run the verbs as the dialplan does (FastAGI, then the script, then the script once more). Meanwhile, at random, the
service and scripts are killed with -9, the service is frozen and the journal locked for seconds, its disk is full, the clock is
set by an hour, and the simulator answers slowly, with 429, 5xx or nonsense, or cuts the connection before or after it has read
the request.
With --asterisk the callers and agents are SIP phones, the calls go through a real Asterisk, and it is killed with -9, too;
agents pass callers on, to colleagues and into other queues, and make calls of their own.
At the end what Movidesk has is compared with what the callers did, and the token is looked for in all that was written.
"""
from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import _chaos
from _judge import WRONG, Witness, judge, leaks
from _phones import PhoneCallers
from _scripted import ScriptedCallers
from _table import save, show
from movidesk_rehearsal.asterisk import find_asterisk
from movidesk_rehearsal.rehearsal import Rehearsal


def run(folder: Path, options) -> tuple[Counter, Counter]:
    """The calls, and what became of them."""
    counts: Counter[str] = Counter()
    callers = (PhoneCallers if options.asterisk else ScriptedCallers)(folder, options.seed, counts)
    disk = _chaos.SmallDisk(folder / "r" / "state")  # where Rehearsal has its journal
    clock = _chaos.Clock(folder) if callers.clock_jumps else None
    if not disk.mounted:
        print("The disk is never full in this run: only root may mount a small one.")
    rehearsal = Rehearsal(find_asterisk(None), folder / "r", agents=callers.agents,
                          settings={**callers.settings, "movidesk": ["timeout = 1"]})
    try:
        rehearsal.env.update(clock.env if clock else {})
        rehearsal.model.limit.requests = 10 ** 6
        witness = Witness(rehearsal)
        chaos = _chaos.Chaos(rehearsal, witness, disk, clock, counts, options.seed)
        with rehearsal.simulator:
            rehearsal.start_service()
            callers.open(rehearsal)
            chaos.kinds += callers.breakers(chaos)
            chaos.start()
            try:
                with ThreadPoolExecutor(callers.at_once) as pool:
                    list(pool.map(callers.call, range(options.calls)))
            finally:
                chaos.end()
            if clock:
                clock.set(0)
            counts["seconds until all was told"] = round(_chaos.settle(rehearsal))
            callers.close()
            found = judge(rehearsal, witness, callers.stories)
        if options.keep:
            shutil.copytree(disk.folder, folder / "kept-disk", ignore=shutil.ignore_patterns("*.wake"))
        for path in leaks(folder, rehearsal.config_path):
            counts["LEAK: " + path] += 1
        return counts, found
    finally:
        rehearsal.stop_service()
        disk.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, help="default 1000, with --asterisk 300")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--asterisk", action="store_true", help="SIP phones on a real Asterisk, which is killed, too")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave everything that was written here")
    options = parser.parse_args()
    options.calls = options.calls or (300 if options.asterisk else 1000)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="movidesk-bench-") as folder:
        counts, found = run(Path(folder), options)
        if options.keep:
            shutil.copytree(folder, options.keep, symlinks=True, ignore=shutil.ignore_patterns("*.ctl", "data"))
    rows = sorted(counts.items()) + [("calls: " + name if name != "calls" else name, n) for name, n in found.items()]
    show(f"{'SIP phones on a real Asterisk' if options.asterisk else 'Scripted callers'}, {time.monotonic() - begin:.0f} s",
         ["", "count"], rows)
    save("faults-asterisk" if options.asterisk else "faults", {"seed": options.seed, "chaos": counts, "found": found})
    bad = sum(found[name] for name in WRONG) + sum(n for name, n in counts.items() if name.startswith(("LEAK", "WRONG")))
    print(f"FAILED: {bad} wrong" if bad else "good: every call was told as it happened, and the token nowhere")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
