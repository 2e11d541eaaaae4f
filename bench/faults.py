"""Calls while everything dies: `bench/faults.py [--calls 1000] [--seed 1] [--asterisk]`; the measure is --calls 10000.

Callers run the verbs as the dialplan does (FastAGI, then the script, then the script once more). Meanwhile, at random, the
service and scripts are killed with -9, the journal is locked for seconds, its disk is full, the clock is set by an hour, and
the simulator answers slowly, with 429, 5xx or nonsense, or cuts the connection before or after it has read the request.
With --asterisk the callers and agents are SIP phones, the calls go through a real Asterisk, and it is killed with -9, too.
At the end what Movidesk has is compared with what the callers did, and the token is looked for in all that was written.
"""
from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import _chaos
from _table import save, show
from movidesk_sim.asterisk import find_asterisk
from movidesk_sim.phones import Agent, Caller, PhoneFailed, answers, rejects
from movidesk_sim.rehearsal import QUEUE, Rehearsal

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from peer import Peer  # noqa: E402 (the scripted Asterisk that the tests use)

AT_ONCE = 6  # calls


class ScriptedCallers:
    """A PBX of scripted peers: which channels live, and what each caller did."""

    clock_jumps = True

    def __init__(self, folder: Path, seed: int, counts: Counter):
        self.counts = counts
        self.truth: dict[str, set[str]] = {}
        self._live: set[str] = set()
        self._live_file = folder / "live"
        self._draw, self._lock = random.Random(seed), threading.Lock()
        self._live_file.write_text("")
        self._environment: dict[str, str] = {}
        console = folder / "console"
        console.write_text("#!/bin/sh\nexec cat %s\n" % self._live_file)
        console.chmod(0o755)
        self.settings = {"pbx": ["asterisk = %s" % console]}
        self.agents = [str(5000 + number) for number in range(400)]

    def open(self, rehearsal: Rehearsal) -> None:
        self.rehearsal = rehearsal
        self._environment = {**rehearsal.env, "PATH": "/usr/bin:/bin"}

    def close(self) -> None:
        pass  # nothing of it runs

    def breakers(self, chaos: _chaos.Chaos) -> list:
        return []

    def call(self, number: int) -> None:
        """One caller: waits for an agent with some patience, talks or gives up, hangs up."""
        uniqueid = "1700000000.%d" % number
        caller = Peer(uniqueid, "47%08d" % number, {"MOVIDESK_QUEUE": str(QUEUE), "MOVIDESK_ARRIVED": "%.3f" % time.time()})
        self._set_live(uniqueid, True)
        answered = False
        for _look in range(3):
            self._verb(caller, "received", str(QUEUE))
            if caller.variables.get("MOVIDESK_EXT") or self._chance(0.3):
                break
            time.sleep(0.2)
        if caller.variables.get("MOVIDESK_EXT") and self._chance(0.8):
            agent = Peer(uniqueid + "9", variables={"MOVIDESK_ID": caller.variables.get("MOVIDESK_ID", "")})
            caller.variables["MOVIDESK_ANSWERED_BY"] = caller["MOVIDESK_EXT"]
            self._verb(agent, "transferred", caller["MOVIDESK_EXT"])
            answered = True
        self._verb(caller, "hangup")
        self._set_live(uniqueid, False)
        self.truth["pbx1-" + uniqueid] = {"completed" if answered else "canceled"}

    def _chance(self, of: float) -> bool:
        with self._lock:
            return self._draw.random() < of

    def _set_live(self, uniqueid: str, alive: bool) -> None:
        """Keep the list that the sweep reads in Asterisk's place."""
        with self._lock:
            self._live.add(uniqueid) if alive else self._live.discard(uniqueid)
            new = self._live_file.with_suffix(".new")
            new.write_text("".join("!" * 13 + channel + "\n" for channel in self._live))
            new.rename(self._live_file)

    def _verb(self, peer: Peer, name: str, *arguments: str) -> None:
        """[movidesk-verb] of dialplan/verb.conf."""
        peer.variables.pop("MOVIDESK_RESULT", None)
        arguments = (*arguments, "", "")[:2]
        try:
            peer.call(int(self.rehearsal.agid.split(":")[1]), name, *arguments)
        except OSError:
            self.counts["FastAGI away or slow"] += 1
        for _ in range(2):
            if "MOVIDESK_RESULT" not in peer.variables:
                self._script(peer, name, arguments)
        if "MOVIDESK_RESULT" not in peer.variables:
            self.counts["a verb killed three times"] += 1
        self.counts["IS LOST on the console"] += sum("IS LOST" in line for line in peer.console)
        peer.console.clear()

    def _script(self, peer: Peer, name: str, arguments) -> None:
        peer.environment.pop("agi_network_script", None)
        peer.process = None
        killer = threading.Timer(0.005 + 0.08 * random.random(), self._kill, [peer])
        self.counts["scripts run"] += 1
        if self._chance(0.1):
            self.counts["scripts killed -9"] += 1
            killer.start()
        done = peer.script([str(self.rehearsal.pbx.agi_dir / "movidesk" / name)], *arguments, env=self._environment)
        killer.cancel()
        if any(part.decode() in done.stderr for part in _chaos.TOKEN_PARTS):
            self.counts["LEAK: a script's stderr"] += 1

    @staticmethod
    def _kill(peer: Peer) -> None:
        if peer.process is not None:
            peer.process.kill()


