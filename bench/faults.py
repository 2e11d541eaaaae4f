"""Calls while everything dies: `bench/faults.py [--calls 2000] [--seed 1]`; the issue's measure is --calls 10000.

Callers run the verbs as the dialplan does (FastAGI, then the script, then the script once more). Meanwhile, at random:
the service is killed with -9, scripts are killed with -9, the journal is locked for seconds, and the simulator answers
slowly, with 429, 5xx or nonsense, or cuts the connection before or after it has read the request. At the end what
Movidesk has is compared with what the callers did.
"""
from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _table import save, show
from movidesk_sim.asterisk import find_asterisk
from movidesk_sim.control import Fault
from movidesk_sim.rehearsal import QUEUE, Rehearsal, wait_for

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from peer import Peer  # noqa: E402 (the scripted Asterisk that the tests use)

FAULTS = ({"status": 500}, {"status": 503, "retry_after": "1"}, {"status": 429, "retry_after": "1"}, {"delay": 1.5},
          {"cut": "before"}, {"cut": "after"}, {"body": "<html>nonsense"})


class Callers:
    """The PBX of this bench: channels that live, and what each caller did."""

    def __init__(self, rehearsal: Rehearsal, live: Path, seed: int):
        self.rehearsal, self._live_file = rehearsal, live
        self._draw, self._lock = random.Random(seed), threading.Lock()
        self._live: set[str] = set()
        self.truth: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def draw(self) -> float:
        with self._lock:
            return self._draw.random()

    def set_live(self, uniqueid: str, alive: bool) -> None:
        """Keep the list that the sweep reads in Asterisk's place."""
        with self._lock:
            self._live.add(uniqueid) if alive else self._live.discard(uniqueid)
            new = self._live_file.with_suffix(".new")
            new.write_text("".join("!" * 13 + channel + "\n" for channel in self._live))
            new.rename(self._live_file)

    def verb(self, peer: Peer, name: str, *arguments: str) -> None:
        """[movidesk-verb] of dialplan/verb.conf."""
        peer.variables.pop("MOVIDESK_RESULT", None)
        arguments = (*arguments, "", "")[:2]
        try:
            peer.call(int(self.rehearsal.agid.split(":")[1]), name, *arguments)
        except OSError:
            self.counts["FastAGI away"] += 1
        for _ in range(2):
            if "MOVIDESK_RESULT" not in peer.variables:
                self._script(peer, name, arguments)
        if "MOVIDESK_RESULT" not in peer.variables:
            self.counts["a verb killed three times"] += 1

    def _script(self, peer: Peer, name: str, arguments) -> None:
        peer.environment.pop("agi_network_script", None)
        peer.process = None
        killer = threading.Timer(0.005 + 0.08 * self.draw(), self._kill, [peer])
        self.counts["scripts run"] += 1
        if self.draw() < 0.1:
            self.counts["scripts killed"] += 1
            killer.start()
        peer.script([str(self.rehearsal.pbx.agi_dir / "movidesk" / name)], *arguments,
                    env={"MOVIDESK_CONFIG": str(self.rehearsal.config_path), "PATH": "/usr/bin:/bin",
                         "TMPDIR": str(self.rehearsal.folder)})
        killer.cancel()

    @staticmethod
    def _kill(peer: Peer) -> None:
        if peer.process is not None:
            peer.process.kill()

    def call(self, number: int) -> None:
        """One caller: waits for an agent with some patience, talks or gives up, hangs up."""
        uniqueid = "1700000000.%d" % number
        caller = Peer(uniqueid, "47%08d" % number, {"MOVIDESK_QUEUE": str(QUEUE)})
        self.set_live(uniqueid, True)
        answered = False
        for _look in range(3):
            self.verb(caller, "received", str(QUEUE))
            if caller.variables.get("MOVIDESK_EXT"):
                break
            if self.draw() < 0.3:
                break
            time.sleep(0.2)
        if caller.variables.get("MOVIDESK_EXT") and self.draw() < 0.8:
            agent = Peer(uniqueid + "9", variables={"MOVIDESK_ID": caller.variables.get("MOVIDESK_ID", "")})
            caller.variables["MOVIDESK_ANSWERED_BY"] = caller["MOVIDESK_EXT"]
            self.verb(agent, "transferred", caller["MOVIDESK_EXT"])
            answered = True
        self.verb(caller, "hangup")
        self.set_live(uniqueid, False)
        self.truth["pbx1-" + uniqueid] = "completed" if answered else "canceled"