class PhoneCallers:
    """SIP phones on a real Asterisk. Three agents answer, sooner or later; one is always busy."""

    clock_jumps = False  # Asterisk's clock and the scripts' are one
    CLOSE = 0.5          # seconds; what happened so close to a kill or a hangup may have been either

    def __init__(self, folder: Path, seed: int, counts: Counter):
        self.counts = counts
        self.truth: dict[str, set[str]] = {}
        self.settings: dict[str, list[str]] = {}
        self.agents = ["5252", "5253", "5254", "5255"]
        self._seed = seed
        self._up, self._killed_at = threading.Event(), 0.0
        self._talks: dict[str, set[str]] = {}
        self._broken: set[str] = set()

    def open(self, rehearsal: Rehearsal) -> None:
        self.rehearsal = rehearsal
        rehearsal.pbx.start()
        behaviours = (answers(0.1), answers(0.5), answers(1.0), rejects(486))
        self._phones = [Agent(rehearsal.pbx, *pair).start() for pair in zip(self.agents, behaviours)]
        self._up.set()

    def close(self) -> None:
        for phone in self._phones:
            phone.cut_off()
            phone.close()
        self.rehearsal.pbx.close()
        self._name_the_calls()

    def breakers(self, chaos: _chaos.Chaos) -> list:
        def kill_scripts() -> None:
            """While the service is away, so that scripts run."""
            chaos.rehearsal.stop_service(kill=True)
            end = time.monotonic() + 2.0
            while time.monotonic() < end:
                chaos.counts["scripts killed -9"] += _kill_children(self.rehearsal.pbx.pid, "/movidesk/", chaos.draw)
                time.sleep(0.01)
            chaos.rehearsal.start_service()

        def kill_asterisk() -> None:
            chaos.counts["Asterisk killed -9"] += 1
            self._up.clear()
            self._killed_at = time.time()
            self.rehearsal.pbx.restart(kill=True)
            for phone in self._phones:
                phone.register()
            self._up.set()

        return [kill_scripts] * 3 + [kill_asterisk] * 2

    def call(self, number: int) -> None:
        """One caller, who hangs up after some seconds at whatever stage that is."""
        draw = random.Random(self._seed * 1_000_000 + number)
        self._up.wait()
        caller = Caller(self.rehearsal.pbx, str(QUEUE), "47%08d" % number, audio=False)
        try:
            caller.start()
            self._talk(caller, draw.uniform(0.3, 6.0))
        except PhoneFailed as error:
            # Asterisk was killed between two words of the call; its phone may have tried again with the next Asterisk.
            self.counts["calls broken off in their first or last words"] += 1
            self._broken.add(caller.number)
            if time.time() - self._killed_at > 30:
                raise error
        finally:
            caller.cut_off()
            caller.close()

    def _talk(self, caller: Caller, seconds: float) -> None:
        begun, killed_at = time.time(), self._killed_at
        while not caller.ended and self._killed_at == killed_at and time.time() - begun < seconds:
            time.sleep(0.05)
        ended = time.time()
        if self._killed_at == killed_at and not caller.ended:
            caller.hang_up()
            caller.wait()
        elif self._killed_at != killed_at:
            ended = self._killed_at
            self.counts["calls that died with Asterisk"] += 1
        answered = [event.at for phone in self._phones for event in phone.events("answered")
                    if any(invited.call_id == event.call_id and caller.number in invited.detail for invited in phone.events("invited"))]
        self._talks[caller.number] = self._endings(answered, ended)

    def _endings(self, answered: list[float], ended: float) -> set[str]:
        if not answered:
            return {"canceled"}
        return {"completed"} if ended - answered[0] > self.CLOSE else {"completed", "canceled"}

    def _name_the_calls(self) -> None:
        """Only Asterisk knew the calls' ids: the journal tells which caller had which."""
        import sqlite3

        db = sqlite3.connect(self.rehearsal.journal_path)
        for call_id, number in db.execute("SELECT call_id, number FROM calls"):
            if number in self._broken:
                self.truth[call_id] = {"canceled", "completed"}
            elif number in self._talks:
                self.truth[call_id] = self._talks.pop(number)
        db.close()
        for number, endings in self._talks.items():
            self.truth["nothing at all of " + number] = endings


def _kill_children(parent: int | None, holding: str, draw: random.Random) -> int:
    """kill -9 half of the children of a process whose command line holds a text; how many."""
    killed = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int((process / "stat").read_text().rpartition(")")[2].split()[1]) != parent:
                continue
            if holding in (process / "cmdline").read_text() and draw.random() < 0.5:
                os.kill(int(process.name), 9)
                killed += 1
        except (OSError, ProcessLookupError):
            continue  # it has ended
    return killed


def run(folder: Path, options) -> tuple[Counter, Counter]:
    """The calls, and what became of them."""
    counts: Counter[str] = Counter()
    callers = (PhoneCallers if options.asterisk else ScriptedCallers)(folder, options.seed, counts)
    disk = _chaos.SmallDisk(folder / "r" / "state")  # where Rehearsal has its journal
    clock = _chaos.Clock(folder / "clock") if callers.clock_jumps else None
    if not disk.mounted:
        print("The disk is never full in this run: only root may mount a small one.")
    rehearsal = Rehearsal(find_asterisk(None), folder / "r", agents=callers.agents,
                          settings={**callers.settings, "movidesk": ["timeout = 1"]})
    try:
        rehearsal.env.update(clock.env if clock else {})
        rehearsal.model.limit.requests = 10 ** 6
        chaos = _chaos.Chaos(rehearsal, disk, clock, counts, options.seed)
        with rehearsal.simulator:
            rehearsal.start_service()
            callers.open(rehearsal)
            chaos.kinds += callers.breakers(chaos)
            chaos.start()
            try:
                with ThreadPoolExecutor(AT_ONCE) as pool:
                    list(pool.map(callers.call, range(options.calls)))
            finally:
                chaos.end()
            if clock:
                clock.set(0)
            counts["seconds until all was told"] = round(_chaos.settle(rehearsal))
            callers.close()
            found = _chaos.judge(rehearsal, callers.truth)
        if options.keep:
            shutil.copytree(disk.folder, folder / "kept-disk", ignore=shutil.ignore_patterns("*.wake"))
        for path in _chaos.leaks(folder, rehearsal.config_path):
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
    show("%s, %.0f s" % ("SIP phones on a real Asterisk" if options.asterisk else "Scripted callers", time.monotonic() - begin),
         ["", "count"], sorted(counts.items()) + [("calls: " + name if name != "calls" else name, n) for name, n in found.items()])
    save("faults-asterisk" if options.asterisk else "faults", {"seed": options.seed, "chaos": counts, "found": found})
    bad = sum(found[name] for name in _chaos.WRONG) + sum(n for name, n in counts.items() if name.startswith("LEAK"))
    print("FAILED: %d wrong" % bad if bad else "good: every call was told as it happened, and the token nowhere")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