class Chaos(threading.Thread):
    """Breaks things until `stop` is set."""

    def __init__(self, callers: Callers, seed: int):
        super().__init__(daemon=True)
        self.callers, self.rehearsal = callers, callers.rehearsal
        self.draw, self.stop = random.Random(seed + 1), threading.Event()

    def run(self) -> None:
        while not self.stop.wait(0.5 + self.draw.random()):
            kind = self.draw.random()
            if kind < 0.3:
                self.rehearsal.stop_service(kill=True)
                self.callers.counts["service killed"] += 1
                self.stop.wait(self.draw.random())
                self.rehearsal.start_service()
            elif kind < 0.4:
                self.callers.counts["journal locked"] += 1
                db = sqlite3.connect(self.rehearsal.journal_path, isolation_level=None, timeout=10)
                db.execute("BEGIN IMMEDIATE")
                time.sleep(3 * self.draw.random())
                db.close()
            else:
                fault = self.draw.choice(FAULTS)
                self.callers.counts["faults of Movidesk"] += 1
                self.rehearsal.simulator.faults.rules.append(Fault(**fault, count=self.draw.randint(1, 5)))


def judge(rehearsal: Rehearsal, truth: dict[str, str]) -> Counter:
    """What Movidesk has, beside what the callers did."""
    found: Counter[str] = Counter(calls=len(truth))
    order = {"receivedCall": 0, "transferedCall": 1, "completedCall": 2, "canceledCall": 2, "lostCall": 2}
    heard: dict[str, list[str]] = {}
    for entry in rehearsal.model.log:
        if entry["status"] == 200:
            heard.setdefault(entry["params"]["id"], []).append(entry["endpoint"].replace("asterisk_", ""))
    for call_id, ending in truth.items():
        told = heard.get(call_id, [])
        endings = {name for name in told if order[name] == 2}
        found["lost"] += not endings
        found["two endings"] += len(endings) > 1
        found["wrong ending"] += endings != {ending + "Call"} and len(endings) == 1
        found["out of order"] += [order[name] for name in told] != sorted(order[name] for name in told)
    found["sent twice (an answer was cut)"] = rehearsal.model.duplicates
    found["refused by Movidesk as wrong"] = len(rehearsal.model.problems)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="movidesk-bench-") as folder:
        live, console = Path(folder) / "live", Path(folder) / "console"
        live.write_text("")
        console.write_text("#!/bin/sh\nexec cat %s\n" % live)
        console.chmod(0o755)
        rehearsal = Rehearsal(find_asterisk(None), Path(folder) / "r", agents=[str(5000 + n) for n in range(400)],
                              limit=1000, settings={"pbx": ["asterisk = %s" % console], "movidesk": ["timeout = 1"]})
        rehearsal.model.limit.requests = 10 ** 6
        rehearsal.model.log = []
        callers = Callers(rehearsal, live, options.seed)
        chaos = Chaos(callers, options.seed)
        with rehearsal.simulator:
            rehearsal.start_service()
            begin = time.monotonic()
            chaos.start()
            with ThreadPoolExecutor(6) as pool:
                list(pool.map(callers.call, range(options.calls)))
            chaos.stop.set()
            chaos.join()
            seconds = time.monotonic() - begin
            rehearsal.simulator.faults.rules = []
            settle(rehearsal)
            found = judge(rehearsal, callers.truth)
    show("What became of the calls (%.0f s)" % seconds, ["", "count"], sorted(callers.counts.items()) + list(found.items()))
    save("faults", {"seed": options.seed, "chaos": callers.counts, "found": found})
    bad = found["lost"] + found["two endings"] + found["wrong ending"] + found["out of order"]
    print("%s: %d of %d calls were not told as they happened" % ("FAILED" if bad else "good", bad, found["calls"]))
    sys.exit(1 if bad else 0)


def settle(rehearsal: Rehearsal) -> None:
    """The last service takes in what is left, ends what died, and delivers."""
    rehearsal.stop_service()
    rehearsal.start_service()

    def delivered() -> bool:
        facts = json.loads(rehearsal.cli("status", "--json").stdout)
        return not facts["calls"]["open"] and not facts["outbox"]["pending"]

    wait_for("everything is delivered", delivered, 400, lambda: rehearsal.cli("status").stdout)


if __name__ == "__main__":
    main()
